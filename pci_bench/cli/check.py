"""The command `test`: contract tests of feature sets, datasets, evaluators, models and segmenters."""

from __future__ import annotations

from typing import Annotated

import typer

from pci_bench.cli.app import GATES, PluginOption, app, load_plugins
from pci_bench.cli.terminal import out, say


@app.command("test", rich_help_panel=GATES)
def check(
    name: Annotated[
        str,
        typer.Argument(
            help="A feature set, dataset, evaluator, model or segmenter; evaluator:NAME where two kinds share one."
        ),
    ],
    dataset: Annotated[
        str | None, typer.Option(help="For features that are read from a file: whose cells to read them for.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Build datasets of more than 5,000 cells too.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    plugin: PluginOption = None,
) -> None:
    """Check that a feature set, dataset, evaluator, model or segmenter keeps its contracts; exit with 1 where one is broken.

    No data is needed: cells are synthetic. What cannot be tried here (weights not available) is said, and is no failure.
    """
    load_plugins(plugin)
    from pci_bench import conformance as contracts

    findings: list[contracts.Finding] = []
    for finding in contracts.checked(name, dataset=dataset, full=full, device=device):
        if not findings or finding.subject != findings[-1].subject:
            say(finding.subject[:1].upper() + finding.subject[1:])
        repeated = any((f.subject, f.sentence) == (finding.subject, finding.sentence) for f in findings)
        sentence = "as above" if repeated and finding.state == "not applicable" else finding.sentence
        line = f"  {finding.state:<14}  {finding.contract}: {sentence}"
        say(line)
        findings.append(finding)
    count = {state: sum(f.state == state for f in findings) for state in ("passed", "failed", "not applicable")}
    untried = f", {count['not applicable']} not applicable (these were not tried)" if count["not applicable"] else ""
    out.print(f"{count['passed']} contracts passed, {count['failed']} failed{untried}.", markup=False, highlight=False)
    if count["failed"]:
        raise typer.Exit(1)
