"""Foreign text in every place where it is written: shown as it is, and never obeyed."""

from __future__ import annotations

import io
import json
import re
import warnings
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_figures as planted
from faults import FEW, RUN, Fault, with_crops
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from test_foreign_files import folder_of, result

from pci_bench.api.registry import natural_key
from pci_bench.reporting import comparison as comparison_text
from pci_bench.reporting.figures import FIGURES
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reporting.tables.fill import fill
from pci_bench.reporting.tables.render import render
from pci_bench.runs import comparison, leaderboard
from pci_bench.runs.results import read_results
from pci_bench.system import text
from pci_bench.system.drawing import save

BAD = "\x1b[2J"
HOSTILE = {
    "mathematics": "$x^$",
    "a single dollar": "5 $",
    "LaTeX": r"&%$#_{}~^\end{document}",
    "a cell of Markdown": "a|b\nc",
    "an image in HTML": "<img src=x onerror=alert(1)>",
    "the end of a script": "</script><script>alert(1)</script>\u2028<!--",
    "a formula": "=HYPERLINK(1)",
    "a formula after a tab": "\t=1+1",
    "control characters": f"a{BAD}\x00\x07\x9b31mb",
    "another direction": "a\u202eb",
    "rich's markup": "[red]a[/] :smile: [/nothing]",
    "a superscript digit": "10²",
    "a digit of another script": "a٣",
    "a picture in Markdown": "![x](http://example.org/x.png)",
    "many digits": "9" * 5000,
}


def hostile_folder(folder: Path, name: str) -> Path:
    """Write an output folder whose dataset, feature set, classes, metric and reasons all bear a name."""
    sound = result(dataset={"name": name, "version": name, "sha256": "0", "n_cells": 3, "classes": {name: 2, "b": 1}})
    sound["features"] |= {"name": name, "weights": name, "version": name, "precision": name}
    sound["details"]["confusion"]["labels"] = [name, "b"]
    sound["details"]["per_class"] = {name: 0.5}
    sound["details"]["interval"] = name
    sound["details"]["unreachable_classes"] = [name]
    other = json.loads(json.dumps(sound)) | {"features": sound["features"] | {"name": "raw"}}
    folder_of(folder, sound)
    (folder / "results" / "planted" / "raw" / "loo-knn" / "k=11.json").write_text(json.dumps(other), encoding="utf-8")
    reasons = [
        {"features": name, "dataset": name, "reason": name},
        {"features": "pci-conv1", "dataset": name, "reason": name},
    ]
    record = {"schema": 1, "results": [], "not_run": reasons, "notes": [name], "arguments": {"k": name}, "run": {}}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.mark.parametrize("kind", ["control characters", "another direction", "rich's markup", "many digits"])
def test_a_terminal_obeys_no_name(say, here, kind):
    hostile_folder(here / "out", HOSTILE[kind])
    hostile_folder(here / "changed", HOSTILE[kind])
    for file in (here / "changed").rglob("k=11.json"):
        file.write_text(file.read_text().replace('"balanced_accuracy": 0.5', '"balanced_accuracy": 0.1'))
    for command in (
        ("compare", "out", "changed", "--junit", "j.xml", "--all"),
        ("compare", "out", "changed", "--format", "md"),
        *(("table", "table1", "--results", "out", "--format", form) for form in ("md", "csv", "tex")),
        *(("leaderboard", "out", "--format", form) for form in ("terminal", "md", "csv")),
    ):
        said = say(*command, own=False)
        assert said.code in (0, 1), (command, said.err)
        assert not CONTROL.search(said.out + said.err), command
        assert "Traceback" not in said.err
    ET.parse(here / "j.xml")


@pytest.mark.parametrize("kind", ["control characters", "rich's markup"])
def test_an_error_is_one_line_that_a_terminal_does_not_obey(say, here, kind):
    name = HOSTILE[kind].replace("\x00", "").replace("/", "")
    said = say("table", "table1", "--results", f"{name}\nx", own=False)
    assert said.code == 2
    assert not CONTROL.search(said.err)
    assert len(said.err.splitlines()) == 1
    if kind != "control characters":
        assert name in said.err


