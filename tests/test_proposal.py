"""Layouts proposed for folders of raw fields of view, against how the files were written."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from command_line import call, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pci_bench.acquisition.fields import find_fields
from pci_bench.acquisition.file_names import naming_of, values_of
from pci_bench.acquisition.layout import layout_of, read_layout
from pci_bench.acquisition.pattern import Pattern
from pci_bench.acquisition.proposal import propose_layout, write_proposal
from pci_bench.errors import UserError

WELLS, SITES = ("A01", "B02", "H12"), ("1", "2")


def product(template: str, **values: tuple[str, ...]) -> list[str]:
    """Return a template filled in with all combinations of values."""
    return [template.format(**dict(zip(values, v, strict=True))) for v in itertools.product(*values.values())]


def write(folder: Path, names: list[str], pixels: np.ndarray | None = None) -> Path:
    """Write one grey image under each name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = np.full((64, 80), 300, np.uint16) if pixels is None else pixels
        if name.endswith("png"):
            Image.fromarray(data).save(folder / name)
        else:
            tifffile.imwrite(folder / name, data)
    return folder


# ---- names

CONVENTIONS = {
    "Opera": (
        product(
            "Images/{w}f{s}p{z}-ch{c}sk1fk1fl1.tiff",
            w=("r01c01", "r02c11"),
            s=("01", "02"),
            z=("01", "02"),
            c=tuple("123"),
        ),
        {"well": 2, "site": 2, "z": 2, "channel": 3},
    ),
    "RxRx1": (
        product(
            "{e}/Plate{p}/{w}_s{s}_w{c}.png",
            e=("HEPG2-01", "U2OS-10"),
            p=tuple("1234"),
            w=WELLS,
            s=SITES,
            c=tuple("123456"),
        ),
        {"experiment": 2, "plate": 4, "well": 3, "site": 2, "channel": 6},
    ),
    "ImageXpress with identifiers": (
        [f"Exp7_{n}{i:08X}-AB.tif" for i, n in enumerate(product("{w}_s{s}_w{c}", w=WELLS, s=SITES, c=("1", "2")))],
        {"plate": 1, "well": 3, "site": 2, "channel": 2},
    ),
    "ImageXpress of one site": (
        product("TimePoint_1/Exp_{w}_w{c}.TIF", w=WELLS, c=("1", "2", "3")),
        {"plate": 1, "well": 3, "channel": 3},
    ),
    "Human Protein Atlas": (
        product("57_{w}_{s}_{c}.png", w=("F11", "A2"), s=SITES, c=("blue", "red", "green", "yellow")),
        {"plate": 1, "well": 2, "site": 2, "channel": 4},
    ),
    "CellVoyager, numbered": (
        product("W{w}F{s}T0001Z{z}C{c}.tif", w=("0001", "0012"), s=("0001", "0002"), z=("01", "02"), c=("1", "2")),
        {"well": 2, "site": 2, "z": 2, "channel": 2},
    ),
    "CellVoyager": (
        [
            f"P_{n}Z01C0{c}.tif"
            for n, c in itertools.product(product("{w}_T0001F00{s}L01A0", w=WELLS, s=SITES), (1, 2))
            for n in [f"{n}{c}"]
        ],
        {"plate": 1, "well": 3, "site": 2, "channel": 2},
    ),
    "OME-Zarr plates": (
        product("plate{p}.zarr/{w}/{s}", p=("1", "2"), w=("A/1", "B/12"), s=("0", "1")),
        {"plate": 2, "row": 2, "column": 2, "site": 2},
    ),
    "stains as words": (
        product("{g}_{c}_{s}.tif", g=("YAL001C", "YBR002W"), c=("DAPI", "GFP", "Cy5"), s=tuple("12345678")),
        {"sample": 2, "channel": 3, "sample_2": 8},
    ),
    "a folder for each stain": (
        product("{w}/{c}/img{s}.tif", w=WELLS, c=("Hoechst", "mCherry"), s=SITES),
        {"well": 3, "channel": 2, "site": 2},
    ),
    "numbered stains": (
        product("exp_w{c}_s{s}.TIF", c=("1DAPI", "2GFP"), s=tuple(map(str, range(1, 12)))),
        {"channel": 2, "site": 11},
    ),
    "HCS of CellInsight": (
        product("AS_0{w}f{s}d{c}.TIF", w=WELLS, s=("00", "01"), c=tuple("012")),
        {"well": 3, "site": 2, "channel": 3},
    ),
    "identifiers and colours": (
        product("{u}_{c}.jpg", u=("0cc9e1d0-b4", "99ab8f42-bb", "d3c9e1d1-aa"), c=("blue", "green", "red")),
        {"sample": 3, "channel": 3},
    ),
    "one file per field": (product("field{s}.ome.tif", s=tuple(map(str, range(1, 9)))), {"site": 8}),
    "one image": (["only.tif"], {}),
    "a number without a word": (product("{w}_{c}.tif", w=WELLS, c=("1", "2")), {"well": 3, "channel": 2}),
    "more numbers than a field has channels": (
        product("{w}_{s}.tif", w=WELLS, s=tuple(map(str, range(9)))),
        {"well": 3, "sample": 9},
    ),
    "braces and stars in names": (
        product("{w}_{{x}}_*_{c}.tif", w=WELLS, c=("dapi", "gfp")),
        {"well": 3, "channel": 2},
    ),
    "other letters": (product("žlutý_{s}_{c}.tif", s=("α1", "β2"), c=("dapi", "gfp")), {"sample": 2, "channel": 2}),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_names_are_taken_apart_as_they_were_put_together(name):
    names, parts = CONVENTIONS[name]
    pattern = naming_of(names).pattern
    assert {part: len(values) for part, values in values_of(pattern, names).items()} == parts
    matched = [Pattern(pattern).match(n) for n in names]
    assert all(matched) or not parts
    assert len({tuple(m.items()) for m in matched}) == len(names)


def test_other_files_beside_do_not_change_the_pattern():
    names = CONVENTIONS["RxRx1"][0]
    others = ["overview.png", "HEPG2-01/thumbs/B02.png", "HEPG2-01/Plate1/B02_s1_w1_mask.png"]
    assert naming_of([*others, *names]) == naming_of(names)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.text(st.sampled_from("ab1_0-./{}*: wsé9Z"), min_size=1, max_size=12).filter(
            lambda text: not re.search("^/|//|/$", text)
        ),
        min_size=1,
        max_size=12,
        unique=True,
    )
)
def test_any_names_give_a_pattern_that_fits_one_of_them(stems):
    names = [f"{stem}.tif" for stem in stems]
    assert any(Pattern(naming_of(names).pattern).match(name) is not None for name in names)


