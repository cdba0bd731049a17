"""The command `train`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from pci_bench.cli.app import PARTS, DeviceOption, PluginOption, app, load_plugins
from pci_bench.cli.terminal import err, out, say
from pci_bench.errors import UserError
from pci_bench.system.arguments import MAX_SEED, check_limit, whole_numbers
from pci_bench.system.progress import ConsoleProgress, Progress


def recipe_defaults() -> dict[str, str]:
    """Return every field of a recipe with its default, and with those of the models that have another: ``64; deeploc 128``."""
    from pci_bench.api.model import MODELS
    from pci_bench.training.recipe import Recipe

    recipes = {name: MODELS.get(name).meta.recipe for name in MODELS}
    return {
        field: "; ".join(
            [
                _text(value),
                *(f"{name} {_text(r[field])}" for name, r in recipes.items() if r.get(field, value) != value),
            ]
        )
        for field, value in Recipe()
    }


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class _WithRecipes(TyperCommand):
    """A command whose options are a recipe's fields: those without a default of their own show the recipes'."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        defaults = recipe_defaults()
        for option in self.params:
            if isinstance(option, TyperOption) and option.default is None and option.name in defaults:
                option.show_default = defaults[option.name]
        super().format_help(ctx, formatter)


@app.command(cls=_WithRecipes, rich_help_panel=PARTS)
def train(
    model: Annotated[str, typer.Argument(help="A model; `pci-bench list models` shows all.")],
    dataset: Annotated[str, typer.Option(help="What to train on; only supervised models read its labels.")],
    epochs: Annotated[
        int | None,
        typer.Option(help="Times that every cell is the source: pairs seen are epochs × cells."),
    ] = None,
    width: Annotated[float | None, typer.Option(help="Factor on the number of filters; 1 is the published.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Pairs in a batch (the authors: yeast 64, human 4)."),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(help="Slices in which a batch passes through the network, where it does not fit in memory."),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Adam's; the paper's is for 35 million pairs."),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="constant, cosine (with a warm-up), or exponential (4 % less every 25 steps)."),
    ] = None,
    beta1: Annotated[float | None, typer.Option(help="Adam's.")] = None,
    beta2: Annotated[float | None, typer.Option(help="Adam's.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Adam's.")] = None,
    order: Annotated[
        str | None,
        typer.Option(help="shuffled in every epoch, or stored (supervised models only)."),
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(help="Share of images kept for the validation loss; 0 trains on all, without one."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 (faster on processors with AVX512-BF16 or AMX), or auto: bfloat16 on GPUs only."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, help="Random seed of the start, pairs, flips and held-out images.")
    ] = 0,
    limit: Annotated[int | None, typer.Option(help="Train on a seeded subset of about this many cells.")] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call the weights; by default the dataset's or folder's name.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an unfinished training, with the same settings.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Discard an unfinished training of this name.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace finished weights of this name, once the training is done.")
    ] = False,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Epochs, separated by commas, after which the weights are saved as well, as NAME-epochN: for accuracy against pairs."
        ),
    ] = None,
    device: DeviceOption = "auto",
    plugin: PluginOption = None,
) -> None:
    """Train a model on a dataset and save its weights. What is not said is as the model's authors had it.

    In several processes: torchrun --nproc-per-node 2 -m pci_bench train …
    """
    load_plugins(plugin)
    import pydantic

    from pci_bench.api.dataset import load_dataset
    from pci_bench.api.extractor import EXTRACTORS
    from pci_bench.api.model import MODELS
    from pci_bench.data.cells import subsample
    from pci_bench.training.loop import check_name, default_name, recipe_of
    from pci_bench.training.loop import train as trained_on
    from pci_bench.training.parallel import started
    from pci_bench.weights import overwriting, shipped

    options = {
        "epochs": epochs,
        "width": width,
        "batch": batch,
        "accumulate": accumulate,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "beta1": beta1,
        "beta2": beta2,
        "epsilon": epsilon,
        "order": order,
        "held_out": held_out,
        "precision": precision,
        "seed": seed,
    }
    check_limit(limit)
    supervised = MODELS.get(model).meta.supervised
    try:
        recipe = recipe_of(model, **{name: value for name, value in options.items() if value is not None})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UserError(f"--{option} {first['input']} does not fit: {first['msg'].lower()}.") from error
    name = default_name(dataset) if name is None else name
    with overwriting(overwrite):
        check_name(model, name)  # before anything that takes hours
    speaks = started().first  # of the processes that torchrun started
    progress = ConsoleProgress(err) if speaks else Progress()
    cells = load_dataset(dataset, progress=progress)
    if limit is not None:
        cells = subsample(cells, limit, seed, stratify=supervised)
    for note in cells.notes if speaks else ():
        say(f"Note: {note}")
    with MODELS.code(model, f"in training on {dataset}"):
        done = trained_on(
            model,
            cells,
            recipe,
            name=name,
            resume=resume,
            restart=restart,
            overwrite=overwrite,
            keep=() if keep is None else whole_numbers(keep, "--keep"),
            device=device,
            progress=progress,
        )
    if not speaks:
        return
    for what, value in done.references.items():
        out.print(f"  held-out loss, {what}: {value:.5f}", markup=False, highlight=False)
    headline = EXTRACTORS.get(model).meta.headline if model in EXTRACTORS else None
    used = f"{model}-{headline}" if headline else model
    say(f"Made {done.name}: {done.file}. Card: {done.card}. Use it as {used}@{name}.")
    if file := shipped(model, name):
        say(
            f"Note: features named {used}@{name} still come from the shipped file {file}, until this one is copied there."
        )
