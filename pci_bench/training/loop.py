"""Training of any model: epochs, held-out losses, checkpoints and the weights that result (paper: "Datasets, Preprocessing, and Training"; numbers from the authors' code)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import weights as weight_files
from pci_bench.api.model import MODELS, Objective
from pci_bench.data.cells import Cells
from pci_bench.errors import UserError
from pci_bench.features.estimate import MINUTE, duration, sentence, training
from pci_bench.system.devices import resolve_device
from pci_bench.system.files import cache_folder, escape, lock
from pci_bench.system.interruption import advising
from pci_bench.system.progress import Progress
from pci_bench.system.reporter import reporter
from pci_bench.system.threads import available_cores, set_threads
from pci_bench.training.card import TRAINED_NETWORK
from pci_bench.training.checkpoint import CHECKPOINT_SCHEMA, Begun, read_checkpoint, write_checkpoint
from pci_bench.training.crops import stored_crops, tensor
from pci_bench.training.recipe import Recipe
from pci_bench.training.saving import Trained, rounded_to_float16, save_tensors, save_trained

if TYPE_CHECKING:
    import torch

SECONDS_PER_CHECKPOINT = 60.0  # no more work is lost when a training is interrupted


def recipe_of(model: str, **wanted: Any) -> Recipe:
    """Return a model's recipe: what is wanted, else the model's own defaults, else the paper's."""
    return Recipe(**{**MODELS.get(model).meta.recipe, **wanted})


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
    progress: Progress | bool | None = None,
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
        Continue from the last checkpoint, which is written every minute and after every epoch; equal to a training that was never interrupted, on the same device. The recipe
        must be the same, with as many epochs, since schedules depend on their number: a longer training is a new one.
    restart
        Discard an unfinished training of this name.
    overwrite
        Replace finished weights of this name, with their card, once the training is done.
    keep
        Numbers of epochs after which the weights are saved as well, as ``model@NAME-epochN`` and without a card: how features
        change while a network learns is then seen by evaluating them.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    progress
        True shows bars and losses in a terminal or notebook; or a progress reporter. By default nothing is shown.

    Raises
    ------
    UserError
        For a name that cannot be or is taken, data that cannot be trained on, another recipe or dataset than the checkpoint's, or a loss that is not finite.

    Examples
    --------
    >>> import pci_bench
    >>> cells = pci_bench.load_dataset("yeast-sim")[:120]
    >>> recipe = recipe_of("pci", epochs=1, width=0.0625, batch=16)
    >>> trained = train("pci", cells, recipe, name="example", overwrite=True)
    >>> trained.name
    'pci@example'
    """
    import torch

    progress, recipe = reporter(progress), recipe or recipe_of(model)
    if not cells.has_crops:
        raise UserError(f"{model} is trained on crops, and {cells.meta.name} has measured profiles and none.")
    trainable = MODELS.get(model)
    name = default_name(cells.meta.name) if name is None else name
    if late := [epoch for epoch in keep if not 1 <= epoch < recipe.epochs]:
        raise UserError(f"Epoch {late[0]} cannot be kept: name epochs from 1 to {recipe.epochs - 1}, before the last.")
    with weight_files.overwriting(overwrite):
        for weights_name in (name, *(() if resume else (f"{name}-epoch{epoch}" for epoch in keep))):
            check_name(model, weights_name)
    folder = cache_folder() / "training" / escape(f"{model}@{name}")
    identity = {
        "schema": CHECKPOINT_SCHEMA,
        "model": model,
        "version": trainable.meta.version,
        "dataset": cells.sha256,
        "recipe": recipe.model_dump(),
    }
    history: list[dict[str, float]] = []
    begun = Begun()

    def keep_steps(now: Begun) -> None:
        write_checkpoint(folder / "checkpoint.pt", identity, network, optimizer, history, now)

    with (
        lock(folder / "training", progress.say),
        weight_files.overwriting(overwrite),
        advising(lambda: _how_to_go_on(folder / "checkpoint.pt", history)),
    ):
        check_name(model, name)  # once more: another process may have finished a training of this name meanwhile
        state = read_checkpoint(folder / "checkpoint.pt", identity, resume, restart)
        objective = trainable.objective(cells, recipe, progress)
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
            begun = Begun(**state.get("begun", {}))  # checkpoints of before had whole epochs only
            further = f" and {begun.steps:,} steps of the next" if begun.steps else ""
            progress.say(f"Resuming {model}@{name} after epoch {len(history)} of {recipe.epochs}{further}.")
        work = training(
            model,
            recipe.epochs - (len(state["history"]) if state is not None else 0),
            len(objective.training),
            cells.crop_shape,
            recipe.width,
            bfloat16=recipe.precision == "bfloat16",
        )
        if said := sentence([work], device):
            progress.say(said)
        references = objective.references(crops)
        if references:
            guesses = ", ".join(f"{what}: {value:.5f}" for what, value in references.items())
            progress.say(f"  validation loss of {guesses}")
        if restart:
            (folder / "checkpoint.pt").unlink(missing_ok=True)
        for epoch in range(len(history), recipe.epochs):
            record = _train_epoch(
                objective, network, optimizer, crops, epoch, recipe, device, progress, begun, keep_steps
            )
            validated = time.perf_counter()
            measured = objective.validate(network, crops, device)
            record |= measured
            history.append(record)
            begun = Begun()
            left = (recipe.epochs - epoch - 1) * (record["seconds"] + time.perf_counter() - validated)
            also = "".join(
                f", validation {v:.5f}" if k == "validation_loss" else f", {k.replace('_', ' ')} {v:.3f}"
                for k, v in measured.items()
            )
            progress.say(
                f"  epoch {epoch + 1}/{recipe.epochs}: loss {record['loss']:.5f}{also}, "
                f"{record['pairs_per_second']:.0f} {objective.unit}/s (loader alone {record['loader_pairs_per_second']:.0f}, "
                f"waited {100 * record['waited']:.1f} %)" + (f", about {duration(left)} left" if left > MINUTE else "")
            )
            keep_steps(begun)
            if epoch + 1 in keep:
                save_tensors(trainable.meta, objective, network, cells, f"{name}-epoch{epoch + 1}", epoch + 1)
        rounded_to_float16(network)
        measured = objective.validate(network, crops, device)
        if measured:
            references[TRAINED_NETWORK] = measured.pop("validation_loss")
        return save_trained(
            trainable.meta, objective, network, cells, recipe, name, history, references, measured, device, folder
        )


def _how_to_go_on(checkpoint: Path, history: list[dict[str, float]]) -> str:
    """Return what to do after an interruption, when some epochs are done."""
    if not checkpoint.exists():
        return "Nothing was kept yet: run the same command again."
    return (
        f"It was in epoch {len(history) + 1}. What was done up to a minute before is kept: the same command with --resume (and without "
        "--restart) continues there."
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
    if not {"urls", "how", "fetch"}.isdisjoint(declaration):
        raise UserError(
            f"{model}@{name} is the name of weights that others trained ({declaration['title']}). Give another --name."
        )
    weight_files.check_free(model, name)


def _train_epoch(
    objective: Objective,
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    crops: np.ndarray,
    number: int,
    recipe: Recipe,
    device: str,
    progress: Progress,
    begun: Begun,
    keep_steps: Callable[[Begun], None],
) -> dict[str, float]:
    """Run one epoch, or what is left of it, and return its mean loss and rates; every minute, keep how far it has come.

    Raises
    ------
    UserError
        When the loss is not finite; the last checkpoint is from before.
    """
    import torch

    batches = objective.batches(crops, number)
    steps = len(batches) * recipe.epochs
    network.train()
    total = torch.full((), begun.loss, dtype=torch.float64, device=device)
    started = kept = time.perf_counter()
    batches.first = begun.steps
    with progress.stage(f"epoch {number + 1}", len(batches) * recipe.batch) as advance:
        advance(begun.steps * recipe.batch)
        for step, arrays in enumerate(batches, begun.steps):
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
            if time.perf_counter() - kept > SECONDS_PER_CHECKPOINT and torch.isfinite(total):
                keep_steps(Begun(step + 1, float(total)))
                kept = time.perf_counter()
    seconds = time.perf_counter() - started
    return {
        "loss": float(total) / len(batches),
        "pairs_per_second": (len(batches) - begun.steps) * recipe.batch / seconds,
        "loader_pairs_per_second": batches.prepared / max(batches.busy, 1e-9),
        "waited": batches.waited / seconds,
        "seconds": seconds,
    }


def _precision(wanted: str, device: str) -> Any:
    """Return the context of a forward pass; what is not said is bfloat16 on a GPU that has it, float32 elsewhere."""
    import contextlib

    import torch

    kind = device.partition(":")[0]
    if wanted == "bfloat16" or (wanted == "auto" and kind == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.autocast(kind, dtype=torch.bfloat16)
    return contextlib.nullcontext()
