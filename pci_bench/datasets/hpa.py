"""``hpa-v18``: human cells of the Human Protein Atlas, for a list of genes: entries, images, locations, cells."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench.api.dataset import DATASETS
from pci_bench.api.registry import origin_of
from pci_bench.datasets.fetched_screen import FetchedScreen, Selection, identity_of
from pci_bench.errors import UserError
from pci_bench.system.files import atomic_file, escape, sha256_of, user_data_folder, user_path
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, downloaded_file
from pci_bench.system.room import NoRoomError

if TYPE_CHECKING:
    from pci_bench.acquisition.collection import Collection
    from pci_bench.acquisition.protein_atlas import AtlasEntry, AtlasImage, Locations

NAME = "hpa-v18"
FIELDS = "fields.csv"
PAPERS_RELEASE = "18"
LICENCE = "CC BY-SA 3.0"
INSTEAD = "supply your own crops as `pci-bench describe hpa-v18` says"


@cache
def declared() -> dict[str, Any]:
    """Return ``hpa.toml``."""
    return tomllib.loads(files("pci_bench.datasets").joinpath("hpa.toml").read_text(encoding="utf-8"))


class HumanProteinAtlas(FetchedScreen):
    """Cells of the genes that ``pci-bench data get hpa-v18 --genes FILE`` names, or a user's own crops.

    An image is what the paper draws pairs from: all fields of one antibody and cell line. Labels are those of the protein over
    all its images, as ``subcellular_location.tsv`` of the same release has them.
    """

    option = "genes"

    def __init__(self, name: str = NAME, choices: Mapping[str, str] | None = None):
        super().__init__(name, choices)

    def how_to_fetch(self) -> str:
        """Return the command."""
        return (
            f"`pci-bench data get {NAME} --genes FILE` fetches the images of the genes that a file lists, one a line (Ensembl ids or "
            "names), from release 18 or, where its server does not answer, from the current release"
        )

    def downloads(self) -> Sequence[RemoteFile]:
        """Return the table of locations, and the entry of each gene; what images there are, the entries say."""
        selection = self.selection()
        source = selection.source if selection else next(iter(declared()["sources"]))
        return [_table(source), *(_entry(source, gene) for gene in (selection.chosen if selection else ()))]

    def fetch(self, progress: Progress) -> None:
        """Fetch the entries of the genes and their images, and keep what each field of view shows."""
        if user_data_folder(NAME):
            return
        from pci_bench.acquisition.collection import Collection
        from pci_bench.acquisition.protein_atlas import identifiers, read_genes

        before = self.selection()
        if "genes" not in self.choices and before is None:
            raise UserError(f"'{NAME}' has many genes, and none was named: {self.how_to_fetch()}.")
        listed = read_genes(user_path(self.choices["genes"], "--genes")) if "genes" in self.choices else None
        source, proteins = self._source(before, progress)
        genes = identifiers(listed, proteins) if listed is not None else list(before.chosen if before else ())
        collection = Collection(self.folder)
        if "retry" in self.choices:
            progress.say(f"{NAME}: {collection.forget_failures():,} files that did not come are asked for again.")
        entries = _entries(collection, source, genes, progress)
        fields = _images(collection, entries, progress)
        rows = [_row(entry, image, proteins) for entry, image, _ in fields]
        _write(self.folder / FIELDS, rows)
        notes = _notes(collection, source, genes, entries, fields, proteins)
        hashes = [(remote.name, collection.records[remote.name].sha256) for _, _, remote in fields]
        if not fields:
            raise UserError(
                f"No image of {len(genes):,} genes could be fetched. {' '.join(notes)} `pci-bench data get {NAME} --retry` asks again."
            )
        layout = declared()["layout"] | {"root": "."}
        identity = identity_of(hashes, sha256_of(self.folder / FIELDS))
        releases = sorted({entry.release for entry in entries})
        with_images = len({entry.gene for entry, _, _ in fields})
        self.select(
            Selection(
                tuple(genes),
                source,
                layout,
                {"gene": tuple(genes)},
                extent=f"release {' and '.join(releases)}, {with_images:,} genes",
                whole=releases == [PAPERS_RELEASE] and with_images >= self.meta.paper["proteins"],
                fields=len(fields),
                identity=identity,
                notes=notes,
            )
        )

    def _source(self, before: Selection | None, progress: Progress) -> tuple[str, dict[str, Locations] | None]:
        """Return which release to fetch from, the one as before where it answers, and its table of locations."""
        from pci_bench.acquisition.download import fetch
        from pci_bench.acquisition.protein_atlas import read_locations

        names = list(declared()["sources"])
        order = sorted(names, key=lambda name: before is None or name != before.source)
        failures = []
        for source in order:
            try:
                return source, read_locations(fetch(_table(source), progress=progress).path)
            except NoRoomError:
                raise
            except UserError as error:
                failures.append(str(error))
        progress.say(
            f"{failures[0]} {failures[-1]} Locations are taken from the genes' entries of the current release."
        )
        return names[-1], None


def _table(source: str) -> RemoteFile:
    """Return the table of locations of a release."""
    content = declared()
    return RemoteFile(
        f"{NAME}/{source}/{content['table']}",
        (f"{content['sources'][source]['url']}download/{content['table']}",),
        f"the table of locations of the Human Protein Atlas ({source})",
        INSTEAD,
        licence=LICENCE,
    )


def _entry(source: str, gene: str) -> RemoteFile:
    """Return the entry of a gene."""
    url = declared()["sources"][source]["url"]
    return RemoteFile(
        f"{NAME}/{source}/{gene}.xml", (f"{url}{gene}.xml",), f"the entry of {gene}", INSTEAD, licence=LICENCE
    )


def _file_of(gene: str, image: AtlasImage) -> RemoteFile:
    """Return the file of an image, in the place that the layout expects."""
    place = f"images/{gene}/{image.antibody}/{escape(image.cell_line)}/{image.site}_blue_red_green.jpg"
    return RemoteFile(f"{NAME}/{place}", image.urls, f"the image {image.site} of {gene}", INSTEAD, licence=LICENCE)


def _entries(collection: Collection, source: str, genes: Sequence[str], progress: Progress) -> list[AtlasEntry]:
    """Return the entries of genes, fetched where they are not here; those that are no entries are counted as not come."""
    from pci_bench.acquisition.protein_atlas import read_entry

    entries = []
    remotes = {_entry(source, gene): gene for gene in genes}
    for remote in collection.fetch_missing(list(remotes), "entries of genes", progress):
        try:
            entries.append(read_entry(downloaded_file(remote), remotes[remote]))
        except ValueError as error:
            collection.spoil(remote, str(error))
    collection.save()
    return entries


def _images(
    collection: Collection, entries: Sequence[AtlasEntry], progress: Progress
) -> list[tuple[AtlasEntry, AtlasImage, RemoteFile]]:
    """Return the images of genes that are here, fetched where they were not."""
    of_remote = {_file_of(entry.gene, image): (entry, image) for entry in entries for image in entry.images}
    here = collection.fetch_missing(list(of_remote), "images", progress, _problem_of_jpeg)
    return [(*of_remote[remote], remote) for remote in here]


def _problem_of_jpeg(file: Path) -> str:
    """Return what is wrong with an image that came, by its first and last bytes, or ""."""
    with open(file, "rb") as stream:
        first = stream.read(3)
        stream.seek(max(0, file.stat().st_size - 64))
        last = stream.read()
    if first != b"\xff\xd8\xff":
        return "what came is no JPEG"
    return "" if b"\xff\xd9" in last else "what came is a part of a JPEG: its end is missing"


def _row(entry: AtlasEntry, image: AtlasImage, proteins: Mapping[str, Locations] | None) -> dict[str, str]:
    """Return what the table of fields says of one."""
    from pci_bench.acquisition.protein_atlas import plates_of

    known = entry.locations if proteins is None else proteins.get(entry.gene)
    terms = known.terms if known else ()
    return {
        "gene": entry.gene,
        "antibody": image.antibody,
        "site": image.site,
        "protein": entry.locations.name,
        "cell_line": image.cell_line,
        "plate": plates_of(entry.images)[image.antibody, image.cell_line],
        "label": terms[0] if len(terms) == 1 else "",
        "labels": ";".join(terms),
        "variability": known.variability if known else "",
    }


def _write(file: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write the table of fields."""
    import csv

    text = io.StringIO()
    if rows:
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    with atomic_file(file) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8", newline="\n")


