"""Advantages: one function per formula."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any

from oracles.groups import Rollout, constant, is_hit


def grpo(rewards: list[float], eps: float = 1e-6, ddof: int = 1) -> list[float]:
    if len(rewards) < 2 or constant(rewards):
        return [0.0] * len(rewards)
    mean = statistics.fmean(rewards)
    spread = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - ddof))
    return [(r - mean) / (spread + eps) for r in rewards]


def dr_grpo(rewards: list[float]) -> list[float]:
    if not rewards or constant(rewards):
        return [0.0] * len(rewards)
    return [r - statistics.fmean(rewards) for r in rewards]


def rloo(rewards: list[float]) -> list[float]:
    if len(rewards) < 2 or constant(rewards):
        return [0.0] * len(rewards)
    return [r - statistics.fmean(rewards[:i] + rewards[i + 1 :]) for i, r in enumerate(rewards)]


def opo(group: list[Rollout]) -> list[float]:
    rewards = [r.reward for r in group]
    if not rewards or constant(rewards):
        return [0.0] * len(rewards)
    weighted = sum(r.length * r.reward for r in group) / sum(r.length for r in group)
    return [r - weighted for r in rewards]


def best_of_group(group: list[Rollout]) -> list[float]:
    rewards = [r.reward for r in group]
    values = [0.0] * len(group)
    if len(group) > 1 and not constant(rewards):
        order = sorted(range(len(group)), key=lambda i: (-rewards[i], group[i].key, i))
        lead = rewards[order[0]] - rewards[order[1]]
        values[order[0]] = lead / (statistics.stdev(rewards) + 1e-6)
    return values


def pass_at_k(rewards: list[float], k: int = 4) -> list[float]:
    """rho: chance that k of the n rollouts drawn without replacement hold a hit."""
    n, c = len(rewards), sum(r > 0 for r in rewards)
    if n < k:
        return [0.0] * n
    rho = 1 - math.comb(n - c, k) / math.comb(n, k)
    sigma = math.sqrt(rho * (1 - rho))
    if sigma == 0:
        return [0.0] * n
    miss = 1 - rho - (math.comb(n - c - 1, k - 1) / math.comb(n - 1, k - 1) if c < n else 0)
    return [(1 - rho) / sigma if r > 0 else miss / sigma for r in rewards]


def maxrl(rewards: list[float]) -> list[float]:
    if not rewards or constant(rewards):
        return [0.0] * len(rewards)
    mean = statistics.fmean(rewards)
    return [(r - mean) / (mean + 1e-6) for r in rewards]


def ngrpo(rewards: list[float]) -> list[float]:
    return grpo([*rewards, 1.0])[:-1] if rewards else []


def rl_zvp(group: list[Rollout], scale: float = 0.1) -> list[tuple[float, ...]]:
    rewards = [r.reward for r in group]
    if group and not constant(rewards):
        return [(a,) * len(r.entropy) for a, r in zip(grpo(rewards), group, strict=True)]
    return [
        tuple(scale * h for h in r.entropy)
        if is_hit(r)
        else tuple(-scale * (max(r.entropy) - h) for h in r.entropy)
        for r in group
    ]


def bgae(group: list[Rollout]) -> list[float]:
    table = [0.0, 0.5, 0.707, 0.866, 0.95]
    prefix = [1.0 if is_hit(r) else table[min(r.matched, 4)] for r in group]
    bonus = pass_at_k([r.reward for r in group])
    return [a + b for a, b in zip(grpo(prefix), bonus, strict=True)]


def rank_penalty(group: list[Rollout]) -> list[float]:
    discount = [1 / math.log2(r.rank + 2) for r in group]
    some_hit = any(map(is_hit, group))
    value = [
        r.reward - (0.0 if is_hit(r) or not some_hit else d / sum(discount))
        for r, d in zip(group, discount, strict=True)
    ]
    return grpo(value, eps=1e-4)


def care(rewards: list[float], k: int = 4) -> list[float]:
    misses = sum(r <= 0 for r in rewards)
    factor = math.sqrt(k / max(misses, 1))
    return [factor * (a if a > 0 else 0.5 * a) for a in grpo(rewards, ddof=0)]


def sign_beyond_prefix(group: list[Rollout], depth: int = 4) -> list[tuple[float, ...]]:
    """The negative's codes that the target has as well count for nothing."""
    return [
        (1.0,) * depth
        if is_hit(r)
        else tuple(-1.0 if level >= r.matched else 0.0 for level in range(depth))
        for r in group
    ]


