"""The report as a reader meets it, in a real headless Chromium."""

from __future__ import annotations

import csv
import re
from itertools import pairwise
from pathlib import Path

import pytest
from chromium import DESKTOP, PHONE, check_layout_names_and_contrast, opening, tab_through
from painted import CLASSES, FEATURES, registered, write_folder
from playwright.sync_api import Browser, Page, expect

from pci_bench.reporting.html import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """The report of a run on painted cells."""
    root = tmp_path_factory.mktemp("painted")
    with registered(root / "cache"):
        write_folder(root / "run")
        return write_report(root / "run")


@pytest.fixture
def open_page(browser: Browser, report: Path):
    """A function that opens the report."""
    with opening(browser, report, ".layers svg") as opened:
        yield opened


def first_column(table) -> list[str]:
    return table.locator("tbody tr:visible th").all_inner_texts()


def test_a_table_sorts_by_any_column_both_ways_and_says_so(open_page):
    page = open_page()
    table = page.locator(".table", has_text="Leave-one-out k-nearest-neighbour").last
    header = table.get_by_role("columnheader", name="balanced accuracy")
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    values = [float(v) for v in table.locator("tbody td:nth-child(3)").evaluate_all("c => c.map(e => e.dataset.value)")]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 5
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    assert [float(t.split()[0]) for t in table.locator("tbody td:nth-child(3)").all_inner_texts()] == pytest.approx(
        sorted(values), abs=0.051
    )
    table.get_by_role("button", name="feature set").click()
    expect(header).to_have_attribute("aria-sort", "none")
    assert first_column(table) == sorted(first_column(table))


def test_a_filter_leaves_the_rows_that_hold_every_word(open_page):
    page = open_page()
    table = page.locator(".table", has_text="Leave-one-out k-nearest-neighbour").last
    total = len(first_column(table))
    assert total == 6 * (len(FEATURES) + 3)  # two k; all cells, other images, and those with classes balanced
    table.get_by_label("Filter rows").fill("CONV2 exclude=image")
    assert first_column(table) == ["net-conv2"] * 4
    expect(table.get_by_role("status")).to_have_text(f"4 of {total} rows")
    table.get_by_label("Filter rows").fill("nothing has this")
    assert first_column(table) == []
    table.get_by_label("Filter rows").fill("")
    expect(table.get_by_role("status")).to_have_text(f"{total} rows")


def point_on_screen(page: Page, corner: tuple[float, float]) -> tuple[float, float]:
    """Return where in the window a place in the plot lies, as shares of its size."""
    plot = page.locator(".plot")
    plot.scroll_into_view_if_needed()
    page.wait_for_selector(".plot canvas")
    box = plot.bounding_box()
    return box["x"] + corner[0] * box["width"], box["y"] + corner[1] * box["height"]


