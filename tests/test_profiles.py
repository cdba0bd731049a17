"""Datasets of measured profiles: stored, read, run, shown and refused; and the steps that make wells comparable, against pandas."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from command_line import call
from factories import make_cells
from servers import FileServer

import pci_bench
from pci_bench import Dataset
from pci_bench.api.dataset import DATASETS
from pci_bench.api.loading import load, store_folder, verify
from pci_bench.api.registry import Origin
from pci_bench.conformance import check_dataset, check_read_features
from pci_bench.data.cells import DatasetMeta
from pci_bench.data.store import BrokenStoreError, open_store
from pci_bench.errors import UserError
from pci_bench.features.names import FeatureSet
from pci_bench.statistics.profiles import repeating_columns, replicate_correlations, scored_by_controls

N, D = 24, 5


def wells(n=N, d=D, seed=0):
    """Profiles of three classes in four batches."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    values = rng.normal(size=(n, d)) + 3 * np.eye(3, d)[label]
    obs = pd.DataFrame(
        {
            "cell": [f"well{i}" for i in range(n)],
            "image": [f"well{i}" for i in range(n)],
            "compound": [f"drug{i // 2}" for i in range(n)],
            "batch": [f"week{i % 4}" for i in range(n)],
            "label": np.array(["actin", "DNA", "tubulin"])[label],
        }
    )
    return obs, values


class Wells(Dataset):
    """Measured wells."""

    def __init__(self, obs, values, names=None, name="wells"):
        self.meta = DatasetMeta(name, "1", "Measured wells", confounder="compound")
        self.obs, self.values = obs, values
        self.names = [f"Cells_x{i}" for i in range(values.shape[1])] if names is None else names

    def build(self, store):
        """Write them."""
        store.write_profiles(self.obs, self.values, self.names, notes=("a note",))


@pytest.fixture
def dataset(own_registries):
    """A registered dataset of profiles."""
    made = Wells(*wells())
    DATASETS.register("wells", made, origin=Origin(__file__, 1))
    return made


def test_what_is_written_comes_back_whole_in_parts_and_in_any_order(dataset):
    cells = load(dataset)
    values, names = cells.profiles()
    np.testing.assert_array_equal(values, dataset.values.astype(np.float32))
    assert names == tuple(dataset.names)
    assert repr(cells) == "Cells(wells: 24 profiles of 5 measurements)"
    assert cells.notes == ("a note",)
    assert not cells.has_crops
    shuffled = np.random.default_rng(1).permutation(N)
    np.testing.assert_array_equal(cells[shuffled][3:9].profiles()[0], values[shuffled][3:9])
    assert cells[3:9].sha256 != cells.sha256
    with pytest.raises(UserError, match="has measured profiles and no crops"):
        cells.crops(slice(None))


@pytest.mark.parametrize("what", ["a value", "a name", "the table"])
def test_the_hash_follows_values_names_and_table(cache, what):
    obs, values = wells()
    before = load(Wells(obs, values)).sha256
    names = [f"Cells_x{i}" for i in range(D)]
    if what == "a value":
        values = values.copy()
        values[3, 2] += 1
    elif what == "a name":
        names[0] = "Nuclei_x0"
    else:
        obs = obs.assign(batch="week0")
    assert load(Wells(obs, values, names, "others")).sha256 != before


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("shape", "have the shape (24, 5) for 24 rows and 4 names"),
        ("twice", "Two measurements of 'wells' are called 'a'"),
        ("nan", "The profile of 'well3' in 'wells' holds nan as 'Cells_x2' (1 such values)"),
        ("inf", "The profile of 'well3' in 'wells' holds inf as 'Cells_x2'"),
        ("nothing", "have the shape (24, 0) for 24 rows and 0 names"),
        ("no rows", "The dataset 'wells' holds no cells"),
    ],
)
def test_wrong_profiles_are_a_sentence(cache, fault, sentence):
    obs, values = wells()
    made = Wells(obs, values)
    if fault == "shape":
        made.names = made.names[1:]
    elif fault == "twice":
        made.names = ["a", "a", "b", "c", "d"]
    elif fault in ("nan", "inf"):
        made.values[3, 2] = float(fault)
    elif fault == "nothing":
        made.values, made.names = values[:, :0], []
    else:
        made.obs, made.values = obs[:0], values[:0]
    with pytest.raises(UserError) as error:
        load(made)
    assert sentence in str(error.value)


