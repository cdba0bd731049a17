"""The page: what each section shows, put into one template."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pci_bench.data.cells import Cells
from pci_bench.data.observations import obs_strings
from pci_bench.data.pictures import channels_sentence, stratified
from pci_bench.errors import UserError
from pci_bench.reporting.html import record as run_record
from pci_bench.reporting.html.answers import answer_views, picture, pictured
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
from pci_bench.runs.frame import results_frame
from pci_bench.runs.record import RunRecord
from pci_bench.runs.results import Result, read_results, run_folders
from pci_bench.system.files import atomic_file, check_replaceable, user_path
from pci_bench.system.text import csv_table


@dataclass(frozen=True)
class Run:
    """One output folder: its name on the page, its record, and its results."""

    name: str
    record: RunRecord | None
    results: list[Result]


@dataclass(frozen=True)
class Opening:
    """What a page of several runs begins with.

    Parameters
    ----------
    title
        Of the page.
    questions
        What each run answers, by the run's name.
    sentences
        What follows from each run, by the run's name and by what was evaluated (``""`` where a run has one evaluator).
    missing
        What could not be run, and why.
    """

    title: str
    questions: Mapping[str, str]
    sentences: Mapping[str, Mapping[str, Sequence[str]]]
    missing: Sequence[tuple[str, str]] = ()


def write_report(
    folder: Path | str | Sequence[Path | str], out: Path | None = None, *, opening: Opening | None = None
) -> Path:
    """Write the results of output folders as one HTML file, and return it.

    Parameters
    ----------
    folder
        As `pci-bench run` or `pci-bench evaluate --out` wrote it, a folder that holds several such, or a list of these. Each run
        has its own sections and its own record. Crops are shown where the dataset still lies in the cache; nothing is computed
        anew or fetched.
    out
        The file; by default ``report.html`` in the folder, of several in the current one.
    opening
        What the page begins with, where the runs are parts of one study.

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
    named = [folder] if isinstance(folder, str | Path) else list(folder)
    folders = [user_path(f, "The folder") for f in named]
    for given in folders:
        if not given.is_dir():
            raise UserError(f"{given} is not a folder. Give an output folder of `pci-bench run`.")
    if not folders:
        raise UserError("No folder was named. Give an output folder of `pci-bench run`, or several.")
    default = folders[0] / "report.html" if len(folders) == 1 else Path("report.html")
    file = user_path(out, "The report") if out is not None else default
    check_replaceable(file)
    places = list(dict.fromkeys(place for given in folders for place in run_folders(given)))
    names = _names(places)
    runs = [Run(name, run_record.recorded(p), read_results(p)) for name, p in zip(names, places, strict=True)]
    figures, not_shown = _pictures(runs, places)
    title = opening.title if opening else ", ".join(dict.fromkeys(given.resolve().name for given in folders))
    with atomic_file(file) as temporary:  # a folder's name need not be text
        temporary.write_text(
            rendered(runs, title, figures, not_shown, opening), encoding="utf-8", errors="replace", newline="\n"
        )
    return file


def _names(places: Sequence[Path]) -> list[str]:
    """Return what tells runs apart: the ends of their paths, as long as it takes."""
    resolved = [place.resolve() for place in places]
    for parts in range(1, max(len(place.parts) for place in resolved) + 1):
        names = ["/".join(place.parts[-parts:]) for place in resolved]
        if len(set(names)) == len(names):
            break
    return names


def _pictures(runs: Sequence[Run], places: Sequence[Path]) -> tuple[list[Picture], list[str]]:
    """Return the figures of all runs that fit into the page, and the names of the others; of several runs with the run's."""
    used, included, left = 0, [], []
    for run, place in zip(runs, places, strict=True):
        shown, others = pictures(place, run.record, used)
        used += sum(picture.size for picture in shown)
        before = f"{run.name}: " if len(runs) > 1 else ""
        included += [replace(picture, name=f"{before}{picture.name}") for picture in shown]
        left += [f"{before}{name}" for name in others]
    return included, left


