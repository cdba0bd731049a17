"""What a worker of a Dask cluster needs of the process that gives it a task: the same code, its plug-ins, and its cache."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pci_bench import __version__
from pci_bench.api.plugins import digest_of_sources, load_plugin, own_folders, plugin_files, source_root
from pci_bench.api.registry import temporary_registrations
from pci_bench.errors import UserError
from pci_bench.system.cluster import Cluster, connected
from pci_bench.system.devices import device_name
from pci_bench.system.files import atomic_file, cache_folder, check_writable, temporary_folder
from pci_bench.system.machine import versions
from pci_bench.system.progress import Progress
from pci_bench.system.text import enumerated
from pci_bench.system.threads import set_threads

SUFFIXES = (".py", ".toml")  # of what is taken along of a plug-in's folder
TOKEN = "token"
SECONDS_UNTIL_SEEN = 90.0  # a network file system may list a new file so much later on another machine
SECONDS_BETWEEN_LOOKS = 1.0

_one_at_a_time = threading.Lock()  # tasks of a process share its threads, its plug-ins and its environment
_plugins_here = ExitStack()
_plugins_key: list[str] = []  # of the plug-ins that this worker has loaded last


@cache
def own_code() -> str:
    """Return a hash of the source code of this package and of the plug-ins that are installed with it."""
    digests = [digest_of_sources(folder) for folder in own_folders()]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


@dataclass(frozen=True)
class PluginContent:
    """A plug-in file or folder by its content, which travels to workers that do not see its path.

    Parameters
    ----------
    path
        Where it is on the machine that was given it.
    root
        The file, or the outermost package or folder, that the files lie in.
    files
        Contents by path, relative to the folder that holds `root`.
    """

    path: Path
    root: Path
    files: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, path: Path) -> PluginContent:
        """Return the content of a plug-in, of a folder its Python and TOML files."""
        path = path.resolve()
        package = path / "__init__.py"
        root = source_root(str(package if package.is_file() else path)) if path.is_file() or package.is_file() else path
        found = [root] if root.is_file() else [p for p in sorted(root.rglob("*")) if p.suffix in SUFFIXES]
        files = ((p.relative_to(root.parent).as_posix(), p.read_bytes()) for p in found if p.is_file())
        return cls(path, root, tuple(files))

    @property
    def digest(self) -> str:
        """A hash of names and contents."""
        digest = hashlib.sha256()
        for name, content in self.files:
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def load(self, folder: Path) -> None:
        """Load it from its own path where that holds the same on this machine too, else from a copy below `folder`."""
        path = self.path
        if not (path.exists() and PluginContent.of(path).files == self.files):
            copy = folder / self.digest[:16]
            for name, content in self.files:
                with atomic_file(copy / name) as temporary:
                    temporary.write_bytes(content)
            path = copy / self.path.relative_to(self.root.parent)
        load_plugin(path)


@dataclass(frozen=True)
class ClusterSetup:
    """The surroundings of a task that is handed to a worker of a cluster.

    Parameters
    ----------
    version, code
        Of this package where the task comes from.
    cache
        The cache folder there, which the worker sees at the same path.
    plugins
        What was loaded there with ``--plugin``.
    """

    version: str
    code: str
    cache: Path
    plugins: tuple[PluginContent, ...]

    @classmethod
    def here(cls) -> ClusterSetup:
        """Return the surroundings of this process."""
        return cls(__version__, own_code(), cache_folder(), tuple(map(PluginContent.of, plugin_files())))

    @contextmanager
    def begun(self) -> Iterator[int]:
        """Take them over in a worker, one task at a time, and yield how many cores it may use.

        Raises
        ------
        UserError
            Where this package is another here, or a plug-in fails.
        """
        if self.code != own_code():
            raise UserError(other_code(here_on_cluster(), __version__, self.version))
        from distributed import get_worker

        worker = get_worker()
        cores, folder = worker.state.nthreads, Path(worker.local_directory) / "pci-bench-plugins"
        with _one_at_a_time:
            before = os.environ.get("PCI_BENCH_CACHE")
            os.environ["PCI_BENCH_CACHE"] = str(self.cache)
            try:
                set_threads(cores)
                self._load_plugins(folder)
                yield cores
            finally:
                if before is None:
                    del os.environ["PCI_BENCH_CACHE"]
                else:
                    os.environ["PCI_BENCH_CACHE"] = before

    def _load_plugins(self, folder: Path) -> None:
        """Load the plug-ins in place of those of the task before, where these were others."""
        key = [f"{plugin.path} {plugin.digest}" for plugin in self.plugins]
        if key == _plugins_key:
            return
        _plugins_key.clear()
        _plugins_here.close()
        _plugins_here.enter_context(temporary_registrations())
        for plugin in self.plugins:
            plugin.load(folder)
        _plugins_key[:] = key


def here_on_cluster() -> str:
    """Return the address of the worker that this runs in."""
    from distributed import get_worker

    return str(get_worker().address)


def other_code(worker: str, there: str, here: str) -> str:
    """Return the sentence for a worker with another version of this package."""
    what = f"pci-bench {there}, and this process {here}" if there != here else f"another state of pci-bench {here}"
    return (
        f"The worker {worker} has {what}; numbers of both must not be mixed. Install the same version in the workers' environment, "
        "and start them again."
    )


def facts(token: Path) -> dict[str, Any]:
    """Return what a worker says of itself: this package's version and code, whether it sees a file, libraries, processor."""
    return {
        "version": __version__,
        "code": own_code(),
        "sees": token.is_file(),
        "versions": versions(),
        "processor": device_name("cpu"),
    }


