"""A Dask cluster of real processes on the loopback: a scheduler, and workers that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from command_line import wait_until


class Processes:
    """A scheduler and its workers, each a process of Dask's own command line.

    Parameters
    ----------
    folder
        For their files; workers find it in the variable ``CLUSTER_TEST_FOLDER``, and begin in it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.started: list[subprocess.Popen] = []
        file = folder / "scheduler.json"
        ports = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        self.scheduler = self._start("dask_scheduler", *ports, "--scheduler-file", str(file))
        wait_until(lambda: file.exists() and file.read_text(), self.scheduler)
        self.address: str = json.loads(file.read_text())["address"]

    def worker(self, *options: str, path: Path | None = None) -> subprocess.Popen:
        """Start a worker of one thread that imports from a folder first, and return it once it is connected."""
        from pci_bench.system.cluster import connected

        before = len(connected(self.address).workers())
        place = ("--host", "127.0.0.1", "--local-directory", str(self.folder / f"worker-{len(self.started)}"))
        plain = options or ("--no-nanny",)
        arguments = (self.address, "--nthreads", "1", "--nworkers", "1", "--no-dashboard", *place, *plain)
        process = self._start("dask_worker", *arguments, path=path)
        wait_until(lambda: len(connected(self.address).workers()) > before, process)
        return process

    def _start(self, command: str, *arguments: str, path: Path | None = None) -> subprocess.Popen:
        paths = [str(p) for p in (path, os.environ.get("PYTHONPATH")) if p]
        named = {"CLUSTER_TEST_FOLDER": str(self.folder), **({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})}
        with open(self.folder / f"{command}-{len(self.started)}.log", "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{command}", *arguments],
                env={**os.environ, **named, "OMP_NUM_THREADS": "1"},
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def stop(self, *processes: subprocess.Popen) -> None:
        """Kill some processes, or all."""
        for process in processes or reversed(self.started):
            process.kill()
            process.wait()
