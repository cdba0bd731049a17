"""The quality-control page of prepared fields: counts, pictures, charts, the choice of fields and crops."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import vl_convert
from command_line import call
from painted_fields import (
    CENTRES,
    CENTRES_ONLY,
    FIELDS,
    LAYOUT,
    ODD,
    SIZE,
    image_of,
    labels_of,
    specks_of,
    write_fields,
)
from PIL import Image
from skimage.segmentation import find_boundaries

from pci_bench.acquisition import quality
from pci_bench.acquisition.quality import Groups, chosen_fields, furthest, groups_of, spreads
from pci_bench.datasets.prepared import prepare_dataset
from pci_bench.reporting.html import field_pictures, quality_charts
from pci_bench.reporting.html.cells import scattered
from pci_bench.reporting.html.quality import write_quality_page
from pci_bench.reporting.palette import ON_DARK


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The painted fields, prepared, and their page; with label images and with a table of centres."""
    root = tmp_path_factory.mktemp("fields")
    result = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(root / "cache"))
        for name, layout in (("masks", LAYOUT), ("centres", CENTRES_ONLY)):
            file = write_fields(root / name, layout)
            cells, prepared = prepare_dataset(file, f"painted-{name}", workers=1)
            page = write_quality_page(root / f"{name}.html", cells, prepared, str(file))
            result[name] = SimpleNamespace(
                cells=cells, prepared=prepared, file=file, page=page, text=page.read_text(encoding="utf-8")
            )
    return result


def pairs(text: str) -> dict[str, str]:
    """Return the words and what they say of all lists of pairs of a page."""
    return {html.unescape(word): said for word, said in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)}


def charts(text: str) -> list[dict]:
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])["charts"]


