"""A synthetic screen of the paper's size, from store to tables: seconds, memory and bytes of every stage, and how they grow.

    python speed/paper_size.py [--cells 10000,100000,1200000] [--folder FOLDER] [--memory 4]
    python speed/paper_size.py --plan 100e6 [--core-hour 0.04] [--gb-month 0.023]

Crops of 64×64 pixels and two channels (uint8) are drawn in blocks and streamed to a store, never all in memory. Every stage is a process
of its own that may take `--memory` GiB and no more (RLIMIT_DATA, where there is one); what it takes is printed. Networks compute the
features of `--share` cells, and the others' are drawn from these, so that joining, writing and evaluating are of all cells. Of more than
`--whole` cells, neighbours are searched for 8,160. Both times are then extrapolated, and marked by ~.

With --folder, stages that are done are not measured again, and the measurements lie in FOLDER/measured.json. The largest screen takes 17 GB
of disk, or less with --flat 800000. Without --cells, --plan prints what speed/paper_size.json holds, which is the last such file that was kept, as a plan for more cells.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pci_bench.statistics.compiled.neighbors import EXTRA_CANDIDATES
from pci_bench.system.blocks import Blocks, BlockWork

CELLS_PER_IMAGE, PROTEINS, CLASSES = 60, 4144, 17
BLOCK = 4096
NOISE_PIXELS = 2**26  # from which each crop takes its own, at a random place
CHEAP, NETWORK = "intensity", "pci-conv4@yeast-sim"  # a network of a quarter of the paper's width
LOADER_SECONDS = 6.0
PAIRS, MINIMUM_PROTEINS = 1000, 5
ROWS = 136 * CELLS_PER_IMAGE  # whose neighbours are searched among all, where a search of all would take hours
ARROW = {"ARROW_DEFAULT_MEMORY_POOL": "system"}  # its own one reserves a GiB, which the limit counts
KEPT = Path(__file__).with_suffix(".json")
Measured = dict[str, Any]


# ---- the screen


def table_of(n: int) -> Any:
    """Return the table of n cells: 60 in an image, up to 4,144 proteins of 17 localizations, 96 images on a plate."""
    import pandas as pd

    image = np.arange(n) // CELLS_PER_IMAGE
    protein = image % min(PROTEINS, int(image[-1]) + 1)
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "cell": [f"I{i:06d}_{c:02d}" for i, c in zip(image, np.arange(n) % CELLS_PER_IMAGE, strict=True)],
            "image": pd.Series(image).map("I{:06d}".format),
            "protein": pd.Series(protein).map("P{:04d}".format),
            "label": pd.Series(protein % CLASSES).map("L{:02d}".format),
            "labels": pd.Series(protein % CLASSES).map("L{:02d}".format),
            "plate": pd.Series(image // 96).map("plate{:03d}".format),
            "y": rng.uniform(32, 1000, n).round(2),
            "x": rng.uniform(32, 1300, n).round(2),
        }
    )


def blocks_of_crops(n: int) -> Iterator[np.ndarray]:
    """Yield crops (b, 2, 64, 64) uint8: a pattern of the protein's class and a marker, brighter and darker, with noise."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    distance = np.hypot(rows - 31.5, columns - 31.5)
    marker = 90 / (1 + np.exp((distance - 20) / 2))
    patterns = np.empty((CLASSES, 2, 64, 64), np.float32)
    for number in range(CLASSES):
        spots = rng.uniform(18, 46, (2 + number, 2))
        width = 1.5 + number % 5
        blobs = sum(np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2)) for y, x in spots)
        patterns[number] = 110 * blobs / blobs.max() + 0.1 * marker, marker
    noise = np.empty(NOISE_PIXELS, np.float16)
    for part in np.split(noise, 64):
        part[:] = 1.2 * rng.standard_normal(len(part), np.float32)
    image = np.arange(n) // CELLS_PER_IMAGE
    label = image % min(PROTEINS, int(image[-1]) + 1) % CLASSES
    size = patterns[0].size
    for start in range(0, n, BLOCK):
        of_block = slice(start, min(start + BLOCK, n))
        crops = np.empty((len(label[of_block]), *patterns.shape[1:]), np.uint8)
        bright = rng.uniform(0.5, 1.5, (len(crops), 2, 1, 1)).astype(np.float32)
        begin = rng.integers(0, len(noise) - size, len(crops))
        for crop, number, factor, first in zip(crops, label[of_block], bright, begin, strict=True):
            drawn = patterns[number] * factor + noise[first : first + size].reshape(crop.shape)
            crop[:] = (drawn + 8).clip(0, 255)
        yield crops


