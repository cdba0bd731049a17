"""The generic registry: registration by decorator, lazy look-up by name, suggestions for misspelt names, and plug-ins."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import importlib
import importlib.util
import inspect
import linecache
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pci_bench.errors import PluginError, UserError
from pci_bench.system.files import user_path

T = TypeVar("T")

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
    "pci_bench.evaluators",
)


@dataclass(frozen=True)
class Origin:
    """Where a registered object was defined."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class _Entry:
    value: Any
    argument: str | None
    origin: Origin


def origin_of(value: object) -> Origin:
    """Return the file and line that define a function, a class, or an instance's class."""
    target = inspect.unwrap(value) if callable(value) and hasattr(value, "__wrapped__") else value
    target = getattr(target, "function", target)
    if not (inspect.isfunction(target) or inspect.isclass(target)):
        target = type(target)
    try:
        return Origin(inspect.getsourcefile(target) or "?", inspect.getsourcelines(target)[1])
    except (OSError, TypeError):
        return Origin(str(getattr(sys.modules.get(target.__module__), "__file__", "?")), 0)


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
    return any(Path(file).resolve().is_relative_to(folder) for folder in own_folders())


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


# By file, as it was when it registered something: it may be edited while the process runs.
_sources: dict[str, str] = {}


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


def instance_of(base: type[T], cls: type, former: Mapping[str, str] = MappingProxyType({})) -> type[T]:
    """Return a plug-in's class as a class of its extension point that can be constructed.

    Parameters
    ----------
    base
        The extension point's base class.
    cls
        A subclass of it; or, as plug-ins of version 0.1 were written, a class of its own with the same methods, which
        then inherits what it lacks.
    former
        The names of version 0.1 for methods, by their present names.

    Raises
    ------
    UserError
        Where a method that every such class needs is missing.
    """
    if not issubclass(cls, base):
        own = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        inherited = {name for ancestor in cls.__mro__ for name in vars(ancestor)}
        renamed = {new: getattr(cls, old) for new, old in former.items() if old in inherited and new not in inherited}
        kind: Any = type(base)  # ABCMeta
        cls = kind(cls.__name__, (cls, base), own | renamed)
    if lacking := sorted(getattr(cls, "__abstractmethods__", ())):
        raise UserError(
            f"{cls.__name__} ({origin_of(cls)}) has no {' and no '.join(f'{name}()' for name in lacking)}, which every "
            f"{base.__name__.lower()} needs. `pci-bench describe` and docs/plugins.md show one."
        )
    return cls


