"""Changed crops: other pixels, the same cells, and features that know the difference."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydantic
import pytest
from factories import make_cells, make_features

import pci_bench
from pci_bench.api.evaluator import EVALUATORS, EvaluationContext, Evaluator, EvaluatorMeta, EvaluatorOutput
from pci_bench.data.cells import Cells
from pci_bench.data.changes import CropChange, changed
from pci_bench.runs.evaluation import evaluate


@dataclass(frozen=True)
class Times(CropChange):
    """Every pixel multiplied, and cells in masks numbered anew."""

    factor: float = 1.0
    version = "1"

    @property
    def name(self) -> str:
        return f"times {self.factor:g}"

    def crops(self, cells: Cells, positions: np.ndarray) -> np.ndarray:
        return cells.crops(positions, rescale="raw") * np.float32(self.factor)


class Brightness(Evaluator):
    """How much brighter the cells are after a change."""

    meta = EvaluatorMeta("brightness-gain", "1", "Gain", "gain", needs=("extractor",))

    class Params(pydantic.BaseModel, extra="forbid"):
        factor: float = 2.0

    def __call__(self, adata: Any, param_sets: list[Any], context: EvaluationContext) -> Iterator[EvaluatorOutput]:
        assert context.features_of is not None
        assert context.cells is not None
        for params in param_sets:
            again = context.features_of(changed(context.cells, Times(params.factor)))
            yield EvaluatorOutput(params.model_dump(), {"gain": float(again.X[:, 0].mean() / adata.X[:, 0].mean())})


@pytest.fixture
def gain(own_registries: None) -> str:
    EVALUATORS.register("brightness-gain", Brightness())
    return "brightness-gain"


def masked_cells() -> Cells:
    crops = np.random.default_rng(1).integers(0, 200, (9, 2, 8, 8), dtype=np.uint8)
    return make_cells(crops=crops, masks=np.arange(9 * 64, dtype=np.uint16).reshape(9, 8, 8))


def test_a_change_that_changes_nothing_gives_the_same_pixels_in_any_selection():
    cells = masked_cells()
    same = changed(cells, Times(1))
    for index in (slice(2, 5), [4, 1, 1, 8], np.arange(9) % 2 == 0):
        np.testing.assert_array_equal(same.crops(index), cells.crops(index))
        np.testing.assert_array_equal(
            same[index].crops(slice(None), masks=True), cells[index].crops(slice(None), masks=True)
        )


def test_integers_stay_integers_as_a_camera_would_have_them():
    cells = masked_cells()
    dark = changed(cells, Times(0.37)).stored(slice(0, 9))
    assert dark.dtype == np.uint8
    np.testing.assert_array_equal(dark, np.round(cells.stored(slice(0, 9)) * 0.37))
    assert changed(cells, Times(100)).stored(slice(0, 9)).max() == 255


def test_the_table_stays_and_the_hash_names_the_change_and_how_strong_it_is():
    cells = masked_cells()
    hashes = {
        c.sha256 for c in (cells, changed(cells, Times(1)), changed(cells, Times(0.5)), changed(cells[:4], Times(0.5)))
    }
    assert len(hashes) == 4
    assert changed(cells, Times(1)).obs is cells.obs


def test_changed_cells_reach_a_worker_process_whole():
    dark = changed(masked_cells(), Times(0.5))
    again = pickle.loads(pickle.dumps(dark))
    assert again.sha256 == dark.sha256
    np.testing.assert_array_equal(again.crops(slice(None), rescale="raw"), dark.crops(slice(None), rescale="raw"))


def test_an_evaluator_is_given_the_same_features_of_changed_crops(gain):
    cells = make_cells(30)
    results = evaluate(gain, pci_bench.extract("intensity", cells), cells=cells, factor=[1.0, 0.5])
    assert [r.metrics["gain"] for r in results] == pytest.approx([1, 0.5], rel=1e-6)


def test_features_that_do_not_come_from_crops_are_said_not_to(gain):
    values = np.random.default_rng(0).random((30, 3))
    with pytest.raises(pci_bench.UserError, match="not computed from crops that are here"):
        evaluate(gain, make_features(values), cells=make_cells(30))
    with pytest.raises(pci_bench.UserError, match="not computed from crops that are here"):
        evaluate(gain, pci_bench.extract("intensity", make_cells(30)))
