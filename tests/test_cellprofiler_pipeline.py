"""A user's own CellProfiler: the exchange of files with a program of its layout, and CellProfiler itself where it is installed."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from command_line import SCRIPT, environment
from factories import YEAST, make_cells
from joblib.externals.loky import get_reusable_executor
from pci_bench_baselines import cellprofiler_pipeline

import pci_bench
from pci_bench import Channel, UserError
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.features.extraction import extract
from pci_bench.reporting.describe import described

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a first line")

ATTRIBUTES = "[module_num:1|svn_version:'Unknown'|variable_revision_number:4|notes:[]|enabled:True|wants_pause:False]"
HEAD = "CellProfiler Pipeline: http://www.cellprofiler.org\nVersion:5\nDateRevision:428\nGitHash:\nModuleCount:1\n"
MEASURE = {"MeasureObjectIntensity": ["Select images to measure:GFP, RFP", "Select objects to measure:Cells"]}
EXPORT = {
    "ExportToSpreadsheet": [
        "Select the column delimiter:Tab",
        "Output file location:Elsewhere...|/home/someone/results",
        "Add a prefix to file names?:Yes",
        "Filename prefix:MyExpt_",
        "Export all measurement types?:Yes",
        "Use the object name for the file name?:No",
    ]
}
REAL = os.environ.get(cellprofiler_pipeline.EXECUTABLE) or shutil.which("cellprofiler")


def text_of(*modules):
    """A pipeline file: modules by name, with lines of settings."""
    blocks = []
    for module in modules:
        for name, settings in (module if isinstance(module, dict) else {module: []}).items():
            blocks.append("\n".join([f"{name}:{ATTRIBUTES}", *(f"    {line}" for line in settings)]))
    return HEAD + "\n" + "\n\n".join(blocks) + "\n"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The stand-in as an executable, which the environment names."""
    cellprofiler_pipeline._asked_version.cache_clear()
    cellprofiler_pipeline.columns_of.cache_clear()
    file = tmp_path / "a CellProfiler"
    source = Path(__file__).with_name("cellprofiler_stand_in.py")
    file.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{source}' \"$@\"\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PCI_BENCH_CELLPROFILER", str(file))
    monkeypatch.setenv("STAND_IN_NOTES", str(tmp_path / "notes"))
    return file


@pytest.fixture
def pipeline(tmp_path):
    """A function that writes a pipeline and returns the name of its feature set."""

    def write(*modules, name="mine.cppipe"):
        (tmp_path / name).write_text(text_of(*(modules or (MEASURE, EXPORT))))
        return f"cellprofiler:{tmp_path / name}"

    return write


@pytest.fixture
def notes(tmp_path):
    """A function that returns what every run of the stand-in noted."""
    return lambda: [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]


def with_masks(n, shape=(12, 12), seed=0, channels=YEAST, dim=1.0):
    """Cells whose masks differ: mother 1, bud 2, another cell 3; every fifth was not found."""
    rng = np.random.default_rng(seed)
    crops = (rng.random((n, len(channels), *shape)) * dim).astype(np.float32)
    masks = np.zeros((n, *shape), np.uint16)
    for i, mask in enumerate(masks):
        if i % 5 != 4:
            mask[2 : 6 + i % 4, 3:8] = 1
            mask[2:4, 8:10] = 2
        mask[-2:] = 3
    return make_cells(crops=crops, masks=masks, channels=channels, name=f"planted{seed}-{dim}")


def nothing_is_left(cache):
    folder = cache / "cellprofiler"
    return not folder.exists() or all(file.name.startswith("columns-") for file in folder.iterdir())


# ---- the exchange of files


def test_the_values_are_those_of_each_cells_own_crop_and_mask(program, pipeline, cache):
    cells = with_masks(23)
    adata = extract(pipeline(), cells, workers=1)
    assert list(adata.var_names) == [
        "Cells_AreaShape_Area",
        "Cells_Intensity_MeanIntensity_GFP",
        "Cells_Intensity_MeanIntensity_RFP",
    ]
    crops = cells.crops(slice(None), rescale="raw", masks=True)
    for row, crop in zip(adata.X, crops, strict=True):
        cell = np.isin(crop[2], (1, 2))
        expected = [cell.sum(), crop[0][cell].mean(), crop[1][cell].mean()] if cell.any() else [np.nan] * 3
        np.testing.assert_allclose(row, expected, rtol=1e-6)
    assert nothing_is_left(cache)


