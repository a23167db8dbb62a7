"""Text on screen: line length, number of lines, and how long it takes to read."""

from __future__ import annotations

import unicodedata

LINE_COLUMNS = 42
LINES = 2
CHARS_PER_S = 20
LEAST_MS = 834  # 5/6 s, rounded up
MOST_MS = 7000
MORE = "…"


def columns(text: str) -> int:
    """Return how wide ``text`` is: wide East Asian characters take two columns, marks none.

    >>> columns("狗叫 x")
    6
    """
    return sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def lay_out(text: str, line_columns: int = LINE_COLUMNS, lines: int = LINES) -> str:
    r"""Return ``text`` broken into at most ``lines`` lines, cut with an ellipsis if it is longer.

    Breaks at spaces; a word wider than a line is broken where it fills it. Every prefix keeps its
    breaks when text is added after it, so what is on screen does not jump.

    >>> lay_out("a dog barks while rain falls", 16)
    'a dog barks\nwhile rain falls'
    """
    done: list[str] = []
    line = ""
    for word in text.split():
        for part in _parts(word, line_columns):
            joined = f"{line} {part}" if line else part
            if columns(joined) <= line_columns:
                line = joined
            else:
                done.append(line)
                line = part
    done.append(line)
    if len(done) <= lines:
        return "\n".join(done)
    last = done[lines - 1]
    while columns(last) > line_columns - 1:
        last = last[:-1]
    return "\n".join([*done[: lines - 1], last.rstrip() + MORE])


def _parts(word: str, line_columns: int) -> list[str]:
    parts, start, width = [], 0, 0
    for i, char in enumerate(word):
        if width + _width(char) > line_columns:
            parts.append(word[start:i])
            start, width = i, 0
        width += _width(char)
    return [*parts, word[start:]]


def reading_ms(text: str) -> int:
    """Return how long ``text`` must stay for 20 characters a second, 5/6 s to 7 s.

    A wide character counts as two.

    >>> reading_ms("[dog barking and rain falling]")
    1500
    """
    return min(MOST_MS, max(LEAST_MS, -(-columns(text) * 1000 // CHARS_PER_S)))
