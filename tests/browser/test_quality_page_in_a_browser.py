"""The quality-control page as a reader meets it, in a real headless Chromium."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from chromium import DESKTOP, PHONE, check_layout_names_and_contrast, opening, tab_through
from painted_fields import CENTRES_ONLY, FIELDS, LAYOUT, ODD, write_fields
from playwright.sync_api import Browser, Page, expect

from pci_bench.datasets.prepared import prepare_dataset
from pci_bench.reporting.html.quality import write_quality_page

pytestmark = pytest.mark.browser


def written(root: Path, layout: str) -> Path:
    """Return the page of painted fields, prepared below a folder."""
    file = write_fields(root / "fields", layout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(root / "cache"))
        cells, prepared = prepare_dataset(file, "painted", workers=1)
        return write_quality_page(root / "qc.html", cells, prepared, str(file))


@pytest.fixture(scope="module")
def quality_page(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("masks"), LAYOUT)


@pytest.fixture
def open_page(browser: Browser, quality_page: Path):
    """A function that opens the page of the fields with label images."""
    with opening(browser, quality_page, ".chart-view svg") as opened:
        yield opened


def all_charts(page: Page) -> None:
    """Wait until every chart of a page is drawn."""
    page.wait_for_function("[...document.querySelectorAll('.chart-view')].every((e) => e.querySelector('svg'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_overflows_everything_has_a_name_and_contrast(open_page, viewport, scheme):
    page = open_page(viewport, scheme)
    all_charts(page)
    for summary in page.locator("summary:visible").all():
        summary.click()
    check_layout_names_and_contrast(page, f"quality-{'phone' if viewport is PHONE else 'desktop'}-{scheme}")


def test_pictures_are_decoded_and_described(open_page):
    images = open_page().locator(".fields img")
    assert images.count() == len(FIELDS)
    for image in images.all():
        assert image.evaluate("async (e) => { await e.decode(); return e.naturalWidth; }") == 96
        assert "9 objects kept; dropped: touches the field's border (1)" in image.get_attribute("alt")


def test_pointing_at_a_point_names_its_field(open_page):
    page = open_page()
    all_charts(page)
    points = page.locator(".small-charts svg [aria-roledescription=point]")
    assert points.count() == 2 * 2 * len(FIELDS)
    point = points.nth(len(FIELDS) - 1)  # of the first channel the last, which no other covers
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    expect(tooltip).to_have_text(f"2-{ODD}: 0.192")
    assert point.get_attribute("aria-label") == f"2-{ODD}: 0.192"


def test_a_chart_has_the_colours_of_the_theme(open_page):
    page = open_page()
    all_charts(page)
    bar = page.locator(".chart-view svg [aria-roledescription=bar]").first
    light = bar.get_attribute("fill")
    page.get_by_role("button", name="Dark theme").click()
    page.wait_for_function(
        "light => document.querySelector('.chart-view svg [aria-roledescription=bar]')?.getAttribute('fill') !== light",
        arg=light,
    )


def test_the_table_of_a_measure_sorts_and_filters(open_page):
    page = open_page()
    page.get_by_text("The points as a table").first.click()
    table = page.locator("#measure-1")
    table.get_by_role("button", name="median").click()
    values = table.locator("tbody td:nth-child(6)").evaluate_all("cells => cells.map((e) => Number(e.dataset.value))")
    assert values == sorted(values, reverse=True)
    assert len(values) == 4
    table.get_by_label("Filter rows").fill("DNA")
    expect(table.get_by_role("status")).to_have_text("2 of 4 rows")


def test_every_control_is_reached_by_tab_in_the_order_of_the_page_and_shows_it(open_page):
    page = open_page()
    all_charts(page)
    tops = tab_through(page)
    assert all(b >= a - 400 for a, b in pairwise(tops[1:]))


def test_headings_have_no_gaps(open_page):
    levels = [int(h) for h in open_page().locator("h1, h2, h3, h4").evaluate_all("hs => hs.map(h => h.tagName[1])")]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_a_page_of_centres_opens_too(browser, tmp_path):
    with opening(browser, written(tmp_path, CENTRES_ONLY), ".chart-view svg") as opened:
        page = opened()
        all_charts(page)
        expect(page.get_by_role("heading", name="Areas of objects")).to_have_count(0)
        expect(page.locator(".fields img")).to_have_count(len(FIELDS))


def test_pictures_and_tables_are_there_without_scripts(browser, quality_page):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(quality_page.as_uri())
    expect(page.get_by_text("can be seen without JavaScript")).to_be_visible()
    expect(page.locator(".fields img").first).to_be_visible()
    expect(page.get_by_role("rowheader", name="2-A9")).to_be_visible()
    context.close()
