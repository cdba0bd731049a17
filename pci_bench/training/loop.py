"""Training of any model: epochs, held-out losses, checkpoints and the weights that result (paper: "Datasets, Preprocessing, and Training"; numbers from the authors' code)."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import weights as weight_files
from pci_bench.api.model import MODELS, Model, Objective
from pci_bench.data.cells import Cells
from pci_bench.errors import UserError
from pci_bench.features.estimate import MINUTE, duration, sentence, training
from pci_bench.system.files import cache_folder, escape, lock
from pci_bench.system.interruption import advising
from pci_bench.system.progress import Progress
from pci_bench.system.reporter import reporter
from pci_bench.system.threads import available_cores, set_threads
from pci_bench.training.card import TRAINED_NETWORK
from pci_bench.training.checkpoint import CHECKPOINT_SCHEMA, Begun, read_checkpoint, write_checkpoint
from pci_bench.training.crops import stored_crops, tensor
from pci_bench.training.parallel import Processes, piece, size, started
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

    Under ``torchrun``, its processes share every batch, and the training is that of one process but for the order in which
    floating-point numbers are summed; a GPU each, or all on the CPU.

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
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; of several processes, ``"cuda"`` gives each its own.
    progress
        True shows bars and losses in a terminal or notebook; or a progress reporter. By default nothing is shown.

    Raises
    ------
    UserError
        For a name that cannot be or is taken, data that cannot be trained on, another recipe or dataset than the checkpoint's, a loss that is not finite, or a process that has lost the others.

    Examples
    --------
    >>> import pci_bench
    >>> cells = pci_bench.load_dataset("yeast-sim")[:120]
    >>> recipe = recipe_of("pci", epochs=1, width=0.0625, batch=16)
    >>> trained = train("pci", cells, recipe, name="example", overwrite=True)
    >>> trained.name
    'pci@example'
    """
    processes, recipe = started(), recipe or recipe_of(model)
    progress = reporter(progress) if processes.first else Progress()
    if not cells.has_crops:
        raise UserError(f"{model} is trained on crops, and {cells.meta.name} has measured profiles and none.")
    trainable = MODELS.get(model)
    name = default_name(cells.meta.name) if name is None else name
    if late := [epoch for epoch in keep if not 1 <= epoch < recipe.epochs]:
        raise UserError(f"Epoch {late[0]} cannot be kept: name epochs from 1 to {recipe.epochs - 1}, before the last.")
    with weight_files.overwriting(overwrite):
        for weights_name in (name, *(() if resume else (f"{name}-epoch{epoch}" for epoch in keep))):
            check_name(model, weights_name)
    run = _Training(
        model, trainable, cells, recipe, name, frozenset(keep), progress, processes, processes.device(device)
    )
    with ExitStack() as stack:
        stack.enter_context(processes.together(run.device))
        if processes.first:
            stack.enter_context(lock(run.folder / "training", progress.say))
        stack.enter_context(weight_files.overwriting(overwrite))
        stack.enter_context(advising(run.how_to_go_on))
        _begin(run, resume, restart)
        for number in range(len(run.history), recipe.epochs):
            _epoch(run, number)
        return _end(run)


