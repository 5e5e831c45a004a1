"""Stores that several people and processes share: rights, litter, forgeries, the bin."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import recast
from hypothesis import given, settings
from hypothesis import strategies as st
from test_store import filled

from workbench.errors import DiskError
from workbench.execution.warm_starts import Starts
from workbench.jobs.sweep_listing import recorded
from workbench.store import bin as bins
from workbench.store import soundness
from workbench.store.files import sha256
from workbench.store.runs import Store


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_what_is_written_has_the_mode_that_the_umask_asks_for(mask, tmp_path):
    before = os.umask(mask)
    try:
        store = filled(tmp_path / "s", 2).prepare()
    finally:
        os.umask(before)
    for path in store.files():
        assert path.stat().st_mode & 0o777 == 0o666 & ~mask
        assert path.parent.stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_run_that_may_not_be_read_is_not_damaged_and_never_moved(tmp_path, monkeypatch, caplog):
    store = filled(tmp_path / "s")
    locked = store.files()[2]
    real = soundness.read_regular

    def refused(path: Path) -> bytes:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(soundness, "read_regular", refused)
    held = store.contents()
    assert held.damaged == ()
    assert [fault.path for fault in held.unreadable] == [locked.parent]
    assert store.load()["run"].n_unique() == 5
    assert "may not read" in caplog.text
    done = recast("store", "check", str(store.root))
    assert done.returncode == 0, done.stderr
    assert locked.exists()


def test_checks_at_once_move_every_damaged_run_once_and_none_fails(tmp_path):
    store = filled(tmp_path / "s", 8)
    for path in store.files()[:5]:
        path.write_bytes(b"")
    faults = store.contents().damaged
    with ThreadPoolExecutor(6) as pool:
        moved = list(pool.map(lambda _: store.quarantine(faults), range(12)))
    assert sum(map(len, moved)) == 5
    assert len(list((store.root / "quarantine").iterdir())) == 5


FORGERIES = {
    "text": lambda content: b"no parquet at all",
    "cut": lambda content: content[:-20],
    "nothing": lambda content: b"",
}


@pytest.mark.parametrize("kind", [*FORGERIES, "another run"])
@pytest.mark.parametrize("schema", ["v2", "v1", "v3"])
def test_a_forged_file_with_a_right_checksum_is_named_and_crashes_no_reader(kind, schema, tmp_path):
    store = filled(tmp_path / "s")
    victim, other = store.files()[1], store.files()[2]
    content = other.read_bytes()
    content = content if kind == "another run" else FORGERIES[kind](content)
    victim.unlink()
    (victim.parent / f"{sha256(content)}.{schema}.parquet").write_bytes(content)
    assert store.load()["run"].n_unique() == 5
    store.migrate()
    assert store.load()["run"].n_unique() <= 5
    assert set(store.load()["run"]) <= {path.parent.name for path in filled(tmp_path / "t").files()}
    if schema == "v2":
        (fault,) = store.checked().damaged
        assert "not a run" in str(fault)
        assert victim.parent.name in str(fault)


@settings(max_examples=40)
@given(content=st.binary(max_size=64) | st.recursive(st.none(), st.lists).map(json.dumps))
def test_damage_outside_the_runs_is_named_whatever_it_is(content, tmp_path_factory):
    content = content if isinstance(content, bytes) else content.encode()
    store = filled(tmp_path_factory.mktemp("s"), 1)
    places = [
        store.root / "starts" / "ab" / f"{sha256(content)}.npz",
        store.root / "sweeps" / "x.json",
        store.root / "parts" / f"{sha256(content)}.parquet",
    ]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    assert len(store.beside().damaged) == 3
    assert store.load()["run"].n_unique() == 1
    assert Starts(store.root).load("ab") is None
    assert recorded(store) == []
    done = recast("store", "check", str(store.root))
    assert done.returncode == 1
    assert not store.beside().damaged


def test_litter_is_collected_when_its_owner_is_gone_and_never_before(tmp_path):
    store = filled(tmp_path / "s", 1)
    alive, gone = (f".tmp-{letter * 16}" for letter in "ab")
    for name in (alive, gone):
        (store.root / name).mkdir()
        os.utime(store.root / name, (0, 0))  # clocks play no part
    handle = os.open(store.root / alive, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        store.prepare()
        assert [p.name for p in store.root.glob(".tmp-*")] == [alive]
    finally:
        os.close(handle)
    store.prepare()
    assert not list(store.root.glob(".tmp-*"))


def test_a_writer_that_is_killed_leaves_what_the_next_one_collects(tmp_path):
    root = filled(tmp_path / "s", 1).root
    code = (
        "import os, sys; from pathlib import Path; from workbench.store.files import draft_in\n"
        "with draft_in(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=False)
    assert len(list(root.glob(".tmp-*"))) == 1
    Store(root).prepare()
    assert not list(root.glob(".tmp-*"))


def test_deleted_runs_lie_in_the_bin_until_they_are_put_back_or_removed(tmp_path):
    store = filled(tmp_path / "s")
    keys = [path.parent.name for path in store.files()]
    whole = store.load()
    batch = store.delete([*keys[:2], "no such run"])
    assert bins.binned(store.root) == {batch: keys[:2]}
    assert store.load()["run"].n_unique() == 4
    assert bins.restore(store.root, batch) == 2
    assert store.load().equals(whole)
    assert store.delete(["no such run"]) == ""
    batch = store.delete(keys[:3])
    (store.root / "bin" / batch / "somebody's").mkdir()
    assert bins.restore(store.root, batch) == 3
    assert not (store.root / "runs" / "somebody's").exists()
    store.delete(keys[:3])
    assert bins.empty(store.root) == 3
    assert store.load()["run"].n_unique() == 3
    shutil.rmtree(store.root)


def test_a_bin_that_refuses_loses_nothing_and_says_so(tmp_path, monkeypatch):
    store = filled(tmp_path / "s")
    keys = [path.parent.name for path in store.files()]
    real = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self == store.root / "runs" / keys[2]:
            raise PermissionError(1, "Operation not permitted")
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(DiskError, match="cannot move runs there"):
            store.delete(keys)
    assert [path.parent.name for path in store.files()] == keys
    batch = store.delete(keys)
    both = recast("store", "bin", str(store.root), "--restore", batch, "--empty")
    assert (both.returncode, len(both.stderr.splitlines())) == (2, 1)
    with monkeypatch.context() as patch:
        patch.setattr(bins.shutil, "rmtree", lambda *args, **options: None)
        left = recast("store", "bin", str(store.root), "--empty")
    assert left.returncode == 2
    assert "6 of 6 runs cannot be removed" in left.stderr


@pytest.mark.parametrize("style", ["table", "json", "csv"])
def test_names_in_a_store_reach_no_terminal_as_they_are(style, tmp_path):
    store = filled(tmp_path / "s")
    for name in (b"a\nb\x1b[31m", b"\xff\xfe", "\u202egnp".encode()):
        folder = store.root / "runs" / os.fsdecode(name)
        folder.mkdir()
        (folder / f"{'0' * 64}.v2.parquet").write_bytes(b"x")
    (store.root / "runs" / ("f" * 20)).symlink_to("f" * 20)
    said = recast("store", "check", str(store.root), "--no-quarantine", "--format", style)
    assert said.returncode == 1
    assert said.stdout.count("checksum differs") == 3
    assert "Too many levels" in said.stdout
    assert all(letter.isprintable() for letter in said.stdout.replace("\n", ""))
    assert all(letter.isprintable() for letter in said.stderr.replace("\n", ""))
