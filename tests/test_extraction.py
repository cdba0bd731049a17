"""From cells to features: the same numbers every time, computed once, and every refusal a sentence."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import anndata
import emulated_cpu
import numpy as np
import pandas as pd
import pytest
from factories import FEATURE_FILES, with_pixels, write_features
from scipy.stats import kstest, norm

from pci_bench import Dataset, Extractor, Segmenter, UserError, extract, load_dataset, register_features
from pci_bench.api import loading
from pci_bench.api.extractor import EXTRACTORS, ExtractorMeta
from pci_bench.api.plugins import load_plugin
from pci_bench.api.segmenter import SegmenterMeta
from pci_bench.api.skipped import Skipped
from pci_bench.data.cells import Cells, Channel, DatasetMeta, subsample
from pci_bench.features import compute, jobs
from pci_bench.features.extraction import ExtractionOptions, compute_features
from pci_bench.features.names import known_feature_sets, parse, select
from pci_bench.segmentation import register_segmenter
from pci_bench.system.files import atomic_file
from pci_bench.system.progress import Progress
from pci_bench.weights import overwriting, save

GFP, RFP = Channel("GFP", "protein"), Channel("RFP", "marker")


class Heard(Progress):
    def __init__(self):
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


class Counting(Extractor):
    """Two outputs of every crop's pixels, the number of crops seen, and a failure on demand."""

    def __init__(self):
        self.meta = ExtractorMeta("counting", "1", "Counting", {"mean": "", "peak": ""}, rescale="raw", batch=4)
        self.seen = self.opened = 0
        self.fail_after: int | None = None
        self.error: BaseException = RuntimeError("the power went off")

    def unavailable_reason(self, cells):
        return None

    def names(self, output, channels, weights=None):
        return [f"{output} {c.name}" for c in channels]

    def open(self, channels, weights, device):
        self.opened += 1

        def compute(crops, outputs):
            if self.fail_after is not None and self.seen >= self.fail_after:
                raise self.error
            self.seen += int((crops != 0).any(axis=(1, 2, 3)).sum())  # what fills the last batch is zeros
            assert crops.shape[0] == self.meta.batch
            assert crops.dtype == np.float32
            found = {"mean": crops.mean(axis=(2, 3)), "peak": crops.max(axis=(2, 3))}
            return {output: found[output] for output in outputs}

        return compute


@pytest.fixture
def counting(own_registries) -> Counting:
    extractor = Counting()
    EXTRACTORS.register("counting", extractor)
    return extractor


@pytest.fixture
def small_parts(monkeypatch) -> int:
    monkeypatch.setattr(jobs, "CELLS_PER_BLOCK", 8)
    return 8


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype == np.float32 and one.tobytes() == other.tobytes()


# ---- the same numbers


@pytest.mark.parametrize("name", ["pci-random-conv1", "pci-random-conv5", "intensity", "raw-pixels", "noise"])
def test_a_cells_features_are_bit_equal_in_any_order_subset_and_limit(toy_cache, monkeypatch, tmp_path, name):
    rng = np.random.default_rng(0)
    cells = load_dataset("toy-yeast")[rng.permutation(1642)[:21]]
    whole = np.asarray(extract(name, cells).X)
    row = {cell: i for i, cell in enumerate(cells.obs["cell"])}
    views = [cells[::-1], cells[rng.permutation(21)], cells[3:20], cells[[20]], subsample(cells, 12, 1)]
    assert len({view.sha256 for view in views} | {cells.sha256}) == 6  # none comes from another's cache
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "another"))  # where nothing of the whole is kept
    for view in views:
        found = extract(name, view)
        assert same_bits(np.asarray(found.X), whole[[row[c] for c in found.obs_names]])


def test_parts_do_not_change_the_numbers(toy_cache, monkeypatch):
    cells = load_dataset("toy-human")[:21]
    whole = np.asarray(extract("pci-random-conv3", cells).X)
    monkeypatch.setattr(jobs, "CELLS_PER_BLOCK", 5)
    assert same_bits(np.asarray(extract("pci-random-conv3", cells, refresh="always").X), whole)


class Tiny(Dataset):
    """More cells than one part, of few pixels."""

    meta = DatasetMeta("tiny", "1", "Tiny")

    def unavailable_reason(self):
        return None

    def build(self, writer):
        n = jobs.CELLS_PER_BLOCK + 60
        crops = np.random.default_rng(0).integers(0, 256, (n, 2, 4, 4), dtype=np.uint8)
        obs = pd.DataFrame({"cell": [f"c{i}" for i in range(n)], "image": "i"})
        writer.begin(obs, (GFP, RFP), crop_shape=(4, 4), dtype="uint8")
        writer.add(crops)


PLUGIN = """
from pci_bench import register_features


@register_features("spread", version="1", rescale="raw", names=lambda channels: [c.name for c in channels])
def spread(crops):
    return crops.max(axis=(2, 3)) - crops.min(axis=(2, 3))
"""


PLUGIN_OF_PROCESSES = """
import os
import numpy as np
from pci_bench import register_features


@register_features("who", version="1", rescale="raw", names=lambda channels: ["process"], processes=True)
def who(crops):
    return np.full((len(crops), 1), os.getpid() % 100_003)
"""


def test_several_workers_give_the_same_bits_as_one_also_in_another_cache_and_with_a_plugin_file(
    tmp_path, monkeypatch, own_registries
):
    monkeypatch.setattr(compute, "available_cores", lambda: 2)
    (tmp_path / "mine.py").write_text(PLUGIN)
    load_plugin(tmp_path / "mine.py")
    wanted = select(["pci-conv5@mine", "spread"])
    found = {}
    for place, workers in (("one", 1), ("two", 2), ("three", 2)):
        monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / place))  # worker processes outlive a call
        weights_of(2, ("protein", "marker"), "mine")
        cells = loading.load(Tiny())
        found[place] = {
            str(f): np.asarray(a.X)
            for f, a in compute_features(wanted, cells, ExtractionOptions(workers=workers, batch=24)).items()
        }
    for name, values in found["one"].items():
        assert len(values) > jobs.CELLS_PER_BLOCK
        assert same_bits(found["two"][name], values), name
        assert same_bits(found["three"][name], values), name
    raw = cells.crops(slice(None), rescale="raw")
    np.testing.assert_array_equal(found["two"]["spread"], raw.max(axis=(2, 3)) - raw.min(axis=(2, 3)))


