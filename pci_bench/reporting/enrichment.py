"""The paper's Table 3, filled from the enrichment of clusters: Markdown, CSV and LaTeX.

Its rows are clusters and terms, which differ from run to run, so it is no declaration of rows and columns as other tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from pci_bench import __version__
from pci_bench.files import escape
from pci_bench.reporting.tables import Format, latex
from pci_bench.results import Result

if TYPE_CHECKING:
    import pandas as pd

NAME, BENCHMARK = "table3", "human-proteome"
TITLE = "Table 3: ontology terms that clusters of proteins are enriched in"
EVALUATOR, PAPERS_DATASET = "go-enrichment", "hpa-v18"
HEADER = ["Cluster", "GO annotation", "Enrichment (FDR adjusted)", "Number of proteins"]


def printed() -> pd.DataFrame:
    """Return Table 3 as printed: cluster, term, fdr (missing where found by eye), n of the cluster's N proteins.

    Cluster B's "303706" is read as 303/706.
    """
    import pandas as pd

    with files("pci_bench_tables").joinpath("table3-printed.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream)


def enrichment_tables(results: Sequence[Result]) -> Iterator[tuple[str, dict[Format, str]]]:
    """Yield the file stem and the text, by format, of a table for each result of ``go-enrichment``."""
    mine = [r for r in results if r.evaluator.name == EVALUATOR]
    for result in mine:
        parts = [NAME]
        if len({r.dataset.name for r in mine}) > 1:
            parts.append(result.dataset.name)
        if len({r.features.full_name for r in mine}) > 1:
            parts.append(result.features.full_name)
        alike = [r for r in mine if (r.dataset, r.features) == (result.dataset, result.features)]
        if len(alike) > 1:
            differing = [k for k in result.evaluator.params if len({str(r.evaluator.params[k]) for r in alike}) > 1]
            parts += [f"{k}={result.evaluator.params[k]}" for k in differing]
        yield escape("-".join(parts)), rendered(result)


def rendered(result: Result) -> dict[Format, str]:
    """Return the table of one result by format; the printed values stand beside it where clusters bear the paper's names."""
    from tabulate import tabulate

    short = result.tables["short"].fillna({"name": "", "term": ""})
    named = result.dataset.name == PAPERS_DATASET and result.evaluator.params["clusters"]
    frame = short[["cluster", "term", "name", "fdr", "p", "n", "N"]].astype({"n": "Int64", "N": "Int64"})
    papers: dict[tuple[str, str], tuple[str, str]] = {}
    if named:
        paper = printed()
        papers = {
            (c, t.casefold()): ("by eye" if f != f else f"{f:.2e}", f"{n}/{size}")
            for c, t, f, n, size in paper.itertuples(index=False)
        }
        keys = zip(frame["cluster"].astype(str), frame["name"].str.casefold(), strict=True)
        beside = [papers.get(key, ("", "")) for key in keys]
        frame = frame.assign(paper_fdr=[b[0] for b in beside], paper_proteins=[b[1] for b in beside])
    header = [*HEADER, "paper: FDR", "paper: proteins"] if named else HEADER
    body, last = [], None
    for row in frame.to_dict("records"):
        found = bool(row["name"])
        line = [
            "" if row["cluster"] == last else str(row["cluster"]),
            row["name"] if found else "none",
            f"{row['fdr']:.2e}" if found else "–",
            f"{int(row['n'])}/{int(row['N'])}" if found else f"–/{int(row['N'])}",
        ]
        body.append(line + ([row["paper_fdr"], row["paper_proteins"]] if named else []))
        last = row["cluster"]
    title = (
        f"Enrichments for clusters of proteins. Dataset: {result.dataset.name}, features: {result.features.full_name}"
    )
    notes = _notes(result, bool(named))
    markdown = tabulate(
        [[cell.replace("|", "\\|") for cell in line] for line in body],
        headers=header,
        tablefmt="github",
        disable_numparse=True,
    )
    return {
        "md": f"## {title}\n\n{markdown}\n" + "".join(f"\n- {note}" for note in notes) + "\n",
        "csv": frame.to_csv(index=False),
        "tex": _tex(header, body, f"{title}. {' '.join(notes)}"),
    }


def _tex(header: list[str], body: list[list[str]], caption: str) -> str:
    import pandas as pd

    styled = pd.DataFrame(body, columns=header).map(latex).rename(columns=latex).style.hide(axis="index")
    return styled.to_latex(
        hrules=True, caption=latex(caption), column_format="l" * len(header), position_float="centering"
    )


def _notes(result: Result, named: bool) -> list[str]:
    """Return what a reader must know, as sentences."""
    params, details = result.evaluator.params, result.details
    if params["clusters"]:
        clusters = f"{details['n_clusters']} clusters of the file {params['clusters']}"
    elif params["height"]:
        clusters = f"{details['n_clusters']} clusters, by a cut at the height {params['height']:g}"
    else:
        finer = f" and {params['subclusters']} for their parts" if params["subclusters"] else ""
        clusters = f"{details['n_clusters']} clusters and parts, by cuts of the tree into {params['k']}{finer}"
    counts = details["annotations"]
    limited = f" (--limit {result.dataset.limit})" if result.dataset.limit else ""
    notes = [
        f"{clusters}; {details['n_proteins']:,} proteins of {result.dataset.n_cells:,} cells{limited}, the background of every "
        f"test; seed {result.run['seed']}, pci-bench {__version__}.",
        f"Upper tail of the hypergeometric distribution, adjusted over all {details['tests']:,} tests (Benjamini and Hochberg); "
        f"at most {params['shown']} terms of each cluster with an adjusted p up to {params['fdr']:g}, the most significant first.",
        f"{details['tested_terms']:,} terms of {params['namespace']}, ontology {details['ontology_version']}, annotations "
        f"{details['annotations_date'] or 'without a date'}; {counts['unmatched_proteins']:,} proteins have none, "
        f"{counts['duplicate']:,} rows repeat another, {counts['negated']:,} are negated, {counts['of_other_proteins']:,} are of "
        f"other proteins, {counts['unknown_term']:,} have a term that the ontology lacks or calls obsolete.",
    ]
    if not named:
        notes.append(
            "The paper's 27 clusters were picked by hand; its Table 3 stands beside ours where clusters=FILE names them on "
            f"{PAPERS_DATASET}."
        )
    return notes
