"""What the documentation says works: its commands, its Python, its files, its links, and the pictures of the gallery.

Every `pci-bench` command of README.md and docs/ is parsed by the real command line, and all names in it must exist. Those in blocks of
bash are run too, page by page in one folder, with simulated collections of the same names that have fewer cells.
"""

from __future__ import annotations

import dataclasses
import glob
import importlib
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile
from command_line import call
from joblib.externals.loky import get_reusable_executor
from screens import write_screen

import pci_bench
from pci_bench import weights
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.api.model import MODELS
from pci_bench.api.plugins import load_plugin
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.cli.app import command_line
from pci_bench.data.annotation_sources import annotation_sources
from pci_bench.datasets import DATASETS, human_sim, yeast_sim
from pci_bench.features.names import groups, known_feature_sets, select
from pci_bench.reporting.describe import described
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.runs import outputs
from pci_bench.runs.tolerance import read_tolerance
from pci_bench.segmentation import SEGMENTERS
from pci_bench.simulation.yeast.screen import CLASSES

ROOT = Path(__file__).resolve().parents[1]
FIRST = ["docs/quick-start.md", "README.md"]  # what later pages use is made here
PAGES = [*FIRST, *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md") if p.name != "quick-start.md")]

GALLERY = (
    "docs/gallery.md"  # its commands are those of tables.md with the dataset named, and are compared with its program
)

READERS_DATASET = "my-screen"  # which prepare.md makes of fields of view

# Commands that are parsed and not run, with the reason.
NOT_RUN = {
    "extract pci-conv4 --dataset yeast-sim --out features.h5ad --scheduler": "the cluster is the reader's; tests/test_cluster.py starts one",
    "extract pci-conv4 --dataset yeast-sim --out features.h5ad --device cuda": "it needs a GPU; tests/test_extraction.py gives another batch",
    "run knn --dataset s3://my-bucket/": "the bucket is the reader's; tests/test_object_stores.py has one",
    "study rxrx1-organelles": "its images are fetched; tests/test_study.py runs studies of others",
    "data layout my.zarr": "it needs a SpatialData store: tests/test_spatial_data.py writes some",
    "data prepare spatial.toml": "it is the layout of that store",
    "run yeast-knn --dataset toy-yeast": "toy-yeast is fetched from its authors' repository",
    "run organelles-knn": "its images are fetched; tests/faults/test_images_fetched_one_by_one.py does so from a local server",
    "reproduce table1": "it fetches; tests/test_reproduce.py does so from a local server",
    "data get bbbc021": "its files are fetched; reproductions/test_bbbc021.py reads them",
    "data get yeast-proteome": "likewise",
    "run bbbc021-moa": "likewise",
    "run confounders --dataset rxrx1-organelles": "likewise; contract tests run each of its evaluators",
    "run metrics --dataset rxrx1-organelles": "likewise; tests/test_evaluation_benchmarks.py runs it on others",
    "run ladder --dataset rxrx1-organelles": "likewise; tests/test_ladder.py evaluates planted cells",
    "run robustness --dataset rxrx1-organelles": "likewise; tests/test_robustness.py evaluates planted cells",
    "compare-features pci-conv4 classic-haralick": "it reads that run; tests/test_paired.py compares others",
    "run calibration --dataset rxrx1-organelles": "likewise",
    "run complementarity --dataset rxrx1-organelles": "likewise",
    "run postprocessing": "likewise; tests/test_postprocessing.py runs post-processings on others",
    "run label-efficiency": "likewise; tests/test_label_efficiency.py evaluates planted cells",
    "run transfer": "likewise; tests/test_transfer.py has planted results",
    "run change-profiles": "likewise; reproductions/test_published_changes.py runs it",
    "run yeast-proteome-knn": "likewise; reproductions/test_yeast_proteome.py runs it",
    "run yeast-proteome-screens": "likewise",
    "run yeast-knn --dataset 'profiles:my/wells.csv": "the table is the reader's; tests/test_profiles.py writes one",
    "train pci --dataset rxrx1-organelles-train": "likewise, and it takes an hour",
    "train paired-contrastive --dataset rxrx1-organelles-train": "likewise",
    "train masked-autoencoder --dataset folder:my/crops": "its batch is larger than these crops; tests/test_parallel_training.py trains in slices",
    "weights get": "it fetches; tests/test_published_weights.py does so from a local server",
    "run vgg16-layers --features vgg16": "it needs ImageNet weights",
    "run yeast-umap": "UMAP compiles for ten seconds; reproductions/test_supplementary_figure3.py runs it",
    "run yeast-screens": "likewise; reproductions/test_figure3.py runs it",
    "run yeast-knn --features controls,file:mine.parquet": "controls hold a network of full width; quick-start.md runs the file with others",
    "run human-proteome --dataset nop1pr-orf": "the crops are had from their authors on request",
    "data get hpa-v18": "it is fetched; tests/test_human_protein_atlas.py does so from a local server",
    "data get cyclops-wt2": "it is fetched; tests/test_cyclops.py does so from a local server",
    "data get go-": "it is fetched; tests/test_annotation_sources.py does so from a local server",
    "data get huh2003": "likewise",
    "run human-distances --dataset hpa-v18": "its images are fetched",
    "run human-proteome --dataset hpa-v18": "likewise",
    "compare old new": "these two folders are the reader's",
    "describe ring-means": "tests/test_plugin_package.py installs the package and runs it",
    "test ring-means": "likewise",
    "run rings": "likewise",
    "train two-views": "likewise",
}
# What a command is run with beyond what is printed, so that it takes seconds.
SHORTENED = {
    "run yeast-knn": ["--features", "pci-conv4,designed,intensity,deeploc-fc2", "--k", "1,11"],
    "run yeast-classifiers": ["--features", "intensity", "--set", "trees=5"],
    "run human-distances": ["--features", "pci-conv3,intensity", "--set", "pairs=50"],
    "run human-cell-lines": ["--features", "pci-conv3,intensity", "--set", "pairs=200"],
    "run human-multilocalization": ["--features", "pci-conv3"],
    "run human-proteome": ["--features", "intensity"],
    "run inpainting": ["--dataset", "human-sim", "--set", "pairs=20", "--set", "labels=2"],
    "run why-maps": ["--dataset", "yeast-sim", "--features", "intensity", "--limit", "150", "--set", "classes=2"],
    "train pci": ["--epochs", "1", "--width", "0.1", "--batch", "4"],
}
PLUG_IN = re.compile(r'"""(\w+\.py): ')  # a block of Python that is a file of its own
# Blocks of Python that are not run.
ELSEWHERE = {
    "import numpy as np, tensorflow as tf": "it needs TensorFlow and the published checkpoint",
    "from dask_jobqueue": "it needs SLURM",
    "from dask_kubernetes": "it needs Kubernetes",
}


@dataclass(frozen=True)
class Block:
    """A fenced block: the page it is on, its language, its text."""

    page: str
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    found = re.findall(r"^( *)```(\w*)\n(.*?)^\1```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [Block(page, language, text) for _, language, text in found]


def commands_of(text: str) -> Iterator[list[str]]:
    """Yield the words of every command; `&&` separates commands, `#` begins a comment, and a path before a name is left out."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            if words := shlex.split(part, comments=True):
                yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


def of_pci_bench(page: str) -> list[list[str]]:
    """Return the arguments of every pci-bench command in a page's blocks and text, but those with gaps for the reader."""
    text = (ROOT / page).read_text()
    found = [c for b in blocks(page) if b.language == "bash" for c in commands_of(b.text)]
    found += [shlex.split(c) for c in re.findall(r"(?<=- run: )pci-bench [^|>\n]+", text)]  # a workflow of GitHub
    found += [shlex.split(c, comments=True) for c in re.findall(r"^    (pci-bench [^\n]+)", text, re.MULTILINE)]
    for code in re.findall(r"(?<!`)`(pci-bench [a-z][^`]*)`(?!`)", text):
        words = shlex.split(code)
        if not any("…" in w or re.search(r"(^|[:=@])[A-Z_]{3,}", w) for w in words):
            found.append(words)
    return [words[1:] for words in found if words[0] == "pci-bench"]


def written(folder: Path) -> dict[str, Path]:
    """Write every plug-in that a page prints, and the example package's module, into a folder."""
    files = {"ring_means.py": (ROOT / "docs/example-plugin/rings/ring_means.py").read_text()}
    for block in (b for page in PAGES for b in blocks(page)):
        if block.language == "python" and (name := PLUG_IN.match(block.text)):
            files[name[1]] = block.text
    for name, text in files.items():
        (folder / name).write_text(text)
    return {name: folder / name for name in files}


@pytest.fixture
def registries(own_registries):
    """Let every test register what it likes."""


# ---- names and options


def parsed(arguments: list[str]) -> tuple[str, dict]:
    """Return the command and its options as the command line reads them."""
    command, context = command_line(), None
    names: list[str] = []
    rest = list(arguments)
    while hasattr(command, "commands"):  # a group; none of ours has options that precede the command
        context = command.make_context("pci-bench", rest, parent=context)
        name, *rest = rest
        command = command.commands[name]
        names.append(name)
    return " ".join(names), command.make_context(names[-1], rest, parent=context).params


def check_names(command: str, options: dict) -> None:
    """Raise where a name in a command is none of ours, or of what a page lets the reader make."""
    datasets = options.get("dataset") or []
    for dataset in [datasets] if isinstance(datasets, str) else datasets:
        if dataset != READERS_DATASET:
            DATASETS.get(dataset)
    if features := options.get("features"):
        texts = [features] if isinstance(features, str) else features
        select([name for text in texts for name in text.split(",")])
    if command == "run":
        if options["benchmark"] is None:
            assert options["record"] is not None
            return
        benchmark = BENCHMARKS.get(options["benchmark"]).with_evaluators(
            filter(None, (options["with_"] or "").split(","))
        )
        evaluators = [e.name for e in benchmark.evaluate]
        check_parameters(evaluators, options["set_"])
        SEGMENTERS.get(options["segmenter"])
    elif command == "evaluate":
        evaluators = options["with_"].split(",")
        check_parameters(evaluators, options["set_"])
    elif command == "train":
        MODELS.get(options["model"])
    elif command == "table":
        assert TABLES.get(options["name"])
    elif command in ("describe", "test"):
        assert described(options["name"])
    elif command.startswith("data ") and options.get("name", READERS_DATASET) != READERS_DATASET:
        assert options["name"] in annotation_sources() or DATASETS.get(options["name"])
    elif command == "weights get":
        family, _, name = options["name"].partition("@")
        assert name in weights.declared()[family], f"{family} has no weights {name}"
    elif command == "weights import":
        weights.IMPORTERS.get(options["kind"])


def check_parameters(evaluators: list[str], settings: list[str] | None) -> None:
    known = {name for e in evaluators for name in EVALUATORS.get(e).Params.model_fields}
    for setting in settings or ():
        name, equals, _ = setting.partition("=")
        assert equals
        assert name in known, f"{', '.join(evaluators)} have no parameter {name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_has_options_and_names_that_exist(page, registries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.parquet").touch()  # the reader's
    for file in written(tmp_path).values():
        if file.name != "ring_means.py":  # which is part of the package
            load_plugin(file)
    load_plugin(ROOT / "docs/example-plugin/rings")
    for arguments in of_pci_bench(page):
        try:
            check_names(*parsed(arguments))
        except Exception as error:
            pytest.fail(f"{page}: pci-bench {shlex.join(arguments)}: {type(error).__name__}: {error}")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("runs yeast-knn", "runs"),
        ("run yeast-knn --kk 3", "--kk"),
        ("run yeast-knnn", "yeast-knnn"),
        ("run yeast-knn --features intensitty", "intensitty"),
        ("run yeast-knn --dataset yeast-simm", "yeast-simm"),
        ("run yeast-knn --set pairs=3", "pairs"),
        ("table table9", "table9"),
        ("list feature", "feature"),
        ("weights get pci@nobody", "nobody"),
        ("train pci", "dataset"),
    ],
)
def test_a_wrong_command_is_noticed(wrong, said, registries):
    try:
        check_names(*parsed(wrong.split()))
    except Exception as error:
        told = f"{error} {getattr(error, 'param', '')} {getattr(error, 'option_name', '')}"
        assert said in told
    else:
        pytest.fail(f"pci-bench {wrong} is taken for a command")


