"""Scalars that a tracker's JSON keeps by name, each as a series of its own.

ClearML's `get_reported_scalars` (`{title: {series: {"name", "x", "y"}}}`) and the traces of a
downloaded plot, SwanLab's `swanlab api run metrics --save` (`{"list": [{"key", "metrics"}]}`) and
its CSV (columns `<experiment>-<name>_step`, which hold values, each with a `_timestamp` beside it),
MLflow's history of a metric (`{"metrics": [{"key", "value", "step"}]}`), and whatever else has
steps and values side by side or in pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workbench.diagnosis.logs.scalar_names import meaning

STEPS = ("step", "steps", "x", "iteration", "iterations", "iter", "index")
VALUES = ("value", "values", "y", "data")
LABELS = ("key", "tag", "name", "metric", "metricName", "metric_name", "title")
NO_NAMES = ("metrics", "data", "list", "points", "history", "values", "series", "traces", "scalars",
            "items", "results")  # fmt: skip
"""Keys that say nothing about what is below them."""

DEEPEST = 6
Pair = tuple[str, Any, Any]


def named_series(whole: Any) -> list[Pair]:
    """Name, step and value of every point of a document; nothing where no name is known."""
    found = list(_series(whole, ()))
    return found if any(meaning(name) for name in {pair[0] for pair in found}) else []


def _series(value: Any, path: tuple[str, ...]) -> Iterator[Pair]:
    if len(path) > DEEPEST:
        return
    if isinstance(value, list):
        for one in value:
            if isinstance(one, dict) and (point := _point(one)) is not None:
                yield _name((*path, *_label(one))), *point
            elif isinstance(one, (dict, list)):
                yield from _series(one, path)
    elif isinstance(value, dict):
        here = (*path, *_label(value))
        steps, values = _column(value, STEPS), _column(value, VALUES)
        if steps and values and len(steps) == len(values):
            name = _name(here)
            yield from ((name, x, y) for x, y in zip(steps, values, strict=True))
            return
        for key, inner in value.items():
            if isinstance(inner, (dict, list)):
                yield from _series(inner, here if key in NO_NAMES else (*here, str(key)))


def _point(row: dict[str, Any]) -> tuple[Any, Any] | None:
    found = [next((row[n] for n in names if n in row), None) for names in (STEPS, VALUES)]
    plain = all(isinstance(one, (int, float, str)) for one in found)
    return (found[0], found[1]) if plain else None


def _column(row: dict[str, Any], names: tuple[str, ...]) -> list[Any]:
    cells: list[Any] = next((row[name] for name in names if isinstance(row.get(name), list)), [])
    return [] if any(isinstance(one, (dict, list)) for one in cells) else cells


def _label(row: dict[str, Any]) -> tuple[str, ...]:
    return next(((row[name],) for name in LABELS if isinstance(row.get(name), str)), ())


def _name(path: tuple[str, ...]) -> str:
    """Of what stands above a series the name that means something, else all of it."""
    parts = [part for place, part in enumerate(path) if part not in path[:place]]
    for one in (parts, parts[-2:], parts[::-1], parts[-1:], parts[:1]):
        if meaning("/".join(one)):
            return "/".join(one)
    return "/".join(parts)


def swanlab_row(row: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """For each experiment in a row of SwanLab's CSV its name, and its step and scalars; nothing of
    any other row."""
    found: dict[str, dict[str, Any]] = {}
    for column, cell in row.items():
        whole = str(column).removesuffix("_step")
        if whole in ("", column) or f"{whole}_timestamp" not in row:
            continue
        run, name = _split(whole)
        found.setdefault(run, {"step": row.get("step")})[name] = cell
    return list(found.items())


def _split(whole: str) -> tuple[str, str]:
    """Experiment and scalar of `<experiment>-<name>`, either of which may hold a hyphen."""
    parts = whole.split("-")
    for place in range(len(parts)):
        name = "-".join(parts[place:])
        if meaning(name):
            return "-".join(parts[:place]), name
    return "-".join(parts[:-1]), parts[-1]


__all__ = ["named_series", "swanlab_row"]