# ---- stages: each returns what it measured besides time and memory


def cells_of(folder: Path) -> Any:
    from pci_bench.data.store import open_store

    return open_store(folder / "store")


def size_of(*places: Path) -> tuple[int, int]:
    """Return the bytes and the number of all files below some folders."""
    files = [p for place in places for p in place.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files), len(files)


def stored(n: int, folder: Path, options: Any) -> Measured:
    """Stream the screen to a store."""
    from pci_bench.data.cells import Channel, DatasetMeta
    from pci_bench.data.store import StoreWriter
    from pci_bench.system.progress import Progress

    shutil.rmtree(folder / "store", ignore_errors=True)
    (folder / "store").mkdir(parents=True)
    writer = StoreWriter(folder / "store", DatasetMeta("paper-size", "1", "Drawn", confounder="image"), Progress())
    channels = (Channel("GFP", "protein"), Channel("RFP", "marker"))
    writer.begin(table_of(n), channels, crop_shape=(64, 64), dtype="uint8")
    drawing, before = 0.0, time.process_time()
    for crops in blocks_of_crops(n):
        drawing += time.process_time() - before
        writer.add(crops)
        before = time.process_time()
    writer.finish()
    octets, files = size_of(folder / "store")
    return {"without": drawing, "bytes": octets, "files": files, "of_raw": octets / (n * 2 * 64 * 64)}


def opened(n: int, folder: Path, options: Any) -> Measured:
    """Open the store, and take every second cell."""
    cells = cells_of(folder)
    return {"cells": len(cells[::2])}


