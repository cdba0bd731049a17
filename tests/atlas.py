"""A small Human Protein Atlas: entries, a table of locations and composite JPEGs, as the atlas publishes them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from functools import cache
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from PIL import Image
from servers import FileServer, Served

V18, CURRENT, IMAGES = (
    "https://v18.proteinatlas.org/",
    "https://www.proteinatlas.org/",
    "https://images.proteinatlas.org/",
)
ROWS, COLUMNS = 600, 760  # 512×512 px around each of these nuclei lie within the field
NUCLEI = [(row, column) for row in (260, 340) for column in (260, 340, 420, 500)]
TABLE_18 = [
    *("Gene", "Gene name", "Reliability", "Enhanced", "Supported", "Approved", "Uncertain"),
    *("Single-cell variation intensity", "Single-cell variation spatial", "Cell cycle dependency", "GO id"),
]


@dataclass(frozen=True)
class Site:
    """One field of view: plate, well and number, as in ``410_D12_1``, and whose it is."""

    name: str
    antibody: str
    cell_line: str


@dataclass(frozen=True)
class Gene:
    """A gene with its annotation and fields."""

    key: str
    name: str
    terms: tuple[str, ...]
    sites: tuple[Site, ...]
    intensity: bool = False
    row: dict[str, str] = field(default_factory=dict)  # more of the table


def gene(number: int, name: str, *terms: str, lines=("U-2 OS", "A-431"), intensity: bool = False) -> Gene:
    """Return a gene with one antibody and a field of each cell line."""
    antibody = f"HPA{number:06d}"
    sites = tuple(Site(f"{400 + i}_B{number}_1", antibody, line) for i, line in enumerate(lines))
    return Gene(f"ENSG{number:011d}", name, terms, sites, intensity)


def address(site: Site) -> str:
    """Return where release 18 has an image."""
    return f"http://v18.proteinatlas.org/images/{int(site.antibody[3:])}/{site.name}_blue_red_green.jpg"


def xml_of(gene: Gene, release: str = "18", declared: str = "") -> bytes:
    """Return the entry of a gene: a summary, then an assay for each antibody with a piece for each cell line.

    Beside what is wanted it has what real entries have: an image of the summary, tissues, and images after knock-down.
    """
    terms = "".join(f'<location status="main" GOId="GO:0">{escape(term.lower())}</location>' for term in gene.terms)
    assays = []
    for antibody in dict.fromkeys(site.antibody for site in gene.sites):
        data = []
        for line in dict.fromkeys(s.cell_line for s in gene.sites if s.antibody == antibody):
            images = "".join(
                f'<assayImage><image imageType="sampleImage"><channel color="blue">nucleus</channel>'
                f'<channel color="green">antibody</channel><channel color="red">microtubules</channel>'
                f"<imageUrl>{address(s)}</imageUrl></image></assayImage>"
                for s in gene.sites
                if (s.antibody, s.cell_line) == (antibody, line)
            )
            varies = ' singleCellVariationIntensity="true"' if gene.intensity else ""
            places = "".join(f'<location GOId="GO:0"{varies}>{escape(term.lower())}</location>' for term in gene.terms)
            data.append(f'<data><cellLine organ="Other">{escape(line)}</cellLine>{places}{images}</data>')
        assays.append(
            f'<antibody id={quoteattr(antibody)} releaseVersion="9" releaseDate="2011-11-11">'
            '<tissueExpression source="HPA" technology="IHC" assayType="tissue"><data><tissue>Liver</tissue><assayImage>'
            "<image><imageUrl>http://v18.proteinatlas.org/images/1/1_A_1_8.jpg</imageUrl></image></assayImage></data></tissueExpression>"
            '<cellExpression source="HPA" technology="ICC/IF"><subAssay type="human"><summary>Localized.</summary>'
            f'<verification type="validation">approved</verification>{"".join(data)}</subAssay>'
            '<subAssay type="sirna"><data><cellLine>U-2 OS</cellLine><assayImage><image><imageUrl>'
            "http://v18.proteinatlas.org/images/1/si1_blue_red_green.jpg</imageUrl></image></assayImage></data></subAssay>"
            "</cellExpression></antibody>"
        )
    summary = (
        f'<cellExpression source="HPA" technology="ICC/IF"><image imageType="selected"><imageUrl>{address(gene.sites[0])}</imageUrl></image>'
        f"<data>{terms}</data></cellExpression>"
        if gene.sites
        else ""
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{declared}<proteinAtlas schemaVersion="2.5"><entry version="{release}" '
        f'url="http://v{release}.proteinatlas.org/{gene.key}"><name>{gene.name}</name>'
        f'<identifier id="{gene.key}" db="Ensembl" version="88.38"><xref id="P1" db="Uniprot/SWISSPROT"/></identifier>'
        f"{summary}{''.join(assays)}</entry></proteinAtlas>"
    ).encode()


def table_of(genes: list[Gene]) -> bytes:
    """Return ``subcellular_location.tsv.zip`` as release 18 has it."""
    lines = ["\t".join(TABLE_18)]
    for one in genes:
        known = {"Gene": one.key, "Gene name": one.name, "Approved": ";".join(one.terms)}
        known |= {"Single-cell variation intensity": one.terms[0] if one.intensity else ""} | one.row
        lines.append("\t".join(known.get(column, "") for column in TABLE_18))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("subcellular_location.tsv", "\n".join(lines) + "\n")
    return content.getvalue()


@cache
def jpeg_of(seed: int, *, nuclear: bool) -> bytes:
    """Return a field of eight cells: blue nuclei, red around them, green in the nuclei or around them."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((ROWS, COLUMNS))
    distance = np.full((ROWS, COLUMNS), np.inf)
    for row, column in NUCLEI:
        distance = np.minimum(distance, np.hypot(rows - row, columns - column))
    nucleus, around = distance < 16, (distance >= 16) & (distance < 36)
    planes = [around * 150, (nucleus if nuclear else around) * 180, nucleus * 200]
    noise = rng.integers(0, 12, (ROWS, COLUMNS))
    content = io.BytesIO()
    Image.fromarray(np.stack([plane + noise for plane in planes], axis=-1).astype(np.uint8)).save(
        content, "JPEG", quality=88
    )
    return content.getvalue()


def serve(server: FileServer, genes: list[Gene], host: str = V18, release: str = "18") -> dict[str, bytes]:
    """Let a server stand in for the atlas, and return the images by their names."""
    server.mirror(f"{host}download/subcellular_location.tsv.zip", table_of(genes))
    images = {}
    for one in genes:
        server.mirror(f"{host}{one.key}.xml", Served(xml_of(one, release), "text/xml"))
        for number, site in enumerate(one.sites):
            nuclear = one.terms[:1] in (("Nucleoplasm",), ("Nucleoli",))
            images[site.name] = jpeg_of(1000 * int(one.key[4:]) + number, nuclear=nuclear)
            server.mirror(address(site), Served(images[site.name], "image/jpeg"))
    return images
