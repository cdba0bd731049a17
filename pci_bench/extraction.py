"""From cells to features: one pass per extractor, cached in one file per feature set, resumable part by part."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pci_bench import weights as weight_files
from pci_bench.arguments import check_workers
from pci_bench.cells import as_float32
from pci_bench.checksums import check_seal, seal, unsealed
from pci_bench.datasets.base import load_dataset
from pci_bench.errors import PluginError, UserError
from pci_bench.external import write_h5ad
from pci_bench.features import EXTRACTORS, Compute, ExtractorMeta, FeatureSet, parse
from pci_bench.files import atomic_file, cache_folder, escape, lock, sha256_of
from pci_bench.progress import Progress
from pci_bench.registry import checked_reason, source_of
from pci_bench.segmentation import DEFAULT_SEGMENTER, SEGMENTERS
from pci_bench.shortages import raise_shortage
from pci_bench.threads import available_cores, machine_cores, set_threads

if TYPE_CHECKING:
    from anndata import AnnData

    from pci_bench.cells import Cells, Channel

Refresh = Literal["never", "missing", "always"]

CELLS_PER_PART = 4096
CELLS_PER_SMALL_PART = 256  # where processes share the parts of slow measurements
SECONDS_WORTH_PROCESSES = 20.0  # of CPU time: less is done sooner and cheaper than processes are started
PRECISION = "float32"
SECONDS_BETWEEN_LOOKS = 0.5  # of a worker process for its parent


@dataclass(frozen=True)
class NotRun:
    """A feature set that cannot be had for a dataset: why, and what to do about it; and the error where it failed."""

    features: FeatureSet
    reason: str
    error: PluginError | None = None


@dataclass(frozen=True)
class _Job:
    """One feature set ready to be computed: its full name, weights file, and the key of its numbers."""

    features: FeatureSet
    extractor: Any
    weights: Path | None
    segmenter: str | None
    provenance: dict[str, Any]

    @property
    def cells_per_part(self) -> int:
        """How many cells are computed, stored and handed to a process at once."""
        return CELLS_PER_SMALL_PART if self.extractor.meta.processes else CELLS_PER_PART

    @property
    def key(self) -> str:
        p = self.provenance
        identity = [
            p["dataset"]["sha256"],
            p["features"]["name"],
            p["features"]["version"],
            p["features"]["weights_sha256"],
            PRECISION,
        ]
        if self.segmenter:
            identity += [self.segmenter, SEGMENTERS.get(self.segmenter).meta.version]
            if code := source_of(SEGMENTERS.origin(self.segmenter).file):
                identity.append(code)
        if code := source_of(
            EXTRACTORS.origin(self.features.extractor_name).file
        ):  # of a plug-in; our versions are kept
            identity.append(code)
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]

    def file(self) -> Path:
        dataset = self.provenance["dataset"]
        folder = cache_folder() / "features" / f"{escape(dataset['name'])}-{dataset['sha256'][:12]}"
        return folder / f"{escape(str(self.features))}-{self.key}.h5ad"

    @property
    def preparation(self) -> tuple[Any, ...]:
        """What jobs that share a pass have in common: the weights, and how crops are prepared and handed over."""
        meta = self.extractor.meta
        weights = None if self.weights is None else (meta.weights, self.features.weights)
        return weights, meta.rescale, meta.masks, self.segmenter, meta.batch, meta.processes, meta.concurrent

    def part(self, number: int) -> Path:
        return self.file().with_suffix(".parts") / f"{number:05d}.npy"

    def starts(self, n: int) -> range:
        """Return the first cell of every part of n cells."""
        return range(0, n, self.cells_per_part)


def _code(features: FeatureSet, doing: str, names: Iterable[str] = ()) -> AbstractContextManager[None]:
    """Return the context in which the code of a feature set's extractor runs; by default itself cannot be had for it."""
    return EXTRACTORS.code(features.extractor_name, doing, names or (str(features),))


