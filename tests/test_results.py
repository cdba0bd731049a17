"""One result, one file: whole, validated, and in a place of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pci_bench import UserError
from pci_bench.api.evaluator import Evaluator, EvaluatorMeta, Metric, Outcome
from pci_bench.data.provenance import FeaturesProvenance, Provenance
from pci_bench.features.extraction import annotated
from pci_bench.runs import evaluation
from pci_bench.runs.results import Result, headline, metric_of, read_result, read_results, write_result
from pci_bench.system.files import write_json
from pci_bench.system.machine import blas, git_revision, run_facts, versions

KEY, DEFAULTS = ("k", "exclude"), {"k": 11, "exclude": "cell", "scale": "all"}


def content(**changes) -> dict:
    """Return a result as the architecture's page prints it."""
    return {
        "schema": 1,
        "benchmark": "yeast-knn",
        "dataset": {"name": "planted", "version": "1", "sha256": "ab" * 32, "n_cells": 4, "classes": {"a": 2, "b": 2}}
        | {"limit": None, "confounder": "field", "levels": []},
        "features": {"name": "pci-conv4", "weights": "yeast-sim", "version": "1", "weights_sha256": "cd" * 32}
        | {"dim": 384, "precision": "float32"},
        "evaluator": {
            "name": "loo-knn",
            "version": "1",
            "params": {"k": 11, "exclude": "cell", "scale": "all"},
            "title": "Neighbours",
            "key": ["k", "exclude"],
            "defaults": {"k": 11, "exclude": "cell", "scale": "all"},
            "headline": "accuracy",
            "metrics": {"accuracy": {"unit": "percent", "decimals": 2, "higher_is_better": True, "reproducible": True}},
            "training_variance": [1.45, 2.0],
        },
        "metrics": {"balanced_accuracy": 0.5, "macro_f1": 1 / 3, "accuracy": 0.5},
        "intervals": {"balanced_accuracy": [0.1 + 0.2, 0.53]},
        "details": {"per_class": {"a": 1.0, "b": 0.0}, "confusion": {"labels": ["a", "b"], "counts": [[2, 0], [2, 0]]}},
        "paper": None,
        "run": {"git": None, "seed": 0, "seconds": 1.2},
        **changes,
    }


def predictions() -> pd.DataFrame:
    kinds = pd.CategoricalDtype(["a", "b"])
    return pd.DataFrame(
        {
            "cell": list("wxyz"),
            "label": pd.Series(list("aabb"), dtype=kinds),
            "predicted": pd.Series(list("aaaa"), dtype=kinds),
        }
    )


def test_what_is_written_is_read_back_with_its_predictions(tmp_path):
    result = Result.model_validate(content()).with_tables(predictions())
    file = tmp_path / result.path(KEY, DEFAULTS)
    write_result(result, file)
    back = read_result(file)
    assert back == result
    assert back.metrics["macro_f1"] == 1 / 3  # every bit of it
    assert back.intervals["balanced_accuracy"] == (0.1 + 0.2, 0.53)
    pd.testing.assert_frame_equal(back.predictions, predictions())
    assert json.loads(file.read_text()) == content()
    assert metric_of(back, headline(back)) == Metric("percent", 2)  # without asking the evaluator
    assert read_results(tmp_path) == [result]
    assert sorted(p.name for p in file.parent.iterdir()) == ["k=11,exclude=cell.json", "k=11,exclude=cell.parquet"]


