"""The form of a contract: a function of what is tested that reports what it compared, fails, or does not apply."""

from __future__ import annotations

import os
import pickle
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import numpy as np

from pci_bench.errors import UserError

State = Literal["passed", "failed", "not applicable"]
T = TypeVar("T")

_PACKAGE = Path(__file__).parents[1]
HARNESS = tuple(str(_PACKAGE / name) for name in ("conformance", "features", "data/store.py"))


@dataclass(frozen=True)
class Finding:
    """One contract, checked.

    Parameters
    ----------
    subject
        What was tried, and where it is defined.
    contract
        What must hold.
    state
        ``"passed"``, ``"failed"`` or ``"not applicable"``.
    sentence
        What was compared; or what was expected and what was found; or why nothing could be tried.
    """

    subject: str
    contract: str
    state: State
    sentence: str


class BrokenContractError(Exception):
    """What was expected, what was found, and for which cells."""


class NotApplicableError(Exception):
    """Why a contract cannot be tried."""


def checked_contracts(subject: str, contracts: Iterable[tuple[str, Callable[[T], str]]], trial: T) -> Iterator[Finding]:
    """Yield a finding for every contract (what must hold, a function of the trial), in order.

    A contract returns what it compared. Whatever it raises besides :class:`NotApplicableError` is a failure.
    """
    for title, contract in contracts:
        try:
            yield Finding(subject, title, "passed", contract(trial))
        except NotApplicableError as error:
            yield Finding(subject, title, "not applicable", str(error))
        except BrokenContractError as error:
            yield Finding(subject, title, "failed", str(error))
        except Exception as error:  # a plug-in's code may raise anything
            yield Finding(subject, title, "failed", f"expected no error; found {described_error(error)}.")


def described_error(error: Exception) -> str:
    """Return an error as a clause; one that is not a sentence for users, with the line of the tried file that led to it."""
    if isinstance(error, UserError):
        return str(error).rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    tried = next((f.filename for f in frames if not f.filename.startswith(HARNESS)), frames[-1].filename)
    frame = [f for f in frames if f.filename == tried][-1]  # deeper ones are in the libraries that it uses
    return f"{type(error).__name__}: {str(error).rstrip('.')} ({frame.filename}:{frame.lineno})"


class Once:
    """Results that several contracts look at, each computed once; where that failed, only the first contract fails."""

    def __init__(self) -> None:
        self._results: dict[Any, Any] = {}
        self._reasons: dict[Any, NotApplicableError] = {}

    def __call__(self, key: Any, compute: Callable[[], T]) -> T:
        """Return the result of `key`, computed on the first call."""
        if key in self._reasons:
            raise self._reasons[key]
        if key not in self._results:
            try:
                self._results[key] = compute()
            except Exception as error:
                above = NotApplicableError("what it would compare could not be computed (a contract above says why)")
                self._reasons[key] = error if isinstance(error, NotApplicableError) else above
                raise
        result: T = self._results[key]
        return result


def expect(holds: object, expected: str, actual: str) -> None:
    """Raise :class:`BrokenContractError` where something does not hold."""
    if not holds:
        raise BrokenContractError(f"expected {expected}; found {actual}.")


def expect_described(meta: Any, name: str, *texts: str) -> None:
    """Check that a description has the name that it is registered under, and that these fields of it are texts."""
    expect(meta.name == name, f"meta.name to be '{name}', as registered", f"'{meta.name}'")
    for field in texts:
        value = getattr(meta, field)
        expect(isinstance(value, str) and value.strip(), f"meta.{field} to be a text", f"{value!r}")


def expect_reason(reason: object, where: str) -> None:
    """Check that what ``unavailable_reason`` returned is None or a sentence."""
    is_valid = reason is None or (isinstance(reason, str) and reason.strip())
    expect(is_valid, f"unavailable_reason() to return None or a sentence {where}", f"it returned {reason!r}")