def resolve_weights(features: FeatureSet, cells: Cells) -> FeatureSet:
    """Return the feature set with its own or the dataset's default weights filled in, where it needs weights and names none."""
    extractor = features.extractor()
    family = extractor.meta.weights
    if family is None or features.weights:
        return features
    if extractor.meta.replicates:
        return replace(features, weights=extractor.meta.replicates[0])
    if hasattr(extractor, "default_weights"):
        return replace(features, weights=extractor.default_weights())
    return replace(features, weights=weight_files.default_name(family, cells.meta.name))


def why_not(features: FeatureSet, cells: Cells, segmenter: str = DEFAULT_SEGMENTER) -> str | None:
    """Return why a feature set (weights resolved) cannot be had for these cells, or None.

    Weights that can be downloaded are, if they are not at hand yet.
    """
    extractor = features.extractor()
    meta = extractor.meta
    roles = {c.role for c in cells.channels}
    if missing := [r for r in meta.roles if r not in roles]:
        return f"needs a {missing[0]} channel, and {cells.meta.name} has none"
    with _code(features, "in skip()"):
        if reason := checked_reason(extractor.skip(cells)):
            return reason
    if meta.simulated_masks and not (cells.has_masks and cells.meta.simulated_masks):
        return f"reads the true masks of simulated cells, and {cells.meta.name} has none"
    if _segmented(meta, cells) and (reason := _why_not_segment(segmenter, str(features))):
        return f"{cells.meta.name} has no masks to measure with, and the segmenter {segmenter} cannot be run: {reason}"
    file = None
    if meta.weights:
        if features.weights is None:
            return (
                f"{cells.meta.name} has no default weights: name some, for example {features.base}@NAME. "
                "`pci-bench weights list` shows what there is"
            )
        try:
            file = weight_files.fetched(meta.weights, features.weights)
        except UserError as error:
            return str(error).rstrip(".")
        if file is None:
            return weight_files.how_to_get(meta.weights, features.weights)
        if reason := weight_files.unfit(file, cells.channels):
            return reason
    if hasattr(extractor, "unfit"):
        with _code(features, "in unfit()"):
            return checked_reason(extractor.unfit(features.output, cells.channels, file))
    return None


def _why_not_segment(segmenter: str, features: str) -> str | None:
    with SEGMENTERS.code(segmenter, "in skip()", [features]):
        return checked_reason(SEGMENTERS.get(segmenter).skip())


def _segmented(meta: ExtractorMeta, cells: Cells) -> bool:
    """Return whether an extractor's masks are a segmenter's: the dataset has none, or only those that it was drawn from."""
    return meta.masks and (not cells.has_masks or (cells.meta.simulated_masks and not meta.simulated_masks))


def _job(features: FeatureSet, cells: Cells, device: str, segmenter: str) -> _Job:
    extractor = features.extractor()
    meta = extractor.meta
    file = weight_files.find(meta.weights, features.weights) if meta.weights and features.weights else None
    provenance: dict[str, Any] = {
        "dataset": {
            "name": cells.meta.name,
            "version": cells.meta.version,
            "sha256": cells.sha256,
            "confounder": cells.meta.confounder or "",
            "label": cells.meta.label,
            "merged": dict(cells.meta.merged),
            "ontology": cells.meta.ontology,
        },
        "features": {
            "name": features.base,
            "weights": features.weights or "",
            "version": meta.version,
            "weights_sha256": sha256_of(file) if file else "",
            "weights_family": meta.weights or "",
            "title": meta.title,
            "precision": PRECISION,
            "missing": meta.missing,
        },
        "device": device,
    }
    segmented = segmenter if _segmented(meta, cells) else None
    if meta.masks:
        provenance["features"]["masks"] = segmented or "of the dataset"
    if file is not None and (trained_on := weight_files.read_header(file).trained_on):
        provenance["features"]["trained_on"] = trained_on
    return _Job(features, extractor, file, segmented, provenance)


