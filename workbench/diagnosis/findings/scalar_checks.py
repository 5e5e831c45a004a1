"""What scalars alone tell, beside the checks on trends that rollouts are put to as well."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workbench.diagnosis.findings.curves import SHORT, Curves, Floats, joined
from workbench.diagnosis.findings.finding import MOSTLY, Check, Finding, number
from workbench.diagnosis.findings.reward import is_penalty, never_pays
from workbench.diagnosis.findings.updates import no_update

SILENT = "function "
"""What the curve of a reward function that never pays is called, before its name."""

STAYS = 3
"""Steps in a row that are no finite number: one may have been skipped, three were not."""


def silent_function(curves: Curves) -> Finding | None:
    """The mean of a reward function is 0, or below, at every step."""
    silent = {
        name.removeprefix(SILENT): float(one.value[0])
        for name, one in curves.items()
        if name.startswith(SILENT) and not is_penalty(name)
    }
    if not silent:
        return None
    steps = min(len(one) for name, one in curves.items() if name.startswith(SILENT))
    return never_pays(silent, f"all {steps:,} logged steps")


def starved(curves: Curves) -> Finding | None:
    """Most groups have no hit: what the mean leaves no other room for."""
    outcome, reward = curves.get("outcome"), curves.get("reward")
    late = outcome.last(1 / 3) if outcome else np.ones(1)
    if reward is not None and is_sum(curves) and len(late) >= STAYS and not late.any():
        return Finding(
            "starved",
            "problem",
            f"No rollout was right in the last {len(late):,} logged steps (the mean accuracy is 0 "
            f"at each), while the reward is {number(float(reward.last(1 / 3).mean()))}: whatever "
            "is learnt is learnt from the other parts of the reward.",
            "Read some answers that have a high reward and are wrong, and call the function that "
            "judges them on the ground truth itself. If it is right, the task is out of reach: "
            "easier prompts, a warm start on the ground truth (sft), or repair (recast).",
        )
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
    """Rewards never differ inside a group, or their mean never moves at all."""
    if not _always_equal(curves):
        return _same_mean(curves)
    return Finding(
        "constant_reward",
        "problem",
        "In every step all groups have equal rewards, so no advantage was ever different from "
        "zero.",
        "Read some answers, then call the reward function on the ground truth itself and on "
        "another answer: it is broken, or looks at the prompt only, or the policy never finds the "
        "target.",
    )


def _same_mean(curves: Curves) -> Finding | None:
    """Means of rewards that differ are never equal to the last digit, step after step."""
    reward, equal = curves.get("reward"), curves.get("zero_spread")
    if reward is None or len(reward) < SHORT or float(np.ptp(reward.value)) > 0:
        return None
    spread = curves.get("reward_std")
    if equal is not None or (spread is not None and float(spread.value.max()) > 0):
        return None
    if "rounded" in curves:
        return None
    return Finding(
        "constant_reward",
        "problem",
        f"The mean reward is exactly {number(float(reward.value[0]))} at all {len(reward):,} "
        "logged steps: every rollout got the same reward, and no advantage was ever different from "
        "zero.",
        "Read some answers, then call the reward function on the ground truth itself. If that "
        "scores no better, the function is broken (wrong field, parser, or scale). If it does, the "
        "policy never finds the target: look at the prompt's template and the stop tokens, or "
        "warm-start it.",
    )


def reward_ignores_rollout(curves: Curves) -> Finding | None:
    """Rewards never differ inside a group, but between groups: their mean moves."""
    reward = curves.get("reward")
    if not _always_equal(curves) or reward is None:
        return None
    low, high = float(reward.value.min()), float(reward.value.max())
    if high - low <= 1e-4 * max(1.0, abs(low), abs(high)):
        return None
    return Finding(
        "reward_ignores_rollout",
        "problem",
        f"In every step all groups have equal rewards, while the mean reward moves between "
        f"{number(low)} and {number(high)}: groups differ, rollouts of one prompt never do, and no "
        "advantage was ever different from zero.",
        "Log completions and read one group. If its answers differ, the reward looks at the prompt "
        "only, or one score is given to the whole group: call the reward function on two answers "
        "to one prompt. If they are the same, sampling is off (temperature, a fixed seed).",
    )


def _always_equal(curves: Curves) -> bool:
    zero = curves.get("zero_spread")
    return zero is not None and float(zero.value.min()) >= 1


def gradient_explosion(curves: Curves) -> Finding | None:
    """The norm of the gradient ran away."""
    norm = curves.get("grad_norm")
    if norm is None or len(norm) < SHORT:
        return None
    early, late = float(np.median(norm.first())), float(np.median(norm.last()))
    if late < 10 * max(early, 1e-6) or late < 1:
        return None
    return Finding(
        "gradient_explosion",
        "problem",
        f"The median norm of the gradient grew from {number(early)} in the first third of the "
        f"steps to {number(late)} in the last tenth.",
        "Look at entropy, KL and the clipped share at the step where it begins; clip the norm and "
        "lower the learning rate, from a checkpoint of before.",
    )


def not_finite(curves: Curves) -> Finding | None:
    """Loss, gradient or KL became NaN and stayed so, or never was a number."""
    bad = curves["broken"]
    good = np.flatnonzero(bad.value == 0)
    tail = len(bad) - 1 - int(good[-1]) if len(good) else len(bad)
    what = "The loss, the gradient or the KL is NaN or infinite"
    advice = (
        "Look for a ratio that overflows, an advantage divided by a spread of 0, an empty batch, "
        "or half precision; skip steps whose gradient is not finite."
    )
    if tail == len(bad) >= STAYS:
        return Finding(
            "not_finite",
            "problem",
            f"{what} in all {len(bad):,} logged steps: the weights were never trained, or were "
            "lost at the first step.",
            f"Compare log-probs with those of the reference on one batch. {advice}",
        )
    # Values that are missing now and then, or were skipped, are no lost run.
    if not tail or 2 * _longest(bad.value[: len(bad) - tail]) >= tail:
        return _no_distance(curves)
    at = f"{bad.step[len(bad) - tail]:,.0f}"
    if tail < STAYS:
        return Finding(
            "not_finite",
            "note",
            f"{what} at the end, from step {at} on, and was not before: if the run ended there, "
            "that is what ended it.",
            f"If later steps are finite again, the step was skipped. If not, go back to a "
            f"checkpoint of before step {at}. {advice}",
        )
    return Finding(
        "not_finite",
        "problem",
        f"{what} from step {at} on: whatever was trained after it is lost.",
        f"Go back to a checkpoint of before step {at}. {advice}",
    )


def _no_distance(curves: Curves) -> Finding | None:
    """The KL is logged and never a number, while the loss is."""
    never = curves.get("kl_broken")
    if never is None or len(never) < STAYS:
        return None
    return Finding(
        "not_finite",
        "note",
        f"The KL is NaN or infinite in all {len(never):,} steps that log it, while the loss is "
        "not: it is no part of the loss, or the reference is missing.",
        "If the weight of the KL is 0, it is only not measured. If it is not, compare log-probs of "
        "policy and reference on one batch before the first step: they have to agree.",
    )


def _longest(flags: Floats) -> int:
    """How many ones stand in a row at most."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0.0], flags, [0.0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


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
    if reward is None or zero is None or is_sum(curves):
        return None
    if float(reward.value.min()) < 0 or float(reward.value.max()) > 1:
        return None
    return float(bound(float(zero.last(1 / 3).mean()), float(reward.last(1 / 3).mean())))


