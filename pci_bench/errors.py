"""The exceptions that stand for what a user can put right."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Something that the user can put right.

    The message is whole sentences: what was found, where, what was expected, and what to do next. The command line
    prints it without a traceback and exits with 2.

    Examples
    --------
    >>> import pci_bench
    >>> try:
    ...     pci_bench.load_dataset("toy-yest")
    ... except UserError as error:
    ...     print(error)
    There is no dataset named 'toy-yest'. Did you mean toy-yeast? `pci-bench list datasets` shows all of them.
    """


class PluginError(UserError):
    """What went wrong in the code of a feature set, dataset, evaluator, segmenter or figure, or with what it gave.

    Attributes
    ----------
    names
        The feature sets, or the evaluator, that cannot be had for it; a run goes on with the others.
    """

    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, sentence: str, names: Iterable[str] = ()) -> PluginError:
        """Return the error of a sentence and of what cannot be had."""
        error = cls(sentence)  # with one argument, so that worker processes can hand it over
        error.names = tuple(names)
        return error
