"""Several processes that train one network together, as torchrun starts them: who they are, what they share, how they end."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pci_bench.errors import UserError
from pci_bench.system.devices import resolve_device

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # which torchrun sets, all of them
_UNUSED = "Expected to have finished reduction"  # as DistributedDataParallel says it
PATIENCE = timedelta(hours=1)  # with a process that is silent but has not ended, as while the first reads crops


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees them; by default it is alone.

    Parameters
    ----------
    rank
        Its number among all. The first, 0, locks, says, validates and writes.
    count
        How many there are.
    local
        Its number among those of its machine, and that of its GPU.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether it is the first."""
        return self.rank == 0

    def device(self, wanted: str) -> str:
        """Return the device of this process: as :func:`pci_bench.system.devices.resolve_device`, a GPU for each process.

        Raises
        ------
        UserError
            Where a machine has fewer GPUs than processes, or one GPU is named for several processes.
        """
        if self.count == 1:
            return resolve_device(wanted)
        if ":" in wanted:
            raise UserError(
                f"--device {wanted} names one GPU for {self.count} processes. Use --device cuda: each takes the GPU of its own number."
            )
        found = resolve_device(wanted)
        return found if found == "cpu" else resolve_device(f"cuda:{self.local}")

    @contextmanager
    def together(self, device: str) -> Iterator[None]:
        """Join the processes for a block. Where another of them ends within it, so does this one, with a sentence.

        Raises
        ------
        UserError
            Where the processes do not find, or lose, each other.
        """
        if self.count == 1:
            yield
            return
        from torch import distributed

        if not distributed.is_initialized():
            _join(self, device)
        try:
            yield
        except RuntimeError as error:
            atexit.unregister(distributed.destroy_process_group)  # which may wait for those that are gone
            if _UNUSED in str(error):
                raise UserError(
                    "The network has parameters that its loss does not use, for which several processes would wait. Train it in one process, "
                    "or set their requires_grad to False."
                ) from error
            if not _lost(error):
                raise
            raise UserError(
                f"Process {self.rank + 1} of {self.count} ends because another one has ended, whose own message says why. "
                "What was done up to a minute before is kept: the same command with --resume continues there."
            ) from error
        except BaseException:
            atexit.unregister(distributed.destroy_process_group)
            raise

    def of_first(self, compute: Callable[[], T]) -> T:
        """Return in every process what the first computes.

        Raises
        ------
        UserError
            In the others, where the first met a fault.
        """
        if self.count == 1:
            return compute()
        from torch import distributed

        if not self.first:
            told: list[Any] = [None]
            distributed.broadcast_object_list(told)
            result, fault = told[0]
            if fault is not None:
                raise UserError(fault)
            return result  # type: ignore[no-any-return]  # what the first computed
        try:
            computed = compute()
        except Exception as error:
            fault = (
                str(error) if isinstance(error, UserError) else f"{type(error).__name__} in the first process: {error}"
            )
            distributed.broadcast_object_list([(None, fault)])
            raise
        distributed.broadcast_object_list([(computed, None)])
        return computed

    def after_neighbour(self, compute: Callable[[], T]) -> T:
        """Return what is computed, first in the first process of each machine: the others find its files."""
        if self.count == 1:
            return compute()
        from torch import distributed

        if self.local == 0:
            computed = compute()
            distributed.barrier()
            return computed
        distributed.barrier()
        return compute()

    def check_alike(self, text: str) -> None:
        """Raise where another process has another text, by which all must be the same training.

        Raises
        ------
        UserError
            In every process.
        """
        if self.count == 1:
            return
        from torch import distributed

        texts: list[Any] = [None] * self.count
        distributed.all_gather_object(texts, text)
        for number, other in enumerate(texts):
            if other != texts[0]:
                raise UserError(
                    f"Process {number + 1} of {self.count} trains with other data, settings or versions than the first: {other}, not "
                    f"{texts[0]}. Start the same command on every machine, with the same package and the same files."
                )

    def learner(self, module: torch.nn.Module, device: str) -> torch.nn.Module:
        """Return a module whose backward pass leaves the same gradients in every process: their mean over processes."""
        if self.count == 1:
            return module
        import torch
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, device_ids=[torch.device(device)] if device.startswith("cuda") else None)

    def alone(self, learner: torch.nn.Module, wanted: bool) -> AbstractContextManager[None]:
        """Return a block in which gradients stay in this process and add up, if that is wanted."""
        if self.count == 1 or not wanted:
            return nullcontext()
        block: AbstractContextManager[None] = learner.no_sync()  # type: ignore[operator]  # DistributedDataParallel's
        return block

    def summed(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of the processes' values, without a gradient."""
        if self.count > 1:
            from torch import distributed

            distributed.all_reduce(value)
        return value


def started() -> Processes:
    """Return the processes that torchrun started, by its environment variables; or one that is alone.

    Examples
    --------
    >>> started()
    Processes(rank=0, count=1, local=0)
    """
    said = [os.environ.get(variable, "") for variable in VARIABLES]
    if not all(said) or not all(number.isdecimal() for number in said[:3]):
        return Processes()
    return Processes(*(int(number) for number in said[:3]))


def piece(arrays: tuple[np.ndarray, ...], number: int, count: int) -> tuple[np.ndarray, ...]:
    """Return one of some nearly equal parts of a batch, whose rows stand together.

    Parameters
    ----------
    arrays
        Of a batch; those that have k rows for each row of the shortest have them in a row.
    number, count
        Which part of how many.

    Raises
    ------
    UserError
        Where the batch has fewer rows than there are parts.

    Examples
    --------
    >>> piece((np.arange(5), np.arange(10)), 1, 2)
    (array([2, 3, 4]), array([4, 5, 6, 7, 8, 9]))
    """
    rows = size(arrays)
    if rows < count:
        raise UserError(
            f"A batch of {rows} cannot be divided among {count} parts (processes × --accumulate). Use a larger --batch, or fewer of them."
        )
    start, end = rows * number // count, rows * (number + 1) // count
    return tuple(a[start * (len(a) // rows) : end * (len(a) // rows)] for a in arrays)


def size(arrays: tuple[np.ndarray, ...]) -> int:
    """Return how many examples a batch has: the rows of its shortest array.

    Examples
    --------
    >>> size((np.arange(5), np.arange(10)))
    5
    """
    return min(len(array) for array in arrays)


def _join(processes: Processes, device: str) -> None:
    """Join the group of processes, which lasts until this one ends: torch cannot reliably make one twice."""
    import torch
    from torch import distributed

    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The {processes.count} processes of this training did not find each other at {os.environ['MASTER_ADDR']}, port "
            f"{os.environ['MASTER_PORT']} ({str(error).splitlines()[0]}). Start them with torchrun; on several machines, with the same "
            "--rdzv-endpoint on all."
        ) from error
    atexit.register(distributed.destroy_process_group)


def _lost(error: RuntimeError) -> bool:
    """Return whether an error is that of a connection to another process."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or any(
        word in str(error) for word in ("gloo", "Connection closed by peer", "Connection reset by peer")
    )
