"""Foreign files that hold nonsense: a sentence that names the file and the field, whichever of them it is."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from factories import make_features, result_content
from faults import FEW, RUN, Fault, with_crops, write

from pci_bench.api.evaluator import EVALUATORS
from pci_bench.errors import UserError
from pci_bench.reporting import comparison as comparison_text
from pci_bench.reporting.html import record
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reporting.tables.fill import fill
from pci_bench.reporting.tables.render import render, terminal
from pci_bench.runs import comparison, leaderboard
from pci_bench.runs.results import read_results
from pci_bench.system import foreign

CROPS = (*RUN, "--dataset", "folder:crops", *FEW, "--out", "out")
DEEP = "[" * 10_000


def result(features: str = "mine", value: float = 0.5, **changes: object) -> dict[str, Any]:
    """Return a sound result of kNN on three cells, as its file holds it."""
    params = {name: field.default for name, field in EVALUATORS.get("loo-knn").Params.model_fields.items()}
    whole = result_content(
        dataset={"sha256": "0", "n_cells": 3, "classes": {"a": 2, "b": 1}},
        features={"name": features, "dim": 1},
        evaluator={"params": params},
        metrics={"balanced_accuracy": value},
        intervals={"balanced_accuracy": [0.1, 0.9]},
        details={
            "interval": "images",
            "confusion": {"labels": ["a", "b"], "counts": [[1, 1], [1, 0]]},
            "per_class": {"a": 0.5, "b": 0.0},
            "chance": {"unit": "cell", "balanced_accuracy": {"mean": 0.5, "low": 0.4, "high": 0.6}},
            "unreachable_classes": ["b"],
            "training_cells": {"n": 1, "others": {"n": 2, "metrics": {"balanced_accuracy": 0.4}, "intervals": {}}},
        },
        run={"seed": 0, "started": "2020", "package": "0.1.0", "device": "cpu", "versions": {"numpy": "2"}},
    )
    return whole | changes


RECORD = {
    "schema": 1,
    "arguments": {"k": [1]},
    "results": ["results/planted/mine/loo-knn/k=11.json"],
    "figures": ["figures/a.png"],
    "not_run": [{"features": "raw", "dataset": "planted", "reason": "it was not asked for"}],
    "notes": [],
    "run": {"seed": 0, "started": "2020", "versions": {}},
}


def folder_of(folder: Path, content: object = None, run: object = None) -> Path:
    """Write an output folder of two results, one of which holds `content`, and a ``run.json`` that holds `run`."""
    for name, value in (("mine", content or result()), ("raw", result("raw", 0.4))):
        file = folder / "results" / "planted" / name / "loo-knn" / "k=11.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    (folder / "run.json").write_text(run if isinstance(run, str) else json.dumps(run or RECORD))
    return folder


def nodes(value: object, path: tuple = ()):
    """Yield the path of everything in a JSON value but itself."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from nodes(item, (*path, key))


LEFT_OUT = object()
NONSENSE = (None, "text", -1, 2**70, 1e308, True, [], {}, [[1]], {"a": 1}, "", LEFT_OUT)


def replaced(value: object, path: tuple, new: object) -> object:
    value = copy.deepcopy(value)
    *above, last = path
    place = value
    for key in above:
        place = place[key]
    if new is LEFT_OUT:
        del place[last]
    else:
        place[last] = new
    return value


def read_in_every_way(folder: Path, old: list) -> None:
    """Do with a folder what compare, table, leaderboard and the first half of report do."""
    results = read_results(folder)
    found = comparison.compare(old, results)
    comparison_text.markdown(found), comparison_text.junit(found)
    ranked = leaderboard.rankings(results)
    leaderboard.markdown(ranked), leaderboard.csv(ranked)
    said = record.recorded(folder)
    record.not_run(said), record.provenance(said, results)
    for dataset in dict.fromkeys(r.dataset.name for r in results):
        table = fill(TABLES.get("table1"), results, record.reasons(said, dataset), dataset)
        for form in ("md", "csv"):
            render(table, form)
        terminal([table], 80)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("which", ["result", "run.json"])
