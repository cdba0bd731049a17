"""What runs need, where it is had, and which of it is here already."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from pci_bench import weights
from pci_bench.acquisition.annotation_files import get_annotations
from pci_bench.acquisition.download import Origin
from pci_bench.api import loading
from pci_bench.api.dataset import DATASETS
from pci_bench.data.annotation_sources import annotation_sources
from pci_bench.errors import UserError
from pci_bench.features.names import parse
from pci_bench.reproduction.items import ItemRun
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, downloaded_file


class Kind(StrEnum):
    """What is needed."""

    dataset = "dataset"
    weights = "weights"
    annotations = "annotations"


class State(StrEnum):
    """Whether something is here, and if not, how it is had."""

    here = "here"
    to_fetch = "to fetch"
    in_part = "name a part"
    by_hand = "by hand"
    not_published = "not published"


@dataclass(frozen=True)
class Need:
    """A dataset, weights, or annotations of proteins, that runs cannot do without.

    Attributes
    ----------
    name
        ``"chong2015"``, ``"pci@lu2019-yeast"``, ``"go-human"``.
    kind
        Which of the three.
    state
        Whether it is here.
    files
        What is still to be fetched, as far as that can be listed.
    licence
        As far as it is known.
    reason
        Where it is not here: how it is had, or why it cannot be.
    option
        Of a dataset that is fetched in part: what names the part (``"genes"``).
    first
        What must be done before it can be fetched: a package that reads it, and how to install it.
    stand_in
        Of a dataset that is not here: the name of another copy of its cells that is, or "".
    others
        Files of another copy of its cells, which are fetched where its own cannot be had.
    """

    name: str
    kind: Kind
    state: State
    files: tuple[RemoteFile, ...] = ()
    licence: str = ""
    reason: str = ""
    option: str = ""
    first: str = ""
    stand_in: str = ""
    others: tuple[RemoteFile, ...] = ()

    @property
    def bytes(self) -> int | None:
        """The size of what is to be fetched; None where its owners do not say it, or it is not known what that is."""
        if self.option:
            return None
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def get(self, progress: Progress, choices: Mapping[str, str]) -> None:
        """Fetch it, checked, and import what is weights.

        Parameters
        ----------
        progress
            Shows it.
        choices
            As :meth:`pci_bench.Dataset.choose` takes them; a dataset is told of those that it has.

        Raises
        ------
        UserError
            Where it cannot be had.
        """
        if self.kind is Kind.annotations:
            for sentence in get_annotations(annotation_sources()[self.name], progress):
                progress.say(sentence)
            return
        if self.kind is Kind.dataset:
            dataset = DATASETS.get(self.name)
            dataset.choose({name: value for name, value in choices.items() if name == dataset.option}).fetch(progress)
            return
        family, _, name = self.name.partition("@")
        weights.fetched(family, name, progress=progress)


def dataset_need(name: str, choices: Container[str] = ()) -> Need:
    """Return what is known of getting a dataset; `choices` are the options by which a part of one was named."""
    dataset = DATASETS.get(name)
    reason, licence = loading.unavailable_reason(dataset), dataset.meta.licence
    if (option := dataset.option) and dataset.own_copy() is None:
        if option in choices:
            return Need(name, Kind.dataset, State.to_fetch, _missing(dataset.downloads()), licence, option=option)
        if reason is not None:
            which = f"it is fetched in part, and --{option} says which part: {reason.rstrip('.')}"
            return Need(name, Kind.dataset, State.in_part, licence=licence, reason=which, option=option)
    stored = dataset.own_copy() is not None or loading.store_folder(dataset).exists()
    missing = () if stored and reason is None else _missing(dataset.downloads())
    if reason is None and not missing:
        return Need(name, Kind.dataset, State.here, licence=licence)
    state = State.to_fetch if missing else State.by_hand
    others = _missing(dataset.other_downloads()) if missing else ()
    why_not = (reason or "").rstrip(".")
    return Need(name, Kind.dataset, state, missing, licence, why_not, stand_in=dataset.stand_in(), others=others)


def weights_need(features: str) -> Need | None:
    """Return what is known of getting the weights of a feature set; None where it has none."""
    feature_set = parse(features)
    family, name = feature_set.extractor().meta.weights, feature_set.weights
    if not family or not name:
        return None
    full_name = f"{family}@{name}"
    if weights.find(family, name) is not None:
        return Need(full_name, Kind.weights, State.here)
    if name not in weights.declared().get(family, {}):
        return Need(full_name, Kind.weights, State.not_published, reason=weights.how_to_get(family, name))
    files = weights.remote_files(family, name)
    missing = _missing(files)
    state = State.to_fetch if files else State.by_hand
    licence = next((file.licence for file in files if file.licence), "")
    reason, first = weights.how_to_get(family, name).rstrip("."), weights.missing_reader(family, name) or ""
    return Need(full_name, Kind.weights, state, missing, licence, reason, first=first)


def annotations_need(name: str) -> Need:
    """Return what is known of getting annotations."""
    source = annotation_sources()[name]
    reason = source.unavailable_reason()
    missing = _missing(source.releases[0].files.values()) if reason else ()
    return Need(name, Kind.annotations, State.to_fetch if reason else State.here, missing, source.licence, reason or "")


def _missing(files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    return tuple(file for file in files if not downloaded_file(file).is_file())


def needs_of(runs: Iterable[ItemRun], choices: Container[str] = ()) -> list[Need]:
    """Return everything that runs need, each once; `choices` are as of :func:`dataset_need`."""
    found: dict[str, Need] = {}
    for run in runs:
        if run.dataset not in found:
            found[run.dataset] = dataset_need(run.dataset, choices)
        for features in run.features:
            need = weights_need(features)
            if need is not None:
                found.setdefault(need.name, need)
        for named in filter(None, (run.ontology, run.table)):
            found.setdefault(named, annotations_need(named))
    return list(found.values())


def lacking(run: ItemRun, failed: Container[str] = ()) -> dict[str, Need]:
    """Return, of the feature sets of a run that cannot be computed now, the first thing that each lacks.

    Where the dataset or annotations lack, all of them do; also where they are here, but what was `failed` to be fetched is not.
    """
    shared = _shared_lacks(run, failed)
    lacks: dict[str, Need] = {}
    for features in run.features:
        need = shared[0] if shared else weights_need(features)
        if need is not None and (shared or need.state is not State.here):
            lacks[features] = need
    return lacks


def _shared_lacks(run: ItemRun, failed: Container[str] = ()) -> list[Need]:
    """Return what lacks of a run's dataset and annotations, without which none of its feature sets can be computed."""
    shared = [dataset_need(run.dataset), *map(annotations_need, filter(None, (run.ontology, run.table)))]
    return [need for need in shared if need.state is not State.here or need.name in failed]


