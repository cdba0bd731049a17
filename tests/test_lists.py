"""`list`, `data list`, `weights list` and `describe`: what a person sees of them at the width of a terminal."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from command_line import SCRIPT, call, environment
from factories import make_result

import pci_bench
from pci_bench.acquisition.inventory import declared_counts
from pci_bench.api.dataset import DATASETS
from pci_bench.cli import terminal
from pci_bench.cli.columns import brief, briefs, scan_lines, wrapped_lines
from pci_bench.datasets import yeast_sim
from pci_bench.runs.results import write_result

LISTS = [("list",), ("list", "--all"), ("data", "list"), ("weights", "list"), ("list", "tables"), ("list", "features")]
SENTENCES = re.compile(r"More: |A dataset whose |`pci-bench |\d\S* \S+ of datasets are ")  # which the terminal wraps


@pytest.fixture
def said(capsys, monkeypatch, tmp_path):
    """Run a command on a terminal of so many columns."""
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("PCI_BENCH_DATA", raising=False)

    def said(*arguments, columns=80):
        monkeypatch.setattr(terminal.out, "_width", columns)
        ended = call(capsys, monkeypatch, *arguments)
        assert ended.code == 0, ended.err
        return ended.out

    return said


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("arguments", LISTS, ids=" ".join)
def test_every_line_of_a_list_fits_the_terminal(said, arguments, columns):
    for line in said(*arguments, columns=columns).splitlines():
        assert len(line) <= columns or SENTENCES.match(line), line


def rows(text: str) -> dict[str, str]:
    return {line.split()[0]: line for line in text.splitlines() if line.strip()}


def test_a_dataset_is_a_line_with_what_it_is_its_cells_classes_and_state(said):
    listed = rows(said("list", "datasets"))
    assert listed["yeast-sim"].split() == ["yeast-sim", "Simulated", "yeast", "2,563", "17", "on", "first", "use"]
    assert listed["rxrx1-organelles"].split()[-6:] == ["2,477", "5", "7.0", "MB", "to", "fetch"]
    assert listed["nop1pr-orf"].endswith("by hand")
    assert "1.73 M" in listed["nup49-orf"]


def test_numbered_outputs_are_folded_to_one_line_and_unfolded_when_asked(said):
    folded = said("list", "features")
    assert re.search(r"^pci-conv1…5  +Paired cell inpainting  +here$", folded, re.MULTILINE)
    assert "vgg16-rgb" not in folded
    unfolded = rows(said("list", "features", "--all", columns=120))
    assert {"pci-conv1", "pci-conv5", "vgg16-rgb-block5_conv3"} <= set(unfolded)
    assert said("describe", "pci-conv1…5").startswith("features pci-conv1\n")


def test_a_list_without_a_kind_shows_what_a_run_is_made_of_and_how_to_see_the_rest(said):
    text = said("list")
    assert 2 * text.count("\n") < said("list", "--all").count("\n")
    assert re.search(r"More: \d+ tables, \d+ models, .*`pci-bench list KIND`", text)


def test_an_address_is_never_broken(said):
    for name in ("hpa-v18", "chong2015", "rxrx1-organelles"):
        whole = said("describe", name, columns=400)
        for address in re.findall(r"https?://\S+", whole):
            assert address in said("describe", name, columns=80), address


def test_a_sentence_is_cut_between_clauses_or_words_alone():
    sentence = "Distances between images, within and between cell lines (Table 2), of human cells"
    for width in range(10, 90):
        cut = brief(sentence, width)
        assert len(cut) <= max(width, len("Distances…"))
        assert sentence.startswith(cut.removesuffix("…"))
        assert re.match(r"$|\W", sentence[len(cut.removesuffix("…")) :])
        assert cut.count("(") == cut.count(")") or cut.endswith("…")


def test_benchmarks_and_feature_sets_are_told_apart_by_what_stands_beside_their_names_at_80_columns(said):
    for kind in ("benchmarks", "features"):
        what = [
            re.split("  +", line)[1]
            for line in rows(said("list", kind).partition("\nGroups")[0]).values()
            if "  " in line
        ]
        doubled = {text for text in what if what.count(text) > 1}
        assert not doubled, doubled


def test_where_brief_texts_would_be_alike_the_words_that_differ_are_shown_if_they_tell_all_apart():
    distances = "Distances between images of the same and of other"
    titles = [
        f"{distances} localizations, human cells (Figure 2B)",
        f"{distances} organelles",
        f"{distances} labels",
        "Noise",
    ]
    for width in range(24, 110):
        shown = briefs(titles, width)
        assert max(map(len, shown)) <= width
        assert len(set(shown)) in (2, 4)  # all of the three, or none
        assert shown[3] == "Noise"
    assert len(set(briefs(titles, 40))) == 4
    assert briefs(["the same text", "the same text"], 10) == ["the same…"] * 2


def test_wrapped_columns_hold_every_word_whole_and_fit_unless_a_word_does_not():
    words = ["a", "longer", "https://example.org/a/very/long/path/that/cannot/be/broken", "生物学" * 3, "end"] * 3
    lines = [line.plain for line in wrapped_lines([("name", " ".join(words)), ("other name", "x\n\ny")], 40)]
    assert [w for line in lines[: lines.index("other name  x")] for w in line.split()] == ["name", *words]
    assert lines[-3:] == ["other name  x", "", "            y"]
    assert all(len(line) <= 40 or "https" in line for line in lines)


def test_numbers_end_at_one_place_and_control_characters_are_written_out():
    header, *lines = (line.plain for line in scan_lines(("name", "cells"), [("a\x1b[2J", "5"), ("b", "1,642")], 80))
    assert len({len(line) for line in (header, *lines)}) == 1
    assert "\x1b" not in "".join(lines)


def test_declared_counts_are_those_of_the_cells(test_data, monkeypatch, tmp_path):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PCI_BENCH_DATA", str(test_data))
    for name in ("toy-human", "bbbc021", "yeast-proteome"):
        if (test_data / name).is_dir():
            cells = pci_bench.load_dataset(name)
            assert declared_counts(cells.meta) == {"cells": len(cells), "classes": cells.obs["label"].nunique()}
    for name in ("yeast-sim", "yeast-sim-train"):
        plan = yeast_sim.plan(name)
        expected = {"cells": sum(i.cells for i in plan), "classes": len({i.label for i in plan})}
        assert declared_counts(DATASETS.get(name).meta) == expected


def on_a_terminal(arguments: tuple[str, ...], folder: Path, **variables: str) -> str:
    """Return what a command writes on a terminal."""
    pty = pytest.importorskip("pty")
    process, terminal_file = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execve(SCRIPT, ["pci-bench", *arguments], environment(folder, TERM="xterm-256color", **variables))
    written = b""
    while True:
        try:
            part = os.read(terminal_file, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    return written.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
def test_colour_is_for_terminals_and_only_where_it_is_wanted(said, tmp_path, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = re.compile(r"\x1b\[(\d+;)*3\d")
    command = ("weights", "list")
    assert coloured.search(on_a_terminal(command, tmp_path))
    assert not coloured.search(on_a_terminal((*command, "--no-color"), tmp_path))
    assert not coloured.search(on_a_terminal(command, tmp_path, NO_COLOR="1"))
    assert "\x1b" not in said(*command)


def test_commands_are_listed_under_headings_and_none_outside_of_them(capsys, monkeypatch):
    ended = call(capsys, monkeypatch, "--help")
    assert ended.code == 0
    headings = re.findall(r"─ ([^─]+) ─", ended.out)
    assert headings == [
        "Options",
        "Begin here",
        "Parts of a run",
        "Look at results",
        "Keep what works",
        "Data, weights, machine",
    ]


def test_files_of_the_names_of_shipped_weights_are_one_note(said, tmp_path):
    from pci_bench import weights

    own = [weights.file_of("pci", name) for name in ("yeast-sim", "human-sim")]
    for file in own:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(weights.shipped("pci", file.stem.partition("@")[2]).read_bytes())
    notes = [line for line in said("weights", "list").splitlines() if line.startswith("Note: ")]
    assert notes == [f"Note: files of the names of shipped weights are not used: {own[0]}, {own[1]}."]


def test_a_ranking_at_80_columns_wraps_headings_and_no_name(said, tmp_path):
    for name, value in (("contrastive-embedding@trained-on-a-screen", 0.9), ("noise", 0.2)):
        one = make_result(
            features={"name": name}, metrics={"balanced_accuracy": value}, intervals={"balanced_accuracy": (0.1, 0.95)}
        )
        write_result(one, tmp_path / "run" / "results" / "planted" / f"{name}.json")
    lines = said("leaderboard", str(tmp_path / "run")).splitlines()
    assert [line.split()[-1 if "@" in line else 1] for line in lines if "contrastive" in line or "@" in line] == [
        "contrastive-embedding",
        "@trained-on-a-screen",
    ]
    assert max(map(len, lines[:-1])) <= 80
