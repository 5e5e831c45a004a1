"""A run of the real-model path: what determines it, and what it trains and evaluates."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.spec.experiment import plain_text
from workbench.spec.keys import run_key

if TYPE_CHECKING:
    from recast.lm.dataset import LMData
    from recast.lm.device import Placement
    from recast.lm.update import Job, RLTraining

ENGINE = 2
"""Generation of this path's numbers; raised when the same configuration gives other numbers."""


def run_config(
    data: LMData,
    manifest: dict[str, Any],
    how: RLTraining,
    strategy: str,
    lr: float,
    seed: int,
    eval_prompts: int,
    placement: Placement | None = None,
) -> dict[str, Any]:
    """Everything that determines one run, JSON-serialisable, in the simulator's layout.

    Of the placement its type alone: device, kernel and checkpointing round differently, no more.
    """
    from recast.strategies import parse_strategy

    weights = {n: d for n, d in manifest["files"].items() if n.endswith(".safetensors")}
    settings = {k: v for k, v in asdict(how).items() if k not in ("lr", "seed", "micro_tokens")}
    dtype = str(placement.dtype).removeprefix("torch.") if placement is not None else "float32"
    if dtype != "float32":
        settings["dtype"] = dtype
    chosen = asdict(parse_strategy(strategy))
    cell = {
        "lm_engine": ENGINE,
        "world_spec": {"kind": "lm", "data": data.name, "catalogue": data.fingerprint},
        "policy_spec": {"kind": "causal LM"},
        "start_spec": {"weights": weights},
        "train_spec": {**settings, "eval_prompts": eval_prompts},
    }
    return {
        **cell,
        "strategy": plain_text(strategy),
        "composition": {
            k: v for k, v in chosen.items() if k not in ("meaning", "source", "all_zero")
        },
        "lr": lr,
        "seed": seed,
        "cell": run_key(cell)[:8],
        "world": f"lm:{data.name}",
        "group": how.group,
    }


def build_job(
    start: Path, data: LMData, eval_prompts: int | None, placement: Placement | None = None
) -> Job:
    """The policy and its frozen reference, RL prompts, and what to evaluate on, on one device (by
    default the CPU)."""
    import torch

    from recast.lm import checkpoint
    from recast.lm.device import CPU
    from recast.lm.evaluate import evaluation_set
    from recast.lm.trie import build_trie
    from recast.lm.update import Job

    placement = placement or CPU
    device = placement.device
    policy = checkpoint.load_model(start, data.fingerprint, placement)
    reference = checkpoint.load_model(start, data.fingerprint, placement).model
    for parameter in reference.parameters():
        parameter.requires_grad_(False)
    trie = build_trie(data.sids).to(device)
    splits = {"test": data.test, "validation": data.tuning}
    return Job(
        model=policy.model,
        reference=reference,
        vocabulary=policy.vocabulary,
        trie=trie,
        prompts=policy.vocabulary.prompts([row.history for row in data.learning]).to(device),
        target=torch.tensor([row.target for row in data.learning], device=device),
        evaluation={
            split: evaluation_set(policy.vocabulary, trie, rows, data.slices(rows), eval_prompts)
            for split, rows in splits.items()
        },
    )


def world_values(job: Job) -> dict[str, float | None]:
    """Numbers of the world that every run of the store carries; a real log has no ceiling."""
    parameters = float(sum(p.numel() for p in job.model.parameters()))
    return {"ceiling_pass_at_1": None, "ceiling_recall_at_10": None, "parameters": parameters}
