"""The store: verified readers, damage that is named, parts that are never stale."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench.store.files
import workbench.store.parsed_rows
from recast.ledger import RunRecord
from workbench.analysis.example import load_or_example
from workbench.errors import DiskError
from workbench.store.contents import Contents, complaints
from workbench.store.encoding import config_of
from workbench.store.files import WorkLock, sha256
from workbench.store.runs import Store


def record(seed: int, value: float = 0.5, rows: int = 2) -> RunRecord:
    config = {
        "strategy": "grpo",
        "composition": {"credit": "grpo"},
        "lr": 0.01,
        "seed": seed,
        "cell": "abc",
        "world": "synthetic",
        "group": 8,
        "world_spec": {"noise": 0.2, "data": None, "items": 32},
    }
    table = tuple(
        {"split": split, "slice": "all", "step": step, "pass_at_1_matched": value + seed + step}
        for step in range(rows)
        for split in ("test", "validation")
    )
    return RunRecord(config, table, {"ceiling_pass_at_1": None})


def filled(root: Path, runs: int = 6) -> Store:
    store = Store(root).prepare()
    for seed in range(runs):
        store.write(f"{seed:020x}", record(seed))
    return store


def test_what_is_written_is_read_back_with_configuration_and_provenance(tmp_path):
    store = filled(tmp_path / "s", 1)
    frame = store.load()
    assert frame["pass_at_1_matched"].to_list() == [0.5, 0.5, 1.5, 1.5]
    assert frame["world.noise"].unique().to_list() == [0.2]
    assert frame["world.items"].dtype == pl.Int64
    config, provenance = config_of(store.files()[0])
    assert config == record(0).config
    assert {"recast", "torch", "polars", "python"} <= provenance.keys()


def test_a_run_is_never_overwritten(tmp_path):
    store = filled(tmp_path / "s", 1)
    before = store.files()[0].read_bytes()
    store.write(f"{0:020x}", record(0, value=9.0))
    assert [path.read_bytes() for path in store.files()] == [before]
    assert sorted(p.name for p in store.root.iterdir()) == ["runs"]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_any_flipped_bit_or_truncation_is_named_and_the_rest_is_read(seed):
    rng = random.Random(seed)
    with_damage(rng, hits=rng.randint(1, 4))


def with_damage(rng: random.Random, hits: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = filled(Path(folder) / "s")
        whole = store.load()
        victims = rng.sample(store.files(), hits)
        for victim in victims:
            damage(victim, rng)
        held = store.contents()
        assert {fault.path for fault in held.damaged} == set(victims)
        lines = complaints(store.root, held)
        assert all(any(str(victim) in line for line in lines) for victim in victims)
        lost = [victim.parent.name for victim in victims]
        left = store.parsed(held).collect()
        assert left.equals(whole.filter(~pl.col("run").is_in(lost)))


def damage(victim: Path, rng: random.Random) -> None:
    """Flip one bit, or cut the file anywhere (to nothing, too)."""
    content = bytearray(victim.read_bytes())
    if rng.random() < 0.5:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    else:
        del content[rng.randrange(len(content)) :]
    victim.write_bytes(bytes(content))


def test_a_reader_says_on_the_log_what_it_leaves_out(tmp_path, caplog):
    store = filled(tmp_path / "s")
    damage(store.files()[2], random.Random(0))
    assert store.load()["run"].n_unique() == 5
    assert str(store.files()[2]) in caplog.text


def test_quarantine_moves_damaged_runs_and_nothing_else(tmp_path):
    store = filled(tmp_path / "s")
    victim = store.files()[2]
    damage(victim, random.Random(0))
    (moved,) = store.quarantine(store.contents().damaged).values()
    assert (moved / victim.name).is_file()
    assert not store.has(victim.parent.name)
    assert len(store.files()) == 5
    assert store.contents().damaged == ()
    store.write(victim.parent.name, record(2))
    assert len(store.contents().good) == 6


def test_an_empty_run_folder_and_a_foreign_name_are_damage_too(tmp_path):
    store = filled(tmp_path / "s", 1)
    (tmp_path / "s" / "runs" / "ff").mkdir()
    (tmp_path / "s" / "runs" / "e").mkdir()
    (tmp_path / "s" / "runs" / "e" / "notes.txt").write_text("hello")
    assert {fault.key for fault in store.contents().damaged} == {"ff", "e"}
    assert store.load().height == 4


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(workbench.store.parsed_rows, "_WORTH_A_PART", 2)


def test_parsed_parts_change_nothing_whatever_is_added_damaged_or_removed(tmp_path, small_parts):
    store = filled(tmp_path / "s")
    first = store.load()
    assert list((store.root / "parts").glob("*.parquet"))
    assert store.load().equals(first)
    store.write(f"{6:020x}", record(6))
    assert store.load()["run"].n_unique() == 7
    damage(store.files()[1], random.Random(1))
    assert store.load()["run"].n_unique() == 6
    shutil.rmtree(store.files()[0].parent)
    left = store.load()
    assert left["run"].n_unique() == 5
    shutil.rmtree(store.root / "parts")
    assert store.load().sort("run", "step", "split").equals(left.sort("run", "step", "split"))


def test_a_run_that_was_done_again_is_not_read_from_an_old_part(tmp_path, small_parts):
    store = filled(tmp_path / "s")
    store.load()
    again = store.files()[0].parent
    shutil.rmtree(again)
    store.write(again.name, record(0, value=7.0))
    values = store.load().filter(pl.col("run") == again.name)["pass_at_1_matched"].to_list()
    assert values == [7.0, 7.0, 8.0, 8.0]


def test_many_parts_become_one(tmp_path, small_parts):
    store = filled(tmp_path / "s", 2)
    for seed in range(2, 24, 2):
        store.load()
        store.write(f"{seed:020x}", record(seed))
        store.write(f"{seed + 1:020x}", record(seed + 1))
    assert 1 < len(list((store.root / "parts").iterdir())) <= 10
    whole = store.load().sort("run", "step", "split")
    shutil.rmtree(store.root / "parts")
    assert store.load().sort("run", "step", "split").equals(whole)


def test_a_damaged_or_senseless_part_is_not_used(tmp_path, small_parts):
    store = filled(tmp_path / "s")
    whole = store.load()
    (part,) = (store.root / "parts").iterdir()
    damage(part, random.Random(3))
    assert store.load().equals(whole)
    assert store.load().equals(whole)
    shutil.rmtree(store.root / "parts")
    (store.root / "parts").mkdir()
    buffer = io.BytesIO()
    pl.DataFrame({"run": ["x"]}).write_parquet(buffer)
    content = buffer.getvalue()
    (store.root / "parts" / f"{sha256(content)}.parquet").write_bytes(content)
    assert store.load().equals(whole)


def test_runs_with_other_columns_are_read_together(tmp_path):
    store = filled(tmp_path / "s", 2)
    extra = record(2)
    rows = tuple({**row, "novelty": 0.25} for row in extra.rows)
    store.write("f" * 20, RunRecord({**extra.config, "new": 3}, rows, extra.world))
    frame = store.load()
    assert frame["run"].n_unique() == 3
    assert frame["novelty"].null_count() == 8
    assert frame["new"].drop_nulls().unique().to_list() == [3]


def write_schema_1(root: Path) -> str:
    """A run as the first version stored it: configuration and provenance as JSON columns."""
    config = {"strategy": "sft", "lr": 0.01, "seed": 0, "world_spec": {"noise": 0.5}}
    frame = pl.DataFrame(
        {
            "split": ["test"],
            "slice": ["all"],
            "step": [0],
            "pass_at_1_matched": [0.125],
            "run": ["a" * 20],
            "strategy": ["sft"],
            "lr": [0.01],
            "seed": [0],
            "config": [json.dumps(config)],
            "provenance": [json.dumps({"recast": "0.1.0"})],
            "schema_version": [1],
        }
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    folder = root / "runs" / ("a" * 20)
    folder.mkdir(parents=True)
    (folder / f"{sha256(buffer.getvalue())}.parquet").write_bytes(buffer.getvalue())
    return folder.name


def test_old_schemas_are_refused_with_the_command_and_migrated_by_it(tmp_path, caplog):
    key = write_schema_1(tmp_path / "s")
    store = Store(tmp_path / "s")
    assert store.load().is_empty()
    assert f"recast store migrate {store.root}" in caplog.text
    assert store.migrate() == 1
    frame = store.load()
    assert frame["run"].to_list() == [key]
    assert frame["world.noise"].to_list() == [0.5]
    assert config_of(store.files()[0])[1]["migrated_from_schema"] == 1
    assert len(list((store.root / "retired").glob("*/*.parquet"))) == 1
    assert store.migrate() == 0


def test_runs_of_a_later_version_are_left_out_and_said_so(tmp_path, caplog):
    store = filled(tmp_path / "s", 2)
    path = store.files()[0]
    path.rename(path.with_name(path.name.replace(".v2.", ".v9.")))
    assert store.load()["run"].n_unique() == 1
    assert "upgrade recast-workbench" in caplog.text


def test_the_label_of_a_damaged_store_names_the_damage_and_the_rest_is_shown(tmp_path):
    store = filled(tmp_path / "s")
    victim = store.files()[0]
    damage(victim, random.Random(0))
    frame, label = load_or_example(store.root)
    assert frame["run"].n_unique() == 5
    assert str(victim) in label
    damage(store.files()[1], random.Random(0))
    frame, label = load_or_example(store.root)
    assert frame["run"].n_unique() == 4
    assert f"2 damaged files are left out, such as {victim}" in label


def test_a_claim_is_exclusive_until_it_is_dropped(tmp_path):
    one, two = WorkLock(tmp_path / "c" / "x"), WorkLock(tmp_path / "c" / "x")
    assert one.take()
    assert not two.take()
    one.drop(done=False)
    assert two.take()
    two.drop(done=True)
    assert not (tmp_path / "c" / "x").exists()


def test_a_claim_is_granted_where_the_file_system_has_no_locks(tmp_path, monkeypatch):
    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(workbench.store.files.fcntl, "flock", no_locks)
    lock = WorkLock(tmp_path / "c" / "x")
    assert lock.take()
    assert lock.held
    lock.drop(done=True)
    assert not (tmp_path / "c" / "x").exists()


def test_a_claim_that_another_user_left_and_may_not_be_written_can_be_taken(tmp_path, monkeypatch):
    path, opened = tmp_path / "x", os.open
    path.write_text("process 1 on another machine\n")

    def readable_alone(name: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(name, flags, *mode)

    monkeypatch.setattr(workbench.store.files.os, "open", readable_alone)
    one, two = WorkLock(path), WorkLock(path)
    assert one.take()
    assert not two.take()
    one.drop(done=False)
    assert two.take()
    two.drop(done=False)
    assert two.owner() == "process 1 on another machine"


def test_a_missing_store_reads_as_empty(tmp_path):
    assert Store(tmp_path / "none").contents() == Contents()
    assert Store(tmp_path / "none").load().is_empty()


def test_a_full_disk_is_a_disk_error_and_leaves_nothing_behind(tmp_path, monkeypatch):
    store = filled(tmp_path / "s", 1)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workbench.store.files.os, "fsync", full)
    with pytest.raises(DiskError, match="No space left"):
        store.write("b" * 20, record(1))
    assert [p.name for p in store.root.iterdir()] == ["runs"]
    assert not store.has("b" * 20)


def test_a_source_tree_that_is_not_installed_has_its_declared_version(monkeypatch):
    import importlib.metadata

    from workbench.version import version

    installed = version()

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert version() == installed