def test_the_images_are_exactly_the_crops_and_the_object_is_mother_and_bud(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(1)
    crops = rng.random((3, 2, 7, 9), dtype=np.float32)
    cells = rng.random((3, 7, 9)) < 0.5
    cellprofiler_pipeline.write_images(tmp_path / "images", {"GFP": crops[:, 0], "ER_RFP": crops[:, 1]}, cells)
    table = pd.read_csv(tmp_path / "images" / "images.csv")
    assert len(table) == 3
    for number, row in table.iterrows():
        for position, name in enumerate(("GFP", "ER_RFP")):
            with Image.open(Path(row[f"Image_PathName_{name}"]) / row[f"Image_FileName_{name}"]) as image:
                np.testing.assert_array_equal(np.asarray(image), crops[number, position])
                assert image.tag_v2[281] == (
                    255,
                )  # without a scale, CellProfiler takes one step for Costes' thresholds
        with Image.open(Path(row["Image_ObjectsPathName_Cells"]) / row["Image_ObjectsFileName_Cells"]) as image:
            np.testing.assert_array_equal(np.asarray(image), cells[number])


def test_images_have_the_channels_names_in_the_order_of_columns_whatever_the_datasets(program, pipeline, notes):
    first = (Channel("ER-GFP", "marker"), Channel("Yfp 1", "protein"))
    name = pipeline({"MeasureObjectIntensity": ["Select images to measure:Yfp_1, ER_GFP"]}, EXPORT)
    cells = with_masks(6, channels=first)
    turned = make_cells(
        crops=cells.crops(slice(None), rescale="raw")[:, ::-1].copy(),
        masks=cells.crops(slice(None), rescale="raw", masks=True)[:, 2].astype(np.uint16),
        channels=first[::-1],
        name="turned",
    )
    a, b = extract(name, cells, workers=1), extract(name, turned, workers=1)
    assert notes()[-1]["images"] == notes()[0]["images"] == ["Yfp_1", "ER_GFP"]
    pd.testing.assert_frame_equal(a.to_df(), b.to_df())
    twins = cellprofiler_pipeline.image_names((Channel("a b", "protein"), Channel("a-b", "marker")))
    assert twins == ["a_b_1", "a_b_2"]


def test_the_users_input_is_replaced_and_nothing_is_written_elsewhere(program, pipeline, notes):
    mine = {"NamesAndTypes": ["Name to assign these images:GFP"]}
    extract(
        pipeline("Images", "Metadata", mine, "Groups", "SaveImages", MEASURE, EXPORT, "CreateBatchFiles"), with_masks(3)
    )
    assert notes()[-1]["modules"] == ["LoadData", "MeasureObjectIntensity", "ExportToSpreadsheet"]
    settings = [line.strip() for line in notes()[-1]["pipeline"].splitlines()]
    assert "Output file location:Default Output Folder|" in settings
    assert "Add a prefix to file names?:No" in settings
    assert 'Select the column delimiter:Comma (",")' in settings
    assert "Use the object name for the file name?:Yes" in settings
    assert "Rescale intensities?:No" in settings
    assert "Select images to measure:GFP, RFP" in settings


def test_tables_of_images_count_and_names_times_and_texts_do_not(program, pipeline):
    adata = extract(pipeline(MEASURE, EXPORT, "StandInMeasuresImages"), with_masks(4))
    assert list(adata.var_names[-2:]) == ["Image_Granularity_1_GFP", "Image_Count_Cells"]
    assert adata.shape[1] == 5
    np.testing.assert_array_equal(adata.X[:, 3], [10, np.nan, np.nan, np.nan])


def test_a_kind_of_object_that_is_not_in_a_crop_is_missing_and_two_of_it_are_refused(program, pipeline, cache):
    name = pipeline(MEASURE, EXPORT, "StandInFindsSpots")
    cells = with_masks(4, dim=0.8)
    crops = cells.crops(slice(None), rescale="raw")
    crops[2, 0, 3, 4] = 0.95
    one = make_cells(crops=crops, masks=cells.crops(slice(None), rescale="raw", masks=True)[:, 2].astype(np.uint16))
    adata = extract(name, one)
    np.testing.assert_array_equal(adata[:, "Spots_AreaShape_Area"].X[:, 0], [np.nan, np.nan, 1, np.nan])
    assert np.isfinite(adata[:, "Cells_AreaShape_Area"].X).all()
    with pytest.raises(UserError, match=r"several objects 'Spots', .* Keep one in the pipeline \(FilterObjects\)"):
        extract(name, with_masks(4, seed=1))
    assert nothing_is_left(cache)


def test_missing_cells_are_counted_by_the_evaluation(program, pipeline):
    adata = extract(pipeline(), with_masks(20), workers=1)
    adata.obs["label"] = list("ab" * 10)
    (result,) = pci_bench.evaluate("loo-knn", adata, k=3)
    assert (result.details["missing"]["values"], result.details["missing"]["columns"]) == (12, 3)


def test_a_run_goes_on_where_it_stopped_and_two_processes_give_the_same(
    program, pipeline, notes, tmp_path, monkeypatch
):
    cells, name = with_masks(300), pipeline()
    whole = extract(name, cells, workers=1)
    assert [note["sets"] for note in notes()] == [1, 103, 102, 35]  # the first asks for the columns
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "second"))
    runs = []

    def fails_at_the_third(*arguments):
        runs.append(arguments)
        if len(runs) == 3:
            raise UserError("it was killed")
        return cellprofiler_pipeline_measured(*arguments)

    cellprofiler_pipeline_measured = cellprofiler_pipeline.measured
    monkeypatch.setattr(cellprofiler_pipeline, "measured", fails_at_the_third)
    with pytest.raises(UserError, match="it was killed"):
        extract(name, cells, workers=1)
    monkeypatch.setattr(cellprofiler_pipeline, "measured", cellprofiler_pipeline_measured)
    before = len(notes())
    again = extract(name, cells, workers=1)
    assert [note["sets"] for note in notes()[before:]] == [35]
    np.testing.assert_array_equal(whole.X, again.X)
    get_reusable_executor().shutdown()  # joblib's processes outlive a call, and keep the environment of an earlier test
    two = extract(name, cells, workers=2, refresh="always")
    get_reusable_executor().shutdown()
    np.testing.assert_array_equal(whole.X, two.X)


