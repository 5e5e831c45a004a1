"""The example of the documents runs as a user would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tiny

from recast.lm import checkpoint
from recast.lm.dataset import load_data
from recast.lm.vocabulary import small_vocabulary

ROOT = Path(__file__).parents[2]


def test_the_trl_example_trains_and_saves_a_model(data_folder, tmp_path):
    data = load_data(data_folder)
    vocab = small_vocabulary(data.depth, data.codebook)
    model = tiny.model("qwen3", vocab)
    checkpoint.save_model(tmp_path / "start", model, vocab, data.fingerprint, {})
    command = [sys.executable, str(ROOT / "examples" / "trl_recast.py")]
    command += [str(data_folder), str(tmp_path / "start"), str(tmp_path / "out")]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "recast/all_zero" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").exists()
