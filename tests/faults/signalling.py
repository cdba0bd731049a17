"""A plug-in that kills or interrupts its own process at a chosen point, once, and the cells and features that it does so in."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pandas as pd

from pci_bench import Channel, Dataset, DatasetMeta, register_dataset, register_features

CELLS = 3 * 256
AT = os.environ.get("SIGNAL_AT", "")  # "import", "build", "part", "compiled"
NAMES = os.environ.get("SIGNALS", "").split(",")


def reach(point: str) -> None:
    """Send the signals that were asked for at this point, once in a folder, and wait for them; without any, for the test's."""
    if point != AT:
        return
    with contextlib.suppress(FileExistsError):
        Path("sent").touch(exist_ok=False)
        for name in filter(None, NAMES):
            os.kill(os.getpid(), getattr(signal, name))
        if point == "compiled":
            np.linalg.svd(np.random.default_rng(0).random((300, 300)))
        threading.Event().wait(60)


@register_dataset("numbered")
class Numbered(Dataset):
    """Cells whose first pixel is their number."""

    meta = DatasetMeta("numbered", "1", "Cells whose first pixel is their number")

    def unavailable_reason(self):
        return None

    def build(self, store):
        crops = np.zeros((CELLS, 1, 2, 2), np.float32)
        crops[:, 0, 0, 0] = np.arange(1, CELLS + 1)
        obs = {"cell": [f"c{i}" for i in range(CELLS)], "image": "one", "label": [str(i % 3) for i in range(CELLS)]}
        store.begin(pd.DataFrame(obs), (Channel("GFP", "protein"),), crop_shape=(2, 2), dtype="float32")
        store.add(crops[:300])
        reach("build")
        store.add(crops[300:])


@register_features("number", version="1", rescale="raw", processes=True, names=lambda channels: ["sine", "rest"])
def number(crops):
    """The sine of a cell's number, and what is left of it by three."""
    first = crops[:, 0, 0, 0]
    if first[0] == 257:
        reach("part")
        reach("compiled")
    return np.stack([np.sin(first), first % 3 + np.cos(first)], axis=1)


reach("import")
