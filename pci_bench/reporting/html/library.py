"""The plot library that a report carries in itself: Vega-Lite, as the vl-convert package brings it.

Of what pip offers, it is the smallest (0.9 MB in the page; Bokeh 1.3 MB, Plotly 4.8 MB), and the only one whose charts are
SVG with a name for every mark, which a screen reader can read.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from pci_bench.system.files import atomic_file, cache_folder, may_write

SNIPPET = "window.vegaEmbed = vegaEmbed;"


def plot_library() -> str:
    """Return JavaScript that defines ``window.vegaEmbed``; bundling takes seconds, so it is kept in the cache."""
    file = cache_folder() / "report" / f"vega-{version('vl-convert-python')}.js"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    bundle = _bundled()
    if may_write(file.parent):
        with atomic_file(file) as temporary:
            temporary.write_text(bundle, encoding="utf-8", newline="\n")
    return bundle


@cache  # for pages that one process writes with several caches
def _bundled() -> str:
    import vl_convert

    return str(vl_convert.javascript_bundle(SNIPPET))
