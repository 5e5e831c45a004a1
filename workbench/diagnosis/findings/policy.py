"""Findings about the policy: its entropy, its distance to the reference, and who sampled for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import polars as pl

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings.curves import SHORT, Curve, Curves, arrival, moved
from workbench.diagnosis.findings.finding import MOSTLY, Finding, Z, number

FLOOR = 0.1
"""Entropy that is left of the first third's when it counts as collapsed."""

BARE = 0.05
"""Nats per token below which the entropy of the first tenth is what it is compared with: a fall
that is over within the first third has no early third to show it."""

GAPS: Mapping[str, tuple[float, float, str]] = MappingProxyType(
    {
        "mismatch": (
            0.02,
            0.1,
            "log-probs of the rollout engine and of training differ by {} nats",
        ),
        "prob_gap": (
            0.01,
            0.025,
            "probabilities of the rollout engine and of training differ by {}",
        ),
        "prob_factor": (
            1.05,
            1.1,
            "probabilities of the rollout engine and of training differ by a factor of {}",
        ),
        "mismatch_kl": (0.01, 0.05, "KL between the rollout engine and training is {} nats"),
    }
)
"""How far two engines are apart per token from which on it is a note and a problem, and its words.
Engines of one policy and precision stay below .02 nats, .01 in probability (verl's documents), a
factor of 1.05 and a KL of .01 (NeMo-RL's own tests; 1.1 is its largest). Noise on the logits that
makes .1 nats makes about .025 in probability at an entropy of 1; a KL of .05 is as much as noise of
.25 nats."""

ALIKE = (0.99, 0.95)
"""Correlation of both engines' probabilities below which it is a note and a problem: healthy runs
of verl report .998 and more."""


def entropy_collapse(curves: Curves) -> Finding | None:
    """The entropy is gone, or will be before the run is twice as long."""
    entropy = curves.get("entropy")
    if entropy is None or len(entropy) < SHORT:
        return None
    change = moved(entropy, 0.1)
    began, when = change.before, "third"
    if change.after < BARE and (start := float(entropy.first(0.1).mean())) > began:
        began, when = start, "tenth"
    if began <= 0 or change.z > -Z:
        return None
    level = FLOOR * began
    do = (
        "Keep samples apart: a higher upper clip (clip-higher), an entropy bonus or KL, more "
        "prompts that are neither solved nor hopeless, a lower learning rate. Go on from a "
        "checkpoint of before."
    )
    if change.after <= level:
        crossed = entropy.step[int(np.argmax(entropy.value <= level))]
        return Finding(
            "entropy_collapse",
            "problem",
            f"The entropy fell from {began:.3g} nats per token in the first {when} of the steps "
            f"to {change.after:.3g} in the last tenth; it was first below a tenth of where it "
            f"began at step {crossed:,.0f}.",
            do,
        )
    there = arrival(entropy, level)
    span = entropy.step[-1] - entropy.step[0]
    if change.after > 0.5 * began or there is None or there[2] > entropy.step[-1] + span:
        return None
    return Finding(
        "entropy_collapse",
        "note",
        f"The entropy falls, from {began:.3g} nats per token in the first {when} of the "
        f"steps to {change.after:.3g} in the last tenth; if it goes on as in the last half, a "
        f"tenth of where it began is reached at step {_at(there)}.",
        do,
    )


def entropy_explosion(curves: Curves) -> Finding | None:
    """The entropy grew beyond what the policy began with."""
    entropy = curves.get("entropy")
    if entropy is None or len(entropy) < SHORT:
        return None
    change = moved(entropy, 0.1)
    least = max(2 * change.before, change.before + 0.5)
    tail, first = entropy.last(), entropy.first()
    stays = float(np.median(tail)) >= least and tail.min() > first.max()
    if change.after < least or not (change.z >= Z or stays):
        return None
    there = arrival(entropy, 2 * change.after)
    goes = (
        f"; if it goes on as in the last half, it has doubled again at step {_at(there)}"
        if there
        else ""
    )
    return Finding(
        "entropy_explosion",
        "problem",
        f"The entropy grew from {change.before:.3g} nats per token in the first third of the steps "
        f"to {change.after:.3g} in the last tenth{goes}.",
        "Read some of the last answers: they turn into noise. Lower or drop the entropy bonus, "
        "lower the learning rate, and check that log-probs of the rollout engine and of training "
        "agree; pushing misses down without an upper bound does this too.",
    )


def _at(there: tuple[float, float, float]) -> str:
    value, low, high = there
    top = f"{high:,.0f}" if np.isfinite(high) else "never"
    return f"{value:,.0f} (95%: {low:,.0f} to {top})"


def kl_explosion(curves: Curves) -> Finding | None:
    """The distance to the reference ran away."""
    kl = curves.get("kl")
    if kl is None or len(kl) < SHORT:
        return None
    change = moved(kl, 0.1)
    usual = float(np.median(kl.first()))
    least = max(1.0, 10 * usual, 1e-2)
    # What grows by the same factor at every step has a spread as large as its mean.
    stays = float(np.median(kl.last())) >= least and kl.last().min() > kl.first().max()
    if change.after < least or not (change.z >= Z or stays):
        return None
    return Finding(
        "kl_explosion",
        "problem",
        f"The KL to the reference grew from {usual:.3g} nats in the first third of the steps to "
        f"{number(change.after)} in the last tenth.",
        "The policy has left the reference: lower the learning rate or raise the weight of the KL "
        "term, and go on from a checkpoint of before. Look at the tokens with the largest ratio "
        "first: a few that the reference never writes make the estimator explode, and so does a "
        "reference with another template or precision.",
    )


