"""The outcome of a reproduction as Markdown and JSON."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from pci_bench.reproduction.outcome import Number, Outcome
from pci_bench.system.files import atomic_file, make_folder, write_json
from pci_bench.system.text import enumerated, markdown, markdown_table

HEADER = ("feature set", "column", "ours", "printed", "difference", "allowed", "")


def write_outcome(outcome: Outcome, folder: Path) -> None:
    """Write ``reproduction.md`` and ``reproduction.json`` into a folder, in place of earlier ones."""
    make_folder(folder)
    with atomic_file(folder / "reproduction.md") as temporary:
        temporary.write_text(as_markdown(outcome), encoding="utf-8", newline="\n")
    write_json(folder / "reproduction.json", as_json(outcome))


def row_of(number: Number, *, variant: bool = False) -> tuple[str, ...]:
    """Return a number as texts under :data:`HEADER`."""
    d = number.decimals
    difference = "" if variant else f"{round(number.difference, d) + 0.0:+.{d}f}"  # no -0.00
    allowed = "" if number.tolerance is None else f"±{number.tolerance:g}"
    verdict = {True: "within", False: "OUTSIDE", None: "" if variant else "not judged"}[number.within]
    return (
        number.features,
        number.column,
        f"{number.ours:.{d}f}",
        f"{number.printed:.{d}f}",
        difference,
        allowed,
        verdict,
    )


def sentences(outcome: Outcome, said_before: Container[str] = ()) -> list[str]:
    """Return what must be said of an outcome beside its numbers.

    Parameters
    ----------
    outcome
        Of one item.
    said_before
        The names of what is not here of which was said why.
    """
    said = []
    if outcome.variant:
        others = " The printed numbers are of other cells, so no difference is shown." if outcome.numbers else ""
        said.append(f"Not a reproduction: {outcome.variant.rstrip('.')}.{others}")
    for claim in outcome.claims:
        said.append(f"{'Holds' if claim.holds else 'DOES NOT HOLD'}: {claim.text} ({claim.found}).")
    if outcome.item.why_not and any(n.tolerance is None for n in outcome.numbers):
        said.append(f"Not judged: {outcome.item.why_not}")
    for reason in dict.fromkeys(outcome.left_out.values()):
        rows = [features for features, why in outcome.left_out.items() if why == reason]
        said.append(f"Not run: {enumerated(rows)}: {reason.rstrip('.')}.")
    for run, reason in outcome.failures.items():
        benchmark, _, dataset = run.partition(" on ")
        own = f"`pci-bench run {benchmark} --dataset {dataset} --set …` takes parameters of your own, which no printed number has."
        said.append(f"Failed: {run}: {reason.rstrip('.')}. {own}")
    said += [f"Not here: {n}: {why.rstrip('.')}." for n, why in outcome.wanting.items() if n not in said_before]
    if known := [name for name in outcome.wanting if name in said_before]:
        said.append(f"Not here, as said above: {enumerated(known)}.")
    said += [f"Counted: {counted}" for counted in outcome.counts]
    said += [f"From: {name}: {source.rstrip('.')}." for name, source in outcome.sources.items() if source]
    return said


def as_markdown(outcome: Outcome) -> str:
    """Return an outcome as a page of Markdown."""
    parts = [f"# {markdown(outcome.item.title)}", f"**{outcome.verdict}**"]
    for table in dict.fromkeys(n.table for n in outcome.numbers):
        rows = [row_of(n, variant=bool(outcome.variant)) for n in outcome.numbers if n.table == table]
        parts.append(markdown_table(list(HEADER), [list(row) for row in rows]))
    parts += [f"- {markdown(sentence)}" for sentence in sentences(outcome)]
    return "\n\n".join(parts) + "\n"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values."""
    return {
        "item": outcome.item.name,
        "title": outcome.item.title,
        "verdict": str(outcome.verdict),
        "exit_code": outcome.code,
        "variant": outcome.variant,
        "numbers": [
            {
                "table": n.table,
                "features": n.features,
                "column": n.column,
                "ours": n.ours,
                "printed": n.printed,
                "difference": None if outcome.variant else n.difference,
                "tolerance": n.tolerance,
                "within": n.within,
            }
            for n in outcome.numbers
        ],
        "claims": [{"text": c.text, "holds": c.holds, "found": c.found} for c in outcome.claims],
        "left_out": outcome.left_out,
        "missing": outcome.missing,
        "not_here": outcome.wanting,
        "failures": outcome.failures,
        "counts": outcome.counts,
        "sources": outcome.sources,
    }
