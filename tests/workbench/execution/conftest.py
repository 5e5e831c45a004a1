"""One tiny sweep, run once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweeping import TINY

from workbench.execution.runner import run_sweep
from workbench.store.runs import Store


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep, run serially in one go."""
    folder = tmp_path_factory.mktemp("reference")
    outcome = run_sweep(TINY, Store(folder).prepare(), executor="serial")
    assert not outcome.failures
    return folder