def get_for(runs: Sequence[ItemRun], progress: Progress, choices: Mapping[str, str] | None = None) -> dict[str, str]:
    """Get what runs need: datasets and annotations first, then the weights of those runs that have theirs.

    Return, by its name, why something could not be had. Where a dataset has another copy that is here, its runs count as having it.
    """
    reasons = _got([need for need in needs_of(runs, choices or ()) if need.kind is not Kind.weights], progress, choices)
    ready = [run for run in runs if all(need.stand_in for need in _shared_lacks(run, reasons))]
    return reasons | _got([need for need in needs_of(ready) if need.kind is Kind.weights], progress)


def _got(needs: Sequence[Need], progress: Progress, choices: Mapping[str, str] | None = None) -> dict[str, str]:
    """Get what can be fetched; return, by its name, why something could not be had.

    One that fails does not keep the others from being fetched. `choices` are as of :meth:`Need.get`.
    """
    reasons = {}
    for need in needs:
        if need.state is State.to_fetch or (
            need.kind is Kind.dataset and DATASETS.get(need.name).option in (choices or {})
        ):
            try:
                need.get(progress, choices or {})
            except UserError as error:
                reasons[need.name] = str(error).rstrip(".")
        elif need.state is not State.here:
            reasons[need.name] = need.reason
    return reasons


def origin(name: str) -> str:
    """Return where a dataset's cells came from: the user's folder, the address and SHA-256 of what was fetched, or its notes."""
    dataset = DATASETS.get(name)
    if (own := dataset.own_copy()) is not None:
        return f"your copy in {own}"
    if (
        dataset.option and loading.store_folder(dataset).exists()
    ):  # of which many files came from several places: their notes say it
        return next(iter(loading.load(dataset).notes), "")
    files = [downloaded_file(remote) for remote in dataset.downloads()]
    noted = [f"{note.url or 'imported'}, sha256 {note.sha256}" for note in map(Origin.of, files) if note.sha256]
    if len(noted) > 1:
        return f"{len(noted)} files, the first {noted[0]}"
    return noted[0] if noted else ""
