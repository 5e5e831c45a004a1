"""RL on a real model: one readable loop, any strategy of the library.

Each step: prompts -> G constrained rollouts (one prompt forward per group) -> signal -> the active
rows alone are scored and updated, in micro-batches whose gradients add up -> one optimizer step.
One update per rollout phase, so old and new policy agree when the gradient is taken and the clip
never binds; KL is to the SFT reference, on active rows. Rows and ledger are those of the simulator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recast.ledger import CostLedger
from recast.lm import checkpoint
from recast.lm.evaluate import (
    MATCHING_PROMPTS,
    EvaluationSet,
    coverage,
    entropy_curve,
    matched_temperature,
    per_prompt,
    summarise,
)
from recast.lm.extra import LMError
from recast.lm.optimizer import Adam
from recast.lm.prefix import CausalLM, packed_logp, reencoded_logp
from recast.lm.seeds import batch_indices
from recast.lm.signal import Rows, Search, learn_from, roll_out
from recast.lm.trie import Trie
from recast.lm.vocabulary import Prompts, Vocabulary
from recast.loss import KLEstimator, denominator, policy_loss, supervised_loss
from recast.repair import anchored
from recast.strategies import Signal, Strategy

Progress = Callable[[int, int, str], None]
COUNTED = ("learnable", "signal_count", "update_width", "repaired")


@dataclass(frozen=True)
class RLTraining:
    """batch: prompts per step; group: rollouts per prompt G; lr: Adam's, constant; micro_rows:
    rollouts per micro-batch (memory, not result); shared_prefix: False encodes each prompt again
    for every rollout; evaluations: how many after the start, evenly spaced in steps."""

    steps: int = 120
    batch: int = 32
    group: int = 32
    lr: float = 2e-4
    temperature: float = 1.0
    search: Search = "sample"
    kl_weight: float = 0.001
    kl_estimator: KLEstimator = "k3"
    clip_low: float = 0.2
    clip_high: float = 0.28
    clip_norm: float = 1.0
    micro_rows: int = 1024
    shared_prefix: bool = True
    evaluations: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Job:
    """Everything a run meets: the policy, its frozen reference, the trie, RL prompts and their
    target codes `[n, L]`, and the sets to evaluate on by split."""

    model: CausalLM
    reference: CausalLM
    vocabulary: Vocabulary
    trie: Trie
    prompts: Prompts
    target: Tensor
    evaluation: Mapping[str, EvaluationSet]


@dataclass
class _State:
    step: int
    ledger: CostLedger
    tally: list[dict[str, float]]
    rows: list[dict[str, Any]]
    entropy: float


def train(
    job: Job,
    strategy: Strategy,
    how: RLTraining,
    folder: Path | None = None,
    progress: Progress = lambda *_: None,
) -> tuple[dict[str, Any], ...]:
    """Train `job.model` in place; the rows of a `RunRecord`, one per (evaluation, split, slice).

    folder: where the state after each evaluation is kept, so that a killed run continues; None
    keeps none. Raises LMError when loss or gradient is not finite (what was saved stays).
    """
    if how.batch > len(job.prompts):
        raise LMError(f"--batch: {how.batch} prompts asked for, the data has {len(job.prompts)}")
    named = {n: p for n, p in job.model.named_parameters() if p.requires_grad}
    optimizer = Adam(named, how.lr)
    wanted = {"how": asdict(how), "strategy": repr(strategy)}
    state = _resume(folder, wanted, named, optimizer)
    if state is None:
        state = _State(0, CostLedger(), [], [], 0.0)
        tuning = job.evaluation["validation"].prompts[:MATCHING_PROMPTS]
        state.entropy = entropy_curve(job.model, job.vocabulary, job.trie, tuning)(1.0)
        _evaluate(job, how, state)
    grid = {round(how.steps * (i + 1) / how.evaluations) for i in range(how.evaluations)}
    while state.step < how.steps:
        spent, counted = train_step(job, strategy, how, optimizer, state.step)
        state.step += 1
        state.tally.append(counted)
        state.ledger = CostLedger(**{k: v + spent[k] for k, v in asdict(state.ledger).items()})
        progress(state.step, how.steps, f"step {state.step}")
        if state.step in grid:
            _evaluate(job, how, state)
            if folder is not None:
                tensors = {**optimizer.state(), **{f"now.{n}": v for n, v in named.items()}}
                checkpoint.save_state(folder, tensors, {"wanted": wanted, "run": _plain(state)})
    job.model.eval()
    return tuple(state.rows)


def train_step(
    job: Job, strategy: Strategy, how: RLTraining, optimizer: Adam, step: int
) -> tuple[dict[str, int], dict[str, float]]:
    """One rollout phase and one optimizer step; what it cost (ledger keys) and how it taught."""
    began = time.perf_counter()
    index = batch_indices(how.seed, "prompts", step, how.batch, len(job.prompts))
    prompts, target = job.prompts[index], job.target[index]
    signal, rows = None, None
    if strategy.needs_rollouts:
        groups, codes = roll_out(
            job.model,
            job.vocabulary,
            job.trie,
            prompts,
            target,
            search=how.search,
            group=how.group,
            temperature=how.temperature,
            seed=how.seed,
            step=step,
        )
        signal, rows = learn_from(strategy, groups, codes, target)
    rolled = time.perf_counter()
    update(job, strategy, how, prompts, target, signal, rows)
    norm = optimizer.step(how.lr, how.clip_norm)
    if not norm < float("inf"):
        raise LMError(
            f"RL: the gradient's norm became {norm} at step {step + 1} (lr {how.lr:g}); lower --lr; "
            "the state of the last evaluation is kept"
        )
    spent, counted = account(strategy, signal, how)
    done = time.perf_counter()
    return spent, {**counted, "update_seconds": done - rolled, "step_seconds": done - began}


def update(
    job: Job,
    strategy: Strategy,
    how: RLTraining,
    prompts: Prompts,
    target: Tensor,
    signal: Signal | None,
    rows: Rows | None,
) -> float:
    """Add the gradient of one batch's loss to the parameters; returns the loss.

    Micro-batches are whole groups: at least one, at most `micro_rows` rows together.
    Raises LMError for a loss that is not finite.
    """
    score = packed_logp if how.shared_prefix else reencoded_logp
    job.model.train()
    total = 0.0

    def add(loss: Tensor) -> None:
        nonlocal total
        if not bool(loss.isfinite()):
            raise LMError(
                f"RL: the loss became {loss.item()} (lr {how.lr:g}); lower --lr; the state of the "
                "last evaluation is kept"
            )
        loss.backward()
        total += loss.item()

    if signal is not None and rows is not None and len(rows.index):
        divisor = denominator(signal, strategy.denominator, job.trie.depth)
        chunk = max(1, how.micro_rows // rows.codes.shape[1])
        for part in torch.arange(len(rows.index)).split(chunk):
            here = prompts[rows.index[part]]
            codes, active = rows.codes[part], rows.active[part]
            logp = score(job.model, job.vocabulary, here, codes, job.trie, how.temperature)
            frozen = None
            if how.kl_weight:
                with torch.no_grad():
                    frozen = score(
                        job.reference, job.vocabulary, here, codes, job.trie, how.temperature
                    )
            add(
                policy_loss(
                    logp,
                    logp.detach(),
                    rows.advantage[part],
                    active,
                    divisor,
                    clip_low=how.clip_low,
                    clip_high=how.clip_high,
                    ref_logp=frozen,
                    kl_weight=how.kl_weight,
                    kl_estimator=how.kl_estimator,
                )
            )
    if strategy.supervised:
        for part in torch.arange(len(prompts)).split(max(1, how.micro_rows)):
            codes = target[part].unsqueeze(1)
            logp = score(job.model, job.vocabulary, prompts[part], codes, job.trie)
            share = len(part) / len(prompts)
            add(share * supervised_loss(logp.sum((-2, -1)), strategy.supervised))
    return total


def account(
    strategy: Strategy, signal: Signal | None, how: RLTraining
) -> tuple[dict[str, int], dict[str, float]]:
    """What one step cost, by the ledger's names, and how much of its groups taught."""
    supervised = how.batch if strategy.supervised else 0
    if signal is None:
        spent = asdict(CostLedger(updated_rows=supervised, optimizer_steps=1, labels=supervised))
        return spent, {"learnable": 1.0, "signal_count": 1.0, "update_width": 1.0, "repaired": 0.0}
    width = signal.rows.sum(-1) + int(bool(strategy.supervised))
    repaired = anchored(signal.groups)
    sampled = how.batch * how.group
    spent = asdict(
        CostLedger(
            rollouts=sampled,
            scored_rows=sampled,
            updated_rows=int(width.sum()),
            optimizer_steps=1,
            labels=supervised or int(repaired.sum()),
            skipped_prompts=int((width == 0).sum()),
        )
    )
    return spent, {
        "learnable": float((signal.count > 0).double().mean()),
        "signal_count": float(signal.count.double().mean()),
        "update_width": float(width.double().mean()),
        "repaired": float(repaired.double().mean()),
    }


