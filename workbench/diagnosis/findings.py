"""Named findings in a training log, each with its evidence and with what to do about it.

A check looks at one thing and is silent where the log does not hold what it needs, or the evidence
could be chance. `problem`: the run is not learning as its owner believes; `note`: read the numbers
with this in mind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import polars as pl

from workbench.diagnosis.diagnosis import Diagnosis, change
from workbench.stats.beta_binomial import binomial_share

Level = Literal["problem", "note"]

MOSTLY = 0.5
Z = 4.0
"""A change over training counts from this many standard errors on: one log in 15,000 by chance."""


@dataclass(frozen=True)
class Finding:
    """name: of the check; says: the evidence, with its numbers; do: what would help."""

    name: str
    level: Level
    says: str
    do: str


def constant_reward(found: Diagnosis) -> Finding | None:
    """Every rollout of the log got the same reward."""
    low, high = _range(found.rollouts, "reward")
    if high - low > found.tolerance or found.rollouts.height < 2:
        return None
    return Finding(
        "constant_reward",
        "problem",
        f"All {found.rollouts.height:,} rollouts have the reward {high:g}, so no advantage was "
        "ever different from zero.",
        "Call the reward function on the ground truth itself. If that scores no better, the "
        "function is broken (wrong field, parser, or scale). If it does, the policy never finds "
        "the target: warm-start it longer, or repair groups with the ground truth.",
    )


def format_guard(found: Diagnosis) -> Finding | None:
    """Malformed answers, or nearly all, get the lowest reward whatever they contain."""
    low = _range(found.rollouts, "reward")[0]
    floored = pl.col("reward") <= low + found.tolerance
    hits = found.rollouts.filter(pl.col("outcome") > found.threshold + found.tolerance)
    lost = hits.filter(floored)
    if found.shaped and hits.height >= 5 and lost.height >= MOSTLY * hits.height:
        return Finding(
            "format_guard",
            "problem",
            f"{lost.height:,} of {hits.height:,} rollouts with a hit as outcome still got the "
            f"lowest reward, {low:g}: a guard zeroes them.",
            "Look at the completions that hit: the guard (format, length, stop token) is stricter "
            "than the policy's answers. Loosen it, fix the template, or teach the format by SFT.",
        )
    known = found.rollouts.drop_nulls("format")
    broken = known.filter(pl.col("format") < MOSTLY)
    if known.height < 20 or broken.height < 0.9 * known.height:
        return None
    if broken.filter(floored).height < broken.height:
        return None
    return Finding(
        "format_guard",
        "problem",
        f"{broken.height / known.height:.0%} of the answers are malformed, and every one of those "
        f"got the lowest reward, {low:g}.",
        "The policy is judged on its format, not on its answers. Check the chat template, stop "
        "tokens and the length limit, constrain decoding to valid IDs, or teach the format by SFT.",
    )


def shaped_hides(found: Diagnosis) -> Finding | None:
    """Groups without a hit still differ in their shaped reward."""
    failed = found.groups.filter(pl.col("regime") == "all_zero")
    moving = failed.filter(~pl.col("constant"))
    if not found.shaped or moving.height < 5 or moving.height < 0.1 * failed.height:
        return None
    return Finding(
        "shaped_hides",
        "problem",
        f"{moving.height:,} of {failed.height:,} groups in which every rollout failed still have "
        "different shaped rewards. They look learnable, and GRPO's normalisation blows their "
        "differences up to full size.",
        "Log and watch the raw outcome. Keep the shaped score for ranking inside a group (ReCast's "
        "hard negative), not as a reward, or add it with a weight and without normalisation.",
    )


def no_raw_outcome(found: Diagnosis) -> Finding | None:
    """Nothing that is logged says which rollouts are hits."""
    if found.known:
        return None
    says = found.rule.words
    return Finding(
        "no_raw_outcome",
        "note",
        f"{says[:1].upper()}{says[1:]}. Every number that depends on it is left out.",
        "Say which column holds the raw outcome (--outcome), or from which reward on a rollout "
        "counts as a hit (--threshold); or log the raw outcome beside the reward.",
    )


def kl_on_dead_groups(found: Diagnosis) -> Finding | None:
    """Most of the KL term pulls on groups that have no advantage."""
    known = found.rollouts.drop_nulls("kl").join(
        found.groups.select("key", "part", "constant"), on=["key", "part"]
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
        "Send only rollouts with an advantage to the actor (update=active), or lower the weight of "
        "the KL term.",
    )


def group_of_one(found: Diagnosis) -> Finding | None:
    """Groups have one rollout."""
    if found.group > 1:
        return None
    return Finding(
        "group_of_one",
        "problem",
        "Most groups have a single rollout, so a reward minus the group's mean is always zero.",
        "Sample more rollouts per prompt (num_generations, rollout.n), or, if you do, log a group "
        "id or prompt that rollouts of one group share. REINFORCE works with one.",
    )


def groups_mixed(found: Diagnosis) -> Finding | None:
    """Groups are not what the trainer compared: odd sizes, several targets, foreign advantages."""
    if found.group < 2:
        return None
    groups, usual = found.groups, found.group
    spare = max(2.0, 0.01 * groups.height) + found.log.problems.unreadable
    larger = groups.filter(pl.col("size") > pl.col("usual")).height
    smaller = groups.filter(pl.col("size") < pl.col("usual")).height
    several = groups.filter(pl.col("targets") > 1).height
    says = []
    if larger > spare:
        says.append(f"{larger:,} of {groups.height:,} groups hold more than {usual} rollouts")
    if smaller > spare:
        says.append(f"{smaller:,} of {groups.height:,} groups hold fewer than {usual} rollouts")
    if several > max(2.0, 0.01 * groups.height):
        says.append(f"{several:,} groups have rollouts with different targets")
    foreign = _foreign_advantages(found)
    if foreign:
        says.append(foreign)
    if not says:
        return None
    return Finding(
        "groups_mixed",
        "problem",
        f"Groups look split or mixed up: {'; '.join(says)}.",
        "Check that every prompt has one id, that a batch holds whole groups (batch size a "
        "multiple of G on every worker), and that rows are not shuffled before advantages are "
        "computed. Log a group id. If G varies on purpose, ignore the sizes.",
    )


def _foreign_advantages(found: Diagnosis) -> str:
    """Whether groups of equal rewards have advantages of both signs: from no group of theirs."""
    dead = _dead_advantages(found)
    count = dead.filter((pl.col("low") < -1e-3) & (pl.col("high") > 1e-3)).height
    if count < 5 or count < 0.2 * dead.height:
        return ""
    return f"{count:,} of {dead.height:,} groups of equal rewards have advantages of both signs"


def _dead_advantages(found: Diagnosis) -> pl.DataFrame:
    """Smallest and largest logged advantage of each group of equal rewards."""
    known = found.groups.filter(pl.col("constant") & pl.col("idle").is_not_null())
    return (
        found.rollouts.join(known.select("key", "part"), on=["key", "part"])
        .group_by("key", "part")
        .agg(low=pl.col("advantage").min(), high=pl.col("advantage").max())
    )


def _uses_dead_groups(found: Diagnosis) -> bool:
    """Whether the run's own signal learns from groups of equal rewards: repair, or a penalty."""
    dead = _dead_advantages(found)
    used = dead.filter((pl.col("low") < -1e-3) ^ (pl.col("high") > 1e-3)).height
    return dead.height > 0 and used >= MOSTLY * dead.height


