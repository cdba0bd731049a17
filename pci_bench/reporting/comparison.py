"""Two sets of results side by side, as rows, Markdown and JUnit XML."""

from __future__ import annotations

from typing import Any

from pci_bench.runs.comparison import Comparison, Difference
from pci_bench.system.text import markdown as in_markdown
from pci_bench.system.text import markdown_table, xml_text


def rows(comparison: Comparison, *, everything: bool = False) -> list[dict[str, Any]]:
    """Return the changed numbers (or all of them), the largest change for what is allowed first, as rows for a table.

    Shares are in percent, as tables print them.
    """
    chosen = comparison.differences if everything else comparison.changes
    return [
        {
            "result": d.key,
            "number": f"{d.what} (%)" if d.metric.unit == "percent" else d.what,
            "old": _text(d, d.old),
            "new": _text(d, d.new),
            "change": _text(d, d.delta, "+"),
            "allowed": f"±{_text(d, d.allowed)}",
            "paired 95 % interval": ""
            if d.interval is None
            else f"[{', '.join(_text(d, v, '+') for v in d.interval)}]",
            "": d.direction,
        }
        for d in sorted(chosen, key=lambda d: -d.excess)
    ]


def _text(difference: Difference, value: float, sign: str = "") -> str:
    """Return a value of a difference in the unit of its metric, to as many decimals as show that it moved."""
    return f"{difference.metric.scale * value:{sign}.{difference.decimals}f}"


def verdict(comparison: Comparison) -> str:
    """Return the outcome in one sentence."""
    n, changes = len(comparison.differences), comparison.changes
    up = sum(d.direction == "higher" for d in changes)
    parts = [f"{n} numbers of {comparison.compared} results compared: "]
    parts.append("all the same" if not changes else f"{len(changes)} changed ({up} higher, {len(changes) - up} lower)")
    if comparison.missing:
        parts.append(f"; {len(comparison.missing)} missing")
    if comparison.new:
        parts.append(f"; {len(comparison.new)} new")
    return "".join(parts) + "."


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values: every number in the metric's own unit, shares between 0 and 1."""
    return {
        "same": comparison.same,
        "verdict": verdict(comparison),
        "changed": [
            {
                "result": d.key,
                "number": d.what,
                "old": d.old,
                "new": d.new,
                "allowed": d.allowed,
                "interval": d.interval,
                "direction": d.direction,
            }
            for d in sorted(comparison.changes, key=lambda d: -d.excess)
        ],
        "compared": len(comparison.differences),
        "missing": list(map(str, comparison.missing)),
        "new": list(map(str, comparison.new)),
        "not_compared": list(map(str, comparison.notes)),
    }


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown, for a comment on a pull request."""
    changed = rows(comparison)
    text = f"**pci-bench compare**: {verdict(comparison)}\n"
    if changed:
        text += f"\n{markdown_table(list(changed[0]), [list(row.values()) for row in changed])}\n"
    for title, entries in (
        ("Missing", comparison.missing),
        ("New", comparison.new),
        ("Not compared", comparison.notes),
    ):
        if entries:
            text += f"\n{title}:\n" + "".join(f"- {in_markdown(e)}\n" for e in entries)
    return text


def junit(comparison: Comparison) -> str:
    """Return the comparison as JUnit XML: a test case per number, failed where it changed or is missing."""
    from xml.etree import ElementTree

    failures = len(comparison.changes) + len(comparison.missing)
    suite = ElementTree.Element(
        "testsuite",
        name="pci-bench compare",
        tests=str(len(comparison.differences) + len(comparison.missing)),
        failures=str(failures),
    )
    for d in comparison.differences:
        case = ElementTree.SubElement(suite, "testcase", classname=xml_text(d.key), name=xml_text(d.what))
        if d.changed:
            unit = " %" if d.metric.unit == "percent" else ""
            message = f"{_text(d, d.old)}{unit} became {_text(d, d.new)}{unit} ({_text(d, d.delta, '+')}, allowed ±{_text(d, d.allowed)})"
            ElementTree.SubElement(case, "failure", message=message)
    for key in comparison.missing:
        case = ElementTree.SubElement(suite, "testcase", classname=xml_text(key), name="present")
        ElementTree.SubElement(case, "failure", message="missing in the new results")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode")
