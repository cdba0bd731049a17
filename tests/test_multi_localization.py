"""Cells between two compartments: the score by a loop, medians by hand, planted mixtures and variable proteins."""

from __future__ import annotations

import itertools
import math

import anndata
import numpy as np
import pandas as pd
import pytest
from factories import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import pci_bench
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.conformance import evaluators as contracts
from pci_bench.errors import UserError
from pci_bench.evaluators.multi_localization import variability
from pci_bench.reporting.figures import draw
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reporting.tables.fill import fill
from pci_bench.runs.results import read_result, write_result
from pci_bench.statistics.compartments import (
    NEAREST,
    Units,
    _weighted_median,
    annotated_cells,
    compartment_scores,
    precision_of,
    scores_of_averages,
    separation,
    summary,
    weighted_summary,
)
from pci_bench.statistics.scaling import standardized


def mixed(*, proteins=8, lines=2, cells=10, d=12, apart=4.0, noise=0.6, seed=0, name="planted", **columns):
    """Cells whose protein is in the cytosol, the nucleoplasm, mixed at a fraction, or all in one of both by chance."""
    rng = np.random.default_rng(seed)
    fractions = {"Cytosol": np.zeros(proteins), "Nucleoplasm": np.ones(proteins)}
    fractions["Nucleoplasm;Cytosol"] = np.linspace(0.05, 0.95, proteins)
    rows, values = [], []
    for (terms, shares), line in itertools.product(fractions.items(), range(lines)):
        for number, share in enumerate(shares):
            protein = f"{terms}-{number}"
            variable = ";" in terms and number % 4 == 1
            for _ in range(cells):
                second = float(rng.random() < share) if variable else share
                rows.append((protein, f"{protein}-{line}", terms, f"line{line}", share, variable))
                values.append(np.eye(d)[0] * apart * second + rng.normal(0, noise, d))
    obs = pd.DataFrame(rows, columns=["protein", "image", "labels", "cell_line", "share", "variable"])
    of = {"dataset": {"name": name, "confounder": "image"}, "features": {"name": "planted"}}
    return make_features(values, of, **{**obs, **columns})


# The score


def by_loop(features, annotation, groups=None):
    values = StandardScaler().fit_transform(np.asarray(features, np.float64))
    found = []
    for row, cell in enumerate(values):
        others = np.ones(len(values), bool) if groups is None else groups != groups[row]
        first, second = (values[others & (annotation == alone)].mean(axis=0) for alone in (0, 1))
        found.append(np.log(np.linalg.norm(cell - first) / np.linalg.norm(cell - second)))
    return np.array(found)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("n", [30, 400])
def test_the_score_is_the_log_ratio_of_the_distances_to_both_averages(n, grouped, monkeypatch):
    monkeypatch.setattr("pci_bench.statistics.compartments.BLOCK_ROWS", 64)
    rng = np.random.default_rng(n)
    features = (rng.normal(size=(n, 9)) * rng.uniform(0.1, 30, 9) + 50).astype(np.float32)
    annotation, groups = rng.integers(0, 3, n), rng.integers(0, 7, n) if grouped else None
    np.testing.assert_allclose(
        compartment_scores(features, annotation, groups), by_loop(features, annotation, groups), rtol=1e-7, atol=1e-9
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 40), st.integers(1, 6), st.booleans())
def test_swapping_the_compartments_changes_nothing_but_the_sign(seed, n, d, grouped):
    rng = np.random.default_rng(seed)
    features, annotation = rng.integers(-2, 3, (n, d)).astype(float), rng.permutation(np.arange(n) % 3)
    annotation[:4], groups = [0, 0, 1, 1], np.arange(n) if grouped else None
    swapped = np.choose(annotation, [1, 0, 2])
    scores = compartment_scores(features, annotation, groups)
    assert np.isfinite(scores).all()
    assert (compartment_scores(features, swapped, groups) == -scores).all()


def test_a_cell_on_an_average_has_a_finite_score():
    features = np.array([[0.0, 0.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0], [1.0, 1.0]])
    scores = compartment_scores(features, np.array([0, 1, 1, 1, 2]))
    assert scores[0] == pytest.approx(np.log(NEAREST))
    assert scores[1:4] == pytest.approx(-np.log(NEAREST))
    assert scores[4] == pytest.approx(0, abs=1e-9)


