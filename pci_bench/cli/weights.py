"""The commands `weights`: list, get and import trained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pci_bench.cli.app import PluginOption, load_plugins, weights_app
from pci_bench.cli.terminal import err, say, show_list
from pci_bench.errors import UserError
from pci_bench.system.progress import ConsoleProgress


@weights_app.command("list")
def weights_list() -> None:
    """List weights, and whether each is here or how much is to be fetched."""
    print_weights()


def print_weights() -> None:
    """Print all weights that are declared or available locally, and what is wrong with files of such names."""
    rows, notes = listed_weights()
    show_list(("name", "what", "state"), rows, "Weights")
    for note in notes:
        say(f"Note: {note}")
    say("`pci-bench describe NAME` says where weights come from, `pci-bench weights get NAME` gets them.")


def names_of_weights() -> list[str]:
    """Return the names of all weights that are declared or available locally; no file is read."""
    from pci_bench import weights

    declared = [(family, name) for family, named in weights.declared().items() for name in named]
    return [f"{family}@{name}" for family, name in dict.fromkeys([*declared, *weights.availability()])]


def listed_weights() -> tuple[list[tuple[str, str, str]], list[str]]:
    """Return name, description and state of all weights, and sentences on files that are damaged or not used."""
    from pci_bench import weights

    here = weights.availability()
    rows, notes, not_used = [], [], []
    for family, named in weights.declared().items():
        for name, declaration in named.items():
            file = here.get((family, name))
            own = weights.shipped(family, name)
            state = (weights.state_to_get(family, name)) if file is None else "shipped" if own else "ready"
            if own and weights.file_of(family, name).exists():
                not_used.append(weights.file_of(family, name))
            rows.append((f"{family}@{name}", declaration["title"], state))
    if not_used:
        notes.append(f"files of the names of shipped weights are not used: {', '.join(map(str, not_used))}.")
    known = {(f, n) for f, named in weights.declared().items() for n in named}
    rows += [(f"{f}@{n}", _source(file), "ready") for (f, n), file in here.items() if (f, n) not in known]
    for (family, name), file in here.items():
        if damage := _damage(file):
            notes.append(f"damaged: {damage}")
            rows = [(n, what, "damaged" if n == f"{family}@{name}" else state) for n, what, state in rows]
    return rows, notes


def _source(file: Path) -> str:
    """Return where weights came from, as far as their file says it."""
    from pci_bench.weights import read_header

    try:
        return f"From {read_header(file).source}."
    except UserError:
        return f"The file {file.name}."


def _damage(file: Path) -> str:
    """Return how a file of weights is damaged, or "", so that one such file does not hide the others."""
    from pci_bench.weights import read_header

    try:
        read_header(file)
    except UserError as error:
        return str(error)
    return ""


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
    if set(rest) & set(":/"):
        plain = rest.replace(":", "--").replace("/", "--")
        raise UserError(
            f"'{name}' names no weights: there is no ':' and no '/' in their names. A model of a hub is written with -- in their place: "
            f"`pci-bench weights get {family}@{plain}`."
        )
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
    from pci_bench.features.names import with_weights
    from pci_bench.weights import IMPORTERS, check_name, legal_name, overwriting

    load_plugins(plugin)
    if kind not in IMPORTERS:
        raise UserError(f"There is no import '{kind}'. Known: {', '.join(IMPORTERS)}.")
    name = legal_name(file.stem) if name is None else name
    check_name(name)
    with overwriting(overwrite), IMPORTERS.code(kind, f"on {file}"):
        made, channels = IMPORTERS.get(kind)(file, name)
    suited = f" for the channels {' + '.join(channels)}" if channels else ""
    say(f"Imported {made}{suited}. Use it as {with_weights(made)}.")