def resolve_device(device: str) -> str:
    """Return ``"cpu"`` or ``"cuda"`` for ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    UserError
        Where CUDA is asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"There is no device '{device}'. Use auto, cpu or cuda.")
    if device == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        return "cuda"
    if device == "cuda":
        raise UserError("There is no CUDA device, or this torch was built without CUDA. Use --device cpu.")
    return "cpu"


def ensure(
    wanted: Sequence[FeatureSet],
    cells: Cells,
    *,
    device: str = "auto",
    refresh: Refresh = "missing",
    workers: int | None = None,
    segmenter: str = DEFAULT_SEGMENTER,
    keep_going: bool = False,
    progress: Progress | None = None,
) -> dict[FeatureSet, AnnData | NotRun]:
    """Return the features of every feature set, computing what the cache lacks.

    Extractors that run with the same weights on crops prepared alike share one pass over the crops.

    Parameters
    ----------
    wanted
        Feature sets; weights that are not named are the dataset's default.
    cells
        The cells, in any order, all or some.
    device
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    refresh
        ``"missing"`` computes what the cache lacks, ``"always"`` computes anew, ``"never"`` computes nothing.
    workers
        Processes that share the parts of 4,096 cells; each gets its share of the cores. By default one for networks and
        array functions, and one per core for what is measured crop by crop (in parts of 256 cells).
    segmenter
        Finds the centre cells for features that need masks, where the dataset brings none.
    keep_going
        Compute the others where one fails, which is then a :class:`NotRun` with its error.
    progress
        Told of every stage.

    Returns
    -------
    dict
        AnnData (n, d) float32 by full name; :class:`NotRun` with a reason where a feature set cannot be had.

    Raises
    ------
    PluginError
        Where the code of a feature set or segmenter fails, or gives anything but finite numbers of the declared shape.
    """
    progress = progress or Progress()
    check_workers(workers)
    if len(cells) == 0:
        raise UserError(f"There are no cells of {cells.meta.name} to measure: the selection is empty.")
    found: dict[FeatureSet, AnnData | NotRun] = {}
    passes: dict[tuple[Any, ...], list[_Job]] = {}
    for asked in wanted:
        features = resolve_weights(asked, cells)
        found[features] = NotRun(features, "")  # keeps the order asked for
        try:
            if reason := why_not(features, cells, segmenter):
                found[features] = NotRun(features, reason)
                continue
            if hasattr(features.extractor(), "load"):
                found[features] = _precomputed(features, cells, segmenter, progress)
                continue
        except PluginError as error:
            if not keep_going:
                raise
            found[features] = NotRun(features, str(error).removesuffix("."), error)
        else:
            job = _job(features, cells, "", segmenter)
            passes.setdefault(job.preparation, []).append(job)
    for jobs in passes.values():
        with _locked(jobs, progress):
            missing = []
            for job in jobs:
                ready = None if refresh == "always" else _cached(job, cells, progress)
                if ready is not None:
                    found[job.features] = ready
                elif refresh == "never":
                    found[job.features] = NotRun(
                        job.features, "not in the cache, and with --refresh never nothing is computed"
                    )
                else:
                    missing.append(job)
            if missing:
                if refresh == "always":
                    _discard_parts(missing)
                arguments = (cells, resolve_device(device), workers, progress)
                found.update(
                    _computed_but_failures(missing, *arguments) if keep_going else _computed(missing, *arguments)
                )
    return found


def extract(
    features: str | FeatureSet,
    cells: Cells | str,
    *,
    device: str = "auto",
    refresh: Refresh = "missing",
    workers: int | None = None,
    segmenter: str = DEFAULT_SEGMENTER,
    progress: Progress | None = None,
) -> AnnData:
    """Return one feature set of some cells: ``X`` (n, d) float32, ``obs`` from the cells, ``var_names``, provenance.

    Parameters
    ----------
    features
        ``"pci-conv4"``, or any name of ``pci-bench list features``.
    cells
        From :func:`pci_bench.load_dataset`, or the dataset's name.
    device, refresh, workers, segmenter, progress
        As in :func:`ensure`.

    Raises
    ------
    UserError
        For an unknown name, or where the features cannot be had; the message says what to do.
    """
    asked = parse(features) if isinstance(features, str) else features
    if isinstance(cells, str):
        cells = load_dataset(cells, progress=progress)
    options: dict[str, Any] = {"device": device, "refresh": refresh, "workers": workers, "segmenter": segmenter}
    ((_, result),) = ensure([asked], cells, progress=progress, **options).items()
    if isinstance(result, NotRun):
        raise UserError(f"{result.features} cannot be had for {cells.meta.name}: {result.reason}.")
    return result


def _annotated(job: _Job, cells: Cells, values: np.ndarray) -> AnnData:
    """Return features as AnnData with the cells' table."""
    with _code(job.features, "in names()"):
        names = list(column_names(job.extractor, job.features.output, cells.channels, job.weights, values.shape[1]))
    _check_names(job.features, names, values.shape[1])
    return annotated(values, names, cells, {**job.provenance, "key": job.key})


