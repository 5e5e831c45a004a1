"""How texts name the codes of semantic IDs, found from examples (standard library only).

Names are regular: what names the level and the number of the code differ, the rest stays, as in
`<a_3>`, `<s_a_3>`, `<|sid_0_3|>`, `<v2_a_3>` or `[B17]`. The level comes before the number; levels
are letters from a (either case) or numbers from 0 or 1.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Codes = tuple[int, ...]

FAMILIES = (
    tuple(string.ascii_lowercase),
    tuple(string.ascii_uppercase),
    tuple(str(i) for i in range(26)),
    tuple(str(i + 1) for i in range(26)),
)
"""Names of levels, in their order."""

_NUMBER = re.compile(r"\d+")
_LETTER = re.compile(r"(?:^|[^A-Za-z])([A-Za-z])([^A-Za-z0-9]*)$")
_DIGITS = re.compile("[0-9]+")
LONGEST = 40
"""Characters of the name of one code."""


@dataclass(frozen=True)
class CodeNames:
    """A code's text is before + level name + middle + code + after. levels: names of levels, at
    least as many as a semantic ID has codes; width: digits of a code, filled with zeros. Reading
    passes leading zeros over."""

    before: str
    middle: str
    after: str
    levels: tuple[str, ...]
    width: int = 0

    def name(self, level: int, code: int) -> str:
        """The text of one code."""
        number = str(code).zfill(self.width)
        return f"{self.before}{self.levels[level]}{self.middle}{number}{self.after}"

    def joined(self, sid: Sequence[int]) -> str:
        """The text of a semantic ID."""
        return "".join(self.name(level, code) for level, code in enumerate(sid))

    def read(self, text: str) -> Codes | None:
        """The codes of a semantic ID's text, or None where it is none or out of order."""
        place = 0
        found: list[int] = []
        while place < len(text):
            if len(found) == len(self.levels):
                return None
            head = f"{self.before}{self.levels[len(found)]}{self.middle}"
            number = _DIGITS.match(text, place + len(head))
            if number is None or not text.startswith(head, place):
                return None
            if not text.startswith(self.after, number.end()):
                return None
            found.append(int(number.group()))
            place = number.end() + len(self.after)
        return tuple(found) or None


MINIONEREC = CodeNames("<", "_", ">", FAMILIES[0])
"""`<a_3>`, as MiniOneRec's published folders have it."""


def names_of(codes: Sequence[str]) -> CodeNames | None:
    """The names that one semantic ID's codes, level by level, are written in; None for others."""
    text = "".join(codes)
    if MINIONEREC.read(text) is not None or not codes:
        return MINIONEREC
    for before, level, middle, _, after, _ in readings(codes[0]):
        for family in FAMILIES:
            names = CodeNames(before, middle, after, family)
            if level == family[0] and len(names.read(text) or ()) == len(codes):
                return names
    return None


def readings(token: str) -> Iterable[tuple[str, str, str, int, str, int]]:
    """Ways to read a token as before, level name, middle, code, after, and the digits that all
    codes have then, 0 for as many as a code needs."""
    numbers = list(_NUMBER.finditer(token)) if len(token) <= LONGEST else []
    if not numbers:
        return
    last = numbers[-1]
    digits = last.group()
    head, code, after = token[: last.start()], int(digits), token[last.end() :]
    # Other numbers may belong to the name, as in `<v2_a_3>`; levels in a row tell which is which.
    places = [(head[: n.start()], n.group(), head[n.end() :]) for n in numbers[:-1]]
    letters = _LETTER.search(head)
    if letters:
        places.append((head[: letters.start(1)], letters.group(1), letters.group(2)))
    plain = digits == str(code)
    for before, name, middle in places:
        if plain:
            yield before, name, middle, code, after, 0
        if len(digits) > 1:
            yield before, name, middle, code, after, len(digits)
