"""Contracts of trainable models: a complete description, and no method that is never called. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator

from pci_bench.api.model import MODELS, Model, Objective
from pci_bench.conformance.base import (
    Finding,
    NotApplicableError,
    Once,
    checked_contracts,
    expect,
    expect_described,
    expect_reason,
    known_methods,
)
from pci_bench.conformance.planted import LAYOUTS, planted
from pci_bench.data.cells import Cells
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress
from pci_bench.training.objectives.classification import Classification, ClassificationModel
from pci_bench.training.objectives.reconstruction import Reconstruction, ReconstructionModel
from pci_bench.training.recipe import Recipe

LABELS = ("nucleus", "vacuole")


class ModelTrial:
    """One model, and the synthetic cells that its objective is made for."""

    def __init__(self, name: str, *, cells: int = 12):
        self.name = name
        self.model: Model = MODELS.get(name)
        self.layouts = {layout: _labelled(planted(channels, cells)) for layout, channels in LAYOUTS.items()}
        self.once = Once()

    def objective(self) -> Objective:
        """Return what a training on the first layout that fits is about; no network is built."""
        return self.once("objective", self._objective)

    def _objective(self) -> Objective:
        reasons = []
        recipe = Recipe(**self.model.meta.recipe)
        for cells in self.layouts.values():
            if reason := self.model.unavailable_reason(cells.channels, cells.crop_shape):
                reasons.append(reason)
                continue
            try:
                return self.model.objective(cells, recipe, Progress())
            except UserError as error:
                reasons.append(str(error).rstrip("."))
        raise NotApplicableError(f"it cannot be trained on planted cells: {'; '.join(dict.fromkeys(reasons))}")


def _labelled(cells: Cells) -> Cells:
    """Return cells with two labels, both of them in every image, and images on two plates."""
    labels = [LABELS[i // 3 % 2] for i in range(len(cells))]
    images = cells.obs["image"].astype(str)
    plates = images.map({image: f"plate {i % 2}" for i, image in enumerate(images.unique())})
    return Cells(
        cells.obs.assign(label=labels, plate=plates),
        cells.channels,
        cells.meta,
        cells.sha256,
        cells.stored(slice(None)),
    )


# ---- the contracts


def description(trial: ModelTrial) -> str:
    """Name, version and title are texts; the recipe is one; unavailable_reason() returns None or a sentence."""
    meta = trial.model.meta
    expect_described(meta, trial.name, "version", "title")
    unknown = [name for name in meta.recipe if name not in Recipe.model_fields]
    expect(not unknown, f"meta.recipe to name {', '.join(Recipe.model_fields)} only", ", ".join(unknown))
    Recipe(**meta.recipe)
    for layout, cells in trial.layouts.items():
        expect_reason(trial.model.unavailable_reason(cells.channels, cells.crop_shape), f"for {layout} crops")
    return f"version {meta.version}"


def methods(trial: ModelTrial) -> str:
    """Its methods are those that are called."""
    bases = (ReconstructionModel, ClassificationModel, Model)
    return known_methods(trial.model, next(base for base in bases if isinstance(trial.model, base)))


def methods_of_objective(trial: ModelTrial) -> str:
    """The methods of its objective are those that are called."""
    objective = trial.objective()
    bases = (Reconstruction, Classification, Objective)
    return known_methods(objective, next(base for base in bases if isinstance(objective, base)))


CONTRACTS = (
    ("its description is complete", description),
    ("its methods are those that are called", methods),
    ("the methods of its objective are those that are called", methods_of_objective),
)


def check_model(name: str) -> Iterator[Finding]:
    """Yield the findings of a trainable model. Nothing is trained: ``pci-bench train NAME --dataset toy-yeast --epochs 1`` does."""
    yield from checked_contracts(f"model {name}, {MODELS.origin(name)}", CONTRACTS, ModelTrial(name))
