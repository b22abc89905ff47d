// A chart over time: frame, axes, cursor, tooltip, and a table with the same content. What is drawn in it is in charts.js.

import { el, refill, setText, svg } from "./dom.js";
import { clock } from "./format.js";
import { simpleTable } from "./table.js";

const STEPS = [15, 30, 60, 120, 300, 600];
const MARGIN = { left: 52, right: 10, top: 8, bottom: 20 };
const MOST_ROWS = 60;
let charts = 0;

// Whole steps of 1, 2 or 5 from 0 to at least `most`.
export function niceTicks(most, wanted = 4) {
  if (!(most > 0)) return [0, 1];
  const raw = most / wanted;
  const decade = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * decade).find((one) => one >= raw * 0.999);
  const found = [];
  for (let tick = 0; tick < most + step * 0.999; tick += step) found.push(Number(tick.toPrecision(12)));
  return found;
}

// Powers of ten around what there is, with 2 and 5 between if there are few.
export function logTicks(least, most) {
  const [low, high] = [Math.floor(Math.log10(least) + 1e-9), Math.ceil(Math.log10(most) - 1e-9)];
  const top = high === low ? high + 1 : high;
  const factors = top - low > 2 ? [1] : top - low > 1 ? [1, 3] : [1, 2, 5];
  const found = [];
  for (let power = low; power < top; power += 1) for (const factor of factors) found.push(Number((factor * 10 ** power).toPrecision(3)));
  return [...found, 10 ** top];
}

// Split where there is a gap in time, or nothing to show.
export function runs(points, valueOf) {
  const found = [];
  let run = [];
  points.forEach((point, index) => {
    const value = valueOf(point);
    const gap = index > 0 && point.slice !== points[index - 1].slice + 1;
    if (gap || value === null || value === undefined) {
      if (run.length) found.push(run);
      run = [];
    }
    if (value !== null && value !== undefined) run.push([point, value]);
  });
  if (run.length) found.push(run);
  return found;
}

export class Chart {
  // what: {title, unit, empty, legend(points), draw(frame, points), tip(point), heads(points), row(point), summary(points)}
  constructor(what) {
    charts += 1;
    this.what = what;
    this.points = [];
    this.range = [0, 1];
    this.at = null;
    this.svg = svg("svg", { role: "img", tabindex: "0", "aria-label": what.title });
    this.tip = el("div", { class: "tip", role: "status", hidden: true });
    this.none = el("p", { class: "empty" }, what.empty);
    this.legend = el("ul", { class: "legend", "aria-hidden": "true" });
    this.plot = el("div", { class: "plot" }, this.svg, this.tip, this.none);
    this.table = el("div", { class: "alternative scroll", tabindex: "0", role: "region", "aria-label": `${what.title}, as a table`, hidden: true });
    this.toggle = el("button", { type: "button", class: "small", "aria-pressed": "false", title: "The same as a table", onclick: () => this.swap() }, "Table");
    this.element = el("figure", { class: "card chart", "aria-labelledby": `chart-${charts}` },
      el("figcaption", {}, el("h3", { id: `chart-${charts}` }, what.title, " ", el("span", { class: "unit" }, what.unit)), this.legend, this.toggle),
      this.plot, this.table);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.select(null));
    this.svg.addEventListener("blur", () => this.select(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.render()).observe(this.plot);
  }

  show(points, range) {
    const kept = this.at === null ? null : this.points[this.at]?.slice;
    this.points = points;
    this.range = range;
    const found = kept === null ? -1 : points.findIndex((point) => point.slice === kept);
    this.at = found < 0 ? null : found;
    this.render();
  }

  swap() {
    const pressed = this.toggle.getAttribute("aria-pressed") !== "true";
    this.toggle.setAttribute("aria-pressed", String(pressed));
    this.plot.hidden = pressed;
    this.table.hidden = !pressed;
    this.render();
  }

