"""Annotations of proteins that are known by a name: ontologies, and tables of localizations; where they are, and whether here."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from pci_bench.errors import UserError
from pci_bench.system.files import cache_folder, user_path
from pci_bench.system.remote import RemoteFile, downloaded_file

OBO, GAF, TABLE = "obo", "gaf", "table"


@dataclass(frozen=True)
class Release:
    """One release of a source.

    Parameters
    ----------
    name
        ``"2018-11-15"``.
    files
        By what they are: ``"obo"`` and ``"gaf"``, or ``"table"``.
    """

    name: str
    files: Mapping[str, RemoteFile]

    def is_here(self) -> bool:
        """Return whether all its files are in the cache."""
        return all(downloaded_file(remote).is_file() for remote in self.files.values())


@dataclass(frozen=True)
class AnnotationSource:
    """Something known of proteins.

    Parameters
    ----------
    name
        As commands take it: ``"go-human"``.
    title, reference, licence
        One sentence, a citation, and the terms of use.
    releases
        In the order in which they are tried.

    Examples
    --------
    >>> source = annotation_sources()["go-human"]
    >>> [release.name for release in source.releases]
    ['2018-11-15', 'current']
    """

    name: str
    title: str
    reference: str
    licence: str
    releases: tuple[Release, ...]

    @property
    def is_table(self) -> bool:
        """Whether it is a table of proteins that ``--annotations`` takes, and not an ontology."""
        return TABLE in self.releases[0].files

    def fetched(self) -> Release | None:
        """Return the release that is in the cache, or None."""
        return next((release for release in self.releases if release.is_here()), None)

    def file(self, what: str) -> Path | None:
        """Return a file of the release that is in the cache, or None where none is; a table as ``--annotations`` takes it."""
        if what == TABLE:
            table = self.joined_table
            return table if table.is_file() else None
        release = self.fetched()
        return downloaded_file(release.files[what]) if release else None

    @property
    def joined_table(self) -> Path:
        """Where a table lies in the form that ``--annotations`` takes."""
        return cache_folder() / "annotations" / f"{self.name}.csv"

    def unavailable_reason(self) -> str | None:
        """Return the command that fetches it, or None where it is here."""
        if self.file(TABLE if self.is_table else OBO) is not None:
            return None
        return f"{self.name} is not in the cache; `pci-bench data get {self.name}` fetches it"


@cache
def annotation_sources() -> dict[str, AnnotationSource]:
    """Return all sources by name."""
    text = files("pci_bench.data").joinpath("annotation_sources.toml").read_text(encoding="utf-8")
    found = {}
    for name, d in tomllib.loads(text).items():
        if d["kind"] == TABLE:
            remote = RemoteFile(
                f"{name}/{d['url'].rpartition('/')[2]}",
                (d["url"],),
                f"the annotations {name}",
                "name a table of your own with --annotations",
                digest=f"sha256:{d['sha256']}",
                size=d["bytes"],
                licence=d["licence"],
            )
            releases: tuple[Release, ...] = (Release("1", {TABLE: remote}),)
        else:
            releases = tuple(
                Release(r["name"], {what: _remote(r[what], r["name"], what, d) for what in (OBO, GAF)})
                for r in d["releases"]
            )
        found[name] = AnnotationSource(name, d["title"], d["reference"], d["licence"], releases)
    return found


def _remote(urls: list[str], release: str, what: str, declared: Mapping[str, str]) -> RemoteFile:
    """Return a file of the Gene Ontology; one that two species share is fetched once."""
    return RemoteFile(
        f"gene-ontology/{release}/{urls[-1].rpartition('/')[2]}",
        tuple(urls),
        f"{'the Gene Ontology' if what == OBO else declared['title']} ({release})",
        f"name a file of your own with --set {what}=FILE",
        licence=declared["licence"],
    )


def annotations_file(named: Path | str) -> Path:
    """Return the table of proteins that a user named: a file, or a source such as ``huh2003``.

    Raises
    ------
    UserError
        For a source that is not a table, or not in the cache.
    """
    source = annotation_sources().get(str(named))
    if source is None:
        return user_path(named, "The annotations")
    if not source.is_table:
        raise UserError(
            f"{source.name} is an ontology, not a table of proteins. Give it to go-enrichment: --set obo={source.name} --set gaf={source.name}."
        )
    table = source.file(TABLE)
    if table is None:
        raise UserError(f"The annotations {source.unavailable_reason()}.")
    return table
