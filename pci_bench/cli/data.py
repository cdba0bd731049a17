"""The commands `data`: list, get and verify datasets in the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from pci_bench.cli.app import PluginOption, data_app, load_plugins
from pci_bench.cli.terminal import err, out, say, show
from pci_bench.system.progress import ConsoleProgress


@data_app.command("list")
def data_list(plugin: PluginOption = None) -> None:
    """List datasets and whether each is available."""
    load_plugins(plugin)
    from pci_bench.api.dataset import DATASETS, store_folder, unavailable_reason

    rows = []
    for name in DATASETS:
        dataset = DATASETS.get(name)
        state = (
            "in the cache"
            if store_folder(dataset).exists()
            else unavailable_reason(dataset) or f"`pci-bench data get {name}` gets it"
        )
        rows.append((name, dataset.meta.title, state))
    show(rows, "Datasets")


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(help="A dataset.")], plugin: PluginOption = None) -> None:
    """Fetch or read a dataset into the cache, checked."""
    load_plugins(plugin)
    from pci_bench.api.dataset import load_dataset

    cells = load_dataset(name, progress=ConsoleProgress(err))
    out.print(repr(cells), markup=False, highlight=False)
    for note in cells.notes:
        say(f"Note: {note}")


@data_app.command("verify")
def data_verify(name: Annotated[str, typer.Argument(help="A dataset.")], plugin: PluginOption = None) -> None:
    """Read a cached dataset again, every pixel, and compare with the hash of when it was stored."""
    load_plugins(plugin)
    from pci_bench.api.dataset import DATASETS, load_dataset, verify
    from pci_bench.data.counts import said_of

    sha256 = verify(DATASETS.get(name), progress=ConsoleProgress(err))
    say(f"{name} is whole: sha256 {sha256}")
    if counted := said_of(load_dataset(name)):
        say(counted)
