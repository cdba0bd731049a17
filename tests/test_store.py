"""Cells on disk: what is written comes back, what is wrong is refused, what is damaged is built again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from pci_bench import Dataset
from pci_bench.api.loading import load, store_folder, verify
from pci_bench.data import store
from pci_bench.data.cells import Channel, DatasetMeta
from pci_bench.data.store import CELLS_PER_CHUNK, BrokenStoreError, open_store, pixel_checksum
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress

CHANNELS = (Channel("GFP", "protein"), Channel("nucleus", "marker", 0.05))
N = 2 * CELLS_PER_CHUNK + 37


class Heard(Progress):
    """Keeps what a user would have been told."""

    def __init__(self):
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


class Planted(Dataset):
    """A data set of given crops, written in batches of given sizes."""

    def __init__(self, crops, batches=None, *, masks=None, dtype=None, name="planted", version="1", **columns):
        self.meta = DatasetMeta(name, version, "Planted crops", "a reference", "CC0", confounder="image")
        self.batches = batches or [len(crops)]
        self.crop_data, self.masks, self.dtype = crops, masks, dtype or str(crops.dtype)
        n = len(crops)
        self.obs = pd.DataFrame({"cell": [f"c{i}" for i in range(n)], "image": ["i"] * n}).assign(**columns)
        self.reason: str | None = None
        self.fails_after: int | None = None
        self.checksum: str | None = None
        self.built = 0

    def unavailable_reason(self):
        return self.reason

    def build(self, store):
        self.built += 1
        shape = self.crop_data.shape[2:]
        store.begin(
            self.obs,
            CHANNELS,
            crop_shape=shape,
            dtype=self.dtype,
            masks=self.masks is not None,
            checksum=self.checksum,
        )
        edges = np.cumsum([0, *self.batches])
        for start, stop in pairwise(edges):
            if self.fails_after is not None and start >= self.fails_after:
                raise RuntimeError("the power went off")
            store.add(self.crop_data[start:stop], None if self.masks is None else self.masks[start:stop])


def random_crops(dtype: str, n: int = N, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).random((n, 2, 4, 6))
    return values.astype(dtype) if dtype == "float32" else (values * np.iinfo(dtype).max).astype(dtype)


# ---- there and back


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("batches", [[N], [1, 255, 257, N - 513], [100] * 5 + [N - 500], [N - 1, 1]], ids=str)
def test_crops_table_and_description_come_back_whatever_the_batches(dtype, batches):
    crops = random_crops(dtype)
    cells = load(Planted(crops, batches, label=["B", "A"] * (N // 2) + [None], extra=np.arange(N)))
    top = np.float32(1 if dtype == "float32" else np.iinfo(dtype).max)
    np.testing.assert_array_equal(cells.crops(slice(None), rescale="raw"), crops.astype(np.float32) / top)
    assert cells.channels == CHANNELS
    assert cells.meta == DatasetMeta("planted", "1", "Planted crops", "a reference", "CC0", confounder="image")
    assert cells.obs["cell"].tolist() == [f"c{i}" for i in range(N)]
    assert cells.obs["extra"].tolist() == list(range(N))
    assert cells.obs["label"].cat.categories.tolist() == ["A", "B"]
    assert cells.obs["label"].isna().sum() == 1


def test_scattered_cells_are_read_from_the_disk_as_from_memory():
    crops = random_crops("float32")
    cells = load(Planted(crops))
    index = np.random.default_rng(5).integers(0, N, 300)  # with repeats, across chunks
    np.testing.assert_array_equal(cells.crops(index, rescale="raw"), crops[index])
    np.testing.assert_array_equal(cells[index][::2].crops(slice(None), rescale="raw"), crops[index][::2])


def test_masks_come_back_beside_their_crops():
    masks = np.random.default_rng(2).integers(0, 60000, (N, 4, 6)).astype(np.uint16)
    cells = load(Planted(random_crops("uint8"), [300, N - 300], masks=masks))
    np.testing.assert_array_equal(cells.crops([400, 3, 299], masks=True)[:, 2], masks[[400, 3, 299]])


def test_a_dataset_is_built_once_and_then_opened():
    dataset = Planted(random_crops("uint8"))
    first, second = load(dataset), load(dataset)
    assert dataset.built == 1
    assert first.sha256 == second.sha256


# ---- the content hash


def hash_of(tmp_path, monkeypatch, dataset, place: str) -> str:
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / place))
    return load(dataset).sha256


def test_the_hash_is_of_the_content_not_of_how_or_when_it_was_written(tmp_path, monkeypatch):
    crops = random_crops("uint16")
    sizes = [[N], [1] * N, [255, 256, N - 511], [300, 3, N - 303]]
    hashes = {hash_of(tmp_path, monkeypatch, Planted(crops, s), str(i)) for i, s in enumerate(sizes)}
    hashes.add(hash_of(tmp_path, monkeypatch, Planted(crops, name="other", version="2"), "renamed"))
    assert len(hashes) == 1


def test_the_hash_changes_with_one_pixel_one_label_the_order_the_type_and_a_channel(tmp_path, monkeypatch):
    crops = random_crops("uint8")
    labels = np.array(["A", "B"] * (N // 2) + ["A"], object)
    pixel, relabelled = crops.copy(), labels.copy()
    pixel[-1, 1, 3, 5] ^= 1
    relabelled[N // 2] = "A" if relabelled[N // 2] == "B" else "B"
    variants = {
        "as is": Planted(crops, label=labels),
        "pixel": Planted(pixel, label=labels),
        "label": Planted(crops, label=relabelled),
        "order": Planted(np.roll(crops, 1, axis=0), label=labels),
        "type": Planted(crops.astype(np.uint16), label=labels),
        "column": Planted(crops, label=labels, plate="p"),
        "shape": Planted(crops.reshape(N, 2, 6, 4), label=labels),
    }
    hashes = {name: hash_of(tmp_path, monkeypatch, dataset, name) for name, dataset in variants.items()}
    monkeypatch.setitem(globals(), "CHANNELS", (CHANNELS[0], Channel("nucleus", "marker", 0.1)))
    hashes["floor"] = hash_of(tmp_path, monkeypatch, variants["as is"], "floor")
    assert len(set(hashes.values())) == len(hashes), hashes


# ---- what is refused


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_crop_that_is_not_finite_is_named_with_its_channel(bad, cache):
    crops = random_crops("float32")
    crops[301, 1, 2, 2] = bad
    with pytest.raises(UserError, match=r"Channel nucleus of cell 'c301' in 'planted' holds NaN or infinite"):
        load(Planted(crops, [300, N - 300]))
    assert not store_folder(Planted(crops)).exists()


def test_crops_of_another_shape_are_refused_from_the_first_such_cell_on():
    dataset = Planted(random_crops("uint8"))

    def build(store):
        store.begin(dataset.obs, CHANNELS, crop_shape=(4, 6), dtype="uint8")
        store.add(dataset.crop_data[:10])
        store.add(dataset.crop_data[10:12].reshape(2, 2, 6, 4))

    dataset.build = build
    with pytest.raises(UserError, match=r"from cell 'c10' on have the shape \(2, 6, 4\).*\(2, 4, 6\)"):
        load(dataset)


@pytest.mark.parametrize(("extra", "sentence"), [(-1, "only 548 crops"), (1, "more crops than its table has cells")])
def test_a_crop_too_many_or_too_few_is_a_sentence(extra, sentence):
    dataset = Planted(random_crops("uint8", N + extra))
    dataset.obs = Planted(random_crops("uint8")).obs
    with pytest.raises(UserError, match=sentence):
        load(dataset)


def test_a_crop_too_many_after_the_last_is_a_sentence_even_in_another_shape():
    dataset = Planted(random_crops("uint8", 3))

    def build(store):
        store.begin(dataset.obs, CHANNELS, crop_shape=(4, 6), dtype="uint8")
        store.add(dataset.crop_data)
        store.add(dataset.crop_data[:1].reshape(1, 2, 6, 4))

    dataset.build = build
    with pytest.raises(UserError, match="planted"):
        load(dataset)


@pytest.mark.parametrize(("given", "declared"), [("float32", "uint8"), ("uint16", "uint8"), ("int64", "uint16")])
def test_crops_that_the_declared_type_cannot_hold_are_refused_rather_than_cut_off(given, declared):
    crops = (random_crops("uint16", 8).astype(given) + 1) * (0.5 if given == "float32" else 1)
    with pytest.raises(UserError, match=f"{given}.*{declared}"):
        load(Planted(crops, dtype=declared))


def test_doubles_are_stored_as_floats():
    crops = random_crops("float32", 8).astype(np.float64)
    np.testing.assert_array_equal(load(Planted(crops, dtype="float32")).crops(slice(None), rescale="raw"), crops)


@pytest.mark.parametrize("dtype", ["float64", "int16", "bool"])
def test_a_declared_type_that_stores_do_not_have_is_a_sentence(dtype):
    with pytest.raises(UserError, match=f"are {dtype}; they must be uint8, uint16 or float32"):
        load(Planted(random_crops("uint8", 4), dtype=dtype))


def test_a_dataset_without_cells_or_without_a_word_is_a_sentence():
    with pytest.raises(UserError, match="holds no cells"):
        load(Planted(random_crops("uint8", 0)))
    silent = Planted(random_crops("uint8", 4))
    silent.build = lambda store: None
    with pytest.raises(UserError, match="wrote no cells"):
        load(silent)


def test_a_stored_dataset_is_described_as_it_is_declared_today_but_for_the_confounder_of_its_files(cache):
    dataset = Planted(random_crops("uint8", 4))
    dataset.meta = replace(dataset.meta, confounder="plate")
    before = load(dataset)
    dataset.meta = replace(dataset.meta, title="Another title", ontology="package:stem", confounder="image")
    after = load(dataset)
    assert (dataset.built, after.sha256) == (1, before.sha256)
    assert (after.meta.title, after.meta.ontology, after.meta.confounder) == ("Another title", "package:stem", "plate")


def test_other_masks_are_other_data_and_damaged_masks_are_found(cache):
    crops, masks = random_crops("uint8"), np.random.default_rng(2).integers(0, 9, (N, 4, 6))
    dataset = Planted(crops, [300, N - 300], masks=masks)
    whole = load(dataset).sha256
    assert verify(dataset) == whole
    assert load(Planted(crops, [N], masks=masks.astype(np.int64), name="wide", version="1")).sha256 == whole
    changed = masks.copy()
    changed[401, 2, 3] += 1
    assert load(Planted(crops, masks=changed, name="changed")).sha256 != whole
    assert load(Planted(crops, name="without")).sha256 != whole

    stored = zarr.open_array(store_folder(dataset) / "masks.zarr", mode="r+")
    stored[401, 2, 3] += 1
    description = store_folder(dataset) / "store.json"
    record = json.loads(description.read_text())
    for name in record["files"]:  # as if the damage had left every size as it was
        record["files"][name] = (store_folder(dataset) / name).stat().st_size
    description.write_text(json.dumps(record))
    with pytest.raises(UserError, match="no longer holds what was written"):
        verify(dataset)


def test_a_store_from_before_masks_were_hashed_is_built_again(cache):
    dataset = Planted(random_crops("uint8", 4), masks=np.ones((4, 4, 6), np.uint16))
    load(dataset)
    file = store_folder(dataset) / "store.json"
    record = json.loads(file.read_text())
    del record["masks_hashed"]
    file.write_text(json.dumps(record))
    heard = Heard()
    load(dataset, progress=heard)
    assert dataset.built == 2
    assert "before masks were part of a dataset's hash" in heard.sentences[0]
    assert verify(dataset)


def test_masks_that_were_declared_but_not_given_are_a_sentence():
    dataset = Planted(random_crops("uint8", 4), masks=np.zeros((4, 4, 6), np.uint16))
    crops, dataset.build = dataset.crop_data, None

    def build(store):
        store.begin(dataset.obs, CHANNELS, crop_shape=(4, 6), dtype="uint8", masks=True)
        store.add(crops[:2], dataset.masks[:2])
        store.add(crops[2:])

    dataset.build = build
    with pytest.raises(UserError, match="masks"):
        load(dataset)


def test_a_protein_channel_that_is_constant_everywhere_is_refused():
    crops = random_crops("uint8", 300)
    crops[:, 0] = np.arange(300, dtype=np.uint16).astype(np.uint8)[:, None, None]  # a different constant in each
    with pytest.raises(UserError, match="Every crop of the protein channel GFP of 'planted' is constant"):
        load(Planted(crops))


def test_single_constant_crops_are_noted_with_their_number_and_channel():
    crops = random_crops("uint8", 300)
    crops[[3, 280], 0] = 9
    crops[:, 1] = 0  # a dark marker is suspicious, but there is still a protein to measure
    notes = load(Planted(crops)).notes
    assert any(note.startswith("2 of 300 cells") and "GFP" in note for note in notes)
    assert any(note.startswith("300 of 300 cells") and "nucleus" in note for note in notes)
    assert load(Planted(random_crops("uint8", 300), name="fine")).notes == ()


def test_a_dataset_that_is_not_available_gives_its_own_reason():
    dataset = Planted(random_crops("uint8"))
    dataset.reason = "ask its authors"
    with pytest.raises(UserError, match="'planted' is not available: ask its authors"):
        load(dataset)


# ---- damage


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def chunk(folder: Path) -> Path:
    return next(p for p in (folder / "crops.zarr").rglob("*") if p.is_file() and p.name != "zarr.json")


DAMAGES = {
    "a truncated chunk": lambda folder: truncate(chunk(folder)),
    "a missing chunk": lambda folder: chunk(folder).unlink(),
    "truncated metadata": lambda folder: truncate(folder / "crops.zarr" / "zarr.json"),
    "a truncated table": lambda folder: truncate(folder / "obs.parquet"),
    "no description": lambda folder: (folder / "store.json").unlink(),
    "a truncated description": lambda folder: truncate(folder / "store.json"),
    "another schema": lambda folder: (folder / "store.json").write_text(
        (folder / "store.json").read_text().replace('"schema": 1', '"schema": 99')
    ),
    "no array": lambda folder: shutil.rmtree(folder / "crops.zarr"),
    "a foreign folder": lambda folder: (shutil.rmtree(folder), folder.mkdir(), (folder / "holiday.jpg").touch()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_store_is_named_and_built_again(damage):
    dataset, heard = Planted(random_crops("uint8")), Heard()
    whole = load(dataset)
    damage(store_folder(dataset))
    with pytest.raises(BrokenStoreError):
        open_store(store_folder(dataset))
    again = load(dataset, progress=heard)
    assert dataset.built == 2
    assert again.sha256 == whole.sha256
    np.testing.assert_array_equal(again.crops(slice(None)), whole.crops(slice(None)))
    (sentence,) = heard.sentences
    assert str(store_folder(dataset)) in sentence
    assert "built again" in sentence


def test_a_file_where_the_store_should_be_is_a_sentence_and_stays():
    dataset = Planted(random_crops("uint8"))
    folder = store_folder(dataset)
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    with pytest.raises(UserError, match="is a file, not a folder") as error:
        load(dataset)
    assert str(folder) in str(error.value)
    assert folder.read_text() == "in the way"


def test_a_build_that_breaks_off_leaves_nothing_and_can_be_tried_again(cache):
    dataset = Planted(random_crops("uint8"), [300, N - 300])
    dataset.fails_after = 300
    with pytest.raises(UserError, match="failed after 300 cells: RuntimeError: the power went off"):
        load(dataset)
    left = [p for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"]
    assert left == []
    assert not list(cache.rglob(".writing-*"))
    dataset.fails_after = None
    assert len(load(dataset)) == N


def test_a_stage_ends_when_a_build_breaks_off():
    """A progress bar on a terminal must not live on while the error is printed."""
    from contextlib import contextmanager

    events = []

    class Bars(Progress):
        @contextmanager
        def stage(self, title, total=None):
            try:
                yield lambda n: None
            finally:
                events.append("closed")

    dataset = Planted(random_crops("uint8"), [300, N - 300])
    dataset.fails_after = 300
    try:
        load(dataset, progress=Bars())
    except UserError:
        assert events == ["closed"]
    else:
        pytest.fail("the build was meant to break off")


def test_a_rebuilt_store_of_a_changed_source_lies_beside_the_old_one():
    dataset = Planted(random_crops("uint8"))
    dataset.source_fingerprint = lambda: "monday"
    load(dataset)
    monday = store_folder(dataset)
    dataset.source_fingerprint = lambda: "tuesday"
    load(dataset)
    assert dataset.built == 2
    assert monday != store_folder(dataset)
    assert monday.is_dir()


def test_a_store_can_be_read_by_the_group_as_other_files_can(cache):
    dataset = Planted(random_crops("uint8", 4))
    before = os.umask(0o022)
    try:
        load(dataset)
    finally:
        os.umask(before)
    assert store_folder(dataset).stat().st_mode & 0o777 == 0o755


def test_two_processes_that_want_the_same_dataset_build_it_once_and_both_have_it(cache, tmp_path):
    script = tmp_path / "load.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from pathlib import Path
            import numpy as np, pandas as pd
            from pci_bench.data.cells import Channel, DatasetMeta
            from pci_bench.api.dataset import Dataset
            from pci_bench.api.loading import load
            from pci_bench.system import files
            from pci_bench.system.progress import Progress

            here, me = Path(sys.argv[1]), sys.argv[2]
            files.SECONDS_BEFORE_SAYING = 0.1

            def wait_for(pattern, number):
                patience = time.monotonic() + 60
                while len(list(here.glob(pattern))) < number:
                    assert time.monotonic() < patience, pattern
                    time.sleep(0.01)  # between two looks

            class Waiting(Progress):
                def say(self, sentence):
                    (here / f"waiting-{me}").write_text(sentence)

            class Slow(Dataset):
                meta = DatasetMeta("slow", "1", "Slow")
                def unavailable_reason(self): return None
                def build(self, store):
                    (here / f"built-by-{me}").touch()
                    obs = pd.DataFrame({"cell": ["a", "b"], "image": "i"})
                    store.begin(obs, (Channel("GFP", "protein"),), crop_shape=(2, 2), dtype="uint8")
                    wait_for("waiting-*", 1)
                    store.add(np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2))

            (here / f"ready-{me}").touch()
            wait_for("ready-*", 2)
            print(load(Slow(), progress=Waiting()).sha256)
            """
        )
    )
    command = [sys.executable, str(script), str(tmp_path)]
    both = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("one", "two")]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert printed[0] == printed[1] != ""
    assert len(list(tmp_path.glob("built-by-*"))) == 1


