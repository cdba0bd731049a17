"""VGG16: every layer and strategy against a plain forward pass, Keras' files read as Keras wrote them, and what is not run."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command_line import call, leftovers
from factories import YEAST
from pci_bench_baselines import vgg16, vgg16_import
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from pci_bench import UserError, extract, import_timm, weights
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.skipped import Skipped
from pci_bench.data.cells import Channel
from pci_bench.features.availability import unavailable_reason
from pci_bench.features.extraction import ExtractionOptions, compute_features
from pci_bench.features.names import groups, parse, select
from pci_bench.system import timm_import
from pci_bench.system.files import sha256_of

BLOCKS = [(64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)]  # Simonyan and Zisserman, Table 1, D
LAYERS = {f"block{b}_conv{c}": w for b, block in enumerate(BLOCKS, 1) for c, w in enumerate(block, 1)}
HUMAN = (Channel("antibody", "protein"), Channel("nucleus", "marker"), Channel("microtubules", "marker"))
PROTEIN = (Channel("GFP", "protein"),)
Kernels = dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    """Kernels as Keras holds them (rows, columns, inputs, outputs), and biases that no two layers share."""
    rng, inputs, found = np.random.default_rng(16), 3, {}
    for layer, width in LAYERS.items():
        kernel = rng.standard_normal((3, 3, inputs, width), dtype=np.float32) * np.float32(np.sqrt(2 / (9 * inputs)))
        found[layer] = (kernel, rng.standard_normal(width, dtype=np.float32))
        inputs = width
    return found


def write_keras(file: Path, arrays: Kernels, *, names: str = "old") -> Path:
    """Write weights as Keras 1 and 2 did: layers without weights listed too; in the names of the old or the new version."""
    with h5py.File(file, "w") as opened:
        group = opened if names != "whole model" else opened.create_group("model_weights")
        layers = ["input_1"]
        for layer in arrays:
            layers += [layer, "block_pool"] if layer.endswith("2") else [layer]
        group.attrs["layer_names"] = [layer.encode() for layer in dict.fromkeys(layers)]
        for layer in dict.fromkeys(layers):
            of_layer = group.create_group(layer)
            written = []
            for kind, array in zip(
                ("W", "b") if names == "old" else ("kernel", "bias"), arrays.get(layer, ()), strict=False
            ):
                written.append(f"{layer}_{kind}_1:0" if names == "old" else f"{layer}/{kind}:0")
                of_layer[written[-1]] = array
            of_layer.attrs["weight_names"] = [name.encode() for name in written]
    return file


@pytest.fixture(scope="session")
def notop(kernels, tmp_path_factory) -> Path:
    """A file like vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5, with random weights."""
    return write_keras(tmp_path_factory.mktemp("keras") / "notop.h5", kernels)


@pytest.fixture(scope="session")
def _imported(notop, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(folder))
        patch.setitem(weights.declared()["vgg16"]["oxford"], "accepts", [f"sha256:{sha256_of(notop)}"])
        assert vgg16_import.import_keras_vgg16(notop, "oxford") == ("vgg16@oxford", ())
    return folder / "weights" / "vgg16@oxford.safetensors"


@pytest.fixture
def oxford(_imported, cache) -> Path:
    """This test's cache, in which vgg16@oxford was imported from the file without fully connected layers."""
    file = cache / "weights" / _imported.name
    file.parent.mkdir(parents=True)
    file.symlink_to(_imported)
    return file


# ---- a plain forward pass


