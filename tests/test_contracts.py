"""Contract tests: our own plug-ins keep them, and each contract catches the plug-in that breaks it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
from command_line import call

from pci_bench import ClassificationModel, Dataset, Evaluator, Extractor, Model, ModelMeta, Precomputed, Segmenter
from pci_bench import conformance as contracts
from pci_bench.api.evaluator import EVALUATORS, EvaluatorMeta, Outcome
from pci_bench.api.extractor import EXTRACTORS, ExtractorMeta
from pci_bench.api.field_segmenter import FIELD_SEGMENTERS, FieldSegmenter, in_reading_order
from pci_bench.api.model import MODELS
from pci_bench.api.plugins import load_plugin
from pci_bench.api.registry import Origin
from pci_bench.api.segmenter import SegmenterMeta, register_segmenter
from pci_bench.conformance import (
    Finding,
    check_dataset,
    check_evaluator,
    check_features,
    check_field_segmenter,
    check_model,
    check_read_features,
    check_segmenter,
    checked,
    evaluators,
    features,
    field_segmenters,
    segmenters,
)
from pci_bench.conformance.base import NotApplicableError, Once, checked_contracts
from pci_bench.conformance.evaluators import EvaluatorTrial, planted_features
from pci_bench.conformance.features import FeatureTrial
from pci_bench.conformance.field_segmenters import FieldSegmenterTrial
from pci_bench.conformance.planted import AWKWARD, LAYOUTS, planted, with_channels
from pci_bench.conformance.segmenters import SegmenterTrial, expect_masks
from pci_bench.data.cells import Cells, Channel, DatasetMeta
from pci_bench.datasets import DATASETS
from pci_bench.errors import UserError
from pci_bench.features.names import FeatureSet, known_feature_sets, select
from pci_bench.segmentation import SEGMENTERS
from pci_bench.weights import save

GFP, RFP = LAYOUTS["yeast"]


@pytest.fixture(autouse=True)
def registries(own_registries):
    """Let every test register what it likes."""


def connected(image):
    """Return a label image of connected pixels; imported here, since this module stands for a plug-in's file too."""
    from skimage.measure import label

    return label(image)


def states(findings: Iterable[Finding]) -> dict[str, str]:
    return {f.contract: f.state for f in findings}


def sentences(findings: Iterable[Finding], state: str = "failed") -> dict[str, str]:
    return {f.contract: f.sentence for f in findings if f.state == state}


def fails(findings: Iterable[Finding], contract: str, *parts: str) -> None:
    """Check that one contract fails with a sentence that holds all parts."""
    found = list(findings)
    assert contract in {f.contract for f in found}
    failed = sentences(found)
    assert contract in failed, f"'{contract}' passed; failed: {failed}"
    for part in parts:
        assert part in failed[contract], failed[contract]
    assert failed[contract].endswith(".")


# ---- our own


FAMILIES = dict.fromkeys(f.family for f in known_feature_sets().values())
SIZES = {"deeploc": 64, "vgg16-random": 16}  # of those that need more than 32 px, or are slow
SLOW = ("vgg16", "vgg16-random", "pci-random", "efficientnet-lite0")  # tried on one layout of channels


def some_outputs(family: str) -> list[FeatureSet]:
    """Return the first, the headline and the last output of a family: all, where it has few."""
    found = [f for f in known_feature_sets().values() if f.family == family]
    headline = [f for f in found if f.output == f.extractor().meta.headline]
    return list(dict.fromkeys([found[0], *headline, found[-1]]))


# Tried with -m slow: families that differ from another one that is tried in their weights alone, twenty seconds of fits, and
# UMAP, which compiles for ten (tests/test_embedding.py tries it on less).
ALIKE = {
    "cross-channel",
    "image-in-plate",
    "protein-identity",
    "pci-adversarial",
    "pci-hard-pairs",
    "pci-several-sources",
}
ALIKE |= {"contrastive", "plate-contrastive", "rotation", "self-distillation"}
LONG = {"label-efficiency", "umap", "protein-umap"}


