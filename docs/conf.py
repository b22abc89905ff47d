"""How Sphinx builds these pages: `make docs`."""

from pathlib import Path
from typing import Any

project = "toolring"
author = "toolring contributors"
project_copyright = "toolring contributors, MIT licence"
release = version = next(
    line.split('"')[1]
    for line in (Path(__file__).parents[1] / "toolring" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Tools in supervised worker processes", "fixed_sidebar": True}
html_show_sourcelink = False
templates_path: list[str] = []


def setup(app: Any) -> None:
    app.connect("source-read", _without_benchmarks)


def _without_benchmarks(app: Any, page: str, source: list[str]) -> None:
    """docs/benchmarks.md is written by `make bench`; the pages build without it too."""
    if page == "index" and not (Path(app.srcdir) / "benchmarks.md").exists():
        source[0] = source[0].replace("\nbenchmarks\n", "\n")