def test_equal_profiles_are_counted_in_a_note(cache):
    obs, values = wells()
    values[5] = values[2]
    (_, note) = load(Wells(obs, values)).notes
    assert note.startswith("2 of 24 cells of wells have the same measurements as another cell ('well2' and 'well5'")


def test_a_store_that_changed_is_noticed(dataset):
    load(dataset)
    assert verify(dataset) == load(dataset).sha256
    file = store_folder(dataset) / "profiles.zarr" / "c" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(UserError, match="is damaged"):
        verify(dataset)
    description = store_folder(dataset) / "store.json"
    description.write_text(description.read_text().replace("Cells_x0", "Cells_x9"))
    with pytest.raises(BrokenStoreError):
        open_store(store_folder(dataset))


def test_contracts_hold_for_dataset_and_features(dataset):
    found = {f.contract: f.state for f in check_dataset("wells")}
    assert set(found.values()) == {"passed", "not applicable"}
    assert found["its channels are declared"] == found["two builds are the same"] == "passed"
    features = list(check_read_features(FeatureSet("profiles"), load(dataset)))
    assert {f.state for f in features} == {"passed"}


def test_a_run_has_results_and_a_report_without_pictures(dataset, tmp_path, without_figures):
    run = pci_bench.run(
        "yeast-knn", dataset="wells", features=["profiles", "noise", "intensity"], out=tmp_path / "out", limit=18
    )
    by_name = {r.features.full_name: r for r in run.results if r.evaluator.params["exclude"] == "cell"}
    assert by_name["profiles"].metrics["accuracy"] > by_name["noise"].metrics["accuracy"]
    assert by_name["profiles"].dataset.n_cells == 18
    (skipped,) = {s.reason for s in run.not_run if s.features == "intensity"}
    assert skipped == "measures crops, and wells has profiles and no crops"
    from pci_bench.reporting.html.page import write_report

    page = write_report(tmp_path / "out").read_text(encoding="utf-8")
    assert "wells has measured profiles and no crops, so there are no pictures" in page


def test_profiles_of_a_dataset_of_crops_are_not_run():
    with pytest.raises(UserError, match="planted has crops and brings no measurements"):
        pci_bench.extract("profiles", make_cells(4))


def test_training_on_profiles_is_a_sentence(dataset):
    from pci_bench.training.loop import train

    with pytest.raises(UserError, match="pci is trained on crops, and wells has measured profiles and none"):
        train("pci", load(dataset))


# ---- the steps of selection, against pandas and by hand


def test_replicate_correlations_are_those_of_pandas():
    rng = np.random.default_rng(0)
    treatments = rng.permutation(np.repeat(np.arange(12), [3] * 10 + [2, 4]))
    values = rng.normal(size=(len(treatments), 4)) + rng.normal(size=(12, 4))[treatments]
    table = pd.DataFrame(values).assign(treatment=treatments)
    table = table[table.groupby("treatment")["treatment"].transform("size") == 3]
    table["replicate"] = table.groupby("treatment").cumcount()
    for column in range(4):
        wide = table.pivot(index="treatment", columns="replicate", values=column)
        assert len(wide) == 10
        pairs = wide.corr().to_numpy()[np.triu_indices(3, 1)]
        assert replicate_correlations(values, treatments, 3)[column] == pytest.approx(np.median(pairs), abs=1e-12)
    with pytest.raises(UserError, match="1 treatments have 2 wells"):
        replicate_correlations(values, treatments, 2)


