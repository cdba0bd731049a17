"""Numbers out of bounds and lists: refused where they are parsed, by name, before anything is made."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from anndata import AnnData
from faults import RUN, Fault, with_crops, write

import pci_bench
from pci_bench import UserError
from pci_bench.runs import runner
from pci_bench.system.arguments import MAX_SEED, split_list

HUGE = str(10**30)
CROPS = (*RUN, "--dataset", "folder:crops", "--features", "intensity", "--out", "out")
EXTRACT = ("extract", "intensity", "--dataset", "folder:crops", "--out", "out.csv")
TRAIN = ("train", "pci", "--dataset", "folder:crops", "--name", "mine")
EVALUATE = ("evaluate", "f.csv", "--out", "out")
TABLE = "cell,label,a,b\n" + "".join(f"c{i},{'xy'[i % 2]},{i % 7},{i * i % 11}\n" for i in range(30))


def with_table(folder):
    return write(folder, {"f.csv": TABLE})


def bounds(
    command: str, arguments: tuple[object, ...], option: str, values: tuple[str, ...], words: str
) -> list[Fault]:
    """Return a fault for each value of an option."""
    return [
        Fault(
            f"{command} {option} {value}", (*arguments, option, value), (words,), with_crops(), absent=("out", "cache")
        )
        for value in values
    ]


def parameter(evaluator: str, *settings: str) -> list[Fault]:
    """Return a fault for each setting of an evaluator's parameter."""
    return [
        Fault(
            f"{evaluator} {setting}",
            (*EVALUATE, "--with", evaluator, "--set", setting),
            (f"{setting.partition('=')[0]} = ", f"does not fit {evaluator}"),
            with_table,
        )
        for setting in settings
    ]


