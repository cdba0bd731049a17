"""The paper's Table 3, filled from the enrichment of clusters: Markdown, CSV and LaTeX.

Its rows are clusters and terms, which differ from run to run, so it is no declaration of rows and columns as other tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pci_bench import __version__
from pci_bench.reporting.tables.declaration import Texts, register_table
from pci_bench.reporting.tables.table import Cell, Format, PageTable
from pci_bench.runs.results import Result
from pci_bench.system.files import escape
from pci_bench.system.tabular import read_csv
from pci_bench.system.text import csv_table, latex_table, markdown, markdown_table

if TYPE_CHECKING:
    import pandas as pd

NAME, PAPERS_DATASET = "table3", "hpa-v18"
HEADER = ["Cluster", "GO annotation", "Enrichment (FDR adjusted)", "Number of proteins"]


def printed() -> pd.DataFrame:
    """Return Table 3 as printed: cluster, term, its id, fdr (missing where found by eye), n of the cluster's N proteins.

    Cluster B's "303706" is read as 303/706. The identifiers are those that the Gene Ontology had in 2019 for the printed names
    (ours: the paper prints names only); "Nucleolar Rim" is no term of it.
    """
    with files("pci_bench_tables").joinpath("table3-printed.csv").open(encoding="utf-8") as stream:
        return read_csv(stream)


@register_table(
    NAME,
    title="Table 3: ontology terms that clusters of proteins are enriched in",
    source=f"Table 3, printed on {PAPERS_DATASET}",
    benchmark="human-proteome",
    evaluator="go-enrichment",
    rows="clusters and the terms found in each; one table for each feature set",
    columns=HEADER,
)
def enrichment_tables(results: Sequence[Result]) -> Texts:
    """Yield the file stem and the text, by format, of a table for each result of ``go-enrichment``."""
    for result in results:
        parts = [NAME]
        if len({r.dataset.name for r in results}) > 1:
            parts.append(result.dataset.name)
        if len({r.features.full_name for r in results}) > 1:
            parts.append(result.features.full_name)
        alike = [r for r in results if (r.dataset, r.features) == (result.dataset, result.features)]
        if len(alike) > 1:
            differing = [k for k in result.evaluator.params if len({str(r.evaluator.params[k]) for r in alike}) > 1]
            parts += [f"{k}={result.evaluator.params[k]}" for k in differing]
        yield escape("-".join(parts)), *rendered(result)


NOT_OURS = "not among ours"


def beside_the_printed(short: pd.DataFrame, tests: pd.DataFrame, replaced: Mapping[str, str]) -> pd.DataFrame:
    """Return our rows and all printed ones, joined by cluster and term: an outer join.

    A printed term is found by its identifier, by the one that the ontology now has in its place, or by its name. Where we
    tested it in the cluster, our numbers stand beside it, significant or not; else the row has the printed numbers alone.

    Parameters
    ----------
    short
        Our rows: cluster, term, name, fdr, p, n, N.
    tests
        All our tests, with the same columns.
    replaced
        Identifiers in use, by those that they replace.

    Returns
    -------
    pandas.DataFrame
        The columns of `short`, and ``paper_term``, ``paper_fdr``, ``paper_n`` and ``paper_N``, missing where nothing is printed.
        Clusters are in the printed order, then ours; in each, our rows come first.
    """
    import pandas as pd

    columns = list(short.columns)
    paper = printed().fillna({"id": ""})
    by_id = {(str(c), t): i for i, c, t in zip(tests.index, tests["cluster"], tests["term"], strict=True)}
    by_name = {(str(c), t.casefold()): i for i, c, t in zip(tests.index, tests["cluster"], tests["name"], strict=True)}
    rows: dict[tuple[str, str], dict[Any, Any]] = {}
    for row in short.to_dict("records"):
        rows[str(row["cluster"]), str(row["term"])] = row | {"cluster": str(row["cluster"])}
    for line in paper.to_dict("records"):
        cluster, term = str(line["cluster"]), str(line["id"])
        key = (cluster, replaced.get(term, term))
        index = by_id.get(key) if term else None
        index = by_name.get((cluster, line["term"].casefold())) if index is None else index
        if index is not None:
            ours = tests.loc[index, columns].to_dict() | {"cluster": cluster}
            key = (cluster, str(ours["term"]))
        else:
            ours, key = {"cluster": cluster, "term": term, "name": ""}, (cluster, f"printed {line['term']}")
        paper_columns = {f"paper_{k}": line[k] for k in ("term", "fdr", "n", "N")}
        rows[key] = {**rows.get(key, ours), **paper_columns}
    clusters = list(dict.fromkeys([*paper["cluster"].astype(str), *(c for c, _ in rows)]))
    joined = [row for cluster in clusters for row in rows.values() if row["cluster"] == cluster]
    return pd.DataFrame(joined, columns=[*columns, "paper_term", "paper_fdr", "paper_n", "paper_N"])


def rendered(result: Result) -> tuple[dict[Format, str], list[PageTable]]:
    """Return the table of one result by format, and as a page shows it.

    The printed values stand beside it where clusters bear the paper's names.
    """
    columns = ["cluster", "term", "name", "fdr", "p", "n", "N"]
    frame = result.table("short").fillna({"name": "", "term": ""})[columns]
    named = bool(result.dataset.name == PAPERS_DATASET and result.evaluator.params["clusters"])
    if named:
        tests = result.table("enrichment").fillna({"name": "", "term": ""})[columns]
        frame = beside_the_printed(frame, tests, result.details.get("replaced_terms", {}))
        frame = frame.astype({"paper_n": "Int64", "paper_N": "Int64"})
    frame = frame.astype({"n": "Int64", "N": "Int64"})
    body, page_rows, last = [], [], None
    for row in frame.to_dict("records"):
        line = _ours(row) if not named else _beside(row)
        body.append(["" if row["cluster"] == last else str(row["cluster"]), *line])
        page_rows.append(
            [Cell.of(text) for text in (str(row["cluster"]), *line)]
        )  # sortable: every row names its cluster
        last = row["cluster"]
    header = [*HEADER, "paper: FDR", "paper: proteins"] if named else HEADER
    title = (
        f"Enrichments for clusters of proteins. Dataset: {result.dataset.name}, features: {result.features.full_name}"
    )
    notes = _notes(result, named)
    listed = "".join(f"\n- {markdown(note)}" for note in notes)
    texts: dict[Format, str] = {
        "md": f"## {markdown(title)}\n\n{markdown_table(header, body)}\n{listed}\n",
        "csv": csv_table(frame),
        "tex": latex_table(header, body, f"{title}. {' '.join(notes)}"),
    }
    return texts, [PageTable(title, header, page_rows, notes)]


def _missing(value: Any) -> bool:
    return bool(value is None or value != value or str(value) == "<NA>")


def _ours(row: Mapping[Any, Any]) -> list[str]:
    """Return the term, its adjusted p and its proteins in a cluster; "none" where the cluster has no term."""
    if not row["name"]:
        return ["none", "–", f"–/{int(row['N'])}"]
    return [row["name"], f"{row['fdr']:.2e}", f"{int(row['n'])}/{int(row['N'])}"]


def _beside(row: Mapping[Any, Any]) -> list[str]:
    """Return a row of ours, of the paper, or of both, and the printed numbers."""
    if _missing(row["paper_term"]):
        return [*_ours(row), "", ""]
    by_eye = _missing(row["paper_fdr"])
    paper_cells = ["by eye" if by_eye else f"{row['paper_fdr']:.2e}", f"{int(row['paper_n'])}/{int(row['paper_N'])}"]
    term = str(row["paper_term"])
    if not row["name"]:
        return [term, NOT_OURS, NOT_OURS, *paper_cells]
    name, *ours = _ours(row)
    return [name if name.casefold() == term.casefold() else f"{name} (printed: {term})", *ours, *paper_cells]


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
    if params.get("protocol", "pooled") == "pooled":
        protocol = (
            f"against all clustered proteins, adjusted once over all {details['tests']:,} tests (Benjamini and Hochberg): ours, "
            "where the paper's GOrilla took one cluster at a time (protocol=per-list)"
        )
    else:
        protocol = (
            f"against the {details['background']:,} clustered proteins with an annotation, adjusted over the terms of each "
            "cluster by itself (Benjamini and Hochberg), as GOrilla does"
        )
    limited = f" (--limit {result.dataset.limit})" if result.dataset.limit else ""
    notes = [
        f"{clusters}; {details['n_proteins']:,} proteins of {result.dataset.n_cells:,} cells{limited}; seed "
        f"{result.run['seed']}, pci-bench {__version__}.",
        f"Upper tail of the hypergeometric distribution, {protocol}; at most {params['shown']} terms of each cluster with an "
        f"adjusted p up to {params['fdr']:g}, the most significant first.",
        f"{details['tested_terms']:,} terms of {params['namespace']}, ontology {details['ontology_version']}, annotations "
        f"{details['annotations_date'] or 'without a date'}; {counts['unmatched_proteins']:,} proteins have none, "
        f"{counts['duplicate']:,} rows repeat another, {counts['negated']:,} are negated, {counts['of_other_proteins']:,} are of "
        f"other proteins, {counts['unknown_term']:,} have a term that the ontology lacks or calls obsolete.",
    ]
    if named:
        notes.append(
            f"All rows of the paper's Table 3 are here, found by cluster and term (by its identifier where it was renamed); "
            f"'{NOT_OURS}': the cluster is not in the file, or the term is not among those tested in it."
        )
    else:
        notes.append(
            "The paper's 27 clusters were picked by hand; its Table 3 stands beside ours where clusters=FILE names them on "
            f"{PAPERS_DATASET}."
        )
    return notes
