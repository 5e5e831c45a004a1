"""Charts of single runs: their curves one over the other, and many runs over their settings."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from workbench.charts.strategy_style import scales
from workbench.charts.style import INK, Chart, titled, words_of
from workbench.charts.together import overlaid
from workbench.spec.metrics import METRICS

MOST_TICKS = 12
MOST_NAMED = 8
MOST_PLAIN = 100
"""Runs above which lines are drawn fainter, so that the values of the axes stay readable."""
PLATE = "#676767"
_SMALL, _WIDE, _NARROW = 11, 6, 540
"""Size of a value's letters on its plate, pixels that the widest of them takes, and pixels of the
plot on a narrow page."""


def run_curves(frame: pl.DataFrame, metric: str, pinned: Sequence[str] = ()) -> Chart:
    """A metric over optimizer steps, one line per run; pinned runs are drawn thick.

    frame: run, label, strategy, seed, lr, step and the metric, one row per run and evaluation. Up
    to `MOST_NAMED` runs have a name and a look of their own each, more those of their strategies.
    """
    named = _named(frame)
    kinds = None if named is None else dict(named.select("strategy", "kind").iter_rows())
    frame = frame if named is None else named.drop("kind")
    order, colour, dash, shape = scales(frame, kinds)
    label = METRICS.get(metric, metric)
    shown = frame.with_columns(
        value=pl.col(metric).cast(pl.Float64), pinned=pl.col("run").is_in(list(pinned))
    ).drop_nulls("value")
    base = alt.Chart(shown).encode(
        x=alt.X("step:Q", title="Optimizer steps").axis(tickMinStep=1, format="~d"),
        y=alt.Y("value:Q", title=textwrap.wrap(label, 30)).scale(zero=False),
        color=colour,
        detail=alt.Detail("run:N"),
        tooltip=[
            alt.Tooltip("strategy:N", title="Strategy" if named is None else "Name"),
            alt.Tooltip("lr:Q", title="Learning rate", format=".4~r"),
            alt.Tooltip("seed:Q", title="Seed"),
            alt.Tooltip("step:Q", title="Step"),
            alt.Tooltip("value:Q", title=label, format=".4f"),
            alt.Tooltip("run:N", title="Run"),
        ],
    )
    lines = base.mark_line().encode(
        strokeDash=dash,
        order=alt.Order("step:Q"),
        strokeWidth=alt.condition("datum.pinned", alt.value(4), alt.value(1.5)),
    )
    points = base.mark_point(filled=True, size=40, opacity=1).encode(shape=shape)
    return titled(
        overlaid(lines, points),
        "How did these runs go?",
        f"{label} against optimizer steps, one line per run of {', '.join(order)}; pinned runs are "
        "thick.",
    )


def _named(frame: pl.DataFrame) -> pl.DataFrame | None:
    """The rows of few runs with each one's own name for its strategy, which moves to `kind`; a name
    that two runs share ends with the start of their keys. Nothing where there are more."""
    if frame["run"].n_unique() > MOST_NAMED:
        return None
    alike = pl.col("run").n_unique().over("label") > 1
    told = pl.format("{} ({})", "label", pl.col("run").str.slice(0, 6))
    return frame.with_columns(
        kind="strategy", strategy=pl.when(alike).then(told).otherwise("label")
    )


def parallel(frame: pl.DataFrame, fields: Sequence[str], metric: str) -> Chart:
    """Parallel coordinates: one line per run over its settings to what it reached.

    frame: run, strategy, the fields and the metric, one row per run. A field of numbers that are
    all above 0 and span a decade or more has a logarithmic axis.
    """
    names = [*fields, metric]
    label = {name: words_of(name) for name in names}
    points, ticks = _on_axes(frame, label, metric)
    order, colour, dash, _ = scales(frame)
    left = _left(ticks, len(names))
    x = alt.X("axis:Q", axis=None).scale(domain=[-left, len(names) - 0.55], nice=False)
    y = alt.Y("height:Q", axis=None).scale(domain=[-0.05, 1.22], nice=False)
    lines = (
        alt.Chart(points)
        .mark_line(strokeWidth=1.3, opacity=0.75 if frame.height <= MOST_PLAIN else 0.35)
        .encode(
            x=x,
            y=y,
            detail=alt.Detail("run:N"),
            order=alt.Order("axis:Q"),
            color=colour.legend(symbolLimit=0, labelLimit=240, symbolStrokeWidth=3),
            strokeDash=dash,
            tooltip=[
                alt.Tooltip("strategy:N", title="Strategy"),
                alt.Tooltip("field:N", title="Setting"),
                alt.Tooltip("value:N", title="Value"),
                alt.Tooltip("reached:Q", title=label[metric], format=".4f"),
                alt.Tooltip("run:N", title="Run"),
            ],
        )
    )
    lines_of = [textwrap.fill(name, 28) for name in label.values()]
    heads = pl.DataFrame({"axis": list(range(len(names))), "name": lines_of})
    heads = heads.with_columns(height=pl.lit(0.0), top=pl.lit(1.0), above=pl.lit(1.09))
    rules = alt.Chart(heads).mark_rule(color=INK).encode(x=x, y=y, y2=alt.Y2("top:Q"))
    titles = (
        alt.Chart(heads)
        .transform_calculate(height="datum.above")
        .mark_text(color=INK, fontWeight="bold", baseline="line-bottom", lineBreak="\n")
        .encode(x=x, y=y, text=alt.Text("name:N"))
    )
    return titled(
        overlaid(rules, lines, *_values(ticks, x, y), titles).properties(height=360),
        "Which settings lead where?",
        f"Parallel coordinates over {', '.join(label.values())}: one line per run, coloured by "
        f"strategy ({', '.join(order)}).",
    )


def _left(ticks: pl.DataFrame, axes: int) -> float:
    """Room to the left of the first axis, in steps between axes: its values stand there, also where
    all of the plot is as wide as on a narrow page."""
    letters = int(ticks.filter(pl.col("axis") == 0)["value"].str.len_chars().max() or 0)  # type: ignore[arg-type]
    taken = min(5 + _WIDE * letters, _NARROW // 2)
    return max(0.45, taken * (axes - 0.55) / (_NARROW - taken))


def _values(ticks: pl.DataFrame, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """The values of the axes. Lines run to the right of the first, so its own stand to its left;
    those of the others, among lines, stand on plates."""
    outer = alt.Chart(ticks.filter(pl.col("axis") == 0)).mark_text(color=INK, align="right", dx=-5)
    among = ticks.filter(pl.col("axis") > 0)
    inner = alt.Chart(among).mark_text(
        color="white", fontWeight="bold", fontSize=_SMALL, align="left", dx=8
    )
    values = [text.encode(x=x, y=y, text=alt.Text("value:N")) for text in (outer, inner)]
    plates = [
        alt.Chart(among.filter(pl.col("value").str.len_chars() == letters))
        .mark_point(
            shape=f"M4,-8H{12 + _WIDE * letters}V8H4Z", size=4, filled=True, color=PLATE, opacity=1
        )
        .encode(x=x, y=y, tooltip=[alt.Tooltip("value:N", title="Value")])
        for letters in sorted(among["value"].str.len_chars().unique().to_list())
    ]
    return [*plates, *values]


def _on_axes(
    frame: pl.DataFrame, label: Mapping[str, str], metric: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Where each run meets each axis, and the ticks of the axes. label: column -> its name."""
    places, ticks = [], []
    for axis, name in enumerate(label):
        height, marks = _axis(frame[name])
        places.append(
            frame.select(
                "run",
                "strategy",
                axis=pl.lit(axis),
                height=pl.Series(height),
                value=pl.col(name).cast(pl.String),
                reached=pl.col(metric).cast(pl.Float64),
                field=pl.lit(label[name]),
            )
        )
        ticks += [{"axis": axis, "height": at, "value": text} for at, text in marks]
    return pl.concat(places), pl.DataFrame(ticks)


def _axis(values: pl.Series) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights from 0 to 1 of a column's values, and a few of its values with theirs."""
    if not values.dtype.is_numeric():
        known = values.cast(pl.String).unique().sort().to_list()
        at = {name: _share(place, 0, max(len(known) - 1, 1)) for place, name in enumerate(known)}
        heights = [at[name] for name in values.cast(pl.String).to_list()]
        return heights, [(at[name], str(name)) for name in known[:MOST_TICKS]]
    numbers = [float(value) for value in values.to_list()]
    low, high = min(numbers), max(numbers)
    log = low > 0 and high >= 10 * low

    def place(value: float) -> float:
        if log:
            return _share(math.log(value), math.log(low), math.log(high))
        return _share(value, low, high)

    known = sorted(set(numbers))
    if len(known) > MOST_TICKS:
        known = [low, high] if log else [low, (low + high) / 2, high]
    return [place(value) for value in numbers], [(place(v), f"{v:.3g}") for v in known]


def _share(value: float, low: float, high: float) -> float:
    return 0.5 if high == low else (value - low) / (high - low)
