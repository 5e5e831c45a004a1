"""How a strategy looks in every chart: its colour, dash and mark, and its place in the order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import altair as alt
import polars as pl

from recast import STRATEGIES, Strategy
from workbench.spec.row_names import AVERAGED, DECAYING, split_row


class Style(NamedTuple):
    """How a strategy looks: a hex colour, a dash pattern, a mark (a Vega shape or path)."""

    colour: str
    dash: list[int]
    shape: str


class _Family(NamedTuple):
    """Four neighbouring hues that differ by more than shade, each 3:1 or better on white and on the
    dark page; own marks."""

    tints: tuple[str, str, str, str]
    shapes: tuple[str, ...]


_WIDE, _TALL = "M-1,-.5H1V.5H-1Z", "M-.5,-1H.5V1H-.5Z"
_STAR = "M0,-1L.3,-.3H1L.45,.15L.65,.9L0,.45L-.65,.9L-.45,.15L-1,-.3H-.3Z"
_PENTAGON = "M0,-1L.95,-.3L.6,.8H-.6L-.95,-.3Z"
_HEXAGON = "M-.5,-.85H.5L1,0L.5,.85H-.5L-1,0Z"
_HOURGLASS, _BOWTIE = "M-.9,-.9H.9L-.9,.9H.9Z", "M-.9,-.9V.9L.9,-.9V.9Z"
_CHEVRON = "M-1,-.9L0,-.2L1,-.9V-.1L0,.7L-1,-.1Z"
_KITE, _TRAPEZE = "M0,-1L.6,-.3L0,1L-.6,-.3Z", "M-.5,-.7H.5L1,.7H-1Z"
_ELL, _ARROW = "M-.8,-.9H-.1V.2H.9V.9H-.8Z", "M-1,-.35H0V-.9L1,0L0,.9V.35H-1Z"
_BARS, _STAIRS = "M-1,-1H-.4V1H-1Z M.4,-1H1V1H.4Z", "M-1,-1H-.3V-.3H.3V.3H1V1H-1Z"
_SALTIRE = "M-1,-.6L-.6,-1L0,-.4L.6,-1L1,-.6L.4,0L1,.6L.6,1L0,.4L-.6,1L-1,.6L-.4,0Z"

FAMILIES: Mapping[str, _Family] = MappingProxyType(
    {
        "credit": _Family(
            ("#006AB1", "#028FC8", "#5B6FD8", "#4A66AC"),
            ("circle", "square", _WIDE, _TALL, _CHEVRON),
        ),
        "repair": _Family(
            ("#D24D00", "#8A5C22", "#DC725D", "#C27700"),
            ("diamond", "triangle-up", _STAR, _PENTAGON),
        ),
        "selection": _Family(
            ("#A13DA1", "#D66DA9", "#675E9F", "#C02CBF"), ("triangle-down", _HOURGLASS)
        ),
        "supervised": _Family(
            ("#007652", "#26A702", "#17987B", "#22760E"), ("cross", _SALTIRE, _KITE)
        ),
        "loss": _Family(("#C93A30", "#FD4E89", "#A1455F", "#DF7064"), (_TRAPEZE, _ELL, _ARROW)),
        "gate": _Family(
            ("#836200", "#96951B", "#B38A36", "#7A8139"), ("triangle-left", "triangle-right")
        ),
        "other": _Family(("#676767", "#8E8E8E", "#797979", "#626262"), (_BOWTIE, _HEXAGON)),
    }
)
# Marks and dashes advance together. No family has a multiple of seven marks, so that no pair of
# mark and dash comes twice before all pairs are used.
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 3], [4, 2], [8, 2, 2, 2, 2, 2])

# The strategies that most pictures show get their family's first looks: each its own colour and
# mark, which is what a legend shows.
_FIRST = (
    *("grpo", "recast", "repair_only", "contrast_only", "sft", "grpo_sft"),
    "target_power",
    *("dr_grpo", "maxrl", "pass_at_k", "ngrpo"),
)


def family(strategy: Strategy) -> str:
    """The family whose hue and marks a strategy shares; a key of `FAMILIES`.

    The first stage that differs from plain credit decides: supervised, gate, repair, select, loss.
    """
    if strategy.learns_from_target:
        return "supervised"
    if strategy.has_gate:
        return "gate"
    if strategy.has_repair:
        return "repair"
    if strategy.has_selection:
        return "selection"
    bare = all(strategy.stage(kind).stage.idle for kind in ("clip", "ratio"))
    return "credit" if bare else "loss"


def _look(kind: str, place: int) -> Style:
    tints, shapes = FAMILIES[kind]
    return Style(
        tints[place % len(tints)], _DASHES[place % len(_DASHES)], shapes[place % len(shapes)]
    )


def _registry() -> dict[str, Style]:
    """A look for each strategy of the registry, by its place within its family: stable as long
    as new strategies come after the others of their family."""
    seen: Counter[str] = Counter()
    looks = {}
    first = {name: place for place, name in enumerate(_FIRST)}
    for name in sorted(STRATEGIES, key=lambda name: first.get(name, len(first))):
        kind = family(STRATEGIES[name])
        looks[name] = _look(kind, seen[kind])
        seen[kind] += 1
    return {name: looks[name] for name in STRATEGIES}


STYLE: Mapping[str, Style] = MappingProxyType(_registry())


_TRAINED_OTHERWISE: Mapping[str, tuple[list[int], str]] = MappingProxyType(
    {AVERAGED: ([1, 2], _BARS), DECAYING: ([1, 2, 5, 2], _STAIRS)}
)
"""Dash and mark of rows that train otherwise; the colour is their strategy's."""


