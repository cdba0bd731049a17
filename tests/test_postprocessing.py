"""What is done to features before they are evaluated: scikit-learn, SciPy, a loop, and ranks that are planted."""

import json

import numpy as np
import pandas as pd
import pytest
from command_line import call
from factories import make_features
from scipy.stats import kendalltau, median_abs_deviation
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler, normalize

from pci_bench import UserError, evaluate
from pci_bench.api.evaluator import EVALUATORS, DatasetReasons
from pci_bench.benchmarks import Benchmark
from pci_bench.data.provenance import Provenance
from pci_bench.features.postprocessing import Postprocessing, postprocess, postprocessings
from pci_bench.reporting.figures.rank_changes import rank_change_figures
from pci_bench.reporting.rank_changes import changes_of
from pci_bench.reporting.tables.rank_changes import rank_change_tables
from pci_bench.runs.evaluation import evaluated
from pci_bench.runs.rank_changes import RankChanges
from pci_bench.runs.runner import run_again
from pci_bench.statistics.postprocessing import (
    principal_components,
    robust_z_scores,
    sphering,
    unit_length,
    z_scores,
)
from pci_bench.system.progress import Progress


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) * [1, 10, 0.1, 3, 1] + 5).astype(np.float32)


def table(values, **columns):
    n = len(values)
    obs = {"cell": [f"cell{i}" for i in range(n)], "label": ["a", "b"] * (n // 2), "plate": ["1", "2", "3"] * (n // 3)}
    return make_features(
        values,
        {"dataset": {"name": "planted", "confounder": "plate"}, "features": {"name": "mine"}},
        **{**obs, **columns},
    )


def test_z_scores_are_those_of_scikit_learn_and_constant_columns_are_zeros(values):
    values = np.column_stack([values, np.full(len(values), 0.1, np.float32)])
    scaled = z_scores(values).apply(values)
    assert np.allclose(scaled[:, :-1], StandardScaler().fit_transform(values[:, :-1].astype(float)), atol=1e-12)
    assert (scaled[:, -1] == 0).all()


def test_robust_z_scores_are_of_scipys_median_absolute_deviation(values):
    expected = (values - np.median(values, axis=0)) / median_abs_deviation(values.astype(float), scale=1 / 1.4826)
    assert np.allclose(robust_z_scores(values).apply(values), expected, atol=1e-5)


def test_a_column_that_is_mostly_zero_is_scaled_by_its_mean_deviation_and_not_lost():
    column = np.array([0, 0, 0, 0, 0, 0, 0, 3, 0, 7], float)[:, None]
    assert np.allclose(robust_z_scores(column).apply(column), column / (1.2533 * 1.0))


def test_principal_components_are_scikit_learns_up_to_their_signs(values):
    fitted = principal_components(values, 3)
    pca = PCA(3, svd_solver="full").fit(StandardScaler().fit_transform(values.astype(float)))
    expected = pca.transform(StandardScaler().fit_transform(values.astype(float)))
    mapped = fitted.apply(values)
    assert np.allclose(np.abs(mapped), np.abs(expected), atol=1e-9)
    whitened = principal_components(values, 3, whitened=True).apply(values)
    assert np.allclose(np.cov(whitened, rowvar=False), np.eye(3), atol=1e-9)
    assert np.allclose(np.abs(whitened), np.abs(expected) / np.sqrt(pca.explained_variance_), atol=1e-9)


def test_signs_of_components_do_not_depend_on_the_cells_order_and_the_largest_loading_is_positive(values):
    adata = table(values)
    order = np.random.default_rng(1).permutation(len(values))
    whole, shuffled = postprocess(adata, "pca4").X, postprocess(adata[order].copy(), "pca4").X
    assert np.allclose(whole[order], shuffled, atol=1e-12)
    loadings = principal_components(values, 4).weights * values.astype(float).std(axis=0)[:, None]
    assert (loadings[np.abs(loadings).argmax(axis=0), range(4)] > 0).all()


def test_there_are_no_more_components_than_cells_and_columns_allow_and_it_is_said(values):
    assert principal_components(values[:4], 64).apply(values[:4]).shape == (4, 3)
    with pytest.warns(UserWarning, match="5 components, since 60 cells and 5 features have no more"):
        evaluate("loo-knn", table(values), k=3, postprocess="pca64")


def test_sphering_is_the_inverse_root_of_the_correlation_matrix(values):
    exact = values.astype(float)
    scaled = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    eigenvalues, vectors = np.linalg.eigh(np.cov(scaled, rowvar=False))
    expected = scaled @ vectors @ np.diag(eigenvalues**-0.5) @ vectors.T
    mapped = sphering(values).apply(values)
    assert np.allclose(mapped, expected, atol=1e-5)
    assert np.allclose(np.cov(mapped, rowvar=False), np.eye(5), atol=1e-5)


def test_sphering_leaves_directions_without_variance_at_zero(values):
    doubled = np.column_stack([values, values[:, 0], np.ones(len(values))])
    mapped = sphering(doubled).apply(doubled)
    assert np.isfinite(mapped).all()
    assert np.abs(mapped).max() < 10
    assert np.linalg.matrix_rank(mapped, tol=1e-6) == 5
    assert (mapped[:, -1] == 0).all()


def test_neighbours_by_distance_of_unit_lengths_are_those_by_cosine(values):
    scaled = unit_length(values)
    assert np.allclose(scaled, normalize(values.astype(float)), atol=1e-12)
    distances = ((scaled[:, None] - scaled[None]) ** 2).sum(axis=2)
    assert np.allclose(distances, 2 - 2 * cosine_similarity(values.astype(float)), atol=1e-9)


def test_controls_and_plates_are_what_a_loop_over_them_finds(values):
    kind = np.array((["DMSO"] * 3 + ["drug"] * 3) * 10)
    adata = table(values, compound=kind)
    plates = adata.obs["plate"].to_numpy()
    expected = np.empty(values.shape)
    for plate in np.unique(plates):
        controls = values[(plates == plate) & (kind == "DMSO")].astype(float)
        centre = np.median(controls, axis=0)
        spread = 1.4826 * np.median(np.abs(controls - centre), axis=0)
        expected[plates == plate] = (values[plates == plate] - centre) / spread
    assert np.allclose(postprocess(adata, "robust-z:plate:controls=compound=DMSO").X, expected)


def test_steps_are_done_in_their_order_and_provenance_says_so(values):
    adata = postprocess(table(values), "z-score:plate+l2")
    assert np.allclose(adata.X, normalize(postprocess(table(values), "z-score:plate").X))
    assert Provenance.of(adata).features.postprocess == "z-score:plate+l2"


def test_none_leaves_features_as_they_are_so_that_they_are_standardised(values):
    adata = table(values)
    assert postprocess(adata, "none") is adata
    assert Provenance.of(adata).features.postprocess == ""


def test_changed_cells_are_mapped_as_the_evaluated_ones_were(values):
    adata = table(values)
    fitted = Postprocessing.parse("z-score:plate").fitted(adata)
    assert np.allclose(fitted.apply(adata[:7].copy()).X, fitted.apply(adata).X[:7])


def test_z_scores_of_an_evaluation_are_its_own_standardisation(values):
    plain, scored = evaluate("loo-knn", table(values), k=3, postprocess=["none", "z-score"])
    assert plain.metrics == scored.metrics
    assert "postprocess" not in plain.evaluator.params
    assert plain.evaluator.params["scale"] == "all"
    assert (scored.evaluator.params["postprocess"], scored.evaluator.params["scale"]) == ("z-score", "none")
    assert "transductive" in scored.details["postprocessing"]["what"]


def test_an_evaluators_own_standardisation_does_not_undo_unit_length_or_unwhitened_components():
    rng = np.random.default_rng(3)
    label = np.arange(40) % 2
    angle = np.where(label == 0, 0.2, 0.8) + rng.normal(0, 0.02, 40)
    values = np.column_stack([np.cos(angle), np.sin(angle)]) * rng.lognormal(0, 2, (40, 1))
    adata = table(np.repeat(values, 3, axis=0)[:39], label=np.repeat(np.array(["a", "b"])[label], 3)[:39])
    plain, by_direction = evaluate("loo-knn", adata, k=3, exclude="cell", postprocess="none,l2")
    assert by_direction.metrics["balanced_accuracy"] == 1.0
    assert by_direction.metrics["balanced_accuracy"] >= plain.metrics["balanced_accuracy"]
    cells = table(values, label=np.array(["a", "b"])[label], plate=["1", "2"] * 20)
    _, cosine = evaluate("loo-knn", cells, k=3, postprocess="none,l2")
    reference = evaluate("loo-knn", cells, k=3, scale="none", metric="cosine")[0]
    assert cosine.metrics == reference.metrics


def test_distances_between_images_keep_a_post_processing_as_it_is(values):
    columns = {
        "protein": [f"p{i % 12}" for i in range(60)],
        "image": [f"i{i % 12}" for i in range(60)],
        "label": [f"l{i % 2}" for i in range(60)],
    }
    plain, scored, whitened = evaluate(
        "pairwise-distance",
        table(values, **columns),
        pairs=20,
        minimum_proteins=2,
        terms="label",
        postprocess=["none", "z-score", "sphering"],
    )
    assert plain.metrics == pytest.approx(scored.metrics)
    assert plain.metrics != pytest.approx(whitened.metrics)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zscore", "There is no post-processing 'zscore'. Known are none, z-score"),
        ("robust-z:label", "would be fitted within each class, and tell the labels"),
        ("pca64:plate", "pca64 has one set of axes for all cells"),
        ("l2:plate", "l2 is of each cell by itself"),
        ("robust-z:controls=DMSO", "names no controls. Write robust-z:controls=COLUMN=VALUE"),
        ("robust-z:well", "planted has no column 'well'; its columns are cell, label, plate"),
        ("robust-z:controls=plate=9", "no cell of planted has '9' in the column 'plate'"),
        ("", "There is no post-processing ''"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(values, text, message):
    with pytest.raises(UserError) as error:
        evaluate("loo-knn", table(values), k=3, postprocess=text)
    assert message in str(error.value)


def test_features_with_nan_are_refused(values):
    values[3, 1] = np.nan
    with pytest.raises(UserError, match="post-processing needs finite ones"):
        postprocess(table(values), "pca2")


def test_a_list_is_read_from_a_benchmark_and_a_wrong_one_is_named():
    declared = {
        "name": "b",
        "title": "",
        "datasets": [],
        "features": [],
        "evaluate": [{"name": "loo-knn", "postprocess": "l2"}, {"name": "umap"}],
    }
    benchmark = Benchmark(**declared, postprocess=["none", "pca64"])
    assert [e.postprocess for e in benchmark.evaluations_on("any")] == [("l2",), ("none", "pca64")]
    assert all("postprocess" not in e.grid for e in benchmark.evaluate)
    with pytest.raises(ValueError, match="There is no post-processing 'pca'"):
        Benchmark(**declared, postprocess=["pca"])
    assert list(map(str, postprocessings("none, l2"))) == ["none", "l2"]


@pytest.mark.usefixtures("simulated_cache")
def test_a_run_writes_results_of_each_post_processing_and_a_table_and_a_figure_of_ranks(tmp_path, capsys, monkeypatch):
    arguments = ["--dataset", "yeast-sim", "--features", "intensity,noise", "--k", "5", "--limit", "100"]
    said = call(capsys, monkeypatch, "run", "yeast-knn", *arguments, "--postprocess", "none,pca2", "--out", tmp_path)
    assert said.code == 0
    assert "Ranks under each post-processing" in said.out
    of_intensity = tmp_path / "results" / "yeast-sim" / "intensity" / "loo-knn"
    assert (of_intensity / "k=5,exclude=image,scale=none,candidates=balanced,postprocess=pca2.json").is_file()
    plain = json.loads((of_intensity / "k=5,exclude=image.json").read_text(encoding="utf-8"))
    assert "postprocess" not in plain["evaluator"]["params"]
    ranks = pd.read_csv(tmp_path / "tables" / "rank-changes.csv")
    assert set(ranks["postprocess"]) == {"none", "pca2"}
    assert set(ranks["rank"]) == {1, 2}
    assert (tmp_path / "figures" / "rank-changes.png").is_file()
    again = run_again(tmp_path / "run.json", out=tmp_path / "again")
    assert sum("postprocess" in r.evaluator.params for r in again) == len(again) / 2
    plain_table = pd.read_csv(next((tmp_path / "tables").glob("table1*.csv")))
    assert len(plain_table[plain_table.iloc[:, 0].str.startswith("intensity")]) == 1


def results_of(scores):
    """Results of feature sets under post-processings, with intervals of ±0.01."""
    rng = np.random.default_rng(0)
    adata = table(rng.normal(size=(60, 2)).astype(np.float32))
    (result,) = evaluate("loo-knn", adata, k=3, exclude="plate")
    made = []
    for (features, postprocess_), value in scores.items():
        params = result.evaluator.params | (
            {} if postprocess_ == "none" else {"postprocess": postprocess_, "scale": "none"}
        )
        made.append(
            result.model_copy(
                update={
                    "features": result.features.model_copy(update={"name": features}),
                    "evaluator": result.evaluator.model_copy(update={"params": params}),
                    "metrics": {"balanced_accuracy": value},
                    "intervals": {"balanced_accuracy": (value - 0.01, value + 0.01)},
                }
            ).with_tables(None)
        )
    return made


PLANTED = {
    ("a", "none"): 0.9, ("b", "none"): 0.8, ("c", "none"): 0.7, ("d", "none"): 0.695,
    ("a", "l2"): 0.9, ("b", "l2"): 0.6, ("c", "l2"): 0.7, ("d", "l2"): 0.705,
}  # fmt: skip


def test_ranks_their_agreement_and_exchanges_are_those_that_were_planted():
    ((what, changes),) = changes_of(results_of(PLANTED))
    assert what == "loo-knn on planted (k = 3; other plates only)"
    assert (changes.postprocessings, changes.features) == (["none", "l2"], ["a", "b", "c", "d"])
    assert changes.ranks("l2") == {"a": 1, "d": 2, "c": 3, "b": 4}
    agreement = changes.agreement("l2")
    assert agreement.tau == pytest.approx(kendalltau([4, 3, 2, 1], [4, 1, 2, 3]).statistic)
    assert (agreement.pairs, agreement.exchanged) == (6, 3)
    assert agreement.separably_exchanged == 2  # b with c and with d; those two are never told apart


def test_an_order_that_stays_has_tau_1_and_no_exchange():
    changes = RankChanges.of(results_of({key: value for key, value in PLANTED.items() if key[0] in "ac"}))
    assert changes.agreement("l2").tau == pytest.approx(1)
    assert changes.agreement("l2").exchanged == 0


def test_the_table_and_the_figure_show_ranks_and_numbers():
    results = results_of(PLANTED)
    ((stem, texts, pages),) = rank_change_tables(results)
    assert stem == "rank-changes"
    assert "| 4. 60.0 [59.0, 61.0]" in texts["md"]
    assert "3 of 6, told apart 2" in texts["md"]
    assert pages[0].columns == ["feature set", "none", "l2"]
    ((_, figure),) = rank_change_figures(results)
    lines = {tuple(line.get_ydata()) for line in figure.axes[0].lines}
    assert {(1, 1), (2, 4), (3, 3), (4, 2)} <= lines


def test_an_evaluator_of_the_network_itself_has_no_post_processing(values):
    class OfTheNetwork(type(EVALUATORS.get("inpainting-error"))):
        def dataset_reason(self, obs, dataset, params):
            return None

    adata = table(values)
    of_cells = DatasetReasons(adata.obs, Provenance.of(adata).dataset)
    l2 = Postprocessing.parse("l2")
    results, reasons = evaluated(
        OfTheNetwork(), adata, [{}], 0, Progress(), of_cells, benchmark=None, postprocessing=l2
    )
    assert (results, reasons) == (
        [],
        ["it evaluates the network and not its features, which post-processing l2 changes"],
    )


@pytest.mark.parametrize(
    ("evaluator", "params"),
    [
        ("loo-knn", {"k": 3}),
        ("label-efficiency", {"classifier": "knn", "counts": "3", "draws": 2, "folds": 3}),
        ("map", {"permutations": 19}),
        ("nuisance-probe", {"target": "plate", "k": 3}),
        ("level-distances", {}),
        ("batch-mixing", {"k": 5}),
        ("calibration", {"k": 5, "classifier": "knn"}),
        ("clustering-agreement", {"k": 5, "permutations": 2}),
        ("class-distances", {"min_proteins": 2}),
    ],
)
def test_no_evaluator_whitens_components_that_were_asked_for_unwhitened(evaluator, params):
    rng = np.random.default_rng(7)
    label = np.arange(60) % 3
    values = rng.normal(size=(60, 1)) * np.ones(6) + rng.normal(size=(60, 6)) * 0.3
    values[:, 3:] += label[:, None]
    columns = {
        "label": np.array(["a", "b", "c"])[label],
        "plate": np.array(["1", "2", "3", "4"])[np.arange(60) // 3 % 4],
        "image": [f"i{i // 3 % 8}" for i in range(60)],
        "protein": [f"p{i % 15}" for i in range(60)],
    }
    plain, whitened = evaluate(evaluator, table(values, **columns), postprocess=["pca5", "pca5-whitened"], **params)
    assert plain.metrics != whitened.metrics
