// Each tool's figures in a window, all errors by tool and code, and the services that tools ask.

import { el, setText } from "./dom.js";
import { count, NONE, percent, rate, seconds, bytes } from "./format.js";
import { Table } from "./table.js";

const WINDOWS = [["1m", "last minute"], ["5m", "last 5 minutes"], ["start", "since the start"]];

const time = (label, what, name) => ({
  name: label,
  title: { response: "From acceptance to the answer", queue: "From acceptance until it was sent to a worker", run: "What the worker measured" }[what],
  number: true,
  value: (row) => row[what][name],
  text: (row) => seconds(row[what][name]),
});

// What the workers think of an endpoint, each by itself.
const standing = (workers, good) => {
  const bad = Object.entries(workers).filter(([state]) => state !== good);
  const total = Object.values(workers).reduce((sum, often) => sum + often, 0);
  if (!bad.length) return total ? good : NONE;
  return bad.map(([state, often]) => `${state.replaceAll("_", " ")} ${often}/${total}`).join(", ");
};

const stands = (label, key, good) => ({
  name: label,
  value: (row) => standing(row[key], good),
  text: (row) => standing(row[key], good),
  cls: (row) => (Object.keys(row[key]).some((state) => state !== good) ? "bad" : ""),
});

export class Tools {
  constructor(refresh) {
    this.refresh = refresh;
    this.window = "5m";
    this.select = el("select", { id: "window", onchange: () => { this.window = this.select.value; refresh(); } },
      WINDOWS.map(([value, label]) => el("option", { value, selected: value === this.window }, label)));
    this.note = el("p", { class: "quiet" });
    this.filter = el("input", { id: "tools-filter", type: "search", placeholder: "name", maxlength: "200", oninput: () => this.soon() });
    this.tools = new Table("Tools", [
      { name: "Tool", value: (row) => row.name },
      { name: "Group", value: (row) => row.group },
      { name: "Jobs/s", number: true, value: (row) => row.jobs_per_second, text: (row) => count(row.jobs_per_second) },
      { name: "Jobs", number: true, value: (row) => row.jobs, text: (row) => count(row.jobs) },
      { name: "Errors", number: true, value: (row) => row.failed, text: (row) => (row.failed ? `${count(row.failed)} (${percent(row.failed / row.operations)})` : "0"), cls: (row) => (row.failed ? "bad" : "") },
      { name: "Hits", title: "Answered by a cache; those that joined another's run are none, unless that was one", number: true, value: (row) => (row.cache && row.jobs ? row.cached / row.jobs : null), text: (row) => (row.cache && row.jobs ? percent(row.cached / row.jobs) : NONE) },
      time("p50", "response", "p50"), time("p95", "response", "p95"), time("p99", "response", "p99"),
      time("Queue p95", "queue", "p95"), time("Run p95", "run", "p95"),
      { name: "Results/s", title: "Bytes of encoded results", number: true, value: (row) => row.result_bytes_per_second, text: (row) => bytes(Math.round(row.result_bytes_per_second)) },
      { name: "Circuit", value: (row) => row.circuit ?? "", text: (row) => (row.circuit ? row.circuit.replace("_", " ") : NONE), cls: (row) => (row.circuit && row.circuit !== "closed" ? "bad" : "") },
    ], { key: (row) => row.name, empty: "No jobs in this window yet.", sort: { name: "Jobs", down: true } });
    this.errors = new Table("Errors by tool and code", [
      { name: "Tool", value: (row) => row.tool },
      { name: "Group", value: (row) => row.group },
      { name: "Code", value: (row) => row.code },
      { name: "Count", number: true, value: (row) => row.count, text: (row) => count(row.count) },
      { name: "Share", title: "Of all errors", number: true, value: (row) => row.share, text: (row) => percent(row.share) },
    ], { key: (row) => `${row.tool}\0${row.group}\0${row.code}`, empty: "No errors in this window.", sort: { name: "Count", down: true } });
    this.services = new Table("Services", [
      { name: "Service", value: (row) => row.service },
      { name: "Endpoint", value: (row) => row.base },
      stands("Health", "health", "up"), stands("Circuit", "circuit", "closed"),
      { name: "Requests", number: true, value: (row) => row.requests, text: (row) => count(row.requests) },
      { name: "Failed", number: true, value: (row) => row.failed, text: (row) => (row.failed ? `${count(row.failed)} (${percent(row.failed / row.requests)})` : "0"), cls: (row) => (row.failed ? "bad" : "") },
      { name: "Refused", title: "Not sent, since all circuits were open", number: true, value: (row) => row.refused, text: (row) => count(row.refused), cls: (row) => (row.refused ? "bad" : "") },
      { name: "Mean", title: "Time of a request", number: true, value: (row) => row.mean, text: (row) => seconds(row.mean) },
    ], { key: (row) => `${row.service}\0${row.base}`, empty: "There are none." });
    this.asked = el("div", { hidden: true }, el("h2", {}, "Services, since the start"),
      el("div", { class: "card" }, this.services.element));
    this.element = el("section", { "aria-labelledby": "tools-title" },
      el("div", { class: "bar-of-controls" }, el("h2", { id: "tools-title" }, "Tools"),
        el("label", {}, "Window ", this.select), el("label", {}, "Filter ", this.filter), this.note),
      el("div", { class: "card" }, this.tools.element),
      el("h2", {}, "Errors"), el("div", { class: "card" }, this.errors.element), this.asked);
  }

  needs() {
    return ["tools"];
  }

  query() {
    return this.word() ? { window: this.window, name: this.word() } : { window: this.window };
  }

  word() {
    return this.filter.value.trim().toLowerCase();
  }

  // What is there already is filtered at once; the node knows of more tools than it has told of.
  soon() {
    this.fill();
    clearTimeout(this.timer);
    this.timer = setTimeout(this.refresh, 200);
  }

  focusSearch() {
    this.filter.focus();
  }

  show({ tools }) {
    if (!tools) return;
    this.told = tools;
    this.fill();
  }

  fill() {
    if (!this.told) return;
    const word = this.word();
    const all = Object.entries(this.told.tools).map(([name, one]) => ({ name, ...one }));
    const rows = all.filter((one) => one.name.toLowerCase().includes(word));
    const note = this.told.left_out ? `The ${all.length} busiest${word ? " of that name" : ""}; ${this.told.left_out} others are left out${word ? "" : ": filter by name to find them"}.` : `${all.length} with jobs in ${Math.round(this.told.seconds)} s.`;
    setText(this.note, note);
    this.tools.show(rows, word ? "No tool of that name has jobs in this window." : undefined);
    const found = this.told.errors.filter((one) => one.tool.toLowerCase().includes(word));
    if (!word) found.push(...Object.entries(this.told.refused ?? {}).map(([code, often]) => ({ tool: "(refused at the door)", group: "", code, count: often })));
    const total = found.reduce((sum, one) => sum + one.count, 0);
    this.errors.show(found.map((one) => ({ ...one, share: one.count / total })));
    const asked = Object.entries(this.told.services).flatMap(([service, its]) => Object.entries(its).map(([base, one]) => ({ service, base, ...one })));
    this.asked.hidden = !asked.length;
    this.services.show(asked);
  }
}
