"""A user's own CellProfiler, run headless: crops and masks out as an image list, the tables of a pipeline in."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pci_bench import Cells, Channel, Compute, Extractor, ExtractorMeta, UserError, register_extractor
from pci_bench.system.files import atomic_file, cache_folder, sha256_of, temporary_folder, user_path
from pci_bench.system.interruption import undone

from .cellprofiler import out_of_range, reading_order

EXCHANGE = "1"  # raised when other files are given to CellProfiler, or its tables are read otherwise
EXECUTABLE = "PCI_BENCH_CELLPROFILER"
PACKAGED = "default"
OBJECTS = "Cells"
PACKAGED_FILE = Path(__file__).with_name("cellprofiler_default.cppipe")
PACKAGED_IMAGES = "GFP, RFP"  # in the packaged pipeline, they stand for all images of the dataset
MAX_SAMPLE_VALUE = (
    281  # a TIFF tag; CellProfiler takes it for the scale of an image, which Costes' thresholds step through
)
SCALE = 255  # what CellProfiler takes where no file tells
IMPORTING = ("Images", "Metadata", "NamesAndTypes", "Groups", "LoadData", "LoadImages", "LoadSingleImage")
WRITING_ELSEWHERE = ("CreateBatchFiles", "ExportToDatabase", "SaveImages", "SaveCroppedObjects")
ACROSS_IMAGES = ("TrackObjects", "MakeProjection")
EXPORT = "ExportToSpreadsheet"
EXPORT_SETTINGS = {
    "Select the column delimiter": 'Comma (",")',
    "Add image metadata columns to your object data file?": "No",
    "Add image file and folder names to your object data file?": "No",
    "Output file location": "Default Output Folder|",
    "Create a GenePattern GCT file?": "No",
    "Add a prefix to file names?": "No",
    "Combine these object measurements with those of the previous object?": "No",
    "Use the object name for the file name?": "Yes",
}
# Categories of columns that say which object or file a row is of, or how long it took, and nothing of the cell.
# fmt: off
NO_FEATURES = frozenset((
    "ImageNumber", "ObjectNumber", "Number", "Parent", "FileName", "PathName", "URL", "MD5Digest", "Scaling", "Height",
    "Width", "Series", "Frame", "Channel", "Group", "ImageSet", "Metadata", "ExecutionTime", "ModuleError",
    "ProcessingStatus", "ObjectsFileName", "ObjectsPathName", "ObjectsURL", "ObjectsSeries", "ObjectsFrame",
    "ObjectsChannel",
))
# fmt: on


@register_extractor("cellprofiler", argument="PIPELINE.cppipe")
class CellProfilerPipeline(Extractor):
    """What a pipeline of CellProfiler measures, run by a CellProfiler that is installed on this computer.

    It is found on the PATH as ``cellprofiler``, or named by the environment variable ``PCI_BENCH_CELLPROFILER``.
    ``cellprofiler:default`` is a pipeline that comes with this package and measures what the feature set ``cellprofiler`` does.

    Every crop is an image set of its own. The pipeline's modules for input are replaced by a LoadData that gives each channel
    as an image by its name in the dataset, and the cell in the middle as the object ``Cells``. Columns are ``Object_Measurement``
    as ExportToSpreadsheet writes them; a kind of object that is not found in a crop is NaN.
    """

    def __init__(self, argument: str):
        self.argument = argument
        packaged = argument == PACKAGED
        self.path = PACKAGED_FILE if packaged else user_path(argument, "The pipeline", text=True)
        self.digest = sha256_of(self.path) if self.path.is_file() else "none"
        self.cellprofiler = version_of(executable())
        self.meta = ExtractorMeta(
            f"cellprofiler:{argument}",
            f"{EXCHANGE}, CellProfiler {self.cellprofiler or 'not found'}, pipeline {self.digest[:16]}",
            f"CellProfiler, {'its modules of object measurement' if packaged else self.path.name}",
            rescale="raw",
            roles=(),
            batch=128,
            masks=True,
            processes=True,
            allows_nan=True,
        )

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return that there is no CellProfiler, or that the crops' values are not 0 to 1, or None.

        Raises
        ------
        UserError
            For a pipeline that cannot be run: the user named it.
        """
        prepared_pipeline(self.path, image_names(cells.channels))
        if reason := executable_reason():
            return reason
        first = cells.stored(slice(0, 256))
        return None if first.dtype.kind == "u" else out_of_range(first)

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return the columns that the pipeline exports; CellProfiler is asked once for each pipeline and its channels."""
        return columns_of(self.path, self.digest, self.cellprofiler, tuple(image_names(channels)))

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return a function that runs CellProfiler on a batch; where no cell was found, all is NaN."""
        names = self.names("", channels)
        images, order = image_names(channels), reading_order(channels)
        pipeline = prepared_pipeline(self.path, images)

        def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            pixels, cells = crops[:, order], np.isin(crops[:, -1], (1, 2))
            if reason := out_of_range(pixels):
                raise UserError(f"The feature set {self.meta.name} cannot be measured: {reason}.")
            values = np.full((len(crops), len(names)), np.nan, np.float32)
            present = np.flatnonzero(cells.any(axis=(1, 2)))
            if present.size:
                tables = measured(
                    self.path, pipeline, dict(zip(images, pixels[present].swapaxes(0, 1), strict=True)), cells[present]
                )
                with np.errstate(over="ignore"):
                    values[present] = values_by_name(tables, names, len(present), self.path)
            values[~np.isfinite(values)] = np.nan
            return {"": values}

        return compute


