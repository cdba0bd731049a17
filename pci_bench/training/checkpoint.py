"""Checkpoints of unfinished trainings: written by time and after every epoch, read only where they fit what is trained now."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench.errors import UserError
from pci_bench.system.checksums import seal, unsealed
from pci_bench.system.files import atomic_file
from pci_bench.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

CHECKPOINT_SCHEMA = 1


@dataclass(frozen=True)
class Begun:
    """How far an epoch has come that is not whole: its steps, and the sum of their losses."""

    steps: int = 0
    loss: float = 0.0


def read_checkpoint(file: Path, identity: dict[str, Any], resume: bool, restart: bool) -> dict[str, Any] | None:
    """Return the state to continue from, or None for a new training.

    Raises
    ------
    UserError
        For an unfinished training that was not mentioned, nothing to resume, other settings, or a damaged file.
    """
    import torch

    if not file.exists():
        if resume:
            raise UserError(
                f"There is no unfinished training to resume ({file} does not exist). Leave out --resume to start one."
            )
        return None
    if restart:  # it is replaced once the new one has begun
        return None
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(unsealed(file)), map_location="cpu", weights_only=True)
        before = json.loads(state["identity"])
        _ = state["network"], state["optimizer"], state["history"], before["recipe"]
    except Exception as error:  # torch raises many kinds
        raise UserError(
            f"The checkpoint {file} is damaged or of another origin ({type(error).__name__}). --restart begins anew and replaces it."
        ) from error
    if not resume:
        raise UserError(
            f"There is already a training of this name with {len(state['history'])} epochs ({file}). "
            "--resume continues it, --restart discards it, --name starts another beside it."
        )
    differing = [k for k in identity if k != "recipe" and before.get(k) != identity[k]]
    then_recipe = {**Recipe().model_dump(), **before["recipe"]}  # what had no option yet was as its default is
    differing += [k for k in identity["recipe"] if then_recipe[k] != identity["recipe"][k]]
    if differing:
        key = differing[0]
        then, now = before.get(key, then_recipe.get(key)), identity.get(key, identity["recipe"].get(key))
        raise UserError(
            f"The unfinished training {file} had {key} = {then}, not {now}. Resume it with the settings it was started with, or use --restart."
        )
    return state


def write_checkpoint(
    file: Path,
    identity: dict[str, Any],
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
    begun: Begun,
) -> None:
    """Write the state after some whole epochs and steps of the next, as :func:`read_checkpoint` reads it."""
    import torch

    state = {
        "identity": json.dumps(identity),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": history,
        "begun": asdict(begun),
    }
    with atomic_file(file) as temporary:
        torch.save(state, temporary)
        seal(temporary)
