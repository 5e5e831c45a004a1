"""Drill: a sweep on a real local Ray cluster of two nodes, one of which is killed in mid-sweep."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweeping import TINY, TOML, payload_bytes

from workbench.execution.runner import run_sweep
from workbench.store.runs import Store

pytestmark = [
    pytest.mark.drill,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed: pip install -e '.[ray]' to run this drill",
    ),
]

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(sys.path),
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}

CLUSTER = """
import sys
import ray
from pathlib import Path
from ray.cluster_utils import Cluster
import workbench.execution.runner
from workbench.execution.runner import run_sweep
from workbench.store.runs import Store
from workbench.spec.sweep import load_sweep

folder = Path(sys.argv[1])
cluster = Cluster()
cluster.add_node(num_cpus=1, include_dashboard=False)
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False)
killed = 0

def progress(done, total, text):
    global killed
    stored = len(Store(folder / "ray").files())
    if not killed and stored >= 6:
        cluster.remove_node(second, allow_graceful=False)
        killed = stored

outcome = run_sweep(
    load_sweep(str(folder / "tiny.toml")), Store(folder / "ray").prepare(), progress, "ray", 2
)
assert 6 <= killed < 36, killed
assert not outcome.failures, outcome.failures
print("trained", outcome.trained)
ray.shutdown()
cluster.shutdown()
"""


PROGRESS = """
import sys
import ray
from pathlib import Path
from workbench.execution.runner import run_sweep
from workbench.store.runs import Store
from workbench.spec.sweep import load_sweep

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
store, within = Store(Path(sys.argv[1]) / "ray").prepare(), []

def progress(done, total, text):
    within.append(done - 300 * len(store.files()))
    assert 0 <= done <= total == 900

plan = load_sweep(str(Path(sys.argv[1]) / "long.toml"))
run_sweep(plan, store, progress, "ray")
assert within[-1] == 0
print("inside a batch", max(within) > 0)
ray.shutdown()
"""


def test_progress_moves_inside_a_batch_on_a_cluster(tmp_path: Path) -> None:
    text = TOML.replace("steps = 4", "steps = 300").replace("[4, 8]", "[4]")
    text = text.replace("[0.001, 0.01]", "[0.001]").replace("seeds = 3", "seeds = 1")
    (tmp_path / "long.toml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", PROGRESS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "inside a batch True" in done.stdout


def test_a_node_killed_in_mid_sweep_changes_no_byte_of_the_result(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TOML)
    run_sweep(TINY, Store(tmp_path / "serial").prepare(), executor="serial")
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "trained 36" in done.stdout
    assert payload_bytes(tmp_path / "ray") == payload_bytes(tmp_path / "serial")


def test_no_running_cluster_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TOML)
    command = "from workbench.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "sweep", "tiny.toml", "--executor", "ray"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 2, done.stderr
    assert "no running cluster found; start one with `ray start --head`" in done.stderr
    lines = [line for line in done.stderr.splitlines() if "run-steps" not in line]
    assert len(lines) == 1
