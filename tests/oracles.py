"""Slow oracles: the formulas as loops over plain lists. Nothing here imports the project.

A group is a list of `Rollout`; a batch is a list of groups. None stands for padding that is left
out: an oracle sees only real rollouts.
"""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any, NamedTuple


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


class Row(NamedTuple):
    repair: str
    selection: str
    credit: str
    only_active: bool = False
    supervised: bool = False


STRATEGIES = {
    "grpo": Row("none", "all", "grpo"),
    "grpo_trl": Row("none", "all", "grpo_trl"),
    "grpo_trl_batch": Row("none", "all", "grpo_trl_batch"),
    "grpo_population": Row("none", "all", "grpo_population"),
    "dr_grpo": Row("none", "all", "dr_grpo"),
    "rloo": Row("none", "all", "rloo"),
    "opo": Row("none", "all", "opo"),
    "reinforce": Row("none", "all", "reinforce"),
    "reinforce_pp": Row("none", "all", "reinforce_pp"),
    "gpg": Row("none", "all", "gpg"),
    "gpg_authors": Row("none", "all", "dr_grpo"),
    "best_of_group": Row("none", "all", "best_of_group"),
    "pass_at_k": Row("none", "all", "pass_at_k"),
    "maxrl": Row("none", "all", "maxrl"),
    "psr": Row("none", "positives", "raw", only_active=True),
    "nsr": Row("none", "negatives", "shortfall", only_active=True),
    "w_reinforce": Row("none", "all", "w_reinforce"),
    "ngrpo": Row("none", "all", "ngrpo"),
    "rl_zvp": Row("none", "all", "rl_zvp"),
    "a_grae": Row("none", "all", "a_grae"),
    "ha_dw": Row("none", "all", "ha_dw"),
    "bgae": Row("none", "all", "bgae"),
    "rank_penalty": Row("none", "all", "rank_penalty"),
    "minionerec_sampling": Row("keep_distinct", "all", "grpo_trl"),
    "add_gt": Row("overwrite_last", "all", "grpo_trl"),
    "visurf": Row("append", "all", "grpo"),
    "luffy": Row("overwrite_last", "all", "dr_grpo"),
    "care": Row("none", "near_misses", "care", only_active=True),
    "pods": Row("none", "pods", "grpo"),
    "dynamic_sampling": Row("drop_constant", "all", "grpo"),
    "greso": Row("none", "all", "grpo"),
    "recast": Row("anchor", "pair", "sign", only_active=True),
    "recast_random_negative": Row("anchor", "random", "sign", only_active=True),
    "recast_half_repair": Row("half_of_the_anchors", "pair", "sign", only_active=True),
    "recast_prefix_mask": Row("anchor", "pair", "sign_beyond_prefix", only_active=True),
    "repair_only": Row("anchor", "all", "grpo"),
    "contrast_only": Row("none", "pair", "sign", only_active=True),
    "dpo": Row("none", "one_negative", "none", supervised=True),
    "s_dpo": Row("none", "four_negatives", "none", supervised=True),
    "chord": Row("none", "all", "grpo", supervised=True),
    "sft": Row("none", "nobody", "none", supervised=True),
    "grpo_sft": Row("none", "all", "grpo", supervised=True),
    "target_power": Row("none", "nobody", "none", supervised=True),
    "target_power_hits": Row("none", "nobody", "none", supervised=True),
    "nemo_loo": Row("none", "all", "nemo_loo"),
    "reinforce_pp_baseline": Row("none", "all", "reinforce_pp_baseline"),
    "pkpo": Row("none", "all", "pkpo"),
    "lens": Row("none", "all", "lens"),
    "sibling": Row("none", "all", "sibling"),
    "step_aligned": Row("none", "all", "step_aligned"),
    "gdpo": Row("none", "all", "gdpo"),
    "spo": Row("none", "all", "spo"),
    "gbpo": Row("none", "all", "grpo"),
    "real": Row("none", "all", "sign"),
    "ecpo": Row("none", "all", "grpo"),
    "cispo": Row("none", "all", "grpo"),
    "dual_clip": Row("none", "all", "grpo"),
    "gspo": Row("none", "all", "grpo"),
    "gmpo": Row("none", "all", "grpo"),
    "sapo": Row("none", "all", "grpo"),
    "dppo": Row("none", "all", "grpo"),
    "prefix_hint": Row("none", "all", "grpo", supervised=True),
    "reinforce_ada": Row("adaptive", "all", "raw"),
    "replay": Row("none", "all", "grpo"),
    "gce": Row("none", "nobody", "none", supervised=True),
    "gce_code": Row("none", "nobody", "none", supervised=True),
    "dft": Row("none", "nobody", "none", supervised=True),
    "exact_pass_at_k": Row("none", "nobody", "none", supervised=True),
    "exact_maxrl": Row("none", "nobody", "none", supervised=True),
    "sft_pg": Row("none", "nobody", "none", supervised=True),
    "sft_any": Row("none", "nobody", "none", supervised=True),
    "bear": Row("none", "nobody", "none", supervised=True),
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


def signal(
    name: str, batch: list[list[Rollout]], has_target: list[bool]
) -> tuple[list[list[Any]], list[list[bool]]]:
    """Advantages, and whether each rollout reaches the actor, group by group."""
    row = STRATEGIES[name]
    batch, present = map(
        list,
        zip(
            *(edited(g, row.repair, known) for g, known in zip(batch, has_target, strict=True)),
            strict=True,
        ),
    )
    chosen = []
    for group, members in zip(batch, present, strict=True):
        inside = selected([group[i] for i in members], row.selection)
        chosen.append([members[i] for i in inside])
    credited = credit(
        [[group[i] for i in index] for group, index in zip(batch, chosen, strict=True)], row.credit
    )
    advantages, rows = [], []
    for group, index, values in zip(batch, chosen, credited, strict=True):
        given = dict(zip(index, values, strict=True))
        by_code = {"rl_zvp": 2, "sign_beyond_prefix": 4, "sibling": 4, "step_aligned": 4}
        nothing = (0.0,) * by_code[row.credit] if row.credit in by_code else 0.0
        advantages.append([given.get(i, nothing) for i in range(len(group))])
        rows.append(
            [
                i in given and (given[i] not in (0, nothing) or not row.only_active)
                for i in range(len(group))
            ]
        )
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
