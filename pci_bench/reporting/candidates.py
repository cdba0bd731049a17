"""Which cells a cell is compared with in a result, as neighbours or in training, and how that is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pci_bench.data.observations import strictness
from pci_bench.runs.results import Result
from pci_bench.system.files import escape


@dataclass(frozen=True)
class Candidates:
    """The column whose value compared cells do not share, and whether every class loses as many cells by that.

    `levels` are the dataset's, which say what of its columns is the stricter one.

    >>> Candidates("image", balanced=True).words
    'other images only, classes balanced'
    >>> Candidates("compound+batch").words, Candidates("compound+batch").suffix
    ('other compounds of other batches only', '-other-compounds-batches')
    """

    column: str = "cell"
    balanced: bool = False
    levels: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, result: Result) -> Candidates:
        """Return the candidates of a result; all other cells where its evaluator knows no exclusion."""
        params = result.evaluator.params
        balanced = params.get("candidates") == "balanced"
        return cls(str(params.get("exclude", "cell")), balanced, result.dataset.levels)

    @property
    def everything(self) -> bool:
        """Whether a cell is compared with all others, as in the paper."""
        return self == Candidates()

    @property
    def strictness(self) -> tuple[int, int, bool]:
        """A key that is larger the more is left out of what a cell looks like for other reasons than its label.

        A coarser column leaves out more than a finer one, whether or not classes are balanced.

        >>> sorted([Candidates("plate"), Candidates(), Candidates("image", True), Candidates("image")], key=lambda c: c.strictness)[-2:]
        [Candidates(column='image', balanced=True), Candidates(column='plate', balanced=False)]
        """
        return *strictness(self.column, self.levels), self.balanced

    @property
    def words(self) -> str:
        """``all other cells``, ``other images only`` or ``other images only, classes balanced``."""
        if self.everything:
            return "all other cells"
        others = " of ".join(f"other {plural(column)}" for column in self.column.split("+"))
        return f"{others} only" + (", classes balanced" if self.balanced else "")

    @property
    def suffix(self) -> str:
        """What a file's stem ends in: nothing, ``-other-images`` or ``-other-images-balanced``."""
        if self.everything:
            return ""
        *first, last = self.column.split("+")
        columns = f"{'-'.join(map(plural, first))}-{plural(last)}" if first else f"{last}s"
        return f"-other-{escape(columns)}" + ("-balanced" if self.balanced else "")


def plural(column: str) -> str:
    """Return what the values of an obs column are called.

    >>> plural("image"), plural("batch"), plural("cell_line")
    ('images', 'batches', 'cell lines')
    """
    column = column.replace("_", " ")
    return column + ("es" if column.endswith(("ch", "s", "sh", "x")) else "s")


def ladder_of(results: Sequence[Result]) -> list[Candidates]:
    """Return the kinds of candidates of some results, the strictest last; those that are as strict stay in their order."""
    return sorted(dict.fromkeys(map(Candidates.of, results)), key=lambda kind: kind.strictness)


def balanced_where_known(results: Sequence[Result]) -> list[Result]:
    """Return results without those of unbalanced candidates that are there with balanced ones too."""

    def key(result: Result) -> tuple[object, ...]:
        params = {k: v for k, v in result.evaluator.params.items() if k != "candidates"}
        return (
            result.dataset.name,
            result.features.full_name,
            result.evaluator.name,
            tuple(sorted(map(str, params.items()))),
        )

    balanced = {key(r) for r in results if Candidates.of(r).balanced}
    return [r for r in results if Candidates.of(r).balanced or key(r) not in balanced]
