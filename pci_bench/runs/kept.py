"""What a run may take from an earlier one instead of computing it: evaluations and figures, in the cache folder.

Both are kept under a hash of everything that they follow from: features, the cells' table, parameters, seed, versions of
packages, the machine, and the source code of this package (and of the plug-in that defines the evaluator). So a change of
any of them computes anew, and deleting the folders ``evaluations`` and ``figures`` of the cache costs time alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import __version__
from pci_bench.api.evaluator import EVALUATORS, Evaluator
from pci_bench.api.plugins import digest_of_sources, own_folders, source_of
from pci_bench.api.registry import Registry
from pci_bench.data.provenance import Provenance
from pci_bench.reporting.headline import first_features
from pci_bench.runs.results import Result
from pci_bench.system.checksums import check_described, check_digests, described, digest_of, digests_of
from pci_bench.system.devices import device_name
from pci_bench.system.files import (
    atomic_folder,
    cache_folder,
    copy_if_different,
    escape,
    finished,
    lock,
    may_write,
    remove_folder,
    sha256_of,
    write_json,
)
from pci_bench.system.machine import versions
from pci_bench.system.shortages import raise_shortage

if TYPE_CHECKING:
    from anndata import AnnData

MAX_ENTRIES = 20  # of one evaluator on one feature set in one post-processing, and of the figures of one benchmark; the oldest is removed
RECORD = "kept.json"

Evaluated = tuple[list[Result], list[str]]


def _place(dataset: str, features: str, evaluator: Evaluator, settings: Mapping[str, Any]) -> Path:
    """Return the folder of all that is kept of an evaluator on one feature set in one post-processing."""
    work = ",".join([evaluator.meta.name, *([settings["postprocess"]] if "postprocess" in settings else [])])
    names = (dataset or "unnamed", features or "unnamed", work)
    return cache_folder() / "evaluations" / Path(*map(escape, names))


def _asked(evaluator: Evaluator, grids: Sequence[Mapping[str, Sequence[Any]]], settings: Mapping[str, Any]) -> str:
    """Return the first part of a key: of what an evaluator is asked, and of its code."""
    code = code_digest(EVALUATORS.origin(evaluator.meta.name).file)
    meta = evaluator.meta
    return _digest([meta.name, meta.version, [dict(grid) for grid in grids], dict(settings), code], "")[:12]


def probably(
    evaluator: Evaluator,
    dataset: str,
    features: str,
    grids: Sequence[Mapping[str, Sequence[Any]]],
    settings: Mapping[str, Any],
) -> bool:
    """Return whether such an evaluation of features of these names is kept; whether it is of the same numbers is not looked at."""
    return any(
        (folder / RECORD).is_file()
        for folder in _place(dataset, features, evaluator, settings).glob(f"{_asked(evaluator, grids, settings)}-*")
    )


def evaluation(
    evaluator: Evaluator,
    adata: AnnData,
    grids: Sequence[Mapping[str, Sequence[Any]]],
    settings: Mapping[str, Any],
    compute: Callable[[], Evaluated],
    *,
    anew: bool = False,
) -> Evaluated:
    """Return the results of an evaluator on some features and the reasons of what could not be run, kept or computed now.

    Parameters
    ----------
    evaluator
        Those whose ``meta.reusable`` is not set are always run.
    adata
        The features, as :func:`pci_bench.extract` returns them.
    grids
        The parameters' values.
    settings
        What else decides: seed, benchmark, limit, and the features' post-processing where there is one.
    compute
        Runs it.
    anew
        Whether to run it in any case, and keep what it gives now.
    """
    if not evaluator.meta.reusable:
        return compute()
    origin = Provenance.of(adata)
    key = f"{_asked(evaluator, grids, settings)}-{_digest([_environment()], _content_of(adata))}"
    folder = _place(origin.dataset.name, origin.features.name, evaluator, settings) / key
    if not anew and (kept := _read(folder)) is not None:
        return kept
    results, reasons = compute()
    if not may_write(folder):
        return results, reasons
    with lock(folder.parent / "entries"):
        if (
            not anew and (kept := _read(folder)) is not None
        ):  # another process computed the same meanwhile, and reads it
            return kept
        with atomic_folder(folder) as temporary:
            for number, result in enumerate(results):
                if result.predictions is not None:
                    result.predictions.to_parquet(temporary / f"{number}.parquet", index=False)
                for name, table in result.tables.items():
                    table.to_parquet(temporary / f"{number}.{escape(name)}.parquet", index=False)
            records = [{"result": r.model_dump(by_alias=True), "tables": list(r.tables)} for r in results]
            _write_record(temporary, {"records": records, "reasons": reasons})
        _remove_oldest(folder.parent)
    for number, result in enumerate(results):
        if result.predictions is not None:
            result.with_predictions_in(folder / f"{number}.parquet")
    return results, reasons


def figures(
    results: Sequence[Result],
    registry: Registry[Any],
    into: Path,
    draw: Callable[[Path], list[Path]],
    say: Callable[[str], object] | None = None,
) -> list[Path]:
    """Return the figures of some results in a folder, drawn now unless the same were drawn before.

    Parameters
    ----------
    results
        As they were written below an output folder.
    registry
        Of the functions that draw them, by evaluator.
    into
        The folder.
    draw
        Draws them into a folder and returns the files.
    say
        Says that another process draws the same.
    """
    drawn = [r for r in results if r.evaluator.name in registry]
    if not drawn:
        return []
    declared = [
        first_features(drawn),
        *dict.fromkeys(code_digest(registry.origin(r.evaluator.name).file) for r in drawn),
    ]
    content = hashlib.sha256()
    for result in drawn:
        record = result.model_dump(exclude={"run"}) | {k: result.run.get(k) for k in ("seed", "package")}
        content.update(json.dumps(record, sort_keys=True).encode())
        content.update(_content_of_tables(result).encode())
    key = _digest([declared, _environment()], content.hexdigest())
    folder = cache_folder() / "figures" / escape(str(drawn[0].benchmark)) / key
    if not (folder / RECORD).is_file() and not may_write(folder):
        return draw(into)
    with lock(folder.parent / "entries", say):
        if (names := _kept_figures(folder)) is None:
            with atomic_folder(folder) as temporary:
                names = [f.name for f in draw(temporary)]
                _write_record(temporary, {"files": names})
            _remove_oldest(folder.parent)
        _used_now(folder)
        for name in names:
            copy_if_different(folder / name, into / name)
    return [into / name for name in names]


def code_digest(file: str) -> str:
    """Return a hash of the source code of this package, and of a plug-in's file or the package that it is part of."""
    return f"{_own_code()}{source_of(file)}"