# ---- CellProfiler itself


def executable() -> Path | None:
    """Return the CellProfiler that the environment variable names, else the one on the PATH; None where there is none."""
    named = os.environ.get(EXECUTABLE)
    found = (
        shutil.which(os.path.expanduser(named))
        if named
        else shutil.which("cellprofiler") or shutil.which("CellProfiler")
    )
    return Path(found).absolute() if found else None


def executable_reason() -> str | None:
    """Return why no CellProfiler can be run and what to do about it, or None."""
    named = os.environ.get(EXECUTABLE)
    how = (
        f"Install CellProfiler 4.2 (https://cellprofiler.org) in an environment of its own, and set {EXECUTABLE} to its "
        "executable. The feature set cellprofiler measures the crops without it"
    )
    path = executable()
    if path is None:
        return (
            f"{EXECUTABLE} names {named}, which is no program. {how}"
            if named
            else f"there is no CellProfiler on the PATH. {how}"
        )
    if not version_of(path):
        return f"{path} --version tells no version: {_last_words(_asked_version(path)[1])}. {how}"
    return None


def version_of(path: Path | None) -> str:
    """Return the version that a CellProfiler says of itself; empty for none."""
    return _asked_version(path)[0] if path else ""


@functools.cache
def _asked_version(path: Path) -> tuple[str, str]:
    """Return the version and all that a program said when it was asked for it."""
    try:
        asked = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, env=environment(), check=False
        )
    except OSError as error:
        return "", str(error)
    lines = re.findall(r"^\s*(\d+\.\d+[\w.+-]*)\s*$", asked.stdout.decode(errors="replace"), re.MULTILINE)
    said = asked.stderr.decode(errors="replace") or asked.stdout.decode(errors="replace")
    return (lines[-1], said) if lines and asked.returncode == 0 else ("", said)


