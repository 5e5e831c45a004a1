"""Findings about the advantages that a run logged, each one reading of the audit."""

from __future__ import annotations

from workbench.diagnosis.findings.audit import ABSURD, BATCH, Audit
from workbench.diagnosis.findings.finding import Finding

BATCH_WIDE = ("reinforce", "reinforce_pp", "raw", BATCH)


def foreign_advantages(said: Audit) -> str:
    """That advantages come from other groups, as half a sentence; empty where they do not."""
    if said.kind == "stride":
        return (
            f"advantages were computed over every {said.found.group} rows in a row of the batch, "
            "whatever their prompts (rewards.view(-1, G) on interleaved or shifted prompts)"
        )
    if said.kind == "foreign":
        return (
            f"in {said.odd:.0%} of the groups the advantages do not follow the rewards of their "
            "own group: they were computed over other rollouts"
        )
    return ""


def rows_outside_mean(said: Audit) -> Finding | None:
    """Advantages do not add up to nothing: the mean was taken over other rows than were logged."""
    if said.kind != "outside":
        return None
    return Finding(
        "rows_outside_mean",
        "problem",
        f"The advantages of {said.odd:.0%} of {said.groups:,} groups of different rewards do not "
        "add up to nothing, and no formula of the catalogue gives them: their mean was taken over "
        "other rows than those logged (rejected, padded or missing rollouts).",
        "Compare the rows that enter the group's mean with those that are trained on: rows that "
        "are masked or dropped must leave both, or stay in both.",
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


def no_group_baseline(said: Audit) -> Finding | None:
    """The signal compares rollouts with the whole batch, or with nothing."""
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