def column_names(
    extractor: Any, output: str, channels: tuple[Channel, ...], weights: Path | None, computed: int
) -> list[str]:
    """Return the names of the columns that an extractor computed with some weights, or without.

    Where columns depend on the weights, the extractor may say how (``names_with``); otherwise narrower networks have the
    first of the full width's columns.
    """
    if weights is not None and hasattr(extractor, "names_with"):
        return extractor.names_with(output, channels, weights)
    names = extractor.names(output, channels)
    return names if weights is None else names[:computed]


def annotated(values: np.ndarray, names: Sequence[str], cells: Cells, provenance: dict[str, Any]) -> AnnData:
    """Return an AnnData of feature values and the cells they belong to."""
    import pandas as pd
    from anndata import AnnData

    obs = cells.obs.copy()
    for column in obs.columns:
        if not isinstance(obs[column].dtype, pd.CategoricalDtype) and obs[column].dtype.kind not in "biuf":
            obs[column] = obs[column].astype("string").fillna("").astype(object)
    obs.index = pd.Index(cells.obs["cell"].astype(str), name=None)
    values = np.ascontiguousarray(as_float32(np.asarray(values), f"The features of {cells.meta.name}"))
    adata = AnnData(X=values, obs=obs, var=pd.DataFrame(index=list(names)))
    adata.uns["pci_bench"] = provenance
    return adata


def _precomputed(features: FeatureSet, cells: Cells, segmenter: str, progress: Progress) -> AnnData:
    extractor = features.extractor()
    with _code(features, f"in load(), for {cells.meta.name}"):
        values, names = extractor.load(cells)
        names = list(names)
        for note in getattr(extractor, "notes", ()):  # what a file holds that is not used
            progress.say(f"Note: {note}")
    values = _numbers(features, str(features), values, _cell_names(cells, slice(None)), (len(cells), len(names)))
    _check_names(features, names, values.shape[1])
    job = _job(features, cells, "", segmenter)
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    job.provenance["features"]["weights_sha256"] = digest
    return annotated(values, names, cells, {**job.provenance, "key": digest[:20]})


def _cached(job: _Job, cells: Cells, progress: Progress) -> AnnData | None:
    """Return the cached features, or None; a file that is not ours or is damaged is named and will be replaced."""
    import anndata

    file = job.file()
    if not file.exists():
        return None
    try:
        check_seal(file)
        adata = anndata.read_h5ad(file)
        if adata.uns["pci_bench"]["key"] != job.key or not np.array_equal(
            adata.obs_names, cells.obs["cell"].astype(str)
        ):
            raise ValueError("it belongs to other cells or features")
    except Exception as error:  # HDF5 and AnnData raise many kinds
        raise_shortage(error)
        progress.say(f"The cache file {file} is damaged or of another origin ({error}). It is made again.")
        return None
    # The same numbers serve the dataset under any of its names, so name and labels are the caller's.
    return annotated(
        np.asarray(adata.X),
        list(adata.var_names),
        cells,
        {**job.provenance, "device": str(adata.uns["pci_bench"]["device"]), "key": job.key},
    )


def _by_extractor(jobs: Iterable[_Job]) -> dict[str, list[_Job]]:
    """Return jobs by what computes them: an extractor, and its weights where it has any."""
    found: dict[str, list[_Job]] = {}
    for job in jobs:
        features = job.features
        name = f"{features.extractor_name}@{features.weights}" if features.weights else features.extractor_name
        found.setdefault(name, []).append(job)
    return found