def test_repeating_columns_follow_the_rule_pair_by_pair():
    rng = np.random.default_rng(3)
    base = rng.normal(size=(50, 6))
    values = np.column_stack([base, base[:, :4] + 0.2 * rng.normal(size=(50, 4)), -base[:, 0]])
    correlations = np.abs(pd.DataFrame(values).corr().to_numpy())
    expected = set()
    for column in range(values.shape[1]):
        for row in range(column):
            if correlations[row, column] > 0.9:
                expected.add(column if correlations[:, column].mean() > correlations[:, row].mean() else row)
    assert len(expected) > 3
    left_out = repeating_columns(values, 0.9)
    assert set(np.flatnonzero(left_out)) == expected
    rest = correlations[~left_out][:, ~left_out]
    assert (rest[np.triu_indices(len(rest), 1)] <= 0.9).all()
    with pytest.raises(UserError, match="Column 2 of 4 is constant"):
        repeating_columns(np.column_stack([base[:, :2], np.ones(50), base[:, 3]]), 0.9)


def test_scores_by_controls_are_those_of_pandas_plate_by_plate():
    rng = np.random.default_rng(1)
    plates, controls = np.repeat(["a", "b"], 10), np.tile([True, False], 10)
    values = rng.normal(size=(20, 3)) + (plates == "b")[:, None]
    scores = scored_by_controls(values, plates, controls)
    for plate in ("a", "b"):
        of_plate, of_controls = (pd.DataFrame(values[m]) for m in (plates == plate, (plates == plate) & controls))
        expected = (of_plate - of_controls.mean()) / of_controls.std()
        np.testing.assert_allclose(scores[plates == plate], expected)
    with pytest.raises(UserError, match="Plate 'b' has 0 control wells"):
        scored_by_controls(values, plates, controls & (plates == "a"))


# ---- the published files


def test_bbbc021_without_its_files_names_the_command_and_the_size(monkeypatch, tmp_path):
    reason = DATASETS.get("bbbc021").unavailable_reason()
    assert reason.startswith(
        "`pci-bench data get bbbc021` fetches 3 files, 4.0 MB, from github.com/cytomining/cytominergallery"
    )
    assert [remote.size for remote in DATASETS.get("bbbc021").downloads()] == [1115198, 4404, 2863850]
    (tmp_path / "bbbc021").mkdir()
    (tmp_path / "bbbc021" / "BBBC021_v1_moa.csv").write_text("compound\n")
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path))
    reason = DATASETS.get("bbbc021").unavailable_reason()
    assert "lacks BBBC021_v1_image.csv.gz, ljosa_jbiomolscreen_2013_per_well_mean.csv.gz" in reason


def test_a_wrong_file_of_bbbc021_is_named(monkeypatch, tmp_path):
    dataset = DATASETS.get("bbbc021")
    (tmp_path / "bbbc021").mkdir()
    for remote in dataset.downloads():
        (tmp_path / remote.name).write_bytes(b"another file")
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path))
    with pytest.raises(
        UserError, match=r"BBBC021_v1_image.csv.gz is not the file of that name in github.com/cytomining"
    ):
        load(dataset)


def test_bbbc021_is_fetched_by_one_command_or_taken_from_a_copy(test_data, capsys, monkeypatch, cache):
    with FileServer() as server:
        monkeypatch.setenv("PCI_BENCH_MIRROR", server.address)
        contents = {r: (test_data / r.name).read_bytes() for r in DATASETS.get("bbbc021").downloads()}
        for remote, content in contents.items():
            server.mirror(remote.urls[0], content)
        said = call(capsys, monkeypatch, "data", "get", "bbbc021")
        assert said.code == 0, said.err
        assert "103 profiles of 177 measurements" in said.out
        assert len(server.asked) == 3
    assert call(capsys, monkeypatch, "data", "verify", "bbbc021").code == 0
    assert call(capsys, monkeypatch, "data", "remove", "bbbc021").code == 0
    assert call(capsys, monkeypatch, "run", "bbbc021-moa").code == 2
    said = call(capsys, monkeypatch, "data", "import", "bbbc021", test_data / "bbbc021")
    assert said.code == 0, said.err
    assert DATASETS.get("bbbc021").unavailable_reason() is None


