"""From raw fields of view to cells: every field cut, in processes and resumable, and the crops joined to one dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pci_bench.acquisition.centres import Centres, read_centres
from pci_bench.acquisition.cut_fields import CutField, cut_field, is_cut, read_cut_field, write_cut_field
from pci_bench.acquisition.cutting import FEW
from pci_bench.acquisition.fields import FieldOfView, FoundFields, columns_of, find_fields
from pci_bench.acquisition.joined_labels import join_labels, read_labels
from pci_bench.acquisition.layout import Layout
from pci_bench.acquisition.pattern import filled_in
from pci_bench.acquisition.stains import drawn_stains
from pci_bench.api.cluster import ClusterSetup, here_on_cluster, introduced, wait_until_seen
from pci_bench.api.field_segmenter import FIELD_SEGMENTERS, segmenter_params
from pci_bench.api.plugins import checked_reason, source_of
from pci_bench.api.workers import WorkerSetup
from pci_bench.errors import UserError
from pci_bench.system.arguments import check_workers
from pci_bench.system.cluster import Call, check_scheduler
from pci_bench.system.files import escape, make_folder, remove_leftovers, user_path
from pci_bench.system.progress import Progress
from pci_bench.system.shortages import raise_shortage
from pci_bench.system.threads import available_cores
from pci_bench.system.workers import shared

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.data.store import StoreWriter

VERSION = "1"  # of what this room does with pixels; part of every key
# Columns that are not stored; no name in a pattern has a space.
NUMBER, POSITION, STAIN, HAS = "object number", "position in field", "the stain", "field has"


@dataclass(frozen=True)
class Source:
    """A layout, and where its files are.

    Parameters
    ----------
    layout
        How fields lie in files.
    folder
        The layout's own, where ``root``, ``labels.file`` and ``segment.objects.file`` start.
    only
        Parts of names, and the values that fields must have to be taken: ``{"plate": {"1", "2"}}``.
    """

    layout: Layout
    folder: Path
    only: Mapping[str, frozenset[str]] | None = None

    @property
    def root(self) -> Path:
        """The folder that files' names start at."""
        root = self.folder / user_path(self.layout.root, "The layout's root")
        return user_path(root, "The layout's root").resolve()

    def find(self) -> FoundFields:
        """Return the fields of view.

        Raises
        ------
        UserError
            Where the folder is not there, or the pattern fits nothing.
        """
        if not self.root.is_dir():
            raise UserError(f"There is no folder {self.root}. Set root in the layout to the folder of the images.")
        found = find_fields(self.layout, self.root)
        if self.only is None:
            return found
        chosen = tuple(f for f in found.fields if all(f.parts.get(n) in values for n, values in self.only.items()))
        return replace(found, fields=chosen)


