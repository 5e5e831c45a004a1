"""How a tokenizer spells semantic IDs, found from its vocabulary and the data's codes.

A spelling is regular: what names the level and the number of the code differ, the rest stays, as
in `<a_3>`, `<s_a_3>`, `<|sid_0_3|>`, `<v2_a_3>` or `[B17]`; `a3` only where the data spells so.
The level comes before the number; levels are letters from a (either case) or numbers from 0 or 1.
OneRec's tokens around an item are found with it.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from recast.code_names import FAMILIES, CodeNames, Codes, readings
from recast.lm.optional_extra import LMError

WRAPPERS = (("<|sid_begin|>", "<|sid_end|>"), ("<|item_begin|>", "<|item_end|>"))
"""Tokens that open and close an item in published vocabularies; OneRec's first."""


@dataclass(frozen=True)
class Spelling(CodeNames):
    """How codes are named, a name for each level, and what is around an item: opening and closing,
    empty without."""

    opening: str = ""
    closing: str = ""

    def agrees(self, names: CodeNames) -> bool:
        """Whether codes are spelt as by these names, but for leading zeros."""
        mine, theirs = (
            (n.before, n.middle, n.after, n.levels[: len(self.levels)]) for n in (self, names)
        )
        return mine == theirs

    def item(self, sid: Sequence[int]) -> str:
        """The text of a semantic ID, with what opens and closes it."""
        return f"{self.opening}{self.joined(sid)}{self.closing}"

    def described(self) -> str:
        """In words, for people: the first and last level's first code, and the wrappers."""
        names = f"{self.name(0, 0)} ... {self.name(len(self.levels) - 1, 0)}"
        around = f", items between {self.opening} and {self.closing}" if self.opening else ""
        return f"codes {names}{around}"


def plain(depth: int) -> Spelling:
    """The spelling that is added when a tokenizer has none: MiniOneRec's `<a_3>`."""
    return Spelling("<", "_", ">", tuple(string.ascii_lowercase[:depth]))


def find_spelling(
    vocabulary: Mapping[str, int],
    sids: Iterable[Codes],
    depth: int,
    written: CodeNames | None = None,
) -> Spelling:
    """The spelling in which the vocabulary knows every code of the catalogue.

    vocabulary: token -> id; written: how the data spells its codes. Of several the data's own, else
    the one that knows most codes, as the tokens of another catalogue may be there too. Raises
    LMError, one line, when there is none: what comes nearest, and the first code that it lacks.
    """
    wanted = [sorted({sid[level] for sid in sids}) for level in range(depth)]
    known: dict[tuple[str, str, str, int], dict[str, set[int]]] = {}
    for token in vocabulary:
        for before, level, middle, code, after, width in readings(token):
            known.setdefault((before, middle, after, width), {}).setdefault(level, set()).add(code)
    best: tuple[tuple[int, bool, int, int], Spelling] | None = None
    for (before, middle, after, width), levels in known.items():
        for family in FAMILIES:
            names = family[:depth]
            if not all(name in levels for name in names):
                continue
            spelling = Spelling(before, middle, after, names, width)
            other = written is None or not spelling.agrees(written)
            if other and not before + after and names[0].isalpha():
                continue  # `a3` may be any word
            lacking = sum(
                code not in levels[name]
                for name, codes in zip(names, wanted, strict=True)
                for code in codes
            )
            size = sum(len(levels[name]) for name in names)
            rank = (lacking, other, -size, width)
            if best is None or rank < best[0]:
                best = (rank, spelling)
    hint = "recast lm sft --add-tokens adds codes as tokens, and trains them"
    if best is None:
        raise LMError(
            f"the tokenizer has no tokens for codes of {depth} levels, such as <a_0> or <s_a_0>; "
            f"{hint}"
        )
    (lacking, *_), spelling = best
    if lacking:
        first = next(
            spelling.name(level, code)
            for level, codes in enumerate(wanted)
            for code in codes
            if spelling.name(level, code) not in vocabulary
        )
        raise LMError(
            f"the tokenizer does not know {first} and {lacking - 1} other codes of the catalogue, "
            f"which it spells like {spelling.name(0, 0)}; is it the model of this data? {hint}"
        )
    pair = next((p for p in WRAPPERS if all(token in vocabulary for token in p)), ("", ""))
    return replace(spelling, opening=pair[0], closing=pair[1])
