"""``timm:MODEL[:layer]``, ``timm:hf-hub:USER/MODEL[:layer]``: any network of timm or of the hub, any of its layers."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import (
    Cells,
    Channel,
    Compute,
    Extractor,
    ExtractorMeta,
    UserError,
    import_timm,
    register_extractor,
    register_fetcher,
    register_importer,
)
from pci_bench.system.files import sha256_of
from pci_bench.system.timm_import import (
    downloaded,
    hub_file,
    load_hub_network,
    load_network,
    pretrained_config,
    read_hub_config,
    state_of,
)
from pci_bench.weights import find, network_in, read_header, save, setting

if TYPE_CHECKING:
    from torch import Tensor, nn

CROPS_PER_PASS = 16  # as for VGG16: measured there
LARGEST_SIDE = 4096  # pixels
INTERPOLATIONS = ("bicubic", "bilinear")  # that can be done with antialiasing
PREPARATION = ("input_size", "mean", "std", "interpolation")
HUB, OF_HUB = (
    "hf-hub:",
    "hf-hub--",
)  # how a model's name begins, and that of its weights (the hub allows no "--" in its own)
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
HUB_FILES = ("config.json", "model.safetensors")
IMPORT = "`pci-bench weights import timm FILE --name {}` takes a .safetensors or .pth file"


@register_extractor("timm", argument="MODEL[:layer]")
class TimmFeatures(Extractor):
    """Any network of timm, with its own weights, or with yours where MODEL's tag is the name of an imported file.

    ``timm:resnet50:layer3``, ``timm:vit_small_patch14_dinov2.lvd142m``; without a layer, what ``forward_features`` gives. Maps are
    max-pooled; of tokens the class token is taken, or their mean where there is none. The protein is shown as grey: rescaled to
    [0, 1], resized to the network's input size with its interpolation (nothing is cropped), normalised with its mean and SD.

    Weights come from the Hugging Face hub on first use. Your own, of any architecture that timm has:
    ``pci-bench weights import timm FILE --name resnet50.mylab``, then ``timm:resnet50.mylab:layer3``.

    ``timm:hf-hub:USER/MODEL`` takes anyone's model from the hub that was made with timm: its ``config.json`` says which
    architecture it is and how images are prepared, and its weights are read from ``model.safetensors`` alone.
    """

    def __init__(self, argument: str):
        self.model, self.layer = split(argument)
        what = f"the layer {self.layer}" if self.layer else "the last features"
        self.meta = ExtractorMeta(
            f"timm:{argument}",
            "1",
            f"{self.model} (timm), {what}, protein as grey",
            weights="timm",
            batch=CROPS_PER_PASS,
            concurrent=True,
        )

    @staticmethod
    def weights_in(argument: str) -> tuple[str, str | None]:
        """Return (ARCHITECTURE[:layer], weights or None) of MODEL[:layer][@weights]; a tag of MODEL's stands for the weights."""
        argument, _, weights = argument.partition("@")
        if argument.startswith(HUB):
            return argument, weights or None
        model, colon, layer = argument.partition(":")
        architecture, _, tag = model.partition(".")
        return f"{architecture}{colon}{layer}", weights or (model if tag else None)

    def default_weights(self) -> str:
        """Return the full name of timm's default weights of the architecture; of a model of the hub, the name of its weights."""
        return weights_of_hub(self.model) if self.model.startswith(HUB) else full_name(self.model)

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return None; a model or layer that there is not is an error, since the user named it."""
        if not self.model.startswith(HUB):  # whose architecture is known once its weights are here
            self.layout(None)
        return None

    def layout(self, weights: Path | None) -> Layout:
        """Return the layout of the layer's output, of these weights or, without any, of what the model's name says."""
        if self.model.startswith(HUB):
            name = self.default_weights()
            if (weights := weights or find("timm", name)) is None:
                raise UserError(
                    f"Which network {self.model} is, its weights say. `pci-bench weights get timm@{name}` gets them."
                )
        if weights is None:
            return layout(full_name(self.model), self.layer)
        config = preparation_in(weights)
        return layout(config["model"], self.layer, json.dumps(config["model_args"], sort_keys=True))

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return layer3_0, layer3_1 and so on."""
        return [f"{self.layer or 'features'}_{i}" for i in range(self.layout(weights).width)]

    def output_unavailable_reason(self, output: str, channels: tuple[Channel, ...], weights: Path | None) -> str | None:
        """Return why these weights are not this model's, or None."""
        assert weights is not None
        if self.model.startswith(HUB):
            if weights != find("timm", self.default_weights()):
                return f"{weights.stem} are not the weights of {self.model}"
            self.layout(weights)
            return None
        wanted, given = self.model.partition(".")[0], setting(weights, "model", str).partition(".")[0]
        return None if wanted == given else f"{weights.stem} are weights of {given}, not of {wanted}"

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the network's pass, which ends at the layer."""
        import torch

        assert weights is not None
        config = preparation_in(weights)
        network: Any = network_in(weights, lambda: make_network(config["model"], config["model_args"]))
        network.to(device=device, memory_format=torch.channels_last)
        protein = next(i for i, c in enumerate(channels) if c.role == "protein")
        pooling = self.layout(weights)

        def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            grey = torch.from_numpy(crops[:, protein : protein + 1]).to(device)
            with torch.inference_mode():
                return {
                    "": pooled(output_of(network, self.layer, prepared(grey, config)), pooling).float().cpu().numpy()
                }

        return compute