def rendered(
    runs: Sequence[Run],
    name: str,
    figures: Sequence[Picture],
    not_shown: Sequence[str],
    opening: Opening | None = None,
) -> str:
    """Return the page of some runs, the figures to show, the names of other figures, and what it begins with."""
    groups, runs_of_groups = [], []
    for run in runs:
        for group in of_the_same_cells(run.results):
            groups.append(group)
            runs_of_groups.append(run)
    opened_cells = [opened(group[0]) for group in groups]
    group_galleries = [galleries(group, cells) for group, cells in zip(groups, opened_cells, strict=True)]
    shown_cells = chosen_cells(groups, opened_cells, group_galleries)
    image = sprite(shown_cells, opened_cells)
    several = len(runs) > 1
    sections, data = [], []
    for number, (group, cells, gallery) in enumerate(zip(groups, opened_cells, group_galleries, strict=True)):
        run = runs_of_groups[number]
        views = {
            "answers": answer_views(group),
            "classes": class_views(group, number, shown_cells),
            "layers": layer_views(group),
            "umaps": embedding_views(group, number, shown_cells, _cell_of_protein(cells, number, shown_cells)),
            "gallery": gallery_views(gallery, number, shown_cells),
        }
        data.append(views)
        dataset = group[0].dataset.name
        sections.append(
            {
                "id": f"dataset-{number + 1}",
                "title": f"{run.name}: {_title(group[0])}" if several else _title(group[0]),
                "run": run.name,
                "question": opening.questions.get(run.name, "") if opening else "",
                "facts": _facts(group),
                "picture": picture(cells, number, shown_cells),
                "paper_tables": paper_tables(group, {dataset: run_record.reasons(run.record, dataset)}),
                "result_tables": result_tables(group),
                "crops": channels_sentence(cells) if isinstance(cells, Cells) else cells,
                "n_tiles": sum(dataset == number for dataset, _ in shown_cells.tiles),
                "gallery_reasons": gallery.reasons,
                "classes_reasons": _without_predictions(group),
                "umap_reasons": without_coordinates(group),
                **{key: bool(value) for key, value in views.items() if key != "answers"},
                "answers": views["answers"],
            }
        )
    payload = {
        "tile": image.tile if image else 0,
        "columns": image.columns if image else 0,
        "tiles": len(shown_cells.tiles),
        "cells": shown_cells.listed(),
        "datasets": data,
    }
    results = [result for run in runs for result in run.results]
    return rendered_page(
        "report.html.j2",
        payload,
        charts=any(any(views.values()) for views in data),
        name=name,
        benchmarks=list(dict.fromkeys(r.benchmark for r in results if r.benchmark)),
        n_results=len(results),
        opening=opening,
        section_of_run={section["run"]: section["id"] for section in reversed(sections)},
        reproductions=sum(r.paper is not None for r in results),
        sections=sections,
        tables_of_several=[t for run in runs for t in paper_tables(run.results, {}, several_datasets=True)],
        records=[
            {
                "name": run.name if several else "",
                "recorded": run.record is not None,
                "not_run": run_record.not_run(run.record),
                "provenance": run_record.provenance(run.record, run.results),
            }
            for run in runs
        ],
        figures=figures,
        not_shown=not_shown,
        weights=_weights(results),
        all_numbers=csv_address(csv_table(results_frame(results))),
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
    """Return which cells get a crop: the picture's, those of galleries and confused pairs, then a sample of all labels; 4,000 in all."""
    shown_cells = Shown()
    count = sum(isinstance(cells, Cells) for cells in opened_cells)
    for number, (group, cells, gallery) in enumerate(zip(groups, opened_cells, group_galleries, strict=True)):
        if not isinstance(cells, Cells):
            continue
        share = LARGEST_SAMPLE // count
        known = set(cells.obs["cell"].astype(str))
        shown_cells.give_tiles(number, pictured(cells), share)
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


def csv_address(text: str) -> str:
    """Return a table as an address that a browser saves as a file, without a server and without a script."""
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


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