def environment() -> dict[str, str]:
    """Return the environment of a CellProfiler: one thread, and nothing of this process's own Python."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return kept | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


# ---- pipelines


@dataclass(frozen=True)
class Module:
    """One module of a pipeline: its name, what stands in brackets behind it, and its settings in their order."""

    name: str
    attributes: str
    settings: tuple[tuple[str, str], ...]

    @property
    def enabled(self) -> bool:
        """Whether it is run."""
        return "|enabled:False" not in self.attributes

    def text(self, number: int) -> str:
        """Return the module as a pipeline file has it."""
        attributes = re.sub(r"module_num:\d+", f"module_num:{number}", self.attributes)
        return "".join([f"{self.name}:{attributes}\n", *(f"    {name}:{value}\n" for name, value in self.settings)])


def read_pipeline(path: Path) -> tuple[list[str], list[Module]]:
    """Return a pipeline's lines before its modules, and its modules.

    Raises
    ------
    UserError
        Where there is no such file, or it is no pipeline as text.
    """
    if not path.is_file():
        raise UserError(
            f"There is no pipeline {path}. Export one from CellProfiler (File, Export, Pipeline), or name cellprofiler:{PACKAGED}."
        )
    try:
        text = path.read_bytes()[: 2**26].decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    header, *blocks = re.split(r"\n(?=[A-Za-z0-9]+:\[)", text.replace("\r\n", "\n"))
    if not header.startswith("CellProfiler Pipeline:") or not blocks:
        raise UserError(
            f"{path} is no pipeline: expected a .cppipe, a text that begins with 'CellProfiler Pipeline:'. A project "
            "(.cpproj) is exported as one by File, Export, Pipeline."
        )
    modules = []
    for block in blocks:
        first, *lines = block.splitlines()
        name, _, attributes = first.partition(":")
        pairs = [line.lstrip().partition(":") for line in lines if line.startswith(" ")]
        modules.append(Module(name, attributes, tuple((setting, value) for setting, _, value in pairs)))
    return [line for line in header.splitlines() if line], modules


def prepared_pipeline(path: Path, images: Sequence[str]) -> str:
    """Return a pipeline as it is run: the image list as its input, its tables by known names, and no other output.

    Raises
    ------
    UserError
        For a pipeline that exports no tables, or whose measurements of a cell would depend on other cells.
    """
    header, modules = read_pipeline(path)
    exports = [module for module in modules if module.name == EXPORT and module.enabled]
    if len(exports) != 1:
        raise UserError(
            f"The pipeline {path} has {len(exports) or 'no'} {EXPORT} module{'s' * (len(exports) > 1)} that {'are' if len(exports) > 1 else 'is'} "
            f"enabled; expected one, whose tables become the columns."
        )
    for module in modules:
        across = module.name in ACROSS_IMAGES or (
            module.name == "CorrectIlluminationCalculate" and any(v.startswith("All") for _, v in module.settings)
        )
        if across and module.enabled:
            raise UserError(
                f"The pipeline {path} computes over several images ({module.name}), and every cell is an image set of its own "
                "here: its numbers would depend on the cells beside it. Disable this module."
            )
    (loading,) = (module for module in read_pipeline(PACKAGED_FILE)[1] if module.name == "LoadData")
    kept = [loading, *(m for m in modules if m.name not in IMPORTING + WRITING_ELSEWHERE)]
    if path == PACKAGED_FILE:
        kept = [_for_images(m, images) for m in kept if len(images) > 1 or m.name != "MeasureColocalization"]
    kept = [
        replace(m, settings=tuple((name, EXPORT_SETTINGS.get(name, value)) for name, value in m.settings))
        if m.name == EXPORT
        else m
        for m in kept
    ]
    head = [f"ModuleCount:{len(kept)}" if line.startswith("ModuleCount:") else line for line in header]
    return "\n".join(["\n".join(head) + "\n", *(module.text(number) for number, module in enumerate(kept, start=1))])


def _for_images(module: Module, images: Sequence[str]) -> Module:
    """Return a module of the packaged pipeline that measures a dataset's images."""
    settings = ((n, ", ".join(images) if value == PACKAGED_IMAGES else value) for n, value in module.settings)
    return replace(module, settings=tuple(settings))


def image_names(channels: Sequence[Channel]) -> list[str]:
    """Return the channels' names as CellProfiler's images, in the order of columns: letters, digits and ``_``.

    >>> image_names([Channel("ER-GFP", "marker"), Channel("Yfp 1", "protein")])
    ['Yfp_1', 'ER_GFP']
    """
    names = [re.sub(r"[^A-Za-z0-9_]+", "_", channels[position].name) for position in reading_order(channels)]
    return [name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names, start=1)]


# ---- one run


