"""What is planted in the simulated human cells, and how much of it is found with which features.

    python speed/planted_truth.py [--features pci-conv3@human-sim,classic-haralick,intensity,noise] [--permutations 999]

Prints a Markdown table for human-sim, and for four collections that are made for one question each, those of the tests in
tests/test_human_sim_planted.py, whose structures stand out more (`easy_settings`). In brackets: the chance of a value as large where what is planted is dealt to the same
proteins at random, or a 95 % interval where there are two numbers. Features are kept in the cache.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

PAIRS = (("cytosol", "nucleoplasm"), ("nucleoli", "nucleoplasm"))
SUBCLUSTERED = {"vesicles": 3, "nucleoli": 2, "mitochondria": 2}
SIX_TERMS = (
    "cytosol",
    "nucleoplasm",
    "Golgi apparatus",
    "endoplasmic reticulum",
    "nuclear speckles",
    "plasma membrane",
)
MIN_UNITS = 4  # units whose order says nothing


def permuted(statistic, truths: list[np.ndarray], permutations: int) -> str:
    """Return the mean of a statistic (number of a group, its truth) over groups, and the chance of a mean as large."""
    if min(map(len, truths)) < MIN_UNITS:
        return "–"
    rng = np.random.default_rng(0)
    observed = np.mean([statistic(i, truth) for i, truth in enumerate(truths)])
    by_chance = np.array(
        [np.mean([statistic(i, rng.permutation(t)) for i, t in enumerate(truths)]) for _ in range(permutations)]
    )
    return f"{observed:.2f} ({(1 + (by_chance >= observed - 1e-12).sum()) / (1 + permutations):.3f})"


def two_compartments(adata, permutations: int) -> dict[str, str]:
    """Return what the scores of proteins of two compartments say of their mixtures and fractions."""
    from scipy.stats import spearmanr

    from pci_bench import evaluate

    planted = adata.obs.set_index(adata.obs["cell"].astype(str))[["mixture", "variable_fraction", "second"]]
    proteins, top = [], []
    for first, second in PAIRS:
        (result,) = evaluate("multi-localization", adata, first=first, second=second, exclude="protein")
        cells = result.predictions.join(planted, on="cell")
        cells = cells[cells["mixture"].notna() | (cells["variable_fraction"] > 0)]
        known = ("mixture", "variable_fraction", "second")
        table = cells.groupby("protein", observed=True)[[*known, "score"]].mean()
        images = cells.groupby(["protein", "image"], observed=True)
        table["sd"] = images["score"].std(ddof=0).groupby("protein").mean()
        table["p(1-p)"] = (table["second"] * (1 - table["second"])).where(table["variable_fraction"] > 0, 0)
        proteins.append(table)
        most = result.tables["variable-images"]["image"]
        of_images = images["variable_fraction"].first().droplevel("protein") > 0
        top.append(f"{of_images[most].sum()} of {min(of_images.sum(), len(most))}")

    def correlation(truth_column: str, value_column: str, tables: list) -> str:
        values = [table[value_column].to_numpy() for table in tables]
        return permuted(
            lambda i, truth: spearmanr(truth, values[i])[0], [t[truth_column].to_numpy() for t in tables], permutations
        )

    mixed = [table[table["mixture"].notna()] for table in proteins]
    variable = [table[table["variable_fraction"] > 0] for table in proteins]
    rows = {
        f"mixture and mean score, {' and '.join(pair)}": correlation("mixture", "score", [table])
        for pair, table in zip(PAIRS, mixed, strict=True)
    }
    rows["p(1 − p) and SD of the score, all proteins of two compartments"] = correlation("p(1-p)", "sd", proteins)
    rows["the same, variable proteins only"] = correlation("p(1-p)", "sd", variable)
    rows["images of variable proteins among the ten most variable"] = "; ".join(top)
    return rows


def subclusters(adata, permutations: int) -> dict[str, str]:
    """Return how well clusters of a term's proteins agree with the planted ones."""
    from sklearn.metrics import adjusted_rand_score

    from pci_bench import evaluate

    rows: dict[str, str] = {}
    clusters, variants = [], []
    variant = adata.obs.drop_duplicates("protein").set_index("protein")["subcluster"].astype(str)
    for term, k in SUBCLUSTERED.items():
        (result,) = evaluate("hierarchical-clustering", adata, k=k, subset=term, label="subcluster")
        table = result.tables["proteins"]
        clusters.append(table["cluster"])
        variants.append(variant.loc[table["protein"]].to_numpy(str))
        rows[f"subclusters of {term}: ARI"] = permuted(
            lambda _, t, of=clusters[-1]: adjusted_rand_score(t, of), [variants[-1]], permutations
        )
    rows["their mean"] = permuted(lambda i, t: adjusted_rand_score(t, clusters[i]), variants, permutations)
    return rows


