"""RL on a real model: one readable loop, any strategy of the library.

Each step: prompts -> G constrained rollouts (one prompt forward per group) -> signal -> the active
rows alone are scored and updated, in micro-batches whose gradients add up -> one optimizer step.
One update per rollout phase, so old and new policy agree when the gradient is taken and the clip
never binds; KL is to the SFT reference, on active rows. Rows and ledger are those of the simulator.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recast.ledger import TAUGHT, CostLedger
from recast.lm import checkpoint
from recast.lm.device import synchronise
from recast.lm.evaluate import (
    MATCHING_PROMPTS,
    coverage,
    entropy_curve,
    matched_temperature,
    per_prompt,
    summarise,
    tuned_temperatures,
)
from recast.lm.extra import LMError
from recast.lm.optimizer import Adam, trainable
from recast.lm.signal import Collected, Roller, collect, why_not
from recast.lm.update import Diverged, Job, RLTraining, account, update
from recast.stage import State
from recast.strategy import Strategy

Progress = Callable[[int, int, str], None]
Record = Callable[[int, Collected], None]
Log = Callable[[int, Mapping[str, float]], None]


@dataclass
class _State:
    step: int
    ledger: CostLedger
    tally: list[dict[str, float]]
    rows: list[dict[str, Any]]
    entropy: float
    memory: State


def train(
    job: Job,
    strategy: Strategy,
    how: RLTraining,
    folder: Path | None = None,
    progress: Progress = lambda *_: None,
    record: Record = lambda *_: None,
    log: Log = lambda *_: None,
) -> tuple[dict[str, Any], ...]:
    """Train `job.model` in place; the rows of a `RunRecord`, one per (evaluation, split, slice).

    folder: where the state after each evaluation is kept, so that a killed run continues; None
    keeps none. record: gets each step, from 1, and what was rolled out in it. log: gets (step,
    values), train/... after each step and SPLIT/... after each evaluation. Raises LMError for a
    strategy that needs what this path cannot give, and `Diverged` when loss or gradient is not
    finite (what was saved stays).
    """
    if how.batch > len(job.prompts):
        raise LMError(f"--batch: {how.batch} prompts asked for, the data has {len(job.prompts)}")
    reason = why_not(strategy, how.search, how.group)
    if reason:
        raise LMError(reason)
    named = trainable(job.model)
    optimizer = Adam(named, how.lr)
    # How a batch is cut into micro-batches is no result: a cut run may go on with another.
    settings = {k: v for k, v in how.settings().items() if k not in ("micro_rows", "micro_tokens")}
    wanted = {"how": settings, "strategy": repr(strategy)}
    state = _resume(folder, wanted, named, optimizer)
    if state is None:
        memory = memory_of(job, strategy)
        state = _State(0, CostLedger(), [], [], 0.0, memory)
        tuning = job.evaluation["validation"].prompts[:MATCHING_PROMPTS]
        state.entropy = entropy_curve(job.model, job.vocabulary, job.trie, tuning)(1.0)
        _evaluate(job, how, state, log)
    grid = {round(how.steps * (i + 1) / how.evaluations) for i in range(how.evaluations)}
    while state.step < how.steps:
        spent, counted, state.memory = train_step(
            job, strategy, how, optimizer, state.step, state.memory, record
        )
        state.step += 1
        state.tally.append(counted)
        state.ledger = state.ledger.plus(spent)
        progress(state.step, how.steps, f"step {state.step}")
        log(state.step, {f"train/{name}": value for name, value in counted.items()})
        if state.step in grid:
            _evaluate(job, how, state, log)
            if folder is not None:
                _keep(folder, wanted, named, optimizer, state)
    job.model.eval()
    return tuple(state.rows)


def memory_of(job: Job, strategy: Strategy) -> State:
    """What the strategy remembers before the first step, on the job's device."""
    fresh = strategy.start((), len(job.prompts))
    return {name: value.to(job.target.device) for name, value in fresh.items()}


