"""The network: its shape, its agreement with Keras, and the import of weights that may be anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from pci_bench import load_dataset
from pci_bench.errors import UserError
from pci_bench.inpainting import PairedCellInpainting, load_keras_weights
from pci_bench.inpainting.network import LAYERS, SourceEncoder, load_network
from pci_bench.weights import save

WIDTHS = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}  # SCIENCE, section 2
NARROW = 1 / 16


def lively(network: PairedCellInpainting, seed: int = 0) -> PairedCellInpainting:
    """Random weights everywhere, batch norms included, so that no two of them could be exchanged unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator) * 0.3
                tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values)
    return network.eval()


def images(n: int, channels: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand((n, channels, size, size), generator=torch.Generator().manual_seed(seed))


# ---- the network of the paper


def numbers(network: torch.nn.Module) -> int:
    """Parameters as Keras counts them: running means and variances included."""
    return sum(t.numel() for t in network.state_dict().values() if t.is_floating_point())


def test_the_yeast_network_has_the_papers_number_of_parameters():
    assert numbers(PairedCellInpainting(1, 1)) == 7_323_521


@pytest.mark.parametrize(("proteins", "markers"), [(1, 1), (1, 2), (2, 3)])
def test_the_number_of_parameters_follows_from_the_layers_widths(proteins, markers):
    def stack(inputs: int, widths: list[int], norm: bool) -> int:
        return sum(9 * i * o + o + (4 * o if norm else 0) for i, o in zip([inputs, *widths[:-1]], widths, strict=True))

    expected = stack(proteins + markers, [96, 256, 384, 384, 256], norm=True)
    expected += stack(markers, [16, 32, 32], norm=True)
    expected += stack(256 + 32, [256, 384, 384, 256, 96], norm=False)
    expected += 96 * proteins + proteins
    assert numbers(PairedCellInpainting(proteins, markers)) == expected


@pytest.mark.parametrize(("proteins", "markers"), [(1, 1), (1, 2), (3, 1), (2, 4)])
@pytest.mark.parametrize("size", [(4, 4), (8, 20)])
def test_any_channels_and_any_size_divisible_by_four(proteins, markers, size):
    network = PairedCellInpainting(proteins, markers, NARROW).eval()
    source, target = torch.rand(3, proteins + markers, *size), torch.rand(3, markers, *size)
    assert network(source, target).shape == (3, proteins, *size)
    features = network.source_encoder.features(source)
    assert {layer: v.shape for layer, v in features.items()} == {k: (3, w // 16) for k, w in WIDTHS.items()}


def test_the_batch_norms_are_keras_batch_norms():
    norms = [m for m in PairedCellInpainting().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 8
    assert {(n.eps, round(1 - n.momentum, 6)) for n in norms} == {(1e-3, 0.99)}


def by_hand(network: PairedCellInpainting, source: torch.Tensor, target: torch.Tensor):
    """The published graph written out layer by layer, in double precision, from the state alone."""
    state = {k: v.double() for k, v in network.state_dict().items()}

    def conv(x, name):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(x, name):
        w, b, m, v = (state[f"{name}.{k}"][:, None, None] for k in ("weight", "bias", "running_mean", "running_var"))
        return (x - m) / torch.sqrt(v + 1e-3) * w + b

    def pool(x):
        return torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)

    def up(x):
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    features, x = {}, source.double()
    for i in range(5):
        x = conv(x, f"source_encoder.convs.{i}").clamp(min=0)
        features[f"conv{i + 1}"] = x.amax(dim=(2, 3)).numpy()
        x = norm(x, f"source_encoder.norms.{i}")
        x = pool(x) if i < 2 else x
    y = target.double()
    for i in range(3):
        y = norm(conv(y, f"marker_encoder.convs.{i}").clamp(min=0), f"marker_encoder.norms.{i}")
        y = pool(y) if i < 2 else y
    x = torch.cat([x, y], dim=1)
    for i in range(5):
        x = conv(up(x) if i >= 3 else x, f"decoder.convs.{i}").clamp(min=0)
    return features, conv(x, "decoder.output").numpy()


def test_the_network_is_the_published_graph():
    network = lively(PairedCellInpainting(1, 2, NARROW))
    source, target = images(4, 3), images(4, 2, seed=1)
    features, output = by_hand(network, source, target)
    with torch.no_grad():
        np.testing.assert_allclose(network(source, target).numpy(), output, rtol=1e-3, atol=1e-3 * abs(output).max())
    for layer, values in network.source_encoder.features(source).items():
        np.testing.assert_allclose(values.numpy(), features[layer], rtol=1e-4, atol=1e-4 * features[layer].max())
        assert values.numpy().any()


# ---- what follows from its construction


def test_features_are_the_source_cells_alone_and_the_output_follows_every_input():
    network = lively(PairedCellInpainting(1, 2, NARROW))
    source, target = images(2, 3), images(2, 2, seed=1)
    before = network.source_encoder.features(source)
    with torch.no_grad():
        output = network(source, target)
        assert not torch.equal(network(source, images(2, 2, seed=2)), output)  # the target's markers
        for channel in range(3):  # the source's protein and markers
            changed = source.clone()
            changed[:, channel] = changed[:, channel].flip(-1)
            assert not torch.equal(network(changed, target), output)
    for layer, values in network.source_encoder.features(source).items():
        assert torch.equal(values, before[layer])
    # There is no way to hand it the target's protein: a target with all channels is refused.
    with pytest.raises(UserError, match=r"\(n, 2, rows, columns\)"):
        network(source, images(2, 3))


@pytest.mark.parametrize("deepest", range(5))
def test_a_pass_ends_at_the_deepest_layer_asked_for(deepest):
    encoder = lively(PairedCellInpainting(1, 1, NARROW)).source_encoder
    crops, called = images(2, 2), []
    whole = encoder.features(crops)
    for number, conv in enumerate(encoder.convs):
        conv.register_forward_hook(lambda *_, number=number: called.append(number))
    asked = [LAYERS[deepest], LAYERS[0]]
    found = encoder.features(crops, asked)
    assert set(found) == set(asked)
    assert called == list(range(deepest + 1))
    for layer in asked:
        assert torch.equal(found[layer], whole[layer])


def test_features_come_as_what_was_given():
    encoder = lively(PairedCellInpainting(1, 1, NARROW)).source_encoder
    crops = images(2, 2)
    tensors, arrays = encoder.features(crops), encoder.features(crops.numpy())
    for layer in LAYERS:
        assert isinstance(tensors[layer], torch.Tensor)
        assert type(arrays[layer]) is np.ndarray
        assert arrays[layer].dtype == np.float32
        np.testing.assert_array_equal(tensors[layer].numpy(), arrays[layer])
    doubles = encoder.features(crops.numpy().astype(np.float64))
    np.testing.assert_array_equal(doubles["conv5"], arrays["conv5"])


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 2, 6, 8), "6×8 pixels do not fit"),
        ((1, 2, 8, 7), "divisible by 4"),
        ((1, 2, 0, 8), "divisible by 4"),
        ((1, 3, 8, 8), r"\(n, 2, rows, columns\)"),
        ((2, 8, 8), "proteins first; got"),
    ],
)
def test_crops_that_do_not_fit_are_a_sentence(shape, sentence):
    encoder = SourceEncoder(2, NARROW).eval()
    for crops in (np.zeros(shape, np.float32), torch.zeros(shape)):
        with pytest.raises(UserError, match=sentence):
            encoder.features(crops)


