"""A folder that is named as a store and holds somebody's own files: none of them is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import recast

from workbench.store.runs import Store


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Somebody's project: programs in bin, logs of TensorBoard in runs, a draft of an editor."""
    for name in ("bin/tool/main", "runs/first/events.out.tfevents.1", ".tmp-letter/text"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("mine", encoding="utf-8")
    return tmp_path


def held(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("words", [["check"], ["bin", "--empty"], ["migrate"], ["bin"]])
def test_what_looks_after_a_store_leaves_what_is_not_the_stores(words, home):
    before = held(home)
    recast("store", words[0], str(home), *words[1:])
    assert held(home) == before


def test_preparing_a_store_removes_no_draft_of_another_program(home):
    before = held(home)
    Store(home).prepare()
    assert held(home) == before