def preparation_in(weights: Path) -> dict[str, Any]:
    """Return what a weights file says of its model and of how images are prepared for it, checked."""
    config = read_header(weights).config
    size = config.get("input_size")
    numbers = [config.get(key) for key in ("mean", "std")]
    if (
        isinstance(size, list)
        and len(size) == 3
        and all(isinstance(n, int) and 0 < n <= LARGEST_SIDE for n in size)
        and all(
            isinstance(n, list) and all(isinstance(v, int | float) for v in n) and len(n) == size[0] for n in numbers
        )
    ):
        setting(weights, "model", str)
        arguments = config.get("model_args", {})
        if config.get("interpolation") in INTERPOLATIONS and isinstance(arguments, dict):
            return config | {"model_args": arguments}
    raise UserError(
        f"The header of {weights} does not say how images are prepared: expected config.model, input_size [channels, rows, columns], "
        f"mean and std of each channel, and interpolation ({', '.join(INTERPOLATIONS)}). Import the weights again."
    )


def prepared(grey: Tensor, config: dict[str, Any]) -> Tensor:
    """Return crops as a network was trained to see images.

    Tensor (b, 1, rows, columns) in [0, 1] -> (b, channels, rows, columns) of the network's input size. Bicubic interpolation
    leaves [0, 1] at sharp edges; no image does, so what leaves it is clipped.
    """
    from torch.nn import functional

    channels, *size = config["input_size"]
    resized = functional.interpolate(grey, size, mode=config["interpolation"], align_corners=False, antialias=True)
    mean, sd = (grey.new_tensor(config[key]).reshape(-1, 1, 1) for key in ("mean", "std"))
    return (resized.clamp(0, 1).expand(-1, channels, -1, -1) - mean) / sd


class _Reached(Exception):  # noqa: N818 - not an error: it ends a pass
    """Carries a layer's output out of the network, so that nothing behind it is computed."""


def output_of(network: Any, layer: str, images: Tensor) -> Any:
    """Return the output of a layer, or of ``forward_features`` where none is named."""
    if not layer:
        return network.forward_features(images)

    def stop(module: nn.Module, inputs: Any, output: Any) -> None:
        raise _Reached(output)

    hook = network.get_submodule(layer).register_forward_hook(stop)
    try:
        network(images)
    except _Reached as reached:
        return reached.args[0]
    finally:
        hook.remove()
    raise UserError(f"The layer {layer} is not run when features are computed. Name another layer of the network.")


@dataclass(frozen=True)
class Layout:
    """How a layer's output is made one row per crop, and how long the row is.

    Parameters
    ----------
    kind
        ``"rows"``, ``"map"``, ``"map, channels last"``, ``"class token"`` or ``"tokens"``.
    width
        Number of features.
    prefix
        Tokens before those of the image, which do not count for their mean.
    """

    kind: str
    width: int
    prefix: int = 0


def pooled(output: Tensor, layout: Layout) -> Tensor:
    """Return one row per crop of a layer's output: maps' maximum over space, the class token, or the mean of tokens."""
    if layout.kind == "map":
        return output.amax(dim=(2, 3))
    if layout.kind == "map, channels last":
        return output.amax(dim=(1, 2))
    if layout.kind == "class token":
        return output[:, 0]
    if layout.kind == "tokens":
        return output[:, layout.prefix :].mean(dim=1)
    return output


