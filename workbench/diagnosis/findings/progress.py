"""Findings about what the run achieves: it stands still, falls late, or serves another master."""

from __future__ import annotations

import numpy as np

from workbench.diagnosis.findings.curves import Curve, Curves, Floats, Moved, moved, order, slope
from workbench.diagnosis.findings.finding import Finding, Z, number

STILL = 0.12
"""A change over the whole run that is no more than this, with its interval, is none."""

ROOM = 0.02
"""A share of hits this near to 0 or 1 has other findings that say so."""

ENDS = {0.1: "tenth", 0.25: "quarter"}
"""Ends of a run that a collapse is looked for in, and what they are called: a fall that few
rollouts a step show only over more of them counts too."""

UNMOVED = 1e-4
"""Nats of KL to the reference below which a policy is where it began."""

LEAST = 15
"""Steps below which a collapse at the end is not looked for."""

LONG = 30
"""Steps below which standing still means little."""


def score_of(curves: Curves) -> tuple[str, Curve] | None:
    """What a run is judged by: its share of hits where hits are known, else its reward."""
    for name, words in (("outcome", "Pass@1"), ("reward", "the mean reward")):
        if name in curves:
            return words, curves[name]
    return None


def late_collapse(curves: Curves) -> Finding | None:
    """The score fell to a fraction of what it had been, at the end of the run."""
    said = score_of(curves)
    if said is None or len(said[1]) < LEAST:
        return None
    words, score = said
    found = (_fallen(words, score, tail) for tail in ENDS)
    return next((one for one in found if one is not None), None)


def _fallen(words: str, score: Curve, tail: float) -> Finding | None:
    """The finding, for an end of so large a share of the steps."""
    window = max(3, round(tail * len(score)))
    means = np.convolve(score.value, np.ones(window) / window, "valid")
    best = int(np.argmax(means))
    last = score.last(tail)
    peak: Floats = score.value[best : best + window]
    if best + window > len(score) - len(last):
        return None
    error = float(np.sqrt(peak.var(ddof=1) / len(peak) + last.var(ddof=1) / len(last)))
    # The best of many windows is high by chance: the noise of the steps before it says how much.
    rest = score.value[: len(score) - len(last)]
    error = max(error, float(np.median(np.abs(np.diff(rest)))) / np.sqrt(window))
    fall, floor = float(peak.mean() - last.mean()), float(score.value.min())
    # A reward that is never negative has its floor at 0, as shares have.
    height = float(peak.mean()) - (0.0 if floor >= 0 else min(floor, 0.0))
    least = max(1.5 * Z * error, 0.05 if words == "Pass@1" else 0.0)
    gained = float(peak.mean() - score.first().mean())
    # Over a longer end harder prompts may well take back what was gained.
    back = tail == min(ENDS) and gained >= least and fall >= gained
    lost = fall >= 0.5 * height or back
    # A score without a bound below has no half: it must have fallen at once, not bit by bit.
    lost = lost and (floor >= 0 or (tail == min(ENDS) and _at_once(means, window, fall)))
    if fall <= 0 or fall < least or not lost:
        return None
    return Finding(
        "late_collapse",
        "problem",
        f"{words[0].upper() + words[1:]} fell from {number(float(peak.mean()))} (steps "
        f"{score.step[best]:,.0f} to {score.step[best + window - 1]:,.0f}) to "
        f"{number(float(last.mean()))} in the last {ENDS[tail]} of the steps.",
        f"Go back to a checkpoint of about step {score.step[best + window - 1]:,.0f}. What moved "
        "just before the fall is the cause to look at: entropy, length, KL, log-prob differences, "
        "gradient norm.",
    )


def _at_once(means: Floats, window: int, fall: float) -> bool:
    """Whether most of a fall happened within a fifth of the run. means: over windows of a tenth."""
    lag = min(2 * window, len(means) - 1)
    return float((means[:-lag] - means[lag:]).max()) >= 0.6 * fall


def plateau(curves: Curves) -> Finding | None:
    """The score stands still: its slope, with an interval, and what share of groups can teach."""
    said = score_of(curves)
    if said is None or len(said[1]) < LONG:
        return None
    words, score = said
    rate, span = slope(score), float(score.step[-1] - score.step[0])
    low, value, high = (span * each for each in (rate.low, rate.value, rate.high))
    middle = float(score.value.mean())
    little = STILL if words == "Pass@1" else STILL * float(np.abs(score.value).mean())
    if not low <= 0 <= high or max(-low, high) > little:
        return None
    if words == "Pass@1" and not ROOM <= middle <= 1 - ROOM:
        return None
    zero = curves.get("zero_spread")
    share = 1 - float(zero.last(1 / 3).mean()) if zero else None
    if share is None:
        why = "The share of groups that can teach is not known."
    elif share < 0.4:
        why = f"Only {share:.0%} of the groups of the last third have different rewards."
    else:
        why = (
            f"{share:.0%} of the groups of the last third have different rewards, so the signal is "
            "there and the update does not use it."
        )
    few = share is not None and share < 0.4
    kl = curves.get("kl")
    near = float(np.median(kl.last(1 / 3))) if kl else np.inf
    still = not few and near < UNMOVED
    if still:
        why += (
            f" The KL to the reference is {near:.1g} nats in the last third: the policy has hardly "
            "moved."
        )
    return Finding(
        "plateau",
        "note",
        f"{words[0].upper() + words[1:]} stands still: over all {len(score)} steps it changed by "
        f"{_signed(value, middle, words)} [{_signed(low, middle, words)}, "
        f"{_signed(high, middle, words)}], around {middle:.2g}. {why}",
        "More learnable groups come first: another G, other prompts, or repair (see the table of "
        "predictions)."
        if few
        else "Raise the learning rate, tenfold for an adapter (LoRA); then see whether the KL "
        "grows. If it does not, the weights that are trained are not those that are measured (or "
        "the KL is only logged as 0)."
        if still
        else "Look at the update: learning rate, clipped share, gradient norm, and whether the "
        "weights that sample are the weights that are trained.",
    )


def _signed(change: float, middle: float, words: str) -> str:
    """A change as a number with its sign: in points of a share, else in hundredths of the score."""
    if words == "Pass@1":
        return f"{100 * change:+.1f} points"
    digits = max(0, 2 - int(np.floor(np.log10(abs(middle))))) if middle else 3
    return f"{change:+.{min(digits, 9)}f}"


def reward_hacking(curves: Curves) -> Finding | None:
    """The reward rises while what it stands for falls."""
    reward = curves.get("reward")
    if reward is None or len(reward) < 9:
        return None
    up = moved(reward)
    if up.z < Z:
        return None
    for name, words in (("outcome", "the raw outcome"), ("eval", "the evaluation's score")):
        real = curves.get(name)
        if real is None or len(real) < 6:
            continue
        down = moved(real)
        # Of a few evaluations the spread of three says little: then their order counts.
        few = name == "eval" and len(real) < LEAST
        if (order(real) < -2.5 if few else down.z < -3) and _lost(down):
            return Finding(
                "reward_hacking",
                "problem",
                f"From the first third of the steps to the last the reward rose from "
                f"{number(up.before)} to {number(up.after)} while {words} fell from "
                f"{number(down.before)} to {number(down.after)}.",
                "Read answers with a high reward that fail. Whatever they have in common (format, "
                "length, a phrase) is what the reward pays for: cap or drop that part, and choose "
                "checkpoints by the outcome.",
            )
    return None


def _lost(down: Moved) -> bool:
    """Whether a tenth of it is gone."""
    return down.after < down.before - 0.1 * abs(down.before)
