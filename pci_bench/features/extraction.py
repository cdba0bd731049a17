"""From cells to features as AnnData: what the cache holds, and what is computed now."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pci_bench.api.dataset import load_dataset
from pci_bench.api.extractor import Extractor, Precomputed
from pci_bench.api.segmenter import DEFAULT_SEGMENTER
from pci_bench.api.skipped import Skipped
from pci_bench.data.cells import as_float32
from pci_bench.data.provenance import Provenance
from pci_bench.data.store import StoredCells
from pci_bench.errors import PluginError, UserError
from pci_bench.features.availability import code_of, resolve_weights, unavailable_reason
from pci_bench.features.columns import described_columns
from pci_bench.features.compute import cell_names, checked_numbers, computed
from pci_bench.features.estimate import Work, extraction, sentence
from pci_bench.features.files import write_h5ad
from pci_bench.features.jobs import Job, by_extractor, discard_parts, job_of
from pci_bench.features.names import FeatureSet, parse
from pci_bench.features.on_cluster import computed_on_cluster
from pci_bench.system.arguments import PRECISIONS, check_batch, check_precision, check_workers
from pci_bench.system.checksums import check_seal, seal
from pci_bench.system.cluster import check_scheduler
from pci_bench.system.devices import resolve_device
from pci_bench.system.files import atomic_file, escape, lock
from pci_bench.system.progress import Progress
from pci_bench.system.reporter import reporter
from pci_bench.system.shortages import raise_shortage

if TYPE_CHECKING:
    from anndata import AnnData

    from pci_bench.data.cells import Cells, Channel

Refresh = Literal["never", "missing", "always"]


@dataclass(frozen=True)
class ExtractionOptions:
    """How features are computed.

    Parameters
    ----------
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
    workers
        Processes that share the parts of 4,096 cells; each gets its share of the cores. By default one for networks and
        array functions, and one per core for what is measured crop by crop (in parts of 256 cells).
    refresh
        ``"missing"`` computes what the cache lacks, ``"always"`` computes anew, ``"never"`` computes nothing.
    segmenter
        Finds the centre cells for features that need masks, where the dataset brings none.
    scheduler
        ``"tcp://HOST:PORT"`` of a Dask cluster whose workers compute, in place of processes of this machine. They share the
        cache folder; cells that lie in memory are computed here.
    batch
        Crops for each forward pass of networks, in place of what each declares (:class:`pci_bench.ExtractorMeta`). It may change
        the last digits, so the cache keeps what another batch gave apart. Other feature sets are not touched.
    precision
        Of networks' products: ``"float32"``, or ``"bfloat16"``, which is about twice as fast on processors and GPUs that have it
        and differs by up to a fiftieth of the largest value. The cache keeps them apart.
    """

    device: str = "auto"
    workers: int | None = None
    refresh: Refresh = "missing"
    segmenter: str = DEFAULT_SEGMENTER
    scheduler: str | None = None
    batch: int | None = None
    precision: str = PRECISIONS[0]

    def __post_init__(self) -> None:
        """Check the number of workers, the scheduler's address, the batch and the precision."""
        check_workers(self.workers)
        check_batch(self.batch)
        check_precision(self.precision)
        check_scheduler(self.scheduler, self.workers)