@cache
def layout(model: str, layer: str, arguments: str = "{}") -> Layout:
    """Return the layout of a layer's output, from a pass without numbers (which takes no time and no memory).

    Parameters
    ----------
    model, layer
        Their names.
    arguments
        What the network is constructed with beyond timm's defaults, as JSON.

    Raises
    ------
    UserError
        For a layer that there is not, with the nearest ones, or one whose output is no map, tokens or row.
    """
    import torch

    timm = import_timm()
    with torch.device("meta"):
        network: Any = make_network(model, json.loads(arguments)).eval()
        if layer and layer not in (known := dict(network.named_modules())):
            top = [name for name, _ in network.named_children()]
            raise UserError(
                f"{model} has no layer '{layer}'. {nearest(layer, known)}"
                f"Its outermost layers are {', '.join(top)}; those within them are named with dots, as {next((n for n in known if '.' in n), layer)}."
            )
        images = torch.zeros((2, *timm.data.resolve_model_data_config(network)["input_size"]))
        with torch.inference_mode():
            output = output_of(network, layer, images)
    if not isinstance(output, torch.Tensor) or output.ndim not in (2, 3, 4) or len(output) != len(images):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else f"a {type(output).__name__}"
        raise UserError(
            f"{f'The layer {layer}' if layer else 'forward_features'} of {model} gives {shape} for two images; expected a map, "
            f"tokens or a row for each. Name another layer: timm:{model}:LAYER."
        )
    if output.ndim == 2:
        return Layout("rows", output.shape[1])
    return map_layout(network, output.shape) if output.ndim == 4 else token_layout(network, output.shape)


def map_layout(network: nn.Module, shape: Sequence[int]) -> Layout:
    """Return the layout of maps: most are square, so the side that differs is the channels; else it is as timm declares."""
    _, first, second, third = shape
    if (first == second) != (second == third):
        last = first == second
    else:
        last = getattr(network, "output_fmt", "NCHW") == "NHWC"
    return Layout("map, channels last", third) if last else Layout("map", first)


def token_layout(network: nn.Module, shape: Sequence[int]) -> Layout:
    """Return the layout of tokens; layers before the class token is added have as many tokens as the image has patches."""
    _, tokens, width = shape
    of_the_image = getattr(getattr(network, "patch_embed", None), "num_patches", None)
    prefix = 0 if tokens == of_the_image else getattr(network, "num_prefix_tokens", 0)
    if prefix and getattr(network, "cls_token", None) is not None:
        return Layout("class token", width)
    return Layout("tokens", width, prefix)


# ---- models and weights by name


def split(argument: str) -> tuple[str, str]:
    """Return (model, layer) of an argument.

    Examples
    --------
    >>> split("resnet50:layer3"), split("hf-hub:timm/resnet50.a1_in1k:layer3.0")
    (('resnet50', 'layer3'), ('hf-hub:timm/resnet50.a1_in1k', 'layer3.0'))
    """
    source = HUB if argument.startswith(HUB) else ""
    model, _, layer = argument.removeprefix(source).partition(":")
    return f"{source}{model}", layer


def weights_of_hub(model: str) -> str:
    """Return the name of a hub model's weights.

    Raises
    ------
    UserError
        Where the hub has no such names.

    Examples
    --------
    >>> weights_of_hub("hf-hub:timm/resnet50.a1_in1k")
    'hf-hub--timm--resnet50.a1_in1k'
    """
    repository = model.removeprefix(HUB)
    if not HUB_NAME.fullmatch(repository) or "--" in repository:
        raise UserError(f"'{model}' names no model of the Hugging Face hub. Write hf-hub:USER/MODEL[:layer].")
    return OF_HUB + repository.replace("/", "--")


def make_network(model: str, arguments: dict[str, Any]) -> nn.Module:
    """Return a network of timm without its classifier and without weights."""
    network: nn.Module = import_timm().create_model(registered(model), pretrained=False, num_classes=0, **arguments)
    return network


