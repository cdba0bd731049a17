"""Fetching annotations of proteins that are known by a name, and reading Huh 2003's table."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pci_bench.acquisition.download import fetch, import_files, origin_file
from pci_bench.data.annotation_sources import GAF, OBO, TABLE, AnnotationSource
from pci_bench.data.ontology import read_gaf, read_obo
from pci_bench.errors import UserError
from pci_bench.system.files import atomic_file, make_folder
from pci_bench.system.progress import Progress
from pci_bench.system.room import NoRoomError

AMBIGUOUS = "ambiguous"
COLUMNS = ("yORF", "gene name", "GFP visualized?", "localization summary")


def import_annotations(source: AnnotationSource, copy: Path, progress: Progress) -> None:
    """Put a user's copy of a table where it is looked for, checked as a download is.

    Raises
    ------
    UserError
        For another file, and for an ontology: no checksum tells which release a file is of, so it is named and not imported.
    """
    if not source.is_table:
        raise UserError(
            f"'{source.name}' takes no files by `pci-bench data import`, since no checksum tells which release they are of. Name "
            f"them where they are used: --set obo=FILE --set gaf=FILE."
        )
    import_files(list(source.releases[0].files.values()), copy, progress=progress)
    get_annotations(source, progress)  # nothing is to be fetched any longer


def get_annotations(source: AnnotationSource, progress: Progress) -> list[str]:
    """Fetch a source where it is not in the cache, and return sentences on what it is.

    Raises
    ------
    UserError
        Where no release can be had, or a file is not what it should be.
    """
    if source.is_table:
        (release,) = source.releases
        table = read_huh(fetch(release.files[TABLE], progress=progress).path)
        make_folder(source.joined_table.parent)
        with atomic_file(source.joined_table) as temporary:
            temporary.write_text(table.text, encoding="utf-8", newline="\n")
        return [
            f"{source.title} ({source.reference}).",
            f"{table.proteins:,} proteins have localizations, {table.several:,} of them several; {table.ambiguous:,} more were "
            f"seen in no place that is certain and are left out. `--annotations {source.name}` joins them to cells.",
        ]
    failures = []
    for release in source.releases:
        try:
            files = {what: fetch(remote, progress=progress).path for what, remote in release.files.items()}
        except NoRoomError:
            raise
        except UserError as error:
            failures.append(str(error))
            continue
        try:
            ontology = read_obo(files[OBO])
            date, rows = read_gaf(files[GAF])
        except UserError:
            for file in files.values():  # so that the next call fetches both again
                file.unlink(missing_ok=True)
                origin_file(file).unlink(missing_ok=True)
            raise
        sentences = [
            f"{source.title}: release {release.name}. The ontology says version {ontology.version} and has {len(ontology.terms):,} terms; "
            f"the annotations say {date or 'no date'} and have {len(rows):,} rows.",
            f"`--set obo={source.name} --set gaf={source.name}` gives them to go-enrichment.",
        ]
        if failures:
            sentences.insert(
                1, f"The release {source.releases[0].name} could not be had, so this is not the pinned one."
            )
        return sentences
    raise UserError(" ".join(failures))


@dataclass(frozen=True)
class ProteinTable:
    """A table of proteins as ``--annotations`` takes it.

    Parameters
    ----------
    text
        CSV with the columns ``protein``, ``synonyms`` and ``labels``.
    proteins, several, ambiguous
        How many proteins it has, how many of them in several places, and how many are left out: ambiguous, or in no place.
    """

    text: str
    proteins: int
    several: int
    ambiguous: int


def read_huh(file: Path) -> ProteinTable:
    """Return the localizations of ``allOrfData.txt`` (Huh et al. 2003), of the proteins that were seen.

    A protein goes by its gene's name, with the name of its reading frame as a synonym; where two genes have one name, by that of
    the reading frame. *ambiguous* is no localization.

    Raises
    ------
    UserError
        For another table.
    """
    try:
        rows = list(
            csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")), delimiter="\t", quoting=csv.QUOTE_NONE)
        )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as a table ({error}). Remove it, and fetch it again.") from error
    if not rows or any(column not in rows[0] for column in COLUMNS):
        raise UserError(f"{file} is not the table allOrfData.txt of Huh et al. 2003. Remove it, and fetch it again.")
    frames, names, seen, summaries = ([(row[column] or "").strip() for row in rows] for column in COLUMNS)
    shared = Counter(filter(None, names))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["protein", "synonyms", "labels"])
    counts: Counter[str] = Counter()
    for frame, name, visible, summary in zip(frames, names, seen, summaries, strict=True):
        if visible != "visualized":
            continue
        terms = [term.strip() for term in summary.split(",") if term.strip() not in ("", AMBIGUOUS)]
        if not terms:
            counts["ambiguous"] += 1
            continue
        counts["proteins"] += 1
        counts["several"] += len(terms) > 1
        protein, synonym = (name, frame) if name and shared[name] == 1 else (frame, "")
        table.writerow([protein, synonym, ";".join(terms)])
    return ProteinTable(text.getvalue(), counts["proteins"], counts["several"], counts["ambiguous"])