def test_the_example_that_ends_every_description_is_a_command_with_names_that_exist(registries):
    names = [*DATASETS, *known_feature_sets(), *groups(), *EVALUATORS, *BENCHMARKS, *TABLES, *MODELS, *SEGMENTERS]
    names += [f"{family}@{name}" for family, named in weights.declared().items() for name in named]
    for name in names:
        for title, rows in described(name):
            (what, example) = rows[-1]
            assert what == "example", title
            if not re.search(r"[A-Z]{3,}", example):  # what is the reader's
                check_names(*parsed(shlex.split(example)[1:]))


def test_every_public_name_is_on_the_page_of_the_python_interface():
    documented = [
        target.rsplit(".", 1) for target in re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.M)
    ]
    objects = [getattr(importlib.import_module(module), name) for module, name in documented]
    assert len(objects) == len({id(value) for value in objects})
    public = {
        name: value for name in pci_bench.__all__ if not isinstance(value := getattr(pci_bench, name), ModuleType)
    }
    assert [name for name, value in public.items() if not any(value is shown for shown in objects)] == []


# ---- commands and Python, run


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Iterator[Path]:
    """A reader's folder: some crops of theirs, and the files that the pages print."""
    folder = tmp_path_factory.mktemp("reader")
    get_reusable_executor().shutdown()  # joblib's processes outlive a call, and know plug-ins of other tests by these names
    written(folder)
    rng = np.random.default_rng(0)
    rows = ["image,label"]
    for image in range(4):
        place = folder / "my" / "crops" / f"plate1_A{image:02d}"
        place.mkdir(parents=True)
        rows.append(f"{place.name},{'nucleus' if image % 2 else 'cytosol'}")
        for cell in range(5):
            for channel in ("gfp", "rfp"):
                pixels = rng.integers(0, 200 if image % 2 else 255, (64, 64)).astype(np.uint8)
                tifffile.imwrite(place / f"cell{cell}_{channel}.tif", pixels)
    (folder / "my" / "crops" / "images.csv").write_text("\n".join(rows) + "\n")
    write_screen(folder / "screen", size=160, centres=[(60, 60), (60, 95), (95, 60), (95, 95)])
    shutil.rmtree(folder / "screen" / "masks")
    yield folder
    get_reusable_executor().shutdown()