def roller(job: Job, how: RLTraining) -> Roller:
    """Where the rollouts of a job come from."""
    return Roller(
        model=job.model,
        vocabulary=job.vocabulary,
        trie=job.trie,
        prompts=job.prompts,
        target=job.target,
        batch=how.batch,
        group=how.group,
        search=how.search,
        temperature=how.temperature,
        seed=how.seed,
        similarity=job.similarity,
        more=job.more,
    )


def train_step(
    job: Job,
    strategy: Strategy,
    how: RLTraining,
    optimizer: Adam,
    step: int,
    memory: State | None = None,
    record: Record = lambda *_: None,
) -> tuple[dict[str, int], dict[str, float], State]:
    """One rollout phase and one optimizer step.

    Returns what it cost (ledger keys), how its groups taught and how long it took, and the state
    that the strategy carries to the next step. Raises Diverged for a gradient that is no number.
    """
    device = job.target.device
    began = _now(device)
    collected = collect(roller(job, how), strategy, step, memory or {})
    record(step + 1, collected)
    rolled = _now(device)
    update(job, strategy, how, collected, step / max(1, how.steps - 1))
    norm = optimizer.step(how.lr, how.clip_norm)
    if not norm < float("inf"):
        raise Diverged(
            f"RL: the gradient's norm became {norm} at step {step + 1} (lr {how.lr:g}); lower "
            "--lr; the state of the last evaluation is kept"
        )
    spent, counted = account(strategy, collected)
    done = _now(device)
    seconds = {"update_seconds": done - rolled, "step_seconds": done - began}
    return spent, {**counted, **seconds}, collected.state


def _now(device: torch.device) -> float:
    """Wall seconds when the device has done what it was given."""
    synchronise(device)
    return time.perf_counter()


def _evaluate(job: Job, how: RLTraining, state: _State, log: Log) -> None:
    tuning = job.evaluation["validation"].prompts[:MATCHING_PROMPTS]
    curve = entropy_curve(job.model, job.vocabulary, job.trie, tuning)
    temperature = matched_temperature(curve, state.entropy)
    validation = job.evaluation["validation"]
    best = tuned_temperatures(job.model, job.vocabulary, job.trie, validation)
    tally = state.tally
    names = (*TAUGHT, "update_seconds", "step_seconds")
    seen = {n: sum(t[n] for t in tally) / len(tally) if tally else None for n in names}
    for split, data in job.evaluation.items():
        if split != "test" and state.step not in (0, how.steps):
            continue
        table, items = per_prompt(
            job.model, job.vocabulary, job.trie, data, how.group, temperature, best
        )
        for label, values in summarise(table, data.slices).items():
            if label == "all":
                known = {f"{split}/{n}": v for n, v in values.items() if v is not None}
                log(state.step, known)
            state.rows.append(
                {
                    "split": split,
                    "slice": label,
                    "step": state.step,
                    **asdict(state.ledger),
                    **values,
                    "temperature_matched": None if math.isnan(temperature) else temperature,
                    "coverage": coverage(items, job.trie.items),
                    "prompts": len(data),
                    **seen,
                }
            )
    state.tally = []


def _keep(
    folder: Path,
    wanted: Mapping[str, Any],
    named: Mapping[str, Tensor],
    optimizer: Adam,
    state: _State,
) -> None:
    tensors = {
        **optimizer.state(),
        **{f"now.{name}": value for name, value in named.items()},
        **{f"memory.{name}": value for name, value in state.memory.items()},
    }
    run = {**vars(state), "ledger": asdict(state.ledger), "memory": sorted(state.memory)}
    checkpoint.save_state(folder, tensors, {"wanted": wanted, "run": run})


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
    device = next(iter(named.values())).device
    memory = {name: tensors[f"memory.{name}"].to(device) for name in run["memory"]}
    return _State(**{**run, "ledger": CostLedger(**run["ledger"]), "memory": memory})