def keras_input(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> torch.Tensor:
    """Images in [0, 1] as Keras' preprocess_input of VGG16 would leave them: 0 … 255, BGR, mean subtracted."""
    planes = [np.rint(255.0 * plane) - mean for plane, mean in ((blue, 103.939), (green, 116.779), (red, 123.68))]
    return torch.from_numpy(np.stack(planes, axis=1))


def torchvision_input(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> torch.Tensor:
    """Images in [0, 1] as torchvision's Normalize would leave them."""
    planes = ((red - 0.485) / 0.229, (green - 0.456) / 0.224, (blue - 0.406) / 0.225)
    return torch.from_numpy(np.stack(planes, axis=1))


def plain_forward(kernels: Kernels, images: torch.Tensor) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    """Every layer's maximum over space, and the last layer's maps."""
    found, x = {}, images
    for block, widths in enumerate(BLOCKS, 1):
        x = F.max_pool2d(x, 2) if block > 1 else x
        for number in range(1, len(widths) + 1):
            kernel, bias = (torch.from_numpy(a).to(x.dtype) for a in kernels[f"block{block}_conv{number}"])
            x = F.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1).clamp(min=0)
            found[f"block{block}_conv{number}"] = x.flatten(2).max(dim=2).values.numpy()
    return found, x


def minmax(crops: np.ndarray) -> np.ndarray:
    low, high = crops.min(axis=(2, 3), keepdims=True), crops.max(axis=(2, 3), keepdims=True)
    return ((crops - low) / (high - low)).astype(np.float64)


def expected_features(
    kernels: Kernels, crops: np.ndarray, channels: tuple[Channel, ...], prepare
) -> dict[str, np.ndarray]:
    """All 39 outputs, each strategy by its definition; yeast is rescaled, human cells are not."""
    shown = crops.astype(np.float64) if channels == HUMAN else minmax(crops)
    x = dict(zip((c.name for c in channels), shown.swapaxes(0, 1), strict=True))
    protein = next(c.name for c in channels if c.role == "protein")
    markers = [c.name for c in channels if c.role == "marker"]
    grey = {name: plain_forward(kernels, prepare(x[name], x[name], x[name]))[0] for name in (protein, *markers)}
    blue = x[markers[1]] if len(markers) > 1 else np.zeros_like(x[protein])
    coloured, _ = plain_forward(kernels, prepare(x[markers[0]], x[protein], blue))
    found = {}
    for layer in LAYERS:
        found[f"rgb-{layer}"] = coloured[layer]
        found[f"gfp-only-{layer}"] = grey[protein][layer]
        found[f"concatenated-{layer}"] = np.hstack([grey[name][layer] for name in (protein, *markers)])
    return found


def expect_equal(name: str, file: Path | None, cells, expected: dict[str, np.ndarray]) -> None:
    found = EXTRACTORS.get(name).open(cells.channels, file, "cpu")(
        cells.crops(slice(None), rescale="raw"), set(expected)
    )
    assert set(found) == set(expected)
    for output, values in expected.items():
        assert found[output].shape == values.shape
        assert (values > 0).mean() > 0.3
        np.testing.assert_allclose(found[output], values, rtol=1e-4, atol=1e-5 * values.max(), err_msg=output)


@pytest.mark.parametrize("channels", [YEAST[::-1], HUMAN], ids=["yeast, marker first", "human"])
def test_all_39_outputs_are_those_of_a_plain_forward_with_keras_preprocessing(oxford, kernels, make_cells, channels):
    cells = make_cells(3, (32, 20), channels)
    expected = expected_features(kernels, cells.crops(slice(None), rescale="raw"), channels, keras_input)
    assert len(expected) == 39
    expect_equal("vgg16", oxford, cells, expected)


def test_human_cells_are_shown_raw_and_yeast_cells_rescaled(oxford, kernels, make_cells):
    """The authors' script for human cells rounds 255 times the raw crop: a dim cell stays dim."""
    dim = np.random.default_rng(1).random((2, 3, 32, 32), dtype=np.float32) * np.float32(0.2) + np.float32(0.1)
    human = extract("vgg16-gfp-only-block4_conv1", make_cells(crops=dim, channels=HUMAN, name="human"))
    raw = dim[:, 0].astype(np.float64)
    expected = plain_forward(kernels, keras_input(raw, raw, raw))[0]["block4_conv1"]
    np.testing.assert_allclose(human.X, expected, rtol=1e-4, atol=1e-5 * expected.max())
    yeast = extract("vgg16-gfp-only-block4_conv1", make_cells(crops=dim[:, :2], channels=YEAST, name="yeast"))
    bright = minmax(dim)[:, 0]
    expected = plain_forward(kernels, keras_input(bright, bright, bright))[0]["block4_conv1"]
    np.testing.assert_allclose(yeast.X, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_torchvisions_weights_are_given_images_as_timm_says(kernels, make_cells, monkeypatch, tmp_path):
    config = import_timm().get_pretrained_cfg("vgg16.tv_in1k")
    assert (config.mean, config.std) == (vgg16.RGB_MEAN, vgg16.RGB_SD)

    state = {
        f"features.{position}.{kind}": torch.from_numpy(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)
        for position, arrays in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), kernels.values(), strict=True)
        for kind, array in zip(("weight", "bias"), arrays, strict=True)
    }
    (file := tmp_path / "model.safetensors").write_bytes(b"as the hub has it")

    class Network:
        def state_dict(self):
            return state

    monkeypatch.setattr(vgg16_import, "downloaded", lambda model: {"vgg16.tv_in1k": file}[model])
    monkeypatch.setattr(vgg16_import, "load_network", lambda model, file: Network())
    cells = make_cells(2, (16, 16))
    expected = expected_features(kernels, cells.crops(slice(None), rescale="raw"), YEAST, torchvision_input)
    headline = extract("vgg16-gfp-only-block4_conv1@tv_in1k", cells, device="cpu")  # downloaded on first use
    np.testing.assert_allclose(headline.X, expected["gfp-only-block4_conv1"], rtol=1e-4, atol=1e-4)
    expect_equal("vgg16", (saved := weights.find("vgg16", "tv_in1k")), cells, expected)
    header = weights.read_header(saved)
    assert header.config == {"preprocessing": "imagenet-rgb", "fully_connected": False}
    assert "vgg16.tv_in1k of the Hugging Face hub" in header.source