def kl_on_dead_groups(found: Diagnosis) -> Finding | None:
    """Most of the KL term pulls on groups that have no advantage."""
    known = (
        found.rollouts.select("key", "part", "kl")
        .drop_nulls("kl")
        .join(found.groups.select("key", "part", "constant"), on=["key", "part"])
    )
    total = _sum(known, "kl")
    dead = known.filter("constant")
    pull = _sum(dead, "kl")
    if dead.is_empty() or not total > 0 or pull < MOSTLY * total or pull / dead.height < 0.01:
        return None
    return Finding(
        "kl_on_dead_groups",
        "problem",
        f"{pull / total:.0%} of the logged KL sits on groups of equal rewards "
        f"(mean {pull / dead.height:.3g} nats there). Without an advantage, all that such a group "
        "does is pull the policy back to its reference.",
        "Send only rollouts with an advantage to the actor (update=active), so that the KL term "
        "holds where something is learnt.",
    )


def rollout_mismatch(curves: Curves) -> Finding | None:
    """The engine that samples and the policy that is trained disagree on the samples' log-probs."""
    alike = curves.get("prob_correlation")
    level, words, gap = 0, "", None
    for name, (note, problem, said) in GAPS.items():
        if name not in curves:
            continue
        # The median: of an estimate of the KL one batch in many is off by orders of magnitude.
        late = float(np.median(curves[name].last(1 / 3)))
        mine = (late >= note) + (late >= problem)
        if gap is None or mine > level:
            level, words = mine, f"{said.format(f'{late:.3g}')} per token"
            none = 1.0 if name == "prob_factor" else 0.0
            gap = Curve(curves[name].step, curves[name].value - none)
    if alike is not None:
        same = float(alike.last(1 / 3).mean())
        level = max(level, (same < ALIKE[0]) + (same < ALIKE[1]))
        words += f"{', and ' * bool(words)}probabilities in both correlate by {same:.3g}"
        gap = gap or Curve(alike.step, 1 - alike.value)
    if not level or gap is None:
        return None
    why, do = _whose(gap, curves.get("lag"))
    return Finding(
        "rollout_mismatch",
        "problem" if level > 1 else "note",
        f"In the last third of the steps the {words}. {why}",
        do,
    )


def _whose(gap: Curve, lag: Curve | None) -> tuple[str, str]:
    """Whether rollouts are stale or another engine made them, and what to do."""
    stale = (
        "Sync the weights more often, bound the staleness, and correct for it with the ratio to "
        "the policy that sampled (truncated importance sampling)."
    )
    engine = (
        "Compare one prompt in both: precision, chat template, temperature, top_p or top_k (the "
        "engine's log-probs are of what they leave), attention kernel, MoE routing, a quantised "
        "rollout model. Until they agree, correct with the truncated ratio to "
        "the log-probs of the rollout engine."
    )
    if lag is not None and len(lag) == len(gap) and float(lag.value.std()) > 0:
        with_lag = float(np.corrcoef(lag.value, gap.value)[0, 1])
        fresh = gap.value[lag.value <= np.quantile(lag.value, 0.25)]
        if with_lag > 0.5 and float(fresh.mean()) < 0.5 * float(gap.last(1 / 3).mean()):
            return (
                "The difference grows with the lag of the weights that sampled and is small "
                "without it: rollouts are stale.",
                stale,
            )
        return "It does not depend on the lag of the weights: the engines differ.", engine
    if len(gap) < 10:
        return "Too few steps to tell stale weights from another engine.", engine
    change = moved(gap)
    began = float(np.mean(gap.value[:3]))
    if change.z > Z and began < 0.25 * change.after:
        return (
            f"It began at {began:.2g} and grew with training: the rollout engine samples from old "
            "weights, or the two engines drift apart as the policy sharpens.",
            "Train some steps at a learning rate of 0: what comes from old weights is gone then. "
            + stale
            + " If it only ever grows, the weights, or the adapter (LoRA), may never reach the "
            "engine: compare its answers with those of the base model.",
        )
    return "It was there from the first steps on: the engines differ.", engine


def clipped_ratios(curves: Curves) -> Finding | None:
    """A large share of the importance ratios is clipped, so their tokens teach nothing."""
    clipped = curves.get("clipped")
    if clipped is None:
        return None
    late = float(clipped.last(1 / 3).mean())
    if late < 0.3:
        return None
    return Finding(
        "clipped_ratios",
        "problem",
        f"{late:.0%} of the importance ratios were clipped in the last third of the steps; a "
        "clipped token has no gradient.",
        "Take fewer optimizer steps per batch of rollouts, or a lower learning rate. If that "
        "changes little, the old log-probs are not those of the policy that sampled.",
    )


def stale_rollouts(curves: Curves) -> Finding | None:
    """Rollouts were sampled by weights of many steps ago."""
    lag = curves.get("lag")
    if lag is None:
        return None
    late = float(lag.last(1 / 3).mean())
    if late < 4:
        return None
    return Finding(
        "stale_rollouts",
        "note",
        f"Rollouts of the last third of the steps were sampled {late:.1f} steps before they were "
        "trained on, on average.",
        "Bound the staleness of the queue, or correct with the ratio to the policy that sampled; "
        "watch the clipped share and the log-prob difference.",
    )


def _sum(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].cast(pl.Float64).sum())