@dataclass(frozen=True)
class Prepared:
    """Fields of view that were cut, each to a file of its own, and what is known of them.

    Parameters
    ----------
    source
        The layout and its folder.
    found
        The fields, and what else is in the folder.
    parts
        The file of each field that was cut, and its identity, in the order of the fields.
    failed
        Why a field could not be cut, by its name.
    about_centres
        What of a table of centres is in no field, as sentences.
    """

    source: Source
    found: FoundFields
    parts: Mapping[str, tuple[Path, str]]
    failed: Mapping[str, str]
    about_centres: tuple[str, ...] = ()

    @property
    def left_out(self) -> dict[str, str]:
        """Why fields are not among those that were cut, by their names."""
        return {**self.found.incomplete, **self.failed}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user of the cells should know of the fields, as sentences."""
        notes = [*self.found.notes(), *self.about_centres]
        if lost := self.left_out:
            name, reason = next(iter(lost.items()))
            total = len(lost) + len(self.parts)
            notes.append(
                f"{len(lost):,} of {total:,} fields of view could not be cut, for example '{name}': {reason.rstrip('.')}."
            )
        return tuple(notes)

    @property
    def fields(self) -> list[FieldOfView]:
        """The fields that were cut."""
        return [field for field in self.found.fields if field.name in self.parts]

    def cut(self, field: FieldOfView) -> CutField:
        """Return what was cut from a field, read from its file."""
        file, identity = self.parts[field.name]
        cut = read_cut_field(file, identity)
        if cut is None:
            raise UserError(f"{file} was damaged or removed while it was used. Run the same command again.")
        return cut

    @cached_property
    def joined(self) -> Joined:
        """The table of all crops and objects, after filters by image."""
        return joined(self)

    def write(self, store: StoreWriter, notes: Sequence[str] = ()) -> None:
        """Write the crops to a store, field by field.

        Raises
        ------
        UserError
            Where nothing is left to write, or fields differ in the type of their pixels.
        """
        layout, table = self.source.layout, self.joined
        rows = table.rows
        if len(rows) == 0:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in table.drops().items())
            raise UserError(
                f"No cell is left of {len(table.objects):,} objects in {len(self.parts):,} fields of view ({counts or 'no object found'}). "
                "Look at the segmentation ([segment] channel and options) and at [filters]."
            )
        crop = layout.crop.resize or layout.crop.size
        store.begin(
            table.obs,
            layout.crop_channels(),
            crop_shape=(crop, crop),
            dtype=table.dtype,
            masks=layout.segment.objects is None,
            notes=(*self.notes, *table.notes, *notes),
        )
        by_field = rows.groupby("field", sort=False).indices
        for field in self.fields:
            if field.name not in by_field:
                continue
            cut, selected = self.cut(field), rows.iloc[by_field[field.name]]
            crops = cut.crops[selected[POSITION].to_numpy()]
            if layout.stains is not None:
                stain = selected[STAIN].map({name: i for i, name in enumerate(cut.channels)}).to_numpy()
                markers = [i for i, n in enumerate(cut.channels) if layout.channels[n].role == "marker"]
                crops = np.concatenate([crops[np.arange(len(crops)), stain][:, None], crops[:, markers]], axis=1)
            store.add(crops, None if cut.masks is None else cut.masks[selected[POSITION].to_numpy()])


@dataclass(frozen=True)
class Joined:
    """The crops of all fields.

    Parameters
    ----------
    obs
        One row per crop, as it is stored.
    rows
        Of each crop: ``field``, ``position in field`` among the field's crops, and ``the stain``, empty where there are none.
    objects
        One row per object, kept or not: ``field``, ``number``, ``y``, ``x`` in pixels of the field's files, ``area``, ``reason``.
    per_field
        One row per field: its columns, objects found and kept, and of each channel the mean intensity and focus.
    dtype
        Of the crops.
    notes
        What did not match, as sentences.
    """

    obs: pd.DataFrame
    rows: pd.DataFrame
    objects: pd.DataFrame
    per_field: pd.DataFrame
    dtype: str
    notes: tuple[str, ...]

    def drops(self) -> dict[str, int]:
        """Return how many objects were dropped, by reason."""
        reasons = self.objects["reason"]
        counts = reasons[reasons != ""].value_counts()
        return {str(reason): int(count) for reason, count in counts.items()}


def prepare_fields(
    source: Source,
    parts: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Return the fields of a layout, cut; those of an earlier call whose files and settings are the same are kept.

    Parameters
    ----------
    source
        The layout, and where its files are.
    parts
        The folder for one file per field.
    workers
        Processes that share the fields; by default one per core. The result does not depend on it.
    scheduler
        ``"tcp://HOST:PORT"`` of a Dask cluster whose workers cut the fields in their place. They see the folders of the images and of
        `parts` at the same paths.
    strict
        Whether a field that cannot be cut ends it all; else it is left out, and told.
    progress
        The progress reporter.

    Raises
    ------
    UserError
        For a layout that fits nothing, an unknown segmenter or option, a worker that was killed; with `strict`, for the first
        field that cannot be cut, and else where none can.
    """
    check_workers(workers)
    check_scheduler(scheduler, workers)
    progress, layout = progress or Progress(), source.layout
    segmenter = checked_segmenter(layout)
    found = source.find()
    if strict and found.incomplete:
        name, reason = next(iter(found.incomplete.items()))
        raise UserError(f"The field '{name}' is not whole: {reason}. Without --strict it is left out, and told.")
    centres = None if layout.segment.objects is None else read_centres(layout.segment.objects, source.folder)
    about_centres = tuple(centres.check(found.fields)) if centres is not None else ()
    if layout.labels is not None:
        read_labels(layout.labels, source.folder)  # so that what is wrong with it is said before fields are cut
    make_folder(parts)
    remove_leftovers(parts)
    identities, failed = {}, dict[str, str]()
    for field in found.fields:
        try:
            identities[field.name] = _identity(field, source, segmenter)
        except OSError as error:  # it was there when the folder was listed
            raise_shortage(error)
            failed[field.name] = f"{error.filename} cannot be read any more: {error.strerror}."
    files = {f.name: parts / f"{escape(f.name)}.npz" for f in found.fields}
    todo = []
    with progress.stage(f"cutting {len(found.fields):,} fields of view", len(found.fields)) as advance:
        advance(len(failed))
        for field in found.fields:
            if field.name in failed:
                continue
            if is_cut(files[field.name], identities[field.name]):
                advance(1)
            else:
                todo.append(field)
        workers = min(workers or available_cores(), len(todo))
        tasks = (
            _Task(f, source, files[f.name], identities[f.name], None if centres is None else centres.about(f))
            for f in todo
        )
        lost = partial(_what_was_lost, todo, files, identities)
        on_cluster = scheduler is not None and todo
        cut = _cut_on_cluster(tasks, str(scheduler), lost, progress) if on_cluster else _cut_all(tasks, workers, lost)
        for name, problem in cut:
            advance(1)
            if problem is not None:
                failed[name] = problem
                if strict:
                    break
    failed = {f.name: failed[f.name] for f in found.fields if f.name in failed}
    if strict and failed:
        name, problem = next(iter(failed.items()))
        raise UserError(f"The field '{name}' cannot be cut: {problem} Without --strict it is left out, and told.")
    if len(failed) == len(found.fields):
        name, problem = next(iter(failed.items()))
        raise UserError(f"None of {len(failed):,} fields of view can be cut. The first, '{name}': {problem}")
    kept = {name: (files[name], identities[name]) for name in files if name not in failed}
    return Prepared(source, found, kept, failed, about_centres)