def tried(names, later):
    """Return parameters of which some are left to -m slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in later else name for name in names]


@pytest.mark.parametrize("family", tried(FAMILIES, ALIKE))
def test_every_feature_set_of_ours_keeps_all_contracts(family):
    extractor = EXTRACTORS.get(family)
    if hasattr(extractor, "load"):
        found = list(check_read_features(FeatureSet(family), None))
    else:
        least = 1 if extractor.meta.processes else 3
        layouts = ("yeast",) if family in SLOW else ("yeast", "human")
        found = list(check_features(some_outputs(family), cells=least, size=SIZES.get(family, 32), layouts=layouts))
        untried = sentences(found, "not applicable")
        if "bit-equal for one cell" in untried:  # no gate that measures nothing
            assert extractor.meta.weights, untried
            assert untried["bit-equal for one cell"].startswith("no weights"), untried
    failed = sentences(found)
    assert failed == {}


@pytest.mark.parametrize("name", tried(sorted(EVALUATORS), LONG))
def test_every_evaluator_of_ours_keeps_all_contracts(name):
    found = list(check_evaluator(name))
    assert sentences(found) == {}
    assert sum(f.state == "passed" for f in found) >= 3


@pytest.mark.parametrize("name", sorted(SEGMENTERS))
def test_every_segmenter_of_ours_keeps_all_contracts(name):
    found = list(check_segmenter(name))
    assert sentences(found) == {}
    if SEGMENTERS.get(name).unavailable_reason() is None:
        assert set(states(found).values()) == {"passed"}


@pytest.mark.parametrize("name", sorted(FIELD_SEGMENTERS))
def test_every_segmenter_of_fields_of_ours_keeps_all_contracts(name):
    found = list(check_field_segmenter(name))
    assert sentences(found) == {}
    if FIELD_SEGMENTERS.get(name).unavailable_reason() is None:
        assert set(states(found).values()) == {"passed"}


@pytest.mark.parametrize("name", ["toy-yeast", "toy-human"])
def test_the_demonstration_datasets_keep_all_contracts(test_data, monkeypatch, name):
    monkeypatch.setenv("PCI_BENCH_DATA", str(test_data))
    found = list(check_dataset(name))
    assert sentences(found) == {}
    assert sentences(found, "not applicable") == {"masks have the centre cell as 1": "it has no masks"}


def test_a_folder_of_crops_keeps_all_contracts(write_crops):
    rng = np.random.default_rng(0)
    files = {f"w{i}/{c}_{s}.tif": rng.integers(0, 255, (20, 24), np.uint8) for i in range(3) for c in "ab" for s in ("gfp", "rfp")}  # fmt: skip
    found = list(check_dataset(f"folder:{write_crops(files)}"))
    assert sentences(found) == {}
    assert "6 cells" in next(f.sentence for f in found if f.contract == "it can be built")


# ---- synthetic cells


def test_planted_cells_of_every_type_have_exactly_the_same_raw_values():
    for channels in LAYOUTS.values():
        one, *others = (planted(channels, 5, dtype=d) for d in ("uint8", "uint16", "float32"))
        raw = one.crops(slice(None), rescale="raw")
        assert raw.dtype == np.float32
        assert raw.std() > 0.1
        for other in others:
            assert other.crops(slice(None), rescale="raw").tobytes() == raw.tobytes()
            assert other.crops(slice(None)).tobytes() == one.crops(slice(None)).tobytes()


def test_planted_cells_have_buds_neighbours_and_the_awkward_ones():
    cells = planted(LAYOUTS["human"], 6)
    crops = cells.crops(slice(None), rescale="raw", masks=True)
    assert list(cells.obs["cell"][-3:]) == list(AWKWARD)
    assert [set(np.unique(m)) for m in crops[:2, -1]] == [{0, 1, 3}, {0, 1, 2, 3}]
    assert np.ptp(crops[-3, :-1], axis=(1, 2)).tolist() == [0, 0, 0]
    assert (crops[-2, :-1] > 0).sum() == 3
    assert not crops[-1, -1].any()
    assert expect_masks(crops[:, -1], list(cells.obs["cell"])) == 8
    inside = crops[:6, 0][crops[:6, -1] == 1].mean()
    assert inside > 2 * crops[:6, 0][crops[:6, -1] == 0].mean()


def test_other_channels_of_planted_cells_are_those_asked_for():
    cells = planted(LAYOUTS["human"], 3)
    turned = with_channels(cells, [2, 0])
    assert [c.name for c in turned.channels] == ["microtubules", "antibody"]
    both = cells.crops(slice(None), rescale="raw", masks=True)
    np.testing.assert_array_equal(turned.crops(slice(None), rescale="raw", masks=True), both[:, [2, 0, 3]])
    assert turned.sha256 != cells.sha256


# ---- what a contract is


def test_what_a_contract_raises_is_a_failure_with_its_line_and_a_reason_is_none():
    def not_here(trial):
        raise NotApplicableError("no weights")

    def broken(trial):
        raise KeyError("lost")

    found = list(checked_contracts("it", [("a", lambda t: f"{t} compared"), ("b", not_here), ("c", broken)], 3))
    assert [f.state for f in found] == ["passed", "not applicable", "failed"]
    assert [f.sentence for f in found[:2]] == ["3 compared", "no weights"]
    assert "KeyError: 'lost'" in found[2].sentence
    assert f"{__file__}:" in found[2].sentence


def test_what_could_not_be_computed_fails_once_and_is_then_not_applicable():
    once, calls = Once(), []

    def compute():
        calls.append(1)
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        once("x", compute)
    with pytest.raises(NotApplicableError, match="above"):
        once("x", compute)
    assert len(calls) == 1
    assert once("y", lambda: 5) == once("y", lambda: 6) == 5


# ---- feature sets that break one contract


class Toy(Extractor):
    """Mean and peak of every channel, each named by its channel: sound in every respect."""

    def __init__(self, **changes):
        meta = ExtractorMeta("toy", "1", "Toy", {"mean": "", "peak": ""}, rescale="raw", batch=4)
        self.meta = dataclasses.replace(meta, **changes)
        self.calls = 0

    def unavailable_reason(self, cells):
        return None

    def names(self, output, channels, weights=None):
        return [f"{output} {c.name}" for c in channels]

    def open(self, channels, weights, device):
        def compute(crops, outputs):
            self.calls += 1
            values = self.measured(crops, channels)
            return {output: self.changed(values[output], crops, outputs) for output in outputs}

        return compute

    def measured(self, crops, channels):
        return {"mean": crops.mean(axis=(2, 3)), "peak": crops.max(axis=(2, 3))}

    def changed(self, values, crops, outputs):
        return values


def chosen(found: tuple, contract: str | None) -> list:
    """Return all contracts, or the one of a name: the others take their time."""
    return [one for one in found if contract in (None, one[0])]


def tried(toy, contract: str | None = None, name: str = "toy") -> list[Finding]:
    EXTRACTORS.register("toy", toy, origin=Origin(__file__, 1))
    trial = FeatureTrial(select([name]), cells=4, size=16)
    return list(checked_contracts("toy", chosen(features.CONTRACTS, contract), trial))


def toy_fails(toy, contract: str, *parts: str) -> None:
    fails(tried(toy, contract), contract, *parts)


IN_TWO_PROCESSES = "bit-equal in two processes"


def test_a_sound_feature_set_keeps_all_contracts(cache):
    found = states(tried(Toy()))
    assert found.pop(IN_TWO_PROCESSES) == "not applicable"  # of a class that no other process can import
    assert set(found.values()) == {"passed"}
    assert len(found) == 15
    assert not list(cache.rglob("*.h5ad"))  # nothing of a trial stays


def toy(changed: Callable, **meta) -> Toy:
    """Return a toy whose values are changed by a function of (values, crops)."""
    found = Toy(**meta)
    found.changed = lambda values, crops, outputs: changed(values, crops)
    return found


def nan_where(condition) -> Callable:
    return lambda values, crops: np.where(condition(crops)[:, None], np.float32(np.nan), values)


def is_constant(crops):
    return (np.ptp(crops, axis=(2, 3)) == 0).all(axis=1) & crops.any(axis=(1, 2, 3))


def alone_in_its_batch(values, crops):
    return values + np.float32(np.count_nonzero(crops.any(axis=(1, 2, 3))) == 1)


@pytest.mark.parametrize(
    ("broken", "contract", "parts"),
    [
        (Toy(headline="median"), "its description is complete", ["meta.headline to be one of the outputs (mean, peak)", "'median'"]),
        (Toy(version=""), "its description is complete", ["meta.version to be a text"]),
        (Toy(title=" "), "its description is complete", ["meta.title to be a text"]),
        (Toy(name="other"), "its description is complete", ["meta.name to be 'toy', as registered", "'other'"]),
        (Toy(outputs={"mean": "", "peak": "", "a@b": ""}), "its description is complete", ["without '@'", "'a@b'"]),
        (Toy(roles=("dna",)), "its description is complete", ["roles among 'protein' and 'marker'", "dna"]),
        (Toy(rescale="log"), "its description is complete", ["'raw' or 'minmax'", "'log'"]),
        (toy(lambda v, c: v, batch=0), "its description is complete", ["meta.batch to be at least 1", "0"]),
        (toy(lambda v, c: v.astype(np.float64)), "one float32 column per name", ["float32; found float64"]),
        (toy(lambda v, c: v[:, :1]), "one float32 column per name", ["as many columns as names() gives", "(2); found 1"]),
        (toy(lambda v, c: v[:, 0]), "one float32 column per name", ["one row per crop, (4, d)", "the shape (4,)"]),
        (toy(lambda v, c: v[:2]), "one float32 column per name", ["one row per crop, (4, d)", "the shape (2, 2)"]),
        (toy(nan_where(is_constant)), "values are finite, or NaN where declared", ["allows_nan=True", "nan in the column 'mean GFP'", "constant"]),
        (toy(lambda v, c: np.where(is_constant(c)[:, None], np.float32(np.inf), v), allows_nan=True), "values are finite, or NaN where declared", ["inf", "constant"]),
        (toy(lambda v, c: v - v.mean(axis=0)), "bit-equal in any order and subset", ["toy-mean for", "cells (", "in place of", "in the column 'mean"]),
        (toy(lambda v, c: v + np.arange(len(v), dtype=np.float32)[:, None]), "bit-equal in any order and subset", ["backwards"]),
        (toy(alone_in_its_batch, batch=16), "bit-equal for one cell", ["for a dataset of one cell", "cell1"]),
    ],
)  # fmt: skip
def test_a_feature_set_that_breaks_a_contract_is_told_so(broken, contract, parts):
    toy_fails(broken, contract, *parts)


def named(names: Callable) -> Toy:
    found = Toy()
    found.names = names
    return found


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (lambda o, channels: [o for _ in channels], ["unique column names for output 'mean'", "mean twice"]),
        (lambda o, channels: [f"{o} {c.name}" for c in channels[:-1]] + [""], ["texts", "''"]),
        (lambda o, channels: list(range(len(channels))), ["texts", "0"]),
        (lambda o, channels: [], ["no name at all"]),
        (lambda o, channels: tuple(f"{o} {c.name}" for c in channels), ["a list", "tuple"]),
    ],
)
def test_wrong_column_names_are_told(names, parts):
    toy_fails(named(names), "columns have unique names, known before any cell", *parts)


def test_an_output_that_is_not_given_or_comes_out_otherwise_alone_is_told():
    lacking = Toy()
    lacking.measured = lambda crops, channels: {"mean": crops.mean(axis=(2, 3)), "peak": None}
    lacking.open = lambda *_: lambda crops, outputs: {"mean": crops.mean(axis=(2, 3))}
    toy_fails(lacking, "one float32 column per name", "the output 'peak', which was asked for", "found mean")
    fickle = Toy()
    fickle.changed = lambda values, crops, outputs: values + np.float32(len(outputs) == 1)
    toy_fails(fickle, "bit-equal for one output alone", "toy-mean", "when it is asked for alone")


def test_a_warning_is_told_that_only_awkward_crops_cause():
    def standardised(values, crops):
        with np.errstate(divide="warn", invalid="warn"):
            return np.nan_to_num((values - crops.mean(axis=(2, 3))) / crops.std(axis=(2, 3))).astype(np.float32)

    toy_fails(toy(standardised), "awkward crops cause no warning", "constant", "invalid value")


def test_a_reason_that_is_no_sentence_and_a_question_that_cannot_bear_zero_cells_are_told():
    silent = Toy()
    silent.unavailable_reason = lambda cells: ""
    found = tried(silent)
    fails(found, "one float32 column per name", "unavailable_reason() to return None or a sentence", "''")
    assert states(found)["bit-equal for one cell"] == "not applicable"  # one failure is enough
    curious = Toy()
    curious.unavailable_reason = lambda cells: None if cells.obs["cell"].iloc[0] else "no"
    toy_fails(curious, "zero cells are refused with a sentence", "IndexError", f"{__file__}:")


def test_an_error_is_a_failure_with_its_line_and_what_follows_is_not_applicable():
    def raising(values, crops):
        raise ZeroDivisionError("no such cell")

    found = tried(toy(raising))
    fails(found, "one float32 column per name", "ZeroDivisionError: no such cell", f"{__file__}:")
    assert states(found)["values are finite, or NaN where declared"] == "not applicable"
    assert "above" in sentences(found, "not applicable")["awkward crops cause no warning"]


def forgetful() -> Toy:
    found = Toy()
    found.changed = lambda values, crops, outputs: values + np.float32(found.calls)
    return found


def in_place(values, crops):
    crops[0] = 0
    return values


def drawing(values, crops):
    np.random.normal()
    return values


def seeding(values, crops):
    import random

    random.seed(0)
    return values


def seeding_torch(values, crops):
    import torch

    torch.rand(1)
    return values


def saying(values, crops):
    os.environ["TOY"] = str(len(os.environ.get("TOY", "")) * "x" + "x")
    return values


def deaf(values, crops):
    np.seterr(invalid="ignore")
    return values


def moving(values, crops):
    os.chdir("/" if os.getcwd() != "/" else "/usr")
    return values


@pytest.mark.parametrize(
    ("broken", "parts"),
    [
        (forgetful(), ["in a second call"]),
        (toy(in_place), ["the crops to be left as they are"]),
        (toy(drawing), ["computing to leave global state alone", "NumPy's global random generator"]),
        (toy(seeding), ["Python's global random generator"]),
        (toy(seeding_torch), ["torch's global random generator"]),
        (toy(saying), ["the environment variables"]),
        (toy(moving), ["the working folder"]),
    ],
    ids=["forgetful", "in place", "numpy", "random", "torch", "environment", "folder"],
)
def test_what_a_call_must_not_change_is_told(broken, parts, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOY", "x")
    toy_fails(broken, "bit-equal when called again, and nothing else changes", *parts)


def test_a_call_that_seeds_a_global_generator_is_told_though_it_leaves_the_same_state_each_time():
    def fixed(values, crops):
        np.random.seed(0)
        return values

    contract = "bit-equal when called again, and nothing else changes"
    toy_fails(toy(fixed), contract, "computing to leave global state alone", "NumPy's global random generator")


def test_opening_may_draw_random_numbers_but_not_seed_the_generator_of_all():
    import torch

    contract = "bit-equal when called again, and nothing else changes"
    drawn = Toy()
    drawn.open = lambda *arguments: torch.rand(3) is not None and Toy.open(drawn, *arguments)
    assert states(tried(drawn, contract))[contract] == "passed"
    seeded = Toy()
    seeded.open = lambda *arguments: torch.manual_seed(0) and Toy.open(seeded, *arguments)
    toy_fails(seeded, contract, "open() to leave global state alone", "torch's global random generator")


def test_threads_and_error_handling_that_opening_changes_are_told():
    import torch

    greedy = Toy()
    threads, errors = torch.get_num_threads(), np.geterr()

    def open_(*arguments):
        torch.set_num_threads(torch.get_num_threads() + 1)
        np.seterr(invalid="ignore" if np.geterr()["invalid"] != "ignore" else "warn")
        return Toy.open(greedy, *arguments)

    greedy.open = open_
    try:
        contract = "bit-equal when called again, and nothing else changes"
        toy_fails(greedy, contract, "the first call", "torch's number of threads", "NumPy's error handling")
    finally:
        torch.set_num_threads(threads)
        np.seterr(**errors)


def test_features_that_depend_on_the_type_of_the_pixels_are_told():
    typed = Toy()
    typed.unavailable_reason = lambda cells: setattr(typed, "kind", cells.stored(slice(0, 1)).dtype.kind)
    typed.changed = lambda values, crops, outputs: values + np.float32(typed.kind == "f")
    toy_fails(typed, "bit-equal for uint8, uint16 and float32 crops", "float32 and uint16", "equal raw values")


def test_an_undeclared_need_of_a_marker_is_told():
    needy = Toy()
    needy.changed = lambda values, crops, outputs: values * (crops[:, 1] > 0).any(axis=(1, 2))[:, None]
    contract = "channel roles are declared"
    toy_fails(needy, contract, "without a marker channel", "IndexError", "Declare the role 'marker'")
    needy.meta = dataclasses.replace(needy.meta, roles=("protein", "marker"))
    assert states(tried(needy, contract))[contract] == "passed"


def test_a_protein_that_is_taken_from_the_first_channel_is_told():
    first = Toy()
    first.names = lambda output, channels: [f"{output} protein"]
    first.changed = lambda values, crops, outputs: values[:, :1]
    contract = "the dataset's order of channels is irrelevant"
    toy_fails(first, contract, "when the dataset's channels are RFP + GFP", "'mean protein'")
    ordered = Toy()
    ordered.names = lambda output, channels: [f"{output} {i} {c.name}" for i, c in enumerate(channels)]
    toy_fails(ordered, contract, "columns of the same names", "mean 0 RFP")
    refusing = Toy()
    refusing.names, refusing.changed = first.names, first.changed
    refusing.unavailable_reason = lambda cells: (
        None if cells.channels[0].role == "protein" else "the protein must come first"
    )
    assert states(tried(refusing, contract))[contract] == "passed"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import torch\n", 1),
        ("import numpy as np\nfrom sklearn.cluster import KMeans\n", 2),
        ("try:\n    import numba\nexcept ImportError:\n    numba = None\n", 2),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n\ndef f():\n    import timm\n", None),
    ],
)
def test_a_plug_in_that_takes_long_to_load_is_told_the_line(tmp_path, code, line):
    file = tmp_path / "mine.py"
    file.write_text(code)
    EXTRACTORS.register("toy", Toy(), origin=Origin(str(file), 1))
    contract = "it is cheap to load"
    trial = FeatureTrial(select(["toy"]), cells=1, size=16)
    found = list(checked_contracts("toy", chosen(features.CONTRACTS, contract), trial))
    if line is None:
        assert states(found) == {contract: "passed"}
    else:
        fails(found, contract, f"line {line} of {file}", "inside open()")


PLUGIN = """
import os

