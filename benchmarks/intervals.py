"""How often the intervals of `workbench.stats.estimates` hold the truth, by distribution and seeds.

`python -m benchmarks.intervals` prints a Markdown table: rows are numbers of seeds, columns
distributions, entries the share of draws whose 95% interval of the mean holds the true mean. The
draws come from a fixed seed; the standard error of an entry is printed below the table.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from workbench.stats.estimates import interval
from workbench.stats.samples import Floats, mean

SEEDS = (5, 6, 8, 10, 20)
Draw = Callable[[np.random.Generator, int], Floats]


def _bimodal(rng: np.random.Generator, n: int) -> Floats:
    found: Floats = np.where(rng.random(n) < 0.5, -1.0, 1.0) + 0.3 * rng.standard_normal(n)
    return found


def _outliers(rng: np.random.Generator, n: int) -> Floats:
    found: Floats = rng.standard_normal(n) + np.where(rng.random(n) < 0.1, 10.0, 0.0)
    return found


KINDS: Mapping[str, tuple[Draw, float]] = MappingProxyType(
    {
        "normal": (lambda rng, n: rng.standard_normal(n), 0.0),
        "two modes": (_bimodal, 0.0),
        "t, 3 degrees": (lambda rng, n: rng.standard_t(3, n), 0.0),
        "gamma, shape 4": (lambda rng, n: rng.gamma(4.0, size=n), 4.0),
        "log-normal, SD 1": (lambda rng, n: rng.lognormal(size=n), math.exp(0.5)),
        "10% far outliers": (_outliers, 1.0),
    }
)
"""Name -> a sample of n seeds, and the true mean."""


def coverage(kind: str, n: int, draws: int, confidence: float = 0.95) -> float:
    """Share of draws whose interval of the mean holds the true mean."""
    draw, truth = KINDS[kind]
    rng = np.random.default_rng([n, sorted(KINDS).index(kind)])
    inside = 0
    for _ in range(draws):
        low, high = interval(draw(rng, n), mean, None, confidence)
        inside += (low is None or low <= truth) and (high is None or truth <= high)
    return inside / draws


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    print("| seeds |", " | ".join(KINDS), "|")
    print("|---|" + "---|" * len(KINDS))
    for n in SEEDS:
        shares = (f"{coverage(kind, n, draws):.3f}" for kind in KINDS)
        print(f"| {n} |", " | ".join(shares), "|", flush=True)
    print(f"\n{draws:,} draws each: standard error {math.sqrt(0.95 * 0.05 / draws):.3f}")


if __name__ == "__main__":
    main()