def checked_segmenter(layout: Layout) -> str:
    """Return all that a layout's segmenter's labels follow from, besides its options; "" where it has none.

    Raises
    ------
    UserError
        For an unknown or unavailable segmenter, or options that it does not have.
    """
    name = layout.segment.segmenter
    if name is None:
        return ""
    segmenter = FIELD_SEGMENTERS.get(name)
    segmenter_params(segmenter, layout.segment.options)
    if reason := checked_reason(segmenter.unavailable_reason()):
        raise UserError(f"The segmenter '{name}' is not available: {reason}")
    return json.dumps([name, segmenter.meta.version, source_of(FIELD_SEGMENTERS.origin(name).file)])


class _Task(NamedTuple):
    """One field to cut: its files, how, and the file that what is cut goes to, with its identity."""

    field: FieldOfView
    source: Source
    file: Path
    identity: str
    centres: Centres | None


def _cut_all(tasks: Iterable[_Task], workers: int, lost: Callable[[], str]) -> Iterator[tuple[str, str | None]]:
    """Yield each field's name when it is cut, and why it could not be."""
    if workers <= 1:
        yield from map(_cut_one, tasks)
        return
    from joblib import delayed

    setup = WorkerSetup.here(cores=1)
    yield from shared((delayed(_work)(task, setup) for task in tasks), workers, lost)


def _work(task: _Task, setup: WorkerSetup) -> tuple[str, str | None]:
    """Cut one field in a worker process."""
    setup.begin()
    return _cut_one(task)


def _cut_on_cluster(
    tasks: Iterable[_Task], scheduler: str, lost: Callable[[], str], progress: Progress
) -> Iterator[tuple[str, str | None]]:
    """Yield each field's name when a worker of a cluster has cut it, and why it could not be."""
    cluster, setup = introduced(scheduler, progress), ClusterSetup.here()
    calls = [Call(_work_on_cluster, (task, setup)) for task in tasks]
    written = []
    files = {call.arguments[0].field.name: call.arguments[0].file for call in calls}
    for name, problem in cluster.results("cut fields", calls, lost, progress.say):
        if problem is None:
            written.append(files[name])
        yield name, problem
    if written:
        wait_until_seen(lambda: all(file.exists() for file in written), "fields of view", written[0].parent)