def duplicated_rollouts(found: Diagnosis) -> Finding | None:
    """Rollouts of a group are copies of each other."""
    # Where every rollout hits, all may well be the one target.
    known = found.groups.filter(
        pl.col("distinct").is_not_null()
        & (pl.col("size") > 1)
        & ((pl.col("regime") != "saturated") | (pl.col("targets") == 0))
    )
    if known.height < 10:
        return None
    same = known.filter(pl.col("distinct") == 1).height
    paired = _paired(found)
    if same >= MOSTLY * known.height:
        says = f"In {same:,} of {known.height:,} groups all rollouts are the same"
    elif paired:
        says = paired
    else:
        return None
    return Finding(
        "duplicated_rollouts",
        "problem",
        f"{says}. Copies cost like rollouts and add nothing.",
        "Check that sampling is on (temperature above 0), and that workers and requests draw from "
        "different seeds. If the policy has collapsed, restart earlier, with a higher temperature "
        "or an entropy bonus.",
    )


def _paired(found: Diagnosis) -> str:
    """Whether every prediction of nearly every group comes a multiple of 2 or 3 times."""
    counts = (
        found.rollouts.drop_nulls("prediction")
        .group_by("key", "part", "prediction")
        .len("times")
        .group_by("key", "part")
        .agg(distinct=pl.len(), **{f"by_{m}": (pl.col("times") % m == 0).all() for m in (2, 3)})
        .filter(pl.col("distinct") > 1)
    )
    if counts.height < 10:
        return ""
    for many in (2, 3):
        share = counts.filter(pl.col(f"by_{many}")).height / counts.height
        if share >= 0.9:
            return (
                f"In {share:.0%} of the groups every prediction occurs a multiple of {many} times"
            )
    return ""