@pytest.fixture(scope="module")
def ran() -> set[tuple[str, ...]]:
    """Commands that an earlier page has, and so were run."""
    return set()


@pytest.fixture
def fewer_cells(monkeypatch):
    """yeast-sim with two proteins of every class, and human-sim with the same proteins, of 3 cells an image or so."""
    monkeypatch.setitem(yeast_sim.SETTINGS["screens"]["yeast-sim"], "cells_per_image", [3, 4])
    monkeypatch.setitem(yeast_sim.SETTINGS, "proteins_per_class", dict.fromkeys(CLASSES, 2))
    small = dataclasses.replace(human_sim.parameters_of("human-sim"), cells_per_image=(2, 3), variable_cells=(10, 10))
    monkeypatch.setattr(DATASETS.get("human-sim"), "parameters", small)


@pytest.fixture
def at_work(workplace, fewer_cells, registries, monkeypatch):
    """The reader's folder, and a cache that all pages share; no figures, which take most of the time and have tests of their own."""
    monkeypatch.setattr(outputs, "draw", lambda results, folder: [])
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(workplace / "cache"))
    return workplace


def reason_not_to_run(arguments: list[str]) -> str | None:
    text = shlex.join(arguments)
    return next((reason for start, reason in NOT_RUN.items() if text.startswith(start)), None)