def _work_on_cluster(task: _Task, setup: ClusterSetup) -> tuple[str, str | None]:
    """Cut one field in a worker of a cluster."""
    with setup.begun():
        if not task.source.root.is_dir():
            raise UserError(
                f"The worker {here_on_cluster()} does not see the folder of the images, {task.source.root}. Put them where all machines see them "
                "at one path, and name that as root in the layout."
            )
        return _cut_one(task)


def _cut_one(task: _Task) -> tuple[str, str | None]:
    """Cut one field to its file; return its name, and why it cannot be cut."""
    try:
        cut = cut_field(task.field, task.source.layout, task.source.root, task.centres)
    except UserError as error:
        raise_shortage(error)
        return task.field.name, str(error)
    write_cut_field(task.file, cut, task.identity)
    return task.field.name, None


def _what_was_lost(todo: Sequence[FieldOfView], files: Mapping[str, Path], identities: Mapping[str, str]) -> str:
    """Return the first field that is not there, for a sentence, and how many are."""
    missing = [f.name for f in todo if not is_cut(files[f.name], identities[f.name])]
    return f"the field '{missing[0] if missing else todo[-1].name}'. {len(files) - len(missing):,} of {len(files):,} fields are kept."


def _identity(field: FieldOfView, source: Source, segmenter: str) -> str:
    """Return a hash of all that the crops of a field follow from: files, settings, and the code that cuts them."""
    stats: list[list[object]] = []
    for name in sorted({*(file for files in field.files.values() for file in files), *filter(None, [field.mask])}):
        path = source.root / name
        stat = path.stat()
        stats.append([name, stat.st_size, stat.st_mtime_ns])
        if path.is_dir():  # OME-Zarr
            inner = ((file, file.stat()) for file in sorted(path.rglob("*")))
            stats += [[file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns] for file, stat in inner]
    if source.layout.segment.objects is not None:
        for name in filter(None, (source.layout.segment.objects.file, source.layout.segment.objects.images)):
            stats.append([name, (source.folder / name).stat().st_mtime_ns])
    content = [VERSION, field.name, stats, source.layout.field_digest(), segmenter]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def joined(prepared: Prepared) -> Joined:
    """Return the tables of crops, objects and fields, after stains were drawn, labels joined, and small images left out.

    Raises
    ------
    UserError
        Where labels cannot be joined, or fields differ in the type of their pixels.
    """
    import pandas as pd

    layout = prepared.source.layout
    crops, objects, per_field = [], [], []
    types: dict[str, str] = {}
    for field in prepared.fields:
        cut, columns = prepared.cut(field), columns_of(layout, field)
        types.setdefault(str(cut.crops.dtype), field.name)
        factor = layout.crop.downscale
        position = (cut.objects.centre + 0.5) * factor - 0.5
        table = pd.DataFrame(
            {
                "field": field.name,
                "number": cut.objects.number,
                "y": position[:, 0],
                "x": position[:, 1],
                "area": cut.objects.area * factor**2,
                "reason": cut.reasons,
            }
        )
        objects.append(table)
        kept = table.iloc[cut.kept]
        rows = pd.DataFrame({**columns, NUMBER: kept["number"].to_numpy(), POSITION: np.arange(len(kept))})
        rows["y"], rows["x"] = kept["y"].to_numpy(), kept["x"].to_numpy()
        if layout.segment.objects is None:
            rows[f"{layout.segment.name}_area"] = kept["area"].to_numpy()
        for name in layout.protein_channels if layout.stains is not None else ():
            rows[f"{HAS} {name}"] = name in cut.channels
        crops.append(rows)
        measured = {
            f"{what} {name}": float(values[i])
            for what, values in (("mean", cut.means), ("focus", cut.focus))
            for i, name in enumerate(cut.channels)
        }
        per_field.append({**columns, "objects": len(table), **measured})
    if len(types) > 1:
        both = " and ".join(f"{kind} in '{name}'" for kind, name in types.items())
        raise UserError(f"Fields of view hold pixels of different types: {both}. Prepare them as two datasets.")
    table = pd.concat(crops, ignore_index=True)
    all_objects = pd.concat(objects, ignore_index=True)
    table = _by_stain(table, layout) if layout.stains is not None else table.assign(**{STAIN: ""})
    table["cell"] = [
        "/".join(filter(None, (field, stain, str(number))))
        for field, stain, number in zip(table["field"], table[STAIN], table[NUMBER], strict=True)
    ]
    if "image" not in table:
        table["image"] = table["field"]
    if layout.stains is not None:
        table["image"] = table["image"] + "/" + table[STAIN]
    table, all_objects = _without_small_images(table, all_objects, layout.filters.min_cells_per_image)
    kept_per_field = all_objects[all_objects["reason"] == ""].groupby("field").size()
    fields = pd.DataFrame(per_field)
    fields.insert(
        list(fields.columns).index("objects") + 1, "kept", fields["field"].map(kept_per_field).fillna(0).astype(int)
    )
    obs = table.drop(columns=[c for c in table.columns if " " in c])
    notes: list[str] = []
    if layout.labels is not None and len(obs):
        obs, notes = join_labels(obs, layout.labels, prepared.source.folder)
    rows = table[["field", POSITION, STAIN]].reset_index(drop=True)
    return Joined(obs.reset_index(drop=True), rows, all_objects, fields, next(iter(types)), tuple(notes))