import numpy as np

from pci_bench import register_features


@register_features("{name}", version="1", title="Elsewhere", rescale="raw", names=lambda channels: [c.name for c in channels])
def elsewhere(crops):
    values = crops.max(axis=(2, 3))
    return {expression}
"""


def plugin(folder: Path, name: str, expression: str = "values") -> Path:
    file = folder / f"{name}.py"
    file.write_text(PLUGIN.format(name=name, expression=expression))
    return file


def test_features_that_differ_in_another_process_are_told_and_others_pass(tmp_path):
    load_plugin(plugin(tmp_path, "sound-elsewhere"))
    load_plugin(plugin(tmp_path, "odd-elsewhere", f"values + np.float32(os.getpid() != {os.getpid()})"))
    assert set(states(check_features(select(["sound-elsewhere"]), cells=2, size=16)).values()) <= {
        "passed",
        "not applicable",
    }
    found = list(check_features(select(["odd-elsewhere"]), cells=2, size=16))
    fails(found, IN_TWO_PROCESSES, "in two worker processes", "cell0", "'GFP'")
    assert [*sentences(found)] == [IN_TWO_PROCESSES]


def test_without_weights_what_needs_them_is_not_applicable_and_with_them_it_is_tried():
    weighty = Toy(weights="toyweights")
    found = tried(weighty)
    assert sentences(found) == {}
    reasons = sentences(found, "not applicable")
    reason = reasons["one float32 column per name"]
    assert reason == "no weights toyweights@… that fit are available: `pci-bench weights list` shows what there is"
    assert {"its description is complete", "channel roles are declared"} <= set(sentences(found, "passed"))
    save(
        "toyweights", "mine", {"w": np.ones(1, np.float32)}, channels=("protein", "marker"), config={}, source="a test"
    )
    found = tried(weighty)
    assert sentences(found) == {}
    assert "toyweights@mine" in sentences(found, "passed")["one float32 column per name"]
    assert {f.state for f in tried(weighty, name="toy@absent") if "bit-equal" in f.contract} == {"not applicable"}


def test_features_that_run_on_no_planted_cells_are_not_applicable_with_their_reason():
    choosy = Toy()
    choosy.unavailable_reason = lambda cells: "it measures the cells of one dataset"
    found = tried(choosy)
    assert sentences(found) == {}
    assert sentences(found, "not applicable")["bit-equal for one cell"] == "it measures the cells of one dataset"


# ---- features that are read


class Read(Precomputed):
    """Features by name, from a table."""

    meta = ExtractorMeta("read", "1", "Read", roles=())

    def __init__(self, join: bool = True, values: np.ndarray | None = None, names: tuple[str, ...] = ("a", "b")):
        self.join, self.names = join, list(names)
        self.values = np.arange(14, dtype=np.float32).reshape(7, 2) if values is None else values

    def unavailable_reason(self, cells):
        return None

    def load(self, cells):
        rows = cells.obs["cell"].str.removeprefix("cell").astype(int) if self.join else np.arange(len(cells))
        return self.values[rows], self.names


def read_by(read: Read, cells: Cells | None) -> list[Finding]:
    EXTRACTORS.register("read", read, origin=Origin(__file__, 1))
    return list(check_read_features(select(["read"])[0], cells))


def test_features_that_are_read_are_tried_on_the_dataset_that_is_named(make_cells):
    assert set(states(read_by(Read(), make_cells(7))).values()) == {"passed"}
    assert (
        "--dataset"
        in sentences(read_by(Read(), None), "not applicable")["cells are matched by name, in any order and subset"]
    )


@pytest.mark.parametrize(
    ("read", "contract", "parts"),
    [
        (Read(join=False), "cells are matched by name, in any order and subset", ["backwards", "cell6"]),
        (Read(names=("a", "a")), "one float32 column per name, finite or NaN where declared", ["unique"]),
        (Read(names=("a",)), "one float32 column per name, finite or NaN where declared", ["(7, 1)", "(7, 2)"]),
        (Read(values=np.ones((7, 2))), "one float32 column per name, finite or NaN where declared", ["float64"]),
        (Read(values=np.full((7, 2), np.nan, np.float32)), "one float32 column per name, finite or NaN where declared", ["nan", "'a'", "'cell0'"]),
    ],
)  # fmt: skip
def test_features_that_are_read_wrongly_are_told(make_cells, read, contract, parts):
    fails(read_by(read, make_cells(7)), contract, *parts)


# ---- datasets that break one contract


class Screen(Dataset):
    """Six cells of three images, with masks: sound in every respect."""

    def __init__(self, **changes):
        self.meta = dataclasses.replace(DatasetMeta("screen", "1", "Screen", confounder="image"), **changes)
        self.channels = (GFP, RFP)
        self.turn = 0

    def unavailable_reason(self):
        return None

    def obs(self):
        return pd.DataFrame({"cell": [f"c{i}" for i in range(6)], "image": [f"i{i // 2}" for i in range(6)]})

    def crops(self):
        return planted(self.channels, 6, awkward=False).stored(slice(None))

    def masks(self):
        return planted(self.channels, 6, awkward=False).crops(slice(None), masks=True)[:, -1].astype(np.uint16)

    def build(self, store):
        self.turn += 1
        crops, masks = self.crops(), self.masks()
        store.begin(
            self.obs(), self.channels, crop_shape=crops.shape[2:], dtype=str(crops.dtype), masks=masks is not None
        )
        store.add(crops, masks)


def screened(screen: Screen, **options) -> list[Finding]:
    DATASETS.register("screen", screen, origin=Origin(__file__, 1))
    return list(check_dataset("screen", **options))


def test_a_sound_dataset_keeps_all_contracts(cache):
    found = screened(Screen())
    assert set(states(found).values()) == {"passed"}
    assert len(found) == 9
    assert not cache.exists()  # it was built elsewhere


def screen(**methods) -> Screen:
    """Return a dataset whose methods are replaced."""
    found = Screen()
    for name, method in methods.items():
        setattr(found, name, method if not callable(method) else (lambda m=method: m(found)))
    return found


def obs_with(**columns) -> Callable:
    return lambda s: Screen.obs(s).assign(**columns)


def relabelled(change: dict[int, int]) -> Callable:
    def masks(s):
        found = Screen.masks(s)
        for old, new in change.items():
            found[2][Screen.masks(s)[2] == old] = new
        return found

    return masks


def noisy(s):
    return np.random.default_rng().integers(0, 999, (6, 2, 8, 8)).astype(np.uint16)


def reseeding(s):
    np.random.seed(s.turn)
    return Screen.crops(s)


@pytest.mark.parametrize(
    ("broken", "contract", "parts"),
    [
        (Screen(name="other"), "its description is complete", ["'screen', as registered", "'other'"]),
        (Screen(title=""), "its description is complete", ["meta.title"]),
        (screen(source_fingerprint=lambda s: str(np.random.default_rng().random())), "its description is complete", ["source_fingerprint()"]),
        (screen(unavailable_reason=lambda s: ""), "it says why it cannot be had, or nothing", ["None or a sentence", "''"]),
        (screen(crops=lambda s: Screen.crops(s)[:5]), "it can be built", ["masks of shape"]),
        (screen(crops=reseeding), "it can be built", ["building to leave global state alone", "NumPy's"]),
        (screen(obs=obs_with(cell="c")), "it can be built", ["named twice", "'c'"]),
        (screen(obs=obs_with(plate=list("abcdef"))), "it can be built", ["'plate'", "same for all cells of an image"]),
        (screen(obs=obs_with(image=["i", "i", "j", "j", "", "i"])), "its table of cells is whole", ["every cell to have a value of 'image'", "1 cells"]),
        (Screen(confounder="plate"), "its table of cells is whole", ["confounder 'plate' to be a column", "cell, image"]),
        (screen(channels=(RFP, Channel("BF", "marker"))), "its channels are declared", ["a protein channel"]),
        (screen(channels=(GFP, Channel("GFP", "marker"))), "its channels are declared", ["unique channel names"]),
        (screen(channels=(GFP, Channel("RFP", "marker", floor=1.5))), "its channels are declared", ["floors in [0, 1)"]),
        (screen(crops=lambda s: Screen.crops(s).astype(np.float32)), "raw values are finite and in [0, 1]", ["scale floats", "0 to 6"]),
        (screen(masks=relabelled({1: 7})), "masks have the centre cell as 1", ["label 1", "c2"]),
        (screen(masks=relabelled({1: 3, 3: 1})), "masks have the centre cell as 1", ["nearer", "c2"]),
        (screen(crops=noisy, masks=lambda s: np.zeros((6, 8, 8), np.uint16)), "two builds are the same", ["same pixels", "c0"]),
        (screen(obs=lambda s: Screen.obs(s).assign(y=s.turn)), "two builds are the same", ["values of y"]),
        (screen(masks=lambda s: np.roll(Screen.masks(s), s.turn, axis=1)), "two builds are the same", ["masks"]),
    ],
)  # fmt: skip
def test_a_dataset_that_breaks_a_contract_is_told_so(broken, contract, parts):
    fails(screened(broken), contract, *parts)


def test_a_dataset_that_is_not_available_or_has_many_cells_is_not_applicable_with_why(monkeypatch):
    found = screened(screen(unavailable_reason=lambda s: "ask the authors"))
    assert sentences(found) == {}
    assert sentences(found, "not applicable")["it can be built"] == "it cannot be had here: ask the authors"
    monkeypatch.setattr("pci_bench.conformance.datasets.MANY_CELLS", 5)
    large = Screen()
    found = screened(large)
    assert "has 6 cells" in sentences(found, "not applicable")["two builds are the same"]
    assert "--full" in sentences(found, "not applicable")["two builds are the same"]
    assert large.turn == 1  # and it is not tried again for every contract
    assert set(states(screened(Screen(), full=True)).values()) == {"passed"}


# ---- evaluators that break one contract


class Params(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    shift: int = pydantic.Field(1, ge=0, description="what is added")
    vote: str = pydantic.Field("first", description="who wins")


class Judge(Evaluator):
    """A prediction of the class by the first feature's rank: sound in every respect."""

    def __init__(self, params: type[pydantic.BaseModel] = Params, **changes):
        self.meta = dataclasses.replace(
            EvaluatorMeta("judge", "1", "Judge", "accuracy", order_invariant=True), **changes
        )
        self.Params = params
        self.turn = 0

    def unavailable_reason(self, adata, params):
        if "label" not in adata.obs or (adata.obs["label"].astype(str) == "").all():
            return "there are no labels"
        return None if adata.n_obs > 2 else "too few cells"

    def __call__(self, adata, grid, run):
        self.turn += 1
        for params in grid:
            yield self.outcome(adata, params, grid, run)

    def outcome(self, adata, params, grid, run):
        labels = adata.obs["label"].astype(str).to_numpy()
        value = float(np.mean((adata.X[:, 0] > params.shift) == (labels == labels.min())))
        table = pd.DataFrame({"cell": adata.obs_names, "label": labels, "predicted": labels.min()})
        return Outcome(params.model_dump(), {"accuracy": value}, {"accuracy": (value, 1.0)}, {"n": 1}, table)


