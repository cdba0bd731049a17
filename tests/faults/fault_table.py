"""Print what a user sees of every fault of a download, as a table: ``python tests/faults/fault_table.py`` (some seconds).

Each row is `pci-bench data get NAME` with a server on this machine. Waits are shortened, nothing else.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import numpy as np
import pandas as pd
from servers import FileServer, Served
from test_downloads import CONTENT, HASTY, LENGTH, ROWS, wanted

from pci_bench import Channel
from pci_bench.acquisition.download import fetch
from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.cli import main
from pci_bench.data.cells import DatasetMeta
from pci_bench.system.remote import downloaded_file


@register_dataset("crops-of-a-server")
class CropsOfAServer(Dataset):
    """Cells of a file that a server gives, or not."""

    meta = DatasetMeta("crops-of-a-server", "1", "Cells of a file that a server gives")
    urls, size = (), None

    def fetch(self, progress):
        fetch(wanted(*self.urls, size=self.size), progress=progress, patience=HASTY)

    def build(self, store):
        pixels = np.frombuffer(downloaded_file(wanted()).read_bytes(), np.uint8).reshape(100, 1, 32, 32)
        store.begin(
            pd.DataFrame({"cell": [str(i) for i in range(100)], "image": ["1"] * 100}),
            (Channel("GFP", "protein"),),
            crop_shape=(32, 32),
            dtype="uint8",
        )
        store.add(pixels)


def seen(row) -> tuple[str, int]:
    """Return what a command says last, and its exit status."""
    with FileServer({"/file.zip": Served(CONTENT, ranges=row.ranges), "/elsewhere.zip": CONTENT}) as server:
        server.fail("/file.zip", row.fault, times=row.times)
        if row.then:
            server.fail("/file.zip", row.then, times=1)
        second = [server.url("/elsewhere.zip")] if row.second else []
        CropsOfAServer.urls, CropsOfAServer.size = (server.url("/file.zip"), *second), row.size
        out, err, code = io.StringIO(), io.StringIO(), 0
        with tempfile.TemporaryDirectory() as cache:
            os.environ["PCI_BENCH_CACHE"] = cache
            sys.argv = ["pci-bench", "data", "get", "crops-of-a-server"]
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    main()
                except SystemExit as error:
                    code = int(error.code or 0)
            told = [line for line in err.getvalue().splitlines() if " storing " not in line]
        text = " / ".join(line.strip() for line in told)
        return text.replace(server.address, "http://SERVER/").replace(server.address.split("/")[2], "SERVER"), code


if __name__ == "__main__":
    assert len(CONTENT) == LENGTH
    print("| fault | what the user sees | exit |\n|---|---|---|")
    for row in ROWS:
        text, code = seen(row)
        print(f"| {row.what} | {text.replace('|', ' ')} | {code} |", flush=True)