def test_nonsense_in_any_field_of_a_result_or_its_record_is_read_or_refused_by_name(tmp_path, which):
    old = read_results(folder_of(tmp_path))
    sound = result() if which == "result" else RECORD
    refused = 0
    for path in nodes(sound):
        for nonsense in random.Random(str(path)).sample(NONSENSE, 4):
            damaged = replaced(sound, path, nonsense)
            folder_of(tmp_path, *((damaged,) if which == "result" else (None, damaged)))
            try:
                read_in_every_way(tmp_path, old)
            except UserError as error:
                refused += str(error).endswith(".")
            except Exception as error:
                pytest.fail(f"{path} = {nonsense!r}: {type(error).__name__}: {error}")
    assert refused > 10


TEXTS = {  # of a JSON file, and what is said of it
    "empty": ("", "Expecting value"),
    "truncated": ('{"schema": 1, "a', "Unterminated string"),
    "nested 10,000 deep": (DEEP, "it is nested too deeply"),
    "a name twice": ('{"schema": 1, "schema": 2}', "'schema' is there twice"),
    "NaN": ('{"schema": NaN}', "schema is nan"),
    "too large a number": ('{"schema": [1e999]}', "schema.0 is inf"),
    "a lone surrogate": ('{"schema": "\\ud800"}', "surrogates not allowed"),
    "no UTF-8": (b"\xff\xfe", "can't decode byte 0xff"),
    "a list": ("[1]", None),
}


