"""Logs written from trainers' sources are read, counted and diagnosed rightly."""

from __future__ import annotations

import pytest
from foreign_logs import check, findings, scalars

EVERY = 4
"""One in so many logs of rollouts in every run of the tests; all of them in the drill."""

QUICK = [name for name, make in check.CASES.items()
         if make.__module__ in (scalars.__name__, findings.__name__)]  # fmt: skip
SLOW = [name for name in check.CASES if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *SLOW[::EVERY]])
def test_a_strangers_log_is_diagnosed_rightly(name, tmp_path):
    wrong, levels, _ = check.complaints(name, tmp_path)
    assert not wrong, levels


@pytest.mark.drill
@pytest.mark.parametrize("name", [one for one in SLOW if one not in SLOW[::EVERY]])
def test_every_strangers_log_is_diagnosed_rightly(name, tmp_path):
    wrong, levels, _ = check.complaints(name, tmp_path)
    assert not wrong, levels
