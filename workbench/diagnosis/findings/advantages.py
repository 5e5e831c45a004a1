"""Findings about the advantages that a run logged, each one reading of the audit."""

from __future__ import annotations

import polars as pl

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings.audit import ABSURD, BATCH, OWN, Audit
from workbench.diagnosis.findings.audit_faults import FEWEST, FITS
from workbench.diagnosis.findings.finding import Finding

BATCH_WIDE = ("reinforce", "reinforce_pp", "raw", BATCH)


def foreign_advantages(said: Audit) -> str:
    """That advantages come from other groups, as half a sentence; empty where they do not."""
    if said.kind == "stride":
        return (
            f"advantages were computed over every {said.stride} rows in a row of the batch, "
            "whatever their prompts (rewards.view(-1, G) on interleaved or shifted prompts, or "
            "with another number of generations than was sampled)"
        )
    if said.kind == "dealt":
        return (
            "advantages were computed over rows that stand one batch of prompts apart, whatever "
            "their prompts (rewards.view(G, -1) where the rollouts of a prompt stand together)"
        )
    if said.kind == "foreign":
        return (
            f"in {said.odd:.0%} of the groups the advantages do not follow the rewards of their "
            "own group: they were computed over other rollouts"
        )
    return ""


def zero_advantages(said: Audit) -> Finding | None:
    """Rewards differ inside groups and their advantages are 0."""
    if said.kind != "zero":
        return None
    return Finding(
        "zero_advantages",
        "problem",
        f"In {said.odd:.0%} of {said.groups:,} groups of different rewards every logged advantage "
        "is 0: nothing is learnt from them.",
        "Look at what stands between reward and advantage: a group size of 1 in the trainer, a "
        "reward that is normalised again, weights of 0, a mask or filter over all rows, or the "
        "wrong tensor in the log.",
    )


def reversed_advantages(said: Audit) -> Finding | None:
    """The worse rollouts of a group are reinforced."""
    if said.kind != "reversed":
        return None
    return Finding(
        "reversed_advantages",
        "problem",
        f"In {said.odd:.0%} of {said.groups:,} groups of different rewards the worse rollouts have "
        "the larger advantages, by a formula of the catalogue with its sign turned around.",
        "Look for a sign: a cost in the place of a reward, mean less reward, or a loss that is "
        "maximised.",
    )


def rows_outside_mean(said: Audit) -> Finding | None:
    """Advantages do not add up to nothing: the mean was taken over other rows than were logged."""
    if said.kind != "outside":
        return None
    return Finding(
        "rows_outside_mean",
        "problem",
        f"The advantages of {said.odd:.0%} of {said.groups:,} groups of different rewards do not "
        "add up to nothing, and no formula of the catalogue gives them: their mean was taken over "
        "other rows than those logged (rejected, padded or missing rollouts), or something else "
        "than a mean of the group was taken off.",
        "Compare the rows that enter the group's mean with those that are trained on: rows that "
        "are masked or dropped must leave both, or stay in both. With a value model (PPO) in the "
        "place of the group's mean this is as it should be.",
    )


def absurd_advantages(said: Audit) -> Finding | None:
    """Advantages are far larger than normalising a group can give."""
    if said.kind == "formula" or said.absurd < 0.01:
        return None
    return Finding(
        "absurd_advantages",
        "problem",
        f"In {said.absurd:.1%} of the groups an advantage is more than {ABSURD:g} times what "
        f"normalising a group of its size can give (at most {said.largest:,.3g} times): something "
        "near zero was divided by.",
        "Add an eps to the standard deviation, leave groups of equal rewards out before dividing, "
        "and mind that leave-one-out deviations are zero where a single rollout differs.",
    )


def missing_advantages(found: Diagnosis) -> Finding | None:
    """Groups of equal rewards have no number as advantage, all others do."""
    rows = found.rollouts
    if not rows["advantage"].count() or not rows["advantage"].null_count():
        return None
    mine = found.groups.select("key", "part", "constant", "size")
    known = rows.select("key", "part", "advantage").join(mine, on=["key", "part"])
    groups = known.group_by("key", "part").agg(
        pl.col("constant").first(),
        pl.col("size").first(),
        none=pl.col("advantage").is_null().all(),
        some=pl.col("advantage").is_null().any(),
    )
    groups = groups.filter(pl.col("size") > 1)
    equal, uneven = groups.filter("constant"), groups.filter(~pl.col("constant"))
    lost = equal.filter("none").height
    if lost < FEWEST or lost < FITS * equal.height or uneven.filter("some").height:
        return None
    return Finding(
        "missing_advantages",
        "note",
        f"In {lost:,} of {equal.height:,} groups of equal rewards no advantage is a number, in "
        f"{uneven.height:,} groups of different rewards every one is: they were divided by a "
        "standard deviation of 0, or such groups were filtered before.",
        "See whether the log says NaN there. If so, add an eps to the standard deviation, or leave "
        "these groups out before dividing: one NaN makes the loss of its batch NaN. If they were "
        "filtered (dynamic sampling), nothing is wrong.",
    )


def no_group_baseline(said: Audit) -> Finding | None:
    """The signal compares rollouts with the whole batch, or with nothing."""
    if said.kind == "formula" and said.formula == OWN:
        return Finding(
            "no_group_baseline",
            "note",
            f"The logged advantages are rewards less something that all rollouts of a prompt share "
            f"and that is not their mean, in {said.share:.0%} of {said.groups:,} groups of "
            "different rewards. Groups of equal rewards are trained on too.",
            "That is right for a value model (PPO) or a running mean. For GRPO without the "
            "deviation the mean was taken over other rows than those logged: see whether rows were "
            "rejected or padded between the mean and the loss.",
        )
    if said.kind != "formula" or said.formula.split("(")[0] not in BATCH_WIDE:
        return None
    how = (
        "are the rewards themselves: nothing is subtracted"
        if said.formula == "raw"
        else f"are rewards compared with the whole batch ({said.formula})"
    )
    return Finding(
        "no_group_baseline",
        "note",
        f"The logged advantages {how}, in {said.share:.0%} of {said.groups:,} groups of different "
        "rewards. Groups of equal rewards are trained on too.",
        "That is right for REINFORCE and REINFORCE++. For GRPO the group's mean was never "
        "subtracted: check the advantage estimator and that group ids reach it.",
    )


def unknown_advantages(said: Audit) -> Finding | None:
    """No formula gives the advantages, though they follow the rewards."""
    if said.kind != "unknown":
        return None
    return Finding(
        "unknown_advantages",
        "note",
        f"No credit of the catalogue gives the logged advantages of {said.groups:,} groups of "
        "different rewards, though better rollouts do get the larger ones.",
        "Check which reward the trainer used (weights of reward functions, --reward), and whether "
        "it adds a penalty, a token-wise credit or a baseline of its own.",
    )
