"""What is done to features before they are evaluated, as it is declared: ``robust-z:plate``, ``pca64-whitened``, ``l2``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.statistics.postprocessing import (
    AffineMap,
    principal_components,
    robust_z_scores,
    sphering,
    unit_length,
    z_scores,
)
from pci_bench.statistics.scaling import all_finite
from pci_bench.system.arguments import split_names

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

NONE = "none"
CONTROLS = "controls="
COMPONENTS = re.compile(r"pca([1-9]\d{0,4})(-whitened)?")
BY_COLUMN: dict[str, tuple[Callable[[np.ndarray], AffineMap], str]] = {
    "z-score": (z_scores, "columns minus their mean over their SD"),
    "robust-z": (robust_z_scores, "columns minus their median over their median absolute deviation"),
    "sphering": (sphering, "uncorrelated columns of unit variance (ZCA-cor)"),
}
KNOWN = "none, z-score, robust-z, sphering, pca64, pca64-whitened (or another number) and l2, joined by +"
TRANSDUCTIVE = "fitted on the evaluated cells themselves, without their labels (transductive)"


@dataclass(frozen=True)
class Step:
    """One step: what it does, within the values of which obs column it is fitted, and on which controls.

    `within` and `controls` are empty where it is fitted on all cells; `controls` is an obs column and its value.
    """

    text: str
    name: str
    within: str = ""
    controls: tuple[str, str] | None = None

    @classmethod
    def parse(cls, text: str) -> Step:
        """Return a step as it is written: ``robust-z:plate:controls=compound=DMSO``.

        Raises
        ------
        UserError
            For what is no step, with what is.
        """
        name, *options = text.split(":")
        within, controls = "", None
        components = COMPONENTS.fullmatch(name)
        if name not in BY_COLUMN and name != "l2" and components is None:
            raise UserError(f"There is no post-processing '{text}'. Known are {KNOWN}.")
        for option in options:
            if option.startswith(CONTROLS) and controls is None and name != "l2":
                column, equals, value = option.removeprefix(CONTROLS).partition("=")
                if not (column and equals and value):
                    raise UserError(
                        f"The post-processing '{text}' names no controls. Write {name}:controls=COLUMN=VALUE, as {name}:controls=compound=DMSO."
                    )
                controls = column, value
            elif option and not within and name in BY_COLUMN:
                within = option
            else:
                whole = "l2 is of each cell by itself" if name == "l2" else f"{name} has one set of axes for all cells"
                why = whole if option and name not in BY_COLUMN else "it is written NAME:COLUMN:controls=COLUMN=VALUE"
                raise UserError(f"The post-processing '{text}' cannot have ':{option}': {why}.")
        if within == "label":
            raise UserError(
                f"The post-processing '{text}' would be fitted within each class, and tell the labels. Name a column that is known of every cell, such as plate."
            )
        return cls(text, name, within, controls)

    def groups(self, obs: pd.DataFrame) -> np.ndarray:
        """Return the group of every cell (n,) str, within which the step is fitted."""
        return obs_strings(obs, self.within) if self.within else np.full(len(obs), "")

    def fitted_on(self, obs: pd.DataFrame) -> np.ndarray:
        """Return which cells the step is fitted on (n,) bool."""
        if self.controls is None:
            return np.ones(len(obs), bool)
        column, value = self.controls
        chosen: np.ndarray = obs_strings(obs, column) == value
        return chosen

    def unavailable_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance) -> str | None:
        """Return why the step cannot be fitted on some cells, or None."""
        name, what = dataset.display_name, f"post-processing {self.text}"
        for column in (self.within, self.controls[0] if self.controls else ""):
            if column and column not in obs:
                return f"{what}: {name} has no column '{column}'; its columns are {', '.join(map(str, obs.columns))}"
        groups, fitted_on = self.groups(obs), self.fitted_on(obs)
        if self.within and (blank := int((groups == "").sum())):
            return f"{what}: {blank:,} of {len(obs):,} cells of {name} have no value in the column '{self.within}'"
        without = sorted(set(groups) - set(groups[fitted_on]))
        if without and self.controls is not None:
            where = f"'{without[0]}' of the column '{self.within}'" if self.within else name
            return f"{what}: no cell of {where} has '{self.controls[1]}' in the column '{self.controls[0]}'"
        return None

    def fit(self, values: np.ndarray) -> AffineMap:
        """Return the step's map, fitted on features (n, d)."""
        if components := COMPONENTS.fullmatch(self.name):
            return principal_components(values, int(components[1]), whitened=components[2] is not None)
        return BY_COLUMN[self.name][0](values)

    def words(self) -> str:
        """Return what the step does, and what it is fitted on."""
        if self.name == "l2":
            return "each cell's features over their Euclidean length, so that nearest is the highest cosine"
        if components := COMPONENTS.fullmatch(self.name):
            whitened = ", each over its SD" if components[2] else ""
            what = f"the first {components[1]} principal components of the standardised features{whitened}"
        else:
            what = BY_COLUMN[self.name][1]
        within = f", within each value of {self.within}" if self.within else ""
        fitted = "fitted on the cells with {} = {}".format(*self.controls) if self.controls else TRANSDUCTIVE
        return f"{what}{within}; {fitted}"