def test_another_pipeline_or_version_of_cellprofiler_is_not_taken_from_the_cache(program, pipeline, notes, monkeypatch):
    cells = with_masks(3)
    versions = [EXTRACTORS.get(pipeline()).meta.version]
    extract(pipeline(), cells)
    extract(pipeline(), cells)
    assert len(notes()) == 2
    extract(pipeline(MEASURE, EXPORT, "StandInMeasuresImages"), cells)
    versions.append(EXTRACTORS.get(pipeline(MEASURE, EXPORT, "StandInMeasuresImages")).meta.version)
    assert len(notes()) == 4
    monkeypatch.setenv("STAND_IN_VERSION", "4.2.6")
    cellprofiler_pipeline._asked_version.cache_clear()
    extract(pipeline(MEASURE, EXPORT, "StandInMeasuresImages"), cells)
    versions.append(EXTRACTORS.get(pipeline(MEASURE, EXPORT, "StandInMeasuresImages")).meta.version)
    assert len(notes()) == 6
    assert len(set(versions)) == 3
    assert "CellProfiler 4.2.6" in versions[-1]


def test_the_packaged_pipeline_measures_the_images_of_the_dataset():
    texts = {
        n: cellprofiler_pipeline.prepared_pipeline(cellprofiler_pipeline.PACKAGED_FILE, images)
        for n, images in ((1, ["YFP"]), (3, ["a", "b", "c"]))
    }
    assert texts[3].count("Select images to measure:a, b, c\n") == 5
    assert texts[1].count("Select images to measure:YFP\n") == 4
    assert "MeasureColocalization" not in texts[1]  # of one image there is none
    assert "ModuleCount:7\n" in texts[1]
    assert "ModuleCount:8\n" in texts[3]
    assert "GFP, RFP" not in texts[1] + texts[3]


