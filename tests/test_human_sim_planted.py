"""What is planted in the simulated human cells is found in their images, by evaluators on real feature sets, and not more.

Every bound is a level of a null distribution: of a permutation of what is planted, of the binomial or hypergeometric
distribution, or the evaluator's own interval. `FALSE_ALARM` is how often such a bound may be passed by chance alone.
Collections are small, so their structures stand out more than in the published ones (`easy_settings`).
"""

import copy
import itertools
from collections import Counter
from collections.abc import Callable
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import binom, hypergeom, kstest, spearmanr

import pci_bench
from pci_bench.simulation.human.collection import SETTINGS, Parameters, easy_settings, proteins, simulate
from pci_bench.simulation.human.ontology import annotations_text, null_ids, ontology_text
from pci_bench.statistics.compartments import BOTH, annotated_cells, compartment_scores

PCI, HARALICK = "pci-conv3@human-sim", "classic-haralick"
PAIRS = [("cytosol", "nucleoplasm"), ("nucleoli", "nucleoplasm")]
SUBCLUSTERED = {"vesicles": 3, "nucleoli": 2, "mitochondria": 2}
FALSE_ALARM = 0.01
PERMUTATIONS = 999

# Proteins of two compartments, in any share of signal (mixtures) or of cells (variable proteins). Every protein is in all
# four cell lines: in SIM-B, whose crops show most of the neighbours, the scores of two states are nearer each other. All
# images have as many cells: the SD of few (ddof 0) is smaller by itself.
EASY = easy_settings()
ANY_SHARE = easy_settings()
ANY_SHARE["kinds"].update(variable=[list(pair) for pair in PAIRS], variable_fraction=[0.1, 0.9])
TWO_COMPARTMENTS = Parameters(
    seed=1,
    terms=("cytosol", "nucleoplasm", "nucleoli"),
    proteins_per_term=3,
    proteins_per_variant=2,
    mixed_proteins=10,
    variable_proteins=12,
    lines_per_protein=4,
    cells_per_image=(8, 8),
    variable_cells=(8, 8),
)
EVERYWHERE = Parameters(
    seed=1, proteins_per_term=3, proteins_per_variant=8, lines_per_protein=4, cells_per_image=(3, 3)
)
SIX_TERMS = {
    "seed": 1,
    "terms": (
        "cytosol",
        "nucleoplasm",
        "Golgi apparatus",
        "endoplasmic reticulum",
        "nuclear speckles",
        "plasma membrane",
    ),
    "proteins_per_term": 4,
    "lines_per_protein": 4,
    "cells_per_image": (3, 3),
}


def measured(folder, names, parameters: Parameters, settings=EASY) -> dict:
    """Feature sets of a collection, by name, with all of its obs."""
    cells = simulate(parameters, settings).cells()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(folder))
        return {name: pci_bench.extract(name, cells, workers=1) for name in names}


@pytest.fixture(scope="module")
def two_compartments(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("two"), [PCI, HARALICK], TWO_COMPARTMENTS, ANY_SHARE)


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("every"), [PCI], EVERYWHERE)


