"""`run --with`: evaluators beside a benchmark's own stand in tables, in the report, in the record, and in what repeats it."""

from __future__ import annotations

import json

import numpy as np
import painted
import pytest
from command_line import call, refused

from pci_bench import run
from pci_bench.runs.results import read_results

NEAREST = '''
"""nearest.py: how often the nearest cell is of the same label."""

import pydantic

from pci_bench import Evaluator, EvaluatorMeta, EvaluatorOutput, Metric, register_evaluator


@register_evaluator("nearest")
class Nearest(Evaluator):
    """Share of cells whose nearest cell has their label."""

    meta = EvaluatorMeta("nearest", "1", "Nearest cell", "share", metrics={"share": Metric("percent")})
    Params = pydantic.create_model("Params", __config__={"extra": "forbid", "frozen": True}, columns=(int, 0))

    def __call__(self, adata, param_sets, context):
        from scipy.spatial.distance import cdist
        import numpy as np

        labels = adata.obs["label"].to_numpy(str)
        for params in param_sets:
            values = adata.X[:, : params.columns or None]
            distances = cdist(values, values)
            np.fill_diagonal(distances, np.inf)
            share = float((labels[distances.argmin(axis=1)] == labels).mean())
            yield EvaluatorOutput(params.model_dump(), {"share": share})
'''


@pytest.fixture
def here(own_registries, tmp_path, monkeypatch):
    painted.register()
    (tmp_path / "nearest.py").write_text(NEAREST)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("without_figures")
def test_an_evaluator_of_a_plug_in_takes_part_in_a_benchmark(here, capsys, monkeypatch):
    said = call(
        capsys, monkeypatch, "run", "knn", "--dataset", "painted", "--features", "intensity,noise", "--with",
        "nearest,loo-knn", "--set", "columns=2", "--plugin", "nearest.py", "--out", "first",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "(nearest, columns = 2)" in " ".join(said.out.split())  # ranked in the answer
    results = {r.features.name: r for r in read_results(here / "first") if r.evaluator.name == "nearest"}
    assert results.keys() == {"intensity", "noise"}

    crops, labels = painted.crops() / 255.0, np.repeat(painted.CLASSES, painted.PER_CLASS)
    protein = crops[:, 0].reshape(len(crops), -1)
    two = np.column_stack([protein.mean(axis=1), protein.std(axis=1)])
    right = 0
    for i, cell in enumerate(two):
        distances = [np.inf if j == i else np.linalg.norm(cell - other) for j, other in enumerate(two)]
        right += labels[int(np.argmin(distances))] == labels[i]
    assert results["intensity"].metrics["share"] == pytest.approx(right / len(two))

    table = (here / "first" / "tables" / "nearest.md").read_text()
    assert f"{100 * right / len(two):.1f}" in table
    assert call(capsys, monkeypatch, "report", "first").code == 0
    assert "Nearest cell (nearest)" in (here / "first" / "report.html").read_text()
    record = json.loads((here / "first" / "run.json").read_text())
    assert record["arguments"]["with_evaluators"] == ["nearest", "loo-knn"]
    assert "tables/nearest" in record["tables"]

    said = call(capsys, monkeypatch, "run", "--from", "first/run.json", "--out", "again")
    assert said.code == 0, said.err
    assert call(capsys, monkeypatch, "compare", "first", "again").code == 0
    assert len(read_results(here / "again")) == len(read_results(here / "first"))


def test_one_that_the_benchmark_has_is_run_as_it_declares_it_and_once(here):
    alone = run("knn", dataset="painted", features="intensity")
    named = run("knn", dataset="painted", features="intensity", with_evaluators=["loo-knn"])
    assert [r.evaluator for r in named] == [r.evaluator for r in alone]
    assert [r.metrics for r in named] == [r.metrics for r in alone]


@pytest.mark.usefixtures("without_figures")
def test_one_that_leaves_out_what_cells_share_does_so_beside_the_benchmark(here):
    output = run("distances", dataset="painted", features="intensity", with_evaluators="logistic-regression")
    excludes = [r.evaluator.params["exclude"] for r in output if r.evaluator.name == "logistic-regression"]
    assert excludes == ["cell", "image"]


def test_an_unknown_evaluator_is_a_sentence(here, capsys, monkeypatch):
    refused(call(capsys, monkeypatch, "run", "knn", "--dataset", "painted", "--with", "nearst"), "nearst", "evaluator")
