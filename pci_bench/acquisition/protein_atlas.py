"""The Human Protein Atlas as it publishes itself: an XML file for each gene, a table of locations, composite JPEGs."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from pci_bench.errors import UserError
from pci_bench.system.shortages import raise_shortage
from pci_bench.system.text import enumerated

GENE = re.compile(r"ENSG[0-9]{11}")
COMPOSITE = "_blue_red_green.jpg"  # red: microtubules, green: the antibody, blue: nuclei
IMAGES = "https://images.proteinatlas.org/"  # where images of every release are
HOST = "proteinatlas.org"
IMMUNOFLUORESCENCE = "ICC/IF"
CELL_LINES = "human cell lines"  # what newer releases call the sub-assay, beside those of cilia and of sperm
MAIN_AND_ADDITIONAL = ("Main location", "Additional location")
RELIABILITIES = ("Enhanced", "Validated", "Supported", "Approved", "Uncertain")  # columns of terms in releases up to 18
VARIATION = {"intensity": "Single-cell variation intensity", "spatial": "Single-cell variation spatial"}
LARGEST_XML = 64 * 2**20  # bytes; an entry has less than ten megabytes
LARGEST_TABLE = 64 * 2**20
UNSAFE = re.compile(r"[^\w.+-]")


@dataclass(frozen=True)
class AtlasImage:
    """A field of view.

    Parameters
    ----------
    urls
        Where it is: as the entry says, then where images of every release are.
    antibody, cell_line
        ``"HPA001234"``, ``"U-2 OS"``.
    site
        Its name there, without what says that it is a composite: ``"410_D12_1"`` is plate, well and field.
    """

    urls: tuple[str, ...]
    antibody: str
    cell_line: str
    site: str

    @property
    def plate(self) -> str:
        """The plate's number."""
        return self.site.partition("_")[0]


@dataclass(frozen=True)
class Locations:
    """Where a protein was found, over all its images.

    Parameters
    ----------
    name
        The gene's name: ``"MKI67"``.
    terms
        All terms, the main ones first.
    variability
        ``"intensity"``, ``"spatial"``, both joined by ``;``, or "" where no variation from cell to cell is annotated.
    """

    name: str
    terms: tuple[str, ...]
    variability: str


@dataclass(frozen=True)
class AtlasEntry:
    """What the XML file of a gene says of its immunofluorescence.

    Parameters
    ----------
    gene
        The Ensembl identifier.
    release
        Of the atlas: ``"18"``; "" where it is not said.
    locations
        The gene's name and locations.
    images
        Fields of human cell lines.
    others
        How many images there are that are not taken: of cilia, of sperm, or no composites.
    """

    gene: str
    release: str
    locations: Locations
    images: tuple[AtlasImage, ...]
    others: int = 0


def read_entry(file: Path, gene: str) -> AtlasEntry:
    """Return what the XML file of a gene says.

    No entity is expanded, nothing outside the file is read, and no file of more than 64 MiB.

    Parameters
    ----------
    file
        As ``https://www.proteinatlas.org/<gene>.xml`` gives it.
    gene
        The Ensembl identifier that the file must be about.

    Raises
    ------
    ValueError
        For what is no such file, without a full stop.
    """
    root = _parsed(file)
    entry = root if root.tag == "entry" else root.find("entry")
    if entry is None:
        raise ValueError(f"it has no <entry>; its first element is <{root.tag[:40]}>")
    known = [*(found.get("id", "") for found in entry.findall("identifier")), entry.get("url", "")]
    if not any(gene in said for said in known):
        raise ValueError(f"it is about {known[0] or 'no gene'}, not {gene}")
    name = (entry.findtext("name") or "").strip() or gene
    images: dict[tuple[str, str], AtlasImage] = {}
    others = 0
    varies: set[str] = set()
    for antibody in entry.findall("antibody"):
        for assay in _fluorescence(antibody):
            for part in assay.findall("subAssay"):
                if part.get("type") != "human":
                    continue
                taken = part.get("subtype", CELL_LINES) == CELL_LINES
                for data in part.findall("data"):
                    varies |= _variation(data)
                    cell_line = (data.findtext("cellLine") or "").strip()
                    for element in data.findall("assayImage/image/imageUrl"):
                        image = _image((element.text or "").strip(), antibody.get("id", ""), cell_line)
                        if image is None or not taken:
                            others += 1
                        else:
                            images.setdefault((image.antibody, image.site), image)
    terms = [
        _capitalized(found.text)
        for status in ("main", "additional", None)
        for summary in _fluorescence(entry)
        for found in summary.findall("data/location")
        if found.get("status") == status and (found.text or "").strip()
    ]
    variability = ";".join(kind for kind in VARIATION if kind in varies)
    locations = Locations(name, tuple(dict.fromkeys(terms)), variability)
    return AtlasEntry(gene, entry.get("version", ""), locations, tuple(images.values()), others)


