"""Findings about equal answers in a group: copies, and copies that got other rewards."""

from __future__ import annotations

import polars as pl

from workbench.diagnosis.diagnosis import LATE, Diagnosis
from workbench.diagnosis.findings.finding import MOSTLY, Finding
from workbench.stats.beta_binomial import binomial_share

COPIES_IN_BEAM = 0.05
SHORT = 40
"""Characters: equal answers that are no longer may be a label."""

PAIRS = 50
"""Pairs of equal answers from which on their rewards are compared."""

APART = 0.2
"""Share of those pairs with different rewards that a judge's noise does not make."""


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
        found.rollouts.select("key", "part", "prediction")
        .drop_nulls("prediction")
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


def contradicting_rewards(found: Diagnosis) -> Finding | None:
    """Equal answers to one prompt are hits and misses both."""
    if found.beam or not found.known:
        return None
    plain = found.groups.filter((pl.col("size") > 1) & (pl.col("targets") <= 1))
    counted = (
        _judged(found, plain)
        .group_by("key", "part", "prediction", "chars", "value")
        .len("same")
        .group_by("key", "part", "prediction", "chars")
        .agg(n=pl.col("same").sum(), square=(pl.col("same") ** 2).sum())
        .group_by("key", "part")
        .agg(
            pairs=((pl.col("n") ** 2 - pl.col("n")) // 2).sum(),
            apart=((pl.col("n") ** 2 - pl.col("square")) // 2).sum(),
        )
        .filter(pl.col("pairs") > 0)
    )
    pairs, apart = int(counted["pairs"].sum()), int(counted["apart"].sum())
    if pairs < PAIRS or counted.height < 10 or apart < APART * pairs:
        return None
    groups = binomial_share(counted.filter(pl.col("apart") > 0).height, counted.height)
    chance = _chance(plain)
    blind = apart >= MOSTLY * chance * pairs
    known = found.rollouts["target"].count() > 0
    return Finding(
        "contradicting_rewards",
        "problem" if known and blind else "note",
        f"Equal answers to one prompt are judged differently: {apart:,} of {pairs:,} pairs of them "
        f"({apart / pairs:.0%}, where {chance:.0%} of any two rollouts of a group are), in "
        f"{groups.value:.0%} [{groups.low:.0%}, {groups.high:.0%}] of the {counted.height:,} "
        "groups that have such.",
        "Score one such answer by hand and compare. If the reward looks at the answer alone, "
        "rewards stand beside other rollouts than they were computed for: look for a sort by "
        "length, a shuffle, or results of workers that come back in another order. If a model "
        "judges, let it judge at temperature 0 or take the mean of several verdicts. If the reward "
        "also looks at what is not in the answer (tools, an environment, a place in a list), "
        "this is as it should be.",
    )


def _judged(found: Diagnosis, groups: pl.DataFrame) -> pl.DataFrame:
    """Rollouts with an answer, of groups in which one comes twice, and whether it is a hit."""
    twice = groups.filter((pl.col("distinct") < pl.col("size")).fill_null(value=True))
    return (
        found.rollouts.select("key", "part", "prediction", "chars", "outcome")
        .drop_nulls("prediction")
        .join(twice.select("key", "part"), on=["key", "part"])
        .with_columns(value=pl.col("outcome") > found.threshold + found.tolerance)
        .drop("outcome")
    )


def _chance(groups: pl.DataFrame) -> float:
    """Share of all pairs of rollouts of one group of which one is a hit."""
    hits, size = groups["hits"].cast(pl.Float64), groups["size"].cast(pl.Float64)
    return float((hits * (size - hits)).sum()) / max(1.0, float((size * (size - 1)).sum()) / 2)