def pictures(text: str) -> dict[str, np.ndarray]:
    """Return the pixels (rows, columns, 3) of every field's picture, by its description."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', text)
    return {
        html.unescape(alt): np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")).astype(int)
        for content, alt in found
    }


def colour(code: int) -> list[int]:
    return [int(ON_DARK[code][i : i + 2], 16) for i in (1, 3, 5)]


def picture_of(text: str, plate: str, well: str) -> np.ndarray:
    return next(pixels for alt, pixels in pictures(text).items() if alt.startswith(f"Field {plate}-{well} "))


def test_the_command_writes_the_page_into_the_datasets_folder_and_says_where(tmp_path, capsys, monkeypatch, cache):
    file = write_fields(tmp_path / "fields")
    said = call(capsys, monkeypatch, "data", "prepare", file, "--name", "mine", "--workers", 1)
    assert said.code == 0, said.err
    page = cache / "prepared" / "mine" / "qc.html"
    assert str(page) in said.out
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_head_counts_fields_objects_and_cells_with_reasons(made):
    said = pairs(made["masks"].text)
    specks = sum(specks_of(*field) for field in FIELDS)
    total = 10 * len(FIELDS) + specks
    assert said["fields of view cut"] == "6"
    assert said["fields not cut: failed"] == said["fields not cut: incomplete"] == "1"
    assert said["objects found"] == str(total)
    assert said["objects kept"] == f"54 ({5400 / total:.1f} %)"
    assert said["objects dropped: too small"] == f"{specks} ({100 * specks / total:.1f} %)"
    assert said["objects dropped: touches the field's border"] == f"6 ({600 / total:.1f} %)"
    assert (said["cells in the dataset"], said["images"]) == ("54", "6")
    assert said["layout"] == str(made["masks"].file)


def test_fields_that_were_not_cut_are_there_with_reasons(made):
    text = made["masks"].text
    rows = dict(re.findall(r'<th scope="row">(2-A\d)</th>\s*<td class="words">(.*?)</td>', text))
    assert set(rows) == {"2-A8", "2-A9"}
    assert "no file of the channel DNA" in rows["2-A8"]
    assert "truncated" in rows["2-A9"]


@pytest.mark.parametrize("field", FIELDS[:4])
def test_kept_objects_have_a_whole_outline_and_dropped_ones_a_broken_one(made, field):
    plate, well = field
    pixels = picture_of(made["masks"].text, plate, well)
    labels = labels_of(plate, well)
    edge = find_boundaries(labels, mode="inner", connectivity=1)
    stamped = np.zeros(labels.shape, bool)  # around the centres of dropped objects, where symbols are
    for number in range(10, labels.max() + 1):
        y, x = np.argwhere(labels == number).mean(axis=0).round().astype(int)
        stamped[max(0, y - 5) : y + 6, max(0, x - 5) : x + 6] = True
    kept = (pixels == colour(0)).all(axis=2)
    wanted = edge & (labels > 0) & (labels < 10)
    np.testing.assert_array_equal(kept[~stamped], wanted[~stamped])
    border = (pixels == colour(1)).all(axis=2) & ~stamped
    outline = edge & (labels == 10) & ~stamped
    assert 0 < border.sum() < outline.sum()
    assert not (border & ~outline).any()
    assert (pixels == colour(2)).all(axis=2).any()  # specks have a symbol


def test_half_of_a_dropped_objects_outline_is_drawn():
    labels = np.zeros((60, 80), int)
    labels[10:50, 10:30], labels[10:50, 40:75] = 7, 70_000
    pixels = np.zeros(labels.shape, np.uint8)
    field_pictures.draw_outlines(pixels, labels, np.array([7, 70_000]), np.array([0, 3]))
    assert (pixels == field_pictures.GREYS).sum() == 2 * 40 + 2 * 20 - 4
    assert (pixels == field_pictures.GREYS + 3).sum() == pytest.approx((2 * 40 + 2 * 35 - 4) / 2, abs=6)


def test_grey_is_linear_between_two_percentiles(made):
    image = image_of("1", "A1", "DNA").astype(float)
    pixels = picture_of(made["masks"].text, "1", "A1")
    low, high = np.percentile(image, (1, 99.7))
    plain = (pixels[..., 0] == pixels[..., 1]) & (labels_of("1", "A1") == 0)
    plain[46:56, :8] = False
    for y, x in np.argwhere(plain)[::37]:
        expected = 255 * min(max((image[y, x] - low) / (high - low), 0), 1)
        if pixels[y, x].any():  # black is around symbols too
            assert abs(pixels[y, x, 0] - expected) <= 255 / 47 / 2 + 0.51


def test_centres_without_outlines_are_crosses(made):
    pixels = picture_of(made["centres"].text, "1", "A1")
    kept = (pixels == colour(0)).all(axis=2)
    wanted = np.zeros((SIZE, SIZE), bool)
    for y, x in CENTRES:
        wanted[y - 3 : y + 4, x] = wanted[y, x - 3 : x + 4] = True
    np.testing.assert_array_equal(kept, wanted)
    assert "Areas of objects" not in made["centres"].text
    assert "Areas of objects" in made["masks"].text


def test_a_large_and_noisy_field_is_made_smaller_until_it_fits():
    noise = np.random.default_rng(0).random((900, 1800)).astype(np.float32)
    sizes = []
    for side in field_pictures.SIDES:
        shape = field_pictures.scaled(noise.shape, side)
        content = field_pictures.png(field_pictures.grey_levels(noise, shape))
        assert Image.open(io.BytesIO(content)).size == (side, side // 2)
        sizes.append(len(content))
    assert sizes == sorted(sizes, reverse=True)
    worst_square = field_pictures.scaled((900, 900), field_pictures.SIDES[-1])
    square = field_pictures.grey_levels(noise[:, :900], worst_square)
    assert len(field_pictures.png(square)) <= field_pictures.LARGEST_PICTURE


def test_foreign_names_are_shown_and_never_obeyed(made):
    text = made["masks"].text
    assert "A<b>" not in re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.S)
    assert f"1-{ODD}" in json.dumps(charts(text), ensure_ascii=False).replace('\\"', '"')


def test_the_same_fields_give_the_same_bytes(made, tmp_path, monkeypatch):
    m = made["masks"]
    monkeypatch.setenv("PCI_BENCH_CACHE", str(m.page.parent / "cache"))
    cells, prepared = prepare_dataset(m.file, "painted-masks", workers=1)
    again = write_quality_page(tmp_path / "again.html", cells, prepared, str(m.file))
    assert again.read_bytes() == m.page.read_bytes()


def test_bars_have_the_objects_of_every_plate_by_outcome(made):
    bars = charts(made["masks"].text)[0]
    found = {(v["group"], v["outcome"]): v["n"] for v in bars["data"]["values"]}
    for plate in ("1", "2"):
        assert found[plate, "kept"] == 27
        assert found[plate, "touches the field's border"] == 3
        assert found[plate, "too small"] == sum(specks_of(*field) for field in FIELDS if field[0] == plate)
    svg = vl_convert.vegalite_to_svg(bars | {"width": 400})
    assert len(re.findall('aria-roledescription="bar"', svg)) == 6
    assert "1: 27 objects kept" in svg


def test_cells_per_image_and_areas_are_counted(made):
    text = made["masks"].text
    by_title = {chart["description"]: chart for chart in charts(text)}
    images = by_title["Histogram: images by cells per image"]["data"]["values"]
    assert [(v["n"], v["said"]) for v in images] == [(6, "9 cells: 6 images")]
    areas = [c["data"]["values"] for d, c in by_title.items() if d.startswith("Histogram: objects")]
    assert sum(v["n"] for v in areas[-1] if v["outcome"] == "kept") == 27  # of the last plate
    disc = (labels_of("1", "A1") == 1).sum()
    (kept,) = [v for v in areas[-1] if v["outcome"] == "kept"]
    assert kept["low"] <= disc < kept["high"]


def test_intensity_and_focus_have_a_point_for_each_field_and_channel(made):
    spread = [c for c in charts(made["masks"].text) if c["description"].startswith("Points")]
    assert [c["description"] for c in spread] == [
        f"Points: {measure} of {channel}" for measure in ("Mean intensity", "Focus") for channel in ("GFP", "DNA")
    ]
    values = {v["said"].rsplit(":", 1)[0]: v for v in spread[1]["layer"][2]["data"]["values"]}
    assert len(values) == 6
    for plate, well in FIELDS:
        expected = image_of(plate, well, "DNA").mean() / 255
        assert values[f"{plate}-{well}"]["value"] == pytest.approx(expected, rel=1e-5)
        assert values[f"{plate}-{well}"]["group"] == plate
    vl_convert.vegalite_to_svg(spread[1] | {"width": 300})


def test_crops_are_those_of_the_named_cells(made):
    m = made["masks"]
    content = base64.b64decode(re.search(r'url\("data:image/\w+;base64,([^"]+)"', m.text)[1])
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)
    found = re.findall(r'aria-label="Cell ([^"]+)" title="[^"]*" style="--column:(\d+);--row:(\d+)"', m.text)
    assert len(found) == 54
    names = m.cells.obs["cell"].astype(str).tolist()
    crops = m.cells.crops(slice(None))
    green = np.rint(255 * crops[:, 0])
    for name, column, row in found[::7]:
        name = html.unescape(name)
        y, x = 32 * int(row), 32 * int(column)
        seen = image[y : y + 32, x : x + 32, 1]
        assert np.abs(green - seen).mean(axis=(1, 2)).argmin() == names.index(name)


def of_plates(counts: list[int]) -> tuple[pd.DataFrame, Groups]:
    """Return a table of fields, ten objects each of which nine are kept, and their plates."""
    plate = np.repeat([f"p{i}" for i in range(len(counts))], counts)
    fields = [f"f{i}" for i in range(len(plate))]
    table = pd.DataFrame({"field": fields, "objects": 10, "kept": 9})
    return table, Groups("plate", tuple(dict.fromkeys(plate)), dict(zip(fields, plate.tolist(), strict=True)))


@pytest.mark.parametrize("counts", [[3, 4], [100, 1, 50], [2] * 40, [1] * 200, [500]])
def test_chosen_fields_are_few_even_over_plates_and_have_those_with_most_drops(counts):
    table, groups = of_plates(counts)
    table.loc[[1, len(table) - 1], "kept"] = [0, 2]
    names, worst = chosen_fields(table, groups, 24)
    assert len(names) == min(24, len(table)) == len(set(names))
    assert {"f1", f"f{len(table) - 1}"} <= worst <= set(names)
    assert names == [f for f in table["field"] if f in names]
    taken = Counter(groups.of_field[f] for f in names if f not in worst)
    available = Counter(groups.of_field[f] for f in table["field"] if f not in worst)
    if taken and len(counts) <= 16:
        for plate in groups.names:  # less than another only where it has no more
            assert taken[plate] >= max(taken.values()) - 1 or taken[plate] == available[plate]
    assert chosen_fields(table, groups, 24) == (names, worst)


def test_a_field_without_objects_counts_as_dropped_altogether():
    table, groups = of_plates([100])
    table.loc[77, ["objects", "kept"]] = 0
    assert "f77" in chosen_fields(table, groups, 24)[1]


def joined_of(per_field: pd.DataFrame, obs: pd.DataFrame | None = None):
    return SimpleNamespace(per_field=per_field, obs=per_field if obs is None else obs)


def test_fields_are_grouped_by_plate_else_by_the_confounder_else_not_at_all():
    fields = pd.DataFrame({"field": ["a", "b", "c"], "plate": ["10", "9", "10"], "day": ["x", "x", "y"]})
    assert groups_of(joined_of(fields), ("plate", "day")).names == ("9", "10")
    assert groups_of(joined_of(fields[["field", "day"]]), ("plate", "day")).column == "day"
    alone = groups_of(joined_of(fields[["field"]]), ("plate", "field"))
    assert (alone.column, set(alone.of_field.values())) == (None, {"all fields"})
    labels = pd.DataFrame({"field": ["a", "a", "c"], "batch": ["1", "1", "2"]})
    joined = groups_of(joined_of(fields[["field"]], labels), ("plate", "batch"))
    assert joined.of_field == {"a": "1", "b": "not known", "c": "2"}


def test_many_plates_are_sixty_lines_at_most():
    fields = pd.DataFrame({"field": [f"f{i}" for i in range(300)], "plate": [str(i) for i in range(300)]})
    groups = groups_of(joined_of(fields), ("plate",))
    assert len(groups.names) == 60
    assert groups.names[-1] == "241 others"
    assert Counter(groups.of_field.values())["241 others"] == 241


def test_quartiles_are_numpys_and_extremes_are_named():
    rng = np.random.default_rng(1)
    values = {f"f{i}": float(v) for i, v in enumerate(rng.normal(size=40))}
    groups = Groups("plate", ("p", "q"), {f: "p" if i < 25 else "q" for i, f in enumerate(values)})
    first, second = spreads(values, groups)
    of_first = list(values.values())[:25]
    assert first.quartiles == pytest.approx(np.quantile(of_first, (0.25, 0.5, 0.75)))
    assert first.highest == (max(of_first), f"f{int(np.argmax(of_first))}")
    assert second.lowest[0] == min(list(values.values())[25:])


def test_of_many_fields_those_furthest_from_the_median_have_points():
    values = {f"f{i}": float(i) for i in range(10_001)}
    groups = Groups(None, ("all fields",), dict.fromkeys(values, "all fields"))
    points = furthest(values, groups, 400)
    assert set(points.values()) == {float(v) for v in [*range(200), *range(9801, 10_001)]}


def test_bins_hold_every_value_once_as_numpys_do():
    rng = np.random.default_rng(2)
    for values in (rng.integers(0, 400, 1000), rng.gamma(3, 80, 500), np.array([5.0])):
        edges = quality.bins(values)
        assert len(edges) <= 31
        (width,) = set(np.diff(edges))
        assert str(width).rstrip("0") in ("1", "2", "5")
        assert (edges % width == 0).all()
        np.testing.assert_array_equal(quality.binned(values, edges), np.histogram(values, edges)[0])
    capped = quality.bins(np.append(np.arange(1000), 10**6), upper=0.995)
    assert capped[-1] == 1000
    assert quality.binned(np.append(np.arange(1000), 10**6), capped).sum() == 1001


def test_boundaries_are_those_of_skimage():
    labels = np.random.default_rng(3).integers(0, 4, (20, 30)).repeat(3, 0).repeat(3, 1)
    expected = find_boundaries(labels, mode="inner", connectivity=1)
    np.testing.assert_array_equal(quality.boundaries(labels), expected)


def test_drawn_crops_are_even_over_stains_and_come_from_different_images(make_cells):
    labels = ["ER"] * 100 + ["Golgi"] * 100 + ["rare"] * 4
    cells = make_cells(n=204, label=labels, image=[f"i{i // 10}" for i in range(204)])
    names = scattered(cells, 24, "label")
    place = [int(name.removeprefix("cell")) for name in names]
    assert Counter(labels[i] for i in place) == {"ER": 10, "Golgi": 10, "rare": 4}
    assert len({i // 10 for i in place if i < 200}) == 20  # every image has one
    assert set(scattered(cells[np.random.default_rng(0).permutation(204)], 24, "label")) == set(names)
    many = make_cells(n=204, label=[f"l{i:03}" for i in range(204)])
    assert max(int(name.removeprefix("cell")) for name in scattered(many, 24, "label")) > 100


def test_pictures_have_the_colours_that_charts_have_in_the_dark_theme(made):
    dark = json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', made["masks"].text, re.S)[1]
    )
    assert dark["palette"]["dark"] == list(ON_DARK)
    assert quality_charts.outcome_color([])["scale"] == {"domain": list(quality.OUTCOMES), "range": "category"}
    assert len({field_pictures.glyph(code).tobytes() for code in range(len(quality.OUTCOMES))}) == len(quality.OUTCOMES)