def test_the_command_line_gets_and_verifies_profiles(dataset, capsys, monkeypatch):
    said = call(capsys, monkeypatch, "data", "get", "wells")
    assert said.code == 0
    assert "24 profiles of 5 measurements" in said.out
    assert "wells is whole" in call(capsys, monkeypatch, "data", "verify", "wells").out
    assert json.loads((store_folder(dataset) / "store.json").read_text())["profiles"] == dataset.names


def test_the_answer_of_a_run_counts_profiles(dataset, tmp_path, capsys, monkeypatch, without_figures):
    said = call(
        capsys, monkeypatch, "run", "knn", "--dataset", "wells", "--features", "profiles,noise", "--out", tmp_path
    )
    assert said.code == 0, said.err
    assert "wells, 24 profiles, " in said.out
    assert "24 cells" not in said.out


# ---- a user's own table


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_profiles_is_a_dataset(tmp_path, kind):
    obs, values = wells()
    table = pd.DataFrame(values, columns=[f"Cells_x{i}" for i in range(D)])
    table = pd.concat(
        [obs[["compound", "label"]].rename(columns={"compound": "Metadata_compound", "label": "Metadata_moa"}), table],
        axis=1,
    )
    file = tmp_path / f"wells.{kind}"
    table.to_csv(file, index=False) if kind == "csv" else table.to_parquet(file)
    cells = pci_bench.load_dataset(f"profiles:{file}?label=Metadata_moa&confounder=Metadata_compound")
    np.testing.assert_allclose(cells.profiles()[0], values, rtol=1e-6)
    assert cells.obs["label"].astype(str).tolist() == obs["label"].tolist()
    assert cells.obs["cell"].tolist()[:2] == ["row 1", "row 2"]
    assert (cells.meta.label, cells.meta.confounder) == ("moa", "compound")
    before = cells.sha256
    table.assign(Cells_x0=0.5).to_csv(file, index=False) if kind == "csv" else table.assign(Cells_x0=0.5).to_parquet(
        file
    )
    assert pci_bench.load_dataset(f"profiles:{file}?label=Metadata_moa&confounder=Metadata_compound").sha256 != before


@pytest.mark.parametrize(
    ("content", "query", "sentence"),
    [
        (
            "Metadata_cell,a\nw1,1\nw2,x\n",
            "",
            "The column 'a' of {file} holds texts, for example '1'. Call it Metadata_a",
        ),
        ("Metadata_cell,a\nw1,1\nw1,2\n", "", "1 cells of 'profiles:{file}' are named twice"),
        ("Metadata_cell,a\nw1,1\nw2,\n", "", "The profile of 'w2' in 'profiles:{file}' holds nan as 'a'"),
        ("Metadata_cell\nw1\n", "", "one column per name, one at least"),
        (
            "Metadata_cell,a\nw1,1\n",
            "?label=moa",
            "has no column 'moa' that could be the label; its metadata are Metadata_cell",
        ),
        ("Metadata_cell,a\nw1,1\n", "?marker=b", "has no option 'marker'"),
        (None, "", "there is no file {file}"),
    ],
)
def test_a_wrong_table_is_a_sentence(tmp_path, content, query, sentence):
    file = tmp_path / "wells.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UserError) as error:
        pci_bench.load_dataset(f"profiles:{file}{query}")
    assert sentence.format(file=file) in str(error.value)
