"""The gate: is this prompt worth rolling out?

Asked before any rollout is paid for: a function of a `Visit`, and of its own state when its row
declares how that starts and is carried on; a row of `GATES`. Leading axes are runs, P prompts of
the training set, B of the batch: a decision has the shape `[..., B]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recast.groups import RolloutGroups
from recast.stage import Stage, State


@dataclass(frozen=True)
class Visit:
    """prompt `[..., B]` int64: place in the training set; draw `[..., B]`: uniform in [0, 1);
    first_epoch: whether prompts are being seen for the first time."""

    prompt: Tensor
    draw: Tensor
    first_epoch: bool


def none(visit: Visit) -> Tensor:
    """Every prompt is rolled out; bool `[..., B]`."""
    return torch.ones_like(visit.draw, dtype=torch.bool)


def greso(visit: Visit, state: State, floor: float = 0.01) -> Tensor:
    """Skip with probability 1 - max(p^n, floor); bool `[..., B]`, True = roll out.

    n is the number of visits in a row at which the prompt's group was constant, counted apart for
    easy (mean >= .98) and hard (mean <= .11) groups, each with its own p. Source: GRESO,
    arXiv 2506.02177.
    """
    easy, hard = (state[name].gather(-1, visit.prompt) for name in ("easy_run", "hard_run"))
    base = torch.where(easy > 0, state["p_easy"].unsqueeze(-1), state["p_hard"].unsqueeze(-1)).to(
        visit.draw.dtype
    )
    return visit.draw < (base ** torch.maximum(easy, hard)).clamp(min=floor)


def greso_mean(visit: Visit, state: State, floor: float = 0.01) -> Tensor:
    """`greso` as its authors' code counts visits: by the mean alone (`greso_mean_carry`), so
    that a sparse group with a few hits is hard as well. Source: GRESO `presampling_selector.py`.
    """
    return greso(visit, state, floor)


def greso_start(leading: tuple[int, ...], prompts: int) -> State:
    """GRESO's state before the first visit: runs `[..., P]` int64, probabilities `[...]`."""
    zero = torch.zeros(*leading, prompts, dtype=torch.int64)
    half = torch.full(leading, 0.5, dtype=torch.float64)
    return {"easy_run": zero, "hard_run": zero, "p_easy": half, "p_hard": half}


def greso_carry(
    visit: Visit,
    groups: RolloutGroups,
    rolled_out: Tensor,
    state: State,
    *,
    easy_target: float = 0.083,
    hard_target: float = 0.167,
    step: float = 0.01,
    by_mean: bool = False,
) -> State:
    """GRESO's state after a visit; rolled_out `[..., B]` marks the prompts that passed the gate.

    p moves by `step` in [.05, .95], after the first epoch: down when the share of constant groups
    of its kind is above its target, up otherwise. by_mean: easy and hard go by the mean alone,
    whether or not the group is constant.
    """
    count = groups.valid.sum(-1)
    mean = groups.reward.sum(-1) / count.clamp(min=1)
    high = groups.reward.masked_fill(~groups.valid, -torch.inf).amax(-1)
    low = groups.reward.masked_fill(~groups.valid, torch.inf).amin(-1)
    constant = rolled_out if by_mean else (high == low) & rolled_out
    found = {"easy": constant & (mean >= 0.98), "hard": constant & (mean <= 0.11)}
    new = dict(state)
    total = rolled_out.sum(-1).clamp(min=1)
    for kind, target in (("easy", easy_target), ("hard", hard_target)):
        run = state[f"{kind}_run"]
        before = run.gather(-1, visit.prompt)
        extended = torch.where(found[kind], before + 1, 0)
        new[f"{kind}_run"] = run.scatter(
            -1, visit.prompt, torch.where(rolled_out, extended, before)
        )
        if not visit.first_epoch:
            share = found[kind].sum(-1) / total
            move = torch.where(share > target, -step, step)
            new[f"p_{kind}"] = (state[f"p_{kind}"] + move).clamp(0.05, 0.95)
    return new


def greso_mean_carry(
    visit: Visit, groups: RolloutGroups, rolled_out: Tensor, state: State
) -> State:
    """`greso_carry` by the mean alone."""
    return greso_carry(visit, groups, rolled_out, state, by_mean=True)


GATES: Mapping[str, Stage] = {
    "none": Stage(none, idle=True),
    "greso": Stage(greso, bounds={"floor": (0, 1)}, start=greso_start, carry=greso_carry),
    "greso_mean": Stage(
        greso_mean, bounds={"floor": (0, 1)}, start=greso_start, carry=greso_mean_carry
    ),
}
