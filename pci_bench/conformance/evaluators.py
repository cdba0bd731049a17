"""Contracts of evaluators: the same finite numbers for the same features, and a reason where there are none."""

from __future__ import annotations

import json
import math
import os
import typing
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.evaluator import (
    EVALUATORS,
    FORMER_METHODS,
    EvaluationContext,
    Evaluator,
    EvaluatorOutput,
    validated,
)
from pci_bench.conformance.base import (
    BrokenContractError,
    Finding,
    NotApplicableError,
    Once,
    checked_contracts,
    described_error,
    expect,
    expect_described,
    expect_reason,
    known_methods,
    left_alone,
    some,
)
from pci_bench.conformance.feature_trial import no_weights, weights_that_fit
from pci_bench.conformance.planted import LAYOUTS, planted
from pci_bench.data.provenance import DatasetProvenance, FeaturesProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.system.threads import available_cores
from pci_bench.weights import find

if TYPE_CHECKING:
    import pydantic
    from anndata import AnnData

    from pci_bench.data.cells import Cells

CLASSES = ("Golgi", "nucleus", "vacuole")
IMAGES_PER_CLASS = 4
CELLS_PER_IMAGE = 6
FEATURES = 8
LARGE_COUNT, SMALL_COUNT = 50, 10
CLOSE = 1e-9  # sums of another order differ in their last digits


