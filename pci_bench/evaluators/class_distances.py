"""How far apart the localization classes of a screen's proteins are, and whether screens agree on it (paper: Figure 3)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from pci_bench.api.evaluator import EvaluationContext, Evaluator, EvaluatorMeta, EvaluatorOutput, register_evaluator
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.errors import UserError
from pci_bench.evaluators.embedding import most_common, protein_means
from pci_bench.statistics.scaling import standardized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

FEWEST_CLASSES = 3  # two have one distance, which nothing can be compared with
PERMUTATIONS = 9999


def class_distances(features: np.ndarray, labels: np.ndarray, classes: list[str]) -> np.ndarray:
    """Return the Euclidean distances between the mean features of classes: (n, d) and (n,) str -> (classes, classes) float64.

    Examples
    --------
    >>> import numpy as np
    >>> class_distances(np.array([[0.0], [2.0], [4.0]]), np.array(["a", "a", "b"]), ["a", "b"]).tolist()
    [[0.0, 3.0], [3.0, 0.0]]
    """
    from scipy.spatial.distance import pdist, squareform

    centroids = np.stack([features[labels == name].mean(axis=0, dtype=np.float64) for name in classes])
    distances: np.ndarray = squareform(pdist(centroids))
    return distances


def mantel(
    one: np.ndarray, other: np.ndarray, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[float, float]:
    """Return how alike two matrices of distances are: Spearman's correlation, and its p under permuted classes (Mantel).

    Ranks, because the scales of independent feature spaces have nothing to do with each other.

    Parameters
    ----------
    one, other
        (classes, classes) symmetric, of the same classes in the same order, at least three.
    permutations, seed
        How many permutations of the classes of one matrix; p counts the given order among them.

    Returns
    -------
    (correlation, p)
        p is one-sided: the share of orders with as large a correlation or a larger one. Both are 0 and 1 where the distances of
        either matrix are all equal.
    """
    from scipy.stats import rankdata

    n = len(one)
    upper = np.triu_indices(n, 1)
    ranks = [rankdata(matrix[upper]) for matrix in (one, other)]
    if any(np.ptp(r) == 0 for r in ranks):
        return 0.0, 1.0
    first, second = ((r - r.mean()) / np.linalg.norm(r - r.mean()) for r in ranks)
    square = np.zeros((n, n))
    square[upper] = second
    square += square.T
    found = float(first @ second)
    rng, as_large = np.random.default_rng(seed), 1
    for _ in range(permutations):
        order = rng.permutation(n)
        as_large += bool(first @ square[np.ix_(order, order)][upper] >= found - 1e-12)
    return found, as_large / (permutations + 1)


def agreement(distances: Mapping[str, pd.DataFrame], *, seed: int = 0) -> pd.DataFrame:
    """Return how far each two screens agree on the distances between the classes that they share.

    Paper: "even though each model is independent and trained on an independent dataset, we observed a substantial degree of
    consistency between clusters in the distances of their learned representations". **Ours**: :func:`mantel`.

    Parameters
    ----------
    distances
        By screen: a row for each two classes, with the columns first, second and distance.
    seed
        Of the permutations.

    Returns
    -------
    pandas.DataFrame
        one, other (screens), classes (in common), correlation and p; these are missing with fewer than three classes.
    """
    import pandas as pd

    rows = []
    for (one, first), (other, second) in itertools.combinations(distances.items(), 2):
        shared = sorted(_classes(first) & _classes(second))
        correlation = p = np.nan
        if len(shared) >= FEWEST_CLASSES:
            correlation, p = mantel(_matrix(first, shared), _matrix(second, shared), seed=seed)
        rows.append({"one": one, "other": other, "classes": len(shared), "correlation": correlation, "p": p})
    return pd.DataFrame(rows, columns=["one", "other", "classes", "correlation", "p"])


def _classes(distances: pd.DataFrame) -> set[str]:
    return {*distances["first"].astype(str), *distances["second"].astype(str)}


def _matrix(distances: pd.DataFrame, classes: list[str]) -> np.ndarray:
    position = {name: i for i, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)))
    for first, second, distance in distances[["first", "second", "distance"]].itertuples(index=False):
        if first in position and second in position:
            matrix[position[first], position[second]] = matrix[position[second], position[first]] = distance
    return matrix


def nearness(distances: pd.DataFrame, name: str, partner: str) -> tuple[int, int] | None:
    """Return the place of a class among the others by their distance from another class, and how many others there are.

    (1, 16) is the nearest of 16. None where one of the two is not among the classes; names are compared in any case.
    """
    mine = {}
    for first, second, distance in distances[["first", "second", "distance"]].itertuples(index=False):
        ends = [str(first).casefold(), str(second).casefold()]
        if name.casefold() in ends:
            mine[ends[1 - ends.index(name.casefold())]] = distance
    if partner.casefold() not in mine:
        return None
    return 1 + sum(d < mine[partner.casefold()] for d in mine.values()), len(mine)


class ClassDistancesParams(pydantic.BaseModel):
    """Parameters of the distances between classes of proteins."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    label: str = pydantic.Field(
        "label", min_length=1, description="obs column of the classes; a protein's is its cells' most frequent"
    )
    min_proteins: int = pydantic.Field(3, ge=2, description="fewest proteins of a class")


