"""CytoImageNet's EfficientNetB0: Keras' file onto timm's network, its preparation of crops, and what is not taken for it."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from factories import YEAST

import pci_bench
from pci_bench import UserError, import_timm, weights
from pci_bench.features.availability import unavailable_reason
from pci_bench.features.names import parse
from pci_bench.weights import IMPORTERS

KIND = "keras-efficientnetb0"
REPEATS = (1, 2, 2, 3, 3, 4, 1)  # of EfficientNetB0's blocks (Tan and Le, Table 1)
MEAN, VARIANCE = np.array([0.4, 0.5, 0.6]), np.array([0.05, 0.06, 0.04])
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def keras_layers() -> list[tuple[str, tuple[str, ...]]]:
    """Keras' layers that have weights, in the order in which its function makes them."""
    layers = [("stem_conv", ("kernel",)), ("stem_bn", NORM)]
    for stage, repeats in enumerate(REPEATS, start=1):
        for letter in "abcd"[:repeats]:
            widened = [] if stage == 1 else [("expand_conv", ("kernel",)), ("expand_bn", NORM)]
            excited = [("se_reduce", ("kernel", "bias")), ("se_expand", ("kernel", "bias"))]
            block = [*widened, ("dwconv", ("depthwise_kernel",)), ("bn", NORM), *excited]
            block += [("project_conv", ("kernel",)), ("project_bn", NORM)]
            layers += [(f"block{stage}{letter}_{name}", kinds) for name, kinds in block]
    return [*layers, ("top_conv", ("kernel",)), ("top_bn", NORM)]


def write_keras(file: Path, network: torch.nn.Module, *, leave_out: str = "", nan_in: str = "") -> Path:
    """Write a timm network in the published layout: both libraries make their weights in the same order."""
    state = iter([t for name, t in network.state_dict().items() if not name.endswith("num_batches_tracked")])
    layers: list[tuple[str, dict[str, np.ndarray]]] = [("input_1", {}), ("rescaling", {})]
    layers.append(("normalization", {"mean": MEAN, "variance": VARIANCE, "count": np.array(0)}))
    for layer, kinds in keras_layers():
        arrays = {}
        for kind in kinds:
            array = next(state).numpy()
            if array.ndim == 4:
                array = array.transpose(2, 3, 0, 1) if kind == "depthwise_kernel" else array.transpose(2, 3, 1, 0)
            arrays[kind] = array * np.nan if layer == nan_in else array
        layers += [(layer, arrays), (f"{layer}_activation", {})]
    assert next(state, None) is None
    with h5py.File(file, "w") as opened:
        layers = [(layer, arrays) for layer, arrays in layers if layer != leave_out]
        opened.attrs["layer_names"] = [layer.encode() for layer, _ in layers]
        for layer, arrays in layers:
            group = opened.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{kind}:0".encode() for kind in arrays]
            for kind, array in arrays.items():
                group[f"{layer}/{kind}:0"] = array.astype(np.float32)
    return file


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """timm's network with random weights everywhere."""
    made = import_timm().create_model("tf_efficientnet_b0", pretrained=False, num_classes=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if tensor.is_floating_point():
                spread = np.sqrt(2 / tensor[0].numel()) if tensor.ndim == 4 else 0.2
                values = torch.randn(tensor.shape, generator=generator) * spread
                around_one = name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight"))
                tensor.copy_(values.abs() + 0.7 if around_one else values)
    return made.eval()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory) -> Path:
    return write_keras(tmp_path_factory.mktemp("keras") / "efficientnetb0_weights-notop.h5", network)


def as_theirs(channel: np.ndarray) -> np.ndarray:
    """One image as CytoImageNet's evaluation shows it: from its percentiles to 0 … 255."""
    top, bottom = np.percentile(channel, 99.9), np.percentile(channel, 0.1)
    channel = np.minimum(channel, top) - bottom
    channel[channel < 0] = 0
    return channel / channel.max() * 255


def crops_of(size: int, n: int = 3) -> np.ndarray:
    return np.random.default_rng(size).gamma(2, 300, (n, 2, size, size)).astype(np.float32)


