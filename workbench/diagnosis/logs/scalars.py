"""Scalars without rollouts: what a tracker or a checkpoint kept, as one frame of steps and names.

Read are Hugging Face's `trainer_state.json` (transformers 4.40 to 5), verl's file logger
(`{"step", "data"}` lines, verl 0.6 to main), TensorBoard's event files, the exports of wandb
(history as JSON lines, CSV or parquet, and the chart's CSV `Step, <run> - <name>`) and trackio
(`<project>.db` and its parquet), what trainers print (`printed`), and any CSV, JSON lines or
parquet with a step and numbers.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recast.quoting import plain_line
from workbench.diagnosis.logs.column_values import finite_number, is_text
from workbench.diagnosis.logs.csv_cells import csv_rows
from workbench.diagnosis.logs.events import is_events, scalars_of
from workbench.diagnosis.logs.file_kinds import SEPARATORS
from workbench.diagnosis.logs.packed import DAMAGED, unpacked
from workbench.diagnosis.logs.printed import points_of
from workbench.diagnosis.logs.problems import Problems, unforeseen
from workbench.diagnosis.logs.records import ANSWERS
from workbench.diagnosis.logs.scalar_names import MEANINGS, meaning, tag_of
from workbench.diagnosis.logs.scalar_series import named_series, swanlab_row
from workbench.diagnosis.logs.scalar_stores import is_metric_file, metric_rows, stored_scalars
from workbench.diagnosis.logs.token_exports import Exports
from workbench.errors import LogError
from workbench.plurals import number_of

SCHEMA = {"run": pl.String, "step": pl.Int64, "name": pl.String, "value": pl.Float64}
STEPS = (
    "train/global_step",
    "global_step",
    "training/global_step",
    "rollout/step",
    "train/step",
    "training_step",
    "step",
    "_step",
    "iteration",
    "current_steps",
    "global_step/max_steps",
)
"""Columns that hold the step, the surer first: a tracker's own `_step` counts its log calls."""

CHART = {"step", "value", "wall time", "timestamp", "time", "relative time (process)"}
"""Columns of a chart of one scalar (TensorBoard's download, Neptune's series); its tag is in the
file's name."""
NO_SCALARS = frozenset(("epoch", "_runtime", "_timestamp", "timestamp", "_step", "time"))
NAMED = ("key", "metric", "tag", "name", "metricname", "metric_name", "path")
VALUED = ("value", "metricvalue", "metric_value", "float_value")
"""Columns of a history with a row for each name and value (MLflow, Comet, Neptune)."""
LARGEST = 300_000_000
LONGEST_LINE = 32_000_000
DEEPEST = 4
Point = tuple[str, int, str, float]


@dataclass(frozen=True)
class Scalars:
    """Scalars of one run. frame: step, name (as logged), value, meaning (a key of
    `scalar_names.MEANINGS`, with `eval_` before it where it was measured in evaluation; null where
    nobody knows), sorted by name and step; one value a step. form: where they come from; run: its
    name, "" where files do not say; others: names of runs that were left out; problems; broken:
    step and name of values that were logged as NaN or infinite."""

    frame: pl.DataFrame
    form: str
    files: int
    run: str
    others: tuple[str, ...]
    problems: Problems
    broken: pl.DataFrame

    def of(self, what: str) -> pl.DataFrame:
        """step and value of one meaning, by its surest name; empty where it is not logged."""
        mine = self.frame.filter(pl.col("meaning") == what)
        if mine.is_empty():
            return mine.select("step", "value")
        names = {name.lower(): name for name in mine["name"].unique()}
        first = min(names, key=lambda name: (found[1] if (found := meaning(name)) else 99, name))
        return mine.filter(pl.col("name") == names[first]).select("step", "value")

    @property
    def meanings(self) -> list[str]:
        """What is logged, in the order of `scalar_names.MEANINGS`, evaluation last."""
        there = set(self.frame["meaning"].drop_nulls())
        known = [name for name in MEANINGS if name in there]
        return known + sorted(there - set(known))

    @property
    def words(self) -> str:
        """One line: what was read."""
        steps = [int(step) for step in self.frame["step"]]
        run = f" of run {plain_line(self.run, 40)}" if self.run else ""
        left = f" ({number_of(len(self.others), 'other run')} left out)" if self.others else ""
        return (
            f"{self.form}{run}{left}: {self.frame['name'].n_unique()} scalars, steps from "
            f"{min(steps)} to {max(steps)}, no rollouts"
        )