def judged(judge: Judge, contract: str | None = None) -> list[Finding]:
    EVALUATORS.register("judge", judge, origin=Origin(__file__, 1))
    return list(checked_contracts("judge", chosen(evaluators.CONTRACTS, contract), EvaluatorTrial("judge")))


def test_a_sound_evaluator_keeps_all_contracts():
    found = judged(Judge())
    assert set(states(found).values()) == {"passed"}
    assert len(found) == 10


def judge(outcome: Callable, **changes) -> Judge:
    """Return an evaluator whose outcomes are changed by a function of (judge, outcome, adata, params, grid, run)."""
    found = Judge(**changes)
    found.outcome = lambda adata, params, grid, run: outcome(
        found, Judge.outcome(found, adata, params, grid, run), adata, params, grid, run
    )
    return found


def replaced(**parts) -> Callable:
    return lambda j, outcome, *_: dataclasses.replace(outcome, **parts)


def with_metric(value: Callable) -> Callable:
    return lambda j, o, adata, params, grid, run: dataclasses.replace(
        o, metrics={"accuracy": float(value(j, adata, params, grid, run))}, intervals={}
    )


def misaligned(j, outcome, *_):
    table = outcome.per_cell
    return dataclasses.replace(outcome, per_cell=table.assign(cell=np.roll(table["cell"], 1)))


