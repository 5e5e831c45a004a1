"""Findings about the reward: what it looks at, what it hides, and how its scale moves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from recast.quoting import plain_line
from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings.finding import MOSTLY, TASK, Finding, Z
from workbench.diagnosis.logs.column_values import plain_name
from workbench.diagnosis.logs.layout import REWARD
from workbench.diagnosis.logs.problems import NO_NUMBER
from workbench.diagnosis.logs.rewards import SHAPE_WORDS
from workbench.stats.beta_binomial import binomial_share

FEW = 100
"""Rollouts below which a reward function that never paid is no news."""

BROKEN = 2 / 3
"""Share of malformed answers from which on most rollouts are judged by their format."""

LEVELS = 12
"""A reward of at most so many values is one of levels; of more it is a continuous one."""


def constant_reward(found: Diagnosis) -> Finding | None:
    """Every rollout of the log got the same reward, or most groups of it where nobody knows hits
    (else `starved` or `saturated` says more)."""
    low, high = _range(found.rollouts, "reward")
    if high - low > found.tolerance:
        return None if found.known else _prevails(found, low, high)
    if found.rollouts.height < 2:
        return None
    return Finding(
        "constant_reward",
        "problem",
        f"All {found.rollouts.height:,} rollouts have the reward {high:g}, so no advantage was "
        "ever different from zero.",
        "Read some answers, then call the reward function on the ground truth itself. If that "
        "scores no better, the function is broken (wrong field, parser, or scale). If it does, the "
        "policy never finds the target (or its weights never reached the rollout engine): "
        "warm-start it longer, or repair groups with the ground truth.",
    )


def _prevails(found: Diagnosis, low: float, high: float) -> Finding | None:
    """One reward is that of every rollout in most groups."""
    late = found.late().filter(pl.col("size") > 1)
    values = late.filter("constant")["reward"].round(6).value_counts().sort("count", "reward")
    if values.is_empty():
        return None
    value, count = float(values["reward"][-1]), int(values["count"][-1])
    share = binomial_share(count, late.height)
    if share.low <= MOSTLY:
        return None
    ends = {low: ", the lowest there is", high: ", the highest there is"}
    where = next((words for end, words in ends.items() if abs(value - end) <= 1e-6), "")
    return Finding(
        "constant_reward",
        "problem",
        f"In {share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of the groups in the last third "
        f"of the steps every rollout has the reward {value:g}{where}: they have no advantage.",
        "Read some of these answers, then call the reward function on the ground truth itself and "
        "on an answer that is plainly worse. If they get the same, the function is broken (wrong "
        "field, parser, a judge that is not understood) or too coarse. If not, the policy only "
        "writes answers of one kind: other prompts, warm-starting or a wider G come first.",
    )


NAN_IS_NONE = ("trl", "ms-swift")
"""Trainers that log a reward function's None as NaN, and leave it out of their sum."""


def unusable_rewards(found: Diagnosis) -> Finding | None:
    """Rollouts whose reward is NaN or infinite, which are left out of everything else."""
    bad, whole = found.log.problems.kinds[NO_NUMBER], found.log.problems.read
    if not bad:
        return None
    share = binomial_share(bad, bad + whole)
    if found.log.form in NAN_IS_NONE:
        return Finding(
            "unusable_rewards",
            "note",
            f"{bad:,} of {bad + whole:,} rollouts ({share.value:.1%} [{share.low:.1%}, "
            f"{share.high:.1%}]) have no reward; they are left out here. This trainer logs NaN "
            "where every reward function returned None (no verdict) or NaN, and learns nothing "
            "from these rollouts.",
            "See which prompts they belong to: those whose ground truth cannot be parsed cost "
            "rollouts and can be filtered before training. Where a function was meant to judge "
            "them, call it on one of these answers.",
        )
    return Finding(
        "unusable_rewards",
        "problem" if share.value >= 0.01 else "note",
        f"{bad:,} of {bad + whole:,} rollouts ({share.value:.1%} [{share.low:.1%}, "
        f"{share.high:.1%}]) have a reward that is NaN or infinite; they are left out here. In the "
        "trainer such a reward makes the mean of its group NaN, and with it the loss.",
        "Read some of these answers (the rows are in the warnings) and call the reward function on "
        "them: a parser that fails, a time limit, a division by 0. Return the lowest reward or "
        "None (no verdict) there, and count how often.",
    )