  render() {
    const { what, points } = this;
    const some = points.some((point) => what.has(point));
    this.none.hidden = some;
    refill(this.legend, (what.legend(points) ?? []).map(([cls, label]) => el("li", {}, el("span", { class: `key ${cls}` }), label)));
    this.svg.setAttribute("aria-label", some ? `${what.title}: ${what.summary(points)}. Arrow keys move along it.` : what.empty);
    if (!this.table.hidden) {
      const rows = points.slice(-MOST_ROWS).reverse();
      refill(this.table, simpleTable(["Time", ...what.heads(points)], rows.map((point) => [clock(point.time), ...what.row(point, points)])));
      return;
    }
    const [width, height] = [this.plot.clientWidth, this.plot.clientHeight];
    if (width < 80 || height < 50) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const frame = this.frame(width, height);
    refill(this.svg);
    this.timeAxis(frame);
    if (some) what.draw(frame, points);
    this.frameNow = frame;
    this.cursor = svg("line", { class: "cursor", y1: frame.top, y2: frame.bottom, visibility: "hidden" });
    this.svg.append(this.cursor);
    this.mark();
  }

  frame(width, height) {
    const [from, to] = this.range;
    const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
    const root = this.svg;
    return {
      left, right, top, bottom, from, to,
      add: (node) => root.append(node),
      x: (time) => left + ((time - from) / (to - from)) * (right - left),
      // A line across for each tick, with its text; returns the scale.
      yAxis(ticks, text, scale) {
        for (const tick of ticks) {
          const y = scale(tick);
          root.append(svg("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }),
            svg("text", { class: "tick", x: left - 6, y: y + 3.5, "text-anchor": "end" }, text(tick)));
        }
      },
    };
  }

  timeAxis({ left, right, bottom, from, to, x }) {
    const most = Math.max(2, Math.floor((right - left) / 70));
    const step = STEPS.find((one) => (to - from) / one <= most) ?? 900;
    const zone = new Date(to * 1000).getTimezoneOffset() * 60;
    for (let time = Math.ceil((from - zone) / step) * step + zone; time <= to; time += step) {
      const at = x(time);
      if (at < left + 20 || at > right - 12) continue; // its text would lie beside the chart
      this.svg.append(svg("line", { class: "grid", x1: at, x2: at, y1: bottom, y2: bottom + 4 }),
        svg("text", { class: "tick", x: at, y: bottom + 15, "text-anchor": "middle" }, clock(time, step < 60)));
    }
    this.svg.append(svg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  }

  // ---- the cursor

  point(event) {
    if (!this.points.length || !this.frameNow) return;
    const box = this.svg.getBoundingClientRect();
    const at = event.clientX - box.left;
    let best = 0;
    this.points.forEach((point, index) => {
      if (Math.abs(this.frameNow.x(point.time) - at) < Math.abs(this.frameNow.x(this.points[best].time) - at)) best = index;
    });
    this.select(best);
  }

  key(event) {
    const last = this.points.length - 1;
    if (last < 0) return;
    const moves = { ArrowLeft: (this.at ?? last + 1) - 1, ArrowRight: (this.at ?? last - 1) + 1, Home: 0, End: last };
    if (event.key === "Escape") this.select(null);
    else if (event.key in moves) this.select(Math.max(0, Math.min(last, moves[event.key])));
    else return;
    event.preventDefault();
  }

  select(index) {
    this.at = index;
    this.mark();
  }

  mark() {
    const point = this.at === null ? null : this.points[this.at];
    if (!point || !this.frameNow || !this.cursor) {
      this.tip.hidden = true;
      this.cursor?.setAttribute("visibility", "hidden");
      return;
    }
    const x = this.frameNow.x(point.time);
    this.cursor.setAttribute("x1", x);
    this.cursor.setAttribute("x2", x);
    this.cursor.setAttribute("visibility", "visible");
    const lines = this.what.tip(point, this.points);
    refill(this.tip, el("strong", {}, clock(point.time)), el("dl", {}, lines.flatMap(([cls, label, value]) =>
      [el("dt", {}, el("span", { class: `key ${cls}` }), label), el("dd", {}, value)])));
    this.tip.hidden = false;
    const onLeft = x > (this.frameNow.left + this.frameNow.right) / 2;
    this.tip.style.left = onLeft ? "" : `${x + 10}px`;
    this.tip.style.right = onLeft ? `${this.plot.clientWidth - x + 10}px` : "";
  }
}
