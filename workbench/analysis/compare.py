"""Two sides, paired by seed: what differs, by how much, how surely, and at what price.

A side is written `STRATEGY` or `STRATEGY@field=value@field=value`, with any dotted field of an
experiment, or `lr`. Without `lr` a side is read at its own best rate, chosen on validation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from recast.ledger import COST
from recast.quoting import nearest
from workbench.analysis.rows import last_rows
from workbench.analysis.tuning import mark_tuned
from workbench.errors import UserError
from workbench.spec.experiment import plain_text
from workbench.spec.metrics import PRIMARY
from workbench.stats.estimates import paired_difference
from workbench.stats.p_values import aligned, max_t

_NOT_FIELDS = ("engine",)


@dataclass(frozen=True)
class Side:
    """One side of a comparison. fields: dotted field (or `lr`) -> value."""

    strategy: str
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        """As it was written."""
        return "@".join([self.strategy, *(f"{k}={v}" for k, v in self.fields.items())])


def parse_side(text: str) -> Side:
    """`grpo@train.group=32` -> a side. Raises UserError for a field without a value."""
    strategy, *rest = (part.strip() for part in text.split("@"))
    fields: dict[str, Any] = {}
    for part in rest:
        field, equals, value = part.partition("=")
        if not (field and equals and value):
            raise UserError(f"{text!r}: expected STRATEGY@field=value, got {part!r} after @")
        try:
            fields[field] = json.loads(value)
        except ValueError:
            fields[field] = value
    return Side(plain_text(strategy), fields)


def compare(
    frame: pl.DataFrame,
    first: Side,
    second: Side,
    metrics: Sequence[str] = PRIMARY,
    tune_metric: str | None = None,
    label: str = "all",
) -> pl.DataFrame:
    """First minus second after the last step on the test split, one row per cell and metric.

    tune_metric: what chooses a rate that no side names, None = the metric of the row.
    Columns: the fields in which the compared cells differ, metric, first, second (means),
    difference, low, high (95%, null below five pairs), p (sign flips), p_corrected (max-T over all
    rows of the table), n (pairs), unpaired (runs without a twin), label, lr_first, lr_second,
    tuned_by, and ratio_<ledger> = first / second of what both spent (null where second spent
    nothing). A pair shares seed, world, and every field that neither side names.
    Raises UserError when a side has no runs, or nothing pairs up.
    """
    found: list[tuple[tuple[Any, ...], dict[str, Any], dict[int, float]]] = []
    frame = _both(frame, first, second)
    for metric in (name for name in metrics if name in frame.columns):
        marked = mark_tuned(frame, tune_metric or metric)
        pairs, varying, unpaired = _paired(marked, first, second, label)
        for _, cell in pairs.sort(*varying, "seed").group_by(
            varying or [pl.lit(0)], maintain_order=True
        ):
            usable = cell.filter(
                pl.col(metric).is_finite() & pl.col(f"{metric}_second").is_finite()
            )
            if usable.is_empty():
                continue
            common = {f: cell[f][0] for f in varying}
            row = _row(metric, usable) | {
                "unpaired": unpaired + 2 * (cell.height - usable.height),
                "lr_first": cell["lr"][0],
                "lr_second": cell["lr_second"][0],
                "tuned_by": cell["tuned_by"][0],
                **{f"ratio_{name}": _ratio(cell[name], cell[f"{name}_second"]) for name in COST},
            }
            gaps = usable.select("seed", gap=pl.col(metric) - pl.col(f"{metric}_second"))
            found.append((tuple(common.values()), {**common, **row}, dict(gaps.iter_rows())))
    if not found:
        raise UserError(f"{first.name} and {second.name}: no pair has a value of these metrics")
    places = {cell: i for i, cell in enumerate(dict.fromkeys(cell for cell, _, _ in found))}
    found.sort(key=lambda one: places[one[0]])
    differences = aligned([gaps for _, _, gaps in found])
    for (_, row, _), p in zip(found, max_t(differences), strict=True):
        row["p_corrected"] = p
    return pl.DataFrame([row for _, row, _ in found], infer_schema_length=None)


def runs_behind(
    frame: pl.DataFrame,
    first: Side,
    second: Side,
    metrics: Sequence[str],
    label: str = "all",
    tune_metric: str | None = None,
) -> set[str]:
    """Keys of the runs that `compare` pairs for these metrics. Raises UserError as it does."""
    found: set[str] = set()
    frame = _both(frame, first, second)
    for metric in (name for name in metrics if name in frame.columns):
        marked = mark_tuned(frame, tune_metric or metric)
        pairs, _, _ = _paired(marked, first, second, label)
        found |= {*pairs["run"], *pairs["run_second"]}
    return found


def _row(metric: str, usable: pl.DataFrame) -> dict[str, Any]:
    one, two = usable[metric].to_numpy(), usable[f"{metric}_second"].to_numpy()
    gap = paired_difference(one, two)
    return {
        "metric": metric,
        "first": float(one.mean()),
        "second": float(two.mean()),
        "difference": gap.value,
        "low": gap.low,
        "high": gap.high,
        "p": gap.p,
        "p_corrected": None,
        "n": usable.height,
        "label": gap.label,
    }


def _both(frame: pl.DataFrame, first: Side, second: Side) -> pl.DataFrame:
    """The rows of the two sides' strategies. Raises UserError where a side has none."""
    found = frame.filter(pl.col("strategy").is_in([first.strategy, second.strategy]))
    held = set(found["strategy"].unique())
    for side in (first, second):
        if side.strategy not in held:
            names = frame["strategy"].unique().sort().to_list()
            raise UserError(
                f"{side.strategy!r}: no runs in this store; {nearest(side.strategy, names)}"
            )
    return found


