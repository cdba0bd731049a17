"""Cache folders of numba and matplotlib on machines where their default ones cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

from pci_bench.errors import UserError
from pci_bench.system.files import cache_folder, may_write

# by variable: the folder below the home folder that the library would use, and the variable that stands for its parent
OWN_PLACES = {"NUMBA_CACHE_DIR": (".cache", "XDG_CACHE_HOME"), "MPLCONFIGDIR": (".config", "XDG_CONFIG_HOME")}


def give_places_to_libraries() -> None:
    """Set ``NUMBA_CACHE_DIR`` and ``MPLCONFIGDIR`` to our cache folder where there is no home folder to write to.

    What the user set stays. Where our cache cannot be written either, nothing is set: numba's functions are then compiled
    anew (`pci_bench.system.compilation.compiled`), and matplotlib makes a temporary folder. It counts where it is called before
    these libraries are imported.
    """
    for variable, (below_home, parent) in OWN_PLACES.items():
        own = _own_place(below_home, parent)
        if variable in os.environ or (own is not None and may_write(own)):
            continue
        try:
            folder = cache_folder() / "libraries" / variable.lower()
            if may_write(folder):
                folder.mkdir(parents=True, exist_ok=True)
                os.environ[variable] = str(folder)
        except (OSError, UserError):
            continue


def _own_place(below_home: str, parent: str) -> Path | None:
    """Return the folder that a library would use; None where there is no home folder."""
    if named := os.environ.get(parent):
        return Path(named)
    try:
        return Path.home() / below_home
    except RuntimeError:
        return None
