"""The command line: parse, call, print."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pci_bench import __version__
from pci_bench.errors import UserError
from pci_bench.progress import ConsoleProgress
from pci_bench.registry import load_plugin_file
from pci_bench.segmentation.base import DEFAULT_SEGMENTER

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Benchmarks and reproductions for single-cell microscopy features.",
)
data_app = typer.Typer(no_args_is_help=True, help="Datasets: list, get, verify.")
weights_app = typer.Typer(no_args_is_help=True, help="Weights of trained networks: list, get, import.")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")

INTERRUPTED = 130  # what a shell calls the end by Ctrl-C
PERCENTAGES = ("balanced_accuracy", "macro_f1", "accuracy")
LISTED = 20  # missing and new results in a terminal
NARROWEST = 110  # columns where no terminal says how wide it is
out = Console(width=None if sys.stdout.isatty() else NARROWEST)
err = Console(stderr=True)

PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file whose decorators register more.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="Processes that share the extraction; by default one per core for what is measured crop by crop."
    ),
]
SegmenterOption = Annotated[
    str, typer.Option(help="Finds the centre cells where a dataset has no masks and features need them.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


class Kind(StrEnum):
    """What `list` can list."""

    datasets = "datasets"
    features = "features"
    evaluators = "evaluators"
    benchmarks = "benchmarks"
    tables = "tables"
    models = "models"
    segmenters = "segmenters"
    weights = "weights"


class RefreshOption(StrEnum):
    """When features are computed."""

    never = "never"
    missing = "missing"
    always = "always"


class TableFormat(StrEnum):
    """How a table is written."""

    md = "md"
    csv = "csv"
    tex = "tex"


def _version(value: bool) -> None:
    if value:
        typer.echo(f"pci-bench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _load(plugins: list[Path] | None) -> None:
    for file in plugins or []:
        load_plugin_file(file)


def _show(rows: Sequence[tuple[str, ...]], title: str) -> None:
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column(no_wrap=True)
    for _ in range(max(map(len, rows), default=1) - 1):
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table, markup=False)


@app.command("list")
def list_(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; everything by default.")] = None,
    plugin: PluginOption = None,
) -> None:
    """List datasets, feature sets, evaluators, benchmarks, tables and weights."""
    _load(plugin)
    for number, one in enumerate([kind] if kind else list(Kind)):
        if number:
            out.print()
        _show(_listed(one), one.value.capitalize())


def _listed(kind: Kind) -> Sequence[tuple[str, ...]]:
    """Return names and one-line descriptions."""
    from pci_bench.datasets.base import DATASETS
    from pci_bench.evaluators.base import EVALUATORS
    from pci_bench.features import EXTRACTORS, groups, known_feature_sets

    if kind is Kind.datasets:
        named = [(name, DATASETS.get(name).meta.title) for name in DATASETS]
        return named + [
            (f"{p}:{a}", (DATASETS.factory(p).__doc__ or "").strip().partition("\n")[0])
            for p, a in DATASETS.prefixes().items()
        ]
    if kind is Kind.features:
        rows = []
        for name, feature_set in known_feature_sets().items():
            meta = feature_set.extractor().meta
            rows.append((name, f"{meta.title}: {meta.outputs[feature_set.output]}".removesuffix(": ")))
        rows += [
            (f"{p}:{a}", (EXTRACTORS.factory(p).__doc__ or "").strip().partition("\n")[0])
            for p, a in EXTRACTORS.prefixes().items()
        ]
        return rows + [
            (f"group {name}", ", ".join(f.base for f in members)) for name, members in sorted(groups().items())
        ]
    if kind is Kind.evaluators:
        return [(name, EVALUATORS.get(name).meta.title) for name in EVALUATORS]
    if kind is Kind.benchmarks:
        from pci_bench.benchmarks import BENCHMARKS

        return [(name, BENCHMARKS.get(name).title) for name in BENCHMARKS]
    if kind is Kind.models:
        from pci_bench.models import MODELS

        return [(name, MODELS.get(name).meta.title) for name in MODELS]
    if kind is Kind.segmenters:
        from pci_bench.segmentation import SEGMENTERS

        return [(name, SEGMENTERS.get(name).meta.title) for name in SEGMENTERS]
    if kind is Kind.tables:
        from pci_bench.reporting.tables import TABLES

        return [(name, TABLES.get(name).title) for name in TABLES]
    return _weights()


def _weights() -> Sequence[tuple[str, ...]]:
    from pci_bench import weights

    here = weights.at_hand()
    rows = []
    for family, named in weights.declared().items():
        for name, declaration in named.items():
            state = (
                "at hand"
                if (family, name) in here
                else f"not here: {weights.how_to_get(family, name).partition('. ')[2]}"
            )
            default = f" Default for {', '.join(declaration['default_for'])}." if declaration["default_for"] else ""
            rows.append((f"{family}@{name}", f"{declaration['title']}.{default}", state))
    known = {(f, n) for f, named in weights.declared().items() for n in named}
    rows += [
        (f"{f}@{n}", f"From {weights.read_header(file).source}.", "at hand")
        for (f, n), file in here.items()
        if (f, n) not in known
    ]
    return rows


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="Any name; evaluator:NAME where two kinds share one.")],
    plugin: PluginOption = None,
) -> None:
    """Say what a dataset, feature set, evaluator, benchmark, table or group is, and which line of which file defines it."""
    _load(plugin)
    from pci_bench.describe import described

    for title, rows in described(name):
        _show(rows, title)


@app.command()
def run(
    benchmark: Annotated[
        str | None, typer.Argument(help="A benchmark; `pci-bench list benchmarks` shows all.", show_default=False)
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="A dataset, or several by repeating it; by default the first of the benchmark's that is at hand."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="Names, groups or patterns, separated by commas, instead of the benchmark's."),
    ] = None,
    k: Annotated[str | None, typer.Option("--k", help="Numbers of neighbours, separated by commas.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate a seeded, stratified subset of about this many cells.")
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write; by default runs/<benchmark>.")
    ] = None,
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Drives everything random.")] = 0,
    workers: WorkersOption = None,
    segmenter: SegmenterOption = DEFAULT_SEGMENTER,
    annotations: Annotated[
        Path | None,
        typer.Option(help="CSV or TSV: protein, and any of label, labels, go (joined by ;) and cell_line."),
    ] = None,
    refresh: Annotated[RefreshOption, typer.Option(help="When features are computed.")] = RefreshOption.missing,
    plugin: PluginOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of tables.")] = False,
    record: Annotated[
        Path | None, typer.Option("--from", help="Repeat the run that this run.json records, instead of naming one.")
    ] = None,
) -> None:
    """Run a benchmark: features, evaluation, tables and figures."""
    _load(plugin)
    from pci_bench import runner

    progress = ConsoleProgress(err)
    if (benchmark is None) == (record is None):
        raise UserError("Name a benchmark (`pci-bench list benchmarks` shows all), or a record with --from run.json.")
    if record is not None:
        asked = {"--dataset": dataset, "--features": features, "--k": k, "--limit": limit, "--annotations": annotations}
        if given := [name for name, value in asked.items() if value]:
            raise UserError(f"{given[0]} and --from contradict each other: the record says what is run.")
        if out_folder is None:
            raise UserError("Say with --out where the repeated run is to be written, so that the recorded one is kept.")
        folder = out_folder
        output = runner.run_again(record, out=folder, progress=progress)
    else:
        assert benchmark is not None
        folder = out_folder or Path("runs") / benchmark
        output = runner.run(
            benchmark,
            dataset=dataset,
            features=features.split(",") if features else None,
            k=_numbers(k) if k is not None else None,
            limit=limit,
            out=folder,
            device=device,
            seed=seed,
            workers=workers,
            segmenter=segmenter,
            annotations=annotations,
            refresh=refresh.value,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps([r.model_dump(by_alias=True) for r in output], ensure_ascii=False, allow_nan=False))
        return
    _print_tables([t for t in output.tables if t.has_numbers])
    if not any(t.has_numbers for t in output.tables):
        _print_results(output, f"{output.benchmark}, in no column of its tables")
    for note in output.notes:
        out.print(f"Note: {note}", markup=False, highlight=False, soft_wrap=True)
    for entry in output.not_run:
        if "features" not in entry or not output.tables:  # else the tables say why a feature set was not run
            what = " on ".join(filter(None, (entry.get("evaluator"), entry.get("features"), entry.get("dataset"))))
            out.print(f"Not run: {what}: {entry['reason'].rstrip('.')}.", markup=False, highlight=False, soft_wrap=True)
    out.print(f"Results, tables and figures: {folder}", markup=False, highlight=False, soft_wrap=True)


def _print_tables(tables: list[Any]) -> None:
    from pci_bench.reporting.tables import terminal

    for part in terminal(tables, out.width):
        out.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


def _print_results(results: Sequence[Any], title: str) -> None:
    """Print every result as a line of its own, with intervals, a block for each evaluator; accuracies in percent."""
    from pci_bench.results import parameters

    def text(metric: str, value: float) -> str:
        return f"{100 * value:.1f}" if metric in PERCENTAGES else f"{value:.4f}"

    for evaluator in dict.fromkeys(r.evaluator.name for r in results):
        mine = [r for r in results if r.evaluator.name == evaluator]
        metrics = list(dict.fromkeys(m for r in mine for m in r.metrics))
        rows = [("feature set", "evaluator", "parameters", *metrics)]
        for result in mine:
            values = []
            for metric in metrics:
                interval = result.intervals.get(metric)
                brackets = f" [{text(metric, interval[0])}, {text(metric, interval[1])}]" if interval else ""
                values.append(f"{text(metric, result.metrics[metric])}{brackets}" if metric in result.metrics else "–")
            rows.append((result.features.full_name, evaluator, parameters(result), *values))
        _show(rows, title)


def _feature_set_with(weights: str) -> str:
    """Return the headline feature set that weights FAMILY@NAME serve: ``pci-conv4@NAME``."""
    from pci_bench.features import EXTRACTORS, FeatureSet

    family, _, name = weights.partition("@")
    serving = [meta for e in EXTRACTORS if (meta := EXTRACTORS.get(e).meta).weights == family]
    first = next((m for m in serving if m.headline), None)
    if family in EXTRACTORS.prefixes():
        return f"{family}:{name}"
    return str(FeatureSet(first.name, output=first.headline or "", weights=name)) if first else weights


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--k {text} is not a list of whole numbers. Write for example --k 1,5,11.") from None


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="A model; `pci-bench list models` shows all.")],
    dataset: Annotated[str, typer.Option(help="What to train on; only supervised models read its labels.")],
    epochs: Annotated[int | None, typer.Option(help="Times that every cell is the source.", show_default="30")] = None,
    width: Annotated[
        float | None, typer.Option(help="Factor on the number of filters; 1 is the published.", show_default="1")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Pairs in a batch (the authors: yeast 64, human 4).", show_default="64; deeploc 128"),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="Adam's; the paper's is for 35 million pairs.", show_default="1e-4; deeploc 0.1"),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="constant, cosine (with a warm-up), or exponential (4 % less every 25 steps).",
            show_default="constant; deeploc exponential",
        ),
    ] = None,
    beta1: Annotated[float | None, typer.Option(help="Adam's.", show_default="0.5; deeploc 0.9")] = None,
    beta2: Annotated[float | None, typer.Option(help="Adam's.", show_default="0.999")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Adam's.", show_default="1e-8")] = None,
    order: Annotated[
        str | None,
        typer.Option(help="shuffled in every epoch, or stored (supervised models only).", show_default="shuffled"),
    ] = None,
    held_out: Annotated[
        float | None, typer.Option(help="Share of images kept for the validation loss.", show_default="0.05")
    ] = None,
    seed: Annotated[int, typer.Option(help="Drives the start, pairs, flips and held-out images.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Train on a seeded subset of about this many cells.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the weights; by default the dataset's name.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished training.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Discard an unfinished training of this name.")] = False,
    device: DeviceOption = "auto",
    plugin: PluginOption = None,
) -> None:
    """Train a model on a dataset and save its weights. What is not said is as the model's authors had it."""
    _load(plugin)
    import pydantic

    from pci_bench.cells import limited
    from pci_bench.datasets.base import load_dataset
    from pci_bench.features import EXTRACTORS
    from pci_bench.models import MODELS
    from pci_bench.training.loop import recipe_of
    from pci_bench.training.loop import train as trained_on

    options = {
        "epochs": epochs,
        "width": width,
        "batch": batch,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "beta1": beta1,
        "beta2": beta2,
        "epsilon": epsilon,
        "order": order,
        "held_out": held_out,
        "seed": seed,
    }
    supervised = MODELS.get(model).meta.supervised
    try:
        recipe = recipe_of(model, **{name: value for name, value in options.items() if value is not None})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UserError(f"--{option} {first['input']} does not fit: {first['msg'].lower()}.") from error
    progress = ConsoleProgress(err)
    cells = load_dataset(dataset, progress=progress)
    if limit is not None:
        cells = limited(cells, limit, seed, stratify=supervised)
    done = trained_on(model, cells, recipe, name=name, resume=resume, restart=restart, device=device, progress=progress)
    for what, value in done.references.items():
        out.print(f"  held-out loss, {what}: {value:.5f}", markup=False, highlight=False)
    used = f"{model}-{EXTRACTORS.get(model).meta.headline}" if model in EXTRACTORS else model
    out.print(
        f"Made {done.name}: {done.file}. Card: {done.card}. Use it as {used}@{done.name.partition('@')[2]}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def extract(
    features: Annotated[str, typer.Argument(help="One feature set.")],
    dataset: Annotated[str, typer.Option(help="The dataset.")],
    out_file: Annotated[Path, typer.Option("--out", help="F.h5ad, F.parquet, F.csv or F.npz.")],
    limit: Annotated[int | None, typer.Option(help="A seeded, stratified subset of about this many cells.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Drives the subset.")] = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    segmenter: SegmenterOption = DEFAULT_SEGMENTER,
    refresh: Annotated[RefreshOption, typer.Option(help="When features are computed.")] = RefreshOption.missing,
    plugin: PluginOption = None,
) -> None:
    """Write one feature set of a dataset to a file."""
    _load(plugin)
    from pci_bench.cells import limited
    from pci_bench.datasets.base import load_dataset
    from pci_bench.external import KINDS, write_features
    from pci_bench.extraction import extract as extracted
    from pci_bench.runner import check_limit

    check_limit(limit)
    if out_file.suffix.lower() not in KINDS:
        raise UserError(f"--out {out_file} ends in '{out_file.suffix}'; features are written to {', '.join(KINDS)}.")
    progress = ConsoleProgress(err)
    cells = load_dataset(dataset, progress=progress)
    if limit is not None:
        cells = limited(cells, limit, seed)
    adata = extracted(
        features,
        cells,
        device=device,
        refresh=refresh.value,
        workers=workers,
        segmenter=segmenter,
        progress=progress,
    )
    write_features(adata, out_file)
    out.print(
        f"{adata.n_obs:,} cells × {adata.n_vars} features: {out_file}", markup=False, highlight=False, soft_wrap=True
    )


