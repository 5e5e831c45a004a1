"""Records that hold several rollouts, taken apart into rows: tables in JSON, columns in a line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from workbench.diagnosis.logs.column_values import OUTCOME_WORDS, plain_name
from workbench.diagnosis.logs.formats.generic import FORMAT as GENERIC
from workbench.diagnosis.logs.layout import LogRow
from workbench.diagnosis.logs.opened import CONVERSATIONS, opened
from workbench.diagnosis.logs.signs import MASK, ROLLOUT, TRAINING

REWARDS = ("reward", "rewards", "score", "scores")
ADVANTAGES = ("advantage", "advantages")
PER_TOKEN = (*ADVANTAGES, *MASK, *ROLLOUT, *TRAINING, "tokens", "token_ids", "response_ids",
             "completion_ids", "output_ids", "logprobs", "token_level_rewards")  # fmt: skip
"""Lists with an entry for each token."""
TOKENS = GENERIC.names["tokens"]
TOTALS = ("total", "overall", "reward", "score", "sum", "value", "final", "combined", "mean")
"""What an object of rewards calls their sum, the surer first."""
PAID = frozenset((*REWARDS, "total_reward", "final_reward", "reward_total", "r", "rew"))
"""Names of a rollout's reward in an object of its own."""
ANSWERS = ("completion", "response", "output", "prediction")
NESTED = ("samples", "rollouts", "completions", "responses", "outputs", "generations",
          "trajectories", "episodes", "results", "records", "rows", "data", "candidates", "beams",
          "attempts", "answers", "solutions", "gens", "cots", "predictions", "recommendations",
          "recs", "group", "members", "choices", "items")  # fmt: skip
"""Where a record keeps its rollouts one level down."""


STEP_NAME = re.compile(r"^(?:[a-z_]*step|iter(?:ation)?|epoch)[_\- ]?(\d{1,15})$", re.IGNORECASE)
"""A step as a name."""

SEVERAL = ("generations", "completions", "responses", "outputs", "answers", "predictions",
           "candidates", "samples")  # fmt: skip
"""Where a record keeps the texts of a group's answers."""


def is_table(row: LogRow) -> bool:
    """Whether a record is a table: wandb's `{"columns", "data"}`."""
    return isinstance(row.get("columns"), list) and isinstance(row.get("data"), list)


def flat(row: LogRow) -> Iterator[LogRow]:
    """The rows of a record: of a table its rows, of columns in a line one row per entry, of a row
    itself."""
    if is_table(row):
        columns = [str(name) for name in row["columns"]]
        for cells in row["data"]:
            if isinstance(cells, list) and len(cells) == len(columns):
                yield dict(zip(columns, cells, strict=True))
        return
    if isinstance(row.get("_value"), list) and "table" in str(row.get("_type", "")):
        yield from (one for one in row["_value"] if isinstance(one, dict))
        return
    if (plain := _columns(row)) is not row:
        yield from flat(plain)
        return
    if inner := nested(row):
        outer = {name: v for name, v in row.items() if not isinstance(v, (list, dict))}
        for one in row[inner]:
            yield _plain({**outer, **one})
        return
    many = entries(row)
    if not many:
        yield _plain({name: _total(name, value, row) for name, value in row.items()})
        return
    lists = {name: v for name, v in row.items() if isinstance(v, list) and len(v) == many}
    for place in range(many):
        yield _plain({**row, **{name: cells[place] for name, cells in lists.items()}})


def is_whole(row: LogRow) -> bool:
    """Whether a record's rollout is in objects: a conversation, or a reward with its parts."""
    return _plain(row) is not row or _columns(row) is not row


def _columns(row: LogRow) -> LogRow:
    """A line of columns whose rewards are no plain list, as plain columns: of an object of lists
    (one for each function) their sums and the parts, of a list for each prompt all in a row."""
    name = next((n for n in row if n.lower() in REWARDS), None)
    cells = row[name] if name else None
    if isinstance(cells, dict) and cells and all(isinstance(one, list) for one in cells.values()):
        parts = {str(key): one for key, one in cells.items()}
        if len({len(one) for one in parts.values()}) == 1 and all(map(_numeric, parts.values())):
            return {
                **parts,
                **row,
                str(name): [sum(one) for one in zip(*parts.values(), strict=True)],
            }
    if not (isinstance(cells, list) and cells and all(map(_numeric, cells))):
        return row
    sizes = [len(one) for one in cells]
    deep = {n for n, v in row.items() if _sizes(v) == sizes}
    if len(deep) < 2:
        return row
    found: LogRow = {}
    for column, value in row.items():
        if column in deep:
            found[column] = [one for group in value for one in group]
        elif isinstance(value, list) and len(value) == len(sizes):
            found[column] = [
                one for one, size in zip(value, sizes, strict=True) for _ in range(size)
            ]
        else:
            found[column] = value
    return found


def _numeric(cells: Any) -> bool:
    return isinstance(cells, list) and bool(cells) and all(map(_is_number, cells))


def _sizes(value: Any) -> list[int]:
    """Sizes of the lists in a list; nothing for any other value."""
    whole = isinstance(value, list) and all(isinstance(one, list) for one in value)
    return [len(one) for one in value] if whole else []


