"""A made-up data folder in MiniOneRec's layout, small enough for a test."""

from __future__ import annotations

import csv
import json
from pathlib import Path

SIDS = [(a, b, c) for a in range(3) for b in range(3) for c in range(2)]


def write_data(root: Path) -> None:
    """18 items of three codes, a nineteenth that shares its codes with the first, and 60 users;
    the rows of `train` speak of the first 12 items alone."""
    spelled = [[f"<{x}_{v}>" for x, v in zip("abc", sid, strict=True)] for sid in SIDS]
    text = ["".join(codes) for codes in spelled]
    (root / "index").mkdir(parents=True)
    index = {str(item): codes for item, codes in enumerate([*spelled, spelled[0]])}
    (root / "index" / "tiny.index.json").write_text(json.dumps(index), encoding="utf-8")
    for shift, split in enumerate(("train", "valid", "test")):
        (root / split).mkdir()
        with (root / split / "tiny.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(["user_id", "history_item_sid", "item_sid"])
            for user in range(60):
                past = str([text[(user + k) % 12] for k in range(3)])
                target = text[(user + 3 + 2 * shift) % (len(text) if shift else 12)]
                writer.writerow([f"U{user}", past, target])
