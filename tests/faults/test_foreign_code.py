"""A foreign file runs no code, whichever door it comes in by."""

from __future__ import annotations

import ast
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults import FEW, RUN, Fault, with_crops

import pci_bench

RAN = "payload-ran"


class Payload:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return open, (RAN, "w")


class Namespace:
    """Sets state when it is unpickled: a class of this module, which no file of weights may name."""


def pickled() -> bytes:
    return pickle.dumps(Payload())


def saved_by_torch(content: object, **options: object) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def objects(**arrays: object) -> bytes:
    """Return a ``.npz`` that holds arrays of Python objects."""
    stream = io.BytesIO()
    np.savez(stream, **{name: np.array(value, dtype=object) for name, value in arrays.items()})
    return stream.getvalue()


def with_file(name: str, content: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content())


TIMM = ("weights", "import", "timm", "f.pth", "--name", "resnet10t.mine")
STATE = {"module.conv1.weight": np.zeros(3)}

FAULTS = [
    Fault(
        "a checkpoint with a payload beside its state, for timm",
        TIMM,
        ("f.pth does not hold the weights of the timm model resnet10t.mine", "it asks for io.open"),
        with_file("f.pth", lambda: saved_by_torch({"state_dict": {}, "epoch": Payload()})),
        absent=(RAN,),
    ),
    Fault(
        "a payload in torch's old format, for timm",
        TIMM,
        ("f.pth does not hold", "it asks for io.open"),
        with_file("f.pth", lambda: saved_by_torch({"a": Payload()}, _use_new_zipfile_serialization=False)),
        absent=(RAN,),
    ),
    Fault("a bare pickle, for timm", TIMM, ("f.pth does not hold",), with_file("f.pth", pickled), absent=(RAN,)),
    Fault(
        "a class of someone's module, for timm",
        TIMM,
        ("f.pth does not hold", "it asks for test_foreign_code.Namespace"),
        with_file("f.pth", lambda: saved_by_torch({"a": Namespace()})),
    ),
    Fault(
        "a pickle called .safetensors, for timm",
        ("weights", "import", "timm", "f.safetensors", "--name", "resnet10t.mine"),
        ("f.safetensors does not hold",),
        with_file("f.safetensors", pickled),
        absent=(RAN,),
    ),
    Fault(
        "a pickle called .npz, for DeepLoc",
        ("weights", "import", "deeploc-npz", "f.npz"),
        ("f.npz cannot be read as a .npz of plain arrays",),
        with_file("f.npz", pickled),
        absent=(RAN,),
    ),
    Fault(
        "an array of objects, for DeepLoc",
        ("weights", "import", "deeploc-npz", "f.npz"),
        ("f.npz", "the array 'classes.npy' holds Python objects, which are never loaded"),
        with_file("f.npz", lambda: objects(classes=[Payload()])),
        absent=(RAN,),
    ),
    Fault(
        "an array of objects among features",
        ("evaluate", "f.npz", "--with", "loo-knn"),
        ("f.npz cannot be read as .npz features", "holds Python objects, which are never loaded"),
        with_file("f.npz", lambda: objects(X=[[Payload()]], cell=["a"])),
        absent=(RAN,),
    ),
    Fault(
        "a pickle called .h5ad",
        ("evaluate", "f.h5ad", "--with", "loo-knn"),
        ("f.h5ad cannot be read as .h5ad features",),
        with_file("f.h5ad", pickled),
        absent=(RAN,),
    ),
    Fault(
        "a pickle called .parquet",
        ("evaluate", "f.parquet", "--with", "loo-knn"),
        ("f.parquet cannot be read as .parquet features",),
        with_file("f.parquet", pickled),
        absent=(RAN,),
    ),
    Fault(
        "a pickle called .h5, for the paper's network",
        ("weights", "import", "keras-pci", "f.h5"),
        ("f.h5 cannot be read as HDF5",),
        with_file("f.h5", pickled),
        absent=(RAN,),
    ),
    Fault(
        "a pickle called .h5, for CytoImageNet's network",
        ("weights", "import", "keras-efficientnetb0", "f.h5"),
        ("f.h5 cannot be read as weights of Keras",),
        with_file("f.h5", pickled),
        absent=(RAN,),
    ),
    Fault(
        "a pickle as a crop",
        (*RUN, "--dataset", "folder:crops", *FEW, "--out", "out"),
        ("w1/2_gfp.tif", "cannot be read as an image"),
        with_crops(**{"w1/2_gfp.tif": pickled()}),
        absent=(RAN, "out"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


def test_timm_is_given_a_state_and_never_a_file(monkeypatch, tmp_path):
    """Whatever a version of timm does with a file, it is not asked to; so this holds for the oldest one, too."""
    import torch

    from pci_bench.system.timm_import import import_timm, load_network

    timm = import_timm()
    source = timm.create_model("resnet10t", num_classes=3)
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "f.pth")

    def refuse(*_, **__):
        raise AssertionError("a file was handed to timm")

    for module in (timm.models._helpers, timm.models._builder, timm.models):
        monkeypatch.setattr(module, "load_state_dict", refuse)
    network = load_network("resnet10t.mine", tmp_path / "f.pth")
    assert torch.equal(network.layer1[0].conv1.weight, source.layer1[0].conv1.weight)


FORBIDDEN = {
    *("load_checkpoint", "resume_checkpoint", "load_state_dict_from_url", "load_pretrained", "read_pickle"),
    *("extractall", "load_model", "unsafe_load"),
}
OF_NUMBERS = {("tf.train", "load_checkpoint")}  # which reads tensors by name, and no graph
PICKLES = {("pickle", "load"), ("pickle", "loads"), ("joblib", "load"), ("", "eval"), ("", "exec")}
SAFE = {"numpy": ("allow_pickle", False), "np": ("allow_pickle", False), "torch": ("weights_only", True)}


def calls(root: Path):
    for file in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
                yield f"{file.name}:{node.lineno}", owner, name, {k.arg: k.value for k in node.keywords}


def test_no_loader_that_may_run_a_file_is_called():
    import pci_bench_baselines

    for package in (pci_bench, pci_bench_baselines):
        for where, owner, name, options in calls(Path(package.__file__).parent):
            assert name not in FORBIDDEN or (owner, name) in OF_NUMBERS, where
            assert (owner, name) not in PICKLES, where
            if name == "load" and owner in SAFE:
                option, value = SAFE[owner]
                assert getattr(options.get(option), "value", None) is value, f"{where} leaves out {option}={value}"
