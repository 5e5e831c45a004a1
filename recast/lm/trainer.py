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
from recast.lm.optimizer import AdamW, trainable
from recast.lm.optional_extra import LMError
from recast.lm.signal import RolloutPhase, RolloutSource, collect, why_not
from recast.lm.update import Diverged, RLSetup, RLTraining, account, update
from recast.progress import Progress
from recast.stage import State
from recast.strategy import Strategy

OnPhase = Callable[[int, RolloutPhase], None]
OnMetrics = Callable[[int, Mapping[str, float]], None]


@dataclass
class _State:
    step: int
    ledger: CostLedger
    tally: list[dict[str, float]]
    rows: list[dict[str, Any]]
    entropy: float
    memory: State


def train(
    setup: RLSetup,
    strategy: Strategy,
    how: RLTraining,
    folder: Path | None = None,
    progress: Progress = lambda *_: None,
    record: OnPhase = lambda *_: None,
    log: OnMetrics = lambda *_: None,
) -> tuple[dict[str, Any], ...]:
    """Train `setup.model` in place; the rows of a `RunRecord`, one per (evaluation, split, slice).

    folder: where the state after each evaluation is kept, so that a killed run continues; None
    keeps none. record: gets each step, from 1, and what was rolled out in it. log: gets (step,
    values), train/... after each step and SPLIT/... after each evaluation. Raises LMError for a
    strategy that needs what this path cannot give, and `Diverged` when loss or gradient is not
    finite (what was saved stays).
    """
    if how.batch > len(setup.prompts):
        raise LMError(f"--batch: {how.batch} prompts asked for, the data has {len(setup.prompts)}")
    reason = why_not(strategy, how.search, how.group)
    if reason:
        raise LMError(reason)
    named = trainable(setup.model)
    optimizer = AdamW(named, how.lr)
    # How a batch is cut into micro-batches is no result: a cut run may go on with another.
    settings = {k: v for k, v in how.settings().items() if k not in ("micro_rows", "micro_tokens")}
    wanted = {"how": settings, "strategy": repr(strategy)}
    state = _resume(folder, wanted, named, optimizer)
    if state is None:
        memory = memory_of(setup, strategy)
        state = _State(0, CostLedger(), [], [], 0.0, memory)
        tuning = setup.evaluation["validation"].prompts[:MATCHING_PROMPTS]
        state.entropy = entropy_curve(setup.model, setup.vocabulary, setup.trie, tuning)(1.0)
        _evaluate(setup, how, state, log)
    grid = {round(how.steps * (i + 1) / how.evaluations) for i in range(how.evaluations)}
    while state.step < how.steps:
        spent, counted, state.memory = train_step(
            setup, strategy, how, optimizer, state.step, state.memory, record
        )
        state.step += 1
        state.tally.append(counted)
        state.ledger = state.ledger.plus(spent)
        progress(state.step, how.steps, f"step {state.step}")
        log(state.step, {f"train/{name}": value for name, value in counted.items()})
        if state.step in grid:
            _evaluate(setup, how, state, log)
            if folder is not None:
                _keep(folder, wanted, named, optimizer, state)
    setup.model.eval()
    return tuple(state.rows)


def memory_of(setup: RLSetup, strategy: Strategy) -> State:
    """What the strategy remembers before the first step, on the setup's device."""
    fresh = strategy.start((), len(setup.prompts))
    return {name: value.to(setup.target.device) for name, value in fresh.items()}


def roller(setup: RLSetup, how: RLTraining) -> RolloutSource:
    """Where the rollouts of a setup come from."""
    return RolloutSource(
        model=setup.model,
        vocabulary=setup.vocabulary,
        trie=setup.trie,
        prompts=setup.prompts,
        target=setup.target,
        batch=how.batch,
        group=how.group,
        search=how.search,
        temperature=how.temperature,
        seed=how.seed,
        similarity=setup.similarity,
        more=setup.more,
    )


def train_step(
    setup: RLSetup,
    strategy: Strategy,
    how: RLTraining,
    optimizer: AdamW,
    step: int,
    memory: State | None = None,
    record: OnPhase = lambda *_: None,
) -> tuple[dict[str, int], dict[str, float], State]:
    """One rollout phase and one optimizer step.

    Returns what it cost (ledger keys), how its groups taught and how long it took, and the state
    that the strategy carries to the next step. Raises Diverged for a gradient that is no number.
    """
    device = setup.target.device
    began = _now(device)
    collected = collect(roller(setup, how), strategy, step, memory or {})
    record(step + 1, collected)
    rolled = _now(device)
    update(setup, strategy, how, collected, step / max(1, how.steps - 1))
    norm = optimizer.step(how.rate(step), how.clip_norm)
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


def _evaluate(setup: RLSetup, how: RLTraining, state: _State, log: OnMetrics) -> None:
    tuning = setup.evaluation["validation"].prompts[:MATCHING_PROMPTS]
    curve = entropy_curve(setup.model, setup.vocabulary, setup.trie, tuning)
    temperature = matched_temperature(curve, state.entropy)
    validation = setup.evaluation["validation"]
    best = tuned_temperatures(setup.model, setup.vocabulary, setup.trie, validation)
    tally = state.tally
    names = (*TAUGHT, "update_seconds", "step_seconds")
    seen = {n: sum(t[n] for t in tally) / len(tally) if tally else None for n in names}
    for split, data in setup.evaluation.items():
        if split != "test" and state.step not in (0, how.steps):
            continue
        table, items = per_prompt(
            setup.model, setup.vocabulary, setup.trie, data, how.group, temperature, best
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
                    "coverage": coverage(items, setup.trie.items),
                    "prompts": len(data),
                    **seen,
                }
            )
    state.tally = []


def _keep(
    folder: Path,
    wanted: Mapping[str, Any],
    named: Mapping[str, Tensor],
    optimizer: AdamW,
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
    folder: Path | None, wanted: Mapping[str, Any], named: Mapping[str, Tensor], optimizer: AdamW
) -> _State | None:
    saved = checkpoint.unfinished(folder, wanted, folder) if folder is not None else None
    if saved is None:
        return None
    tensors, meta = saved
    optimizer.load(tensors)
    for name, value in named.items():
        value.data.copy_(tensors[f"now.{name}"])
    run = meta["run"]
    device = next(iter(named.values())).device
    memory = {name: tensors[f"memory.{name}"].to(device) for name in run["memory"]}
    return _State(**{**run, "ledger": CostLedger(**run["ledger"]), "memory": memory})
