"""The command `study`: which features of a dataset are better, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pci_bench.cli.app import BEGIN, DeviceOption, PluginOption, SeedOption, WorkersOption, app, load_plugins
from pci_bench.cli.terminal import err, out, say, show
from pci_bench.system.arguments import split_names
from pci_bench.system.progress import ConsoleProgress
from pci_bench.system.text import json_line

if TYPE_CHECKING:
    from pci_bench.study.study import Plan


@app.command(rich_help_panel=BEGIN)
def study(
    dataset: Annotated[str, typer.Argument(help="The dataset.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Few cells and feature sets: a first look in minutes.")
    ] = False,
    features: Annotated[
        str | None, typer.Option(help="Feature sets, groups or patterns, separated by commas; by default the study's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the plan.")] = False,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write; by default runs/study/DATASET.", show_default=False)
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    plugin: PluginOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what follows as JSON.")] = False,
) -> None:
    """Run everything that tells which features of a dataset are better and why, and write one report.

    An interrupted study continues where it was.
    """
    load_plugins(plugin)
    from pci_bench.api.dataset import DATASETS
    from pci_bench.study import study as studies
    from pci_bench.study.conclusions import by_evaluator
    from pci_bench.study.declared import study_of

    DATASETS.get(dataset)
    named = split_names(features) if features is not None else None
    planned = studies.Plan(study_of(dataset), dataset, quick, tuple(named or ()))
    if not as_json:
        _print_plan(planned)
    if dry_run:
        return
    made = studies.study(
        dataset,
        quick=quick,
        features=named,
        out=out_folder,
        device=device,
        workers=workers,
        seed=seed,
        progress=ConsoleProgress(err),
    )
    if as_json:
        typer.echo(
            json_line([{"part": c.part, "about": c.about, "text": c.text} for c in made.conclusions], ascii_only=True)
        )
        return
    out.print()
    out.print("What follows", markup=False, highlight=False, style="bold")
    for outcome in made.parts:
        out.print()
        out.print(outcome.part.question, markup=False, highlight=False, style="bold")
        for about, texts in by_evaluator(outcome.said).items():
            if about:
                say(f"{about}:")
            for text in texts:
                say(f"- {text}")
        if outcome.reason:
            say(f"Not run: {outcome.reason}")
    out.print()
    say(f"CPU minutes: {', '.join(f'{p.part.name} {p.cpu_seconds / 60:.1f}' for p in made.parts)}.")
    say(f"The report: {made.report}. The same as text: {made.page}")


def _print_plan(planned: Plan) -> None:
    """Print what will be run, and about how long it takes."""
    rows = [("part", "question", "benchmark", "feature sets")]
    for part in planned.study.parts:
        rows.append((part.name, part.question, part.benchmark, ", ".join(planned.features_of(part))))
    show(rows, "Plan")
    if planned.limit is not None:
        say(f"A quick look: about {planned.limit} cells.")
    say(planned.text())