def repeated_batches(found: Diagnosis) -> Finding | None:
    """Whole batches were logged again at the next step."""
    if not found.repeats:
        return None
    return Finding(
        "repeated_batches",
        "note",
        f"{len(found.repeats):,} steps (first: {found.repeats[0]}) repeat the batch before them, "
        "rollout by rollout; they are left out here.",
        "A batch that is used for several optimizer steps is logged each time: nothing is wrong if "
        "you meant to (num_iterations, steps_per_generation). If not, the sampler repeats itself.",
    )


def reward_drift(found: Diagnosis) -> Finding | None:
    """The scale of the reward changed over training."""
    ends = found.thirds(found.rollouts)
    if ends is None:
        return None
    early, late = (part.filter(pl.col("reward").abs() > found.tolerance) for part in ends)
    if min(early.height, late.height) < 50:
        return None
    first, last = (_quantile(part["reward"].abs(), 0.99) for part in (early, late))
    if max(first, last) < 1.5 * min(first, last):
        return None
    return Finding(
        "reward_drift",
        "problem",
        f"The reward's scale moved from {first:.3g} in the first third of the steps to {last:.3g} "
        "in the last (99th percentile of its size).",
        "Find out what changed: a reward model that is still trained, a running normaliser, a "
        "changed weight. Signals without normalisation (Dr. GRPO, RLOO) take other step sizes now, "
        "and curves of the reward cannot be compared.",
    )


def diluted_denominator(found: Diagnosis) -> Finding | None:
    """Most rows of the loss have no advantage, and they are divided by all the same."""
    if found.group < 2 or _uses_dead_groups(found):
        return None
    late = found.late()
    dead = late.filter("constant")
    rows, of = int(dead["size"].sum()), int(late["size"].sum())
    if binomial_share(dead.height, late.height).low <= MOSTLY or rows <= MOSTLY * of:
        return None
    factor = f"{of / (of - rows):.1f} times smaller" if rows < of else "zero"
    return Finding(
        "diluted_denominator",
        "problem",
        f"{rows / of:.0%} of the rollouts of the last third of the steps are in groups of equal "
        f"rewards. A loss averaged over all rollouts takes a step {factor}, and how much smaller "
        "changes from batch to batch.",
        "Divide by the rollouts that have an advantage (denominator=active), drop the others "
        "before the actor, and retune the learning rate.",
    )


