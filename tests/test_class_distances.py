"""Distances between classes of proteins, and whether screens agree on them: loops, all permutations, planted layouts."""

import itertools

import numpy as np
import pandas as pd
import pytest
from command_line import call
from factories import make_features
from report_page import Page
from scipy.stats import spearmanr
from sklearn.metrics import silhouette_samples
from sklearn.preprocessing import StandardScaler

from pci_bench import UserError, evaluate
from pci_bench.reporting.html import write_report
from pci_bench.reporting.tables.screens import agreement_tables, printed_in_text
from pci_bench.runs.runner import write_results
from pci_bench.statistics.class_distances import agreement, class_distances, mantel, nearness

CENTRES = {
    "nucleus": (0, 0),
    "nucleolus": (1, 0),
    "cytoplasm": (6, 0),
    "ER": (6, 2),
    "mitochondrion": (0, 9),
    "vacuole": (-8, 3),
}


def screen(name, seed, *, centres=CENTRES, d=7, turned=True, proteins=6, cells=4):
    """Cells of proteins whose classes lie as planted, in a feature space of its own."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(d, d)))[0] if turned else np.eye(d)
    rows, values = [], []
    for label, centre in centres.items():
        for protein in range(proteins):
            for cell in range(cells):
                rows.append((f"{label}-{protein}-{cell}", f"{label}-{protein}", label))
                values.append(np.r_[centre, np.zeros(d - 2)] + rng.normal(0, 0.3, d))
    obs = pd.DataFrame(rows, columns=["cell", "protein", "label"])
    of = {"dataset": {"name": name}, "features": {"name": "pci-conv4", "weights": f"of-{name}"}}
    return make_features(np.array(values) @ turn, of, **obs)


def distances_of(matrix, names):
    pairs = itertools.combinations(range(len(names)), 2)
    return pd.DataFrame([(names[i], names[j], matrix[i, j]) for i, j in pairs], columns=["first", "second", "distance"])


def random_distances(n, seed):
    points = np.random.default_rng(seed).normal(size=(n, 3))
    return np.linalg.norm(points[:, None] - points[None], axis=2)


def test_mantels_correlation_is_spearmans_and_its_p_that_of_all_permutations():
    one = random_distances(5, 0)
    noisy = one + random_distances(5, 1) * 0.5
    upper = np.triu_indices(5, 1)
    every = [
        spearmanr(one[upper], noisy[np.ix_(order, order)][upper]).statistic
        for order in map(list, itertools.permutations(range(5)))
    ]
    found, p = mantel(one, noisy, permutations=4000)
    assert found == pytest.approx(every[0])
    exact = np.mean(np.array(every) >= every[0] - 1e-12)
    assert p == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / 4000) + 1 / 4001)
    assert mantel(one, noisy, permutations=50, seed=3) == mantel(one, noisy, permutations=50, seed=3)
    assert mantel(one, np.ones((5, 5)) - np.eye(5)) == (0.0, 1.0)


def test_p_of_unrelated_distances_is_uniform():
    p = [mantel(random_distances(7, s), random_distances(7, 1000 + s), permutations=99)[1] for s in range(150)]
    assert 0.35 < np.mean(p) < 0.65
    assert np.mean(np.array(p) <= 0.1) < 0.2


def test_screens_with_the_same_layout_agree_in_spaces_of_their_own_and_others_do_not():
    """Features of two networks have nothing in common: other dimensions, turned and scaled."""
    adatas = [screen("one", 0), screen("two", 1, d=11), screen("three", 2, d=5)]
    adatas[1].X = adatas[1].X * 40 + 3
    results = [evaluate("class-distances", a)[0] for a in adatas]
    table = agreement({r.dataset.name: r.tables["distances"] for r in results})
    assert len(table) == 3
    assert (table["correlation"] > 0.95).all()
    assert (table["p"] < 0.02).all()
    assert (table["classes"] == 6).all()
    shuffled = dict(
        zip(
            CENTRES,
            [CENTRES[k] for k in ("mitochondrion", "vacuole", "nucleolus", "nucleus", "ER", "cytoplasm")],
            strict=True,
        )
    )
    (other,) = evaluate("class-distances", screen("four", 3, centres=shuffled))
    against = agreement({"one": results[0].tables["distances"], "four": other.tables["distances"]})
    assert against["p"].item() > 0.05


def test_only_classes_in_common_are_compared():
    one, other = random_distances(6, 0), random_distances(6, 1)
    names = [list("abcdef"), list("defabx")]
    (row,) = agreement({"1": distances_of(one, names[0]), "2": distances_of(other, names[1])}).to_dict("records")
    assert row["classes"] == 5
    shared = list("abdef")
    mine = [[n.index(c) for c in shared] for n in names]
    upper = np.triu_indices(5, 1)
    expected = spearmanr(one[np.ix_(mine[0], mine[0])][upper], other[np.ix_(mine[1], mine[1])][upper]).statistic
    assert row["correlation"] == pytest.approx(expected)
    few = agreement({"1": distances_of(one, names[0]), "2": distances_of(other, list("abuvwx"))})
    assert few["classes"].item() == 2
    assert few[["correlation", "p"]].isna().all(axis=None)


def test_distances_and_silhouettes_are_those_of_scikit_learn_on_the_proteins_means():
    adata = screen("one", 5)
    (result,) = evaluate("class-distances", adata)
    frame = pd.DataFrame(adata.X.astype(np.float64)).groupby(adata.obs["protein"].to_numpy()).mean()
    x = StandardScaler().fit_transform(frame)
    label = np.array([p.rpartition("-")[0] for p in frame.index])
    silhouettes = pd.Series(silhouette_samples(x, label)).groupby(label).mean()
    classes = result.tables["classes"].set_index("class")
    assert classes["silhouette"].to_dict() == pytest.approx(silhouettes.to_dict(), rel=1e-6)
    assert result.metrics["silhouette"] == pytest.approx(silhouettes.mean(), rel=1e-6)
    assert result.metrics["distinct_classes"] == (silhouettes > 0).mean()
    of_proteins = pd.Series(silhouette_samples(x, label)).groupby(label)
    variance = (of_proteins.var() / of_proteins.size()).sum() / len(
        silhouettes
    ) ** 2  # of a mean of independent class means
    half = np.diff(result.intervals["silhouette"]) / 2
    assert half == pytest.approx(1.96 * np.sqrt(variance), rel=0.25)  # Student's t, and one n − 1 for all classes
    for row in result.tables["distances"].itertuples():
        a, b = (x[label == name].mean(axis=0) for name in (row.first, row.second))
        assert row.distance == pytest.approx(np.linalg.norm(a - b), rel=1e-5)
    assert classes.loc["nucleolus", "nearest"] == "nucleus"
    assert class_distances(x, label, ["ER", "vacuole"]).shape == (2, 2)


def test_small_classes_are_left_out_and_too_few_classes_said():
    adata = screen("one", 0)
    few = adata[~adata.obs["protein"].str.fullmatch("vacuole-[1-9]")].copy()
    (result,) = evaluate("class-distances", few)
    assert "vacuole" not in set(result.tables["classes"]["class"])
    assert result.details["left_out"] == 1
    with pytest.raises(UserError, match="0 classes of the column 'label' have 7 proteins or more"):
        evaluate("class-distances", adata, min_proteins=7)


def test_nearness_is_the_place_among_the_others():
    table = distances_of(np.array([[0, 1, 5.0], [1, 0, 2], [5, 2, 0]]), ["Nucleolus", "nucleus", "ER"])
    assert nearness(table, "nucleolus", "Nucleus") == (1, 2)
    assert nearness(table, "nucleolus", "er") == (2, 2)
    assert nearness(table, "nucleolus", "golgi") is None
    assert nearness(table, "golgi", "er") is None


def test_the_table_of_agreement_names_the_papers_pairs_and_is_printed_from_results(tmp_path, capsys, monkeypatch):
    results = [evaluate("class-distances", screen(name, seed))[0] for seed, name in enumerate(("one", "two"))]
    ((stem, texts, _),) = agreement_tables(results)
    assert stem == "figure3-agreement"
    lines = [
        [c.strip() for c in line.strip("|").split("|")] for line in texts["md"].splitlines() if line.startswith("|")
    ]
    assert ["nucleolus", "nucleus", "1 of 5", "1 of 5"] in lines
    assert ["cytoplasm and nucleus", "cytoplasm", "no such class", "no such class"] in lines
    assert len(printed_in_text()["near-classes"]["pairs"]) == 3
    assert list(agreement_tables(results[:1])) == []
    write_results(results, tmp_path / "run")
    for form in ("md", "csv", "tex"):
        said = call(capsys, monkeypatch, "table", stem, "--results", tmp_path / "run", "--format", form)
        assert (said.code, said.out.strip()) == (0, texts[form].strip())
    write_results(results[:1], tmp_path / "one")
    said = call(capsys, monkeypatch, "table", stem, "--results", tmp_path / "one")
    assert said.code == 2
    assert "no results of class-distances on two datasets or more" in " ".join(said.err.split())
    assert stem in call(capsys, monkeypatch, "list", "tables").out
    assert "yeast-screens" in call(capsys, monkeypatch, "describe", stem).out


def test_a_report_shows_what_several_screens_say_together_in_a_section_of_its_own(tmp_path):
    results = [evaluate("class-distances", screen(name, seed))[0] for seed, name in enumerate(("one", "two"))]
    for result in results:
        result.benchmark = "yeast-screens"
    write_results(results, tmp_path / "two")
    page = Page(write_report(tmp_path / "two").read_text(encoding="utf-8"))
    rows = next(t for t in page.tables if t[0] == ["Screen", "Other screen", "Classes", "Rank correlation", "p"])[1:]
    (row,) = agreement({r.dataset.name: r.tables["distances"] for r in results}).to_dict("records")
    assert rows == [["one", "two", "6", f"{row['correlation']:.2f}", f"{row['p']:.4f}"]]
    near = next(t for t in page.tables if t[0] == ["Class", "Near", "one", "two"])
    assert ["nucleolus", "nucleus", "1 of 5", "1 of 5"] in near
    assert "#several-datasets" in page.links
    write_results(results[:1], tmp_path / "one")
    alone = Page(write_report(tmp_path / "one").read_text(encoding="utf-8"))
    assert "#several-datasets" not in alone.links
