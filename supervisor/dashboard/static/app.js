// Puts the page together: views, the rhythm in which the node is asked, keys, and what is said when it doesn't answer.

import { ask, hasToken, keepToken, NoToken, Refused, takeToken } from "./api.js";
import { byId, el, refill, setText } from "./dom.js";
import { clock, span } from "./format.js";
import { Jobs } from "./jobs.js";
import { Overview } from "./overview.js";
import { nextTheme, startTheme } from "./theme.js";
import { Tools } from "./tools.js";
import { Workers } from "./workers.js";

const EVERY = 2000;
const TITLES = { overview: "Overview", tools: "Tools", workers: "Workers", jobs: "Jobs" };
const LEAST_SPAN = 120;
const SHORTCUTS = [["1 – 4", "Overview, Tools, Workers, Jobs"], ["/", "Search: jobs, or filter the tools"], ["p", "Pause, go on"], ["t", "Theme: as your system, light, dark"],
  ["s", "Last 5 or 15 minutes"], ["← → Home End", "In a chart: from point to point"], ["Escape", "Close, leave"], ["?", "This list"]];

const refresh = () => look();
const views = { overview: new Overview(), tools: new Tools(refresh), workers: new Workers(), jobs: new Jobs(refresh) };
const state = { view: "overview", paused: false, node: null, points: [], bounds: null, asked: 0, lostSince: null, timer: null };

// ---- what is shown

function route() {
  if (takeToken()) byId("token").close();
  const [, name, rest] = /^#\/?([a-z]*)\/?(.*)$/.exec(location.hash) ?? [];
  const before = state.view;
  state.view = name in views ? name : "overview";
  for (const [key, view] of Object.entries(views)) view.element.hidden = key !== state.view;
  for (const link of byId("nav").children) {
    if (link.dataset.view === state.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (before !== state.view) scrollTo(0, 0);
  if (state.view === "jobs") views.jobs.choose(decoded(rest)).catch(lost);
  show({});
  look();
}

function decoded(text) {
  try {
    return decodeURIComponent(text ?? "");
  } catch {
    return "";
  }
}

// The stretch of time that charts show: what there is, at least two minutes, at most what was chosen.
function range() {
  const most = Number(byId("span").value);
  const now = state.points.length ? state.points[state.points.length - 1].time : Date.now() / 1000;
  const there = state.points.length ? now - state.points[0].time + 5 : 0;
  return [now - Math.min(most, Math.max(LEAST_SPAN, Math.ceil(there / 60) * 60)), now];
}

function show(told) {
  const { node, points, bounds } = state;
  const done = views[state.view].show({ ...told, node, timeline: { points, bounds }, range: range() });
  if (done) done.catch(lost);
}

function showNode(node) {
  const pill = byId("state");
  setText(pill, node.state);
  pill.className = `pill ${node.state}`;
  const failing = Object.entries(node.groups).filter(([, group]) => group.failing).map(([name]) => name);
  const troubles = failing.length ? [`failing: ${failing.join(", ")}`] : [];
  setText(byId("about"), [...troubles, node.address, `pid ${node.pid}`, `up ${span(node.uptime)}`, node.version].join(" · "));
  const firing = node.alerts.filter((one) => one.state !== "pending").length + node.more_alerts;
  const news = [node.state === "healthy" ? "" : node.state, firing ? `${firing} firing` : ""].filter((word) => word);
  document.title = [...news, `toolring ${node.address}`].join(" – ");
  showAlerts(node);
}

function showAlerts(node) {
  const list = byId("alerts");
  const since = (one) => clock(node.time - one.seconds);
  const known = JSON.stringify(node.alerts.map((one) => [one.text, one.state]));
  list.hidden = !node.alerts.length;
  if (list.dataset.known === known) return; // a reader is not disturbed by what is the same
  list.dataset.known = known;
  refill(list, node.alerts.map((one) => el("li", { class: one.state === "pending" ? "pending" : one.severity },
    el("strong", {}, one.state === "pending" ? "pending" : one.severity), " ",
    one.tool || one.group || one.service ? el("a", { href: one.group ? "#/workers" : "#/tools" }, one.text) : one.text, ` · since ${since(one)}`)),
  node.more_alerts ? el("li", {}, `and ${node.more_alerts} more: toolring alerts`) : null);
}

// ---- asking the node

function keep(node) {
  const other = state.node && (state.node.pid !== node.pid || state.node.uptime > node.uptime + 1);
  if (other) state.points = []; // it was started anew
  state.node = node;
  return other;
}

function add(timeline) {
  state.bounds = timeline.bounds;
  const last = state.points.length ? state.points[state.points.length - 1].slice : -1;
  state.points = [...state.points, ...timeline.points.filter((point) => point.slice > last)].slice(-timeline.keeps);
}

async function look() {
  clearTimeout(state.timer);
  const mine = (state.asked += 1);
  try {
    if (!state.paused && !document.hidden) await lookOnce(mine);
  } catch (error) {
    if (mine === state.asked) lost(error);
  }
  if (mine === state.asked) state.timer = setTimeout(look, EVERY);
}

async function lookOnce(mine) {
  const view = views[state.view];
  const wanted = view.needs().filter((name) => name !== "timeline");
  const last = state.points.length ? state.points[state.points.length - 1].slice : -1;
  const told = await Promise.all([ask("node"), ask("timeline", { after: last }), ...wanted.map((name) => ask(name, view.query ? view.query() : {}))]);
  if (mine !== state.asked) return;
  found();
  const [node, timeline, ...others] = told;
  showNode(node);
  if (keep(node)) add(await ask("timeline"));
  else add(timeline);
  show(Object.fromEntries(wanted.map((name, index) => [name, others[index]])));
}

function lost(error) {
  if (error instanceof NoToken) {
    askForToken();
    return;
  }
  state.lostSince ??= Date.now() / 1000;
  const why = error instanceof Refused ? `The node refuses: ${error.message}` : `No answer from the node since ${clock(state.lostSince)}. What you see is from before; trying again.`;
  setText(byId("lost"), why);
  byId("lost").hidden = false;
  setText(byId("state"), "lost");
  byId("state").className = "pill lost";
  document.body.classList.add("stale");
}

function found() {
  state.lostSince = null;
  byId("lost").hidden = true;
  document.body.classList.remove("stale", "waiting");
}

// ---- the token

function askForToken() {
  const dialog = byId("token");
  setText(byId("token-wrong"), hasToken() ? "That is not the token." : "");
  if (!dialog.open) dialog.showModal();
}

function startToken() {
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken(byId("token-input").value);
    byId("token-input").value = "";
    byId("token").close();
    look();
  });
}

