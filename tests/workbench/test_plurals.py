"""How many of something, in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workbench.plurals import number_of

SOURCES = Path(__file__).parents[2] / "workbench"
UNSURE = re.compile(
    r"(?<!of )(?<!these )"
    r"\{(?:len\([^{}]*\)|[a-z_.]*(?:runs|seeds|kept|total|absent|moved|unpaired))(?::,)?\}"
    r" (?:runs|seeds|cells|files)\b"
)
"""A number that may be 1 before words that are then wrong; `3 of {total} runs` is left alone."""


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ("run",), "1 run"),
        (0, ("run",), "0 runs"),
        (12_000, ("paired seed",), "12,000 paired seeds"),
        (1, ("run is", "runs are"), "1 run is"),
        (2, ("run is", "runs are"), "2 runs are"),
    ],
)
def test_words_agree_with_their_number(number, words, said):
    assert number_of(number, *words) == said


def test_no_number_that_may_be_one_stands_before_a_fixed_plural():
    found = [
        f"{path.relative_to(SOURCES)}: {match[0]}"
        for path in sorted(SOURCES.rglob("*.py"))
        for match in UNSURE.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
