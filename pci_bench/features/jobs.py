"""One feature set ready to be computed: the key of its numbers, its cache file, and the parts that it is computed in."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import weights as weight_files
from pci_bench.api.extractor import EXTRACTORS, Extractor
from pci_bench.api.plugins import source_of
from pci_bench.api.segmenter import DEFAULT_SEGMENTER, SEGMENTERS
from pci_bench.data.provenance import DatasetProvenance, FeaturesProvenance, Provenance
from pci_bench.errors import PluginError
from pci_bench.features.availability import needs_segmenter
from pci_bench.features.names import FeatureSet
from pci_bench.system.arguments import PRECISIONS
from pci_bench.system.checksums import seal, unsealed
from pci_bench.system.files import atomic_file, cache_folder, escape, sha256_of
from pci_bench.system.shortages import raise_shortage

if TYPE_CHECKING:
    from pci_bench.data.cells import Cells

CELLS_PER_BLOCK = 4096
CELLS_PER_SMALL_BLOCK = 256  # where processes share the blocks of slow measurements


@dataclass(frozen=True)
class Job:
    """One feature set ready to be computed: its full name, weights file, crops per call, and the key of its numbers."""

    features: FeatureSet
    extractor: Extractor
    weights: Path | None
    segmenter: str | None
    provenance: Provenance
    batch: int

    @property
    def cells_per_block(self) -> int:
        """How many cells are handed to a process at once; what it computes of them is stored in parts, by time."""
        return CELLS_PER_SMALL_BLOCK if self.extractor.meta.processes else CELLS_PER_BLOCK

    @property
    def precision(self) -> str:
        """In what its products are computed: float32 or bfloat16."""
        return self.provenance.features.precision

    @property
    def settings(self) -> tuple[str, int, str]:
        """What :func:`job_of` takes beside features and cells to make this job again: segmenter, batch and precision."""
        return self.segmenter or DEFAULT_SEGMENTER, self.batch, self.precision

    @property
    def key(self) -> str:
        """The hash of all that the numbers follow from."""
        dataset, features = self.provenance.dataset, self.provenance.features
        identity = [dataset.sha256, features.name, features.version, features.weights_sha256, features.precision]
        if self.segmenter:
            identity += [self.segmenter, SEGMENTERS.get(self.segmenter).meta.version]
            if code := source_of(SEGMENTERS.origin(self.segmenter).file):
                identity.append(code)
        if code := source_of(
            EXTRACTORS.origin(self.features.extractor_name).file
        ):  # of a plug-in; our versions are kept
            identity.append(code)
        if self.batch != self.extractor.meta.batch:  # which may change the last digits
            identity.append(f"batch {self.batch}")
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]

    def of(self, sha256: str) -> Job:
        """Return the same feature set of other cells of the dataset."""
        dataset = replace(self.provenance.dataset, sha256=sha256)
        return replace(self, provenance=replace(self.provenance, dataset=dataset))

    def file(self) -> Path:
        """Return the cache file of the whole feature set."""
        dataset = self.provenance.dataset
        folder = cache_folder() / "features" / f"{escape(dataset.name)}-{dataset.sha256[:12]}"
        return folder / f"{escape(str(self.features))}-{self.key}.h5ad"

    @property
    def preparation(self) -> tuple[Any, ...]:
        """What jobs that share a pass have in common: the weights, and how crops are prepared and handed over."""
        meta = self.extractor.meta
        weights = None if self.weights is None else (meta.weights, self.features.weights)
        return (
            weights,
            meta.rescale,
            meta.masks,
            self.segmenter,
            self.batch,
            self.precision,
            meta.processes,
            meta.concurrent,
        )

    @property
    def parts(self) -> Path:
        """The folder of what is computed and not joined yet."""
        return self.file().with_suffix(".parts")

    def part(self, start: int, stop: int) -> Path:
        """Return the file of the cells from `start` to before `stop`."""
        return self.parts / f"{start:08d}-{stop:08d}.npy"

    def spans(self) -> list[tuple[int, int]]:
        """Return the first cell of every part there is, damaged or not, and the one after its last."""
        try:
            names = os.listdir(self.parts)
        except FileNotFoundError:  # nothing is computed yet, or another process has just joined the parts
            return []
        # what is still written has another name
        matches = (re.fullmatch(r"(\d{8,})-(\d{8,})\.npy", name) for name in names)
        return sorted((int(match[1]), int(match[2])) for match in matches if match)

    def cells_in_parts(self) -> int:
        """Return how many cells there are parts of, damaged or not: for an estimate."""
        return sum(stop - start for start, stop in self.spans())

    def blocks(self, n: int) -> list[tuple[int, int]]:
        """Return the first cell of every block of n cells, and the one after its last."""
        return [(start, min(start + self.cells_per_block, n)) for start in range(0, n, self.cells_per_block)]


def is_network(extractor: Extractor, weights: Path | None) -> bool:
    """Return whether an extractor is a network: what can run on a GPU, in batches of any size."""
    return weights is not None or extractor.meta.concurrent


def job_of(
    features: FeatureSet, cells: Cells, segmenter: str, batch: int | None = None, precision: str = PRECISIONS[0]
) -> Job:
    """Return what is needed to compute a feature set whose weights are resolved; `batch` and `precision` are for networks alone."""
    extractor = features.extractor()
    meta = extractor.meta
    file = weight_files.find(meta.weights, features.weights) if meta.weights and features.weights else None
    network = is_network(extractor, file)
    segmented = segmenter if needs_segmenter(meta, cells) else None
    origin = Provenance(
        DatasetProvenance.of(cells.meta, cells.sha256),
        FeaturesProvenance(
            features.base,
            features.weights or "",
            meta.version,
            sha256_of(file) if file else "",
            meta.weights or "",
            meta.title,
            precision if network else PRECISIONS[0],
            meta.allows_nan,
            (segmented or "of the dataset") if meta.masks else "",
            (weight_files.read_header(file).trained_on or {}) if file is not None else {},
        ),
    )
    crops = batch if batch is not None and network else meta.batch
    return Job(features, extractor, file, segmented, origin, crops)


def by_extractor(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    """Return jobs by what computes them: an extractor, and its weights where it has any."""
    grouped: dict[str, list[Job]] = {}
    for job in jobs:
        features = job.features
        name = f"{features.extractor_name}@{features.weights}" if features.weights else features.extractor_name
        grouped.setdefault(name, []).append(job)
    return grouped


def stage_name(jobs: Sequence[Job]) -> str:
    """Return what a pass computes, for people: ``pci@yeast-sim, conv1, conv2; marker-only@yeast-sim``."""
    texts = []
    for name, extractor_jobs in by_extractor(jobs).items():
        outputs = ", ".join(job.features.output for job in extractor_jobs if job.features.output)
        texts.append(f"{name}, {outputs}" if outputs else name)
    return "; ".join(texts)


def unfinished(jobs: Sequence[Job], blocks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what is left of some blocks: each from the first cell on that there is no part of."""
    left = []
    for (start, stop), parts in zip(blocks, parts_of(jobs, blocks), strict=True):
        done = parts[-1][1] if parts else start
        if done < stop:
            left.append((done, stop))
    return left


