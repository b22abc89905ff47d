// What the overview's charts draw.

import { Chart, logTicks, niceTicks, runs } from "./chart.js";
import { svg } from "./dom.js";
import { bytes, count, percent, rate, seconds } from "./format.js";

const SECONDS = 5;
const QUANTILES = [["p99", "q99"], ["p95", "q95"], ["p50", "q50"]];
const MOST_CODES = 5;
const MOST_LINES = 6;
const LEVELS = 9;

function linear(frame, most) {
  return (value) => frame.bottom - (value / most) * (frame.bottom - frame.top);
}

function path(run, frame, y) {
  return run.map(([point, value], index) => `${index ? "L" : "M"}${frame.x(point.time).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}

function line(frame, points, valueOf, y, cls) {
  for (const run of runs(points, valueOf)) {
    if (run.length === 1) frame.add(svg("circle", { class: `dot ${cls}`, cx: frame.x(run[0][0].time), cy: y(run[0][1]), r: 2 }));
    else frame.add(svg("path", { class: `line ${cls}`, d: path(run, frame, y) }));
  }
}

function area(frame, points, valueOf, y, cls) {
  for (const run of runs(points, valueOf)) {
    if (run.length < 2) continue;
    const [first, last] = [frame.x(run[0][0].time), frame.x(run[run.length - 1][0].time)];
    frame.add(svg("path", { class: `area ${cls}`, d: `${path(run, frame, y)}L${last.toFixed(1)} ${frame.bottom}L${first.toFixed(1)} ${frame.bottom}Z` }));
  }
}

function latest(points, has = () => true) {
  for (let index = points.length - 1; index >= 0; index -= 1) if (has(points[index])) return points[index];
  return null;
}

export function failed(point) {
  return Object.values(point.errors).reduce((sum, one) => sum + one, 0) + point.refused;
}

const perSecond = (point) => point.jobs / SECONDS;
const perSecondFailed = (point) => failed(point) / SECONDS;

export function throughput() {
  return new Chart({
    title: "Throughput",
    unit: "jobs per second",
    empty: "No jobs yet.",
    has: (point) => point.jobs > 0 || failed(point) > 0,
    legend: () => [["c1", "answered"], ["bad", "errors, refused"]],
    draw(frame, points) {
      const ticks = niceTicks(Math.max(...points.map((point) => Math.max(perSecond(point), perSecondFailed(point)))));
      const y = linear(frame, ticks[ticks.length - 1]);
      frame.yAxis(ticks, count, y);
      area(frame, points, perSecond, y, "c1");
      line(frame, points, perSecond, y, "c1");
      line(frame, points, (point) => (failed(point) ? perSecondFailed(point) : 0), y, "bad");
    },
    tip: (point) => [["c1", "answered", rate(perSecond(point))], ["bad", "errors, refused", rate(perSecondFailed(point))],
      ["", "with workers", count(point.running)], ["", "waiting", count(point.waiting)]],
    heads: () => ["Answered/s", "Errors/s", "With workers", "Waiting"],
    row: (point) => [count(perSecond(point)), count(perSecondFailed(point)), count(point.running), count(point.waiting)],
    summary: (points) => `${rate(perSecond(latest(points)))} now`,
  });
}

export function latency() {
  return new Chart({
    title: "Response time",
    unit: "percentiles",
    empty: "No jobs yet.",
    has: (point) => point.p50 !== null,
    legend: () => QUANTILES.map(([name, cls]) => [cls, name]),
    draw(frame, points) {
      const values = points.flatMap((point) => [point.p50, point.p95, point.p99]).filter((value) => value > 0);
      const ticks = values.length ? logTicks(Math.min(...values), Math.max(...values)) : [1e-6, 1e-5];
      const none = points.some((point) => point.p50 === 0); // held results take no time: below all that a logarithm can show
      if (none) ticks.unshift(ticks[0] / 10);
      const [low, high] = [Math.log(ticks[0]), Math.log(ticks[ticks.length - 1])];
      const y = (value) => frame.bottom - ((Math.log(Math.max(value, ticks[0])) - low) / (high - low)) * (frame.bottom - frame.top);
      frame.yAxis(ticks, (tick) => (none && tick === ticks[0] ? "0 s" : seconds(tick)), y);
      for (const [name, cls] of [...QUANTILES].reverse()) line(frame, points, (point) => point[name], y, cls);
    },
    tip: (point) => QUANTILES.map(([name, cls]) => [cls, name, seconds(point[name])]),
    heads: () => QUANTILES.map(([name]) => name),
    row: (point) => QUANTILES.map(([name]) => seconds(point[name])),
    summary(points) {
      const last = latest(points, (point) => point.p50 !== null);
      return QUANTILES.map(([name]) => `${name} ${seconds(last[name])}`).join(", ");
    },
  });
}

function rowName(bounds, row) {
  if (row === 0) return `up to ${seconds(bounds[0])}`;
  if (row === bounds.length) return `over ${seconds(bounds[row - 1])}`;
  return `${seconds(bounds[row - 1])} to ${seconds(bounds[row])}`;
}

// Rows are times, columns are points; the more jobs, the stronger the colour.
export function heatMap() {
  let bounds = [];
  const chart = new Chart({
    title: "Spread of response times",
    unit: "heat map",
    empty: "No jobs yet.",
    has: (point) => point.buckets.length > 0,
    legend: () => [["h2", "few"], ["h5", "more"], ["h9", "most"]],
    draw(frame, points) {
      const used = new Set(points.flatMap((point) => point.buckets.flatMap((often, row) => (often ? [row] : []))));
      const low = Math.max(0, Math.min(...used) - 1);
      const high = Math.min(bounds.length, Math.max(...used) + 1);
      const tall = (frame.bottom - frame.top) / (high - low + 1);
      const most = Math.max(...points.flatMap((point) => point.buckets));
      const wide = Math.max(1, frame.x(points[0].time + SECONDS) - frame.x(points[0].time));
      const cells = Array.from({ length: LEVELS + 1 }, () => []);
      for (const point of points) {
        point.buckets.forEach((often, row) => {
          if (!often) return;
          const level = Math.max(1, Math.ceil((LEVELS * Math.log1p(often)) / Math.log1p(most)));
          const left = Math.max(frame.left, frame.x(point.time) - wide);
          const top = frame.bottom - (row - low + 1) * tall;
          cells[level].push(`M${left.toFixed(1)} ${top.toFixed(1)}h${Math.max(0.8, wide - 0.4).toFixed(1)}v${(tall - 0.6).toFixed(1)}h-${Math.max(0.8, wide - 0.4).toFixed(1)}Z`);
        });
      }
      const every = Math.max(1, Math.ceil(14 / tall));
      const edges = [];
      for (let row = low; row < high; row += every) edges.push(row);
      frame.yAxis(edges, (row) => seconds(bounds[row]), (row) => frame.bottom - (row - low + 1) * tall);
      cells.forEach((parts, level) => {
        if (parts.length) frame.add(svg("path", { class: `heat h${level}`, d: parts.join("") }));
      });
    },
    tip(point) {
      const total = point.buckets.reduce((sum, one) => sum + one, 0);
      const lines = point.buckets.map((often, row) => ["", rowName(bounds, row), `${count(often)} (${percent(often / total)})`, often]).filter((one) => one[3]);
      return lines.length ? lines.reverse() : [["", "jobs", "0"]];
    },
    heads: () => ["Jobs", "Most of them took"],
    row(point) {
      const total = point.buckets.reduce((sum, one) => sum + one, 0);
      return [count(total), total ? rowName(bounds, point.buckets.indexOf(Math.max(...point.buckets))) : "–"];
    },
    summary: (points) => `${count(points.reduce((sum, point) => sum + point.jobs, 0))} jobs shown`,
  });
  chart.setBounds = (known) => {
    bounds = known;
  };
  return chart;
}

// The most frequent codes of these points, and how often each was met.
export function codesOf(points) {
  const found = new Map();
  for (const point of points) {
    for (const [code, often] of Object.entries(point.errors)) found.set(code, (found.get(code) ?? 0) + often);
    if (point.refused) found.set("refused", (found.get("refused") ?? 0) + point.refused);
  }
  return [...found].sort((one, other) => other[1] - one[1]);
}

export function errors() {
  const named = (points) => codesOf(points).slice(0, MOST_CODES).map(([code]) => code);
  const of = (point, code) => (code === "refused" ? point.refused : point.errors[code] ?? 0);
  return new Chart({
    title: "Errors",
    unit: "by code, in each 5 s",
    empty: "No errors.",
    has: (point) => failed(point) > 0,
    legend: (points) => named(points).map((code, index) => [`e${index + 1}`, code]),
    draw(frame, points) {
      const codes = named(points);
      const ticks = niceTicks(Math.max(...points.map(failed)));
      const y = linear(frame, ticks[ticks.length - 1]);
      frame.yAxis(ticks, count, y);
      const wide = Math.max(1.2, frame.x(points[0].time + SECONDS) - frame.x(points[0].time) - 0.6);
      for (const point of points) {
        let below = 0;
        const parts = codes.map((code) => of(point, code));
        parts.push(failed(point) - parts.reduce((sum, one) => sum + one, 0));
        parts.forEach((often, index) => {
          if (!often) return;
          const [low, high] = [y(below), y(below + often)];
          frame.add(svg("rect", { class: `block e${index + 1}`, x: Math.max(frame.left, frame.x(point.time) - wide), width: wide, y: high, height: Math.max(1, low - high) }));
          below += often;
        });
      }
    },
    tip(point, points) {
      const codes = named(points);
      const lines = codes.map((code, index) => [`e${index + 1}`, code, count(of(point, code))]);
      const rest = failed(point) - codes.reduce((sum, code) => sum + of(point, code), 0);
      return rest ? [...lines, [`e${MOST_CODES + 1}`, "others", count(rest)]] : lines.length ? lines : [["", "errors", "0"]];
    },
    heads: (points) => [...named(points), "All"],
    row: (point, points) => [...named(points).map((code) => count(of(point, code))), count(failed(point))],
    summary: (points) => codesOf(points).map(([code, often]) => `${code} ${often}`).join(", "),
  });
}

export function hitRatio() {
  const ratio = (point) => (point.asked ? Math.min(1, point.cached / point.asked) : null);
  return new Chart({
    title: "Cache hits",
    unit: "share of jobs of cached tools",
    empty: "No job of a tool with a cache yet.",
    has: (point) => point.asked > 0,
    legend: () => [],
    draw(frame, points) {
      const y = linear(frame, 1);
      frame.yAxis([0, 0.25, 0.5, 0.75, 1], (share) => `${share * 100} %`, y);
      area(frame, points, ratio, y, "c2");
      line(frame, points, ratio, y, "c2");
    },
    tip: (point) => [["c2", "hits", percent(ratio(point))], ["", "asked", count(point.asked)], ["", "from a cache", count(point.cached)]],
    heads: () => ["Hits", "Asked", "From a cache"],
    row: (point) => [percent(ratio(point)), count(point.asked), count(point.cached)],
    summary: (points) => `${percent(ratio(latest(points, (point) => point.asked)))} now`,
  });
}

// Supervisor and zygote, then workers by their numbers.
function inOrder(one, other) {
  const [a, b] = [Number(one), Number(other)];
  if (Number.isNaN(a) && Number.isNaN(b)) return one < other ? -1 : 1;
  if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) ? -1 : 1;
  return a - b;
}

function processName(name) {
  return /^\d+$/.test(name) ? `worker ${name}` : name;
}

export function memory() {
  const sum = (point) => Object.values(point.memory).reduce((all, one) => all + one, 0);
  const named = (points) => {
    const last = latest(points, (point) => sum(point) > 0);
    const largest = last ? Object.entries(last.memory).sort((one, other) => other[1] - one[1]).slice(0, MOST_LINES) : [];
    return largest.map(([name]) => name).sort(inOrder); // not by size: colours stay with whom they belong to
  };
  const of = (point, name) => point.memory[name] ?? null;
  return new Chart({
    title: "Memory",
    unit: "resident, by process",
    empty: "Not measured yet.",
    has: (point) => sum(point) > 0,
    legend: (points) => named(points).map((name, index) => [`m${index + 1}`, processName(name)]),
    draw(frame, points) {
      const most = Math.max(...points.flatMap((point) => Object.values(point.memory)));
      const unit = 1024 ** Math.floor(Math.log(most) / Math.log(1024));
      const ticks = niceTicks(most / unit).map((tick) => tick * unit);
      const y = linear(frame, ticks[ticks.length - 1]);
      frame.yAxis(ticks, bytes, y);
      named(points).forEach((name, index) => line(frame, points, (point) => of(point, name), y, `m${index + 1}`));
    },
    tip: (point, points) => [...named(points).map((name, index) => [`m${index + 1}`, processName(name), bytes(of(point, name))]), ["", "all", bytes(sum(point))]],
    heads: (points) => [...named(points).map(processName), "All"],
    row: (point, points) => [...named(points).map((name) => bytes(of(point, name))), bytes(sum(point))],
    summary: (points) => `${bytes(sum(latest(points, (point) => sum(point) > 0)))} in all`,
  });
}