def test_a_random_encoder_is_the_same_in_every_process(make_cells, tmp_path):
    here = np.asarray(extract("pci-random-conv3", make_cells(5)).X)
    np.save(tmp_path / "crops.npy", make_cells(5).crops(slice(None), rescale="raw"))
    code = f"""
        import numpy as np, pandas as pd
        from pci_bench.data.cells import Cells, Channel, DatasetMeta
        from pci_bench import extract
        crops = np.load({str(tmp_path / "crops.npy")!r})
        obs = pd.DataFrame({{"cell": [str(i) for i in range(5)], "image": "i"}})
        channels = (Channel("GFP", "protein"), Channel("RFP", "marker"))
        np.save({str(tmp_path / "there.npy")!r}, extract("pci-random-conv3", Cells(obs, channels, DatasetMeta("d", "1", "t"), "x", crops)).X)
    """
    env = {**os.environ, "PCI_BENCH_CACHE": str(tmp_path / "other cache"), "PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=env, timeout=120)
    there = np.load(tmp_path / "there.npy")
    assert here.any(axis=1).all()
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-6 * here.max())


# ---- computed once


def test_what_is_in_the_cache_is_not_computed_again(counting, make_cells):
    cells = make_cells(10)
    first = compute_features(select(["counting"]), cells)
    assert (counting.seen, counting.opened) == (10, 1)  # one pass for both outputs
    second = compute_features(select(["counting"]), cells)
    assert (counting.seen, counting.opened) == (10, 1)
    for features, adata in first.items():
        assert same_bits(np.asarray(second[features].X), np.asarray(adata.X))
        assert list(second[features].var_names) == list(adata.var_names)
        pd.testing.assert_frame_equal(second[features].obs, adata.obs)
        assert second[features].uns["pci_bench"] == adata.uns["pci_bench"]


def test_only_the_output_that_lacks_is_computed(counting, make_cells):
    cells = make_cells(10)
    extract("counting-mean", cells)
    asked = []
    compute = counting.open((GFP, RFP), None, "cpu")
    counting.open = lambda *_: lambda crops, outputs: asked.append(set(outputs)) or compute(crops, outputs)
    compute_features(select(["counting"]), cells)
    assert asked
    assert all(outputs == {"peak"} for outputs in asked)


def test_another_version_and_other_cells_are_other_numbers(counting, make_cells):
    extract("counting-mean", make_cells(10))
    counting.meta = dataclasses.replace(counting.meta, version="2")
    extract("counting-mean", make_cells(10))
    assert counting.seen == 20
    extract("counting-mean", make_cells(10, seed=5))
    assert counting.seen == 30


@pytest.mark.parametrize("error", [RuntimeError("off"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_after_a_break_only_the_rest_is_computed(counting, small_parts, make_cells, cache, error):
    cells = make_cells(27)
    counting.fail_after, counting.error = 20, error  # in the third part
    with pytest.raises((UserError, KeyboardInterrupt)):
        extract("counting-mean", cells)
    assert counting.seen == 20
    assert not list(cache.rglob("*.h5ad"))
    assert not list(cache.rglob(".writing-*"))
    counting.fail_after, counting.seen = None, 0
    found = extract("counting-mean", cells)
    assert counting.seen == 27 - 2 * small_parts
    np.testing.assert_allclose(
        np.asarray(found.X), cells.crops(slice(None), rescale="raw").mean(axis=(2, 3)), rtol=1e-5
    )
    assert not list(cache.rglob("*.npy"))  # the parts are gone


def test_work_is_kept_by_time_within_a_block_and_equal_for_outputs_of_which_one_lacks(
    counting, make_cells, cache, monkeypatch
):
    monkeypatch.setattr(compute, "SECONDS_PER_PART", -1.0)  # every batch of 4 is a part
    cells = make_cells(27)
    both = [parse("counting-mean"), parse("counting-peak")]
    counting.fail_after = 20
    with pytest.raises(UserError, match="the power went off"):
        compute_features(both, cells)
    parts = sorted(f for f in cache.rglob("*.npy") if "mean" in str(f))
    assert [f.name for f in parts] == [f"{i:08d}-{i + 4:08d}.npy" for i in range(0, 20, 4)]
    parts[-1].unlink()  # as if it was killed after the first of two outputs was written
    counting.fail_after, counting.seen = None, 0
    monkeypatch.setattr(compute, "SECONDS_PER_PART", 1000.0)
    found = compute_features(both, cells)
    assert counting.seen == 27 - 16
    for features, reduced in zip(both, (np.mean, np.max), strict=True):
        expected = reduced(cells.crops(slice(None), rescale="raw"), axis=(2, 3))
        np.testing.assert_allclose(np.asarray(found[features].X), expected, rtol=1e-5)
    assert not list(cache.rglob("*.npy"))


def test_other_masks_are_other_features_also_of_a_part_of_the_cells(make_cells, own_registries):
    area = "area-of-a-mask"

    @register_features(area, version="1", masks=True, names=lambda channels: ["area"])
    def measured(crops):
        return (crops[:, -1] == 1).sum(axis=(1, 2))[:, None].astype(np.float32)

    cells = with_pixels(make_cells(10), "one mask", masks=np.ones((10, 16, 16), np.uint16))
    assert np.asarray(extract(area, cells).X).tolist() == [[256.0]] * 10
    others = cells[:4].with_masks(np.zeros((4, 16, 16), np.uint16), "other masks")
    assert np.asarray(extract(area, others).X).tolist() == [[0.0]] * 4


def test_a_part_of_the_cells_takes_what_is_kept_of_all(counting, make_cells, cache):
    cells = make_cells(40)
    whole = extract("counting-mean", cells)
    few = subsample(cells, 12, 3)[::-1]
    found = extract("counting-mean", few[2:9])
    assert counting.seen == 40
    assert list(found.obs_names) == list(few.obs["cell"])[2:9]
    assert same_bits(np.asarray(found.X), np.asarray(whole[found.obs_names].X))
    cached_file(cache).write_bytes(b"damaged")
    heard = Heard()
    compute_features([parse("counting-mean")], few, progress=heard)
    assert counting.seen == 40 + len(few)
    assert "It is not used." in heard.sentences[0]


def test_every_row_is_of_its_own_cell_where_a_block_is_read_in_several_pieces(counting, make_cells):
    cells = make_cells(1300)  # 512 crops are read at once
    values = np.asarray(extract("counting-mean", cells).X)
    last = cells[np.arange(1200, 1300)]
    assert same_bits(values[1200:], np.asarray(extract("counting-mean", last, refresh="always").X))
    assert len(np.unique(values[:, 0])) > 1000


def test_a_part_that_another_process_is_writing_is_not_counted(counting, make_cells):
    cells = make_cells(10)
    job = jobs.job_of(parse("counting-mean"), cells, "otsu")
    job.parts.mkdir(parents=True)
    assert job.cells_in_parts() == 0
    job.part(0, 4).write_bytes(b"")
    with atomic_file(job.part(4, 8)) as unfinished:
        assert unfinished.is_file()
        assert job.spans() == [(0, 4)]
        assert job.cells_in_parts() == 4
    assert job.spans() == [(0, 4), (4, 8)]


def shorter(content: bytes) -> bytes:
    """A whole file of fewer cells."""
    stream = io.BytesIO()
    np.save(stream, np.load(io.BytesIO(content))[:-1])
    return stream.getvalue()


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-100], lambda content: b"", lambda content: b"x" * 500, shorter]
)
def test_a_damaged_part_is_computed_again(counting, small_parts, make_cells, cache, damage):
    cells = make_cells(27)
    counting.fail_after = 20
    with pytest.raises(UserError, match="the power went off"):
        extract("counting-mean", cells)
    part = sorted(cache.rglob("*.npy"))[0]
    part.write_bytes(damage(part.read_bytes()))
    counting.fail_after, counting.seen = None, 0
    found = extract("counting-mean", cells)
    assert counting.seen == 27 - small_parts
    np.testing.assert_allclose(
        np.asarray(found.X), cells.crops(slice(None), rescale="raw").mean(axis=(2, 3)), rtol=1e-5
    )


