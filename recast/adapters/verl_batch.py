"""What a strategy makes of a batch that verl sampled: repair, rows to keep, advantages.

Pure functions over token ids and rewards, without verl; `recast.adapters.verl_trainer` calls them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recast.adapters.limits import why_not_verl as why_not
from recast.adapters.target_sets import TokenIds, drawn, nearest, one_length, right_answers
from recast.groups import Origin, RolloutGroups
from recast.loss import denominator
from recast.signal import Signal, build_signal
from recast.stage import State
from recast.stages.supervised import Evidence
from recast.strategy import Strategy
from recast.structure import level_scores

MODE = "recast_sync"
"""Name of the trainer, and of its options under `trainer.v1`."""


def places(index: Iterable[Hashable]) -> tuple[Tensor, Tensor]:
    """Group of each rollout and its place inside it, from labels that are equal inside a group;
    int64 `[N]` each. Groups are numbered in the order in which they appear."""
    seen: dict[Hashable, int] = {}
    sizes: list[int] = []
    group, place = [], []
    for label in index:
        number = seen.setdefault(label, len(seen))
        if number == len(sizes):
            sizes.append(0)
        group.append(number)
        place.append(sizes[number])
        sizes[number] += 1
    return torch.tensor(group, dtype=torch.int64), torch.tensor(place, dtype=torch.int64)


@dataclass(frozen=True)
class Shaped:
    """What a strategy makes of a sampled batch of N rollouts, in the order of its keys.

    signal: its groups; keep: bool `[N]`, reaches the actor; advantage `[N]` or `[N, L]`; repaired:
    bool `[N]`, to be overwritten by the ground truth; target: of each rollout, the right answer
    that repair and supervised terms take, one per group; divisor: what the strategy itself divides
    the summed loss by.
    """

    signal: Signal
    keep: Tensor
    advantage: Tensor
    repaired: Tensor
    target: list[TokenIds]
    divisor: float


def shape_batch(
    strategy: Strategy,
    uid: Sequence[str],
    responses: Sequence[Tensor],
    targets: Sequence[Any],
    outcome: Tensor,
    tie_key: Tensor,
    aim: Tensor | None = None,
    state: State | None = None,
) -> Shaped:
    """The signal of N rollouts; outcome, tie_key `[N]`, responses and targets token ids of each.

    targets: of each row one right answer or several (`recast.adapters.target_sets`); aim `[N]`:
    uniform draws in [0, 1), of which a group's first chooses among several.
    Raises ValueError, one line, for targets of several lengths.
    """
    right = [right_answers(target) for target in targets]
    depth = one_length(right)
    group, place = places(uid)
    where, shape = (group, place), (int(group.max()) + 1, int(place.max()) + 1)

    def grid(flat: Tensor) -> Tensor:
        return flat.new_zeros(shape).index_put(where, flat)

    matched = torch.tensor(
        [nearest(r.tolist(), answers) for r, answers in zip(responses, right, strict=True)]
    )
    length = torch.tensor([max(len(response), 1) for response in responses])
    groups = RolloutGroups.of(
        grid(outcome),
        score=grid(level_scores(depth)[matched]),
        valid=grid(torch.ones(len(matched), dtype=torch.bool)),
        tie_key=grid(tie_key),
        length=grid(length),
        matched=grid(matched),
        depth=depth,
    )
    signal = build_signal(strategy, groups, state)
    advantage = signal.advantage
    alive = signal.rows if advantage.ndim == signal.rows.ndim else signal.rows.unsqueeze(-1)
    return Shaped(
        signal=signal,
        keep=signal.rows[where],
        advantage=(advantage * alive)[where],
        repaired=(signal.groups.origin == int(Origin.ANCHOR))[where],
        target=_aimed(right, group.tolist(), aim),
        divisor=float(denominator(signal, strategy.denominator, depth)),
    )


def _aimed(right: list[list[TokenIds]], group: list[int], aim: Tensor | None) -> list[TokenIds]:
    """One right answer per rollout, the same within a group."""
    draws = [0.0] * len(right) if aim is None else aim.tolist()
    chosen: dict[int, TokenIds] = {}
    for which, answers, draw in zip(group, right, draws, strict=True):
        chosen.setdefault(which, drawn(answers, draw))
    return [chosen[which] for which in group]


def slopes(
    strategy: Strategy, logp: Tensor, hits: Tensor, valid: Tensor, progress: float
) -> Tensor:
    """Derivative of a strategy's supervised term by the log-probability of each code, `[n, L]`.

    logp `[n, L]`: of each target's codes under the policy; hits, valid `[n]`: of their groups.
    """
    leaf = logp.detach().clone().requires_grad_()
    with torch.enable_grad():
        evidence = Evidence(leaf, progress=progress, hits=hits, valid=valid)
        (found,) = torch.autograd.grad(strategy.stage("supervised")(evidence).sum(), leaf)
    return found


def refuse(strategy: Strategy, config: Any) -> None:
    """Raise ValueError, one line, for what this trainer cannot do with verl's configuration."""
    reason = why_not(strategy, config.actor_rollout_ref.rollout.n)
    if reason:
        raise ValueError(f"{MODE}: {reason}")
    actor, algorithm = config.actor_rollout_ref.actor, config.algorithm
    correction = algorithm.get("rollout_correction", None)
    filtering = algorithm.get("filter_groups", None)
    rollout = config.actor_rollout_ref.rollout
    targets = strategy.anchors or strategy.learns_from_target
    refused = {
        "algorithm.filter_groups evicts the groups that repair is for; disable it": (
            filtering is not None and bool(filtering.get("enable", False))
        ),
        "the ground truth has no rollout probability; set rollout_correction.bypass_mode=False": (
            targets and bool(correction) and bool(correction.get("bypass_mode", False))
        ),
        "the ground truth has no rollout probability; set rollout.calculate_log_probs=False": (
            targets and bool(rollout.calculate_log_probs)
        ),
        "a KL loss would pull on the rows of the targets; set actor.use_kl_loss=False": (
            strategy.learns_from_target and bool(actor.get("use_kl_loss", False))
        ),
        "the number of rows varies; set actor.use_dynamic_bsz=True": not actor.use_dynamic_bsz,
        "the outcome must stay the outcome; set algorithm.use_kl_in_reward=False": (
            bool(algorithm.use_kl_in_reward)
        ),
    }
    for problem, holds in refused.items():
        if holds:
            raise ValueError(f"{MODE}: {problem}")
