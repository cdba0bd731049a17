"""Results of every schema that was ever written keep loading; what is newer, damaged, edited or of another tool is a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import call, refused

from pci_bench import UserError
from pci_bench.reporting.html import write_report
from pci_bench.runs.comparison import compare
from pci_bench.runs.record import RunRecord
from pci_bench.runs.results import SCHEMA, parameters, read_result, read_results

WRITTEN = Path(__file__).parent / "results"
FOLDERS = sorted(WRITTEN.glob("schema-*/*"))
FIRST = WRITTEN / "schema-1" / "first-writer"
TABLES = {"yeast-knn": "supplementary-table1", "human-distances": "figure2b"}


def named(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


@pytest.fixture
def say(capsys, monkeypatch):
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


@pytest.fixture
def copy(tmp_path):
    """A function that copies an old folder and changes every result file in it."""

    def make(folder: Path = FIRST, edit=lambda content: content, name: str = "copy") -> Path:
        shutil.copytree(folder, tmp_path / name)
        for file in (tmp_path / name / "results").rglob("*.json"):
            edited = edit(json.loads(file.read_text()))
            file.write_text(edited if isinstance(edited, str) else json.dumps(edited))
        return tmp_path / name

    return make


# ---- every schema


def test_there_are_files_of_every_schema_and_of_no_other():
    assert {int(folder.parent.name.removeprefix("schema-")) for folder in FOLDERS} == set(range(1, SCHEMA + 1))
    for folder in FOLDERS:
        schema = int(folder.parent.name.removeprefix("schema-"))
        for file in [folder / "run.json", *(folder / "results").rglob("*.json")]:
            assert json.loads(file.read_text())["schema"] == schema


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_old_results_hold_what_their_files_say(folder):
    found = read_results(folder)
    files = [folder / path for path in json.loads((folder / "run.json").read_text())["results"]]
    assert len(found) == len(files) > 0
    for result, file in zip(found, files, strict=True):
        content = json.loads(file.read_text())
        assert result.metrics == content["metrics"]
        assert {k: list(v) for k, v in result.intervals.items()} == content["intervals"]
        assert result.details == content["details"]
        assert result.evaluator.params == content["evaluator"]["params"]
        assert result.dataset.classes == content["dataset"]["classes"]
        assert (result.predictions is not None) == file.with_suffix(".parquet").is_file()
        assert len(result.tables) == len(list(file.parent.glob("*.csv")))
        if result.predictions is not None:
            assert len(result.predictions) == result.dataset.n_cells


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_old_results_are_compared_printed_and_reported(folder, say, copy):
    said = say("compare", folder, folder)
    assert said.code == 0
    assert "all the same" in said.out

    def lower(content):
        name = next(iter(content["metrics"]))
        content["metrics"][name] -= 0.1
        return content

    said = say("compare", folder, copy(folder, lower))
    assert said.code == 1
    assert "lower" in said.out
    table = TABLES[read_results(folder)[0].benchmark]
    said = say("table", table, "--results", folder)
    assert said.code == 0
    (row,) = [line for line in said.out.splitlines() if line.startswith("| intensity")]
    assert any(character.isdigit() for character in row)


def test_the_numbers_of_the_first_writer_are_still_those():
    """Read by eye in the files, so that a reader which loses or rounds something is caught."""
    found = {(r.evaluator.params["k"], r.evaluator.params["exclude"]): r for r in read_results(FIRST)}
    assert set(found) == {(k, exclude) for k in (1, 5) for exclude in ("cell", "field")}
    one = found[1, "cell"]
    assert one.metrics["balanced_accuracy"] == 0.6261111111111111
    assert one.intervals["balanced_accuracy"] == (0.46165277777777786, 0.7314285714285714)
    assert one.details["per_class"]["AAP1"] == 0.375
    assert (one.dataset.n_cells, one.dataset.limit) == (41, 40)
    right = one.predictions["label"].astype(str) == one.predictions["predicted"].astype(str)
    assert right.mean() == one.metrics["accuracy"]


def test_a_printed_value_of_before_it_had_metrics_loads(copy):
    folder = copy(edit=lambda content: content | {"paper": {"value": 87.98, "table": "Table 1"}})
    assert {(r.paper.value, r.paper.table) for r in read_results(folder)} == {(87.98, "Table 1")}


def test_a_report_of_old_results_is_a_page(copy):
    text = write_report(copy()).read_text(encoding="utf-8")
    assert "toy-yeast" in text
    assert "62.6" in text


@pytest.mark.usefixtures("without_figures")
def test_the_first_record_repeats_and_gives_the_same_numbers_today(test_data, toy_cache, tmp_path, monkeypatch, say):
    monkeypatch.setenv("PCI_BENCH_DATA", str(test_data))
    arguments = RunRecord.read(FIRST / "run.json").repeatable(FIRST / "run.json").model_dump()
    assert arguments["dataset"] == ["toy-yeast"]  # it says "toy-yeast"
    assert say("run", "--from", FIRST / "run.json", "--out", tmp_path / "again").code == 0
    again = {parameters(r): r for r in read_results(tmp_path / "again")}
    first = read_results(FIRST)
    assert len(first) == 4
    for old in first:  # the evaluator's version has changed with its intervals, its votes have not
        new = again[parameters(old)]
        assert new.metrics == old.metrics
        assert new.predictions["predicted"].tolist() == old.predictions["predicted"].tolist()


# ---- newer schemas, damage, other tools


COMMANDS = {
    "compare": ("compare", FIRST, "{}"),
    "compare back": ("compare", "{}", FIRST),
    "table": ("table", "table1", "--results", "{}"),
    "report": ("report", "{}"),
    "leaderboard": ("leaderboard", "{}"),
}


def on(command: str, folder: Path) -> list[str]:
    return [str(part).replace("{}", str(folder)) for part in COMMANDS[command]]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_newer_schema_is_refused_with_what_to_do(command, copy, say):
    folder = copy(edit=lambda content: content | {"schema": SCHEMA + 1})
    refused(say(*on(command, folder)), f"has schema {SCHEMA + 1}; this version reads {SCHEMA}. Update pci-bench.")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda content: json.dumps(content)[:200], "cannot be read as JSON"),
        (lambda content: content | {"metrics": {"balanced_accuracy": "good"}}, "metrics.balanced_accuracy"),
        (lambda content: {k: v for k, v in content.items() if k != "dataset"}, "is not a result of pci-bench: dataset"),
        (lambda content: content | {"note": "mine"}, "is not a result of pci-bench: note"),
        (lambda content: [content], "is not a result of pci-bench"),
        (lambda content: {"run_id": "abc", "artifact_uri": "s3://mlflow"}, "is not a result of pci-bench"),
    ],
    ids=["truncated", "a text for a number", "a part is gone", "a part too many", "a list", "mlflow"],
)
def test_a_damaged_or_edited_file_is_named(command, edit, words, copy, say):
    folder = copy(edit=edit)
    refused(say(*on(command, folder)), str(folder / "results" / "toy-yeast"), words)


@pytest.mark.parametrize("command", COMMANDS)
def test_folders_of_other_tools_empty_ones_and_none_are_sentences(command, tmp_path, say):
    other = tmp_path / "wandb"
    (other / "files").mkdir(parents=True)
    (other / "files" / "wandb-summary.json").write_text('{"accuracy": 0.9}')
    (other / "config.yaml").write_text("lr: 1")
    (tmp_path / "empty").mkdir()
    for folder in (other, tmp_path / "empty", tmp_path / "absent"):
        refused(say(*on(command, folder)), str(folder))


@pytest.mark.parametrize("command", COMMANDS)
def test_damaged_predictions_and_tables_are_named(command, copy, say):
    folder = copy()
    file = next((folder / "results").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:500])
    refused(say(*on(command, folder)), file.name, "cannot be read as Parquet")


def test_without_predictions_numbers_are_still_compared_and_printed_and_only_the_interval_is_gone(copy, say):
    folder = copy()
    for file in (folder / "results").rglob("*.parquet"):
        file.unlink()
    found = compare(read_results(FIRST), read_results(folder))
    assert found.same
    assert {d.interval for d in found.differences} == {None}
    assert say("compare", FIRST, folder).code == 0
    assert "62.6" in say("table", "supplementary-table1", "--results", folder).out


def other_cells(content):
    content["dataset"]["sha256"] = "0" * 64
    return content


def other_dataset(content):
    content["dataset"]["name"] = "elsewhere"
    return content


def other_features(content):
    content["features"]["name"] = "mine"
    return content


def test_results_of_other_cells_are_not_compared_and_not_ranked_together(copy, say):
    refused(say("compare", FIRST, copy(edit=other_cells)), "cannot be compared: the cells (sha256)")
    mine = copy(edit=lambda content: other_features(other_cells(content)), name="mine")
    refused(say("leaderboard", FIRST, mine), "The results on toy-yeast are of different cells")
    refused(say("compare", FIRST, copy(edit=other_dataset, name="elsewhere")), "Nothing was compared")


def test_a_folder_of_two_datasets_gives_a_table_of_each_and_rankings_that_do_not_mix(copy, tmp_path, say):
    folder = copy()
    mixed = copy(edit=lambda content: other_dataset(other_cells(content)), name="mixed")
    shutil.copytree(mixed / "results" / "toy-yeast", folder / "results" / "elsewhere")
    said = say("table", "supplementary-table1", "--results", folder)
    assert said.code == 0
    assert "Dataset: toy-yeast" in said.out
    assert "Dataset: elsewhere" in said.out
    refused(say("leaderboard", folder), "nothing to rank")  # one feature set on each
    refused(say("table", "table1", "--results", folder, "--dataset", "yeast-sim"), "has results on", "toy-yeast")


def test_a_result_of_an_evaluator_that_nobody_knows_is_compared_and_printed(copy, say):
    def strange(content):
        content["evaluator"]["name"] = "of-a-plug-in"
        return content

    folder = copy(edit=strange)
    said = say("compare", folder, folder)
    assert said.code == 0
    assert "of-a-plug-in" in say("compare", folder, folder, "--all").out.replace("\n", "")


def test_one_file_may_be_given_in_place_of_a_folder_to_compare(say, tmp_path):
    file = next((FIRST / "results").rglob("k=1,exclude=cell.json"))
    assert say("compare", file, FIRST).code == 0
    assert read_result(file).evaluator.params["k"] == 1
    refused(say("compare", FIRST / "run.json", FIRST), "run.json is not a result of pci-bench")
    with pytest.raises(UserError, match="Nothing was compared"):
        compare([read_result(file)], [])