@pytest.fixture(scope="module")
def by_line_strength(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    return {
        strength: measured(folder, [PCI, HARALICK], Parameters(**SIX_TERMS, line_strength=strength))
        for strength in (1.0, 0.0)
    }


def permutation_p(statistic: Callable[[int, np.ndarray], float], truths: list[np.ndarray], seed: int = 0) -> float:
    """Chance of a statistic (number of a group, its truth) as large, on average over groups, where each group's truth is
    assigned to its own units at random; the one found is one of them.
    """
    rng = np.random.default_rng(seed)

    def mean(of: list[np.ndarray]) -> float:
        return float(np.mean([statistic(i, truth) for i, truth in enumerate(of)]))

    found = mean(truths) - 1e-12  # equal ones count, whatever their last bit
    by_chance = [mean([rng.permutation(truth) for truth in truths]) for _ in range(PERMUTATIONS)]
    return (1 + sum(value >= found for value in by_chance)) / (1 + PERMUTATIONS)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(spearmanr(one, other)[0])


# --- proteins of two compartments ------------------------------------------------------------------------------------


def scored(adata, pair: tuple[str, str]):
    """Every cell's score between two compartments, measured against other proteins' cells, with what is planted in it."""
    first, second = pair
    (result,) = pci_bench.evaluate("multi-localization", adata, first=first, second=second, exclude="protein")
    planted = adata.obs.set_index(adata.obs["cell"].astype(str))[["mixture", "variable_fraction", "second"]]
    return result, result.predictions.join(planted, on="cell")


@pytest.mark.parametrize("features", [PCI, HARALICK])
def test_scores_of_proteins_in_two_compartments_follow_their_mixture(two_compartments, features):
    mixtures, scores = [], []
    for pair in PAIRS:
        result, cells = scored(two_compartments[features], pair)
        assert result.metrics["median_first"] < 0 < result.metrics["median_second"]  # negative is nearer the first
        proteins_of_both = cells[cells["mixture"].notna()].groupby("protein", observed=True)
        mixtures.append(proteins_of_both["mixture"].first().to_numpy())
        scores.append(proteins_of_both["score"].mean().to_numpy())
        assert len(mixtures[-1]) == TWO_COMPARTMENTS.mixed_proteins
    assert permutation_p(lambda i, mixture: rank_correlation(mixture, scores[i]), mixtures) <= FALSE_ALARM


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_scores_of_shuffled_cells_follow_no_mixture(two_compartments, pair):
    adata = two_compartments[PCI]
    columns = {c: adata.obs[c].astype("string").fillna("").to_numpy(str) for c in ("labels", "image", "protein")}
    annotation = annotated_cells(columns["labels"], columns["image"], *pair)
    used = annotation >= 0
    features, annotation, protein = np.asarray(adata.X)[used], annotation[used], columns["protein"][used]
    groups, mixture = np.unique(protein, return_inverse=True)[1], adata.obs["mixture"].to_numpy(float)[used]
    mixed = (annotation == BOTH) & ~np.isnan(mixture)

    def correlation(order: np.ndarray) -> float:
        return rank_correlation(compartment_scores(features[order], annotation, groups)[mixed], mixture[mixed])

    rng = np.random.default_rng(0)
    shuffled = np.array([correlation(rng.permutation(len(features))) for _ in range(200)])
    assert abs(shuffled.mean()) < 3 * shuffled.std(ddof=1) / np.sqrt(len(shuffled))  # 0.3 % of means are farther from 0
    assert correlation(np.arange(len(features))) > shuffled.max()


@pytest.mark.parametrize("features", [PCI, HARALICK])
def test_the_spread_of_scores_follows_how_evenly_a_variable_protein_is_divided(two_compartments, features):
    variances, spreads, shares = [], [], []
    for pair in PAIRS:
        cells = scored(two_compartments[features], pair)[1]
        cells = cells[cells["variable_fraction"] > 0]
        sd = cells.groupby(["protein", "image"], observed=True)["score"].std(ddof=0).groupby("protein").mean()
        shares.append(cells.groupby("protein", observed=True)["second"].mean().loc[sd.index].to_numpy())
        assert len(sd) == TWO_COMPARTMENTS.variable_proteins
        variances.append(shares[-1] * (1 - shares[-1]))  # of a cell's state: p(1 − p), largest where p is one half
        spreads.append(sd.to_numpy())
    assert permutation_p(lambda i, v: rank_correlation(v, spreads[i]), variances) <= FALSE_ALARM
    by_share = [rank_correlation(share, spread) for share, spread in zip(shares, spreads, strict=True)]
    by_variance = [rank_correlation(v, spread) for v, spread in zip(variances, spreads, strict=True)]
    assert np.mean(by_variance) > abs(np.mean(by_share))  # it is the shape, not the share itself


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
@pytest.mark.parametrize("features", [PCI, HARALICK])
def test_the_most_variable_images_are_of_variable_proteins(two_compartments, features, pair):
    result, cells = scored(two_compartments[features], pair)
    of_both = cells[cells["mixture"].notna() | (cells["variable_fraction"] > 0)].groupby("image", observed=True).first()
    variable = set(of_both.index[of_both["variable_fraction"] > 0])
    most = set(result.tables["variable-images"]["image"])
    assert len(most) == 10
    by_chance = hypergeom(len(of_both), len(variable), len(most))
    assert by_chance.sf(len(most & variable) - 1) <= FALSE_ALARM


# --- subclusters -----------------------------------------------------------------------------------------------------


def adjusted_rand(one: list, other: list) -> float:
    """Hubert and Arabie's index, by counting pairs."""
    pairs = list(itertools.combinations(range(len(one)), 2))
    together = [(one[i] == one[j], other[i] == other[j]) for i, j in pairs]
    both, in_one, in_other = (sum(map(f, together)) for f in (all, lambda t: t[0], lambda t: t[1]))
    expected = in_one * in_other / len(pairs)
    return (both - expected) / ((in_one + in_other) / 2 - expected)


def clustered(adata, term: str):
    """The proteins of a term: the cluster that each is put in, and its planted variant; and the result."""
    (result,) = pci_bench.evaluate(
        "hierarchical-clustering", adata, k=SUBCLUSTERED[term], subset=term, label="subcluster"
    )
    planted = {p.name: p.variant for p in proteins(EVERYWHERE) if p.terms == (term,)}
    assert set(Counter(planted.values()).values()) == {EVERYWHERE.proteins_per_variant}
    table = result.tables["proteins"]
    return table["cluster"].tolist(), np.array([planted[name] for name in table["protein"]]), result


def test_planted_subclusters_are_found_by_clustering_the_proteins_of_a_term(everywhere):
    clusters, truths = {}, {}
    for term in SUBCLUSTERED:
        clusters[term], truths[term], result = clustered(everywhere[PCI], term)
        ours = adjusted_rand(clusters[term], truths[term].tolist())
        assert result.metrics["adjusted_rand_index"] == pytest.approx(ours)
    # of all terms together: where a tree of one term is cut in two depends on its few proteins (docs/simulated-human.md)
    found, planted = list(clusters.values()), list(truths.values())
    assert permutation_p(lambda i, truth: adjusted_rand(found[i], truth.tolist()), planted) <= FALSE_ALARM


@pytest.mark.parametrize("term", SUBCLUSTERED)
def test_proteins_of_one_planted_subcluster_are_nearer_each_other_than_those_of_different_ones(everywhere, term):
    adata = everywhere[PCI]
    means = pd.DataFrame(np.asarray(adata.X)).groupby(adata.obs["protein"].to_numpy(str)).mean()
    means = (means - means.mean()) / means.std(ddof=0).replace(0, 1)
    variants = {p.name: p.variant for p in proteins(EVERYWHERE) if p.terms == (term,)}
    distances = pdist(means.loc[list(variants)])
    one, other = np.triu_indices(len(variants), 1)  # in the order of pdist

    def nearer(_: int, variant: np.ndarray) -> float:
        same = variant[one] == variant[other]
        return distances[~same].mean() - distances[same].mean()

    assert permutation_p(nearer, [np.array(list(variants.values()))]) <= FALSE_ALARM


# --- enrichment ------------------------------------------------------------------------------------------------------


def enriched(adata, folder, annotations: str):
    """The table of all tests: 13 clusters and the 27 finer ones among them."""
    (folder / "sim.obo").write_text(ontology_text(), encoding="utf-8")
    (folder / "sim.gaf").write_text(annotations, encoding="utf-8")
    files = {"obo": str(folder / "sim.obo"), "gaf": str(folder / "sim.gaf")}
    (result,) = pci_bench.evaluate("go-enrichment", adata, k=13, subclusters=27, min_size=3, **files)
    return result.tables["enrichment"].assign(null=lambda t: t["term"].isin(null_ids()))


def test_most_planted_localizations_are_enriched_in_a_cluster_and_none_where_proteins_are_dealt_to_clusters(
    everywhere, tmp_path
):
    localizations = {p.terms[0] for p in proteins(EVERYWHERE)}

    def found(adata) -> tuple[int, int]:
        """Localizations with a significant test, and all that are tested."""
        tests = enriched(adata, tmp_path, annotations_text(EVERYWHERE))
        of_planted = tests[tests["name"].isin(localizations)]
        return of_planted[of_planted["fdr"] <= 0.05]["term"].nunique(), of_planted["term"].nunique()

    assigned = everywhere[PCI].copy()
    names, by_chance = sorted(set(assigned.obs["protein"])), []
    for seed in range(19):
        other = dict(zip(names, np.random.default_rng(seed).permutation(names), strict=True))
        assigned.obs["protein"] = everywhere[PCI].obs["protein"].astype(str).map(other)
        by_chance.append(found(assigned)[0])
    significant, tested = found(everywhere[PCI])
    assert significant > tested / 2
    assert (
        np.mean([n > 0 for n in by_chance]) <= binom.ppf(1 - FALSE_ALARM, 19, 0.05) / 19
    )  # what an FDR of 0.05 allows


def null_annotations(draws: int):
    """Annotations whose null terms are drawn anew; proteins of other streams have the same names."""
    everyone = sorted(p.name for p in proteins(EVERYWHERE))
    for stream in range(1, 1 + draws):
        other = Parameters(**{**EVERYWHERE.__dict__, "stream": stream})
        assert sorted(p.name for p in proteins(other)) == everyone
        rows = annotations_text(other).splitlines(keepends=True)
        yield "".join(row for row in rows if row.startswith("!") or row.split("\t")[4] in null_ids())


def test_p_values_of_null_terms_are_uniform(everywhere, tmp_path):
    # The hypergeometric p is discrete: P(p ≤ x) ≤ x. Less a uniform share of the probability of what was found it is
    # uniform. Tests of one term in several clusters depend on each other, so each term is tested in one cluster, at random.
    rng, everyone, plain, smoothed = np.random.default_rng(0), len(proteins(EVERYWHERE)), [], []
    for annotations in null_annotations(25):
        tests = enriched(everywhere[PCI], tmp_path, annotations)
        of_null = tests[tests["null"]].groupby("term").sample(1, random_state=rng)
        for n, size, term, p in of_null[["n", "N", "K", "p"]].itertuples(index=False):
            chance = comb(term, n) * comb(everyone - term, size - n) / comb(everyone, size)
            plain.append(p)
            smoothed.append(p - rng.uniform() * chance)
    assert len(plain) > 900
    assert sum(p <= 0.05 for p in plain) <= binom.ppf(1 - FALSE_ALARM, len(plain), 0.05)
    assert kstest(smoothed, "uniform").pvalue > FALSE_ALARM


def test_few_of_the_terms_that_are_found_are_null_terms(everywhere, tmp_path):
    rows = annotations_text(EVERYWHERE).splitlines(keepends=True)
    planted = "".join(row for row in rows if row.startswith("!") or row.split("\t")[4] not in null_ids())
    shares = []
    for null in null_annotations(20):
        tests = enriched(everywhere[PCI], tmp_path, planted + null)
        found = tests[tests["fdr"] <= 0.05]
        assert (~found["null"]).any()
        shares.append(found["null"].mean())
    assert np.mean(shares) <= 0.05  # what an FDR of 0.05 promises on average


# --- cell lines ------------------------------------------------------------------------------------------------------


def image_distances(adata):
    """Mean distance of the cells of two images, for all pairs of images, and each image's protein, term and line."""
    values = np.asarray(adata.X, np.float64)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    images = adata.obs.groupby("image", observed=True)
    rows = list(images.indices.values())
    far = cdist(values, values)
    distances = np.array([[far[np.ix_(a, b)].mean() for b in rows] for a in rows])
    return distances, *(images[c].first().to_numpy(str) for c in ("protein", "label", "cell_line"))


@pytest.mark.parametrize("features", [PCI, HARALICK])
def test_a_planted_difference_between_cell_lines_is_seen_in_table_2_and_none_where_none_is_planted(
    by_line_strength, features
):
    p, interval = {}, {}
    for strength, sets in by_line_strength.items():
        distances, protein, term, line = image_distances(sets[features])
        one, other = np.triu_indices(len(line), 1)
        apart = protein[one] != protein[other]
        one, other = one[apart], other[apart]
        far, same_term = distances[one, other], term[one] == term[other]

        def difference(lines: np.ndarray, one=one, other=other, far=far, same_term=same_term) -> float:
            """Table 2's difference, of all pairs of images in place of random ones."""
            same_line = lines[one] == lines[other]
            scores = []
            for constrained in (same_line, ~same_line):
                different = far[constrained & ~same_term]
                scores.append((far[constrained & same_term].mean() - different.mean()) / different.std())
            return scores[1] - scores[0]

        # where lines do not differ, nothing changes when each protein's images are given its lines in another order
        by_protein, rng = np.argsort(protein, kind="stable"), np.random.default_rng(0)
        by_chance = np.empty(PERMUTATIONS)
        for i in range(PERMUTATIONS):
            assigned = np.empty_like(line)
            assigned[by_protein] = line[np.lexsort((rng.uniform(size=len(line)), protein))]
            by_chance[i] = difference(assigned)
        p[strength] = (1 + (by_chance >= difference(line)).sum()) / (1 + PERMUTATIONS)
        (result,) = pci_bench.evaluate("pairwise-distance-cell-line", sets[features], minimum_proteins=4)
        interval[strength] = result.intervals["difference"]
        assert interval[strength][0] < difference(line) < interval[strength][1]
    assert p[1.0] <= FALSE_ALARM
    if features == HARALICK:  # the network's drop is half as large, and the interval, of few proteins, covers 0
        assert interval[1.0][0] > 0
    assert p[0.0] > 0.05
    assert interval[0.0][0] < 0 < interval[0.0][1]


# --- what features are kept under ------------------------------------------------------------------------------------


def test_cells_of_changed_settings_are_not_taken_for_those_of_the_published_ones():
    few = Parameters(terms=("cytosol",), proteins_per_term=1, lines_per_protein=1, cells_per_image=(2, 2))
    changed = copy.deepcopy(SETTINGS)
    changed["optics"]["read_noise"] = [0.1, 0.1]
    published = simulate(few).cells()
    assert simulate(few, copy.deepcopy(SETTINGS)).cells().sha256 == published.sha256
    assert simulate(few, changed).cells().sha256 != published.sha256
