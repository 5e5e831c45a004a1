"""Compiling in the background."""

from __future__ import annotations

import pytest

from sim.kernel import available, machine_code
from sim.shortcuts.compile_ahead import kinds
from workbench.jobs import warm_up


def test_what_a_machine_has_is_not_compiled_again(monkeypatch, tmp_path):
    started: list[list[str]] = []
    monkeypatch.setattr(warm_up.subprocess, "run", lambda command, **_: started.append(command))
    monkeypatch.setattr(machine_code, "FOLDER", tmp_path)
    assert warm_up.compile_missing()
    assert [command[-2:] for command in started] == [["sim.shortcuts.compile_ahead", "float64"]]
    for kind in kinds("float64"):
        assert warm_up.compile_missing()
        with machine_code.first_call(kind):
            pass
    assert not warm_up.compile_missing()
    assert len(started) == 3


@pytest.mark.parametrize("reason", ["No module named 'numba'"])
def test_where_numba_cannot_be_used_nothing_is_started(monkeypatch, reason):
    monkeypatch.setattr(available, "why_not_compiled", lambda: reason)
    assert not warm_up.compile_missing()