def known_methods(instance: object, base: type, former: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return how many methods of a plug-in its extension point knows; one whose name is nearly such a method's is never called.

    Nor is one of a version-0.1 name (`former`, by the present one), unless :func:`pci_bench.api.registry.instance_of` made the
    class, which gave it the present name, or the present one is there too.
    """
    for new, old in former.items():
        if callable(getattr(instance, old, None)) and getattr(type(instance), new) is getattr(base, new):
            expect(False, f"{new}(), as {old}() is now called", f"{old}(), which never is called on a {base.__name__}")
    known = {name for name in dir(base) if not name.startswith("_")}
    own = {name for name in dir(instance) if not name.startswith("_")} - known
    for name in sorted(own):
        if callable(getattr(instance, name)) and (close_matches := get_close_matches(name, known, n=1, cutoff=0.8)):
            expect(False, f"methods that are called, such as {close_matches[0]}()", f"{name}(), which never is")
    return f"{len([name for name in known if name in vars(type(instance))])} of {len(known)} are its own"


GENERATORS = tuple(f"{owner} global random generator" for owner in ("Python's", "NumPy's", "torch's"))


def global_state(*, randomness: bool = True) -> dict[str, Any]:
    """Return what all code of a process shares and none may change silently, by what a person calls it.

    Without `randomness`, the generators and environment variables are left out, which imports may change.
    """
    from threadpoolctl import threadpool_info

    state: dict[str, Any] = {"the working folder": os.getcwd(), "NumPy's error handling": np.geterr()}
    state |= {f"the number of threads of {pool['filepath']}": pool["num_threads"] for pool in threadpool_info()}
    torch = sys.modules.get("torch")
    if torch is not None:
        state["torch's default type"] = torch.get_default_dtype()
        state["torch's number of threads"] = torch.get_num_threads()
        state["torch's gradient mode"] = torch.is_grad_enabled()
    if randomness:
        state["the environment variables"] = dict(os.environ)
        state[GENERATORS[0]] = random.getstate()
        state[GENERATORS[1]] = pickle.dumps(np.random.get_state())
        if torch is not None:
            state[GENERATORS[2]] = torch.get_rng_state().numpy().tobytes()
    return state


def changed_state(before: dict[str, Any], *, randomness: bool = True) -> list[str]:
    """Return what differs from an earlier global state; what a library brought along by being imported does not count."""
    after = global_state(randomness=randomness)
    return [what for what, value in before.items() if what in after and after[what] != value]


def expect_unchanged(changed: list[str], doing: str) -> None:
    """Check that nothing of the global state changed."""
    expect(not changed, f"{doing} to leave global state alone", f"that it changes {' and '.join(changed)}")


@contextmanager
def left_alone(
    doing: str, environment: Mapping[str, str], *, opening: bool = False, other_threads: bool = False
) -> Iterator[dict[str, Any]]:
    """Check that a block leaves alone what all code of a process shares, also where it sets the same thing each time.

    Yields a dictionary that holds the random generators' states when the block has ended.

    Parameters
    ----------
    doing
        What the block does.
    environment
        The environment variables before it ran for the first time.
    opening
        Whether the block may draw random numbers, as every new network does.
    other_threads
        Whether torch's number of threads is another one during the block, so that setting it shows. It is one more than
        before, with which computing on a busy machine takes many times as long: for short blocks.
    """
    torch = sys.modules.get("torch")
    variables, numbers, more = dict(os.environ), np.random.get_state(), random.getstate()
    drawn, used = (torch.get_rng_state(), torch.get_num_threads()) if torch is not None else (None, 1)
    try:
        os.environ.clear()
        os.environ.update(environment)
        random.seed()
        np.random.seed()
        if torch is not None:
            torch.seed()
            torch.set_num_threads(used + other_threads)
        before = global_state()
        ended: dict[str, Any] = {}
        yield ended
        changed = [what for what in changed_state(before) if not (opening and what in GENERATORS)]
        ended.update({what: state for what, state in global_state().items() if what in GENERATORS})
    finally:
        os.environ.clear()
        os.environ.update(variables)
        random.setstate(more)
        np.random.set_state(numbers)
        if torch is not None:
            torch.set_rng_state(drawn)
            torch.set_num_threads(used)
    expect_unchanged(changed, doing)


def same_bits(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return where two float32 arrays of one shape agree to the last bit, all NaN being alike."""
    bits = np.ascontiguousarray(first).view(np.uint32) == np.ascontiguousarray(second).view(np.uint32)
    same: np.ndarray = bits | (np.isnan(first) & np.isnan(second))
    return same


def some(values: Iterable[object], most: int = 3) -> str:
    """Return the first few of some values, and how many more there are."""
    texts = [str(v) for v in values]
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")
