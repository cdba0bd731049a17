"""Image files of every kind, against what tifffile, Pillow and zarr wrote into them."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from pci_bench.acquisition.image_folders import all_files, list_images
from pci_bench.acquisition.images import ImageDescription, describe_image, read_plane
from pci_bench.errors import UserError

ROWS, COLUMNS = 11, 7


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def numbers(rng: np.random.Generator, *shape: int, dtype: type = np.uint16) -> np.ndarray:
    return rng.integers(0, 250, (*shape, ROWS, COLUMNS)).astype(dtype)


def refused(*args: object) -> str:
    with pytest.raises(UserError) as caught:
        read_plane(*args)
    return str(caught.value)


# ---- TIFF


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16, np.int32, np.uint32])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_tiff_of_any_type_comes_as_it_is(tmp_path, rng, dtype, byteorder):
    pixels = numbers(rng, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, byteorder=byteorder, photometric="minisblack")
    plane = read_plane(tmp_path / "a.tif")
    expected = {"uint8": "uint8", "float32": "float32", "float64": "float32"}.get(np.dtype(dtype).name, "uint16")
    assert (plane.dtype, plane.dtype.isnative) == (np.dtype(expected), True)
    np.testing.assert_array_equal(plane, pixels)
    assert describe_image(tmp_path / "a.tif") == ImageDescription((ROWS, COLUMNS), np.dtype(dtype).name)


@pytest.mark.parametrize("value", [-1, 65536])
def test_integers_that_uint16_cannot_hold_are_refused(tmp_path, value):
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), value, np.int32))
    assert f"holds {value} as int32; integers from 0 to 65535" in refused(tmp_path / "a.tif")


@pytest.mark.parametrize("order", ["".join(o) for o in itertools.permutations("TCZ")])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_every_plane_of_an_ome_tiff_is_found_in_any_order_of_its_axes(tmp_path, rng, order, tile):
    lengths = {"T": 1, "C": 3, "Z": 2}
    stack = numbers(rng, *(lengths[axis] for axis in order))
    file = tmp_path / "a.ome.tif"
    metadata = {"axes": f"{order}YX", "Channel": {"Name": ["DNA", "GFP", "ER"]}, "SignificantBits": 12}
    tifffile.imwrite(file, stack, ome=True, metadata=metadata, compression="zlib", tile=tile, photometric="minisblack")
    assert describe_image(file) == ImageDescription((ROWS, COLUMNS), "uint16", 3, ("DNA", "GFP", "ER"), 2, 1, 12)
    by_axis = np.moveaxis(stack, [order.index(axis) for axis in "TCZ"], [0, 1, 2])[0]
    for channel, z in np.ndindex(3, 2):
        np.testing.assert_array_equal(read_plane(file, channel, z), by_axis[channel, z])
    np.testing.assert_array_equal(read_plane(file, 1, "max"), by_axis[1].max(axis=0))
    message = refused(file, None, 0)
    assert "3 channels (0 DNA, 1 GFP, 2 ER)" in message
    assert "`index = 0` under [channels.NAME]" in message
    assert 'Say `z = "max"`' in refused(file, 0)
    assert "none with the index 3: its index is from 0 to 2" in refused(file, 3, 0)
    assert "2 planes of focus, and none with the number 2" in refused(file, 0, 2)


def test_a_series_in_time_is_refused(tmp_path, rng):
    for name, kind in (("a.ome.tif", {"ome": True}), ("a.tif", {"imagej": True})):
        tifffile.imwrite(tmp_path / name, numbers(rng, 4, 2), metadata={"axes": "TCYX"}, **kind)
        assert describe_image(tmp_path / name).t == 4
        assert "4 points in time" in refused(tmp_path / name, 0)


@pytest.mark.parametrize("contiguous", [True, False])
def test_an_imagej_hyperstack_is_read_by_channel_and_plane(tmp_path, rng, contiguous):
    stack = numbers(rng, 2, 3)
    options = {} if contiguous else {"compression": "zlib"}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZCYX"}, **options)
    for z, channel in np.ndindex(2, 3):
        np.testing.assert_array_equal(read_plane(tmp_path / "a.tif", channel, z), stack[z, channel])


def test_one_page_that_stands_for_all_planes_is_read(tmp_path, rng):
    stack = numbers(rng, 2, 3)  # as ImageJ writes stacks of more than 4 GB: one header, then the numbers
    tifffile.imwrite(tmp_path / "all.tif", stack, imagej=True, metadata={"axes": "ZCYX"}, byteorder=">")
    content = bytearray((tmp_path / "all.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "all.tif") as file:
        page = file.pages.first
        after = page.offset + 2 + 12 * struct.unpack_from(">H", content, page.offset)[0]
    content[after : after + 4] = bytes(4)  # no further page
    (tmp_path / "a.tif").write_bytes(content)
    for z, channel in np.ndindex(2, 3):
        np.testing.assert_array_equal(read_plane(tmp_path / "a.tif", channel, z), stack[z, channel])


def test_pages_without_names_are_channels_or_planes_as_they_are_asked_for(tmp_path, rng):
    pages = numbers(rng, 4)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page, metadata=None, contiguous=False)
    assert describe_image(tmp_path / "a.tif").channels == 4
    np.testing.assert_array_equal(read_plane(tmp_path / "a.tif", 2), pages[2])
    np.testing.assert_array_equal(read_plane(tmp_path / "a.tif", z=3), pages[3])
    np.testing.assert_array_equal(read_plane(tmp_path / "a.tif", z="max"), pages.max(axis=0))
    assert "4 channels. Say which" in refused(tmp_path / "a.tif")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_the_colours_of_an_rgb_tiff_are_its_channels(tmp_path, rng, planar, tile):
    colours = numbers(rng, 3)
    data = colours if planar == "separate" else np.moveaxis(colours, 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar, tile=tile)
    assert describe_image(tmp_path / "a.tif") == ImageDescription(
        (ROWS, COLUMNS), "uint16", 3, ("red", "green", "blue")
    )
    for channel in range(3):
        np.testing.assert_array_equal(read_plane(tmp_path / "a.tif", channel), colours[channel])
    assert "0 red, 1 green, 2 blue" in refused(tmp_path / "a.tif")


@pytest.mark.parametrize(("largest", "bits"), [(4095, 12), (65535, None), (3000, None)])
def test_bits_in_use_are_what_the_header_says_not_the_largest_value(tmp_path, rng, largest, bits):
    tifffile.imwrite(tmp_path / "a.tif", numbers(rng), extratags=[(281, 3, 1, largest, True)])
    assert describe_image(tmp_path / "a.tif").bits == bits


def test_only_the_named_file_of_a_set_of_ome_tiffs_is_read(tmp_path, rng):
    planes = numbers(rng, 2)
    names = ["c0.ome.tif", "c1.ome.tif"]
    data = "".join(
        f'<TiffData FirstC="{i}" IFD="0" PlaneCount="1"><UUID FileName="{n}">urn:uuid:{i}</UUID></TiffData>'
        for i, n in enumerate(names)
    )
    for i, name in enumerate(names):
        ome = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{i}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" '
            f'SizeX="{COLUMNS}" SizeY="{ROWS}" SizeC="2" SizeZ="1" SizeT="1">{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / name, planes[i], metadata=None, description=ome)
    with tifffile.TiffFile(tmp_path / names[0]) as file:
        assert file.series[0].shape == (2, ROWS, COLUMNS)  # tifffile alone reads the neighbour
    for plane, name in zip(planes, names, strict=True):
        np.testing.assert_array_equal(read_plane(tmp_path / name), plane)
        assert describe_image(tmp_path / name).channels == 1


def test_compressed_tiffs_are_read_or_say_what_they_need(tmp_path, rng, monkeypatch):
    pixels = numbers(rng, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression="tiff_lzw")
    if tifffile.tifffile.imagecodecs.__name__ == "imagecodecs":
        np.testing.assert_array_equal(read_plane(tmp_path / "a.tif"), pixels)
    else:
        assert "pip install imagecodecs" in refused(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("metadata", [None, {"axes": "CYX"}])
def test_a_truncated_tiff_never_gives_other_pixels(tmp_path, rng, compression, metadata):
    pages = numbers(rng, 3)
    tifffile.imwrite(
        tmp_path / "whole.tif", pages, compression=compression, metadata=metadata, photometric="minisblack"
    )
    content = (tmp_path / "whole.tif").read_bytes()
    refusals = 0
    for length in range(0, len(content), 7):
        (tmp_path / "a.tif").write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(read_plane(tmp_path / "a.tif", 2), pages[2])
            np.testing.assert_array_equal(read_plane(tmp_path / "a.tif", z="max"), pages.max(axis=0))
        except UserError:
            refusals += 1
    assert refusals > len(content) / 7 / 2


def test_what_is_not_stored_as_it_is_shown_is_refused(tmp_path, rng):
    pixels = numbers(rng, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "white.tif", pixels, photometric="miniswhite")
    tifffile.imwrite(tmp_path / "palette.tif", pixels, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    tifffile.imwrite(tmp_path / "turned.tif", pixels, extratags=[(274, 3, 1, 6, True)])
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        writer.write(pixels)
        writer.write(pixels[:4])
    assert "lowest value is white" in refused(tmp_path / "white.tif")
    assert "palette" in refused(tmp_path / "palette.tif")
    assert "orientation 6" in refused(tmp_path / "turned.tif")
    assert "holds 2 images" in refused(tmp_path / "two.tif")


def test_a_header_that_names_too_many_pixels_is_refused(tmp_path, rng):
    tifffile.imwrite(tmp_path / "a.tif", numbers(rng), metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        for tag in ("ImageWidth", "ImageLength"):
            file.pages.first.tags[tag].overwrite(2**15)
    assert "at most 268,435,456 are read" in refused(tmp_path / "a.tif")


# ---- PNG, JPEG, BMP


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_grey_and_colour_files_of_eight_bits_are_read(tmp_path, rng, ending):
    colours = numbers(rng, 3, dtype=np.uint8)
    Image.fromarray(colours[0]).save(tmp_path / f"grey.{ending}")
    Image.fromarray(np.moveaxis(colours, 0, -1)).save(tmp_path / f"rgb.{ending}")
    np.testing.assert_array_equal(read_plane(tmp_path / f"grey.{ending}"), colours[0])
    for channel in range(3):
        np.testing.assert_array_equal(read_plane(tmp_path / f"rgb.{ending}", channel), colours[channel])
    assert describe_image(tmp_path / f"rgb.{ending}").channel_names == ("red", "green", "blue")


def test_a_png_of_sixteen_bits_is_read_and_one_of_colours_is_refused(tmp_path, rng):
    pixels = numbers(rng) * 200
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_plane(tmp_path / "grey.png"), pixels)
    assert describe_image(tmp_path / "grey.png").dtype == "uint16"
    (tmp_path / "rgb.png").write_bytes(png_of_colours(np.stack([pixels] * 3, axis=-1)))
    assert "16 bits each" in refused(tmp_path / "rgb.png", 0)


def png_of_colours(pixels: np.ndarray) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_jpeg_of_one_colour_gives_that_colour(tmp_path):
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1))
    Image.fromarray(np.stack([0 * ramp, 0 * ramp, ramp], axis=-1)).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(read_plane(tmp_path / "a.jpg", 2).astype(int) - ramp).max() <= 4
    assert read_plane(tmp_path / "a.jpg", 0).max() <= 4


def test_colours_of_other_kinds_and_masks_are_refused(tmp_path, rng):
    pixels = numbers(rng, dtype=np.uint8)
    Image.fromarray(pixels).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(pixels).convert("1").save(tmp_path / "mask.png")
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert "palette" in refused(tmp_path / "palette.png")
    assert "black and white" in refused(tmp_path / "mask.png")
    assert "CMYK" in refused(tmp_path / "cmyk.jpg")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp"])
def test_text_an_empty_file_and_no_file_are_refused(tmp_path, name):
    assert "cannot be read: No such file" in refused(tmp_path / name)
    for content in (b"", b"Hello, world.\n" * 100):
        (tmp_path / name).write_bytes(content)
        assert "truncated or of another kind" in refused(tmp_path / name)


# ---- OME-Zarr, as the specification's examples have it

VERSIONS = {"0.4": 2, "0.5": 3}


def write_ome_zarr(folder: Path, stack: np.ndarray, axes: str, version: str = "0.5", **more: object) -> None:
    """Write two resolutions, the second a quarter, with zarr itself."""
    kinds = {"t": "time", "c": "channel"}
    image = {
        "axes": [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes],
        "datasets": [
            {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(axes)}]}
            for i in range(2)
        ],
    }
    group = zarr.open_group(folder, mode="w", zarr_format=VERSIONS[version])
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": [image], **more}
    else:
        group.attrs.update({"multiscales": [{**image, "version": version}], **more})
    for name, data in (("0", stack), ("1", stack[..., ::2, ::2])):
        group.create_array(name, shape=data.shape, dtype=data.dtype, chunks=(*[1] * (data.ndim - 2), 4, 4))[...] = data


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["tczyx", "czyx", "zcyx"])
def test_every_plane_of_an_ome_zarr_image_is_read_at_its_highest_resolution(tmp_path, rng, version, axes):
    lengths = {"t": 1, "c": 3, "z": 2}
    stack = numbers(rng, *(lengths[axis] for axis in axes[:-2]))
    folder = tmp_path / "a.zarr"
    write_ome_zarr(folder, stack, axes, version, omero={"channels": [{"label": n} for n in ("DNA", "GFP", "ER")]})
    assert describe_image(folder) == ImageDescription((ROWS, COLUMNS), "uint16", 3, ("DNA", "GFP", "ER"), 2, 1)
    for channel, z in np.ndindex(3, 2):
        at = tuple({"t": 0, "c": channel, "z": z}[axis] for axis in axes[:-2])
        np.testing.assert_array_equal(read_plane(folder, channel, z), stack[at])
    np.testing.assert_array_equal(
        read_plane(folder, 1, "max"), np.take(stack, 1, axes.index("c")).reshape(2, ROWS, COLUMNS).max(axis=0)
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_images_within_plates_are_listed_and_their_inside_is_not(tmp_path, rng, version):
    for well in ("A/1/0", "A/10/0", "A/2/0", "A/2/1"):
        write_ome_zarr(tmp_path / "plate.zarr" / well, numbers(rng, 2), "cyx", version)
        write_ome_zarr(tmp_path / "plate.zarr" / well / "labels" / "cells", numbers(rng), "yx", version)
    group = zarr.open_group(tmp_path / "plate.zarr", mode="a", zarr_format=VERSIONS[version])
    group.attrs["plate"] = {"wells": []}
    (tmp_path / "f10.tif").touch()
    (tmp_path / "f9.tif").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "a.tif").touch()
    (tmp_path / ".writing-b.tif").touch()
    (tmp_path / "notes.txt").touch()
    assert list_images(tmp_path) == [
        "f9.tif",
        "f10.tif",
        "plate.zarr/A/1/0",
        "plate.zarr/A/2/0",
        "plate.zarr/A/2/1",
        "plate.zarr/A/10/0",
    ]
    assert "no OME-Zarr image" in refused(tmp_path / "plate.zarr")
    assert read_plane(tmp_path / "plate.zarr/A/2/1", 1).shape == (ROWS, COLUMNS)


class _Unpickled:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path(os.environ["PCI_BENCH_PICKLE_RAN"]),))


def test_an_ome_zarr_that_asks_for_pickle_runs_nothing(tmp_path, rng, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_PICKLE_RAN", str(tmp_path / "ran"))
    write_ome_zarr(tmp_path / "a.zarr", numbers(rng), "yx", "0.4")
    header = tmp_path / "a.zarr" / "0" / ".zarray"
    header.write_text(json.dumps({**json.loads(header.read_text()), "compressor": None, "filters": [{"id": "pickle"}]}))
    for chunk in (tmp_path / "a.zarr" / "0").rglob("[0-9]*"):
        if chunk.is_file():
            chunk.write_bytes(pickle.dumps(_Unpickled()))
    assert "coded with 'pickle', which is not read" in refused(tmp_path / "a.zarr")
    assert not (tmp_path / "ran").exists()


def edited(folder: Path, name: str, **changes: object) -> None:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_damaged_and_foreign_ome_zarr_is_refused(tmp_path, rng):
    folder = tmp_path / "a.zarr"
    write_ome_zarr(folder, numbers(rng), "yx", "0.4")
    edited(folder / "0", ".zarray", shape=[2**16, 2**16])
    assert "at most 268,435,456 are read" in refused(folder)
    edited(folder / "0", ".zarray", shape=[ROWS, COLUMNS], chunks=[2**30, 2**30])
    assert "a chunk of it says that it holds" in refused(folder)
    edited(folder / "0", ".zarray", chunks=[4, 4], dtype="|O")
    assert "of the type |O" in refused(folder)
    write_ome_zarr(folder, numbers(rng), "yx", "0.4")
    for chunk in (folder / "0").rglob("[0-9]*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:-3])
    assert "is truncated" in refused(folder)
    multiscales = json.loads((folder / ".zattrs").read_text())["multiscales"]
    multiscales[0]["datasets"][0]["path"] = "../b.zarr/0"
    edited(folder, ".zattrs", multiscales=multiscales)
    assert "outside it" in refused(folder)
    (folder / ".zattrs").write_text("{")
    assert "metadata of a.zarr are damaged" in refused(folder)
    assert list_images(tmp_path) == ["a.zarr"]


# ---- folders


def test_no_folder_and_a_file_in_its_place_are_refused(tmp_path):
    (tmp_path / "file").touch()
    for name, words in (("none", "does not exist"), ("file", "is a file, not a folder")):
        with pytest.raises(UserError, match=words):
            list_images(tmp_path / name)


def test_links_that_lead_nowhere_or_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a.tif").symlink_to(tmp_path / "gone.tif")
    with pytest.raises(UserError, match="leads to no file"):
        list_images(tmp_path)
    (tmp_path / "a.tif").unlink()
    (tmp_path / "circle").symlink_to(tmp_path)
    with pytest.raises(UserError, match="a folder that it lies in"):
        all_files(tmp_path, "images")
