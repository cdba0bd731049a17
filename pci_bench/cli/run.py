"""`run`, `extract`, `evaluate`: from crops to numbers."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pci_bench.api.segmenter import DEFAULT_SEGMENTER
from pci_bench.cli.app import (
    BEGIN,
    PARTS,
    BatchOption,
    DeviceOption,
    PluginOption,
    PrecisionOption,
    RefreshOption,
    SchedulerOption,
    SeedOption,
    SegmenterOption,
    WorkersOption,
    app,
    load_plugins,
)
from pci_bench.cli.terminal import err, print_answers, print_json, print_results, print_tables, say, show
from pci_bench.data.provenance import KEY, DatasetProvenance, FeaturesProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.system.arguments import PRECISIONS, check_limit, split_list, whole_numbers
from pci_bench.system.files import check_replaceable, check_text, check_writable
from pci_bench.system.progress import ConsoleProgress

if TYPE_CHECKING:
    from pci_bench.runs.results import Result
    from pci_bench.runs.runner import RunOutput

SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A parameter of the evaluators (`pci-bench describe EVALUATOR` shows them); repeat it for several values.",
    ),
]


PostprocessOption = Annotated[
    str | None,
    typer.Option(
        help="What is done to features before they are evaluated, separated by commas: none, z-score, robust-z:plate, sphering, pca64, "
        "pca64-whitened, l2. Fitted on the evaluated cells, without labels, unless :controls=COLUMN=VALUE names others.",
    ),
]


@app.command(rich_help_panel=BEGIN)
def run(
    context: typer.Context,
    benchmark: Annotated[
        str | None,
        typer.Argument(
            help="A benchmark (`pci-bench list benchmarks` shows all), or a TOML file that declares one.",
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="A dataset, or several by repeating it; by default the first of the benchmark's that is available."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Names, groups or patterns, separated by commas, instead of the benchmark's. "
            r"A comma in a path is written with a backslash: 'intensity,file:plate\,1.csv'."
        ),
    ] = None,
    with_: Annotated[
        str | None,
        typer.Option(
            "--with",
            help="Evaluators to run beside the benchmark's, separated by commas (`pci-bench list evaluators`); of a plug-in too.",
        ),
    ] = None,
    k: Annotated[str | None, typer.Option("--k", help="Numbers of neighbours, separated by commas.")] = None,
    set_: SetOption = None,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate a seeded, stratified subset of about this many cells.")
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write; by default runs/<benchmark>/<dataset>.")
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    batch: BatchOption = None,
    precision: PrecisionOption = PRECISIONS[0],
    segmenter: SegmenterOption = DEFAULT_SEGMENTER,
    annotations: Annotated[
        Path | None,
        typer.Option(help="CSV or TSV: protein, and any of label, labels, go (joined by ;) and cell_line. Or huh2003."),
    ] = None,
    postprocess: PostprocessOption = None,
    refresh: Annotated[RefreshOption, typer.Option(help="When features are computed.")] = RefreshOption.missing,
    plugin: PluginOption = None,
    tables: Annotated[
        bool,
        typer.Option(
            "--tables", help="After the ranking, print the benchmark's tables in full, as they are in the files."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON instead of tables.")] = False,
    record: Annotated[
        Path | None, typer.Option("--from", help="Repeat the run that this run.json records, instead of naming one.")
    ] = None,
) -> None:
    """Run a benchmark: features, evaluation, tables and figures."""
    load_plugins(plugin)
    from pci_bench.benchmarks import benchmark_of
    from pci_bench.runs import runner

    progress = ConsoleProgress(err)
    if (benchmark is None) == (record is None):
        raise UserError("Name a benchmark (`pci-bench list benchmarks` shows all), or a record with --from run.json.")
    if record is not None:
        free = {"record", "out_folder", "plugin", "as_json", "tables"}
        if given := [
            option.opts[0]
            for option in context.command.params
            if option.name not in free
            and getattr(context.get_parameter_source(option.name or ""), "name", "") == "COMMANDLINE"
        ]:
            raise UserError(f"{given[0]} and --from contradict each other: the record says what is run.")
        if out_folder is None:
            raise UserError("Say with --out where the repeated run is to be written, so that the recorded one is kept.")
        folder = out_folder
        output = runner.run_again(record, out=folder, progress=progress)
    else:
        assert benchmark is not None
        if benchmark.endswith(".toml"):
            benchmark = benchmark_of(Path(benchmark))
        folder = out_folder or runner.default_folder(benchmark, dataset)
        output = runner.run(
            benchmark,
            dataset=dataset,
            features=None if features is None else split_list(features),
            with_evaluators=with_,
            k=whole_numbers(k, "--k") if k is not None else None,
            parameters=_settings(set_, k),
            limit=limit,
            out=folder,
            device=device,
            seed=seed,
            workers=workers,
            segmenter=segmenter,
            annotations=annotations,
            postprocess=postprocess,
            refresh=refresh.value,
            scheduler=scheduler,
            batch=batch,
            precision=precision,
            progress=progress,
        )
    if as_json:
        print_json(output)
        _end_with_failures(output, folder)
        return
    _print_output(output, folder, in_full=tables)
    _end_with_failures(output, folder)


def _print_output(output: RunOutput, folder: Path, *, in_full: bool) -> None:
    """Print a run's answer, what was not run, where the files are, and with `in_full` every table."""
    from pci_bench.reporting.candidates import balanced_where_known
    from pci_bench.reporting.rank_changes import changes_of
    from pci_bench.reporting.tables.answer import ranking_of
    from pci_bench.reporting.tables.rank_changes import rendered

    filled = [t for t in output.tables if t.has_numbers]
    answers: list[Any] = []
    for table in filled:  # one of each dataset and evaluators
        if not any(
            a.dataset == table.dataset and table.declaration.evaluators <= a.declaration.evaluators for a in answers
        ):
            answers.append(table)
    print_answers(answers)
    if in_full:
        print_tables(filled)
    rank_changes = list(changes_of(list(output)))
    for what, changes in rank_changes:
        _, (page,) = rendered(what, changes)
        show([tuple(page.columns), *(tuple(cell.text for cell in row) for row in page.rows)], page.title)
        for note in page.notes:
            say(note)
    several = {r.evaluator.name for _, changes in rank_changes for r in changes.results.values()}
    left = [r for r in output if r.evaluator.name not in several or "postprocess" not in r.evaluator.params]
    if others := [r for r in balanced_where_known(left) if not any(r is s for t in filled for s in t.shown)]:
        if filled:
            say(f"\nOf {output.benchmark}, in no column of its tables:")
        for ranking in ranking_of(others):
            if len(ranking.rows) > 1:
                print_answers([ranking])
            else:
                print_results(ranking.shown, ranking.title)
    for note in output.notes:
        say(f"Note: {note}")
    for sentence in _not_run(output):
        say(sentence)
    say(f"Results, tables and figures: {folder}")
    say(f"As one page for a browser: pci-bench report {shlex.quote(str(folder))}")


