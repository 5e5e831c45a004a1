"""What a run's last bits depend on is recorded, and a comparison over two machines says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from command_line import recast
from hypothesis import given
from hypothesis import strategies as st

from workbench.store.arithmetic import NAMES, _rounding, apart, arithmetic
from workbench.store.encoding import config_of
from workbench.store.files import sha256
from workbench.store.runs import Store

KINDS = st.fixed_dictionaries({name: st.sampled_from(["", "A", "B"]) for name in NAMES})


def test_a_process_says_what_it_computes_with_whatever_its_threads():
    said = arithmetic()
    assert set(said) == set(NAMES)
    assert said["vectors"] == torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            assert _rounding() == said["rounding"]
    finally:
        torch.set_num_threads(threads)


def test_plain_vectors_round_differently_and_say_so():
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("a processor without vectors")
    code = "import json; from workbench.store.arithmetic import arithmetic as a; "
    code += "print(json.dumps(a()))"
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ATEN_CPU_CAPABILITY": "default", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    plain = json.loads(done.stdout)
    assert plain["vectors"] == "DEFAULT"
    assert plain["rounding"] != arithmetic()["rounding"]


@given(st.lists(KINDS, max_size=5))
def test_runs_are_apart_exactly_where_two_of_them_say_different_things(said):
    differ = any(len({s[n] for s in said if s[n]}) > 1 for n in NAMES)
    text = apart(said)
    assert bool(text) == differ
    assert len(text) <= 300
    assert apart([{}, *said, {"seconds": 1.0}]) == "" or differ


@pytest.fixture
def store(tmp_path) -> Path:
    """Two strategies, two seeds."""
    made = recast(
        *"run --preset quick --strategy grpo --strategy sft --seeds 2 --steps 2 --lr 0.01 "
        "--group 4 --set train.evaluations=1 --set world.items=16 --set world.test_prompts=8 "
        "--set world.validation_prompts=8 --set policy.width=4 --all-zero 0.6 --executor serial "
        f"--format csv --store {tmp_path / 'runs'}".split(),
    )
    assert made.returncode == 0, made.stderr
    return tmp_path / "runs"


def elsewhere(path: Path) -> None:
    """Let a stored run say that another processor made it."""
    metadata = pl.read_parquet_metadata(path)
    provenance = json.loads(metadata["provenance"])
    assert set(NAMES) <= set(provenance)
    own = {name: value for name, value in metadata.items() if name in ("config", "provenance")}
    own["provenance"] = json.dumps({**provenance, "vectors": "NEON", "mkl": ""})
    target = path.with_suffix(".new")
    pl.read_parquet(path).write_parquet(target, metadata=own)
    target.rename(path.with_name(f"{sha256(target.read_bytes())}.v2.parquet"))
    path.unlink()


def test_a_comparison_over_two_machines_says_so(store):
    def compared() -> str:
        return recast("compare", "grpo", "sft", "--store", str(store)).stdout

    held = Store(store)
    keys = {name: [] for name in ("grpo", "sft", "start")}
    for path in held.files():
        keys[config_of(path)[0]["strategy"]].append(path.parent.name)
    assert "kinds of machine" not in compared()
    elsewhere(next((store / "runs" / keys["sft"][0]).glob("*.parquet")))
    text = compared()
    assert "note: runs computed on 2 kinds of machine (3 with torch" in text
    assert "1 with torch NEON" in text
    assert not held.checked().damaged
    assert apart(held.provenances(keys["sft"]))
    assert apart(held.provenances(keys["grpo"])) == ""