def test_refresh_always_computes_all_anew_and_never_computes_nothing(counting, small_parts, make_cells):
    cells = make_cells(20)
    feature_set = parse("counting-mean")
    nothing = compute_features([feature_set], cells, ExtractionOptions(refresh="never"))[feature_set]
    assert isinstance(nothing, Skipped)
    assert "not in the cache" in nothing.reason
    assert counting.seen == 0
    with pytest.raises(UserError, match="not in the cache"):
        extract("counting-mean", cells, refresh="never")
    counting.fail_after = 10
    with pytest.raises(UserError, match="the power went off"):
        extract("counting-mean", cells)
    counting.fail_after, counting.seen = None, 0
    extract("counting-mean", cells, refresh="always")  # the part that is there does not count
    assert counting.seen == 20
    extract("counting-mean", cells, refresh="always")
    assert counting.seen == 40
    assert extract("counting-mean", cells, refresh="never").n_obs == 20


def cached_file(cache: Path) -> Path:
    (file,) = cache.rglob("*.h5ad")
    return file


def reorder(file: Path) -> None:
    adata = anndata.read_h5ad(file)
    adata[::-1].copy().write_h5ad(file)


def foreign(file: Path) -> None:
    anndata.AnnData(np.zeros((10, 2), np.float32)).write_h5ad(file)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text("a shopping list"),
        foreign,
        reorder,
    ],
    ids=["truncated", "empty", "text", "foreign", "other cells"],
)
def test_a_cache_file_that_is_damaged_or_foreign_is_named_and_made_again(counting, make_cells, cache, damage):
    cells, heard = make_cells(10), Heard()
    before = np.asarray(extract("counting-mean", cells).X)
    damage(cached_file(cache))
    after = extract("counting-mean", cells, progress=heard)
    assert counting.seen == 20
    assert same_bits(np.asarray(after.X), before)
    assert any(str(cached_file(cache)) in s and "made again" in s for s in heard.sentences)
    extract("counting-mean", cells)
    assert counting.seen == 20


