"""Findings about hits: groups that teach nothing, and a pass rate that moves the wrong way."""

from __future__ import annotations

import polars as pl

from workbench.diagnosis.diagnosis import Diagnosis, change
from workbench.diagnosis.findings.finding import MOSTLY, TASK, Finding, Z
from workbench.diagnosis.findings.groups import uses_dead_groups
from workbench.stats.beta_binomial import binomial_share

HOPELESS = 0.8
"""Share of a task's groups without a hit from which on it learns next to nothing."""


def starved(found: Diagnosis) -> Finding | None:
    """Most groups have no hit, and their rewards are equal or hits are known."""
    if found.group < 2:
        return None
    late = found.late()
    count = late.filter((pl.col("regime") == "all_zero") & _counts(found)).height
    share = binomial_share(count, late.height)
    if share.low <= MOSTLY:
        return None
    if uses_dead_groups(found):
        return Finding(
            "starved",
            "note",
            f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of the groups in the last "
            "third of the steps have no hit, and this run's advantages show that it learns from "
            "them all the same (repair, or a penalty).",
            "Compare with supervised training on the same targets (sft, grpo_sft): does the repair "
            "give more than that?",
        )
    known = found.rollouts["target"].count() > 0
    wider = (
        ""
        if found.beam
        else " Otherwise widen G to what the table of predictions says, or fill batches by dynamic "
        "sampling."
    )
    ready = "The ground truth is logged" if known else "If the ground truth is known"
    return Finding(
        "starved",
        "problem",
        f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}] of the groups in the last third of "
        "the steps have no hit at all: they teach a group-relative signal nothing.",
        "Read some answers of such groups first: are they cut off, empty, or judged wrongly? "
        f"{ready}{': repair' if known else ', repair'} such groups with it (recast, repair_only), "
        f"or train on it directly (sft, grpo_sft).{wider}",
    )


def starved_task(found: Diagnosis) -> Finding | None:
    """One task has hardly a hit while another learns."""
    if found.group < 2 or len(found.tasks) < 2:
        return None
    late = found.late().filter(pl.col("size") > 1)
    if late.is_empty() or late["regime"].null_count():
        return None
    counted = (
        late.group_by("task", maintain_order=True)
        .agg(groups=pl.len(), none=((pl.col("regime") == "all_zero") & _counts(found)).sum())
        .filter(pl.col("groups") >= TASK)
        .sort("groups", descending=True)
    )
    shares = [
        (str(row["task"]), row["groups"], binomial_share(row["none"], row["groups"]))
        for row in counted.iter_rows(named=True)
    ]
    hopeless = [one for one in shares if one[2].value > HOPELESS]
    sure = any(share.low > HOPELESS for _, _, share in hopeless)
    learning = [one for one in shares if one[2].high < HOPELESS and one[2].value <= MOSTLY]
    if not sure or not learning:
        return None
    each = "; ".join(
        f"{task}: {share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of {groups:,} groups"
        for task, groups, share in hopeless[:3]
    )
    best = min(learning, key=lambda one: one[2].value)
    part = sum(groups for _, groups, _ in hopeless) / late.height
    return Finding(
        "starved_task",
        "problem",
        f"In the last third of the steps {len(hopeless)} of {len(shares)} tasks have hardly a "
        f"group with a hit ({each} have none, while {best[0]} has none in {best[2].value:.0%}). "
        f"These tasks make {part:.0%} of the groups and teach a group-relative signal next to "
        "nothing.",
        "Read some answers of that task: are they judged rightly, are they cut off? If they are "
        "only wrong, train it on the ground truth first (sft), give it easier prompts or a wider "
        "G, or take it out until the policy finds some; the mean over all tasks hides it.",
    )


def saturated(found: Diagnosis) -> Finding | None:
    """Most groups hit every time, and their rewards are equal or hits are known."""
    late = found.late()
    count = late.filter(
        (pl.col("regime") == "saturated") & (pl.col("size") > 1) & _counts(found)
    ).height
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


def _counts(found: Diagnosis) -> pl.Expr:
    """Which groups may be called all-zero or saturated: those of equal rewards, and all of them
    where an outcome of its own says what a hit is."""
    return pl.lit(True) if found.shaped else pl.col("constant")


def diluted_denominator(found: Diagnosis) -> Finding | None:
    """Most rows of the loss have no advantage, and they are divided by all the same."""
    if found.group < 2 or uses_dead_groups(found):
        return None
    late = found.late()
    dead = late.filter("constant")
    rows, of = int(dead["size"].sum()), int(late["size"].sum())
    if binomial_share(dead.height, late.height).low <= MOSTLY or rows <= MOSTLY * of:
        return None
    if rows == of:
        return None
    return Finding(
        "diluted_denominator",
        "problem",
        f"{rows / of:.0%} of the rollouts of the last third of the steps are in groups of equal "
        f"rewards. A loss averaged over all rollouts takes a step {of / (of - rows):.1f} times "
        "smaller, and how much smaller changes from batch to batch.",
        "Divide by the rollouts that have an advantage (denominator=active), drop the others "
        "before the actor, and retune the learning rate.",
    )


def pass_at_k_falls(found: Diagnosis) -> Finding | None:
    """Pass@1 rises, or does not fall, while Pass@G falls: the policy sharpens and gives up
    prompts."""
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
        # Harder prompts take from Pass@1 too.
        if one.z > -1 and many.z < -Z:
            where = "" if task == "all" else f" in task {task}"
            rose = one.z > 3
            return Finding(
                "pass_at_k_falls",
                "problem" if rose else "note",
                f"From the first third of the steps to the last{where}, Pass@1 "
                f"{'rose' if rose else 'went'} from {one.before:.1%} to {one.after:.1%} while "
                f"Pass@{found.group} fell from {many.before:.1%} to {many.after:.1%}: the policy "
                "sharpens on what it knew and gives up prompts it used to solve"
                + ("." if rose else ", or prompts became both easier and harder."),
                "Prefer signals that favour hard prompts (maxrl, pass_at_k, nsr, w_reinforce), "
                "keep entropy or KL, and choose checkpoints by Pass@k or recall, not by Pass@1.",
            )
    return None