def planted_features(*, seed: int = 0) -> AnnData:
    """Return features of 72 cells in 12 images and 3 classes, with every obs column that datasets may have.

    Values are a class's, an image's and a cell's share, so that nothing is separated perfectly or not at all.
    """
    import pandas as pd
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    images = len(CLASSES) * IMAGES_PER_CLASS
    image = np.repeat(np.arange(images), CELLS_PER_IMAGE)
    label = image % len(CLASSES)
    values = rng.normal(size=(len(CLASSES), FEATURES))[label] + rng.normal(0, 0.5, (images, FEATURES))[image]
    values += rng.normal(0, 0.8, values.shape)
    obs = pd.DataFrame(
        {
            "cell": [f"cell{i}" for i in range(len(image))],
            "image": [f"image{i}" for i in image],
            "field": [f"field{i}" for i in image],
            "protein": [f"protein{i}" for i in image],
            "label": pd.Categorical([CLASSES[i] for i in label], categories=CLASSES),
            "labels": [f"{CLASSES[i]};cytosol" for i in label],
            "cell_line": [("A-431", "U-2 OS")[i // len(CLASSES) % 2] for i in image],
            "plate": [f"plate{i % 2}" for i in image],
            "split": [("train", "test")[i % 2] for i in image],
            "y": rng.uniform(0, 500, len(image)),
            "x": rng.uniform(0, 500, len(image)),
        }
    )
    obs.index = pd.Index(obs["cell"].astype(str), name=None)
    names = [f"feature{i}" for i in range(FEATURES)]
    adata = AnnData(X=values.astype(np.float32), obs=obs, var=pd.DataFrame(index=names))
    dataset = DatasetProvenance("planted features", "1", confounder="image", label="localization")
    return Provenance(dataset, FeaturesProvenance("planted", version="1")).attach(adata)


def reason_of(evaluator: Evaluator, adata: AnnData, params: Any) -> object:
    """Return what an evaluator gives as the reason why it cannot run on features: for the cells, or else for the features."""
    reason = evaluator.dataset_reason(adata.obs, Provenance.of(adata).dataset, params)
    return evaluator.unavailable_reason(adata, params) if reason is None else reason


class EvaluatorTrial:
    """One evaluator, and the planted features that it is tried on."""

    def __init__(self, name: str):
        self.name = name
        self.evaluator: Evaluator = EVALUATORS.get(name)
        self.adata = planted_features()
        if "model" in self.evaluator.meta.needs:
            network = {"name": "pci-conv4", "weights_family": "pci", "weights": "planted"}
            Provenance.of(self.adata).with_features(**network).attach(self.adata)
        self.planted = self.adata
        if "extractor" in self.evaluator.meta.needs:
            cells = self._cells(self.adata)
            assert cells is not None
            self.adata = self.features_of(cells)
        self.once = Once()
        self.environment = dict(os.environ)

    def grid(self) -> list[Any]:
        """Return the default parameters, counts made small, and each parameter changed alone, where it can be run."""
        param_sets, reasons = self.once("grid", self._grid)
        if not param_sets:
            raise NotApplicableError(f"it does not run on planted features: {'; '.join(reasons)}")
        return param_sets

    def _grid(self) -> tuple[list[Any], list[str]]:
        param_sets: list[Any] = []
        reasons: dict[str, None] = {}
        for params in changed_alone(self.evaluator):
            reason = reason_of(self.evaluator, self.adata, params)
            expect_reason(reason, f"for {params}")
            if reason:
                reasons[str(reason)] = None
            elif params not in param_sets:
                param_sets.append(params)
        return param_sets, list(reasons)

    def run(self, grid: list[Any], adata: AnnData, *, seed: int = 0) -> list[EvaluatorOutput]:
        """Return the outcomes of a grid."""
        features_of = self.features_of if "extractor" in self.evaluator.meta.needs else None
        run = EvaluationContext(
            seed, available_cores(), cells=self._cells(adata), weights=self._weights(), features_of=features_of
        )
        return list(self.evaluator(adata, grid, run))

    def features_of(self, cells: Cells) -> AnnData:
        """Return features of cells' crops: the planted ones of cells of these names, plus means and SDs of their pixels.

        A cell that was made of another one, as by covering a part of it, is named by that one and more words.
        """
        from anndata import AnnData

        names = cells.obs["cell"].astype(str)
        rows = self.planted.obs_names.get_indexer(names.str.partition(" ")[0])
        crops = cells.crops(slice(None), rescale="raw")
        values = self.planted.X[rows].copy()
        measured = np.concatenate([crops.mean(axis=(2, 3)), crops.std(axis=(2, 3))], axis=1)
        values[:, : measured.shape[1]] += 10 * measured
        obs = self.planted.obs.iloc[rows].assign(cell=names.to_numpy()).set_axis(names.to_numpy(), axis=0)
        return Provenance.of(self.planted).attach(AnnData(X=values, obs=obs, var=self.planted.var))

    def _cells(self, adata: AnnData) -> Cells | None:
        """Return cells to go with features, where the evaluator needs them."""
        if not set(self.evaluator.meta.needs) & {"cells", "model", "extractor"}:
            return None
        cells = planted(LAYOUTS["yeast"], self.adata.n_obs, size=32, awkward=False)
        return cells[[int(name.removeprefix("cell")) for name in adata.obs["cell"]]]

    def _weights(self) -> Path | None:
        """Return weights of paired cell inpainting, where the evaluator needs a model."""
        if "model" not in self.evaluator.meta.needs:
            return None
        if (name := weights_that_fit("pci", LAYOUTS["yeast"])) is None:
            raise NotApplicableError(no_weights("pci"))
        return find("pci", name)

    def outcomes(self) -> list[EvaluatorOutput]:
        """Return the outcomes of the whole grid, computed once: what other ways to get them are compared with."""
        return self.once("outcomes", lambda: self.run(self.grid(), self.adata.copy()))


def changed_alone(evaluator: Evaluator) -> Iterator[pydantic.BaseModel]:
    """Yield small parameters, and these with one of them changed: every choice of a few, other numbers, other columns.

    Small are the defaults but for counts above 50 (trees, pairs), which are 10: no contract needs more.
    """
    small: dict[str, Any] = {}
    for name, value in validated(evaluator, {}).model_dump().items():
        if isinstance(value, int) and value > LARGE_COUNT:
            with suppress(UserError):  # 10 is too small
                validated(evaluator, {name: SMALL_COUNT})
                small[name] = SMALL_COUNT
    default = validated(evaluator, small)
    yield default
    for name, field in evaluator.Params.model_fields.items():
        now = getattr(default, name)
        choices: tuple[Any, ...] = ()
        if name == "exclude":
            choices = ("cell", "image", "confounder")
        elif typing.get_origin(field.annotation) is typing.Literal:
            choices = typing.get_args(field.annotation)
        elif isinstance(now, bool):
            choices = (not now,)
        elif isinstance(now, int):
            choices = (now + 1, now // 2)
        for choice in choices:
            with suppress(UserError):  # not a value of this parameter
                yield validated(evaluator, {**small, name: choice})


def difference(expected: EvaluatorOutput, actual: EvaluatorOutput) -> str | None:
    """Return where two outcomes differ, or None."""
    for part in ("params", "metrics", "intervals", "details"):
        texts = [json.dumps(getattr(o, part), sort_keys=True, default=str) for o in (expected, actual)]
        if texts[0] != texts[1]:
            return f"{part} {some(texts[1:])[:200]} in place of {texts[0][:200]}"
    first, second = expected.per_cell, actual.per_cell
    if (first is None) != (second is None) or (first is not None and second is not None and not first.equals(second)):
        return "other predictions"
    return None


# ---- the contracts


def description(trial: EvaluatorTrial) -> str:
    """Name, version and title are texts; the key names parameters."""
    meta, fields = trial.evaluator.meta, trial.evaluator.Params.model_fields
    expect_described(meta, trial.name, "version", "title", "headline")
    unknown = [name for name in meta.key if name not in fields]
    expect(not unknown, f"meta.key to name parameters ({some(fields, 9)})", some(unknown))
    factors = meta.training_variance
    expect(
        len(factors) == 2 and all(1 <= factor < math.inf for factor in factors),
        "meta.training_variance to be two factors of at least 1",
        f"{factors!r}",
    )
    return f"version {meta.version}, headline {meta.headline}"


def parameters(trial: EvaluatorTrial) -> str:
    """All parameters have valid defaults and a description, and unknown ones are refused."""
    fields = trial.evaluator.Params.model_fields
    validated(trial.evaluator, {})
    silent = [name for name, field in fields.items() if not (field.description or "").strip()]
    expect(not silent, "every parameter to have a description", f"none for {some(silent)}")
    try:
        validated(trial.evaluator, {"no_such_parameter": 1})
    except UserError:
        return some((f"{name} = {field.default}" for name, field in fields.items()), 12)
    raise BrokenContractError(
        "expected unknown parameters to be refused; found that no_such_parameter = 1 is taken. Give Params "
        "model_config = pydantic.ConfigDict(extra='forbid')."
    )


def reasons(trial: EvaluatorTrial) -> str:
    """No labels, one class, two cells, one cell: a reason, or an outcome."""
    default, adata = next(changed_alone(trial.evaluator)), trial.adata
    unlabelled, one_class, nobody = adata.copy(), adata[adata.obs["label"] == CLASSES[0]].copy(), adata.copy()
    del nobody.obs["label"]
    unlabelled.obs["label"] = ""
    details = []
    for what, features in (
        ("without a column label", nobody),
        ("without any label", unlabelled),
        ("of one class", one_class),
        ("of two cells", adata[[0, CELLS_PER_IMAGE]].copy()),
        ("of one cell", adata[[0]].copy()),
    ):
        try:
            reason = reason_of(trial.evaluator, features, default)
            expect_reason(reason, f"for features {what}")
            if reason is None:
                for outcome in trial.run([default], features):
                    expect_finite(outcome, f" for features {what}")
        except UserError as error:
            reason = str(error)
        except BrokenContractError:
            raise
        except Exception as error:
            raise BrokenContractError(
                f"expected a reason, or an outcome, for features {what}; found {described_error(error)}."
            ) from error
        details.append(f"{what}: {f'not run, {reason}' if reason else 'runs'}")
    return "; ".join(details)


def expect_finite(outcome: EvaluatorOutput, where: str) -> None:
    """Check that metrics and intervals are finite numbers."""
    wrong = [f"{name} = {value}" for name, value in outcome.metrics.items() if not np.isfinite(value)]
    wrong += [f"interval of {n} = {i}" for n, i in outcome.intervals.items() if not np.isfinite(i).all() or i[0] > i[1]]
    expect(not wrong, f"finite metrics, and intervals from low to high{where}", some(wrong))


def numbers(trial: EvaluatorTrial) -> str:
    """One outcome for each of the grid, in order, with finite metrics, the headline among them, and plain details."""
    grid, outcomes, meta = trial.grid(), trial.outcomes(), trial.evaluator.meta
    expect(len(outcomes) == len(grid), f"an outcome for each of {len(grid)} sets of parameters", f"{len(outcomes)}")
    for params, outcome in zip(grid, outcomes, strict=True):
        expect(
            meta.headline in outcome.metrics, f"the headline '{meta.headline}' among the metrics", some(outcome.metrics)
        )
        expect_finite(outcome, f" for {params}")
        stray = set(outcome.intervals) - set(outcome.metrics)
        expect(not stray, "intervals of metrics only", some(sorted(stray)))
        resolved = {"exclude"} | {k for k, v in params.model_dump().items() if v in ("", None)}  # for what is resolved
        defaults = {k: info.default for k, info in type(params).model_fields.items()}
        unsaid = {k for k, v in params.model_dump().items() if v == defaults[k]} - set(outcome.params)
        same = {k: v for k, v in params.model_dump().items() if k not in resolved | unsaid}
        kept = {k: v for k, v in outcome.params.items() if k in same}
        expect(kept == same, f"the outcomes in the order of the grid, here {same}", f"{kept}")
        validated(trial.evaluator, outcome.params)
        json.dumps(outcome.details, allow_nan=False)
    return f"{some((f'{k} {v:.3f}' for k, v in outcomes[0].metrics.items()), 6)}; {len(grid)} sets of parameters"


def predictions(trial: EvaluatorTrial) -> str:
    """Predictions have a row per cell (or per protein or image), named by it, with that cell's own label."""
    tables = [o.per_cell for o in trial.outcomes() if o.per_cell is not None]
    if not tables:
        raise NotApplicableError("it predicts nothing for single cells")
    for table in tables:
        unit = next((u for u in ("cell", "protein", "image") if u in table), "")
        expect(
            unit, "a column 'cell', 'protein' or 'image' in the predictions", f"the columns {some(table.columns, 9)}"
        )
        names = table[unit].astype(str)
        mismatched = names[~names.isin(trial.adata.obs[unit].astype(str))]
        expect(mismatched.empty, f"predictions for each {unit} that was given", f"rows named {some(mismatched)}")
        expect(not names.duplicated().any(), f"one row per {unit}", f"{some(names[names.duplicated()])} more than once")
        if unit == "cell" and "label" in table:
            own = trial.adata.obs.set_index("cell")["label"].astype(str)[names].to_numpy()
            wrong = names[table["label"].astype(str).to_numpy() != own]
            expect(wrong.empty, "each cell beside its own label", f"another's beside {some(wrong)}")
    return f"{len(tables[0])} {unit}s"


def same_seed(trial: EvaluatorTrial) -> str:
    """The same seed gives the same numbers again."""
    again = trial.run(trial.grid(), trial.adata.copy())
    for params, expected, actual in zip(trial.grid(), trial.outcomes(), again, strict=True):
        what = difference(expected, actual)
        expect(what is None, f"the same outcome for the same seed and {params}", f"{what}")
    return "metrics, intervals, details and predictions"


def grid_or_alone(trial: EvaluatorTrial) -> str:
    """A set of parameters gives the same whether it is evaluated alone or within a grid."""
    if len(trial.grid()) == 1:
        raise NotApplicableError("it has no parameter that can be changed here")
    for params, within in zip(trial.grid(), trial.outcomes(), strict=True):
        (alone,) = trial.run([params], trial.adata.copy())
        what = difference(within, alone)
        expect(what is None, f"{params} to give alone what it gives within a grid", f"{what}")
    return some(map(str, trial.grid()), 8)


def input_is_kept(trial: EvaluatorTrial) -> str:
    """Features, table and global state are as before."""
    given = trial.adata.copy()
    trial.outcomes()  # imports what evaluating imports
    opening = "model" in trial.evaluator.meta.needs
    with left_alone("evaluating", trial.environment, opening=opening):
        trial.run(trial.grid(), given)
    if opening:
        with left_alone("evaluating", trial.environment, opening=True, other_threads=True):
            trial.run(trial.grid()[:1], given)
    expect(np.array_equal(given.X, trial.adata.X), "the features to be left as they are", "other values")
    expect(given.obs.equals(trial.adata.obs), "the table of cells to be left as it is", "another")
    expect(given.uns == trial.adata.uns, "uns to be left as it is", f"{some(given.uns)}")
    return "features, table, random generators, threads and environment untouched"


def any_order(trial: EvaluatorTrial) -> str:
    """Shuffled cells give the same metrics to 1e-9."""
    if not trial.evaluator.meta.order_invariant:
        raise NotApplicableError("it does not declare order_invariant")
    shuffled = trial.adata[np.random.default_rng(1).permutation(trial.adata.n_obs)].copy()
    for params, expected, actual in zip(trial.grid(), trial.outcomes(), trial.run(trial.grid(), shuffled), strict=True):
        for name, value in expected.metrics.items():
            expect(
                math.isclose(value, actual.metrics[name], rel_tol=CLOSE, abs_tol=CLOSE),
                f"the same {name} for cells in another order, and {params}",
                f"{actual.metrics[name]} in place of {value}",
            )
    return f"{trial.adata.n_obs} cells shuffled"


def methods(trial: EvaluatorTrial) -> str:
    """Its methods are those that are called."""
    return known_methods(trial.evaluator, Evaluator, FORMER_METHODS)


CONTRACTS = (
    ("its description is complete", description),
    ("its methods are those that are called", methods),
    ("parameters have defaults, and unknown ones are refused", parameters),
    ("too few cells or labels are met with a reason", reasons),
    ("metrics are finite, an outcome for each of the grid", numbers),
    ("predictions are aligned to cells", predictions),
    ("the same seed gives the same numbers", same_seed),
    ("a grid gives what its parts give", grid_or_alone),
    ("its input and global state are left alone", input_is_kept),
    ("the order of cells is irrelevant", any_order),
)


def check_evaluator(name: str) -> Iterator[Finding]:
    """Yield the findings of an evaluator."""
    subject = f"evaluator {name}, {EVALUATORS.origin(name)}"
    yield from checked_contracts(subject, CONTRACTS, EvaluatorTrial(name))