def _not_run(output: RunOutput) -> list[str]:
    """Return what was asked for and not run, a sentence for each reason; where a dataset is missing, the run began with that."""
    features: dict[str, list[str]] = {}
    sentences = []
    for entry in output.not_run:
        if entry.code == "dataset unavailable":
            continue
        if entry.features and not entry.evaluator:
            same_but_for_the_name = entry.reason.replace(entry.features, "\0").rstrip(".")
            features.setdefault(same_but_for_the_name, []).append(entry.features)
            continue
        what = " on ".join(filter(None, (entry.evaluator, entry.features, entry.dataset)))
        count = f" ({entry.count} evaluations of each feature set)" if entry.count > 1 else ""
        sentences.append(f"Not run: {what}: {entry.reason.rstrip('.')}.{count}")
    for reason, names in features.items():
        said = reason.replace("\0", names[0])
        sentences.append(f"Not run: {', '.join(dict.fromkeys(names))}: {said}.")
    listed = {row for t in output.tables for row, entries in t.rows if isinstance(entries, str)} - {
        name for names in features.values() for name in names
    }
    if listed:
        sentences.append(f"Not run, since not asked for; --features adds them: {', '.join(sorted(listed))}.")
    return sentences


def _end_with_failures(output: RunOutput, folder: Path) -> None:
    """Raise where something failed while the rest went on, so that the exit status says so."""
    if output.failed:
        count = f"{len(output.failed)} failed" if len(output.failed) > 1 else "One failed"
        raise UserError(
            f"Not everything could be run. {count}, first: {output.failed[0]} The results of the others are in {folder}."
        ) from output.failed[0]