def parts_of(jobs: Sequence[Job], blocks: Iterable[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yield, for every block, the parts that all jobs have, undamaged, one after the other from its first cell on."""
    ends = [_ends(job) for job in jobs]
    for start, stop in blocks:
        found: list[tuple[int, int]] = []
        while start < stop:
            common = set.intersection(*({*of_job.get(start, ())} for of_job in ends))
            whole = (e for e in common if e <= stop and all(_whole(job, start, e) is not None for job in jobs))
            end = max(whole, default=None)
            if end is None:
                break
            found.append((start, end))
            start = end
        yield found


def values_of(job: Job, blocks: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the values (n, d) of all blocks, which are whole and follow each other; no more than a part is in memory twice.

    Each part is read once: of those that begin with a cell the longest undamaged one.
    """
    ends, filled, all_values = _ends(job), 0, np.empty((0, 0))
    for start, stop in blocks:
        while start < stop:
            possible = sorted((end for end in ends.get(start, ()) if end <= stop), reverse=True)
            values = next((values for end in possible if (values := _whole(job, start, end)) is not None), None)
            if values is None:
                break
            if not filled:
                all_values = np.empty((blocks[-1][1] - blocks[0][0], values.shape[1]), values.dtype)
            all_values[filled : filled + len(values)] = values
            filled += len(values)
            start += len(values)
    return all_values[:filled]


def _ends(job: Job) -> dict[int, list[int]]:
    """Return where the parts end, damaged or not, by the cell that they begin with; the folder is listed once."""
    ends: dict[int, list[int]] = {}
    for start, stop in job.spans():
        ends.setdefault(start, []).append(stop)
    return ends


def _whole(job: Job, start: int, stop: int) -> np.ndarray | None:
    """Return the values of a part, or None where its file is damaged or of another shape."""
    try:
        part = read_part(job, start, stop)
    except (OSError, ValueError, EOFError) as error:
        raise_shortage(error)
        return None
    return part if part.ndim == 2 and len(part) == stop - start else None


def read_part(job: Job, start: int, stop: int) -> np.ndarray:
    """Return the values (cells, d) of one part."""
    values: np.ndarray = np.load(io.BytesIO(unsealed(job.part(start, stop))), allow_pickle=False)
    return values


def write_part(job: Job, names: Sequence[str], start: int, values: np.ndarray) -> None:
    """Write one output of the part that begins at start, of the cells `names`, if its values are finite (or NaN where declared)."""
    wrong = np.isinf(values) if job.extractor.meta.allows_nan else ~np.isfinite(values)
    if wrong.any():
        bad = names[int(np.argwhere(wrong)[0][0])]
        raise PluginError.of(
            f"{job.features} gave NaN or infinite values, first for the cell '{bad}'. Correct the extractor or leave the cell out.",
            [str(job.features)],
        )
    content = io.BytesIO()
    np.save(content, values)  # straight into a file, NumPy does not say that the disk is full
    with atomic_file(job.part(start, start + len(values))) as temporary:
        temporary.write_bytes(content.getvalue())  # a view crashes Python 3.12 where the disk is full
        seal(temporary)


def discard_parts(jobs: Sequence[Job]) -> None:
    """Remove the parts of some feature sets."""
    import shutil

    for job in jobs:
        shutil.rmtree(job.parts, ignore_errors=True)
