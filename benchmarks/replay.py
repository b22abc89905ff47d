"""Replay real traces over every cache strategy: hits beside the reference's and Belady's optimum, and a chart.

python -m benchmarks.replay                                      the tables
python -m benchmarks.replay --docs docs/caching-strategies.md    and write the page and its chart
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from pathlib import Path
from statistics import mean
from typing import Any, Final

from benchmarks import report
from toolring.config import CacheSection
from toolring.plugins.registry import load_plugins
from toolring.workers.cache.base import Cache

HERE: Final = Path(__file__).with_name("traces")
Reference = dict[str, dict[str, Any]]


def reference() -> Reference:
    found: Reference = json.loads((HERE / "reference.json").read_text())
    return found


def trace(name: str) -> list[bytes]:
    """Keys as long as those of results."""
    with gzip.open(HERE / f"{name}.txt.gz", "rt") as file:
        return [b"%032d" % int(line) for line in file]


def hits(factory: Any, keys: list[bytes], size: int) -> int:
    """Ask for each key in turn; what is missing is put. All entries are equally large."""
    cache = Cache(factory(size), size, 1 << 60, lambda: 0.0)
    get, put = cache.get, cache.put
    for key in keys:
        if get(key) is None:
            put(key, b"", 60.0)
    return cache.hits


def replay(strategies: dict[str, Any]) -> dict[tuple[str, int], dict[str, int]]:
    """Hits by (trace, size) and strategy."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    for name, about in reference().items():
        keys = trace(name)
        for size in map(int, about["hits"]):
            found[name, size] = {s: hits(factory, keys, size) for s, factory in strategies.items()}
    return found


def tables(found: dict[tuple[str, int], dict[str, int]]) -> tuple[list[list[str]], list[list[str]]]:
    """Hit ratios by trace and size; then, of each strategy, how near to the optimum it comes."""
    about = reference()
    names = list(next(iter(found.values())))
    ratios = [["trace", "size", *names, "Belady"]]
    for (name, size), ours in found.items():
        requests, theirs = about[name]["requests"], about[name]["hits"][str(size)]
        cells = [f"{100 * ours[s] / requests:.1f}{_beside(ours[s], theirs.get(s), requests)}" for s in names]
        ratios.append([name, str(size), *cells, f"{100 * theirs['belady'] / requests:.1f}"])
    summary = [["strategy", "mean of hits ÷ Belady's", "least ÷ LRU's"]]
    for strategy in names:
        pairs = [(ours[strategy], about[n]["hits"][str(size)], ours["lru"]) for (n, size), ours in found.items()]
        best = mean(own / theirs["belady"] for own, theirs, _ in pairs)
        summary.append([strategy, f"{best:.3f}", f"{min(own / lru for own, _, lru in pairs):.3f}"])
    return ratios, summary


def _beside(own: int, theirs: int | None, requests: int) -> str:
    """The difference to the reference in points, if it shows."""
    if theirs is None or abs(own - theirs) / requests < 0.0005:
        return ""
    return f" ({100 * (own - theirs) / requests:+.1f})"


def draw(strategies: dict[str, Any], path: Path) -> None:
    """Hit ratio over cache size, one panel a trace, with the reference's optimum where it is known."""
    import matplotlib  # optional: toolring[bench]

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "toolring"
    from matplotlib import pyplot  # optional: toolring[bench]

    about = reference()
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for panel, (name, facts) in zip(panels.flat, about.items(), strict=True):
        keys = trace(name)
        sizes = [int(size) for size in facts["hits"]]
        low, high = min(sizes) / 2, max(sizes) * 1.5
        steps = [round(low * (high / low) ** (step / 9)) for step in range(10)]
        for strategy, factory in strategies.items():
            ratios = [100 * hits(factory, keys, size) / len(keys) for size in steps]
            panel.plot(steps, ratios, label=strategy, linewidth=2 if strategy == CacheSection().strategy else 1)
        optimum = [100 * facts["hits"][str(size)]["belady"] / len(keys) for size in sizes]
        panel.plot(sizes, optimum, "k--", marker="o", markersize=3, label="Belady")
        panel.set(title=f"{name}, {len(keys):,} requests", xscale="log", xlabel="entries", ylabel="hits, %")
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
        panel.set_ylim(0, math.ceil(max(optimum) / 10 + 0.5) * 10)
        panel.grid(alpha=0.3)
    panels.flat[0].legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


DOCUMENT = """\
# How well the cache strategies do

Written by `make bench-traces`. Four real traces ({sources}), each replayed at several cache sizes over every strategy
that ships with toolring; all entries are equally large. Hit ratios in percent; in brackets the difference in points to
libcachesim 0.3.5's implementation of the same policy, where it is 0.05 or more. LFU here ages, and that one does not.

{ratios}

{summary}

The default is **{default}**. `adaptive` never does worse than LRU on any of them, at several times the price per
operation.

![Hit ratio over cache size](hit-ratios.svg)

## What an operation costs

Nanoseconds per operation, in turns with other libraries' caches of the same size ({entries:,} entries) in one process,
median [least-most] of {rounds} rounds. A hit is a `get`; a miss is a `get` and the `put` that makes the oldest leave;
the mix is a Zipf load with misses put. toolring's cache also keeps times to live, bytes and exact counts; cachetools'
`LRUCache` does neither, its `TTLCache` has one time to live for all; cachebox is written in Rust.

{speed}

{growth}
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__.splitlines()[0])
    parser.add_argument("--docs", type=Path, metavar="FILE", help="write the page, and hit-ratios.svg beside it")
    options = parser.parse_args()
    strategies = dict(load_plugins(block=["sample"]).cache_strategies)
    ratios, summary = tables(replay(strategies))
    print(report.plain(ratios), end="\n\n")
    print(report.plain(summary))
    if options.docs:
        from benchmarks import cache_speed

        draw(strategies, options.docs.with_name("hit-ratios.svg"))
        speed, growth = cache_speed.measured(strategies)
        print("\n" + report.plain(speed) + "\n\n" + growth)
        options.docs.write_text(
            DOCUMENT.format(
                sources=", ".join(reference()),
                ratios=report.markdown(ratios),
                summary=report.markdown(summary),
                default=CacheSection().strategy,
                speed=report.markdown(speed),
                growth=growth,
                entries=cache_speed.ENTRIES,
                rounds=cache_speed.ROUNDS,
            )
        )


if __name__ == "__main__":
    main()
