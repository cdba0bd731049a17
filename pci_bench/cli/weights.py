"""The commands `weights`: list, get and import trained networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pci_bench.cli.app import PluginOption, load_plugins, weights_app
from pci_bench.cli.terminal import err, say, show
from pci_bench.errors import UserError
from pci_bench.system.progress import ConsoleProgress


@weights_app.command("list")
def weights_list() -> None:
    """List weights, and where those that are not available come from."""
    show(listed_weights(), "Weights")


def listed_weights() -> Sequence[tuple[str, ...]]:
    """Return name, description and state of all weights that are declared or available locally."""
    from pci_bench import weights

    here = weights.availability()
    rows = []
    for family, named in weights.declared().items():
        for name, declaration in named.items():
            state = (
                _state(here[family, name])
                if (family, name) in here
                else f"not here: {weights.how_to_get(family, name).partition('. ')[2]}"
            )
            if weights.shipped(family, name) and weights.file_of(family, name).exists():
                state += f" (shipped); {weights.file_of(family, name)} of the same name is not used"
            default = f" Default for {', '.join(declaration['default_for'])}." if declaration["default_for"] else ""
            rows.append((f"{family}@{name}", f"{declaration['title']}.{default}", state))
    known = {(f, n) for f, named in weights.declared().items() for n in named}
    rows += [(f"{f}@{n}", _source(file), _state(file)) for (f, n), file in here.items() if (f, n) not in known]
    return rows


def _source(file: Path) -> str:
    """Return where weights came from, as far as their file says it."""
    from pci_bench.weights import read_header

    try:
        return f"From {read_header(file).source}."
    except UserError:
        return f"The file {file.name}."


def _state(file: Path) -> str:
    """Return that weights are available, or how their file is damaged, so that one such file does not hide the others."""
    from pci_bench.weights import read_header

    try:
        read_header(file)
    except UserError as error:
        return f"damaged: {error}"
    return "available"


@weights_app.command("get")
def weights_get(
    name: Annotated[str, typer.Argument(help="FAMILY@NAME.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Get them although they are here, and replace them.")
    ] = False,
) -> None:
    """Fetch weights, checked, and import them; say where they came from."""
    from pci_bench import weights

    family, separator, rest = name.partition("@")
    if not separator:
        raise UserError(f"'{name}' names no weights. Write FAMILY@NAME; `pci-bench weights list` shows all.")
    file = weights.fetched(family, rest, progress=ConsoleProgress(err), again=overwrite)
    if file is None:
        raise UserError(f"Not fetched: {weights.how_to_get(family, rest)}.")
    say(f"{name} is available: {file}")
    say(f"From {weights.read_header(file).source}.")
    for remote in weights.remote_files(family, rest):
        if remote.licence:
            say(f"Licence: {remote.licence}.")


@weights_app.command("import")
def weights_import(
    kind: Annotated[str, typer.Argument(help="What the file is: keras-pci, keras-vgg16, deeploc-checkpoint, …")],
    file: Annotated[Path, typer.Argument(help="The file.")],
    name: Annotated[str | None, typer.Option(help="What to call them; by default the file's name.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace weights of this name.")] = False,
    plugin: PluginOption = None,
) -> None:
    """Import weights that someone else trained."""
    from pci_bench.weights import IMPORTERS, check_name, legal_name, overwriting

    load_plugins(plugin)
    if kind not in IMPORTERS:
        raise UserError(f"There is no import '{kind}'. Known: {', '.join(IMPORTERS)}.")
    name = legal_name(file.stem) if name is None else name
    check_name(name)
    with overwriting(overwrite), IMPORTERS.code(kind, f"on {file}"):
        made, channels = IMPORTERS.get(kind)(file, name)
    suited = f" for the channels {' + '.join(channels)}" if channels else ""
    say(f"Imported {made}{suited}. Use it as {_feature_set_with(made)}.")


def _feature_set_with(weights: str) -> str:
    """Return the headline feature set that weights FAMILY@NAME serve: ``pci-conv4@NAME``."""
    from pci_bench.api.extractor import EXTRACTORS
    from pci_bench.features.names import FeatureSet

    family, _, name = weights.partition("@")
    serving = [meta for e in EXTRACTORS if (meta := EXTRACTORS.get(e).meta).weights == family]
    first = next((m for m in serving if m.headline), None)
    if family in EXTRACTORS.prefixes():
        return f"{family}:{name}"
    return str(FeatureSet(first.name, output=first.headline or "", weights=name)) if first else weights