def test_the_name_alone_and_with_a_pipeline_are_both_described(program):
    about = {title: dict(rows) for title, rows in described("cellprofiler:default")}
    assert "CellProfiler 4.2.8.1" in about["features cellprofiler:default"]["version"]
    assert "cellprofiler_pipeline.py" in about["features cellprofiler:default"]["defined in"]
    ((_, rows),) = described("cellprofiler")
    assert dict(rows)["title"] == "CellProfiler, measured by cp-measure"
    ((_, rows),) = described("cellprofiler:PIPELINE.cppipe")
    assert "PCI_BENCH_CELLPROFILER" in dict(rows)["about"]
    assert "cellprofiler_pipeline.py" in dict(rows)["defined in"]


# ---- what is met with a sentence


def test_without_cellprofiler_the_feature_set_says_how_to_get_one(pipeline, program, monkeypatch, tmp_path):
    name = pipeline()
    monkeypatch.setenv("PCI_BENCH_CELLPROFILER", str(tmp_path / "none"))
    with pytest.raises(
        UserError, match=r"names .*none, which is no program\. Install CellProfiler .* set PCI_BENCH_CELLPROFILER"
    ):
        extract(name, with_masks(3))
    (tmp_path / "broken").write_text("#!/bin/sh\necho 'no Java here' >&2\nexit 3\n")
    (tmp_path / "broken").chmod(0o755)
    monkeypatch.setenv("PCI_BENCH_CELLPROFILER", str(tmp_path / "broken"))
    with pytest.raises(UserError, match="--version tells no version: no Java here"):
        extract(name, with_masks(3))
    monkeypatch.delenv("PCI_BENCH_CELLPROFILER")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"there is no CellProfiler on the PATH\. Install"):
        extract(name, with_masks(3))
    program.rename(tmp_path / "cellprofiler")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    assert extract(name, with_masks(3)).shape == (3, 3)


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ((MEASURE,), "has no ExportToSpreadsheet module that is enabled; expected one"),
        ((MEASURE, EXPORT, EXPORT), "has 2 ExportToSpreadsheet modules that are enabled; expected one"),
        ((MEASURE, "TrackObjects", EXPORT), "computes over several images (TrackObjects)"),
        (
            ({"CorrectIlluminationCalculate": ["Calculate:All: First cycle"]}, EXPORT),
            "computes over several images (CorrectIlluminationCalculate)",
        ),
        (
            ({"MeasureObjectIntensity": ["Select images to measure:GFP, OrigDNA"]}, EXPORT),
            "The OrigDNA image is missing from the pipeline. The images that it is given are GFP, RFP, the object is Cells",
        ),
        ((MEASURE, "StandInDoesNotKnow", EXPORT), "Could not find the X module. The images"),
        ((MEASURE, "StandInIsKilled", EXPORT), "CellProfiler was killed by signal 9"),
        ((MEASURE, "StandInForgets", EXPORT), "exported no 'Cells_AreaShape_Area'"),
        ((MEASURE, "StandInSaysText", EXPORT), "could not convert string to float: 'many'"),
        ((MEASURE, "StandInMiscounts", EXPORT), "is of image 99, and it was given 3"),
        (
            (MEASURE, "StandInExportsNothing", EXPORT),
            "exports no measurements of objects or images (it wrote no table)",
        ),
    ],
)
def test_a_pipeline_that_cannot_be_used_is_met_with_a_sentence_and_nothing_is_left(
    program, pipeline, cache, modules, words
):
    with pytest.raises(UserError) as error:
        extract(pipeline(*modules), with_masks(3))
    assert words in " ".join(str(error.value).split())
    assert "mine.cppipe" in str(error.value)
    assert nothing_is_left(cache)