def scaling(j, outcome, adata, *_):
    adata.X[:] = adata.X / 2
    return outcome


def labelling(j, outcome, adata, *_):
    adata.obs["seen"] = True
    return outcome


class Open(pydantic.BaseModel):
    shift: int = pydantic.Field(1, ge=0, description="what is added")


class Undescribed(Params):
    depth: int = 3


class Required(Params):
    depth: int = pydantic.Field(description="how deep")


def skipping(reason: Callable) -> Judge:
    found = Judge()
    found.unavailable_reason = lambda adata, params: reason(adata)
    return found


@pytest.mark.parametrize(
    ("broken", "contract", "parts"),
    [
        (Judge(name="other"), "its description is complete", ["'judge', as registered"]),
        (Judge(key=("k",)), "its description is complete", ["meta.key to name parameters (shift, vote)", "k"]),
        (Judge(training_variance=(1.5, 0)), "its description is complete", ["two factors of at least 1", "(1.5, 0)"]),
        (Judge(Open), "parameters have defaults, and unknown ones are refused", ["no_such_parameter", "extra='forbid'"]),
        (Judge(Undescribed), "parameters have defaults, and unknown ones are refused", ["description", "depth"]),
        (Judge(Required), "parameters have defaults, and unknown ones are refused", ["depth"]),
        (skipping(lambda adata: None if "label" in adata.obs else ""), "too few cells or labels are met with a reason", ["None or a sentence", "without a column label"]),
        (skipping(lambda adata: None), "too few cells or labels are met with a reason", ["without a column label", "KeyError"]),
        (judge(with_metric(lambda j, adata, *_: np.nan if adata.n_obs < 30 else 0.5)), "too few cells or labels are met with a reason", ["of one class", "accuracy = nan"]),
        (judge(replaced(metrics={"accuracy": float("inf")})), "metrics are finite, an outcome for each of the grid", ["accuracy = inf"]),
        (judge(replaced(intervals={"accuracy": (0.9, 0.1)})), "metrics are finite, an outcome for each of the grid", ["low to high"]),
        (judge(replaced(intervals={"f1": (0.1, 0.2)})), "metrics are finite, an outcome for each of the grid", ["intervals of metrics only", "f1"]),
        (judge(replaced(metrics={"f1": 0.5}, intervals={})), "metrics are finite, an outcome for each of the grid", ["headline 'accuracy'", "f1"]),
        (judge(replaced(details={"x": float("nan")})), "metrics are finite, an outcome for each of the grid", ["not JSON compliant"]),
        (judge(lambda j, o, a, params, grid, run: dataclasses.replace(o, params=grid[-1].model_dump())), "metrics are finite, an outcome for each of the grid", ["in the order of the grid"]),
        (judge(misaligned), "predictions are aligned to cells", ["each cell beside its own label", "cell"]),
        (judge(lambda j, o, *_: dataclasses.replace(o, per_cell=o.per_cell.assign(cell=[f"x{i}" for i in range(len(o.per_cell))]))), "predictions are aligned to cells", ["rows named x0"]),
        (judge(lambda j, o, *_: dataclasses.replace(o, per_cell=pd.concat([o.per_cell] * 2))), "predictions are aligned to cells", ["one row per cell"]),
        (judge(lambda j, o, *_: dataclasses.replace(o, per_cell=o.per_cell.drop(columns="cell"))), "predictions are aligned to cells", ["a column 'cell'"]),
        (judge(with_metric(lambda j, *_: np.random.default_rng().random())), "the same seed gives the same numbers", ["metrics", "in place of"]),
        (judge(with_metric(lambda j, a, p, grid, run: 1 / len(grid))), "a grid gives what its parts give", ["to give alone", "metrics"]),
        (judge(scaling), "its input and global state are left alone", ["features to be left"]),
        (judge(labelling), "its input and global state are left alone", ["table of cells to be left"]),
        (judge(with_metric(lambda j, *_: np.random.rand())), "its input and global state are left alone", ["NumPy's global random generator"]),
        (judge(with_metric(lambda j, adata, *_: adata.X[0, 0])), "the order of cells is irrelevant", ["in another order", "in place of"]),
    ],
)  # fmt: skip
def test_an_evaluator_that_breaks_a_contract_is_told_so(broken, contract, parts):
    fails(judged(broken, contract), contract, *parts)


