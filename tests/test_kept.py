"""A run takes from an earlier one what nothing has changed, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import painted
import pytest
from command_line import environment

from pci_bench.api.evaluator import EVALUATORS
from pci_bench.api.registry import Origin, Registry
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.evaluators import knn
from pci_bench.runs import kept, runner


@pytest.fixture
def counted(own_registries, monkeypatch):
    """The painted cells, and how often leave-one-out kNN searches and a figure is saved."""
    from pci_bench.system import drawing

    painted.register()
    calls = {"predict": 0, "save": 0}

    def counting(name, function):
        def called(*arguments, **options):
            calls[name] += 1
            return function(*arguments, **options)

        return called

    monkeypatch.setattr(knn, "neighborhoods", counting("predict", knn.neighborhoods))
    monkeypatch.setattr(drawing, "save", counting("save", drawing.save))
    return calls


def run(out: Path, **changes):
    arguments = {"dataset": "painted", "features": ["intensity", "noise"], "k": [2, 3], "device": "cpu"} | changes
    return runner.run("yeast-knn", out=out, **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".json"
    }


def numbers(results) -> list:
    return [r.model_dump(exclude={"run"}) for r in results]


def test_a_second_run_computes_and_draws_nothing_and_gives_the_same_files_elsewhere(counted, tmp_path):
    first = run(tmp_path / "first")
    before = dict(counted)
    assert before["predict"] == 2
    assert before["save"] > 0
    second = run(tmp_path / "second")
    assert counted == before
    assert numbers(second) == numbers(first)
    assert contents(tmp_path / "second") == contents(tmp_path / "first")
    for ours, theirs in zip(second, first, strict=True):
        assert ours.predictions.equals(theirs.predictions)
        assert ours.run["started"] >= theirs.run["started"]
    assert second.figures == [tmp_path / "second" / f.relative_to(tmp_path / "first") for f in first.figures]
    shutil.rmtree(tmp_path / "second" / "figures")
    run(tmp_path / "second")
    assert contents(tmp_path / "second") == contents(tmp_path / "first")


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"seed": 1}, 2),
        ({"k": [2, 4]}, 2),
        ({"limit": 50}, 2),
        ({"features": ["intensity", "raw-pixels"]}, 1),
        ({"refresh": "always"}, 2),
    ],
)
def test_what_an_evaluation_follows_from_is_evaluated_anew_where_it_changes(counted, tmp_path, changes, again):
    run(tmp_path / "first")
    run(tmp_path / "second", **changes)
    assert counted["predict"] == 2 + again


@pytest.mark.usefixtures("without_figures")
def test_other_labels_other_numbers_and_other_code_are_evaluated_anew(counted, tmp_path, monkeypatch):
    run(tmp_path / "first")
    labels = tmp_path / "labels.csv"
    labels.write_text("protein,label\n" + "\n".join(f"{n}{i},{n}" for n in ("ring", "spot", "stri") for i in range(3)))
    run(tmp_path / "labels", annotations=labels)
    assert counted["predict"] == 4
    monkeypatch.setattr(kept, "code_digest", lambda file: "another")
    run(tmp_path / "code")
    assert counted["predict"] == 6


def test_figures_are_drawn_anew_where_the_benchmark_lists_another_feature_set_first(counted, tmp_path):
    def confusions(features, out):
        declared = BENCHMARKS.get("yeast-knn").model_copy(update={"name": "mine", "features": features, "tables": ()})
        BENCHMARKS.register("mine", declared, origin=Origin(__file__, 1))
        output = runner.run("mine", dataset="painted", features=["intensity", "noise"], k=[2], device="cpu", out=out)
        return next(f for f in output.figures if f.name == "confusion-painted.svg").read_text()

    intensity, noise = (confusions((name,), tmp_path / name) for name in ("intensity", "noise"))
    assert counted["predict"] == 2  # the numbers are kept
    assert "intensity, k = 2" in intensity
    assert "noise, k = 2" in noise


def test_the_source_of_a_plugin_is_part_of_what_decides(tmp_path):
    (tmp_path / "package" / "inner").mkdir(parents=True)
    for folder in ("package", "package/inner"):
        (tmp_path / folder / "__init__.py").touch()
    module, sibling = tmp_path / "package" / "inner" / "mine.py", tmp_path / "package" / "other.py"
    module.write_text("x = 1")
    digests = set()
    for file, text in ((sibling, "y = 1"), (sibling, "y = 2"), (module, "x = 3")):
        file.write_text(text)
        Registry("thing", autoload=False).register("mine", 1, origin=Origin(str(module), 1))
        digests.add(kept.code_digest(str(module)))
    assert len(digests) == 3
    module.write_text("x = 4")  # while the process runs what it loaded before
    assert kept.code_digest(str(module)) in digests


@pytest.mark.usefixtures("without_figures")
def test_a_damaged_entry_is_evaluated_anew(counted, tmp_path, cache):
    first = run(tmp_path / "first")
    for record in cache.glob("evaluations/painted/*/*/*/kept.json"):
        record.write_text(record.read_text()[:100])
    assert numbers(run(tmp_path / "second")) == numbers(first)
    assert counted["predict"] == 4


@pytest.mark.usefixtures("without_figures")
def test_an_evaluator_that_does_not_declare_it_is_run_every_time(counted, tmp_path, monkeypatch):
    import dataclasses

    evaluator = EVALUATORS.get("loo-knn")
    monkeypatch.setattr(type(evaluator), "meta", dataclasses.replace(evaluator.meta, reusable=False))
    for _ in range(2):
        run(tmp_path / "out")
    assert counted["predict"] == 4


@pytest.mark.usefixtures("without_figures")
def test_only_the_newest_entries_stay(counted, tmp_path, cache, monkeypatch):
    monkeypatch.setattr(kept, "MAX_ENTRIES", 2)
    for seed in range(4):
        run(tmp_path / f"out{seed}", seed=seed, features=["noise"])
    assert len(list(cache.glob("evaluations/painted/noise/loo-knn/*/kept.json"))) == 2
    run(tmp_path / "out3", seed=3, features=["noise"])
    assert counted["predict"] == 4


def test_a_repeated_run_imports_nothing_heavy(tmp_path, toy_cache):
    program = """
        import sys
        from pci_bench import run
        run("yeast-knn", dataset="toy-human", features=["pci-random-conv1", "noise"], k=[3], limit=30, out="out")
        print(sorted({"torch", "torchvision", "timm", "umap", "sklearn", "numba"} & set(sys.modules)))
    """
    env = environment(toy_cache, OMP_NUM_THREADS="1")
    printed = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for _ in range(2)
    ]
    assert "torch" in printed[0]
    assert printed[1] == "[]"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["figures"]
    assert np.isfinite(json.loads(next((tmp_path / "out").rglob("k=3*.json")).read_text())["metrics"]["accuracy"])
