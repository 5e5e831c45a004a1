"""Findings about groups: their size, their members, copies in them."""

from __future__ import annotations

import polars as pl

from workbench.diagnosis.diagnosis import LATE, Diagnosis
from workbench.diagnosis.findings.advantages import foreign_advantages
from workbench.diagnosis.findings.audit import Audit
from workbench.diagnosis.findings.finding import MOSTLY, Finding

COMMON = 0.1
"""Share of the groups from which on a size is common."""

COPIES_IN_BEAM = 0.05
SHORT = 40
"""Characters: equal answers that are no longer may be a label."""


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
        "multiple of G on every worker), and that rows are not shuffled before advantages are "
        "computed. Log a group id. If G varies on purpose, ignore the sizes.",
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
        found.rollouts.join(known.select("key", "part"), on=["key", "part"])
        .group_by("key", "part")
        .agg(low=pl.col("advantage").min(), high=pl.col("advantage").max())
    )


def uses_dead_groups(found: Diagnosis) -> bool:
    """Whether the run's own signal learns from groups of equal rewards: repair, or a penalty."""
    dead = dead_advantages(found)
    used = dead.filter((pl.col("low") < -1e-3) ^ (pl.col("high") > 1e-3)).height
    return dead.height > 0 and used >= MOSTLY * dead.height


def duplicated_rollouts(found: Diagnosis) -> Finding | None:
    """Rollouts of a group are copies of each other, in the whole log or at its end."""
    says = _beam_copies(found) if found.beam else _all_alike(found) or _paired(found)
    if not says:
        return None
    if found.beam:
        do = (
            "Beam search cannot return one item twice: check that sampling is off (do_sample), "
            "that the beams are constrained to the catalogue, and that decoding reads every code."
        )
    else:
        do = (
            "Check that sampling is on (temperature above 0), and that workers and requests draw "
            "from different seeds. If the policy has collapsed, restart earlier, with a higher "
            "temperature or an entropy bonus."
        )
    return Finding("duplicated_rollouts", "problem", f"{says}. Copies cost like rollouts and add "
                   "nothing.", do)  # fmt: skip


def _beam_copies(found: Diagnosis) -> str:
    known = found.groups.filter(pl.col("distinct").is_not_null())
    slots, distinct = int(known["size"].sum()), int(known["distinct"].sum())
    if known.height < 10 or slots - distinct < COPIES_IN_BEAM * slots:
        return ""
    return f"{1 - distinct / slots:.0%} of the places of the beam sets repeat another of their set"


def _all_alike(found: Diagnosis) -> str:
    """Whether all rollouts are the same in half of the groups: of the log, of its last third, or of
    its last tenth."""
    known = found.groups.filter(pl.col("distinct").is_not_null() & (pl.col("size") > 1))
    if _labels(found):
        return ""
    # Where every rollout hits, all may well be the one short right answer.
    if _median_length(found) <= SHORT:
        known = known.filter(pl.col("regime") != "saturated")
    steps = found.steps
    for share, where in ((1.0, ""), (LATE, " of the last third"), (0.1, " of the last tenth")):
        first = steps[len(steps) - max(1, round(share * len(steps)))]
        mine = known.filter(pl.col("step") >= first)
        same = mine.filter(pl.col("distinct") == 1).height
        if mine.height >= 10 and same >= MOSTLY * mine.height:
            return f"In {same:,} of {mine.height:,} groups{where} all rollouts are the same"
    return ""


def _labels(found: Diagnosis) -> bool:
    """Whether answers are labels of a classification: short, and few of them in the whole log."""
    said = found.rollouts["prediction"].drop_nulls()
    structured = found.rollouts["depth"].fill_null(1).max()
    if not len(said) or (structured or 1) > 1 or _median_length(found) > SHORT:  # type: ignore[operator]
        return False
    kinds = said.n_unique()
    return 1 < kinds <= 100 and kinds * 20 <= len(said)


def _median_length(found: Diagnosis) -> float:
    """Characters of the usual answer; 0 where no text is logged."""
    if "chars" not in found.rollouts.columns:
        return 0.0
    value = found.rollouts["chars"].median()
    return float(value) if isinstance(value, (int, float)) else 0.0


def _paired(found: Diagnosis) -> str:
    """Whether every prediction of nearly every group comes a multiple of 2 or 3 times."""
    groups = found.groups.filter((pl.col("distinct") > 1).fill_null(value=True))
    half = groups.filter((2 * pl.col("distinct") <= pl.col("size")).fill_null(value=True))
    if half.height < 0.9 * groups.height:
        return ""  # most groups have too many predictions for that
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
