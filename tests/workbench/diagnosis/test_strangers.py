"""Logs written from trainers' sources are read, counted and diagnosed rightly."""

from __future__ import annotations

import pytest
import stranger_check
import stranger_findings
import stranger_scalars

EVERY = 4
"""One in so many logs of rollouts in every run of the tests; all of them in the drill."""

QUICK = [name for name, make in stranger_check.CASES.items()
         if make.__module__ in (stranger_scalars.__name__, stranger_findings.__name__)]  # fmt: skip
SLOW = [name for name in stranger_check.CASES if name not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *SLOW[::EVERY]])
def test_a_strangers_log_is_diagnosed_rightly(name, tmp_path):
    wrong, levels, _ = stranger_check.complaints(name, tmp_path)
    assert not wrong, levels


@pytest.mark.drill
@pytest.mark.parametrize("name", [one for one in SLOW if one not in SLOW[::EVERY]])
def test_every_strangers_log_is_diagnosed_rightly(name, tmp_path):
    wrong, levels, _ = stranger_check.complaints(name, tmp_path)
    assert not wrong, levels
