"""Raw fields of named plates of a screen that a server lists as folders and archives."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import tifffile
from command_line import call, refused
from servers import FileServer, Served, status

from pci_bench import load_dataset
from pci_bench.acquisition import collection, listing
from pci_bench.acquisition.listing import entries_of, files_below
from pci_bench.datasets import DATASETS
from pci_bench.errors import UserError

URL = "http://hershey.csb.utoronto.ca/image_screens/WT2/"
CENTRES = [(row, column) for row in range(45, 270, 44) for column in range(45, 270, 44)]  # 36 cells
PROTEINS = {"Plate1": ("AAC1", "AAH1"), "Plate2": ("AAC1",), "Plate3": ("AAR2",)}


def page(*names: str) -> Served:
    """A listing as Apache writes it."""
    rows = "".join(
        f'<tr><td><a href="{name}">{name}</a></td><td align="right">2015-03-01 10:00</td></tr>' for name in names
    )
    head = '<a href="?C=N;O=D">Name</a> <a href="?C=M;O=A">Last modified</a> <a href="/image_screens/">Parent Directory</a>'
    return Served(f"<html><h1>Index of /image_screens</h1><table>{head}{rows}</table></html>".encode(), "text/html")


def tiff(protein: str, site: int, channel: str) -> bytes:
    """A field of 36 round cells."""
    rng = np.random.default_rng([len(protein), site, channel == "gfp"])
    rows, columns = np.indices((300, 300))
    cells = np.zeros((300, 300), bool)
    for row, column in CENTRES:
        cells |= (rows - row) ** 2 + (columns - column) ** 2 <= 13**2
    content = io.BytesIO()
    tifffile.imwrite(content, (100 + rng.normal(0, 8, cells.shape) + cells * 2000).astype(np.uint16))
    return content.getvalue()


def fields_of(plate: str) -> dict[str, bytes]:
    return {
        f"{protein}_{site}_{channel}.tif": tiff(protein, site, channel)
        for protein in PROTEINS[plate]
        for site in (1, 2)
        for channel in ("gfp", "rfp")
    }


@pytest.fixture
def server(monkeypatch):
    """The server of the screen: one plate as an archive, one as a folder, one whose names are of no known kind."""
    monkeypatch.setattr(collection, "POLITE", collection.Manners(at_once=2, per_second=500))
    with FileServer() as one:
        monkeypatch.setenv("PCI_BENCH_MIRROR", one.address)
        one.mirror(URL, page("Plate1.zip", "Plate2/", "Plate3/", "README.txt"))
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as written:
            for name, content in fields_of("Plate1").items():
                written.writestr(f"Plate1/{name}", content)
            written.writestr("Plate1/notes.txt", "not an image")
        one.mirror(f"{URL}Plate1.zip", archive.getvalue())
        one.mirror(f"{URL}Plate2/", page("day%201/"))
        one.mirror(f"{URL}Plate2/day%201/", page(*fields_of("Plate2")))
        for name, content in fields_of("Plate2").items():
            one.mirror(f"{URL}Plate2/day%201/{name}", content)
        one.mirror(f"{URL}Plate3/", page("001001000.tif"))
        one.mirror(f"{URL}Plate3/001001000.tif", tiff("AAR2", 1, "gfp"))
        yield one


def test_plates_become_cells_whether_they_are_archives_or_folders(server, capsys, monkeypatch):
    said = call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--plates", "Plate1,Plate2")
    assert said.code == 0, said.err
    cells = load_dataset("cyclops-wt2")
    assert [(c.name, c.role) for c in cells.channels] == [("GFP", "protein"), ("RFP", "marker")]
    assert cells.crops(slice(0, 2)).shape == (2, 2, 64, 64)
    images = cells.obs.groupby("image", observed=True).size()
    assert sorted(images.index) == ["Plate1/AAC1", "Plate1/AAH1", "Plate2/AAC1"]
    assert (images >= 30).all()
    assert set(cells.obs["protein"]) == {"AAC1", "AAH1"}
    assert any(note.startswith(f"Raw fields of 2 plates of {URL}: Plate1 and Plate2.") for note in cells.notes)
    assert any("(the paper: 1,165,713)" in note for note in cells.notes)
    asked = len(server.asked)
    assert call(capsys, monkeypatch, "data", "get", "cyclops-wt2").code == 0
    assert len(server.asked) == asked
    said = call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--plates", "Plate2")
    assert said.code == 0, said.err
    assert not [path for path in server.paths()[asked:] if path.endswith((".tif", ".zip"))]
    assert set(load_dataset("cyclops-wt2").obs["plate"]) == {"Plate2"}


def test_a_plate_that_is_not_named_or_not_there_is_told_with_those_that_are(server, capsys, monkeypatch):
    refused(call(capsys, monkeypatch, "data", "get", "cyclops-wt2"), "No plate was named", "Plate1, Plate2 and Plate3")
    refused(
        call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--plates", "Plate1,P9"),
        "lists no P9",
        "Plate2 and Plate3",
    )
    refused(call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--genes", "x"), "takes no --genes", "--plates")
    server.files.clear()
    refused(
        call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--plates", "P9"),
        f"Could not read the listing from {server.address}",
    )


def test_names_of_no_known_kind_are_told_with_the_way_to_cut_them(server, cache, capsys, monkeypatch):
    said = call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--plates", "Plate3")
    assert said.code == 2
    fields = cache / "downloads" / "cyclops-wt2" / "fields"
    assert f"are in {fields}, but their names (for example Plate3/001001000.tif) fit no known layout" in said.err
    assert f"`pci-bench data layout {fields} --out layout.toml`" in said.err
    assert (fields / "Plate3" / "001001000.tif").is_file()


def test_what_does_not_come_is_told_and_retried(server, capsys, monkeypatch):
    place = server.mirror(f"{URL}Plate2/day%201/AAC1_2_gfp.tif", fields_of("Plate2")["AAC1_2_gfp.tif"])
    server.fail(place, status(403))
    said = call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--plates", "Plate2")
    assert said.code == 0, said.err
    assert "1 of 4 files could not be fetched" in " ".join(said.out.split())
    assert set(load_dataset("cyclops-wt2").obs["site"]) == {"1"}
    server.mend()
    said = call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--retry")
    assert said.code == 0, said.err
    assert set(load_dataset("cyclops-wt2").obs["site"]) == {"1", "2"}


def test_a_damaged_archive_is_told_and_fetched_again(server, capsys, monkeypatch):
    whole = server.files[(place := server.mirror(f"{URL}Plate1.zip", b""))] = b"PK\x03\x04" + 300 * b"x"
    refused_with = call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--plates", "Plate1")
    assert refused_with.code == 2
    assert "--retry` fetches it again" in refused_with.err
    assert server.files[place] == whole
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        for name, content in fields_of("Plate1").items():
            written.writestr(name, content)
    server.files[place] = archive.getvalue()
    said = call(capsys, monkeypatch, "data", "get", "cyclops-wt2", "--plates", "Plate1", "--retry")
    assert said.code == 0, said.err
    assert set(load_dataset("cyclops-wt2").obs["plate"]) == {"Plate1"}


def test_links_lead_downwards_only_and_not_without_end(monkeypatch):
    page = '<a href="../up.tif">u</a><a href="http://else.org/a.tif">e</a><a href="b.tif?x=1">q</a><a href="/x/">r</a><a href="s/..%2F..%2Fq.tif">t</a>'
    assert entries_of(page, "http://host.org/a/") == ([], [])
    with pytest.raises(UserError, match="more than 4 folders in each other"):
        files_below("http://host.org/a/", lambda url: '<a href="deeper/">d</a>', (".tif",))
    monkeypatch.setattr(listing, "MAX_FILES", 3)
    many = "".join(f'<a href="{i}.tif">f</a>' for i in range(4))
    with pytest.raises(UserError, match="more than 3 files"):
        files_below("http://host.org/a/", lambda url: many, (".tif",))


def test_a_user_without_the_screen_is_told_both_ways():
    reason = DATASETS.get("cyclops-wt2").unavailable_reason()
    assert reason.startswith("`pci-bench data get cyclops-wt2 --plates NAMES` fetches the raw fields")
    assert "Or supply your own: the crops of cyclops-wt2 must be supplied" in reason
