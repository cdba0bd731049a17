"""What a notebook shows of cells, results and runs, and that the three tutorials run."""

from __future__ import annotations

import base64
import html
import io
import re

import numpy as np
import pytest
from factories import make_cells
from PIL import Image

from pci_bench.data.pictures import GAP, mosaic, sampled, tile_side


def picture_of(text: str) -> np.ndarray:
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


# ---- cells


def test_cells_are_shown_by_a_mosaic_of_a_few_of_them():
    cells = make_cells(60, label=[f"class{i % 5}" for i in range(60)])
    text = cells._repr_html_()
    picture = picture_of(text)
    assert picture.shape == (2 * 16 + GAP, 12 * (16 + GAP) - GAP, 3)
    assert html.escape(repr(cells)) in text
    assert "GFP green, RFP magenta" in text


def test_a_tile_of_a_mosaic_is_the_protein_in_green_and_the_marker_in_magenta():
    crops = np.zeros((2, 2, 4, 4), np.float32)
    crops[0, 0, 1, 1] = crops[1, 1, 2, 2] = 1
    first, second = np.split(mosaic(make_cells(crops=crops), [0, 1]), [4 + GAP], axis=1)
    assert first[1, 1].tolist() == [0, 255, 0]
    assert second[2, 2].tolist() == [204, 0, 204]
    assert (first[:, 4:] == 255).all()  # the gap


def test_a_mosaic_has_every_label_as_often_as_any_other_and_in_their_order():
    labels = np.array(["rare"] * 4 + ["b"] * 40 + ["a"] * 56)
    chosen = labels[sampled(make_cells(100, label=labels), 12)]
    assert chosen.tolist() == ["a"] * 4 + ["b"] * 4 + ["rare"] * 4


def test_large_crops_are_made_smaller():
    cells = make_cells(3, shape=(200, 200))
    assert tile_side(cells) == 64
    assert picture_of(cells._repr_html_()).shape[0] == 64


def test_no_cells_are_shown_by_words_alone():
    assert "<img" not in make_cells(5)[:0]._repr_html_()


def test_names_from_a_file_are_not_taken_for_html():
    text = make_cells(4, name="<script>", label=["<b>", "<b>", "c", "c"])._repr_html_()
    assert "<script>" not in text
    assert "<b>," not in text


@pytest.mark.parametrize("n", [1, 13, 24])
def test_few_cells_make_a_small_mosaic(n):
    assert mosaic(make_cells(n), range(n)).shape[1] == min(n, 12) * (16 + GAP) - GAP
