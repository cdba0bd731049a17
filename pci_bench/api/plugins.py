"""Plug-ins: loading them, running their code so that a crash is a sentence, and what their source code was."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import linecache
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from pci_bench.errors import PluginError, UserError
from pci_bench.system.files import user_path

ENTRY_POINT_GROUP = "pci_bench.plugins"
DISTRIBUTION = "pci-bench"
OWN_PLUGINS = (
    "pci_bench.datasets",
    "pci_bench.segmentation",
    "pci_bench.segmentation.fields",
    "pci_bench.inpainting.features",
    "pci_bench.inpainting.model",
    "pci_bench.inpainting.weights_import",
    "pci_bench.features.files",
    "pci_bench.features.profiles",
    "pci_bench.evaluators",
)

_state: dict[str, bool] = {"loaded": False}
_plugin_files: list[Path] = []
_plugin_folders: list[Path] = []  # whose TOML files count too
_sources: dict[
    str, str
] = {}  # by file, as it was when it registered something: it may be edited while the process runs


@cache
def own_folders() -> tuple[Path, ...]:
    """Return the folders of this package and of the plug-ins that are installed with it."""
    folders = [Path(__file__).resolve().parents[1]]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.dist is not None and point.dist.name == DISTRIBUTION:
            spec = importlib.util.find_spec(point.value)
            folders += [Path(p).resolve() for p in (spec and spec.submodule_search_locations) or ()]
    return tuple(folders)


@cache
def is_own(file: str) -> bool:
    """Return whether a source file is of this package, and not of somebody else's plug-in."""
    return _resolved(file).startswith(_own_roots())


@cache
def _own_roots() -> tuple[str, ...]:
    return tuple(os.path.join(_resolved(folder), "") for folder in own_folders())


def _resolved(path: str | Path) -> str:
    """Return a path without links, to compare with another one; several times as fast as by `Path`, of every plug-in's file."""
    return os.path.normcase(os.path.realpath(path))


def source_root(file: str) -> Path:
    """Return the outermost package that a source file is part of, or else the file."""
    root = Path(file)
    while (root.parent / "__init__.py").is_file():
        root = root.parent
    return root


def digest_of_sources(root: Path) -> str:
    """Return a hash of a source file, or of all below a package's folder; of a notebook's cell, of its text."""
    digest = hashlib.sha256()
    if not root.exists():
        digest.update("".join(linecache.getlines(str(root))).encode())
    for source in sorted(root.rglob("*.py")) if root.is_dir() else [root] if root.is_file() else []:
        content = source.read_bytes()
        digest.update(f"{source.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def record_source(file: str) -> None:
    """Keep the hash of the source code that registers something from a file."""
    _sources[file] = "" if is_own(file) else digest_of_sources(source_root(file))


def source_of(file: str) -> str:
    """Return a hash of a plug-in's source code, which its numbers follow from beside the versions that it states.

    Empty for what is this package's own, whose versions change with its numbers, and for what registered nothing.
    """
    return _sources.get(file, "")


def clause(error: BaseException) -> str:
    """Return an error as a clause of one line."""
    if isinstance(error, SystemExit):
        return f"it called sys.exit({'' if error.code is None else repr(error.code)})"
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text[:400]}" if text else type(error).__name__


def _place(error: BaseException, file: str) -> str:
    """Return file and line of the last frame of an error that is in a source file, or in the package that it is part of."""
    return _last_place(error, [source_root(file).resolve()]) or file


def place_in_plugins(error: BaseException) -> str | None:
    """Return the last file and line of an error that are in somebody's plug-in; None where it never was in one."""
    return _last_place(
        error, [*(source_root(file).resolve() for file, digest in _sources.items() if digest), *_plugin_files]
    )


