"""`run --from run.json`: a recorded run is repeated, `compare` calls it the same, and what is no record is a sentence."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import painted
import pytest
from command_line import call, refused

from pci_bench import UserError
from pci_bench.api import loading
from pci_bench.datasets import DATASETS
from pci_bench.runs import runner
from pci_bench.runs.results import read_results
from pci_bench.segmentation import SEGMENTERS

LIMIT, SEED = 40, 7


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A folder with the cache and the output folder ``first`` of a run in which nothing is the default."""
    root = tmp_path_factory.mktemp("recorded")
    rows = [
        f"{name}{i},{'first' if i else 'second'} {name}" for name in ("ring", "spot", "stri", "<b>o") for i in range(3)
    ]
    (root / "labels.csv").write_text("protein,label\n" + "\n".join(rows))
    with painted.registered(root / "cache"):
        runner.run(
            "yeast-knn",
            dataset="painted",
            features=["intensity", "noise"],
            k=[2, 5],
            limit=LIMIT,
            seed=SEED,
            device="cpu",
            segmenter=sorted(SEGMENTERS)[0],
            annotations=root / "labels.csv",
            out=root / "first",
        )
        runner.run("yeast-knn", dataset="painted", features=["intensity"], k=[3], device="cpu", out=root / "plain")
    return root


@pytest.fixture
def here(recorded, own_registries, tmp_path, monkeypatch) -> Path:
    """A copy of that folder; the data set is known and the cache is in use."""
    painted.register()
    shutil.copytree(recorded, tmp_path / "here")
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "here" / "cache"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def say(capsys, monkeypatch):
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


def change(here: Path, folder: str = "plain", **values) -> Path:
    """Edit a record by hand: arguments by name, or whole entries where they are of the record."""
    file = here / folder / "run.json"
    content = json.loads(file.read_text())
    for name, value in values.items():
        if name in content:
            content[name] = value
        else:
            content["arguments"][name] = value
    file.write_text(json.dumps(content))
    return file


@pytest.mark.usefixtures("without_figures")
def test_a_repeated_run_is_the_same_in_every_number_and_in_its_record(here, say):
    said = say("run", "--from", here / "first" / "run.json", "--out", here / "again")
    assert said.code == 0, said.err
    said = say("compare", here / "first", here / "again")
    assert said.code == 0, said.out
    assert "of 12 results compared: all the same." in " ".join(said.out.split())
    one, other = (json.loads((here / name / "run.json").read_text()) for name in ("first", "again"))
    assert one["arguments"] == other["arguments"]
    assert one["datasets"] == other["datasets"]
    assert one["results"] == other["results"]
    arguments = one["arguments"]
    assert (arguments["limit"], arguments["seed"], arguments["parameters"]) == (LIMIT, SEED, {"k": [2, 5]})
    assert arguments["segmenter"] == sorted(SEGMENTERS)[0]
    assert arguments["features"] == ["intensity", "noise"]
    for a, b in zip(*(read_results(here / name) for name in ("first", "again")), strict=True):
        assert a.metrics == b.metrics
        assert a.intervals == b.intervals
        assert a.details == b.details
        assert a.dataset == b.dataset
        assert a.predictions.equals(b.predictions)
        assert set(a.dataset.classes) & {"first ring", "second ring"}  # the annotations' labels, not the data set's


@pytest.mark.usefixtures("without_figures")
def test_a_record_of_before_parameters_had_names_still_repeats(here, say):
    file = change(here, k=[3])
    content = json.loads(file.read_text())
    del content["arguments"]["parameters"]
    file.write_text(json.dumps(content))
    assert say("run", "--from", file, "--out", here / "again").code == 0
    assert say("compare", here / "plain", here / "again").code == 0


def test_another_version_of_the_package_is_said_and_run(here, say):
    content = json.loads((here / "plain" / "run.json").read_text())
    file = change(here, run=content["run"] | {"package": "0.0.1"})
    said = say("run", "--from", file, "--out", here / "again")
    assert said.code == 0
    assert "The recorded run is of pci-bench 0.0.1" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("yeast-knn",), ["Name a benchmark", "--from run.json"]),
        (("--dataset", "yeast-sim"), ["--dataset and --from contradict each other"]),
        (("--features", "noise"), ["--features and --from contradict each other"]),
        (("--k", "5"), ["--k and --from contradict each other"]),
        (("--limit", "30"), ["--limit and --from contradict each other"]),
        (("--annotations", "labels.csv"), ["--annotations and --from contradict each other"]),
    ],
    ids=lambda value: value[0].strip("-") if isinstance(value, tuple) else "",
)
def test_options_that_contradict_the_record_are_refused(here, say, arguments, words):
    refused(say("run", *arguments, "--from", "plain/run.json", "--out", "again"), *words)
    assert not (here / "again").exists()


