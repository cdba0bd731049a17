"""Compiling functions to machine code, kept for the next process where there is a place to keep it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[Function], Function]:
    """Return a decorator that compiles a function by numba: ``@compiled(nogil=True)``.

    Its code is kept on disk. Where neither the installation nor any other place can be written, it is compiled anew in every
    process, which takes seconds.
    """

    def compile_function(function: Function) -> Function:
        machine_code: Function
        try:
            machine_code = numba.njit(cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache function" not in str(error):
                raise
            machine_code = numba.njit(**options)(function)
        return machine_code

    return compile_function
