"""`explain`: where two feature sets of a run differ, class by class and cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pci_bench.cli.app import RESULTS, PluginOption, app, load_plugins
from pci_bench.cli.terminal import err, out, say
from pci_bench.errors import UserError
from pci_bench.system.progress import ConsoleProgress


@app.command(rich_help_panel=RESULTS)
def explain(
    folder: Annotated[Path, typer.Argument(help="An output folder of `pci-bench run`.")],
    a: Annotated[str, typer.Argument(help="A feature set of it, A.")],
    b: Annotated[str, typer.Argument(help="Another one, B.")],
    dataset: Annotated[str | None, typer.Option(help="The dataset, where the folder has several.")] = None,
    with_: Annotated[
        str | None, typer.Option("--with", help="The evaluator; by default loo-knn where it was run.")
    ] = None,
    k: Annotated[int | None, typer.Option("--k", help="The number of neighbours; by default the usual one.")] = None,
    exclude: Annotated[
        str | None, typer.Option(help="The exclusion: cell, image, …; by default the strictest that was run.")
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write; by default the folder `explain` in the run's folder.")
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Say which cells only one of two feature sets gets right: a table by class, and a page with crops and their neighbours."""
    load_plugins(plugin)
    from rich.table import Table

    from pci_bench.reporting.candidates import Candidates
    from pci_bench.reporting.headline import headline_k
    from pci_bench.reporting.html.disagreement import class_table, sentences, write_disagreement
    from pci_bench.reporting.html.words import exclusion
    from pci_bench.runs.disagreement import Disagreement, pairs_of, settings
    from pci_bench.runs.results import read_results, run_folders
    from pci_bench.system.files import check_writable

    results = [r for place in run_folders(folder) for r in read_results(place)]
    for what, wanted, values in (
        ("dataset", dataset, [r.dataset.name for r in results]),
        ("evaluator", with_, [r.evaluator.name for r in results]),
        ("number of neighbours", k, [r.evaluator.params.get("k") for r in results]),
        ("exclusion", exclude, [r.evaluator.params.get("exclude") for r in results]),
    ):
        if wanted is not None and wanted not in values:
            known = ", ".join(str(v) for v in dict.fromkeys(values) if v is not None)
            raise UserError(f"{folder} has no result with the {what} {wanted}; it has {known or 'none'}.")
    pairs = pairs_of(
        [
            r
            for r in results
            if dataset in (None, r.dataset.name)
            and with_ in (None, r.evaluator.name)
            and k in (None, r.evaluator.params.get("k"))
            and exclude in (None, r.evaluator.params.get("exclude"))
        ],
        a,
        b,
    )
    usual = headline_k([one for one, _ in pairs])
    one, other = max(
        pairs,
        key=lambda pair: (
            pair[0].evaluator.name == "loo-knn",
            pair[0].evaluator.params.get("k") == usual,
            not pair[0].evaluator.params.get("subset"),
            "postprocess" not in pair[0].evaluator.params,
            Candidates.of(pair[0]).strictness,
        ),
    )
    target = out_folder or folder / "explain"
    check_writable(target)
    found = Disagreement.of(one, other)
    with ConsoleProgress(err).stage("finding the neighbours of example cells"):
        files = write_disagreement(found, target)
    columns, rows = class_table(found)
    table = Table(
        title=f"A {one.features.full_name}, B {other.features.full_name}: {settings(one)} on {one.dataset.name} ({exclusion(one)})",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for name in columns:
        table.add_column(name, justify="left" if name == "class" else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table, markup=False)
    for sentence in sentences(found):
        say(sentence)
    for file in files:
        say(f"Written: {file}")