def holding(file: str, content: str | bytes) -> Callable[[Path], object]:
    def arrange(folder: Path) -> None:
        folder_of(folder / "out")
        (folder / "out" / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return arrange


MINE = "results/planted/mine/loo-knn/k=11.json"
OF_JSON = [
    Fault(
        f"{what} in {file}",
        ("table", "table1", "--results", "out"),
        (file, said or "not "),
        holding(file, text),
        absent=(),
    )
    for what, (text, said) in TEXTS.items()
    for file in (MINE, "run.json")
]


# ---- declared sizes


def npz(shape: tuple[int, ...], name: str = "X") -> bytes:
    """Return a ``.npz`` whose array says that it has a shape, and holds nothing."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    return stream.getvalue()


def png(width: int, height: int) -> bytes:
    """Return a PNG that says that it is so large, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def tiff(rows: int, columns: int) -> bytes:
    """Return a TIFF that says that it is so large, of one strip of eight bytes."""
    tags = {256: columns, 257: rows, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: rows, 279: 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 16) + b"\0" * 8 + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def hdf5(fill: Callable[[h5py.File], object]) -> Callable[[Path], object]:
    def arrange(folder: Path) -> None:
        with h5py.File(folder / "f.h5", "w") as file:
            fill(file)
        (folder / "f.h5ad").write_bytes((folder / "f.h5").read_bytes())

    return arrange


def huge(file: h5py.File) -> None:
    file.create_dataset("X", (10**7, 10**7), "f4", chunks=(100, 100))


def unwritten(file: h5py.File) -> None:
    file.create_dataset("X", (10**4, 10**4), "f4", chunks=(100, 100))


def outside(file: h5py.File) -> None:
    file.create_dataset("X", (4,), "u1", external=[("/etc/hostname", 0, 4)])


def linked(file: h5py.File) -> None:
    file["X"] = h5py.ExternalLink("another.h5", "/X")


def keras(config: object) -> Callable[[Path], object]:
    def fill(file: h5py.File) -> None:
        file.attrs["model_config"] = config if isinstance(config, str | int) else json.dumps(config)
        file.create_group("model_weights")

    return hdf5(fill)


def origin(value: object) -> Callable[[Path], object]:
    """Write features whose ``uns["pci_bench"]`` holds a value."""

    def arrange(folder: Path) -> None:
        adata = make_features(np.random.default_rng(0).random((20, 2)), label=["a", "b"] * 10)
        adata.uns["pci_bench"] = value
        adata.write_h5ad(folder / "f.h5ad")

    return arrange


def layer(**config: object) -> dict[str, object]:
    return {"config": {"layers": [{"class_name": "Conv2D", "config": config, "inbound_nodes": []}]}}


def weights_file(header: object, **tensors: np.ndarray) -> Callable[[Path], object]:
    """Write a weights file of this package with any header into the cache."""

    def arrange(folder: Path) -> None:
        from safetensors.numpy import save_file

        place = folder / "cache" / "weights"
        place.mkdir(parents=True, exist_ok=True)
        text = header if isinstance(header, str) else json.dumps(header)
        save_file(
            tensors or {"a": np.zeros(1, np.float32)}, place / "pci@mine.safetensors", metadata={"pci_bench": text}
        )
        with_crops()(folder)

    return arrange


HEADER = {"family": "pci", "name": "mine", "channels": ["protein", "marker"], "config": {}, "source": "here"}
USE = (*RUN, "--dataset", "folder:crops", "--features", "pci-conv1@mine", "--k", "1", "--out", "out")
WEIGHTS = [
    ("a header that is no JSON", "{", "Expecting property name"),
    ("a header nested 10,000 deep", DEEP, "it is nested too deeply"),
    ("a header that is a list", [], "its content: Input should be"),
    ("channels that are numbers", HEADER | {"channels": [1, 2]}, "channels.0: Input should be a valid string"),
    ("a config that is text", HEADER | {"config": "x"}, "config: Input should be a valid dictionary"),
    ("no source", {k: v for k, v in HEADER.items() if k != "source"}, "source: "),
    ("a config of another network", HEADER | {"config": {"layers": 3}}, "unexpected keyword argument 'layers'"),
    (
        "a width of text",
        HEADER | {"config": {"proteins": 1, "markers": 1, "width": "x"}},
        "network that its header describes",
    ),
    (
        "a width of 10^6",
        HEADER | {"config": {"proteins": 1, "markers": 1, "width": 1e6}},
        "network that its header describes",
    ),
]

EVALUATE = ("evaluate", "f.h5ad", "--with", "loo-knn")
FAULTS = [
    *OF_JSON,
    *(Fault(f"weights with {what}", USE, ("pci@mine.safetensors", said), weights_file(header)) for what, header, said in WEIGHTS),
    Fault(
        "a length of 2^60 in a safetensors header",
        ("weights", "import", "timm", "f.safetensors", "--name", "resnet10t.mine"),
        ("f.safetensors does not hold the weights", "it cannot be read as weights"),
        lambda folder: (folder / "f.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}"),
    ),
    Fault(
        "10^12 values in an .npz of features",
        ("evaluate", "f.npz", "--with", "loo-knn"),
        ("f.npz", "'X.npy' says that it holds 1,000,000,000,000 values"),
        lambda folder: (folder / "f.npz").write_bytes(npz((10**12,))),
    ),
    Fault(
        "more values than an .npz has",
        ("weights", "import", "deeploc-npz", "f.npz"),
        ("f.npz", "says that it has the shape (1000, 1000), but the file ends before that"),
        lambda folder: (folder / "f.npz").write_bytes(npz((1000, 1000))),
    ),
    Fault("a TIFF of 10^6 × 10^6", CROPS, ("w1/2_gfp.tif", "1000000 × 1000000 pixels"), with_crops(**{"w1/2_gfp.tif": tiff(10**6, 10**6)})),
    Fault(
        "a PNG of 30,000 × 30,000",
        CROPS,
        ("w1/2_gfp.png", "cannot be read as an image"),
        with_crops(**{"w1/2_gfp.tif": None, "w1/2_gfp.png": png(30_000, 30_000)}),
    ),
    Fault(
        "a PNG of 9,000 × 9,000, which Pillow would read",
        CROPS,
        ("w1/2_gfp.png", "9000 × 9000 pixels"),
        with_crops(**{"w1/2_gfp.tif": None, "w1/2_gfp.png": png(9_000, 9_000)}),
    ),
    Fault("10^14 values in an .h5ad", EVALUATE, ("f.h5ad", "'/X' says that it holds 10,000,000 × 10,000,000"), hdf5(huge)),
    Fault("an array never written in an .h5ad", EVALUATE, ("f.h5ad", "was never written"), hdf5(unwritten), own=True),
    Fault("an array outside of an .h5ad", EVALUATE, ("f.h5ad", "'/X' lies in another file"), hdf5(outside)),
    Fault("a link out of an .h5ad", EVALUATE, ("f.h5ad", "'/X' is a link to another file"), hdf5(linked)),
    Fault("10^14 values in Keras weights", ("weights", "import", "keras-pci", "f.h5"), ("f.h5", "'/X' says"), hdf5(huge)),
    Fault("an array outside of VGG16's weights", ("weights", "import", "keras-vgg16", "f.h5"), ("f.h5", "lies in another file"), hdf5(outside)),
    Fault("an array outside of EfficientNetB0's weights", ("weights", "import", "keras-efficientnetb0", "f.h5"), ("f.h5", "lies in another file"), hdf5(outside)),
    *(
        Fault(f"a Keras config that is {what}", ("weights", "import", "keras-pci", "f.h5"), ("f.h5", said), keras(config))
        for what, config, said in [
            ("a number", 3, "model_config"),
            ("nested 10,000 deep", DEEP, "model_config"),
            ("a list", [], "model_config"),
            ("of layers that are numbers", {"config": {"layers": [1]}}, "model_config"),
            ("of a layer without a name", layer(), "model_config"),
            ("of another network", layer(name="a"), "it has no layer conv1_1"),
        ]
    ),
    *(
        Fault(f"uns['pci_bench'] that is {what}", EVALUATE, ("f.h5ad", "uns['pci_bench']", said), origin(value))
        for what, value, said in [
            ("an array", np.zeros(3), "not a group"),
            ("of features that are text", {"features": "x"}, "['features'] is a str"),
            ("of a dataset whose name is an array", {"dataset": {"name": np.zeros((2, 2))}}, "['name'] is an array"),
        ]
    ),
    *(
        Fault(f"a tolerance that is {what}", ("compare", "out", "out", "--tolerance", "t.toml"), ("t.toml is not a tolerance", said),
              lambda folder, text=text: write(folder_of(folder / "out").parent, {"t.toml": text}), absent=())
        for what, text, said in [
            ("infinite", "absolute = inf", "absolute: Input should be a finite number"),
            ("NaN", "cells = nan", "cells: Input should be a finite number"),
            ("negative for a metric", "[metrics]\naccuracy = -1", "metrics.accuracy: Input should be greater"),
            ("text", 'absolute = "x"', "absolute: Input should be a valid number"),
            ("nested 10,000 deep", "a = " + DEEP, "nested too deeply"),
            ("no UTF-8", b"\xff\xfe", "can't decode"),
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


# ---- links


@pytest.mark.parametrize(
    ("place", "command"),
    [
        (MINE, ("table", "table1", "--results", "out")),
        ("results/planted/other", ("leaderboard", "out")),
        ("results/planted/mine/loo-knn/k=11.parquet", ("compare", "out", "out")),
        ("results/planted/mine/loo-knn/k=11.terms.csv", ("compare", "out", "out")),
        ("figures/secret.png", ("report", "out")),
        ("run.json", ("report", "out")),
    ],
)
def test_a_link_out_of_a_result_folder_is_not_followed(say, here, place, command):
    folder_of(here / "out")
    (here / "secret").write_text("SECRET")
    (here / "folder").mkdir()
    link = here / "out" / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(here / ("folder" if place.endswith("other") else "secret"))
    said = say(*command, own=False)
    assert said.code == 2
    assert f"{place} is a link that leads out of" in said.err
    assert not (here / "out" / "report.html").exists()


def test_a_result_folder_that_is_itself_a_link_is_read(say, here):
    folder_of(here / "whole")
    (here / "out").symlink_to(here / "whole")
    assert say("table", "table1", "--results", "out", own=False).code == 0


# ---- expected numbers


@pytest.mark.parametrize("text", [*(t for t, _ in TEXTS.values()), '{"results": 3}', '{"results": [{"schema": 1}]}'])
def test_damaged_expected_numbers_are_a_sentence(monkeypatch, tmp_path, text):
    from pci_bench.runs import gate

    (tmp_path / "planted.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.setattr(gate, "folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"planted.json does not hold expected numbers"):
        gate.expected("planted")


@pytest.mark.parametrize("text", ["", "run = 3", "[[run]]\nbenchmark = 3", "a = " + DEEP, b"\xff"])
def test_a_damaged_declaration_of_the_gate_is_a_sentence(monkeypatch, tmp_path, text):
    from pci_bench.runs import gate

    (tmp_path / "gate.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.setattr(gate, "folder", lambda: tmp_path)
    with pytest.raises(UserError, match=r"gate.toml"):
        gate.declared_runs()


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "f.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert foreign.read_json(tmp_path / "f.json") == {"a": 1}
    assert foreign.toml_value("\ufeffa = 1") == {"a": 1}
