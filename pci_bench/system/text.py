"""Foreign text made harmless for where it is written: one function for each kind of target.

Names of datasets, cells, classes and feature sets come from other people's files. Each function returns a text that its
target shows as it is and never obeys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Control characters but for tab and newline, line separators, directions that reorder what stands around them, lone surrogates.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_FORMULA = tuple("=+-@\t\r")
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "<": "\\textless{}",
        ">": "\\textgreater{}",
        "|": "\\textbar{}",
        "–": "--",
        "×": "$\\times$",
    }
)


def _visible(character: re.Match[str]) -> str:
    code = ord(character[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def terminal(text: str) -> str:
    r"""Return a text whose control characters are written out, so that a terminal does not obey them.

    >>> terminal("\x1b[2Jgone")
    '\\x1b[2Jgone'
    """
    return _CONTROL.sub(_visible, text)


def one_line(text: str) -> str:
    r"""Return a text for a terminal in one line.

    >>> one_line("a\n  b")
    'a b'
    """
    return terminal(re.sub(r"\s*[\r\n]\s*", " ", text))


def plot_text(text: str) -> str:
    r"""Return a text that matplotlib draws as it is: no dollar begins mathematics. Twice is as once.

    >>> plot_text("$x^$")
    '\\$x^\\$'
    """
    return re.sub(r"(?<!\\)\$", r"\\$", terminal(text))


def markdown(text: str) -> str:
    r"""Return a text for Markdown, in a table's cell or a line: no HTML, links, emphasis or new cells. Code stays code.

    >>> markdown("a|b <img>")
    'a\\|b \\<img>'
    """
    text = re.sub(r"\\(?=[!-/:-@\[-`{-~])", r"\\\\", one_line(text))
    return re.sub(r"[|<*]|(?<=\])(?=[(\[])|&(?=#?\w+;)", r"\\\g<0>", text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; every cell is a text of its own."""
    from tabulate import tabulate

    body = [[markdown(cell) for cell in row] for row in rows]
    return str(tabulate(body, headers=[markdown(h) for h in header], tablefmt="github", disable_numparse=True))


def latex(text: str) -> str:
    r"""Return a text with everything escaped that LaTeX would read as a command.

    >>> latex("50 % [a_b]")
    '50 \\% [a\\_b]'
    """
    text = one_line(text).translate(_LATEX)
    return f"{{[}}{text[1:]}" if text.startswith("[") else text  # after a line's end it would be an option


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Return a table in LaTeX (booktabs), the first columns left-aligned; every cell is a text of its own."""
    import pandas as pd

    frame = pd.DataFrame([[latex(cell) for cell in row] for row in rows], columns=[latex(h) for h in header])
    return str(
        frame.style.hide(axis="index").to_latex(
            hrules=True, caption=latex(caption), column_format="l" * len(header), position_float="centering"
        )
    )


def csv_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe stands before ``=``, ``+``, ``-``, ``@`` and tabs.

    For tables that people read. Features, predictions and the tables beside a result are data, and are written as they are.

    >>> csv_cell("=1+1")
    "'=1+1"
    """
    return f"'{terminal(text)}" if text.startswith(_FORMULA) else terminal(text)


def csv_table(frame: pd.DataFrame) -> str:
    """Return a table for people as CSV; its numbers stay numbers."""

    def cell(value: Any) -> Any:
        return csv_cell(value) if isinstance(value, str) else value

    return str(frame.map(cell).rename(columns=cell).to_csv(index=False, lineterminator="\n"))


def xml_text(text: str) -> str:
    r"""Return a text with what XML cannot hold written out.

    >>> xml_text("a\x00")
    'a\\x00'
    """
    return _NOT_XML.sub(_visible, text)


def json_line(value: Any, *, ascii_only: bool = False) -> str:
    """Return JSON in one line for a pipe or a terminal: control characters are escaped, in C1 and beyond too."""
    text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False)
    return _CONTROL.sub(lambda c: f"\\u{ord(c[0]):04x}", text)


def json_in_html(value: Any) -> str:
    """Return JSON for a ``<script type="application/json">``, which no text in it can end."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<\u2028\u2029\ud800-\udfff]", lambda c: f"\\u{ord(c[0]):04x}", text)


def enumerated(names: Sequence[str]) -> str:
    """Return names as they are listed in a sentence.

    >>> enumerated(["one"]), enumerated(["one", "two", "three"])
    ('one', 'one, two and three')
    """
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