def test_features_that_do_not_vary_score_0():
    assert (compartment_scores(np.full((6, 3), 7.0), np.array([0, 0, 1, 1, 2, 2])) == 0).all()


def test_a_cells_own_part_in_an_average_separates_noise_and_leaving_it_out_does_not():
    adata = mixed(apart=0.0, d=200, cells=4)
    own, others = pci_bench.evaluate("multi-localization", adata, exclude=["none", "protein"])
    assert own.metrics["separation"] > 0.75
    assert others.metrics["separation"] == pytest.approx(0.5, abs=0.1)


# What is said of the scores


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 4)), min_size=1, max_size=12).filter(lambda x: any(w for _, w in x)))  # fmt: skip
def test_a_weighted_median_is_that_of_repeated_values(pairs):
    values, weights = np.array(sorted(pairs), float).T
    assert _weighted_median(values, weights.astype(int)) == np.median(np.repeat(values, weights.astype(int)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=15), st.lists(st.integers(0, 6), min_size=1, max_size=15))
def test_separation_is_the_area_under_the_roc_curve(first, second):
    expected = roc_auc_score([0] * len(first) + [1] * len(second), [*first, *second])
    assert separation(np.array(first), np.array(second)) == pytest.approx(expected)


def test_the_share_between_counts_scores_strictly_between_the_single_medians():
    scores = np.array([-3, -1, -2, 4, 6, 5, -2, -1.9, 0, 4.9, 5, 9.0])
    found = summary(scores, np.repeat([0, 1, 2], [3, 3, 6]))
    assert (found["median_first"], found["median_second"]) == (-2, 5)
    assert found["both_between"] == 3 / 6
    assert summary(-scores, np.repeat([0, 1, 2], [3, 3, 6]))["both_between"] == 3 / 6


def test_a_weighted_summary_is_that_of_repeated_cells():
    rng = np.random.default_rng(0)
    annotation = np.repeat([0, 1, 2], [20, 25, 30])
    scores = rng.integers(-4, 5, 75) / 2
    for _ in range(20):
        weights = rng.integers(0, 3, 75)
        repeated = np.repeat(np.arange(75), weights)
        expected = summary(scores[repeated], annotation[repeated])
        assert weighted_summary(scores, annotation, weights) == pytest.approx(expected)