def test_the_columns_are_named_by_layer_and_where_several_stand_side_by_side_by_channel(oxford, make_cells):
    cells = make_cells(1, (16, 16), HUMAN[::-1])
    grey = extract("vgg16-gfp-only-block4_conv1", cells)
    assert list(grey.var_names) == [f"block4_conv1_{i}" for i in range(512)]
    both = extract("vgg16-concatenated-block1_conv1", cells)
    expected = [f"{n}_block1_conv1_{i}" for n in ("antibody", "microtubules", "nucleus") for i in range(64)]
    assert list(both.var_names) == expected
    assert EXTRACTORS.get("vgg16").names("fc2-224", YEAST)[4095] == "fc2_4095"


# ---- as few passes and layers as possible


@cache
def random_network(channels: tuple[Channel, ...]):
    """Return the opened extractor, whose random weights are drawn once for all tests."""
    return EXTRACTORS.get("vgg16-random").open(channels, None, "cpu")


@pytest.mark.parametrize(
    ("outputs", "channels", "convolutions", "passes"),
    [
        (["gfp-only-block1_conv2"], YEAST, 2, 1),
        (["gfp-only-block1_conv1", "gfp-only-block4_conv1"], YEAST, 8, 1),
        (["concatenated-block3_conv2"], YEAST, 2 * 6, 2),
        (["gfp-only-block2_conv1", "concatenated-block2_conv1"], YEAST, 2 * 3, 2),
        (["gfp-only-block2_conv1", "concatenated-block1_conv1"], YEAST, 3 + 1, 2),
        (["rgb-block5_conv3", "gfp-only-block1_conv1"], YEAST, 13 + 1, 2),
        ([f"{s}-{layer}" for s in ("rgb", "concatenated", "gfp-only") for layer in LAYERS], YEAST, 3 * 13, 3),
        ([f"{s}-{layer}" for s in ("rgb", "concatenated", "gfp-only") for layer in LAYERS], HUMAN, 4 * 13, 4),
    ],
)
def test_only_the_passes_and_layers_that_are_wanted_are_run(outputs, channels, convolutions, passes):
    compute = random_network(channels)
    run: Counter[int] = Counter()

    def count(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            run[module.in_channels] += 1

    hook = nn.modules.module.register_module_forward_hook(count)
    try:
        found = compute(np.zeros((2, len(channels), 16, 16), np.float32), set(outputs))
    finally:
        hook.remove()
    assert set(found) == set(outputs)
    assert sum(run.values()) == convolutions
    assert run[3] == passes


# ---- bit-equal, and random weights


def test_a_cells_numbers_do_not_depend_on_its_company_or_on_what_else_is_asked_for(make_cells):
    cells = make_cells(19, (16, 16))
    wanted = select(["vgg16-random-rgb-block5_conv3", "vgg16-random-concatenated-block5_conv3"])
    whole = compute_features(wanted, cells, ExtractionOptions(device="cpu"))
    for some in (cells[np.arange(19)[::-1]], cells[[17, 3]]):
        for feature_set, adata in compute_features(wanted, some, ExtractionOptions(device="cpu")).items():
            np.testing.assert_array_equal(adata.X, whole[feature_set][adata.obs_names].X)
    alone = extract("vgg16-random-concatenated-block5_conv3", cells, device="cpu", refresh="always")
    np.testing.assert_array_equal(alone.X, whole[parse("vgg16-random-concatenated-block5_conv3")].X)


def test_random_weights_are_he_uniform_and_the_same_each_time(make_cells):
    kernels, inputs = {}, 3
    rng = np.random.default_rng(2014)
    for layer, width in LAYERS.items():
        limit = np.sqrt(6 / (9 * inputs))  # a variance of 2 / inputs of a unit
        kernel = rng.uniform(-limit, limit, (width, inputs, 3, 3)).astype(np.float32)
        kernels[layer] = (kernel.transpose(2, 3, 1, 0), np.zeros(width, np.float32))
        inputs = width
    cells = make_cells(2, (16, 16))
    expected = expected_features(kernels, cells.crops(slice(None), rescale="raw"), YEAST, torchvision_input)
    expect_equal("vgg16-random", None, cells, expected)
    deepest = expected["gfp-only-block5_conv3"]
    assert 0.01 < deepest.std() < 100  # signals neither die nor explode on their way


def test_the_groups_that_they_are_in():
    names = {group: [f.base for f in members] for group, members in groups().items()}
    assert [n for n in names["paper"] if n.startswith("vgg16")] == ["vgg16-gfp-only-block4_conv1"]
    assert len(names["vgg16"]) == 40
    assert len(names["vgg16-random"]) == 39
    assert not [g for g in ("paper", "all", "controls") if any("vgg16-random" in n for n in names.get(g, []))]


# ---- Keras' files


@pytest.mark.parametrize("names", ["new", "whole model"])
def test_files_of_newer_keras_and_of_whole_models_hold_the_same_network(notop, kernels, tmp_path, names):
    old = vgg16_import.read_keras_vgg16(notop)
    new = vgg16_import.read_keras_vgg16(write_keras(tmp_path / "new.h5", kernels, names=names))
    assert set(old) == set(new) == {n for n in import_timm_names() if n.startswith("features")}
    assert all(np.array_equal(old[name], new[name]) for name in old)


def import_timm_names() -> set[str]:
    with torch.device("meta"):
        return set(import_timm().create_model("vgg16", num_classes=0).state_dict())


def test_a_dense_kernel_on_flattened_maps_is_a_convolution_over_the_whole_map():
    rng = np.random.default_rng(0)
    maps, kernel = rng.normal(size=(4, 3, 3, 5)), rng.normal(size=(3 * 3 * 5, 7))  # rows, columns, channels, as Keras
    dense = maps.reshape(4, -1) @ kernel
    ours = torch.from_numpy(vgg16_import.as_convolution(kernel, 3))
    convolved = F.conv2d(torch.from_numpy(maps.transpose(0, 3, 1, 2).copy()), ours)
    np.testing.assert_allclose(convolved[:, :, 0, 0].numpy(), dense, rtol=1e-12)


def test_fc2_at_224_pixels_is_that_of_a_plain_forward_with_keras_dense_layers(notop, kernels, tmp_path):
    rng = np.random.default_rng(5)
    shutil.copy(notop, full := tmp_path / "full.h5")
    rows = np.sort(rng.choice(25088, 60, replace=False))  # the other rows of fc1 are zero, and not stored
    fc1 = rng.normal(size=(60, 4096)).astype(np.float32)
    fc2 = np.zeros((4096, 4096), np.float32)
    fc2[:, :50] = rng.normal(size=(4096, 50)) / 64
    biases = rng.normal(size=(2, 4096)).astype(np.float32)
    with h5py.File(full, "a") as opened:
        names = [*opened.attrs["layer_names"].astype("S"), b"flatten", b"fc1", b"fc2", b"predictions"]
        opened.attrs["layer_names"] = names
        for number, layer in enumerate(("fc1", "fc2")):
            group = opened.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}_W_1:0".encode(), f"{layer}_b_1:0".encode()]
            group[f"{layer}_b_1:0"] = biases[number]
        stored = opened["fc1"].create_dataset("fc1_W_1:0", (25088, 4096), "f4", chunks=(1, 4096))
        for row, values in zip(rows, fc1, strict=True):
            stored[row] = values
        opened["fc2"]["fc2_W_1:0"] = fc2

    compute = vgg16.vgg16_compute(vgg16_import.read_keras_vgg16(full), "keras-bgr", YEAST, "cpu")
    crop = rng.random((1, 2, 32, 32), dtype=np.float32)
    found = compute(crop, {"fc2-224"})["fc2-224"]

    large = bilinear(crop[0, 0], 224)[None].astype(np.float32)
    _, maps = plain_forward(kernels, keras_input(large, large, large).float())
    flat = F.max_pool2d(maps, 2).permute(0, 2, 3, 1).reshape(1, -1).numpy()
    hidden = np.maximum(flat[:, rows] @ fc1 + biases[0], 0)
    expected = np.maximum(hidden @ fc2 + biases[1], 0)
    assert (expected > 0).mean() > 0.3
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


