"""``yeast-proteome`` and ``yeast-proteome-screens``: published measurements of proteins, with published localizations."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from pci_bench.acquisition.pinned import PinnedDataset, PinnedFiles
from pci_bench.api.dataset import register_dataset
from pci_bench.data.cells import DatasetMeta

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pci_bench.data.store import StoreWriter


@cache
def declared() -> dict[str, Any]:
    """Return ``yeast_proteome.toml``."""
    return tomllib.loads(files("pci_bench.datasets").joinpath("yeast_proteome.toml").read_text(encoding="utf-8"))


class YeastProteome(PinnedDataset):
    """A row per protein and screen: five distances in mother and bud at five stages, averaged over the protein's cells.

    ``labels`` are all localizations that Huh et al. 2003 name of untreated cells, ``label`` the only one, where there is one that
    they were sure of; ``frequent`` is yes where at least 15 proteins of the screen have it. They are matched by name, so proteins
    that have been renamed since have none, nor have names that the table gives to two genes.
    """

    name: str

    def __init__(self) -> None:
        d, own = declared(), declared()["datasets"][self.name]
        self.screens: list[str] = own["screens"]
        self.meta = DatasetMeta(
            self.name,
            "1",
            own["title"],
            d["reference"],
            d["licence"],
            confounder=own.get("confounder"),
            label=d["label"],
            ontology=d["ontology"],
        )
        self.files = PinnedFiles("yeast-proteome", "yeast_proteome_files.csv", d["licence"])

    def source_fingerprint(self) -> str:
        """Return what the rows follow from: the pinned files, and what counts as frequent."""
        return f"{self.files.fingerprint()} {declared()['frequent']}"

    def build(self, store: StoreWriter) -> None:
        """Read the screens, join the localizations, and store the rows, one screen after the other."""
        import pandas as pd

        paths = self.files.paths()
        screens = {screen: read_table(paths[f"{screen}_averaged_features.txt"]) for screen in self.screens}
        terms = localizations(paths[declared()["localizations"]])
        obs = pd.concat(
            [self._rows(screen, table.index, terms) for screen, table in screens.items()], ignore_index=True
        )
        values = np.concatenate([table.to_numpy(np.float64) for table in screens.values()])
        proteins = obs["protein"].drop_duplicates()
        unknown = int((~proteins.isin(terms)).sum())
        note = (
            f"{unknown:,} of {len(proteins):,} proteins have no localization: Huh et al. 2003 list no gene of that name, or two, or "
            "name no localization of it."
        )
        store.write_profiles(obs, values, list(screens[self.screens[0]].columns), notes=(note,))

    def _rows(self, screen: str, proteins: pd.Index, terms: dict[str, list[str]]) -> pd.DataFrame:
        """Return the table of one screen's proteins."""
        import pandas as pd

        names = [f"{protein} {screen}" if len(self.screens) > 1 else protein for protein in proteins]
        of_protein = [terms.get(protein, []) for protein in proteins]
        single = [t[0] if len(t) == 1 and t[0] != declared()["unclear"] else None for t in of_protein]
        table = pd.DataFrame(
            {
                "cell": names,
                "image": names,
                "protein": proteins,
                "label": pd.array(single, dtype="string"),
                "labels": [";".join(t) for t in of_protein],
            }
        )
        counts = table["label"].map(table["label"].value_counts()).fillna(0)
        table["frequent"] = np.where(counts >= declared()["frequent"], "yes", "no")
        return (
            table.assign(screen=screen, treatment=declared()["conditions"][screen]) if len(self.screens) > 1 else table
        )


@register_dataset("yeast-proteome")
class UntreatedYeastProteome(YeastProteome):
    """A row per protein of the untreated screen: distances of its protein in mother and bud at five stages, averaged over cells.

    ``labels`` are all localizations that Huh et al. 2003 name, ``label`` the only one where there is one that they were sure of,
    ``frequent`` whether at least 15 proteins have it.
    """

    name = "yeast-proteome"


@register_dataset("yeast-proteome-screens")
class YeastProteomeScreens(YeastProteome):
    """A row per protein and screen: untreated (WT2), with rapamycin (RAP3), with alpha factor (ALP3); otherwise as yeast-proteome.

    Localizations are those of untreated cells in all three.
    """

    name = "yeast-proteome-screens"


def read_table(file: Path) -> pd.DataFrame:
    """Return a table of the repository, with proteins as the index; a comma in a name is written as it is."""
    import pandas as pd

    table = pd.read_csv(file, sep="\t", index_col="ImageName", float_precision="round_trip", keep_default_na=False)
    return table.set_axis([unquote(name) for name in table.index], axis=0)


def localizations(file: Path) -> dict[str, list[str]]:
    """Return the localizations of every gene by its names, systematic and usual; a name of two genes is left out."""
    import pandas as pd

    table = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False, index_col=False, encoding="latin-1")
    found: dict[str, list[str]] = {}
    of_several = set()
    for orf, gene, summary in zip(table["yORF"], table["gene name"], table["localization summary"], strict=True):
        for name in dict.fromkeys(filter(None, (orf, gene))):
            if name in found:
                of_several.add(name)
            found[name] = summary.split(",") if summary else []
    return {name: terms for name, terms in found.items() if terms and name not in of_several}
