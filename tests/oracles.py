"""Slow oracles: the formulas as loops over plain lists. Nothing here imports the project.

A group is a list of `Rollout`; a batch is a list of groups. None stands for padding that is left
out: an oracle sees only real rollouts.
"""

from __future__ import annotations

import math
import statistics
from typing import NamedTuple


class Rollout(NamedTuple):
    reward: float
    score: float
    key: float


# name: (repairs, selection, credit, only active rows, supervised weight)
STRATEGIES = {
    "grpo": (False, "all", "grpo", False, 0.0),
    "dr_grpo": (False, "all", "dr_grpo", False, 0.0),
    "rloo": (False, "all", "rloo", False, 0.0),
    "reinforce": (False, "all", "reinforce", False, 0.0),
    "recast": (True, "pair", "sign", True, 0.0),
    "recast_random_negative": (True, "random", "sign", True, 0.0),
    "repair_only": (True, "all", "grpo", False, 0.0),
    "contrast_only": (False, "pair", "sign", True, 0.0),
    "sft": (False, "all", "none", False, 1.0),
    "grpo_sft": (False, "all", "grpo", False, 0.1),
}


def is_hit(rollout: Rollout) -> bool:
    return rollout.reward > 0


def regime(group: list[Rollout]) -> str:
    hits = sum(map(is_hit, group))
    if hits == 0:
        return "all_zero"
    if hits == len(group):
        return "saturated"
    return "single_hit" if hits == 1 else "multi_hit"


def repair_slot(group: list[Rollout], has_target: bool = True) -> int | None:
    """The slot that the ground truth overwrites, or None."""
    if not has_target or not group or any(map(is_hit, group)):
        return None
    return min(range(len(group)), key=lambda i: (group[i].score, group[i].key, i))


def repaired(group: list[Rollout], has_target: bool = True) -> list[Rollout]:
    slot = repair_slot(group, has_target)
    return [Rollout(1.0, 1.0, r.key) if i == slot else r for i, r in enumerate(group)]


def selected(group: list[Rollout], how: str) -> list[int]:
    everyone = list(range(len(group)))
    if how == "all":
        return everyone
    hits = [i for i in everyone if is_hit(group[i])]
    misses = [i for i in everyone if not is_hit(group[i])]
    if not hits or not misses:
        return []
    strongest = min(hits, key=lambda i: (-group[i].reward, group[i].key, i))
    if how == "random":
        return sorted([strongest, min(misses, key=lambda i: (group[i].key, i))])
    return sorted([strongest, min(misses, key=lambda i: (-group[i].score, group[i].key, i))])


def constant(rewards: list[float]) -> bool:
    return max(rewards) - min(rewards) <= 1e-6 * max(map(abs, rewards))


def grpo(rewards: list[float], eps: float = 1e-6) -> list[float]:
    if not rewards or constant(rewards):
        return [0.0] * len(rewards)
    mean, spread = statistics.fmean(rewards), statistics.stdev(rewards)
    return [(r - mean) / (spread + eps) for r in rewards]


def dr_grpo(rewards: list[float]) -> list[float]:
    if not rewards or constant(rewards):
        return [0.0] * len(rewards)
    return [r - statistics.fmean(rewards) for r in rewards]


def rloo(rewards: list[float]) -> list[float]:
    if len(rewards) < 2 or constant(rewards):
        return [0.0] * len(rewards)
    return [r - statistics.fmean(rewards[:i] + rewards[i + 1 :]) for i, r in enumerate(rewards)]


def sign(rewards: list[float]) -> list[float]:
    return [1.0 if r > 0 else -1.0 for r in rewards]


def credit(batch: list[list[float]], how: str) -> list[list[float]]:
    """Advantages of the selected rewards of each group of the batch."""
    if how == "none":
        return [[0.0] * len(rewards) for rewards in batch]
    if how == "reinforce":
        everyone = [r for rewards in batch for r in rewards]
        return [[r - statistics.fmean(everyone) for r in rewards] for rewards in batch]
    one_group = {"grpo": grpo, "dr_grpo": dr_grpo, "rloo": rloo, "sign": sign}[how]
    return [one_group(rewards) for rewards in batch]


def signal(
    name: str, batch: list[list[Rollout]], has_target: list[bool]
) -> tuple[list[list[float]], list[list[bool]]]:
    """Advantages, and whether each rollout reaches the actor, group by group."""
    repairs, selection, how, only_active, _ = STRATEGIES[name]
    if repairs:
        batch = [repaired(group, known) for group, known in zip(batch, has_target, strict=True)]
    chosen = [selected(group, selection) for group in batch]
    credited = credit(
        [[group[i].reward for i in index] for group, index in zip(batch, chosen, strict=True)], how
    )
    advantages, rows = [], []
    for group, index, values in zip(batch, chosen, credited, strict=True):
        given = dict(zip(index, values, strict=True))
        advantages.append([given.get(i, 0.0) for i in range(len(group))])
        rows.append([i in given and (given[i] != 0 or not only_active) for i in range(len(group))])
    return advantages, rows


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


def surrogate(logp: float, old: float, advantage: float, low: float, high: float) -> float:
    ratio = math.exp(logp - old)
    clipped = min(max(ratio, 1 - low), 1 + high)
    return -min(ratio * advantage, clipped * advantage)


def kl(logp: float, ref: float, estimator: str) -> float:
    """Estimate of KL(policy || reference) from one sample of the policy."""
    if estimator == "k1":
        return logp - ref
    if estimator == "k2":
        return (logp - ref) ** 2 / 2
    return math.exp(ref - logp) - 1 + (logp - ref)


def policy_loss(logp, old, ref, advantage, rows, divisor, low, high, weight, estimator) -> float:  # type: ignore[no-untyped-def]
    """One run: logp, old, ref `[B][U][L]`, advantage and rows `[B][U]`."""
    total = 0.0
    for b, row in enumerate(rows):
        for u, reaches in enumerate(row):
            if not reaches:
                continue
            for new, before, base in zip(logp[b][u], old[b][u], ref[b][u], strict=True):
                total += surrogate(new, before, advantage[b][u], low, high)
                total += weight * kl(new, base, estimator)
    return total / divisor


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def grpo_weight(p: float, group: int) -> float:
    """w(p): the mean GRPO step over all groups is w(p) grad log p, per rollout, at eps = 0."""
    mean_root = sum(binomial(k, group, p) * math.sqrt(k * (group - k)) for k in range(group + 1))
    return mean_root * math.sqrt((group - 1) / group) / (group * (1 - p))