def introduced(scheduler: str, progress: Progress) -> Cluster:
    """Return a cluster whose workers can compute for this process, after it was said once which it is, and how its workers differ.

    Raises
    ------
    UserError
        Where there is none, or a worker has another version of this package or does not see the cache.
    """
    cluster = connected(scheduler)
    try:
        workers = cluster.workers()
    except ConnectionError as error:
        raise UserError(f"The connection to the Dask scheduler {scheduler} was lost.") from error
    count, threads = f"{len(workers)} worker{'' if len(workers) == 1 else 's'}", sum(workers.values())
    page = f" Its dashboard: {cluster.dashboard}" if cluster.dashboard else ""
    greeting = f"Dask cluster {cluster.address}: {count}, {threads} thread{'' if threads == 1 else 's'}.{page}"
    cluster.say_once(greeting, progress.say)
    for note in check_workers(cluster):
        cluster.say_once(f"Note: {note}", progress.say)
    return cluster


def wait_until_seen(complete: Callable[[], bool], what: str, folder: Path) -> None:
    """Return once this machine sees all that workers wrote.

    Parameters
    ----------
    complete
        Returns whether it does.
    what, folder
        What they computed, for a sentence, and where they wrote it.

    Raises
    ------
    UserError
        Where it does not, longer than a network file system takes.
    """
    patience = time.monotonic() + SECONDS_UNTIL_SEEN
    while not complete():
        if time.monotonic() > patience:
            raise UserError(
                f"The workers computed {what}, but this machine does not see all of it in {folder}. Set PCI_BENCH_CACHE to a folder that all "
                "machines see at this path, and run the command again."
            )
        check_writable(folder)  # a change of its own makes a network file system look again
        time.sleep(SECONDS_BETWEEN_LOOKS)


def check_workers(cluster: Cluster) -> list[str]:
    """Check that every worker of a cluster has this package as it is here and sees the cache; return what the user should know.

    Raises
    ------
    UserError
        For the first worker that has not, or does not.
    """
    with temporary_folder(cache_folder()) as folder:
        token = folder / TOKEN
        token.touch()
        answers = cluster.ask(facts, token)
    mine = facts(token)
    for worker, answer in sorted(answers.items()):
        check_answer(worker, answer)
    return [note for name in ("versions", "processor") if (note := _note(name, mine, list(answers.values())))]


def check_answer(worker: str, answer: Mapping[str, Any] | BaseException) -> None:
    """Raise where a worker's facts, or what it raised when it was asked for them, say that it can compute nothing.

    Raises
    ------
    UserError
        Naming the worker, and what to do.
    """
    if isinstance(answer, BaseException):
        raise UserError(
            f"The worker {worker} cannot run pci-bench ({type(answer).__name__}: {answer}). Install pci-bench {__version__} in the workers' "
            "environment, and start them again."
        )
    if answer["code"] != own_code():
        raise UserError(other_code(worker, answer["version"], __version__))
    if not answer["sees"]:
        raise UserError(
            f"The worker {worker} does not see the cache folder {cache_folder()}. Workers read the cells there and write features into "
            "it: set PCI_BENCH_CACHE to a folder that all machines see at this path."
        )


def _note(name: str, mine: Mapping[str, Any], answers: list[Mapping[str, Any]]) -> str:
    """Return a sentence where workers differ from this process in what numbers may depend on, or ""."""
    if all(answer[name] == mine[name] for answer in answers):
        return ""
    last_digits = "Last digits of numbers may differ from those that this machine would compute."
    if name == "processor":
        others = sorted({str(answer[name]) for answer in answers} - {str(mine[name])})
        return f"Workers have another processor ({enumerated(others)}) than this machine ({mine[name]}). {last_digits}"
    packages = {p: v for answer in answers for p, v in answer[name].items() if mine[name].get(p) != v}
    differing = enumerated([f"{p} {v} (here {mine[name].get(p, 'none')})" for p, v in sorted(packages.items())])
    return f"Workers have other versions: {differing}. {last_digits}"
