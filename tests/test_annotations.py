"""Tables of proteins joined onto cells: what matches, what does not, and what is refused."""

import hashlib
import json

import numpy as np
import pytest

from pci_bench import UserError
from pci_bench.data.annotations import annotate
from pci_bench.runs.runner import run


@pytest.fixture
def cells(make_cells):
    proteins = ["TUBB", "ACTB", "MKI67"]
    lines = ["U-2 OS", "A-431", "U-2 OS"]
    return make_cells(
        12, protein=[proteins[i % 3] for i in range(12)], cell_line=[lines[i % 3] for i in range(12)], label="old"
    )


def written(tmp_path, text, name="annotations.csv"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return file


def by_protein(cells, column):
    return cells.obs.groupby("protein")[column].first().to_dict()


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.txt", "\t")])
def test_columns_are_joined_and_everything_unmatched_is_counted(cells, tmp_path, name, separator):
    rows = [
        ("protein", "labels", "go"),
        ("TUBB", "microtubules", "GO:1;GO:2"),
        ("TUBB", "microtubules", "GO:1;GO:2"),
        ("ACTB", "actin filaments;cytosol", ""),
        ("XYZ", "cytosol", ""),
        ("", "cytosol", ""),
    ]
    found = annotate(cells, written(tmp_path, "\n".join(separator.join(r) for r in rows), name))
    assert found.obs["labels"].fillna("").tolist() == ["microtubules", "actin filaments;cytosol", ""] * 4
    assert found.obs["label"].astype("string").fillna("").tolist() == ["microtubules", "", ""] * 4
    assert found.obs["go"].fillna("").tolist()[:3] == ["GO:1;GO:2", "", ""]
    notes = " ".join(found.notes)
    assert f"Annotations of {name}: label, labels, go of 2 proteins, 8 of 12 cells" in notes
    assert "1 rows of" in notes
    assert "match no cell, for example XYZ" in notes
    assert "1 proteins of planted have no row" in notes
    assert "for example MKI67" in notes
    assert f"1 rows of {name} repeat another" in notes
    assert f"1 rows of {name} name no protein" in notes


def test_crops_hash_and_order_stay_the_same_also_of_a_selection(cells, tmp_path):
    some = cells[[7, 2, 4]]
    found = annotate(some, written(tmp_path, "protein,label\nMKI67,nucleoli\nACTB,actin\n"))
    assert found.sha256 == some.sha256
    assert found.obs["cell"].tolist() == some.obs["cell"].tolist()
    np.testing.assert_array_equal(found.stored(slice(None)), some.stored(slice(None)))
    assert found.obs["label"].tolist() == ["actin", "nucleoli", "actin"]
    assert some.obs["label"].tolist() == ["old"] * 3


def test_a_cell_line_is_part_of_the_key_where_cells_have_one(cells, tmp_path):
    text = "protein,cell_line,label\nTUBB,U-2 OS,microtubules\nTUBB,A-431,cytosol\nACTB,U-2 OS,nothing\n"
    found = annotate(cells, written(tmp_path, text))
    assert found.obs["label"].astype("string").fillna("").tolist()[:3] == ["microtubules", "", ""]
    assert "2 rows of annotations.csv match no cell, for example TUBB in A-431, ACTB in U-2 OS." in found.notes


def test_a_cell_line_is_a_value_where_cells_have_none(make_cells, tmp_path):
    cells = make_cells(6, protein=["TUBB", "ACTB", "MKI67"] * 2)
    found = annotate(cells, written(tmp_path, "protein,cell_line\nTUBB,A-431\nACTB,U-2 OS\nMKI67,A-431\n"))
    assert by_protein(found, "cell_line") == {"ACTB": "U-2 OS", "MKI67": "A-431", "TUBB": "A-431"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "protein,lable,colour\nTUBB,x,y\n",
            r"unknown columns: lable, colour\. The known columns are protein, cell_line, label \(",
        ),
        ("gene,label\nTUBB,x\n", "no column 'protein'; it has gene, label"),
        ("protein\nTUBB\n", "nothing to join: expected any of cell_line, label, labels, go"),
        ("protein,label\nTUBB,x\nTUBB,y\n", "different things of TUBB: label is 'x' and 'y'. Keep one row"),
        ("protein,label\nTUBB,x,y\n", "3 fields in row 2 and 2 columns"),
        ("protein,label,label\nTUBB,x,y\n", "the column 'label' twice"),
        (
            "protein,label\nX,y\n",
            r"No row of .* \(for example 'X'\) is about a protein of planted \(for example 'TUBB'\)",
        ),
        ("protein,label\n", "is about a protein of planted"),
        ("", "no column 'protein'; it has no columns"),
    ],
)
def test_what_cannot_be_joined_is_said(cells, tmp_path, text, sentence):
    with pytest.raises(UserError, match=sentence):
        annotate(cells, written(tmp_path, text))


def test_a_missing_or_binary_file_and_cells_without_proteins_are_said(cells, make_cells, tmp_path):
    with pytest.raises(UserError, match="cannot be read as a table of annotations"):
        annotate(cells, tmp_path / "nowhere.csv")
    (tmp_path / "image.csv").write_bytes(b"\xff\xfe\x00\x89PNG")
    with pytest.raises(UserError, match="cannot be read as a table of annotations"):
        annotate(cells, tmp_path / "image.csv")
    with pytest.raises(UserError, match="name no proteins"):
        annotate(make_cells(4), written(tmp_path, "protein,label\nTUBB,x\n"))


@pytest.mark.usefixtures("without_figures")
def test_a_run_evaluates_the_annotated_labels_with_cached_features(toy_cache, tmp_path):
    before = run("yeast-knn", dataset="toy-yeast", features="intensity", k=[1])
    known = list(before[0].dataset.classes)
    file = written(
        tmp_path, "protein,label\n" + "".join(f"{p},{'first' if i < 2 else 'others'}\n" for i, p in enumerate(known))
    )
    output = run(
        "yeast-knn",
        dataset="toy-yeast",
        features="intensity",
        k=[1],
        annotations=file,
        out=tmp_path / "out",
        refresh="never",
    )
    assert sorted(output[0].dataset.classes) == ["first", "others"]
    assert sum(output[0].dataset.classes.values()) == output[0].dataset.n_cells
    assert any("Annotations of annotations.csv: label of" in note for note in output.notes)
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())["arguments"]
    assert recorded["annotations"] == str(file)
    assert recorded["annotations_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