@dataclass
class _Training:
    """A training as it runs: what was asked for, and, once begun, how far it is."""

    model: str
    trainable: Model
    cells: Cells
    recipe: Recipe
    name: str
    keep: Collection[int]
    progress: Progress
    processes: Processes
    device: str
    history: list[dict[str, float]] = field(default_factory=list)
    begun: Begun = field(default_factory=Begun)
    references: dict[str, float] = field(default_factory=dict)
    objective: Objective = field(init=False)
    crops: np.ndarray = field(init=False)
    network: torch.nn.Module = field(init=False)
    learner: torch.nn.Module = field(init=False)  # the loss of the network, whose gradients are those of all processes
    optimizer: torch.optim.Optimizer = field(init=False)

    @property
    def folder(self) -> Path:
        return cache_folder() / "training" / escape(f"{self.model}@{self.name}")

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must be of, to continue from it."""
        return {
            "schema": CHECKPOINT_SCHEMA,
            "model": self.model,
            "version": self.trainable.meta.version,
            "dataset": self.cells.sha256,
            "recipe": self.recipe.model_dump(),
        }

    def keep_steps(self, now: Begun) -> None:
        """Write a checkpoint, in the first process."""
        if self.processes.first:
            write_checkpoint(self.checkpoint, self.identity, self.network, self.optimizer, self.history, now)

    def validated(self) -> dict[str, float]:
        """Return what is measured on the held-out cells."""
        return self.processes.of_first(lambda: self.objective.validate(self.network, self.crops, self.device))

    def how_to_go_on(self) -> str:
        """Return what to do after an interruption, when some epochs are done."""
        if not self.processes.first:
            return "The first process says how to go on."
        return _how_to_go_on(self.checkpoint, self.history)


def _begin(run: _Training, resume: bool, restart: bool) -> None:
    """Make the network and its optimizer, or continue from the checkpoint, and say what is to come."""
    recipe, processes = run.recipe, run.processes
    processes.check_alike(json.dumps(run.identity))

    def of_checkpoint() -> dict[str, Any] | None:
        check_name(run.model, run.name)  # once more: another training may have finished this name meanwhile
        return read_checkpoint(run.checkpoint, run.identity, resume, restart)

    state = processes.of_first(of_checkpoint)
    run.objective = run.trainable.objective(run.cells, recipe, run.progress)
    if len(run.objective.training) < recipe.batch:
        raise UserError(
            f"{run.cells.meta.name} has {len(run.objective.training)} cells to train on, fewer than a batch of {recipe.batch}. Use a smaller --batch."
        )
    _check_divisible(run)
    set_threads(available_cores())
    run.crops = processes.after_neighbour(lambda: stored_crops(run.cells, run.progress))
    _build(run)
    if state is not None:
        run.network.load_state_dict(state["network"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.history = state["history"]
        run.begun = Begun(**state.get("begun", {}))  # checkpoints of before had whole epochs only
        further = f" and {run.begun.steps:,} steps of the next" if run.begun.steps else ""
        run.progress.say(f"Resuming {run.model}@{run.name} after epoch {len(run.history)} of {recipe.epochs}{further}.")
    work = training(
        run.model,
        recipe.epochs - len(run.history),
        len(run.objective.training),
        run.cells.crop_shape,
        recipe.width,
        bfloat16=recipe.precision == "bfloat16",
    )
    if processes.count > 1:
        run.progress.say(f"{processes.count} processes share each batch of {recipe.batch}.")
    elif said := sentence([work], run.device):
        run.progress.say(said)
    run.references = processes.of_first(lambda: run.objective.references(run.crops))
    if run.references:
        guesses = ", ".join(f"{what}: {value:.5f}" for what, value in run.references.items())
        run.progress.say(f"  validation loss of {guesses}")
    if restart and processes.first:
        run.checkpoint.unlink(missing_ok=True)


def _check_divisible(run: _Training) -> None:
    """Raise where the batch, or its loss, cannot be divided among processes and slices."""
    parts = run.processes.count * run.recipe.accumulate
    if parts == 1:
        return
    if run.objective.couples_cells and run.recipe.accumulate > 1:
        raise UserError(
            f"The loss of {run.model} compares the cells of a batch with each other, so that a batch cannot pass in slices (--accumulate "
            f"{run.recipe.accumulate}). Leave out --accumulate."
        )
    if run.objective.couples_cells and not run.objective.gathers:
        raise UserError(
            f"The loss of {run.model} compares the cells of a batch with each other, and does not gather those of {run.processes.count} "
            "processes. Train it in one process."
        )
    if run.recipe.batch < parts:
        raise UserError(
            f"A batch of {run.recipe.batch} cannot be divided among {parts} parts (processes × --accumulate). Use a larger --batch, or fewer of them."
        )


def _build(run: _Training) -> None:
    """Make the network, the module that learns, and the optimizer."""
    import torch

    from pci_bench.training.synchronised import LossOf, has_batch_norm, synchronise

    with torch.random.fork_rng():
        torch.manual_seed(run.recipe.seed)
        run.network = run.objective.build()
    run.network.to(run.device)
    run.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    if run.processes.count > 1:
        synchronise(run.network)
    if run.recipe.accumulate > 1 and has_batch_norm(run.network):
        run.progress.say(
            f"Note: batch norm takes the statistics of each of the {run.recipe.accumulate} slices of a batch, so this is not the training that "
            "whole batches make."
        )
    run.learner = run.processes.learner(LossOf(run.objective, run.network), run.device)
    run.optimizer = torch.optim.Adam(
        run.network.parameters(),
        lr=run.recipe.learning_rate,
        betas=(run.recipe.beta1, run.recipe.beta2),
        eps=run.recipe.epsilon,
    )


def _epoch(run: _Training, number: int) -> None:
    """Train and validate for one epoch, say how it went, and keep the state after it."""
    recipe = run.recipe
    record = _train_epoch(run, number)
    validated = time.perf_counter()
    measured = run.validated()
    record |= measured
    run.history.append(record)
    run.begun = Begun()
    left = (recipe.epochs - number - 1) * (record["seconds"] + time.perf_counter() - validated)
    also = "".join(
        f", validation {v:.5f}" if k == "validation_loss" else f", {k.replace('_', ' ')} {v:.3f}"
        for k, v in measured.items()
    )
    run.progress.say(
        f"  epoch {number + 1}/{recipe.epochs}: loss {record['loss']:.5f}{also}, "
        f"{record['pairs_per_second']:.0f} {run.objective.unit}/s (loader alone {record['loader_pairs_per_second']:.0f}, "
        f"waited {100 * record['waited']:.1f} %)" + (f", about {duration(left)} left" if left > MINUTE else "")
    )
    run.keep_steps(run.begun)
    if number + 1 in run.keep and run.processes.first:
        save_tensors(
            run.trainable.meta, run.objective, run.network, run.cells, f"{run.name}-epoch{number + 1}", number + 1
        )


def _end(run: _Training) -> Trained:
    """Round the weights, validate them once more, and save them with their card."""
    rounded_to_float16(run.network)
    measured = run.validated()
    if measured:
        run.references[TRAINED_NETWORK] = measured.pop("validation_loss")
    return run.processes.of_first(
        lambda: save_trained(
            run.trainable.meta,
            run.objective,
            run.network,
            run.cells,
            run.recipe,
            run.name,
            run.history,
            run.references,
            measured,
            run.device,
            run.processes.count,
            run.folder,
        )
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


def _train_epoch(run: _Training, number: int) -> dict[str, float]:
    """Run one epoch, or what is left of it, and return its mean loss and rates; every minute, keep how far it has come.

    Raises
    ------
    UserError
        When the loss is not finite; the last checkpoint is from before.
    """
    import torch

    recipe, begun = run.recipe, run.begun
    batches = run.objective.batches(run.crops, number)
    steps = len(batches) * recipe.epochs
    run.learner.train()
    total = torch.full((), begun.loss, dtype=torch.float64, device=run.device)
    started_at = kept = time.perf_counter()
    batches.first = begun.steps
    with run.progress.stage(f"epoch {number + 1}", len(batches) * recipe.batch) as advance:
        advance(begun.steps * recipe.batch)
        for step, arrays in enumerate(batches, begun.steps):
            for group in run.optimizer.param_groups:
                group["lr"] = recipe.rate(number * len(batches) + step, steps)
            total += _step(run, arrays)
            if (step % 50 == 49 or step == len(batches) - 1) and not torch.isfinite(total):
                raise UserError(
                    f"The loss is not finite after {step + 1} batches of epoch {number + 1}: the learning rate {recipe.learning_rate} "
                    "is probably too high. The last checkpoint is whole; train again with a smaller --learning-rate and --restart."
                )
            advance(recipe.batch)
            if time.perf_counter() - kept > SECONDS_PER_CHECKPOINT and torch.isfinite(total):
                run.keep_steps(Begun(step + 1, float(total)))
                kept = time.perf_counter()
    seconds = time.perf_counter() - started_at
    return {
        "loss": float(total) / len(batches),
        "pairs_per_second": (len(batches) - begun.steps) * recipe.batch / seconds,
        "loader_pairs_per_second": batches.prepared / max(batches.busy, 1e-9),
        "waited": batches.waited / seconds,
        "seconds": seconds,
    }


def _step(run: _Training, arrays: tuple[np.ndarray, ...]) -> torch.Tensor:
    """Learn from this process's part of a batch, slice by slice, and return the mean loss of the whole."""
    import torch

    count, slices = run.processes.count, run.recipe.accumulate
    mean = torch.zeros((), dtype=torch.float64, device=run.device)
    run.optimizer.zero_grad(set_to_none=True)
    for number in range(slices):
        part = piece(arrays, run.processes.rank * slices + number, count * slices)
        share = size(part) / size(arrays)
        with run.processes.alone(run.learner, number < slices - 1):
            with _precision(run.recipe.precision, run.device):
                loss = run.learner(*(tensor(array, run.device) for array in part))
            (loss * (share * count)).backward()  # gradients are averaged over processes
        mean += share * loss.detach()
    run.optimizer.step()
    return run.processes.summed(mean)


def _precision(wanted: str, device: str) -> Any:
    """Return the context of a forward pass; what is not said is bfloat16 on a GPU that has it, float32 elsewhere."""
    import contextlib

    import torch

    kind = device.partition(":")[0]
    if wanted == "bfloat16" or (wanted == "auto" and kind == "cuda" and torch.cuda.is_bf16_supported()):
        return torch.autocast(kind, dtype=torch.bfloat16)
    return contextlib.nullcontext()
