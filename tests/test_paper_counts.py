"""What the paper counts of its datasets stands beside what a user loads."""

import re
import tomllib
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
import tifffile
from command_line import call

from pci_bench import load_dataset
from pci_bench.data.counts import beside_the_papers, counts
from pci_bench.datasets import DATASETS

SCREENS = {"cyclops-wt2": ("gfp", "rfp"), "nop1pr-orf": ("gfp", "bf"), "nup49-orf": ("gfp", "rfp"), "hpa-v18": None}


def write_screen(root, suffixes, sizes):
    """Crops of one protein for each image, with so many cells."""
    rng = np.random.default_rng(0)
    for image, size in sizes.items():
        (root / image).mkdir(parents=True)
        for cell in range(size):
            for suffix in suffixes:
                tifffile.imwrite(root / image / f"{cell}_{suffix}.tif", rng.random((16, 16), dtype=np.float32))
    table = pd.DataFrame({"image": list(sizes), "protein": [f"P{i // 2}" for i in range(len(sizes))]})
    table.to_csv(root / "images.csv", index=False)


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_says_what_was_found_beside_what_the_paper_counts(screen, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    fewest = 5 if screen == "hpa-v18" else 30
    suffixes = SCREENS[screen] or ("green", "blue", "red")
    sizes = {"a": fewest, "b": fewest - 1, "c": 2}
    write_screen(tmp_path / "data" / screen, suffixes, sizes)
    paper = DATASETS.get(screen).meta.paper
    n = sum(sizes.values())
    sentence = (
        f"'{screen}' has {n} cells (the paper: {paper['cells']:,}), 3 images (the paper: {paper['images']:,}), "
        f"2 proteins (the paper: {paper['proteins']:,})."
    )
    small = f"2 images have fewer than {fewest} cells; the paper leaves such out."
    assert load_dataset(screen).notes == (f"{sentence} {small}",)
    said = call(capsys, monkeypatch, "data", "verify", screen)
    assert said.code == 0
    assert sentence in " ".join(said.out.split())
    said = call(capsys, monkeypatch, "describe", screen)
    assert f"{paper['cells']:,} cells" in " ".join(said.out.split())


def test_a_dataset_of_ours_has_no_such_sentence():
    assert (
        beside_the_papers("x", pd.DataFrame({"cell": ["a"], "image": ["i"]}), DATASETS.get("toy-yeast").meta.paper)
        == ""
    )


def test_missing_values_are_not_counted():
    obs = pd.DataFrame(
        {"cell": list("abcd"), "image": ["i", "i", "j", None], "label": pd.Categorical(["X", "", None, "Y"])}
    )
    assert counts(obs) == {"cells": 4, "images": 2, "proteins": 0, "classes": 2}


def test_declared_counts_agree_with_each_other():
    """Filters only remove; the files of Figure 1B are fields of the wells, for yeast in two channels."""
    declared = tomllib.loads(files("pci_bench.datasets").joinpath("screens.toml").read_text())
    fields = {"cyclops-wt2": 4, "nop1pr-orf": 3, "nup49-orf": 3}
    for name, screen in declared.items():
        paper, unfiltered = screen["paper"], screen["unfiltered"]
        assert paper["proteins"] < unfiltered["proteins"]
        assert paper["cells"] >= paper["images"] * screen["fewest_cells"]
        assert {f"{n:,}" for n in (paper["cells"], paper["proteins"])} <= set(re.findall(r"[\d,]+\d", screen["title"]))
        if name in fields:
            assert paper["images"] == paper["proteins"]
            assert unfiltered["files"] == 2 * fields[name] * unfiltered["proteins"]
    assert declared["hpa-v18"]["unfiltered"]["images"] > declared["hpa-v18"]["paper"]["images"]
