"""Costs of an actor update at published architectures with random weights: claims C4 to C8.

RecIF's codebook of 8,192 codes per level, a made-up catalogue, G = 32. Micro-batches hold a fixed
number of tokens, one group at least. Activations are recomputed in the backward pass, as
OpenOneRec's recipe does, but for short prompts on the small model, whose groups fit without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import torch

from recast.lm.device import place
from recast.lm.efficiency import Rig, Shapes, TimedStrategy, make_case, make_rig, row_of, take_turn

STRATEGIES = ("grpo", "recast", "sft", "add_gt")
GROUP, CODEBOOK, ITEMS = 32, 8192, 20_000
MICRO_TOKENS = {True: 16_500, False: 8_250}
"""With and without recomputation; one re-encoded group of 32 rollouts of 512 tokens is 16,448."""

PROMPTS = {"qwen3-1.7b": {128: 32, 512: 8, 2048: 2}, "qwen3-8b": {512: 4}}
"""Prompts per batch, so that a re-encoded GRPO update takes seconds, not minutes."""

Part = Callable[[str, str, Callable[[dict[str, Any]], None]], None]


def part(model: str, tokens: int) -> Part:
    """Every strategy at one architecture and prompt length, shared prefix and re-encoded."""

    def go(device: str, size: str, emit: Callable[[dict[str, Any]], None]) -> None:
        ends = float(os.environ.get("PART_ENDS", "inf"))
        full = size == "full"
        checkpointing = tokens > 128 or model == "qwen3-8b"
        placement = place(device, "bfloat16" if full else "float32", checkpointing)
        began = time.time()
        rig = make_rig(
            placement,
            model if full else "small",
            codebook=CODEBOOK if full else 16,
            items=ITEMS if full else 200,
            optimizer="sgd" if model == "qwen3-8b" else "adam",
        )
        note = {
            "model": model if full else f"small for {model}",
            "parameters": sum(p.numel() for p in rig.model.parameters()),
            "dtype": str(placement.dtype).removeprefix("torch."),
            "optimizer": "sgd" if model == "qwen3-8b" else "adam",
            "checkpointing": checkpointing,
            "peak_tflops": rig.peak / 1e12,
        }
        emit({"kind": "start", **note, "seconds": time.time() - began})
        shapes = Shapes(
            batch=PROMPTS[model][tokens] if full else 2,
            micro_tokens=MICRO_TOKENS[checkpointing] if full else 64,
            prompt_tokens=(tokens if full else 16,),
        )
        # The cheap ones first: they warm up the kernels, and the baseline is worth most after them.
        order = [(name, True) for name in STRATEGIES] + [("recast", False), ("grpo", False)]
        order += [("sft", False), ("add_gt", False)]
        wanted = os.environ.get("PART_STRATEGIES", " ".join(STRATEGIES)).split()
        for name, shared in ((n, s) for n, s in order if n in wanted):
            slowest = one(rig, name, shared, shapes, GROUP if full else 4, note, emit, ends)
            if slowest is None:
                emit({"kind": "left out", "strategy": name, "shared": shared})

    return go


def one(
    rig: Rig,
    name: str,
    shared: bool,
    shapes: Shapes,
    group: int,
    note: dict[str, Any],
    emit: Callable[[dict[str, Any]], None],
    ends: float,
) -> float | None:
    """Measure one case: a warm-up, up to five turns, peak memory. Seconds, None without time."""
    began = time.time()
    if began > ends:
        return None
    case: TimedStrategy = make_case(rig, name, shared, group, shapes.prompt_tokens[0], 0, shapes)
    try:
        take_turn(case, 0)
        turn = time.time() - began
        for repeat in range(1, 6):
            take_turn(case, repeat)
            # The memory reading is one more turn.
            if time.time() - began > 6 or time.time() + 2.5 * turn > ends:
                break
        row = row_of(case)
    except torch.OutOfMemoryError as problem:
        row = {"strategy": name, "prefix": "shared" if shared else "reencoded", "error": "memory"}
        row["message"] = " ".join(str(problem).split())[:160]
        rig.model.zero_grad(set_to_none=True)
    if rig.device.type == "cuda":
        torch.cuda.empty_cache()
    repeats = {"turns": len(case.updates), "update_all": case.updates}
    emit({"kind": "cost", **note, **row, **repeats})
    return time.time() - began
