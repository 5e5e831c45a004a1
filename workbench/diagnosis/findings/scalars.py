"""A run of which only scalars were kept: its curves, what another G would give, what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench.diagnosis.diagnosis import prediction
from workbench.diagnosis.findings.checks import Examined, examine_curves
from workbench.diagnosis.findings.curves import SHORT, Curve, Curves, curve, joined
from workbench.diagnosis.findings.scalar_checks import SCALAR_CHECKS, SILENT, is_sum
from workbench.diagnosis.logs.scalar_names import function_of, meaning
from workbench.diagnosis.logs.scalars import Scalars
from workbench.stats.beta_binomial import BetaFit, fit_shares

MEANS: Mapping[str, tuple[str, ...]] = {
    "reward": ("reward_mean",),
    "outcome": ("outcome_mean",),
    "zero_spread": ("zero_spread",),
    "all_bad": ("all_bad_share",),
    "all_good": ("all_good_share",),
    "mixed": ("mixed_share",),
    "truncated": ("truncated_share",),
    "length": ("length_mean",),
    "entropy": ("entropy",),
    "kl": ("kl",),
    "clipped": ("ratio_clipped",),
    "mismatch": ("logprob_gap",),
    "prob_gap": ("prob_gap",),
    "prob_factor": ("prob_factor",),
    "mismatch_kl": ("mismatch_kl",),
    "prob_correlation": ("prob_correlation",),
    "eval": ("eval_outcome_mean", "eval_reward_mean"),
    "loss": ("loss",),
    "grad_norm": ("grad_norm",),
    "learning_rate": ("learning_rate",),
    "reward_std": ("reward_std",),
}
"""Curves by the meanings of scalars that give them, the better first."""

BREAK = ("loss", "grad_norm", "kl")
"""Scalars that end a run when they are no finite number."""

HELPERS = frozenset(("functions", "broken", "kl_broken", "rounded", "learning_rate", "reward_std"))
"""Curves that checks read and that say nothing of the run by themselves."""

Points = tuple[list[float], list[float]]


@dataclass(frozen=True)
class ScalarRun:
    """Scalars taken apart. curves; group: the G that was used, None where nobody said; fit: the
    Beta-binomial of the last third of the steps, None where it cannot be had, and why."""

    scalars: Scalars
    curves: Curves
    group: int | None
    fit: BetaFit | None
    why: str

    @property
    def examined(self) -> Examined:
        """What the checks say of it."""
        return examine_scalars(self.curves)


def examine_scalars(curves: Curves) -> Examined:
    """Every check that a tracker's scalars can be put to."""
    return examine_curves(curves, SCALAR_CHECKS)


def take_apart(scalars: Scalars, group: int | None = None, prompts: int | None = None) -> ScalarRun:
    """Curves and fit of a run's scalars; group, prompts: rollouts per prompt and prompts per step,
    which no tracker keeps."""
    curves = _curves(scalars)
    counts = _counted(scalars)
    if prompts is not None and "zero_spread" not in curves:
        curves |= {name: Curve(one.step, one.value / prompts) for name, one in counts.items()}
    fit, why = _fit(curves, group)
    if counts and "zero_spread" not in curves:
        why = "another G, and which groups teach nothing, need the number of prompts per step: "
        why += "say --prompts (rollout_batch_size)"
    return ScalarRun(scalars, curves, group, fit, why)


def _counted(scalars: Scalars) -> dict[str, Curve]:
    """How many groups had equal rewards, and which, of logs that count them (slime); a count of 0
    is not logged."""
    mine = scalars.frame.filter(pl.col("meaning").is_in(["all_bad_count", "all_good_count",
                                                         "equal_count"]))  # fmt: skip
    if mine.is_empty():
        return {}
    logged = scalars.frame.filter(pl.col("meaning").is_in(["length_mean", "reward_mean"]))
    steps = pl.concat([mine["step"], logged["step"]]).unique().sort()

    def summed(rows: pl.DataFrame) -> Curve:
        sums = dict(rows.group_by("step").agg(pl.col("value").sum()).iter_rows())
        return curve(steps.to_numpy(), [float(sums.get(step, 0.0)) for step in steps])

    return {
        "zero_spread": summed(mine),
        "all_bad": summed(mine.filter(pl.col("meaning") == "all_bad_count")),
        "all_good": summed(mine.filter(pl.col("meaning") == "all_good_count")),
    }