def test_two_at_once_compute_once(counting, make_cells):
    cells = make_cells(30)
    found = []
    threads = [threading.Thread(target=lambda: found.append(extract("counting-mean", cells))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert counting.seen == 30
    assert len(found) == 3
    assert len({np.asarray(a.X).tobytes() for a in found}) == 1


# ---- what comes out


def test_features_come_with_the_cells_table_names_and_where_they_are_from(counting, make_cells, cache):
    label = ["A", "B", None, "A", "B", "A"]
    cells = make_cells(6, label=label, note=["x", None, "y", "z", "", "w"], dose=[1, 2, 3, 4, 5, 6.5])
    for adata in (extract("counting-mean", cells), anndata.read_h5ad(cached_file(cache))):
        assert adata.X.dtype == np.float32
        np.testing.assert_allclose(adata.X, cells.crops(slice(None), rescale="raw").mean(axis=(2, 3)), rtol=1e-5)
        assert list(adata.var_names) == ["mean GFP", "mean RFP"]
        assert list(adata.obs_names) == list(adata.obs["cell"]) == [f"cell{i}" for i in range(6)]
        assert adata.obs["label"].isna().tolist() == [value is None for value in label]
        assert adata.obs["dose"].tolist() == [1, 2, 3, 4, 5, 6.5]
        assert adata.obs["note"].tolist() == ["x", "", "y", "z", "", "w"]
        provenance = adata.uns["pci_bench"]
        assert provenance["dataset"]["sha256"] == cells.sha256
        assert provenance["dataset"]["confounder"] == "image"
        assert provenance["features"]["name"] == "counting-mean"
        assert provenance["features"]["version"] == "1"
        assert provenance["features"]["precision"] == "float32"
        assert provenance["device"]


def test_column_names_are_known_before_any_cell_and_as_many_as_the_numbers(make_cells):
    human = (Channel("antibody", "protein"), Channel("nucleus", "marker", 0.05), Channel("tubules", "marker", 0.05))
    for channels in ((GFP, RFP), human):
        cells = make_cells(3, channels=channels)
        for name in ("intensity", "raw-pixels", *(f"pci-random-conv{i}" for i in range(1, 6))):
            feature_set = known_feature_sets()[name]
            names = feature_set.extractor().names(feature_set.output, channels)
            assert len(set(names)) == len(names)
            adata = extract(name, cells)
            columns = len(names) // 4 if name.startswith("pci-random") else len(names)  # a quarter of the full width
            assert adata.shape == (3, columns)
            assert list(adata.var_names) == names[:columns]


def test_no_cells_are_a_sentence(counting, make_cells):
    with pytest.raises(UserError, match="no cells"):
        extract("counting-mean", make_cells(4)[np.zeros(4, bool)])


@pytest.mark.parametrize(
    ("options", "sentence"), [({"workers": 0}, "at least 1"), ({"device": "tpu"}, "auto, cpu, cuda")]
)
def test_a_wrong_option_is_a_sentence(counting, make_cells, options, sentence):
    with pytest.raises(UserError, match=sentence):
        extract("counting-mean", make_cells(4), **options)


# ---- a feature set of one's own, and what can be wrong with it


def test_ten_lines_in_a_plugin_file_are_a_feature_set(own_registries, tmp_path, make_cells):
    (tmp_path / "mine.py").write_text(PLUGIN)
    load_plugin(tmp_path / "mine.py")
    cells = make_cells(7)
    adata = extract("spread", cells)
    crops = cells.crops(slice(None), rescale="raw")
    np.testing.assert_array_equal(adata.X, crops.max(axis=(2, 3)) - crops.min(axis=(2, 3)))
    assert list(adata.var_names) == ["GFP", "RFP"]
    assert len((tmp_path / "mine.py").read_text().strip().splitlines()) <= 10


def flawed(function, names=("a", "b")):
    register_features("flawed", version="1", rescale="raw", names=lambda channels: list(names), batch=4)(function)


def nan_where_bright(crops):
    values = crops.mean(axis=(2, 3))
    values[crops.max(axis=(1, 2, 3)) > 4, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("function", "names", "parts"),
    [
        (nan_where_bright, ("a", "b"), ["flawed", "NaN", "'cell6'"]),
        (lambda crops: crops.mean(axis=(2, 3)), ("a",), ["flawed", "declares 1 columns but computed 2", "names()"]),
        (lambda crops: crops.mean(axis=(1, 2, 3)), ("a",), ["flawed", "(4,)", "(4, d)"]),
        (lambda crops: crops[:2].mean(axis=(2, 3)), ("a", "b"), ["flawed", "(2, 2)", "(4, d)"]),
        (lambda crops: crops, ("a", "b"), ["flawed", "(4, 2, 16, 16)", "(4, d)"]),
        (lambda crops: None, ("a", "b"), ["flawed", "gave nothing", "(4, d)"]),
    ],
    ids=["nan", "names", "flat", "rows", "pixels", "nothing"],
)
def test_a_feature_set_that_computes_wrongly_is_named(own_registries, make_cells, cache, function, names, parts):
    crops = make_cells(10).crops(slice(None), rescale="raw")
    crops[6, 0, 0, 0] = 5
    flawed(function, names)
    with pytest.raises(UserError) as error:
        extract("flawed", make_cells(crops=crops))
    for part in parts:
        assert part in str(error.value)
    assert not list(cache.rglob("*.h5ad"))  # a failure is never cached


# ---- what cannot be had is data


def not_run(name: str, cells: Cells) -> Skipped:
    (result,) = compute_features(select([name]), cells).values()
    assert isinstance(result, Skipped), f"{name} was run"
    return result


def weights_of(channels: int, roles: tuple[str, ...], name: str, seed: int = 0) -> Path:
    import torch

    from pci_bench.inpainting import PairedCellInpainting

    torch.manual_seed(seed)
    network = PairedCellInpainting(1, channels - 1, 1 / 16)
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    return save("pci", name, state, channels=roles, config=network.config, source="a test")


def test_why_a_feature_set_cannot_be_had_is_said_with_the_command(make_cells):
    one = make_cells(3, channels=(GFP,))
    assert "needs a marker channel" in not_run("pci-random-conv3", one).reason
    assert "divisible by 4" in not_run("pci-random-conv3", make_cells(3, (10, 16))).reason
    reason = not_run("pci-conv4@lu2019-yeast", make_cells(3)).reason
    assert "not here yet. Run `pci-bench weights get pci@lu2019-yeast`" in reason
    assert "`pci-bench weights list`" in not_run("pci-conv4@mine", make_cells(3)).reason
    default = not_run("pci-conv4", make_cells(3)).reason
    assert "has none of its own" in default
    assert "pci-conv4@NAME" in default
    weights_of(3, ("protein", "marker", "marker"), "human")
    unfit = not_run("pci-conv4@human", make_cells(3)).reason
    assert "protein + marker + marker" in unfit
    assert "have protein + marker" in unfit


def test_the_datasets_default_weights_are_named_in_full(make_cells):
    (name,) = compute_features(select(["pci-conv4"]), make_cells(3, name="chong2015"))
    assert str(name) == "pci-conv4@lu2019-yeast"
    (name,) = compute_features(select(["pci-conv4"]), make_cells(3, name="toy-human"))
    assert str(name) == "pci-conv4@lu2019-human"


def test_the_papers_weights_are_preferred_to_the_shipped_ones_once_they_are_imported(make_cells):
    cells = make_cells(3, name="toy-yeast")
    (shipped,) = compute_features(select(["pci-conv4"]), cells)
    weights_of(2, ("protein", "marker"), "lu2019-yeast")
    (imported,) = compute_features(select(["pci-conv4"]), cells)
    assert [str(shipped), str(imported)] == ["pci-conv4@yeast-sim", "pci-conv4@lu2019-yeast"]


def test_what_cannot_be_had_does_not_stop_what_can(make_cells):
    asked = ["pci-conv4@mine", "intensity", "pci-random-conv3@seed0", "raw-pixels"]
    found = compute_features(select(asked), make_cells(3, channels=(GFP,)))
    assert [str(f) for f in found] == asked
    assert [isinstance(r, Skipped) for r in found.values()] == [True, False, True, False]


@pytest.fixture
def two_segmenters(own_registries):
    """The left half, and nothing because it is not installed."""

    @register_segmenter("left-half")
    class LeftHalf(Segmenter):
        meta = SegmenterMeta("left-half", "1", "The left half of every crop")

        def unavailable_reason(self):
            return None

        def open(self, channels, device):
            def segment(crops):
                masks = np.zeros((len(crops), *crops.shape[2:]), np.uint16)
                masks[:, :, : crops.shape[3] // 2] = 1
                return masks

            return segment

    @register_segmenter("elsewhere")
    class Elsewhere(LeftHalf):
        meta = SegmenterMeta("elsewhere", "1", "Not here")

        def unavailable_reason(self):
            return "it is not installed: pip install elsewhere"


def area_of_the_mask():
    register_features("area", version="1", rescale="raw", names=lambda channels: ["area"], masks=True)(
        lambda crops: (crops[:, -1] > 0).sum(axis=(1, 2))[:, None]
    )


def test_a_mask_of_the_dataset_wins_over_a_segmenter(two_segmenters, make_cells):
    area_of_the_mask()
    cells = make_cells(3)
    labels = np.zeros((3, 16, 16), np.uint16)
    labels[1, :2, :3] = 7
    masked = with_pixels(cells, "with masks", masks=labels)
    adata = extract("area", masked, segmenter="left-half")
    assert adata.X.ravel().tolist() == [0, 6, 0]
    assert adata.uns["pci_bench"]["features"]["masks"] == "of the dataset"
    adata = extract("area", cells, segmenter="left-half")
    assert adata.X.ravel().tolist() == [128, 128, 128]
    assert adata.uns["pci_bench"]["features"]["masks"] == "left-half"


def test_masks_that_a_simulation_drew_from_are_used_by_what_asks_for_them_only(two_segmenters, make_cells):
    area_of_the_mask()
    register_features(
        "true-area", version="1", rescale="raw", names=lambda channels: ["area"], masks=True, simulated_masks=True
    )(lambda crops: (crops[:, -1] > 0).sum(axis=(1, 2))[:, None])
    cells = make_cells(3)
    labels = np.zeros((3, 16, 16), np.uint16)
    labels[1, :2, :3] = 7
    simulated = with_pixels(cells, "simulated", masks=labels).with_meta(
        dataclasses.replace(cells.meta, simulated_masks=True)
    )
    assert extract("area", simulated, segmenter="left-half").X.ravel().tolist() == [128, 128, 128]
    assert extract("true-area", simulated, segmenter="left-half").X.ravel().tolist() == [0, 6, 0]
    real = with_pixels(cells, "real", masks=labels)
    (found,) = compute_features(select(["true-area"]), real, ExtractionOptions(segmenter="left-half")).values()
    assert "true masks of simulated cells" in found.reason


def test_features_of_another_segmenter_are_other_features(two_segmenters, make_cells):
    area_of_the_mask()
    cells = make_cells(3)
    keys = {extract("area", cells, segmenter=s).uns["pci_bench"]["key"] for s in ("left-half", "otsu-watershed")}
    assert len(keys) == 2


def test_features_that_need_masks_are_not_run_where_no_segmenter_can(two_segmenters, make_cells):
    area_of_the_mask()
    (found,) = compute_features(select(["area"]), make_cells(3), ExtractionOptions(segmenter="elsewhere")).values()
    assert "pip install elsewhere" in found.reason


def test_changed_weights_under_one_name_are_other_features(make_cells):
    cells = make_cells(4)
    weights_of(2, ("protein", "marker"), "mine", seed=1)
    first = extract("pci-conv4@mine", cells)
    with overwriting():
        weights_of(2, ("protein", "marker"), "mine", seed=2)
    second = extract("pci-conv4@mine", cells)
    assert not np.array_equal(first.X, second.X)
    hashes = [a.uns["pci_bench"]["features"]["weights_sha256"] for a in (first, second)]
    assert hashes[0] != hashes[1]
    assert hashes[1] == hashlib.sha256(weights_of(2, ("protein", "marker"), "mine", seed=2).read_bytes()).hexdigest()


# ---- the controls


def test_intensity_is_what_a_loop_over_raw_pixels_finds(make_cells):
    crops = np.random.default_rng(3).integers(0, 60000, (9, 2, 12, 10)).astype(np.uint16)
    adata = extract("intensity", make_cells(crops=crops))
    for cell in range(9):
        for c, channel in enumerate(("GFP", "RFP")):
            pixels = crops[cell, c].astype(np.float64).ravel() / 65535
            expected = {"mean": sum(pixels) / 120, "sd": np.sqrt(((pixels - pixels.mean()) ** 2).sum() / 120), "min": min(pixels), "max": max(pixels)}  # fmt: skip
            for statistic, value in expected.items():
                assert adata[cell, f"{channel}_{statistic}"].X.item() == pytest.approx(value, rel=1e-5)


def test_raw_pixels_are_block_means_of_rescaled_crops(make_cells):
    cells = make_cells(5, (64, 32))
    blocks = cells.crops(slice(None)).reshape(5, 2, 16, 4, 16, 2).mean(axis=(3, 5))
    adata = extract("raw-pixels", cells)
    np.testing.assert_allclose(adata.X, blocks.reshape(5, -1), rtol=1e-5)
    assert adata[2, "RFP_3_11"].X.item() == pytest.approx(blocks[2, 1, 3, 11], rel=1e-5)


@pytest.mark.parametrize("shape", [(16, 16), (17, 40), (8, 100), (4, 4)])
def test_raw_pixels_of_any_size_are_means_of_the_pixels_in_each_block(make_cells, shape):
    cells = make_cells(3, shape)
    crops = cells.crops(slice(None))
    found = np.asarray(extract("raw-pixels", cells).X).reshape(3, 2, 16, 16)
    for i in range(16):
        for j in range(16):
            (top, bottom), (left, right) = (
                (k * size // 16, max((k + 1) * size // 16, k * size // 16 + 1)) for k, size in zip((i, j), shape, strict=True)
            )  # fmt: skip
            expected = crops[:, :, top:bottom, left:right].mean(axis=(2, 3))
            np.testing.assert_allclose(found[:, :, i, j], expected, rtol=1e-4, atol=1e-6)


def test_noise_is_standard_normal_and_depends_on_the_cells_name_alone(make_cells):
    cells = make_cells(400, (4, 4))
    values = np.asarray(extract("noise", cells).X)
    assert values.shape == (400, 64)
    others = make_cells(crops=cells.crops(slice(None), rescale="raw")[::-1].copy(), seed=9)
    assert same_bits(np.asarray(extract("noise", others).X), values)
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - 1) < 0.03
    assert kstest(values.ravel(), "norm").pvalue > 0.01
    assert abs(np.corrcoef(values)[np.triu_indices(400, 1)]).max() < 0.75
    renamed = cells.obs.assign(cell=[f"other {name}" for name in cells.obs["cell"]])
    others = Cells(renamed, cells.channels, cells.meta, "renamed", cells.crops(slice(None), rescale="raw"))
    assert abs(np.corrcoef(np.asarray(extract("noise", others).X).ravel(), values.ravel())[0, 1]) < 0.03


def test_the_quantiles_of_noise_are_those_of_the_normal_distribution_in_exact_steps():
    from pci_bench_baselines.noise import quantiles

    steps = quantiles().astype(float) * 4096
    assert (steps == np.rint(steps)).all()
    np.testing.assert_allclose(steps / 4096, norm.ppf((np.arange(65536) + 0.5) / 65536), rtol=0, atol=0.5 / 4096 + 1e-9)


@emulated_cpu.needs("x86-64-v2")
def test_noise_is_the_same_to_the_last_bit_on_another_processor():
    code = """
        import hashlib
        import numpy as np
        from pci_bench_baselines.noise import noise, quantiles
        print(hashlib.sha256(quantiles()).hexdigest(), hashlib.sha256(np.stack([noise(f"cell {i}") for i in range(99)])).hexdigest())
    """
    here, there = io.StringIO(), emulated_cpu.python(textwrap.dedent(code))
    with contextlib.redirect_stdout(here):
        exec(textwrap.dedent(code), {})
    assert here.getvalue() == there


def test_marker_only_does_not_see_the_protein(make_cells):
    weights_of(2, ("protein", "marker"), "mine")
    crops = make_cells(6).crops(slice(None), rescale="raw")
    other = crops.copy()
    other[:, 0] = np.random.default_rng(9).random(other[:, 0].shape)
    seen = [
        np.asarray(extract("marker-only@mine", make_cells(crops=c, seed=i)).X) for i, c in enumerate((crops, other))
    ]
    assert same_bits(*seen)
    assert seen[0].shape == (6, 24)  # conv4 at 1/16 of its width
    moved = crops.copy()
    moved[:, 1] = moved[:, 1, ::-1]
    assert not np.array_equal(np.asarray(extract("marker-only@mine", make_cells(crops=moved, seed=2)).X), seen[0])
    whole = np.asarray(extract("pci-conv4@mine", make_cells(crops=crops)).X)
    assert not np.array_equal(whole, seen[0])


def test_marker_only_is_the_encoder_on_crops_without_protein(make_cells):
    from pci_bench.inpainting.network import load_network

    network = load_network(weights_of(2, ("protein", "marker"), "mine"))
    cells = make_cells(6)
    crops = cells.crops(slice(None))
    features = network.source_encoder.features(crops)
    np.testing.assert_allclose(extract("pci-conv2@mine", cells).X, features["conv2"], rtol=1e-5, atol=1e-6)
    crops[:, 0] = 0
    features = network.source_encoder.features(crops)
    np.testing.assert_allclose(extract("marker-only@mine", cells).X, features["conv4"], rtol=1e-5, atol=1e-6)


# ---- features that someone else computed


METADATA = {"Metadata_plate": 1, "Metadata_cell_count": 9}  # columns of a table that are no features


@pytest.mark.parametrize("kind", FEATURE_FILES)
def test_features_from_a_file_are_matched_by_the_cells_names(tmp_path, make_cells, kind):
    values = np.random.default_rng(4).normal(size=(12, 3)).astype(np.float32)
    order = np.random.default_rng(5).permutation(12)  # and two cells that the data set does not have
    names = [f"cell{i}" for i in order]
    file = write_features(tmp_path / f"mine{kind}", values, names, "abc", **METADATA)
    cells = make_cells(10)
    adata = extract(f"file:{file}", cells)
    expected = np.stack([values[list(order).index(i)] for i in range(10)])
    np.testing.assert_allclose(adata.X, expected, rtol=1e-6)
    assert list(adata.var_names) == ["a", "b", "c"]
    assert list(adata.obs_names) == list(cells.obs["cell"])
    # Other numbers in the same file are other features.
    before = adata.uns["pci_bench"]["key"]
    write_features(file, values + 1, names, "abc", **METADATA)
    after = extract(f"file:{file}", cells)
    np.testing.assert_allclose(after.X, expected + 1, rtol=1e-5)
    assert after.uns["pci_bench"]["key"] != before


@pytest.mark.parametrize("kind", FEATURE_FILES)
def test_names_that_look_like_numbers_are_matched_as_text(tmp_path, make_cells, kind):
    cells = make_cells(3, cell=["007", "7", "1e3"])
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    file = write_features(tmp_path / f"mine{kind}", values, ["7", "1e3", "007"])
    np.testing.assert_array_equal(extract(f"file:{file}", cells).X, values[[2, 0, 1]])


@pytest.mark.parametrize("kind", FEATURE_FILES)
@pytest.mark.parametrize(
    ("cells", "change", "sentence"),
    [
        (
            [0, 1, 2, 4],
            {},
            "no features for 1 of 5 cells of planted, for example 'cell3' .*the file's first is 'cell0'",
        ),
        ([0, 1, 2, 3, 4, 2], {}, "names a cell twice, for example 'cell2'"),
        ([0, 1, 2, 3, 4], {3: np.nan}, "NaN or infinite values, first for cell 'cell3' in 'b'"),
        ([0, 1, 2, 3, 4], {1: np.inf}, "NaN or infinite values, first for cell 'cell1' in 'b'"),
    ],
    ids=["missing", "twice", "nan", "infinite"],
)
def test_a_features_file_that_does_not_fit_the_cells_is_a_sentence(tmp_path, make_cells, kind, cells, change, sentence):
    values = np.ones((len(cells), 2), np.float32)
    for row, value in change.items():
        values[row, 1] = value
    file = write_features(tmp_path / f"mine{kind}", values, [f"cell{i}" for i in cells])
    with pytest.raises(UserError, match=sentence) as error:
        extract(f"file:{file}", make_cells(5))
    assert str(file) in str(error.value)


def test_a_value_that_no_cell_asked_for_may_be_missing(tmp_path, make_cells):
    values = np.array([[1, 2], [3, np.nan]], np.float32)
    file = write_features(tmp_path / "mine.npz", values, ["cell0", "elsewhere"])
    np.testing.assert_array_equal(extract(f"file:{file}", make_cells(1)).X, values[:1])


@pytest.mark.parametrize("kind", FEATURE_FILES)
@pytest.mark.parametrize(
    "content", [b"", b"neither one nor the other \xff\xfe\x00", None], ids=["empty", "other", "cut"]
)
def test_a_damaged_features_file_is_a_sentence(tmp_path, make_cells, kind, content):
    file = write_features(tmp_path / f"mine{kind}", np.ones((3, 2), np.float32), ["cell0", "cell1", "cell2"])
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3] if content is None else content)
    with pytest.raises(UserError) as error:
        extract(f"file:{file}", make_cells(3))
    assert str(file) in str(error.value)


def planted_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p / "absent.csv", "There is no features file"),
        (lambda p: p, "There is no features file"),
        (lambda p: (p / "f.xlsx").write_text("x") and p / "f.xlsx", "ends in '.xlsx'; features are read from .h5ad, .parquet, .csv, .npz"),
        (lambda p: planted_npz(p / "f.npz", X=np.ones((3, 2))), "it needs the arrays X .* and cell"),
        (lambda p: planted_npz(p / "f.npz", X=np.ones((3, 2)), cell=np.array(["a"])), "do not fit together"),
        (lambda p: planted_npz(p / "f.npz", X=np.ones(3), cell=np.array(["a", "b", "c"])), "do not fit together"),
        (lambda p: planted_npz(p / "f.npz", X=np.array([{}] * 3), cell=np.array(["a", "b", "c"])), "f.npz cannot be read"),
        (lambda p: planted_npz(p / "f.npz", X=np.ones((3, 2)), cell=np.array(["a", "b", "c"]), names=np.array(["x"])), "do not fit together"),
        (lambda p: (p / "f.csv").write_text("a,b\n1,2\n") and p / "f.csv", "no column 'Metadata_cell'"),
        (lambda p: (p / "f.csv").write_text("cell,name\ncell0,x\n") and p / "f.csv", "no numeric column"),
        (lambda p: (p / "f.csv").write_text("cell,Metadata_cell,a\nx,cell0,1\n") and p / "f.csv", "both 'cell' and 'Metadata_cell'"),
    ],
    ids=["absent", "folder", "kind", "no cell", "lengths", "flat", "objects", "names", "csv without cells", "no numbers", "two names"],
)  # fmt: skip
def test_a_features_file_of_another_kind_is_a_sentence(tmp_path, make_cells, make, sentence):
    with pytest.raises(UserError, match=sentence):
        extract(f"file:{make(tmp_path)}", make_cells(1))


