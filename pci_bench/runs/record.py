"""The record of a run, ``run.json``: what it was asked for, what it wrote, and what was not run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pydantic

from pci_bench.api.segmenter import DEFAULT_SEGMENTER
from pci_bench.api.skipped import Skipped
from pci_bench.errors import UserError
from pci_bench.system.arguments import PRECISIONS
from pci_bench.system.files import write_json
from pci_bench.system.foreign import check_within, first_fault, read_json

FILE = "run.json"
SCHEMA = 1


class SkippedRecord(pydantic.BaseModel):
    """What was not run, and why (:class:`pci_bench.api.skipped.Skipped`)."""

    dataset: str = ""
    features: str = ""
    evaluator: str = ""
    reason: str = "no reason is recorded"
    count: str = "1"
    code: str = ""


class RunArguments(pydantic.BaseModel):
    """What :func:`pci_bench.run` was called with, all of it resolved.

    The first records held one dataset as a string, ``k`` in place of parameters, and neither segmenter nor annotations.
    """

    model_config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)

    benchmark: str
    dataset: Annotated[list[str], pydantic.BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = (
        pydantic.Field(min_length=1)
    )
    features: list[str] = pydantic.Field(min_length=1)
    with_evaluators: list[str] = []
    k: list[int] | None = None
    parameters: dict[str, list[Any]] = {}
    limit: int | None
    seed: int = pydantic.Field(ge=0)
    device: str
    segmenter: str = DEFAULT_SEGMENTER
    annotations: str | None = None
    annotations_sha256: str | None = None
    postprocess: list[str] | None = None
    batch: int | None = None
    precision: str = PRECISIONS[0]


class DatasetFacts(pydantic.BaseModel):
    """Which cells a run took."""

    model_config = pydantic.ConfigDict(extra="allow")

    name: str | None = None
    sha256: str | None = None


class RunRecord(pydantic.BaseModel):
    """The content of an output folder's ``run.json``.

    Parameters
    ----------
    arguments
        As :class:`RunArguments`; what repeats the run asks for them with :meth:`repeatable`.
    datasets
        Name, version, hash and number of cells of each.
    results, tables, figures
        Paths below the folder, in order.
    not_run
        What was asked for and not run.
    notes
        Sentences about the data and the results.
    run
        Versions, machine, seed, seconds.
    """

    model_config = pydantic.ConfigDict(populate_by_name=True)

    schema_: int = pydantic.Field(SCHEMA, alias="schema")
    arguments: dict[str, Any] = {}
    datasets: list[DatasetFacts] = []
    results: list[str] = []
    tables: list[str] = []
    figures: list[str] = []
    not_run: list[SkippedRecord] = []
    notes: list[str] = []
    run: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> RunRecord | None:
        """Return the record of an output folder; None where there is none, as `pci-bench evaluate` writes none.

        Raises
        ------
        UserError
            As :meth:`read`.
        """
        return cls.read(folder / FILE) if (folder / FILE).exists() else None

    @classmethod
    def read(cls, file: Path) -> RunRecord:
        """Return the content of a ``run.json``.

        Raises
        ------
        UserError
            For a file that cannot be read, is a link out of its folder, is not of pci-bench, or of a schema that this version
            does not read.
        """
        check_within(file.parent, file)
        try:
            content = read_json(file)
        except (OSError, ValueError) as error:
            raise UserError(
                f"{file} is not the record of a run ({type(error).__name__}: {error}). Name the run.json that `pci-bench run` wrote."
            ) from error
        if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
            raise UserError(f"{file} has schema {content['schema']}; this version reads {SCHEMA}. Update pci-bench.")
        try:
            return cls.model_validate(content)
        except pydantic.ValidationError as error:
            raise UserError(
                f"{file} is not the record of a run ({first_fault(error)}). Name the run.json that `pci-bench run` wrote."
            ) from error

    def repeatable(self, file: Path) -> RunArguments:
        """Return the arguments that repeat the run.

        Raises
        ------
        UserError
            Where some are missing or cannot be, naming `file`.
        """
        try:
            return RunArguments.model_validate(self.arguments)
        except pydantic.ValidationError as error:
            raise UserError(
                f"{file} is not the record of a run (arguments.{first_fault(error)}). Name the run.json that `pci-bench run` wrote."
            ) from error

    def write(self, folder: Path, skipped: list[Skipped]) -> None:
        """Write the record into an output folder, with what was not run."""
        content = self.model_dump(by_alias=True)
        content["not_run"] = [entry.record() for entry in skipped]
        write_json(folder / FILE, content)