def _parsed(file: Path) -> Element:
    """Return the first element of an XML file, read without entities."""
    size = file.stat().st_size
    if size > LARGEST_XML:
        raise ValueError(f"it has {size:,} bytes; an entry has less than {LARGEST_XML:,}")

    def refuse(*_: object) -> None:
        raise ValueError("it declares an entity, which no entry of the atlas does")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(file.read_bytes(), True)
    except expat.ExpatError as error:
        raise_shortage(error)
        raise ValueError(f"it is damaged or no XML: {error}") from error
    root: Element = builder.close()
    return root


def _fluorescence(element: Element) -> list[Element]:
    return [found for found in element.findall("cellExpression") if found.get("technology") == IMMUNOFLUORESCENCE]


def _variation(data: Element) -> set[str]:
    """Return the kinds of variation from cell to cell that any location of an image has."""
    attributes = {
        name.lower() for found in data.findall("location") for name, value in found.items() if value.lower() == "true"
    }
    return {kind for kind in VARIATION if f"singlecellvariation{kind}" in attributes}


def _image(url: str, antibody: str, cell_line: str) -> AtlasImage | None:
    """Return the image of an address, or None where it is no composite of the atlas."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if parts.scheme not in ("http", "https") or not (host == HOST or host.endswith(f".{HOST}")):
        return None
    path = PurePosixPath(parts.path)
    if not path.name.endswith(COMPOSITE) or not antibody or not cell_line:
        return None
    general = f"{IMAGES}{path.parent.name}/{path.name}"
    site = UNSAFE.sub("_", path.name.removesuffix(COMPOSITE))
    return AtlasImage(tuple(dict.fromkeys((url, general))), UNSAFE.sub("_", antibody), cell_line, site)


def _capitalized(text: str | None) -> str:
    """Return a term as the table writes it; entries have no capitals."""
    term = (text or "").strip()
    return term[:1].upper() + term[1:]


def read_locations(file: Path) -> dict[str, Locations]:
    """Return the proteins of ``subcellular_location.tsv`` by their Ensembl identifiers.

    Terms are those of the columns *Main location* and *Additional location*; in releases up to 18, which have none, those of
    every reliability, the most reliable first.

    Parameters
    ----------
    file
        The table, or the zip archive that it is published in.

    Raises
    ------
    UserError
        For what is no such table.
    """
    text = _table(file)
    rows = csv.DictReader(io.StringIO(text), delimiter="\t")
    columns = list(rows.fieldnames or ())
    of_terms = [c for c in MAIN_AND_ADDITIONAL if c in columns] or [c for c in RELIABILITIES if c in columns]
    if "Gene" not in columns or "Gene name" not in columns or not of_terms:
        raise UserError(
            f"{file} is not the table subcellular_location.tsv of the Human Protein Atlas: it has the columns "
            f"{', '.join(columns[:8]) or 'of no table'}. Remove it, and run the same command again."
        )
    proteins = {}
    for row in rows:
        terms = [term.strip() for c in of_terms for term in (row[c] or "").split(";")]
        varies = [kind for kind, column in VARIATION.items() if (row.get(column) or "").strip()]
        gene, name = (row["Gene"] or "").strip(), (row["Gene name"] or "").strip()
        proteins[gene] = Locations(name or gene, tuple(dict.fromkeys(filter(None, terms))), ";".join(varies))
    return proteins


def _table(file: Path) -> str:
    """Return the text of a table, which may be in a zip archive."""
    try:
        if not zipfile.is_zipfile(file):
            return file.read_text(encoding="utf-8-sig")
        with zipfile.ZipFile(file) as archive:
            tables = [name for name in archive.namelist() if name.endswith(".tsv")]
            with archive.open(tables[0]) as stream:
                content = stream.read(LARGEST_TABLE + 1)
        if len(content) > LARGEST_TABLE:
            raise ValueError(f"its table has more than {LARGEST_TABLE:,} bytes")
        return content.decode("utf-8-sig")
    except Exception as error:  # zlib's and zipfile's kinds
        raise_shortage(error)
        reason = "there is no table in it" if isinstance(error, IndexError) else str(error)
        raise UserError(
            f"{file} cannot be read as a table of the Human Protein Atlas: {reason}. Remove it, and run the same command again."
        ) from error


def read_genes(file: Path) -> list[str]:
    """Return the genes of a text file: the first word of each line; nothing after ``#``.

    Raises
    ------
    UserError
        For a file that cannot be read or names none.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise_shortage(error)
        raise UserError(f"The list of genes {file} cannot be read ({error}). Check the path.") from error
    words = [line.partition("#")[0].split() for line in lines]
    genes = list(dict.fromkeys(found[0].rstrip(",;") for found in words if found))
    if not genes:
        raise UserError(
            f"{file} names no gene. Write one a line: an Ensembl id such as ENSG00000148773, or a name such as MKI67."
        )
    return genes


