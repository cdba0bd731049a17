"""Human cells for a list of genes: entries and images are fetched, and what does not come is told and asked for again."""

from __future__ import annotations

import csv
import datetime
import io

import atlas
import pytest
from command_line import Said, call, refused
from servers import FileServer, instead, status

from pci_bench import load_dataset
from pci_bench.acquisition import collection
from pci_bench.acquisition.protein_atlas import identifiers, read_entry, read_genes, read_locations
from pci_bench.datasets import DATASETS
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress

SILENT = Progress()
GENES = [
    atlas.gene(1, "AAA1", "Nucleoplasm"),
    atlas.gene(2, "BBB2", "Cytosol", intensity=True),
    atlas.gene(3, "CCC3", "Nucleoli", "Cytosol"),
    atlas.gene(4, "DDD4", lines=()),
]


@pytest.fixture
def server(monkeypatch):
    """A server that stands in for the atlas."""
    monkeypatch.setattr(collection, "POLITE", collection.Manners(at_once=2, per_second=500))
    with FileServer() as one:
        monkeypatch.setenv("PCI_BENCH_MIRROR", one.address)
        one.images = atlas.serve(one, GENES)
        yield one


@pytest.fixture
def listed(tmp_path):
    """A file that lists the genes, by identifier or name."""
    file = tmp_path / "genes.txt"
    file.write_text("# four genes\nENSG00000000001\nBBB2\nENSG00000000003.7  # with a version\n\nENSG00000000004\n")
    return file


def manifest(cache):
    text = (cache / "downloads" / "hpa-v18" / "manifest.csv").read_text()
    return {row["file"].removeprefix("hpa-v18/"): row for row in csv.DictReader(io.StringIO(text))}


def path_of(site: atlas.Site) -> str:
    return atlas.address(site).removeprefix("http:/")


def test_genes_become_cells_of_images_with_protein_cell_line_and_locations(server, listed, cache, capsys, monkeypatch):
    said = call(capsys, monkeypatch, "data", "get", "hpa-v18", "--genes", listed)
    assert said.code == 0, said.err
    cells = load_dataset("hpa-v18")
    assert [(c.name, c.role, c.floor) for c in cells.channels] == [
        ("antibody", "protein", 0.0),
        ("nucleus", "marker", 0.05),
        ("microtubules", "marker", 0.05),
    ]
    assert len(cells) == 6 * len(atlas.NUCLEI)
    assert cells.crops(slice(0, 1)).shape == (1, 3, 64, 64)
    images = cells.obs.drop_duplicates("image").set_index("image")
    told = images[["protein", "cell_line", "plate", "label", "labels", "variability"]].astype(object).fillna("")
    assert {tuple(row) for row in told.to_numpy()} == {
        ("AAA1", "U-2 OS", "400", "Nucleoplasm", "Nucleoplasm", ""),
        ("AAA1", "A-431", "401", "Nucleoplasm", "Nucleoplasm", ""),
        ("BBB2", "U-2 OS", "400", "Cytosol", "Cytosol", "intensity"),
        ("BBB2", "A-431", "401", "Cytosol", "Cytosol", "intensity"),
        ("CCC3", "U-2 OS", "400", "", "Nucleoli;Cytosol", ""),
        ("CCC3", "A-431", "401", "", "Nucleoli;Cytosol", ""),
    }
    assert set(images.index) >= {"ENSG00000000001/HPA000001/A-431"}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    assert cells.notes[-3].startswith(f"Release 18 of the Human Protein Atlas, fetched {today}.")
    assert cells.notes[-2] == "1 of 4 genes have no images of cell lines, for example ENSG00000000004."
    assert cells.notes[-1].startswith("'hpa-v18' has 48 cells (the paper: 638,640), 6 images (the paper: 41,285)")

    # green is the antibody, blue the nucleus
    protein = cells.obs["protein"].to_numpy(str)
    crops = cells.crops(slice(0, len(cells)))
    middle = crops[:, :, 31:33, 31:33].mean(axis=(2, 3))  # of the nucleus
    assert (middle[:, 1] > 0.5).all()
    assert (middle[:, 2] < 0.2).all()
    assert (middle[protein != "BBB2", 0] > 0.5).all()
    assert (middle[protein == "BBB2", 0] < 0.2).all()