def test_an_evaluator_that_yields_too_few_outcomes_is_told():
    lazy = Judge()
    lazy.__class__ = type("Lazy", (Judge,), {"__call__": lambda self, adata, grid, run: iter(())})
    fails(judged(lazy), "metrics are finite, an outcome for each of the grid", "an outcome for each of", "found 0")


def test_an_evaluator_that_does_not_run_on_planted_features_is_not_applicable_with_its_reason():
    found = judged(skipping(lambda adata: "it needs pairs of images"))
    assert sentences(found) == {}
    reason = sentences(found, "not applicable")["the same seed gives the same numbers"]
    assert reason == "it does not run on planted features: it needs pairs of images"
    quiet = judged(Judge(order_invariant=False))
    assert "order_invariant" in sentences(quiet, "not applicable")["the order of cells is irrelevant"]


def test_planted_features_can_be_told_apart_but_not_perfectly():
    adata = planted_features()
    labels = adata.obs["label"].to_numpy()
    means = np.stack([adata.X[labels == c].mean(axis=0) for c in adata.obs["label"].cat.categories])
    nearest = ((adata.X[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert 0.6 < (nearest == adata.obs["label"].cat.codes).mean() < 1


# ---- segmenters that break one contract


class Cutter(Segmenter):
    """The square in the middle is the cell, where the marker varies: sound in every respect."""

    def __init__(self, **changes):
        self.meta = dataclasses.replace(SegmenterMeta("cutter", "1", "Cutter"), **changes)
        self.turn = 0

    def unavailable_reason(self):
        return None

    def open(self, channels, device):
        marker = next(i for i, c in enumerate(channels) if c.role == "marker")

        def segment(crops):
            self.turn += 1
            masks = np.zeros((len(crops), *crops.shape[2:]), np.uint16)
            masks[np.ptp(crops[:, marker], axis=(1, 2)) > 0, 20:40, 20:40] = 1
            return self.changed(masks, crops)

        return segment

    def changed(self, masks, crops):
        return masks


def cut(cutter: Cutter, contract: str | None = None) -> list[Finding]:
    SEGMENTERS.register("cutter", cutter, origin=Origin(__file__, 1))
    return list(checked_contracts("cutter", chosen(segmenters.CONTRACTS, contract), SegmenterTrial("cutter")))


def test_a_sound_segmenter_keeps_all_contracts():
    found = cut(Cutter())
    assert set(states(found).values()) == {"passed"}
    assert len(found) == 8


def cutter(changed: Callable) -> Cutter:
    found = Cutter()
    found.changed = lambda masks, crops: changed(found, masks, crops)
    return found


def edited(c, masks, crops):
    crops[:] = 0
    return masks


def rolling(c, masks, crops):
    np.random.rand()
    return masks


@pytest.mark.parametrize(
    ("broken", "contract", "parts"),
    [
        (Cutter(name="other"), "its description is complete", ["'cutter', as registered"]),
        (Cutter(version=""), "its description is complete", ["meta.version"]),
        (cutter(lambda c, masks, crops: masks.astype(np.int64)), "masks are uint16 of the crops' size", ["uint16; found int64"]),
        (cutter(lambda c, masks, crops: masks[:, ::2]), "masks are uint16 of the crops' size", ["(11, 64, 64)", "(11, 32, 64)"]),
        (cutter(lambda c, masks, crops: masks * np.uint16(3)), "the middle cell is 1", ["label 1", "cell0"]),
        (cutter(lambda c, masks, crops: np.roll(masks, 20, axis=1) + 3 * masks * (np.roll(masks, 20, axis=1) == 0)), "the middle cell is 1", ["nearer"]),
        (cutter(lambda c, masks, crops: np.maximum(masks, crops[:, 0] >= 1).astype(np.uint16)), "a constant crop shows no cell", ["1 everywhere"]),
        (cutter(lambda c, masks, crops: masks * np.uint16(len(crops) > 1)), "masks depend on no other crop of a batch", ["for each crop alone", "cell0"]),
        (cutter(lambda c, masks, crops: masks * (np.arange(len(masks)) > 0)[:, None, None].astype(np.uint16)), "masks depend on no other crop of a batch", ["backwards"]),
        (cutter(lambda c, masks, crops: masks * np.uint16(c.turn == 1)), "the same when called again, and nothing else changes", ["second call"]),
        (cutter(edited), "the same when called again, and nothing else changes", ["the crops to be left"]),
        (cutter(rolling), "the same when called again, and nothing else changes", ["NumPy's global random generator"]),
        (cutter(lambda c, masks, crops: masks * (crops[:, 0, 32:33, 32:33] > 0.3).astype(np.uint16)), "the dataset's order of channels is irrelevant", ["RFP + GFP"]),
    ],
)  # fmt: skip
def test_a_segmenter_that_breaks_a_contract_is_told_so(broken, contract, parts):
    fails(cut(broken, contract), contract, *parts)


def test_a_segmenter_that_cannot_be_run_here_is_not_applicable_with_the_command():
    absent = Cutter()
    absent.unavailable_reason = lambda: "install pci-bench[cutter]"
    found = cut(absent)
    assert sentences(found) == {}
    assert (
        sentences(found, "not applicable")["the middle cell is 1"] == "it cannot be run here: install pci-bench[cutter]"
    )
    absent.unavailable_reason = lambda: ""
    fails(cut(absent), "its description is complete", "None or a sentence")


# ---- segmenters of fields that break one contract


class Threshold(FieldSegmenter):
    """What is brighter than a share of the range: sound in every respect."""

    class Params(pydantic.BaseModel, extra="forbid", frozen=True):
        above: float = pydantic.Field(0.5, description="of the range")

    def __init__(self, **changes):
        self.meta = dataclasses.replace(SegmenterMeta("threshold", "1", "Threshold"), **changes)
        self.turn = 0

    def open(self, params, device):
        def segment(image):
            self.turn += 1
            low, high = image.min(), image.max()
            bright = image > low + params.above * (high - low)
            return self.changed(in_reading_order(connected(bright)), image)

        return segment

    def changed(self, labels, image):
        return labels


def thresholded(segmenter: FieldSegmenter, contract: str | None = None) -> list[Finding]:
    FIELD_SEGMENTERS.register("threshold", segmenter, origin=Origin(__file__, 1))
    contracts_ = chosen(field_segmenters.CONTRACTS, contract)
    return list(checked_contracts("threshold", contracts_, FieldSegmenterTrial("threshold")))


def threshold(changed: Callable) -> Threshold:
    found = Threshold()
    found.changed = lambda labels, image: changed(found, labels, image)
    return found


def with_params(**fields) -> Threshold:
    found = Threshold()
    found.Params = pydantic.create_model("Params", **fields)
    return found


def test_a_sound_segmenter_of_fields_keeps_all_contracts():
    found = thresholded(Threshold())
    assert set(states(found).values()) == {"passed"}
    assert len(found) == 8


@pytest.mark.parametrize(
    ("broken", "contract", "parts"),
    [
        (Threshold(name="other"), "its description is complete", ["'threshold', as registered"]),
        (Threshold(title=""), "its description is complete", ["meta.title"]),
        (with_params(above=(float, ...)), "every option has a default and a description", ["a default", "above"]),
        (with_params(above=(float, 0.5)), "every option has a default and a description", ["a description", "above"]),
        (with_params(), "every option has a default and a description", ["unknown option"]),
        (with_params(__config__={"extra": "forbid"}), "every option has a default and a description", ["frozen=True"]),
        (threshold(lambda t, labels, image: labels.astype(np.uint16)), "labels are int32 of the field's size", ["int32; found uint16"]),
        (threshold(lambda t, labels, image: labels[::2]), "labels are int32 of the field's size", ["(192, 256)", "(96, 256)"]),
        (threshold(lambda t, labels, image: np.where(labels > 0, labels.max() + 1 - labels, 0).astype(np.int32)), "labels are in reading order", ["in_reading_order()"]),
        (threshold(lambda t, labels, image: 2 * labels), "labels are in reading order", ["1 … n"]),
        (threshold(lambda t, labels, image: labels + np.int32(image[0, 0] == 1)), "a constant field shows no object", ["1 everywhere"]),
        (threshold(lambda t, labels, image: labels * np.int32(t.turn != 4)), "labels depend on no other field", ["another order"]),
        (threshold(lambda t, labels, image: labels * np.int32(t.turn % 2)), "the same when called again, and nothing else changes", ["second call"]),
        (threshold(edited), "the same when called again, and nothing else changes", ["the field to be left"]),
        (threshold(rolling), "the same when called again, and nothing else changes", ["NumPy's global random generator"]),
    ],
)  # fmt: skip
def test_a_segmenter_of_fields_that_breaks_a_contract_is_told_so(broken, contract, parts):
    fails(thresholded(broken, contract), contract, *parts)


# ---- trainable models


class Guess(ClassificationModel):
    """A network that is never built: sound in every respect."""

    def __init__(self, **changes):
        self.meta = dataclasses.replace(ModelMeta("guess", "1", "Guess", pairs=False, supervised=True), **changes)

    def build(self, channels, width, classes=()):
        raise NotImplementedError

    def augmented(self, crops, rng):
        raise NotImplementedError

    def probabilities(self, network, crops, device):
        raise NotImplementedError


def guessed(model: Guess) -> list[Finding]:
    MODELS.register("guess", model, origin=Origin(__file__, 1))
    return list(check_model("guess"))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_of_ours_keeps_all_contracts(name):
    assert set(states(check_model(name)).values()) == {"passed"}


def test_a_model_that_breaks_a_contract_is_told_so():
    assert set(states(guessed(Guess())).values()) == {"passed"}
    fails(guessed(Guess(name="other")), "its description is complete", "'guess', as registered")
    fails(guessed(Guess(recipe={"epoch": 3})), "its description is complete", "epochs", "found epoch")
    silent = Guess()
    silent.unavailable_reason = lambda channels, crop_shape: ""
    fails(guessed(silent), "its description is complete", "None or a sentence")


def test_a_model_that_no_planted_cell_fits_is_not_applicable_with_its_reason():
    choosy = Guess()
    choosy.unavailable_reason = lambda channels, crop_shape: "it needs four channels"
    untried = sentences(guessed(choosy), "not applicable")
    assert "it needs four channels" in untried["the methods of its objective are those that are called"]


def test_a_misspelt_method_of_an_objective_is_told():
    class Judged(Guess):
        def objective(self, cells, recipe, progress):
            made = super().objective(cells, recipe, progress)
            made.validat = lambda network, crops, device: {}
            return made

    fails(guessed(Judged()), "the methods of its objective are those that are called", "validate()", "validat()")


# ---- methods that are never called

METHODS = "its methods are those that are called"
KINDS: dict[str, tuple[type, type, Callable, str, str]] = {  # ours, base, what tries it, a misspelt and a former name
    "features": (Toy, Extractor, lambda made: tried(made, METHODS), "unavailable_reson", "unfit"),
    "dataset": (Screen, Dataset, screened, "source_fingerprints", "source"),
    "evaluator": (Judge, Evaluator, lambda made: judged(made, METHODS), "dataset_reasons", "skip"),
    "model": (Guess, Model, guessed, "unavailable_reasons", ""),
    "segmenter": (Cutter, Segmenter, lambda made: cut(made, METHODS), "unavailble_reason", "skip"),
    "field-segmenter": (Threshold, FieldSegmenter, lambda made: thresholded(made, METHODS), "unavailble_reason", ""),
}


def with_method(kind: type, name: str, **others: Any) -> Any:
    """Return an instance of a subclass that has one method more."""
    return type(kind.__name__, (kind,), {name: lambda self, *what: None, **others})()


@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_method_is_told(kind):
    ours, _, findings, misspelt, _ = KINDS[kind]
    fails(findings(with_method(ours, misspelt)), METHODS, f"{misspelt}(), which never is")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind][-1]])