@dataclass(frozen=True)
class Postprocessing:
    """What is done to features, in order; nothing where there is no step.

    Examples
    --------
    >>> Postprocessing.parse("robust-z:plate+l2").steps[0].within
    'plate'
    >>> Postprocessing.parse("none").steps, str(Postprocessing.parse("pca64"))
    ((), 'pca64')
    """

    steps: tuple[Step, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Postprocessing:
        """Return a post-processing as it is written: ``none``, or steps joined by ``+``.

        Raises
        ------
        UserError
            For what is no step, with what is.
        """
        if not isinstance(text, str):
            raise UserError(f"A post-processing is a text, not {text!r}. Known are {KNOWN}.")
        text = text.strip()
        return cls() if text == NONE else cls(tuple(map(Step.parse, text.split("+"))))

    def __str__(self) -> str:
        return "+".join(step.text for step in self.steps) or NONE

    def words(self) -> str:
        """Return what is done and what it is fitted on, as words."""
        return "; then ".join(step.words() for step in self.steps) or "features as they are computed"

    def unavailable_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance) -> str | None:
        """Return why features of some cells cannot be post-processed, or None."""
        return next((reason for step in self.steps if (reason := step.unavailable_reason(obs, dataset))), None)

    def fitted(self, adata: AnnData) -> FittedPostprocessing:
        """Return the post-processing, fitted on the cells of some features.

        Raises
        ------
        UserError
            For NaN or infinite features, or where :meth:`unavailable_reason` says why not.
        """
        origin = Provenance.of(adata)
        if reason := self.unavailable_reason(adata.obs, origin.dataset):
            raise UserError(f"{reason[0].upper()}{reason[1:]}.")
        values = _finite(adata)
        obs, cells = adata.obs, adata.obs["cell"] if "cell" in adata.obs else adata.obs_names.to_series()
        order = np.argsort(
            cells.astype(str).to_numpy(), kind="stable"
        )  # the cells' order must not enter the last digit
        fits: list[dict[str, AffineMap]] = []
        fewest = len(obs)
        for step in self.steps:
            maps: dict[str, AffineMap] = {}
            if step.name != "l2":
                groups, fitted_on = step.groups(obs), step.fitted_on(obs)
                for group in np.unique(groups):
                    chosen = order[(fitted_on & (groups == group))[order]]
                    fewest = min(fewest, len(chosen))
                    maps[str(group)] = step.fit(values[chosen])
            fits.append(maps)
            values = _applied(step, maps, values, obs)
        return FittedPostprocessing(self, tuple(fits), fewest, len(obs))


