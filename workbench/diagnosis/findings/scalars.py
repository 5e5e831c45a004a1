"""A run of which only scalars were kept: its curves, what another G would give, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from workbench.diagnosis.diagnosis import prediction
from workbench.diagnosis.findings.checks import Examined, examine_curves
from workbench.diagnosis.findings.curves import Curve, Curves, curve
from workbench.diagnosis.findings.finding import MOSTLY, Check, Finding
from workbench.diagnosis.logs.scalar_names import function_of
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
    "eval": ("eval_outcome_mean", "eval_reward_mean"),
    "loss": ("loss",),
    "grad_norm": ("grad_norm",),
}
"""Curves by the meanings of scalars that give them, the better first."""


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


def take_apart(scalars: Scalars, group: int | None = None) -> ScalarRun:
    """Curves and fit of a run's scalars; group: rollouts per prompt, which no tracker keeps."""
    curves = _curves(scalars)
    fit, why = _fit(curves, group)
    return ScalarRun(scalars, curves, group, fit, why)


def _curves(scalars: Scalars) -> dict[str, Curve]:
    found: dict[str, Curve] = {}
    for name, meanings in MEANS.items():
        for one in meanings:
            rows = scalars.of(one)
            if not rows.is_empty():
                found[name] = curve(rows["step"].to_numpy(), rows["value"].to_numpy())
                break
    if (broken := _broken(scalars)) is not None:
        found["broken"] = broken
    names = {name: one for one in scalars.frame["name"].unique() if (name := function_of(one))}
    if len(names) > 1 and "reward" in found:
        found["functions"] = Curve(found["reward"].step, np.full(len(found["reward"]), len(names)))
    return joined_shares(found)


def _broken(scalars: Scalars) -> Curve | None:
    """1 at steps whose loss, gradient or KL is no finite number, 0 at those where it is one; None
    where it always is."""
    rows = scalars.frame.filter(pl.col("meaning").is_in(["loss", "grad_norm", "kl"]))
    bad = scalars.broken.filter(pl.col("name").is_in(rows["name"].unique().to_list()))
    if bad.is_empty():
        return None
    steps = pl.concat([rows["step"], bad["step"]]).unique().sort()
    return curve(steps.to_numpy(), steps.is_in(bad["step"].to_list()).cast(pl.Float64).to_numpy())


