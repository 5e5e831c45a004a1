"""From the columns of a log to what they mean, and from one row to rollouts.

A format names, for each field, the columns that may hold it, the first present one wins. Fields:
prompt (text or id), group (id where a prompt may occur twice in a step), step, reward (what the
trainer used), outcome (raw, unshaped), prediction, target, logp (of the whole rollout, nats),
entropy (mean per token, nats), task, beam_rank (0 is the best), tokens, advantage, kl (nats),
repaired (the ground truth took the slot), format (1: well-formed).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from recast.structure import leading
from workbench.diagnosis.logs.problems import plain_line
from workbench.diagnosis.logs.rows import Batch, Row
from workbench.diagnosis.logs.signs import SCHEMA as SIGNS
from workbench.diagnosis.logs.signs import Signs

SCHEMA: Mapping[str, Any] = {
    "order": pl.Int64,
    "step": pl.Int64,
    "key": pl.UInt64,
    "prompt": pl.UInt64,
    "reward": pl.Float64,
    "outcome": pl.Float64,
    "prediction": pl.UInt64,
    "target": pl.UInt64,
    "matched": pl.Int16,
    "depth": pl.Int16,
    "task": pl.String,
    "logp": pl.Float32,
    "entropy": pl.Float32,
    "advantage": pl.Float64,
    "kl": pl.Float32,
    "format": pl.Float32,
    "beam_rank": pl.Int32,
    "tokens": pl.Int32,
    **SIGNS,
}
"""One row per rollout: ids are 64-bit hashes of texts; matched of depth leading codes agree with
the target; null where a log does not say."""

OUTCOMES = (
    "raw_outcome",
    "raw_reward",
    "outcome",
    "acc",
    "accuracy",
    "accuracy_reward",
    "correct",
    "is_correct",
    "correctness",
    "correctness_reward",
    "hit",
    "hit_reward",
    "exact_match",
    "exact_match_reward",
    "em",
    "solved",
    "success",
    "pass",
)
"""Columns that hold a raw outcome, in order of preference."""

FORMATS = ("format", "format_reward", "format_ok", "well_formed", "strict_format_reward")
_NUMBERS = ("logp", "entropy", "advantage", "kl", "format")
_CODE = re.compile(r"<[^<>\s]{1,32}>")
_NO_REWARD = ("completion_length", "num_tokens", "length", "index", "idx", "id", "epoch", "seed")


@dataclass(frozen=True)
class LogFormat:
    """One trainer's log. names: columns of each field; typical: columns by which it is recognised;
    all_numbers: every other column of numbers is a reward function (they are added up); ordered:
    the rollouts of a group stand together; step_of_file: a regular expression whose first group is
    the step, for rows without one."""

    name: str
    names: Mapping[str, Sequence[str]]
    typical: frozenset[str]
    all_numbers: bool = False
    ordered: bool = False
    step_of_file: str = r"(?!)"

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether a row with these columns looks like this format."""
        return self.typical <= set(columns)


@dataclass(frozen=True)
class Choice:
    """What a user decides about columns: reward columns (added up) and the outcome, "" or () to
    leave it to the format."""

    reward: tuple[str, ...] = ()
    outcome: str = ""


@dataclass(frozen=True)
class Layout:
    """Which column holds which field, in rows of one shape; rewards are added up."""

    columns: Mapping[str, str]
    rewards: tuple[str, ...]
    outcome: str
    missing: str = ""
    signs: Signs = field(default_factory=Signs)

    @property
    def words(self) -> str:
        """One line: where reward and outcome come from."""
        reward = " + ".join(plain_line(name, 40) for name in self.rewards)
        return f"reward: {reward}; outcome: {plain_line(self.outcome or 'the reward', 40)}"


