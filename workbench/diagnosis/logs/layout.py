"""From the columns of a log to what they mean, a block of rows at once.

A format names, for each field, the columns that may hold it; in each row the first that says
something wins. Fields: prompt (text or id), group (id where a prompt may occur twice in a step),
step, reward (what the trainer used), prediction, target, logp (of the whole rollout, nats), entropy
(mean per token, nats), task, beam_rank (0 is the best), tokens, advantage, kl (nats), repaired (the
ground truth took the slot), format (1: well-formed), truncated (a flag or a reason to stop), split
(training or evaluation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from workbench.diagnosis.logs.column_names import (
    FORMATS,
    IMAGES,
    NO_PROMPT,
    NO_REWARD,
    OUTCOMES,
    ROLLOUTS,
    SPLITS,
    STAGES,
    TASKS,
    TURNS,
)
from workbench.diagnosis.logs.column_values import (
    OUTCOME_WORDS,
    first_there,
    is_paid,
    null_false,
    numbers,
    plain_name,
    task_names,
    texts,
)
from workbench.diagnosis.logs.evaluation_rows import says_evaluation
from workbench.diagnosis.logs.problems import NO_NUMBER, Problems
from workbench.diagnosis.logs.semantic_ids import agreements
from workbench.diagnosis.logs.signs import NAMES as SIGN_NAMES
from workbench.diagnosis.logs.signs import SCHEMA as SIGNS
from workbench.diagnosis.logs.signs import signs

LogRow = dict[str, Any]

SCHEMA: Mapping[str, Any] = {
    "order": pl.Int64,
    "source": pl.Int32,
    "step": pl.Int64,
    "key": pl.UInt64,
    "prompt": pl.UInt64,
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
    "evaluation": pl.Boolean,
    "uid": pl.UInt64,
    "session": pl.UInt64,
    "sample": pl.UInt64,
    "turn": pl.Int32,
    "named": pl.Float64,
    "image": pl.UInt64,
    "asked": pl.UInt64,
}
"""One row per rollout: ids are 64-bit hashes of texts; matched of depth leading codes agree with
the target; signs of trouble as in `signs`; null where a log does not say. uid, session,
sample, turn: hashes of a group id, of it without its last and its last two numbers, and that last
number; named: the reward where one column is called so; image: of what the prompt
shows; asked: of an id of what was asked, beside the prompt. `REWARD` columns follow, one for each
column that may be a reward function or a raw outcome."""

REWARD = "reward:"

_NUMBERS = ("logp", "entropy", "advantage", "kl")
STEP_TEXT = r"(?i)^(?:[a-z_]*step|iter(?:ation)?)[_\- ]?(\d{1,15})$"
_SESSION = r"^(.*)[_:/#\-]\d+$"
_SAMPLE = r"^(.*)[_:/#\-]\d+[_:/#\-]\d+$"


@dataclass(frozen=True)
class LogFormat:
    """One trainer's log.

    names: columns of each field; typical: sets of columns by any of which it is recognised;
    functions: every other column of numbers may be a reward function; ordered: the rollouts of a
    group stand together; step_of_file: a regular expression whose first group is the step, for
    rows without one, searched in the last parts of the path; file_first: it goes before the rows'
    own step; outcomes: columns of a raw outcome;
    unpack: turns one record into rows, for formats whose records are no rows; versions: trainer and
    versions whose source was read.
    """

    name: str
    names: Mapping[str, Sequence[str]]
    typical: Sequence[frozenset[str]]
    functions: bool = False
    ordered: bool = False
    step_of_file: str = r"(?!)"
    file_first: bool = False
    outcomes: Sequence[str] = OUTCOMES
    unpack: Callable[[LogRow], Iterator[LogRow]] | None = None
    versions: str = ""

    def fits(self, columns: Sequence[str]) -> bool:
        """Whether a row with these columns looks like this format."""
        there = set(columns)
        return any(typical <= there for typical in self.typical)


@dataclass(frozen=True)
class Choice:
    """What a user decides about columns: reward columns (added up), the outcome, and the column of
    any other field; "" or () or nothing to leave it to the format."""

    reward: tuple[str, ...] = ()
    outcome: str = ""
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that was named."""
        named = [name for _, name in self.fields]
        return tuple(name for name in (*self.reward, self.outcome, *named) if name)


