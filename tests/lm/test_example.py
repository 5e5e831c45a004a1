"""The example of the documents runs as a user would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from recast.lm import checkpoint
from recast.lm.dataset import load_data
from recast.lm.tokenizer import code_tokenizer
from recast.lm.vocabulary import code_name, small_vocabulary

ROOT = Path(__file__).parents[2]


def command(data_folder: Path, tmp_path: Path) -> list[str]:
    """The example on a fresh model: script and arguments."""
    data = load_data(data_folder)
    vocab = small_vocabulary(data.depth, data.codebook)
    model = tiny.model("qwen3", vocab)
    checkpoint.save_model(tmp_path / "start", model, vocab, data.fingerprint, {})
    script = str(ROOT / "examples" / "trl_recast.py")
    return [script, str(data_folder), str(tmp_path / "start"), str(tmp_path / "out")]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], env=env, capture_output=True, text=True, timeout=300
    )


def test_the_trl_example_trains_and_saves_a_model(data_folder, tmp_path):
    done = run(command(data_folder, tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "recast/all_zero" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.drill
def test_the_trl_example_runs_in_two_processes_of_accelerate(data_folder, tmp_path):
    config = ROOT / "examples" / "accelerate" / "cpu.yaml"
    words = ["-m", "accelerate.commands.launch", "--config_file", str(config)]
    done = run([*words, *command(data_folder, tmp_path)])
    assert (tmp_path / "out" / "model.safetensors").exists(), done.stderr[-3000:]
    assert done.stdout.count("recast/all_zero") >= 1
    assert "Traceback" not in done.stderr
    assert "destroy_process_group" not in done.stderr


@pytest.mark.parametrize("name", ["cpu", "multi_gpu", "fsdp"])
def test_accelerate_reads_every_configuration(name):
    from accelerate.commands.config.config_args import load_config_from_file

    found = load_config_from_file(str(ROOT / "examples" / "accelerate" / f"{name}.yaml"))
    assert found.num_processes in (2, 4)


def test_the_twenty_lines_for_trl_on_the_page_of_adapters_train(tmp_path):
    page = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    block = next(block for block in blocks if "RecastGRPOTrainer" in block)
    assert len(block.splitlines()) <= 22
    vocab = tiny.vocabulary()
    tiny.model("qwen3", vocab).save_pretrained(tmp_path / "model")
    code_tokenizer(vocab).save_pretrained(tmp_path / "model")
    words = ["".join(code_name(level, code) for level in range(3)) for code in range(tiny.CODEBOOK)]
    pairs = [("<begin>" + words[i % 5], words[(i + 1) % 5]) for i in range(16)]
    code = f"MODEL, pairs = {str(tmp_path / 'model')!r}, {pairs!r}\n" + block.replace(
        "num_generations=8", "num_generations=8, max_steps=1, bf16=False, use_cpu=True"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "recast/all_zero" in done.stdout
