"""RL on a real model: one readable loop, any strategy of the library.

Each step: prompts -> G constrained rollouts (one prompt forward per group) -> signal -> the active
rows alone are scored and updated, in micro-batches whose gradients add up -> one optimizer step.
One update per rollout phase, so old and new policy agree when the gradient is taken and the clip
never binds; KL is to the SFT reference, on active rows. Rows and ledger are those of the simulator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recast.gate import start as start_state
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
from recast.lm.signal import Collected, Roller, Search, collect, given, take
from recast.lm.trie import Trie
from recast.lm.vocabulary import Prompts, Vocabulary
from recast.loss import KLEstimator, LossSettings, denominator, pack, strategy_loss
from recast.repair import anchored
from recast.strategy import State, Strategy, require_inputs
from recast.supervised import Evidence

Progress = Callable[[int, int, str], None]
Log = Callable[[int, Mapping[str, float]], None]
COUNTED = ("learnable", "signal_count", "update_width", "repaired")


class Diverged(LMError):
    """Loss or gradient is not finite; what was saved before stays."""


@dataclass(frozen=True)
class RLTraining:
    """batch: prompts per step; group: rollouts per prompt G; lr: Adam's, constant; micro_rows:
    rollouts per micro-batch (memory, not result); shared_prefix: False encodes each prompt again
    for every rollout; evaluations: how many after the start, evenly spaced in steps;
    skip_idle: leave groups without any advantage out of the update (time, not result; only
    without KL)."""

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
    skip_idle: bool = False


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
    memory: State


def train(
    job: Job,
    strategy: Strategy,
    how: RLTraining,
    folder: Path | None = None,
    progress: Progress = lambda *_: None,
    log: Log = lambda *_: None,
) -> tuple[dict[str, Any], ...]:
    """Train `job.model` in place; the rows of a `RunRecord`, one per (evaluation, split, slice).

    folder: where the state after each evaluation is kept, so that a killed run continues; None
    keeps none. log: gets (step, values), train/... after each step and SPLIT/... after each
    evaluation. Raises LMError for a strategy that needs what this path cannot give, and `Diverged`
    when loss or gradient is not finite (what was saved stays).
    """
    if how.batch > len(job.prompts):
        raise LMError(f"--batch: {how.batch} prompts asked for, the data has {len(job.prompts)}")
    try:
        require_inputs(strategy, given(how.search), how.group)
    except ValueError as problem:
        raise LMError(str(problem)) from None
    named = {n: p for n, p in job.model.named_parameters() if p.requires_grad}
    optimizer = Adam(named, how.lr)
    wanted = {"how": asdict(how), "strategy": repr(strategy)}
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
            job, strategy, how, optimizer, state.step, state.memory
        )
        state.step += 1
        state.tally.append(counted)
        state.ledger = CostLedger(**{k: v + spent[k] for k, v in asdict(state.ledger).items()})
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
    if strategy.gate == "none":
        return {}
    fresh = start_state((), len(job.prompts))
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
    )


def train_step(
    job: Job,
    strategy: Strategy,
    how: RLTraining,
    optimizer: Adam,
    step: int,
    memory: State | None = None,
) -> tuple[dict[str, int], dict[str, float], State]:
    """One rollout phase and one optimizer step.

    Returns what it cost (ledger keys), how its groups taught and how long it took, and the state
    that the strategy carries to the next step.
    """
    began = time.perf_counter()
    collected = collect(roller(job, how), strategy, step, memory or {})
    rolled = time.perf_counter()
    update(job, strategy, how, collected, step / max(1, how.steps - 1))
    norm = optimizer.step(how.lr, how.clip_norm)
    if not norm < float("inf"):
        raise Diverged(
            f"RL: the gradient's norm became {norm} at step {step + 1} (lr {how.lr:g}); lower "
            "--lr; the state of the last evaluation is kept"
        )
    spent, counted = account(strategy, collected)
    done = time.perf_counter()
    seconds = {"update_seconds": done - rolled, "step_seconds": done - began}
    return spent, {**counted, **seconds}, collected.state


def update(
    job: Job, strategy: Strategy, how: RLTraining, collected: Collected, progress: float
) -> float:
    """Add the gradient of one batch's loss to the parameters; returns the loss.

    Micro-batches are whole groups, at least one and at most `micro_rows` rows together; each term
    is weighted so that they add up to the loss of the whole batch.
    Raises Diverged for a loss that is not finite.
    """
    total = 0.0
    job.model.train()
    for batch, index in _batches(strategy, how, collected):
        signal, extra = batch.signal, int(strategy.learns_from_target)
        width = int(signal.rows[index].sum(-1).max()) if signal is not None and len(index) else 0
        for part in torch.split(index, max(1, how.micro_rows // max(1, width + extra))):
            if not len(part):
                continue
            loss = _part_loss(job, strategy, how, batch, part, progress)
            if not bool(loss.isfinite()):
                raise Diverged(
                    f"RL: the loss became {loss.item()} (lr {how.lr:g}); lower --lr; the state of "
                    "the last evaluation is kept"
                )
            torch.autograd.backward(loss)
            total += loss.item()
    # A batch that teaches nothing has a gradient of 0: the optimizer's momentum moves on.
    for parameter in job.model.parameters():
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return total


def _batches(
    strategy: Strategy, how: RLTraining, collected: Collected
) -> list[tuple[Collected, Tensor]]:
    """Which prompts go through the actor, and with which signal; together they are the batch."""
    signal, index = (
        collected.signal,
        torch.arange(len(collected.prompts), device=collected.target.device),
    )
    if signal is None:
        return [(collected, index if strategy.learns_from_target else index[:0])]
    plain = strategy.stage("supervised").stage.needs <= {"target"}
    if not how.skip_idle or how.kl_weight or not plain:
        keep = index if strategy.learns_from_target else index[signal.rows.any(-1)]
        return [(collected, keep)]
    live = signal.active.any(-1)
    found = [(collected, index[live])]
    if strategy.learns_from_target:
        found.append((replace(collected, signal=None, codes=None), index[~live]))
    return found


def _part_loss(
    job: Job,
    strategy: Strategy,
    how: RLTraining,
    collected: Collected,
    part: Tensor,
    progress: float,
) -> Tensor:
    """What one micro-batch adds to the loss; rows and target share one prompt forward."""
    score = packed_logp if how.shared_prefix else reencoded_logp
    prompts, target = collected.prompts[part], collected.target[part].unsqueeze(1)
    whole = collected.signal
    signal, rows, codes = None, None, target[:, :0]
    if whole is not None and collected.codes is not None:
        signal = take(whole, part)
        rows = pack(signal, int(signal.rows.sum(-1).max()))
        wide = rows.index.unsqueeze(-1).expand(-1, -1, target.shape[-1])
        codes = collected.codes[part].gather(1, wide)
    if strategy.learns_from_target:
        codes = torch.cat([codes, target], 1)
    logp = score(job.model, job.vocabulary, prompts, codes, job.trie, how.temperature)
    frozen = None
    if how.kl_weight or "reference" in strategy.needs:
        with torch.no_grad():
            frozen = score(job.reference, job.vocabulary, prompts, codes, job.trie, how.temperature)
    evidence = None
    if strategy.learns_from_target:
        evidence = Evidence(logp[:, -1], None if frozen is None else frozen[:, -1], progress)
        logp, frozen = logp[:, :-1], None if frozen is None else frozen[:, :-1]
    share = len(part) / len(collected.prompts)
    if signal is None or rows is None or whole is None:
        assert evidence is not None
        alone: Tensor = strategy.stage("supervised")(evidence)
        return share * alone.mean(-1)
    settings = LossSettings(how.clip_low, how.clip_high, how.kl_weight, how.kl_estimator)
    known: dict[str, Any] = {"length": job.trie.depth, "settings": settings}
    if logp.shape[1]:
        known |= {"logp": logp, "old_logp": logp.detach(), "ref_logp": frozen}
    loss = logp.new_zeros(())
    if strategy.credit != "none":
        policy = replace(strategy, supervised="none")
        mine, everyone = (
            denominator(s, strategy.denominator, job.trie.depth) for s in (signal, whole)
        )
        loss = loss + strategy_loss(policy, signal, rows, **known) * (mine / everyone)
    if strategy.learns_from_target:
        supervised = replace(strategy, credit="none")
        term = strategy_loss(supervised, signal, rows, evidence=evidence, **known)
        loss = loss + share * term
    return loss


def account(strategy: Strategy, collected: Collected) -> tuple[dict[str, int], dict[str, float]]:
    """What one step cost, by the ledger's names, and how much of its groups taught."""
    signal = collected.signal
    supervised = len(collected.prompts) if strategy.learns_from_target else 0
    if signal is None:
        spent = CostLedger(
            updated_rows=supervised,
            optimizer_steps=1,
            labels=supervised,
            skipped_prompts=collected.skipped,
        )
        taught = float(bool(supervised))
        return asdict(spent), {
            "learnable": taught,
            "signal_count": taught,
            "update_width": taught,
            "repaired": 0.0,
        }
    width = signal.rows.sum(-1) + int(signal.supervised)
    repaired = anchored(signal.groups)
    spent = CostLedger(
        rollouts=collected.rollouts,
        scored_rows=collected.rollouts,
        updated_rows=int(width.sum()),
        optimizer_steps=1,
        labels=supervised or int(repaired.sum()),
        skipped_prompts=int((width == 0).sum()) + collected.skipped,
    )
    return asdict(spent), {
        "learnable": float((signal.count > 0).double().mean()),
        "signal_count": float(signal.count.double().mean()),
        "update_width": float(width.double().mean()),
        "repaired": float(repaired.double().mean()),
    }


def _evaluate(job: Job, how: RLTraining, state: _State, log: Log) -> None:
    tuning = job.evaluation["validation"].prompts[:MATCHING_PROMPTS]
    curve = entropy_curve(job.model, job.vocabulary, job.trie, tuning)
    temperature = matched_temperature(curve, state.entropy)
    tally = state.tally
    names = (*COUNTED, "update_seconds", "step_seconds")
    seen = {n: sum(t[n] for t in tally) / len(tally) if tally else None for n in names}
    for split, data in job.evaluation.items():
        if split != "test" and state.step not in (0, how.steps):
            continue
        table, items = per_prompt(job.model, job.vocabulary, job.trie, data, how.group, temperature)
        for label, values in summarise(table, data.slices).items():
            if label == "all":
                log(state.step, {f"{split}/{name}": value for name, value in values.items()})
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
    memory = {name: tensors[f"memory.{name}"] for name in run["memory"]}
    return _State(**{**run, "ledger": CostLedger(**run["ledger"]), "memory": memory})
