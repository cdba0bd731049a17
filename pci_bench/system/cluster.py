"""A Dask cluster that exists already: its workers are asked what they are, and given tasks; what goes wrong is a sentence."""

from __future__ import annotations

import atexit
import importlib.util
import logging
import pickle
import queue
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from pci_bench.errors import UserError

SECONDS_TO_CONNECT = 10.0  # also to connect again
SECONDS_TO_CLOSE = 3.0
SECONDS_BETWEEN_LOOKS = 5.0  # for workers, while no task ends
TASKS_IN_ADVANCE = 1  # beside one for each worker, so that a cluster that grows by need sees some


@dataclass(frozen=True)
class Call:
    """A call of a function that is made where it is unpickled.

    The scheduler, which unpickles tasks, sees nothing but ``pickle.loads`` and bytes, so that it need not have this package.

    Examples
    --------
    >>> pickle.loads(pickle.dumps(Call(divmod, (7, 2))))
    (3, 1)
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def check_scheduler(address: str | None, workers: int | None = None) -> None:
    """Raise where a scheduler's address is none, Dask is not installed, or worker processes of this machine are asked for, too.

    >>> check_scheduler("tcp:login-node")
    Traceback (most recent call last):
        ...
    pci_bench.errors.UserError: --scheduler tcp:login-node is not the address of a Dask scheduler. `dask scheduler` prints it when it starts: write for example --scheduler tcp://login-node:8786.
    """
    if address is None:
        return
    if workers is not None:
        raise UserError(
            "--workers and --scheduler contradict each other: a cluster has its own workers. Use one of them."
        )
    if not re.fullmatch(r"(tcp|tls|ws|wss|ucx)://[^\s/]+:\d{1,5}", address):
        raise UserError(
            f"--scheduler {address} is not the address of a Dask scheduler. `dask scheduler` prints it when it starts: write for "
            "example --scheduler tcp://login-node:8786."
        )
    if importlib.util.find_spec("distributed") is None:
        raise UserError("--scheduler needs Dask, which is not installed. Run: pip install 'pci-bench[dask]'")


class Cluster:
    """A connection to the scheduler of a Dask cluster.

    Parameters
    ----------
    address
        Of the scheduler.

    Raises
    ------
    UserError
        Where no scheduler answers.
    """

    def __init__(self, address: str):
        check_scheduler(address)
        from distributed import Client

        for name in ("distributed", "distributed.client", "distributed.core"):  # whose warnings are sentences here
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.address = address
        self._said: set[str] = set()
        try:
            client: Any = Client
            self._client = client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
        except (OSError, ValueError) as error:  # a time-out is an OSError
            raise UserError(
                f"No Dask scheduler answers at {address} within {SECONDS_TO_CONNECT:.0f} seconds. Start one (`dask scheduler`), or "
                "correct --scheduler; nothing was computed."
            ) from error
        atexit.register(self.close)

    def close(self) -> None:
        """End the connection; what workers compute for it is dropped when they are done."""
        with suppress(Exception):  # the scheduler may be gone
            self._client.close(timeout=SECONDS_TO_CLOSE)

    def say_once(self, sentence: str, say: Callable[[str], None]) -> None:
        """Say a sentence about the cluster, if it has not been said."""
        if sentence not in self._said:
            self._said.add(sentence)
            say(sentence)

    @property
    def is_connected(self) -> bool:
        """Whether the scheduler still answers."""
        return bool(self._client.status == "running")

    @property
    def dashboard(self) -> str:
        """The address of the scheduler's page for a browser, or ""."""
        try:
            return str(self._client.dashboard_link or "")
        except (KeyError, ValueError, AttributeError):  # a scheduler without one
            return ""

    def workers(self) -> dict[str, int]:
        """Return how many threads each worker that is connected now has, by its address.

        Raises
        ------
        ConnectionError
            Where the scheduler is lost.
        """
        if not self.is_connected:
            raise ConnectionError(self.address)
        try:
            threads = self._client.sync(self._client.scheduler.ncores, callback_timeout=SECONDS_TO_CONNECT)
        except Exception as error:  # each transport has its own
            raise ConnectionError(self.address) from error
        return dict(threads)

    def ask(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Return what a function returns in every worker that is connected now, by address; what it raised, where it raised.

        Raises
        ------
        UserError
            Where the scheduler is lost meanwhile.
        """
        payload = pickle.dumps(Call(function, arguments))
        try:
            return dict(self._client.run(pickle.loads, payload, on_error="return"))
        except (OSError, RuntimeError) as error:
            raise UserError(f"The connection to the Dask scheduler {self.address} was lost.") from error

    def results(
        self, name: str, calls: Sequence[Call], lost: Callable[[], str], say: Callable[[str], None]
    ) -> Iterator[Any]:
        """Yield what calls return, in the order in which they finish. A call whose worker is lost is made again by another.

        About as many calls as there are workers are handed over at a time: a worker with several threads would take several, and
        those of this package share its threads.

        Parameters
        ----------
        name
            Of the tasks on the dashboard.
        calls
            What is to be called; functions that a worker can import, and arguments that can be pickled.
        lost
            Called where the cluster failed: what was being computed, and what is kept, as the middle of a sentence that ends with a
            full stop.
        say
            Told where there is no worker, and when there is one again.

        Raises
        ------
        UserError
            Where the scheduler is lost, or a task was given to several workers and each was killed.
        Exception
            What a call raised.
        """
        waiting, pending = list(reversed(calls)), dict[str, Any]()
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        alone = False
        try:
            while waiting or pending:
                workers = self.workers()
                if alone != (not workers):
                    alone = not workers
                    say(
                        f"No worker is connected to {self.address}: waiting for one. Ctrl-C ends; what is finished is kept."
                        if alone
                        else f"{len(workers)} worker{'s are' if len(workers) > 1 else ' is'} connected to {self.address} now."
                    )
                while waiting and len(pending) < len(workers) + TASKS_IN_ADVANCE:
                    payload = pickle.dumps(waiting.pop())
                    future = self._client.submit(pickle.loads, payload, key=f"{name}-{uuid.uuid4().hex}", pure=False)
                    pending[future.key] = future
                    future.add_done_callback(lambda done: ended.put(done.key))
                with suppress(queue.Empty):
                    future = pending.pop(ended.get(timeout=SECONDS_BETWEEN_LOOKS))
                    yield self._result(future, lost)
        except ConnectionError as error:
            raise self._scheduler_lost(lost) from error
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self._client.cancel(list(pending.values()), force=True)

    def _result(self, future: Any, lost: Callable[[], str]) -> Any:
        """Return the result of a task that has ended, or raise what it raised."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            return future.result(timeout=SECONDS_TO_CONNECT)
        except (CancelledError, CommClosedError) as error:
            raise ConnectionError(self.address) from error
        except ImportError as error:
            raise UserError(
                f"A worker of {self.address} cannot load what it is asked to compute ({error}). Install the same version of pci-bench, and "
                "what plug-ins need, in the workers' environment, and start them again."
            ) from error
        except KilledWorker as error:
            raise UserError(
                f"{error.allowed_failures + 1} workers of {self.address} were killed or crashed, one after the other, while they computed "
                f"{lost()} Where the system or Dask killed them for want of memory, start workers with fewer threads or a larger "
                "--memory-limit. Then run the same command again: it continues where it stopped."
            ) from error

    def _scheduler_lost(self, lost: Callable[[], str]) -> UserError:
        return UserError(
            f"The connection to the Dask scheduler {self.address} was lost while its workers computed {lost()} Run the same command "
            "again, with a --scheduler that runs or without: it continues where it stopped."
        )


@cache
def _cluster(address: str) -> Cluster:
    return Cluster(address)


def connected(address: str) -> Cluster:
    """Return this process's connection to a scheduler, made at the first call, and anew where it was lost."""
    cluster = _cluster(address)
    if not cluster.is_connected:
        _cluster.cache_clear()
        cluster = _cluster(address)
    return cluster