@pytest.mark.parametrize("layers", [["conv9"], ["conv4", "fc2"], []])
def test_layers_that_there_are_not_are_a_sentence(layers):
    with pytest.raises(UserError, match="conv1, conv2, conv3, conv4, conv5"):
        SourceEncoder(2, NARROW).eval().features(images(1, 2), layers)


def test_weights_come_back_from_their_file():
    network = lively(PairedCellInpainting(1, 2, NARROW))
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    file = save("pci", "mine", state, channels=("protein", "marker", "marker"), config=network.config, source="a test")
    again = load_network(file)
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again(images(2, 3), images(2, 2)), network(images(2, 3), images(2, 2)))


def test_weights_of_another_network_than_their_header_says_are_a_sentence():
    network = PairedCellInpainting(1, 2, NARROW)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    config = {**network.config, "width": 2 * NARROW}
    file = save("pci", "wrong", state, channels=("protein", "marker", "marker"), config=config, source="a test")
    with pytest.raises(UserError, match="does not hold the network that its header describes"):
        load_network(file)


# ---- Keras itself, on real cells


@pytest.fixture(scope="session")
def sample(test_data) -> Path:
    return test_data / "keras-weights-sample"


@pytest.fixture(scope="session")
def expected(sample) -> dict[str, np.ndarray]:
    with np.load(sample / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def published(sample) -> PairedCellInpainting:
    return load_keras_weights(sample / "model_weights.h5")


def nchw(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def test_features_equal_those_of_keras(published, expected):
    features = published.source_encoder.features(nchw(expected["x"]))
    for layer in LAYERS:
        assert features[layer].shape == (16, WIDTHS[layer])
        np.testing.assert_allclose(features[layer], expected[f"{layer}_1"], rtol=0, atol=1e-4)


def test_the_prediction_equals_that_of_keras(published, expected):
    assert not published.training
    with torch.no_grad():
        predicted = published(*(torch.from_numpy(nchw(expected[k])) for k in ("x", "target_markers")))
    np.testing.assert_allclose(predicted[:, 0].numpy(), expected["y_gfp"], rtol=0, atol=1e-4)


def test_the_authors_inputs_are_our_rescaled_crops(toy_cache, expected):
    cells = load_dataset("toy-human")
    position = {name: row for row, name in enumerate(cells.obs["image"] + "/" + cells.obs["cell"])}
    rows = [position[str(path).removesuffix("_green.tif")] for path in expected["paths"]]
    assert len(set(rows)) == 16
    np.testing.assert_allclose(cells.crops(rows), nchw(expected["x"]), rtol=0, atol=1e-6)


# ---- import: a narrow network in the same layout, cheap to write and to spoil


def keras_layers(network: PairedCellInpainting, norms: dict[str, str] | None = None) -> list[dict]:
    """The layers of the authors' network as Keras lists them, batch norms numbered in the order of creation."""
    layers: list[dict] = []
    number = count()

    def add(kind: str, name: str, inputs: list[str], **config) -> str:
        nodes = [[[i, 0, 0, {}] for i in inputs]] if inputs else []
        layers.append({"class_name": kind, "config": {"name": name, **config}, "name": name, "inbound_nodes": nodes})
        return name

    def conv(name: str, source: str, size: int = 3, activation: str = "relu") -> str:
        return add(
            "Conv2D",
            name,
            [source],
            kernel_size=[size, size],
            strides=[1, 1],
            dilation_rate=[1, 1],
            padding="same" if size == 3 else "valid",
            data_format="channels_last",
            activation=activation,
            use_bias=True,
        )

    def norm(source: str) -> str:
        n = next(number)
        name = f"batch_normalization_{n}" if n else "batch_normalization"
        return add("BatchNormalization", (norms or {}).get(name, name), [source], epsilon=0.001, axis=[3])

    def pool(source: str) -> str:
        name = f"max_pooling2d_{sum(entry['class_name'] == 'MaxPooling2D' for entry in layers)}"
        return add("MaxPooling2D", name, [source], pool_size=[2, 2], strides=[2, 2], padding="valid")

    def up(source: str, name: str) -> str:
        return add("UpSampling2D", name, [source], size=[2, 2], interpolation="nearest")

    x, y = add("InputLayer", "x_in", []), add("InputLayer", "y_rfp", [])
    x = pool(norm(conv("conv1_1", x)))
    x = pool(norm(conv("conv2_1", x)))
    y = pool(norm(conv("rfpconv1_1", y)))
    y = pool(norm(conv("rfpconv2_1", y)))
    for i in (3, 4, 5):
        x = norm(conv(f"conv{i}_1", x))
    x = add("Concatenate", "concatenate", [x, norm(conv("rfpconv3_1", y))], axis=-1)
    for i in (6, 7, 8):
        x = conv(f"conv{i}_1", x)
    x = conv("conv9_1", up(x, "up_sampling2d"))
    conv("y_gfp", conv("conv10_1", up(x, "up_sampling2d_1")), size=1, activation="linear")
    return layers


CREATED = ["source_encoder.norms.0", "source_encoder.norms.1", "marker_encoder.norms.0", "marker_encoder.norms.1",
           "source_encoder.norms.2", "source_encoder.norms.3", "source_encoder.norms.4", "marker_encoder.norms.2"]  # fmt: skip


def write_keras(
    path: Path,
    network: PairedCellInpainting,
    *,
    change_graph: Callable[[dict[str, dict]], object] = lambda layers: None,
    change_file: Callable[[h5py.File], object] = lambda file: None,
    norms: dict[str, str] | None = None,
    nested: bool = True,
    as_keras_3: bool = False,
) -> Path:
    """Write a network as Keras writes a full model, after changing the graph or the file."""
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    layers = keras_layers(network, norms)
    change_graph({entry["config"]["name"]: entry for entry in layers})
    if as_keras_3:
        for entry in layers:
            if entry["inbound_nodes"]:
                tensors = [
                    {"class_name": "__keras_tensor__", "config": {"shape": [None, 8, 8, 1], "keras_history": [name, 0, 0]}}
                    for name, *_ in entry["inbound_nodes"][0]
                ]  # fmt: skip
                args = tensors if len(tensors) == 1 else [tensors]
                entry["inbound_nodes"] = [{"args": args, "kwargs": {"mask": None}}]
    ours = {f"conv{i}_1": f"source_encoder.convs.{i - 1}" for i in range(1, 6)}
    ours |= {f"rfpconv{i}_1": f"marker_encoder.convs.{i - 1}" for i in range(1, 4)}
    ours |= {f"conv{i}_1": f"decoder.convs.{i - 6}" for i in range(6, 11)} | {"y_gfp": "decoder.output"}
    with h5py.File(path, "w") as file:
        config = {"class_name": "Functional", "config": {"name": "model", "layers": layers}}
        file.attrs["keras_version"] = "2.0.8-tf"
        file.attrs["model_config"] = json.dumps(config).encode()
        weights = file.create_group("model_weights")

        def write(layer: str, arrays: dict[str, np.ndarray]) -> None:
            for name, array in arrays.items():
                weights[f"{layer}/{layer}/{name}:0" if nested else f"{layer}/{name}"] = array

        for layer, name in ours.items():
            write(layer, {"kernel": state[f"{name}.weight"].transpose(2, 3, 1, 0), "bias": state[f"{name}.bias"]})
        for n, name in enumerate(CREATED):
            layer = f"batch_normalization_{n}" if n else "batch_normalization"
            kinds = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
            write((norms or {}).get(layer, layer), {k: state[f"{name}.{v}"] for k, v in kinds.items()})
        change_file(file)
    return path


@pytest.fixture(scope="module")
def network() -> PairedCellInpainting:
    return lively(PairedCellInpainting(1, 2, NARROW))


def assert_same_network(one: PairedCellInpainting, other: PairedCellInpainting) -> None:
    assert one.config == other.config
    for name, tensor in other.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(one.state_dict()[name], tensor), name


@pytest.mark.parametrize("options", [{}, {"nested": False}, {"as_keras_3": True}], ids=["keras 2", "flat", "keras 3"])
def test_a_network_written_as_keras_does_is_read_back_to_the_bit(tmp_path, network, options):
    assert_same_network(load_keras_weights(write_keras(tmp_path / "m.h5", network, **options)), network)


def test_the_published_layout_is_the_one_that_these_tests_write(sample, network):
    """The spoilt files below mean something only if the whole ones are like the published one."""
    with h5py.File(sample / "model_weights.h5") as file:
        published = json.loads(file.attrs["model_config"])["config"]["layers"]
        names = set(file["model_weights"])

    def graph(layers: list[dict]) -> dict[str, tuple[str, list[str]]]:
        """Every layer's kind and inputs; pooling layers by what they pool, since their numbers are automatic too."""
        inputs = {e["config"]["name"]: [i[0] for node in e["inbound_nodes"] for i in node] for e in layers}
        name = {n: f"pooled {inputs[n][0]}" if n.startswith("max_pooling") else n for n in inputs}
        return {name[n]: (e["class_name"], [name[i] for i in inputs[n]]) for n, e in zip(inputs, layers, strict=True)}

    ours = keras_layers(network)
    assert graph(ours) == graph(published)
    assert {n for n in names if n.startswith("batch")} == {n for n in graph(ours) if n.startswith("batch")}
    theirs = {e["config"]["name"]: e["config"] for e in published}
    for entry in ours:
        for key, value in entry["config"].items():
            if key != "name" and entry["class_name"] != "MaxPooling2D":
                assert theirs[entry["config"]["name"]][key] == value, (entry["config"]["name"], key)


@pytest.mark.parametrize("width", [1 / 16, 1 / 8, 1 / 3])
@pytest.mark.parametrize(("proteins", "markers"), [(1, 1), (1, 2), (2, 1)])
def test_widths_and_channels_are_read_off_the_file(tmp_path, width, proteins, markers):
    network = lively(PairedCellInpainting(proteins, markers, width))
    again = load_keras_weights(write_keras(tmp_path / "m.h5", network))
    assert (again.config["proteins"], again.config["markers"]) == (proteins, markers)
    for name, tensor in network.state_dict().items():
        assert again.state_dict()[name].shape == tensor.shape


def test_batch_norms_are_found_by_the_graph_whatever_their_names(tmp_path, network):
    names = ["batch_normalization", *(f"batch_normalization_{i}" for i in range(1, 8))]
    rolled = dict(zip(names, [*names[3:], *names[:3]], strict=True))
    assert_same_network(load_keras_weights(write_keras(tmp_path / "m.h5", network, norms=rolled)), network)
    odd = {name: f"bn_{chr(122 - i)}" for i, name in enumerate(names)}
    assert_same_network(load_keras_weights(write_keras(tmp_path / "n.h5", network, norms=odd)), network)


def test_an_activation_may_be_a_layer_of_its_own(tmp_path, network):
    def change(file: h5py.File) -> None:
        config = json.loads(file.attrs["model_config"])
        layers = {e["config"]["name"]: e for e in config["config"]["layers"]}
        layers["conv4_1"]["config"]["activation"] = "linear"
        layers["batch_normalization_5"]["inbound_nodes"] = [[["activation_1", 0, 0, {}]]]
        own = {"name": "activation_1", "activation": "relu"}
        config["config"]["layers"].append(
            {"class_name": "Activation", "config": own, "inbound_nodes": [[["conv4_1", 0, 0, {}]]]}
        )
        file.attrs["model_config"] = json.dumps(config)

    assert_same_network(load_keras_weights(write_keras(tmp_path / "m.h5", network, change_file=change)), network)


def swap_inputs(layers: dict[str, dict], one: str, other: str) -> None:
    a, b = layers[one], layers[other]
    a["inbound_nodes"], b["inbound_nodes"] = b["inbound_nodes"], a["inbound_nodes"]


def configure(layer: str, **values) -> Callable[[dict[str, dict]], None]:
    return lambda layers: layers[layer]["config"].update(values)


def become(layer: str, kind: str) -> Callable[[dict[str, dict]], None]:
    return lambda layers: layers[layer].update(class_name=kind)


def rewire(layer: str, *inputs: str) -> Callable[[dict[str, dict]], None]:
    return lambda layers: layers[layer].update(inbound_nodes=[[[i, 0, 0, {}] for i in inputs]])


GRAPHS = {
    "swapped batch norms": (lambda layers: swap_inputs(layers, "batch_normalization", "batch_normalization_1"), "after conv1_1"),
    "swapped branches": (rewire("concatenate", "batch_normalization_7", "batch_normalization_6"), "conv5_1"),
    "one branch": (rewire("concatenate", "batch_normalization_6"), "conv6_1"),
    "no concatenation": (become("concatenate", "Add"), "conv6_1"),
    "concatenated along rows": (configure("concatenate", axis=1), "concatenate"),
    "no batch norm": (rewire("conv4_1", "conv3_1"), "conv3_1"),
    "no pooling": (rewire("conv2_1", "batch_normalization"), "conv1_1"),
    "pooled elsewhere": (become("max_pooling2d_1", "UpSampling2D"), "conv2_1"),
    "mean pooling": (become("max_pooling2d_0", "AveragePooling2D"), "conv1_1"),
    "overlapping pooling": (configure("max_pooling2d_0", strides=[1, 1]), "max_pooling2d_0"),
    "pooling by three": (configure("max_pooling2d_0", pool_size=[3, 3]), "max_pooling2d_0"),
    "bilinear upsampling": (configure("up_sampling2d", interpolation="bilinear"), "up_sampling2d"),
    "upsampling by four": (configure("up_sampling2d", size=[4, 4]), "up_sampling2d"),
    "tanh": (configure("conv3_1", activation="tanh"), "conv3_1"),
    "no activation": (configure("conv3_1", activation="linear"), "conv3_1"),
    "sigmoid at the end": (configure("y_gfp", activation="sigmoid"), "y_gfp"),
    "relu at the end": (configure("y_gfp", activation="relu"), "y_gfp"),
    "five by five": (configure("conv2_1", kernel_size=[5, 5]), "conv2_1"),
    "strided": (configure("conv2_1", strides=[2, 2]), "conv2_1"),
    "dilated": (configure("conv2_1", dilation_rate=[2, 2]), "conv2_1"),
    "unpadded": (configure("conv2_1", padding="valid"), "conv2_1"),
    "channels first": (configure("conv1_1", data_format="channels_first"), "conv1_1"),
    "transposed": (become("conv9_1", "Conv2DTranspose"), "conv9_1"),
    "another epsilon": (configure("batch_normalization_4", epsilon=1e-5), "batch_normalization_4"),
    "norm of rows": (configure("batch_normalization_4", axis=[1]), "batch_normalization_4"),
    "a missing layer": (lambda layers: layers["conv7_1"]["config"].update(name="other"), "conv7_1"),
    "an input that is nowhere": (rewire("batch_normalization_4", "ghost"), "ghost"),
    "a first layer fed by another": (rewire("rfpconv1_1", "conv1_1"), "rfpconv1_1"),
    "a circle": (rewire("batch_normalization_4", "batch_normalization_4"), "conv3_1"),
    "no input": (lambda layers: layers["conv6_1"].update(inbound_nodes=[]), "conv6_1"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "named"), GRAPHS.values(), ids=GRAPHS)
def test_a_network_that_is_wired_otherwise_is_refused_and_the_place_named(tmp_path, network, change, named):
    file = write_keras(tmp_path / "m.h5", network, change_graph=change)
    with pytest.raises(UserError) as error:
        load_keras_weights(file)
    assert named in str(error.value)
    assert str(file) in str(error.value)


def replace(path: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def do(file: h5py.File) -> None:
        group, name = path.split("/")
        node = file[f"model_weights/{group}/{group}"]
        array = change(node[f"{name}:0"][()])
        del node[f"{name}:0"]
        node[f"{name}:0"] = array

    return do


def spoil(array: np.ndarray) -> np.ndarray:
    array.flat[1] = np.nan
    return array


FILES = {
    "nan": (replace("conv8_1/kernel", spoil), ["conv8_1", "NaN"]),
    "infinite batch norm": (replace("batch_normalization_6/moving_mean", lambda a: a * np.inf), ["batch_normalization_6", "infinite"]),
    "missing kernel": (lambda f: f["model_weights/conv4_1/conv4_1"].pop("kernel:0"), ["conv4_1", "no kernel"]),
    "missing layer": (lambda f: f["model_weights"].pop("conv4_1"), ["conv4_1", "no kernel"]),
    "missing variance": (lambda f: f["model_weights/batch_normalization/batch_normalization"].pop("moving_variance:0"), ["batch_normalization", "moving_variance"]),
    "a marker too many": (replace("rfpconv1_1/kernel", lambda a: np.concatenate([a, a[:, :, :1]], axis=2)), ["source encoder takes 3", "1 predicted", "3 marker"]),
    "two outputs": (lambda f: (replace("y_gfp/kernel", lambda a: np.repeat(a, 2, 3))(f), replace("y_gfp/bias", lambda a: np.repeat(a, 2))(f)), ["do not add up", "2 predicted"]),
    "narrow layer": (replace("conv3_1/kernel", lambda a: a[..., :-1]), ["source_encoder.convs.2.weight", "expected"]),
    "narrow batch norm": (replace("batch_normalization_5/gamma", lambda a: a[:-1]), ["source_encoder.norms.3", "expected"]),
    "flat kernel": (replace("conv3_1/kernel", lambda a: a.ravel()), ["conv3_1", "shape"]),
    "text": (replace("conv3_1/bias", lambda a: np.bytes_("words")), ["conv3_1"]),
    "no config": (lambda f: f.attrs.pop("model_config"), ["not a Keras full model", "model_config"]),
    "no weights": (lambda f: f.pop("model_weights"), ["not a Keras full model", "model_weights"]),
    "config not JSON": (lambda f: f.attrs.modify("model_config", b"{broken"), ["model_config"]),
    "config of another kind": (lambda f: f.attrs.modify("model_config", b'{"class_name": "Sequential", "config": []}'), ["model_config"]),
    "a list of numbers": (lambda f: f.attrs.modify("model_config", b'{"config": {"layers": [1, 2]}}'), ["model_config"]),
    "weights an array": (lambda f: (f.pop("model_weights"), f.create_dataset("model_weights", data=[1.0])), ["model_weights"]),
}  # fmt: skip


@pytest.mark.parametrize(("change", "parts"), FILES.values(), ids=FILES)
def test_weights_that_are_wrong_are_refused_and_named(tmp_path, network, change, parts):
    file = write_keras(tmp_path / "m.h5", network, change_file=change)
    with pytest.raises(UserError) as error:
        load_keras_weights(file)
    for part in [str(file), *parts]:
        assert part in str(error.value)


def hdf5_of_another_kind(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data1"] = np.zeros((3, 8192))


@pytest.mark.parametrize(
    ("spoil_file", "sentence"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1000]), "truncated or of another kind"),
        (lambda p: p.write_bytes(p.read_bytes()[:100]), "truncated or of another kind"),
        (lambda p: p.write_bytes(b""), "truncated or of another kind"),
        (lambda p: p.write_text("<html>404</html>"), "truncated or of another kind"),
        (hdf5_of_another_kind, "not a Keras full model.*data1"),
        (lambda p: p.unlink(), "There is no file"),
        (lambda p: (p.unlink(), p.mkdir()), "There is no file"),
    ],
    ids=["truncated", "cut short", "empty", "a web page", "other HDF5", "absent", "a folder"],
)
def test_a_file_that_is_no_keras_model_is_a_sentence(tmp_path, network, spoil_file, sentence):
    file = write_keras(tmp_path / "m.h5", network)
    spoil_file(file)
    with pytest.raises(UserError, match=sentence) as error:
        load_keras_weights(file)
    assert str(file) in str(error.value)


def test_a_truncated_copy_of_the_published_file_is_a_sentence(sample, tmp_path):
    file = tmp_path / "model_weights.h5"
    shutil.copyfile(sample / "model_weights.h5", file)
    with open(file, "r+b") as stream:
        stream.truncate(20_000_000)
    with pytest.raises(UserError, match="truncated"):
        load_keras_weights(file)


@pytest.mark.parametrize("negative", [False, True])
def test_pooling_before_batch_norm_gives_the_same_bits(negative):
    torch.manual_seed(0)
    encoder = SourceEncoder(2, 0.1).eval()
    for norm in encoder.norms:
        for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
            tensor.uniform_(0.2, 1.5)
    if negative:
        encoder.norms[1].weight.data[3] *= -1
    x = crops = torch.rand(3, 2, 16, 16).contiguous(memory_format=torch.channels_last)
    found = encoder.features(crops)
    with torch.inference_mode():
        for number, (conv, norm) in enumerate(zip(encoder.convs, encoder.norms, strict=True), 1):
            x = F.relu(conv(x))
            assert torch.equal(found[f"conv{number}"], x.amax(dim=(2, 3)))
            x = norm(x)
            x = F.max_pool2d(x, 2) if number <= 2 else x