# ---- generated data have one checksum on every processor


def test_pixels_unlike_the_shipped_checksum_are_refused_and_nothing_is_kept(monkeypatch):
    crops, masks = random_crops("uint16"), np.ones((N, 4, 6), np.uint16)
    planted = Planted(crops, masks=masks)
    planted.checksum = pixel_checksum(crops, masks)
    load(planted)
    assert verify(planted)
    with monkeypatch.context() as patched:  # as after an update of the package that ships another checksum
        patched.setattr("pci_bench.api.loading.shipped_checksum", lambda name, source: "0" * 64)
        with pytest.raises(UserError, match="no longer holds what was written"):
            verify(planted)
    other = Planted(crops, masks=masks, name="other")
    other.checksum = planted.checksum
    other.masks = masks.copy()
    other.masks[-1, -1, -1] = 0
    with pytest.raises(UserError, match="drawn on this machine have the checksum"):
        load(other)
    assert not store_folder(other).exists()


@pytest.mark.parametrize("batches", [[N], [1, 255, 257, N - 513], [20] * (N // 20) + [N % 20]], ids=str)
def test_crops_of_very_many_cells_lie_in_few_files_and_are_the_same_dataset(monkeypatch, tmp_path, batches):
    crops, masks = random_crops("uint16"), np.random.default_rng(2).integers(0, 60000, (N, 4, 6)).astype(np.uint16)
    in_chunks = load(Planted(crops, masks=masks))
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "sharded"))
    monkeypatch.setattr(store, "MIN_SHARDED_CELLS", N)
    monkeypatch.setattr(store, "CELLS_PER_SHARD", 2 * store.CELLS_PER_CHUNK)
    dataset = Planted(crops, batches, masks=masks)
    in_shards = load(dataset)
    assert in_shards.sha256 == in_chunks.sha256 == verify(dataset)
    np.testing.assert_array_equal(in_shards.stored(slice(None)), crops)
    index = np.random.default_rng(5).integers(0, N, 300)
    np.testing.assert_array_equal(in_shards.crops(index, rescale="raw", masks=True)[:, 2], masks[index])
    files = sorted((store_folder(dataset) / "crops.zarr" / "c").rglob("[0-9]"))
    assert len([f for f in files if f.is_file()]) == -(-N // (2 * store.CELLS_PER_CHUNK))


def test_a_flipped_bit_in_a_shard_is_found(monkeypatch):
    monkeypatch.setattr(store, "MIN_SHARDED_CELLS", N)
    monkeypatch.setattr(store, "CELLS_PER_SHARD", 2 * store.CELLS_PER_CHUNK)
    dataset = Planted(random_crops("uint8"))
    load(dataset)
    shard = max((store_folder(dataset) / "crops.zarr" / "c").rglob("*"), key=lambda f: f.is_file() * f.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        load(dataset).stored(slice(None))