class Registry(Generic[T]):
    """Names of one kind of thing, filled by plug-ins on the first look.

    Parameters
    ----------
    kind
        What the things are called in messages, in the singular: ``"dataset"``.
    autoload
        Whether the first look-up imports the plug-ins.
    declared_in, declare
        The folder of a plug-in whose TOML files declare such things too, and what registers those of a file.
    """

    def __init__(
        self,
        kind: str,
        *,
        autoload: bool = True,
        declared_in: str = "",
        declare: Callable[[Path], object] | None = None,
    ):
        self.kind = kind
        self._entries: dict[str, _Entry] = {}
        self._autoload = autoload
        self._declared_in = declared_in
        self._declare = declare
        self._folders_seen = 0
        self._finders: list[Callable[[], Mapping[str, T]]] = []

    def register(
        self, name: str, value: T | Callable[[str], T], *, argument: str | None = None, origin: Origin | None = None
    ) -> None:
        """Add `value` under `name`.

        Parameters
        ----------
        name
            Unique within the registry; one file may give it twice, once alone (the default) and once with an argument.
        value
            The object; or, where `argument` is given, a function that makes it from what follows ``name:``.
        argument
            What stands after the colon, for messages: ``"PATH"`` makes ``folder:PATH`` a name.
        origin
            File and line to report, where they cannot be read off `value`.

        Raises
        ------
        UserError
            If another file already registered the name; the message names both.
        """
        origin = origin or origin_of(value)
        for before in filter(None, (self._entries.get(name), self._entries.get(f"{name}:"))):
            if Path(before.origin.file).resolve() != Path(origin.file).resolve():
                raise UserError(
                    f"Two plug-ins register the {self.kind} '{name}': {before.origin} and {origin}. Rename one of them, or leave one out."
                )
        self._entries[name if argument is None else f"{name}:"] = _Entry(value, argument, origin)
        _sources[origin.file] = "" if is_own(origin.file) else digest_of_sources(source_root(origin.file))

    def found_by(self, finder: Callable[[], Mapping[str, T]]) -> Callable[[], Mapping[str, T]]:
        """Add a function that gives further things by name, whatever there is when a name is looked up; a decorator.

        What is registered has precedence over what is found.
        """
        self._finders.append(finder)
        return finder

    def _loaded(self) -> dict[str, _Entry]:
        if self._autoload:
            load_plugins()
        while self._declare is not None and self._folders_seen < len(_plugin_folders):
            folder = _plugin_folders[self._folders_seen]
            self._folders_seen += 1
            for file in sorted((folder / self._declared_in).glob("*.toml")):
                self._declare(file)
        found = {
            name: _Entry(value, None, origin_of(finder)) for finder in self._finders for name, value in finder().items()
        }
        return found | self._entries

    @contextmanager
    def temporary(self) -> Iterator[Registry[T]]:
        """Yield the registry; what is registered within is gone afterwards, and what was replaced is back."""
        self._loaded()
        entries, seen = dict(self._entries), self._folders_seen
        try:
            yield self
        finally:
            self._entries.clear()
            self._entries.update(entries)
            self._folders_seen = seen

    def names(self) -> list[str]:
        """Return all names that stand alone, sorted in reading order (conv2 before conv10)."""
        return sorted((n for n, e in self._loaded().items() if e.argument is None), key=natural_key)

    def prefixes(self) -> dict[str, str]:
        """Return the names that take an argument, with what the argument is: ``{"folder": "PATH"}``."""
        entries = sorted(self._loaded().items())
        return {name.removesuffix(":"): entry.argument for name, entry in entries if entry.argument is not None}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def _find(self, name: str) -> tuple[_Entry, str | None] | None:
        entries = self._loaded()
        prefix, colon, argument = name.partition(":")
        if colon and (maker := entries.get(f"{prefix}:")):
            return (maker, argument) if argument else None
        return (entry, None) if (entry := entries.get(name)) else None

    def get(self, name: str) -> T:
        """Return what `name` stands for.

        Raises
        ------
        UserError
            For an unknown name, with the nearest known ones.
        """
        resolved = self._find(name)
        if resolved is None:
            raise UserError(self.unknown(name))
        entry, argument = resolved
        value: T
        if argument is None:
            value = entry.value
        else:
            with plugin_code(entry.origin.file, f"The {self.kind} '{name}'", "when it was made"):
                value = entry.value(argument)
        return value

    def factory(self, prefix: str) -> Any:
        """Return what makes the things of a name that takes an argument."""
        return self._loaded()[f"{prefix}:"].value

    def unknown(
        self, name: str, *, also: list[str] | None = None, nothing: str | None = None, listed: str | None = None
    ) -> str:
        """Return the sentence for an unknown name, with the nearest known ones and the command that lists all.

        Parameters
        ----------
        name
            What was asked for.
        also
            Further known names, of other kinds.
        nothing
            What there is none of by this name, where other kinds were looked for too; by default ``"no <kind>"``.
        listed
            What ``pci-bench list`` is to list; by default this kind, and everything where it is empty.
        """
        known = dict.fromkeys([*self.names(), *(f"{p}:{a}" for p, a in self.prefixes().items()), *(also or [])])
        close_matches = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        suggestion = f"Did you mean {' or '.join(close_matches)}? " if close_matches else ""
        plural = {"feature set": "features"}.get(self.kind, self.kind + "s")
        command = f"pci-bench list {plural if listed is None else listed}".rstrip()
        return f"There is {nothing or f'no {self.kind}'} named '{name}'. {suggestion}`{command}` shows all of them."

    def match(self, pattern: str) -> list[str]:
        """Return the names that fit a shell pattern such as ``pci-conv*``."""
        return [name for name in self.names() if fnmatch.fnmatchcase(name, pattern)]

    def code(self, name: str, doing: str, names: Iterable[str] = (), *, what: str = "") -> AbstractContextManager[None]:
        """Return the context in which code of what is registered under `name` runs (:func:`plugin_code`)."""
        resolved = self._find(name)
        return plugin_code(resolved[0].origin.file if resolved else "", f"The {self.kind} {what or name}", doing, names)

    def origin(self, name: str) -> Origin:
        """Return the file and line that define `name`."""
        resolved = self._find(name)
        entry = resolved[0] if resolved else self._loaded().get(f"{name}:")
        if entry is None:
            raise UserError(self.unknown(name))
        return entry.origin


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that reads numbers as numbers: runs of the digits 0 to 9, however long. ``10²`` holds one, 10."""
    import re

    parts = [part for part in re.split("([0-9]+)", name) if part]
    numbers = [part.lstrip("0") if part[0] in "0123456789" else None for part in parts]
    return [(1, 0, p) if n is None else (0, len(n), n) for p, n in zip(parts, numbers, strict=True)]


_state: dict[str, bool] = {"loaded": False}
_plugin_files: list[Path] = []


def plugin_files() -> list[Path]:
    """Return the plug-in files loaded so far, for worker processes to load too."""
    return list(_plugin_files)


_plugin_folders: list[Path] = []  # whose TOML files count too


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