def identifiers(genes: Sequence[str], proteins: Mapping[str, Locations] | None) -> list[str]:
    """Return the Ensembl identifiers of genes that are given by identifier or name.

    Parameters
    ----------
    genes
        As a user lists them; a version after an identifier is left out.
    proteins
        Those of ``subcellular_location.tsv``, which says which name is whose; None where the table cannot be had.

    Raises
    ------
    UserError
        For names of no gene, or of two, of the table.

    Examples
    --------
    >>> identifiers(["MKI67", "ENSG00000137691.12"], {"ENSG00000148773": Locations("MKI67", ("Nucleoli",), "")})
    ['ENSG00000148773', 'ENSG00000137691']
    """
    found, unknown = [], []
    for gene in genes:
        without_version = gene.partition(".")[0]
        if GENE.fullmatch(without_version):
            found.append(without_version)
            continue
        named = [key for key, protein in (proteins or {}).items() if protein.name == gene]
        if len(named) > 1:
            raise UserError(
                f"{gene} is the name of {enumerated(named)}. Write the Ensembl id of the one that you mean."
            )
        found += named
        unknown += [] if named else [gene]
    if unknown:
        where = (
            "are in no row of subcellular_location.tsv, the table of proteins with images"
            if proteins is not None
            else "cannot be looked up: the table of names, subcellular_location.tsv, cannot be had"
        )
        raise UserError(
            f"{len(unknown):,} of {len(genes):,} genes, for example {enumerated(unknown[:3])}, are no Ensembl ids, and as names they {where}. "
            "Write Ensembl ids, such as ENSG00000148773."
        )
    return list(dict.fromkeys(found))


def plates_of(images: Iterable[AtlasImage]) -> dict[tuple[str, str], str]:
    """Return the plates of each antibody and cell line, joined by ``+`` where there are several."""
    plates: dict[tuple[str, str], set[str]] = {}
    for image in images:
        plates.setdefault((image.antibody, image.cell_line), set()).add(image.plate)
    return {key: "+".join(sorted(found)) for key, found in plates.items()}