def shortened(arguments: list[str]) -> list[str]:
    """Return a command with what makes it short, where it does not say otherwise."""
    extra = SHORTENED.get(" ".join(arguments[:2]), [])
    options = [extra[i : i + 2] for i in range(0, len(extra), 2)]
    return [
        *arguments,
        *(word for name, value in options if name == "--set" or name not in arguments for word in (name, value)),
    ]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_in_their_order(page, at_work, ran, capsys, monkeypatch):
    for block in blocks(page):
        if block.language == "python" and not PLUG_IN.match(block.text) and not block.text.startswith(tuple(ELSEWHERE)):
            exec(compile(block.text, page, "exec", dont_inherit=True), {"__name__": "docs"})
        for words in commands_of(block.text) if block.language == "bash" else ():
            if words[0] != "pci-bench" or page == GALLERY or reason_not_to_run(words[1:]):
                continue
            arguments = shortened([p for w in words[1:] for p in (sorted(glob.glob(w)) if "*" in w else [w])])
            if tuple(arguments) in ran:
                continue
            ran.add(tuple(arguments))
            said = call(capsys, monkeypatch, *arguments)
            assert said.code == 0, f"pci-bench {shlex.join(arguments)}\n{said.out[-2000:]}\n{said.err[-2000:]}"
        if block.language == "toml" and "absolute" in block.text:
            Path("tolerance.toml").write_text(block.text)
            read_tolerance(Path("tolerance.toml"))


