"""Where the logged advantages come from: the formula that fits them, or the kind of fault.

Every credit of the catalogue is recomputed from the logged rewards, whole steps at a time, and
compared with what was logged, group by group. Where none fits, the advantages themselves say what
is wrong: whose mean was subtracted, and whether they follow the rewards of their group at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from recast.stage import bind
from recast.stages.credit import CREDITS
from recast.strategies import STRATEGIES
from workbench.diagnosis.counterfactual import Logged, logged, signals, slots
from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings.audit_faults import (
    FEWEST,
    FITS,
    FaultKind,
    all_zero,
    dealt_out,
    fault_of,
    stride_of,
)
from workbench.diagnosis.findings.padded_step import Floats, PaddedStep, spread_of
from workbench.diagnosis.logs.groups import group_table

NEAR = 2e-3
"""Advantages this near, relative to the largest of their group, are the same."""

ABSURD = 10.0
"""Advantages are too large from this many times what normalising a group can give."""

COMMON = (
    *(f"grpo(eps={eps:g}, ddof={ddof})" for eps in (1e-6, 1e-4, 1e-8) for ddof in (1, 0)),
    *(f"pass_at_k(k={k})" for k in (2, 4, 8)),
)
"""Formulas whose options trainers leave to their users."""

FORMULAS = (
    *COMMON,
    *(
        name
        for name, stage in CREDITS.items()
        if not stage.idle and "prompt" not in stage.needs
        if not any(text.startswith(f"{name}(") for text in COMMON)
    ),
)
"""Credits that are tried, the commonest first: the first of equal error is named. One that
remembers each prompt is no formula of a step: `_strategy` tries it, with what it remembers."""

BATCH = "the reward less a baseline of the whole batch"
OWN = "the reward less a baseline of each prompt's own"


@dataclass(frozen=True)
class Audit:
    """What the advantages are. found: whose; groups: of different rewards that were compared;
    formula: the credit or strategy that fits `share` of them, "" for none; kind: "" where nothing
    is logged or too little, "formula", or the fault; odd: share of groups that show the fault;
    largest: the largest advantage over what normalising a group of that size can give, and absurd:
    the share of groups beyond `ABSURD` of it; stride: rows in a row that were taken for a group."""

    found: Diagnosis
    kind: FaultKind = ""
    formula: str = ""
    share: float = 0.0
    groups: int = 0
    odd: float = 0.0
    largest: float = 0.0
    absurd: float = 0.0
    stride: int = 0

    @property
    def words(self) -> str:
        """One line for the reader; empty where no advantage is logged."""
        if self.kind == "formula":
            return (
                f"advantages: {self.formula}, which gives {self.share:.0%} of "
                f"{self.groups:,} groups of different rewards"
            )
        return "advantages: no formula of the catalogue gives them" if self.kind else ""


def audit(found: Diagnosis) -> Audit:
    """Explain the advantages of a log; see `Audit`."""
    if not found.rollouts["advantage"].count() or found.group < 2:
        return Audit(found)
    scored = _scored(found)
    tensors = logged(scored, "reward")
    steps = _steps(tensors)
    uneven = sum(int(step.uneven.sum()) for step in steps)
    if uneven < FEWEST:
        return Audit(found, groups=uneven)
    largest, absurd = _size(steps)
    idle = float(np.concatenate([all_zero(step) for step in steps]).mean())
    if idle >= FITS:
        return Audit(found, "zero", "", 0.0, uneven, idle, largest)
    named = (
        _each(found)
        or _formula(steps)
        or _scaled(steps)
        or _batch_wide(steps)
        or _without_cut_off(scored, steps)
        or _strategy(steps, tensors)
        or _formula(steps, max(float(np.abs(step.advantage).max()) for step in steps))
        or _own_baseline(steps)
    )
    if named is not None:
        return Audit(found, "formula", *named, uneven, 0.0, largest)
    if stride := stride_of(steps, found.group):
        return Audit(found, "stride", "", 0.0, uneven, 1.0, largest, absurd, stride)
    if dealt_out(steps, found.group):
        return Audit(found, "dealt", "", 0.0, uneven, 1.0, largest, absurd)
    kind, odd = fault_of(steps)
    turned = [replace(step, advantage=-step.advantage) for step in steps]
    if kind == "foreign" and odd >= FITS and _formula(turned):
        kind = "reversed"
    return Audit(found, kind, "", 0.0, uneven, odd, largest, absurd)


def _each(found: Diagnosis) -> tuple[str, float] | None:
    """Every reward function normalised alone, which the weights' solution knows."""
    solved = found.log.reading.solved
    if solved is None or solved.scale != "each" or solved.gives < FITS:
        return None
    return "normalize_then_sum (each reward normalised in its group, then added)", solved.gives