def silent_function(found: Diagnosis) -> Finding | None:
    """A reward function never pays."""
    silent = {}
    for column in found.rollouts.columns:
        name = column.removeprefix(REWARD)
        used = name in found.log.reading.functions or "reward" in name.lower()
        if name == column or not used or is_penalty(name):
            continue
        values = found.rollouts[column].drop_nulls().to_numpy()
        if len(values) >= FEW and float(np.ptp(values)) <= found.tolerance and values[0] <= 0:
            silent[name] = float(values[0])
    low, high = _range(found.rollouts, "reward")
    if not silent or high - low <= found.tolerance:
        return None
    return never_pays(silent, f"all {found.rollouts.height:,} rollouts")


def is_penalty(name: str) -> bool:
    """Whether a reward function is there to be 0."""
    return any(word in name.lower() for word in ("penal", "punish", "overlong", "repet"))


def never_pays(silent: Mapping[str, float], where: str) -> Finding:
    """The finding. silent: the one value of each function; where: in which rollouts or steps."""
    each = ", ".join(f"{plain_line(name, 40)}: {value:g}" for name, value in silent.items())
    one = len(silent) == 1
    return Finding(
        "silent_function",
        "note",
        f"{'A reward function gives' if one else f'{len(silent)} reward functions give'} the same "
        f"in {where} ({each}), so nothing is learnt from {'it' if one else 'them'}.",
        "Call it on an answer that should get it: a pattern that does not match (line breaks, a "
        "tag that the template opens), another field, another scale. If it is a penalty, nothing "
        "is wrong.",
    )


def silent_task(found: Diagnosis) -> Finding | None:
    """All rewards of one task are equal, while those of another differ."""
    if found.groups["task"].n_unique() < 2:
        return None
    mine = found.groups.select("key", "part", "size")
    tasks = (
        found.rollouts.select("key", "part", "task", "reward")
        .join(mine, on=["key", "part"])
        .filter(pl.col("size") > 1)
        .group_by("task", maintain_order=True)
        .agg(
            groups=pl.struct("key", "part").n_unique(),
            low=pl.col("reward").min(),
            high=pl.col("reward").max(),
        )
        .filter(pl.col("groups") >= TASK)
    )
    equal = pl.col("high") - pl.col("low") <= found.tolerance
    silent = tasks.filter(equal).sort("groups", descending=True)
    if silent.is_empty() or silent.height == tasks.height:
        return None
    most = float(tasks["high"].max())  # type: ignore[arg-type]
    failed = silent.filter(pl.col("high") < most - found.tolerance)
    said = failed if failed.height else silent
    rows = said.head(3).iter_rows(named=True)
    each = "; ".join(f"{row['task']}: {row['low']:g} in {row['groups']:,} groups" for row in rows)
    share = int(said["groups"].sum()) / found.groups.height
    return Finding(
        "silent_task",
        "problem" if failed.height else "note",
        f"All rewards of {said.height} of {tasks.height} tasks are equal ({each}), {share:.0%} of "
        "all groups, while those of other tasks differ.",
        "Call that task's reward function on the ground truth itself: is the judge or the sandbox "
        "reachable, is the answer parsed? If it is right, the task is out of reach: leave it out "
        "until the policy finds some."
        if failed.height
        else "Leave the task out, or bring in harder prompts of it.",
    )