@cache
def _own_code() -> str:
    return "".join(map(digest_of_sources, own_folders()))


@cache
def _environment() -> dict[str, Any]:
    """Return packages and machine, on which the last digits depend."""
    from importlib.metadata import version

    return versions() | {
        "package": __version__,
        "matplotlib": version("matplotlib"),
        "device": device_name("cpu"),
        "narrowed": [
            os.environ.get(name) for name in ("NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE", "GLIBC_TUNABLES")
        ],
    }


def _content_of(adata: AnnData) -> str:
    """Return a hash of features, their columns' names, the cells' table and what is known of their origin."""
    import pandas as pd

    values = np.ascontiguousarray(adata.X)
    digest = hashlib.sha256(values.tobytes())
    obs = adata.obs
    digest.update(pd.util.hash_pandas_object(obs, index=True).to_numpy().tobytes())
    description = [
        list(values.shape),
        str(values.dtype),
        list(adata.var_names),
        list(obs.columns),
        asdict(Provenance.of(adata)),
    ]
    digest.update(json.dumps(description, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _content_of_tables(result: Result) -> str:
    """Return a hash of a result's predictions and further tables."""
    import pandas as pd

    tables = dict(result.tables)
    if result.predictions_file is not None:
        tables_digest = sha256_of(result.predictions_file)
    else:
        tables_digest = ""
        if result.predictions is not None:
            tables["predictions"] = result.predictions
    digest = hashlib.sha256(tables_digest.encode())
    for name, table in tables.items():
        digest.update(f"{name} {list(table.columns)}".encode())
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _digest(identity: list[Any], content: str) -> str:
    return hashlib.sha256((json.dumps(identity, sort_keys=True, default=str) + content).encode()).hexdigest()[:20]


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write what a folder of kept files holds, last of all, with their checksums."""
    write_json(folder / RECORD, described({**record, "sha256": digests_of(folder, sorted(folder.iterdir()))}))


def _record(folder: Path) -> dict[str, Any]:
    """Return what a folder of kept files holds; raise DamagedError where a file is not as it was written."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    check_described(record)
    check_digests(
        lambda name: digest_of(folder / name), record.get("sha256", {})
    )  # what was kept before there were checksums has none
    return record


def _kept_figures(folder: Path) -> list[str] | None:
    """Return the names of kept figures; None where there are none, or where one is damaged."""
    try:
        names = _record(folder)["files"]
        return names if all((folder / name).is_file() for name in names) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(folder: Path) -> Evaluated | None:
    """Return a kept evaluation; None where there is none, or where it is damaged."""
    import pandas as pd

    try:
        kept = _record(folder)
        results = []
        for number, record in enumerate(kept["records"]):
            tables = {n: pd.read_parquet(folder / f"{number}.{escape(n)}.parquet") for n in record["tables"]}
            result = Result.model_validate(record["result"]).with_tables(None, tables)
            predictions = folder / f"{number}.parquet"
            results.append(result.with_predictions_in(predictions) if predictions.is_file() else result)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_shortage(error)
        return None
    _used_now(folder)
    return results, list(kept["reasons"])


def _used_now(folder: Path) -> None:
    """Make an entry the youngest; in a cache that can only be read nothing is removed, so that its age does not matter."""
    with suppress(OSError):
        os.utime(folder)


def _remove_oldest(folder: Path) -> None:
    entries = [f for f in finished(folder.iterdir()) if (f / RECORD).is_file()]
    for entry in sorted(entries, key=lambda f: f.stat().st_mtime)[:-MAX_ENTRIES]:
        remove_folder(entry)