@dataclass(frozen=True)
class FittedPostprocessing:
    """A post-processing with what it was fitted on: one map for each step and group.

    Parameters
    ----------
    postprocessing
        What is done.
    maps
        Of each step, its map by group; none of one that is fitted on nothing.
    fewest
        The smallest number of cells that a map was fitted on.
    cells
        How many cells there were.
    """

    postprocessing: Postprocessing
    maps: tuple[dict[str, AffineMap], ...]
    fewest: int
    cells: int

    def apply(self, adata: AnnData) -> AnnData:
        """Return features post-processed, whose provenance says so; of the cells that it was fitted on, or of changed ones.

        Raises
        ------
        UserError
            For NaN or infinite features.
        """
        from anndata import AnnData as Table
        from pandas import DataFrame, Index

        if not self.postprocessing.steps:
            return adata
        values = _finite(adata)
        for step, maps in zip(self.postprocessing.steps, self.maps, strict=True):
            values = _applied(step, maps, values, adata.obs)
        names = adata.var_names
        if any(COMPONENTS.fullmatch(step.name) for step in self.postprocessing.steps):
            names = Index([f"PC{number}" for number in range(1, values.shape[1] + 1)])
        table = Table(X=values, obs=adata.obs.copy(), var=DataFrame(index=names))
        return Provenance.of(adata).with_features(postprocess=str(self.postprocessing)).attach(table)

    def details(self) -> dict[str, Any]:
        """Return what a result says of it."""
        details: dict[str, Any] = {
            "postprocessing": {
                "what": self.postprocessing.words(),
                "cells": self.cells,
                "fewest_fitted_on": self.fewest,
            }
        }
        for step, maps in zip(self.postprocessing.steps, self.maps, strict=True):
            if components := COMPONENTS.fullmatch(step.name):
                (fitted,) = maps.values()
                found = fitted.weights.shape[1]
                details["postprocessing"]["components"] = found
                if found < int(components[1]):
                    details["fewer_postprocess"] = (
                        f"{found} components, since {self.fewest:,} cells and {len(fitted.centre):,} features have no more"
                    )
        return details


def postprocessings(declared: str | Sequence[str]) -> list[Postprocessing]:
    """Return what is declared, each once; a text has commas between them.

    Raises
    ------
    UserError
        Where there is none, or for what is no post-processing.

    Examples
    --------
    >>> [str(p) for p in postprocessings("none,pca64,none")]
    ['none', 'pca64']
    """
    texts = split_names(declared)
    if not texts:
        raise UserError(f"No post-processing was named. Known are {KNOWN}.")
    return list(dict.fromkeys(map(Postprocessing.parse, texts)))


def postprocess(adata: AnnData, text: str) -> AnnData:
    """Return features post-processed, fitted on the same cells; as they are for ``"none"``.

    Parameters
    ----------
    adata
        Features (n, d).
    text
        As it is written: ``"pca64"``, ``"robust-z:plate+l2"``.

    Raises
    ------
    UserError
        For what is no post-processing, a column that is not there, or NaN.

    Examples
    --------
    >>> import pci_bench
    >>> features = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> postprocess(features, "pca3").shape
    (641, 3)
    """
    return Postprocessing.parse(text).fitted(adata).apply(adata)


def _finite(adata: AnnData) -> np.ndarray:
    values = np.asarray(adata.X, np.float64)
    if not all_finite(values):
        raise UserError("The features hold NaN or infinite values; post-processing needs finite ones.")
    return values


def _applied(step: Step, maps: dict[str, AffineMap], values: np.ndarray, obs: pd.DataFrame) -> np.ndarray:
    """Return features (n, d) after a step."""
    if step.name == "l2":
        return unit_length(values)
    if not step.within:
        return maps[""].apply(values)
    groups, result = step.groups(obs), np.empty_like(values)
    for group in np.unique(groups):
        result[groups == group] = maps[str(group)].apply(values[groups == group])
    return result