// ---- keys and buttons

function pause() {
  state.paused = !state.paused;
  byId("pause").setAttribute("aria-pressed", String(state.paused));
  setText(byId("pause"), state.paused ? "Paused" : "Pause");
  if (!state.paused) look();
}

function nextSpan() {
  const select = byId("span");
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  show({});
}

function go(view) {
  history.pushState(null, "", `#/${view}`);
  route();
}

function search() {
  if (!views[state.view].focusSearch) go("jobs");
  views[state.view].focusSearch();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (state.view === "jobs" && views.jobs.chosen !== null) go("jobs");
    return;
  }
  if (typing) return;
  const names = Object.keys(views);
  const actions = { "/": search, p: pause, t: nextTheme, s: nextSpan, "?": () => byId("keys").showModal() };
  if (event.key >= "1" && event.key <= String(names.length)) go(names[Number(event.key) - 1]);
  else if (event.key in actions) actions[event.key]();
  else return;
  event.preventDefault();
}

function start() {
  startTheme();
  startToken();
  refill(byId("nav"), Object.entries(TITLES).map(([key, title], index) => el("a", { href: `#/${key}`, "data-view": key, title: `${title} (${index + 1})` }, title)));
  refill(byId("keys-list"), SHORTCUTS.flatMap(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)]));
  refill(byId("main"), Object.values(views).map((view) => view.element));
  byId("help").addEventListener("click", () => byId("keys").showModal());
  byId("keys").querySelector("[data-close]").addEventListener("click", () => byId("keys").close());
  byId("pause").addEventListener("click", pause);
  byId("span").addEventListener("change", () => show({}));
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => document.hidden || look());
  addEventListener("hashchange", route);
  route();
}

start();