def reward_ignores_rollout(found: Diagnosis) -> Finding | None:
    """Rewards differ between groups and never inside one, though the answers do."""
    groups = found.groups.filter(pl.col("size") > 1)
    if groups.height < 20 or found.group < 2:
        return None
    uneven = groups.filter(~pl.col("constant")).height
    differ = groups.filter(pl.col("distinct") > 1).height
    known = groups.filter(pl.col("distinct").is_not_null()).height
    usual = groups["reward"].round(6).value_counts()["count"].max()
    assert isinstance(usual, int)
    if uneven > 0.005 * groups.height or usual > 0.95 * groups.height:
        return None
    if not known or differ < MOSTLY * known:
        return None
    return Finding(
        "reward_ignores_rollout",
        "problem",
        f"Rewards differ between prompts ({groups['reward'].round(6).n_unique():,} values) and "
        f"inside {uneven or 'none'} of {groups.height:,} groups, though the answers of "
        f"{differ:,} groups differ: the reward does not look at the answer.",
        "Score two very different answers to one prompt by hand. Look for a reward function that "
        "reads the prompt or the label instead of the completion, or one score that is repeated "
        "over the group.",
    )


def format_guard(found: Diagnosis) -> Finding | None:
    """Hits get the lowest reward all the same, or most answers are malformed and get it."""
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
    known = known.filter(pl.col("step") >= found.late()["step"].min())
    broken = known.filter(pl.col("format") < MOSTLY)
    if known.height < 20 or broken.height < BROKEN * known.height:
        return None
    if broken.filter(floored).height < broken.height:
        return None
    return Finding(
        "format_guard",
        "problem",
        f"{broken.height / known.height:.0%} of the answers in the last third of the steps are "
        f"malformed, and every one of those got the lowest reward, {low:g}.",
        "Most answers are judged on their format, not on what they say. Check the chat template, "
        "stop tokens and the length limit, constrain decoding to valid IDs, or teach the format by "
        "SFT.",
    )


def shaped_hides(found: Diagnosis) -> Finding | None:
    """Groups without a hit still differ in their shaped reward. Where no outcome is logged beside
    it, what a hit is was found out, and this is said only where most groups have none. Few such
    groups steer few updates: a note below a third of all groups, nothing below a tenth."""
    failed = found.groups.filter(pl.col("regime") == "all_zero")
    moving = failed.filter(~pl.col("constant"))
    share = moving.height / found.groups.height
    if moving.height < 5 or moving.height < 0.1 * failed.height or share < 0.1:
        return None
    late = found.late()
    none = late.filter(pl.col("regime") == "all_zero").height
    if not found.shaped and binomial_share(none, late.height).low <= MOSTLY:
        return None
    taking = "" if found.shaped else f" (taking a hit to be {found.rule.how})"
    return Finding(
        "shaped_hides",
        "problem" if share >= 1 / 3 else "note",
        f"{moving.height:,} of {failed.height:,} groups in which every rollout failed{taking} "
        "still have different shaped rewards. They look learnable, and GRPO's normalisation blows "
        "their differences up to full size.",
        "Log and watch the raw outcome. Keep the shaped score for ranking inside a group (ReCast's "
        "hard negative), not as a reward, or add it with a weight and without normalisation.",
    )


def no_raw_outcome(found: Diagnosis) -> Finding | None:
    """Nothing that is logged says which rollouts are hits."""
    if found.known:
        return None
    says = found.rule.words
    mine = [one for one in found.log.reading.functions if not SHAPE_WORDS.search(plain_name(one))]
    shown = ", ".join(plain_line(one, 40) for one in mine[:5]) if len(mine) > 1 else ""
    return Finding(
        "no_raw_outcome",
        "note",
        f"{says[:1].upper()}{says[1:]}. Every number that depends on it is left out.",
        f"Say which column holds the raw outcome (--outcome{f': {shown}?' if shown else ''}), or "
        "from which reward on a rollout counts as a hit (--threshold); or log the raw outcome "
        "beside the reward.",
    )


