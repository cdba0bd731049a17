"""Ontologies (OBO) and the annotations of genes with their terms (GAF), as the Gene Ontology publishes both."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from pci_bench.errors import UserError

ANCESTRY = ("is_a", "part_of")
GAF_COLUMNS = 15  # of GAF 1.0; 2.x has two more
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Term:
    """One term: its name, its namespace such as ``"cellular_component"``, and the terms that it is or is part of."""

    name: str
    namespace: str
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Ontology:
    """Terms by their identifier.

    Parameters
    ----------
    version
        The file's ``data-version`` (or ``date``), which holds the date of the release.
    terms
        By identifier, obsolete ones left out.
    alternatives
        The identifier in use, by one that was merged into it.
    replaced
        The one identifier that the file names as the replacement of an obsolete term, by the obsolete term's. Annotations with
        obsolete terms are not read as annotations with their replacements.
    """

    version: str
    terms: dict[str, Term]
    alternatives: dict[str, str]
    replaced: dict[str, str] = field(default_factory=dict)

    @property
    def former(self) -> dict[str, str]:
        """The identifier in use, by one that was merged into it or is obsolete and has one replacement."""
        replacements = {old: self.current(new) for old, new in {**self.replaced, **self.alternatives}.items()}
        return {old: new for old, new in replacements.items() if new is not None}

    @cached_property
    def ancestors(self) -> dict[str, frozenset[str]]:
        """Every term's ancestors by ``is_a`` and ``part_of``, itself included."""
        ancestors_of: dict[str, frozenset[str]] = {}
        waiting: set[str] = set()
        for start in self.terms:
            stack = [start]
            while stack:
                key = stack[-1]
                if key in ancestors_of:
                    stack.pop()
                    continue
                unknown = [p for p in self.terms[key].parents if p not in ancestors_of]
                if not unknown:
                    above = (ancestors_of[p] for p in self.terms[key].parents)
                    ancestors_of[key] = frozenset({key}).union(*above)
                    waiting.discard(key)
                    stack.pop()
                    continue
                waiting.add(key)
                if around := [p for p in unknown if p in waiting]:
                    raise UserError(
                        f"The term {around[0]} of the ontology is its own ancestor, by way of {key}. Correct one of the two."
                    )
                stack += unknown
        return ancestors_of

    def current(self, key: str) -> str | None:
        """Return the identifier in use of a term, or None where the ontology does not have it or it is obsolete."""
        key = self.alternatives.get(key, key)
        return key if key in self.terms else None


@dataclass(frozen=True)
class Annotation:
    """One row of a GAF file: a gene product and a term; `negated` where it is said not to be there."""

    identifier: str
    symbol: str
    synonyms: tuple[str, ...]
    term: str
    negated: bool


def _lines(file: Path, what: str) -> list[str]:
    """Return the lines of a text file, which may be compressed by gzip."""
    try:
        content = file.read_bytes()
        if content.startswith(GZIP):
            content = gzip.decompress(content)
        return content.decode("utf-8").splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"{file} cannot be read as {what} ({error}). Check the path, or download the file again."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not a text file, so it is not {what}. Name another file.") from error


