"""From the columns of a log to two numbers per rollout: the reward that the trainer used, and the
raw outcome."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from recast.quoting import plain_line
from workbench.diagnosis.logs.column_names import OUTCOMES
from workbench.diagnosis.logs.column_values import OUTCOME_WORDS, is_paid, plain_name
from workbench.diagnosis.logs.layout import REWARD, Choice, LogFormat
from workbench.diagnosis.logs.weights import Weights, solve
from workbench.errors import LogError

REWARD_WORDS = re.compile(
    r"reward|score|acc|correct|format|match|check|penalt|bonus|hit|cosine|rouge|bleu|judge|rubric|"
    r"verif|grade|solved"
)
OTHER_WORDS = re.compile(
    r"token|len|num_|count(?!down)|turn|time|index|_id$|^id|step|epoch|entropy|logp|prob|ratio|temperature|"
    r"seed|rank|kl|latency|calls|error|timeout|truncat|retr|fail|abort"
)


SHAPE_WORDS = re.compile(
    r"format|tag|xml|len|style|repet|penalt|brev|concis|think|reason|language|cosine|overlong|"
    r"strict|soft|count(?!down)|bonus|steps|readab|structure|json|int_reward|digit|approx|tool|turn"
)
"""In the name of a reward function: it judges the form."""


@dataclass(frozen=True)
class RewardRule:
    """By which rule a log was read.

    reward, outcome: where they come from, in words; functions: the weight of each column that was
    added up, empty where one column is the reward; how: "named" (a column is called so), "chosen"
    (by the user), "solved" (weights from the logged advantages), "added" (with weight 1); solved:
    the solution; outcome_column: "" where the outcome is the reward; standing_in: columns that
    judged rows on which the outcome's function abstained; unjudged: groups in which nothing judged,
    left out; notes: whatever else was decided, one line each.
    """

    reward: str
    outcome: str
    functions: dict[str, float]
    how: str
    solved: Weights | None = None
    outcome_column: str = ""
    standing_in: tuple[str, ...] = ()
    unjudged: int = 0
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def words(self) -> str:
        """One line: where reward and outcome come from."""
        solved = " (weights solved from the logged advantages)" if self.how == "solved" else ""
        return f"reward: {self.reward}{solved}; outcome: {self.outcome}"


def settle(
    table: pl.DataFrame, form: LogFormat, choice: Choice, named: str
) -> tuple[pl.DataFrame, RewardRule]:
    """The table with reward and outcome, and by which rule; rows of groups in which nothing judged
    the outcome are left out.

    table: as `Reader.frame` gives, a key for each group; named: the column that is the reward by
    its name, "" where there is none. Raises LogError where nothing is left.
    """
    numbers = [c.removeprefix(REWARD) for c in table.columns if c.startswith(REWARD)]
    present = [c for c in numbers if table[REWARD + c].count()]
    functions, how, solved = _functions(table, present, form, choice)
    outcome = _outcome(present, functions, form, choice, named == "sampled_outcome")
    outcome = outcome or ("" if choice.outcome else _by_task(table, list(functions)))
    if not outcome and how == "named" and named != "sampled_outcome":
        outcome = next((c for c in present if _judges(table, c)), "")
    if how == "named":
        reward, words = pl.col("named"), plain_line(named or "reward", 40)
    else:
        terms = [pl.col(REWARD + c).fill_null(0.0) * w for c, w in functions.items()]
        some = pl.any_horizontal(pl.col(REWARD + c).is_not_null() for c in functions)
        reward = pl.when(some).then(pl.sum_horizontal(terms)).otherwise(None)
        reward = reward.fill_null(pl.col("named"))
        words = " + ".join(_weighted(name, w) for name, w in functions.items())
    table = table.with_columns(reward=reward)
    lost = table["reward"].null_count()
    table = table.drop_nulls("reward") if lost else table
    if how != "named" and list(functions) == [outcome] and set(functions.values()) == {1.0}:
        outcome = ""
    table, standing, unjudged = _judged(table, outcome, functions)
    if table.is_empty():
        raise LogError(
            f"nothing readable: the outcome {plain_line(outcome, 40)} is no number in any row"
        )
    notes = [f"{lost:,} rollouts have no reward at all and are left out"] * bool(lost)
    both = [outcome, *standing] if outcome else []
    said = " or ".join(plain_line(name, 40) for name in both) or "the reward"
    return table, RewardRule(
        words, said, functions, how, solved, outcome, tuple(standing), unjudged, tuple(notes)
    )


def _functions(
    table: pl.DataFrame, present: Sequence[str], form: LogFormat, choice: Choice
) -> tuple[dict[str, float], str, Weights | None]:
    """The weight of each column that makes the reward, how they were found, and the solution."""
    if choice.reward:
        return dict.fromkeys((c for c in choice.reward if c in present), 1.0), "chosen", None
    if table["named"].count():
        return {}, "named", None
    outcomes = {*OUTCOMES, *form.outcomes}
    free = [
        c for c in present
        if form.functions and not (plain_name(c).startswith("raw_") and plain_name(c) in outcomes)
    ]  # fmt: skip
    free = (
        free
        or [c for c in present if is_paid(plain_name(c))]
        or [c for c in present if plain_name(c) in outcomes][:1]
        or [c for c in present if _judges(table, c)][:1]
    )
    if not free:
        raise LogError(
            "nothing readable: no reward: expected a column such as reward or score; name it with "
            "--reward"
        )
    solved = solve(table, free) if len(free) > 1 else None
    named = [c for c in free if REWARD_WORDS.search(plain_name(c))]
    other = [c for c in free if c not in named and OTHER_WORDS.search(plain_name(c))]
    if solved is not None:
        # Of what never differs inside a group the advantages say nothing.
        still = {c for c in free if c not in other and _never_pays(table[REWARD + c])} | {*named}
        kept = {c: w for c in free if (w := solved.of.get(c, float(c in still)))}
        if kept:
            plain = set(kept.values()) == {1.0} and len(kept) == len(free)
            return kept, "added" if plain else "solved", solved
    kept = {c: 1.0 for c in free if c not in other}
    return kept or dict.fromkeys(free, 1.0), "added", None


def _outcome(
    present: Sequence[str],
    functions: dict[str, float],
    form: LogFormat,
    choice: Choice,
    sampled: bool,
) -> str:
    """The column of the raw outcome; "" where it is the reward."""
    if choice.outcome:
        return choice.outcome if choice.outcome in present else ""
    if sampled:
        return ""
    low = {plain_name(name): name for name in reversed(present)}
    found = next((low[name] for name in form.outcomes if name in low), "")
    if not found and len(functions) > 1:
        found = next((name for name in functions if OUTCOME_WORDS.search(plain_name(name))), "")
        rest = [name for name in functions if not SHAPE_WORDS.search(plain_name(name))]
        found = found or (rest[0] if len(rest) == 1 else "")
    # A raw column that was solved to be the whole reward is the reward.
    return "" if functions and list(functions) == [found] else found


def _never_pays(values: pl.Series) -> bool:
    """Whether a column looks like a function that never pays: 0 wherever it judged."""
    known = values.drop_nulls()
    return bool(known.len()) and bool((known == 0).all())


def _by_task(table: pl.DataFrame, functions: Sequence[str]) -> str:
    """The first of several functions that do not judge the form, where each abstains on the
    rollouts that another judges: they judge tasks of their own, and are one outcome together."""
    rest = [name for name in functions if not SHAPE_WORDS.search(plain_name(name))]
    if len(rest) < 2 or any(not table[REWARD + name].null_count() for name in rest):
        return ""
    many = table.select(pl.sum_horizontal(pl.col(REWARD + name).is_not_null() for name in rest))
    by = many.to_series()
    alone = (by > 1).sum() <= 0.01 * len(by) and (by > 0).sum() >= 0.5 * len(by)
    return rest[0] if alone else ""


def _judges(table: pl.DataFrame, name: str) -> bool:
    """Whether a column beside the reward is a verdict by its name, and holds 0 and 1 alone."""
    low, values = plain_name(name), table[REWARD + name].drop_nulls()
    named = OUTCOME_WORDS.search(low) and not SHAPE_WORDS.search(low)
    return bool(named) and values.is_in([0.0, 1.0]).all()


def _judged(
    table: pl.DataFrame, outcome: str, functions: dict[str, float]
) -> tuple[pl.DataFrame, list[str], int]:
    """The outcome of each row; of rows on which its function abstained that of functions that
    abstain wherever it does not; groups in which nothing judged are left out and counted. Where no
    task is logged, each of these functions has its own: it may have its own scale."""
    if not outcome:
        return table.with_columns(outcome=pl.col("reward")), [], 0
    raw = table[REWARD + outcome]
    if raw.null_count():
        raw = _from_the_reward(table, raw)
    if not raw.null_count():
        return table.with_columns(outcome=raw), [], 0
    standing = []
    for name in functions:
        other = table[REWARD + name]
        both = (other.is_not_null() & raw.is_not_null()).sum()
        if name != outcome and other.count() and both <= 0.01 * other.count():
            standing.append(name)
    first = [pl.col(REWARD + c) for c in (outcome, *standing)]
    table = table.with_columns(outcome=pl.coalesce(first))
    if standing and table["task"].n_unique() < 2:
        judge = pl.coalesce(
            pl.when(pl.col(REWARD + c).is_not_null()).then(pl.lit(c)) for c in (outcome, *standing)
        )
        table = table.with_columns(task=judge.drop_nulls().first().over("key"))
    judged = pl.col("outcome").is_not_null().any().over("key")
    kept = table.filter(judged)
    unjudged = int(table.filter(~judged)["key"].n_unique())
    low = kept["outcome"].min()
    return kept.with_columns(pl.col("outcome").fill_null(low)), standing, unjudged


def _from_the_reward(table: pl.DataFrame, outcome: pl.Series) -> pl.Series:
    """The outcome, filled in for the steps before it was first logged (or after it was last), where
    every reward of these steps goes with one outcome in the others."""
    if table["named"].null_count():
        return outcome
    frame = table.select("step", "reward", outcome=outcome)
    steps = frame.group_by("step").agg(known=pl.col("outcome").is_not_null().mean()).sort("step")
    whole = steps["known"].is_in([0.0, 1.0]).all()
    if not whole or (steps["known"].diff().abs() > 0).sum() != 1:
        return outcome
    pairs = frame.drop_nulls("outcome").group_by("reward").agg(pl.col("outcome").unique())
    one = pairs.filter(pl.col("outcome").list.len() == 1)
    said = one.select("reward", found=pl.col("outcome").list.first())
    filled = frame.join(said, on="reward", how="left", maintain_order="left")
    filled = filled.select(pl.coalesce("outcome", "found").alias(outcome.name))
    found = filled.to_series()
    return outcome if found.null_count() else found


def _weighted(name: str, weight: float) -> str:
    word = plain_line(name, 40)
    return word if weight == 1 else f"{weight:g} {word}"


__all__ = ["RewardRule", "settle"]