def terms(adata, annotations: str) -> dict[str, str]:
    """Return how many planted and null terms are significant in any of 13 clusters and the 27 finer ones among them."""
    from pci_bench import evaluate
    from pci_bench.simulation.human.ontology import ONTOLOGY, null_ids, ontology_text

    with tempfile.TemporaryDirectory() as folder:
        obo, gaf = Path(folder) / "sim.obo", Path(folder) / "sim.gaf"
        obo.write_text(ontology_text(), encoding="utf-8")
        gaf.write_text(annotations, encoding="utf-8")
        (result,) = evaluate("go-enrichment", adata, k=13, subclusters=27, min_size=3, obo=str(obo), gaf=str(gaf))
    tests = result.tables["enrichment"]
    random, whole = tests["term"].isin(null_ids()), tests["term"] == ONTOLOGY["null_parent"]
    rows = {}
    for name, kind in (("planted", ~random & ~whole), ("random", random)):
        n_significant = tests[kind & (tests["fdr"] <= 0.05)]["term"].nunique()
        rows[f"{name} terms with FDR ≤ 0.05"] = f"{n_significant} of {tests[kind]['term'].nunique()}"
    return rows


def between_lines(adata, permutations: int) -> dict[str, str]:
    """Return Table 2's difference, and how often it is as large where each protein's images are dealt its lines anew."""
    from scipy.spatial.distance import cdist

    from pci_bench import evaluate
    from pci_bench.statistics.scaling import standardized

    (result,) = evaluate("pairwise-distance-cell-line", adata, minimum_proteins=3)
    low, high = result.intervals["difference"]

    single = np.flatnonzero(adata.obs["label"].notna())
    obs = adata.obs.iloc[single]
    image = np.unique(obs["image"].to_numpy(str), return_inverse=True)[1]
    member = np.eye(image.max() + 1)[:, image]
    member /= member.sum(axis=1, keepdims=True)
    features = standardized(np.asarray(adata.X))[single]
    distances = member @ cdist(features, features) @ member.T
    first = np.unique(image, return_index=True)[1]
    protein, term, line = (obs[c].to_numpy(str)[first] for c in ("protein", "label", "cell_line"))
    left, right = np.triu_indices(len(first), 1)
    apart = protein[left] != protein[right]
    left, right = left[apart], right[apart]
    far, same_term, codes = distances[left, right], term[left] == term[right], np.unique(line, return_inverse=True)[1]

    def difference(lines: np.ndarray) -> float:
        same_line = lines[left] == lines[right]
        scores = []
        for constrained in (same_line, ~same_line):
            different = far[constrained & ~same_term]
            scores.append((far[constrained & same_term].mean() - different.mean()) / different.std())
        return scores[1] - scores[0]

    by_protein, rng, observed = np.argsort(protein, kind="stable"), np.random.default_rng(0), difference(codes)
    larger = 0
    for _ in range(permutations):
        assigned = np.empty_like(codes)
        assigned[by_protein] = codes[np.lexsort((rng.uniform(size=len(codes)), protein))]
        larger += difference(assigned) >= observed
    return {
        "Table 2's difference": f"{result.metrics['difference']:.3f} ({low:.3f} to {high:.3f})",
        "the same, of all pairs": f"{observed:.3f} ({(1 + larger) / (1 + permutations):.3f})",
    }


def collections():
    """Yield title, cells, annotations, and which questions are asked."""
    from pci_bench import load_dataset
    from pci_bench.simulation.human.collection import Parameters, easy_settings, parameters_of, simulate
    from pci_bench.simulation.human.ontology import annotations_text

    annotations = annotations_text(parameters_of("human-sim"))
    yield "human-sim", load_dataset("human-sim"), annotations, {"pairs", "clusters", "lines"}

    settings = easy_settings()
    settings["kinds"].update(variable=[list(pair) for pair in PAIRS], variable_fraction=[0.1, 0.9])
    two = Parameters(
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
    yield "Proteins of two compartments", simulate(two, settings).cells(), "", {"pairs"}
    every = Parameters(seed=1, proteins_per_term=3, proteins_per_variant=8, lines_per_protein=4, cells_per_image=(3, 3))
    six = Parameters(seed=1, terms=SIX_TERMS, proteins_per_term=4, lines_per_protein=4, cells_per_image=(3, 3))
    for title, parameters, asked in (("18 terms", every, {"clusters", "lines"}), ("Six terms", six, {"lines"})):
        for strength in (1.0, 0.0):
            cells = simulate(replace(parameters, line_strength=strength), easy_settings()).cells()
            yield f"{title}, `line_strength` {strength:.0f}", cells, annotations_text(parameters), asked


def found(adata, annotations: str, asked: set[str], permutations: int) -> dict[str, str]:
    """Return the rows of all questions asked."""
    rows = {}
    if "pairs" in asked:
        rows |= two_compartments(adata, permutations)
    if "clusters" in asked:
        rows |= subclusters(adata, permutations) | terms(adata, annotations)
    if "lines" in asked:
        rows |= between_lines(adata, permutations)
    return rows


def main() -> None:
    from pci_bench import extract
    from pci_bench.errors import UserError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", default="pci-conv3@human-sim,classic-haralick,intensity,noise")
    parser.add_argument("--permutations", type=int, default=999)
    options = parser.parse_args()
    names = options.features.split(",")
    try:
        for title, cells, annotations, asked in collections():
            columns = [found(extract(name, cells), annotations, asked, options.permutations) for name in names]
            print(f"\n| {title}, {len(cells):,} cells | {' | '.join(f'`{name}`' for name in names)} |")
            print("|---" * (1 + len(names)) + "|")
            for row in columns[0]:
                print(f"| {row} | {' | '.join(column[row] for column in columns)} |", flush=True)
    except UserError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