def test_what_came_is_not_asked_for_again_and_new_genes_are_added(server, listed, cache):
    listed.write_text("ENSG00000000001\n")
    hpa = DATASETS.get("hpa-v18")
    hpa.choose({"genes": str(listed)}).fetch(SILENT)
    one = load_dataset("hpa-v18")
    asked = len(server.asked)
    hpa.choose({"genes": str(listed)}).fetch(SILENT)
    hpa.choose({}).fetch(SILENT)
    assert len(server.asked) == asked
    assert load_dataset("hpa-v18").sha256 == one.sha256
    listed.write_text("ENSG00000000001\nENSG00000000002\n")
    hpa.choose({"genes": str(listed)}).fetch(SILENT)
    assert sorted(server.paths()[asked:]) == sorted(
        ["/v18.proteinatlas.org/ENSG00000000002.xml", *(path_of(s) for s in GENES[1].sites)]
    )
    assert set(load_dataset("hpa-v18").obs["protein"]) == {"AAA1", "BBB2"}


def test_what_does_not_come_is_listed_left_out_and_asked_for_again_with_retry(
    server, listed, cache, capsys, monkeypatch
):
    refusing, truncated = GENES[0].sites[0], GENES[0].sites[1]
    half = server.images[truncated.name][: len(server.images[truncated.name]) // 2]
    server.fail("/v18.proteinatlas.org/ENSG00000000003.xml", status(404))
    server.fail(path_of(refusing), status(403))
    server.fail(path_of(truncated), instead(half))
    said = call(capsys, monkeypatch, "data", "get", "hpa-v18", "--genes", listed)
    assert said.code == 0, said.err
    assert "3 of 8 files could not be fetched" in " ".join(said.out.split())
    rows = manifest(cache)
    entry = rows["v18/ENSG00000000003.xml"]
    assert "404" in entry["problem"]
    bad = {name: row["problem"] for name, row in rows.items() if row["problem"] and row is not entry}
    assert sorted(name.rpartition("/")[2][:8] for name in bad) == ["400_B1_1", "401_B1_1"]
    assert sorted(bad.values())[1] == "what came is a part of a JPEG: its end is missing"
    assert "403" in sorted(bad.values())[0]
    assert set(load_dataset("hpa-v18").obs["protein"]) == {"BBB2"}
    good = {name: row for name, row in rows.items() if not row["problem"]}
    for name, row in good.items():
        assert (cache / "downloads" / "hpa-v18" / name).stat().st_size == int(row["bytes"])

    server.mend()
    asked = len(server.asked)
    call(capsys, monkeypatch, "data", "get", "hpa-v18")
    assert len(server.asked) == asked  # what failed is left alone until it is asked for
    said = call(capsys, monkeypatch, "data", "get", "hpa-v18", "--retry")
    assert said.code == 0, said.err
    assert "3 files that did not come are asked for again" in said.err
    assert sorted(server.paths()[asked:]) == sorted(
        ["/v18.proteinatlas.org/ENSG00000000003.xml", *(path_of(s) for g in (GENES[0], GENES[2]) for s in g.sites)]
    )
    assert not any(row["problem"] for row in manifest(cache).values())
    assert len(load_dataset("hpa-v18")) == 6 * len(atlas.NUCLEI)


def test_where_release_18_is_gone_all_is_of_the_current_release_and_that_is_said(server, listed):
    server.files.clear()
    atlas.serve(server, GENES[:2], host=atlas.CURRENT, release="25")
    listed.write_text("ENSG00000000001\nBBB2\n")
    DATASETS.get("hpa-v18").choose({"genes": str(listed)}).fetch(SILENT)
    cells = load_dataset("hpa-v18")
    assert any(n.startswith("Release 25 of the Human Protein Atlas") and "not the version 18" in n for n in cells.notes)
    assert {p.split("/")[1] for p in server.paths() if p.endswith(".xml")} == {"www.proteinatlas.org"}


def test_without_the_table_locations_are_those_of_the_entries(server, listed):
    for path in [p for p in server.files if p.endswith(".zip")]:
        del server.files[path]
    atlas_files = {p: c for p, c in server.files.items() if p.endswith(".xml")}
    for path, content in atlas_files.items():
        server.files[path.replace("v18.", "www.")] = content
    refused_for = DATASETS.get("hpa-v18").choose({"genes": str(listed)})
    with pytest.raises(UserError, match=r"1 of 4 genes, for example BBB2, .* cannot be had"):
        refused_for.fetch(SILENT)
    listed.write_text("ENSG00000000002\nENSG00000000003\n")
    refused_for.fetch(SILENT)
    obs = load_dataset("hpa-v18").obs.drop_duplicates("protein").set_index("protein")
    assert obs.loc["BBB2", "label"] == "Cytosol"
    assert obs.loc["BBB2", "variability"] == "intensity"
    assert obs.loc["CCC3", "labels"] == "Nucleoli;Cytosol"


def test_a_list_that_names_nothing_or_something_unknown_is_a_sentence(server, listed, capsys, monkeypatch):
    def say(*words):
        said = call(capsys, monkeypatch, "data", "get", "hpa-v18", *words)
        return Said(said.code, said.out, said.err[said.err.index("Error: ") :])  # after what was fetched

    refused(say(), "--genes FILE", "one a line")
    listed.write_text("# nothing\n")
    refused(say("--genes", listed), "names no gene", "ENSG00000148773")
    listed.write_text("AAA1\nNOT1\n")
    refused(say("--genes", listed), "1 of 2 genes, for example NOT1", "subcellular_location.tsv")
    refused(say("--genes", listed.with_name("none")), "cannot be read")
    refused(say("--plates", "1"), "takes no --plates", "--genes")
    refused(call(capsys, monkeypatch, "data", "get", "toy-yeast", "--genes", "x"), "'toy-yeast' takes no --genes")
    listed.write_text("ENSG00000000009\n")
    refused(say("--genes", listed), "No image of 1 genes could be fetched", "--retry")


def test_a_users_own_crops_come_first(server, listed, tmp_path, monkeypatch, capsys):
    (tmp_path / "data" / "hpa-v18").mkdir(parents=True)
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path / "data"))
    refused(
        call(capsys, monkeypatch, "data", "get", "hpa-v18", "--genes", listed),
        f"'hpa-v18' is read from {tmp_path / 'data' / 'hpa-v18'}, so nothing is fetched",
    )
    assert server.asked == []