def test_features_are_those_of_timms_own_network_by_another_path(network, file, make_cells):
    assert IMPORTERS.get(KIND)(file, "mine") == ("cytoimagenet@mine", ())
    crops = crops_of(64)
    adata = pci_bench.extract("cytoimagenet@mine", make_cells(crops=crops))
    expected = []
    for channel in (0, 1):
        grey = np.stack([as_theirs(crop[channel]) for crop in crops])[:, None].repeat(3, axis=1) / 255
        seen = (grey - MEAN.reshape(3, 1, 1)) / np.sqrt(VARIANCE).reshape(3, 1, 1)
        with torch.no_grad():  # at even sizes timm pads as Keras does
            expected.append(network(torch.from_numpy(seen).float()).numpy())
    expected = np.concatenate(expected, axis=1)
    assert expected.shape == (3, 2560)
    assert expected.std(axis=0).min() > 0
    np.testing.assert_allclose(adata.X, expected, rtol=1e-4, atol=1e-4 * expected.std())
    assert list(adata.var_names[[0, 1280]]) == [f"{c.name}_0" for c in YEAST]


def test_a_constant_channel_is_shown_black_and_gives_numbers(file, make_cells):
    IMPORTERS.get(KIND)(file, "mine")
    crops = crops_of(32)
    crops[0, 1] = 7
    features = np.asarray(pci_bench.extract("cytoimagenet@mine", make_cells(crops=crops)).X)
    assert np.isfinite(features).all()


def test_crops_that_the_strides_leave_nothing_of_are_not_run(file, make_cells):
    IMPORTERS.get(KIND)(file, "mine")
    assert "at least 32×32 px" in unavailable_reason(parse("cytoimagenet@mine"), make_cells(2, (31, 64)))
    assert unavailable_reason(parse("cytoimagenet@mine"), make_cells(2, (32, 64))) is None


def test_without_weights_the_command_that_gets_them_is_named(make_cells):
    reason = unavailable_reason(parse("cytoimagenet@hua2021"), make_cells(2, (32, 32)))
    assert "Run `pci-bench weights get cytoimagenet@hua2021`" in reason
    (remote,) = weights.remote_files("cytoimagenet", "hua2021")
    assert remote.digest == "git-blob:1b384b39fc690bfa7786da184851bfce7751c99f"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p, n: p / "none.h5", "There is no file"),
        (lambda p, n: (p / "a.h5").write_text("<html>") and p / "a.h5", "cannot be read as weights of Keras"),
        (
            lambda p, n: h5py.File(p / "a.h5", "w").close() or p / "a.h5",
            "cannot be read as weights of Keras.*layer_names",
        ),
        (
            lambda p, n: write_keras(p / "a.h5", n, leave_out="block3b_se_reduce"),
            "no kernel of a layer block3b_se_reduce",
        ),
        (lambda p, n: write_keras(p / "a.h5", n, leave_out="normalization"), "no layer 'normalization'"),
        (lambda p, n: write_keras(p / "a.h5", n, nan_in="top_bn"), "gamma of top_bn .* NaN"),
    ],
    ids=["absent", "a web page", "another HDF5", "a layer less", "no normalisation", "NaN"],
)
def test_a_file_that_does_not_fit_is_a_sentence(network, tmp_path, make, sentence):
    with pytest.raises(UserError, match=sentence):
        IMPORTERS.get(KIND)(make(tmp_path, network), "mine")
    assert weights.find("cytoimagenet", "mine") is None


def test_another_network_of_the_same_layers_does_not_fit(network, tmp_path):
    with h5py.File(file := write_keras(tmp_path / "wide.h5", network), "r+") as opened:
        del opened["stem_conv/stem_conv/kernel:0"]
        opened["stem_conv/stem_conv/kernel:0"] = np.zeros((3, 3, 3, 64), np.float32)
    with pytest.raises(UserError, match=r"The kernel of stem_conv .* has the shape \(64, 3, 3, 3\); expected \(32"):
        IMPORTERS.get(KIND)(file, "mine")


@pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not installed: pip install 'pci-bench[tensorflow]'"
)
def test_features_are_those_of_keras_own_network_at_even_and_odd_sizes(tmp_path, make_cells):
    sizes = (64, 47)
    images = []
    for size in sizes:
        shown = [as_theirs(channel) for crop in crops_of(size) for channel in crop]
        images.append(tmp_path / f"{size}.npy")
        np.save(images[-1], np.stack(shown)[..., None].repeat(3, axis=-1))
    program = Path(__file__).with_name("keras_efficientnet.py")
    command = [sys.executable, program, tmp_path / "keras.h5", tmp_path / "outputs.npz", *images]
    subprocess.run(command, check=True, capture_output=True)
    IMPORTERS.get(KIND)(tmp_path / "keras.h5", "mine")
    with np.load(tmp_path / "outputs.npz") as outputs:
        for size, key in zip(sizes, outputs.files, strict=True):
            got = pci_bench.extract("cytoimagenet@mine", make_cells(crops=crops_of(size))).X
            expected = outputs[key].reshape(3, -1)
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * expected.std())
