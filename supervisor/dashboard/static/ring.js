// A group's ring: outside, who owns which stretch of the keys' circle; inside, who had which share of the runs.

import { svg } from "./dom.js";

const SIZE = 260;
const MIDDLE = SIZE / 2;
const OUTER = 112;
const INNER = 82;
const GOLDEN = 137.508;

export function hueOf(place) {
  return (220 + place * GOLDEN) % 360;
}

function at(radius, share) {
  const angle = share * 2 * Math.PI - Math.PI / 2;
  return `${(MIDDLE + radius * Math.cos(angle)).toFixed(3)} ${(MIDDLE + radius * Math.sin(angle)).toFixed(3)}`;
}

// From one share of the circle to another; a long one in two halves, since a whole circle can't be one arc.
function arc(radius, from, to) {
  if (to - from < 0.5) return `M${at(radius, from)}A${radius} ${radius} 0 0 1 ${at(radius, to)}`;
  const half = (from + to) / 2;
  return `M${at(radius, from)}A${radius} ${radius} 0 0 1 ${at(radius, half)}A${radius} ${radius} 0 0 1 ${at(radius, to)}`;
}

function stretches(parts) {
  let from = 0;
  return parts.map(([place, share]) => {
    const stretch = [place, from, from + share];
    from += share;
    return stretch;
  });
}

function drawn(radius, parts, cls, name) {
  const paths = new Map();
  for (const [place, from, to] of stretches(parts)) {
    if (to > from) paths.set(place, `${paths.get(place) ?? ""}${arc(radius, from, to)}`);
  }
  return [...paths].map(([place, d]) => {
    const path = svg("path", { class: cls, d }, svg("title", {}, name(place)));
    path.style.setProperty("--hue", hueOf(place));
    return path;
  });
}

export function drawRing(group, describe) {
  const bySlot = new Map(group.slots.map((slot) => [slot.place, slot]));
  const runs = group.slots.reduce((sum, slot) => sum + slot.runs, 0);
  const arcs = group.arcs.length
    ? group.arcs.map(([place, share]) => [Number(place), share])
    : group.slots.map((slot) => [slot.place, slot.share]);
  const name = (place) => describe(bySlot.get(place));
  const root = svg("svg", { class: "ring", viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img",
    "aria-label": `The ring of group ${group.group} with ${group.slots.length} slots; the table beside it says the same` });
  root.append(svg("circle", { class: "rail", cx: MIDDLE, cy: MIDDLE, r: OUTER }), svg("circle", { class: "rail thin", cx: MIDDLE, cy: MIDDLE, r: INNER }));
  root.append(...drawn(OUTER, arcs, "keys", name));
  if (runs) root.append(...drawn(INNER, group.slots.map((slot) => [slot.place, slot.runs / runs]), "runs", name));
  root.append(svg("text", { class: "big", x: MIDDLE, y: MIDDLE - 2, "text-anchor": "middle" }, String(group.slots.length)),
    svg("text", { class: "tick", x: MIDDLE, y: MIDDLE + 16, "text-anchor": "middle" }, group.slots.length === 1 ? "slot" : "slots"));
  return root;
}
