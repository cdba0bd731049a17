"""``file:PATH``: rows are joined to cells by name, so that no order matters, and names that do not fit are said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import call
from factories import FEATURE_FILES, write_features
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pci_bench import UserError, extract
from pci_bench.data.cells import subsample


def numbered(n: int) -> np.ndarray:
    return np.stack([np.arange(n), 100 + np.arange(n)], axis=1).astype(np.float32)


@pytest.mark.parametrize("kind", FEATURE_FILES)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.permutations(range(7)), asked=st.lists(st.integers(0, 4), min_size=1, unique=True))
def test_every_order_of_rows_and_of_cells_gives_each_cell_its_own_row(tmp_path, make_cells, kind, rows, asked):
    file = write_features(tmp_path / f"mine{kind}", numbered(7)[rows], [f"cell{i}" for i in rows])
    adata = extract(f"file:{file}", make_cells(5)[asked])
    assert adata.X[:, 0].tolist() == asked
    assert adata.X[:, 1].tolist() == [100 + i for i in asked]
    assert adata.obs_names.tolist() == [f"cell{i}" for i in asked]


def test_a_limit_takes_the_same_rows_as_the_whole(tmp_path, make_cells):
    cells = make_cells(30, label=list("ABC") * 10)
    file = write_features(tmp_path / "mine.csv", numbered(30)[::-1], [f"cell{i}" for i in reversed(range(30))])
    few = subsample(cells, 9, seed=3)
    adata = extract(f"file:{file}", few)
    assert [f"cell{int(v)}" for v in adata.X[:, 0]] == few.obs["cell"].tolist()


@pytest.mark.parametrize("kind", FEATURE_FILES)
def test_missing_cells_are_counted_and_the_first_of_the_dataset_is_named(tmp_path, make_cells, kind):
    rows = [9, 0, 4, 5, 8, 1]
    file = write_features(tmp_path / f"mine{kind}", numbered(10)[rows], [f"cell{i}" for i in rows])
    with pytest.raises(UserError) as error:
        extract(f"file:{file}", make_cells(9))
    assert f"{file} has no features for 4 of 9 cells of planted, for example 'cell2'" in str(error.value)
    assert "the file's first is 'cell9'" in str(error.value)
    assert "the dataset's column 'cell'" in str(error.value)
    assert extract(f"file:{file}", make_cells(9)[[8, 5, 0]]).X[:, 0].tolist() == [8, 5, 0]


@pytest.mark.parametrize("kind", FEATURE_FILES)
@pytest.mark.parametrize("same", [True, False], ids=["of equal values", "of other values"])
def test_a_cell_named_twice_is_refused_though_nobody_asks_for_it(tmp_path, make_cells, kind, same):
    values = numbered(5)
    values[4] = values[2] if same else -1
    file = write_features(tmp_path / f"mine{kind}", values, ["cell0", "cell1", "elsewhere", "cell2", "elsewhere"])
    with pytest.raises(UserError, match="names a cell twice, for example 'elsewhere'") as error:
        extract(f"file:{file}", make_cells(2))
    assert str(file) in str(error.value)


def test_names_that_differ_by_a_space_or_by_case_are_other_cells(tmp_path, make_cells):
    file = write_features(tmp_path / "mine.csv", numbered(2), [" cell0", "Cell1"])
    with pytest.raises(
        UserError, match=r"no features for 2 of 2 cells of planted, for example 'cell0' .*first is ' cell0'"
    ):
        extract(f"file:{file}", make_cells(2))


@pytest.mark.parametrize("kind", [".h5ad", ".parquet", ".npz"])
def test_whole_numbers_name_cells_too(tmp_path, make_cells, kind):
    path, numbers = tmp_path / f"mine{kind}", [12, 7, 30]
    write_features(path, numbered(3), [str(i) for i in numbers] if kind == ".h5ad" else numbers)
    adata = extract(f"file:{path}", make_cells(3, cell=["7", "30", "12"]))
    assert adata.X[:, 0].tolist() == [1, 2, 0]


# ---- on the command line


@pytest.fixture
def labelled(write_crops) -> str:
    """A folder dataset of 24 cells in 4 images and 2 classes."""
    rng = np.random.default_rng(0)
    files: dict[str, np.ndarray | str] = {"images.csv": "image,label\nw0,a\nw1,b\nw2,a\nw3,b\n"}
    for image in range(4):
        for cell in range(6):
            for channel in ("gfp", "rfp"):
                files[f"w{image}/c{cell}_{channel}.tif"] = rng.integers(0, 200, (8, 8)).astype(np.uint8)
    return f"folder:{write_crops(files)}"


@pytest.fixture
def run(labelled, tmp_path, capsys, monkeypatch) -> Callable:
    def command(file: Path, out: str):
        return call(
            *(capsys, monkeypatch, "run", "yeast-knn", "--dataset", labelled, "--features", f"file:{file}"),
            *("--k", "3", "--device", "cpu", "--out", tmp_path / out),
        )

    return command


@pytest.mark.usefixtures("without_figures")
def test_a_run_gives_the_same_results_for_a_file_in_any_order(run, labelled, tmp_path, capsys, monkeypatch):
    file = tmp_path / "mine.csv"
    said = call(capsys, monkeypatch, "extract", "raw-pixels", "--dataset", labelled, "--out", file, "--device", "cpu")
    assert said.code == 0, said.err
    assert run(file, "one").code == 0
    table = pd.read_csv(file, dtype={"Metadata_cell": str})
    table.iloc[np.random.default_rng(0).permutation(24)].to_csv(file, index=False)
    assert run(file, "other").code == 0
    found = []
    for out in ("one", "other"):
        files = sorted((tmp_path / out / "results").rglob("*.json"))
        assert len(files) == 3  # k = 3; the cell or its image left out, and that with classes balanced
        results = [json.loads(f.read_text()) for f in files]
        tables = [pd.read_parquet(f.with_suffix(".parquet")).astype(str).to_dict("records") for f in files]
        found.append([(r["metrics"], r["intervals"], r["details"], t) for r, t in zip(results, tables, strict=True)])
    assert found[0] == found[1]
    assert len(found[0][0][3]) == 24


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda table: table.drop(index=5), "no features for 1 of 24 cells"),
        (lambda table: pd.concat([table, table.iloc[[5]]]), "names a cell twice"),
    ],
    ids=["missing", "twice"],
)
def test_a_run_with_a_file_that_does_not_fit_names_the_cell_and_writes_nothing(
    run, labelled, tmp_path, capsys, monkeypatch, change, sentence
):
    file = tmp_path / "mine.parquet"
    assert call(capsys, monkeypatch, "extract", "intensity", "--dataset", labelled, "--out", file, "--device", "cpu").code == 0  # fmt: skip
    table = pd.read_parquet(file)
    change(table).to_parquet(file, index=False)
    said = run(file, "out")
    assert said.code == 2
    assert sentence in said.err
    assert f"'{table['Metadata_cell'][5]}'" in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "out").exists()
