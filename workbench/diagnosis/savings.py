"""What is worth paying for: the smallest G, and what skipping, dropping and repairing would save.

Costs are per learnable group: a group with hits and misses both, or one that repair made so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from recast.groups import RolloutGroups
from recast.stage import bind
from recast.stages.gate import GATES, Visit
from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.logs.groups import TEACHES
from workbench.stats.beta_binomial import BetaFit, binomial_share

WIDEST = 1024
WIDTHS = tuple(range(2, WIDEST + 1))


@dataclass(frozen=True)
class SmallestGroup:
    """The smallest G whose learnable share reaches `share`, with its 95% interval; None: beyond
    `WIDEST`, or never. best, at: the largest learnable share of any G, and that G."""

    share: float
    value: int | None
    low: int | None
    high: int | None
    best: float
    at: int

    @property
    def words(self) -> str:
        """One line."""
        if self.value is None:
            return (
                f"No G up to {WIDEST} is expected to make {self.share:.0%} of the groups "
                f"learnable; the most is {self.best:.1%} at G = {self.at}."
            )
        high = f"{self.high}" if self.high is not None else f"beyond {WIDEST}"
        return (
            f"G = {self.value} (95%: {self.low} to {high}) is the smallest that makes "
            f"{self.share:.0%} of the groups learnable."
        )


def smallest_group(fit: BetaFit, share: float) -> SmallestGroup:
    """Search G = 2 .. `WIDEST`. Raises ValueError where the fit predicts no other G."""
    curves = fit.learnable_curves(WIDTHS)
    value, low, high = (
        _first(curve >= share) for curve in (curves[0], curves.max(0), curves.min(0))
    )
    place = int(np.argmax(curves[0]))
    return SmallestGroup(share, value, low, high, float(curves[0, place]), WIDTHS[place])


def _first(reached: np.ndarray[Any, np.dtype[np.bool_]]) -> int | None:
    return WIDTHS[int(np.argmax(reached))] if reached.any() else None


@dataclass(frozen=True)
class Skipping:
    """A GRESO-like gate replayed over the log: visits, of which skipped; learnable groups, of which
    lost; repeated: visits of prompts that were seen before."""

    visits: int
    skipped: int
    learnable: int
    lost: int
    repeated: int


def skipping(found: Diagnosis, seed: int = 0, gate: str = "greso") -> Skipping:
    """Replay a gate (a row of `GATES`) over the log's visits, in the order of its steps; a skipped
    visit tells the gate nothing. Rewards are hits."""
    groups = found.groups.with_columns(
        place=pl.col("prompt").rank("dense").cast(pl.Int64) - 1,
        teaches=TEACHES,
    ).sort("step", maintain_order=True)
    prompts, learnable = groups["prompt"].n_unique(), int(groups["teaches"].sum())
    repeated = groups.height - prompts
    if not repeated:  # no gate skips a prompt that it has not seen
        return Skipping(groups.height, 0, learnable, 0, 0)
    draws = torch.from_numpy(np.random.default_rng(seed).random(groups.height))
    stage = bind("gate", GATES, gate)
    state, begun = stage.start((), prompts), 0
    skipped = lost = 0
    for _, step in groups.group_by("step", maintain_order=True):
        place = torch.from_numpy(step["place"].to_numpy().copy())
        draw = draws[begun : begun + step.height]
        visit = Visit(place, draw, begun + step.height <= prompts)
        begun += step.height
        keep = stage(visit, state=state)
        teaches = torch.from_numpy(step["teaches"].to_numpy().copy())
        skipped += int((~keep).sum())
        lost += int((~keep & teaches).sum())
        size = torch.from_numpy(step["size"].to_numpy().copy())
        hits = torch.from_numpy(step["hits"].to_numpy().copy())
        slot = torch.arange(int(size.max()))
        hit = (slot < hits.unsqueeze(-1)).to(torch.float64)
        valid = slot < size.unsqueeze(-1)
        seen = RolloutGroups.of(hit, valid=valid)
        state = {**state, **stage.carry(visit, seen, keep, state=state)}
    return Skipping(groups.height, skipped, learnable, lost, repeated)


def savings(found: Diagnosis) -> pl.DataFrame:
    """What one learnable group costs under each way to run, from the last third of the steps.

    Columns: how; cost (rollouts), updated (rows) and labelled (ground truths) per learnable group,
    with *_low and *_high (95%), null where none is learnable; rollouts_per_step (relative to now,
    for as many groups); note. Empty where nobody knows what a hit is.
    """
    if not found.known:
        return pl.DataFrame()
    late = found.late()
    teaches = late.filter(TEACHES).height
    share, group = binomial_share(teaches, late.height), found.group
    all_zero = found.late_share(pl.col("regime") == "all_zero")
    each = [group / s if s > 0 else None for s in (share.value, share.high, share.low)]
    cost = dict(zip(("cost", "cost_low", "cost_high"), each, strict=True))
    rows: list[dict[str, Any]] = [
        {"how": "as now, every rollout updated", **cost, **_rows(each), "labelled": 0.0,
         "rollouts_per_step": 1.0, "note": ""},
        {"how": "drop rollouts without advantage", **cost, **_rows([float(group)] * 3),
         "labelled": 0.0, "rollouts_per_step": 1.0, "note": "same gradient where KL is off"},
        {"how": "dynamic sampling", **cost, **_rows([float(group)] * 3), "labelled": 0.0,
         "rollouts_per_step": 1 / share.value if share.value else None,
         "note": "every batch is full of learnable groups; each step rolls out more"},
    ]  # fmt: skip
    gate = skipping(found)
    kept = 1 - gate.skipped / gate.visits
    worth = 1 - gate.lost / gate.learnable if gate.learnable else 0.0
    factor = kept / worth if worth else None
    skipped = [one * factor if one is not None and factor is not None else None for one in each]
    rows.append(
        {
            "how": "GRESO-like skipping",
            **dict(zip(cost, skipped, strict=True)),
            **_rows([float(group)] * 3),
            "labelled": 0.0,
            "rollouts_per_step": kept,
            "note": f"replayed: {gate.skipped:,} of {gate.visits:,} visits skipped, "
            f"{gate.lost:,} of {gate.learnable:,} learnable groups lost"
            + ("" if gate.repeated else "; no prompt comes twice, so nothing can be skipped"),
        }
    )
    repaired = share.value + all_zero
    rows.append(
        {
            "how": "repair all-zero groups (recast)",
            "cost": group / repaired if repaired else None,
            **_rows([2.0] * 3),
            "labelled": all_zero / repaired if repaired else None,
            "rollouts_per_step": 1.0,
            "note": "needs the ground truth; a repaired group teaches the target itself",
        }
    )
    return pl.DataFrame(rows, infer_schema_length=None)


def _rows(values: list[float | None] | list[float]) -> dict[str, float | None]:
    return dict(zip(("updated", "updated_low", "updated_high"), values, strict=True))


def again(found: Diagnosis) -> pl.DataFrame:
    """How often a constant group is constant at its prompt's next visit: counted, and as the fit
    predicts. Columns: how, share, share_low, share_high, visits; no rows where neither can be said.
    """
    if not found.known:
        return pl.DataFrame()
    visits = found.groups.sort("step", maintain_order=True).with_columns(
        now=~TEACHES, before=(~TEACHES).shift(1).over("prompt")
    )
    known = visits.filter(pl.col("before"))
    rows: list[tuple[str, float, float, float, int | None]] = []
    if known.height:
        said = binomial_share(known.filter("now").height, known.height)
        rows.append(("counted in the log", said.value, said.low, said.high, known.height))
    fit = found.late_fit
    if fit.predicts and not found.beam:
        said = fit.again_constant(found.group)
        rows.append(("predicted by the fit", said.value, said.low, said.high, None))
    return pl.DataFrame(
        rows, schema=["how", "share", "share_low", "share_high", "visits"], orient="row"
    )


def best_group(found: Diagnosis, share: float) -> str:
    """What G is worth paying for, in one line: the smallest that reaches a learnable share."""
    if not found.known:
        return "No other G is predicted: nobody knows which rollouts are hits."
    if found.beam:
        return "Groups are beam sets: their hits are not independent, so no other G is predicted."
    fit = found.late_fit
    if not fit.predicts:
        return f"No other G can be predicted: {fit.note}."
    mind = f" Mind: {fit.note}." if fit.note else ""
    return f"{smallest_group(fit, share).words}{mind}"