def read_scalars(paths: Sequence[Path], names: Sequence[str] | None = None) -> Scalars:
    """Read scalar files of one run; of several runs the one with the most known scalars.

    names: how to call the files in messages. Raises LogError, one line, where no file holds any.
    """
    problems, points, form, used = Problems(), [], "", 0
    for place, path in enumerate(paths):
        name = plain_line(names[place] if names else path.name)
        try:
            found = _file(path, names[place] if names else path.name)
        except (OSError, ValueError, sqlite3.Error, pl.exceptions.PolarsError, *DAMAGED) as problem:
            problems.file(name, f"no scalars ({plain_line(problem, 60)})")
            continue
        except pl.exceptions.PanicException as problem:
            problems.file(name, unforeseen(problem))
            continue
        if found is None:
            problems.file(name, "no scalars: expected a step and numbers")
            continue
        form = form or found[0]
        points += [point for point in found[1] if is_text(point[0]) and is_text(point[2])]
        used += 1
    if not points:
        first = problems.lines()[0] if problems.first else "no file"
        raise LogError(f"nothing readable: {first}")
    frame = pl.DataFrame(points, schema=SCHEMA, orient="row")
    finite = pl.col("value").is_finite()
    broken, frame = frame.filter(~finite), frame.filter(finite)
    if frame.is_empty():
        raise LogError("nothing readable: no scalar is a finite number")
    run, others = _run(frame)
    broken = broken.filter(pl.col("run") == run).select("step", "name")
    broken = broken.join(frame, on=["step", "name"], how="anti").unique().sort("step", "name")
    mine = (
        frame.filter(pl.col("run") == run)
        .unique(["step", "name"], keep="last", maintain_order=True)
        .drop("run")
    )
    known = {name: said[0] for name in mine["name"].unique() if (said := meaning(name))}
    mine = mine.with_columns(
        meaning=pl.col("name").replace_strict(known, default=None, return_dtype=pl.String)
    ).sort("name", "step")
    return Scalars(mine, form, used, run, others, problems, broken)


def is_scalars(path: Path) -> bool:
    """Whether a file holds scalars with at least one known meaning, and no rollouts."""
    try:
        found = _file(path, path.name)
    except (OSError, ValueError, sqlite3.Error, pl.exceptions.PolarsError, *DAMAGED):
        return False
    return found is not None and any(meaning(name) for name in {point[2] for point in found[1]})


def _run(frame: pl.DataFrame) -> tuple[str, tuple[str, ...]]:
    """The run with the most points of known meaning, and the others."""
    known = [name for name in frame["name"].unique() if meaning(name)]
    counts = (
        frame.group_by("run", maintain_order=True)
        .agg(known=pl.col("name").is_in(known).sum(), all=pl.len())
        .sort("known", "all", descending=True, maintain_order=True)
    )
    runs = counts["run"].to_list()
    return runs[0], tuple(runs[1:])


def _file(path: Path, name: str) -> tuple[str, list[Point]] | None:
    """Where a file's scalars come from, and they; None where it holds none."""
    with unpacked(path) as stream:
        head = stream.read(4096)
    if is_events(head):
        return "TensorBoard events", [("", *one) for one in scalars_of(path)]
    if head.startswith(b"SQLite format 3"):
        form, said = stored_scalars(path)
        points = [point for run, row in said for point in _points(row, run)]
        return (form, points) if points else None
    if head.startswith(b"PAR1"):
        frame = pl.read_parquet(path, glob=False, memory_map=False)
        return _table(frame.iter_rows(named=True))
    if path.stat().st_size > LARGEST:
        return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"{", b"[")) and (found := _json(path, name)):
        return found
    line = text.split(b"\n", 1)[0]
    if b"\x00" in head:
        return None
    if (tag := is_metric_file(path, line)) and (said := list(metric_rows(path, tag))):
        return "MLflow's files", [point for run, row in said for point in _points(row, run)]
    if printed := points_of(path):
        return "what the trainer printed", [("", *one) for one in printed]
    if not any(one in line for one in SEPARATORS.encode()):
        return None
    problems = Problems()
    with unpacked(path) as packed:
        rows = [row for _, row in csv_rows(packed, LONGEST_LINE, path.name, problems)]
    if problems.files:
        raise ValueError(problems.first[0].what)
    tag = tag_of(name)
    if rows and {"step", "value"} <= {str(key).lower() for key in rows[0]} <= CHART:
        plain = [{str(key).lower(): cell for key, cell in row.items()} for row in rows]
        rows = [{"step": row["step"], tag: row["value"]} for row in plain]
    return _table(rows)


def _json(path: Path, name: str) -> tuple[str, list[Point]] | None:
    if said := _exports(path):
        return said
    with unpacked(path) as stream:
        content = stream.read(LARGEST).decode("utf-8-sig", "replace")
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return _lines(content)
    if isinstance(whole, dict) and isinstance(whole.get("log_history"), list):
        found = _table(whole["log_history"])
        return ("trainer_state.json", found[1]) if found else None
    if series := named_series(whole):
        found = _table({"step": step, name: value} for name, step, value in series)
        return ("named series", found[1]) if found else None
    if isinstance(whole, list):
        if whole and all(isinstance(one, list) and len(one) == 3 for one in whole):
            # TensorBoard's download of one chart.
            return _table({"step": step, tag_of(name): value} for _, step, value in whole)
        return _table(_unnested(one) for one in whole if isinstance(one, dict))
    return _lines(content)