@pytest.mark.parametrize("exclude", [None, "protein", "half"])
def test_scores_without_some_proteins_are_those_of_a_table_without_them(exclude):
    rng = np.random.default_rng(0)
    annotation, protein = np.repeat([0, 1, 2], 40), np.repeat(np.arange(12), 10)
    features = standardized(rng.normal(size=(120, 5)) + annotation[:, None])
    groups = {None: None, "protein": protein, "half": np.arange(120) % 4 // 2}[exclude]
    units = Units.of(annotation, protein)
    kept = np.ones((3, 12), np.int64)
    kept[1, [0, 5]] = kept[2, 1] = 0
    weights = np.stack([kept * (units.kind == kind) for kind in (0, 1)])
    found = scores_of_averages(features, units.code, weights, groups, precision_of(features, units.code, kept))
    for scores, rows in zip(found, kept[:, units.code] > 0, strict=True):
        own = None if groups is None else groups[rows]
        expected = compartment_scores(features[rows], annotation[rows], own)
        np.testing.assert_allclose(scores[rows], expected, atol=1e-5)


def test_units_are_proteins_and_cells_where_an_annotation_has_one_protein():
    annotation = np.repeat([0, 1, 2], [4, 3, 4])
    units = Units.of(annotation, np.array([0, 0, 1, 1, 5, 5, 5, 0, 0, 2, 2]))
    assert units.by_protein.tolist() == [True, False, True]
    assert units.kind.tolist() == [0, 0, 1, 1, 1, 2, 2]
    kept, factor = units.halves(1, np.random.default_rng(0))
    assert (kept[:, units.kind == 1].sum(axis=1) == 2).all()
    assert (kept[:, units.kind != 1] == 1).all()
    assert factor == 2  # one of three left out


def test_chance_is_one_half_on_noise_only_where_a_cell_is_measured_against_others():
    own, others = pci_bench.evaluate(
        "multi-localization", mixed(apart=0.0, proteins=6, cells=4, d=40), exclude=["none", "protein"]
    )
    assert own.metrics["chance_separation"] > 0.7
    assert others.metrics["chance_separation"] == pytest.approx(0.5, abs=0.1)
    assert own.metrics["separation"] == pytest.approx(own.metrics["chance_separation"], abs=0.15)


# Which cells


def test_only_images_of_one_compartment_or_of_exactly_both_are_used():
    cases = [
        ("Cytosol", 0), ("cytosol ", 0), ("Nucleoplasm", 1), ("Nucleoplasm;Cytosol", 2), ("cytosol;nucleoplasm", 2),
        ("Cytosol;Nucleoplasm;Vesicles", -1), ("Vesicles", -1), ("", -1), ("Cytosol;Vesicles", -1),
    ]  # fmt: skip
    terms, expected = zip(*cases, strict=True)
    images = np.array([f"image{i}" for i in range(len(cases))], object)
    assert annotated_cells(np.array(terms, object), images, "CYTOSOL", "nucleoplasm").tolist() == list(expected)


def test_an_images_terms_are_those_of_all_its_cells():
    terms = np.array(["a", "b", "a", "a", "", "b"], object)
    images = np.array(["1", "1", "2", "2", "2", ""], object)
    assert annotated_cells(terms, images, "a", "b").tolist() == [2, 2, 0, 0, 0, -1]


def test_mean_and_sd_are_by_protein_and_line_and_the_ten_most_variable_images_come_first():
    rng = np.random.default_rng(0)
    cells = pd.DataFrame({"image": rng.permutation(np.repeat(np.arange(14), 5)), "score": rng.normal(size=70)})
    cells["protein"], cells["cell_line"] = (
        (cells["image"] // 4).map("P{}".format),
        (cells["image"] % 2).map("L{}".format),
    )
    cells.loc[70] = [99, 5.0, "alone", "L0"]
    proteins, images = variability(cells)
    for row in proteins.to_dict("records"):
        scores = cells["score"][(cells["protein"] == row["protein"]) & (cells["cell_line"] == row["cell_line"])]
        assert (row["cells"], row["mean"], row["sd"]) == (len(scores), pytest.approx(np.mean(scores)), pytest.approx(np.std(scores)))  # fmt: skip
    assert len(proteins) == len(cells[["protein", "cell_line"]].drop_duplicates())
    assert proteins.set_index("protein").loc["alone", ["images", "cells", "sd"]].tolist() == [1, 1, 0]
    expected = cells.groupby("image")["score"].std(ddof=0).sort_values(ascending=False)[:10]
    assert images["image"].tolist() == expected.index.tolist()
    assert images["sd"].tolist() == pytest.approx(expected.tolist())


# Results on synthetic cells


def test_planted_mixtures_order_the_scores_and_variable_proteins_their_sd():
    adata = mixed(proteins=12)
    (result,) = pci_bench.evaluate("multi-localization", adata)
    truth = adata.obs[adata.obs["labels"].str.contains(";")].groupby("protein")[["share", "variable"]].first()
    table = result.tables["proteins"].groupby("protein")[["mean", "sd"]].mean().join(truth)
    steady = table[~table["variable"]]
    assert spearmanr(steady["mean"], steady["share"]).statistic > 0.95
    assert table["sd"][table["variable"]].min() > steady["sd"].max()
    mostly = result.tables["variable-images"]["protein"].head(6)
    assert mostly.map(truth["variable"]).all()
    assert result.metrics["median_first"] < result.metrics["median_both"] < result.metrics["median_second"]
    assert result.metrics["median_first"] < 0 < result.metrics["median_second"]
    assert result.metrics["separation"] > 0.99
    assert result.metrics["both_between"] > 0.5


def test_the_ten_most_variable_images_stand_beside_the_annotated_ones():
    """Paper: 6 of 10, and 5 of 10, were annotated as variable by the Human Protein Atlas."""
    adata = mixed(proteins=12)
    adata.obs["variability"] = np.where(adata.obs["variable"], "Nucleoplasm", "")
    (result,) = pci_bench.evaluate("multi-localization", adata)
    table, both = result.tables["variable-images"], adata.obs[adata.obs["labels"].str.contains(";")]
    truth = both.groupby("image")["variable"].first()
    assert table["annotated"].tolist() == table["image"].map(truth).tolist()
    count = int(table["annotated"].sum())
    assert count == truth.sum() == 6  # three proteins in two lines, all of them among the ten
    assert result.metrics["annotated_variable"] == count / 10
    known = result.details["annotated_variable"]
    assert (known["annotated"], known["images"], known["annotated_images"]) == (6, len(truth), 6)
    draws = math.comb(24, 10)
    assert known["p"] == pytest.approx(math.comb(18, 4) / draws)  # all six among ten of 24
    both = result.predictions[result.predictions["annotation"] == "cytosol and nucleoplasm"]
    sd = both.groupby("image")["score"].std(ddof=0)
    assert known["auc"] == pytest.approx(roc_auc_score(truth[sd.index], sd))
    (numbers,) = pci_bench.evaluate("multi-localization", adata.copy(), variable="share")
    assert numbers.metrics["annotated_variable"] == 1  # every share of a mixed protein is above 0


def test_without_an_annotation_nothing_is_said_of_variability():
    (plain,) = pci_bench.evaluate("multi-localization", mixed())
    (empty,) = pci_bench.evaluate("multi-localization", mixed(variability=""))
    assert plain.metrics == empty.metrics
    assert "annotated_variable" not in plain.metrics
    assert "annotated" not in empty.tables["variable-images"]


def test_every_cell_has_its_score_and_the_metrics_follow_from_them():
    adata = mixed()
    more = anndata.concat([adata, adata[:7].copy()], index_unique="-")
    more.obs.iloc[-7:, more.obs.columns.get_indexer(["labels", "image"])] = ["Vesicles", "another"]
    more.obs["cell"], more.uns = more.obs_names, adata.uns
    (result,) = pci_bench.evaluate("multi-localization", more)
    cells = result.predictions
    assert cells["cell"].tolist() == more.obs_names[:-7].tolist()
    kinds = {
        "Cytosol": "cytosol only",
        "Nucleoplasm": "nucleoplasm only",
        "Nucleoplasm;Cytosol": "cytosol and nucleoplasm",
    }
    assert cells["annotation"].astype(str).tolist() == adata.obs["labels"].map(kinds).tolist()
    annotation = cells["annotation"].cat.codes.to_numpy()
    np.testing.assert_allclose(cells["score"], by_loop(adata.X, annotation), rtol=1e-6, atol=1e-9)
    medians = cells.groupby("annotation", observed=True)["score"].median()
    assert result.metrics["median_both"] == medians["cytosol and nucleoplasm"]
    assert result.details["left_out"] == {"cells": 7}
    for kind, group in result.details["groups"].items():
        mine = cells[cells["annotation"] == kind]
        assert (group["cells"], group["images"], group["proteins"]) == (160, 16, 8)
        assert group["quartiles"] == pytest.approx(np.quantile(mine["score"], [0.25, 0.5, 0.75]))
    for name, (low, high) in result.intervals.items():
        assert low <= result.metrics[name] <= high


def test_order_scale_and_names_of_cells_change_nothing():
    adata = mixed(apart=1.0)
    (first,) = pci_bench.evaluate("multi-localization", adata)
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    shuffled.X = shuffled.X * np.float32(8)
    for column in ("protein", "image", "cell_line"):
        shuffled.obs[column] = "renamed " + shuffled.obs[column].astype(str)
    (again,) = pci_bench.evaluate("multi-localization", shuffled)
    assert again.metrics == pytest.approx(first.metrics, abs=1e-9)
    for name, interval in first.intervals.items():
        assert again.intervals[name] == pytest.approx(interval, abs=1e-9)
    (turned,) = pci_bench.evaluate("multi-localization", adata, first="nucleoplasm", second="cytosol")
    assert turned.metrics["median_both"] == -first.metrics["median_both"]
    assert turned.metrics["separation"] == pytest.approx(first.metrics["separation"])


def test_tables_lie_beside_the_result_and_figures_show_the_most_variable_images(tmp_path):
    (result,) = pci_bench.evaluate("multi-localization", mixed(cells=4), exclude="protein")
    write_result(result, tmp_path / "one.json")
    read = read_result(tmp_path / "one.json")
    assert set(read.tables) == {"proteins", "variable-images"}
    assert read.tables["proteins"]["sd"].tolist() == pytest.approx(result.tables["proteins"]["sd"].tolist())
    files = draw([read], tmp_path)
    stem = "multi-localization-cytosol-nucleoplasm-planted-other-proteins"
    assert {f.name for f in files} == {
        f"{stem}{part}.{suffix}" for part in ("", "-images") for suffix in ("csv", "png", "svg")
    }
    text = (tmp_path / f"{stem}-images.svg").read_text()
    for protein in result.tables["variable-images"]["protein"].head(4):
        assert f">{protein}<" in text


def test_images_of_one_cell_and_compartments_of_one_protein_are_enough():
    adata = mixed(proteins=1, lines=1, cells=1)
    (result,) = pci_bench.evaluate("multi-localization", adata)
    assert np.isfinite(list(result.metrics.values())).all()
    assert "cells where annotated with cytosol only, nucleoplasm only, cytosol and nucleoplasm" in result.details["interval"]  # fmt: skip


def test_the_table_has_each_column_once_and_its_numbers_are_the_results():
    own, others = results = pci_bench.evaluate("multi-localization", mixed(apart=1.0), exclude=["none", "protein"])
    (_, reason), (name, entries) = fill(TABLES.get("figure5a"), results, {}, "planted").rows
    assert (name, reason) == ("planted", "not asked for; name it with --features")
    names = ("median_first", "median_both", "median_second", "both_between", "separation")
    last = ("separation", "chance_separation")
    expected = [(r, n) for r, chosen in ((own, (*names, last[1])), (others, last)) for n in chosen]
    assert [e.value for e in entries] == [r.metrics[n] for r, n in expected]
    assert [e.interval for e in entries] == [r.intervals.get(n) for r, n in expected]
    assert all(not any(e) for _, e in fill(TABLES.get("figure5b"), results, {}, "planted").rows[1:])


def test_the_benchmark_names_the_compartments_as_each_dataset_does():
    benchmark = BENCHMARKS.get("human-multilocalization")
    pairs = {
        name: [(e.grid["first"], e.grid["second"]) for e in benchmark.evaluations_on(name)]
        for name in ("hpa-v18", "human-sim")
    }
    assert pairs["hpa-v18"] == [(["cytosol"], ["nucleoplasm"]), (["nucleoli"], ["nucleus"])]
    assert pairs["human-sim"] == [(["cytosol"], ["nucleoplasm"]), (["nucleoli"], ["nucleoplasm"])]


def test_the_contracts_of_evaluators_are_kept_where_there_are_compartments():
    trial = contracts.EvaluatorTrial("multi-localization")
    trial.adata = mixed(cells=4, label="ER")
    for check in ("numbers", "predictions", "same_seed", "grid_or_alone", "input_is_kept", "any_order"):
        getattr(contracts, check)(trial)


# What cannot be run, and why

SKIPPED = {
    "no terms": ({"labels": None}, {}, "planted has no column 'labels'"),
    "no images": ({"image": None}, {}, "planted has no column 'image'"),
    "no proteins": ({"protein": ""}, {}, "the column 'protein' of planted is empty"),
    "an unknown compartment": ({}, {"second": "nucleoli"}, "no image of planted is annotated with nucleoli only; its terms are Cytosol, Nucleoplasm"),
    "nothing of both": ({"labels": ["Cytosol", "Nucleoplasm"] * 240, "image": [f"i{i % 2}" for i in range(480)]}, {}, "no image of planted is annotated with cytosol and nucleoplasm"),
    "one compartment": ({}, {"second": "CYTOSOL"}, "first and second are both 'cytosol'; name two compartments"),
    "no such column": ({}, {"exclude": "plate"}, "planted has no column 'plate'"),
    "all of one protein": ({"protein": "P"}, {"exclude": "protein"}, "all cells annotated with cytosol only share one 'protein', so with exclude=protein none is left"),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "grid", "reason"), SKIPPED.values(), ids=SKIPPED)
def test_what_cannot_be_evaluated_gives_its_reason(columns, grid, reason):
    with pytest.raises(UserError) as caught:
        pci_bench.evaluate("multi-localization", mixed(**columns), **grid)
    assert str(caught.value).startswith(f"multi-localization cannot be run: {reason}")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_features_are_refused(bad):
    adata = mixed()
    adata.X[3, 2] = bad
    with pytest.raises(UserError, match="NaN or infinite"):
        pci_bench.evaluate("multi-localization", adata)


@pytest.mark.parametrize("exclude", ["cell", "image", "confounder", "protein"])
def test_a_confounder_is_resolved_before_results_are_written(exclude):
    (result,) = pci_bench.evaluate("multi-localization", mixed(), exclude=exclude)
    assert result.evaluator.params["exclude"] == {"confounder": "image"}.get(exclude, exclude)