def bilinear(image: np.ndarray, size: int) -> np.ndarray:
    """Resize without anti-aliasing: each pixel from the four around its centre, edges repeated."""
    at = (np.arange(size) + 0.5) * len(image) / size - 0.5
    low = np.floor(at).astype(int)
    share = at - low
    first, second = np.clip(low, 0, len(image) - 1), np.clip(low + 1, 0, len(image) - 1)
    rows = image[first] * (1 - share)[:, None] + image[second] * share[:, None]
    return rows[:, first] * (1 - share) + rows[:, second] * share


def test_imported_weights_say_where_they_are_from_and_run_on_any_channels(oxford, notop, capsys, monkeypatch):
    said = call(capsys, monkeypatch, "describe", "vgg16@oxford")
    assert said.code == 0
    for part in ("any", "keras-bgr", "notop.h5, sha256 "):
        assert part in said.out
    header = weights.read_header(oxford)
    assert header.config == {"preprocessing": "keras-bgr", "fully_connected": False}
    assert weights.unavailable_reason(oxford, HUMAN) is None


def test_the_command_line_imports_them(notop, cache, capsys, monkeypatch):
    said = call(capsys, monkeypatch, "weights", "import", "keras-vgg16", notop, "--name", "mine")
    assert said.code == 0, said.err
    assert "Imported vgg16@mine." in said.out
    assert weights.find("vgg16", "mine").is_file()
    said = call(capsys, monkeypatch, "weights", "import", "keras-vgg16", notop, "--name", "tv_in1k")
    assert said.code == 2
    assert "Give these another --name" in said.err


