"""Screens of which raw fields of view can be fetched: cut into cells as the paper cuts them."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pci_bench.data.cells import PART, DatasetMeta
from pci_bench.data.counts import beside_the_papers
from pci_bench.datasets.screens import SuppliedScreen
from pci_bench.errors import UserError
from pci_bench.system.files import cache_folder, escape, make_folder, user_data_folder, write_json
from pci_bench.system.foreign import read_json

if TYPE_CHECKING:
    from pci_bench.acquisition.layout import Layout
    from pci_bench.acquisition.prepare import Prepared
    from pci_bench.data.store import StoreWriter

SELECTION = "selection.json"


@dataclass(frozen=True)
class Selection:
    """What was fetched of a screen, as it was asked for last.

    Parameters
    ----------
    chosen
        The genes or plates.
    source
        Of several sources, the one that it came from.
    layout
        How its files lie: a declaration as `data prepare` takes it.
    only
        Parts of the files' names, and the values of those that are used.
    extent
        Release and number, for the dataset's version: ``"release 18, 24 genes"``.
    whole
        Whether that is all that the paper used.
    fields
        How many fields of view there are.
    identity
        A hash of everything that the cells follow from, but for the layout.
    notes
        Sentences on where it came from and what is missing.
    """

    chosen: tuple[str, ...]
    source: str
    layout: Mapping[str, Any]
    only: Mapping[str, tuple[str, ...]]
    extent: str
    whole: bool
    fields: int
    identity: str
    notes: tuple[str, ...] = field(default=())


class FetchedScreen(SuppliedScreen):
    """A screen whose raw fields of view can be fetched in part; crops that a user has come first.

    Parameters
    ----------
    name
        As ``screens.toml`` has it.
    choices
        What ``pci-bench data get`` was told.
    """

    def __init__(self, name: str, choices: Mapping[str, str] | None = None):
        super().__init__(name)
        self.choices = dict(choices or {})

    @property
    def meta(self) -> DatasetMeta:
        """What is known of it; where a part was fetched, its version says which."""
        if user_data_folder(self._declared.name) or (selection := self.selection()) is None or selection.whole:
            return self._declared
        return replace(self._declared, version=selection.extent + PART)

    @meta.setter
    def meta(self, declared: DatasetMeta) -> None:
        self._declared = declared

    def choose(self, choices: Mapping[str, str]) -> Self:
        """Return the screen with a choice of what is fetched."""
        if unknown := [name for name in choices if name not in (self.option, "retry")]:
            raise UserError(
                f"'{self.meta.name}' takes no --{unknown[0]}. Name a part of it with --{self.option}, and say --retry to ask again for what "
                "could not be fetched."
            )
        if choices and (own := user_data_folder(self.meta.name)) is not None:
            raise UserError(
                f"'{self.meta.name}' is read from {own}, so nothing is fetched. Move that folder away, or set PCI_BENCH_DATA to another one."
            )
        return type(self)(self.meta.name, choices)

    @property
    def folder(self) -> Path:
        """Where what is fetched lies."""
        return cache_folder() / "downloads" / self._declared.name

    @property
    def parts(self) -> Path:
        """Where what is cut of each field is kept, so that more fields do not cut the others again."""
        return cache_folder() / "fields" / escape(self._declared.name)

    def fetched_paths(self) -> Sequence[Path]:
        """Return where what is fetched and cut lies."""
        return [self.folder, self.parts, *super().fetched_paths()]

    def selection(self) -> Selection | None:
        """Return what was fetched, or None."""
        try:
            file = self.folder / SELECTION
            return _selection(file, file.stat().st_mtime_ns)
        except OSError:
            return None

    def select(self, selection: Selection) -> None:
        """Keep what the dataset consists of from now on."""
        write_json(self.folder / SELECTION, asdict(selection))

    @abstractmethod
    def how_to_fetch(self) -> str:
        """Return the command that fetches a part, as the start of a sentence."""

    def unavailable_reason(self) -> str | None:
        """Return the command that fetches it, and how a user supplies it, unless it is here."""
        if user_data_folder(self.meta.name) or self.selection() is not None:
            return None
        return f"{self.how_to_fetch()}. Or supply your own: {self.how_to_supply()}"

    def source_fingerprint(self) -> str:
        """Return a fingerprint of the user's copy, or of what was fetched and how it is cut."""
        if user_data_folder(self.meta.name):
            return super().source_fingerprint()
        selection = self.selection()
        if selection is None:
            return str(self.root)
        return f"{_cut_by(json.dumps(dict(selection.layout)), self.meta.name)} {selection.identity}"

    def build(self, store: StoreWriter) -> None:
        """Store the user's crops, or cut those that were fetched."""
        selection = self.selection()
        if user_data_folder(self.meta.name) or selection is None:
            return super().build(store)
        prepared = self.prepared(selection, store)
        if lost := selection.fields - len(prepared.found.fields):
            raise UserError(
                f"{lost:,} of {selection.fields:,} fields of view of '{self.meta.name}' are no longer in {self.folder}. "
                f"`pci-bench data get {self.meta.name}` fetches them again."
            )
        counted = beside_the_papers(self.meta.name, prepared.joined.obs, self.meta.paper)
        return prepared.write(store, (*selection.notes, counted))

    def prepared(self, selection: Selection, store: StoreWriter) -> Prepared:
        """Return the fields that were fetched, cut; those that were cut before are kept."""
        from pci_bench.acquisition.prepare import Source, prepare_fields

        layout = _layout(dict(selection.layout), self.meta.name)
        only = {name: frozenset(values) for name, values in selection.only.items()}
        return prepare_fields(Source(layout, self.folder, only), make_folder(self.parts), progress=store.progress)


@lru_cache(maxsize=8)
def _selection(file: Path, changed: int) -> Selection | None:
    """Return what a file says was fetched; None where it cannot be read."""
    try:
        content = read_json(file)
        only = {name: tuple(values) for name, values in content.pop("only").items()}
        texts: dict[str, Any] = {name: tuple(content.pop(name)) for name in ("chosen", "notes")}
        return Selection(**content, **texts, only=only)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def identity_of(files: Sequence[tuple[str, str]], more: str = "") -> str:
    """Return a hash of files, each by its name and SHA-256, and of a text.

    Examples
    --------
    >>> identity_of([("a", "0"), ("b", "1")]) == identity_of([("b", "1"), ("a", "0")])
    True
    """
    return hashlib.sha256(json.dumps([sorted(files), more]).encode()).hexdigest()


def _layout(content: dict[str, Any], name: str) -> Layout:
    from pci_bench.acquisition.layout import layout_of  # with pydantic's models, which few commands need

    return layout_of(content, f"of '{name}'")


@lru_cache(maxsize=8)
def _cut_by(layout: str, name: str) -> str:
    """Return a hash of how fields are cut: the layout, and the code of its segmenter."""
    from pci_bench.acquisition.prepare import checked_segmenter

    declared = _layout(json.loads(layout), name)
    return f"{declared.digest()} {checked_segmenter(declared)}"
