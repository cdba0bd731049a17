"""From raw fields of view to cells: what is cut, what is dropped and why, and that nothing is lost on the way."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import call
from command_line import pci_bench as command
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from screens import CENTRES, CROP, discs, write_layout, write_screen
from skimage.measure import regionprops
from skimage.transform import resize

import pci_bench
from pci_bench.acquisition import prepare
from pci_bench.acquisition.cutting import objects_of, own_masks, resized, resized_labels
from pci_bench.acquisition.layout import layout_of, presets, read_layout
from pci_bench.acquisition.pattern import Pattern
from pci_bench.acquisition.prepare import Source, prepare_fields
from pci_bench.acquisition.stains import drawn_stains
from pci_bench.datasets.prepared import prepare_dataset, prepared_folder, remove_prepared
from pci_bench.errors import UserError

FOUR_FIELDS = ["1-A01", "1-A02", "2-A01", "2-A02"]


@pytest.fixture
def screen(tmp_path):
    return write_screen(tmp_path / "screen")


def prepared(layout, name="screen", **options):
    return prepare_dataset(layout, name, workers=1, **options)


# ---- what is cut


def test_crops_are_the_windows_around_the_objects_centres(screen):
    cells, _ = prepared(write_layout(screen.root))
    expected = []
    for name in FOUR_FIELDS:
        planes = np.stack([screen.images[name, "2"], screen.images[name, "1"]])  # the protein first
        for region in regionprops(screen.labels[name]):
            row, column = (int(np.floor(c + 0.5)) - CROP // 2 for c in region.centroid)
            expected.append(planes[:, row : row + CROP, column : column + CROP])
    np.testing.assert_array_equal(cells.stored(slice(None)), expected)
    assert [(c.name, c.role) for c in cells.channels] == [("GFP", "protein"), ("DNA", "marker")]


def test_cells_know_their_field_plate_place_and_area(screen):
    cells, _ = prepared(write_layout(screen.root))
    obs = cells.obs
    assert list(obs["field"].unique()) == FOUR_FIELDS
    assert set(zip(obs["plate"], obs["well"], strict=True)) == {("1", "A01"), ("1", "A02"), ("2", "A01"), ("2", "A02")}
    assert obs[["y", "x"]].head(5).to_numpy().tolist() == [list(map(float, c)) for c in CENTRES]
    assert (obs["cell_area"] == (discs(CENTRES[:1]) > 0).sum()).all()
    assert obs["cell"].is_unique


def test_the_own_object_is_1_in_the_mask_and_others_are_3_and_more():
    labels = discs([(8, 8), (8, 15)], radius=3, size=17)
    mask = own_masks(labels[None, :16, :16], [1])[0]
    np.testing.assert_array_equal(mask == 1, labels[:16, :16] == 1)
    np.testing.assert_array_equal(mask == 3, labels[:16, :16] == 2)
    assert set(np.unique(mask)) == {0, 1, 3}


def test_stored_masks_serve_features_that_need_them(screen):
    cells, _ = prepared(write_layout(screen.root))
    assert cells.has_masks
    masks = cells.stored_masks(slice(None))
    assert ((masks == 1).sum(axis=(1, 2)) == cells.obs["cell_area"]).all()


@pytest.mark.parametrize(
    ("old", "new"), [((64, 128), (32, 64)), ((512, 512), (64, 64)), ((30, 41), (17, 23)), ((8, 8), (20, 20))]
)
def test_resizing_is_scikit_images_without_anti_aliasing(old, new):
    image = np.random.default_rng(0).random(old, dtype=np.float32)
    expected = resize(image, new, order=1, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(resized(image, new), expected, atol=1e-6)


def test_a_quarter_of_the_size_is_the_mean_of_the_middle_four_pixels():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    blocks = image.reshape(2, 4, 2, 4).transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(resized(image, (2, 2)), blocks[:, :, 1:3, 1:3].mean(axis=(2, 3)))


def test_resized_labels_hold_no_label_that_was_not_there():
    labels = discs(CENTRES)
    assert set(np.unique(resized_labels(labels, (48, 48)))) <= set(np.unique(labels))
    np.testing.assert_array_equal(resized_labels(labels, (48, 48))[..., :], labels[1::2, 1::2])


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_objects_are_what_scikit_image_measures(seed):
    labels = np.random.default_rng(seed).integers(0, 6, (12, 9))
    regions = regionprops(labels)
    objects = objects_of(labels)
    np.testing.assert_array_equal(objects.number, [r.label for r in regions])
    np.testing.assert_allclose(objects.centre, [r.centroid for r in regions])
    np.testing.assert_array_equal(objects.area, [r.area for r in regions])
    touching = [r.bbox[0] == 0 or r.bbox[1] == 0 or r.bbox[2] == 12 or r.bbox[3] == 9 for r in regions]
    np.testing.assert_array_equal(objects.at_border, touching)


def test_downscaled_fields_are_cut_at_their_new_size(screen):
    cells, _ = prepared(write_layout(screen.root, crop="downscale = 2"))
    raw = screen.images["1-A01", "2"].astype(np.float64) / 255
    small = raw.reshape(48, 2, 48, 2).mean(axis=(1, 3))
    centre = regionprops(resized_labels(screen.labels["1-A01"], (48, 48)))[4].centroid
    row, column = (int(np.floor(c + 0.5)) - CROP // 2 for c in centre)
    np.testing.assert_allclose(
        cells.stored(slice(4, 5))[0, 0], small[row : row + CROP, column : column + CROP], atol=1e-6
    )
    assert cells.obs[["y", "x"]].iloc[4].to_numpy() == pytest.approx(CENTRES[4], abs=1)  # in pixels of the files


def test_twelve_bits_in_sixteen_use_the_whole_scale(tmp_path):
    screen = write_screen(tmp_path, dtype=np.uint16)
    layout = write_layout(tmp_path)
    layout.write_text("bits = 12\n" + layout.read_text())
    cells, _ = prepared(layout)
    plain, _ = prepared(write_layout(tmp_path), "other", replace=True)
    np.testing.assert_array_equal(cells.stored(slice(None)), plain.stored(slice(None)) << 4)
    assert screen.images["1-A01", "1"].max() < 2**12


# ---- what is dropped


def reasons(prepared):
    return prepared.joined.drops()


def test_every_reason_to_drop_an_object_is_counted(tmp_path):
    centres = [*CENTRES, (3, 40), (90, 8), (78, 50)]  # two at the border, one whose crop fits
    screen = write_screen(tmp_path, centres=centres)
    for name in FOUR_FIELDS:
        screen.labels[name][30:32, 80:82] = 20  # a small one
        screen.labels[name][40:59, 70:89] = 21  # a large one
        Image.fromarray(screen.labels[name]).save(tmp_path / "masks" / f"{name.replace('-', '_')}.png")
    layout = write_layout(tmp_path, "[filters]\nborder = true\nmin_area = 10\nmax_share = 0.9\n")
    _, result = prepared(layout)
    assert reasons(result) == {"touches the field's border": 8, "too small": 4, "too large": 4}
    table = result.joined.objects
    assert (table["reason"] == "").sum() + 16 == len(table) == 4 * 10
    _, result = prepared(write_layout(tmp_path, "[filters]\nmin_area = 10\nmax_share = 0.9\n"))
    assert reasons(result) == {"its crop leaves the field": 8, "too small": 4, "too large": 4}


def test_crops_over_the_edge_can_be_filled_up_with_zeros(tmp_path):
    write_screen(tmp_path, centres=[*CENTRES, (3, 40)])
    cells, result = prepared(write_layout(tmp_path, crop='edge = "pad"'))
    assert reasons(result) == {}
    at_edge = cells.stored(slice(None))[cells.obs["y"].to_numpy() < 4]
    assert len(at_edge) == 4
    assert (at_edge[:, :, :4] == 0).all()


def test_images_with_few_cells_are_left_out_and_told(tmp_path):
    screen = write_screen(tmp_path)
    lonely = np.where(screen.labels["2-A02"] == 1, 1, 0).astype(np.uint16)
    Image.fromarray(lonely).save(tmp_path / "masks" / "2_A02.png")
    cells, result = prepared(write_layout(tmp_path, "[filters]\nmin_cells_per_image = 2\n"))
    assert reasons(result) == {"too few cells in its image": 1}
    assert "2-A02" not in set(cells.obs["field"])
    assert result.joined.per_field.set_index("field")["kept"].to_dict() == {
        "1-A01": 5,
        "1-A02": 5,
        "2-A01": 5,
        "2-A02": 0,
    }


def test_a_field_without_an_object_is_no_error(tmp_path):
    screen = write_screen(tmp_path)
    Image.fromarray(np.zeros_like(screen.labels["1-A01"])).save(tmp_path / "masks" / "1_A01.png")
    cells, result = prepared(write_layout(tmp_path))
    assert len(cells) == 15
    assert result.joined.per_field["objects"].tolist() == [0, 5, 5, 5]


def test_where_nothing_is_left_the_counts_are_told(screen):
    with pytest.raises(UserError, match=r"No cell is left of 20 objects in 4 fields of view .20 too small.") as caught:
        prepared(write_layout(screen.root, "[filters]\nmin_area = 5000\n"))
    assert "[filters]" in str(caught.value)


# ---- stains


STAINS = """
[channels]
A = { role = "protein", match = "2" }
B = { role = "protein", match = "3" }
C = { role = "protein", match = "4", optional = true }
DNA = { role = "marker", match = "1" }
"""


def stained(root, stains=""):
    write_screen(root, channels=("1", "2", "3", "4"))
    for well in ("A01", "A02"):
        (root / "Plate2" / f"{well}_w4.png").unlink()
    layout = write_layout(root, f"[stains]\n{stains}\n")
    text = layout.read_text()
    start, end = text.index("[channels]"), text.index("[segment]")
    layout.write_text(text[:start] + STAINS + text[end:])
    return layout


def test_with_stains_every_cell_has_a_crop_of_each_stain_of_its_field(tmp_path):
    cells, _ = prepared(stained(tmp_path))
    assert cells.obs.groupby(["plate", "label"], observed=True).size().to_dict() == {
        ("1", "A"): 10,
        ("1", "B"): 10,
        ("1", "C"): 10,
        ("2", "A"): 10,
        ("2", "B"): 10,
    }
    assert (cells.obs["image"] == cells.obs["field"] + "/" + cells.obs["label"].astype(str)).all()
    files = {"A": "2", "B": "3", "C": "4"}
    for row, crop in zip(cells.obs.itertuples(), cells.stored(slice(None)), strict=True):
        top, left = int(row.y) - CROP // 2, int(row.x) - CROP // 2
        for plane, channel in ((crop[0], files[row.label]), (crop[1], "1")):
            image = np.asarray(Image.open(tmp_path / f"Plate{row.plate}" / f"{row.well}_w{channel}.png"))
            np.testing.assert_array_equal(plane, image[top : top + CROP, left : left + CROP])


def test_a_drawn_stain_shows_each_cell_once_and_stains_equally_often(tmp_path):
    cells, _ = prepared(stained(tmp_path, 'draw = "one"\nbalance = "plate"'))
    assert len(cells) == 20
    assert not cells.obs.duplicated(["field", "y", "x"]).any()
    counts = cells.obs.groupby(["plate", "label"], observed=True).size()
    assert sorted(counts["1"]) == [3, 3, 4]
    assert counts["2"].to_dict() == {"A": 5, "B": 5}


@given(st.lists(st.integers(1, 7), min_size=1, max_size=40), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_drawn_stains_are_available_and_do_not_depend_on_the_order_of_cells(bits, seed):
    available = np.array([[bool(b & 1), bool(b & 2), bool(b & 4)] for b in bits])
    names, groups = [f"c{i}" for i in range(len(bits))], np.arange(len(bits)) % 2
    drawn = drawn_stains(names, available, groups, seed)
    assert available[np.arange(len(bits)), drawn].all()
    order = np.random.default_rng(seed).permutation(len(bits))
    again = drawn_stains([names[i] for i in order], available[order], groups[order], seed)
    np.testing.assert_array_equal(again, drawn[order])


# ---- labels and centres of others


def test_labels_are_joined_by_named_columns_and_what_does_not_match_is_told(screen):
    (screen.root / "plates.csv").write_text(
        "plate,well,label,drug\n1,A01,x,none\n1,A02,y,\n2,A01,x,none\n7,H12,y,none\n"
    )
    cells, _ = prepared(write_layout(screen.root, '[labels]\nfile = "plates.csv"\non = ["plate", "well"]\n'))
    labels = cells.obs.groupby("field")["label"].first().astype("string").fillna("none")
    assert labels.to_dict() == {"1-A01": "x", "1-A02": "y", "2-A01": "x", "2-A02": "none"}
    assert "5 of 20 cells have no row in plates.csv: plate 2, well A02." in cells.notes
    assert "1 of 4 rows of plates.csv are about no cell: plate 7, well H12." in cells.notes


def test_labels_of_unknown_wells_alone_are_refused(screen):
    (screen.root / "plates.csv").write_text("plate,well,label\n7,H12,y\n")
    with pytest.raises(UserError, match=r"No row of .*plates.csv .for example plate 7, well H12. is about any cell"):
        prepared(write_layout(screen.root, '[labels]\nfile = "plates.csv"\non = ["plate", "well"]\n'))


def test_cellprofilers_tables_of_centres_are_taken_in_place_of_segmentation(screen):
    images, objects = [], []
    for number, name in enumerate(FOUR_FIELDS, start=1):
        plate, well = name.split("-")
        images.append({"ImageNumber": number, "Metadata_Plate": plate, "Metadata_Well": well})
        for i, (y, x) in enumerate(CENTRES, start=1):
            objects.append({"ImageNumber": number, "ObjectNumber": i, "Location_Center_X": x, "Location_Center_Y": y})
    pd.DataFrame(images).to_csv(screen.root / "Image.csv", index=False)
    pd.DataFrame(objects).to_csv(screen.root / "Nuclei.csv", index=False)
    segment = """objects = { file = "Nuclei.csv", images = "Image.csv", on = { Metadata_Plate = "{plate}", Metadata_Well = "{well}" } }"""
    cells, _ = prepared(write_layout(screen.root, segment=segment), "centres")
    masked, _ = prepared(write_layout(screen.root), "masked", replace=True)
    np.testing.assert_array_equal(cells.stored(slice(None)), masked.stored(slice(None)))
    assert not cells.has_masks
    assert "cell_area" not in cells.obs


# ---- determinism, interruption, bad files


def test_workers_and_repetition_change_nothing(screen, tmp_path, monkeypatch):
    layout = write_layout(screen.root)
    one, _ = prepared(layout)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "another"))
    two, _ = prepare_dataset(layout, "screen", workers=2)
    assert one.sha256 == two.sha256
    pd.testing.assert_frame_equal(one.obs, two.obs)


def test_an_interrupted_preparation_continues_with_the_fields_that_are_left(screen, monkeypatch):
    layout, cut, seen = write_layout(screen.root), prepare.cut_field, []

    def interrupted(field, *rest):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(field.name)
        return cut(field, *rest)

    monkeypatch.setattr(prepare, "cut_field", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared(layout)
    seen_before = list(seen)
    monkeypatch.setattr(prepare, "cut_field", lambda field, *rest: seen.append(field.name) or cut(field, *rest))
    cells, _ = prepared(layout)
    assert seen_before == FOUR_FIELDS[:2]
    assert seen == FOUR_FIELDS
    assert len(cells) == 20


def test_new_fields_are_added_without_cutting_the_old_ones_again(screen, monkeypatch):
    layout, cut, seen = write_layout(screen.root), prepare.cut_field, []
    monkeypatch.setattr(prepare, "cut_field", lambda field, *rest: seen.append(field.name) or cut(field, *rest))
    prepared(layout)
    write_screen(screen.root, plates=("3",))
    cells, _ = prepared(layout)
    assert seen == [*FOUR_FIELDS, "3-A01", "3-A02"]
    assert len(pci_bench.load_dataset("screen")) == len(cells) == 30


def test_changed_settings_cut_again(screen):
    first, _ = prepared(write_layout(screen.root))
    second, _ = prepared(write_layout(screen.root, crop="resize = 8"))
    assert first.crop_shape == (16, 16)
    assert second.crop_shape == (8, 8)


def test_one_bad_file_is_told_and_does_not_stop_the_others(screen):
    screen.path("1", "A02", "2").write_bytes(b"no image")
    layout = write_layout(screen.root)
    cells, result = prepared(layout)
    assert len(cells) == 15
    assert list(result.failed) == ["1-A02"]
    assert "A02_w2.png" in result.failed["1-A02"]
    with pytest.raises(UserError, match=r"The field '1-A02' cannot be cut: .*A02_w2.png.*Without --strict"):
        prepared(layout, strict=True)


def test_a_bad_file_that_is_repaired_is_cut_by_the_next_call(screen):
    file = screen.path("1", "A02", "2")
    good = file.read_bytes()
    file.write_bytes(good[:100])
    layout = write_layout(screen.root)
    assert len(prepared(layout)[0]) == 15
    file.write_bytes(good)
    assert len(prepared(layout)[0]) == 20


def test_a_missing_channel_is_told_by_field(screen):
    screen.path("2", "A01", "1").unlink()
    cells, result = prepared(write_layout(screen.root))
    assert len(cells) == 15
    assert result.found.incomplete == {"2-A01": "there is no file of the channel DNA beside Plate2/A01_w2.png"}


def test_channels_of_different_size_are_told(screen):
    Image.fromarray(np.zeros((90, 96), np.uint8)).save(screen.path("2", "A01", "1"))
    _, result = prepared(write_layout(screen.root))
    assert (
        "A01_w1.png has the size (90, 96), but Plate2/A01_w2.png of the same field has (96, 96)"
        in result.failed["2-A01"]
    )


def test_a_damaged_part_is_cut_again(screen):
    layout = write_layout(screen.root)
    before, _ = prepared(layout)
    part = next((prepared_folder("screen") / "parts").glob("*.npz"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    after, _ = prepared(layout)
    assert after.sha256 == before.sha256


# ---- names


def test_a_prepared_dataset_is_found_by_its_name_and_can_be_removed(screen):
    cells, _ = prepared(write_layout(screen.root), "my-screen")
    assert pci_bench.load_dataset("my-screen").sha256 == cells.sha256
    assert json.loads((prepared_folder("my-screen") / "prepared.json").read_text())["counts"]["crops"] == 20
    remove_prepared("my-screen")
    with pytest.raises(UserError, match="There is no dataset named 'my-screen'"):
        pci_bench.load_dataset("my-screen")


def test_a_dataset_of_another_layout_is_not_replaced_unasked(screen, tmp_path):
    prepared(write_layout(screen.root), "my-screen")
    other = write_screen(tmp_path / "other")
    layout = write_layout(other.root)
    with pytest.raises(UserError, match=r"'my-screen' was prepared from .*screen/layout.toml. Choose another --name"):
        prepared(layout, "my-screen")
    prepared(layout, "my-screen", replace=True)


WRONG_NAMES = {
    "My Screen": "cannot be named",
    "yeast-sim": "There is a dataset named 'yeast-sim' already",
    "a:b": "cannot be named",
}


@pytest.mark.parametrize(("name", "sentence"), WRONG_NAMES.items(), ids=WRONG_NAMES)
def test_a_name_that_other_commands_could_not_take_is_refused(screen, name, sentence):
    with pytest.raises(UserError, match=sentence):
        prepared(write_layout(screen.root), name)


# ---- layouts


WRONG = {
    "a pattern that fits nothing": (('pattern = "Plate', 'pattern = "Disc'), "No file below .* fits the pattern"),
    "two files of one channel": (("{well}_w", "{well:A0}*_w"), "has 2 files of the channel"),
    "an unknown entry": (("[crop]", "[crop]\nsise = 3"), "crop.sise: Extra inputs are not permitted"),
    "an unknown role": (('"marker"', '"nucleus"'), "channels.DNA.role: Input should be 'protein' or 'marker'"),
    "no protein": (('"protein"', '"marker"'), "no channel has the role 'protein'"),
    "a crop larger than the field": ((f"size = {CROP}", "size = 128"), "which is less than one crop"),
    "an open brace": (("{well}_w", "{well_w"), "has a brace that is not closed"),
    "no way to find cells": (("masks = ", "#"), "needs one of segmenter, masks and objects"),
    "an unknown segmenter": (
        ('masks = "masks/{plate}_{well}.png"', 'segmenter = "nucleii"\nchannel = "DNA"'),
        "Did you mean nuclei",
    ),
    "an option that a segmenter does not have": (
        ('masks = "masks/{plate}_{well}.png"', 'segmenter = "nuclei"\nchannel = "DNA"\noptions = { diametre = 3 }'),
        "nuclei has no parameter 'diametre'",
    ),
    "a channel that is not declared": (
        ('masks = "masks/{plate}_{well}.png"', 'segmenter = "nuclei"\nchannel = "RNA"'),
        "'RNA'",
    ),
    "masks that are not there": (("masks/{plate}", "labels/{plate}"), "No file below .* fits .segment. masks"),
    "a folder that is not there": (('pattern = "', 'root = "nowhere"\npattern = "'), "There is no folder .*nowhere"),
    "an unknown preset": (('pattern = "', 'preset = "yest"\npattern = "'), "there is no preset 'yest'"),
    "no TOML": (("[crop]", "[crop"), "is not TOML"),
}


@pytest.mark.parametrize(("change", "sentence"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_prepared_is_a_sentence(screen, change, sentence):
    layout = write_layout(screen.root)
    assert change[0] in layout.read_text()
    layout.write_text(layout.read_text().replace(*change))
    with pytest.raises(UserError, match=sentence):
        prepared(layout)


def test_presets_hold_the_papers_rules():
    yeast = layout_of(
        {
            "preset": "yeast",
            "pattern": "{channel}.tif",
            "channels": {"GFP": {"role": "protein"}},
            "segment": {"channel": "GFP"},
        },
        "",
    )
    assert (yeast.crop.size, yeast.filters.min_share, yeast.filters.max_share, yeast.filters.min_cells_per_image) == (
        64,
        0.05,
        0.95,
        30,
    )
    assert set(presets()) == {"yeast", "human-paper", "human-code", "nuclei"}


def test_what_a_layout_says_has_precedence_over_its_preset(tmp_path):
    write_screen(tmp_path)
    layout = write_layout(tmp_path)
    layout.write_text('preset = "yeast"\n' + layout.read_text())
    read = read_layout(layout)
    assert read.crop.size == CROP
    assert read.segment.segmenter is None  # masks are in its place
    assert read.filters.min_cells_per_image == 30


@given(st.text("ab1/_-.", max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_named_part_is_any_text_without_a_slash(text):
    matched = Pattern("x_{part}.png").match(f"x_{text}.png")
    assert matched == (None if not text or "/" in text else {"part": text})


def test_fields_are_chosen_by_parts_of_their_names(screen):
    layout = read_layout(write_layout(screen.root))
    source = Source(layout, screen.root, {"plate": frozenset({"2"})})
    assert [f.name for f in prepare_fields(source, screen.root / "parts", workers=1).fields] == ["2-A01", "2-A02"]


def toml_blocks_of_the_docs():
    text = (Path(__file__).parents[1] / "docs" / "prepare.md").read_text(encoding="utf-8")
    return [block.partition("```")[0] for block in text.split("```toml\n")[1:]]


def test_the_layout_of_the_documentation_can_be_used():
    whole, masks, centres = map(tomllib.loads, toml_blocks_of_the_docs())
    layout = layout_of(whole, "docs/prepare.md")
    assert set(whole) == set(type(layout).model_fields) - {"stains"}
    rest = {name: value for name, value in whole.items() if name not in ("segment", "filters", "preset")}
    assert layout_of({**rest, **masks}, "").segment.masks == "masks/{plate}_{well}.tif"
    assert layout_of({**rest, **centres}, "").segment.objects.images == "Image.csv"


# ---- the command line


def test_the_command_cuts_lists_evaluates_and_removes(screen, tmp_path, cache, capsys, monkeypatch):
    (screen.root / "labels.csv").write_text("well,label\nA01,a\nA02,b\n")
    layout = write_layout(screen.root, '[labels]\nfile = "labels.csv"\non = ["well"]\n')
    screen.path("2", "A02", "2").write_bytes(b"no image")
    made = command("data", "prepare", layout, "--name", "my-screen", "--workers", "2", cache=cache, cwd=tmp_path)
    assert made.code == 0, made.err
    assert "Cells(my-screen: 15 cells of 16×16 px; GFP (protein), DNA (marker))" in made.out
    assert "2-A02" in made.out
    listed = call(capsys, monkeypatch, "data", "list")
    assert "my-screen" in listed.out
    extract = ("extract", "intensity", "--dataset", "my-screen", "--out", tmp_path / "f.h5ad")
    extracted = call(capsys, monkeypatch, *extract)
    assert extracted.code == 0, extracted.err
    removed = call(capsys, monkeypatch, "data", "remove", "my-screen")
    assert removed.code == 0, removed.err
    gone = call(capsys, monkeypatch, "data", "verify", "my-screen")
    assert (gone.code, "Traceback" in gone.err) == (2, False)


def test_the_command_says_what_is_wrong_with_a_layout_in_one_sentence(tmp_path, capsys, monkeypatch):
    (tmp_path / "layout.toml").write_text('pattern = "{well}.png"\n')
    said = call(capsys, monkeypatch, "data", "prepare", tmp_path / "layout.toml", "--name", "my-screen")
    assert said.code == 2
    assert "channels: Field required" in said.err
    assert "Traceback" not in said.err