def _row_style(style: Style, ending: str) -> Style:
    return Style(style.colour, *_TRAINED_OTHERWISE[ending]) if ending else style


def in_order(names: Iterable[str]) -> list[str]:
    """Rows in the fixed order of their strategies, averaged and decaying ones after it;
    compositions outside the registry last, by name."""
    places = {name: place for place, name in enumerate(STYLE)}
    return sorted(set(names), key=lambda n: (places.get(split_row(n)[0], len(places)), n))


def _styles(order: list[str]) -> list[Style]:
    """The looks of these rows, each other composition with the next look of its family. Where two
    strategies would meet in one colour the later takes another of its family's, while it has any.
    """
    strategies = [split_row(name) for name in order]
    names = list(dict.fromkeys(name for name, _ in strategies))
    others = [name for name in names if name not in STYLE]
    looks: dict[str, Style] = {}
    taken: set[str] = set()
    for name in names:
        style = STYLE[name] if name in STYLE else _look("other", others.index(name))
        kin = _family_of(style)
        free = [tint for tint in (style.colour, *kin.tints) if tint not in taken]
        looks[name] = style._replace(colour=free[0] if free else style.colour)
        taken.add(looks[name].colour)
    return [_row_style(looks[name], ending) for name, ending in strategies]


def _family_of(style: Style) -> _Family:
    """The family that has the colour of a look."""
    return next(one for one in FAMILIES.values() if style.colour in one.tints)


def _run_styles(order: list[str], of: Mapping[str, str]) -> list[Style]:
    """The looks of single runs: a strategy's first has the strategy's, the next ones other colours
    of its family while there are any, and the next dashes and marks. of: run -> its strategy."""
    kinds = list(dict.fromkeys(of[name] for name in order))
    own = dict(zip(kinds, _styles(kinds), strict=True))
    taken = {look.colour for look in own.values()}
    seen: Counter[str] = Counter()
    found = []
    for name in order:
        base, place = own[of[name]], seen[of[name]]
        seen[of[name]] += 1
        kin = _family_of(base)
        free = [tint for tint in kin.tints if tint not in taken]
        tint = free[0] if place and free else base.colour
        taken.add(tint)
        dash = _DASHES[place % len(_DASHES)] if place else base.dash
        mark = kin.shapes[place % len(kin.shapes)] if place else base.shape
        found.append(Style(tint, dash, mark))
    return found


def colours(names: Iterable[str]) -> dict[str, str]:
    """The hex colours of rows that are shown together, as `scales` gives them to a chart."""
    order = in_order(names)
    return {name: style.colour for name, style in zip(order, _styles(order), strict=True)}


def scales(
    frame: pl.DataFrame, runs: Mapping[str, str] | None = None
) -> tuple[list[str], alt.Color, alt.StrokeDash, alt.Shape]:
    """The strategies of a frame in order, and their colour, dash and mark.

    The legend shows colour and mark, so a line needs points: dashes would fray its symbols. They
    are written as plain dictionaries: Altair's methods take a millisecond each. runs: for rows that
    are single runs, the strategy of each.
    """
    order = in_order(frame["strategy"].to_list())
    chosen = _styles(order) if runs is None else _run_styles(order, runs)
    return (
        order,
        alt.Color(
            "strategy:N",
            title="Strategy",
            scale={"domain": order, "range": [style.colour for style in chosen]},
            legend={
                "symbolOpacity": 1,
                "symbolSize": 90,
                "symbolStrokeWidth": 0,
                "symbolLimit": 0,
                "labelLimit": 240,
                "title": "Strategy" if runs is None else "Run",
            },
        ),
        # The other spelling of the field keeps the dash out of the legend of colour and mark.
        alt.StrokeDash(
            "['strategy']:N",
            scale={"domain": order, "range": [style.dash for style in chosen]},
            legend=None,
        ),
        alt.Shape(
            "strategy:N",
            title="Strategy",
            scale={"domain": order, "range": [style.shape for style in chosen]},
        ),
    )
