"""One training loop for every model (paper: "Datasets, Preprocessing, and Training"; numbers from the authors' code)."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pydantic

from pci_bench import weights as weight_files
from pci_bench.arguments import MAX_SEED
from pci_bench.cells import Cells
from pci_bench.checksums import seal, unsealed
from pci_bench.errors import UserError
from pci_bench.extraction import device_name, resolve_device
from pci_bench.files import atomic_file, cache_folder, escape, lock
from pci_bench.interruption import advising
from pci_bench.models import MODELS, ModelMeta
from pci_bench.progress import Progress
from pci_bench.threads import available_cores, set_threads
from pci_bench.training.classification import Classification
from pci_bench.training.crops import Batches, stored_crops, tensor
from pci_bench.training.reconstruction import Reconstruction

if TYPE_CHECKING:
    import torch

CHECKPOINT_SCHEMA = 1
DECAY, DECAY_STEPS = 0.96, 25  # of the exponential schedule (Kraus et al. 2017)


class Recipe(pydantic.BaseModel):
    """The numbers of a training; the defaults are the paper's and its authors' code's, for paired cell inpainting.

    ``precision`` is that of products and convolutions while training (sums, the loss, the optimizer and the held-out loss are
    in float32 always): ``"auto"`` is bfloat16 on a GPU that has it, and float32 elsewhere.

    A model's own defaults are in its ``meta.recipe``; :func:`recipe_of` joins them with what a user wants otherwise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = pydantic.Field(30, ge=1, le=100_000)
    width: float = pydantic.Field(1.0, gt=0, le=4)
    batch: int = pydantic.Field(64, ge=1, le=65_536)
    learning_rate: float = pydantic.Field(1e-4, gt=0, le=10)
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    beta1: float = pydantic.Field(0.5, ge=0, lt=1)
    beta2: float = pydantic.Field(0.999, ge=0, lt=1)
    epsilon: float = pydantic.Field(1e-8, gt=0, le=1)
    order: Literal["shuffled", "stored"] = "shuffled"
    held_out: float = pydantic.Field(0.05, ge=0, lt=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = pydantic.Field(0, ge=0, le=MAX_SEED)

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at a step of `steps`.

        Cosine starts with a warm-up over the first 2 %; exponential falls by 4 % after every 25 steps, however many there are.
        """
        if self.schedule == "constant":
            return self.learning_rate
        if self.schedule == "exponential":
            return self.learning_rate * DECAY ** (step // DECAY_STEPS)
        warm = max(1, steps // 50)
        return self.learning_rate * min(1, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))


def recipe_of(model: str, **wanted: Any) -> Recipe:
    """Return a model's recipe: what is wanted, else the model's own defaults, else the paper's."""
    return Recipe(**{**MODELS.get(model).meta.recipe, **wanted})


class Objective(Protocol):
    """What a training is about: which cells, in which batches, with which loss, and how it is judged.

    Attributes
    ----------
    loss_name, unit
        What the loss is, and what the rates count, for messages and the card.
    training
        Positions of the cells trained on.
    held_out
        Which cells are held out, for the card.
    trained_on
        As in :func:`pci_bench.weights.save`.
    """

    loss_name: str
    unit: str
    training: np.ndarray
    held_out: str
    trained_on: dict[str, str] | None

    def build(self) -> torch.nn.Module:
        """Return a new network."""
        ...

    def batches(self, crops: np.ndarray, number: int) -> Batches:
        """Return the batches of an epoch, from all crops as they are stored."""
        ...

    def loss(self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the mean loss of a batch."""
        ...

    def validate(self, network: torch.nn.Module, crops: np.ndarray, device: str) -> dict[str, float]:
        """Return ``validation_loss`` and what else is measured on the held-out cells; nothing where none is held out."""
        ...

    def references(self, crops: np.ndarray) -> dict[str, float]:
        """Return the held-out losses of guesses that any network must beat; none where nothing is held out."""
        ...


@dataclass
class Trained:
    """A finished training: the weights' name and file, and its history."""

    name: str
    file: Path
    history: list[dict[str, float]]
    references: dict[str, float]
    card: Path


def train(
    model: str,
    cells: Cells,
    recipe: Recipe | None = None,
    *,
    name: str | None = None,
    resume: bool = False,
    restart: bool = False,
    overwrite: bool = False,
    keep: Collection[int] = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> Trained:
    """Train a model and save its weights as ``model@name``.

    Parameters
    ----------
    model
        A name of the ``models`` registry: ``"pci"``.
    cells
        Cells of at least two images; for a model of pairs, images with one cell are left out (and counted). Labels are read
        by supervised models only, which leave out cells without one.
    recipe
        Its numbers; by default the model's (:func:`recipe_of`).
    name
        What the weights are called; by default the dataset's name, or its folder's.
    resume
        Continue from the last whole epoch; equal to a training that was never interrupted, on the same device. The recipe
        must be the same, with as many epochs, since schedules depend on their number: a longer training is a new one.
    restart
        Discard an unfinished training of this name.
    overwrite
        Replace finished weights of this name, with their card, once the training is done.
    keep
        Numbers of epochs after which the weights are saved as well, as ``model@NAME-epochN`` and without a card: how features
        change while a network learns is then seen by evaluating them.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    progress
        Told of every epoch.

    Raises
    ------
    UserError
        For a name that cannot be or is taken, data that cannot be trained on, another recipe or dataset than the checkpoint's, or a loss that is not finite.
    """
    import torch

    progress, recipe = progress or Progress(), recipe or recipe_of(model)
    trainable: Any = MODELS.get(model)
    name = default_name(cells.meta.name) if name is None else name
    if late := [epoch for epoch in keep if not 1 <= epoch < recipe.epochs]:
        raise UserError(f"Epoch {late[0]} cannot be kept: name epochs from 1 to {recipe.epochs - 1}, before the last.")
    with weight_files.overwriting(overwrite):
        for taken in (name, *(() if resume else (f"{name}-epoch{epoch}" for epoch in keep))):
            check_name(model, taken)
    folder = cache_folder() / "training" / escape(f"{model}@{name}")
    identity = {
        "schema": CHECKPOINT_SCHEMA,
        "model": model,
        "version": trainable.meta.version,
        "dataset": cells.sha256,
        "recipe": recipe.model_dump(),
    }
    history: list[dict[str, float]] = []
    with (
        lock(folder / "training", progress.say),
        weight_files.overwriting(overwrite),
        advising(lambda: _how_to_go_on(history)),
    ):
        check_name(model, name)  # once more: another process may have finished a training of this name meanwhile
        state = _checkpoint(folder / "checkpoint.pt", identity, resume, restart)
        kind = Classification if trainable.meta.supervised else Reconstruction
        objective: Objective = kind(trainable, cells, recipe, progress)
        if len(objective.training) < recipe.batch:
            raise UserError(
                f"{cells.meta.name} has {len(objective.training)} cells to train on, fewer than a batch of {recipe.batch}. Use a smaller --batch."
            )
        device = resolve_device(device)
        set_threads(available_cores())
        crops = stored_crops(cells, progress)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            network = objective.build()
        network.to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        optimizer = torch.optim.Adam(
            network.parameters(), lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), eps=recipe.epsilon
        )
        if state is not None:
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            history = state["history"]
            progress.say(f"Resuming {model}@{name} after epoch {len(history)} of {recipe.epochs}.")
        references = objective.references(crops)
        if references:
            guesses = ", ".join(f"{what}: {value:.5f}" for what, value in references.items())
            progress.say(f"  validation loss of {guesses}")
        if restart:
            (folder / "checkpoint.pt").unlink(missing_ok=True)
        for epoch in range(len(history), recipe.epochs):
            record = _train_epoch(objective, network, optimizer, crops, epoch, recipe, device, progress)
            measured = objective.validate(network, crops, device)
            record |= measured
            history.append(record)
            also = "".join(
                f", validation {v:.5f}" if k == "validation_loss" else f", {k.replace('_', ' ')} {v:.3f}"
                for k, v in measured.items()
            )
            progress.say(
                f"  epoch {epoch + 1}/{recipe.epochs}: loss {record['loss']:.5f}{also}, "
                f"{record['pairs_per_second']:.0f} {objective.unit}/s (loader alone {record['loader_pairs_per_second']:.0f}, "
                f"waited {100 * record['waited']:.1f} %)"
            )
            with atomic_file(folder / "checkpoint.pt") as temporary:
                torch.save(
                    {
                        "identity": json.dumps(identity),
                        "network": network.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "history": history,
                    },
                    temporary,
                )
                seal(temporary)
            if epoch + 1 in keep:
                _saved_tensors(trainable.meta, objective, network, cells, f"{name}-epoch{epoch + 1}", epoch + 1)
        _round(network)
        measured = objective.validate(network, crops, device)
        if measured:
            references["the trained network, weights rounded to float16"] = measured.pop("validation_loss")
        return _saved(
            trainable.meta, objective, network, cells, recipe, name, history, references, measured, device, folder
        )


def _how_to_go_on(history: list[dict[str, float]]) -> str:
    """Return what to do after an interruption, when some epochs are done."""
    if not history:
        return "No epoch was whole yet: run the same command again."
    return (
        f"It was in epoch {len(history) + 1}; {len(history)} whole epochs are kept: the same command with --resume (and without "
        "--restart) continues after them."
    )


def default_name(dataset: str) -> str:
    """Return what weights are called that are trained on a dataset: by its name, or that of the folder or file it is read from."""
    kind, _, place = dataset.partition(":")
    return weight_files.legal_name(Path(place.partition("?")[0]).absolute().name if place else kind)


def check_name(model: str, name: str) -> None:
    """Raise where weights that are trained now could not be saved, or would be mistaken for others.

    Raises
    ------
    UserError
        As :func:`pci_bench.weights.check_free`, and for the name of someone else's weights.
    """
    declaration = weight_files.declared().get(model, {}).get(name, {})
    if "url" in declaration or "how" in declaration or "fetch" in declaration:
        raise UserError(
            f"{model}@{name} is the name of weights that others trained ({declaration['title']}). Give another --name."
        )
    weight_files.check_free(model, name)


def _checkpoint(file: Path, identity: dict[str, Any], resume: bool, restart: bool) -> dict[str, Any] | None:
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
        state = torch.load(io.BytesIO(unsealed(file)), map_location="cpu", weights_only=True)
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


def _train_epoch(
    objective: Objective,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    crops: np.ndarray,
    number: int,
    recipe: Recipe,
    device: str,
    progress: Progress,
) -> dict[str, float]:
    """Run one epoch and return its mean loss and rates.

    Raises
    ------
    UserError
        When the loss is not finite; the last checkpoint is from before.
    """
    import torch

    batches = objective.batches(crops, number)
    steps = len(batches) * recipe.epochs
    network.train()
    total = torch.zeros((), dtype=torch.float64, device=device)
    started = time.perf_counter()
    with progress.stage(f"epoch {number + 1}", len(batches) * recipe.batch) as advance:
        for step, arrays in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(number * len(batches) + step, steps)
            with _precision(recipe.precision, device):
                loss = objective.loss(network, tuple(tensor(array, device) for array in arrays))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
            if (step % 50 == 49 or step == len(batches) - 1) and not torch.isfinite(total):
                raise UserError(
                    f"The loss is not finite after {step + 1} batches of epoch {number + 1}: the learning rate {recipe.learning_rate} "
                    "is probably too high. The last checkpoint is whole; train again with a smaller --learning-rate and --restart."
                )
            advance(recipe.batch)
    seconds = time.perf_counter() - started
    return {
        "loss": float(total) / len(batches),
        "pairs_per_second": len(batches) * recipe.batch / seconds,
        "loader_pairs_per_second": batches.prepared / max(batches.busy, 1e-9),
        "waited": batches.waited / seconds,
        "seconds": seconds,
    }


def _precision(wanted: str, device: str) -> Any:
    """Return the context of a forward pass; what is not said is bfloat16 on a GPU that has it, float32 elsewhere."""
    import contextlib

    import torch

    if wanted == "bfloat16" or (wanted == "auto" and device == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.autocast(device, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _round(network: torch.nn.Module) -> None:
    """Round weight arrays to float16, as they are saved; vectors (biases, batch norm) stay float32."""
    import torch

    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())


def _saved(
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
        },
        "loss": objective.loss_name,
        "recipe": recipe.model_dump(),
        "device": device_name(device),
        "threads": available_cores(),
        "seconds": sum(h["seconds"] for h in history),
        "references": references,
        "measured": measured,
        "history": history,
    }
    card = card_of(weight_files.file_of(meta.name, name), facts)
    file = _saved_tensors(meta, objective, network, cells, name, recipe.epochs, card)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return Trained(f"{meta.name}@{name}", file, history, references, file.with_suffix(".md"))


def _saved_tensors(
    meta: ModelMeta,
    objective: Objective,
    network: torch.nn.Module,
    cells: Cells,
    name: str,
    epochs: int,
    card: Mapping[str, bytes] | None = None,
) -> Path:
    """Save a network as it is after some epochs; weight arrays as float16, vectors (biases, batch norm) as float32."""
    tensors = {}
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
