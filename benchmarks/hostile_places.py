"""A folder full of what a path should not be, for hostile inputs to name.

`lay` fills the folder in which an input is run; `damage` spoils one file of a small data folder.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from benchmarks.made_up_data import write_data

LONG = "n" * 300
PLACES = (
    "log.jsonl",
    "scalars.json",
    "text",
    "fifo",
    "loop",
    "folder",
    "folder/around",
    "data",
    "store",
    "device",
    "bad-\udcff.jsonl",
    LONG,
    f"folder/{LONG}",
    "missing/deep/file",
    "/dev/null",
    "/dev/null/below",
    "/dev/zero",
    "/proc/self/mem",
    "/proc",
    "-",
    "--",
    "~",
    "log.jsonl/below",
)
"""Names that arguments may take; a lone surrogate stands for a byte that is no UTF-8."""

DATA_FILES = (
    "index/tiny.index.json",
    "train/tiny.csv",
    "valid/tiny.csv",
    "test/tiny.csv",
)
DAMAGES = (
    "fifo",
    "folder",
    "loop",
    "device",
    "gone",
    "twice",
    "empty",
    "zeros",
    "cut",
    "nested",
    "digits",
    "code",
    "half a letter",
    "one long line",
    "no columns",
    "negative",
    "numbers",
    "secret",
)
LOG = "".join(
    json.dumps({"step": k // 8, "prompt": f"p{k // 4}", "reward": float(k % 5 == 0)}) + "\n"
    for k in range(16)
)


def lay(folder: Path) -> None:
    """Files, a pipe, loops of links, a device, a small log, store and data folder."""
    (folder / "log.jsonl").write_text(LOG, encoding="utf-8")
    (folder / "scalars.json").write_text(
        json.dumps({"log_history": [{"step": k, "reward": k / 9, "kl": 0.1} for k in range(9)]}),
        encoding="utf-8",
    )
    (folder / "text").write_text("no table at all\n", encoding="utf-8")
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "folder").mkdir()
    (folder / "folder" / "around").symlink_to("..")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "bad-\udcff.jsonl").write_text(LOG, encoding="utf-8")
    (folder / "store" / "runs" / "x").mkdir(parents=True)
    (folder / "store" / "bin").mkdir()
    (folder / "store" / "bin" / "loop").symlink_to("loop")
    write_data(folder / "data")


def damage(path: Path, how: str) -> None:
    """Spoil one file in one of the ways of `DAMAGES`."""
    content = path.read_bytes()
    path.unlink()
    places = {
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to(path.name),
        "device": lambda: path.symlink_to("/dev/zero"),
        "gone": lambda: None,
    }
    if how in places:
        places[how]()
        return
    if how == "twice":
        shutil.copy2(Path(__file__), path.with_name(f"{LONG[:200]}{path.name}"))
    path.write_bytes(
        {
            "empty": b"",
            "zeros": bytes(4096),
            "cut": content[: len(content) // 2],
            "nested": b"[" * 100_000 + b"]" * 100_000,
            "digits": content.replace(b"1", b"1" * 5_000),
            "code": content.replace(b"_1>", b"_999999999999999999999>"),
            "half a letter": content.replace(b"a", b"\xed\xa0\x80"),
            "one long line": content.replace(b"U1", b"U" * 1_000_000),
            "no columns": b"\n".join(content.splitlines()[1:]),
            "negative": content.replace(b"_1>", b"_-1>"),
            "numbers": content.replace(b"<", b"").replace(b">", b""),
            "secret": content.replace(b"U", b"=cmd()\x00\x1b[31m"),
        }.get(how, content)
    )