def _notes(
    collection: Collection,
    source: str,
    genes: Sequence[str],
    entries: Sequence[AtlasEntry],
    fields: Sequence[tuple[AtlasEntry, AtlasImage, RemoteFile]],
    proteins: Mapping[str, Locations] | None,
) -> tuple[str, ...]:
    """Return which release this is, when it was fetched, and what is missing, as sentences."""
    from pci_bench.acquisition.collection import MANIFEST, days_of

    used = [_entry(source, entry.gene).name for entry in entries] + [remote.name for _, _, remote in fields]
    days = days_of(collection.records[name] for name in used)
    releases = sorted({entry.release or "not said" for entry in entries})
    release = f"release {' and '.join(releases) or source} of the Human Protein Atlas, fetched {days}"
    notes = [
        f"{release[0].upper()}{release[1:]}{'' if releases == [PAPERS_RELEASE] else ', not the version 18 that the paper used'}."
    ]
    wanted = {_entry(source, gene).name for gene in genes}
    wanted |= {_file_of(entry.gene, image).name for entry in entries for image in entry.images}
    if failed := [record for record in collection.failed if record.file in wanted]:
        notes.append(
            f"{len(failed):,} of {len(wanted):,} files could not be fetched, for example {failed[0].said}. "
            f"{collection.folder / MANIFEST} lists them; `pci-bench data get {NAME} --retry` asks for them again."
        )
    if bare := [entry.gene for entry in entries if not entry.images]:
        notes.append(f"{len(bare):,} of {len(genes):,} genes have no images of cell lines, for example {bare[0]}.")
    if others := sum(entry.others for entry in entries):
        notes.append(
            f"{others:,} images that the entries list are of cilia or sperm, or no composites, and were left out."
        )
    if proteins is None:
        notes.append("Locations are those of the entries: subcellular_location.tsv could not be had.")
    elif unknown := [entry.gene for entry in entries if entry.images and entry.gene not in proteins]:
        notes.append(
            f"{len(unknown):,} of {len(genes):,} genes have no row in subcellular_location.tsv and so no labels, for example {unknown[0]}."
        )
    return tuple(notes)


DATASETS.register(NAME, HumanProteinAtlas(), origin=origin_of(HumanProteinAtlas))
