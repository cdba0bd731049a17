"""Finished networks as weights files with their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pci_bench import weights as weight_files
from pci_bench.api.model import ModelMeta, Objective
from pci_bench.data.cells import Cells
from pci_bench.system.devices import device_name
from pci_bench.system.threads import available_cores
from pci_bench.training.recipe import Recipe

if TYPE_CHECKING:
    import torch


@dataclass
class Trained:
    """A finished training: the weights' name and file, and its history."""

    name: str
    file: Path
    history: list[dict[str, float]]
    references: dict[str, float]
    card: Path


def rounded_to_float16(network: torch.nn.Module) -> None:
    """Round weight arrays to float16, as they are saved; vectors (biases, batch norm) stay float32."""
    import torch

    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())


def save_trained(
    meta: ModelMeta,
    objective: Objective,
    network: torch.nn.Module,
    cells: Cells,
    recipe: Recipe,
    name: str,
    history: list[dict[str, float]],
    references: dict[str, float],
    measured: dict[str, float],
    device: str,
    processes: int,
    folder: Path,
) -> Trained:
    """Write weights, history, curve and card; the checkpoint goes once all are there."""
    from pci_bench.training.card import card_of

    facts = {
        "model": meta.name,
        "version": meta.version,
        "name": name,
        "dataset": {
            "name": cells.meta.name,
            "version": cells.meta.version,
            "sha256": cells.sha256,
            "n_cells": len(cells),
            "trained_on": len(objective.training),
            "held_out": objective.held_out,
            "licence": cells.meta.licence,
        },
        "loss": objective.loss_name,
        "crops_each": objective.crops_each,
        "recipe": recipe.model_dump(),
        "device": device_name(device) if processes == 1 else f"{processes} × {device_name(device)}",
        "threads": available_cores(),
        "seconds": sum(h["seconds"] for h in history),
        "references": references,
        "measured": measured,
        "history": history,
    }
    card = card_of(weight_files.file_of(meta.name, name), facts)
    file = save_tensors(meta, objective, network, cells, name, recipe.epochs, card)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return Trained(f"{meta.name}@{name}", file, history, references, file.with_suffix(".md"))


def save_tensors(
    meta: ModelMeta,
    objective: Objective,
    network: torch.nn.Module,
    cells: Cells,
    name: str,
    epochs: int,
    card: Mapping[str, bytes] | None = None,
) -> Path:
    """Save a network as it is after some epochs; weight arrays as float16, vectors (biases, batch norm) as float32."""
    tensors, network = {}, objective.kept(network)
    for key, value in network.state_dict().items():
        array = value.detach().cpu().contiguous().numpy()
        tensors[key] = array.astype(np.float16) if array.ndim > 1 else array
    return weight_files.save(
        meta.name,
        name,
        tensors,
        channels=tuple(c.role for c in cells.channels),
        config=dict(network.config),  # type: ignore[arg-type]  # every trainable network has one
        source=f"trained on {cells.meta.name} {cells.meta.version} (sha256 {cells.sha256[:16]}) for {epochs} epochs",
        trained_on=objective.trained_on,
        card=card,
    )
