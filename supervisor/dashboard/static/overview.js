// The node at a glance: what it does now, and how the last minutes went.

import { errors, failed, heatMap, hitRatio, latency, memory, throughput } from "./charts.js";
import { el, setText } from "./dom.js";
import { bytes, count, NONE, percent, rate, seconds } from "./format.js";

const SECONDS = 5;
const RECENT = 12;
const WORTH_A_LOOK = 0.01; // of all jobs

function died(often) {
  return often ? `${count(often)} died` : "none died";
}

function tile(label, title) {
  const [value, note] = [el("dd", { class: "value" }, NONE), el("dd", { class: "note" }, " ")];
  return { element: el("div", { class: "tile", title }, el("dt", {}, label), value, note), value, note };
}

export class Overview {
  constructor() {
    this.tiles = {
      jobs: tile("Jobs", "Final answers per second, in the last five seconds"),
      errors: tile("Errors", "Share of the last minute's calls that failed or were refused"),
      p95: tile("p95", "95 of 100 jobs were answered within this time, in the last five seconds with any"),
      queue: tile("Waiting", "Jobs that wait for a worker, now"),
      workers: tile("Workers", "Those that can take jobs, of those that there should be; those that ended since the start without being asked to"),
      cache: tile("Cache hits", "Of the last minute's jobs of tools with a cache; those that joined another's run are none, unless that was one"),
      memory: tile("Memory", "Resident, of all processes of the node"),
    };
    this.heat = heatMap();
    this.charts = [throughput(), latency(), this.heat, errors(), hitRatio(), memory()];
    this.element = el("section", { "aria-labelledby": "overview-title" },
      el("h2", { id: "overview-title", class: "away" }, "Overview"),
      el("dl", { class: "tiles" }, Object.values(this.tiles).map((one) => one.element)),
      el("div", { class: "charts" }, this.charts.map((chart) => chart.element)));
  }

  needs() {
    return ["timeline"];
  }

  show({ node, timeline, range }) {
    const { points } = timeline;
    if (timeline.bounds) this.heat.setBounds(timeline.bounds);
    const shown = points.filter((point) => point.time >= range[0]);
    for (const chart of this.charts) chart.show(shown, range);
    this.showTiles(node, points);
  }

  put(name, value, note, cls = "") {
    const one = this.tiles[name];
    setText(one.value, value);
    setText(one.note, note);
    one.element.className = `tile ${cls}`;
  }

  showTiles(node, points) {
    const last = points[points.length - 1];
    const recent = points.slice(-RECENT);
    const sum = (of) => recent.reduce((all, point) => all + of(point), 0);
    const [bad, asked, cached] = [sum(failed), sum((one) => one.asked), sum((one) => one.cached)];
    const all = sum((one) => one.operations + one.refused);
    this.put("jobs", last ? rate(last.jobs / SECONDS) : NONE, node ? `${count(node.jobs.answered)} since the start` : " ");
    this.put("errors", all ? percent(bad / all) : NONE, all ? `${count(bad)} of ${count(all)} in a minute` : "no jobs in a minute", bad / all >= WORTH_A_LOOK ? "warn" : "");
    const timed = [...recent].reverse().find((point) => point.p95 !== null);
    this.put("p95", timed ? seconds(timed.p95) : NONE, timed ? `p50 ${seconds(timed.p50)}, p99 ${seconds(timed.p99)}` : "no jobs in a minute");
    if (node) {
      const ready = node.workers.filter((one) => one.state === "ready" || one.state === "busy").length;
      const busy = node.workers.filter((one) => one.state === "busy").length;
      this.put("queue", count(node.jobs.waiting), `${count(node.jobs.running)} with workers`);
      this.put("workers", `${ready} of ${node.workers.length}`, `${busy} busy, ${died(node.restarts)}`, ready < node.workers.length ? "warn" : "");
    }
    this.put("cache", asked ? percent(Math.min(1, cached / asked)) : NONE, asked ? `${count(cached)} of ${count(asked)}` : "no cached tool was asked");
    const sizes = last ? Object.values(last.memory) : [];
    this.put("memory", sizes.length ? bytes(sizes.reduce((total, one) => total + one, 0)) : NONE, sizes.length ? `${count(last.processes)} processes` : "not measured yet");
  }
}
