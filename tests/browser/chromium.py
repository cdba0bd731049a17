"""Pages in a real headless Chromium, and what is asked of every one of them.

Needs the extra ``browser`` and Debian's package ``chromium``: ``tox -e browser``. Elsewhere tests that import this are skipped;
with PCI_BENCH_BROWSER=required, which tox sets, they fail instead. Screenshots go to the folder PCI_BENCH_SCREENSHOTS, if set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
if os.environ.get("PCI_BENCH_BROWSER") != "required":
    pytest.importorskip("playwright", reason="playwright is not installed: pip install 'pci-bench[browser]'")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} does not exist: apt-get install chromium", allow_module_level=True)

from playwright.sync_api import Browser, Page

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
CONTRAST = """() => {
  const number = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => { const [r, g, b] = rgb.slice(0, 3).map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = number(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll("p, li, a, button, h1, h2, h3, h4, h5, th, td, dt, dd, label, select, summary, span.right, span.wrong, span.count, strong")) {
    if (!e.innerText?.trim() || !e.checkVisibility()) continue;
    const c = getComputedStyle(e);
    const [a, b] = [light(number(c.color)), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push(`${e.tagName} ${e.innerText.slice(0, 30)} ${((a + 0.05) / (b + 0.05)).toFixed(2)}`);
  }
  return bad;
}"""
UNNAMED = """() => [...document.querySelectorAll("button, select, input, a, summary, [tabindex='0'], [role=img]")].filter((e) =>
  e.checkVisibility() && !(e.innerText?.trim() || e.getAttribute("aria-label") || e.labels?.length ||
  document.getElementById(e.getAttribute("aria-labelledby"))?.innerText)).map((e) => e.outerHTML.slice(0, 120))"""


@contextmanager
def opening(browser: Browser, file: Path, *drawn: str) -> Iterator[Callable[..., Page]]:
    """Give a function that opens a file in a new profile; afterwards nothing may have left, and no script have failed.

    It waits until there is an element for each of the selectors `drawn`.
    """
    contexts, asked, wrong = [], [], []

    def opened(viewport=DESKTOP, scheme="light", **options) -> Page:
        context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", **options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        for selector in drawn:
            page.wait_for_selector(selector)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert {re.split(r"[:;]", url)[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file:") and url != file.as_uri()] == []
    assert wrong == []


def check_layout_names_and_contrast(page: Page, name: str) -> None:
    """Assert that nothing is wider than the window, everything has a name and can be read; keep a screenshot if asked to."""
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && !e.closest('.scroll, .unseen, .plot, .skip, svg') "
        "&& e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 100))"
    )
    assert outside == []
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate(CONTRAST) == []
    if folder := os.environ.get("PCI_BENCH_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def tab_through(page: Page) -> list[float]:
    """Reach every control by Tab, each showing that it is reached; return where they lie on the page, from its top."""
    wanted = page.evaluate(
        "[...document.querySelectorAll('a, button, select, input, summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility()).length"
    )
    tops = []
    for _ in range(wanted + 2):
        page.keyboard.press("Tab")
        state = page.evaluate(
            "(() => { const e = document.activeElement; const b = e.getBoundingClientRect(); return [e === document.body, b.top + scrollY, "
            "getComputedStyle(e).outlineStyle, e.outerHTML.slice(0, 80)]; })()"
        )
        if state[0]:
            break
        assert state[2] != "none", state[3]
        tops.append(state[1])
    assert len(tops) == wanted
    return tops
