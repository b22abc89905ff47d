// The workers, and the rings on which keys have their places among them.

import { el, refill, setText } from "./dom.js";
import { bytes, count, NONE, percent, seconds } from "./format.js";
import { drawRing, hueOf } from "./ring.js";
import { bar, setBar, Table } from "./table.js";

const MOST_TOOLS = 12;
const work = (row) => (row.load === null ? NONE : seconds(row.load));

class Ring {
  constructor(group) {
    this.drawing = el("div", { class: "drawing" });
    this.tools = el("p", { class: "quiet" });
    this.drawn = "";
    this.table = new Table(`Slots of group ${group.group}`, [
      { name: "Slot", value: (row) => row.slot, node: (row) => this.label(row) },
      { name: "State", value: (row) => row.state, text: (row) => row.state, cls: (row) => stateClass(row.state) },
      { name: "Keys", title: "Share of the circle: of all keys, if they are many", number: true, value: (row) => row.share, node: bar, update: (node, row) => setBar(node, row.share * this.scale, percent(row.share), hueOf(row.place)) },
      { name: "Runs", title: "Share of the group's runs in the last five minutes", number: true, value: (row) => row.runs, node: bar, update: (node, row) => setBar(node, this.runs ? (row.runs / this.runs) * this.scale : 0, this.runs ? `${percent(row.runs / this.runs)} (${count(row.runs)})` : NONE, hueOf(row.place)) },
      { name: "In hand", title: "Seconds of work that it is expected to have", number: true, value: (row) => row.load, text: work },
    ], { key: (row) => row.slot, empty: "No slots." });
    this.element = el("article", { class: "card ring-card" }, el("h3", {}, `Ring of group ${group.group}`), this.tools,
      el("div", { class: "ring-and-table" }, this.drawing, this.table.element),
      el("p", { class: "quiet" }, this.outside = el("span"), " Inside: its share of the runs of the last five minutes."));
  }

  label(row) {
    const swatch = el("span", { class: "swatch" });
    swatch.style.setProperty("--hue", hueOf(row.place));
    return el("span", {}, swatch, ` ${row.slot}`);
  }

  show(group) {
    this.runs = group.slots.reduce((sum, slot) => sum + slot.runs, 0);
    this.scale = 1 / Math.max(0.01, ...group.slots.map((slot) => Math.max(slot.share, this.runs ? slot.runs / this.runs : 0)));
    const more = group.tools.length > MOST_TOOLS ? ` and ${group.tools.length - MOST_TOOLS} more` : "";
    setText(this.tools, `Places keys of ${group.tools.slice(0, MOST_TOOLS).join(", ")}${more}.`);
    setText(this.outside, group.arcs.length ? "Outside: the circle of keys, each stretch in the colour of the slot that owns it." : "Outside: each slot's share of the keys.");
    this.table.show(group.slots);
    const facts = JSON.stringify([group.arcs, group.slots.map((slot) => [slot.slot, slot.share, slot.runs])]);
    if (facts === this.drawn) return;
    this.drawn = facts;
    refill(this.drawing, drawRing(group, (slot) => (slot ? `slot ${slot.slot}: ${percent(slot.share)} of the keys, ${this.runs ? percent(slot.runs / this.runs) : "none"} of the runs` : "")));
  }
}

function stateClass(state) {
  return { busy: "busy", ready: "good", vacant: "bad", ending: "warned", starting: "warned" }[state] ?? "";
}

export class Workers {
  constructor() {
    this.rings = new Map();
    this.holder = el("div", { class: "rings" });
    this.none = el("p", { class: "empty" }, "No tool's keys are placed on a ring here.");
    this.table = new Table("Workers", [
      { name: "Slot", number: true, value: (row) => row.id },
      { name: "Group", value: (row) => row.group },
      { name: "State", value: (row) => row.state, text: (row) => row.state, cls: (row) => stateClass(row.state) },
      { name: "Pid", number: true, value: (row) => row.pid, text: (row) => (row.pid === null ? NONE : String(row.pid)) },
      { name: "Life", title: "How many workers this slot has had, this one included", number: true, value: (row) => row.generation, text: (row) => count(row.generation) },
      { name: "Has", title: "Jobs that it holds now", number: true, value: (row) => row.jobs, text: (row) => count(row.jobs) },
      { name: "In hand", title: "Seconds of work that it is expected to have", number: true, value: (row) => row.load, text: work },
      { name: "Answered", title: "By this worker", number: true, value: (row) => row.answered, text: (row) => count(row.answered) },
      { name: "Memory", title: "Resident", number: true, value: (row) => row.memory, text: (row) => bytes(row.memory) },
      { name: "Processor", title: "Time that the slot's workers have used in all", number: true, value: (row) => row.cpu, text: (row) => seconds(row.cpu) },
      { name: "Note", value: (row) => row.renew ?? "", text: (row) => (row.renew ? `to be renewed: ${row.renew}` : "") },
    ], { key: (row) => row.id, empty: "No workers.", sort: { name: "Slot", down: false } });
    this.element = el("section", { "aria-labelledby": "workers-title" }, el("h2", { id: "workers-title" }, "Ring"), this.holder, this.none,
      el("h2", {}, "Workers"), el("div", { class: "card" }, this.table.element));
  }

  needs() {
    return ["ring"];
  }

  show({ node, ring }) {
    if (node) this.table.show(node.workers);
    if (!ring) return;
    const kept = new Map(ring.groups.map((group) => [group.group, this.rings.get(group.group) ?? new Ring(group)]));
    if (kept.size !== this.rings.size || [...kept].some(([name, one]) => this.rings.get(name) !== one)) {
      refill(this.holder, [...kept.values()].map((one) => one.element));
    }
    this.rings = kept;
    this.none.hidden = ring.groups.length > 0;
    for (const group of ring.groups) kept.get(group.group).show(group);
  }
}