@contextmanager
def _locked(jobs: Sequence[_Job], progress: Progress) -> Iterator[None]:
    """Hold the locks of all extractors of a pass, taken in one order, so that two processes never wait for each other."""
    with ExitStack() as held:
        for name in sorted(_by_extractor(jobs)):
            held.enter_context(lock(jobs[0].file().parent / escape(name), progress.say))
        yield


def _opened(jobs: Sequence[_Job], cells: Cells, device: str, threads: int) -> tuple[_Computation, ...]:
    """Open the extractors of a pass, each once, and give the process's libraries their threads."""
    set_threads(threads)
    opened = []
    for mine in _by_extractor(jobs).values():
        with _code(mine[0].features, "in open()", [str(job.features) for job in mine]):
            opened.append(_Computation(tuple(mine), mine[0].extractor.open(cells.channels, mine[0].weights, device)))
    set_threads(threads)  # once more, for libraries that were imported just now
    return tuple(opened)


def _stage_name(jobs: Sequence[_Job]) -> str:
    """Return what a pass computes, for people: ``pci@yeast-sim, conv1, conv2; marker-only@yeast-sim``."""
    texts = []
    for name, mine in _by_extractor(jobs).items():
        outputs = ", ".join(job.features.output for job in mine if job.features.output)
        texts.append(f"{name}, {outputs}" if outputs else name)
    return "; ".join(texts)


def _discard_parts(jobs: Sequence[_Job]) -> None:
    import shutil

    for job in jobs:
        shutil.rmtree(job.part(0).parent, ignore_errors=True)


def _check_names(features: FeatureSet, names: list[Any], columns: int) -> None:
    """Raise where the names that a feature set declares are not one text for each column."""
    if len(names) != columns:
        what = f"declares {len(names)} columns but computed {columns}"
    elif wrong := [name for name in names if not isinstance(name, str)]:
        what = f"names a column {wrong[0]!r}, which is no text"
    else:
        return
    raise PluginError.of(f"{features} {what}. Correct its names().", [str(features)])


def _computed_but_failures(
    jobs: list[_Job], cells: Cells, device: str, workers: int | None, progress: Progress
) -> dict[FeatureSet, AnnData | NotRun]:
    """Compute the feature sets of a pass; one that fails is left out, and the others begin again with the part it failed in."""
    failed: dict[FeatureSet, AnnData | NotRun] = {}
    while jobs:
        try:
            return failed | _computed(jobs, cells, device, workers, progress)
        except PluginError as error:
            culprits = [job for job in jobs if str(job.features) in error.names]
            if not culprits:
                raise
            failed |= {job.features: NotRun(job.features, str(error).removesuffix("."), error) for job in culprits}
            jobs = [job for job in jobs if job not in culprits]
    return failed