def joined_shares(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The curves with the share of groups of equal rewards, where others imply it."""
    found = dict(curves)
    if "zero_spread" in found:
        return found
    if "mixed" in found:
        found["zero_spread"] = Curve(found["mixed"].step, 1 - found["mixed"].value)
    elif {"all_bad", "all_good"} <= set(found):
        bad, good = _joined(found["all_bad"], found["all_good"])
        found["zero_spread"] = Curve(bad.step, bad.value + good.value)
    return found


def _joined(one: Curve, other: Curve) -> tuple[Curve, Curve]:
    """Two curves at the steps that both have."""
    both, mine, theirs = np.intersect1d(one.step, other.step, return_indices=True)
    return Curve(both, one.value[mine]), Curve(both, other.value[theirs])


def _fit(curves: Curves, group: int | None) -> tuple[BetaFit | None, str]:
    reward, zero = curves.get("outcome") or curves.get("reward"), curves.get("zero_spread")
    if reward is not None and zero is not None and _is_sum(curves):
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
    means, shares = _joined(reward, zero)
    third = max(3, round(len(means) / 3))
    try:
        return fit_shares(means.value[-third:], shares.value[-third:], group), ""
    except ValueError as problem:
        return None, f"another G cannot be predicted: {problem}"


def starved(curves: Curves) -> Finding | None:
    """Most groups have no hit: what the mean leaves no other room for."""
    share = _share(curves, "all_bad", lambda zero, mean: zero - mean)
    if share is None or share <= MOSTLY:
        return None
    return Finding(
        "starved",
        "problem",
        f"At least {share:.0%} of the groups in the last third of the steps have no hit at all: "
        "they teach a group-relative signal nothing (taking a hit to be a reward of 1).",
        "Log completions and read some of such groups: are they cut off, empty, or judged wrongly? "
        "Then repair them with the ground truth (recast, repair_only), train on it (sft), widen G, "
        "or fill batches by dynamic sampling.",
    )


def saturated(curves: Curves) -> Finding | None:
    """Most groups hit every time: what the mean leaves no other room for."""
    share = _share(curves, "all_good", lambda zero, mean: zero - (1 - mean))
    if share is None or share <= MOSTLY:
        return None
    return Finding(
        "saturated",
        "problem",
        f"At least {share:.0%} of the groups in the last third of the steps hit with every "
        "rollout (taking a hit to be a reward of 1): nothing is left to learn from them.",
        "Bring in harder prompts, skip the easy ones (greso) or replace them (dynamic_sampling).",
    )


def diluted_denominator(curves: Curves) -> Finding | None:
    """Most groups have equal rewards, and their rows are in the loss all the same."""
    zero = curves.get("zero_spread")
    if zero is None or not MOSTLY < (share := float(zero.last(1 / 3).mean())) < 1:
        return None
    return Finding(
        "diluted_denominator",
        "problem",
        f"{share:.0%} of the groups in the last third of the steps have equal rewards. A loss "
        f"averaged over all rollouts takes a step {1 / (1 - share):.1f} times smaller, and how "
        "much smaller changes from batch to batch.",
        "Divide by the rollouts that have an advantage (denominator=active), drop the others "
        "before the actor, and retune the learning rate.",
    )


def constant_reward(curves: Curves) -> Finding | None:
    """Rewards never differ inside a group."""
    zero = curves.get("zero_spread")
    if zero is None or float(zero.value.min()) < 1:
        return None
    return Finding(
        "constant_reward",
        "problem",
        "In every step all groups have equal rewards, so no advantage was ever different from "
        "zero.",
        "Read some answers, then call the reward function on the ground truth itself and on "
        "another answer: it is broken, or looks at the prompt only, or the policy never finds the "
        "target.",
    )


def gradient_explosion(curves: Curves) -> Finding | None:
    """The norm of the gradient ran away."""
    norm = curves.get("grad_norm")
    if norm is None or len(norm) < 10:
        return None
    early, late = float(np.median(norm.first())), float(np.median(norm.last()))
    if late < 10 * max(early, 1e-6) or late < 1:
        return None
    return Finding(
        "gradient_explosion",
        "problem",
        f"The median norm of the gradient grew from {early:.3g} in the first third of the steps to "
        f"{late:.3g} in the last tenth.",
        "Look at entropy, KL and the clipped share at the step where it begins; clip the norm and "
        "lower the learning rate, from a checkpoint of before.",
    )


def not_finite(curves: Curves) -> Finding | None:
    """Loss, gradient or KL became NaN and stayed so."""
    bad = curves.get("broken")
    if bad is None or len(bad) < 6 or bad.first().any() or not bad.last().all():
        return None
    last_good = int(np.flatnonzero(bad.value == 0)[-1])
    return Finding(
        "not_finite",
        "problem",
        f"The loss, the gradient or the KL is NaN or infinite from step "
        f"{bad.step[last_good + 1]:,.0f} on: whatever was trained after it is lost.",
        f"Go back to a checkpoint of before step {bad.step[last_good + 1]:,.0f}. Look for a ratio "
        "that overflows, an advantage divided by a spread of 0, an empty batch, or half precision; "
        "skip steps whose gradient is not finite.",
    )


def loss_is_zero(curves: Curves) -> Finding | None:
    """The loss is 0 and the gradient is not: what on-policy training looks like."""
    loss, norm = curves.get("loss"), curves.get("grad_norm")
    if loss is None or norm is None or float(np.median(norm.value)) < 1e-3:
        return None
    if float(np.abs(loss.value).max()) > 1e-3:
        return None
    return Finding(
        "loss_is_zero",
        "note",
        f"The loss is 0 (at most {np.abs(loss.value).max():.1g}) while the gradient is not (median "
        f"norm {np.median(norm.value):.3g}): on policy, with centred advantages, that is as it "
        "should be.",
        "Nothing. Watch the reward, not the loss.",
    )


def _share(curves: Curves, name: str, bound: Callable[[float, float], float]) -> float | None:
    """The logged share of the last third, or what zero-spread share and mean say it is at least."""
    if name in curves:
        return float(curves[name].last(1 / 3).mean())
    reward, zero = curves.get("outcome") or curves.get("reward"), curves.get("zero_spread")
    if reward is None or zero is None or _is_sum(curves):
        return None
    if float(reward.value.min()) < 0 or float(reward.value.max()) > 1:
        return None
    return float(bound(float(zero.last(1 / 3).mean()), float(reward.last(1 / 3).mean())))


def _is_sum(curves: Curves) -> bool:
    """Whether the reward is more than the outcome on another scale, so that groups of equal rewards
    say nothing of hits."""
    reward, outcome = curves.get("reward"), curves.get("outcome")
    if reward is None or outcome is None:
        return "functions" in curves
    one, other = _joined(reward, outcome)
    if len(one) < 3 or not one.value.std() or not other.value.std():
        return "functions" in curves
    return float(np.corrcoef(one.value, other.value)[0, 1]) < 0.999


SCALAR_CHECKS = tuple(
    Check(function, "curves", needs, explains)
    for function, needs, explains in (
        (constant_reward, ("zero_spread",), frozenset({"starved", "saturated", "plateau"})),
        (starved, ("all_bad", "zero_spread"), frozenset({"plateau"})),
        (saturated, ("all_good", "zero_spread"), frozenset({"plateau"})),
        (diluted_denominator, ("zero_spread",), frozenset()),
        (gradient_explosion, ("grad_norm",), frozenset()),
        (not_finite, (), frozenset({"starved", "diluted_denominator", "gradient_explosion"})),
        (loss_is_zero, ("loss",), frozenset()),
    )
)
"""What scalars alone tell, beside the checks of `checks.CHECKS` that look at curves."""


def prediction_table(run: ScalarRun, widths: tuple[int, ...]) -> pl.DataFrame:
    """What another G would give; columns as `diagnose.predictions`, no rows without a fit."""
    if run.fit is None or not run.fit.predicts:
        return pl.DataFrame()
    return pl.DataFrame(
        [{"task": "all", "group": width, **prediction(run.fit, width)} for width in widths]
    )