def compute_features(
    wanted: Sequence[FeatureSet],
    cells: Cells,
    options: ExtractionOptions | None = None,
    *,
    keep_going: bool = False,
    further: Callable[[Sequence[FeatureSet]], Iterable[Work]] = lambda features: (),
    progress: Progress | None = None,
) -> dict[FeatureSet, AnnData | Skipped]:
    """Return the features of every feature set, computing what the cache lacks.

    Extractors that run with the same weights on crops prepared alike share one pass over the crops.

    Parameters
    ----------
    wanted
        Feature sets; weights that are not named are the dataset's default.
    cells
        The cells, in any order, all or some.
    options
        Device, workers, segmenter, and what the cache is used for.
    keep_going
        Compute the others where one fails, which is then a :class:`Skipped` with its error.
    further
        What will be done with those of these feature sets that can be had: where all of it takes more than a minute, about how
        long is said before anything is computed.
    progress
        The progress reporter.

    Returns
    -------
    dict
        AnnData (n, d) float32 by full name; :class:`Skipped` with a reason where a feature set cannot be had.

    Raises
    ------
    PluginError
        Where the code of a feature set or segmenter fails, or gives anything but finite numbers of the declared shape.
    """
    progress, options = progress or Progress(), options or ExtractionOptions()
    dataset, segmenter = cells.meta.name, options.segmenter
    if len(cells) == 0:
        raise UserError(f"There are no cells of {dataset} to measure: the selection is empty.")
    results: dict[FeatureSet, AnnData | Skipped] = {}
    passes: dict[tuple[Any, ...], list[Job]] = {}
    for unresolved in wanted:
        features = resolve_weights(unresolved, cells)
        results[features] = Skipped("", "features unavailable", dataset, str(features))  # keeps the order asked for
        try:
            if reason := unavailable_reason(features, cells, segmenter):
                results[features] = Skipped(reason, "features unavailable", dataset, str(features))
                continue
            if isinstance(extractor := features.extractor(), Precomputed):
                results[features] = _precomputed(features, extractor, cells, segmenter, progress)
                continue
        except PluginError as error:
            if not keep_going:
                raise
            results[features] = Skipped.failed(error, dataset, str(features))
        else:
            job = job_of(features, cells, segmenter, options.batch, options.precision)
            passes.setdefault(job.preparation, []).append(job)
    if options.refresh != "never":
        anew = options.refresh == "always"
        jobs = [job for of_pass in passes.values() for job in of_pass if anew or not job.file().exists()]
        had = [features for features, result in results.items() if not (isinstance(result, Skipped) and result.reason)]
        if jobs or had:
            ours = [] if options.scheduler else extraction(jobs, cells)  # nobody knows how fast a cluster is
            said = sentence([*ours, *further(had)], options.device)
            if said is not None:
                progress.say(said)
    for jobs in passes.values():
        with _locked(jobs, progress):
            missing = []
            for job in jobs:
                ready = None if options.refresh == "always" else _cached(job, cells, progress)
                if ready is not None:
                    results[job.features] = ready
                elif options.refresh == "never":
                    reason = "not in the cache, and with --refresh never nothing is computed"
                    results[job.features] = Skipped(reason, "not cached", dataset, str(job.features))
                else:
                    missing.append(job)
            if options.refresh == "always":
                discard_parts(missing)
            if missing:
                results.update(_computed(missing, cells, options, keep_going, progress))
    return results


def extract(
    features: str | FeatureSet,
    cells: Cells | str,
    *,
    device: str = "auto",
    refresh: Refresh = "missing",
    workers: int | None = None,
    segmenter: str = DEFAULT_SEGMENTER,
    scheduler: str | None = None,
    batch: int | None = None,
    precision: str = PRECISIONS[0],
    progress: Progress | bool | None = None,
) -> AnnData:
    """Return one feature set of some cells: ``X`` (n, d) float32, ``obs`` from the cells, and ``var`` with what was measured.

    The index of ``obs`` is the cells' names. ``var`` has the columns ``object``, ``family``, ``measurement`` and ``channel``, as
    far as the features' names say them (:func:`pci_bench.features.columns.described_columns`). Where all came from is in
    ``uns["pci_bench"]``.

    Parameters
    ----------
    features
        ``"pci-conv4"``, or any name of ``pci-bench list features``.
    cells
        From :func:`pci_bench.load_dataset`, or the dataset's name.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, or one of several GPUs: ``"cuda:1"``.
    refresh
        When features are computed: ``"missing"``, those that the cache lacks; ``"always"``; ``"never"``.
    workers
        Processes that share the extraction; by default one per core for what is measured crop by crop.
    segmenter
        Finds the centre cells for features that need masks, where the dataset brings none.
    scheduler
        ``"tcp://HOST:PORT"`` of a Dask cluster whose workers compute, in place of processes of this machine.
    batch
        Crops for each forward pass of networks, in place of what each declares.
    precision
        ``"float32"``, or ``"bfloat16"`` for the products of networks: faster, and less exact.
    progress
        True shows a bar in a terminal or notebook; or a progress reporter. By default nothing is shown.

    Raises
    ------
    UserError
        For an unknown name, or where the features cannot be had; the message says what to do.

    Examples
    --------
    >>> cells = load_dataset("yeast-sim")
    >>> intensity = extract("intensity", cells[::4])
    >>> intensity.shape
    (641, 8)
    >>> list(intensity.var_names[:3])
    ['GFP_mean', 'GFP_sd', 'GFP_min']
    """
    asked = parse(features) if isinstance(features, str) else features
    options = ExtractionOptions(device, workers, refresh, segmenter, scheduler, batch, precision)
    progress = reporter(progress)
    if isinstance(cells, str):
        cells = load_dataset(cells, progress=progress)
    ((_, result),) = compute_features([asked], cells, options, progress=progress).items()
    if isinstance(result, Skipped):
        raise UserError(f"{result.features} cannot be had for {cells.meta.name}: {result.reason}.")
    return result


