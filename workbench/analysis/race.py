"""What a race came to, and whether stored runs say the same."""

from __future__ import annotations

import polars as pl

from workbench.analysis.answers import Answer, surely, value
from workbench.analysis.rows import tuned_test_rows
from workbench.analysis.tuning import lone_rates
from workbench.stats.estimates import paired_difference
from workbench.stats.p_values import LEVEL, holm
from workbench.stats.pairs import pair_by_seed


def verdict(frame: pl.DataFrame, metric: str, label: str) -> Answer | None:
    """Who is ahead where a race ended: the best against its hardest rival, p corrected over all
    rivals; None where fewer than two strategies got there.

    frame: rows of a race (strategy, seed, step, cell, metrics); label: the metric in words.
    """
    last = _last(frame, metric)
    means = _means(last, metric)
    if len(means) < 2:
        return None
    best, *rivals = means
    found = []
    for rival in rivals:
        pairs = pair_by_seed(last, metric, best, rival)
        found.append((rival, paired_difference(pairs.first, pairs.second)))
    corrected = holm([one.p for _, one in found])
    p, (rival, gap) = max(zip(corrected, found, strict=True), key=lambda each: each[0])
    step = int(last["step"].to_list()[0])
    how = surely(gap.low, gap.high, p, gap.n)
    told = f"{best} {value(means[best])}, {rival} {value(means[rival])} on {label} at step {step}"
    if p < LEVEL:
        return Answer(f"{best} ahead", f"{told}: its hardest rival is behind ({how}).", "first")
    return Answer("no winner", f"{told}: {rival} may do as well ({how}).")


def compared_with(frame: pl.DataFrame, stored: pl.DataFrame, metric: str, whose: str) -> str:
    """One sentence on whether stored runs have the strategies of a race in the same order, and in
    what the two differ; empty where they share fewer than two.

    stored: runs of one cell with `tuned` marked; whose: what they are called.
    """
    rows = tuned_test_rows(stored)
    if metric not in rows.columns or rows.is_empty():
        return ""
    known = set(frame["strategy"])
    there = _means(_last(rows.filter(pl.col("strategy").is_in(list(known))), metric), metric)
    here = {name: v for name, v in _means(_last(frame, metric), metric).items() if name in there}
    there = {name: v for name, v in there.items() if name in here}
    if len(here) < 2:
        return ""
    pairs = [(a, b) for i, a in enumerate(here) for b in list(here)[i + 1 :]]
    alike = sum(there[a] >= there[b] for a, b in pairs)
    facts = (
        ("steps", max(frame["step"].to_list()), max(rows["step"].to_list())),
        ("seeds", frame["seed"].n_unique(), rows["seed"].n_unique()),
    )
    differing = ", ".join(f"{b} {name} there, {a} here" for name, a, b in facts if a != b)
    order = " > ".join(there)
    alone = ", ".join(name for name in lone_rates(stored) if name in there)
    tuned = f"one rate tried of {alone}" if alone else "every rate tuned on validation users"
    return (
        f"{whose} order {alike} of {len(pairs)} pairs of these "
        f"strategies alike ({order}). They are another experiment: "
        f"{differing or 'other worlds'}, another world, all test users, {tuned}."
    )


def simulated_cell(stored: pl.DataFrame) -> pl.DataFrame:
    """The cell with the most runs among those of simulated worlds, whose rates a race can use."""
    if stored.is_empty():
        return stored
    here = stored.filter(~pl.col("world").str.starts_with("lm:"))
    if here.is_empty():
        return here
    sizes = here.group_by("cell", maintain_order=True).agg(n=pl.col("run").n_unique())
    return here.filter(pl.col("cell") == sizes.sort("n", "cell", descending=True)["cell"][0])


def tuned_rates(stored: pl.DataFrame) -> dict[str, float]:
    """The rate of each strategy that is marked as tuned, where several were tried; of one cell."""
    if stored.is_empty():
        return {}
    several = pl.col("lr").n_unique().over("strategy") > 1
    chosen = stored.filter(several & pl.col("tuned")).group_by("strategy")
    return dict(chosen.agg(pl.col("lr").first()).iter_rows())


def _last(frame: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Rows at the last step that every strategy has reached with every seed."""
    usable = frame.drop_nulls(metric)
    if usable.is_empty():
        return usable
    seeds, names = usable["seed"].n_unique(), usable["strategy"].n_unique()
    counts = usable.group_by("step").agg(n=pl.struct("strategy", "seed").n_unique())
    whole = counts.filter(pl.col("n") == seeds * names)["step"]
    return usable.filter(pl.col("step") == (whole.max() if len(whole) else usable["step"].max()))


def _means(rows: pl.DataFrame, metric: str) -> dict[str, float]:
    """Mean per strategy, the best first."""
    table = rows.group_by("strategy").agg(pl.col(metric).cast(pl.Float64).mean())
    return dict(table.sort(metric, descending=True).iter_rows())
