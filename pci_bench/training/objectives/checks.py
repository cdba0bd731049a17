"""What every objective without labels checks of a model before it looks at the cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pci_bench.errors import UserError

if TYPE_CHECKING:
    from pci_bench.api.model import Model
    from pci_bench.data.cells import Cells
    from pci_bench.training.recipe import Recipe


def check_trainable(model: Model, cells: Cells, recipe: Recipe) -> None:
    """Raise where a model that draws its cells in random order is asked for another order, or the crops do not fit it."""
    name = model.meta.name
    if recipe.order != "shuffled":
        raise UserError(f"{name} draws its cells in random order; --order {recipe.order} is for supervised models.")
    if reason := model.unavailable_reason(cells.channels, cells.crop_shape):
        raise UserError(f"{name} cannot be trained on {cells.meta.name}: {reason}.")