def grpo_batch(batch: list[list[Rollout]]) -> list[list[float]]:
    """TRL: the group's mean, the standard deviation of every reward of the batch."""
    everyone = [r.reward for group in batch for r in group]
    spread = statistics.stdev(everyone) if len(everyone) > 1 else 0.0
    return [[a / (spread + 1e-4) for a in dr_grpo([r.reward for r in group])] for group in batch]


def sign(rewards: list[float]) -> list[float]:
    return [1.0 if r > 0 else -1.0 for r in rewards]


def reinforce_pp(batch: list[list[Rollout]]) -> list[list[float]]:
    """Each reward once per token, whitened with Bessel's correction."""
    tokens = [r.reward for group in batch for r in group for _ in range(int(r.length))]
    if not tokens or constant(tokens):
        return [[0.0] * len(group) for group in batch]
    mean = statistics.fmean(tokens)
    square = sum((t - mean) ** 2 for t in tokens) / max(len(tokens) - 1, 1)
    return [[(r.reward - mean) / math.sqrt(square + 1e-8) for r in group] for group in batch]


def gpg(batch: list[list[Rollout]]) -> list[list[float]]:
    everyone = [r.reward for group in batch for r in group]
    alpha = len(everyone) / max(1, sum(r != 0 for r in everyone))
    return [[alpha * a for a in dr_grpo([r.reward for r in group])] for group in batch]


def reinforce_pp_baseline(batch: list[list[Rollout]]) -> list[list[float]]:
    """The group's mean off, then as reinforce_pp: once per token."""
    centred = [
        [r._replace(reward=a) for r, a in zip(g, dr_grpo([r.reward for r in g]), strict=True)]
        for g in batch
    ]
    return reinforce_pp(centred)


def gdpo(batch: list[list[Rollout]], depth: int = 4) -> list[list[float]]:
    """Each of two rewards normalised in its group, summed, whitened over the tokens."""
    summed = []
    for group in batch:
        share = [1.0 if is_hit(r) else min(r.matched, depth) / depth for r in group]
        both = zip(grpo([r.reward for r in group]), grpo(share), strict=True)
        summed.append([r._replace(reward=a + b) for r, (a, b) in zip(group, both, strict=True)])
    return reinforce_pp(summed)


def spo(
    batch: list[list[Rollout]], before: list[tuple[float, float]] | None = None
) -> list[list[float]]:
    """before: discounted hits and misses of each prompt, a half each at first."""
    counts = before or [(0.5, 0.5)] * len(batch)
    gaps = [[r.reward - a / (a + b) for r in g] for g, (a, b) in zip(batch, counts, strict=True)]
    everyone = [gap for group in gaps for gap in group]
    if len(everyone) < 2 or constant(everyone):
        return [[0.0] * len(group) for group in batch]
    mean, spread = statistics.fmean(everyone), statistics.stdev(everyone)
    return [[(gap - mean) / (spread + 1e-8) for gap in group] for group in gaps]


def nemo_loo(rewards: list[float]) -> list[float]:
    found = []
    for i, reward in enumerate(rewards):
        others = rewards[:i] + rewards[i + 1 :]
        if not others or constant(rewards):
            found.append(0.0)
            continue
        gap = reward - statistics.fmean(others)
        alike = len(others) < 2 or constant(others)
        found.append(gap if alike else gap / (statistics.stdev(others) + 1e-6))
    return found


def pkpo(rewards: list[float], k: int = 4) -> list[float]:
    """By the sets themselves: the mean over sets of k with i of their best, less that without i."""
    n = len(rewards)
    if n <= k:
        return [0.0] * n

    def best(others: list[float], size: int, own: float) -> float:
        sets = list(itertools.combinations(others, size))
        return statistics.fmean(max([own, *drawn]) for drawn in sets)

    found = []
    for i, reward in enumerate(rewards):
        others = rewards[:i] + rewards[i + 1 :]
        found.append(k * (best(others, k - 1, reward) - best(others, k, 0.0)))
    return found


def lens(group: list[Rollout], alpha: float = 0.25) -> list[float]:
    if not group:
        return []
    n = len(group)
    q = [math.exp(statistics.fmean(r.logp)) for r in group]
    top = 2 * max(q)
    hits = any(map(is_hit, group))
    if hits:
        top = max(top, n / sum(r.reward / p for r, p in zip(group, q, strict=True)))
    value = [r.reward - (1 - r.reward) / n * p / (top - p) for r, p in zip(group, q, strict=True)]
    return grpo(value) if hits else [alpha * a for a in dr_grpo(value)]