def layout_of(form: LogFormat, rows: Sequence[Row], choice: Choice) -> Layout:
    """How to read rows with the columns of these samples."""
    present = {name.lower(): name for name in reversed(list(rows[0]))}
    columns = {}
    for wanted, names in form.names.items():
        found = next((present[name] for name in names if name in present), None)
        if found is not None:
            columns[wanted] = found
    outcome = choice.outcome if choice.outcome in rows[0] else ""
    known = set(columns.values())
    if not outcome:
        outcome = next((present[name] for name in OUTCOMES if name in present), "")
    columns.setdefault("format", next((present[name] for name in FORMATS if name in present), ""))
    if choice.reward:
        rewards = tuple(name for name in choice.reward if name in rows[0])
    elif form.all_numbers and "reward" not in columns:
        rewards = tuple(
            name
            for name in rows[0]
            if name not in known
            and name.lower() not in _NO_REWARD
            and not (outcome and name.lower().startswith("raw_"))
            and _numeric([row.get(name) for row in rows])
        )
    else:
        rewards = (columns["reward"],) if "reward" in columns else ()
        outcome = "" if form.all_numbers and not choice.outcome else outcome
    rewards = rewards or ((outcome,) if outcome else ())
    missing = ""
    if "prompt" not in columns and "group" not in columns:
        missing = "no prompt: expected a column such as prompt, prompt_id or input"
    elif not rewards:
        missing = "no reward: expected a column such as reward or score; name it with --reward"
    if rewards == (outcome,):
        outcome = ""
    return Layout(columns, rewards, outcome, missing, Signs.of(rows[0]))


def _numeric(values: Sequence[Any]) -> bool:
    said = [value for value in values if value is not None]
    return bool(said) and all(isinstance(value, (int, float)) for value in said)