def _by_stain(table: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Return one row for each cell and stain that is taken, with the columns that name the stain."""
    import pandas as pd

    stains, names = layout.stains, layout.protein_channels
    if stains is None:
        raise ValueError("The layout has no stains.")
    available = table[[f"{HAS} {name}" for name in names]].to_numpy(bool)
    if stains.draw == "one":
        if stains.balance is not None and stains.balance not in table:
            known = ", ".join(c for c in table.columns if " " not in c)
            raise UserError(f"[stains] balance names '{stains.balance}', but the cells' columns are {known}.")
        groups = np.zeros(len(table), int) if stains.balance is None else table[stains.balance].to_numpy(str)
        cells = [f"{field}/{number}" for field, number in zip(table["field"], table[NUMBER], strict=True)]
        takes = np.asarray(available.any(axis=1))
        chosen = np.full(len(table), -1)
        chosen[takes] = drawn_stains(np.array(cells)[takes].tolist(), available[takes], groups[takes], stains.seed)
        table = table.assign(**{STAIN: np.array([*names, ""])[chosen]}).loc[takes]
    else:
        one_of_each = [table[available[:, i]].assign(**{STAIN: name}) for i, name in enumerate(names)]
        fields = table["field"].unique()
        table = pd.concat(one_of_each)
        table = table.iloc[np.argsort(pd.Categorical(table["field"], categories=fields).codes, kind="stable")]
    values = [
        {**{name: row[name] for name in layout.names}, "stain": row[STAIN]}
        for row in table[[*layout.names, STAIN]].to_dict("records")
    ]
    for column, text in stains.columns.items():
        if column in table:
            raise UserError(f"[stains.columns] names '{column}', which the pattern or [obs] gives already.")
        table[column] = [filled_in(text, value, f"[stains.columns] {column}") for value in values]
    return table.reset_index(drop=True)


def _without_small_images(table: pd.DataFrame, objects: pd.DataFrame, least: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the crops of images with enough cells, and the objects, those marked of which no crop is left."""
    large = (table.groupby("image")["image"].transform("size") >= least) if len(table) else np.zeros(0, bool)
    left = table[large]
    before, after = (set(zip(t["field"], t[NUMBER], strict=True)) for t in (table, left))
    gone = before - after
    if gone:
        keys = zip(objects["field"], objects["number"], strict=True)
        lost = np.fromiter((key in gone for key in keys), bool, len(objects)) & (objects["reason"] == "").to_numpy()
        objects = objects.assign(reason=np.where(lost, FEW, objects["reason"].to_numpy(str)))
    return left.reset_index(drop=True), objects