def test_a_former_name_of_a_method_is_told_where_the_base_class_is_the_new_one(kind):
    ours, base, findings, _, former = KINDS[kind]
    new = {"skip": "unavailable_reason", "unfit": "output_unavailable_reason", "source": "source_fingerprint"}[former]
    inherited = {new: getattr(base, new)}
    fails(findings(with_method(ours, former, **inherited)), METHODS, f"{new}()", f"{former}(), which never is")
    both = with_method(ours, former, **{new: lambda self, *what: None if new != "source_fingerprint" else ""})
    assert METHODS not in sentences(findings(both))  # it works with both versions


def test_a_former_name_of_a_method_is_called_where_there_is_no_base_class():
    class Old:
        meta = SegmenterMeta("old", "1", "Old")

        def skip(self):
            return "as version 0.1 said it"

        def open(self, channels, device):
            raise NotImplementedError

    register_segmenter("old")(Old)
    assert SEGMENTERS.get("old").unavailable_reason() == "as version 0.1 said it"
    assert METHODS not in sentences(check_segmenter("old"))


# ---- pci-bench test


def test_a_name_stands_for_all_that_bears_it_and_a_kind_for_one(monkeypatch):
    EXTRACTORS.register("judge", Toy(name="judge"), origin=Origin(__file__, 1))
    EVALUATORS.register("judge", Judge(), origin=Origin(__file__, 1))
    for check in (
        "check_features",
        "check_evaluator",
        "check_dataset",
        "check_model",
        "check_segmenter",
        "check_field_segmenter",
        "check_read_features",
    ):
        monkeypatch.setattr(contracts, check, lambda *what, check=check, **options: iter([(check, *what)]))
    outputs = [FeatureSet("judge", output=output) for output in ("mean", "peak")]
    assert list(checked("judge")) == [("check_evaluator", "judge"), ("check_features", outputs)]
    assert list(checked("evaluator:judge")) == [("check_evaluator", "judge")]
    assert list(checked("features:judge")) == [("check_features", outputs)]
    assert list(checked("judge-*")) == [("check_features", outputs)]  # one pass for both
    assert list(checked("judge-peak")) == [("check_features", outputs[1:])]
    assert list(checked("pci@mine")) == [("check_features", select(["pci@mine"]))]
    assert len(list(checked("controls"))) == len({(f.family, f.weights) for f in select(["controls"])})
    assert list(checked("model:pci")) == [("check_model", "pci")]
    assert ("check_model", "pci") in list(checked("pci"))
    assert list(checked("toy-yeast")) == [("check_dataset", "toy-yeast")]
    assert list(checked("folder:some/path")) == [("check_dataset", "folder:some/path")]
    assert list(checked("otsu-watershed")) == [("check_segmenter", "otsu-watershed")]
    assert list(checked("stardist")) == [("check_segmenter", "stardist"), ("check_field_segmenter", "stardist")]
    assert list(checked("field-segmenter:stardist")) == [("check_field_segmenter", "stardist")]
    assert list(checked("file:a.csv")) == [("check_read_features", FeatureSet("file", "a.csv"), None)]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("intensty", ["no feature set, dataset, evaluator, model or segmenter named 'intensty'", "intensity", "`pci-bench list`"]),
        ("loo-kn", ["Did you mean loo-knn"]),
        ("dataset:intensity", ["no dataset named 'intensity'"]),
        ("model:x", ["no model named 'x'"]),
        ("field-segmenter:nuclea", ["no field segmenter named 'nuclea'", "nuclei"]),
        ("evaluator:x", ["no evaluator named 'x'"]),
        ("intensity@mine", ["intensity uses none"]),
        ("file:", ["Write file:PATH"]),
    ],
)  # fmt: skip
def test_a_wrong_name_is_a_sentence_and_exit_status_2(capsys, monkeypatch, name, parts):
    said = call(capsys, monkeypatch, "test", name)
    assert said.code == 2
    assert said.out == ""
    for part in parts:
        assert part in said.err


