"""Stacks and the seconds that each was seen for, as files: a flame graph, speedscope's JSON, or a line for each.

The flame graph is one SVG that needs nothing else: a bar for each function below those that called it, as wide as the
time that was seen in it. A click makes a bar as wide as the picture, Ctrl-F asks for a pattern and marks what matches.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from colorsys import hls_to_rgb
from html import escape
from typing import Final, NamedTuple

from toolring.cli.output import harmless

WIDTH: Final = 1200
ROW: Final = 17
TOP: Final = 46
LETTER: Final = 6.6
"""The width of one, in the font that is asked for."""
LEAST: Final = 0.1
"""Bars that would be narrower than so many pixels aren't drawn."""

Stacks = Sequence[tuple[tuple[str, ...], float]]


class Bar(NamedTuple):
    name: str
    depth: int
    start: float
    """Seconds from the left."""
    seconds: float


class _Node:
    """A function, as it was called by those above it."""

    __slots__ = ("below", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.below: dict[str, _Node] = {}


def folded(stacks: Stacks) -> str:
    """``outermost;...;innermost microseconds``, as most tools for flame graphs read it."""
    lines = (f"{';'.join(name.replace(';', ':') for name in names)} {round(s * 1e6)}\n" for names, s in stacks)
    return "".join(" ".join(line.split()) + "\n" for line in lines)


def speedscope(stacks: Stacks, title: str) -> str:
    """https://www.speedscope.app/file-format-schema.json"""
    numbers: dict[str, int] = {}
    samples = [[numbers.setdefault(name, len(numbers)) for name in names] for names, _ in stacks]
    weights = [seconds for _, seconds in stacks]
    profile = {
        "type": "sampled",
        "name": title,
        "unit": "seconds",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    told = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": title,
        "shared": {"frames": [{"name": name} for name in numbers]},
        "profiles": [profile],
    }
    return json.dumps(told)


def bars(stacks: Stacks) -> list[Bar]:
    """Each function with what called it, side by side in the order of their names."""
    root = _Node()
    for names, seconds in stacks:
        node = root
        node.seconds += seconds
        for name in names:
            node = node.below.setdefault(name, _Node())
            node.seconds += seconds
    return list(_bars("all", root, 0, 0.0))


def _bars(name: str, node: _Node, depth: int, start: float) -> Iterator[Bar]:
    todo = [(name, node, depth, start)]
    while todo:
        name, node, depth, start = todo.pop()
        yield Bar(name, depth, start, node.seconds)
        for below, child in sorted(node.below.items()):
            todo.append((below, child, depth + 1, start))
            start += child.seconds


def svg(stacks: Stacks, title: str) -> str:
    """A picture for a browser, which needs nothing from elsewhere."""
    drawn = [bar._replace(name=harmless(bar.name)) for bar in bars(stacks)]  # XML knows no control characters
    whole = drawn[0].seconds or 1.0
    drawn = [bar for bar in drawn if bar.depth == 0 or bar.seconds / whole * WIDTH >= LEAST]
    height = TOP + (max(bar.depth for bar in drawn) + 1) * ROW + 28
    return _PAGE.format(
        width=WIDTH, height=height, title=escape(harmless(title)), bars="".join(_drawn(drawn, whole)), script=_SCRIPT
    )


def _drawn(drawn: Iterable[Bar], whole: float) -> Iterator[str]:
    for bar in drawn:
        x, width = bar.start / whole * WIDTH, bar.seconds / whole * WIDTH
        y = TOP + bar.depth * ROW
        name, text = escape(bar.name), _fitting(bar.name, width)
        tip = escape(f"{bar.name}: {bar.seconds:.3f} s, {100 * bar.seconds / whole:.1f} %")
        yield (
            f'<g class="bar" data-x="{x:.2f}" data-w="{width:.2f}" data-y="{y}"><title>{tip}</title>'
            f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" rx="2" fill="{_colour(bar.name)}"/>'
            f'<text x="{x + 3:.2f}" y="{y + 12}" data-name="{name}">{text}</text></g>\n'
        )


def _fitting(name: str, width: float) -> str:
    room = int((width - 6) / LETTER)
    if room < 3:
        return ""
    return escape(name if len(name) <= room else name[: room - 2] + "..")


def _colour(name: str) -> str:
    """Always the same for the same function; what belongs to toolring itself is grey."""
    luck = zlib.crc32(name.encode("utf-8", "replace"))
    if "/toolring/" in name or name == "all":
        hue, light, depth = 0.6, 0.74 + luck % 10 / 100, 0.1
    else:
        hue, light, depth = luck % 45 / 360, 0.62 + luck // 900 % 12 / 100, 0.75 + luck // 45 % 20 / 100
    return "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(hue, light, depth))


_PAGE: Final = """\
<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"
  font-family="monospace" font-size="11">
<style>.bar:hover rect {{ stroke: #000; }} .bar {{ cursor: pointer; }} .found rect {{ fill: #c3f; }}
text {{ pointer-events: none; }} .button {{ pointer-events: auto; cursor: pointer; fill: #36c; }}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="{width}" dx="-10" y="20" text-anchor="end" class="button" id="search">search (Ctrl-F)</text>
<text x="10" y="20" font-size="14">{title}</text>
<text x="10" y="38" class="button" id="reset"> </text>
<g id="bars">
{bars}</g>
<text x="10" y="{height}" dy="-10" id="told"> </text>
<script><![CDATA[
{script}]]></script>
</svg>
"""

_SCRIPT: Final = """\
(function () {
  var root = document.documentElement, width = root.viewBox.baseVal.width, letter = 6.6;
  var all = Array.prototype.slice.call(document.querySelectorAll(".bar"));
  var told = document.getElementById("told"), reset = document.getElementById("reset");
  function number(bar, name) { return parseFloat(bar.getAttribute("data-" + name)); }
  function show(from, size) {
    var last = from.y;
    all.forEach(function (bar) {
      var x = number(bar, "x"), w = number(bar, "w"), above = number(bar, "y") < last;
      var inside = x >= from.x - 0.01 && x + w <= from.x + size + 0.01;
      var around = above && x <= from.x + 0.01 && x + w >= from.x + size - 0.01;
      bar.style.display = inside || around ? "" : "none";
      if (!inside && !around) { return; }
      var left = around ? 0 : (x - from.x) / size * width, wide = around ? width : w / size * width;
      var rect = bar.querySelector("rect"), text = bar.querySelector("text");
      rect.setAttribute("x", left); rect.setAttribute("width", wide);
      rect.setAttribute("opacity", around ? 0.5 : 1);
      text.setAttribute("x", left + 3);
      var name = text.getAttribute("data-name"), room = Math.floor((wide - 6) / letter);
      text.textContent = room < 3 ? "" : name.length <= room ? name : name.slice(0, room - 2) + "..";
    });
    reset.textContent = size < width ? "show all" : " ";
  }
  function search() {
    var pattern = window.prompt("mark the functions that match (a regular expression)");
    if (pattern === null) { return; }
    var expression, spans = [], sum = 0, end = -1;
    try { expression = new RegExp(pattern); } catch (error) { told.textContent = String(error); return; }
    all.forEach(function (bar) {
      var found = pattern !== "" && expression.test(bar.querySelector("text").getAttribute("data-name"));
      bar.classList.toggle("found", found);
      if (found) { spans.push([number(bar, "x"), number(bar, "x") + number(bar, "w")]); }
    });
    spans.sort(function (a, b) { return a[0] - b[0]; }).forEach(function (span) {
      if (span[1] > end) { sum += span[1] - Math.max(span[0], end); end = span[1]; }
    });
    told.textContent = pattern === "" ? " " : "matched: " + (100 * sum / width).toFixed(1) + " % of the time";
  }
  all.forEach(function (bar) {
    bar.addEventListener("click", function () {
      show({x: number(bar, "x"), y: number(bar, "y")}, number(bar, "w"));
    });
    bar.addEventListener("mouseover", function () { told.textContent = bar.querySelector("title").textContent; });
  });
  reset.addEventListener("click", function () { show({x: 0, y: 0}, width); });
  document.getElementById("search").addEventListener("click", search);
  window.addEventListener("keydown", function (event) {
    if (event.key === "f" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); search(); }
  });
})();
"""
