"""Import of timm where torchvision may be broken, and download and loading of the weights of its models."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pci_bench.errors import UserError
from pci_bench.system.foreign import read_json, read_tensors

if TYPE_CHECKING:
    from torch import nn

BROKEN_TORCHVISION = "operator torchvision::nms does not exist"
MISSING_OPERATORS = ("nms", "qnms")
SECONDS_TO_ANSWER = 5
# Arguments with which timm reads other files, runs code of others or changes what is returned: none describes a network.
NOT_OF_A_CONFIGURATION = {
    "cache_dir",
    "checkpoint_path",
    "exportable",
    "features_only",
    "model_name",
    "num_classes",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_strict",
    "scriptable",
}

_kept: list[Any] = []  # a library's operators live as long as the library does
_refused: dict[str, str] = {}


@cache
def import_timm() -> ModuleType:
    """Return the module timm, also where a CUDA build of torchvision stands beside a CPU build of torch.

    That torchvision cannot be imported, for want of two operators that no network of timm calls. Exactly on that error they
    are declared, without an implementation, and the import is tried again; where torchvision is healthy nothing is done.

    Examples
    --------
    >>> import_timm().__name__
    'timm'
    """
    try:
        return importlib.import_module("timm")
    except RuntimeError as error:
        if str(error) != BROKEN_TORCHVISION:
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm")]:
        del sys.modules[name]
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in MISSING_OPERATORS:
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)
    return importlib.import_module("timm")


def pretrained_config(model: str) -> Any:
    """Return what timm knows of a model's own weights, or None where it has none of that name.

    Parameters
    ----------
    model
        ``"resnet50"`` (timm's default weights of that architecture) or ``"resnet50.a1_in1k"``.
    """
    try:
        return import_timm().get_pretrained_cfg(model)
    except RuntimeError:  # the architecture is known, and has no weights of that name
        return None


def downloaded(model: str) -> Path:
    """Return the file of a timm model's own weights, from the Hugging Face hub or from what was downloaded before.

    Raises
    ------
    UserError
        Where the hub cannot be reached, or has no such file. Each model is tried once per process.
    """
    if model not in _refused:
        try:
            return _downloaded(model)
        except UserError as error:
            _refused[model] = str(error)
    raise UserError(_refused[model])


def _downloaded(model: str) -> Path:
    config = pretrained_config(model)
    if config is None or not (config.hf_hub_id or config.url):
        raise UserError(f"timm has no pretrained weights named '{model}'.")
    if not config.hf_hub_id:
        raise UserError(f"The weights '{model}' are not on the Hugging Face hub. Download {config.url}.")
    name = config.hf_hub_filename or "model.safetensors"
    return hub_file(config.hf_hub_id, name, f"The weights '{model}' ({config.hf_hub_id})")


def hub_file(repository: str, name: str, what: str) -> Path:
    """Return a file of a repository on the Hugging Face hub, downloaded now or before.

    Parameters
    ----------
    repository, name
        ``"timm/resnet50.a1_in1k"``, ``"model.safetensors"``.
    what
        Begins the sentence of what could not be downloaded.

    Raises
    ------
    UserError
        Where the hub cannot be reached, or has no such file.
    """
    from huggingface_hub import hf_hub_download

    here_only = not _hub_answers()
    try:
        return Path(hf_hub_download(repository, name, local_files_only=here_only))
    except (OSError, ValueError) as error:  # the hub's errors are these, and a full disk is the first
        why = "the Hugging Face hub cannot be reached: this machine is offline" if here_only else str(error).strip()
        raise UserError(f"{what} could not be downloaded: {why.rstrip('.')}.") from error


@cache
def _hub_answers() -> bool:
    """Return whether the hub answers at all, asked once: its own client tries six times, which takes a minute offline."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS_TO_ANSWER).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True


def load_network(model: str, file: Path) -> nn.Module:
    """Return a timm model without its classifier, with the weights of a file, ready for evaluation.

    Parameters
    ----------
    model
        ``ARCHITECTURE.TAG``. Of a tag that timm does not know, the architecture is taken.
    file
        Its state, or a training checkpoint that holds it: ``.safetensors``, or any file that torch loads with
        ``weights_only=True``. It is read here, and timm is given the state alone: some of its versions run what a file says.
        The number of classes is the file's own; the classifier is read and left out.

    Raises
    ------
    UserError
        Where the file cannot be read, or lacks any of the network's weights.
    """
    timm = import_timm()
    if not file.is_file():
        raise UserError(f"There is no file {file}. Expected weights of the timm model {model}, .safetensors or .pth.")
    name = model if pretrained_config(model) else model.partition(".")[0]
    try:
        state = timm.models.clean_state_dict(read_tensors(file))
        overlay: dict[str, Any] = {"state_dict": state, "custom_load": False}
        if name != model:  # with as many classes as the file has, timm takes no weight too few and none too many
            overlay |= {"num_classes": _classes_in(state, name), "label_offset": 0}
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # torch, safetensors, pickle and timm's translations of keys each raise their own kinds
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{file} does not hold the weights of the timm model {model} ({reason}).") from error
    if hasattr(network, "reset_classifier"):
        network.reset_classifier(0)
    module: nn.Module = network.eval()
    return module


@dataclass(frozen=True)
class HubModel:
    """What the ``config.json`` of a model in the hub's layout says, as far as timm needs it.

    Attributes
    ----------
    architecture
        Of timm.
    arguments
        What the network is constructed with beyond timm's defaults; plain values.
    classes
        How many its classifier has; None where it does not say.
    preparation
        How images are prepared: input_size, mean, std, interpolation and others, as timm's own configurations.
    """

    architecture: str
    arguments: dict[str, Any]
    classes: int | None
    preparation: dict[str, Any]


def read_hub_config(file: Path) -> HubModel:
    """Return what the ``config.json`` of a model in the hub's layout says.

    Raises
    ------
    UserError
        Where it cannot be read, is of no model of timm, or constructs one with anything but plain values.
    """
    try:
        config = read_json(file)
        described = config.get("pretrained_cfg", config)
        architecture, arguments = (
            config.get("architecture", described.get("architecture")),
            config.get("model_args", {}),
        )
        classes = config.get("num_classes", described.get("num_classes"))
        known = isinstance(architecture, str) and import_timm().is_model(architecture)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{file} cannot be read as the configuration of a model ({error}).") from error
    if not known:
        raise UserError(
            f"{file} is of no model of timm {import_timm().__version__}: its architecture is {str(architecture)[:60]}. Expected a "
            "model that was made with timm, for example one of https://huggingface.co/models?library=timm."
        )
    if not isinstance(arguments, dict) or any(
        name in NOT_OF_A_CONFIGURATION or not isinstance(value, bool | int | float | str | list)
        for name, value in arguments.items()
    ):
        raise UserError(f"{file} constructs its model with {str(arguments)[:200]}; only plain values are taken.")
    return HubModel(architecture, arguments, classes if isinstance(classes, int) else None, described)


def load_hub_network(model: HubModel, file: Path) -> nn.Module:
    """Return a model in the hub's layout without its classifier, with the weights of a ``.safetensors``, ready for evaluation.

    Raises
    ------
    UserError
        Where the file cannot be read, or does not hold exactly the network that the configuration describes.
    """
    classes = {} if model.classes is None else {"num_classes": model.classes}
    try:
        network: Any = import_timm().create_model(model.architecture, pretrained=False, **model.arguments, **classes)
        network.load_state_dict(read_tensors(file))
    except Exception as error:  # timm's models raise all kinds for arguments that they do not know
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{file} does not hold the network that config.json beside it describes ({reason}).") from error
    if hasattr(network, "reset_classifier"):
        network.reset_classifier(0)
    module: nn.Module = network.eval()
    return module


def _classes_in(state: dict[str, Any], architecture: str) -> int:
    """Return how many classes the classifier in a network's state has, 0 where it holds none."""
    import torch

    timm = import_timm()
    with torch.device("meta"):
        network = timm.create_model(architecture)
    if not hasattr(network, "get_classifier"):
        return 0
    classifier = network.get_classifier()
    first = classifier[0] if isinstance(classifier, tuple | list) else classifier
    (name,) = [name for name, module in network.named_modules() if module is first]
    weight = state.get(f"{name}.weight")
    return 0 if weight is None else len(weight)


def state_of(network: nn.Module) -> dict[str, Any]:
    """Return a network's state as NumPy arrays, floats as float32."""
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()
        for name, tensor in network.state_dict().items()
    }