def _steps(tensors: Logged) -> list[PaddedStep]:
    """The steps in which every rollout has an advantage."""
    steps = []
    parts = tensors.rows.group_by("step", maintain_order=True)
    for place, (batch, (_, part)) in enumerate(zip(tensors.batches, parts, strict=True)):
        named = slots(part)
        if named["advantage"].null_count():
            continue
        valid = batch.groups.valid.numpy()
        at = named["row"].to_numpy(), named["slot"].to_numpy()
        order, advantage = np.zeros(valid.shape, np.int64), np.zeros(valid.shape)
        order[at], advantage[at] = named["order"].to_numpy(), named["advantage"].to_numpy()
        masked = np.zeros(valid.shape, np.bool_)
        cut = named["truncated"].fill_null(value=False).cast(pl.Boolean).to_numpy()
        masked[at] = cut & (named["advantage"].to_numpy() == 0)
        reward = np.where(valid, batch.groups.reward.numpy(), 0.0)
        steps.append(PaddedStep(place, batch, order, valid, reward, advantage, masked))
    return steps


def _formula(steps: Sequence[PaddedStep], clip: float = np.inf) -> tuple[str, float] | None:
    """The credit that reproduces the advantages of most groups, and of how many; clip: where the
    trainer may have cut them off, which the largest that is logged says."""
    best: tuple[float, float, str] | None = None
    for text in FORMULAS:
        bound = bind("credit", CREDITS, text)
        said = []
        try:
            for step in steps:
                batch = step.batch
                value = bound(batch.binary if bound.stage.binary else batch.groups)
                value = value.mean(-1) if value.ndim > 2 else value
                said.append(np.where(step.valid, value.numpy(), 0.0).clip(-clip, clip))
        except ValueError:
            continue
        share, error = _agreement(steps, said)
        if share >= FITS and (best is None or error < best[0]):
            best = error, share, text if clip == np.inf else f"{text}, clipped at {clip:.3g}"
    return None if best is None else (best[2], best[1])


def _scored(found: Diagnosis) -> Diagnosis:
    """Without groups of which no rollout has an advantage: they were filtered, or it was NaN."""
    some = pl.col("advantage").is_not_null().any().over("key", "part")
    return _only(found, some) if found.rollouts["advantage"].null_count() else found


def _only(found: Diagnosis, keep: pl.Expr) -> Diagnosis:
    rows = found.rollouts.filter(keep)
    groups = group_table(rows, found.rule.threshold, found.tolerance)
    return replace(found, rollouts=rows, groups=groups)


def _without_cut_off(found: Diagnosis, steps: Sequence[PaddedStep]) -> tuple[str, float] | None:
    """The formula where rollouts that were cut off have an advantage of 0 (overlong filtering):
    they stay in the mean of their group, or leave it."""
    if not any(step.masked.any() for step in steps):
        return None
    named = _formula([replace(step, skip=step.masked) for step in steps])
    where = "0 where a rollout was cut off (overlong filtering)"
    if named is None:
        masked = pl.col("truncated").fill_null(value=False).cast(pl.Boolean)
        rest = _steps(logged(_only(found, ~(masked & (pl.col("advantage") == 0))), "reward"))
        where = f"{where}, which leaves the mean as well"
        named = _formula(rest) if sum(int(step.uneven.sum()) for step in rest) >= FEWEST else None
    return None if named is None else (f"{named[0]}, and {where}", named[1])


def _scaled(steps: Sequence[PaddedStep]) -> tuple[str, float] | None:
    """GRPO with another eps, or the centred reward times another factor."""
    scales, spreads = [], []
    for step in steps:
        scale, spread = _own_scale(step)
        scales.append(scale)
        spreads.append(spread)
    scale, spread = np.concatenate(scales), np.concatenate(spreads)
    keep = np.isfinite(scale) & (scale > 0)
    if keep.mean() < FITS:
        return None
    for ddof in (1, 0):
        rest = scale[keep] - spread[keep, ddof]
        eps = float(np.median(rest))
        if eps > -1e-9 and np.mean(np.abs(rest - eps) <= NEAR * scale[keep]) >= FITS:
            return f"grpo(eps={max(eps, 0.0):.3g}, ddof={ddof})", float(keep.mean())
    factor = float(np.median(scale[keep]))
    if np.mean(np.abs(scale[keep] - factor) <= NEAR * factor) >= FITS:
        return f"{1 / factor:.4g} times dr_grpo", float(keep.mean())
    return None


def _batch_wide(steps: Sequence[PaddedStep]) -> tuple[str, float] | None:
    """One line through the rewards of the whole step: a baseline and a scale of the batch."""
    near: list[npt.NDArray[np.bool_]] = []
    for step in steps:
        if step.uneven.sum() < 2:
            continue
        reward, advantage = step.reward[step.valid], step.advantage[step.valid]
        rise, start = np.polyfit(reward, advantage, 1)
        gap = np.where(step.valid, np.abs(step.advantage - start - rise * step.reward), 0.0)
        limit = NEAR * max(float(np.abs(advantage).max()), 1e-2)
        near.append((gap.max(1) <= limit) & (rise > 0))
    if not near or len(fits := np.concatenate(near)) < FEWEST or fits.mean() < FITS:
        return None
    return BATCH, float(fits.mean())


