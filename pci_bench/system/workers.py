"""Worker processes: tasks shared among them, and workers that end when their parent does."""

from __future__ import annotations

import functools
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pci_bench.errors import UserError
from pci_bench.system.interruption import undo

SECONDS_BETWEEN_LOOKS = 0.5  # of a worker process for its parent


def shared(tasks: Iterable[Any], workers: int, lost: Callable[[], str]) -> Iterator[Any]:
    """Yield what worker processes return, in the order in which they finish.

    Parameters
    ----------
    tasks
        joblib's delayed calls.
    workers
        Processes.
    lost
        Called where a worker was killed: what was being computed, and what is kept, as the middle of a sentence that ends
        with a full stop.

    Raises
    ------
    UserError
        Where a worker process was killed or crashed.
    """
    from joblib import Parallel

    try:
        yield from Parallel(n_jobs=workers, return_as="generator_unordered")(tasks)
    except BrokenProcessPool as error:
        codes = re.search(r"\{([^}]*)\}", str(error))
        raise UserError(
            f"A worker process was killed or crashed{f' ({codes[1]})' if codes else ''} while it computed {lost()} Run the same "
            "command again: it continues where it stopped. Where the system killed it for want of memory, use fewer --workers."
        ) from error


@functools.cache
def stay_with(parent: int) -> None:
    """End this worker process when its parent is gone, however that ended; Ctrl-C is the parent's to hear."""
    if os.getpid() == parent:  # joblib does not start processes within processes
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        undo()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
