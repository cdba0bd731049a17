"""One training loop for every model (paper: "Datasets, Preprocessing, and Training"; numbers from the authors' code)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench import weights as weight_files
from pci_bench.cells import Cells, rescaled
from pci_bench.errors import UserError
from pci_bench.extraction import device_name, resolve_device
from pci_bench.files import atomic_file, cache_folder, escape, lock
from pci_bench.models import MODELS, TrainableModel
from pci_bench.progress import Progress
from pci_bench.threads import available_cores, set_threads
from pci_bench.training.crops import Batches, stored_crops
from pci_bench.training.pairs import draw_epoch, draw_targets, held_out_images

if TYPE_CHECKING:
    import torch

CHECKPOINT_SCHEMA = 1
VALIDATION_PAIRS = 2048


class Recipe(pydantic.BaseModel):
    """The numbers of a training; the defaults are the paper's and its authors' code's."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    epochs: int = pydantic.Field(30, ge=1)
    width: float = pydantic.Field(1.0, gt=0, le=4)
    batch: int = pydantic.Field(64, ge=1)
    learning_rate: float = pydantic.Field(1e-4, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    beta1: float = pydantic.Field(0.5, ge=0, lt=1)
    beta2: float = pydantic.Field(0.999, ge=0, lt=1)
    epsilon: float = pydantic.Field(1e-8, gt=0)
    held_out: float = pydantic.Field(0.05, gt=0, lt=1)
    seed: int = 0

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate at a step of `steps`; cosine starts with a warm-up over the first 2 %."""
        if self.schedule == "constant":
            return self.learning_rate
        warm = max(1, steps // 50)
        return self.learning_rate * min(1, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))


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
    device: str = "auto",
    progress: Progress | None = None,
) -> Trained:
    """Train a model and save its weights as ``model@name``.

    Parameters
    ----------
    model
        A name of the ``models`` registry: ``"pci"``.
    cells
        Cells of at least two images; for a model of pairs, images with one cell are left out (and counted).
    recipe
        Its numbers.
    name
        What the weights are called; by default the dataset's name.
    resume
        Continue from the last whole epoch; equal to a training that was never interrupted, on the same device.
    restart
        Discard an unfinished training of this name.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"`` (bfloat16 where the GPU has it).
    progress
        Told of every epoch.

    Raises
    ------
    UserError
        For data that cannot be trained on, another recipe or dataset than the checkpoint's, or a loss that is not finite.
    """
    import torch

    progress, recipe = progress or Progress(), recipe or Recipe()
    trainable = MODELS.get(model)
    name = name or cells.meta.name
    folder = cache_folder() / "training" / escape(f"{model}@{name}")
    identity = {
        "schema": CHECKPOINT_SCHEMA,
        "model": model,
        "version": trainable.meta.version,
        "dataset": cells.sha256,
        "recipe": recipe.model_dump(),
    }
    with lock(folder / "training"):
        state = _checkpoint(folder / "checkpoint.pt", identity, resume, restart)
        training, validation, images = _split(trainable, cells, recipe, progress)
        device = resolve_device(device)
        set_threads(available_cores())
        crops = stored_crops(cells, progress)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            network = trainable.build(cells.channels, recipe.width)
        network.to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        optimizer = torch.optim.Adam(
            network.parameters(), lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), eps=recipe.epsilon
        )
        history: list[dict[str, float]] = []
        if state is not None:
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            history = state["history"]
            progress.say(f"Resuming {model}@{name} after epoch {len(history)} of {recipe.epochs}.")
        pairs = validation_pairs(images, validation, recipe.seed)
        references = _references(trainable, crops, cells, images, pairs)
        progress.say("  validation loss of " + ", ".join(f"{what}: {value:.5f}" for what, value in references.items()))
        for epoch in range(len(history), recipe.epochs):
            try:
                record = _train_epoch(
                    trainable, network, optimizer, crops, cells, training, images, epoch, recipe, device, progress
                )
            except KeyboardInterrupt:
                progress.say(
                    f"Stopped in epoch {epoch + 1}. {epoch} whole epochs are kept: the same command with --resume continues after them."
                )
                raise
            record["validation_loss"] = _validation_loss(trainable, network, crops, cells, pairs, device)
            history.append(record)
            progress.say(
                f"  epoch {epoch + 1}/{recipe.epochs}: loss {record['loss']:.5f}, validation {record['validation_loss']:.5f}, "
                f"{record['pairs_per_second']:.0f} pairs/s (loader alone {record['loader_pairs_per_second']:.0f}, "
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
        _round(network)
        references["the trained network, weights rounded to float16"] = _validation_loss(
            trainable, network, crops, cells, pairs, device
        )
        return _saved(trainable, network, cells, recipe, name, history, references, len(training), device, folder)


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
    if restart:
        file.unlink()
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
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
    differing += [k for k in identity["recipe"] if before["recipe"].get(k) != identity["recipe"][k]]
    if differing:
        key = differing[0]
        then, now = before.get(key, before["recipe"].get(key)), identity.get(key, identity["recipe"].get(key))
        raise UserError(
            f"The unfinished training {file} had {key} = {then}, not {now}. Resume it with the settings it was started with, or use --restart."
        )
    return state


def _split(
    model: TrainableModel, cells: Cells, recipe: Recipe, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions of training and held-out cells, and the image of every cell as int.

    Raises
    ------
    UserError
        Where the crops do not fit the model, or images or cells are too few.
    """
    import pandas as pd

    where = cells.meta.name
    if reason := model.skip(cells.channels, cells.crop_shape):
        raise UserError(f"{model.meta.name} cannot be trained on {where}: {reason}.")
    names = cells.obs["image"].astype("string")
    if names.isna().all():
        raise UserError(
            f"{model.meta.name} cannot be trained on {where}: its cells name no image, so there are no pairs to draw."
        )
    images, _ = pd.factorize(names, sort=True)
    images = images.astype(np.int64)
    usable = images >= 0
    if model.meta.pairs:
        counts = np.bincount(images[usable], minlength=images.max() + 1)
        alone = usable & (counts[np.maximum(images, 0)] < 2)
        if alone.any():
            progress.say(
                f"  {int(alone.sum())} images of {where} have one cell, which has no partner; they are left out."
            )
        usable &= ~alone
    if not usable.any():
        raise UserError(
            f"{model.meta.name} cannot be trained on {where}: no image has two cells, so there are no pairs."
        )
    if len(np.unique(images[usable])) < 2:
        raise UserError(
            f"{model.meta.name} cannot be trained on {where}: it has one image with at least two cells; one is trained on and another held out."
        )
    held_out = np.isin(images, held_out_images(images[usable], recipe.held_out, recipe.seed)) & usable
    training = np.flatnonzero(usable & ~held_out)
    if len(training) < recipe.batch:
        raise UserError(
            f"{where} has {len(training)} cells to train on, fewer than a batch of {recipe.batch}. Use a smaller --batch."
        )
    return training, np.flatnonzero(held_out), images


def _train_epoch(
    model: TrainableModel,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    crops: np.ndarray,
    cells: Cells,
    training: np.ndarray,
    images: np.ndarray,
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

    drawn = draw_epoch(images[training], recipe.seed, number)
    epoch = type(drawn)(training[drawn.sources], training[drawn.targets], drawn.source_flips, drawn.target_flips)
    batches = Batches(crops, cells.channels, epoch, recipe.batch, pairs=model.meta.pairs)
    steps = len(batches) * recipe.epochs
    network.train()
    total = torch.zeros((), dtype=torch.float64, device=device)
    started = time.perf_counter()
    with progress.stage(f"epoch {number + 1}", len(batches) * recipe.batch) as advance:
        for step, (source, target) in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(number * len(batches) + step, steps)
            with _precision(device):
                prediction, truth = model.predict(network, _tensor(source, device), _tensor(target, device))
                loss = torch.nn.functional.mse_loss(prediction.float(), truth.float())
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


def _precision(device: str) -> Any:
    """Return the context of a forward pass: bfloat16 on a GPU that has it, float32 elsewhere."""
    import contextlib

    import torch

    if device == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _tensor(crops: np.ndarray, device: str) -> torch.Tensor:
    import torch

    return torch.from_numpy(crops).to(device=device, memory_format=torch.channels_last, non_blocking=True)


def validation_pairs(images: np.ndarray, held_out: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (sources, targets), at most 2,048 fixed pairs of held-out cells, the same at every epoch."""
    rng = np.random.default_rng([seed, 2**31 + 1])
    counts = np.bincount(images[held_out])
    paired = held_out[counts[images[held_out]] > 1]
    if len(paired) == 0:
        return held_out[:VALIDATION_PAIRS], held_out[:VALIDATION_PAIRS]
    targets = paired[draw_targets(images[paired], rng.random(len(paired)))]
    chosen = rng.permutation(len(paired))[:VALIDATION_PAIRS]
    return paired[chosen], targets[chosen]


def _validation_batches(
    crops: np.ndarray, cells: Cells, pairs: tuple[np.ndarray, np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(pairs[0]), 64):
        where = slice(start, start + 64)
        yield tuple(rescaled(np.asarray(crops[p[where]]), cells.channels, "minmax") for p in pairs)  # type: ignore[misc]


def _validation_loss(
    model: TrainableModel,
    network: torch.nn.Module,
    crops: np.ndarray,
    cells: Cells,
    pairs: tuple[np.ndarray, np.ndarray],
    device: str,
) -> float:
    """Return the mean squared error over the held-out pairs, unflipped, in float32."""
    import torch

    network.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for source, target in _validation_batches(crops, cells, pairs):
            prediction, truth = model.predict(
                network, _tensor(source, device), _tensor(target if model.meta.pairs else source, device)
            )
            total += float(torch.nn.functional.mse_loss(prediction, truth)) * len(source)
            count += len(source)
    return total / count


def _references(
    model: TrainableModel, crops: np.ndarray, cells: Cells, images: np.ndarray, pairs: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """Return the losses of guesses that any network must beat.

    Copying the source's protein; and the mean protein crop of the target's whole image, an oracle that has seen the target.
    For a model of single cells only the mean crop has a meaning.
    """
    protein = [i for i, c in enumerate(cells.channels) if model.meta.pairs is False or c.role == "protein"]
    means: dict[int, np.ndarray] = {}
    for image in np.unique(images[pairs[1]]):
        members = np.flatnonzero(images == image)
        means[int(image)] = rescaled(np.asarray(crops[members]), cells.channels, "minmax")[:, protein].mean(axis=0)
    copied, averaged, count = 0.0, 0.0, 0
    for number, (source, target) in enumerate(_validation_batches(crops, cells, pairs)):
        truth = target[:, protein]
        mean = np.stack([means[int(i)] for i in images[pairs[1][number * 64 : number * 64 + len(truth)]]])
        averaged += float(((mean - truth) ** 2).mean(axis=(1, 2, 3)).sum())
        copied += float(((source[:, protein] - truth) ** 2).mean(axis=(1, 2, 3)).sum())
        count += len(truth)
    references = {"the mean crop of the target's image": averaged / count}
    return {"copying the source": copied / count, **references} if model.meta.pairs else references


def _round(network: torch.nn.Module) -> None:
    """Round weight arrays to float16, as they are saved; vectors (biases, batch norm) stay float32."""
    import torch

    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.half().float())


def _saved(
    model: TrainableModel,
    network: torch.nn.Module,
    cells: Cells,
    recipe: Recipe,
    name: str,
    history: list[dict[str, float]],
    references: dict[str, float],
    n_training: int,
    device: str,
    folder: Path,
) -> Trained:
    """Write weights, history, curve and card; the checkpoint goes once all are there."""
    from pci_bench.training.card import write_card

    tensors = {}
    for key, value in network.state_dict().items():
        array = value.detach().cpu().contiguous().numpy()
        tensors[key] = array.astype(np.float16) if array.ndim > 1 else array
    file = weight_files.save(
        model.meta.name,
        name,
        tensors,
        channels=tuple(c.role for c in cells.channels),
        config=dict(network.config),  # type: ignore[arg-type]  # every trainable network has one
        source=f"trained on {cells.meta.name} {cells.meta.version} (sha256 {cells.sha256[:16]}) for {recipe.epochs} epochs",
    )
    facts = {
        "model": model.meta.name,
        "version": model.meta.version,
        "name": name,
        "dataset": {
            "name": cells.meta.name,
            "version": cells.meta.version,
            "sha256": cells.sha256,
            "n_cells": len(cells),
            "trained_on": n_training,
        },
        "recipe": recipe.model_dump(),
        "device": device_name(device),
        "threads": available_cores(),
        "seconds": sum(h["seconds"] for h in history),
        "references": references,
        "history": history,
    }
    card = write_card(file, facts)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return Trained(f"{model.meta.name}@{name}", file, history, references, card)
