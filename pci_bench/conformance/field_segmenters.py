"""Contracts of segmenters of whole fields: labels in reading order that depend on the field alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from pci_bench.api.field_segmenter import FIELD_SEGMENTERS, FieldSegmenter, SegmentField, in_reading_order
from pci_bench.conformance.base import (
    BrokenContractError,
    Finding,
    NotApplicableError,
    Once,
    checked_contracts,
    expect,
    expect_described,
    expect_reason,
    known_methods,
    left_alone,
    some,
)

CONSTANTS = (0.0, 0.4, 1.0)


class FieldSegmenterTrial:
    """One segmenter, and the synthetic fields that it is tried on."""

    def __init__(self, name: str, device: str = "cpu"):
        self.name = name
        self.segmenter: FieldSegmenter = FIELD_SEGMENTERS.get(name)
        self.device = device
        self.fields = {
            "a wide field": planted_field(192, 256, 12),
            "a square field": planted_field(200, 200, 8, seed=1),
        }
        self.once = Once()
        self.environment = dict(os.environ)

    def opened(self) -> SegmentField:
        """Return the function that segments a field, with the default options."""
        if reason := self.segmenter.unavailable_reason():
            raise NotApplicableError(f"it cannot be run here: {reason}")
        return self.segmenter.open(self.segmenter.Params(), self.device)

    def labels(self, field: str) -> np.ndarray:
        """Return the labels of a field."""
        return self.once(field, lambda: self.opened()(self.fields[field].copy()))


def planted_field(rows: int, columns: int, count: int, *, seed: int = 0) -> np.ndarray:
    """Return a field (rows, columns) float32 of roundish objects of 24 pixels on a noisy background; some touch each other."""
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    grid: np.ndarray = np.indices((rows, columns))
    image = np.zeros((rows, columns))
    for row, column in rng.uniform((0, 0), (rows, columns), (count, 2)):
        squeeze = rng.uniform(0.8, 1.2)
        inside = np.hypot((grid[0] - row) * squeeze, (grid[1] - column) / squeeze) < 12
        image[inside] = rng.uniform(0.4, 0.8)
    field: np.ndarray = ndimage.gaussian_filter(image, 1) + rng.normal(0.08, 0.01, image.shape)
    return field.astype(np.float32)


def expect_same_labels(expected: np.ndarray, actual: np.ndarray, how: str) -> None:
    """Check that labels are equal."""
    differ = int((expected != actual).sum()) if expected.shape == actual.shape else expected.size
    if differ:
        raise BrokenContractError(f"expected the same labels {how}; found others in {differ:,} pixels.")


# ---- the contracts


def description(trial: FieldSegmenterTrial) -> str:
    """Name, version and title are texts; unavailable_reason() returns None or a sentence."""
    meta = trial.segmenter.meta
    expect_described(meta, trial.name, "version", "title")
    expect_reason(trial.segmenter.unavailable_reason(), "")
    return f"version {meta.version}"


def options(trial: FieldSegmenterTrial) -> str:
    """Every option has a default and a description; unknown ones are refused; the options cannot be changed later."""
    import pydantic

    model = trial.segmenter.Params
    required = [name for name, info in model.model_fields.items() if info.is_required()]
    expect(not required, "a default for every option", f"none for {some(required)}")
    silent = [name for name, info in model.model_fields.items() if not info.description]
    expect(not silent, "a description of every option", f"none of {some(silent)}")
    try:
        model(**{"an unknown option": 1})
    except pydantic.ValidationError:
        pass
    else:
        expect(False, 'an unknown option to be refused (extra="forbid")', "that it is accepted")
    expect(model.model_config.get("frozen"), "options that cannot be changed (frozen=True)", "that they can be")
    return some(model.model_fields) or "it has none"


def shape(trial: FieldSegmenterTrial) -> str:
    """Labels are int32 (rows, columns)."""
    for name, field in trial.fields.items():
        labels = trial.labels(name)
        expect(labels.shape == field.shape, f"labels of the shape {field.shape} for {name}", f"{labels.shape}")
        expect(labels.dtype == np.int32, "int32", f"{labels.dtype}")
    return f"{some((f.shape for f in trial.fields.values()), 3)} int32"


def order(trial: FieldSegmenterTrial) -> str:
    """0 is background; objects are 1 … n in reading order of their first pixels."""
    counts = []
    for name in trial.fields:
        labels = trial.labels(name)
        ordered = np.array_equal(labels, in_reading_order(labels))
        expect(ordered, f"labels 1 … n in reading order in {name}", "others; in_reading_order() gives these")
        counts.append(f"{labels.max()} objects in {name}")
    return "; ".join(counts)


def constant(trial: FieldSegmenterTrial) -> str:
    """A constant field shows no object, whatever its brightness."""
    segment = trial.opened()
    labelled = [f"{v:g}" for v in CONSTANTS if np.any(segment(np.full((96, 96), v, np.float32)))]
    expect(not labelled, "no label in a constant field", f"some where it is {' and '.join(labelled)} everywhere")
    return f"no label in fields of {some(f'{v:g}' for v in CONSTANTS)} everywhere"


def any_order(trial: FieldSegmenterTrial) -> str:
    """The same labels whatever was segmented before."""
    segment = trial.opened()
    for name in reversed(trial.fields):
        expect_same_labels(trial.labels(name), segment(trial.fields[name].copy()), "when fields come in another order")
    return "the same for the fields in another order"


def repeatable(trial: FieldSegmenterTrial) -> str:
    """A second call gives the same labels and changes neither the field nor global state."""
    segment = trial.opened()
    for name, field in trial.fields.items():
        expected, given = trial.labels(name), field.copy()
        with left_alone("segmenting", trial.environment):
            labels = segment(given)
        expect(np.array_equal(given, field), "the field to be left as it is", "that segmenting changes it")
        expect_same_labels(expected, labels, "in a second call")
    return "the same labels; field, random generators, threads and environment untouched"


def methods(trial: FieldSegmenterTrial) -> str:
    """Its methods are those that are called."""
    return known_methods(trial.segmenter, FieldSegmenter)


CONTRACTS = (
    ("its description is complete", description),
    ("its methods are those that are called", methods),
    ("every option has a default and a description", options),
    ("labels are int32 of the field's size", shape),
    ("labels are in reading order", order),
    ("a constant field shows no object", constant),
    ("labels depend on no other field", any_order),
    ("the same when called again, and nothing else changes", repeatable),
)


def check_field_segmenter(name: str, *, device: str = "cpu") -> Iterator[Finding]:
    """Yield the findings of a segmenter of fields."""
    subject = f"field segmenter {name}, {FIELD_SEGMENTERS.origin(name)}"
    yield from checked_contracts(subject, CONTRACTS, FieldSegmenterTrial(name, device))