@register_evaluator("class-distances")
class ClassDistances(Evaluator):
    """How distinct the localization classes of a screen's proteins are, and their distances from each other (Figure 3's text).

    Proteins are means over their cells, standardised over all proteins. ``silhouette`` is the mean over classes of their
    proteins' mean silhouette (1: far from other classes, 0: between two, below: nearer another), and ``distinct_classes`` the
    share of classes whose own is above 0 ("we observed distinct clusters for most protein localization labels"). The table
    ``distances`` has the distance between the mean features of each two classes; of several screens, a run's table
    ``figure3-agreement`` says how far they agree.
    """

    meta = EvaluatorMeta(
        "class-distances",
        "1",
        "Distances between classes of proteins",
        "silhouette",
        key=("min_proteins",),
        order_invariant=True,
    )
    Params = ClassDistancesParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: ClassDistancesParams) -> str | None:
        """Return why there are no classes to compare, or None."""
        _, classes = _labelled(obs, params)
        if len(classes) >= FEWEST_CLASSES:
            return None
        return (
            f"{len(classes)} classes of the column '{params.label}' have {params.min_proteins} proteins or more, and distances "
            f"between classes need {FEWEST_CLASSES} classes"
        )

    def __call__(
        self, adata: AnnData, param_sets: list[ClassDistancesParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield how distinct the classes are, and their distances."""
        import pandas as pd
        from sklearn.metrics import silhouette_samples

        values = np.asarray(adata.X)
        if not np.isfinite(values).all():
            raise UserError("The features hold NaN or infinite values; distances need finite ones.")
        names = obs_strings(adata.obs, "cell") if "cell" in adata.obs else adata.obs_names.to_numpy(str)
        order = np.argsort(names, kind="stable")  # the cells' order must not enter the last digit
        means, _ = protein_means(values[order], obs_strings(adata.obs, "protein")[order])
        features = standardized(means)
        for params in param_sets:
            labels, classes = _labelled(adata.obs, params)
            used = np.isin(labels, classes)
            distances = class_distances(features[used], labels[used], classes)
            silhouettes = silhouette_samples(features[used], labels[used])
            mine = np.array([silhouettes[labels[used] == name].mean() for name in classes])
            nearest = np.argsort(distances + np.diag(np.full(len(classes), np.inf)), axis=1, kind="stable")[:, 0]
            first, second = np.triu_indices(len(classes), 1)
            array = np.array(classes)
            tables = {
                "classes": pd.DataFrame(
                    {
                        "class": array,
                        "proteins": [int((labels == name).sum()) for name in classes],
                        "silhouette": mine,
                        "nearest": array[nearest],
                    }
                ),
                "distances": pd.DataFrame(
                    {"first": array[first], "second": array[second], "distance": distances[first, second]}
                ),
            }
            metrics = {"silhouette": float(mine.mean()), "distinct_classes": float((mine > 0).mean())}
            details = {"n_proteins": int(used.sum()), "n_classes": len(classes), "left_out": int((~used).sum())}
            yield EvaluatorOutput(params.model_dump(), metrics, details=details, tables=tables)


def _labelled(obs: pd.DataFrame, params: ClassDistancesParams) -> tuple[np.ndarray, list[str]]:
    """Return every protein's class, in the order of the proteins' names, and the classes that are large enough."""
    proteins = obs_strings(obs, "protein")
    names = np.unique(proteins[proteins != ""])
    labels = most_common(obs_strings(obs, params.label), proteins, names) if len(names) else np.array([], str)
    found, counts = np.unique(labels[labels != ""], return_counts=True)
    return labels, [str(name) for name, count in zip(found, counts, strict=True) if count >= params.min_proteins]