FAULTS = [
    *bounds("run", CROPS, "--limit", ("-3", "1", HUGE), "The limit is"),
    *bounds("extract", EXTRACT, "--limit", ("-3", "1", HUGE), "The limit is"),
    *bounds("train", TRAIN, "--limit", ("-3", "1", HUGE), "The limit is"),
    *bounds("run", CROPS, "--workers", ("0", HUGE), "The number of workers is"),
    *bounds("extract", EXTRACT, "--workers", ("0", HUGE), "The number of workers is"),
    *bounds("run", CROPS, "--batch", ("0", "-1", "4097"), "The batch is"),
    *bounds("extract", EXTRACT, "--batch", ("0", "-1", "4097"), "The batch is"),
    *bounds("run", CROPS, "--precision", ("float16", ""), "There is no precision"),
    *bounds("extract", EXTRACT, "--precision", ("float16", ""), "There is no precision"),
    *bounds("gate", ("gate",), "--workers", ("0", HUGE), "The number of workers is"),
    *bounds("train", TRAIN, "--epochs", ("0", HUGE), "--epochs"),
    *bounds("train", TRAIN, "--batch", ("0", HUGE), "--batch"),
    *bounds("train", TRAIN, "--width", ("0", "nan", "inf", "5"), "--width"),
    *bounds("train", TRAIN, "--learning-rate", ("0", "nan", "inf", "1e30"), "--learning-rate"),
    *bounds("train", TRAIN, "--beta1", ("1", "-0.1", "nan"), "--beta1"),
    *bounds("train", TRAIN, "--beta2", ("1", "-0.1", "nan"), "--beta2"),
    *bounds("train", TRAIN, "--epsilon", ("0", "nan", "inf", "2"), "--epsilon"),
    *bounds("train", TRAIN, "--held-out", ("1", "-0.1", "nan"), "--held-out"),
    *parameter("loo-knn", f"k={HUGE}", "k=nan", "k=1.5"),
    *parameter("random-forest", f"trees={HUGE}", "max_features=nan", "folds=1", f"folds={HUGE}"),
    *parameter("logistic-regression", "c=inf", "c=nan", "c=1e300", "c=0"),
    *parameter("umap", "min_dist=nan", f"neighbours={HUGE}", "neighbours=1"),
    *parameter("pairwise-distance", f"pairs={HUGE}", f"minimum_proteins={HUGE}"),
    *parameter("hierarchical-clustering", "height=nan", "height=inf", f"k={HUGE}"),
    *parameter("go-enrichment", "fdr=nan", f"min_size={HUGE}"),
    Fault(
        "a seed of random weights",
        (*CROPS, "--features", f"pci-random-conv3@seed{HUGE}"),
        ("The seed is", f"at most {MAX_SEED:,}"),
        with_crops(),
    ),
    Fault(
        "a floor of NaN",
        (*RUN, "--dataset", "folder:crops?floor=nan", "--out", "out"),
        ("floor=nan", "is not a number from 0 to below 1"),
        with_crops(),
    ),
    Fault(
        "an option of a folder without a value",
        (*RUN, "--dataset", "folder:crops?protein=&markers=_rfp", "--out", "out"),
        ("an option twice, or without a value",),
        with_crops(),
    ),
    *(
        Fault(
            f"a tolerance of {text}",
            ("compare", "out", "out", "--tolerance", "tolerance.toml"),
            ("tolerance.toml is not a tolerance",),
            lambda folder, text=text: write(folder, {"tolerance.toml": text}),
        )
        for text in ("absolute = nan", "cells = inf", "[metrics]\naccuracy = -1", "[metrics]\naccuracy = nan")
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


@pytest.mark.parametrize("command", [CROPS, EXTRACT, TRAIN, (*EVALUATE, "--with", "loo-knn")], ids=lambda c: c[0])
@pytest.mark.parametrize("seed", ["-1", str(2**32), HUGE, "nan", "1.5"])
def test_a_seed_that_no_generator_takes_is_refused_by_the_parser(say, here, command, seed):
    write(here, {"f.csv": TABLE})
    said = say(*command, "--seed", seed, own=False)
    assert said.code == 2
    assert "Usage: pci-bench" in said.err
    assert "--seed" in said.err
    assert not (here / "out").exists()


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30, 1.5, math.nan, True, "1"])
def test_a_seed_that_no_generator_takes_is_refused_from_python(seed):
    adata = AnnData(pd.DataFrame({"a": [1.0, 2.0, 3.0]}))
    for call in (lambda: pci_bench.run("yeast-knn", seed=seed), lambda: pci_bench.evaluate("umap", adata, seed=seed)):
        with pytest.raises(UserError, match="The seed is"):
            call()


@pytest.mark.parametrize(
    "given", [{"limit": 1}, {"limit": 2.5}, {"limit": 10**30}, {"workers": 0}, {"workers": math.nan}, {"batch": 0}]
)
def test_other_numbers_out_of_bounds_are_refused_from_python(given):
    with pytest.raises(UserError, match="it must be"):
        pci_bench.run("yeast-knn", dataset="toy-yeast", **given)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a, b ,c", ["a", "b", "c"]),
        (r"a,file:x\,y.csv", ["a", "file:x,y.csv"]),
        (r"file:C:\x\y.csv,b", [r"file:C:\x\y.csv", "b"]),
        ("a,,b", ["a", "", "b"]),
        ("", [""]),
    ],
)
def test_lists_are_split_at_commas_but_at_those_with_a_backslash(text, parts):
    assert split_list(text) == parts


def test_a_comma_in_a_path_can_be_written(say, here):
    write(here / "crops", {})
    with_crops()(here)
    say("extract", "intensity", "--dataset", "folder:crops", "--out", "x,y.csv", own=False)
    arguments = (*RUN, "--dataset", "folder:crops", "--k", "1", "--features")
    said = say(*arguments, "intensity,file:x,y.csv", own=False)
    assert said.code == 2
    said = say(*arguments, r"intensity,file:x\,y.csv", "--out", "out", own=False)
    assert said.code == 0, said.err
    record = json.loads((here / "out" / "run.json").read_text())
    assert record["arguments"]["features"] == ["intensity", "file:x,y.csv"]
    assert len(runner.run_again(here / "out" / "run.json", out=here / "again")) == 6