def _curves(scalars: Scalars) -> dict[str, Curve]:
    points: dict[str, Points] = {}
    for one in {one for meanings in MEANS.values() for one in meanings}:
        rows = scalars.of(one)
        if not rows.is_empty():
            points[one] = rows["step"].to_list(), rows["value"].to_list()
    for step, name in scalars.broken.iter_rows():
        said = meaning(name)
        if said is not None and said[0] in BREAK:
            steps, values = points.setdefault(said[0], ([], []))
            steps.append(step)
            values.append(np.nan)
    functions: dict[str, Points] = {}
    for one in scalars.frame["name"].unique().sort():
        if name := function_of(one):
            rows = scalars.frame.filter(pl.col("name") == one)
            functions[name] = rows["step"].to_list(), rows["value"].to_list()
    return curves_of_points(points, functions)


def curves_of_points(
    points: Mapping[str, Points], functions: Mapping[str, Points] | None = None
) -> dict[str, Curve]:
    """Curves of scalars by meaning, steps and values in any order, values that are no finite number
    among them; functions: the means of reward functions that were logged one by one."""
    found: dict[str, Curve] = {}
    for name, meanings in MEANS.items():
        known = (curve(*points[one]) for one in meanings if one in points)
        if (first := next((one for one in known if len(one)), None)) is not None:
            found[name] = first
    broken: dict[float, bool] = {}
    for one in BREAK:
        steps, values = points.get(one, ([], []))
        finite = np.isfinite(np.asarray(values, np.float64))
        if one == "kl" and steps and not finite.any():
            found["kl_broken"] = curve(steps, np.ones(len(steps)))
            continue
        good = {step for step, is_finite in zip(steps, finite, strict=True) if is_finite}
        for step in steps:
            broken[step] = broken.get(step, False) or step not in good
    if broken:
        found["broken"] = curve(list(broken), list(map(float, broken.values())))
    if _rounded(points):
        found["rounded"] = curve([0.0], [1.0])
    if functions is not None and len(functions) > 1:
        if "reward" in found:
            many = np.full(len(found["reward"]), len(functions))
            found["functions"] = Curve(found["reward"].step, many)
        found |= _silent(functions) if "rounded" not in found else {}
    return joined_shares(found)


def _silent(functions: Mapping[str, Points]) -> dict[str, Curve]:
    """The reward functions that never pay."""
    each = {f"{SILENT}{name}": curve(*functions[name]) for name in sorted(functions)}
    return {
        name: one
        for name, one in each.items()
        if len(one) >= SHORT and float(np.ptp(one.value)) == 0 and one.value[0] <= 0
    }


def _rounded(points: Mapping[str, Points]) -> bool:
    """Whether scalars were printed with three digits after the point, or fewer."""
    values = np.concatenate([np.asarray(each, np.float64) for _, each in points.values()])
    values = values[np.isfinite(values) & (values != 0)]
    return bool(len(values)) and bool(np.all(np.abs(values - values.round(3)) < 1e-9))


def joined_shares(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The curves with the share of groups of equal rewards, where others imply it."""
    found = dict(curves)
    if "zero_spread" in found:
        return found
    spread = found.get("reward_std")
    if spread is not None and not spread.value.any():
        found["zero_spread"] = Curve(spread.step, np.ones(len(spread)))
    elif "mixed" in found:
        found["zero_spread"] = Curve(found["mixed"].step, 1 - found["mixed"].value)
    elif {"all_bad", "all_good"} <= set(found):
        bad, good = joined(found["all_bad"], found["all_good"])
        found["zero_spread"] = Curve(bad.step, bad.value + good.value)
    return found


def _fit(curves: Curves, group: int | None) -> tuple[BetaFit | None, str]:
    reward, zero = curves.get("outcome") or curves.get("reward"), curves.get("zero_spread")
    if reward is not None and zero is not None and is_sum(curves):
        return None, (
            "another G cannot be predicted: the share of groups of equal rewards is that of a sum "
            "of several rewards"
        )
    if reward is None or zero is None:
        return None, (
            "another G needs the mean reward and the share of groups of equal rewards "
            "(frac_reward_zero_std)"
        )
    if group is None:
        return None, "another G needs the G that was used: say --group"
    means, shares = joined(reward, zero)
    third = max(3, round(len(means) / 3))
    try:
        return fit_shares(means.value[-third:], shares.value[-third:], group), ""
    except ValueError as problem:
        return None, f"another G cannot be predicted: {problem}"


def prediction_table(run: ScalarRun, widths: tuple[int, ...]) -> pl.DataFrame:
    """What another G would give; columns as `diagnose.predictions`, no rows without a fit."""
    if run.fit is None or not run.fit.predicts:
        return pl.DataFrame()
    return pl.DataFrame(
        [{"task": "all", "group": width, **prediction(run.fit, width)} for width in widths]
    )
