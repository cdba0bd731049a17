"""The toy ontology of the simulated human cells (OBO) and the annotations of their proteins (GAF 2.2).

``human_sim.obo`` and ``human_sim.gaf`` among the datasets are what `write` makes for ``human-sim``. Planted are the terms
of each protein's localizations and variant; the null terms are given to proteins at random.
"""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from pci_bench.simulation.human.collection import ANNOTATIONS, SETTINGS, Parameters, parameters_of, proteins, rng_of
from pci_bench.simulation.human.compartments import Protein

ONTOLOGY: dict[str, Any] = tomllib.loads(
    files("pci_bench.simulation.human").joinpath("ontology.toml").read_text(encoding="utf-8")
)
IDS = {term["name"]: key for key, term in ONTOLOGY["terms"].items()}


def null_ids() -> list[str]:
    """Return the ids of the terms that are assigned at random."""
    return [f"SIM:{ONTOLOGY['null_first'] + i:07d}" for i in range(ONTOLOGY["null_terms"])]


def planted_ids(protein: Protein) -> list[str]:
    """Return the most specific terms that are true of a protein: its variant's, or those of its localizations."""
    if len(protein.terms) == 1 and protein.variant:
        return [IDS[f"{protein.terms[0]}: {protein.variant}"]]
    return [IDS[term] for term in protein.terms]


def ontology_text() -> str:
    """Return the ontology as OBO 1.2; parents are related by ``is_a`` and ``part_of``."""
    null = {
        key: {"name": f"random group {i + 1:02d}", "is_a": [ONTOLOGY["null_parent"]]}
        for i, key in enumerate(null_ids())
    }
    terms = {**ONTOLOGY["terms"], **null}
    lines = [
        "format-version: 1.2",
        f"data-version: releases/{ONTOLOGY['date']}",
        "default-namespace: cellular_component",
        "remark: toy ontology of simulated human cells, made by pci-bench",
        "ontology: sim",
    ]
    for key, term in sorted(terms.items()):
        lines += ["", "[Term]", f"id: {key}", f"name: {term['name']}", "namespace: cellular_component"]
        lines += [f"alt_id: {alt_id}" for alt_id in term.get("alt_id", [])]
        lines += [f"is_a: {parent} ! {terms[parent]['name']}" for parent in term.get("is_a", [])]
        lines += [f"relationship: part_of {whole} ! {terms[whole]['name']}" for whole in term.get("part_of", [])]
        if term.get("obsolete"):
            lines.append("is_obsolete: true")
    lines += ["", "[Typedef]", "id: part_of", "name: part of", "is_transitive: true"]
    return "\n".join(lines) + "\n"


def annotations_text(parameters: Parameters, settings: dict[str, Any] = SETTINGS) -> str:
    """Return the annotations of a collection's proteins as GAF 2.2, by protein and term.

    A planted annotation is left out now and then, a few are denied with the qualifier NOT, and the null terms are drawn
    without looking at the proteins.
    """
    rng = rng_of(parameters, ANNOTATIONS)
    everyone = proteins(parameters, settings)
    rows: list[tuple[str, str, str, str]] = []
    for protein in everyone:
        kept = rng.uniform(size=2) < ONTOLOGY["complete"]
        planted = planted_ids(protein)
        rows += [(protein.name, "located_in", key, "IDA") for key, keep in zip(planted, kept, strict=False) if keep]
        others = sorted(set(IDS.values()) - set(planted))
        denied_id = others[int(rng.integers(len(others)))]
        if rng.uniform() < ONTOLOGY["denied"]:
            rows.append((protein.name, "NOT|located_in", denied_id, "IDA"))
    for key in null_ids():
        share = rng.uniform(*ONTOLOGY["null_share"])
        members = rng.permutation(len(everyone))[: max(3, round(share * len(everyone)))]
        rows += [(everyone[i].name, "located_in", key, "IEA") for i in members]
    date = ONTOLOGY["date"].replace("-", "")
    lines = ["!gaf-version: 2.2", "!generated-by: pci-bench", f"!date-generated: {ONTOLOGY['date']}"]
    for name, qualifier, key, evidence in sorted(rows):
        fields = ("SIM", name, name, qualifier, key, "SIM_REF:1", evidence, "", "C", f"simulated protein {name}", "")
        lines.append("\t".join((*fields, "protein", "taxon:9606", date, "pci-bench", "", "")))
    return "\n".join(lines) + "\n"


def write(name: str, folder: Path | str) -> list[Path]:
    """Write ``human_sim.obo`` and the annotations of a collection, ``human_sim.gaf`` for ``"human-sim"``; return both."""
    stem = name.replace("-", "_")
    written = [Path(folder) / "human_sim.obo", Path(folder) / f"{stem}.gaf"]
    for file, text in zip(written, (ontology_text(), annotations_text(parameters_of(name))), strict=True):
        file.write_text(text, encoding="utf-8", newline="\n")
    return written
