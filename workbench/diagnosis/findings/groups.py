"""Findings about groups: their size, their members, batches that come again."""

from __future__ import annotations

import polars as pl

from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings.advantages import foreign_advantages
from workbench.diagnosis.findings.audit import Audit
from workbench.diagnosis.findings.finding import MOSTLY, Finding

COMMON = 0.1
"""Share of the groups from which on a size is common."""


def group_of_one(found: Diagnosis) -> Finding | None:
    """Groups have one rollout."""
    if found.group > 1:
        return None
    visits = found.groups.group_by("step", "prompt").len()["len"]
    together = int(visits.mode().max() or 1)  # type: ignore[arg-type]
    if together > 1:
        return Finding(
            "group_of_one",
            "problem",
            f"Most groups have a single rollout, though {together} rollouts of a step usually "
            "share their prompt: no two of them share a group id. The id is per rollout, and a "
            "reward minus the mean of a group of one is always zero.",
            "Give the rollouts of one prompt one id (uid) where the batch is repeated, not where "
            "each rollout is made; then compare the advantages again.",
        )
    if _of_larger_groups(found):
        return Finding(
            "group_of_one",
            "note",
            "The log holds one rollout of each group: rollouts of one step and one reward have "
            "advantages of several sizes, so the trainer compared them with others that are not "
            "logged. Whatever is counted in groups is left open.",
            "Log whole groups (wandb_log_unique_prompts=False, log_unique_prompts=False), or give "
            "the trainer's own files (completions/*.parquet).",
        )
    return Finding(
        "group_of_one",
        "problem",
        "Most groups have a single rollout, so a reward minus the group's mean is always zero.",
        "Sample more rollouts per prompt (num_generations, rollout.n), or, if you do, log a group "
        "id or prompt that rollouts of one group share. REINFORCE works with one.",
    )


def _of_larger_groups(found: Diagnosis) -> bool:
    """Whether equal rewards of one step have different advantages, which no baseline of a group of
    one, and none of the batch, gives."""
    rows = found.rollouts.drop_nulls("advantage")
    equal = rows.group_by("step", pl.col("reward").round(6)).agg(
        pl.len(), spread=pl.col("advantage").max() - pl.col("advantage").min()
    )
    equal = equal.filter(pl.col("len") > 1)
    return (
        equal.height >= 5 and equal.filter(pl.col("spread") > 1e-3).height > MOSTLY * equal.height
    )


def groups_mixed(said: Audit) -> Finding | None:
    """Groups are not what the trainer compared: odd sizes, several targets, foreign advantages."""
    found = said.found
    if found.group < 2:
        return None
    groups, usual = found.groups, found.group
    spare = max(2.0, 0.01 * groups.height) + found.log.problems.unreadable
    says = []
    larger = groups.filter(pl.col("size") > pl.col("usual")).height
    smaller = groups.filter(pl.col("size") < pl.col("usual")).height
    if _sizes_by_design(said):
        larger = smaller = 0
    if larger > spare:
        says.append(f"{larger:,} of {groups.height:,} groups hold more than {usual} rollouts")
    if smaller > spare:
        says.append(f"{smaller:,} of {groups.height:,} groups hold fewer than {usual} rollouts")
    several = groups.filter(pl.col("targets") > 1).height
    if several > max(2.0, 0.01 * groups.height):
        says.append(f"{several:,} groups have rollouts with different targets")
    if foreign := foreign_advantages(said):
        says.append(foreign)
    if not says:
        return None
    return Finding(
        "groups_mixed",
        "problem",
        f"Groups look split or mixed up: {'; '.join(says)}.",
        "Check that every prompt has one id, that a batch holds whole groups (batch size a "
        "multiple of G on every worker), that rows are not shuffled before advantages are "
        "computed, and that each worker takes its own slice of those that were gathered. Log a "
        "group id. If G varies on purpose, ignore the sizes.",
    )


def _sizes_by_design(said: Audit) -> bool:
    """Whether groups that name their ids differ in size on purpose: their advantages are computed
    over just these rows, or, where none are logged, several sizes are common, each the usual one
    times a power of two, and no prompt of a step has two groups."""
    found = said.found
    if not found.log.ids:
        return False
    if said.kind == "formula":
        return True
    if said.kind:
        return False
    sizes = found.groups["size"].value_counts()
    common = sizes.filter(pl.col("count") >= COMMON * found.groups.height)["size"]
    powers = (pl.Series(common, dtype=pl.Float64) / found.group).log(2)
    once = found.groups.group_by("step", "prompt").len()["len"].max() == 1
    even = bool((powers - powers.round()).abs().max() < 1e-9)  # type: ignore[operator]
    few = sizes.filter(~pl.col("size").is_in(common.to_list()))["count"].sum()
    return once and even and len(common) > 1 and few <= 0.01 * found.groups.height


def dead_advantages(found: Diagnosis) -> pl.DataFrame:
    """Smallest and largest logged advantage (`low`, `high`) of each group of equal rewards."""
    known = found.groups.filter(pl.col("constant") & pl.col("idle").is_not_null())
    return (
        found.rollouts.select("key", "part", "advantage")
        .join(known.select("key", "part"), on=["key", "part"])
        .group_by("key", "part")
        .agg(low=pl.col("advantage").min(), high=pl.col("advantage").max())
    )


def uses_dead_groups(found: Diagnosis) -> bool:
    """Whether the run's own signal learns from groups of equal rewards: repair, or a penalty."""
    dead = dead_advantages(found)
    used = dead.filter((pl.col("low") < -1e-3) ^ (pl.col("high") > 1e-3)).height
    return dead.height > 0 and used >= MOSTLY * dead.height


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