def _computed(
    jobs: list[Job], cells: Cells, options: ExtractionOptions, keep_going: bool, progress: Progress
) -> dict[FeatureSet, AnnData | Skipped]:
    """Compute the feature sets of a pass, and leave one file of each in the cache.

    With `keep_going`, one that fails is left out, and the others begin again with the part it failed in.
    """
    on_cluster = options.scheduler is not None and StoredCells.of(cells, 0, 1) is not None
    failed: dict[FeatureSet, AnnData | Skipped] = {}
    while jobs:
        finished: dict[FeatureSet, AnnData | Skipped] = {}
        try:
            if on_cluster:
                results = computed_on_cluster(jobs, cells, options.device, str(options.scheduler), progress)
            else:
                results = computed(jobs, cells, resolve_device(options.device), options.workers, progress)
            for job, values, device in results:
                finished[job.features] = _finished(job, cells, values, device)
            discard_parts(jobs)
            return failed | finished
        except PluginError as error:
            culprits = [job for job in jobs if str(job.features) in error.names]
            if not (keep_going and culprits):
                raise
            failed |= {j.features: Skipped.failed(error, cells.meta.name, str(j.features)) for j in culprits}
            jobs = [job for job in jobs if job not in culprits]
    return failed


def _finished(job: Job, cells: Cells, values: np.ndarray, device: str) -> AnnData:
    """Return computed features as AnnData with the cells' table, which is then in the cache."""
    with code_of(job.features, "in names()"):
        names = list(column_names(job.extractor, job.features.output, cells.channels, job.weights, values.shape[1]))
    check_names(job.features, names, values.shape[1])
    adata = annotated(values, names, cells, replace(job.provenance, device=device, key=job.key))
    with atomic_file(job.file()) as temporary:
        write_h5ad(adata, temporary)
        seal(temporary)
    return adata


def column_names(
    extractor: Extractor, output: str, channels: tuple[Channel, ...], weights: Path | None, computed: int
) -> list[str]:
    """Return the names of the columns that an extractor computed with some weights, or without.

    Where they do not depend on the weights, narrower networks have the first of the full width's columns.
    """
    if weights is None:
        return extractor.names(output, channels)
    names = extractor.names(output, channels, weights)
    return names[:computed] if names == extractor.names(output, channels) else names


def annotated(values: np.ndarray, names: Sequence[str], cells: Cells, provenance: Provenance) -> AnnData:
    """Return an AnnData of feature values and the cells they belong to."""
    import pandas as pd
    from anndata import AnnData

    obs = cells.obs.copy()
    for column in obs.columns:
        if not isinstance(obs[column].dtype, pd.CategoricalDtype) and obs[column].dtype.kind not in "biuf":
            obs[column] = obs[column].astype("string").fillna("").astype(object)
    obs.index = pd.Index(cells.obs["cell"].astype(str), name=None)
    values = np.ascontiguousarray(as_float32(np.asarray(values), f"The features of {cells.meta.name}"))
    var = described_columns(names, [c.name for c in cells.channels], provenance.features.name)
    adata = AnnData(X=values, obs=obs, var=var)
    return provenance.attach(adata)