FIELDS = ("step", "prompt", "group", "reward", "outcome", "prediction", "target", "task",
          "advantage", "logp", "entropy", "kl", "beam_rank", "tokens", "format",
          "truncated")  # fmt: skip
"""Fields that a user may map to a column."""


@dataclass
class Reader:
    """Turns blocks of rows of one format into rollouts."""

    form: LogFormat
    choice: Choice
    rollouts: int = 0
    seen: dict[str, None] = field(default_factory=dict)
    functions: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        chosen = dict(self.choice.fields)
        self.names: dict[str, tuple[str, ...]] = {
            name: tuple(columns) for name, columns in self.form.names.items()
        }
        self.names.setdefault("format", FORMATS)
        self.names.setdefault("split", SPLITS)
        self.names.setdefault("stage", STAGES)
        self.names.setdefault("image", IMAGES)
        self.names.setdefault("epoch", ("epoch", "epoch_idx"))
        self.names.setdefault("asked", TASKS)
        self.names.setdefault("turn", TURNS)
        self.names.setdefault("rollout", ROLLOUTS)
        for name, columns in SIGN_NAMES.items():
            self.names[name] = (*self.names.get(name, ()), *columns)
        for name, column in chosen.items():
            if name not in ("reward", "outcome"):
                self.names[name] = (plain_name(column),)
        self._fields = {column for columns in self.names.values() for column in columns}
        self._taken = self._fields - set(self.names["format"])
        self._outcomes = {*OUTCOMES, *self.form.outcomes}
        self._chosen = {plain_name(name) for name in self.choice.columns}

    def learn(self, sample: Mapping[str, bool | None]) -> None:
        """Meet columns; the value says whether a column holds numbers, None: nothing so far."""
        met = {plain_name(name) for name in (*self.seen, *sample)}
        unnamed = not met & set(self.names.get("reward", ()))
        for name, is_number in sample.items():
            self.seen.setdefault(name, None)
            low = plain_name(name)
            chosen = name in self.choice.reward or name == self.choice.outcome
            free = low not in self._taken and low not in NO_REWARD
            judged = OUTCOME_WORDS.search(low) or (unnamed and is_paid(low))
            said = low in self._outcomes or (free and is_number and judged)
            if chosen or said or (self.form.functions and free and is_number):
                self.functions.setdefault(name, None)
            elif is_number is False:
                self.functions.pop(name, None)

    def foreign(self, first: LogRow) -> bool:
        """Whether rows like this one can be no rollouts: they have neither a prompt nor a group."""
        if self.form.unpack is not None:
            return False
        there = {plain_name(name) for name in first}
        return not there & {*self.names.get("prompt", ()), *self.names.get("group", ())}

    def lacking(self, raw: pl.DataFrame) -> bool:
        """Whether some row of a block has no reward or no prompt in the columns met so far."""
        if self.missing:
            return True
        rewards = [*self._there(raw, "reward"), *(c for c in self.functions if c in raw.columns)]
        owns = [*self._there(raw, "group"), *self._there(raw, "prompt")]
        for columns in (rewards, owns):
            said = [raw[c].is_not_null() for c in columns]
            known = said[0] if said else pl.Series([False] * raw.height)
            for one in said[1:]:
                known = known | one
            if not known.all():
                return True
        return any(raw[c].str.starts_with("[").any() for c in rewards if raw.schema[c] == pl.String)

    @property
    def wanted(self) -> list[str]:
        """Columns to read, of those that were met."""
        return [
            name
            for name in self.seen
            if name in self.functions
            or plain_name(name) in self._fields
            or plain_name(name) in self._chosen
        ]

    @property
    def missing(self) -> str:
        """What a log with these columns lacks, in one line; empty where it lacks nothing."""
        there = {plain_name(name) for name in self.seen}
        if not there & {*self.names.get("prompt", ()), *self.names.get("group", ())}:
            return NO_PROMPT
        if not self.functions and not there & set(self.names.get("reward", ())):
            return "no reward: expected a column such as reward or score; name it with --reward"
        return ""

    def frame(
        self, raw: pl.DataFrame, name: str, source: int, step: int | None, problems: Problems
    ) -> pl.DataFrame:
        """The rollouts of a block: columns as read and `row`, their numbers in the file."""
        if lacks := self.missing:
            for row in raw["row"]:
                problems.row(name, row, lacks)
            return pl.DataFrame(schema=dict(SCHEMA))
        at, bad = self._steps(raw, step)
        fields = self._read(raw, at)
        prompt, group = self._text(raw, "prompt"), self._text(raw, "group")
        outputs = self._with_turns(raw, group)
        if outputs is not None:
            # Each turn asks something else: the group alone says what is compared.
            prompt, group = group, outputs
        own = group.fill_null(prompt)
        functions = [numbers(raw[c]).alias(REWARD + c) for c in self.functions if c in raw.columns]
        known = fields["named"].is_not_null()
        for one in functions:
            known = known | one.is_not_null()
        # Of a rollout's turns those that earn nothing of their own.
        unpaid = pl.Series([outputs is not None] * raw.height) & self._no_reward(raw)
        for faults, what in (
            (bad, "a step that is no whole number"),
            (own.is_null() & ~bad, "no prompt"),
            (~known & ~bad & own.is_not_null() & ~unpaid, NO_NUMBER),
        ):
            if faults.any():
                for row in raw["row"].filter(faults):
                    problems.row(name, row, what)
        good = known & ~bad & own.is_not_null()
        frame = pl.DataFrame(
            {
                **fields,
                "order": pl.Series(
                    range(self.rollouts, self.rollouts + raw.height), dtype=pl.Int64
                ),
                "source": pl.Series([source] * raw.height, dtype=pl.Int32),
                "step": at.set(bad, 0.0).cast(pl.Int64),
                **self._ids(at, prompt, group),
            }
        ).with_columns(functions)
        self.rollouts += int(good.sum())
        problems.read += int(good.sum())
        frame = frame.filter(good)
        return frame.select(
            *(pl.col(c).cast(kind) for c, kind in SCHEMA.items()),
            *(pl.col(one.name) for one in functions),
        )

    def _steps(self, raw: pl.DataFrame, step: int | None) -> tuple[pl.Series, pl.Series]:
        """The step of each row, and which rows say one that is no whole number; step: of the
        file."""
        said_step = self._text(raw, "step")
        at = self._number(raw, "step")
        if at.null_count():
            at = at.fill_null(numbers(said_step.str.extract(STEP_TEXT)))
        bad = null_false(said_step.is_not_null() & (said_step != "")) & (
            at.is_null() | (at != at.floor()).fill_null(True) | (at.abs() > 2**53).fill_null(True)
        )
        if step is None:
            at = at.fill_null(self._number(raw, "epoch").floor())
        at = at.fill_null(float(step or 0))
        if self.form.file_first and step is not None:
            at = pl.Series([float(step)] * raw.height, dtype=pl.Float64)
        return at, bad

    def _read(self, raw: pl.DataFrame, step: pl.Series) -> dict[str, pl.Series]:
        """Every field that needs no other."""
        prediction, target = self._text(raw, "prediction"), self._text(raw, "target")
        near = agreements(prediction, target)
        found = {one: self._number(raw, one) for one in _NUMBERS}
        formed = self._number(raw, "format").cast(pl.Float32).fill_null(near["format"])
        for one in ("beam_rank", "tokens"):
            value = self._number(raw, one)
            usable = ((value >= 0) & (value < 2**31)).fill_null(False)
            found[one] = value.set(~usable, None).floor()
        task, image = self._text(raw, "task"), self._text(raw, "image")
        asked = self._text(raw, "asked")
        repaired = null_false(self._text(raw, "repaired").str.to_lowercase() == "true")
        said = {one: [raw[c] for c in self._there(raw, one)] for one in SIGN_NAMES}
        return {
            **found,
            # The advantage is that of the ground truth that took the slot.
            "advantage": found["advantage"].set(repaired, 0.0),
            "named": self._named(raw),
            "prediction": prediction.hash().set(prediction.is_null(), None),
            "target": target.hash().set(target.is_null() | (target == ""), None),
            "matched": near["matched"],
            "depth": near["depth"],
            "format": formed,
            "task": task_names(task),
            **signs(said, prediction, step, self.rollouts),
            "evaluation": self._evaluation(raw),
            "image": image.hash().set(image.is_null() | (image == ""), None),
            "asked": asked.hash().set(asked.is_null() | (asked == ""), None),
        }

    def _named(self, raw: pl.DataFrame) -> pl.Series:
        """The reward where one column is called so and the user names no other."""
        if self.choice.reward:
            return pl.Series([None] * raw.height, dtype=pl.Float64)
        return self._number(raw, "reward")

    def _evaluation(self, raw: pl.DataFrame) -> pl.Series:
        return says_evaluation(self._text(raw, "split"), self._text(raw, "stage"))

    def _ids(self, step: pl.Series, prompt: pl.Series, group: pl.Series) -> dict[str, pl.Series]:
        """Hashes of the prompt, of the group's id, and of that without its last and its last two
        numbers."""
        asked = prompt.fill_null(group).hash()
        frame = pl.DataFrame({"step": step.cast(pl.Int64, strict=False), "id": group})
        if group.null_count() < len(group):
            frame = frame.with_columns(
                session=pl.col("id").str.extract(_SESSION), sample=pl.col("id").str.extract(_SAMPLE)
            )
        else:
            frame = frame.with_columns(session=pl.col("id"), sample=pl.col("id"))
        frame = frame.with_columns(
            pl.when(pl.col(c).is_not_null()).then(pl.col(c).hash()).alias(c + "_hash")
            for c in ("id", "session", "sample")
        )
        # A prompt is long: its text is gone through once.
        whole = pl.coalesce("sample_hash", "id_hash", asked)
        return {
            "prompt": asked,
            "key": frame.select(pl.struct("step", whole.alias("whole")).hash()).to_series(),
            "uid": frame["id_hash"],
            "session": frame["session_hash"],
            "sample": frame["sample_hash"],
            "turn": frame["id"].str.extract(r"[_:/#\-](\d{1,9})$").cast(pl.Int32, strict=False),
        }

    def _with_turns(self, raw: pl.DataFrame, group: pl.Series) -> pl.Series | None:
        """Ids of outputs, `<group>_<rollout>_<turn>`, where a log has a row for each turn of a
        rollout; None where it has not."""
        if not (self._there(raw, "turn") and self._there(raw, "rollout")):
            return None
        turn, rollout = self._text(raw, "turn"), self._text(raw, "rollout")
        number = turn.str.extract(r"^(\d{1,9})(?:\.0)?$")
        known = ~(number.is_null() | rollout.is_null() | group.is_null())
        plain = self.form.name in ("generic", "verl", "trl")
        if not plain or not known.all() or number.n_unique() < 2:
            return None
        return group + "_" + rollout.hash().cast(pl.String) + "_" + number

    def _no_reward(self, raw: pl.DataFrame) -> pl.Series:
        """Rows in which no column of a reward says anything."""
        said = pl.Series([False] * raw.height)
        for name in {*self._there(raw, "reward"), *self.functions} & set(raw.columns):
            said = said | raw[name].is_not_null()
        return ~said

    def _there(self, raw: pl.DataFrame, name: str) -> list[str]:
        present = {plain_name(column): column for column in reversed(raw.columns)}
        return [present[one] for one in self.names.get(name, ()) if one in present]

    def _text(self, raw: pl.DataFrame, name: str) -> pl.Series:
        return first_there([texts(raw[c]) for c in self._there(raw, name)], raw.height, pl.String)

    def _number(self, raw: pl.DataFrame, name: str) -> pl.Series:
        found = [numbers(raw[c]) for c in self._there(raw, name)]
        return first_there(found, raw.height, pl.Float64)