@app.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="Features with labels: F.h5ad, F.parquet, F.csv or F.npz.")],
    with_: Annotated[str, typer.Option("--with", help="Evaluators, separated by commas.")],
    k: Annotated[str | None, typer.Option("--k", help="Numbers of neighbours, separated by commas.")] = None,
    exclude: Annotated[str, typer.Option(help="Columns that neighbours must not share, separated by commas.")] = "cell",
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write results; nothing is written by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Drives everything random.")] = 0,
    plugin: PluginOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Evaluate a file of features that anyone computed; it needs a column `label`."""
    _load(plugin)
    from pci_bench import runner
    from pci_bench.evaluators.base import EVALUATORS
    from pci_bench.external import check_finite, read_features

    adata = read_features(file)
    if not adata.uns.get("pci_bench", {}).get("features", {}).get("missing"):
        check_finite(adata, file)
    adata.uns.setdefault(
        "pci_bench", {"dataset": {"name": file.stem, "confounder": ""}, "features": {"name": f"file:{file.name}"}}
    )
    results = []
    for name in with_.split(","):
        fields = EVALUATORS.get(name.strip()).Params.model_fields
        grid: dict[str, Any] = {}
        if "exclude" in fields:
            grid["exclude"] = exclude.split(",")
        if k is not None and "k" in fields:
            grid["k"] = _numbers(k)
        results += runner.evaluate(name.strip(), adata, seed=seed, progress=ConsoleProgress(err), **grid)
    if out_folder is not None:
        runner.write_results(results, out_folder)
    if as_json:
        typer.echo(json.dumps([r.model_dump(by_alias=True) for r in results], ensure_ascii=False, allow_nan=False))
        return
    _print_results(results, f"{file.name}: {adata.n_obs:,} cells × {adata.n_vars} features")


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="A table; `pci-bench list tables` shows all.")],
    format_: Annotated[TableFormat, typer.Option("--format", help="How to write it.")] = TableFormat.md,
    results: Annotated[
        Path | None, typer.Option("--results", help="An output folder of `pci-bench run`; by default runs/<benchmark>.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset, where the folder has several.")] = None,
) -> None:
    """Print a table of the paper, filled from the results of a run."""
    from pci_bench.reporting.tables import TABLES, fill, render
    from pci_bench.results import read_results

    declaration = TABLES.get(name)
    folder = results or Path("runs") / declaration.benchmark
    found = read_results(folder)
    names = list(dict.fromkeys(r.dataset.name for r in found))
    if dataset is not None and dataset not in names:
        raise UserError(f"{folder} has no results on '{dataset}'; it has results on {', '.join(names)}.")
    for one in [dataset] if dataset else names:
        typer.echo(render(fill(declaration, found, _recorded_reasons(folder, one), one), format_.value))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="An output folder of `pci-bench run` or `pci-bench evaluate --out`.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="The HTML file; by default report.html in the folder.")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Write results as one HTML file to read in a browser, with crops where the cache holds them; it needs no network."""
    _load(plugin)
    from pci_bench.reporting.report import write_report

    file = write_report(folder, out_file)
    out.print(f"Report, {file.stat().st_size / 1e6:.1f} MB: {file}", markup=False, highlight=False, soft_wrap=True)