def measured(
    path: Path, pipeline: str, images: dict[str, np.ndarray], cells: np.ndarray
) -> dict[str, list[dict[str, str]]]:
    """Return the tables that CellProfiler exports of some cells, by object (or ``Image``).

    Parameters
    ----------
    path, pipeline
        Where the pipeline is, for messages, and its text as it is run.
    images
        By name, (cells, rows, columns) float32 from 0 to 1.
    cells
        (cells, rows, columns) bool: the pixels of each cell.

    Raises
    ------
    UserError
        Where CellProfiler cannot be run, fails or is killed.
    """
    program = executable()
    if program is None:
        raise UserError(f"CellProfiler cannot be run: {executable_reason()}.")
    with temporary_folder(cache_folder() / "cellprofiler") as folder:
        (folder / "pipeline.cppipe").write_text(pipeline, encoding="utf-8", newline="\n")
        write_images(folder / "images", images, cells)
        # fmt: off
        command: list[str | Path] = [
            program, "-c", "-r", "-p", folder / "pipeline.cppipe", f"--data-file={folder / 'images' / 'images.csv'}",
            "-o", folder / "tables", "-t", folder / "temporary", "-d", folder / "done", "-L", "ERROR",
        ]
        # fmt: on
        code = _run(command, folder)
        log = (folder / "log").read_text(encoding="utf-8", errors="replace")
        if _completed(folder, log):
            return read_tables(folder / "tables")
    killed = (
        -code if code < 0 else code - 128 if 128 < code < 160 else 0
    )  # a shell script's status is 128 and the signal
    advice = (
        "Run the same command again: it continues where it stopped. Where the system killed it for want of memory, use "
        "fewer --workers."
        if killed
        else f"The images that it is given are {', '.join(images)}, the object is {OBJECTS}; a pipeline must ask for these names."
    )
    how = f"was killed by signal {killed}" if killed else "failed"
    raise UserError(f"CellProfiler {how} in the pipeline {path}: {_last_words(log)}. {advice}")


def _completed(folder: Path, log: str) -> bool:
    """Return whether CellProfiler ran the whole pipeline; modules that it does not know it leaves out, and goes on."""
    done = folder / "done"
    return (
        done.is_file()
        and done.read_text(encoding="utf-8").strip() == "Complete"
        and "Failed to load pipeline" not in log
    )


def _run(command: Sequence[str | Path], folder: Path) -> int:
    """Run a program to its end, however long it takes, and return its exit status; it ends when this process is ended."""
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=folder,
            env=environment(),
            start_new_session=os.name == "posix",  # so that a script's own processes are ended with it
        ) as process,
    ):

        def end() -> None:
            with suppress(OSError):
                if os.name == "posix":
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()

        with undone(end):
            try:
                return process.wait()
            except BaseException:
                end()
                raise


def _last_words(log: str) -> str:
    """Return the last lines of a log as a clause, without the frames of a traceback."""
    lines = [
        line.strip() for line in log.splitlines() if line.strip() and not line.startswith((" ", "\t", "Traceback"))
    ]
    return " / ".join(lines[-3:])[-600:].rstrip(".") or "it said nothing"