def test_a_file_that_is_no_pipeline_is_refused(program, tmp_path):
    for name, content in (("a.cppipe", b"hello"), ("b.cppipe", b"\xff\xfe\x00"), ("c.cppipe", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"is no pipeline: expected a \.cppipe"):
            extract(f"cellprofiler:{tmp_path / name}", with_masks(3))
    with h5py.File(tmp_path / "project.cpproj", "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match=r"A project \(\.cpproj\) is exported as one"):
        extract(f"cellprofiler:{tmp_path / 'project.cpproj'}", with_masks(3))
    with pytest.raises(UserError, match=r"There is no pipeline .*absent\.cppipe\. Export one from CellProfiler"):
        extract(f"cellprofiler:{tmp_path / 'absent.cppipe'}", with_masks(3))
    with pytest.raises(UserError, match="There is no pipeline"):
        extract(f"cellprofiler:{tmp_path}", with_masks(3))


def test_a_module_that_is_disabled_does_not_count(program, tmp_path):
    file = tmp_path / "mine.cppipe"
    file.write_text(text_of(MEASURE, "TrackObjects", EXPORT).replace("enabled:True", "enabled:False", 2))
    assert extract(f"cellprofiler:{file}", with_masks(3)).shape == (3, 3)
    file.write_text(text_of(MEASURE, EXPORT).replace("enabled:True", "enabled:False"))
    with pytest.raises(UserError, match="has no ExportToSpreadsheet module that is enabled"):
        extract(f"cellprofiler:{file}", with_masks(3))


def test_crops_that_are_no_images_of_0_to_1_are_refused(program, pipeline):
    cells = with_masks(3, dim=900.0)
    with pytest.raises(UserError, match="0 to 1, and these crops hold floats"):
        extract(pipeline(), cells)


@pytest.mark.parametrize("name", [pytest.param("SIGTERM", marks=pytest.mark.slow), "SIGINT", "SIGKILL"])
def test_a_command_that_is_ended_ends_its_cellprofiler(program, pipeline, toy_cache, tmp_path, test_data, notes, name):
    feature_set = pipeline(MEASURE, "StandInWaits", EXPORT)
    process = subprocess.Popen(
        [
            SCRIPT,
            "extract",
            feature_set,
            "--dataset",
            "toy-yeast",
            "--limit",
            "20",
            "--workers",
            "1",
            "--out",
            "x.h5ad",
        ],
        env=environment(
            toy_cache, test_data, PCI_BENCH_CELLPROFILER=str(program), STAND_IN_NOTES=str(tmp_path / "notes")
        ),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    deadline = time.monotonic() + 400
    while (
        time.monotonic() < deadline
        and process.poll() is None
        and not ((tmp_path / "notes").exists() and len(notes()) == 2)
    ):
        time.sleep(0.1)
    pid = notes()[1]["pid"]
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=200)
    if name == "SIGKILL":  # nothing can be done by a process that is killed: the next run removes what it left
        os.kill(pid, signal.SIGKILL)
        assert not nothing_is_left(toy_cache)
        with cellprofiler_pipeline.temporary_folder(toy_cache / "cellprofiler"):
            pass
    else:
        assert "continues where it stopped" in said
        while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
            time.sleep(0.1)
        assert not Path(f"/proc/{pid}").exists()
    assert nothing_is_left(toy_cache)


# ---- CellProfiler itself

real = [
    pytest.mark.slow,
    pytest.mark.skipif(
        REAL is None, reason="no CellProfiler: it is not on the PATH, and PCI_BENCH_CELLPROFILER names none"
    ),
]


@pytest.fixture(scope="module")
def oracle(test_data):
    """24 cells, and what CellProfiler 4.2.8.1 measured of them with another pipeline."""
    with np.load(test_data / "cellprofiler-oracle" / "crops.npz") as arrays:
        crops, masks = np.stack([arrays["gfp"], arrays["rfp"]], axis=1), arrays["mask"]
    return crops, masks, pd.read_csv(test_data / "cellprofiler-oracle" / "measurements.csv", index_col="cell")


def largest_difference(a, b):
    a, b = (np.asarray(values, np.float64) for values in (a, b))
    assert (np.isnan(a) == np.isnan(b)).all()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nanmax(np.where(a == b, 0, np.abs(a - b) / np.abs(b)))


def without_pairs(mask, scale):
    """Whether in one of the four directions of texture no two pixels of a cell are as far apart as the scale."""
    padded = np.pad(mask > 0, scale)
    steps = [(0, scale), (scale, scale), (scale, 0), (scale, -scale)]
    return any(not (padded & np.roll(padded, step, axis=(0, 1))).any() for step in steps)


@pytest.mark.parametrize("own", [pytest.param(None, marks=real)])
def test_cellprofiler_itself_measures_what_the_oracle_and_cp_measure_say(oracle, own):
    crops, masks, measured = oracle
    cells = make_cells(crops=crops, masks=masks.astype(np.uint16))
    theirs = extract("cellprofiler:default", cells, workers=1).to_df()
    ours = extract("cellprofiler", cells, workers=1).to_df()
    assert largest_difference(theirs["Cells_" + measured.columns], measured) < 1e-5
    shared = [name for name in ours if f"Cells_{name}" in theirs]
    assert [name for name in ours if "Rescaled" not in name] == shared
    assert len(shared) == 583
    theirs, ours = theirs[[f"Cells_{name}" for name in shared]].set_axis(shared, axis=1), ours[shared]
    narrow = [without_pairs(mask, 10) for mask in masks]
    undefined = np.outer(narrow, [name.startswith("Texture_") and "_10_" in name for name in shared])
    assert sum(narrow) == 1
    assert (theirs.to_numpy()[undefined] == 0).all()  # where a cell is narrower than the scale, CellProfiler says 0
    assert ours.isna().to_numpy()[undefined].all()  # and this package that there is no such texture
    assert largest_difference(theirs.mask(undefined), ours) < 1e-5


@pytest.mark.parametrize("own", [pytest.param(None, marks=real)])
def test_cellprofiler_itself_says_what_it_lacks_and_leaves_nothing(oracle, own, tmp_path, cache):
    text = cellprofiler_pipeline.PACKAGED_FILE.read_text()
    file = tmp_path / "mine.cppipe"
    cells = make_cells(crops=oracle[0][:2], masks=oracle[1][:2].astype(np.uint16))
    for change, words in (
        (
            ("GFP, RFP", "GFP, OrigDNA"),
            "The OrigDNA image is missing from the pipeline. The images that it is given are GFP, RFP",
        ),
        (("MeasureGranularity:", "MeasureGranulosity:"), "Could not find the MeasureGranulosity module"),
        (("measure:Cells", "measure:Nuclei"), "Nuclei"),
    ):
        file.write_text(text.replace(*change))
        with pytest.raises(UserError) as error:
            extract(f"cellprofiler:{file}", cells)
        assert words in str(error.value)
        assert nothing_is_left(cache)


@pytest.mark.parametrize("own", [pytest.param(None, marks=real)])
def test_cellprofiler_itself_runs_a_pipeline_that_was_built_for_other_files(oracle, own):
    """Images, NamesAndTypes and Groups at its head; blobs found in one channel; two tables combined in one file."""
    crops, masks, _ = oracle
    cells = make_cells(crops=crops[:3], masks=masks[:3].astype(np.uint16))
    file = Path(__file__).with_name("cellprofiler_blobs.cppipe")
    values = extract(f"cellprofiler:{file}", cells).to_df()
    assert (values["Cells_Children_Blobs_Count"] >= 1).all()
    assert np.isfinite(values["Cells_Mean_Blobs_Intensity_MeanIntensity_GFP"]).all()
    for name, expected in (
        (
            "Cells_Intensity_MeanIntensity_RFP",
            [crop[1][mask == 1].mean() for crop, mask in zip(crops, masks, strict=True)],
        ),
        ("Image_Intensity_MaxIntensity_GFP", crops[:, 0].max(axis=(1, 2))),
    ):
        np.testing.assert_allclose(values[name], expected[:3], rtol=1e-5)
    assert not [name for name in values if "FileName" in name or "ExecutionTime" in name or "Number" in name]