@dataclass
class Table:
    """Columns under construction, as lists; `frame` hands them over and starts anew."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in SCHEMA})

    def frame(self) -> pl.DataFrame:
        """What was collected, with the columns of `SCHEMA`."""
        found = pl.DataFrame(self.columns, schema=dict(SCHEMA))
        self.columns = {name: [] for name in SCHEMA}
        return found


class Unreadable(ValueError):
    """A row that cannot become rollouts; the message says why."""


class Reader:
    """Turns rows of one format into rollouts; remembers the layout of each shape of row."""

    def __init__(self, form: LogFormat, choice: Choice) -> None:
        self.form, self.choice = form, choice
        self.layouts: dict[tuple[str, ...], Layout] = {}
        self.table = Table()
        self.rollouts = 0

    def learn(self, batch: Batch) -> None:
        """Settle the layout of shapes of row that were not met before."""
        fresh: dict[tuple[str, ...], list[Row]] = {}
        for _, row in batch:
            shape = tuple(row)
            if shape not in self.layouts and len(fresh.setdefault(shape, [])) < 50:
                fresh[shape].append(row)
        for shape, rows in fresh.items():
            self.layouts[shape] = layout_of(self.form, rows, self.choice)

    def add(self, row: Row, step_of_file: int | None) -> None:
        """Add the rollout of a row, or all of them where a row holds lists.

        Raises Unreadable when the row has no prompt, no step that is a number, or no usable reward.
        """
        layout = self.layouts[tuple(row)]
        if layout.missing:
            raise Unreadable(layout.missing)
        many = row.get(layout.rewards[0])
        if isinstance(many, list):
            lists = {name: v for name, v in row.items() if isinstance(v, list)}
            for place in range(len(many)):
                one = {n: v[place] for n, v in lists.items() if len(v) == len(many)}
                self._one({**row, **one}, layout, step_of_file)
        else:
            self._one(row, layout, step_of_file)

    def _one(self, row: Row, layout: Layout, step_of_file: int | None) -> None:
        at = layout.columns
        parts = [number(row[name]) for name in layout.rewards if name in row]
        known = [part for part in parts if part is not None]
        if not known:
            raise Unreadable("a reward that is no finite number")
        reward = sum(known)
        outcome = reward
        if layout.outcome:
            raw = number(row.get(layout.outcome))
            if raw is None:
                raise Unreadable("an outcome that is no finite number")
            outcome = raw
        step = step_of_file if step_of_file is not None else 0
        if "step" in at and row[at["step"]] is not None:
            said = number(row[at["step"]])
            if said is None or not said.is_integer() or abs(said) > 2**53:
                raise Unreadable("a step that is no whole number")
            step = int(said)
        prompt = row[at["prompt"]] if "prompt" in at else None
        group = row[at["group"]] if "group" in at else None
        if group is not None and self.form.name == "verl":
            group = str(group).rsplit("_", 2)[0] if str(group).count("_") >= 2 else group
        if prompt is None and group is None:
            raise Unreadable("no prompt")
        said_text = text(prompt if prompt is not None else group)
        own = text(group) if group is not None else said_text
        prediction = text(row[at["prediction"]]) if row.get(at.get("prediction", "")) else None
        wanted = targets(row.get(at.get("target", "")))
        matched, depth = agreement(prediction, wanted)
        out = self.table.columns
        out["order"].append(self.rollouts)
        out["step"].append(step)
        out["key"].append(digest(f"{step}\x00{own}"))
        out["prompt"].append(digest(said_text))
        out["reward"].append(reward)
        out["outcome"].append(outcome)
        out["prediction"].append(None if prediction is None else digest(prediction))
        out["target"].append(digest("\x00".join(wanted)) if wanted else None)
        out["matched"].append(matched)
        out["depth"].append(depth)
        task = row.get(at.get("task", ""))
        out["task"].append(plain_line(task, 60) if task not in (None, "") else "all")
        for name in _NUMBERS:
            out[name].append(number(row.get(at.get(name, ""))))
        if row.get(at.get("repaired", "")) is True:
            # The advantage is that of the ground truth that took the slot.
            out["advantage"][-1] = 0.0
        if out["format"][-1] is None and depth is not None and depth > 1:
            out["format"][-1] = float(len(codes(prediction or "")) == depth)
        for name in ("beam_rank", "tokens"):
            value = number(row.get(at.get(name, "")))
            usable = value is not None and 0 <= value < 2**31
            out[name].append(int(value) if usable and value is not None else None)
        said_signs = layout.signs.read(row, prediction, step, self.rollouts)
        for name, value in zip(SIGNS, said_signs, strict=True):
            out[name].append(value)
        self.rollouts += 1


def number(value: Any) -> float | None:
    """A finite number, also one written as text; None for anything else."""
    if isinstance(value, (bool, int, float)):
        pass
    elif isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    else:
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def text(value: Any) -> str:
    """A value as text; of a conversation the last message's content."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return "\n".join(str(one.get("content", one)) for one in value)
    if isinstance(value, (list, dict)):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return str(value)


def targets(value: Any) -> list[str]:
    """The ground truths of a prompt, none where a log does not say."""
    if value is None or value == "":
        return []
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return list(value)
    return [text(value)]


def codes(written: str) -> tuple[str, ...]:
    """The codes of a semantic ID such as `<a_1><b_7><c_2>`; the whole text where it has none."""
    found = tuple(_CODE.findall(written))
    return found if len(found) > 1 else (written.strip(),)


def agreement(prediction: str | None, wanted: Sequence[str]) -> tuple[int | None, int | None]:
    """Leading codes of a prediction that agree with the nearest target, and how many there are."""
    if prediction is None or not wanted:
        return None, None
    own = codes(prediction)
    best, depth = -1, 1
    for one in wanted[:64]:
        there = codes(one)
        same = leading(own, there)
        same = min(same, len(there) - 1) if len(own) != len(there) else same
        if same > best:
            best, depth = same, len(there)
    return min(best, 32767), min(depth, 32767)


def digest(written: str) -> int:
    """A 64-bit hash, the same everywhere."""
    raw = hashlib.blake2b(written.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(raw, "little")
