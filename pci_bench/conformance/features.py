"""Contracts of computed feature sets: numbers depend on a cell's pixels and on nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.extractor import EXTRACTORS, FORMER_METHODS, Extractor, ExtractorMeta, Precomputed
from pci_bench.api.plugins import plugin_files
from pci_bench.api.skipped import Skipped
from pci_bench.conformance.base import (
    BrokenContractError,
    Finding,
    NotApplicableError,
    checked_contracts,
    described_error,
    expect,
    expect_described,
    expect_reason,
    expect_unchanged,
    known_methods,
    left_alone,
    same_bits,
    some,
)
from pci_bench.conformance.feature_trial import (
    FeatureTrial,
    batches,
    computed_only,
    expect_same,
    expect_same_by_cell,
    measured_in_a_worker,
    named,
    rows,
)
from pci_bench.conformance.planted import LAYOUTS, with_channels
from pci_bench.errors import UserError
from pci_bench.features.names import FeatureSet
from pci_bench.system.threads import available_cores

if TYPE_CHECKING:
    from pci_bench.conformance.read_features import ReadTrial

SLOW_IMPORTS = frozenset(
    (
        *(
            "torch",
            "torchvision",
            "timm",
            "lightning",
            "tensorflow",
            "keras",
            "jax",
            "numba",
            "umap",
            "cellpose",
            "stardist",
        ),
        *("skimage", "sklearn", "mahotas", "cp_measure", "matplotlib", "anndata", "h5py"),
    )
)


# ---- the contracts


def description(trial: FeatureTrial | ReadTrial) -> str:
    """Name, version, title, outputs, headline, rescaling, roles and batch are what the harness can work with."""
    meta: ExtractorMeta = trial.meta
    expect_described(meta, trial.features[0].extractor_name, "version", "title")
    expect(meta.outputs, "at least one output", "none")
    for output in meta.outputs:
        expect(not set("@,") & set(output), "outputs without '@' and ',', which have a meaning in names", f"'{output}'")
    expect(
        meta.headline is None or meta.headline in meta.outputs,
        f"meta.headline to be one of the outputs ({some(meta.outputs)})",
        f"{meta.headline!r}",
    )
    expect(meta.rescale in ("raw", "minmax"), "meta.rescale to be 'raw' or 'minmax'", f"{meta.rescale!r}")
    expect(set(meta.roles) <= {"protein", "marker"}, "roles among 'protein' and 'marker'", f"{meta.roles!r}")
    expect(isinstance(meta.batch, int) and meta.batch > 0, "meta.batch to be at least 1", f"{meta.batch!r}")
    return f"version {meta.version}, {len(meta.outputs)} output{'s' * (len(meta.outputs) > 1)}, batches of {meta.batch}"


def cheap_to_load(trial: FeatureTrial | ReadTrial) -> str:
    """Its file imports nothing that costs seconds, since every command loads all plug-ins."""
    file = Path(EXTRACTORS.origin(trial.features[0].extractor_name).file)
    try:
        module = ast.parse(file.read_bytes())
    except (OSError, SyntaxError) as error:
        raise NotApplicableError(f"it is not defined in a file that can be read ({file})") from error
    slow = [(name, line) for name, line in imported_at_once(module.body) if name.partition(".")[0] in SLOW_IMPORTS]
    expect(
        not slow,
        "a file that is imported in no time, as every command imports all plug-ins (import inside open() or the function)",
        some(f"{name} imported in line {line} of {file}" for name, line in slow),
    )
    return f"no slow import in {file.name}"


def imported_at_once(statements: Iterable[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Yield every module that is imported when a file is, with its line."""
    for statement in statements:
        if isinstance(statement, ast.Import):
            yield from ((alias.name, statement.lineno) for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and not statement.level:
            yield statement.module or "", statement.lineno
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            yield from imported_at_once(statement.orelse)
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            for block in ("body", "orelse", "finalbody"):
                yield from imported_at_once(getattr(statement, block, []))


def names_before_cells(trial: FeatureTrial) -> str:
    """names() gives unique, non-empty strings for every output it can be asked for."""
    counts = []
    for layout, cells in trial.layouts.items():
        channels = cells.channels
        roles = {c.role for c in channels}
        if not set(trial.meta.roles) <= roles:
            continue
        for output in dict.fromkeys(f.output for f in trial.features):
            names = trial.names(output, layout)
            what = f"output '{output}'" if output else "its one output"
            expect(isinstance(names, list), f"names() to give a list for {what}", f"{type(names).__name__}")
            wrong = [name for name in names if not isinstance(name, str) or not name.strip()]
            expect(names and not wrong, f"names() to give texts for {what}", some(map(repr, wrong)) or "no name at all")
            twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
            expect(
                not twice,
                f"unique column names for {what} on {' + '.join(c.name for c in channels)}",
                f"{some(twice)} twice",
            )
            counts.append(len(names))
    return f"{some(dict.fromkeys(counts), 6)} columns on {' and '.join(trial.layouts)} channels"


def columns(trial: FeatureTrial) -> str:
    """Every output is one float32 row per crop and one column per name."""
    shapes = []
    for layout, ready in trial.ready().items():
        for output, values in trial.called(layout).values.items():
            what = f"output '{output}'" if output else "the output"
            expect(values.dtype == np.float32, f"{what} to be float32", f"{values.dtype}")
            names = ready.names(output, values.shape[1])
            expect(
                values.shape[1] == len(names),
                f"as many columns as names() gives for {what} on {layout} channels ({len(names)})",
                f"{values.shape[1]}",
            )
            shapes.append(f"{values.shape[0]} × {values.shape[1]}")
    used = dict.fromkeys(
        f"{trial.meta.weights}@{f.weights}" for r in trial.ready().values() for f in r.wanted if f.weights
    )
    return f"float32, {some(dict.fromkeys(shapes), 6)}{f', with {some(used)}' if used else ''}"


def finite(trial: FeatureTrial) -> str:
    """No value is infinite, and none is NaN unless the extractor declares that values may be missing."""
    missing = 0
    for layout, ready in trial.ready().items():
        for output, values in trial.called(layout).values.items():
            wrong = np.isinf(values) if trial.meta.allows_nan else ~np.isfinite(values)
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                name = named(ready.names(output, values.shape[1]), column)
                cells = ready.cells.obs["cell"][wrong.any(axis=1)]
                raise BrokenContractError(
                    f"expected finite values{'' if trial.meta.allows_nan else ' (or NaN, declared with allows_nan=True)'}; found "
                    f"{values[row, column]} in the column '{name}' of {layout} cells {some(cells)}."
                )
            missing += int(np.isnan(values).sum())
    return "all values are finite" if not missing else f"{missing} values are NaN, as declared"


def quiet(trial: FeatureTrial) -> str:
    """No warning for a constant crop, one bright pixel, a cell that was not segmented, or the zeros that fill a batch."""
    for layout in trial.ready():
        messages = trial.called(layout).warnings
        expect(
            not messages, f"no warning on {layout} cells, of which some are constant or not segmented", some(messages)
        )
    return "none for constant, nearly empty and unsegmented crops"


def any_order(trial: FeatureTrial) -> str:
    """Backwards, and a shuffled subset."""
    for layout, ready in trial.ready().items():
        whole, n = trial.whole(layout), len(ready.cells)
        subset = np.random.default_rng(1).permutation(n)[: max(2, n // 2)]
        for how, index in (("when the cells come backwards", slice(None, None, -1)), ("for a shuffled subset", subset)):
            actual = computed_only(trial.measured(ready.wanted, ready.cells[index]))
            expect_same_by_cell(whole, actual, how)
    return f"{n} cells of {' and '.join(trial.ready())} channels, backwards and a shuffled subset of {len(subset)}"


def one_cell(trial: FeatureTrial) -> str:
    """A dataset of one cell."""
    ready, layout = trial.one(), next(iter(trial.ready()))
    whole = trial.whole(layout)
    actual = computed_only(trial.measured(ready.wanted, ready.cells[[1]]))
    expect_same_by_cell(whole, actual, "for a dataset of one cell")
    return "the same as among others"


def no_cells(trial: FeatureTrial) -> str:
    """unavailable_reason() and names() answer for zero cells, and the harness refuses them with a sentence."""
    ready = trial.one()
    empty = ready.cells[:0]
    expect_reason(trial.extractor.unavailable_reason(empty), "for zero cells")
    counts = [len(trial.names(f.output, next(iter(trial.ready())))) for f in ready.wanted]
    try:
        trial.measured(ready.wanted, empty)
    except UserError as error:
        return f"{some(counts, 6)} column names, and: {error}"
    raise BrokenContractError("expected a sentence that there is nothing to measure; found features of zero cells.")


def repeatable(trial: FeatureTrial) -> str:
    """The same crops give the same bits on a second call, in which neither crops nor global state change."""
    layout, ready = next(iter(trial.ready().items()))
    first = trial.called(layout)  # also imports what opening and computing import
    expect_unchanged(first.changed, "the first call")
    ended = []
    for _ in range(2):
        with left_alone("open()", trial.environment, opening=True, other_threads=True) as generators:
            compute = trial.extractor.open(ready.cells.channels, ready.weights, trial.device)
        ended.append(generators)
    seeded = [what for what in ended[0] if ended[0][what] == ended[1][what]]  # though each call began with other states
    expect_unchanged(seeded, "open()")
    for start, (crops, count) in enumerate(batches(ready.cells, trial.meta)):
        given = crops.copy()
        with left_alone("computing", trial.environment):
            values = compute(crops, ready.outputs)
        expect(same_bits(given, crops).all(), "the crops to be left as they are", "that computing changes them")
        cells = list(ready.cells.obs["cell"])[start * trial.meta.batch :][:count]
        for f in ready.wanted:
            reference = first.values[f.output][start * trial.meta.batch :][:count]
            names = ready.names(f.output, reference.shape[1])
            expect_same(f, reference, np.asarray(values[f.output])[:count], cells, names, "in a second call")
    return "the same bits; crops, random generators, threads and environment untouched"


def outputs_alone(trial: FeatureTrial) -> str:
    """An output that is asked for alone equals the same output of a pass for several."""
    if len(trial.features) == 1:
        raise NotApplicableError("one output was asked for")
    layout, ready = next(iter(trial.ready().items()))
    together = trial.called(layout).values
    compute = trial.extractor.open(ready.cells.channels, ready.weights, trial.device)
    tried = list(dict.fromkeys([ready.wanted[0], ready.wanted[len(ready.wanted) // 2], ready.wanted[-1]]))
    for f in tried:
        alone = rows(compute, ready.cells, trial.meta, {f.output})[f.output]
        names = ready.names(f.output, alone.shape[1])
        expect_same(f, together[f.output], alone, list(ready.cells.obs["cell"]), names, "when it is asked for alone")
    return some((f.base for f in tried), 6)


def number_types(trial: FeatureTrial) -> str:
    """Crops stored as float32, uint8 and uint16 whose raw values are exactly the same."""
    layout, ready = next(iter(trial.ready().items()))
    whole = trial.whole(layout)
    for dtype in ("uint8", "float32"):
        converted = trial.of_type(layout, dtype)
        actual = computed_only(trial.measured(ready.wanted, converted))
        expect_same_by_cell(whole, actual, f"for {dtype} and uint16 crops of exactly equal raw values")
    return "the same bits"


def two_processes(trial: FeatureTrial) -> str:
    """Two worker processes with half of the cells and of the cores each, as with --workers 2."""
    from joblib import Parallel, delayed

    layout, ready = next(iter(trial.ready().items()))
    whole, half = trial.whole(layout), len(ready.cells) // 2
    threads = 1 if trial.meta.processes else max(1, available_cores() // 2)
    shares = [slice(0, half), slice(half, None)]
    tasks = [
        delayed(measured_in_a_worker)(
            ready.wanted, ready.cells[share], ready.weights, trial.device, threads, plugin_files()
        )
        for share in shares
    ]
    for share, values in zip(shares, Parallel(n_jobs=2)(tasks), strict=True):
        if values is None:
            raise NotApplicableError(
                "it is registered in this process only; in a file (--plugin) or an installed package, others find it too"
            )
        for f, adata in whole.items():
            rest = adata[share]
            how = f"in two worker processes with {threads} thread{'s' * (threads > 1)} each"
            expect_same(f, np.asarray(rest.X), values[f.output], list(rest.obs_names), list(rest.var_names), how)
    return f"the same bits as one process, {half} and {len(ready.cells) - half} cells"


def declared_roles(trial: FeatureTrial) -> str:
    """Cells without a needed channel are not run; without any other, they are measured or refused with a reason."""
    needed, outcomes = trial.meta.roles, {}
    try:
        wanted = trial.one().wanted
    except NotApplicableError:
        wanted = []
    for cells in trial.layouts.values():
        for lacking in ("protein", "marker"):
            rest = with_channels(cells, [i for i, c in enumerate(cells.channels) if c.role != lacking])
            if not wanted and lacking not in needed:
                outcomes[lacking] = "not tried, since it runs on no synthetic cells here"
                continue
            try:
                result = next(iter(trial.measured(wanted or trial.features, rest).values()))
            except Exception as error:
                raise BrokenContractError(
                    f"expected cells without a {lacking} channel to be measured, or refused: it declares to need "
                    f"{' and '.join(needed) or 'no'} channels only; found {described_error(error)}. "
                    f"Declare the role '{lacking}', or give the reason in unavailable_reason()."
                ) from error
            if isinstance(result, Skipped):
                outcomes[lacking] = f"not run, {result.reason}"
            else:
                expect(lacking not in needed, f"cells without a {lacking} channel to be refused", "that they ran")
                outcomes[lacking] = "runs"
    return "; ".join(f"without {what}: {outcome}" for what, outcome in outcomes.items())


def channel_order(trial: FeatureTrial) -> str:
    """The protein in front of, between or behind the markers: the same columns, or a reason in unavailable_reason().

    Markers keep their order among themselves, which is what tells two of them apart.
    """
    outcomes = []
    for layout, ready in trial.ready().items():
        whole = trial.whole(layout)
        markers = [i for i, c in enumerate(ready.cells.channels) if c.role == "marker"]
        for place in range(1, len(markers) + 1):
            order = [*markers[:place], 0, *markers[place:]]
            cells = with_channels(ready.cells, order)
            names = " + ".join(c.name for c in cells.channels)
            result = trial.measured(ready.wanted, cells)
            refused = [r.reason for r in result.values() if isinstance(r, Skipped)]
            if len(refused) < len(result):
                how = f"when the dataset's channels are {names}"
                expect_same_by_cell(whole, computed_only(result), how, by_name=True)
            outcomes.append(f"{names}: {f'refused, {refused[0]}' if refused else 'the same bits'}")
    return "; ".join(outcomes)


def methods(trial: FeatureTrial | ReadTrial) -> str:
    """Its methods are those that are called."""
    base = Precomputed if isinstance(trial.extractor, Precomputed) else Extractor
    return known_methods(trial.extractor, base, FORMER_METHODS)


CONTRACTS = (
    ("its description is complete", description),
    ("its methods are those that are called", methods),
    ("it is cheap to load", cheap_to_load),
    ("columns have unique names, known before any cell", names_before_cells),
    ("one float32 column per name", columns),
    ("values are finite, or NaN where declared", finite),
    ("awkward crops cause no warning", quiet),
    ("bit-equal in any order and subset", any_order),
    ("bit-equal for one cell", one_cell),
    ("zero cells are refused with a sentence", no_cells),
    ("bit-equal when called again, and nothing else changes", repeatable),
    ("bit-equal for one output alone", outputs_alone),
    ("bit-equal for uint8, uint16 and float32 crops", number_types),
    ("bit-equal in two processes", two_processes),
    ("channel roles are declared", declared_roles),
    ("the dataset's order of channels is irrelevant", channel_order),
)


def check_features(
    features: Sequence[FeatureSet],
    *,
    device: str = "cpu",
    cells: int = 8,
    size: int = 64,
    layouts: Sequence[str] = tuple(LAYOUTS),
) -> Iterator[Finding]:
    """Yield the findings of feature sets that are outputs of one extractor with one set of weights.

    Parameters
    ----------
    features
        The outputs to try.
    device
        ``"cpu"`` or ``"cuda"``.
    cells, size, layouts
        How many synthetic cells, of how many rows and columns (awkward ones are added), with ``"yeast"`` or ``"human"``
        channels; fewer and smaller ones are quicker.
    """
    first = features[0]
    name = str(first) if len(features) == 1 else f"{first.extractor_name} ({len(features)} outputs)"
    subject = f"feature set {name}, {EXTRACTORS.origin(first.extractor_name)}"
    trial = FeatureTrial(features, device, cells=cells, size=size, layouts=layouts)
    yield from checked_contracts(subject, CONTRACTS, trial)
