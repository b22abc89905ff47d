"""The jobs as tools that say nothing about themselves: every default of a node is on."""

from __future__ import annotations

from benchmarks import work
from toolring import tool

echo = tool(work.echo)
spin = tool(work.spin)
big = tool(work.big)