def full_name(model: str) -> str:
    """Return ``ARCHITECTURE.TAG``; of an architecture alone, with the tag of timm's default weights, where it has any.

    Raises
    ------
    UserError
        For an architecture that timm has not, with the nearest ones.
    """
    timm = import_timm()
    architecture, _, tag = model.partition(".")
    if not timm.is_model(architecture):
        raise UserError(
            f"timm {timm.__version__} has no model '{architecture}'. {nearest(architecture, timm.list_models())}"
            "timm.list_models() in Python shows all of them; weights are named ARCHITECTURE.NAME."
        )
    config = pretrained_config(architecture)
    return model if tag or not (config and config.tag) else f"{architecture}.{config.tag}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that names what a user may have meant, or nothing."""
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(matches)}? " if matches else ""


def registered(model: str) -> str:
    """Return the name under which timm makes a model: without a tag that is the user's own."""
    return model if pretrained_config(model) else model.partition(".")[0]


@register_fetcher("timm")
def fetch_timm(name: str) -> Path:
    """Download a timm model's own weights from the Hugging Face hub, save them as ``timm@name`` and return the file.

    Raises
    ------
    UserError
        Where they cannot be downloaded, with what to do.
    """
    if name.startswith(OF_HUB):
        repository = name.removeprefix(OF_HUB).replace("--", "/", 1)
        what = f"The model {repository} of the hub"
        try:
            *_, last = [hub_file(repository, part, what) for part in HUB_FILES]
        except UserError as error:
            raise UserError(f"{error} Check the name, and run the same command again with a connection.") from error
        folder = last.parent
        return save_hub(name, folder, f"{repository} of the Hugging Face hub, version {folder.name}")
    name = full_name(name)
    try:
        file = downloaded(name)
    except UserError as error:
        again = f" With a connection, `pci-bench weights get timm@{name}` gets them." if pretrained_config(name) else ""
        raise UserError(f"{error}{again} {IMPORT.format(name)}.") from error
    return save_timm(name, file, f"the Hugging Face hub, {file.name}")


@register_importer("timm")
def import_timm_weights(file: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Import weights of a timm model as ``timm@ARCHITECTURE.NAME``: the name says which network they are of.

    `file` may be a folder in the hub's layout (``config.json`` and ``model.safetensors``, as timm's ``save_for_hf`` writes it), whose
    configuration then says what the network is constructed with and how images are prepared.

    Raises
    ------
    UserError
        For a name that begins with no model of timm, or a file that does not hold that model's weights.
    """
    name = full_name(name)
    if file.is_dir():
        if lacking := [part for part in HUB_FILES if not (file / part).is_file()]:
            raise UserError(
                f"The folder {file} has no {lacking[0]}. Expected {' and '.join(HUB_FILES)}, as timm's save_for_hf writes."
            )
        save_hub(name, file, file.name)
        return f"timm@{name}", ()
    save_timm(name, file, file.name)
    return f"timm@{name}", ()


def save_timm(name: str, file: Path, source: str) -> Path:
    """Save a timm model's weights with how images are prepared for them, and return the file."""
    network = load_network(name, file)
    preparation = import_timm().data.resolve_model_data_config(network)
    config = {"model": name, **{key: preparation[key] for key in PREPARATION}}
    return save(
        "timm", name, state_of(network), channels=(), config=config, source=f"{source}, sha256 {sha256_of(file)}"
    )


def save_hub(name: str, folder: Path, source: str) -> Path:
    """Save a model in the hub's layout with how images are prepared for it, and return the file.

    Raises
    ------
    UserError
        Where it is no model of timm, another than the name says, or its weights are not those of its configuration.
    """
    config_file, weights_file = (folder / part for part in HUB_FILES)
    model = read_hub_config(config_file)
    if not name.startswith(OF_HUB) and name.partition(".")[0] != model.architecture:
        raise UserError(
            f"{config_file} is of {model.architecture}. Give it a --name that begins so: {model.architecture}.NAME."
        )
    network = load_hub_network(model, weights_file)
    preparation = import_timm().data.resolve_data_config({}, pretrained_cfg=model.preparation)
    config = {"model": model.architecture, **{key: preparation[key] for key in PREPARATION}}
    if model.arguments:
        config["model_args"] = model.arguments
    source = f"{source}, {weights_file.name}, sha256 {sha256_of(weights_file)}"
    return save("timm", name, state_of(network), channels=(), config=config, source=source)
