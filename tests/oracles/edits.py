"""Repairs and selections of a group."""

from __future__ import annotations

import math
import statistics

from oracles.credits import grpo
from oracles.groups import Rollout, constant, is_hit


def repair_slot(group: list[Rollout], has_target: bool = True) -> int | None:
    """The slot that the ground truth overwrites, or None."""
    if not has_target or not group or any(map(is_hit, group)):
        return None
    return min(range(len(group)), key=lambda i: (group[i].score, group[i].key, i))


def repaired(group: list[Rollout], has_target: bool = True) -> list[Rollout]:
    slot = repair_slot(group, has_target)
    return [injected(r) if i == slot else r for i, r in enumerate(group)]


def injected(rollout: Rollout, reward: float = 1.0) -> Rollout:
    return rollout._replace(reward=reward, score=1.0)


def appended(group: list[Rollout], has_target: bool) -> list[Rollout]:
    """ViSurf: one more rollout, the ground truth; worth the mean once the group reaches 1."""
    if not has_target or not group:
        return group
    rewards = [r.reward for r in group]
    reward = statistics.fmean(rewards) if max(rewards) >= 1 else 1.0
    return [*group, injected(group[-1]._replace(key=math.inf), reward)]


def distinct(group: list[Rollout], factor: float = 1.5) -> list[int]:
    """As MiniOneRec's select_completion: hits, then rounds over the missed items, most frequent
    first, one copy of each in a round; cut to width / factor."""
    order = sorted(range(len(group)), key=lambda i: (group[i].key, i))
    kept = [i for i in order if is_hit(group[i])]
    copies: dict[object, list[int]] = {}
    for i in order:
        if not is_hit(group[i]):
            copies.setdefault(group[i].item, []).append(i)
    queues = sorted(copies.values(), key=len, reverse=True)
    for turn in range(len(group)):
        kept += [queue[turn] for queue in queues if turn < len(queue)]
    keep = max(1, round(len(group) / factor)) if group else 0
    return sorted(kept[:keep])


def balanced(group: list[Rollout], keep: int) -> list[int]:
    """Half hits and half misses by key; the other kind fills up where one is short."""
    order = sorted(range(len(group)), key=lambda i: (group[i].key, i))
    hits = [i for i in order if is_hit(group[i])]
    misses = [i for i in order if not is_hit(group[i])]
    up = min(len(hits), max(keep // 2, keep - len(misses)))
    return sorted(hits[:up] + misses[: keep - up])


def edited(group: list[Rollout], how: str, has_target: bool) -> tuple[list[Rollout], list[int]]:
    """The group after repair, and who still takes part."""
    everyone = list(range(len(group)))
    if how == "anchor":
        return repaired(group, has_target), everyone
    if how == "half_of_the_anchors":
        drawn = sum(r.key for r in group) % 1 < 0.5
        return repaired(group, has_target and drawn), everyone
    if how == "overwrite_last" and has_target and group:
        return [*group[:-1], injected(group[-1])], everyone
    if how == "append":
        longer = appended(group, has_target)
        return longer, list(range(len(longer)))
    if how == "drop_constant":
        return group, [] if not group or constant([r.reward for r in group]) else everyone
    if how == "keep_distinct":
        return group, distinct(group)
    if how == "adaptive":
        values = grpo([r.reward for r in group])
        pooled = [r._replace(reward=a) for r, a in zip(group, values, strict=True)]
        return pooled, balanced(group, 8)
    return group, everyone


def selected(group: list[Rollout], how: str) -> list[int]:
    everyone = list(range(len(group)))
    hits = [i for i in everyone if is_hit(group[i])]
    misses = [i for i in everyone if not is_hit(group[i])]
    by_key = sorted(misses, key=lambda i: (group[i].key, i))
    by_score = sorted(misses, key=lambda i: (-group[i].score, group[i].key, i))
    simple = {
        "all": everyone,
        "nobody": [],
        "positives": hits,
        "negatives": misses,
        "one_negative": sorted(by_key[:1]),
        "four_negatives": sorted(by_key[:4]),
    }
    if how in simple:
        return simple[how]
    if how == "pods":
        return widest(group, 8)
    if not hits or not misses:
        return []
    strongest = min(hits, key=lambda i: (-group[i].reward, group[i].key, i))
    others = {"random": by_key[:1], "near_misses": by_score[:4], "pair": by_score[:1]}[how]
    return sorted([strongest, *others])


def widest(group: list[Rollout], size: int) -> list[int]:
    """PODS: the `size` rollouts, some best and some worst, of the largest reward variance."""
    if len(group) <= size:
        return list(range(len(group)))
    best_first = sorted(range(len(group)), key=lambda i: (-group[i].reward, group[i].key, i))
    splits = [best_first[:i] + best_first[len(group) - size + i :] for i in range(size + 1)]
    spread = [statistics.pvariance([group[i].reward for i in kept]) for kept in splits]
    top = max(spread)
    alike = [i for i, value in enumerate(spread) if value >= top * (1 - 1e-9)]
    return sorted(splits[size if size in alike else alike[0]])
