"""A tiny made-up data folder in MiniOneRec's layout, where real data may live, and how properties
are searched: the same examples in every run; `--hypothesis-profile=default` searches anew."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from benchmarks.made_up_data import write_data

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _main_stays() -> Iterator[None]:
    """Streamlit's AppTest leaves the page as `__main__`, which every later worker process would
    run on its way up."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_data(root)
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("RECAST_DATA")
    if not folder:
        pytest.skip("RECAST_DATA is unset: name a folder in MiniOneRec's layout to run this test")
    return Path(folder)
