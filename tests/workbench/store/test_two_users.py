"""A store that belongs to another user: what may not be read is said so, and nothing is called
damaged, moved or waited for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from another_user import AnotherUser
from command_line import recast
from sweeping import small_sweep
from test_damage import plain_user

from workbench.jobs.sweep_listing import listing
from workbench.store.runs import Store

pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others"),
]
OTHER = 54_321


def given_away(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        os.chown(path, OTHER, OTHER)


@pytest.fixture(scope="module", params=[0o022, 0o077], ids=["022", "077"])
def theirs(request) -> Iterator[tuple[Path, bool]]:
    """A folder with a sweep in a store of another user's, and whether all may read it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    (folder / "small.toml").write_text(small_sweep(["grpo", "recast"], 2, 2), encoding="utf-8")
    before = os.umask(request.param)
    try:
        done = recast("sweep", "small.toml", "--executor", "serial", cwd=folder)
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    (folder / "runs").chmod(0o777)  # the store is shared, what lies in it has the umask's mode
    given_away(folder / "runs" / "runs")
    for name in ("starts", "sweeps", "claims"):
        given_away(folder / "runs" / name)
    yield folder, request.param == 0o022
    shutil.rmtree(folder)


def held(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if ".tmp-" not in p.name)


def test_another_users_store_is_read_as_far_as_modes_allow_and_left_as_it_is(theirs):
    folder, readable = theirs
    root = folder / "runs"
    before = held(root)
    mine = AnotherUser(
        OTHER + 1,
        OTHER + 1,
        0o022,
        folder,
        [
            ["store", "check", "runs"],
            ["sweep", "small.toml", "--executor", "serial", "--seeds", "3"],
        ],
    )
    check, more = mine.ended()
    assert "Traceback" not in check.stderr
    assert check.returncode == (0 if readable else 2), check.stdout + check.stderr
    if readable:
        assert "4 runs sound, 0 files damaged" in check.stdout
    else:
        assert "Permission denied" in check.stderr + check.stdout
        assert len(check.stderr.splitlines()) == 1
    assert "Traceback" not in more.stderr
    assert more.returncode in (2, 3)
    last = more.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "ermission denied" in last
    assert held(root) == before


def test_two_users_of_one_group_share_a_sweep_and_every_run_is_trained_once():
    """As two people would: a common folder, a common group, a umask that lets the group write."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "small.toml").write_text(small_sweep(["grpo", "recast"], 3, 8), encoding="utf-8")
        os.chown(folder, OTHER, OTHER)
        folder.chmod(0o2775)
        sweep = ["sweep", "small.toml", "--executor", "serial"]
        both = [
            AnotherUser(user, OTHER, 0o002, folder, [sweep, ["store", "check", "runs"]])
            for user in (OTHER, OTHER + 1)
        ]
        for done, check in [one.ended() for one in both]:
            assert done.returncode == 0, done.stderr
            assert check.returncode == 0, check.stderr
            assert "6 runs sound, 0 files damaged" in check.stdout
        owners = {path.stat().st_uid for path in Store(folder / "runs").files()}
        assert owners <= {OTHER, OTHER + 1}


def test_checks_at_once_of_a_damaged_store_of_another_user_all_name_it_and_move_nothing(theirs):
    folder, readable = theirs
    if not readable:
        pytest.skip("nothing can be read")
    root = folder / "runs"
    victim = Store(root).files()[0]
    content = victim.read_bytes()
    victim.write_bytes(content[:50])
    before = held(root)
    root.chmod(0o755)
    os.chown(root, OTHER, OTHER)
    try:
        with plain_user(), ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: Store(root).checked(), range(8)))
            assert all([fault.path for fault in one.damaged] == [victim] for one in found)
            check = recast("store", "check", str(root))
            assert check.returncode == 1
            assert str(victim) in check.stdout
            assert "not set aside" in check.stderr
            frame = Store(root).load()
            assert frame["run"].n_unique() == 3
            assert listing(Store(root)).height == 1
    finally:
        root.chmod(0o777)
        victim.write_bytes(content)
    assert held(root) == before