def check_names(features: FeatureSet, names: list[Any], columns: int) -> None:
    """Raise where the names that a feature set declares are not one text for each column."""
    if len(names) != columns:
        what = f"declares {len(names)} columns but computed {columns}"
    elif wrong := [name for name in names if not isinstance(name, str)]:
        what = f"names a column {wrong[0]!r}, which is no text"
    else:
        return
    raise PluginError.of(f"{features} {what}. Correct its names().", [str(features)])


def _precomputed(
    features: FeatureSet, extractor: Precomputed, cells: Cells, segmenter: str, progress: Progress
) -> AnnData:
    with code_of(features, f"in load(), for {cells.meta.name}"):
        values, names = extractor.load(cells)
        names = list(names)
        for note in extractor.notes:  # what a file holds that is not used
            progress.say(f"Note: {note}")
    values = checked_numbers(features, str(features), values, cell_names(cells, slice(None)), (len(cells), len(names)))
    check_names(features, names, values.shape[1])
    digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    origin = job_of(features, cells, segmenter).provenance.with_features(weights_sha256=digest)
    return annotated(values, names, cells, replace(origin, key=digest[:20]))


def _cached(job: Job, cells: Cells, progress: Progress) -> AnnData | None:
    """Return the cached features, or None; of a part of the cells also from what is kept of all of them."""
    found = _kept(job, cells.obs["cell"].astype(str).to_numpy(), None, progress)
    if found is None and cells.part_of is not None:
        whole, positions = cells.part_of
        found = _kept(job.of(whole), cells.obs["cell"].astype(str).to_numpy(), positions, progress)
    if found is None:
        return None
    # The same numbers serve the dataset under any of its names, so name and labels are the caller's.
    return annotated(
        np.asarray(found.X),
        list(found.var_names),
        cells,
        replace(job.provenance, device=Provenance.of(found).device, key=job.key),
    )


def _kept(job: Job, names: np.ndarray, positions: np.ndarray | None, progress: Progress) -> AnnData | None:
    """Return what a cache file holds, or the rows at some positions of it, which must be the cells of these names.

    A file that is not ours or is damaged is named and will be replaced.
    """
    file = job.file()
    if not file.exists():
        return None
    try:
        check_seal(file)
        adata = _without_table(file)
        if Provenance.of(adata).key == job.key and positions is not None:
            adata = adata[positions].copy()
        if Provenance.of(adata).key != job.key or not np.array_equal(adata.obs_names, names):
            raise ValueError("it belongs to other cells or features")
    except Exception as error:  # HDF5 and AnnData raise many kinds
        raise_shortage(error)
        again = "It is made again." if positions is None else "It is not used."
        progress.say(f"The cache file {file} is damaged or of another origin ({error}). {again}")
        return None
    return adata


def _without_table(file: Path) -> AnnData:
    """Return what a cache file holds but for the cells' table, whose texts may take more memory than their features: the caller has it."""
    import h5py
    import pandas as pd
    from anndata import AnnData
    from anndata.io import read_elem

    with h5py.File(file) as stored:
        obs = stored["obs"]
        names = pd.DataFrame(index=pd.Index(read_elem(obs[obs.attrs["_index"]]), dtype=object))
        return AnnData(read_elem(stored["X"]), names, read_elem(stored["var"]), read_elem(stored["uns"]))


@contextmanager
def _locked(jobs: Sequence[Job], progress: Progress) -> Iterator[None]:
    """Hold the locks of all extractors of a pass, taken in one order, so that two processes never wait for each other."""
    with ExitStack() as held:
        for name in sorted(by_extractor(jobs)):
            held.enter_context(lock(jobs[0].file().parent / escape(name), progress.say))
        yield
