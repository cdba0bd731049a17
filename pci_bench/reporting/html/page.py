"""The page: what each section shows, put into one template."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pci_bench.data.cells import Cells
from pci_bench.data.observations import obs_strings
from pci_bench.data.pictures import channels_sentence, stratified
from pci_bench.errors import UserError
from pci_bench.reporting.html import record as run_record
from pci_bench.reporting.html.cells import (
    LARGEST_SAMPLE,
    Shown,
    opened,
    sprite,
)
from pci_bench.reporting.html.classes import class_views, classified, examples_wanted
from pci_bench.reporting.html.embedding import embedding_views, without_coordinates
from pci_bench.reporting.html.layers import layer_views
from pci_bench.reporting.html.neighbours import Galleries, galleries, gallery_views
from pci_bench.reporting.html.pictures import Picture, pictures
from pci_bench.reporting.html.rendering import rendered_page
from pci_bench.reporting.html.tables import paper_tables, result_tables
from pci_bench.runs.record import RunRecord
from pci_bench.runs.results import Result, read_results
from pci_bench.system.files import atomic_file, check_replaceable, user_path


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the results of an output folder as one HTML file, and return it.

    Parameters
    ----------
    folder
        As `pci-bench run` or `pci-bench evaluate --out` wrote it. Crops are shown where the dataset still lies in the cache;
        nothing is computed anew or fetched.
    out
        The file; by default ``report.html`` in the folder.

    Raises
    ------
    UserError
        Where there are no results, or a file is not what it should be.

    Examples
    --------
    >>> import tempfile
    >>> import pci_bench
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     output = pci_bench.run("yeast-knn", dataset="yeast-sim", features="intensity", k=11, limit=100, out=folder)
    ...     report = write_report(Path(folder))
    ...     report.name, report.read_text(encoding="utf-8")[:15]
    ('report.html', '<!DOCTYPE html>')
    """
    folder = user_path(folder, "The folder")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder. Give an output folder of `pci-bench run`.")
    file = user_path(out, "The report") if out is not None else folder / "report.html"
    check_replaceable(file)
    record = run_record.recorded(folder)
    results = read_results(folder)
    text = rendered(results, record, folder.resolve().name, *pictures(folder, record))
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")  # a folder's name need not be text
    return file


def rendered(
    results: Sequence[Result],
    record: RunRecord | None,
    name: str,
    figures: Sequence[Picture],
    not_shown: Sequence[str],
) -> str:
    """Return the page of some results, their run's record, the figures to show, and the names of other figures."""
    groups = of_the_same_cells(results)
    opened_cells = [opened(group[0]) for group in groups]
    group_galleries = [galleries(group, cells) for group, cells in zip(groups, opened_cells, strict=True)]
    shown_cells = chosen_cells(groups, opened_cells, group_galleries)
    image = sprite(shown_cells, opened_cells)
    sections, data = [], []
    for number, (group, cells, gallery) in enumerate(zip(groups, opened_cells, group_galleries, strict=True)):
        views = {
            "classes": class_views(group, number, shown_cells),
            "layers": layer_views(group),
            "umaps": embedding_views(group, number, shown_cells, _cell_of_protein(cells, number, shown_cells)),
            "gallery": gallery_views(gallery, number, shown_cells),
        }
        data.append(views)
        sections.append(
            {
                "id": f"dataset-{number + 1}",
                "title": _title(group[0]),
                "facts": _facts(group),
                "paper_tables": paper_tables(
                    group, {group[0].dataset.name: run_record.reasons(record, group[0].dataset.name)}
                ),
                "result_tables": result_tables(group),
                "crops": channels_sentence(cells) if isinstance(cells, Cells) else cells,
                "n_tiles": sum(dataset == number for dataset, _ in shown_cells.tiles),
                "gallery_reasons": gallery.reasons,
                "classes_reasons": _without_predictions(group),
                "umap_reasons": without_coordinates(group),
                **{key: bool(value) for key, value in views.items()},
            }
        )
    payload = {
        "tile": image.tile if image else 0,
        "columns": image.columns if image else 0,
        "tiles": len(shown_cells.tiles),
        "cells": shown_cells.listed(),
        "datasets": data,
    }
    benchmarks = list(dict.fromkeys(r.benchmark for r in results if r.benchmark))
    return rendered_page(
        "report.html.j2",
        payload,
        charts=any(any(views.values()) for views in data),
        name=name,
        benchmarks=benchmarks,
        n_results=len(results),
        reproductions=sum(r.paper is not None for r in results),
        sections=sections,
        tables_of_several=paper_tables(results, {}, several_datasets=True),
        not_run=run_record.not_run(record),
        recorded=record is not None,
        figures=figures,
        not_shown=not_shown,
        provenance=run_record.provenance(record, results),
        weights=_weights(results),
        sprite=image,
    )