def _paired(
    marked: pl.DataFrame, first: Side, second: Side, label: str
) -> tuple[pl.DataFrame, list[str], int]:
    """Both sides' last rows side by side, the fields in which cells differ, runs without a twin."""
    fields = [
        c for c in marked.columns if ("." in c or c in ("world", "group")) and c not in _NOT_FIELDS
    ]
    sides = [_rows(marked, side, fields, label) for side in (first, second)]
    named = {*first.fields, *second.fields} | (
        {"group"} if "train.group" in (*first.fields, *second.fields) else set()
    )
    shared = [f for f in fields if f not in named]
    pairs = sides[0].join(
        sides[1], on=[*shared, "seed"], suffix="_second", nulls_equal=True, how="inner"
    )
    if pairs.is_empty():
        raise UserError(
            f"{first.name} and {second.name}: no pair shares seed and cell; "
            "name the differing field on both sides, as in grpo@train.group=32"
        )
    if pairs.select(*shared, "seed").is_duplicated().any():
        raise UserError(
            f"{first.name} and {second.name}: more than one run of a seed on a side; name lr or "
            f"another field ({', '.join(_varying(pairs, fields) or ['lr'])})"
        )
    varying = [f for f in _varying(pairs, shared) if f != "group"]
    return pairs, varying, sides[0].height + sides[1].height - 2 * pairs.height


def _rows(frame: pl.DataFrame, side: Side, fields: list[str], label: str) -> pl.DataFrame:
    """The last test row of each run of one side."""
    known = [*fields, "lr"]
    rows = frame.filter(pl.col("strategy") == side.strategy)
    for field, value in side.fields.items():
        if field not in known:
            raise UserError(f"{side.name}: unknown field {field!r}; {nearest(field, known)}")
        seen = rows[field].unique().sort().to_list()
        if value not in seen:
            text = ", ".join(str(v) for v in seen[:12])
            raise UserError(f"{side.name}: no runs with {field} = {value!r}; there are {text}")
        rows = rows.filter(pl.lit(value) == pl.col(field))
    if "lr" not in side.fields:
        rows = rows.filter("tuned")
    rows = last_rows(rows, label)
    if rows.is_empty():
        raise UserError(f"{side.name}: no test rows of slice {label!r}")
    return rows


def _varying(frame: pl.DataFrame, fields: Sequence[str]) -> list[str]:
    return [f for f in fields if f in frame.columns and frame[f].n_unique() > 1]


def _ratio(one: pl.Series, two: pl.Series) -> float | None:
    spent = float(two.sum())
    return float(one.sum()) / spent if spent else None