def _own_baseline(steps: Sequence[PaddedStep]) -> tuple[str, float] | None:
    """One scale for all rewards of a step, and in each group something else taken off: the value
    of its prompt, by a model or a running mean."""
    near: list[npt.NDArray[np.bool_]] = []
    for step in steps:
        if step.uneven.sum() < 2:
            continue
        valid = step.valid[step.uneven]
        count = valid.sum(1, keepdims=True)
        r, a = (np.where(valid, each[step.uneven], 0.0) for each in (step.reward, step.advantage))
        r, mine = (np.where(valid, one - one.sum(1, keepdims=True) / count, 0.0) for one in (r, a))
        rise = float((r * mine).sum() / (r**2).sum())
        gap = np.abs(mine - rise * r).max(1)
        near.append((gap <= NEAR * np.maximum(np.abs(a).max(1), 1e-2)) & (rise > 0))
    if not near or len(fits := np.concatenate(near)) < FEWEST or fits.mean() < FITS:
        return None
    return OWN, float(fits.mean())


def _own_scale(step: PaddedStep) -> tuple[Floats, Floats]:
    """What the centred rewards of each group of different rewards were divided by `[U]`, NaN where
    advantages are no multiple of them; and the group's deviations with ddof 0 and 1, `[U, 2]`."""
    valid = step.valid[step.uneven]
    count = valid.sum(1, keepdims=True)
    r, a = step.reward[step.uneven], np.where(valid, step.advantage[step.uneven], 0.0)
    centred = np.where(valid, r - (r * valid).sum(1, keepdims=True) / count, 0.0)
    square = (centred**2).sum(1, keepdims=True)
    slope = (a * centred).sum(1, keepdims=True) / square
    linear = np.abs(a - slope * centred).max(1) <= NEAR * np.abs(a).max(1) + 1e-9
    with np.errstate(divide="ignore"):
        scale = np.where(linear & (slope[:, 0] > 0), 1 / slope[:, 0], np.nan)
    spread = np.sqrt(np.concatenate([square / count, square / np.maximum(count - 1, 1)], 1))
    return np.asarray(scale, np.float64), np.asarray(spread, np.float64)


def _strategy(steps: Sequence[PaddedStep], tensors: Logged) -> tuple[str, float] | None:
    """The whole strategy, repair and selection included, that reproduces the advantages."""
    for name, strategy in STRATEGIES.items():
        try:
            made = [signal for _, signal in signals(strategy, tensors)]
        except ValueError:
            continue
        said = []
        for step in steps:
            signal = made[step.place]
            value = signal.advantage
            value = value.mean(-1) if value.ndim > 2 else value
            sent = torch.where(signal.rows, value, 0.0).numpy()
            width = step.valid.shape[1]
            if sent.shape[1] < width:
                break
            said.append(sent[:, :width] * step.valid)
        if len(said) == len(steps) and (share := _agreement(steps, said)[0]) >= FITS:
            return name, share
    return None


def _agreement(steps: Sequence[PaddedStep], said: Sequence[Floats]) -> tuple[float, float]:
    """Share of the groups whose advantages are reproduced, and the mean error of all: groups of
    different rewards and, as one more vote, the others."""
    fits: list[npt.NDArray[np.bool_]] = []
    dead: list[npt.NDArray[np.bool_]] = []
    errors = []
    for step, value in zip(steps, said, strict=True):
        gap = np.abs(step.advantage - value)
        gap = (gap if step.skip is None else np.where(step.skip, 0.0, gap)).max(1)
        scale = np.maximum(np.abs(value).max(1), 1e-2)
        near = gap <= NEAR * scale + 1e-6 + step.rounded
        fits.append(near[step.uneven])
        dead.append(near[~step.uneven])
        errors.append((gap / scale)[step.uneven])
    share = float(np.concatenate(fits).mean())
    rest = np.concatenate(dead)
    if len(rest) >= FEWEST:
        share = min(share, float(rest.mean()))
    return share, float(np.concatenate(errors).mean())


def _size(steps: Sequence[PaddedStep]) -> tuple[float, float]:
    """The largest advantage over what normalising can give ((n - 1) / sqrt n, or the spread of the
    rewards where that is larger), and the share of groups beyond `ABSURD` of it."""
    ratios = []
    for step in steps:
        count = step.valid.sum(1)
        bound = np.maximum(np.sqrt(count), spread_of(step.reward, step.valid))
        bound = np.maximum(bound, np.abs(step.reward).max(1))
        ratios.append((np.abs(step.advantage) * step.valid).max(1) / bound)
    ratio = np.concatenate(ratios)
    return float(ratio.max()), float((ratio > ABSURD).mean())
