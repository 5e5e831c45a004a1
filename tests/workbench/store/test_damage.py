"""Every kind of file in a store, damaged in every way: named by all readers, and survived.

Generated over kinds and damages. The drill does all of them; a few stand in the ordinary tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import recast
from sweeping import small_sweep

import workbench.store.parsed_rows
from workbench.jobs.started_sweeps import Note
from workbench.jobs.sweep_labels import Labels, label
from workbench.jobs.sweep_listing import listing
from workbench.plurals import number_of
from workbench.spec.sweep import load_sweep
from workbench.store.runs import Store

SWEEP = small_sweep(["grpo", "recast"], 3, 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with a sweep and its store, which holds a file of every kind."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "small.toml").write_text(SWEEP, encoding="utf-8")
    done = sweep(folder)
    assert done.returncode == 0, done.stderr
    store = Store(folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workbench.store.parsed_rows, "_WORTH_A_PART", 1)
        store.load()
    plan = load_sweep(str(folder / "small.toml"))
    note = Note.of(plan, store)
    os.close(note.lock())
    note.write(plan, "finished", began=1.0, seconds=2.0)
    note.journal.write_text('{"kind": "stopped"}\n', encoding="utf-8")
    label(store, note.name, Labels("title", ("tag",), "text"))
    binned = store.files()[-1].parent
    shutil.copytree(binned, folder / "kept")
    store.delete([binned.name])
    shutil.move(folder / "kept", binned)
    (store.root / "claims").mkdir(exist_ok=True)
    (store.root / "claims" / binned.name).write_text("process 1 on nowhere\n", encoding="utf-8")
    return folder


def sweep(folder: Path) -> subprocess.CompletedProcess[str]:
    """The sweep of a folder, resumed. Its warm starts and runs are asked for where they lack."""
    return recast("sweep", "small.toml", "--executor", "serial", cwd=folder)


KINDS: dict[str, str] = {
    "run": "runs/*/*.parquet",
    "folder of a run": "runs/*",
    "warm start": "starts/*/*.npz",
    "folder of a warm start": "starts/*",
    "sweep record": "sweeps/*.json",
    "part": "parts/*.parquet",
    "claim": "claims/*",
    "note": "started/*.json",
    "journal": "started/*.jsonl",
    "lock": "started/*.lock",
    "labels": "labels/*.json",
    "run in the bin": "bin/*/*/*.parquet",
}


def other_kind(store: Path, victim: Path) -> bytes:
    """The bytes of a file of another kind."""
    places = ("runs/*/*.parquet", "sweeps/*.json", "labels/*.json")
    return next(
        path.read_bytes()
        for place in places
        for path in sorted(store.glob(place))
        if path.suffix != victim.suffix or victim.parent.name == "parts"
    )


def removed(victim: Path) -> None:
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    def damage(store: Path, victim: Path) -> None:
        victim.write_bytes(change(victim.read_bytes()))

    return damage


def flipped(content: bytes) -> bytes:
    if not content:
        return b"\x80"
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :]


def folder_instead(store: Path, victim: Path) -> None:
    removed(victim)
    (victim / "inner").mkdir(parents=True)


def file_instead(store: Path, victim: Path) -> None:
    removed(victim)
    victim.write_bytes(b"a file")


def pipe_instead(store: Path, victim: Path) -> None:
    removed(victim)
    os.mkfifo(victim)


def link_to_nothing(store: Path, victim: Path) -> None:
    removed(victim)
    victim.symlink_to("nowhere")


def another_kind(store: Path, victim: Path) -> None:
    victim.write_bytes(other_kind(store, victim))


def another_schema(store: Path, victim: Path) -> None:
    if victim.suffix == ".json":
        content = json.loads(victim.read_bytes()) | {"schema_version": 7}
        victim.write_text(json.dumps(content), encoding="utf-8")
    else:
        victim.rename(victim.with_name(f"{victim.name[:64]}.v7.parquet"))


DAMAGES: dict[str, Callable[[Path, Path], None]] = {
    "truncated": rewritten(lambda content: content[: len(content) // 2]),
    "flipped": rewritten(flipped),
    "emptied": rewritten(lambda _: b""),
    "another kind": another_kind,
    "a folder": folder_instead,
    "a file": file_instead,
    "a pipe": pipe_instead,
    "a link to nothing": link_to_nothing,
    "unreadable": lambda store, victim: victim.chmod(0),
    "another schema": another_schema,
}

ANY_TEXT = {"claim", "journal", "lock"}
"""Kinds whose text says nothing that is relied on: only what is no file there is damage."""
UNVERSIONED = ANY_TEXT | {"warm start", "part", "run in the bin"}
TEXT = {"truncated", "flipped", "emptied", "another kind", "a file"}
SOUND_FOR_ALL_WE_KNOW = {"unreadable", "another schema"}
CASES = [
    (kind, damage)
    for kind in KINDS
    for damage in DAMAGES
    if not (kind.startswith("folder") and damage in TEXT - {"a file"} | {"another schema"})
    and not (damage == "a file" and not kind.startswith("folder"))
    and not (
        damage == "another schema" and kind in ANY_TEXT | {"warm start", "part", "run in the bin"}
    )
    and not (damage == "flipped" and kind == "labels")  # may stay sound JSON
]
CHEAP = [
    ("run", "a pipe"),
    ("folder of a run", "a file"),
    ("warm start", "a pipe"),
    ("sweep record", "another schema"),
    ("part", "unreadable"),
    ("note", "a pipe"),
    ("claim", "a folder"),
    ("run in the bin", "flipped"),
]


@contextlib.contextmanager
def plain_user() -> Iterator[None]:
    """Without the rights of root to read and write what modes forbid (Linux, this thread)."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    held, less = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    if libc.capget(head, held):
        pytest.skip("the rights of this process cannot be asked for")
    less[:] = held[:]
    less[0] &= ~0b1110  # DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
    assert libc.capset(head, less) == 0
    try:
        yield
    finally:
        assert libc.capset(head, held) == 0


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """Whatever waits for a pipe is ended."""

    def late(*_: object) -> None:
        raise AssertionError("it waits without an end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def lines_about(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if name in line]


def drilled(
    whole: Path, folder: Path, kind: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Damage one file of a kind; every reader names it or does without, and the sweep goes on."""
    shutil.copytree(whole, folder)
    root = folder / "runs"
    victim = sorted(root.glob(KINDS[kind]))[0]
    sound = set(Store(root).contents().good)
    key = victim.name if kind == "folder of a run" else victim.parent.name
    if kind.endswith("warm start"):  # it is asked for, for some run lacks
        for path in Store(root).files():
            shutil.rmtree(path.parent)
        sound = set()
    DAMAGES[how](root, victim)
    is_run = kind in ("run", "folder of a run")
    left = how in SOUND_FOR_ALL_WE_KNOW
    damaged = not left and not (kind in ANY_TEXT and how in TEXT)
    name = victim.name[:30]
    with plain_user(), soon():
        held = Store(root).contents()
        assert set(held.good) == sound - ({key} if is_run else set())
        check = recast("store", "check", str(root), "--no-quarantine")
        assert check.returncode == int(damaged), check.stdout + check.stderr
        assert f"{number_of(int(damaged), 'file')} damaged" in check.stdout
        if kind not in ("claim",) or damaged:
            about = [*lines_about(check.stdout, name), *lines_about(check.stdout, key)]
            counted = [line for line in check.stdout.splitlines() if "later recast" in line]
            if damaged or left:
                assert about or counted, check.stdout
        caplog.clear()
        with caplog.at_level(logging.WARNING, "recast"):
            table = listing(Store(root))
        assert table.height == 1 or kind in ("sweep record", "note")
        if kind in ("sweep record", "note") and (damaged or left):
            assert name in caplog.text
        if sound:
            compared = recast("compare", "recast", "grpo", "--store", str(root))
            assert compared.returncode in (0, 2), compared.stderr
            assert "Traceback" not in compared.stderr
            if is_run and how != "a link to nothing":
                assert lines_about(compared.stderr, key) or "left out" in compared.stderr
        done = sweep(folder)
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert done.returncode in (2, 3), done.stderr
            assert lines_about(done.stderr, name) or lines_about(done.stderr, key), done.stderr
            recast("store", "check", str(root))
            done = sweep(folder)
        assert done.returncode == 0 or left, done.stderr
        again = Store(root).contents()
        assert not again.damaged
        assert sound - {key} <= set(again.good)
        if not left:
            assert len(again.good) == 6


@pytest.mark.parametrize(("kind", "how"), CHEAP)
def test_damage_is_named_and_survived(kind, how, whole, tmp_path, caplog):
    drilled(whole, tmp_path / "copy", kind, how, caplog)


@pytest.mark.drill
@pytest.mark.parametrize(("kind", "how"), [case for case in CASES if case not in CHEAP])
def test_every_damage_to_every_kind_of_file_is_named_and_survived(
    kind, how, whole, tmp_path, caplog
):
    drilled(whole, tmp_path / "copy", kind, how, caplog)