def test_a_repetition_needs_a_place_of_its_own(here, say):
    before = (here / "plain" / "run.json").read_bytes()
    refused(say("run", "--from", "plain/run.json"), "Say with --out where the repeated run is to be written")
    assert (here / "plain" / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["is not the record of a run (FileNotFoundError"]),
        (b"", ["is not the record of a run (JSONDecodeError"]),
        (b'{"schema": 1, "argum', ["is not the record of a run (JSONDecodeError"]),
        (b"\xff\xfe\x00", ["is not the record of a run (UnicodeDecodeError"]),
        (b"[1, 2]", ["is not the record of a run"]),
        (b'{"images": [], "annotations": []}', ["is not the record of a run (run: Field required)"]),
        (b'{"schema": 1}', ["is not the record of a run (run: Field required)"]),
        (b'{"schema": 2, "arguments": {}}', ["has schema 2; this version reads 1. Update pci-bench."]),
    ],
    ids=["absent", "empty", "truncated", "binary", "list", "other tool", "half", "newer"],
)
def test_what_is_no_record_is_a_sentence(here, say, content, words):
    file = here / "odd.json"
    if content is not None:
        file.write_bytes(content)
    refused(say("run", "--from", file, "--out", "again"), str(file), *words)
    assert not (here / "again").exists()


def test_a_folder_or_a_result_in_place_of_the_record_is_a_sentence(here, say):
    result = next((here / "plain" / "results").rglob("*.json"))
    for file in (here / "plain", result):
        refused(say("run", "--from", file, "--out", "again"), str(file), "is not the record of a run")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"colour": "red"}, ["arguments.colour"]),
        ({"limit": "many"}, ["arguments.limit"]),
        ({"limit": 30}, ["painted is not the data of the recorded run"]),
        ({"seed": -1}, ["arguments.seed"]),
        ({"k": 5}, ["arguments.k"]),
        ({"parameters": {"k": 5}}, ["arguments.parameters.k"]),
        ({"parameters": {"k": [0]}}, ["k = 0 does not fit loo-knn"]),
        ({"parameters": {"colour": [1]}}, ["parameter 'colour'"]),
        ({"features": []}, ["arguments.features"]),
        ({"features": ["intensities"]}, ["Did you mean intensity"]),
        ({"dataset": ["paintings"]}, ["There is no dataset named 'paintings'"]),
        ({"dataset": 5}, ["arguments.dataset"]),
        ({"dataset": []}, ["arguments.dataset"]),
        ({"benchmark": "yeast"}, ["There is no benchmark named 'yeast'"]),
        ({"segmenter": "by-hand"}, ["by-hand"]),
        ({"device": "abacus"}, ["abacus"]),
        ({"arguments": None}, ["is not the record of a run (arguments"]),
        ({"datasets": {"painted": 1}}, ["is not the record of a run (datasets"]),
        ({"datasets": []}, ["painted is not the data of the recorded run"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_record_edited_by_hand_is_a_sentence(here, say, edit, words):
    file = change(here, **edit)
    refused(say("run", "--from", file, "--out", "again"), *words)
    assert not (here / "again").exists()


def test_data_and_annotations_that_are_not_the_recorded_ones_are_refused(here, say):
    (here / "labels.csv").write_text("protein,label\nring0,other\n")
    file = change(here, "first", annotations=str(here / "labels.csv"))
    refused(say("run", "--from", file, "--out", "again"), "labels.csv are not those of the recorded run, or are gone")
    cells = loading.load(DATASETS.get("painted"))
    file = change(here, datasets=[{"name": "painted", "sha256": "0" * 64}])
    refused(
        say("run", "--from", file, "--out", "again"),
        f"painted is not the data of the recorded run: sha256 {cells.sha256[:16]} now, {'0' * 16} then",
    )


def test_python_repeats_a_run_too(here):
    again = runner.run_again(here / "plain" / "run.json")
    assert [r.metrics for r in again] == [r.metrics for r in read_results(here / "plain")]
    with pytest.raises(UserError, match="is not the record of a run"):
        runner.run_again(here / "absent.json")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"k": []}, "The parameter 'k' is given no value"),
        ({"k": [[1]]}, "does not fit loo-knn"),
        ({"k": [{"a": 1}]}, "does not fit loo-knn"),
        ({"nonsense": 1}, "No evaluator of yeast-knn has a parameter 'nonsense'"),
    ],
)
def test_parameters_of_any_kind_are_taken_or_a_sentence(parameters, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        runner.run("yeast-knn", dataset="yeast-sim", features="intensity", parameters=parameters)
