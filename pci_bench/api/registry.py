"""The generic registry: registration by decorator, lazy look-up by name, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
import fnmatch
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakSet

from pci_bench.api.plugins import (
    is_own,
    load_plugins,
    plugin_code,
    plugin_folders,
    record_source,
    source_root,
    temporary_plugins,
)
from pci_bench.errors import UserError

T = TypeVar("T")
C = TypeVar("C")


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a registered object was defined.

    Attributes
    ----------
    file
        The source file.
    place
        The line; or the class whose line is looked for when it is asked for, since that parses the file.
    """

    file: str
    place: int | type

    @property
    def line(self) -> int:
        """The line of the file."""
        return self.place if isinstance(self.place, int) else _line_of(self.place)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Origin) and (self.file, self.line) == (other.file, other.line)

    def __hash__(self) -> int:
        return hash((self.file, self.line))


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
        file = inspect.getsourcefile(target)
    except (OSError, TypeError):
        file = None
    if file is None:
        return Origin(str(getattr(sys.modules.get(target.__module__), "__file__", "?")), 0)
    if inspect.isfunction(target):
        return Origin(file, target.__code__.co_firstlineno)
    return Origin(file, target if is_own(file) else _line_of(target))  # a plug-in may be edited, and run again


def _line_of(cls: type) -> int:
    """Return the line on which a class begins in its file, 0 where that cannot be read."""
    try:
        return inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return 0


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

    every: ClassVar[WeakSet[Registry[Any]]] = WeakSet()

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
        self.every.add(self)

    def register(
        self, name: str, value: T | Callable[[str], T], *, argument: str | None = None, origin: Origin | None = None
    ) -> None:
        """Add `value` under `name`.

        Parameters
        ----------
        name
            Unique within the registry; one file or package may give it twice, once alone (the default) and once with an argument.
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
        key = name if argument is None else f"{name}:"
        for other in (name, f"{name}:"):
            before = self._entries.get(other)
            files = [Path(o.file).resolve() for o in (before.origin, origin)] if before else []
            if other != key:
                files = [source_root(str(file)) for file in files]
            if before and files[0] != files[1]:
                raise UserError(
                    f"Two plug-ins register the {self.kind} '{name}': {before.origin} and {origin}. Rename one of them, or leave one out."
                )
        self._entries[key] = _Entry(value, argument, origin)
        record_source(origin.file)

    def found_by(self, finder: Callable[[], Mapping[str, T]]) -> Callable[[], Mapping[str, T]]:
        """Add a function that gives further things by name, whatever there is when a name is looked up; a decorator.

        What is registered has precedence over what is found.
        """
        self._finders.append(finder)
        return finder

    def class_decorator(
        self, name: str, checked: Callable[[type], type[T]], *, argument: str | None = None
    ) -> Callable[[type[C]], type[C]]:
        """Return a decorator that registers a class under `name`, and returns it as it is.

        Parameters
        ----------
        name, argument
            As in :meth:`register`. What is registered is an instance of the class, or where `argument` is given the class.
        checked
            Gives the class in the form that is registered, as :func:`instance_of` does.
        """

        def register(cls: type[C]) -> type[C]:
            make = checked(cls)
            self.register(name, make() if argument is None else make, argument=argument, origin=origin_of(cls))
            return cls

        return register

    def _loaded(self) -> dict[str, _Entry]:
        if self._autoload:
            load_plugins()
        while self._declare is not None and self._folders_seen < len(folders := plugin_folders()):
            folder = folders[self._folders_seen]
            self._folders_seen += 1
            for file in sorted((folder / self._declared_in).glob("*.toml")):
                self._declare(file)
        return self._entries

    def _found(self) -> dict[str, _Entry]:
        return {
            name: _Entry(value, None, origin_of(finder)) for finder in self._finders for name, value in finder().items()
        }

    @contextmanager
    def temporary(self) -> Iterator[Registry[T]]:
        """Yield the registry; what is registered within is gone afterwards, and what was replaced is back."""
        entries, seen = dict(self._loaded()), self._folders_seen
        try:
            yield self
        finally:
            self._entries.clear()
            self._entries.update(entries)
            self._folders_seen = seen

    def names(self) -> list[str]:
        """Return all names that stand alone, sorted in reading order (conv2 before conv10)."""
        registered = {n for n, e in self._loaded().items() if e.argument is None}
        return sorted(registered | self._found().keys(), key=natural_key)

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
        entry = entries.get(name) or self._found().get(name)
        return (entry, None) if entry else None

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


@lru_cache(maxsize=4096)  # as registries are sorted again and again
def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that reads numbers as numbers: runs of the digits 0 to 9, however long. ``10²`` holds one, 10."""
    import re

    parts = [part for part in re.split("([0-9]+)", name) if part]
    numbers = [part.lstrip("0") if part[0] in "0123456789" else None for part in parts]
    return tuple((1, 0, p) if n is None else (0, len(n), n) for p, n in zip(parts, numbers, strict=True))


@contextmanager
def temporary_registrations() -> Iterator[None]:
    """Let plug-ins be loaded that are gone afterwards: from all registries, and from the lists of what was loaded."""
    load_plugins()
    with ExitStack() as stack:
        stack.enter_context(temporary_plugins())
        for registry in list(Registry.every):
            stack.enter_context(registry.temporary())
        yield
