// Search for jobs, and the life of one.

import { ask, Refused } from "./api.js";
import { el, refill, setText } from "./dom.js";
import { clock, count, NONE, seconds } from "./format.js";
import { Table } from "./table.js";

const STATES = [["", "any"], ["hand", "in hand"], ["failed", "failed"], ["done", "done"]];
const IN_HAND = ["queued", "dispatched", "running", "delayed", "joined", "batched"];
const HASH = "#/jobs/";
const LIMIT = 100;
const PATIENT = 4;

export class Jobs {
  constructor(refresh) {
    this.refresh = refresh;
    this.words = el("input", { id: "jobs-words", type: "search", placeholder: "job, tool, caller, state or error code", autocomplete: "off", spellcheck: "false", maxlength: "200" });
    this.state = el("select", { id: "jobs-state" }, STATES.map(([value, label]) => el("option", { value }, label)));
    this.words.addEventListener("input", () => this.soon());
    this.state.addEventListener("change", () => refresh());
    this.note = el("p", { class: "quiet", role: "status" });
    this.table = new Table("Jobs", [
      { name: "Job", value: (row) => row.job, node: (row) => el("a", { href: HASH + encodeURIComponent(row.job), title: row.job, "data-job": row.job }, short(row.job)) },
      { name: "Tool", value: (row) => row.tool },
      { name: "Caller", value: (row) => row.caller, text: (row) => row.caller || NONE },
      { name: "State", value: (row) => row.state, text: (row) => row.state.replaceAll("_", " "), cls: (row) => stateClass(row) },
      { name: "Error", value: (row) => row.code ?? "", cls: (row) => (row.code ? "bad" : "") },
      { name: "Attempt", number: true, value: (row) => row.attempt },
      { name: "Took", title: "From its acceptance to its answer, or until now", number: true, value: (row) => row.seconds, text: (row) => seconds(row.seconds) },
      { name: "Ended", title: "How long ago", number: true, value: (row) => row.ago, text: (row) => (row.ago === null ? NONE : `${seconds(row.ago)} ago`) },
      { name: "Worker", title: "Its process", number: true, value: (row) => row.worker, text: (row) => String(row.worker ?? NONE) },
    ], { key: (row) => row.job, empty: "No jobs yet." });
    this.life = el("article", { class: "card life", "aria-live": "polite", hidden: true });
    this.element = el("section", { "aria-labelledby": "jobs-title" },
      el("div", { class: "bar-of-controls", role: "search" }, el("h2", { id: "jobs-title" }, "Jobs"),
        el("label", {}, "Search ", this.words), el("label", {}, "State ", this.state), this.note),
      el("div", { class: "jobs-and-life" }, el("div", { class: "card" }, this.table.element), this.life));
    this.chosen = null;
  }

  // A search may have to look at very many jobs: it isn't repeated as often as the rest.
  needs() {
    const asks = JSON.stringify(this.query());
    this.turn = asks === this.asked && this.words.value.trim() ? this.turn + 1 : 0;
    this.asked = asks;
    return this.turn % PATIENT === 0 ? ["jobs"] : [];
  }

  query() {
    return { words: this.words.value, state: this.state.value, limit: LIMIT };
  }

