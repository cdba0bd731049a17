"""How far apart the localization classes of a screen's proteins are (paper: Figure 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from pci_bench.api.evaluator import EvaluationContext, Evaluator, EvaluatorMeta, EvaluatorOutput, register_evaluator
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.errors import UserError
from pci_bench.evaluators.comparable import comparable
from pci_bench.evaluators.embedding import most_common, protein_means
from pci_bench.statistics.class_distances import MIN_CLASSES, class_distances
from pci_bench.statistics.metrics import share_spreads

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


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
        if len(classes) >= MIN_CLASSES:
            return None
        return (
            f"{len(classes)} classes of the column '{params.label}' have {params.min_proteins} proteins or more, and distances "
            f"between classes need {MIN_CLASSES} classes"
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
        features = comparable(adata, means)
        for params in param_sets:
            labels, classes = _labelled(adata.obs, params)
            used = np.isin(labels, classes)
            distances = class_distances(features[used], labels[used], classes)
            silhouettes = silhouette_samples(features[used], labels[used])
            class_silhouettes = np.array([silhouettes[labels[used] == name].mean() for name in classes])
            nearest = np.argsort(distances + np.diag(np.full(len(classes), np.inf)), axis=1, kind="stable")[:, 0]
            first, second = np.triu_indices(len(classes), 1)
            array = np.array(classes)
            tables = {
                "classes": pd.DataFrame(
                    {
                        "class": array,
                        "proteins": [int((labels == name).sum()) for name in classes],
                        "silhouette": class_silhouettes,
                        "nearest": array[nearest],
                    }
                ),
                "distances": pd.DataFrame(
                    {"first": array[first], "second": array[second], "distance": distances[first, second]}
                ),
            }
            metrics = {
                "silhouette": float(class_silhouettes.mean()),
                "distinct_classes": float((class_silhouettes > 0).mean()),
            }
            details = {
                "n_proteins": int(used.sum()),
                "n_classes": len(classes),
                "left_out": int((~used).sum()),
                "interval": "jackknife of silhouettes over proteins within class; the proteins that each is compared with are given",
            }
            codes = np.searchsorted(array, labels[used])
            _, spread, _ = share_spreads(codes, silhouettes, None, len(classes))
            intervals = {"silhouette": spread.interval(metrics["silhouette"], low=-1, high=1)}
            yield EvaluatorOutput(params.model_dump(), metrics, intervals, details, tables=tables)


def _labelled(obs: pd.DataFrame, params: ClassDistancesParams) -> tuple[np.ndarray, list[str]]:
    """Return every protein's class, in the order of the proteins' names, and the classes that are large enough."""
    proteins = obs_strings(obs, "protein")
    names = np.unique(proteins[proteins != ""])
    labels = most_common(obs_strings(obs, params.label), proteins, names) if len(names) else np.array([], str)
    classes, counts = np.unique(labels[labels != ""], return_counts=True)
    return labels, [str(name) for name, count in zip(classes, counts, strict=True) if count >= params.min_proteins]
