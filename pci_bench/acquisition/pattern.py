"""Patterns of file names with named parts: ``{plate}/{well}_s{site}_w{channel}.png``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pci_bench.errors import UserError

_TOKEN = re.compile(r"\{(?P<name>[^{}:]*)(?::(?P<regex>(?:[^{}]|\{[0-9,]*\})*))?\}|(?P<folders>\*\*/)|(?P<any>\*)")


@dataclass(frozen=True)
class Pattern:
    """A pattern of paths below a folder, written with ``/`` on every system.

    ``{name}`` is a named part, any text without ``/``; ``{name:regex}`` one that fits a regular expression, as in
    ``{site:[0-9]+}``. A name that comes twice stands for the same text. ``*`` is any text without ``/``, and ``**/`` any
    number of folders, none included.

    Parameters
    ----------
    text
        The pattern.

    Raises
    ------
    UserError
        Where a name is no identifier, a brace is left open, or an expression is not a regular one.

    Examples
    --------
    >>> Pattern("Plate{plate}/{well}_s{site}_w{channel}.png").match("Plate1/B02_s1_w3.png")
    {'plate': '1', 'well': 'B02', 'site': '1', 'channel': '3'}
    >>> Pattern("{well}_w{channel:[0-9]}.tif").match("B02_wx.tif") is None
    True
    >>> Pattern("**/{well}.tif").match("a/b/B02.tif")
    {'well': 'B02'}
    """

    text: str

    def __post_init__(self) -> None:
        """Compile the pattern, so that what is wrong with it is said at once."""
        _ = self._compiled

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        parts, position, names = [], 0, set()
        for token in _TOKEN.finditer(self.text):
            parts.append(self._literal(self.text[position : token.start()]))
            position = token.end()
            if token["folders"]:
                parts.append("(?:.*/)?")
            elif token["any"]:
                parts.append("[^/]*")
            else:
                name = token["name"]
                if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                    raise UserError(
                        f"The pattern '{self.text}' names a part '{name}'. A name is letters, digits and _, and begins with a letter: "
                        "{plate}, or with a regular expression {site:[0-9]+}."
                    )
                expression = token["regex"] or "[^/]+?"
                self._regular(expression)  # by itself, so that it does not end beyond its brace
                parts.append(f"(?P={name})" if name in names else f"(?P<{name}>{expression})")
                names.add(name)
        parts.append(self._literal(self.text[position:]))
        compiled = self._regular("".join(parts))
        if inner := set(compiled.groupindex) - names:
            raise UserError(
                f"The pattern '{self.text}' names '{inner.pop()}' within an expression. Write it as {{name:regex}}."
            )
        return compiled

    def _regular(self, expression: str) -> re.Pattern[str]:
        try:
            return re.compile(expression)
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(
                f"The pattern '{self.text}' holds no regular expression that can be read, '{expression}': {error}."
            ) from error

    def _literal(self, text: str) -> str:
        if "{" in text or "}" in text:
            raise UserError(
                f"The pattern '{self.text}' has a brace that is not closed or not opened, in '{text}'. A named part is {{name}}."
            )
        return re.escape(text)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its parts, in the order in which they come."""
        return tuple(self._compiled.groupindex)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the named parts of a path that fits as a whole, or None."""
        matched = self._compiled.fullmatch(path)
        return None if matched is None else matched.groupdict()


def filled_in(template: str, values: Mapping[str, str], where: str) -> str:
    """Return a text whose ``{name}`` are replaced by values.

    Parameters
    ----------
    template
        For example ``"{experiment}-{plate}"``.
    values
        By name.
    where
        What the template is, to begin a sentence.

    Raises
    ------
    UserError
        For a name that there is no value of.

    Examples
    --------
    >>> filled_in("{experiment}-{plate}", {"experiment": "RPE-01", "plate": "2"}, "[obs] plate")
    'RPE-01-2'
    """

    def value(token: re.Match[str]) -> str:
        if token[1] not in values:
            raise UserError(f"{where} = '{template}' names {{{token[1]}}}, but there are only {', '.join(values)}.")
        return values[token[1]]

    return re.sub(r"\{([^{}]*)\}", value, template)
