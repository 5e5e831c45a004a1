"""Drills: sweeps that are killed, raced, starved of disk, and fed nonsense.

RECAST_DRILL_KILLS sets the number of kills (10 by default); `pytest -rP` shows what each one did.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import recast
from sweeping import TOML, gone, payload_bytes, tiny_text
from test_store import damage

from workbench.analysis.example import load_or_example
from workbench.store.contents import complaints
from workbench.store.runs import Store

pytestmark = pytest.mark.drill

COMMAND = [sys.executable, "-c", "from workbench.cli import main; main()"]
SEEDS = 8
LONGER = TOML.replace("seeds = 3", f"seeds = {SEEDS}").replace("steps = 4", "steps = 40")
KILLS = int(os.environ.get("RECAST_DRILL_KILLS", "10"))


def start(folder: Path, store: str = "runs", *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "sweep", "long.toml", "--store", store, "--workers", "2", *flags],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "long.toml").write_text(LONGER)
    process = start(folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "96 trained just now" in out
    return folder


def test_a_sweep_killed_at_random_moments_loses_and_doubles_nothing(uninterrupted, tmp_path):
    (tmp_path / "long.toml").write_text(LONGER)
    rng = random.Random(20261124)
    kills, rounds, in_mid_sweep = 0, 0, 0
    while kills < KILLS:
        rounds += 1
        store = Store(tmp_path / f"runs{rounds}")
        before: dict[str, bytes] = {}
        while kills < KILLS:
            process = start(tmp_path, store.root.name)
            # A random moment: after a random number of progress lines and a random pause.
            assert process.stderr is not None
            for _ in range(rng.randint(0, 5)):
                if not process.stderr.readline():
                    break
            time.sleep(rng.random() * 1.5)
            os.killpg(process.pid, signal.SIGKILL) if rng.random() < 0.5 else process.kill()
            process.communicate()
            finished_first = process.returncode == 0
            kills += not finished_first
            assert gone(process.pid), "a worker outlived its sweep"
            held = store.contents()
            assert not held.damaged
            now = {key: content for key, (_, content) in held.good.items()}
            assert {key: now.get(key) for key in before} == before, "a finished run was lost"
            in_mid_sweep += not finished_first and 0 < len(now) < 96
            before = now
            if finished_first:
                break
        process = start(tmp_path, store.root.name)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert f"runs: 96 in {store.root.name}, {96 - len(before)} trained just now" in out
        assert payload_bytes(store.root) == payload_bytes(uninterrupted / "runs")
    print(f"{kills} kills in {rounds} sweeps, {in_mid_sweep} of them with some runs finished")
    assert in_mid_sweep > 0


def test_two_sweepers_on_one_store_lose_nothing_and_share_the_work(uninterrupted, tmp_path):
    (tmp_path / "long.toml").write_text(LONGER)
    processes = [start(tmp_path) for _ in range(2)]
    trained = []
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        trained.append(int(re.search(r"(\d+) trained just now", out)[1]))  # type: ignore[index]
    print(f"two sweepers trained {trained} of 96 runs")
    assert sum(trained) == 96, "work was done twice"
    assert min(trained) > 0
    assert payload_bytes(tmp_path / "runs") == payload_bytes(uninterrupted / "runs")


def test_a_sweeper_takes_over_from_one_that_is_killed_beside_it(uninterrupted, tmp_path):
    (tmp_path / "long.toml").write_text(LONGER)
    with start(tmp_path) as victim, start(tmp_path) as heir:
        assert victim.stderr is not None
        for line in victim.stderr:  # its progress, or that it waits for the heir
            share = re.match(r" *(\d+)% of", line)
            if share and int(share[1]) >= 10:
                break
        victim.kill()
        victim.communicate()
        out, err = heir.communicate()
    assert heir.returncode == 0, err
    assert "runs: 96" in out
    assert payload_bytes(tmp_path / "runs") == payload_bytes(uninterrupted / "runs")


def test_a_hundred_truncations_and_bit_flips_are_all_named_and_crash_no_reader(
    uninterrupted, tmp_path
):
    shutil.copytree(uninterrupted / "runs", tmp_path / "s")
    store = Store(tmp_path / "s")
    store.load()
    whole = store.load()["run"].n_unique()
    rng = random.Random(5)
    for _ in range(100):
        victim = rng.choice(store.files())
        content = victim.read_bytes()
        damage(victim, rng)
        held = store.contents()
        assert [fault.path for fault in held.damaged] == [victim]
        assert str(victim) in complaints(store.root, held)[0]
        frame, label = load_or_example(store.root)
        assert frame["run"].n_unique() == whole - 1
        assert str(victim) in label
        victim.write_bytes(content)
    assert not store.contents().damaged


def test_damage_to_anything_else_in_a_store_is_survived(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted / "runs", tmp_path / "s")
    (tmp_path / "long.toml").write_text(LONGER)
    store = Store(tmp_path / "s")
    rng = random.Random(6)
    for path in sorted(store.root.rglob("*")):
        if (
            path.is_file()
            and "runs" not in path.relative_to(store.root).parts
            and path.stat().st_size
        ):
            damage(path, rng)
    shutil.rmtree(store.files()[0].parent)
    process = start(tmp_path, "s")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "1 trained just now" in out
    assert payload_bytes(store.root) == payload_bytes(uninterrupted / "runs")


SMALL_TOML = tiny_text(["recast"], 1, start__all_zero=0.72, train__steps=2, train__evaluations=1)


@contextlib.contextmanager
def disk_full_from(place: int, below: Path) -> Iterator[list[int]]:
    """From the n-th call on that creates or writes something below a folder, the disk is full."""
    calls = [0]
    handles: set[int] = set()

    def refuses(*_: Any) -> None:
        calls[0] += 1
        if calls[0] > place:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def under(path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).is_relative_to(below)

    real = {name: getattr(os, name) for name in ("open", "write", "fsync", "mkdir", "rename")}

    def opened(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if under(path) and flags & os.O_CREAT:
            refuses()
        handle: int = real["open"](path, flags, *rest, **named)
        if under(path):
            handles.add(handle)
        return handle

    def on_handle(name: str) -> Callable[..., Any]:
        def call(handle: int, *rest: Any) -> Any:
            if handle in handles:
                refuses()
            return real[name](handle, *rest)

        return call

    def on_path(name: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            if under(path):
                refuses()
            return real[name](path, *rest, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", opened)
        for name in ("write", "fsync"):
            patch.setattr(os, name, on_handle(name))
        for name in ("mkdir", "rename"):
            patch.setattr(os, name, on_path(name))
        yield calls


def test_a_disk_that_is_full_at_any_write_leaves_a_valid_store(tmp_path):
    (tmp_path / "small.toml").write_text(SMALL_TOML)
    sweep = ["sweep", str(tmp_path / "small.toml"), "--executor", "serial", "--store"]
    with disk_full_from(10**9, tmp_path) as calls:
        assert recast(*sweep, str(tmp_path / "good")).returncode == 0
    total, expected = calls[0], payload_bytes(tmp_path / "good")
    assert total > 20
    for place in range(total):
        root = tmp_path / f"full{place}"
        with disk_full_from(place, tmp_path):
            done = recast(*sweep, str(root))
        lines = [line for line in done.stderr.splitlines() if "run-steps" not in line]
        assert done.returncode == 3, (place, done.stderr)
        assert len(lines) == 1, (place, done.stderr)
        assert lines[0].startswith("error: ")
        assert "No space left" in lines[0]
        if root.exists():
            assert not Store(root).contents().damaged, place
        assert recast(*sweep, str(root)).returncode == 0
        assert payload_bytes(root) == expected, place
    print(f"disk full injected at each of {total} writes")


def test_a_file_system_that_really_fills_up_gives_exit_code_3(tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    (tmp_path / "long.toml").write_text(LONGER)
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(room)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        process = start(tmp_path, "room")
        _, err = process.communicate()
        assert process.returncode == 3, err
        lines = [line for line in err.splitlines() if "run-steps" not in line]
        assert len(lines) == 1
        assert "No space left" in lines[0]
        held = Store(room).contents()
        assert not held.damaged
        assert held.good
    finally:
        subprocess.run(["umount", str(room)], check=True)