def _computed(
    jobs: list[_Job], cells: Cells, device: str, workers: int | None, progress: Progress
) -> dict[FeatureSet, AnnData | NotRun]:
    """Compute the parts that are not there yet, join them, and leave one file per feature set."""
    parts, size = jobs[0].starts(len(cells)), jobs[0].cells_per_part
    todo = [start for start in parts if not all(_whole_part(job, start, len(cells)) for job in jobs)]
    done = len(cells) - sum(min(size, len(cells) - start) for start in todo)
    by_crop = jobs[0].extractor.meta.processes
    asked, workers = workers, min(workers or (available_cores() if by_crop else 1), len(todo), machine_cores()) or 1
    cores = 1 if by_crop else max(1, available_cores() // workers)
    with progress.stage(f"extracting {_stage_name(jobs)}", len(cells)) as advance:
        advance(done)
        if todo and (workers == 1 or asked is None):
            pool = _Pool.of(jobs, cores, device)
            opened = _opened(jobs, cells, device, pool.threads)
            while todo:
                began = time.process_time()
                _compute_part(opened, cells, todo.pop(0), device, pool, advance)
                if workers > 1 and (time.process_time() - began) * len(todo) > SECONDS_WORTH_PROCESSES:
                    break
        if todo:
            from joblib import delayed

            from pci_bench.registry import plugin_files

            tasks = (
                delayed(_work)(
                    [j.features for j in jobs],
                    cells,
                    start,
                    device,
                    cores,
                    jobs[0].segmenter or DEFAULT_SEGMENTER,
                    plugin_files(),
                    cache_folder(),
                    os.getpid(),
                )
                for start in todo
            )
            for start in _shared(tasks, workers, partial(_what_was_lost, jobs, cells, todo)):
                advance(min(size, len(cells) - start))
    found: dict[FeatureSet, AnnData | NotRun] = {}
    for job in jobs:
        values = np.concatenate([_read_part(job, start) for start in parts])
        job.provenance["device"] = device_name(device)
        adata = _annotated(job, cells, values)
        with atomic_file(job.file()) as temporary:
            write_h5ad(adata, temporary)
            seal(temporary)
        found[job.features] = adata
    _discard_parts(jobs)
    return found


def _shared(tasks: Iterable[Any], workers: int, lost: Callable[[], str]) -> Iterator[int]:
    """Yield what worker processes finish; one that is killed is a sentence."""
    from joblib import Parallel

    try:
        yield from Parallel(n_jobs=workers, return_as="generator_unordered")(tasks)
    except BrokenProcessPool as error:
        codes = re.search(r"\{([^}]*)\}", str(error))
        raise UserError(
            f"A worker process was killed or crashed{f' ({codes[1]})' if codes else ''} while it computed {lost()} Run the same "
            "command again: it continues where it stopped. Where the system killed it for want of memory, use fewer --workers."
        ) from error


def _what_was_lost(jobs: Sequence[_Job], cells: Cells, starts: Sequence[int]) -> str:
    """Return the first part of cells that is not there, for a sentence, and how many are."""
    size, n = jobs[0].cells_per_part, len(cells)
    missing = [start for start in starts if not all(_whole_part(job, start, n) for job in jobs)]
    parts = len(jobs[0].starts(n))
    first = missing[0] if missing else 0
    names = cells.obs["cell"]
    last = min(first + size, n) - 1
    return (
        f"{_stage_name(jobs)}, first in the cells '{names.iloc[first]}' to '{names.iloc[last]}' of {cells.meta.name}. "
        f"{parts - len(missing)} of {parts} parts are kept."
    )


@dataclass(frozen=True)
class _Computation:
    """An opened extractor: the outputs wanted of it, and its function of a batch."""

    jobs: tuple[_Job, ...]
    function: Compute

    @property
    def outputs(self) -> set[str]:
        return {job.features.output for job in self.jobs}

    def compute(self, crops: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return {output: values} of a batch of crops, the first of which are of the cells `names`."""
        with _code(self.jobs[0].features, f"on {_cells_said(names)}", [str(job.features) for job in self.jobs]):
            values = self.function(crops, self.outputs)
            if not isinstance(values, dict):
                raise TypeError(f"it returned {type(values).__name__}; expected a dict of outputs")
            return values


@dataclass(frozen=True)
class _Pool:
    """How a process uses its cores: batches beside each other with one thread each, or one batch with all threads.

    Threads that share one operation wait for each other in a loop, hundreds of times in a batch of a small network; on a
    busy machine that costs several times the CPU time of the work itself.
    """

    batches: int
    threads: int

    @classmethod
    def of(cls, jobs: Sequence[_Job], cores: int, device: str) -> _Pool:
        """Return the way of a pass's extractors on some cores."""
        beside = jobs[0].extractor.meta.concurrent and device == "cpu"
        return cls(cores, 1) if beside else cls(1, cores)

    def map(self, function: Callable[[int], Any], items: Sequence[int]) -> Iterator[Any]:
        """Yield a function's values in the order of the items."""
        if self.batches == 1 or len(items) == 1:
            yield from map(function, items)
            return
        pool = ThreadPoolExecutor(self.batches)
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)


def _work(
    wanted: list[FeatureSet],
    cells: Cells,
    start: int,
    device: str,
    cores: int,
    segmenter: str,
    plugins: list[Path],
    cache: Path,
    parent: int,
) -> int:
    """Compute one part in a worker process."""
    from pci_bench.registry import load_plugin_file

    _stay_with(parent)
    os.environ["PCI_BENCH_CACHE"] = str(
        cache
    )  # worker processes outlive a call, and keep the environment they began with
    set_threads(cores)
    for file in plugins:
        load_plugin_file(file)
    jobs = [_job(features, cells, "", segmenter) for features in wanted]
    pool = _Pool.of(jobs, cores, device)
    _compute_part(_opened(jobs, cells, device, pool.threads), cells, start, device, pool, lambda n: None)
    return start


@functools.cache
def _stay_with(parent: int) -> None:
    """End this worker process when its parent is gone, however that ended; Ctrl-C is the parent's to hear."""
    if os.getpid() == parent:  # joblib does not start processes within processes
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _whole_part(job: _Job, start: int, n: int) -> bool:
    try:
        part = _read_part(job, start)
        return part.ndim == 2 and len(part) == min(job.cells_per_part, n - start)
    except (OSError, ValueError, EOFError) as error:
        raise_shortage(error)
        return False


def _read_part(job: _Job, start: int) -> np.ndarray:
    return np.load(io.BytesIO(unsealed(job.part(start // job.cells_per_part))), allow_pickle=False)


def _compute_part(
    opened: Sequence[_Computation], cells: Cells, start: int, device: str, pool: _Pool, advance: Any
) -> None:
    """Compute the part of cells that begins at start, and write one file per output.

    Every call gets exactly ``meta.batch`` crops, the last filled up with zeros, so that a cell's numbers do not depend on
    how many cells there are or where it stands among them.
    """
    first_job = opened[0].jobs[0]
    size, batch_size = first_job.cells_per_part, first_job.extractor.meta.batch
    stop = min(start + size, len(cells))
    collected: dict[FeatureSet, np.ndarray] = {}
    prepared = _prepared(first_job, cells, device, [str(job.features) for one in opened for job in one.jobs])
    names = _cell_names(cells, slice(start, stop))
    span = max(batch_size, 512 // batch_size * batch_size)  # read a few chunks of the store at once
    for first in range(start, stop, span):
        crops = prepared(slice(first, min(first + span, stop)))

        def values_of(offset: int, crops: np.ndarray = crops, first: int = first) -> list[dict[str, np.ndarray]]:
            batch = crops[offset : offset + batch_size]
            measured = names[first + offset - start : first + offset - start + len(batch)]
            if len(batch) < batch_size:
                batch = np.concatenate([batch, np.zeros((batch_size - len(batch), *batch.shape[1:]), np.float32)])
            return [one.compute(batch, measured) for one in opened]

        offsets = range(0, len(crops), batch_size)
        for offset, values in zip(offsets, pool.map(values_of, offsets), strict=True):
            rows = slice(first + offset - start, min(first + offset + batch_size, stop) - start)
            for one, by_output in zip(opened, values, strict=True):
                for job in one.jobs:
                    _collect(job, by_output, collected, rows, stop - start, names[rows])
            advance(rows.stop - rows.start)
    for one in opened:
        for job in one.jobs:
            _write_part(job, cells, start, collected[job.features])


def _collect(
    job: _Job,
    values: dict[str, np.ndarray],
    collected: dict[FeatureSet, np.ndarray],
    rows: slice,
    n: int,
    names: Sequence[str],
) -> None:
    """Put a batch's values of one output in their rows of the part's n.

    Filled in place: small arrays kept from every batch would keep the allocator from using a batch's memory again.
    """
    meta, output = job.extractor.meta, job.features.output
    columns = collected[job.features].shape[1] if job.features in collected else None
    array = _numbers(job.features, meta.name, values.get(output), names, (meta.batch, columns))
    if job.features not in collected:
        collected[job.features] = np.empty((n, array.shape[1]), np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused by name
        collected[job.features][rows] = array[: rows.stop - rows.start]


def _cell_names(cells: Cells, index: slice) -> list[str]:
    return cells.obs["cell"].iloc[index].astype(str).tolist()


def _cells_said(names: Sequence[str]) -> str:
    return f"the cell '{names[0]}'" if len(names) == 1 else f"the cells '{names[0]}' to '{names[-1]}'"


def _numbers(
    features: FeatureSet, extractor: str, values: Any, names: Sequence[str], expected: tuple[int, int | None]
) -> np.ndarray:
    """Return a batch's values as an array of real numbers (rows, columns).

    Parameters
    ----------
    features, extractor
        Of which feature set they are, and the name of what gave them.
    values
        What it gave.
    names
        The cells of the first rows; further ones fill up the batch.
    expected
        Rows and columns; None for as many columns as there are.

    Raises
    ------
    PluginError
        For nothing, masked values, rows of different lengths, text, objects, complex numbers, or another shape.
    """
    rows, columns = expected
    array: np.ndarray = np.empty(0)
    cells, problem = _cells_said(names), ""
    if values is None:
        problem = "nothing"
    elif np.ma.is_masked(values):
        problem = "masked values"
    else:
        try:
            array = np.asarray(values)
        except ValueError:
            problem = "rows of different lengths"
        except Exception as error:  # as of a tensor that needs a gradient, or is on another device
            problem = f"{type(values).__name__} that is no array of numbers ({error})"
        else:
            if array.shape[:1] == (rows,) and array.ndim == 2 and columns in (None, array.shape[1]):
                if array.dtype.kind not in "biuf":
                    bad = [i for i in range(len(names)) if not _is_real(array[i])]
                    cells = f"the cell '{names[bad[0]]}'" if bad else cells
                    problem = f"values of the type {_type_said(array.dtype)}"
            else:
                problem = f"the shape {array.shape}"
    if problem:
        raise PluginError.of(
            f"{extractor} gave {problem} for {rows} crops{f' and the output {features.output}' if features.output else ''}; "
            f"expected one row per crop, ({rows}, {'d' if columns is None else columns}), of real numbers. "
            f"First seen for {cells}. Correct the extractor.",
            [str(features)],
        )
    return array


def _is_real(row: np.ndarray) -> bool:
    return all(isinstance(value, int | float | np.integer | np.floating) for value in row.tolist())


def _type_said(dtype: np.dtype) -> str:
    return "text" if dtype.kind in "SU" else str(dtype)


def _write_part(job: _Job, cells: Cells, start: int, values: np.ndarray) -> None:
    """Write one output of a part that begins at start, if its values are finite (or NaN where declared)."""
    wrong = np.isinf(values) if job.extractor.meta.missing else ~np.isfinite(values)
    if wrong.any():
        bad = cells.obs["cell"].iloc[start + int(np.argwhere(wrong)[0][0])]
        raise PluginError.of(
            f"{job.features} gave NaN or infinite values, first for the cell '{bad}'. Correct the extractor or leave the cell out.",
            [str(job.features)],
        )
    content = io.BytesIO()
    np.save(content, values)  # straight into a file, NumPy does not say that the disk is full
    with atomic_file(job.part(start // job.cells_per_part)) as temporary:
        temporary.write_bytes(content.getbuffer())
        seal(temporary)


def _prepared(job: _Job, cells: Cells, device: str, features: Sequence[str]) -> Callable[[slice], np.ndarray]:
    """Return a function of a slice of the cells that gives their crops as the extractors of a pass want them, masks included."""
    meta = job.extractor.meta
    if job.segmenter is None:
        return lambda index: cells.crops(index, rescale=meta.rescale, masks=meta.masks)
    segmenter = job.segmenter
    with SEGMENTERS.code(segmenter, "in open()", features):
        segment = SEGMENTERS.get(segmenter).open(cells.channels, device)

    def crops_and_masks(index: slice) -> np.ndarray:
        crops, names = cells.crops(index), _cell_names(cells, index)
        with SEGMENTERS.code(segmenter, f"on {_cells_said(names)}", features):
            masks = np.asarray(segment(crops))
        if masks.shape != (len(crops), *cells.crop_shape) or masks.dtype.kind not in "biu":
            raise PluginError.of(
                f"The segmenter {segmenter} gave masks of the shape {masks.shape} and the type {masks.dtype} for "
                f"{_cells_said(names)}; expected whole numbers (crops, rows, columns), {(len(crops), *cells.crop_shape)}. "
                "Correct the segmenter.",
                features,
            )
        return np.concatenate([cells.crops(index, rescale=meta.rescale), masks[:, None].astype(np.float32)], axis=1)

    return crops_and_masks


def device_name(device: str) -> str:
    """Return what the numbers were computed on, as a person would say it."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    import platform

    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
