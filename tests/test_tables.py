"""The paper's tables: what stands in them, what never does, and that every format can be read by its readers."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import call, refused
from factories import make_result
from report_page import Page
from rich.console import Console

from pci_bench import UserError
from pci_bench.api.plugins import load_plugin
from pci_bench.benchmarks import benchmark_of
from pci_bench.reporting.html import write_report
from pci_bench.reporting.html.tables import paper_tables
from pci_bench.reporting.tables.declaration import TABLES, Column, TableDeclaration, printed_value
from pci_bench.reporting.tables.fill import fill
from pci_bench.reporting.tables.render import PRINTED, render, terminal
from pci_bench.reporting.tables.table import Cell
from pci_bench.runs.outputs import fill_tables, write_results
from pci_bench.runs.results import MetricRecord, Result, read_results

# Typed again from the design's SCIENCE.md, section 4 (Table 1 and Supplementary Table 1 of the paper).
TABLE_1 = {1: 43.09, 2: 70.52, 3: 84.30, 4: 87.98, 5: 81.89}
SUPPLEMENTARY_TABLE_1 = {
    "designed": (57.16, 61.06, 62.04, 61.51, 59.99),
    "cellprofiler-chong2015": (61.10, 65.52, 68.15, 67.54, 66.06),
    "vgg16-gfp-only-block4_conv1": (64.70, 68.89, 69.33, 67.43, 65.02),
    "autoencoder-conv3": (35.31, 40.32, 42.50, 42.50, 47.19),
    "pci-conv4": (85.51, 87.89, 87.98, 87.20, 85.80),
    "deeploc-fc2": (90.09, 92.25, 92.44, 92.33, 92.16),
}
KS = (1, 5, 11, 25, 50)


def result(
    name: str = "pci-conv4",
    value: float = 0.5,
    *,
    weights: str | None = "lu2019-yeast",
    dataset: str = "chong2015",
    k: int = 11,
    exclude: str = "cell",
    scale: str = "all",
    limit: int | None = None,
    evaluator: str = "loo-knn",
    sha256: str = "ab",
    started: str = "2026-01-01",
    interval: tuple[float, float] | None = (0.4, 0.6),
    **details: Any,
) -> Result:
    """Return a made-up result with its printed value, as the runner would give it."""
    made = make_result(
        dataset={"name": dataset, "sha256": sha256, "n_cells": 100, "limit": limit, "classes": {"a": 40, "b": 60}},
        features={"name": name, "weights": weights},
        evaluator={"name": evaluator, "params": {"k": k, "exclude": exclude, "scale": scale}},
        metrics={"balanced_accuracy": value},
        intervals={} if interval is None else {"balanced_accuracy": interval},
        details={"interval": "bootstrap of predictions over cells within class, 1000", **details},
        run={"started": started},
    )
    made.paper = printed_value(made)
    return made


def declared(**changes: Any) -> TableDeclaration:
    given = {
        "name": "small",
        "title": "Small",
        "source": "Nobody 2020, Table 9",
        "benchmark": "yeast-knn",
        "dataset": "chong2015",
        "evaluator": "loo-knn",
        "metric": "balanced_accuracy",
        "columns": [Column(header="k = 11", params={"k": 11, "scale": "all"})],
        "rows": ["pci-conv3", "pci-conv4", "unheard-of"],
        **changes,
    }
    return TableDeclaration(**given)


# ---- printed values


def test_every_printed_value_is_the_papers():
    table1, several = TABLES.get("table1"), TABLES.get("supplementary-table1")
    assert table1.printed == {f"pci-conv{n}@lu2019-yeast": [v] for n, v in TABLE_1.items()}
    assert {name.partition("@")[0]: tuple(v) for name, v in several.printed.items()} == SUPPLEMENTARY_TABLE_1
    assert [c.params["k"] for c in table1.columns] == [11]
    assert [c.params["k"] for c in several.columns] == list(KS)
    assert [c.header for c in several.columns] == [f"k = {k}" for k in KS]
    for table in (table1, several):
        assert (table.dataset, table.evaluator, table.metric) == ("chong2015", "loo-knn", "balanced_accuracy")
        assert all(c.params["scale"] == "all" for c in table.columns)
        assert [n.partition("@")[0] for n in table.printed] == table.rows
        for name in table.printed:  # whatever has weights is printed for named ones only
            assert "@" in name or name in ("designed", "cellprofiler-chong2015")


def test_the_slips_of_the_paper_are_told_with_the_table():
    notes = " ".join(TABLES.get("supplementary-table1").notes)
    for number in ("42.50", "47.19", "92.44", "92.39"):
        assert number in notes


@pytest.mark.parametrize("k", KS)
def test_a_result_with_everything_as_in_the_paper_stands_beside_the_printed_value(k):
    paper = result(k=k).paper
    assert paper.value == SUPPLEMENTARY_TABLE_1["pci-conv4"][KS.index(k)]
    assert paper.table.startswith("Lu et al. 2019, ")


@pytest.mark.parametrize(
    "departure",
    [
        {"dataset": "toy-yeast"},
        {"dataset": "chong2015:drop"},
        {"dataset": "yeast-sim"},
        {"weights": "yeast-sim"},
        {"weights": "lu2019-human"},
        {"weights": None},
        {"name": "pci-random-conv4", "weights": None},
        {"name": "marker-only"},
        {"exclude": "field"},
        {"exclude": "image"},
        {"limit": 1000},
        {"k": 3},
        {"scale": "none"},
        {"evaluator": "logistic-regression"},
    ],
    ids=lambda d: "-".join(f"{k}={v}" for k, v in d.items()),
)
def test_one_departure_from_the_paper_and_no_printed_value_appears(departure):
    assert result(**departure).paper is None
    mine = result(**departure)
    table = fill(TABLES.get("supplementary-table1"), [mine], {}, mine.dataset.name)
    assert not table.has_paper
    for form in ("md", "csv", "tex"):
        assert "87.98" not in render(table, form)
    assert any("None of these numbers is a reproduction" in note for note in table.notes)


def test_the_printed_value_stands_in_its_own_column_beside_cell_only():
    results = [result(value=0.875), result("intensity", 0.2, weights=None), result(value=0.7, exclude="image")]
    table = fill(TABLES.get("table1"), results, {}, "chong2015")
    lines = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:-1]]
        for line in render(table, "md").split("###")[0].splitlines()
        if line.startswith("|")
    }
    assert lines["feature set"] == ["k = 11", PRINTED, "k = 11, other images only"]
    assert lines["pci-conv4@lu2019-yeast"] == ["87.5 [40.0, 60.0]", "87.98 (-0.48)", "70.0 [40.0, 60.0]"]
    assert lines["intensity"] == ["20.0 [40.0, 60.0]", "", "–"]
    (row,) = [r for r in csv.DictReader(io.StringIO(render(table, "csv"))) if r["feature set"].startswith("pci-conv4")]
    assert row["k = 11 ours minus paper"] == "-0.48"
    assert (row["k = 11"], row["k = 11 low"], row["k = 11 high"], row["k = 11 paper"]) == (
        "87.5",
        "40.0",
        "60.0",
        "87.98",
    )
    assert any("'Paper': as printed in Lu et al. 2019, Table 1" in note for note in table.notes)
    assert not any("None of these numbers" in note for note in table.notes)


# ---- rows


def test_rows_are_the_declarations_then_others_each_with_its_weights():
    results = [result("intensity", weights=None), result("pci-conv4", weights="b"), result("pci-conv4", weights="a")]
    table = fill(declared(rows=["pci-conv3", "pci-conv4", "designed"]), results, {"designed": "no reason"}, "chong2015")
    assert [name for name, _ in table.rows] == ["pci-conv3", "pci-conv4@b", "pci-conv4@a", "designed", "intensity"]
    assert "--features" in dict(table.rows)["pci-conv3"]
    assert dict(table.rows)["designed"] == "no reason"


def test_what_was_not_run_says_why_by_number_and_a_shared_reason_once():
    not_run = {"pci-conv3@x": "get the weights", "pci-conv4@x": "get the weights", "mine": "mend it | please"}
    table = fill(declared(), [result("intensity", weights=None)], not_run, "chong2015")
    text = render(table, "md")
    assert re.search(r"\| pci-conv3@x +\| not run \(1\)", text)
    assert re.search(r"\| pci-conv4@x +\| not run \(1\)", text)
    assert re.search(r"\| unheard-of +\| not run \(2\)", text)
    assert re.search(r"\| mine +\| not run \(3\)", text)
    assert text.count("get the weights") == 1
    assert "- (1) Not run: get the weights.\n" in text
    assert "- (2) Not run: no installed plug-in provides it.\n" in text
    rows = {r["feature set"]: r for r in csv.DictReader(io.StringIO(render(table, "csv")))}
    assert rows["pci-conv4@x"]["not run"] == "get the weights"
    assert rows["mine"]["not run"] == "mend it | please"
    assert rows["mine"]["k = 11"] == ""
    assert rows["intensity"]["not run"] == ""


def test_a_table_without_any_result_can_be_written():
    table = fill(declared(), [], {}, "toy-yeast")
    for form in ("md", "csv", "tex"):
        assert "pci-conv4" in render(table, form)
    assert terminal([table], 80)


def test_results_of_another_dataset_evaluator_or_parameter_stay_out():
    mismatched = [result(dataset="toy-yeast"), result(evaluator="umap"), result(k=7), result(scale="none")]
    table = fill(declared(rows=["pci-conv4"]), mismatched, {}, "chong2015")
    assert [entries for _, entries in table.rows] == [[None]]  # k = 7 and unscaled are chong2015's, but fit no column


def test_a_subset_is_named_and_never_mixed_with_all_cells():
    old = [result("noise", weights=None), result("intensity", weights=None)]
    new = result("intensity", 0.25, weights=None, limit=50, sha256="cd", started="2026-01-02")
    table = fill(declared(rows=["intensity"]), [*old, new], {}, "chong2015")
    assert [(name, entries[0].value) for name, entries in table.rows] == [("intensity", 25.0)]
    assert any("a stratified subset (--limit 50)" in note for note in table.notes)
    assert any(note.startswith("Left out") and "noise" in note for note in table.notes)


def test_notes_say_what_a_reader_must_know():
    results = [result(), result(exclude="image", unreachable_classes=["b"])]
    notes = fill(declared(), results, {}, "chong2015").notes
    assert notes[0] == "Balanced accuracy in percent; 100 cells, 2 classes, chance 50.0."
    assert any("95 % interval, bootstrap of predictions over cells within class, 1000" in n for n in notes)
    assert any(n.startswith("'Other images only'") for n in notes)
    assert any("No cell of b has a possible neighbour" in n for n in notes)


@pytest.mark.parametrize(
    ("stored", "declaration", "text"),
    [
        ({"unit": "number"}, {}, "0.500 [0.400, 0.600]"),
        ({"unit": "number", "decimals": 2}, {}, "0.50 [0.40, 0.60]"),
        ({"unit": "count"}, {}, "0 [0, 1]"),
        ({"unit": "percent"}, {}, "50.0 [40.0, 60.0]"),
        ({"unit": "percent"}, {"decimals": 2}, "50.00 [40.00, 60.00]"),
        ({"unit": "number"}, {"unit": "percent"}, "50.0 [40.0, 60.0]"),
        ({"unit": "percent"}, {"unit": "number", "decimals": 4}, "0.5000 [0.4000, 0.6000]"),
    ],
)
def test_a_number_is_printed_as_the_table_says_and_else_as_its_evaluator_did(stored, declaration, text):
    made = result(weights=None)
    made.evaluator.metrics = {"balanced_accuracy": MetricRecord(**stored)}
    table = fill(declared(rows=["pci-conv4"], **declaration), [made], {}, "chong2015")
    assert table.rows[0][1][0].text() == text
    assert table.notes[0].startswith("Balanced accuracy in percent;") == text.startswith("50")


# ---- formats

NASTY = 'folder:a|b_50%&$x#{y}~^\\z,"q"'


@pytest.fixture
def nasty():
    results = [result(NASTY, weights=None, dataset="toy"), result(NASTY, weights=None, dataset="toy", exclude="a_b|c")]
    return fill(declared(title="Ä_title & more", rows=[NASTY, "x_y"]), results, {"x_y": "a_b & 5 % <c>"}, "toy")


def test_markdown_cells_hold_no_bare_bar(nasty):
    lines = [line for line in render(nasty, "md").splitlines() if line.startswith("|")]
    columns = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
    assert columns == {len(nasty.headers) + 3}  # name and columns, and nothing outside the first and last bar
    assert "a\\|b_50%" in lines[2]


def test_csv_gives_every_name_and_number_back(nasty):
    rows = list(csv.DictReader(io.StringIO(render(nasty, "csv"))))
    assert [r["feature set"] for r in rows] == [NASTY, "x_y"]
    assert float(rows[0]["k = 11"]) == 50.0
    assert float(rows[0]["k = 11, other a b|cs only"]) == 50.0
    assert rows[1]["not run"] == "a_b & 5 % <c>"


def unescaped(text: str) -> str:
    """Return what LaTeX would set, for the commands that tables use; fails on any special character left bare."""
    commands = {
        "textbackslash{}": "\\",
        "textasciitilde{}": "~",
        "textasciicircum{}": "^",
        "textless{}": "<",
        "textgreater{}": ">",
        "textbar{}": "|",
    }
    out, rest = "", text
    while rest:
        if rest[0] == "\\":
            for command, character in commands.items():
                if rest[1:].startswith(command):
                    out, rest = out + character, rest[1 + len(command) :]
                    break
            else:
                assert rest[1] in "&%$#_{}", rest
                out, rest = out + rest[1], rest[2:]
        else:
            assert rest[0] not in "&%$#_{}~^", rest
            out, rest = out + rest[0], rest[1:]
    return out


def test_latex_sets_every_name_as_it_is(nasty):
    text = render(nasty, "tex")
    body = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    rows = [line.removesuffix(" \\\\") for line in body.strip().splitlines()]
    assert [unescaped(re.split(r"(?<!\\)&", row)[0].strip()) for row in rows] == [NASTY, "x_y"]
    assert {len(re.split(r"(?<!\\) & ", row)) for row in rows} == {len(nasty.headers) + 1}
    caption = re.search(r"\\caption\{(.*)\}\n", text)[1]
    assert "a_b & 5 % <c>" in unescaped(caption)
    assert "Ä_title & more" in unescaped(caption)


def test_another_format_is_a_sentence():
    with pytest.raises(UserError, match=r"There is no table format 'html'. Use md, csv or tex."):
        render(fill(declared(), [], {}, "toy"), "html")


@pytest.mark.parametrize("width", [60, 80, 110, 200])
def test_a_terminal_of_any_width_shows_whole_names_and_numbers(width):
    results = [
        result(name, value, weights=weights, k=k, exclude=x)
        for name, value, weights in (("pci-conv4", 0.875, "lu2019-yeast"), ("intensity", 0.25, None))
        for k in KS
        for x in ("cell", "image")
    ]
    console = Console(width=width, file=io.StringIO(), color_system=None)
    for part in terminal(
        [fill(TABLES.get(t), results, {}, "chong2015") for t in ("table1", "supplementary-table1")], width
    ):
        console.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))
    text = console.file.getvalue()
    assert "…" not in text
    blocks = text.partition("Supplementary Table 1:")[2]
    assert blocks.count("Compared with ") == 2
    for block in blocks.split("Compared with ")[1:]:
        assert re.search(r"\ndesigned +not run", block)  # in each of them
        rows = re.findall(r"\nintensity (.*)", block)  # one, or several where columns go on below
        assert " ".join(rows).split() == ["25.0"] * len(KS)
    if width >= 200:
        assert text.count("[40.0, 60.0]") == 2 * 2 * (1 + len(KS))
        assert "87.98" in text


# ---- several seeds


def test_rows_that_differ_in_the_seed_of_their_weights_are_one_with_mean_and_sd():
    values = {"seed0": 0.30, "seed1": 0.34, "seed2": 0.35}
    results = [result("pci-random-conv4", v, weights=w, dataset="yeast-sim") for w, v in values.items()]
    trained = {"yeast-sim-seed0": 0.5, "yeast-sim-seed1": 0.6}
    results += [result(value=v, weights=w, dataset="yeast-sim") for w, v in trained.items()]
    results += [result("intensity", 0.2, weights=None, dataset="yeast-sim")]
    table = fill(TABLES.get("table1"), results, {}, "yeast-sim")
    rows = {name: entries for name, entries in table.rows if not isinstance(entries, str)}
    assert list(rows) == ["pci-conv4@yeast-sim (2 seeds)", "pci-random-conv4 (3 seeds)", "intensity"]
    (entry,) = rows["pci-random-conv4 (3 seeds)"]
    numbers = [100 * v for v in values.values()]
    assert entry.value == pytest.approx(np.mean(numbers))
    assert entry.sd == pytest.approx(np.std(numbers, ddof=1))
    assert entry.interval is None
    text = render(table, "md")
    assert "| 33.0 ± 2.6 " in text
    assert "| 55.0 ± 7.1 " in text
    assert "standard deviation over seeds" in text
    written = pd.read_csv(io.StringIO(render(table, "csv"))).set_index("feature set")
    assert written.loc["pci-random-conv4 (3 seeds)", "k = 11 SD"] == pytest.approx(np.std(numbers, ddof=1), abs=1e-4)
    assert "33.0 ± 2.6" in render(table, "tex")


def test_one_seed_alone_keeps_its_name_and_interval_and_figures_draw_the_first_of_several():
    from pci_bench.reporting.figures.base import first_of_seeds, provenance_of

    seeds = [result("pci-random-conv4", 0.3, weights=f"seed{i}", dataset="yeast-sim") for i in range(3)]
    table = fill(TABLES.get("table1"), seeds[1:2], {}, "yeast-sim")
    (row,) = [r for r in table.rows if not isinstance(r[1], str)]
    assert (row[0], row[1][0].interval) == ("pci-random-conv4@seed1", (40.0, 60.0))
    assert "standard deviation" not in render(table, "md")
    others = [result("intensity", weights=None, dataset="yeast-sim")]
    assert first_of_seeds([*seeds, *others]) == [seeds[0], *others]
    assert "Trained weights: none. Networks named random are untrained. Of several seeds the first is drawn." in (
        provenance_of(seeds[:1])
    )


# ---- tables of plug-ins


@pytest.fixture
def folder_of_a_plug_in(tmp_path, own_registries):
    """A folder of results of a benchmark with two tables of a plug-in, one of which fails after two texts."""
    (tmp_path / "mine.toml").write_text(
        '[mine]\ntitle = "Mine"\ndatasets = ["painted"]\nfeatures = ["intensity"]\nevaluate = [{ name = "loo-knn", k = 11 }]\n'
        'tables = ["failing", "values"]\n'
    )
    (tmp_path / "plugin.py").write_text(
        "from pci_bench import register_table\n"
        "what = dict(title='Mine', benchmark='mine', evaluator='loo-knn', rows='results', columns=['feature set', 'value'])\n"
        "@register_table('values', **what)\n"
        "def values(results):\n"
        "    lines = [f\"{r.features.name},{r.metrics['balanced_accuracy']}\" for r in results]\n"
        "    yield 'values', {'csv': '\\n'.join(['feature set,value', *lines])}\n"
        "@register_table('failing', **what)\n"
        "def failing(results):\n"
        "    yield 'whole', {'csv': 'a\\n1'}\n"
        "    yield 'words', {'md': 'No row.'}\n"
        "    raise RuntimeError('one word')\n"
    )
    load_plugin(tmp_path / "plugin.py")
    benchmark_of(tmp_path / "mine.toml")
    made = [result("pci-conv4", 0.123456789), result("intensity", 0.25, weights=None), result(evaluator="umap")]
    for one in made:
        one.benchmark = "mine"
    write_results(made, tmp_path / "run")
    return tmp_path / "run"


def test_a_plug_ins_table_is_printed_in_the_formats_that_it_has(folder_of_a_plug_in, capsys, monkeypatch):
    said = call(capsys, monkeypatch, "table", "values", "--results", folder_of_a_plug_in, "--format", "csv")
    lines = {"feature set,value", "pci-conv4,0.123456789", "intensity,0.25"}
    assert (said.code, set(said.out.split("\n")) - {""}) == (0, lines)
    refused(call(capsys, monkeypatch, "table", "values", "--results", folder_of_a_plug_in), "no format 'md'", "csv")
    assert "pci-bench run mine" in call(capsys, monkeypatch, "describe", "values").out


def test_a_report_shows_the_csv_of_a_plug_ins_table_and_why_another_failed(folder_of_a_plug_in):
    page = Page(write_report(folder_of_a_plug_in).read_text(encoding="utf-8"))
    table = next(t for t in page.tables if t[0] == ["feature set", "value"])
    assert sorted(table[1:]) == [["intensity", "0.25"], ["pci-conv4", "0.1235"]]
    assert 'data-value="0.123456789"' in page.html
    assert [["a"], ["1"]] in page.tables
    assert "Written to the folder tables as words" in page.text
    assert "The table failing failed on 3 results: RuntimeError: one word" in page.text


def test_a_plug_ins_tables_are_filled_although_one_fails(folder_of_a_plug_in):
    filled, failed = fill_tables([TABLES.get("failing"), TABLES.get("values")], read_results(folder_of_a_plug_in), {})
    assert [t.file_name(several=True) for t in filled] == ["whole", "words", "values"]
    assert [f.evaluator for f in failed] == ["table failing"]


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("11", "11", 11),
        ("2019", "2019", 2019),
        ("123456", "123456", 123456),
        ("-0.25", "-0.25", -0.25),
        ("0.00001234567", "1.235e-05", 0.00001234567),
        ("2.63e-24", "2.63e-24", 2.63e-24),
        ("303/706", "303/706", 303),
        ("1 of 5", "1 of 5", 1),
        ("1e999", "1e999", None),
        ("26S proteasome", "26S proteasome", None),
        ("14-3-3", "14-3-3", None),
        ("", "", None),
    ],
)
def test_a_text_sorts_by_the_number_that_it_is(text, read, value):
    assert Cell.of(text) == Cell(read, value)


# ---- what others published

# Typed again from the design's SCIENCE.md, section 5.
PUBLISHED = {53.06, 68.47, 65.19, 77.97, 75.94}


@pytest.mark.parametrize("name", ["table1", "supplementary-table1"])
@pytest.mark.parametrize("dataset", ["chong2015", "chong2015:drop", "chong2015:images"])
def test_what_others_published_stands_below_ours_in_every_format(name, dataset):
    table = fill(TABLES.get(name), [result(dataset=dataset)], {}, dataset)
    ours, others = render(table, "md").split("### Published by others on these cells, not computed here")
    assert not any(f"{value:.2f}" in ours for value in PUBLISHED)
    assert {
        float(line.split("|")[2]) for line in others.splitlines() if line.startswith("| ") and "cells" not in line
    } == PUBLISHED
    assert "not the mean over classes" in others
    first, second = table.page_tables()
    assert not PUBLISHED & {cell.value for row in first.rows for cell in row}
    assert {row[1].value for row in second.rows} == PUBLISHED
    assert {row[2].value for row in second.rows} == {27_058}
    assert render(table, "tex").count(r"\begin{table}") == 2
    shown = "\n".join(item for item in terminal([table], 100) if isinstance(item, str))
    assert "Published by others" in shown


def test_in_a_csv_no_number_of_others_stands_in_a_column_of_ours():
    table = fill(TABLES.get("supplementary-table1"), [result(value=0.875)], {}, "chong2015")
    frame = pd.read_csv(io.StringIO(render(table, "csv")))
    others = frame[frame["published by"].notna()]
    assert set(others["published value"]) == PUBLISHED
    ours = [column for column in frame if column.startswith(("feature set", "k = "))]
    assert others[ours].isna().all(axis=None)
    assert frame[frame["published by"].isna()]["published value"].isna().all()
    assert others["published on cells"].eq(27_058).all()
    assert others["source"].str.startswith("https://").all()


@pytest.mark.parametrize(
    ("name", "results", "dataset"),
    [
        ("table1", [result(dataset="yeast-sim")], "yeast-sim"),
        ("table1", [], "chong2015"),
        ("supplementary-table2", [result(evaluator="logistic-regression")], "chong2015"),
    ],
    ids=["simulated cells", "no result", "another evaluator"],
)
def test_what_others_published_stands_beside_nothing_else(name, results, dataset):
    table = fill(TABLES.get(name), results, {}, dataset)
    assert table.published == []
    assert "Published by" not in render(table, "md")


def test_what_others_published_is_once_on_a_page_and_in_no_result(tmp_path):
    benchmark = "yeast-knn"
    results = [result(k=k).model_copy(update={"benchmark": benchmark}) for k in KS]
    titles = [table.title for table in paper_tables(results, {})]
    assert titles.count("Published by others on these cells, not computed here") == 1
    assert not any(r.features.name.startswith(("EfficientNet", "Microsnoop")) for r in results)