# ---- layouts


def proposed(folder: Path):
    """Return the proposal of a folder, and the fields that its layout finds when it is read from its file."""
    proposal = write_proposal(folder, folder.parent / "layout.toml")
    layout = read_layout(folder.parent / "layout.toml")
    assert layout == proposal.layout
    return proposal, find_fields(layout, folder.parent / layout.root)


def test_the_proposal_reads_the_fields_that_were_written(tmp_path):
    folder = write(tmp_path / "screen", product("Plate1/{w}_s{s}_w{c}.png", w=WELLS, s=SITES, c=("1", "2", "3")))
    proposal, found = proposed(folder)
    assert (proposal.layout.root, len(found.fields), found.incomplete, found.unmatched) == ("screen", 6, {}, ())
    assert proposal.layout.order == ("w2", "w1", "w3")
    assert found.fields[0].files["w3"] == ("Plate1/A01_s1_w3.png",)
    assert proposal.kinds == {"64×80 uint16": 18}


def test_dna_and_protein_are_guessed_by_their_names(tmp_path):
    folder = write(tmp_path / "screen", product("{w}_{c}.tif", w=WELLS, c=("Cy5", "EGFP", "Hoechst")))
    proposal, _ = proposed(folder)
    assert (proposal.layout.protein_channels, proposal.layout.segment.channel) == (("EGFP",), "Hoechst")
    assert proposal.toml.count("# a guess") == 4


