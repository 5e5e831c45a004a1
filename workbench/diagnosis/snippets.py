"""How to plug a strategy into a trainer: short programs as text, one per trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from recast.adapters.limits import why_not_trl, why_not_verl
from recast.strategies import parse_strategy
from recast.strategy import Strategy
from sim.inputs import why_not

_WhyNot = Callable[[Strategy, int | None], str | None]

_ADAPTERS: Mapping[str, tuple[str, _WhyNot]] = {
    "trl": ("TRL's adapter", why_not_trl),
    "verl": ("verl's adapter", why_not_verl),
    "run": ("recast run", lambda strategy, group: why_not(strategy, _rollouts(strategy), group)),
}

TRAINERS = {"trl": "TRL", "verl": "verl", "pytorch": "Plain PyTorch", "run": "Try it here first"}

_TRL = """\
# In a checkout of this project:
# pip install -c constraints.txt -c constraints-lm.txt -e '.[lm]'
from trl import GRPOConfig
from recast.adapters.trl import RecastGRPOTrainer

trainer = RecastGRPOTrainer(
    model=model,
    strategy={strategy!r},
    args=GRPOConfig("out", num_generations={group}, max_completion_length=depth,
                    log_completions=True),  # `recast diagnose out` reads the log again
    train_dataset=dataset,           # columns: prompt, target_ids (the ground truth's tokens)
    processing_class=tokenizer,
)
trainer.train()
"""

_VERL = """\
# In a checkout of this project: pip install -e '.[verl]'
# Data needs a column target_ids; see docs/adapters.md.
python -m recast.adapters.verl_main \\
    +trainer.v1.recast_sync.strategy={strategy} \\
    +trainer.v1.recast_sync.divisor=strategy \\
    algorithm.adv_estimator=grpo \\
    actor_rollout_ref.rollout.n={group} \\
    trainer.rollout_data_dir=rollouts  # `recast diagnose rollouts` reads the log again
"""

_PYTORCH = """\
import torch
from recast import LossSettings, RolloutGroups, build_signal, pack, strategy_loss
from recast.strategies import parse_strategy

strategy = parse_strategy({strategy!r})
# reward, score [B, G]: raw outcome, and how near each rollout came to the target (for ranking).
groups = RolloutGroups.of(reward, score=score{inputs})
signal = build_signal(strategy, groups)
{anchor}rows = pack(signal, strategy.width({group}))  # rows.index [B, U]: the only ones to score
logp = log_probs(policy, rows.index)     # yours, [B, U, L], with gradient
loss = strategy_loss(
    strategy, signal, rows, length=logp.shape[-1], settings=LossSettings(),
    logp=logp, old_logp=logp.detach(),
)
loss.backward()
"""

_ANCHOR = """\
# Where signal.groups.origin == 1, overwrite that slot with the ground truth before scoring.
"""

_RUN = """\
# The same regimes in a simulated world, against supervised training as a control.
recast run --preset quick --group {group} --all-zero {all_zero:.2f} \\
    --strategy grpo --strategy sft{more}{beams}
"""


def snippet(trainer: str, strategy: str, group: int, all_zero: float) -> str:
    """A short program that uses a strategy in a trainer (a key of `TRAINERS`).

    Raises ValueError, one line, for a strategy that does not exist.
    """
    chosen = parse_strategy(strategy)
    if trainer == "trl":
        return _TRL.format(strategy=strategy, group=group)
    if trainer == "verl":
        return _VERL.format(strategy=strategy, group=group)
    if trainer == "run":
        more = "" if strategy in ("grpo", "sft") else f' --strategy "{strategy}"'
        share = min(max(all_zero, 0.02), 0.98)
        beams = " --set train.rollouts=beam" if _rollouts(chosen) == "beam" else ""
        return _RUN.format(group=group, all_zero=share, more=more, beams=beams)
    anchor = _ANCHOR if chosen.anchors else ""
    return _PYTORCH.format(strategy=strategy, group=group, inputs=_inputs(chosen), anchor=anchor)


def mind(trainer: str, strategy: str, group: int | None = None) -> str:
    """What does not work with this trainer, or what is left to do, in one line; empty when nothing
    stands in the way. group: rollouts per prompt, where it is known.

    Raises ValueError, one line, for a strategy that does not exist.
    """
    chosen = parse_strategy(strategy)
    if trainer == "pytorch":
        return _left_to_do(chosen)
    name, why_not = _ADAPTERS[trainer]
    reason = why_not(chosen, group)
    return f"{name} cannot serve {strategy}: {reason}." if reason else ""


def _left_to_do(strategy: Strategy) -> str:
    """What the three calls of a plain loop do not do for a strategy."""
    todo = []
    if strategy.has_gate:
        todo.append("ask the gate which prompts to roll out")
    if strategy.rounds is not None:
        todo.append("sample further rounds")
    if strategy.oversamples:
        todo.append("sample strategy.sampled(G) rollouts per prompt")
    if strategy.coupling == "state":
        todo.append("hand signal.state to the next build_signal")
    if strategy.learns_from_target:
        todo.append("pass the target's log-probabilities as `evidence` to strategy_loss")
    return f"Yours to do: {'; '.join(todo)}." if todo else ""


def _rollouts(strategy: Strategy) -> Literal["sample", "beam"]:
    """Beams where only beams have what the strategy needs."""
    return "beam" if why_not(strategy) and not why_not(strategy, "beam") else "sample"


def _inputs(strategy: Strategy) -> str:
    names = sorted(strategy.needs - {"target", "reference", "path", "score"})
    return "".join(f", {name}={name}" for name in names)