def test_pointing_at_a_cell_of_the_umap_shows_its_crop_and_label(open_page):
    page = open_page()
    card = page.locator(".plot .card")
    seen = set()
    for corner in ((0.06, 0.9), (0.94, 0.9), (0.06, 0.1), (0.94, 0.1)):
        x, y = point_on_screen(page, corner)
        for dx in range(-60, 61, 6):
            for dy in range(-60, 61, 12):
                page.mouse.move(x + dx, y + dy)
                if card.is_visible():
                    break
            if card.is_visible():
                break
        expect(card).to_be_visible()
        label, name = card.locator("strong").inner_text(), card.inner_text().split("\n")[-1]
        place = next(
            i for i, (cell, _) in enumerate(page.evaluate("JSON.parse(data.textContent).cells")) if cell == name
        )
        columns = page.evaluate("JSON.parse(data.textContent).columns")
        size = card.locator(".crop").evaluate("e => [getComputedStyle(e).backgroundPosition, e.offsetWidth]")
        assert size[0] == f"{-(place % columns) * size[1]}px {-(place // columns) * size[1]}px"
        assert CLASSES[int(name.removeprefix("cell ")) // 15] == label
        seen.add(label)
    assert seen == set(CLASSES)
    page.mouse.move(2, 2)
    expect(card).to_be_hidden()


def test_the_umap_can_be_read_with_the_keyboard_alone(open_page):
    page = open_page()
    plot = page.get_by_role("application")
    plot.focus()
    page.wait_for_selector(".plot canvas")
    plot.press("ArrowRight")
    first = page.locator(".plot .card").inner_text()
    said = page.locator(".umap [aria-live=polite]")
    assert said.inner_text().endswith(first.split("\n")[-1])
    plot.press("ArrowLeft")
    second = page.locator(".plot .card").inner_text()
    assert second != first
    plot.press("+")
    plot.press("0")
    assert page.locator(".plot .card").inner_text() == second
    plot.press("Escape")
    expect(page.locator(".plot .card")).to_be_hidden()


def test_a_class_of_the_umap_can_be_seen_alone(open_page):
    page = open_page()
    button = page.locator(".legend").get_by_role("button", name="ring")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    plot = page.get_by_role("application")
    plot.focus()
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight"):
        plot.press(key)
        assert page.locator(".plot .card strong").inner_text() == "ring"


def test_a_tap_on_a_phone_shows_a_cell(open_page):
    page = open_page(PHONE, has_touch=True, is_mobile=True)
    plot, card = page.get_by_role("application"), page.locator(".plot .card")
    plot.focus()
    page.wait_for_selector(".plot canvas")
    plot.press("ArrowRight")
    ring = page.locator(".plot .ring").bounding_box()
    label = card.inner_text()
    plot.press("Escape")
    expect(card).to_be_hidden()
    page.touchscreen.tap(ring["x"] + ring["width"] / 2, ring["y"] + ring["height"] / 2)
    expect(card).to_be_visible()
    assert card.inner_text() == label


def ground(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_theme_follows_the_system_and_the_button_and_stays(open_page, report):
    page = open_page(scheme="dark")
    button = page.get_by_role("button", name="Dark theme")
    expect(button).to_have_attribute("aria-pressed", "true")
    dark = ground(page)
    text = page.locator(".layers svg text").first
    dark_text = text.evaluate("e => getComputedStyle(e).fill")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    assert ground(page) != dark
    page.wait_for_function(
        "before => getComputedStyle(document.querySelector('.layers svg text')).fill !== before", arg=dark_text
    )
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert ground(page) != dark
    assert ground(open_page(scheme="light")) != dark


def test_every_control_is_reached_by_tab_in_the_order_of_the_page_and_shows_it(open_page):
    tops = tab_through(open_page())
    assert all(b >= a - 400 for a, b in pairwise(tops[1:]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_overflows_everything_has_a_name_and_contrast(open_page, viewport, scheme):
    page = open_page(viewport, scheme)
    page.wait_for_selector(".plot canvas")
    page.wait_for_selector(".classes svg")
    for summary in page.locator("summary").all():
        summary.click()
    check_layout_names_and_contrast(page, f"report-{'phone' if viewport is PHONE else 'desktop'}-{scheme}")


def test_a_screen_reader_hears_headings_charts_and_matrices(open_page):
    page = open_page()
    levels = [int(h) for h in page.locator("h1, h2, h3, h4, h5").evaluate_all("hs => hs.map(h => h.tagName[1])")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    bars = page.locator(".classes svg [aria-roledescription=bar]")
    assert bars.count() == 2 * len(CLASSES)
    assert re.fullmatch(
        r".+, other images only, classes balanced: \d+\.\d \[\d+\.\d, \d+\.\d\] %",
        bars.first.get_attribute("aria-label"),
    )
    table = page.get_by_role("table", name=re.compile("Confusion matrix of .*true classes in rows")).first
    assert table.get_by_role("rowheader").count() == len(CLASSES)


def test_choosing_another_feature_set_changes_bars_matrices_and_pairs(open_page):
    page = open_page()
    before = page.locator(".matrix").first.inner_text()
    page.get_by_label("Feature set", exact=True).select_option("noise")
    expect(page.get_by_role("heading", name="Confusion matrix of noise")).to_be_visible()
    assert page.locator(".matrix").first.inner_text() != before
    page.get_by_label("Evaluation").first.select_option("loo-knn, k=1")
    expect(page.get_by_role("heading", name="Confusion matrix of noise")).to_be_visible()


def test_the_gallery_is_narrowed_by_class_and_outcome(open_page):
    page = open_page()
    gallery = page.locator(".gallery")
    every = gallery.locator(".queries > li").count()
    gallery.get_by_label("Outcome").select_option("wrong only")
    wrong = gallery.locator(".queries > li").count()
    assert 0 < wrong < every
    assert gallery.locator(".query > figure .right").count() == 0
    gallery.get_by_label("Outcome").select_option("right only")
    assert gallery.locator(".query > figure .wrong").count() == 0
    gallery.get_by_label("Outcome").select_option("right and wrong")
    gallery.get_by_label("Class").select_option("ring")
    assert set(gallery.locator(".query > figure strong").all_inner_texts()) == {"ring"}


def test_tables_can_be_read_without_scripts(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert "pci-bench" in page.title()
    assert page.locator("tbody tr").count() > 20
    expect(page.get_by_text("Tables can be read without JavaScript")).to_be_visible()
    context.close()


def test_the_words_about_missing_scripts_go_where_scripts_run(open_page):
    expect(open_page().get_by_text("Tables can be read without JavaScript")).to_have_count(0)


def saved(page: Page, button) -> list[list[str]]:
    """Return the rows of the file that a button saves."""
    with page.expect_download() as download:
        button.click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_page_begins_with_the_answer(open_page):
    page = open_page(PHONE)
    tops = [
        page.locator(f"#dataset-1 {selector}").first.bounding_box()["y"]
        for selector in (".sentences", ".ranked svg", ".mosaic", ".ladder svg", ".table")
    ]
    assert tops == sorted(tops)
    assert tops[0] < PHONE["height"]
    sentences = page.locator(".answer").first.locator(".sentences li").all_inner_texts()
    assert len(sentences) == 3
    assert "where cells are compared with other images only, classes balanced" in sentences[0]
    cells = page.locator(".mosaic .crop")
    assert cells.count() == 16
    assert cells.first.evaluate("e => getComputedStyle(e).backgroundImage").startswith('url("data:image')


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_names_and_numbers_of_the_ranking_lie_within_the_chart(open_page, viewport):
    page = open_page(viewport)
    page.wait_for_selector(".ranked svg")
    chart = page.locator(".ranked .chart").first.bounding_box()
    boxes = [text.bounding_box() for text in page.locator(".ranked svg").first.locator("text").all()]
    assert len(boxes) > 2 * len(FEATURES)
    assert all(box["x"] >= chart["x"] - 1 for box in boxes)
    assert all(box["x"] + box["width"] <= chart["x"] + chart["width"] + 1 for box in boxes)


def test_words_in_charts_have_the_ink_of_the_theme(open_page):
    page = open_page(scheme="dark")
    page.wait_for_selector(".ladder svg")
    inks = page.locator(".answer svg text").evaluate_all("ts => ts.map((t) => getComputedStyle(t).fill)")
    assert set(inks) == {page.evaluate("getComputedStyle(document.body).color")}


@pytest.mark.parametrize("section", ["ranked", "ladder", "classes", "layers", "umap"])
def test_every_chart_has_its_data_one_click_away_and_a_caption(open_page, section):
    page = open_page()
    place = page.locator(f".view.{section}").first
    rows = saved(page, place.locator(".save").first)
    assert len(rows) > 3
    assert len({len(row) for row in rows}) == 1
    assert len(place.locator("figcaption, .caption").first.inner_text()) > 60
    bars = place.locator("svg [aria-roledescription=bar], svg [aria-roledescription=point]")
    if section in ("ranked", "ladder"):
        assert len(rows) - 1 == bars.count()
        assert all(row[0] in bars.nth(i).get_attribute("aria-label") for i, row in enumerate(rows[1:]))


def test_a_table_and_all_results_are_saved_as_files(open_page):
    page = open_page()
    table = page.locator(".table", has_text="Leave-one-out k-nearest-neighbour").last
    rows = saved(page, table.locator(".save"))
    assert [row[0] for row in rows] == ["feature set", *first_column(table)]
    results = saved(page, page.get_by_role("link", name="results.csv"))
    assert len(results) == 1 + 6 * (len(FEATURES) + 3) + 1


def test_on_a_phone_the_strictest_column_stands_beside_the_name(open_page):
    page = open_page(PHONE)
    table = page.locator(".table").first
    strict = table.get_by_role("columnheader").nth(1)
    assert "classes balanced" in strict.inner_text()
    box = strict.bounding_box()
    assert box["x"] + box["width"] <= PHONE["width"]