def write_images(folder: Path, images: dict[str, np.ndarray], cells: np.ndarray) -> None:
    """Write crops and masks as TIFF, and ``images.csv``, which is LoadData's list of them: an image set for each cell."""
    import tifffile

    folder.mkdir()
    scale = [(MAX_SAMPLE_VALUE, "H", 1, SCALE, True)]
    rows = []
    for number, cell in enumerate(cells, start=1):
        row: dict[str, str] = {}
        for position, (name, crops) in enumerate(images.items()):
            image = folder / f"{number}-{position}.tiff"
            tifffile.imwrite(image, crops[number - 1].astype(np.float32), extratags=scale, metadata=None)
            row |= {f"Image_FileName_{name}": image.name, f"Image_PathName_{name}": str(folder)}
        mask = folder / f"{number}-objects.tiff"
        tifffile.imwrite(mask, cell.astype(np.uint8), metadata=None)
        row |= {f"Image_ObjectsFileName_{OBJECTS}": mask.name, f"Image_ObjectsPathName_{OBJECTS}": str(folder)}
        rows.append(row)
    with (folder / "images.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_tables(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return the rows of the tables that are of images or of objects, by the file's name; a row is {column: text}."""
    tables = {}
    for file in sorted(folder.glob("*.csv")):
        with file.open(encoding="utf-8-sig", newline="", errors="replace") as lines:
            reader = csv.DictReader(lines)
            if "ImageNumber" in (reader.fieldnames or ()):
                header = {name: name for name in reader.fieldnames or ()}
                tables[file.stem] = [header, *reader]
    return tables


# ---- from tables to columns


def feature_names(tables: dict[str, list[dict[str, str]]]) -> dict[str, tuple[str, str]]:
    """Return the columns that are features, each with its table and its name there; those of objects first, images last."""
    in_order = sorted(tables, key=lambda name: (name == "Image", name))
    return {
        f"{table}_{column}": (table, column)
        for table in in_order
        for column in tables[table][0]
        if column and column.partition("_")[0] not in NO_FEATURES and not column.endswith("Number_Object_Number")
    }


def values_by_name(tables: dict[str, list[dict[str, str]]], names: Sequence[str], n: int, path: Path) -> np.ndarray:
    """Return the values (n, columns) of the cells of a run; NaN where a kind of object was not found.

    Raises
    ------
    UserError
        Where a table or column is missing, a value is no number, or a cell has several objects of a kind.
    """
    places = feature_names(tables)
    if missing := [name for name in names if name not in places]:
        raise UserError(
            f"CellProfiler exported no '{missing[0]}' in the pipeline {path}, which it did at first ({len(missing)} columns are missing). "
            f"Measurements must be the same for every image: change the pipeline, or the choice of columns in {EXPORT}."
        )
    values = np.full((n, len(names)), np.nan)
    columns: dict[str, list[tuple[int, str]]] = {}
    for position, name in enumerate(names):
        table, column = places[name]
        columns.setdefault(table, []).append((position, column))
    for table, wanted in columns.items():
        seen: set[int] = set()
        for row in tables[table][1:]:
            try:
                cell = int(row["ImageNumber"]) - 1
                numbers = [float(row[column] or "nan") for _, column in wanted]
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"CellProfiler's table {table}.csv of the pipeline {path} holds a row that cannot be read as numbers ({error}). "
                    f"Leave such columns out in {EXPORT}."
                ) from error
            if not 0 <= cell < n:
                raise UserError(
                    f"CellProfiler's table {table}.csv of the pipeline {path} is of image {cell + 1}, and it was given {n}."
                )
            if cell in seen:
                raise UserError(
                    f"The pipeline {path} gives a cell several objects '{table}', and one row per cell is expected. Keep one in the "
                    f"pipeline (FilterObjects), or leave '{table}' out in {EXPORT}; RelateObjects gives their means to '{OBJECTS}'."
                )
            seen.add(cell)
            values[cell, [position for position, _ in wanted]] = numbers
    return values


@functools.cache
def columns_of(path: Path, digest: str, version: str, images: tuple[str, ...]) -> list[str]:
    """Return the names of the columns that a pipeline exports, from a run on one synthetic cell that is kept in the cache."""
    identity = [EXCHANGE, digest, version, images]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]
    file = cache_folder() / "cellprofiler" / f"columns-{key}.json"
    with suppress(OSError, ValueError):
        kept = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(kept, list) and kept and all(isinstance(name, str) for name in kept):
            return kept
    cell, crops = _synthetic_cell(len(images))
    pipeline = prepared_pipeline(path, images)
    tables = measured(path, pipeline, dict(zip(images, crops[:, None], strict=True)), cell[None])
    names = [name for name, (table, column) in feature_names(tables).items() if _are_numbers(tables[table][1:], column)]
    if not names:
        raise UserError(
            f"The pipeline {path} exports no measurements of objects or images (it wrote {', '.join(tables) or 'no table'}). "
            f"Choose '{OBJECTS}' in {EXPORT}, 'Data to export'."
        )
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(names), encoding="utf-8", newline="\n")
    return names


def _are_numbers(rows: Sequence[dict[str, str]], column: str) -> bool:
    try:
        return all(isinstance(float(row[column] or "nan"), float) for row in rows)
    except (TypeError, ValueError):
        return False


def _synthetic_cell(channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mask (64, 64) of a round cell and its crops (channels, 64, 64): a blob over a noisy background."""
    rows, columns = np.mgrid[:64, :64]
    distance = np.hypot(rows - 31, columns - 33)
    noise = np.random.default_rng(0).random((channels, 64, 64))
    return distance < 18, (0.6 * np.exp(-((distance / 12) ** 2)) + 0.1 * noise).astype(np.float32)
