"""Cost of a run-step against each axis: small panels side by side, both scales logarithmic."""

from __future__ import annotations

import numpy as np

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#555555")
DASHES = {"compiled": "7 3", "naive loop": "2 3"}
"""What follows a strategy's name -> how its line is broken; the colour is the strategy's."""
WIDTH, HEIGHT, LEFT, TOP, GAP = 250, 190, 64, 58, 130

Panels = dict[str, tuple[tuple[int, ...], dict[str, list[float]]]]
"""Axis label -> its values, and the cost of each line at the first of them."""


def cost_chart(panels: Panels) -> str:
    """An SVG, three panels to a row; every line is named at its end, costs share one scale."""
    costs = [c for _, lines in panels.values() for line in lines.values() for c in line]
    low, high = 10 ** np.floor(np.log10(min(costs))), 10 ** np.ceil(np.log10(max(costs)))
    names = list(dict.fromkeys(_parts(name)[0] for _, lines in panels.values() for name in lines))
    colour = dict(zip(names, COLOURS, strict=False))
    rows = -(-len(panels) // 3)
    width, height = LEFT + 3 * (WIDTH + GAP), TOP + rows * (HEIGHT + 70)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" role="img" '
        'aria-label="Cost of a run-step against G, R, B, N and H">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        '<text x="64" y="26" font-size="15">What does a run-step cost? '
        "Milliseconds of processor time, float64, R = 8 unless it varies</text>",
    ]
    for place, (label, (values, lines)) in enumerate(panels.items()):
        left, top = LEFT + place % 3 * (WIDTH + GAP), TOP + place // 3 * (HEIGHT + 70)
        parts += _panel(left, top, label, values, lines, (float(low), float(high)), colour)
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    left: int,
    top: int,
    label: str,
    values: tuple[int, ...],
    lines: dict[str, list[float]],
    bounds: tuple[float, float],
    colour: dict[str, str],
) -> list[str]:
    low, high = bounds

    def x(value: float) -> float:
        return float(left + WIDTH * np.log(value / values[0]) / np.log(values[-1] / values[0]))

    def y(cost: float) -> float:
        return float(top + HEIGHT * (1 - np.log(cost / low) / np.log(high / low)))

    middle = left + WIDTH / 2
    parts = [f'<text x="{middle}" y="{top + HEIGHT + 36}" text-anchor="middle">{label}</text>']
    for value in values:
        parts.append(f'<path d="M{x(value):.1f} {top}v{HEIGHT}" stroke="#e5e5e5"/>')
        at = f'x="{x(value):.0f}" y="{top + HEIGHT + 18}"'
        parts.append(f'<text {at} text-anchor="middle">{value}</text>')
    for tick in 10.0 ** np.arange(round(np.log10(low)), round(np.log10(high)) + 1):
        parts.append(f'<path d="M{left} {y(tick):.1f}h{WIDTH}" stroke="#e5e5e5"/>')
        at = f'x="{left - 8}" y="{y(tick) + 4:.0f}"'
        parts.append(f'<text {at} text-anchor="end">{tick:g}</text>')
    taken: list[float] = []
    for name, cost in sorted(lines.items(), key=lambda line: line[1][-1]):
        points = [(x(v), y(c)) for v, c in zip(values, cost, strict=False)]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        strategy, kind = _parts(name)
        dash = DASHES.get(kind, "none")
        stroke = f'fill="none" stroke="{colour[strategy]}" stroke-width="2"'
        stroke += f' stroke-dasharray="{dash}"'
        parts.append(f'<polyline points="{line}" {stroke}/>')
        dot = f'r="3" fill="{colour[strategy]}"'
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" {dot}/>' for a, b in points]
        at = points[-1][1]
        while any(abs(at - other) < 14 for other in taken):
            at -= 2
        taken.append(at)
        where = f'x="{points[-1][0] + 8:.0f}" y="{at + 4:.0f}"'
        parts.append(f'<text {where} fill="{colour[strategy]}">{name}</text>')
    return parts


def _parts(name: str) -> tuple[str, str]:
    """`grpo, compiled`: the strategy, and what is special about its line."""
    strategy, _, kind = name.partition(", ")
    return strategy, kind