@pytest.mark.parametrize("kind", HOSTILE)
def test_tables_hold_the_name_in_one_cell(tmp_path, kind):
    name = HOSTILE[kind]
    results = read_results(hostile_folder(tmp_path, name))
    table = fill(TABLES.get("table1"), results, {}, name)
    ranked = leaderboard.rankings(results)
    for md in (render(table, "md"), leaderboard.markdown(ranked)):
        lines = [line for line in md.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert not re.search(r"(?<!\\)<(img|script)|!\[x\]\(", md)
    for csv in (render(table, "csv"), leaderboard.csv(ranked)):
        frame = pd.read_csv(io.StringIO(csv), dtype=str, keep_default_na=False)
        assert not any(cell.startswith(("=", "+", "@", "\t")) for cell in frame.to_numpy(str).ravel())
    tex = render(table, "tex")
    assert tex.count("\\end{table}") == tex.count("\\begin{document}") + 1
    assert "\\end{document}" not in tex
    body = tex.partition("\\midrule")[2].partition("\\bottomrule")[0]
    columns = {len(re.findall(r"(?<!\\)&", line)) for line in body.strip().splitlines()}
    assert len(columns) == 1


class Elements(HTMLParser):
    """Collects the tags of a page, and the text of its data."""

    def __init__(self):
        super().__init__()
        self.tags, self.data, self.inside = [], "", False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.inside = ("id", "data") in attrs

    def handle_data(self, data):
        self.data += data if self.inside else ""

    def handle_endtag(self, tag):
        self.inside = False


@pytest.mark.parametrize("kind", ["an image in HTML", "the end of a script", "mathematics", "control characters"])
def test_a_report_has_no_element_or_script_of_a_name(tmp_path, monkeypatch, kind):
    from pci_bench.reporting.html import rendering, write_report

    monkeypatch.setattr(rendering, "plot_library", lambda: "")
    file = write_report(hostile_folder(tmp_path / "out", HOSTILE[kind]))
    found = Elements()
    found.feed(file.read_text(encoding="utf-8"))
    assert [tag for tag, _ in found.tags].count("script") == 2
    assert not any("onerror" in names for _, names in found.tags)
    (view,) = json.loads(found.data)["datasets"][0]["classes"]
    assert view["features"][0]["runs"][0]["labels"][0] == HOSTILE[kind]


# ---- figures

DRAWN = {
    "classes": lambda name: [planted.classified([name, "b"], name, exclude=e) for e in ("cell", name)],
    "layers": lambda name: [planted.classified(["a", "b"], f"net-conv{i}", weights=name) for i in range(1, 4)],
    "umap": lambda name: [planted.embedded([name, "b", "c"], dataset=name)],
    "violins": lambda name: [planted.scored(name, 3)],
    "one protein": lambda name: [planted.of_one_protein(protein=name)],
    "inpainting": lambda name: [planted.inpainted([name])],
    "clusters": lambda name: planted.proteins(3, 3, name),
}


@pytest.mark.parametrize("kind", ["mathematics", "a single dollar", "LaTeX", "control characters"])
@pytest.mark.parametrize("what", DRAWN)
def test_a_figure_shows_a_name_as_it_is(tmp_path, what, kind):
    results = DRAWN[what](HOSTILE[kind])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Glyph")
        figures = list(FIGURES.get(results[0].evaluator.name).function(results))
        for _, figure in figures:
            figure.draw_without_rendering()
    for _, figure in figures:
        for label in figure.findobj(Text):
            shown, mathematics = label._preprocess_math(label.get_text())
            assert not mathematics, label.get_text()
            assert not CONTROL.search(shown)


def test_a_figure_of_hostile_names_is_whole_as_svg(tmp_path):
    ((stem, figure), *_) = FIGURES.get("loo-knn").function(DRAWN["classes"](HOSTILE["an image in HTML"] + BAD))
    for file in save(figure, tmp_path / "figure"):
        if file.suffix == ".svg":
            ET.parse(file)
    assert "/" not in stem


FAULTS = [
    Fault(
        f"a label of {kind}",
        (*RUN, "--dataset", "folder:crops", *FEW, "--out", "out"),
        ("Results, tables and figures: out",),
        with_crops(**{"images.csv": "image,label\n" + "".join(f'w{i},"{"ab"[i % 2]}{name}"\n' for i in range(4))}),
        code=0,
        absent=(),
    )
    for kind, name in HOSTILE.items()
    if kind in ("mathematics", "a superscript digit")
]


@pytest.mark.usefixtures("with_figures")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


# ---- one function for each target


@given(st.text())
def test_no_text_breaks_its_target(name):
    assert not CONTROL.search(text.terminal(name))
    assert "\n" not in text.one_line(name)
    assert text.plot_text(text.plot_text(name)) == text.plot_text(name)
    assert not re.search(r"(?<!\\)(\\\\)*[|<]", text.markdown(name))
    assert not text.csv_cell(name).startswith(("=", "+", "-", "@", "\t", "\r"))
    ET.fromstring(f"<a>{text.xml_text(name).replace('&', '&amp;').replace('<', '&lt;')}</a>")
    assert json.loads(text.json_in_html(name)) == name
    assert json.loads(text.json_line(name)) == name
    assert "</" not in text.json_in_html(name)
    natural_key(name)


def test_data_are_never_changed_for_a_spreadsheet(tmp_path):
    from pci_bench.runs.results import Result, write_result

    table = pd.DataFrame({"term": ["=1", "-a", "+b"], "n": [1, -2, 3]})
    write_result(Result.model_validate(result()).with_tables(None, {"terms": table}), tmp_path / "k=11.json")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "k=11.terms.csv"), table)


def test_numbers_are_sorted_as_numbers_and_superscripts_are_none():
    names = ["a10", "a9", "a²", "a010", "10²", "9²", "a" + "9" * 5000]
    assert sorted(names, key=natural_key) == ["9²", "10²", "a9", "a10", "a010", "a" + "9" * 5000, "a²"]


def test_a_comparison_for_a_pull_request_lists_names_harmlessly(tmp_path):
    name = HOSTILE["an image in HTML"]
    old = read_results(hostile_folder(tmp_path / "old", name))
    new = [r.model_copy(update={"metrics": {k: np.float64(v) / 2 for k, v in r.metrics.items()}}) for r in old[:1]]
    written = comparison_text.markdown(comparison.compare(old, new))
    assert "\\<img" in written
    assert not re.search(r"(?<!\\)<img", written)