def test_features_written_by_us_come_back_through_file(tmp_path, make_cells, counting):
    cells = make_cells(6, label=["A", "B"] * 3)
    extract("counting-peak", cells).write_h5ad(tmp_path / "ours.h5ad")
    again = extract(f"file:{tmp_path / 'ours.h5ad'}", cells)
    np.testing.assert_array_equal(again.X, cells.crops(slice(None), rescale="raw").max(axis=(2, 3)))
    assert list(again.var_names) == ["peak GFP", "peak RFP"]
    assert json.dumps(again.uns["pci_bench"])  # plain data


def test_cells_may_be_given_by_their_datasets_name(toy_cache):
    by_name = extract("intensity", "toy-human")
    np.testing.assert_array_equal(by_name.X, extract("intensity", load_dataset("toy-human")).X)
    with pytest.raises(UserError, match="no dataset named"):
        extract("intensity", "toy-humans")


def test_features_whose_width_changes_between_batches_are_named(own_registries, make_cells, cache):
    widths = iter([2, 3, 3, 3])
    register_features("wavering", version="1", rescale="raw", names=lambda channels: ["a", "b"], batch=4)(
        lambda crops: np.zeros((len(crops), next(widths)))
    )
    with pytest.raises(
        UserError, match=r"wavering gave the shape \(4, 3\) for 4 crops; expected one row per crop, \(4, 2\)"
    ):
        extract("wavering", make_cells(16))


