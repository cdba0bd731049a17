"""Pages from the templates of this room: one style, one script, one theme for all."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from pci_bench import __version__
from pci_bench.reporting.html.library import plot_library
from pci_bench.reporting.palette import COLOURS, GREY, ON_DARK
from pci_bench.system.text import json_in_html


def rendered_page(template: str, data: dict[str, Any], *, charts: bool, **values: Any) -> str:
    """Return a page as HTML.

    Parameters
    ----------
    template
        One that extends ``page.html.j2``.
    data
        What the script reads, as JSON, beside the palette.
    charts
        Whether the page draws any, and so carries the plot library.
    **values
        What the template names.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    here = files("pci_bench.reporting.html")
    environment = Environment(
        loader=PackageLoader("pci_bench.reporting.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        version=__version__,
        style=(here / "report.css").read_text(encoding="utf-8"),
        script=(here / "report.js").read_text(encoding="utf-8"),
        library=plot_library() if charts else "",
        data=json_in_html({"palette": {"light": COLOURS, "dark": ON_DARK, "grey": GREY}} | data),
        **values,
    )
