"""The figures section of a report: the run's figures, embedded as they were drawn."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from pci_bench.runs.record import RunRecord
from pci_bench.system.foreign import check_within, files_within

LARGEST = 3_000_000  # bytes of all embedded figures together


@dataclass(frozen=True)
class Picture:
    """One figure: its name, the PNG as a data address, its data as the address of a CSV file or "", and the bytes of both."""

    name: str
    uri: str
    data: str
    size: int


def _address(file: Path, kind: str) -> str:
    """Return a file's content as an address that a browser shows or saves, without a server."""
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


def pictures(folder: Path, record: RunRecord | None, used: int = 0) -> tuple[list[Picture], list[str]]:
    """Return the figures of a folder that fit into the page, of whose room some bytes are used, and the names of the others.

    Those that the record names, in its order; without a record, all by name. A figure that comes in two palettes is shown
    in the colour-blind-safe one.
    """
    check_within(folder, folder / "figures")
    tables = {file.name: file for file in files_within(folder / "figures", "*.csv")}
    here = {file.name: file for file in files_within(folder / "figures", "*.png")}
    named = [Path(f).name for f in record.figures] if record else list(here)
    files = [here[n] for n in dict.fromkeys(named) if n in here and not n.endswith("-yellow-blue.png")]
    included: list[Picture] = []
    left: list[str] = []
    room = LARGEST - used
    for file in files:
        size = file.stat().st_size
        if size > room:
            left.append(file.name)
            continue
        table = tables.get(f"{file.stem}.csv")
        data = "" if table is None or size + table.stat().st_size > room else _address(table, "text/csv;charset=utf-8")
        size += table.stat().st_size if table is not None and data else 0
        room -= size
        included.append(Picture(file.stem, _address(file, "image/png"), data, size))
    return included, left
