"""How well a trained network inpaints: errors beside simple guesses, and pictures (paper: Supplementary Figure 1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    Metric,
    register_evaluator,
)
from pci_bench.data.examples import as_table
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.statistics.intervals import mean_spread, pair_spread

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.data.cells import Cells

INTERVAL = (
    "jackknife of pairs over images (of the logarithm), network as it is; mismatched: over the images of both cells"
)
PAIRS_PER_PASS = 64


@dataclass(frozen=True)
class Pairs:
    """Positions of cells (n,) int: a target, a source of its image, and a source of an image of another kind."""

    targets: np.ndarray
    sources: np.ndarray
    mismatched: np.ndarray


def draw_pairs(images: np.ndarray, kinds: np.ndarray, names: np.ndarray, n: int, seed: int) -> Pairs:
    """Return n seeded pairs; targets are drawn from all images alike, so that large images do not outweigh small ones.

    Parameters
    ----------
    images
        Image of every cell (n_cells,) int.
    kinds
        What a mismatched_source differs in (n_cells,) int: the label, or the image where cells have none.
    names
        The cells' names (n_cells,) str; the draw depends on them and not on the cells' order.
    n, seed
        How many pairs, and what they depend on.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(names, kind="stable")
    members = {int(i): order[images[order] == i] for i in np.unique(images[order])}
    usable = sorted((i for i in members if len(members[i]) > 1), key=lambda i: names[members[i][0]])
    others = {int(k): order[kinds[order] != k] for k in np.unique(kinds)}
    triples: list[tuple[int, int, int]] = []
    for image in rng.choice(len(usable), n):
        cells = members[usable[image]]
        target, source = rng.choice(cells, 2, replace=False)
        away = others[int(kinds[target])]
        away = away[images[away] != images[target]]
        triples.append((target, source, rng.choice(away) if len(away) else source))
    targets, sources, mismatched = np.array(triples, dtype=np.int64).reshape(-1, 3).T
    return Pairs(targets, sources, mismatched)


def squared_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return every crop's mean squared error over channels and pixels. (n, channels, rows, columns) twice -> (n,) float64."""
    errors: np.ndarray = ((np.asarray(predicted, np.float64) - truth) ** 2).mean(axis=(1, 2, 3))
    return errors


