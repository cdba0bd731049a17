"""Two sets of results side by side, as rows, Markdown and JUnit XML."""

from __future__ import annotations

from typing import Any

from pci_bench.runs.comparison import Comparison
from pci_bench.system.text import markdown as in_markdown
from pci_bench.system.text import markdown_table, xml_text


def rows(comparison: Comparison, *, everything: bool = False) -> list[dict[str, Any]]:
    """Return the changed numbers (or all of them), the largest change for what is allowed first, as rows for a table."""
    chosen = comparison.differences if everything else comparison.changes
    return [
        {
            "result": d.key,
            "number": d.what,
            "old": f"{d.old:.{d.decimals}f}",
            "new": f"{d.new:.{d.decimals}f}",
            "change": f"{d.delta:+.{d.decimals}f}",
            "allowed": f"±{d.allowed:.{d.decimals}f}",
            "paired 95 % interval": "" if d.interval is None else f"[{d.interval[0]:+.4f}, {d.interval[1]:+.4f}]",
            "": d.direction,
        }
        for d in sorted(chosen, key=lambda d: -d.excess)
    ]


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
            n = d.decimals
            message = f"{d.old:.{n}f} became {d.new:.{n}f} ({d.delta:+.{n}f}, allowed ±{d.allowed:.{n}f})"
            ElementTree.SubElement(case, "failure", message=message)
    for key in comparison.missing:
        case = ElementTree.SubElement(suite, "testcase", classname=xml_text(key), name="present")
        ElementTree.SubElement(case, "failure", message="missing in the new results")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode")