def loaded(n: int, folder: Path, options: Any) -> Measured:
    """Draw an epoch's pairs, and prepare batches of 64 of them for some seconds."""
    from pci_bench.api.model import MODELS
    from pci_bench.system.progress import Progress
    from pci_bench.training.crops import stored_crops
    from pci_bench.training.loop import recipe_of

    copied = min(n, options.flat or n)
    cells, progress = cells_of(folder)[:copied], Progress()
    objective = MODELS.get("pci").objective(cells, recipe_of("pci"), progress)
    crops = stored_crops(cells, progress)
    batches = objective.batches(crops, 0)
    began = time.process_time()
    for pairs, _ in enumerate(batches):  # noqa: B007 - counted
        if (spent := time.process_time() - began) > LOADER_SECONDS:
            break
    octets = size_of(Path(os.environ["PCI_BENCH_CACHE"]) / "training")[0]
    shutil.rmtree(Path(os.environ["PCI_BENCH_CACHE"]) / "training", ignore_errors=True)
    more = {"share": copied, "times": n / copied} if copied < n else {}
    return {"without": spent, "rate": 64 * (pairs + 1) / spent, "bytes": octets * n // copied, **more}


def cheap_features(n: int, folder: Path, options: Any) -> Measured:
    """Extract a cheap feature set of all cells."""
    from pci_bench import extract

    extract(CHEAP, cells_of(folder), device="cpu", workers=1)
    octets, files = size_of(Path(os.environ["PCI_BENCH_CACHE"]) / "features")
    return {"bytes": octets, "files": files}


def network_features(n: int, folder: Path, options: Any) -> Measured:
    """Extract a network's features of a share of the cells, and keep them, with others drawn from them, as parts of all."""
    from pci_bench import extract
    from pci_bench.api.segmenter import DEFAULT_SEGMENTER
    from pci_bench.data.observations import obs_codes
    from pci_bench.features.jobs import job_of, write_part
    from pci_bench.features.names import parse

    cells, share = cells_of(folder), min(n, options.share)
    began = time.process_time()
    values = extract(NETWORK, cells[:share], device="cpu", workers=1).X
    spent = time.process_time() - began
    began = time.process_time()
    job, rng = job_of(parse(NETWORK), cells, DEFAULT_SEGMENTER), np.random.default_rng(0)
    labels, spread = obs_codes(cells.obs, "label"), values.std(axis=0) / 10
    alike = [np.flatnonzero(labels[:share] == number) for number in range(labels.max() + 1)]
    for start, stop in job.blocks(n):
        rows = np.array([alike[x][i % len(alike[x])] for i, x in enumerate(labels[start:stop], start)])
        part = values[rows] + spread * rng.standard_normal((len(rows), values.shape[1]), dtype=np.float32)
        real = slice(0, max(0, min(stop, share) - start))
        part[real] = values[start : start + real.stop]
        write_part(job, cells.obs["cell"].iloc[start:stop].tolist(), start, part)
    return {
        "without": time.process_time() - began,
        "whole": spent * (n / share - 1),
        "share": share,
        "rate": share / spent,
    }


def joined(n: int, folder: Path, options: Any) -> Measured:
    """Join the parts of a network's features, and write them as one file."""
    from pci_bench import extract

    features = extract(NETWORK, cells_of(folder), device="cpu", workers=1)
    files = list((Path(os.environ["PCI_BENCH_CACHE"]) / "features").rglob(f"{NETWORK.partition('@')[0]}*.h5ad"))
    return {"bytes": max(f.stat().st_size for f in files), "columns": features.n_vars}


def features_of(folder: Path) -> Any:
    from pci_bench import extract

    return extract(NETWORK, cells_of(folder), device="cpu", refresh="never")


def read(n: int, folder: Path, options: Any) -> Measured:
    """Read the features from the cache, as every later command does."""
    return {"cells": features_of(folder).n_obs}


class OfAShare(Blocks):
    """Searches for the neighbours of some rows among all, and gives every other row those of the row so many before it.

    The seconds that it took are those of a whole search divided by `all rows / rows`, or more: a whole one uses each product twice.
    """

    def __init__(self, rows: int):
        super().__init__()
        self.rows, self.seconds = rows, 0.0

    def computed(self, work: BlockWork) -> tuple[np.ndarray, ...]:
        """Return rows of each result, of which the first are computed."""
        n, m = work.rows, 11 + 10 + 11 // 2 + EXTRA_CANDIDATES
        heaps = np.full((2, n, m), np.inf, np.float32), np.full((2, n, m), -1, np.int32)  # as a whole search holds them
        began = time.process_time()
        found = work.function(0, self.rows, *work.arrays)
        self.seconds += time.process_time() - began
        del heaps
        whole = tuple(np.empty((n, *part.shape[1:]), part.dtype) for part in found)
        for start in range(0, n, self.rows):
            for all_rows, part in zip(whole, found, strict=True):
                some = part[: n - start]
                all_rows[start : start + len(some)] = (some + start) % n if part.dtype.kind == "i" else some
        return whole


def neighbors(n: int, folder: Path, options: Any) -> Measured:
    """Evaluate by leave-one-out kNN, the cell or its image left out, and write the results."""
    from pci_bench import evaluate
    from pci_bench.runs import evaluation
    from pci_bench.runs.outputs import write_results

    features, more = features_of(folder), {}
    if n > options.whole:
        evaluation.HERE = share = OfAShare(ROWS)
    results = evaluate("loo-knn", features, k=11, exclude=["cell", "image"])
    write_results(results, folder / "out")
    octets, files = size_of(folder / "out")
    if n > options.whole:
        more = {"share": ROWS, "whole": share.seconds * (n / ROWS - 1), "search": share.seconds}
    else:
        more = {"accuracy": {r.evaluator.params["exclude"]: r.metrics["balanced_accuracy"] for r in results}}
    return {"bytes": octets, "files": files, **more}


def distances(n: int, folder: Path, options: Any) -> Measured:
    """Evaluate by normalised distances of image pairs, and write the results."""
    from pci_bench import evaluate
    from pci_bench.runs.outputs import write_results

    results = evaluate("pairwise-distance", features_of(folder), pairs=PAIRS, minimum_proteins=MINIMUM_PROTEINS)
    write_results(results, folder / "out")
    return {"distance": results[0].metrics["normalized_distance"]}


def tables(n: int, folder: Path, options: Any) -> Measured:
    """Read the results, and print a table of them."""
    from pci_bench import results_frame
    from pci_bench.reporting.tables import TABLES
    from pci_bench.runs.results import read_results

    results = read_results(folder / "out")
    text = "".join(made.text("md") for made in TABLES.get("knn").filled(results, {}))
    return {"rows": len(results_frame(results)), "characters": len(text)}


STAGES: dict[str, tuple[str, Callable[[int, Path, Any], Measured]]] = {
    "store": ("store, streamed", stored),
    "open": ("opened, every second cell taken", opened),
    "loader": ("training loader: flat copy, an epoch drawn", loaded),
    "cheap": (f"features: {CHEAP}", cheap_features),
    "network": (f"features: {NETWORK}", network_features),
    "join": ("its parts joined and written", joined),
    "read": ("its features read", read),
    "knn": ("leave-one-out kNN, two exclusions", neighbors),
    "distances": (f"normalised distances, {PAIRS:,} pairs a term", distances),
    "tables": ("results read, table", tables),
}


# ---- measuring


class OwnMemory(threading.Thread):
    """Watches how much memory a process takes for itself: pages of mapped files are the system's to take back."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.largest = 0

    def run(self) -> None:
        """Look every 20 milliseconds."""
        while True:
            with open("/proc/self/status", encoding="utf-8") as lines:
                own = next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
            self.largest = max(self.largest, own * 1024)
            time.sleep(0.02)


def of_stage(stage: str, n: int, folder: Path, options: Any) -> Measured:
    """Return what a stage takes, measured in this process."""
    if hasattr(resource, "RLIMIT_DATA"):
        limit = int(options.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    memory = OwnMemory()
    memory.start()
    before, began = time.process_time(), time.perf_counter()
    found = STAGES[stage][1](n, folder, options)
    seconds = time.process_time() - before - found.pop("without", 0.0)
    found.setdefault("whole", seconds * (found.pop("times", 1.0) - 1))
    time.sleep(0.03)
    return {
        "stage": stage,
        "n": n,
        "seconds": seconds + found["whole"],
        "measured_seconds": seconds,
        "wall": time.perf_counter() - began,
        "own_memory": memory.largest,
        "limit": options.memory,
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **found,
    }


def measured(sizes: Sequence[int], folder: Path, options: Any) -> list[Measured]:
    """Measure all stages of all sizes, each in a process, but for those that are measured already."""
    kept = folder / "measured.json"
    done: list[Measured] = json.loads(kept.read_text(encoding="utf-8"))["stages"] if kept.is_file() else []
    for n in sizes:
        place = folder / str(n)
        for stage in STAGES:
            if any(m["stage"] == stage and m["n"] == n for m in done):
                continue
            command = [sys.executable, __file__, "--stage", stage, "--cells", str(n), "--folder", str(place)]
            command += [f"--{name}={getattr(options, name)}" for name in ("memory", "share", "whole", "flat")]
            environment = {**os.environ, "PCI_BENCH_CACHE": str(place / "cache"), **ARROW}
            ran = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
            if ran.returncode:
                raise SystemExit(f"The stage {stage} of {n:,} cells failed. What was measured before lies in {kept}.")
            done.append(json.loads(ran.stdout.splitlines()[-1]))
            kept.write_text(
                json.dumps({"machine": machine(), "memory": options.memory, "stages": done}, indent=1) + "\n",
                encoding="utf-8",
                newline="\n",
            )
            m = done[-1]
            print(
                f"{n:>10,} {stage:10}{m['seconds']:10.2f} s {m['own_memory'] / 1e6:8.0f} MB",
                file=sys.stderr,
                flush=True,
            )
        if not options.keep:
            shutil.rmtree(place, ignore_errors=True)
    return done


def machine() -> dict[str, str]:
    from pci_bench.speed.measured import machine

    return machine()


# ---- tables


def printed(content: Measured) -> str:
    """Return the measurements as a table, a row for each stage."""
    stages = content["stages"]
    sizes = sorted({m["n"] for m in stages})
    lines = [f"{name}: {fact}" for name, fact in content["machine"].items() if name != "load"]
    lines += [f"memory a process may take: {content['memory']:g} GiB", ""]
    heads = [f"{n:,} cells: CPU s" for n in sizes] + [f"{n:,}: MB" for n in sizes]
    heads += [f"time a cell, {b:,} / {a:,}" for a, b in pairwise(sizes)]
    lines += ["| stage | " + " | ".join([*heads, "bytes a cell on disk"]) + " |", "|---" * (len(heads) + 2) + "|"]
    for stage, (title, _) in STAGES.items():
        of_stage = {m["n"]: m for m in stages if m["stage"] == stage}
        if set(of_stage) != set(sizes):
            continue
        row = [f"{'~' if m.get('whole') else ''}{_seconds(m['seconds'])}" for m in map(of_stage.get, sizes) if m]
        row += [f"{of_stage[n]['own_memory'] / 1e6:.0f}" for n in sizes]
        each = [of_stage[n]["seconds"] / n for n in sizes]
        row += [f"{b / a:.2f}" for a, b in pairwise(each)]
        octets = of_stage[sizes[-1]].get("bytes") or None
        lines.append(f"| {title} | " + " | ".join([*row, "" if octets is None else f"{octets / sizes[-1]:.0f}"]) + " |")
    largest = {m["stage"]: m for m in stages if m["n"] == sizes[-1]}
    if "loader" in largest and "store" in largest:
        rates = ", ".join(f"{m['rate']:,.0f}" for m in stages if m["stage"] == "loader")
        lines += [
            "",
            f"The loader prepares {rates} pairs a CPU second. The store of {sizes[-1]:,} cells has {largest['store']['files']:,} files.",
        ]
    return "\n".join(lines)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"


def planned(content: Measured, n: int, core_hour: float, gb_month: float) -> str:
    """Return what n cells would take, by the rates of the largest screen that was measured: a table, and what breaks first."""
    stages = content["stages"]
    smaller, size = sorted({m["n"] for m in stages})[-2:]
    before, largest = ({m["stage"]: m for m in stages if m["n"] == s} for s in (smaller, size))
    lines = [f"{n:,} cells, by the rates of {size:,}; ${core_hour:g} a core hour, ${gb_month:g} a GB and month", ""]
    lines += [
        "| stage | core hours | $ | GB on disk | $ a month | GB of memory | 4 GiB are full at |",
        "|---" * 7 + "|",
    ]
    sums, limits = np.zeros(4), []
    for stage, (title, _) in STAGES.items():
        m = largest[stage]
        quadratic = min(m.get("search", 0.0) + m.get("whole", 0.0), m["seconds"]) if stage == "knn" else 0.0
        hours = ((m["seconds"] - quadratic) * n / size + quadratic * (n / size) ** 2) / 3600
        octets = m.get("bytes", 0) * n / size / 1e9
        slope = max(0.0, (m["own_memory"] - before[stage]["own_memory"]) / (size - smaller))
        memory = (m["own_memory"] + slope * (n - size)) / 1e9
        full = size + (content["memory"] * 2**30 - m["own_memory"]) / slope if slope * n > 2**30 else np.inf
        limits.append((full, title))
        sums += hours, hours * core_hour, octets, octets * gb_month
        at = f"{full / 1e6:.1f} million cells" if np.isfinite(full) else ""
        cost = f"{hours:,.1f} | {hours * core_hour:,.2f} | {octets:,.1f} | {octets * gb_month:,.2f}"
        lines.append(f"| {title} | {cost} | {memory:,.1f} | {at} |")
    lines.append("| all | " + " | ".join(f"{s:,.1f}" for s in sums) + " | | |")
    order = ", ".join(f"{title} ({full / 1e6:.1f} million)" for full, title in sorted(limits)[:3] if np.isfinite(full))
    return "\n".join([*lines, "", f"Memory ends first: {order}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default="")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--memory", type=float, default=4.0)
    parser.add_argument("--share", type=int, default=20_000)
    parser.add_argument("--whole", type=int, default=100_000)
    parser.add_argument(
        "--flat", type=int, default=0, help="cells of which training's flat copy is made; by default all"
    )
    parser.add_argument("--keep", action="store_true", help="leave stores and features in FOLDER")
    parser.add_argument("--plan", type=float)
    parser.add_argument("--core-hour", type=float, default=0.04)
    parser.add_argument("--gb-month", type=float, default=0.023)
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(of_stage(options.stage, int(options.cells), options.folder, options)))
        return
    if options.plan and not options.cells:
        content = json.loads(KEPT.read_text(encoding="utf-8"))
    else:
        sizes = [int(float(n)) for n in (options.cells or "10000,100000,1200000").split(",")]
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            content = {"machine": machine(), "memory": options.memory, "stages": measured(sizes, folder, options)}
    print(printed(content))
    if options.plan:
        print()
        print(planned(content, int(options.plan), options.core_hour, options.gb_month))


if __name__ == "__main__":
    main()