def read_obo(file: Path | str) -> Ontology:
    """Return the ontology of an OBO file, which may be compressed by gzip.

    Raises
    ------
    UserError
        For a file that is not OBO, or is truncated: a term without a name, a parent or a kind of relationship that is used
        and not defined, or a term that is its own ancestor.
    """
    file = Path(file)
    lines = _lines(file, "an ontology in OBO format")
    if not any(line.startswith("format-version:") for line in lines[:50]):
        raise UserError(
            f"{file} is not an ontology in OBO format: it has no line 'format-version:'. Download go-basic.obo from "
            "the Gene Ontology, or name another file."
        )
    stanzas: list[tuple[str, int, list[tuple[str, str]]]] = [("header", 1, [])]
    for number, line in enumerate(lines, 1):
        if line.startswith("["):
            stanzas.append((line.strip(" []"), number, []))
        elif line.strip() and not line.startswith("!"):
            tag, colon, value = line.partition(":")
            if not colon:
                raise UserError(_truncated(file, f"line {number} ('{line[:40]}') is no 'tag: value'"))
            stanzas[-1][2].append((tag.strip(), value.partition(" !")[0].strip()))
    header = dict(reversed(stanzas[0][2]))
    default = header.get("default-namespace", "")
    terms: dict[str, Term] = {}
    alternatives: dict[str, str] = {}
    replaced: dict[str, str] = {}
    used: dict[str, str] = {}
    for kind, number, tags in stanzas:
        if kind != "Term":
            continue
        first = dict(reversed(tags))
        key, name = first.get("id", ""), first.get("name", "")
        if not key or not name:
            raise UserError(_truncated(file, f"the term of line {number} has no {'name' if key else 'id'}"))
        if key in terms:
            raise UserError(
                f"{file} defines the term {key} twice, the second time in line {number}. Remove one of the two."
            )
        if first.get("is_obsolete") == "true":
            if len(replacements := {value for tag, value in tags if tag == "replaced_by"}) == 1:
                replaced[key] = replacements.pop()
            continue
        parents = []
        for tag, value in tags:
            words = value.split()
            if tag == "alt_id":
                alternatives[value] = key
            elif tag == "is_a" and words:
                parents.append(words[0])
            elif tag == "relationship" and words and words[0] in ANCESTRY:
                if len(words) < 2:
                    raise UserError(_truncated(file, f"a relationship of the term {key} names no other term"))
                parents.append(words[1])
                used[words[0]] = key
        terms[key] = Term(name, first.get("namespace", default), tuple(dict.fromkeys(parents)))
    defined = {dict(tags).get("id") for kind, _, tags in stanzas if kind == "Typedef"}
    for relation, key in used.items():
        if relation not in defined:
            raise UserError(
                _truncated(file, f"{key} is {relation} another term, and no [Typedef] says what that means")
            )
    for key, term in terms.items():
        if missing := [p for p in term.parents if p not in terms]:
            raise UserError(_truncated(file, f"{key} ({term.name}) has the parent {missing[0]}, which is not defined"))
    if not terms:
        raise UserError(_truncated(file, "it has no term"))
    ontology = Ontology(header.get("data-version", header.get("date", "not said")), terms, alternatives, replaced)
    _ = ontology.ancestors  # a circle is a fault of the file, so it is found here
    return ontology


def _truncated(file: Path, what: str) -> str:
    return f"{file} is damaged or not a whole OBO file: {what}. Download it again, or name another file."


def read_gaf(file: Path | str) -> tuple[str, list[Annotation]]:
    """Return the date of a GAF file ("" where it does not say) and its rows; it may be compressed by gzip.

    Raises
    ------
    UserError
        For a file that is not GAF, or a row with too few columns, as the last one of a truncated file.
    """
    file = Path(file)
    lines = _lines(file, "annotations in GAF format")
    if not any(line.lower().startswith("!gaf-version:") for line in lines[:50]):
        raise UserError(
            f"{file} is not a table of annotations in GAF format: it has no line '!gaf-version:'. Download goa_human.gaf "
            "from the Gene Ontology, or name another file."
        )
    date, rows = "", []
    for number, line in enumerate(lines, 1):
        if line.startswith("!"):
            tag, _, value = line[1:].partition(":")
            if tag.strip().lower() in ("date-generated", "generated") and not date:
                date = value.strip()
            continue
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < GAF_COLUMNS or not (fields[1] and fields[2] and fields[4]):
            raise UserError(
                f"{file} is damaged or not a whole GAF file: line {number} has {len(fields)} columns, or lacks identifier, "
                f"symbol or term; expected {GAF_COLUMNS} columns or more, separated by tabs. Download it again."
            )
        synonyms = tuple(s for s in fields[10].split("|") if s)
        negated = "NOT" in fields[3].split("|")
        rows.append(Annotation(fields[1], fields[2], synonyms, fields[4], negated))
    if not rows:
        raise UserError(f"{file} is damaged or not a whole GAF file: it has no row. Download it again.")
    return date, rows