def test_the_place_of_a_result_is_what_the_architecture_says():
    result = Result.model_validate(content())
    assert result.path(KEY, DEFAULTS) == Path("results/planted/pci-conv4@yeast-sim/loo-knn/k=11,exclude=cell.json")
    params = {"k": 5, "exclude": "field", "scale": "none"}
    other = Result.model_validate(content(evaluator={"name": "loo-knn", "version": "1", "params": params}))
    assert other.path(KEY, DEFAULTS).name == "k=5,exclude=field,scale=none.json"
    plain = Result.model_validate(content(evaluator={"name": "umap", "version": "1", "params": {}}))
    assert plain.path((), {}).name == "default.json"


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40) | st.sampled_from(
    [
        "..",
        ".",
        "folder:/data/crops",
        "folder:C:\\crops?protein=_c1&markers=_c2,_c3",
        "a/b",
        "a b",
        "CON",
        "é",
        "x" * 400,
    ]
)


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True), NAMES)
def test_any_name_is_one_safe_folder_and_two_names_never_share_one(names, exclude):
    paths = []
    for name in names:
        dataset = {**content()["dataset"], "name": name}
        features = {**content()["features"], "name": name, "weights": None}
        params = {"k": 1, "exclude": exclude, "scale": "all"}
        evaluator = {"name": "loo-knn", "version": "1", "params": params}
        result = Result.model_validate(content(dataset=dataset, features=features, evaluator=evaluator))
        path = result.path(KEY, DEFAULTS)
        parts = PurePosixPath(path.as_posix()).parts
        assert len(parts) == 5
        for part in parts:
            assert part not in (".", "..")
            assert len(part.encode()) <= 255
            assert not set(part) & set('/\\?:*"<>|\0\n')
        if len(name) < 12:
            assert unquote(parts[1]) == name
        paths.append(path)
    assert paths[0] != paths[1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read as JSON"),
        ("\udcff", "cannot be read as JSON"),
        ("[1]", "is not a result of pci-bench: it has no 'schema'"),
        ("{}", "is not a result of pci-bench: it has no 'schema'"),
        (json.dumps(content(schema=2)), "has schema 2; this version reads 1. Update pci-bench."),
        (json.dumps(content(schema="1")), "has schema 1; this version reads 1"),
        (json.dumps({**content(), "extra": 1}), "is not a result of pci-bench: extra"),
        (json.dumps(content(metrics={"accuracy": "high"})), "is not a result of pci-bench: metrics.accuracy"),
        (json.dumps(content(metrics={"accuracy": math.nan})), "cannot be read as JSON .metrics.accuracy is nan"),
        (json.dumps(content(intervals={"accuracy": [1]})), "is not a result of pci-bench: intervals.accuracy.1"),
        (json.dumps({k: v for k, v in content().items() if k != "dataset"}), "is not a result of pci-bench: dataset"),
    ],
)
def test_a_file_that_is_no_result_of_this_schema_is_refused_by_name(tmp_path, text, sentence):
    file = tmp_path / "r.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=sentence) as error:
        read_result(file)
    assert str(file) in str(error.value)


def test_an_absent_file_and_an_empty_folder_are_sentences(tmp_path):
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_result(tmp_path / "absent.json")
    with pytest.raises(UserError, match=r"There are no results in .*pci-bench run"):
        read_results(tmp_path)


def test_damaged_predictions_are_named(tmp_path):
    file = tmp_path / "r.json"
    write_result(Result.model_validate(content()).with_tables(predictions()), file)
    file.with_suffix(".parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"r\.parquet cannot be read as Parquet"):
        read_result(file)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_never_written(tmp_path, bad):
    with pytest.raises(pydantic.ValidationError):
        Result.model_validate(content(metrics={"accuracy": bad}))
    with pytest.raises(pydantic.ValidationError):
        Result.model_validate(content(intervals={"accuracy": [0, bad]}))
    hidden = Result.model_validate(content(details={"deep": [{"down": bad}]})).with_tables(predictions())
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_result(hidden, tmp_path / "r.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "run.json", {"seconds": bad})
    assert list(tmp_path.glob("**/*.*")) == []


class Careless(Evaluator):
    """An evaluator whose metric, or its interval, is not a number."""

    meta = EvaluatorMeta("careless", "1", "Careless", "score")

    class Params(pydantic.BaseModel):
        pass

    def __init__(self, metric, interval):
        self.outcome = Outcome({}, {"score": metric}, {"score": interval})

    def unavailable_reason(self, adata, params):
        return None

    def __call__(self, adata, grid, run):
        yield self.outcome


@pytest.mark.parametrize(("metric", "interval"), [(math.nan, (0.0, 1.0)), (0.5, (0.0, math.inf))])
def test_an_evaluator_that_gives_no_number_is_named(make_cells, monkeypatch, metric, interval):
    monkeypatch.setattr(evaluation.EVALUATORS, "get", lambda name: Careless(metric, interval))
    adata = annotated(np.zeros((20, 1)), ["x"], make_cells(), Provenance(features=FeaturesProvenance("mine")))
    with pytest.raises(UserError, match=r"careless gave score = .* for mine; results hold finite numbers only"):
        evaluation.evaluate("careless", adata)


def test_provenance_names_versions_that_are_installed_and_is_json():
    import scipy
    import sklearn

    found = run_facts(device="a processor", threads=2, seed=3, seconds=1.23456, started="2026-11-22")
    assert versions()["numpy"] == np.__version__
    assert versions()["scipy"] == scipy.__version__
    assert versions()["scikit-learn"] == sklearn.__version__
    assert (found["seed"], found["threads"], found["seconds"]) == (3, 2, 1.235)
    assert found["peak_rss_bytes"] is None or found["peak_rss_bytes"] > 10_000_000
    assert "openblas" in blas().lower() or blas() == "" or "mkl" in blas().lower() or blas()
    assert git_revision() is None or len(git_revision().partition("+")[0]) == 12
    json.dumps(found, allow_nan=False)