def short(kernels: Kernels, **changed) -> Kernels:
    """The first two layers, some of them changed."""
    return {layer: changed.get(layer, arrays) for layer, arrays in list(kernels.items())[:2]}


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda file, k: None, "There is no file"),
        (lambda file, k: file.write_text("<html>404</html>"), "cannot be read as Keras' weights of VGG16"),
        (lambda file, k: h5py.File(file, "w").close(), r"no attribute layer_names \(it holds nothing\)"),
        (lambda file, k: write_keras(file, short(k)), "has no layer block2_conv1"),
        (
            lambda file, k: write_keras(
                file, short(k, block1_conv1=(k["block1_conv1"][0].transpose(3, 2, 0, 1), k["block1_conv1"][1]))
            ),
            r"block1_conv1 .*\(64, 3, 3, 3\).*expected a kernel \(3, 3, 3, 64\).*TensorFlow's order",
        ),
        (lambda file, k: write_keras(file, short(k, block1_conv2=k["block1_conv2"][:1])), "block1_conv2 .* has arrays"),
        (
            lambda file, k: write_keras(
                file, short(k, block1_conv2=(k["block1_conv2"][0] * np.nan, k["block1_conv2"][1]))
            ),
            "NaN",
        ),
    ],
    ids=["absent", "a web page", "empty", "another network", "Theano's order", "no bias", "NaN"],
)
def test_a_file_that_does_not_fit_is_a_sentence(kernels, tmp_path, cache, write, sentence):
    write(file := tmp_path / "weights.h5", kernels)
    with pytest.raises(UserError, match=sentence):
        vgg16_import.import_keras_vgg16(file, "mine")
    assert weights.find("vgg16", "mine") is None