def test_the_command_prints_a_line_for_each_contract_and_exits_with_1_where_one_is_broken(
    capsys, monkeypatch, tmp_path
):
    file = plugin(tmp_path, "whole-batch", "values - values.mean(axis=0)")
    said = call(capsys, monkeypatch, "test", "whole-batch", "--plugin", file)
    assert said.code == 1
    lines = said.out.splitlines()
    assert lines[0] == f"Feature set whole-batch, {file}:9"
    assert len([line for line in lines if line.startswith("  passed  ")]) >= 6
    (broken,) = [line for line in lines if "in any order and subset" in line]
    assert broken.startswith("  failed  ")
    assert "for a shuffled subset" in broken
    assert lines[-1].endswith("1 not applicable (these were not tried).")
    assert " 0 failed" not in lines[-1]


def test_the_command_exits_with_0_and_says_what_was_not_tried(capsys, monkeypatch):
    said = call(capsys, monkeypatch, "test", "pci-conv4@lu2019-yeast")
    assert said.code == 0, said.out
    untried = [line for line in said.out.splitlines() if line.startswith("  not applicable")]
    assert "`pci-bench weights get pci@lu2019-yeast`" in untried[0]
    assert {line.rpartition(": ")[2] for line in untried[1:]} == {"as above", "one output was asked for"}
    assert f" 0 failed, {len(untried)} not applicable (these were not tried)." in said.out


def test_the_help_says_what_the_exit_status_means(capsys, monkeypatch):
    said = call(capsys, monkeypatch, "test", "--help")
    assert said.code == 0
    assert "exit with 1 where one is broken" in " ".join(said.out.split())


def test_a_features_file_is_tried_on_a_dataset(capsys, monkeypatch, tmp_path, write_crops):
    rng = np.random.default_rng(0)
    files = {f"w{i}/{c}_{s}.tif": rng.integers(0, 255, (8, 8), np.uint8) for i in range(2) for c in "ab" for s in ("gfp", "rfp")}  # fmt: skip
    dataset = f"folder:{write_crops(files)}"
    assert call(capsys, monkeypatch, "extract", "intensity", "--dataset", dataset, "--out", tmp_path / "f.csv", "--device", "cpu").code == 0  # fmt: skip
    said = call(capsys, monkeypatch, "test", f"file:{tmp_path / 'f.csv'}", "--dataset", dataset)
    assert said.code == 0, said.out
    assert said.out.splitlines()[-1] == "5 contracts passed, 0 failed."
    assert "4 cells × 8 columns" in said.out


def test_findings_are_data_for_a_strangers_own_tests():
    found = list(contracts.checked("intensity"))
    assert {type(f) for f in found} == {Finding}
    assert [f for f in found if f.state == "failed"] == []
    with pytest.raises(UserError, match="no evaluator named"):
        list(contracts.checked("evaluator:intensity"))
