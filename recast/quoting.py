"""Somebody's text inside a message: short, on one line, printable."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

LONGEST_QUOTE = 60
LONGEST_LINE = 300
LONGEST_NAME = 80
_FEW = 8
_LONG_QUOTE = re.compile(rf"""(['"])((?:(?!\1).){{{LONGEST_QUOTE},}})\1""")


def quoted(value: object, longest: int = LONGEST_QUOTE) -> str:
    """`repr(value)` as at most `longest` printable ASCII-safe characters; a number of very many
    digits is described rather than written out."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"a whole number of about {value.bit_length() * 3 // 10} digits"
    if isinstance(value, str):
        value = value[: longest + 1]
    elif isinstance(value, (list, tuple)):
        return _cut(f"a list of {len(value)}" if len(value) > 4 else _shallow(value), longest)
    elif isinstance(value, dict):
        return f"a table of {len(value)}"
    return _cut(_printable(repr(value)), longest)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """A message on one line of at most `longest` printable characters, quotations in it cut to
    `LONGEST_QUOTE`. Its middle goes first: what is wrong and what would be right both stay."""
    line = _printable(" ".join(_LONG_QUOTE.sub(_shortened, text).split()))
    if len(line) <= longest:
        return line
    tail = longest // 2 - 5
    return f"{line[: longest - tail - 5]} ... {line[-tail:]}"


def plain_line(value: object, longest: int = LONGEST_NAME) -> str:
    """Somebody's name for a thing as one printable line: control and direction marks are escaped,
    and a long one is cut."""
    return _cut(_printable(str(value)[: longest + 1]), longest)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word; all of them where they are few."""
    known = list(known)
    name = name[:LONGEST_QUOTE]
    # Capitals, and the wide letters of East Asian keyboards, are the same word.
    plain = unicodedata.normalize("NFKC", name).casefold()
    close = difflib.get_close_matches(name, known, n=5) or [w for w in known if w == plain]
    if close:
        # Of several, the one with the same letters: two swapped letters are the likeliest slip.
        swapped = [word for word in close if sorted(word) == sorted(name)]
        return f"did you mean {quoted((swapped or close)[0])}?"
    if len(known) <= _FEW:
        return f"known: {', '.join(_cut(word, LONGEST_QUOTE) for word in known) or 'none'}"
    return f"the nearest is {quoted(difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0])}"


def _shortened(quote: re.Match[str]) -> str:
    mark, inside = quote.groups()
    return f"{mark}{_cut(inside, LONGEST_QUOTE - 2)}{mark}"


def _shallow(values: list[object] | tuple[object, ...]) -> str:
    return f"[{', '.join(quoted(one, 20) for one in values)}]"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