def test_of_a_part_no_number_is_the_papers(server, listed, monkeypatch):
    """Neither of some genes, nor of another release; all that the paper used is the dataset as it was declared."""
    hpa = DATASETS.get("hpa-v18")
    assert not hpa.meta.is_part
    hpa.choose({"genes": str(listed)}).fetch(SILENT)
    assert hpa.meta.version == "release 18, 3 genes (part)"
    monkeypatch.setitem(hpa.meta.paper, "proteins", 3)  # as if the paper had used no more
    hpa.choose({"genes": str(listed)}).fetch(SILENT)
    assert hpa.meta.version == "1"
    (own_copy := listed.parent / "data" / "hpa-v18").mkdir(parents=True)
    listed.write_text("ENSG00000000001\n")
    hpa.choose({"genes": str(listed)}).fetch(SILENT)
    assert hpa.meta.version == "release 18, 1 genes (part)"
    assert load_dataset("hpa-v18").meta.is_part
    monkeypatch.setenv("PCI_BENCH_DATA", str(own_copy.parent))
    assert hpa.meta.version == "1"  # a user's own crops are what the user says


def test_fields_that_were_removed_are_missed(server, listed, cache):
    listed.write_text("ENSG00000000001\n")
    DATASETS.get("hpa-v18").choose({"genes": str(listed)}).fetch(SILENT)
    next((cache / "downloads" / "hpa-v18" / "images").rglob("*.jpg")).unlink()
    with pytest.raises(UserError, match=r"1 of 2 fields of view .* `pci-bench data get hpa-v18` fetches them again"):
        load_dataset("hpa-v18")
    DATASETS.get("hpa-v18").fetch(SILENT)
    assert len(load_dataset("hpa-v18")) == 2 * len(atlas.NUCLEI)