  focusSearch() {
    this.words.focus();
    this.words.select();
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.refresh, 200);
  }

  // The rest of the address after the view: the job to show.
  async choose(name) {
    this.chosen = name || null;
    this.over = false;
    this.told = "";
    for (const link of this.table.element.querySelectorAll("a[aria-current]")) link.removeAttribute("aria-current");
    if (this.chosen === null) {
      this.life.hidden = true;
      return;
    }
    await this.look();
    this.life.querySelector("h3")?.focus({ preventScroll: false });
  }

  async look() {
    const name = this.chosen;
    if (name === null) return;
    let content;
    let told;
    try {
      const { story } = await ask("job", { job: name });
      told = JSON.stringify(story);
      content = () => lifeOf(story);
      if (name === this.chosen) this.over = !IN_HAND.includes(story.state);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      told = error.message;
      content = () => [el("h3", { tabindex: "-1" }, name), el("p", { class: "empty" }, error.message)];
      if (name === this.chosen) this.over = true; // it won't come back
    }
    if (name !== this.chosen || told === this.told) return; // another one was chosen meanwhile, or there is nothing new
    this.told = told;
    refill(this.life, el("a", { class: "close", href: "#/jobs", title: "Close (Escape)", "aria-label": "Close" }, "×"), content());
    this.life.hidden = false;
  }

  async show({ jobs }) {
    if (!jobs) return;
    const shown = jobs.jobs.length;
    setText(this.note, jobs.more ? `the first ${count(shown)}` : `${count(shown)} found`);
    this.table.show(jobs.jobs, this.words.value || this.state.value ? "No job matches." : undefined);
    for (const link of this.table.element.querySelectorAll("a")) {
      if (link.dataset.job === this.chosen) link.setAttribute("aria-current", "true");
    }
    if (this.chosen !== null && !this.over) await this.look();
  }
}

// A job's name begins with that of its session, 32 letters: its first ones tell enough to compare.
function short(name) {
  const [, session, number] = /^([0-9a-f]{32})-(\d+)$/.exec(name) ?? [];
  return session ? `${session.slice(0, 8)}…-${number}` : name;
}

function stateClass(row) {
  if (row.code || ["failed", "expired", "cancelled", "outcome_unknown", "poisoned"].includes(row.state)) return "bad";
  return { running: "busy", done: "good" }[row.state] ?? "";
}

// What its tool wrote, line by line.
function outputOf(lines) {
  if (!lines || !lines.length) return null;
  return el("details", { open: true }, el("summary", {}, `Output (${count(lines.length)} ${lines.length === 1 ? "line" : "lines"})`),
    el("ol", { class: "output", tabindex: "0" }, lines.map((line) => el("li", { class: line.stream },
      el("span", { class: "when" }, line.at === null ? NONE : `+${seconds(line.at)}`), el("span", { class: "stream" }, line.level || line.stream), el("span", { class: "text" }, line.text)))));
}

// Where its time went, as one bar; then what happened, in order.
function lifeOf(story) {
  const facts = [["Tool", story.tool], ["Caller", story.caller || NONE], ["State", story.state.replaceAll("_", " ")],
    ["Accepted", clock(story.accepted)], ["Took", seconds(story.seconds)], ["Attempts", String(story.attempt)]];
  const queued = Math.min(story.seconds, story.queued ?? 0);
  const run = Math.min(story.seconds - queued, story.run ?? 0);
  const parts = [["queued", queued], ["run", run], ["between", Math.max(0, story.seconds - queued - run)]].filter(([, part]) => part > 0);
  const strip = el("div", { class: "strip", role: "img", "aria-label": parts.map(([name, part]) => `${name} ${seconds(part)}`).join(", ") });
  for (const [name, part] of parts) {
    const piece = el("span", { class: `piece ${name}`, title: `${name}: ${seconds(part)}` });
    piece.style.flexGrow = part / story.seconds;
    strip.append(piece);
  }
  const legend = el("ul", { class: "legend" }, parts.map(([name, part]) => el("li", {}, el("span", { class: `key ${name}` }), `${name} ${seconds(part)}`)));
  const events = el("ol", { class: "events" }, story.events.map((event) =>
    el("li", { class: event.what }, el("span", { class: "when" }, event.at === null ? NONE : `+${seconds(event.at)}`), el("span", {}, event.text))));
  const error = story.error ? el("div", { class: "error" }, el("p", { class: "bad" }, `${story.error.code}: ${story.error.message ?? ""}`),
    story.error.traceback ? el("pre", { tabindex: "0" }, story.error.traceback) : null) : null;
  return [el("h3", { tabindex: "-1" }, story.job), el("dl", { class: "facts" }, facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    parts.length ? [strip, legend] : null, events, error, outputOf(story.output)];
}