def test_channels_within_files_are_named_by_their_metadata(tmp_path):
    for site in range(3):
        tifffile.imwrite(
            tmp_path / f"screen{site}.ome.tif",
            np.zeros((2, 4, 64, 64), np.uint16),
            ome=True,
            metadata={"axes": "CZYX", "Channel": {"Name": ["Ab 1", "DAPI"]}, "SignificantBits": 12},
            photometric="minisblack",
        )
    proposal = propose_layout(tmp_path)
    channels = proposal.layout.channels
    assert {name: (c.index, c.z, c.role) for name, c in channels.items()} == {
        "Ab 1": (0, "max", "protein"),
        "DAPI": (1, "max", "marker"),
    }
    assert proposal.layout.bits == 12
    assert len(proposal.found.fields) == 3


def test_ome_zarr_plates_are_proposed_image_by_image(tmp_path):
    for well in ("A/1", "B/2"):
        group = zarr.open_group(tmp_path / "p.zarr" / well / "0", mode="w", zarr_format=2)
        axes = [{"name": name} for name in "cyx"]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
        group.create_array("0", shape=(2, 64, 64), chunks=(1, 64, 64), dtype="uint16")
    proposal = propose_layout(tmp_path)
    assert [field.files for field in proposal.found.fields] == [
        {"channel1": (f"p.zarr/{well}/0",), "channel0": (f"p.zarr/{well}/0",)} for well in ("A/1", "B/2")
    ]
    assert proposal.layout.obs == {"well": "{row}{column}"}


def test_a_colour_that_holds_a_channel_is_found_by_its_pixels(tmp_path):
    colours = {"blue": (2,), "green": (1,), "red": (0,), "yellow": (0, 1)}
    for site, (colour, lit) in itertools.product("12", colours.items()):
        pixels = np.zeros((64, 64, 3), np.uint8)
        pixels[..., list(lit)] = 200
        Image.fromarray(pixels).save(tmp_path / f"57_F11_{site}_{colour}.jpg")
    layout = propose_layout(tmp_path).layout
    assert {name: channel.index in colours[name] for name, channel in layout.channels.items()} == dict.fromkeys(
        colours, True
    )


def test_planes_of_focus_in_files_of_their_own_are_one_field(tmp_path):
    folder = write(
        tmp_path / "a", product("r01c01f{s}p{z}-ch{c}sk1fk1fl1.tiff", s=("01", "02"), z=("01", "02"), c="12")
    )
    proposal, found = proposed(folder)
    assert {channel.z for channel in proposal.layout.channels.values()} == {"max"}
    assert [len(field.files["ch1"]) for field in found.fields] == [2, 2]


@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (1023, 10), (65535, None), (2500, None)])
def test_bits_are_proposed_where_the_pixels_end_as_a_camera_does(tmp_path, largest, bits):
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % largest
    pixels[0, 0] = largest
    write(tmp_path, product("{w}_{c}.tif", w=WELLS, c=("dapi", "gfp")), pixels)
    proposal = propose_layout(tmp_path)
    assert proposal.layout.bits == bits
    assert ("# bits  = 12" in proposal.toml) == (largest == 2500)


def test_channels_that_no_field_has_together_are_left_out(tmp_path):
    write(tmp_path, [*product("{w}_{c}.tif", w=WELLS, c=("dapi", "gfp")), "A02_rfp.tif"])
    proposal = propose_layout(tmp_path)
    assert set(proposal.layout.channels) == {"dapi", "gfp"}
    assert (len(proposal.found.fields), dict(proposal.found.other_channels)) == (3, {"rfp": 1})


def test_a_field_without_a_channel_and_other_files_are_told(tmp_path):
    write(tmp_path, [*product("{w}_s{s}_w{c}.tif", w=WELLS, s=SITES, c=("1", "2")), "A01_s1_w1_mask.tif"])
    (tmp_path / "H12_s2_w2.tif").unlink()
    proposal = propose_layout(tmp_path)
    assert (list(proposal.found.incomplete), proposal.found.unmatched) == (["H12-2"], ("A01_s1_w1_mask.tif",))
    assert any("1 of 6 fields of view lack a channel" in note for note in proposal.notes)
    assert any("label image" in note for note in proposal.notes)


