"""What benchmarks share: the least time of many repetitions, and tables in Markdown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

Timed = Callable[[], None]


TURN = 0.1
"""Seconds of processor time that each gets in a round, however short one repetition is."""


def least(timed: dict[str, Timed], per: int, seconds: float) -> dict[str, float]:
    """Least processor time of each, ms divided by `per`; `seconds` for all of them together."""
    best = dict.fromkeys(timed, float("inf"))
    for go in timed.values():
        go()
    end = time.monotonic() + seconds
    rounds = 0
    print(".", end="", file=sys.stderr, flush=True)
    while time.monotonic() < end or rounds < 3:
        for label, go in timed.items():
            turn = time.process_time() + TURN
            while (begun := time.process_time()) < turn:
                go()
                best[label] = min(best[label], (time.process_time() - begun) * 1e3 / per)
        rounds += 1
    return best


def table(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n### {title}\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        cells = (f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values())
        print("| " + " | ".join(cells) + " |", flush=True)