def entry(tmp_path, content: bytes, key: str = "ENSG00000000001"):
    file = tmp_path / "entry.xml"
    file.write_bytes(content)
    return read_entry(file, key)


def test_only_composites_of_human_cell_lines_on_the_atlas_are_images(tmp_path):
    content = atlas.xml_of(GENES[0])
    read = entry(tmp_path, content)
    assert [(i.antibody, i.cell_line, i.site, i.plate) for i in read.images] == [
        ("HPA000001", "U-2 OS", "400_B1_1", "400"),
        ("HPA000001", "A-431", "401_B1_1", "401"),
    ]
    assert read.images[0].urls == (
        "http://v18.proteinatlas.org/images/1/400_B1_1_blue_red_green.jpg",
        "https://images.proteinatlas.org/1/400_B1_1_blue_red_green.jpg",
    )
    assert (read.release, read.locations.name, read.others) == ("18", "AAA1", 0)
    elsewhere = content.replace(
        b"http://v18.proteinatlas.org/images/1/400", b"http://proteinatlas.org.example.com/1/400"
    )
    assert [i.site for i in entry(tmp_path, elsewhere).images] == ["401_B1_1"]
    assert entry(tmp_path, elsewhere).others == 1
    cilia = content.replace(b'type="human"', b'type="human" subtype="ciliated cell lines"')
    assert entry(tmp_path, cilia).images == ()
    assert entry(tmp_path, cilia).others == 2
    newer = content.replace(b'type="human"', b'type="human" subtype="human cell lines"')
    assert len(entry(tmp_path, newer).images) == 2


def test_no_name_of_an_entry_leads_out_of_the_folder(tmp_path):
    content = atlas.xml_of(GENES[0]).replace(b'id="HPA000001"', b'id="../../etc"').replace(b"400_B1_1", b"400%2F..%2F")
    for image in entry(tmp_path, content).images:
        assert "/" not in image.antibody + image.site


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (atlas.xml_of(GENES[0], declared='<!DOCTYPE x [<!ENTITY a "b">]>'), "declares an entity"),
        (
            atlas.xml_of(GENES[0], declared='<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd">]>'),
            "declares an entity",
        ),
        (atlas.xml_of(GENES[0])[:700], "damaged or no XML"),
        (b"<html></html>", "no <entry>"),
        (atlas.xml_of(GENES[1]), "it is about ENSG00000000002, not ENSG00000000001"),
        (b"", "damaged or no XML"),
    ],
)
def test_what_is_no_entry_of_the_gene_is_told(tmp_path, content, reason):
    with pytest.raises(ValueError, match=reason):
        entry(tmp_path, content)


def test_newer_tables_have_main_and_additional_locations(tmp_path):
    file = tmp_path / "subcellular_location.tsv"
    file.write_text(
        "Gene\tGene name\tReliability\tMain location\tAdditional location\tEnhanced\tSingle-cell variation spatial\n"
        "ENSG00000000001\tAAA1\tEnhanced\tVesicles\tCytosol;Vesicles\tVesicles\tCytosol\n"
    )
    read = read_locations(file)["ENSG00000000001"]
    assert (read.name, read.terms, read.variability) == ("AAA1", ("Vesicles", "Cytosol"), "spatial")
    file.write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(UserError, match="Human Protein Atlas"):
        read_locations(file)


def test_a_name_of_two_genes_is_not_guessed(tmp_path):
    table = tmp_path / "t.zip"
    table.write_bytes(atlas.table_of([atlas.gene(1, "AAA1", "Cytosol"), atlas.gene(2, "AAA1", "Cytosol")]))
    with pytest.raises(UserError, match="AAA1 is the name of ENSG00000000001 and ENSG00000000002"):
        identifiers(["AAA1"], read_locations(table))
    genes = tmp_path / "genes.tsv"
    genes.write_text("ENSG00000000001\tAAA1\nENSG00000000001\tAAA1\n")
    assert read_genes(genes) == ["ENSG00000000001"]