def starved(found: Diagnosis) -> Finding | None:
    """Most groups have no hit."""
    if found.group < 2:
        return None
    late = found.late()
    count = late.filter(pl.col("regime") == "all_zero").height
    share = binomial_share(count, late.height)
    if share.low <= MOSTLY:
        return None
    if _uses_dead_groups(found):
        return Finding(
            "starved",
            "note",
            f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of the groups in the last "
            "third of the steps have no hit, and this run's advantages show that it learns from "
            "them all the same (repair, or a penalty).",
            "Compare with supervised training on the same targets (sft, grpo_sft): does the repair "
            "give more than that?",
        )
    return Finding(
        "starved",
        "problem",
        f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of the groups in the last third of "
        "the steps have no hit at all: they teach a group-relative signal nothing.",
        "Where the ground truth is known, repair such groups with it (recast, repair_only), or "
        "train on it directly (sft, grpo_sft). Otherwise widen G to what the table of predictions "
        "says, or fill batches by dynamic sampling.",
    )


def saturated(found: Diagnosis) -> Finding | None:
    """Most groups hit every time."""
    late = found.late()
    count = late.filter((pl.col("regime") == "saturated") & (pl.col("size") > 1)).height
    share = binomial_share(count, late.height)
    if share.low <= MOSTLY:
        return None
    return Finding(
        "saturated",
        "problem",
        f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of the groups in the last third of "
        "the steps hit with every rollout: nothing is left to learn from them.",
        "Bring in harder prompts, skip the easy ones (greso) or replace them (dynamic_sampling).",
    )


def pass_at_k_falls(found: Diagnosis) -> Finding | None:
    """Pass@1 rises while Pass@G falls: the policy sharpens and gives up prompts."""
    if found.group < 2:
        return None
    for task in ["all", *(found.tasks if len(found.tasks) > 1 else [])]:
        mine = found.groups.filter(pl.col("size") == found.group)
        mine = mine if task == "all" else mine.filter(pl.col("task") == task)
        ends = found.thirds(mine)
        if ends is None:
            return None
        early, late = ends
        if min(early.height, late.height) < 30:
            continue
        one = change(early["hits"] / found.group, late["hits"] / found.group)
        many = change(early["hits"] > 0, late["hits"] > 0)
        if one.z > Z and many.z < -Z:
            where = "" if task == "all" else f" in task {task}"
            return Finding(
                "pass_at_k_falls",
                "problem",
                f"From the first third of the steps to the last{where}, Pass@1 rose from "
                f"{one.before:.1%} to {one.after:.1%} while Pass@{found.group} fell from "
                f"{many.before:.1%} to {many.after:.1%}: the policy sharpens on what it knew and "
                "gives up prompts it used to solve.",
                "Prefer signals that favour hard prompts (maxrl, pass_at_k, nsr, w_reinforce), "
                "keep entropy or KL, and choose checkpoints by Pass@k or recall, not by Pass@1.",
            )
    return None


def _range(frame: pl.DataFrame, column: str) -> tuple[float, float]:
    values = frame[column].to_numpy()
    return float(values.min()), float(values.max())


def _quantile(values: pl.Series, at: float) -> float:
    found = values.quantile(at)
    assert found is not None
    return float(found)


def _sum(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].cast(pl.Float64).sum())


CHECKS: Mapping[str, Callable[[Diagnosis], Finding | None]] = MappingProxyType(
    {
        check.__name__: check
        for check in (
            group_of_one,
            constant_reward,
            format_guard,
            groups_mixed,
            duplicated_rollouts,
            starved,
            saturated,
            shaped_hides,
            kl_on_dead_groups,
            diluted_denominator,
            reward_drift,
            pass_at_k_falls,
            repeated_batches,
            no_raw_outcome,
        )
    }
)
"""Every check by the name of its finding, in the order in which findings are shown."""


def examine(found: Diagnosis) -> list[Finding]:
    """All findings of a log, in the order of `CHECKS`."""
    return [said for check in CHECKS.values() if (said := check(found)) is not None]
