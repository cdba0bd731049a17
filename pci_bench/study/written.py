"""A study as Markdown: what follows from it first, then every part with its tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.runs.record import RunRecord
from pci_bench.study.conclusions import by_evaluator
from pci_bench.system.text import markdown

if TYPE_CHECKING:
    from pci_bench.study.study import PartOutcome, Plan


def as_markdown(planned: Plan, parts: Sequence[PartOutcome], title: str) -> str:
    """Return a study as a page of Markdown; the command that made it stands at the top."""
    quick = " --quick" if planned.quick else ""
    features = f" --features {','.join(planned.features)}" if planned.features else ""
    blocks = [f"# {markdown(title)}", f"Printed by `pci-bench study {planned.dataset}{quick}{features}`."]
    if planned.quick:
        blocks.append(
            f"A quick look: about {planned.limit} cells and few feature sets. Intervals are wide, and the full study may differ."
        )
    blocks.append("## What follows")
    for part in parts:
        if part.said:
            blocks.append(f"**{markdown(part.part.question)}**")
            for about, texts in by_evaluator(part.said).items():
                blocks += [*([f"{markdown(about)}:"] if about else []), "\n".join(f"- {markdown(t)}" for t in texts)]
    for part in parts:
        blocks.append(f"## {markdown(part.part.name.capitalize())}")
        blocks.append(markdown(part.part.question))
        if part.output is None:
            blocks.append(f"Not run: {markdown(part.reason)}")
            continue
        blocks += [
            re.sub("^## ", "### ", file.read_text(encoding="utf-8"), flags=re.MULTILINE).strip()
            for file in tables_of(part)
        ]
        blocks.append(
            f"`pci-bench run {part.output.benchmark} --dataset {planned.dataset}`; {part.cpu_seconds / 60:.1f} CPU minutes in this run."
        )
    return "\n\n".join(blocks) + "\n"


def tables_of(part: PartOutcome) -> list[Path]:
    """Return the tables of a part as files of Markdown, in the order in which its benchmark declares them."""
    record = RunRecord.read(part.folder / "run.json")
    return [file for name in record.tables if (file := part.folder / f"{name}.md").is_file()]