class InpaintingParams(pydantic.BaseModel):
    """Parameters of the inpainting error."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    pairs: int = pydantic.Field(1000, ge=1, le=10_000_000, description="pairs of cells of an image")
    examples: int = pydantic.Field(2, ge=0, le=8, description="pictured targets for each of the labels")
    labels: int = pydantic.Field(8, ge=1, description="labels that are pictured, from the most frequent")


@register_evaluator("inpainting-error")
class InpaintingError(Evaluator):
    """Mean squared error of the protein that a network predicts for a target cell; less is better.

    ``matched``: the source is a cell of the target's image. ``mismatched``: of an image with another label, which should be
    worse, or the prediction does not use the source. Beside them, guesses without a network: copying the source's protein,
    and the mean crop of the target's image without the target. On rescaled crops, unflipped; intervals over images.
    """

    meta = EvaluatorMeta(
        "inpainting-error",
        "3",
        "Error of inpainting, beside simple guesses",
        "matched",
        other_metrics=Metric(decimals=4, higher_is_better=False),
        needs=("cells", "model"),
    )
    Params = InpaintingParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: InpaintingParams) -> str | None:
        """Return why there is no pair of cells, or None."""
        images = obs_strings(obs, "image")
        if not len(images) or np.unique(images[images != ""], return_counts=True)[1].max(initial=0) < 2:
            return "no image has two cells, so there are no pairs"
        return None

    def unavailable_reason(self, adata: AnnData, params: InpaintingParams) -> str | None:
        """Return why there is no network, or None."""
        features = Provenance.of(adata).features
        if features.name and features.weights_family != "pci":
            return f"{features.name} is not computed by a network of paired cell inpainting. Name pci-conv4@WEIGHTS"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[InpaintingParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield errors, and example crops as the table ``examples``."""
        from pci_bench.errors import UserError
        from pci_bench.inpainting.network import load_network

        if context.cells is None or context.weights is None:
            raise UserError(
                "The inpainting error needs the cells' crops and the network's weights. Use `pci-bench run inpainting`, or give evaluate() cells=…"
            )
        cells = context.cells
        network = load_network(context.weights)
        images, labels = obs_strings(adata.obs, "image"), obs_strings(adata.obs, "label")
        image_codes = np.unique(images, return_inverse=True)[1]
        kinds = np.unique(np.where(labels == "", images, labels), return_inverse=True)[1]
        names, several = obs_strings(adata.obs, "cell"), obs_strings(adata.obs, "labels")
        for params in param_sets:
            pairs = draw_pairs(image_codes, kinds, names, params.pairs, context.seed)
            errors = self._errors(network, cells, pairs, image_codes)
            values = {name: float(v.mean()) for name, v in errors.items()}
            intervals = error_intervals(errors, pairs, image_codes)
            examples = self._examples(network, cells, pairs, labels, several, names, params)
            details = {"n_pairs": len(pairs.targets), "interval": INTERVAL}
            yield EvaluatorOutput(params.model_dump(), values, intervals, details, tables={"examples": examples})

    @staticmethod
    def _errors(network: Any, cells: Cells, pairs: Pairs, images: np.ndarray) -> dict[str, np.ndarray]:
        proteins = network.config["proteins"]
        errors: dict[str, list[np.ndarray]] = {n: [] for n in ("matched", "mismatched", "copy_source", "image_mean")}
        members = {int(i): np.flatnonzero(images == i) for i in np.unique(images[pairs.targets])}
        sums = {i: cells.crops(m)[:, :proteins].sum(axis=0, dtype=np.float64) for i, m in members.items()}
        for start in range(0, len(pairs.targets), PAIRS_PER_PASS):
            which = slice(start, start + PAIRS_PER_PASS)
            target, source, mismatched_source = (
                cells.crops(p[which]) for p in (pairs.targets, pairs.sources, pairs.mismatched)
            )
            truth = target[:, :proteins]
            image = [int(i) for i in images[pairs.targets[which]]]
            means = np.stack(
                [
                    (sums[i] - own) / (len(members[i]) - 1)
                    for i, own in zip(image, truth.astype(np.float64), strict=True)
                ]
            )
            errors["matched"].append(squared_errors(predicted(network, source, target), truth))
            errors["mismatched"].append(squared_errors(predicted(network, mismatched_source, target), truth))
            errors["copy_source"].append(squared_errors(source[:, :proteins], truth))
            errors["image_mean"].append(squared_errors(means, truth))
        return {name: np.concatenate(parts) for name, parts in errors.items()}

    @staticmethod
    def _examples(
        network: Any,
        cells: Cells,
        pairs: Pairs,
        labels: np.ndarray,
        several: np.ndarray,
        names: np.ndarray,
        params: InpaintingParams,
    ) -> Any:
        """Return examples of the task, then of the same targets with a source of another label: what is predicted and what is there.

        The column ``pair`` is ``matched`` where the source is a cell of the target's image, else ``mismatched``; ``mse`` is the error.
        """
        proteins = network.config["proteins"]
        distinct, counts = np.unique(labels[labels != ""], return_counts=True)
        chosen = sorted(distinct[np.argsort(-counts, kind="stable")][: params.labels]) or [""]
        planes: list[np.ndarray] = []
        rows: list[dict[str, Any]] = []
        for pair, sources in (("matched", pairs.sources), ("mismatched", pairs.mismatched)):
            for label in chosen:
                selected = np.flatnonzero(labels[sources] == label)[: params.examples]
                for number, (source, target) in enumerate(zip(sources[selected], pairs.targets[selected], strict=True)):
                    crops = cells.crops(np.array([source, target]))
                    guess = predicted(network, crops[:1], crops[1:])
                    panels = {
                        **{f"source {c.name}": crops[0, i] for i, c in enumerate(cells.channels)},
                        **{f"target {c.name}": crops[1, i] for i, c in enumerate(cells.channels) if i >= proteins},
                        **{f"predicted {cells.channels[i].name}": guess[0, i] for i in range(proteins)},
                        **{f"real {cells.channels[i].name}": crops[1, i] for i in range(proteins)},
                    }
                    words = {
                        "pair": pair,
                        "label": label,
                        "example": number,
                        "source": names[source],
                        "target": names[target],
                        "target_label": labels[target] or several[target].replace(";", " and "),
                        "mse": round(float(squared_errors(guess, crops[1:, :proteins])[0]), 6),
                    }
                    for panel, plane in panels.items():
                        planes.append(plane)
                        rows.append({**words, "panel": panel})
        return as_table(planes, rows)


def predicted(network: Any, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the protein channels that a network predicts for the targets (n, proteins, rows, columns) float32."""
    import torch

    with torch.inference_mode():
        markers = torch.from_numpy(np.ascontiguousarray(target[:, network.config["proteins"] :]))
        proteins: np.ndarray = network(torch.from_numpy(np.ascontiguousarray(source)), markers).numpy()
        return proteins


def error_intervals(errors: dict[str, np.ndarray], pairs: Pairs, images: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of mean errors, whose images were drawn.

    Parameters
    ----------
    errors
        (n,) float for each pair, by name. Those of ``mismatched`` depend on two images, the target's and the mismatched_source's.
    pairs, images
        The pairs, and the image of every cell (n_cells,) int.
    """
    intervals = {}
    targets, mismatched = images[pairs.targets], images[pairs.mismatched]
    drawn, codes = np.unique(np.stack([targets, mismatched], axis=1), return_inverse=True)
    both = codes.reshape(-1, 2)
    for name, values in errors.items():
        if name == "mismatched":
            influence = (values - values.mean()) / len(values)
            spread = pair_spread(influence, both, np.zeros(len(drawn), np.int64))
        else:
            spread = mean_spread(values, np.unique(targets, return_inverse=True)[1])
        intervals[name] = spread.log_interval(float(values.mean()))
    return intervals
