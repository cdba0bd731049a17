"""What a user gives as a number or a list: the bounds of numbers, and the one way in which lists are written."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from pci_bench.errors import UserError

MAX_SEED = 2**32 - 1  # the largest that NumPy's, scikit-learn's and UMAP's generators all take
MAX_COUNT = 2**31 - 1  # of cells, neighbours, pairs: what 32-bit indices in compiled libraries hold
MAX_WORKERS = 1024
PRECISIONS = ("float32", "bfloat16")  # of forward passes, the default first
MAX_BATCH = 4096  # crops of a forward pass: as many cells as are handed to a process at once


def split_list(text: str) -> list[str]:
    r"""Return the parts of a list that is separated by commas, without the spaces around them.

    A comma that is part of a name, as in a path, is written with a backslash before it; other backslashes stay.

    Examples
    --------
    >>> split_list("intensity, noise")
    ['intensity', 'noise']
    >>> split_list(r"intensity,file:plate\,1.csv")
    ['intensity', 'file:plate,1.csv']
    """
    return [part.strip().replace(r"\,", ",") for part in re.split(r"(?<!\\),", text)]


def path_and_options(name: str, argument: str, known: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return the path and the options of what is named ``NAME:PATH?OPTION=VALUE&OPTION=VALUE``.

    Parameters
    ----------
    name
        What stands before the colon, for messages.
    argument
        What stands after it.
    known
        The options that there are.

    Raises
    ------
    UserError
        For another option, one that is given twice, and one without a value.

    Examples
    --------
    >>> path_and_options("folder", "my/crops?floor=0.05", ["floor"])
    ('my/crops', {'floor': '0.05'})
    """
    path, _, query = argument.partition("?")
    given = parse_qsl(query, keep_blank_values=True)
    options = dict(given)
    if len(given) > len(options) or not all(options.values()):
        raise UserError(f"{name}:{argument} gives an option twice, or without a value. Write each once, as NAME=VALUE.")
    if unknown := set(options) - set(known):
        raise UserError(f"{name}:{path} has no option '{unknown.pop()}'. Its options are {', '.join(known)}.")
    return path, options


def split_names(names: str | Iterable[str]) -> list[str]:
    """Return names that are given as a list, or as one text in which commas separate them (:func:`split_list`).

    Examples
    --------
    >>> split_names("intensity, noise") == split_names(["intensity", "noise"])
    True
    """
    return split_list(names) if isinstance(names, str) else [str(name) for name in names]


def whole_number(value: Any, what: str, minimum: int, maximum: int, unit: str = "") -> int:
    """Return a whole number within bounds, as an int.

    Raises
    ------
    UserError
        Naming `what` the number is, its value and the bounds.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise UserError(f"The {what} is {value!r}; it must be a whole number.") from None
    if number < minimum:
        raise UserError(f"The {what} is {number}; it must be at least {minimum:,}{unit}.")
    if number > maximum:
        raise UserError(f"The {what} is {number}; it must be at most {maximum:,}{unit}.")
    return number


def check_seed(seed: int) -> None:
    """Raise where a seed is none that every random generator takes."""
    whole_number(seed, "seed", 0, MAX_SEED)


def check_limit(limit: int | None) -> None:
    """Raise where a limit is too small to tell cells apart, or no number of cells."""
    if limit is not None:
        whole_number(limit, "limit", 2, MAX_COUNT, " cells")


def check_workers(workers: int | None) -> None:
    """Raise where there is nobody to work, or more than any machine has."""
    if workers is not None:
        whole_number(workers, "number of workers", 1, MAX_WORKERS)


def check_precision(precision: str) -> None:
    """Raise where there is no such precision of forward passes."""
    if precision not in PRECISIONS:
        raise UserError(f"There is no precision '{precision}'. Use {' or '.join(PRECISIONS)}.")


def check_batch(batch: int | None) -> None:
    """Raise where a forward pass would take no crops, or more than there are."""
    if batch is not None:
        whole_number(batch, "batch", 1, MAX_BATCH, " crops")


def whole_numbers(text: str, option: str) -> list[int]:
    """Return the numbers of a list separated by commas.

    Examples
    --------
    >>> whole_numbers("1,5,11", "--k")
    [1, 5, 11]

    Raises
    ------
    UserError
        Where it is no such list; `option` is named.
    """
    try:
        return [int(part) for part in split_list(text)]
    except ValueError:
        raise UserError(f"{option} {text} is not a list of whole numbers. Write for example {option} 1,5,11.") from None