def annotated_terms(
    proteins: Sequence[str], annotations: Iterable[Annotation], ontology: Ontology, namespace: str
) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Return the terms of a namespace that each protein is annotated with, and how many rows and proteins were not used.

    A protein is found by the symbol of a row, else by its identifier, else by a synonym that belongs to one symbol only.

    Parameters
    ----------
    proteins
        Names, each once.
    annotations
        Rows of a GAF file.
    ontology, namespace
        Rows with terms of other namespaces are not of interest and not counted.

    Returns
    -------
    terms
        By protein, for all proteins; empty where nothing is known.
    counts
        ``rows`` of the namespace, of them ``negated`` (qualifier NOT), ``duplicate`` (same gene product and term again, on
        other evidence) and ``of_other_proteins``; ``unknown_term`` rows, whose term is obsolete or not in the ontology;
        ``unmatched_proteins``, of which no row speaks; ``ambiguous_proteins`` among them, whose name is a synonym of several.
    """
    by_symbol: dict[str, set[str]] = {}
    by_identifier: dict[str, set[str]] = {}
    symbols_of: dict[str, set[str]] = {}
    seen: set[tuple[str, str, str]] = set()
    counts = dict.fromkeys(("rows", "unknown_term", "negated", "duplicate"), 0)
    kept: list[tuple[str, str, str]] = []
    for row in annotations:
        key = ontology.current(row.term)
        if key is None:
            counts["unknown_term"] += 1
            continue
        if ontology.terms[key].namespace != namespace:
            continue
        counts["rows"] += 1
        for synonym in row.synonyms:
            symbols_of.setdefault(synonym, set()).add(row.symbol)
        by_symbol.setdefault(row.symbol, set())
        by_identifier.setdefault(row.identifier, set())
        if row.negated:
            counts["negated"] += 1
            continue
        what = (row.identifier, row.symbol, key)
        if what in seen:
            counts["duplicate"] += 1
            continue
        seen.add(what)
        kept.append(what)
        by_symbol[row.symbol].add(key)
        by_identifier[row.identifier].add(key)
    terms_of: dict[str, set[str]] = {}
    speaking: tuple[set[str], set[str]] = (set(), set())
    unmatched = ambiguous = 0
    for protein in proteins:
        synonymous = symbols_of.get(protein, set())
        if protein in by_symbol:
            terms_of[protein] = by_symbol[protein]
            speaking[0].add(protein)
        elif protein in by_identifier:
            terms_of[protein] = by_identifier[protein]
            speaking[1].add(protein)
        elif len(synonymous) == 1:
            (symbol,) = synonymous
            terms_of[protein] = by_symbol[symbol]
            speaking[0].add(symbol)
        else:
            terms_of[protein] = set()
            unmatched += 1
            ambiguous += len(synonymous) > 1
    others = sum(symbol not in speaking[0] and identifier not in speaking[1] for identifier, symbol, _ in kept)
    return terms_of, counts | {
        "of_other_proteins": others,
        "unmatched_proteins": unmatched,
        "ambiguous_proteins": ambiguous,
    }


def memberships(
    terms_of: Mapping[str, Iterable[str]], proteins: Sequence[str], ontology: Ontology, namespace: str
) -> tuple[list[str], np.ndarray]:
    """Return which proteins belong to which terms once every annotation also counts for all ancestors of its term.

    Returns
    -------
    keys
        The terms of the namespace that hold any protein, in order of their identifiers; the root, which says nothing, is
        left out.
    members
        (proteins, terms) bool.
    """
    position = {
        key: i
        for i, key in enumerate(sorted(k for k, t in ontology.terms.items() if t.namespace == namespace and t.parents))
    }
    members = np.zeros((len(proteins), len(position)), bool)
    for row, protein in enumerate(proteins):
        for key in terms_of[protein]:
            members[row, [position[a] for a in ontology.ancestors[key] if a in position]] = True
    used = np.flatnonzero(members.any(axis=0))
    return [list(position)[i] for i in used], members[:, used]
