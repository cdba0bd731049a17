"""Compiling functions to machine code, kept for the next process where there is a place to keep it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Return a function compiled by numba: ``@compiled(nogil=True)``.

    Its code is kept on disk. Where neither the installation nor any other place can be written, it is compiled anew in every
    process, which takes seconds.
    """
    if function is None:
        return lambda decorated: compiled(decorated, **options)
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        return numba.njit(**options)(function)
