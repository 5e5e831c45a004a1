"""examples/openonerec.sh reaches the launch of OpenOneRec's script without Ray and conda."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "examples" / "openonerec.sh"
LIKE_THEIRS = """#!/bin/bash
set -e
FOUND=$(python -c 'raise SystemExit("no cluster")' 2>/dev/null)
if [ -z "$FOUND" ]; then echo defaults; fi
conda activate verl
printf '%s\\n' trainer.n_gpus_per_node=8 "$@"
"""


def test_one_gpu_a_strategy_and_overrides_reach_the_launch(tmp_path):
    recipe = tmp_path / "verl_rl" / "recipe" / "onerec"
    recipe.mkdir(parents=True)
    (recipe / "run_grpo.sh").write_text(LIKE_THEIRS, encoding="utf-8")
    command = ["sh", str(SCRIPT), str(tmp_path / "verl_rl"), "a.b='x y'"]
    given = {**os.environ, "GPUS": "1", "STRATEGY": "maxrl"}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "defaults"
    settings = dict(line.split("=", 1) for line in lines[1:])
    assert settings["trainer.n_gpus_per_node"] == "1"
    assert settings["algorithm.adv_estimator"] == "recast.maxrl"
    assert settings["a.b"] == "'x y'"
    assert Path(settings["custom_reward_function.path"]).is_file()