def test_memory_does_not_grow_with_the_number_of_cells(tmp_path):
    """Kept views of a batch's memory would keep it from being used again: 25 MB for each 16 crops of the full network."""
    program = textwrap.dedent(
        """
        import resource
        import numpy as np, pandas as pd
        from pci_bench.data.cells import Cells, Channel, DatasetMeta
        from pci_bench.features.extraction import ExtractionOptions, compute_features
        from pci_bench.features.names import select
        for n in (32, 192):
            crops = np.random.default_rng(0).random((n, 2, 64, 64), dtype=np.float32)
            obs = pd.DataFrame({"cell": [f"c{i}" for i in range(n)], "image": "one"})
            channels = (Channel("GFP", "protein"), Channel("RFP", "marker"))
            cells = Cells(obs, channels, DatasetMeta("planted", "1", "Planted"), f"planted{n}", crops)
            compute_features(select(["pci-random"]), cells, ExtractionOptions(workers=1))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        """
    )
    environment = {**os.environ, "PCI_BENCH_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    few, many = map(float, done.stdout.split())
    assert many - few < 75, (few, many)  # MB; 185 where every batch stays


def test_a_batch_is_what_a_network_gets_at_once_and_the_cache_keeps_its_numbers_apart(
    own_registries, make_cells, cache
):
    given: dict[str, list[int]] = {"network": [], "plain": []}
    for name, of_name in given.items():
        register_features(
            name, version="1", rescale="raw", names=lambda c: ["a", "b"], batch=4, concurrent=name == "network"
        )(lambda crops, of_name=of_name: of_name.append(len(crops)) or crops.mean(axis=(2, 3)))
    found, keys = {}, {}
    for batch, expected in (
        (None, {"network": [4, 4, 4], "plain": [4, 4, 4]}),
        (7, {"network": [7, 7], "plain": []}),  # what is no network comes from the cache
        (4, {"network": [], "plain": []}),  # the default, by its number
        (7, {"network": [], "plain": []}),
    ):
        features = compute_features(select(list(given)), make_cells(10), ExtractionOptions(device="cpu", batch=batch))
        assert given == expected
        found[batch] = [np.asarray(adata.X) for adata in features.values()]
        keys[batch] = [adata.uns["pci_bench"]["key"] for adata in features.values()]
        for of_name in given.values():
            of_name.clear()
    for values in found.values():
        assert all(map(same_bits, values, found[None]))
    assert keys[4] == keys[None]
    assert [a == b for a, b in zip(keys[7], keys[None], strict=True)] == [False, True]


def test_a_real_networks_numbers_hardly_depend_on_the_batch(make_cells, cache):
    by_default = np.asarray(extract("pci-random-conv3", make_cells(21)).X)
    for batch in (1, 5):
        other = np.asarray(extract("pci-random-conv3", make_cells(21), batch=batch).X)
        np.testing.assert_allclose(other, by_default, rtol=0, atol=1e-5 * by_default.max())


def test_products_in_bfloat16_are_nearly_those_in_float32_and_the_cache_keeps_them_apart(make_cells, cache):
    exact = extract("pci-random-conv5", make_cells(21))
    rounded = extract("pci-random-conv5", make_cells(21), precision="bfloat16")
    assert rounded.X.dtype == np.float32
    assert not same_bits(exact.X, rounded.X)
    np.testing.assert_allclose(rounded.X, exact.X, rtol=0, atol=0.02 * exact.X.max())
    said = [adata.uns["pci_bench"] for adata in (exact, rounded)]
    assert [record["features"]["precision"] for record in said] == ["float32", "bfloat16"]
    assert said[0]["key"] != said[1]["key"]
    assert same_bits(extract("pci-random-conv5", make_cells(21)).X, exact.X)


def test_what_is_no_network_has_one_precision(own_registries, make_cells, cache):
    calls = []
    register_features("plain", version="1", rescale="raw", names=lambda c: ["a", "b"])(
        lambda crops: calls.append(len(crops)) or crops.mean(axis=(2, 3))
    )
    exact = extract("plain", make_cells(5))
    assert same_bits(extract("plain", make_cells(5), precision="bfloat16").X, exact.X)
    assert len(calls) == 1


@pytest.mark.parametrize("precision", ["float16", "", "BFLOAT16"])
def test_an_unknown_precision_is_a_sentence(precision):
    with pytest.raises(UserError, match="There is no precision"):
        ExtractionOptions(precision=precision)


# ---- several seeds, several extractors in one pass, several batches beside each other


def test_groups_hold_a_random_network_with_three_seeds_and_its_name_alone_is_the_first(make_cells):
    seeds = [f"pci-random-conv3@seed{i}" for i in range(3)]
    for group in ("controls", "pci-random"):
        assert [str(f) for f in select([group]) if f.output == "conv3"] == seeds
    assert [str(f) for f in select(["all"]) if f.family == "pci-random"] == ["pci-random-conv3"]
    found = compute_features(select([*seeds, "pci-random-conv3@seed7"]), make_cells(4))
    values = [np.asarray(a.X) for a in found.values()]
    assert len({v.tobytes() for v in values}) == 4
    alone = extract("pci-random-conv3", make_cells(4))
    assert same_bits(np.asarray(alone.X), values[0])
    assert alone.uns["pci_bench"]["features"]["weights"] == "seed0"
    with pytest.raises(UserError, match=r"no weights pci-random@mine; their names are seed0, seed1"):
        extract("pci-random-conv3@mine", make_cells(4))


@pytest.mark.parametrize("dataset", ["yeast-sim", "human-sim"])
def test_the_random_network_is_as_wide_as_the_shipped_one(dataset, cache):
    from pci_bench import weights

    drawn = weights.fetched("pci-random", "seed0")
    shipped = weights.find("pci", weights.default_name("pci", dataset))
    assert weights.read_header(drawn).config["width"] == weights.read_header(shipped).config["width"]


class Stages(Heard):
    def stage(self, what, total=None):
        self.sentences.append(what)
        return super().stage(what, total)


def test_extractors_with_the_same_weights_share_one_pass_over_the_crops(make_cells, monkeypatch):
    weights_of(2, ("protein", "marker"), "mine")
    cells, heard = make_cells(20), Stages()
    wanted = select(["pci-conv4@mine", "marker-only@mine", "pci-conv1@mine", "intensity"])
    reads: list[int] = []
    crops = Cells.crops
    monkeypatch.setattr(Cells, "crops", lambda *a, **k: reads.append(1) or crops(*a, **k))
    together = compute_features(wanted, cells, progress=heard)
    assert heard.sentences == ["extracting pci@mine, conv4, conv1; marker-only@mine", "extracting intensity"]
    assert len(reads) == 2
    monkeypatch.setattr(Cells, "crops", crops)
    for features in wanted:
        alone = extract(features, cells, refresh="always")
        assert same_bits(np.asarray(alone.X), np.asarray(together[features].X))


def test_concurrent_batches_give_the_same_bits_in_the_same_rows(make_cells, monkeypatch, own_registries):
    weights_of(2, ("protein", "marker"), "mine")
    cells = make_cells(53)
    found, seen = {}, set()
    for cores in (1, 3):
        monkeypatch.setattr(compute, "available_cores", lambda cores=cores: cores)
        found[cores] = np.asarray(extract("pci-conv5@mine", cells, refresh="always").X)
    assert same_bits(found[1], found[3])

    class Beside(Extractor):
        meta = ExtractorMeta("beside", "1", "Beside", rescale="raw", batch=4, concurrent=True)

        def unavailable_reason(self, cells):
            return None

        def names(self, output, channels, weights=None):
            return ["mean"]

        def open(self, channels, weights, device):
            barrier = threading.Barrier(2, timeout=30)  # two batches at a time, or an error

            def compute(crops, outputs):
                barrier.wait()
                seen.add(threading.get_ident())
                return {"": crops.mean(axis=(1, 2, 3))[:, None]}

            return compute

    EXTRACTORS.register("beside", Beside())
    monkeypatch.setattr(compute, "available_cores", lambda: 2)
    values = np.asarray(extract("beside", cells[:48]).X)[:, 0]
    np.testing.assert_allclose(values, cells[:48].crops(slice(None), rescale="raw").mean(axis=(1, 2, 3)), rtol=1e-6)
    assert len(seen) == 2


def test_little_work_is_done_without_starting_processes_and_much_is_shared_out(
    own_registries, make_cells, monkeypatch, tmp_path
):
    (tmp_path / "mine.py").write_text(PLUGIN_OF_PROCESSES)
    load_plugin(tmp_path / "mine.py")
    monkeypatch.setattr(compute, "available_cores", lambda: 2)
    monkeypatch.setattr(compute, "machine_cores", lambda: 2)
    part = jobs.CELLS_PER_SMALL_BLOCK
    cells, ours = make_cells(2 * part + 9, (4, 4)), os.getpid() % 100_003
    assert set(np.asarray(extract("who", cells).X).ravel()) == {ours}
    assert ours not in np.asarray(extract("who", cells, refresh="always", workers=2).X)
    monkeypatch.setattr(compute, "SECONDS_WORTH_PROCESSES", 0.0)
    shared = np.asarray(extract("who", cells, refresh="always").X).ravel()
    assert set(shared[:part]) == {ours}
    assert ours not in shared[part:]
