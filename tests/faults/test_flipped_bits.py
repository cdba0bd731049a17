"""Bits that flip on the disk after they were written: what is read from the cache is what was put there, or is not used."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from faults import FEW, RUN, Fault, with_crops

from pci_bench import Dataset, load_dataset, weights
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.api.loading import load, store_folder
from pci_bench.data.cells import Cells, Channel, DatasetMeta
from pci_bench.data.store import open_store
from pci_bench.errors import UserError
from pci_bench.features import extraction, jobs
from pci_bench.features.availability import resolve_weights
from pci_bench.features.names import parse
from pci_bench.runs import kept
from pci_bench.runs.results import Result
from pci_bench.runs.runner import evaluate
from pci_bench.system.checksums import DamagedError, check_seal, seal, unsealed
from pci_bench.system.files import cache_folder
from pci_bench.system.progress import Progress
from pci_bench.training import crops as training_crops

FLIPS = 200


def flip(file: Path, position: int, bit: int) -> None:
    """Flip one bit of a file in place."""
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


def flipped_in(*patterns: str, run: bool = False) -> Callable[[Path], None]:
    """Return an `arrange` of sound crops in the cache (after a whole run, or only stored) of whose files one has a bit flipped."""

    def arrange(folder: Path) -> None:
        with_crops()(folder)
        cells = load_dataset("folder:crops")
        if run:
            extraction.extract("intensity", cells, device="cpu")
        for pattern in patterns:
            (file,) = (f for f in cache_folder().glob(pattern) if f.is_file())
            flip(file, file.stat().st_size // 2, 3)

    return arrange


GET, VERIFY = ("data", "get", "folder:crops"), ("data", "verify", "folder:crops")
CROPS = (*RUN, "--dataset", "folder:crops", *FEW, "--out", "out")

FAULTS = [
    Fault("the crops", CROPS, ("is damaged", "Delete that folder"), flipped_in("datasets/*/*/crops.zarr/c/**/*")),
    Fault(
        "the crops, verified",
        VERIFY,
        ("is damaged", "Delete that folder"),
        flipped_in("datasets/*/*/crops.zarr/c/**/*"),
    ),
    Fault(
        "the crops' description",
        GET,
        ("checksum of crops.zarr/zarr.json", "It is built again"),
        flipped_in("datasets/*/*/crops.zarr/zarr.json"),
        0,
    ),
    Fault(
        "the table of cells",
        GET,
        ("checksum of obs.parquet", "It is built again"),
        flipped_in("datasets/*/*/obs.parquet"),
        0,
    ),
    Fault("the store's description", GET, ("is built again",), flipped_in("datasets/*/*/store.json"), 0),
    Fault(
        "features",
        CROPS,
        (".h5ad is damaged or of another origin (its checksum", "It is made again"),
        flipped_in("features/**/*.h5ad", run=True),
        0,
    ),
]  # fmt: skip - one line per fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


# ---- many flips, at the level of readers


class Planted(Dataset):
    """Crops with masks, of three images and two labels."""

    meta = DatasetMeta("planted", "1", "Synthetic cells", confounder="image")

    def unavailable_reason(self) -> None:
        return None

    def build(self, store) -> None:
        rng = np.random.default_rng(0)
        obs = pd.DataFrame({"cell": [f"c{i}" for i in range(24)], "image": [f"w{i % 3}" for i in range(24)]})
        obs["label"] = ["a", "b"] * 12
        channels = (Channel("GFP", "protein"), Channel("RFP", "marker"))
        store.begin(obs, channels, crop_shape=(8, 8), dtype="uint8", masks=True)
        store.add(rng.integers(0, 255, (24, 2, 8, 8), np.uint8), rng.integers(0, 3, (24, 8, 8), np.uint16))


@dataclass(frozen=True)
class Reader:
    """What reads some files of the cache: its content, or None where it is noticed that they are not what was written."""

    files: tuple[Path, ...]
    read: Callable[[], Any]


def files_of(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(f for f in folder.rglob("*") if f.is_file() and f.suffix != ".lock"))


def content_of_store(folder: Path) -> list[Any]:
    cells = open_store(folder)
    everything = slice(0, len(cells))
    return [cells.obs.to_csv(), cells.channels, cells.meta, cells.sha256, cells.notes, cells.stored(everything), cells.stored_masks(everything)]  # fmt: skip


def content_of_weights(file: Path) -> list[Any]:
    from safetensors.numpy import load_file

    return [weights.read_header(file), *load_file(file).items()]


def content_of_evaluation(folder: Path) -> list[Any] | None:
    found = kept._read(folder)
    if found is None:
        return None
    results, reasons = found
    return [
        *(r.model_dump() for r in results),
        *(r.predictions.to_csv() for r in results),
        *(t.to_csv() for r in results for t in r.tables.values()),
        reasons,
    ]


def content_of_figures(folder: Path) -> list[bytes] | None:
    names = kept._kept_figures(folder)
    return None if names is None else [(folder / name).read_bytes() for name in names]


def small_cache(cells: Cells, tmp_path: Path) -> list[Reader]:
    """Return readers of all that a cache holds, each with its files, which are written now."""
    progress = Progress()
    store = store_folder(Planted())
    features = resolve_weights(parse("intensity"), cells)
    adata = extraction.extract(features, cells, device="cpu")
    job = jobs.job_of(features, cells, "otsu")
    jobs.write_part(job, list(adata.obs_names), 0, np.asarray(adata.X))

    def evaluated() -> tuple[list[Result], list[str]]:
        return evaluate("loo-knn", adata, k=[1]), ["none"]

    kept.evaluation(EVALUATORS.get("loo-knn"), adata, [{"k": [1]}], {}, evaluated)
    (evaluation,) = (f.parent for f in (cache_folder() / "evaluations").rglob(kept.RECORD))
    tensors = {"a": np.random.default_rng(1).random((9, 9)).astype(np.float16), "b": np.ones(3, np.float32)}
    weight_file = weights.save("pci", "mine", tensors, channels=("protein",), config={"width": 1.0}, source="a test")
    figures = cache_folder() / "figures" / "planted"
    figures.mkdir(parents=True)
    (figures / "a.svg").write_text("<svg/>" * 9)
    kept._write_record(figures, {"files": ["a.svg"]})
    flat = cache_folder() / "training" / f"crops-{cells.sha256[:20]}.npy"
    training_crops.stored_crops(cells, progress)
    return [
        Reader(files_of(store), lambda: content_of_store(store)),
        Reader((job.file(),), lambda: extraction._cached(job, cells, progress)),
        Reader(
            (job.part(0, len(cells)),),
            lambda: [jobs.read_part(job, *part) for part in next(jobs.parts_of([job], [(0, len(cells))]))] or None,
        ),
        Reader((flat,), lambda: [np.array(training_crops.stored_crops(cells, progress))]),
        Reader(files_of(evaluation), lambda: content_of_evaluation(evaluation)),
        Reader(files_of(figures), lambda: content_of_figures(figures)),
        Reader((weight_file,), lambda: content_of_weights(weight_file)),
    ]


def text_of(content: Any) -> bytes:
    """Return content as bytes that are equal where it is."""
    if hasattr(content, "obs"):  # AnnData
        content = [np.asarray(content.X), list(content.var_names), content.obs.to_csv(), content.uns["pci_bench"]]
    found = io.BytesIO()
    for part in content:
        for value in part if isinstance(part, tuple) else [part]:
            is_array = isinstance(value, np.ndarray)
            found.write(f"{value.dtype}{value.shape}".encode() + value.tobytes() if is_array else repr(value).encode())
    return found.getvalue()


def test_a_flipped_bit_anywhere_in_the_cache_is_noticed_or_changes_nothing(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(training_crops, "IN_MEMORY_BYTES", 0)
    cells = load(Planted())
    readers = small_cache(cells, tmp_path)
    written = [text_of(reader.read()) for reader in readers]
    places = [(number, file) for number, reader in enumerate(readers) for file in reader.files]
    rng = random.Random(0)
    noticed = 0
    for turn in range(FLIPS):
        number, file = places[turn % len(places)]
        whole = file.read_bytes()
        position, bit = rng.randrange(len(whole)), rng.randrange(8)
        flip(file, position, bit)
        weights.files._read_header.cache_clear()  # a file that changes within one tick of the clock is no fault of disks
        try:
            content = readers[number].read()
        except UserError:
            content = None
        finally:
            file.write_bytes(whole)
        noticed += content is None
        assert content is None or text_of(content) == written[number], (file, position, bit)
    assert noticed > FLIPS // 2, noticed  # else this would hold of readers that see nothing


def test_what_was_stored_before_there_were_checksums_is_still_read(cache, monkeypatch):
    """A seal, the checksums of a description and those of weights are left out; the cache gives the same."""
    import json

    cells = load(Planted())
    folder = store_folder(Planted())
    description = json.loads((folder / "store.json").read_text())
    for key in ("file_sha256", "description_sha256"):
        del description[key]
    (folder / "store.json").write_text(json.dumps(description))
    assert load(Planted()).sha256 == cells.sha256
    file = next(iter(small_cache(cells, cache)[1].files))
    file.write_bytes(unsealed(file))
    job = jobs.job_of(parse("intensity"), cells, "otsu")
    assert extraction._cached(job, cells, Progress()) is not None


@pytest.mark.parametrize("n_bytes", [0, 1, 64, 1 << 20, (1 << 20) + 7])
def test_a_seal_covers_every_byte(tmp_path, n_bytes):
    file, content = tmp_path / "f", np.random.default_rng(0).bytes(n_bytes)
    file.write_bytes(content)
    seal(file)
    assert unsealed(file) == content
    for position in {0, n_bytes // 2, n_bytes - 1} if n_bytes else ():
        flip(file, position, 5)
        with pytest.raises(DamagedError):
            check_seal(file)
        flip(file, position, 5)
    file.write_bytes(content)
    assert unsealed(file) == content