def sibling(group: list[Rollout], eps: float = 1e-4) -> list[tuple[float, ...]]:
    """Nodes of the tree of codes by hand: mean reward of each, z-scored among its siblings."""
    found = []
    for r in group:
        values = []
        for level in range(4):
            nodes: dict[int, list[float]] = {}
            for other in group:
                if other.codes[:level] == r.codes[:level]:
                    nodes.setdefault(other.codes[level], []).append(other.reward)
            scores = {code: statistics.fmean(rewards) for code, rewards in nodes.items()}
            if len(scores) < 2 or constant(list(scores.values())):
                values.append(0.0)
                continue
            mean, spread = statistics.fmean(scores.values()), statistics.pstdev(scores.values())
            values.append((scores[r.codes[level]] - mean) / (spread + eps))
        found.append(tuple(values))
    return found


def step_aligned(group: list[Rollout], depth: int = 4) -> list[tuple[float, ...]]:
    levels = [
        grpo([1.0 if is_hit(r) or level < r.matched else 0.0 for r in group])
        for level in range(depth)
    ]
    return [tuple(level[i] for level in levels) for i in range(len(group))]


def a_grae(batch: list[list[Rollout]]) -> list[list[float]]:
    means = [statistics.fmean([r.reward for r in group]) for group in batch if group]
    level = statistics.fmean(means) if means else 0.0
    found = []
    for group in batch:
        rewards = [r.reward for r in group]
        root = math.sqrt(statistics.fmean(rewards)) if rewards else 0.0
        values = []
        for a in grpo(rewards):
            hard, easy = 0.5 * a / (root + 1e-6), 0.5 * a / (1 - root + 1e-6)
            value = (1 - level) * easy + level * hard
            values.append(value * min(1.0, level) if value > 0 else value)
        found.append(values)
    return found


def ha_dw(batch: list[list[Rollout]], history: list[float] | None = None) -> list[list[float]]:
    everyone = [r.reward for group in batch for r in group]
    now = statistics.fmean(everyone) if everyone else 0.0
    h = statistics.fmean([*(history or []), now][-10:])
    found = []
    for group in batch:
        rewards = [r.reward for r in group]
        mean = statistics.fmean(rewards) if rewards else 0.0
        found.append(
            [
                1.5 * math.exp(-_sgn(mean - h) * _sgn(r - mean) * abs(mean - h)) * a
                for r, a in zip(rewards, grpo(rewards), strict=True)
            ]
        )
    return found


def _sgn(value: float) -> int:
    return (value > 0) - (value < 0)


def credit(batch: list[list[Rollout]], how: str) -> list[list[Any]]:
    """Advantages of the selected rollouts of each group of the batch."""
    everyone = [r.reward for group in batch for r in group]
    of_batch = {
        "reinforce_pp": reinforce_pp,
        "gpg": gpg,
        "a_grae": a_grae,
        "ha_dw": ha_dw,
        "grpo_trl_batch": grpo_batch,
        "reinforce_pp_baseline": reinforce_pp_baseline,
        "gdpo": gdpo,
        "spo": spo,
    }
    of_group = {
        "opo": opo,
        "best_of_group": best_of_group,
        "rl_zvp": rl_zvp,
        "bgae": bgae,
        "rank_penalty": rank_penalty,
        "sign_beyond_prefix": sign_beyond_prefix,
        "lens": lens,
        "sibling": sibling,
        "step_aligned": step_aligned,
    }
    of_rewards = {
        "none": lambda rewards: [0.0] * len(rewards),
        "grpo": grpo,
        "grpo_trl": lambda rewards: grpo(rewards, eps=1e-4),
        "grpo_population": lambda rewards: grpo(rewards, ddof=0),
        "dr_grpo": dr_grpo,
        "rloo": rloo,
        "pass_at_k": pass_at_k,
        "maxrl": maxrl,
        "raw": list,
        "shortfall": lambda rewards: [0.0 if r > 0 else r - 1 for r in rewards],
        "w_reinforce": lambda rewards: [0.1 * r if r > 0 else r - 1 for r in rewards],
        "ngrpo": ngrpo,
        "care": care,
        "nemo_loo": nemo_loo,
        "pkpo": pkpo,
        "sign": sign,
        "reinforce": lambda rewards: [r - statistics.fmean(everyone) for r in rewards],
    }
    if how in of_batch:
        return of_batch[how](batch)
    if how in of_group:
        return [of_group[how](group) for group in batch]
    return [of_rewards[how]([r.reward for r in group]) for group in batch]
