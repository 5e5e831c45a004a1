"""A store that pages show, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from opened import made_up_runs

from workbench.store.runs import Store


@pytest.fixture(scope="session")
def full_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("full")).prepare()
    for key, record in made_up_runs().items():
        store.write(key, record)
    return store.root


@pytest.fixture
def store_of_full(monkeypatch: pytest.MonkeyPatch, full_store: Path) -> None:
    """The app shows that store."""
    monkeypatch.setenv("RECAST_STORE", str(full_store))