def _recorded_reasons(folder: Path, dataset: str) -> dict[str, str]:
    """Return what ``run.json`` says could not be run on a dataset."""
    try:
        entries = json.loads((folder / "run.json").read_text(encoding="utf-8"))["not_run"]
        return {e["features"]: e["reason"] for e in entries if e["dataset"] == dataset and "features" in e}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@app.command("test")
def check(
    name: Annotated[
        str,
        typer.Argument(
            help="A feature set, dataset, evaluator or segmenter; evaluator:NAME where two kinds share one."
        ),
    ],
    dataset: Annotated[
        str | None, typer.Option(help="For features that are read from a file: whose cells to read them for.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Build datasets of more than 5,000 cells too.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    plugin: PluginOption = None,
) -> None:
    """Check that a feature set, dataset, evaluator or segmenter keeps its contracts; exit with 1 where one is broken.

    No data is needed: cells are planted. What cannot be tried here (weights not at hand) is said, and is no failure.
    """
    _load(plugin)
    from pci_bench import contracts

    findings: list[contracts.Finding] = []
    for finding in contracts.checked(name, dataset=dataset, full=full, device=device):
        if not findings or finding.subject != findings[-1].subject:
            out.print(finding.subject[:1].upper() + finding.subject[1:], markup=False, highlight=False, soft_wrap=True)
        repeated = any((f.subject, f.sentence) == (finding.subject, finding.sentence) for f in findings)
        sentence = "as above" if repeated and finding.state == "not applicable" else finding.sentence
        line = f"  {finding.state:<14}  {finding.contract}: {sentence}"
        out.print(line, markup=False, highlight=False, soft_wrap=True)
        findings.append(finding)
    count = {state: sum(f.state == state for f in findings) for state in ("passed", "failed", "not applicable")}
    untried = f", {count['not applicable']} not applicable (these were not tried)" if count["not applicable"] else ""
    out.print(f"{count['passed']} contracts passed, {count['failed']} failed{untried}.", markup=False, highlight=False)
    if count["failed"]:
        raise typer.Exit(1)


@app.command()
def compare(
    old: Annotated[
        str, typer.Argument(help="A folder of results, a result file, or expected[:DATASET] (packaged numbers).")
    ],
    new: Annotated[str, typer.Argument(help="The same.")],
    tolerance: Annotated[Path | None, typer.Option(help="TOML: absolute, cells, and a table metrics.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="terminal or md (for a comment on a pull request).")
    ] = "terminal",
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show unchanged numbers too.")] = False,
) -> None:
    """Say whether two sets of results are the same: exit code 0 the same, 1 changed or missing, 2 not comparable."""
    from pci_bench import comparison
    from pci_bench.files import atomic_file

    if form not in ("terminal", "md"):
        raise UserError(f"There is no format '{form}'. Use terminal or md.")
    allowed = comparison.read_tolerance(tolerance) if tolerance else None
    found = comparison.compare(_results_of(old), _results_of(new), allowed)
    if junit is not None:
        with atomic_file(junit) as temporary:
            temporary.write_text(comparison.junit(found), encoding="utf-8")
    if form == "md":
        typer.echo(comparison.markdown(found))
    else:
        _print_comparison(found, everything)
    if not found.same:
        raise typer.Exit(1)


@app.command()
def leaderboard(
    folders: Annotated[list[Path], typer.Argument(help="Folders of results.")],
    form: Annotated[str, typer.Option("--format", help="terminal, md or csv.")] = "terminal",
) -> None:
    """Rank the feature sets of many result folders, with intervals and groups that are not separable."""
    from rich.table import Table

    from pci_bench import comparison
    from pci_bench import leaderboard as boards

    if form not in ("terminal", "md", "csv"):
        raise UserError(f"There is no format '{form}'. Use terminal, md or csv.")
    found = boards.rankings([r for folder in folders for r in comparison.read_any(folder)])
    if form != "terminal":
        typer.echo(boards.markdown(found) if form == "md" else boards.csv(found), nl=False)
        return
    for ranking in found:
        table = Table(
            title=ranking.title,
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
        )
        shown = boards.rows(ranking)
        for name in shown[0]:
            table.add_column(name, justify="left" if name in ("feature set", "group") else "right", overflow="fold")
        for row in shown:
            table.add_row(*row.values())
        out.print(table, markup=False)
        out.print()
    out.print(boards.EXPLANATION, markup=False, highlight=False, soft_wrap=True)


def _results_of(where: str) -> list[Any]:
    from pci_bench import comparison, gate

    name, _, dataset = where.partition(":")
    if name == "expected" and not Path(where).exists():
        return gate.expected(dataset or None)
    return comparison.read_any(Path(where))


def _print_comparison(found: Any, everything: bool) -> None:
    from rich.table import Table

    from pci_bench import comparison

    shown = comparison.rows(found, everything=everything)
    if shown:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in shown[0]:
            table.add_column(name, overflow="fold", justify="left" if name in ("result", "number", "") else "right")
        for row in shown:
            table.add_row(*row.values())
        out.print(table, markup=False)
    for title, entries in (("Missing", found.missing), ("New", found.new), ("Not compared", found.notes)):
        for entry in entries[:LISTED]:
            out.print(f"{title}: {entry}", markup=False, highlight=False, soft_wrap=True)
        if len(entries) > LISTED:
            out.print(f"{title}: … and {len(entries) - LISTED} more (--format md lists all)", markup=False)
    out.print(comparison.verdict(found), markup=False, highlight=False, soft_wrap=True)


@app.command()
def gate(
    accept: Annotated[
        Path | None,
        typer.Option(help="Write the numbers found as the expected ones into this folder, instead of comparing."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only the runs on this dataset.")] = None,
    workers: WorkersOption = None,
    form: Annotated[str, typer.Option("--format", help="terminal or md.")] = "terminal",
) -> None:
    """Run the regression gate on embedded data: exit code 0 where no number moved, 1 where one did."""
    from pci_bench import comparison
    from pci_bench import gate as gates

    runs = [r for r in gates.declared_runs() if dataset in (None, r.dataset)]
    if not runs:
        raise UserError(
            f"The gate has no run on {dataset}. It runs on {', '.join({r.dataset: 0 for r in gates.declared_runs()})}."
        )
    results = gates.gated_results(runs, workers=workers, progress=ConsoleProgress(err))
    if accept is not None:
        for file in gates.write_expected(results, accept):
            out.print(f"Accepted: {file}", markup=False, highlight=False, soft_wrap=True)
        return
    before = [r for name in dict.fromkeys(r.dataset for r in runs) for r in gates.expected(name)]
    found = comparison.compare(before, results)
    if form == "md":
        typer.echo(comparison.markdown(found))
    else:
        _print_comparison(found, False)
    if not found.same:
        err.print(
            "If the change is meant: pci-bench gate --accept tables/expected, and say in the commit why the numbers moved.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)


@data_app.command("list")
def data_list(plugin: PluginOption = None) -> None:
    """List datasets and whether each is at hand."""
    _load(plugin)
    from pci_bench.datasets.base import DATASETS
    from pci_bench.store import store_folder

    rows = []
    for name in DATASETS:
        dataset = DATASETS.get(name)
        state = (
            "in the cache"
            if store_folder(dataset).exists()
            else dataset.skip() or f"`pci-bench data get {name}` gets it"
        )
        rows.append((name, dataset.meta.title, state))
    _show(rows, "Datasets")


@data_app.command("get")
def data_get(name: Annotated[str, typer.Argument(help="A dataset.")], plugin: PluginOption = None) -> None:
    """Fetch or read a dataset into the cache, checked."""
    _load(plugin)
    from pci_bench.datasets.base import load_dataset

    cells = load_dataset(name, progress=ConsoleProgress(err))
    out.print(repr(cells), markup=False, highlight=False)
    for note in cells.notes:
        out.print(f"Note: {note}", markup=False, highlight=False, soft_wrap=True)


@data_app.command("verify")
def data_verify(name: Annotated[str, typer.Argument(help="A dataset.")], plugin: PluginOption = None) -> None:
    """Read a cached dataset again, every pixel, and compare with the hash of when it was stored."""
    _load(plugin)
    from pci_bench.datasets.base import DATASETS
    from pci_bench.store import verify

    sha256 = verify(DATASETS.get(name), progress=ConsoleProgress(err))
    out.print(f"{name} is whole: sha256 {sha256}", markup=False, highlight=False, soft_wrap=True)


@weights_app.command("list")
def weights_list() -> None:
    """List weights, and where those that are not at hand come from."""
    _show(_weights(), "Weights")


@weights_app.command("get")
def weights_get(name: Annotated[str, typer.Argument(help="FAMILY@NAME.")]) -> None:
    """Download weights where they can be had that way; otherwise say where they are, or how to get them."""
    from pci_bench import weights

    family, at, rest = name.partition("@")
    if not at:
        raise UserError(f"'{name}' names no weights. Write FAMILY@NAME; `pci-bench weights list` shows all.")
    file = weights.fetched(family, rest)
    if file is None:
        raise UserError(f"Not fetched: {weights.how_to_get(family, rest)}.")
    out.print(f"{name} is at hand: {file}", markup=False, highlight=False, soft_wrap=True)


@weights_app.command("import")
def weights_import(
    kind: Annotated[str, typer.Argument(help="What the file is: keras-pci, keras-vgg16 or deeploc-npz.")],
    file: Annotated[Path, typer.Argument(help="The file.")],
    name: Annotated[str | None, typer.Option(help="What to call them; by default the file's name.")] = None,
    plugin: PluginOption = None,
) -> None:
    """Import weights that someone else trained."""
    from pci_bench.weights import IMPORTERS

    _load(plugin)
    if kind not in IMPORTERS:
        raise UserError(f"There is no import '{kind}'. Known: {', '.join(IMPORTERS)}.")
    made, channels = IMPORTERS.get(kind)(file, name or file.stem)
    suited = f" for the channels {' + '.join(channels)}" if channels else ""
    out.print(
        f"Imported {made}{suited}. Use it as {_feature_set_with(made)}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def main() -> None:
    """Run the command line: 0 done, 1 changed (compare) or a broken contract (test), 2 a user's mistake, 130 interrupted."""
    warnings.showwarning = lambda message, category, *_, **__: (
        err.print(f"Warning: {message}", markup=False, highlight=False) if category is UserWarning else None
    )
    try:
        code = app(standalone_mode=False, prog_name="pci-bench")
        if code == INTERRUPTED:  # typer turns Ctrl-C into this code; older ones, into Abort
            raise KeyboardInterrupt
        if code:
            sys.exit(code)
    except UserError as error:
        err.print(f"Error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        err.print("Interrupted. Run the same command again: it continues where it stopped.", markup=False)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "show"):  # a wrong option or argument: click says it
            error.show()
            sys.exit(2)
        raise
