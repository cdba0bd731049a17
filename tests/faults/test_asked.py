"""What was asked for and cannot be given: refused before anything is computed, or counted in a note; never dropped."""

from __future__ import annotations

import json
import re
import shutil
import warnings

import pytest
from command_line import Said
from faults import FEW, RUN, Fault, crops, refused, with_crops, write

import pci_bench
from pci_bench import UserError

ON = (*RUN, "--dataset", "folder:crops", "--features", "intensity", "--out", "out")
EVALUATE = ("evaluate", "f.csv", "--out", "out")
TABLE = "Metadata_cell,Metadata_label,Metadata_image,a,b\n" + "".join(
    f"c{i},{'xy'[i % 2]},w{i // 4},{i % 7},{i * i % 11}\n" for i in range(30)
)


def with_table(folder):
    return write(folder, {"f.csv": TABLE})


def asked(what: str, arguments: tuple[object, ...], *words: str) -> Fault:
    return Fault(what, arguments, words, with_table if arguments[0] == "evaluate" else with_crops())


FAULTS = [
    asked("k beyond the cells", (*ON, "--k", "1,5000"), "cannot be run with k = 5000: k = 5000 needs at least 5001"),
    asked("two k beyond the cells", (*ON, "--k", "12,1,99"), "k = 12: ", "; nor with k = 99: "),
    asked(
        "a column that the cells lack",
        (*ON, "--k", "1", "--set", "exclude=cell", "--set", "exclude=plait"),
        "exclude = plait",
        "has no column 'plait'",
    ),
    asked(
        "a parameter that no evaluator has",
        ("run", "yeast-umap", *FEW),
        "No evaluator of yeast-umap has a parameter 'k'",
    ),
    asked(
        "no feature set",
        (*RUN, "--dataset", "folder:crops", "--features", "", "--out", "out"),
        "No feature set was named",
    ),
    asked("blank feature sets", (*RUN, "--features", " , ", "--out", "out"), "No feature set was named"),
    asked("no dataset", (*RUN, "--dataset", "", "--out", "out"), "There is no dataset named ''"),
    asked("no k", (*ON, "--k", ""), "is not a list of whole numbers"),
    asked("no evaluator", (*EVALUATE, "--with", ""), "There is no evaluator named ''"),
    asked(
        "evaluate: k beyond the cells", (*EVALUATE, "--with", "loo-knn", "--k", "5,5000"), "cannot be run with k = 5000"
    ),
    asked(
        "evaluate: a column that the table lacks",
        (*EVALUATE, "--with", "loo-knn", "--exclude", "cell,plait"),
        "cannot be run with exclude = plait",
        "has no column 'plait'",
    ),
    asked(
        "evaluate: an empty column", (*EVALUATE, "--with", "loo-knn", "--exclude", "cell,"), "exclude = '' does not fit"
    ),
    asked(
        "evaluate: a confounder that no table declares",
        (*EVALUATE, "--with", "loo-knn", "--exclude", "cell,confounder"),
        "exclude = confounder",
        "declares no confounder",
    ),
    asked("evaluate: k for none", (*EVALUATE, "--with", "umap", "--k", "5"), "None of umap has a parameter 'k'"),
    asked(
        "evaluate: exclude for none", (*EVALUATE, "--with", "umap", "--exclude", "image"), "has a parameter 'exclude'"
    ),
    asked(
        "evaluate: a colour that the table lacks",
        (*EVALUATE, "--with", "umap", "--set", "color=plait"),
        "umap cannot be run",
        "has no column 'plait'",
    ),
    Fault(
        "more folds than a class has cells",
        (*EVALUATE, "--with", "argmax,logistic-regression", "--set", "folds=99"),
        ("logistic-regression on f, folds = 99: 15 folds, since a class has only 15 cells",),
        lambda folder: write(folder, {"f.csv": TABLE.replace(",a,b", ",x,y")}),
        code=0,
    ),
    Fault(
        "more neighbours than points",
        (*EVALUATE, "--with", "umap", "--set", "neighbours=99"),
        ("umap on f, neighbours = 99: 2 neighbours, since 3 points have no more",),
        lambda folder: write(folder, {"f.csv": "cell,label,a\na,x,1\nb,x,2\nc,y,3\n"}),
        code=0,
    ),
    Fault(
        "a benchmark's own k beyond the cells",
        ON,
        (
            "Not run: loo-knn on folder:crops: k = 25 needs at least 26 labelled cells",
            "(3 evaluations of each feature set)",
        ),
        with_crops(),
        code=0,
    ),
    Fault(
        "a limit below two cells of each label",
        (*ON, *FEW, "--limit", "3"),
        ("Note: The subset of --limit 3 has 4 cells of 12", "at least two cells"),
        with_crops(),
        code=0,
    ),
    Fault(
        "a limit below two cells of each label, of features",
        ("extract", "intensity", "--dataset", "folder:crops", "--limit", "3", "--out", "f.csv"),
        ("Note: The subset of --limit 3 has 4 cells of 12", "4 cells × 8 features"),
        with_crops(),
        code=0,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"k": [1, 5000]}, "cannot be run with k = 5000"),
        ({"k": []}, "The parameter 'k' is given no value"),
        ({"parameters": {"exclude": ["cell", "plait"]}}, "has no column 'plait'"),
        ({"parameters": {"exclude": []}}, "The parameter 'exclude' is given no value"),
        ({"features": []}, "No feature set was named"),
        ({"features": ""}, "No feature set was named"),
        ({"dataset": []}, "No dataset was named"),
    ],
    ids=str,
)
def test_run_refuses_from_python_what_cannot_be_given(here, given, words):
    with_crops()(here)
    with pytest.raises(UserError, match=words):
        pci_bench.run("yeast-knn", **{"dataset": "folder:crops", "features": "intensity", "out": "out", **given})
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"k": [1, 5000]}, "cannot be run with k = 5000"),
        ({"k": []}, "The parameter 'k' is given no value"),
        ({"exclude": ["cell", "plait"]}, "has no column 'plait'"),
        ({"exclude": ["cell", "confounder"]}, "declares no confounder"),
    ],
    ids=str,
)
def test_evaluate_refuses_from_python_what_cannot_be_given(here, given, words):
    from pci_bench.features.files import read_features

    with pytest.raises(UserError, match=words):
        pci_bench.evaluate("loo-knn", read_features(with_table(here) / "f.csv"), **given)