def test_a_truncated_file_is_a_sentence(notop, tmp_path):
    (file := tmp_path / "half.h5").write_bytes(notop.read_bytes()[: notop.stat().st_size // 2])
    with pytest.raises(UserError, match="truncated or of another kind"):
        vgg16_import.read_keras_vgg16(file)


@pytest.mark.parametrize("change", ["lacks", "adds", "reshapes"])
def test_weights_of_another_network_than_vgg16_are_a_sentence(change):
    state = {name: np.zeros(1, np.float32) for name in ("features.0.weight",)}
    if change == "adds":
        state = {"head.fc.weight": np.zeros(1, np.float32)}
    elif change == "lacks":
        state = {"features.0.bias": np.zeros(64, np.float32)}
    with pytest.raises(UserError, match="VGG16"):
        vgg16.network(state)


# ---- not run, and why


def test_without_weights_the_command_that_gets_them_is_said(make_cells):
    (result,) = compute_features(select(["vgg16-gfp-only-block4_conv1"]), make_cells(2, (16, 16))).values()
    assert isinstance(result, Skipped)
    assert str(result.features) == "vgg16-gfp-only-block4_conv1@oxford"
    assert "Run `pci-bench weights get vgg16@oxford` (553 MB" in result.reason


def test_an_output_that_cannot_be_had_does_not_stop_the_others(oxford, make_cells):
    cells = make_cells(2, (16, 16), PROTEIN)
    refused = {f.output: unavailable_reason(f, cells) for f in select(["vgg16@oxford"])}
    for output, reason in refused.items():
        if output.startswith("gfp-only"):
            assert reason is None
        else:
            assert ("no fully connected layers" if output == "fc2-224" else "needs a marker channel") in reason
    assert "`pci-bench weights get vgg16@oxford --overwrite`" in refused["fc2-224"]
    found = {f.output: r for f, r in compute_features(select(["vgg16-*-block1_conv1"]), cells).items()}
    assert {output for output, r in found.items() if isinstance(r, Skipped)} == {
        "rgb-block1_conv1",
        "concatenated-block1_conv1",
    }


def test_crops_that_five_poolings_leave_nothing_of_are_not_run(oxford, make_cells):
    feature_set = parse("vgg16-rgb-block1_conv1@oxford")
    assert "15×40 px are too small" in unavailable_reason(feature_set, make_cells(1, (15, 40)))
    assert unavailable_reason(feature_set, make_cells(1, (16, 40))) is None


def test_offline_every_output_says_so_and_the_download_is_tried_once(make_cells, cache, monkeypatch):
    tried = []

    def refuse(repository, name, local_files_only):
        tried.append((repository, local_files_only))
        raise FileNotFoundError("it is not in the local cache")

    monkeypatch.setattr(timm_import, "_refused", {})
    monkeypatch.setattr(timm_import, "_hub_answers", lambda: False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    found = compute_features(select(["vgg16@tv_in1k"]), make_cells(2, (16, 16)))
    assert len(found) == 40
    (reason,) = {r.reason for r in found.values()}
    for part in ("offline", "`pci-bench weights get vgg16@tv_in1k`", "`pci-bench weights get vgg16@oxford`"):
        assert part in reason
    assert not re.search(r"\.\.|\s\s", reason)
    assert tried == [("timm/vgg16.tv_in1k", True)]
    assert weights.find("vgg16", "tv_in1k") is None
    assert leftovers(cache) == []
