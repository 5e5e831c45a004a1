"""Rollouts, regimes and structural scores, as loops over plain lists."""

from __future__ import annotations

from typing import NamedTuple


class Rollout(NamedTuple):
    reward: float
    score: float
    key: float
    length: float = 1.0
    entropy: tuple[float, ...] = (0.0, 0.0)
    rank: int = 0
    matched: int = 0
    item: int = 0

    @property
    def codes(self) -> tuple[int, ...]:
        """Four codes: 0 is the target's; a hit may have others too, where tests draw both apart."""
        return tuple(0 if level < self.matched else 1 + self.item for level in range(4))

    @property
    def logp(self) -> tuple[float, ...]:
        """Log-probability of each code, unlike from item to item."""
        return tuple(
            -0.3 * (1 + self.item) - 0.2 * self.matched - 0.1 * level for level in range(4)
        )


def is_hit(rollout: Rollout) -> bool:
    return rollout.reward > 0


def regime(group: list[Rollout]) -> str:
    hits = sum(map(is_hit, group))
    if hits == 0:
        return "all_zero"
    if hits == len(group):
        return "saturated"
    return "single_hit" if hits == 1 else "multi_hit"


def constant(rewards: list[float]) -> bool:
    return max(rewards) - min(rewards) <= 1e-6 * max(map(abs, rewards))


# Pairs whose difference is below, exactly and above a millionth of the larger: the last two differ
# in what the millionth is of, by less than the difference itself.
AROUND_A_MILLIONTH = [
    (1.0, 1.0 + 0.5e-6),
    (999_999.0, 1_000_000.0),
    (1.0, 1.0 + 1e-6 * (1 + 0.5e-6)),
    (1.0, 1.0 + 1e-6 * (1 + 1.5e-6)),
]


def matched_levels(path: tuple[int, ...], target: tuple[int, ...]) -> int:
    levels = 0
    for code, wanted in zip(path, target, strict=True):
        if code != wanted:
            break
        levels += 1
    return levels


def structural_score(paths: list[tuple[int, ...]], targets: list[tuple[int, ...]]) -> float:
    """Mean over the paths of the best phi over the targets, phi = 10^(matched - depth) or 0."""
    if not paths:
        return 0.0
    total = 0.0
    for path in paths:
        best = 0.0
        for target in targets:
            levels = matched_levels(path, target)
            best = max(best, 10.0 ** (levels - len(path)) if levels else 0.0)
        total += best
    return total / len(paths)