def _plain(row: LogRow) -> LogRow:
    """A rollout with its conversation as prompt and completion, and the parts of its reward as
    columns beside their total."""
    return _spread(_spoken(opened(row)))


def _spoken(row: LogRow) -> LogRow:
    """A conversation, where there is no prompt, as what was asked and what was said last."""
    if any(row.get(name) is not None for name in ("prompt", "prompts", "input", "question")):
        return row
    said = next((row[n] for n in CONVERSATIONS if isinstance(row.get(n), list)), None)
    if not said or not all(isinstance(one, dict) for one in said):
        return row
    turns = [one["message"] if isinstance(one.get("message"), dict) else one for one in said]
    roles = [str(one.get("role", one.get("from", ""))).lower() for one in turns]
    answers = [place for place, role in enumerate(roles) if role in ("assistant", "gpt")]
    if not answers:
        return row
    texts = [one.get("content", one.get("value")) for one in turns]
    asked = [text for text in texts[: answers[0]] if text is not None]
    return {**row, "prompt": asked or None, "completion": texts[answers[-1]]}


def _spread(row: LogRow) -> LogRow:
    """A reward that is an object: its total as the reward, its parts as columns of their own."""
    name = next((n for n in row if n.lower() in REWARDS and isinstance(row[n], dict)), None)
    if name is None:
        return row
    parts = {str(key): value for key, value in row[name].items() if _is_number(value)}
    total = next((key for key in TOTALS if key in parts), None)
    if not parts:
        return row
    value = parts.pop(total) if total else sum(parts.values())
    return {**parts, **row, name: value}


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def nested(row: LogRow) -> str:
    """The name under which a record keeps its rollouts as objects, each with a reward; "" where it
    keeps none."""
    for name in NESTED:
        cells = row.get(name)
        if isinstance(cells, list) and cells and all(isinstance(cell, dict) for cell in cells):
            low = {str(key).lower() for key in cells[0]}
            if low & PAID:
                return name
    return ""


def _total(name: str, value: Any, row: LogRow) -> Any:
    """The sum of a rollout's rewards, one for each of its turns or tokens; once what is repeated
    for every token; of an advantage repeated so, that advantage; anything else as it is."""
    low = name.lower()
    if low not in (*REWARDS, *ADVANTAGES) or not (isinstance(value, list) and value):
        return value
    known = [one for one in value if isinstance(one, (bool, int, float))]
    if len(known) < len(value):
        return value
    repeated = len(value) > 1 and min(known) == max(known) and _per_token(len(value), row)
    if repeated or (low in ADVANTAGES and min(known) == max(known)):
        return known[0]
    return value if low in ADVANTAGES else sum(known)


def _per_token(many: int, row: LogRow) -> bool:
    """Whether a list of so many entries has one for each token of the answer."""
    return any(
        (len(value) if isinstance(value, list) else value) == many
        for name, value in ((str(key).lower(), value) for key, value in row.items())
        if name in PER_TOKEN or name in TOKENS
    )


def entries(row: LogRow) -> int:
    """How many rollouts a line of columns holds; 0 where it is one rollout: an answer beside a list
    of rewards has one for each of its turns."""
    if any(isinstance(row.get(name), str) for name in ANSWERS):
        return 0
    for name, cells in row.items():
        if name.lower() not in REWARDS or not isinstance(cells, list):
            continue
        if cells and all(not isinstance(cell, (list, dict)) for cell in cells):
            return len(cells)
    if many := _judged(row):
        return many
    for name in ("prompt", "completion", "prompts", "completions", "responses"):
        cells = row.get(name)
        steps = any(isinstance(row.get(step), list) for step in ("step", "gen_step"))
        if isinstance(cells, list) and len(cells) > 1 and steps:
            return len(cells)
    return 0


def _judged(row: LogRow) -> int:
    """How many texts a record holds that a list of verdicts beside them judges one by one."""
    for name in SEVERAL:
        cells = row.get(name)
        if not (isinstance(cells, list) and len(cells) > 1 and isinstance(cells[0], str)):
            continue
        verdicts = (v for n, v in row.items() if OUTCOME_WORDS.search(plain_name(n)))
        if any(_numeric(one) and len(one) == len(cells) for one in verdicts):
            return len(cells)
    return 0


def _is_rows(cells: Any) -> bool:
    return isinstance(cells, list) and bool(cells) and all(isinstance(one, dict) for one in cells)


def documents(whole: Any) -> Iterator[LogRow]:
    """The records of a JSON document: an object, the objects of an array, or those that an object
    keeps in a list for each step (`{"step_1": [...], "step_2": [...]}`)."""
    if isinstance(whole, dict):
        steps = [STEP_NAME.match(str(name)) for name in whole]
        if not (whole and all(steps) and all(map(_is_rows, whole.values()))):
            yield whole
            return
        for step, rows in zip(steps, whole.values(), strict=True):
            yield from ({"step": int(step[1]) if step else None, **row} for row in rows)
    elif isinstance(whole, list):
        yield from (one for one in whole if isinstance(one, dict))


__all__ = ["documents", "entries", "flat", "is_table", "is_whole", "nested"]
