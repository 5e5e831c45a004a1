"""What a study kept for itself is read again; a damaged file is named, in one line."""

from __future__ import annotations

import os

import polars as pl
import pytest

from workbench.errors import UserError
from workbench.store.kept_files import kept_note, kept_table

NOTES = {
    "empty": b"",
    "cut": b'{"seconds": 1',
    "other": b"[1, 2]",
    "lacking": b"{}",
    "text": b'{"seconds": "long"}',
    "nothing": b'{"seconds": null}',
    "digits": b'{"seconds": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("name", [*NOTES, "pipe", "folder", "gone"])
def test_a_damaged_note_or_table_is_named(name, tmp_path):
    path = tmp_path / name
    if name in NOTES:
        path.write_bytes(NOTES[name])
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "folder":
        path.mkdir()
    with pytest.raises(UserError, match=rf"{name}: damaged; remove it"):
        kept_note(path, lambda note: float(note["seconds"]))
    with pytest.raises(UserError, match=rf"{name}: damaged; remove it"):
        kept_table(path, ["a"])


def test_a_sound_one_is_what_was_kept(tmp_path):
    (tmp_path / "note").write_text('{"seconds": 1.5}')
    assert kept_note(tmp_path / "note", lambda note: float(note["seconds"])) == 1.5
    table = pl.DataFrame({"a": [1], "b": [2]})
    table.write_parquet(tmp_path / "table")
    assert kept_table(tmp_path / "table").equals(table)
    assert kept_table(tmp_path / "table", ["b"]).equals(table.select("b"))
    with pytest.raises(UserError, match="damaged"):
        kept_table(tmp_path / "table", ["c"])