@app.command(rich_help_panel=PARTS)
def extract(
    features: Annotated[str, typer.Argument(help="One feature set.")],
    dataset: Annotated[str, typer.Option(help="The dataset.")],
    out_file: Annotated[Path, typer.Option("--out", help="F.h5ad, F.parquet, F.csv or F.npz.")],
    limit: Annotated[int | None, typer.Option(help="A seeded, stratified subset of about this many cells.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Compute one share of the cells, as 2/8 in a job array; `pci-bench join` puts them together."
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    batch: BatchOption = None,
    precision: PrecisionOption = PRECISIONS[0],
    segmenter: SegmenterOption = DEFAULT_SEGMENTER,
    refresh: Annotated[RefreshOption, typer.Option(help="When features are computed.")] = RefreshOption.missing,
    plugin: PluginOption = None,
) -> None:
    """Write one feature set of a dataset to a file."""
    load_plugins(plugin)
    from pci_bench.api.dataset import load_dataset
    from pci_bench.data.cells import subsample
    from pci_bench.features.extraction import ExtractionOptions
    from pci_bench.features.extraction import extract as extracted
    from pci_bench.features.files import KINDS, write_features
    from pci_bench.features.shards import Shard

    check_limit(limit)
    ExtractionOptions(
        device, workers, refresh.value, segmenter, scheduler, batch, precision
    )  # which checks them, before cells are loaded
    if out_file.suffix.lower() not in KINDS:
        raise UserError(f"--out {out_file} ends in '{out_file.suffix}'; features are written to {', '.join(KINDS)}.")
    check_replaceable(out_file)
    share = None if shard is None else Shard.parse(shard)
    if share is not None and out_file.suffix.lower() != ".h5ad":
        raise UserError(f"A shard is written to an .h5ad, which says which it is, and --out is {out_file}.")
    progress = ConsoleProgress(err)
    cells = load_dataset(dataset, progress=progress)
    if limit is not None:
        cells = subsample(cells, limit, seed)
    whole = cells
    cells = cells if share is None else share.cells(cells)
    adata = extracted(
        features,
        cells,
        device=device,
        refresh=refresh.value,
        workers=workers,
        segmenter=segmenter,
        scheduler=scheduler,
        batch=batch,
        precision=precision,
        progress=progress,
    )
    write_features(adata if share is None else share.attach(adata, whole), out_file)
    for note in cells.notes:
        say(f"Note: {note}")
    say(f"{adata.n_obs:,} cells × {adata.n_vars} features: {out_file}")


@app.command(rich_help_panel=PARTS)
def join(
    files: Annotated[list[Path], typer.Argument(help="The files of all shards, in any order.")],
    out_file: Annotated[Path, typer.Option("--out", help="F.h5ad, F.parquet, F.csv or F.npz.")],
) -> None:
    """Put the shards of `extract --shard` together, once all are there."""
    from pci_bench.features.files import KINDS, write_features
    from pci_bench.features.shards import joined

    if out_file.suffix.lower() not in KINDS:
        raise UserError(f"--out {out_file} ends in '{out_file.suffix}'; features are written to {', '.join(KINDS)}.")
    check_replaceable(out_file)
    adata = joined(files)
    write_features(adata, out_file)
    say(f"{adata.n_obs:,} cells × {adata.n_vars} features of {len(files)} shards: {out_file}")


@app.command(rich_help_panel=PARTS)
def evaluate(
    file: Annotated[Path, typer.Argument(help="Features with labels: F.h5ad, F.parquet, F.csv or F.npz.")],
    with_: Annotated[str, typer.Option("--with", help="Evaluators, separated by commas.")],
    k: Annotated[str | None, typer.Option("--k", help="Numbers of neighbours, separated by commas.")] = None,
    exclude: Annotated[
        str | None,
        typer.Option(
            help="Columns that compared cells must not share, separated by commas; by default the evaluator's."
        ),
    ] = None,
    obsm: Annotated[
        str | None,
        typer.Option(help="Matrices of an .h5ad's obsm, separated by commas, each evaluated in place of X: X_scVI."),
    ] = None,
    label: Annotated[str, typer.Option(help="The column that holds the labels.")] = "label",
    set_: SetOption = None,
    postprocess: PostprocessOption = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write results; nothing is written by default.")
    ] = None,
    seed: SeedOption = 0,
    plugin: PluginOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Evaluate a file of features that anyone computed; it needs a column of labels."""
    load_plugins(plugin)
    from pci_bench.api.evaluator import EVALUATORS
    from pci_bench.features.files import check_finite, read_features
    from pci_bench.runs import evaluation, outputs

    check_text(str(file), "The features file")
    if out_folder is not None:
        check_writable(out_folder)  # before anything that takes long
    adata = read_features(file)

    for note in adata.uns.pop("pci_bench_notes", []):
        err.print(f"Note: {note}", markup=False, highlight=False)
    if label != "label":
        if label not in adata.obs:
            raise UserError(f"{file} has no column '{label}'. Its columns: {', '.join(adata.obs) or 'none'}.")
        adata.obs["label"] = adata.obs[label].astype("string")
    if obsm is None and not Provenance.of(adata).features.missing:
        check_finite(adata, file)
    if KEY not in adata.uns:
        Provenance(DatasetProvenance(file.stem), FeaturesProvenance(f"file:{file.name}")).attach(adata)
    asked: dict[str, list[Any]] = {} if exclude is None else {"exclude": split_list(exclude)}
    if k is not None:
        asked["k"] = whole_numbers(k, "--k")
    set_values = _settings(set_, k)
    names = split_list(with_)
    known = {name: EVALUATORS.get(name).Params.model_fields for name in names}
    for name in (*asked, *set_values):
        if not any(name in fields for fields in known.values()):
            raise UserError(
                f"None of {', '.join(names)} has a parameter '{name}'. `pci-bench describe NAME` shows them."
            )
    results: list[Result] = []
    for name in names:
        grid: dict[str, Any] = {p: values for p, values in {**asked, **set_values}.items() if p in known[name]}
        results += evaluation.evaluate(
            name,
            adata,
            obsm=None if obsm is None else split_list(obsm),
            postprocess="none" if postprocess is None else postprocess,
            seed=seed,
            progress=ConsoleProgress(err),
            **grid,
        )
    if out_folder is not None:
        outputs.check_not_replaced(results, out_folder)
        outputs.write_results(results, out_folder)
    if as_json:
        print_json(results)
        return
    what = f"{adata.n_vars} features" if obsm is None else ", ".join(split_list(obsm))
    print_results(results, f"{file.name}: {adata.n_obs:,} cells × {what}")


def _settings(texts: list[str] | None, k: str | None) -> dict[str, list[str]]:
    """Return the values of every parameter that --set names; k may be given by --k as well, but not by both."""
    settings: dict[str, list[str]] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name.strip() and equals):
            raise UserError(f"--set {text} is not NAME=VALUE. Write for example --set pairs=500.")
        settings.setdefault(name.strip(), []).append(value.strip())
    if k is not None and "k" in settings:
        raise UserError("--k and --set k contradict each other. Use one of them.")
    return settings