def test_every_reason_not_to_run_a_command_belongs_to_one():
    told = [
        shlex.join(words[1:])
        for page in PAGES
        for b in blocks(page)
        if b.language == "bash"
        for words in commands_of(b.text)
    ]
    assert [start for start in NOT_RUN if not any(t.startswith(start) for t in told)] == []


# ---- other programs, links and pictures


def test_other_programs_are_those_that_a_reader_has():
    for page in PAGES:
        for block in blocks(page):
            for words in commands_of(block.text) if block.language == "bash" else ():
                assert words[0] in ("pci-bench", "python3", "python", "pip", "pytest", "dask", "torchrun"), (
                    f"{page}: {words}"
                )
                if words[0] in ("python", "pytest") and words[1][0] not in "-":
                    assert (ROOT / words[1]).exists(), f"{page}: {words}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", h.replace("`", "")).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(file), f"{page} links to {target}, which has no such heading"


def test_the_gallery_shows_what_its_program_makes_beside_the_command_that_makes_it():
    specification = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "gallery.py")
    gallery = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(gallery)
    shown = {}
    for part in re.split(r"```bash\n(?=pci-bench)", (ROOT / GALLERY).read_text())[1:]:
        command, _, rest = part.partition("\n")
        _, options = parsed(shlex.split(command)[1:])
        given = {
            n.rstrip("_"): ",".join(v) if isinstance(v, (list, tuple)) else v
            for n, v in options.items()
            if n in ("dataset", "features", "set_") and v
        }
        shown[options["benchmark"]] = (given, re.findall(r"\]\(images/(.+?)\.png\)", rest))
    assert shown == {name: (options, list(pictures)) for name, (options, pictures) in gallery.PICTURES.items()}


def test_pictures_are_small_enough_for_a_repository():
    assert sum(file.stat().st_size for file in (ROOT / "docs" / "images").iterdir()) < 4_000_000
