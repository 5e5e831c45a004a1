"""The machine's ceilings, the engine's equality tests, and an end-to-end run on its GPU."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from recast.lm.device import card_peak, clock, described, matrix_rate, place

Emit = Callable[[dict[str, Any]], None]
ROOT = Path(__file__).parents[1]


def machine(device: str, size: str, emit: Emit) -> None:
    """Names and versions, and what products and copies reach."""
    where = place(device).device
    emit(
        {
            "device": described(where),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "memory_gib": (
                torch.cuda.get_device_properties(where).total_memory / 2**30
                if where.type == "cuda"
                else None
            ),
            "data_sheet_bfloat16_tflops": (card_peak(where) or 0) / 1e12 or None,
        }
    )
    for dtype in (torch.bfloat16, torch.float32):
        rate = matrix_rate(where, dtype, size=None if size == "full" else 64, seconds=0.3)
        emit({"matrix_product": str(dtype).removeprefix("torch."), "tflops": rate / 1e12})
    count = 2**30 if size == "full" else 2**16
    block, other = (torch.ones(count, dtype=torch.uint8, device=where) for _ in range(2))
    other.copy_(block)
    began = clock(where)
    for _ in range(10):
        other.copy_(block)
    emit({"copy_gb_per_second": 2e-9 * 10 * count / max(clock(where) - began, 1e-9)})


def equality(device: str, size: str, emit: Emit) -> None:
    """`tests/lm/test_device.py` on this device, in float32 and bfloat16; one row per test."""
    where = place(device).device
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        # Other versions of the libraries warn of other things.
        words += ["-W", "ignore"]
        words += ["tests/lm/test_device.py", f"--junitxml={report}"]
        if size == "tiny":
            words += ["-k", "packed"]
        environment = os.environ | {"RECAST_TEST_DEVICE": str(where)}
        done = subprocess.run(
            words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        if not report.exists():
            raise SystemExit(done.stdout[-500:] + done.stderr[-500:])
        for name, state in _results(report.read_text()):
            emit({"test": name, "state": state})
    emit({"passed": done.returncode == 0, "said": done.stdout.strip().splitlines()[-1:]})


def _results(text: str) -> list[tuple[str, str]]:
    # The report is our own child's.
    import xml.etree.ElementTree as Tree

    found = []
    for case in Tree.fromstring(text).iter("testcase"):
        wrong = [child for child in case if child.tag in ("failure", "error", "skipped")]
        state = f"{wrong[0].tag}: {wrong[0].get('message', '')[:200]}" if wrong else "passed"
        found.append((str(case.get("name")), state))
    return found


def check_data() -> None:
    """End with one line, before a GPU is used, where the data folder of the end-to-end run cannot
    be read, or holds several categories and RECAST_CATEGORY names none of them."""
    data = os.environ.get("RECAST_DATA")
    if not data:
        return  # that part alone says so
    try:
        from recast.lm.dataset import read_any
    except ImportError:
        return  # and this
    try:
        read_any(Path(data), category=os.environ.get("RECAST_CATEGORY") or None)
    except ValueError as problem:
        said = str(problem).replace("--category", "RECAST_CATEGORY")
        print(f"RECAST_DATA: {said}", file=sys.stderr)
        raise SystemExit(2) from None


def end_to_end(device: str, size: str, emit: Emit) -> None:
    """`recast lm sft` and 20 steps of `recast lm rl` on the data folder that RECAST_DATA names, and
    of its categories the one of RECAST_CATEGORY."""
    data = os.environ.get("RECAST_DATA")
    if not data:
        raise SystemExit("RECAST_DATA is unset: no data folder for the end-to-end run")
    full, category = size == "full", os.environ.get("RECAST_CATEGORY")
    with tempfile.TemporaryDirectory() as place_:
        folder = Path(place_)
        common = ["--device", device, "--format", "json"]
        common += ["--category", category] if category else []
        sft = ["sft", data, "--out", str(folder / "sft"), "--epochs", "2" if full else "1"]
        sft += [] if full else ["--limit", "60", "--batch", "16"]
        began = time.time()
        emit({"command": "recast lm sft", "rows": _lm([*sft, *common]), **_took(began)})
        rl = [
            "rl",
            data,
            "--start",
            str(folder / "sft" / "model"),
            "--steps",
            "20" if full else "2",
        ]
        rl += ["--evaluations", "1", "--store", str(folder / "runs")]
        rl += ["--eval-prompts", "512" if full else "16"]
        rl += [] if full else ["--batch", "4", "--group", "4"]
        for name in ("grpo", "recast", "grpo_sft") if full else ("recast",):
            began = time.time()
            rows = _lm([*rl, "--strategy", name, *common])
            emit({"command": "recast lm rl", "strategy": name, "rows": rows, **_took(began)})


def _took(began: float) -> dict[str, float]:
    return {"seconds": round(time.time() - began, 2)}


def _lm(words: list[str]) -> Any:
    command = [sys.executable, "-m", "workbench.cli", "lm", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip()[-600:])
    return json.loads(done.stdout)
