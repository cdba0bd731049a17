"""Rows of text in columns: one line a row for lists, wrapped between words for everything else. No word is ever cut in two."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from rich.cells import cell_len
from rich.text import Text

from pci_bench.system.text import terminal

GAP = 2  # spaces between columns
LEAST = 12  # columns of a terminal below which no column of text is narrowed
STYLES = (("ready", "green"), ("shipped", "green"), ("here", "green"), ("by hand", "red"), ("damaged", "bold red"))
TO_FETCH = "yellow"
ENDS = ",;:("  # what no word ends with where a text is cut


def brief(text: str, width: int) -> str:
    """Return as many clauses of a sentence as fit into a line; where they leave half of it empty, as many words and "…".

    Examples
    --------
    >>> brief("Simulated yeast, test screen: 17 localizations, 82 proteins", 40)
    'Simulated yeast, test screen'
    >>> brief("Localization by kNN (Table 1, Figure 2A)", 30)
    'Localization by kNN'
    >>> brief("Normalized average pairwise distance", 22)
    'Normalized average…'
    """
    text = _plain(text)
    if cell_len(text) <= width:
        return text
    ends = [match.start() for match in re.finditer(r"[,;:] | \(", text)]
    clauses = [text[:end] for end in ends if text[:end].count("(") == text[:end].count(")")]
    fitting = [clause for clause in clauses if cell_len(clause) <= width]
    if fitting and 2 * cell_len(fitting[-1]) >= width:
        return fitting[-1]
    words = text.split(" ")
    while len(words) > 1 and cell_len(" ".join(words)) + 1 > width:
        words.pop()
    return " ".join(words).rstrip(ENDS) + "…"


def briefs(texts: Sequence[str], width: int) -> list[str]:
    """Return each text of a column in brief; of those that would read the same, the words in which they differ follow a "…".

    Examples
    --------
    >>> briefs(["Distances of images, yeast cells (Figure 1)", "Distances of images, human cells (Figure 2)"], 30)
    ['Distances of… yeast cells', 'Distances of… human cells']
    """
    plain = [_plain(text) for text in texts]
    alike: dict[str, set[str]] = {}
    for text in plain:
        alike.setdefault(brief(text, width), set()).add(text)
    shown: dict[str, str] = {}
    for line, group in alike.items():
        told_apart = {text: _with_difference(text, group - {text}, width) or line for text in group}
        shown |= told_apart if len(set(told_apart.values())) == len(group) else dict.fromkeys(group, line)
    return [shown[text] for text in plain]


def _with_difference(text: str, others: set[str], width: int) -> str:
    """Return the first words of a text and those in which it differs from others; "" where they do not fit."""
    words = text.split(" ")
    bare = [[word.rstrip(ENDS) for word in sentence.split(" ")] for sentence in (text, *others)]
    pairs = (takewhile(lambda pair: pair[0] == pair[1], zip(bare[0], other, strict=False)) for other in bare[1:])
    shared = max((len(list(pair)) for pair in pairs), default=0)
    if shared in (0, len(words)):
        return ""  # the only one, or one whose words are all in another's
    rest = " ".join(words[shared:])
    rest = rest[1:].replace(")", "", 1) if rest.startswith("(") else rest
    difference = brief(rest, width - cell_len(bare[0][0]) - 2)
    head = bare[0][:shared]
    while len(head) > 1 and cell_len(" ".join(head)) + 2 + cell_len(difference) > width:
        head.pop()
    line = f"{' '.join(head)}… {difference}"
    return "" if difference.endswith("…") or cell_len(line) > width else line


def _plain(text: str) -> str:
    """Return a sentence as one line without marks of code and without its full stop."""
    return " ".join(text.replace("``", "").split()).rstrip(".:")


def people(count: int | None) -> str:
    """Return a number for a narrow column; "" where it is not known.

    Examples
    --------
    >>> people(2563), people(1_733_127), people(None)
    ('2,563', '1.73 M', '')
    """
    if count is None:
        return ""
    return f"{count / 1e6:.2f} M" if count >= 1_000_000 else f"{count:,}"


def style_of(state: str) -> str:
    """Return the colour of a state, as far as it has one."""
    return next((style for start, style in STYLES if state.startswith(start)), TO_FETCH if "to fetch" in state else "")


def scan_lines(
    titles: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, right: Sequence[str] = ("cells", "classes")
) -> Iterator[Text]:
    """Yield a line of titles and one for each row; the column ``what``, or else the last, is made as brief as the width asks for.

    Parameters
    ----------
    titles
        Of the columns.
    rows
        A text for each column.
    width
        Columns of the terminal.
    right
        Titles of columns of numbers, which end at one place.
    """
    texts = [[terminal(text) for text in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(titles, *texts, strict=True)]
    place = titles.index("what") if "what" in titles else len(titles) - 1
    room = max(LEAST, width - sum(w + GAP for i, w in enumerate(widths) if i != place))
    for row, shown in zip(texts, briefs([row[place] for row in texts], room), strict=True):
        row[place] = shown
    widths[place] = max(cell_len(title) for title in (titles[place], *(row[place] for row in texts)))
    for number, row in enumerate([list(titles), *texts]):
        line = Text()
        for title, text, room in zip(titles, row, widths, strict=True):
            space = " " * (room - cell_len(text))
            style = "dim" if number == 0 else style_of(text) if title in ("state", "weights") else ""
            line.append(" " * GAP if line else "")
            line.append(space if title in right else "")
            line.append(text, style)
            line.append("" if title in right else space)
        line.rstrip()
        yield line


def wrapped(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a text, broken between words alone.

    Examples
    --------
    >>> list(wrapped("see https://example.org/a/long/path there", 12))
    ['see', 'https://example.org/a/long/path', 'there']
    """
    for part in text.split("\n"):
        line = part[: len(part) - len(part.lstrip())]  # an indented line stays one
        for word in part.split():
            if line.strip() and cell_len(line) + 1 + cell_len(word) > width:
                yield line
                line = ""
            line += f" {word}" if line.strip() else word
        yield line


def wrapped_lines(rows: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
    """Yield rows in columns, texts but the first wrapped between words; a word that is wider than its column stands out whole."""
    number = max(map(len, rows), default=0)
    texts = [[terminal(text) for text in row] + [""] * (number - len(row)) for row in rows]
    columns = list(zip(*texts, strict=True))
    widths = [max((cell_len(line) for text in column for line in text.splitlines()), default=0) for column in columns]
    words = [max((cell_len(word) for text in column for word in text.split()), default=0) for column in columns]
    least = [widths[0] if widths else 0, *(max(word, LEAST) for word in words[1:])]
    while sum(widths) + GAP * (number - 1) > width:
        narrowable = [i for i in range(1, number) if widths[i] > least[i]]
        if not narrowable:
            break
        widths[max(narrowable, key=lambda i: widths[i])] -= 1
    for row in texts:
        cells = [list(wrapped(text, room)) for text, room in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            line = Text()
            for cell, room in zip(cells, widths, strict=True):
                text = cell[i] if i < len(cell) else ""
                line.append(" " * GAP if cell is not cells[0] else "")
                line.append(text + " " * (room - cell_len(text)))
            line.rstrip()
            yield line
