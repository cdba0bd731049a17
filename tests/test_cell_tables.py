"""A label for each cell of a folder of crops: images.csv with a column `cell`, or cells.csv."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from command_line import call
from PIL import Image

from pci_bench import load_dataset
from pci_bench.acquisition.crop_tables import channel_suffixes
from pci_bench.errors import UserError
from pci_bench.runs.results import read_results


def crops(*names: str, suffixes=("_gfp", "_rfp")) -> dict[str, np.ndarray | str]:
    rng = np.random.default_rng(0)
    return {f"{name}{s}.png": rng.integers(0, 200, (8, 8)).astype(np.uint8) for name in names for s in suffixes}


NAMES = ("w1/a", "w1/b", "w2/c", "w2/d")


@pytest.mark.parametrize("file", ["images.csv", "cells.csv"])
@pytest.mark.parametrize(
    "keys",
    [
        NAMES,
        [n.partition("/")[2] for n in NAMES],
        [f"{n}_gfp.png" for n in NAMES],
        [f"{n.partition('/')[2]}_rfp.png" for n in NAMES],
        [f"{n.partition('/')[2]}_rfp" for n in NAMES],
    ],
    ids=["cell", "name", "path", "file", "stem"],
)
def test_a_cell_is_named_by_its_name_or_its_file(write_crops, file, keys):
    rows = "".join(
        f"{key},{label},{day}\n" for key, label, day in reversed(list(zip(keys, "xyzx", (1, 2, 1, 3), strict=True)))
    )
    cells = load_dataset(f"folder:{write_crops({**crops(*NAMES), file: f'cell,label,day{chr(10)}{rows}'})}")
    assert cells.obs["label"].tolist() == list("xyzx")
    assert cells.obs["day"].tolist() == [1, 2, 1, 3]
    assert cells.obs["image"].tolist() == ["w1", "w1", "w2", "w2"]
    assert cells.notes == ()


def test_one_name_in_two_images_needs_the_image(write_crops):
    files = crops("w1/a", "w2/a")
    with pytest.raises(UserError, match=r"fits 2 crops\. Name each with its image in front, as 'w1/a'"):
        load_dataset(f"folder:{write_crops({**files, 'cells.csv': 'cell,label' + chr(10) + 'a,x' + chr(10)})}")
    table = "image,cell,label\nw2,a,y\nw1,a,x\n"
    cells = load_dataset(f"folder:{write_crops({**files, 'cells.csv': table})}")
    assert cells.obs["label"].tolist() == ["x", "y"]


def test_a_tables_image_counts_where_crops_lie_in_no_subfolder(write_crops):
    table = "cell,image,label\n2,b,y\n1,a,x\n"
    cells = load_dataset(f"folder:{write_crops({**crops('1', '2'), 'cells.csv': table})}")
    assert cells.obs["image"].tolist() == ["a", "b"]


def test_cells_that_do_not_match_are_noted_and_stay_unlabelled_and_images_give_the_rest(write_crops):
    files = crops(*NAMES) | {
        "images.csv": "image,label,plate\nw1,p,1\nw2,q,2\n",
        "cells.csv": "cell,label\na,x\nzz,y\n",
    }
    cells = load_dataset(f"folder:{write_crops(files)}")
    assert cells.obs["label"].tolist() == ["x", "p", "q", "q"]
    assert cells.obs["plate"].astype(str).tolist() == ["1", "1", "2", "2"]
    assert any("1 rows of" in note and "'zz'" in note for note in cells.notes)
    assert any("3 cells of" in note and "'w1/b'" in note for note in cells.notes)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("cell,label\na,x\nw1/a,y\n", "more than one row for the cell 'w1/a'"),
        ("name,label\na,x\n", "it needs a column 'cell'"),
        ("cell,label\nq,x\n", "No cell of .*cells.csv .*'q'"),
    ],
)
def test_a_wrong_table_of_cells_is_a_sentence(write_crops, table, sentence):
    with pytest.raises(UserError, match=sentence):
        load_dataset(f"folder:{write_crops({**crops(*NAMES), 'cells.csv': table})}")


def test_a_changed_table_of_cells_is_read_again(write_crops):
    root = write_crops({**crops(*NAMES), "cells.csv": "cell,label\na,x\nb,x\nc,y\nd,y\n"})
    assert load_dataset(f"folder:{root}").obs["label"].tolist() == list("xxyy")
    (root / "cells.csv").write_text("cell,label\na,first\nb,x\nc,y\nd,y\n")
    assert load_dataset(f"folder:{root}").obs["label"].tolist() == ["first", "x", "y", "y"]


def test_channels_that_no_known_suffix_names_are_told(write_crops):
    cells = load_dataset(f"folder:{write_crops(crops(*NAMES, suffixes=('_dna', '_actin')))}")
    assert [(c.name, c.role) for c in cells.channels] == [("actin", "protein"), ("dna", "marker")]
    assert any("?protein=_dna&markers=_actin" in note for note in cells.notes)


def test_numbered_crops_are_crops_and_not_channels():
    assert channel_suffixes([f"w{w}/nucleus_{n:02d}.png" for w in range(3) for n in range(4)]) == ("",)
    assert channel_suffixes(["a/1_x.png", "a/1_y.png", "a/2_x.png"]) == ("",)  # a crop lacks one


def test_single_nuclei_of_sixteen_phenotypes_in_77_images_are_a_folder(
    test_data, tmp_path, monkeypatch, capsys, without_figures
):
    source = test_data / "mitocheck-nuclei"
    table = pd.read_csv(source / "labels.csv", dtype=str)
    chosen = table.groupby("label").head(20)
    pixels = np.load(source / "crops_64x64_uint8.npz")["X"]
    folder = tmp_path / "nuclei"
    folder.mkdir()
    for index in chosen.index:
        Image.fromarray(pixels[index]).save(folder / f"{index:05d}.png")
    chosen = chosen.assign(cell=[f"{i:05d}" for i in chosen.index], image=chosen["plate"] + "/" + chosen["well"])
    chosen[["cell", "image", "label", "plate"]].to_csv(folder / "cells.csv", index=False)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    said = call(
        capsys, monkeypatch, "run", "knn", "--dataset", "folder:nuclei", "--features", "intensity,noise", "--out", "out"
    )
    assert said.code == 0, said.err
    assert "rfp" not in (said.out + said.err).lower()
    results = {r.features.name: r for r in read_results(tmp_path / "out") if r.evaluator.params["exclude"] == "cell"}
    assert results["intensity"].dataset.n_cells == len(chosen)
    assert results["intensity"].dataset.classes == chosen["label"].value_counts().to_dict()
    predictions = results["intensity"].predictions.set_index("cell")
    assert predictions["image"].to_dict() == chosen.set_index("cell")["image"].to_dict()
    assert results["intensity"].metrics["balanced_accuracy"] > results["noise"].metrics["balanced_accuracy"] + 0.05
