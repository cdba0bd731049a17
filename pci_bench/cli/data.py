"""The commands `data`: list, get, import, verify and remove datasets, and make them of raw fields of view."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from pci_bench.cli.app import PluginOption, SchedulerOption, data_app, load_plugins
from pci_bench.cli.columns import people
from pci_bench.cli.terminal import err, out, say, show, show_list
from pci_bench.errors import UserError
from pci_bench.system.progress import ConsoleProgress

NOT_CUT = 6  # fields that the table names


@data_app.command("list")
def data_list(plugin: PluginOption = None) -> None:
    """List datasets: their cells and classes, whether each is ready, what it takes on disk, and its licence."""
    load_plugins(plugin)
    from pci_bench.acquisition.inventory import (
        Inventory,
        inventory_of,
        inventory_of_annotations,
        inventory_of_stored,
        stored_names,
    )
    from pci_bench.api.dataset import DATASETS
    from pci_bench.data.annotation_sources import annotation_sources
    from pci_bench.system.files import cache_folder
    from pci_bench.system.room import megabytes

    def row(name: str, here: Inventory, licence: str) -> tuple[str, ...]:
        short = "; ".join(re.split(r"[,:(]", part)[0].strip() for part in licence.split(";"))
        state = f"{here.state}, {megabytes(here.bytes)}" if here.bytes else here.state
        return (name, people(here.cells), people(here.classes), state, short)

    named = {name: DATASETS.get(name) for name in DATASETS}
    here = {name: inventory_of(dataset) for name, dataset in named.items()}
    rows = [row(name, here[name], dataset.meta.licence or "") for name, dataset in named.items()]
    for name in stored_names():
        if name not in here:
            here[name] = inventory_of_stored(name)
            rows.append(row(name, here[name], "yours"))
    show_list(("name", "cells", "classes", "state", "licence"), rows, "Datasets")
    sources = {name: (inventory_of_annotations(s), s.licence) for name, s in annotation_sources().items()}
    out.print()
    annotations = [(name, *row(name, *found)[3:]) for name, found in sources.items()]
    show_list(("name", "state", "licence"), annotations, "Annotations of proteins")
    out.print()
    total = sum(found.bytes for found in here.values())
    say(f"{megabytes(total)} of datasets are in the cache, {cache_folder()}.")
    say("`pci-bench describe NAME` says what a dataset is, `pci-bench data get NAME` gets it.")


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A dataset; or annotations: go-human, go-yeast, huh2003.")],
    genes: Annotated[
        Path | None,
        typer.Option("--genes", help="Of the Human Protein Atlas: a file of Ensembl ids or names, one a line."),
    ] = None,
    plates: Annotated[
        str | None, typer.Option("--plates", help="Of a screen in plates: their names, joined by commas.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Ask again for what could not be fetched before.")] = False,
    plugin: PluginOption = None,
) -> None:
    """Fetch or read a dataset, or annotations of proteins, into the cache, checked."""
    load_plugins(plugin)
    from pci_bench.api.dataset import DATASETS, load_dataset
    from pci_bench.api.loading import unavailable_reason
    from pci_bench.data.annotation_sources import annotation_sources

    said = {"genes": None if genes is None else str(genes), "plates": plates, "retry": "yes" if retry else None}
    choices = {option: value for option, value in said.items() if value is not None}
    if source := annotation_sources().get(name):
        from pci_bench.acquisition.annotation_files import get_annotations

        if choices:
            raise UserError(f"'{name}' takes no --{next(iter(choices))}: it is fetched as a whole.")
        for sentence in get_annotations(source, ConsoleProgress(err)):
            say(sentence)
        return
    dataset = DATASETS.get(name).choose(choices)
    dataset.fetch(ConsoleProgress(err))
    if unavailable_reason(dataset) is not None and (other := dataset.stand_in()):
        say(f"'{name}' could not be had. In its place there is '{other}', another copy; name it with --dataset.")
        name = other
    cells = load_dataset(name, progress=ConsoleProgress(err))
    out.print(repr(cells), markup=False, highlight=False)
    for note in cells.notes:
        say(f"Note: {note}")


@data_app.command("verify")
def data_verify(
    name: Annotated[str, typer.Argument(help="A dataset; or annotations.")], plugin: PluginOption = None
) -> None:
    """Read a cached dataset again, every pixel and every file that was fetched for it, and compare with the hashes of when it came."""
    load_plugins(plugin)
    from pci_bench.acquisition.download import verify_files
    from pci_bench.api.dataset import DATASETS, load_dataset
    from pci_bench.api.loading import downloads, store_folder, verify
    from pci_bench.data.annotation_sources import annotation_sources
    from pci_bench.data.counts import said_of

    if source := annotation_sources().get(name):
        release = source.fetched()
        if release is None or not verify_files(release.files.values(), progress=ConsoleProgress(err)):
            raise UserError(f"{source.unavailable_reason()}.")
        say(f"{name} is as it came." if source.is_table else f"{name} is as it came: release {release.name}.")
        return
    dataset = DATASETS.get(name)
    if files := verify_files(downloads(dataset), progress=ConsoleProgress(err)):
        say(
            "1 file that was fetched is as it came."
            if files == 1
            else f"{files:,} files that were fetched are as they came."
        )
        if not store_folder(dataset).exists():
            say(f"Its cells are not stored yet. `pci-bench data get {name}` reads them.")
            return
    sha256 = verify(dataset, progress=ConsoleProgress(err))
    say(f"{name} is whole: sha256 {sha256}")
    if counted := said_of(load_dataset(name)):
        say(counted)


@data_app.command("import")
def data_import(
    name: Annotated[str, typer.Argument(help="A dataset that can be fetched; or huh2003.")],
    path: Annotated[Path, typer.Argument(help="Your copy of its files: a file, an archive or a folder.")],
    plugin: PluginOption = None,
) -> None:
    """Put your own copy of what a dataset fetches where it is looked for, checked as a download is."""
    load_plugins(plugin)
    from pci_bench.api.dataset import DATASETS
    from pci_bench.data.annotation_sources import annotation_sources
    from pci_bench.system.files import user_path

    copy = user_path(path, "The copy", absolute=True)
    if not copy.exists():
        raise UserError(f"There is no {copy}. Name the file, archive or folder that holds your copy of '{name}'.")
    if source := annotation_sources().get(name):
        from pci_bench.acquisition.annotation_files import import_annotations

        import_annotations(source, copy, ConsoleProgress(err))
    else:
        DATASETS.get(name).import_copy(copy, ConsoleProgress(err))
    say(f"{copy} is imported. `pci-bench data get {name}` reads it.")


@data_app.command("layout")
def data_layout(
    folder: Annotated[Path, typer.Argument(help="A folder with raw fields of view, in subfolders or not.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The layout's file (TOML), a new one; by default it is printed.")
    ] = None,
) -> None:
    """Propose how `data prepare` could read a folder of fields of view, by the names and headers of its files."""
    from pci_bench.acquisition.proposal import propose_layout, write_proposal
    from pci_bench.system.files import user_path

    if out_file is None:
        proposal = propose_layout(user_path(folder, "The folder"), progress=ConsoleProgress(err))
    else:
        proposal = write_proposal(folder, out_file, progress=ConsoleProgress(err))
    console = err if out_file is None else out  # so that `> layout.toml` holds the layout alone
    show(proposal.rows(), f"{folder}: what the proposed layout finds", console)
    for note in proposal.notes:
        console.print(f"Note: {note}", markup=False, highlight=False, soft_wrap=True)
    if out_file is None:
        say(proposal.toml.rstrip("\n"))
    else:
        say(f"Written: {out_file}. Check what it calls a guess, then `pci-bench data prepare {out_file} --name NAME`.")


@data_app.command("prepare")
def data_prepare(
    layout: Annotated[Path, typer.Argument(help="How fields of view lie in files, and how cells are cut (TOML).")],
    name: Annotated[str, typer.Option("--name", help="What the dataset is called from then on.")],
    workers: Annotated[
        int | None, typer.Option(help="Processes that share the fields; by default one per core.")
    ] = None,
    scheduler: SchedulerOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first field that cannot be cut.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a dataset of this name that came from another layout.")
    ] = False,
    plugin: PluginOption = None,
) -> None:
    """Cut cells from raw fields of view: segment, crop and filter, into a dataset that every command takes."""
    load_plugins(plugin)
    from pci_bench.datasets.prepared import prepare_dataset, prepared_folder
    from pci_bench.reporting.html.quality import write_quality_page
    from pci_bench.system.files import user_path

    cells, prepared = prepare_dataset(
        layout,
        name,
        workers=workers,
        scheduler=scheduler,
        strict=strict,
        replace=replace,
        progress=ConsoleProgress(err),
    )
    table = prepared.joined
    rows = [("fields of view", f"{len(prepared.parts):,}", "")]
    left_out = list(prepared.left_out.items())
    rows += [("  not cut", field, reason) for field, reason in left_out[:NOT_CUT]]
    if len(left_out) > NOT_CUT:
        rows.append(("", f"{len(left_out) - NOT_CUT:,} more", "on the page that is named below"))
    rows.append(("objects", f"{len(table.objects):,}", ""))
    rows += [("  dropped", f"{count:,}", reason) for reason, count in table.drops().items()]
    rows.append(("cells", f"{len(table.obs):,}", f"in {table.obs['image'].nunique():,} images"))
    show(rows, f"{name}: what was cut")
    for note in cells.notes:
        say(f"Note: {note}")
    out.print(repr(cells), markup=False, highlight=False)
    file = user_path(layout, "The layout", absolute=True)
    page = write_quality_page(prepared_folder(name) / "qc.html", cells, prepared, str(file))
    say(f"Fields, objects and reasons as tables: {prepared_folder(name)}")
    say(f"Quality control, to be opened in a browser: {page}")
    if "label" in cells.obs and (cells.obs["label"].astype("string").fillna("") != "").any():
        say(f"Next: pci-bench run knn --dataset {name}")
    else:
        say(
            "Cells have no labels yet, which benchmarks compare: give them some by [obs] label or by [labels] in the layout, and run this again."
        )


@data_app.command("remove")
def data_remove(
    name: Annotated[str, typer.Argument(help="A dataset, or annotations, in the cache.")], plugin: PluginOption = None
) -> None:
    """Remove a dataset from the cache: its cells and what was fetched for it. Your own files are not touched."""
    load_plugins(plugin)
    from pci_bench.acquisition.download import size_on_disk
    from pci_bench.acquisition.inventory import remove, remove_annotations, stored_names, stores
    from pci_bench.api.dataset import DATASETS
    from pci_bench.data.annotation_sources import annotation_sources
    from pci_bench.datasets.prepared import prepared_folder, remove_prepared
    from pci_bench.system.room import megabytes

    if prepared_folder(name).is_dir():
        freed: int | None = sum(map(size_on_disk, (prepared_folder(name), *stores(name))))
        remove_prepared(name)
    elif source := annotation_sources().get(name):
        freed = remove_annotations(source)
    else:
        unknown = name not in DATASETS and name in stored_names()
        freed = remove(name, None if unknown else DATASETS.get(name))
    if freed is None:
        raise UserError(f"Nothing of '{name}' is in the cache. `pci-bench data list` shows what is.")
    say(f"{name} is removed from the cache: {megabytes(freed)} are free again.")