def _exports(path: Path) -> tuple[str, list[Point]] | None:
    """prime-rl's token exports, a line at a time; None of any other file."""
    found = Exports()
    with unpacked(path) as stream:
        for place, line in enumerate(iter(lambda: stream.readline(LONGEST_LINE), b"")):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict) and Exports.fits(row):
                found.add(row)
            elif not place:
                return None
    return "prime-rl's token exports", found.points()


def _lines(content: str) -> tuple[str, list[Point]] | None:
    rows, verl = [], False
    for line in content.splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(row, dict):
            continue
        if isinstance(row.get("data"), dict) and "step" in row:
            row, verl = {**row["data"], "step": row["step"]}, True
        rows.append(_unnested(row))
    found = _table(rows)
    return ("verl's file logger", found[1]) if found and verl else found


def _unnested(row: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Scalars of objects in an object, under their names with slashes between."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, str) and value.startswith("{"):
            # trackio keeps the scalars of a call as text.
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if isinstance(value, dict) and before.count("/") < DEEPEST:
            found |= _unnested(value, f"{before}{name}/")
        else:
            found[f"{before}{name}"] = value
    return found


def _table(rows: Iterable[dict[str, Any]]) -> tuple[str, list[Point]] | None:
    """Rows with a step and numbers, or the CSV of a wandb chart."""
    points: list[Point] = []
    form = "a table of scalars"
    for row in rows:
        if any(isinstance(name, str) and " - " in name for name in row):
            form = "a wandb chart"
            points += _chart(row)
            continue
        if named := swanlab_row(row):
            form = "SwanLab"
            points += [point for run, said in named for point in _points(said, run)]
            continue
        if "_step" in row:
            form = "wandb's history"
        elif {"run_name", "timestamp"} <= set(row):
            form = "trackio"
        points += _points(row, str(row.get("run_name") or ""))
    return (form, points) if points else None


def _chart(row: dict[str, Any]) -> Iterator[Point]:
    """wandb's CSV of a chart: its step, then `<run> - <name>` with __MIN and __MAX beside it."""
    low = {str(name).lower(): value for name, value in row.items()}
    step = next((at for name in STEPS if (at := _number(low.get(name))) is not None), None)
    if step is None or abs(step) > 2**53:
        return
    for column, cell in row.items():
        run, _, name = str(column).rpartition(" - ")
        value = _number(cell)
        if run and value is not None and not name.endswith(("__MIN", "__MAX")):
            yield run, int(step), name, value


def _points(row: dict[str, Any], run: str) -> Iterator[Point]:
    low = {str(name).lower(): value for name, value in row.items() if name is not None}
    found = ((name, _number(low.get(name))) for name in STEPS)
    at, step = next(((name, value) for name, value in found if value is not None), ("", None))
    if step is None:
        # ms-swift writes `5/100`.
        of = (str(low[name]).partition("/")[0] for name in STEPS if "/" in str(low.get(name)))
        step = next((value for value in map(_number, of) if value is not None), None)
    if step is None or abs(step) > 2**53 or _is_rollout(low):
        return
    # MLflow's history of metrics, and whatever else has a row for each name and value.
    key = next((low[one] for one in NAMED if one in low), None)
    valued = next((low[one] for one in VALUED if one in low), None)
    if isinstance(key, str) and valued is not None and not any(map(meaning, low)):
        row = {key: valued}
    for name, cell in row.items():
        value = math.nan if _is_broken(cell) else _number(cell)
        key = str(name)
        if value is not None and key.lower() not in (at, *NO_SCALARS, *STEPS):
            yield run, int(step), key, value


def _is_broken(value: Any) -> bool:
    """Whether a number was logged that is NaN or infinite, also as text."""
    if isinstance(value, str):
        return value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity")
    return isinstance(value, float) and not math.isfinite(value)


def _is_rollout(row: Mapping[str, Any]) -> bool:
    """Whether a row, its names in lower case, holds a text that was sampled: it is no scalar's."""
    return any(isinstance(row.get(name), (str, list)) for name in (*ANSWERS, "prompt", "messages"))


def _number(value: Any) -> float | None:
    """A finite number, also as text (wandb and trackio write NaN so); None for all else."""
    return None if isinstance(value, bool) else finite_number(value)


__all__ = ["Scalars", "is_scalars", "read_scalars"]
