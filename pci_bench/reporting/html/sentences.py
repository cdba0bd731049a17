"""What a reader should know first, in three sentences that follow from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pci_bench.api.evaluator import Metric
from pci_bench.runs.answer import Standing, share_lost
from pci_bench.system.text import enumerated

NAMED = 4  # feature sets in a sentence; of more, the others are counted


@dataclass(frozen=True)
class Column:
    """What feature sets reach where cells are compared in one way.

    Parameters
    ----------
    words
        What a cell is compared with: ``other images only, classes balanced``.
    competing
        Feature sets that need no labels, the best first.
    controls
        Those that know nothing of biology, the best first.
    chance
        What permuted labels reach, or None where nobody knows.
    others
        What does not compete for another reason, by that reason: it has learned from labels, or knows a simulation's masks.
    """

    words: str
    competing: tuple[Standing, ...] = ()
    controls: tuple[Standing, ...] = ()
    chance: float | None = None
    others: tuple[tuple[str, tuple[Standing, ...]], ...] = ()


@dataclass(frozen=True)
class Answer:
    """One evaluator's headline metric on one dataset.

    Parameters
    ----------
    metric
        Its name, in words.
    form
        How it is printed.
    columns
        From the loosest comparison to the strictest, in which feature sets are ranked; at least one.
    tied
        Competing feature sets that cannot be told apart from the best in the strictest column.
    own
        The feature sets of the method that the benchmark is about, which are said to be where they are not best.
    own_words
        What that method is called.
    """

    metric: str
    form: Metric
    columns: tuple[Column, ...]
    tied: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()
    own_words: str = ""

    @property
    def strictest(self) -> Column:
        """The column to believe first."""
        return self.columns[-1]

    @property
    def unit(self) -> str:
        """What follows a number."""
        return " %" if self.form.unit == "percent" else ""


def sentences(answer: Answer) -> list[str]:
    """Return what is best, what cannot be told apart from it, and how much of it a looser comparison only seemed to show.

    Examples
    --------
    >>> best, second = Standing("pci-conv4", 0.62, 0.6, 0.64), Standing("autoencoder-conv3", 0.5, 0.47, 0.53)
    >>> loose = Column("all other cells", (Standing("pci-conv4", 0.88), Standing("autoencoder-conv3", 0.8)), chance=0.1)
    >>> strict = Column("other images only", (best, second), (Standing("raw-pixels", 0.3),), chance=0.1)
    >>> for sentence in sentences(Answer("balanced accuracy", Metric("percent"), (loose, strict))):
    ...     print(sentence)
    Of 2 feature sets that need no labels, pci-conv4 is best where cells are compared with other images only: balanced accuracy 62.0 % [60.0, 64.0].
    The other one, autoencoder-conv3, can be told apart from it: 50.0 % [47.0, 53.0].
    Compared with all other cells, pci-conv4 reaches 88.0 %: of what that is above chance, 33 % is lost in the strictest column. The best control, raw-pixels, reaches 30.0 % there; chance is 10.0 %.
    """
    return [best_sentence(answer), tied_sentence(answer), cost_sentence(answer)]


def best_sentence(answer: Answer, *, where: str | None = None) -> str:
    """Return which feature set is best in the strictest column, with its interval; `where` says otherwise what it is a column of."""
    column = answer.strictest
    where = f" where cells are compared with {column.words}" if where is None else where
    if not column.competing:
        kinds = [name for name, members in (*column.others, ("controls", column.controls)) if members]
        return f"No feature set that needs no labels has a number{where}, so nothing is ranked: there are only {_listed(kinds) or 'rows without one'}."
    best = column.competing[0]
    number = f"{answer.metric} {_number(answer, best)}"
    if len(column.competing) == 1:
        return f"One feature set that needs no labels was run, {best.name}, so nothing is ranked: {number}{where}."
    return f"Of {len(column.competing)} feature sets that need no labels, {best.name} is best{where}: {number}."


def tied_sentence(answer: Answer) -> str:
    """Return which feature sets cannot be told apart from the best, and where the method is that the benchmark is about."""
    ranked = answer.strictest.competing
    if not ranked:
        return "Add one to see what it knows beyond them: pci-bench run … --features NAME."
    if len(ranked) == 1:
        return "Nothing that competes with it was run, so it can be compared with controls and chance only."
    by_name = {s.name: s for s in ranked}
    best, *others = ranked
    if answer.tied:
        said = f"{_listed(answer.tied)} cannot be told apart from it."
        if len(answer.tied) == len(others) > 1:
            said = f"None of the others can be told apart from it: {_listed(answer.tied)}."
    elif len(others) == 1:
        said = f"The other one, {others[0].name}, can be told apart from it: {_number(answer, others[0])}."
    else:
        said = f"All others can be told apart from it. The next is {others[0].name}: {_number(answer, others[0])}."
    if answer.own and best.name not in answer.own:
        own = next((s for s in ranked if s.name in answer.own), None)
        if own is not None and own is not others[0]:
            place = list(by_name).index(own.name) + 1
            said += f" {answer.own_words}, {own.name}, is number {place} of {len(ranked)}: {_number(answer, own)}."
    return said


def cost_sentence(answer: Answer) -> str:
    """Return how much of the number of the loosest column is lost in the strictest, and what controls and chance reach."""
    strict, loose = answer.strictest, answer.columns[0]
    said = []
    if len(answer.columns) == 1:
        said.append(
            f"Cells were compared in one way only, with {strict.words}, so how much of this number their images, plates or the size "
            "of classes explain is not known."
        )
    elif strict.competing:
        best = strict.competing[0]
        before = next((s for s in loose.competing if s.name == best.name), None)
        if before is not None:
            said.append(_lost(answer, before, best))
    if controls := _controls(answer):
        said.append(controls)
    return " ".join(said)


def _lost(answer: Answer, before: Standing, best: Standing) -> str:
    strict, loose = answer.strictest, answer.columns[0]
    reached = f"Compared with {loose.words}, {best.name} reaches {answer.form.text(before.value)}{answer.unit}"
    if answer.form.higher_is_better and loose.chance is not None and strict.chance is not None:
        lost = share_lost(before.value, best.value, loose.chance, strict.chance)
        if lost is not None and lost > 0:
            return (
                f"{reached}: of what that is above chance, {100 * min(lost, 1):.0f} % is lost in the strictest column."
            )
    if (best.value < before.value) == answer.form.higher_is_better and best.value != before.value:
        return f"{reached}, and {answer.form.text(best.value)}{answer.unit} in the strictest column."
    return f"{reached}: nothing is lost in the strictest column."


def _controls(answer: Answer) -> str:
    """Return what the best control reaches beside chance; a control that is as good is named as a warning."""
    column = answer.strictest
    chance = "" if column.chance is None else f"chance is {answer.form.text(column.chance)}{answer.unit}"
    if not column.controls:
        return f"{chance[:1].upper()}{chance[1:]}; no control was run." if chance else "No control was run."
    control = column.controls[0]
    number = f"{answer.form.text(control.value)}{answer.unit}"
    tail = f"; {chance}" if chance else ""
    if column.competing:
        best = column.competing[0].value
        if control.value >= best if answer.form.higher_is_better else control.value <= best:
            return f"A control, {control.name}, is as good or better: {number}{tail}."
    return f"The best control, {control.name}, reaches {number} there{tail}."


def _number(answer: Answer, standing: Standing) -> str:
    """Return ``62.0 % [60.0, 64.0]``; of several seeds their mean and range."""
    text = answer.form.text
    value = f"{text(standing.value)}{answer.unit}"
    if standing.low is None or standing.high is None:
        return value
    if standing.seeds > 1:
        return f"{value} (mean of {standing.seeds} seeds, from {text(standing.low)} to {text(standing.high)})"
    return f"{value} [{text(standing.low)}, {text(standing.high)}]"


def _listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them.

    >>> _listed("ab"), _listed("abcdefg")
    ('a and b', 'a, b, c, d and 3 more')
    """
    return enumerated([*names[:NAMED], *([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])])