def _last_place(error: BaseException, roots: list[Path]) -> str | None:
    """Return the last file and line of an error that are in one of some source files or folders, or None."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if any(Path(frame.filename).resolve().is_relative_to(root) for root in roots):
            return f"{frame.filename}:{frame.lineno}"
    return None


@contextmanager
def plugin_code(file: str, what: str, doing: str | Callable[[], str], names: Iterable[str] = ()) -> Iterator[None]:
    """Run code of a plug-in, so that whatever goes wrong in it is a sentence with its file and line.

    Parameters
    ----------
    file
        Where it was registered. A crash of this package's own code is not the user's mistake, and passes.
    what
        What is run, as a sentence begins: ``"The feature set 'edges'"``.
    doing
        What it was working on, ``"on the cells 'a' to 'b'"``, or a function that says so afterwards.
    names
        What cannot be had for it.

    Raises
    ------
    PluginError
        Also where the code calls ``sys.exit``, and for its own UserError.
    """
    try:
        yield
    except PluginError:
        raise
    except UserError as error:
        raise PluginError.of(str(error), names) from error
    except (Exception, SystemExit) as error:
        if is_own(file):
            raise
        where = doing if isinstance(doing, str) else doing()
        raise PluginError.of(
            f"{what} failed {where}: {clause(error)} ({_place(error, file)}). "
            "Correct the plug-in or leave it out; --debug shows the traceback.",
            names,
        ) from error


def checked_reason(reason: object) -> str | None:
    """Return what ``unavailable_reason()`` returned, if it is None or a sentence.

    Raises
    ------
    TypeError
        For anything else.
    """
    if reason is None or isinstance(reason, str):
        return reason or None
    raise TypeError(
        f"unavailable_reason() returned {reason!r}; expected None, or a sentence that says why it cannot be run"
    )


def load_plugins() -> None:
    """Import the package's own plug-ins and every installed one (entry-point group ``pci_bench.plugins``), once."""
    if _state["loaded"]:
        return
    _state["loaded"] = True
    for module in OWN_PLUGINS:
        importlib.import_module(module)
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda p: p.value):
        try:
            importlib.import_module(point.value)
            package = importlib.import_module(point.value.partition(".")[0])
            _plugin_folders.extend(Path(folder) for folder in getattr(package, "__path__", ()))
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # another author's broken package must not take ours down
            warnings.warn(
                f"The plug-in '{point.name}' ({point.value}) could not be imported and is left out: {clause(error)}",
                stacklevel=2,
            )


def load_plugin(path: Path) -> None:
    """Run a user's plug-in, so that its decorators register and its declarations count.

    Parameters
    ----------
    path
        A Python file; or a folder: a package, which is imported, or Python files, which are run in the order of their names.
        A folder's ``benchmarks/*.toml`` and ``tables/*.toml`` are declarations.

    Raises
    ------
    UserError
        Where there is no such file or folder, the folder holds nothing of that, or a file fails, with the line that failed.
    """
    load_plugins()
    path = user_path(path, "--plugin")
    if path.is_dir():
        sources, declarations = sorted(path.glob("*.py")), sorted(path.glob("*/*.toml"))
        if not sources and not declarations:
            raise UserError(
                f"The plug-in folder {path} holds no Python file and no benchmarks/*.toml or tables/*.toml. Expected one of them."
            )
        package = path.resolve() / "__init__.py"
        for source in [package] if package.is_file() else sources:
            _run_plugin_file(source)
        _plugin_folders.append(path.resolve())
    elif path.is_file():
        _run_plugin_file(path)
    else:
        raise UserError(
            f"There is no plug-in file {path}. --plugin expects the path of a Python file, or of a folder of them."
        )
    _plugin_files.append(path.resolve())


def _run_plugin_file(path: Path) -> None:
    """Run one Python file of a plug-in."""
    is_package = path.name == "__init__.py"
    name = path.parent.name if is_package else f"pci_bench_plugin_{path.stem}"
    inside = [str(path.parent)] if is_package else None
    if is_package:  # all of it runs, also where it ran before
        for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
            del sys.modules[loaded]
    spec = importlib.util.spec_from_file_location(name, path.resolve(), submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file. --plugin expects a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        lines = (
            [f.lineno for f in inspect.getinnerframes(error.__traceback__) if f.filename == str(path.resolve())]
            if error.__traceback__
            else []
        )
        if isinstance(error, SyntaxError) and error.filename == str(path.resolve()):  # no frame of it ever ran
            lines = [error.lineno or 1]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        raise UserError(
            f"The plug-in {where} failed: {clause(error)}. Correct it or leave it out; --debug shows the traceback."
        ) from error


def plugin_files() -> list[Path]:
    """Return the plug-in files loaded so far, for worker processes to load too."""
    return list(_plugin_files)


def plugin_folders() -> list[Path]:
    """Return the folders of the plug-ins loaded so far, whose TOML files are declarations."""
    return list(_plugin_folders)


@contextmanager
def temporary_plugins() -> Iterator[None]:
    """Forget afterwards which plug-ins were loaded within."""
    files, folders = list(_plugin_files), list(_plugin_folders)
    try:
        yield
    finally:
        _plugin_files[:], _plugin_folders[:] = files, folders