def of_the_same_cells(results: Sequence[Result]) -> list[list[Result]]:
    """Return results in groups of the same cells: dataset, version, content and limit."""
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        d = result.dataset
        groups.setdefault((d.name, d.version, d.sha256, d.n_cells, d.limit), []).append(result)
    return list(groups.values())


def chosen_cells(
    groups: Sequence[list[Result]], opened_cells: Sequence[Cells | str], group_galleries: Sequence[Galleries]
) -> Shown:
    """Return which cells get a crop: those of galleries and confused pairs, then a sample of all labels; 4,000 in all."""
    shown_cells = Shown()
    count = sum(isinstance(cells, Cells) for cells in opened_cells)
    for number, (group, cells, gallery) in enumerate(zip(groups, opened_cells, group_galleries, strict=True)):
        if not isinstance(cells, Cells):
            continue
        share = LARGEST_SAMPLE // count
        known = set(cells.obs["cell"].astype(str))
        shown_cells.give_tiles(number, (n for n in gallery.names() if n in known), share // 2)
        shown_cells.give_tiles(number, (n for n in examples_wanted(group) if n in known), 3 * share // 4)
        shown_cells.give_tiles(number, stratified(cells, share), share)
        by_cell = dict(zip(cells.obs["cell"].astype(str), obs_strings(cells.obs, "label"), strict=True))
        shown_cells.labels |= {key: str(by_cell[key[1]]) for key in shown_cells.tiles if key[0] == number}
    return shown_cells


def _cell_of_protein(cells: Cells | str, number: int, shown_cells: Shown) -> dict[str, str]:
    """Return the first shown cell of every protein."""
    if isinstance(cells, str) or "protein" not in cells.obs:
        return {}
    protein = dict(zip(cells.obs["cell"].astype(str), cells.obs["protein"].astype(str), strict=True))
    first_cells: dict[str, str] = {}
    for dataset, name in shown_cells.tiles:
        if dataset == number:
            first_cells.setdefault(protein[name], name)
    return first_cells


def _title(result: Result) -> str:
    limit = result.dataset.limit
    return result.dataset.name if limit is None else f"{result.dataset.name}, --limit {limit}"


def _facts(group: Sequence[Result]) -> str:
    dataset = group[0].dataset
    classes = f", {len(dataset.classes)} classes (chance {100 / len(dataset.classes):.1f} %)" if dataset.classes else ""
    version = f", version {dataset.version}" if dataset.version else ""
    sha256 = f" (sha256 {dataset.sha256[:12]}…)" if dataset.sha256 else ""
    sets = len({r.features.full_name for r in group})
    return (
        f"{dataset.n_cells:,} cells{classes}{version}{sha256}. {len(group):,} {'result' if len(group) == 1 else 'results'} of "
        f"{sets} {'feature set' if sets == 1 else 'feature sets'}."
    )


def _without_predictions(group: Sequence[Result]) -> list[str]:
    """Return which classifications have lost the table of their predictions."""
    return [
        f"{r.features.full_name}, {r.evaluator.name} {', '.join(f'{k}={v}' for k, v in r.evaluator.params.items())}"
        for r in classified(group)
        if r.predictions is None
    ]


def _weights(results: Sequence[Result]) -> list[dict[str, str]]:
    """Return every feature set's version and weights."""
    by_name = {}
    for r in results:
        f = r.features
        by_name[f.full_name] = {
            "name": f.full_name,
            "version": f.version or "–",
            "dim": f"{f.dim:,}",
            "precision": f.precision,
            "sha256": (f.weights_sha256 or "–")[:16],
        }
    return list(by_name.values())