def _evaluate(job: Job, how: RLTraining, state: _State) -> None:
    tuning = job.evaluation["validation"].prompts[:MATCHING_PROMPTS]
    curve = entropy_curve(job.model, job.vocabulary, job.trie, tuning)
    temperature = matched_temperature(curve, state.entropy)
    tally = state.tally
    names = (*COUNTED, "update_seconds", "step_seconds")
    seen = {n: sum(t[n] for t in tally) / len(tally) if tally else None for n in names}
    for split, data in job.evaluation.items():
        if split != "test" and state.step not in (0, how.steps):
            continue
        table, items = per_prompt(
            job.model, job.vocabulary, job.trie, data, how.group, temperature
        )
        for label, values in summarise(table, data.slices).items():
            state.rows.append(
                {
                    "split": split,
                    "slice": label,
                    "step": state.step,
                    **asdict(state.ledger),
                    **values,
                    "temperature_matched": temperature,
                    "coverage": coverage(items, job.trie.items),
                    "prompts": len(data),
                    **seen,
                }
            )
    state.tally = []


def _plain(state: _State) -> dict[str, Any]:
    return {**vars(state), "ledger": asdict(state.ledger)}


def _resume(
    folder: Path | None, wanted: Mapping[str, Any], named: Mapping[str, Tensor], optimizer: Adam
) -> _State | None:
    saved = checkpoint.load_state(folder) if folder is not None else None
    if saved is None:
        return None
    tensors, meta = saved
    if meta["wanted"] != wanted:
        raise LMError(
            f"{folder}: an unfinished run with other settings lives here; finish it with its own "
            "settings, delete the folder, or choose another --out"
        )
    optimizer.load(tensors)
    for name, value in named.items():
        value.data.copy_(tensors[f"now.{name}"])
    run = meta["run"]
    return _State(**{**run, "ledger": CostLedger(**run["ledger"])})