def test_files_that_cannot_be_read_are_named_and_do_not_stop_the_proposal(tmp_path):
    write(tmp_path, product("{w}_{c}.tif", w=WELLS, c=("dapi", "gfp")))
    (tmp_path / "A01_gfp.tif").write_bytes(b"II*\0")
    proposal = propose_layout(tmp_path)
    assert list(proposal.unreadable) == ["A01_gfp.tif"]
    assert len(proposal.found.fields) == 3
    for file in tmp_path.iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"None of the images .* can be read. The first: .*A01_dapi.tif"):
        propose_layout(tmp_path)


@pytest.mark.parametrize(
    ("name", "fields", "unmatched"), [("rxrx1-fields", 18, 0), ("fields-yeast", 2, 2), ("fields-human", 1, 0)]
)
def test_real_folders_are_proposed_as_their_publishers_describe_them(test_data, name, fields, unmatched):
    proposal = propose_layout(test_data / name)
    assert (len(proposal.found.fields), len(proposal.found.unmatched)) == (fields, unmatched)


# ---- the command


def test_the_layout_alone_is_printed_and_prepare_takes_it_as_it_is(tmp_path, capsys, monkeypatch):
    rows, columns = np.mgrid[:96, :96]
    nuclei = sum(
        np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 40) for y, x in ((40, 40), (40, 62), (56, 52), (60, 36))
    )
    pixels = (200 + 3000 * nuclei).astype(np.uint16)
    folder = write(tmp_path / "screen", product("{w}_{c}.tif", w=WELLS, c=("dapi", "gfp")), pixels)
    said = call(capsys, monkeypatch, "data", "layout", folder)
    assert said.code == 0
    assert "what the proposed layout finds" in " ".join(said.err.split())  # long paths wrap
    (tmp_path / "layout.toml").write_text(said.out)
    assert len(find_fields(read_layout(tmp_path / "layout.toml"), folder).fields) == 3
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    said = call(capsys, monkeypatch, "data", "prepare", tmp_path / "layout.toml", "--name", "my-screen", "--workers", 1)
    assert (said.code, "in 3 images" in said.out) == (0, True), said


def test_a_layout_is_written_once_and_never_replaced(tmp_path, capsys, monkeypatch):
    folder = write(tmp_path / "screen", product("{w}_{c}.tif", w=WELLS, c=("dapi", "gfp")))
    said = call(capsys, monkeypatch, "data", "layout", folder, "--out", tmp_path / "new" / "layout.toml")
    assert (said.code, "{channel}" in said.out) == (0, True)
    before = (tmp_path / "new" / "layout.toml").read_text()
    said = call(capsys, monkeypatch, "data", "layout", folder, "--out", tmp_path / "new" / "layout.toml")
    refused(said, "is not replaced", "Name another --out")
    assert (tmp_path / "new" / "layout.toml").read_text() == before


def test_no_folder_and_no_image_are_refused(tmp_path, capsys, monkeypatch):
    (tmp_path / "notes.txt").touch()
    refused(call(capsys, monkeypatch, "data", "layout", tmp_path / "none"), "does not exist")
    refused(call(capsys, monkeypatch, "data", "layout", tmp_path), "There is no image below", "OME-Zarr")


def test_a_proposal_says_how_cells_get_labels_and_is_a_layout_where_that_is_done(tmp_path):
    for line, site in itertools.product(("HeLa", "U2OS"), "12"):
        for channel in ("DAPI", "GFP"):
            (tmp_path / line).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / line / f"s{site}_{channel}.tif", np.zeros((64, 64), np.uint16))
    proposal = propose_layout(tmp_path)
    (hint,) = [text for text in proposal.toml.splitlines() if text.startswith("# label = ")]
    layout = layout_of(tomllib.loads(proposal.toml.replace(hint, hint.removeprefix("# "))), "with labels")
    assert layout.obs["label"] == "{experiment}"
    assert proposal.values["experiment"] == ["HeLa", "U2OS"]
