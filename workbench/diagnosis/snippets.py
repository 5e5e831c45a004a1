"""How to plug a strategy into a trainer: short programs as text, one per trainer."""

from __future__ import annotations

from recast.strategies import parse_strategy
from recast.strategy import Strategy

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
VERL_USE_EXTERNAL_MODULES=recast.adapters.verl_trainer python -m verl.trainer.main_ppo \\
    trainer.v1.trainer_mode=recast_sync \\
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
    --strategy grpo --strategy sft{more}
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
        return _RUN.format(group=group, all_zero=share, more=more)
    anchor = _ANCHOR if chosen.anchors else ""
    return _PYTORCH.format(strategy=strategy, group=group, inputs=_inputs(chosen), anchor=anchor)


def mind(trainer: str, strategy: str) -> str:
    """What does not work with this trainer, in one line; empty when nothing stands in the way."""
    chosen = parse_strategy(strategy)
    if trainer == "trl" and (chosen.learns_from_target or not chosen.needs_rollouts):
        return "TRL's adapter has no supervised term; use the PyTorch loop, or `recast lm rl`."
    if trainer == "trl" and chosen.repair not in ("none", "anchor", "overwrite_last"):
        return f"TRL's adapter cannot do repair={chosen.repair}; use `recast lm rl`."
    if trainer == "trl" and chosen.gate != "none":
        return f"TRL's adapter cannot do gate={chosen.gate}; use `recast lm rl`."
    if trainer == "verl" and (chosen.learns_from_target or not chosen.needs_rollouts):
        return "verl's adapter has no supervised term; use the PyTorch loop, or `recast lm rl`."
    refused = ("append", "drop_constant", "keep_distinct")
    if trainer == "verl" and chosen.repair.split("(")[0] in refused:
        return f"verl's adapter cannot do repair={chosen.repair}; use `recast lm rl`."
    if trainer == "verl" and chosen.gate != "none":
        return f"verl's adapter cannot do gate={chosen.gate}; use `recast lm rl`."
    if trainer == "pytorch" and chosen.learns_from_target:
        return "Pass the target's log-probabilities as `evidence` to strategy_loss."
    return ""


def _inputs(strategy: Strategy) -> str:
    names = sorted(strategy.needs - {"target", "reference"})
    return "".join(f", {name}={name}" for name in names)