def test_a_combination_that_cannot_be_evaluated_is_counted_in_a_warning(here):
    from pci_bench.features.files import read_features

    adata = read_features(with_table(here) / "f.csv")
    with pytest.warns(
        UserWarning, match=r"candidates=balanced needs an exclusion .*\(2 evaluations of a feature set\)"
    ):
        found = pci_bench.evaluate(
            "loo-knn", adata, k=[1, 3], exclude=["cell", "image"], candidates=["all", "balanced"]
        )
    assert len(found) == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(pci_bench.evaluate("loo-knn", adata, k=[1, 3])) == 2


def test_a_second_dataset_is_checked_before_the_first_is_computed(say, here, cache):
    with_crops()(here)
    write(here / "more", crops(images=20))
    arguments = (*RUN, "--features", "intensity", "--k", "1,30", "--out", "out")
    said = say(*arguments, "--dataset", "folder:more", "--dataset", "folder:crops", own=False)
    refused(said, "k = 30 needs at least 31 labelled cells", "folder:crops")
    assert not (cache / "features").exists()


def ran(say, *more: object) -> Said:
    return say(
        *RUN, "--dataset", "folder:crops", "--features", "intensity", "--k", "1", "--out", "out", *more, own=False
    )


@pytest.fixture
def first(say, here):
    """A folder of results of seed 0, on all cells."""
    with_crops()(here)
    said = ran(say)
    assert said.code == 0, said.err
    return here / "out"


def test_a_run_of_other_settings_into_the_folder_is_refused(say, here, first):
    before = {p: p.read_bytes() for p in first.rglob("*") if p.is_file()}
    write(here, {"a.csv": "protein,label\nx,y\n", "b.csv": "image,protein\n"})
    for more, words in ((("--seed", 1), "seed = 0, not 1"), (("--limit", 6), "limit = none, not 6")):
        refused(
            ran(say, *more),
            f"out holds results on folder:crops of a run with {words}",
            "Name another folder with --out",
        )
    assert {p: p.read_bytes() for p in first.rglob("*") if p.is_file()} == before
    (first / "run.json").unlink()  # as where that run was killed
    refused(ran(say, "--seed", 1), "seed = 0, not 1")


def test_other_segmenters_and_annotations_are_other_settings(say, here, first):
    record = json.loads((first / "run.json").read_text())
    for name, value in (("segmenter", "cellpose"), ("annotations_sha256", "abc")):
        changed = {**record, "arguments": {**record["arguments"], name: value}}
        (first / "run.json").write_text(json.dumps(changed))
        refused(ran(say), name.partition("_")[0], value)


def test_the_same_run_again_and_one_of_more_features_are_not_refused(say, here, first):
    assert ran(say).code == 0
    assert ran(say, "--limit", 5000).code == 0  # which is all cells, as before
    said = say(*RUN, "--dataset", "folder:crops", "--features", "noise", "--k", "1,5", "--out", "out", own=False)
    assert said.code == 0, said.err
    assert {p.name for p in (first / "results").glob("*/*")} == {"intensity", "noise"}
    assert say("report", "out", own=False).code == 0
    text = re.sub(r"<[^>]+>", " ", (first / "report.html").read_text())
    assert "of an earlier run, which the rows above do not describe" in text
    assert "3 results of intensity: yeast-knn, seed 0" in " ".join(text.split())


def test_a_recorded_k_that_cannot_be_run_is_refused_again(say, here, first):
    record = json.loads((first / "run.json").read_text())
    record["arguments"]["parameters"] = {"k": [1, 12]}
    (here / "record.json").write_text(json.dumps(record))
    shutil.rmtree(first)
    refused(say("run", "--from", "record.json", "--out", "out", own=False), "cannot be run with k = 12")


def test_a_result_of_other_features_or_of_another_seed_is_not_replaced(say, here):
    file = with_table(here) / "f.csv"
    command = (*EVALUATE, "--with", "loo-knn", "--k", "3")
    assert say(*command, own=False).code == 0
    before = {path: path.read_bytes() for path in (here / "out").rglob("*") if path.is_file()}
    assert say(*command, own=False).code == 0  # the same once more
    refused(say(*command, "--seed", "1", own=False), "is a result of another seed", "Name another folder with --out")
    file.write_text(TABLE.replace(",6,", ",60,"))
    refused(say(*command, own=False), "is a result of other features of this name")
    assert {path for path in (here / "out").rglob("*") if path.is_file()} == set(before)
    assert all(path.read_bytes() == content for path, content in before.items() if path.suffix != ".json")
