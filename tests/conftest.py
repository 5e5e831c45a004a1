"""A tiny made-up data folder in MiniOneRec's layout, where real data may live, and how properties
are searched: the same examples in every run; `--hypothesis-profile=default` searches anew."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

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
    sids = [(a, b, c) for a in range(3) for b in range(3) for c in range(2)]
    text = ["".join(f"<{x}_{v}>" for x, v in zip("abc", sid, strict=True)) for sid in sids]
    (root / "index").mkdir(parents=True)
    index = {
        str(i): [f"<{x}_{v}>" for x, v in zip("abc", s, strict=True)]
        for i, s in enumerate([*sids, sids[0]])
    }
    (root / "index" / "tiny.index.json").write_text(json.dumps(index))
    for shift, split in enumerate(("train", "valid", "test")):
        (root / split).mkdir()
        with (root / split / "tiny.csv").open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["user_id", "history_item_sid", "item_sid"])
            for user in range(60):
                past = [text[(user + k) % 12] for k in range(3)]
                writer.writerow(
                    [
                        f"U{user}",
                        str(past),
                        text[(user + 3 + 2 * shift) % (len(text) if shift else 12)],
                    ]
                )
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = os.environ.get("RECAST_DATA")
    if not folder:
        pytest.skip("RECAST_DATA is unset: name a folder in MiniOneRec's layout to run this test")
    return Path(folder)