SCALAR_CHECKS: tuple[Check, ...] = (
    Check(
        reward_ignores_rollout,
        "curves",
        ("zero_spread",),
        frozenset({"constant_reward", "starved", "saturated", "plateau"}),
    ),
    Check(
        constant_reward,
        "curves",
        ("zero_spread", "reward"),
        frozenset({"starved", "saturated", "plateau", "no_update"}),
    ),
    Check(
        no_update,
        "curves",
        ("grad_norm", "learning_rate"),
        frozenset({"plateau", "loss_is_zero"}),
    ),
    Check(starved, "curves", ("all_bad", "zero_spread", "outcome"), frozenset({"plateau"})),
    Check(saturated, "curves", ("all_good", "zero_spread"), frozenset({"plateau"})),
    Check(diluted_denominator, "curves", ("zero_spread",)),
    Check(gradient_explosion, "curves", ("grad_norm",), steps=SHORT),
    Check(
        not_finite,
        "curves",
        ("broken",),
        frozenset({"starved", "diluted_denominator", "gradient_explosion"}),
    ),
    Check(silent_function, "curves"),
    Check(loss_is_zero, "curves", ("loss",), last=True),
)
"""Beside the checks of `checks.CHECKS` that look at curves."""


def is_sum(curves: Curves) -> bool:
    """Whether the reward is more than the outcome on another scale, so that groups of equal rewards
    say nothing of hits."""
    reward, outcome = curves.get("reward"), curves.get("outcome")
    if reward is None or outcome is None:
        return "functions" in curves
    one, other = joined(reward, outcome)
    if len(one) < 3 or not one.value.std() or not other.value.std():
        return "functions" in curves
    return float(np.corrcoef(one.value, other.value)[0, 1]) < 0.999