def reward_drift(found: Diagnosis) -> Finding | None:
    """The scale of the reward changed over training: what was one reward is now another.

    A policy that learns moves rollouts between rewards and leaves the rewards where they are. So
    rewards of levels have drifted where the levels of the first third are gone in the last and
    no step has both; continuous ones of both signs, no shares, where they spread at least twice as
    wide inside groups, or half.
    """
    ends = found.thirds(found.rollouts)
    if ends is None:
        return None
    early, late = ends
    if min(early.height, late.height) < 50:
        return None
    says = _moved_levels(found, early, late) or _moved_spread(found)
    if not says:
        return None
    return Finding(
        "reward_drift",
        "problem",
        f"The reward's scale moved: {says}.",
        "Find out what changed: a reward model that is still trained, a running normaliser, a "
        "changed weight. Signals without normalisation (Dr. GRPO, RLOO) take other step sizes now, "
        "and curves of the reward cannot be compared.",
    )


def _moved_levels(found: Diagnosis, early: pl.DataFrame, late: pl.DataFrame) -> str:
    """Levels other than 0 that were exchanged for others of another size."""
    rows = found.rollouts.select("step", level=pl.col("reward").round(4)).filter(
        pl.col("level").abs() > found.tolerance
    )
    per_step = rows.group_by("step").agg(pl.col("level").n_unique())["level"]
    usual = per_step.median()
    if not len(per_step) or not isinstance(usual, (int, float)) or usual > LEVELS:
        return ""
    first, last = (
        part.select(level=pl.col("reward").round(4)).filter(
            pl.col("level").abs() > found.tolerance
        )["level"]
        for part in (early, late)
    )
    if min(len(first), len(last)) < 50:
        return ""
    old, new = set(first.unique()), set(last.unique())
    # What occurs in both thirds is still there; a handful of values may be shared by accident.
    if first.is_in(list(new)).mean() > 0.05 or last.is_in(list(old)).mean() > 0.05:  # type: ignore[operator]
        return ""
    sizes = [float(np.median(np.abs(part.to_numpy()))) for part in (first, last)]
    if max(sizes) < 1.5 * min(sizes):
        return ""
    both = rows.group_by("step").agg(
        old=pl.col("level").is_in(list(old)).any(), new=pl.col("level").is_in(list(new)).any()
    )
    if both.filter(pl.col("old") & pl.col("new")).height > 0.02 * both.height + 1:
        return ""
    return (
        f"rewards of the first third of the steps (usually {sizes[0]:.3g} in size where they are "
        f"not 0) are gone in the last (usually {sizes[1]:.3g}), and no step has both"
    )


def _moved_spread(found: Diagnosis) -> str:
    """Continuous rewards that spread more, or less, inside groups."""
    if found.group < 2 or found.rollouts["reward"].round(4).n_unique() <= LEVELS:
        return ""
    # Rewards of one sign have a bound at 0, and spread less as a policy comes near it.
    signs = [(found.rollouts["reward"] * sign > 0).mean() for sign in (1, -1)]
    if min(float(share or 0) for share in signs) < 0.05:  # type: ignore[arg-type]
        return ""
    low, high = _range(found.rollouts, "reward")
    if low >= -1 and high <= 1:
        return ""
    ends = found.thirds(found.groups.filter(~pl.col("constant")))
    if ends is None or min(part.height for part in ends) < 20:
        return ""
    first, last = (np.log(part["spread"].to_numpy()) for part in ends)
    error = float(np.sqrt(first.var() / len(first) + last.var() / len(last)))
    gap = float(last.mean() - first.mean())
    if abs(gap) < np.log(2) or abs(gap) < Z * error:
        return ""
    return (
        f"inside a group rewards spread over {np.exp(first.mean()):.3g} in the first third of the "
        f"steps and over {np.exp(last.mean()):.3g} in the last"
    )


def _range(frame: pl.DataFrame, column: str) -> tuple[float, float]:
    values = frame[column].to_numpy()
    return float(values.min()), float(values.max())
