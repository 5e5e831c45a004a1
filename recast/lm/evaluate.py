"""Evaluation of a real model, one number per prompt and metric.

Exact, by scoring the target's path under the trie-constrained policy: `c_at_k` is C(k), Pass@k at
the temperature that is best for that k on tuning users, and `area` its mean over k = 1, 2, 4, ..
64; `pass_at_1` = p(target), the expected hit of one sample at T = 1; `pass_at_1_matched`, the same
at a temperature that matches an entropy (missing where none does); `pass_at_32` = 1 - (1 - p)^32
for 32 independent samples; the regime shares of i.i.d. groups. By constrained beam search of width
50 (a beam may prune what enumeration would keep): `hr_at_k` (the target is among the first k beams;
`recall_at_k` with one target), `ndcg_at_10` = 1 / log2(rank + 1) with rank from 1, as MiniOneRec
computes them; `hr_at_1` is the top beam's hit, which OpenOneRec's evaluation calls Pass@1.
Estimated: `entropy` from 8 rollouts per prompt (chain rule, unbiased), `invalid` from one
unconstrained sample per prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recast.items import Interaction
from recast.lm.decode import beams, entropy, enumerate_nodes, sample
from recast.lm.prefix import CausalLM, head, hidden_states, last_state
from recast.lm.seeds import generator, uniforms
from recast.lm.sft import target_logps
from recast.lm.trie import Trie
from recast.lm.vocabulary import Prompts, Vocabulary
from recast.metrics import best_temperatures, pass_curve

BEAMS = 50
CHUNK = 64
ENTROPY_ROLLOUTS = 8
MATCHING_PROMPTS = 64
TUNING_PROMPTS = 512
"""Most tuning prompts on which the best temperatures are chosen."""

OFF = 0.05
"""Nats: a temperature whose entropy misses the wanted one by more is no match."""


@dataclass(frozen=True)
class EvaluationSet:
    """prompts, target item `[n]`, target codes `[n, L]`, slices name -> bool `[n]` (on the CPU, as
    tables of metrics are), users."""

    prompts: Prompts
    item: Tensor
    codes: Tensor
    slices: Mapping[str, Tensor]
    users: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.users)

    def first(self, count: int) -> EvaluationSet:
        """The first so many of its prompts."""
        slices = {name: flags[:count] for name, flags in self.slices.items()}
        users = self.users[:count]
        part = slice(0, count)
        return EvaluationSet(self.prompts[part], self.item[part], self.codes[part], slices, users)


def evaluation_set(
    vocabulary: Vocabulary,
    trie: Trie,
    rows: Sequence[Interaction],
    slices: Mapping[str, Sequence[bool]],
    limit: int | None = None,
) -> EvaluationSet:
    """Rows ready to evaluate, on the trie's device; limit: a fixed random choice of so many, None =
    all."""
    chosen = list(range(len(rows)))
    if limit is not None and limit < len(rows):
        order = torch.randperm(len(rows), generator=generator(0, "evaluation rows"))
        chosen = sorted(order[:limit].tolist())
    device = trie.codes.device
    codes = torch.tensor([rows[i].target for i in chosen], device=device)
    return EvaluationSet(
        prompts=vocabulary.prompts([rows[i].history for i in chosen]).to(device),
        item=trie.walk(codes)[2],
        codes=codes,
        slices={k: torch.tensor([flags[i] for i in chosen]) for k, flags in slices.items()},
        users=tuple(rows[i].user for i in chosen),
    )


@torch.no_grad()
def tuned_temperatures(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, tuning: EvaluationSet
) -> tuple[float, ...]:
    """The temperature of each k of `recast.metrics.PASSES` that is best on the first
    `TUNING_PROMPTS` tuning prompts."""
    model.eval()
    few = tuning.first(TUNING_PROMPTS)

    def hit_at(temperatures: Sequence[float]) -> Tensor:
        return target_logps(model, vocabulary, trie, few.prompts, few.codes, temperatures).exp()

    return best_temperatures(hit_at)


@torch.no_grad()
def per_prompt(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    data: EvaluationSet,
    group: int,
    temperature: float,
    best: Sequence[float],
) -> tuple[dict[str, Tensor], Tensor]:
    """Every metric of every prompt, float64 `[n]`, and the beam items `[n, 50]`, on the CPU.

    group: width of the i.i.d. groups that the regime shares speak of; temperature: where
    `pass_at_1_matched` is read, NaN = nowhere; best: where each `c_at_k` is, from
    `tuned_temperatures`.
    """
    model.eval()
    logp, cold, *tuned = target_logps(
        model, vocabulary, trie, data.prompts, data.codes, (1.0, temperature, *best)
    )
    found, spread, invalid = [], [], []
    for start in range(0, len(data), CHUNK):
        part = data.prompts[start : start + CHUNK]
        found.append(beams(model, vocabulary, trie, part, BEAMS)[0])
        draws = uniforms(0, "entropy", start, (len(part), ENTROPY_ROLLOUTS, trie.depth))
        rolled = sample(model, vocabulary, trie, part, draws)
        spread.append(rolled.entropy.sum(-1).mean(-1))
        invalid.append(free_sample_is_invalid(model, vocabulary, trie, part, start))
    items = torch.cat(found)
    where = items == data.item.unsqueeze(-1)
    rank = torch.where(where.any(-1), where.to(torch.uint8).argmax(-1), BEAMS)
    greedy = torch.cat(
        [
            beams(model, vocabulary, trie, data.prompts[s : s + CHUNK], 1)[0][:, 0]
            for s in range(0, len(data), CHUNK)
        ]
    )
    table = {
        **pass_curve(torch.stack(tuned).exp()),
        **from_probability(logp.exp(), group),
        "pass_at_1_matched": cold.exp(),
        "greedy": (greedy == data.item).double(),
        **from_rank(rank),
        "entropy": torch.cat(spread).double(),
        "invalid": torch.cat(invalid).double(),
    }
    return {name: values.cpu() for name, values in table.items()}, items.cpu()


def from_probability(p: Tensor, group: int) -> dict[str, Tensor]:
    """pass_at_1, pass_at_32 and regime shares of i.i.d. groups from p(target) `[n]`."""
    p = p.double().clamp(max=1 - 1e-12)
    miss = torch.log1p(-p)
    none = torch.exp(group * miss)
    single = group * p * torch.exp((group - 1) * miss) if group > 1 else torch.zeros_like(p)
    every = p**group
    return {
        "pass_at_1": p,
        "pass_at_32": 1 - torch.exp(32 * miss),
        "all_zero": none,
        "single_hit": single,
        "multi_hit": (1 - none - single - every).clamp(min=0.0),
        "saturated": every,
    }


def from_rank(rank: Tensor) -> dict[str, Tensor]:
    """Ranking metrics from the target's place among the beams, 0 = best, int `[n]`."""
    hit = {f"hr_at_{k}": (rank < k).double() for k in (1, 5, 10, 50)}
    gain = 1 / torch.log2(rank.double() + 2)
    return {
        **hit,
        "recall_at_10": hit["hr_at_10"],
        "recall_at_32": (rank < 32).double(),
        "ndcg_at_10": torch.where(rank < 10, gain, 0.0),
    }


def coverage(items: Tensor, catalogue: int, k: int = 10) -> float:
    """Share of the catalogue among anyone's first k beams; items `[n, W]`, -1 = none."""
    shown = items[:, :k]
    return len(set(shown[shown >= 0].tolist())) / catalogue


@torch.no_grad()
def free_sample_is_invalid(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, prompts: Prompts, counter: int
) -> Tensor:
    """Whether one unconstrained sample of L tokens is not an item, bool `[B]`."""
    tokens = vocabulary.table(prompts.ids.device)
    draws = uniforms(0, "unconstrained", counter, (len(prompts), trie.depth))
    ids, length = prompts.ids, prompts.length
    node = torch.zeros_like(length)
    lost = torch.zeros_like(length, dtype=torch.bool)
    for level in range(trie.depth):
        place = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        states = hidden_states(model, ids, place, None)
        cdf = torch.softmax(head(model, last_state(states, length)).double(), -1).cumsum(-1)
        draw = draws[:, level : level + 1].to(cdf.device) * cdf[:, -1:]
        token = torch.searchsorted(cdf, draw, right=True).clamp(max=cdf.shape[-1] - 1)
        same = (tokens[level][trie.code[level][node]] == token) & trie.allowed[level][node]
        lost = lost | ~same.any(-1)
        node = trie.child[level][node, same.to(torch.uint8).argmax(-1)]
        ids = torch.nn.functional.pad(ids, (0, 1), value=vocabulary.pad)
        ids = ids.scatter(1, length.unsqueeze(-1), token)
        length = length + 1
    return lost


@torch.no_grad()
def entropy_curve(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, prompts: Prompts, chunk: int = 16
) -> Callable[[float], float]:
    """Mean entropy (nats) of the policy over prompts as a function of temperature, exact."""
    model.eval()
    parts = [
        enumerate_nodes(model, vocabulary, trie, prompts[s : s + chunk])
        for s in range(0, len(prompts), chunk)
    ]

    def curve(temperature: float) -> float:
        values = [entropy(part.item_logp(temperature).double()) for part in parts]
        return float(torch.cat(values).mean())

    return curve


def matched_temperature(curve: Callable[[float], float], wanted: float) -> float:
    """Temperature from 1e-4 to 1e6 at which the entropy is `wanted`, by bisection on log T; NaN
    where none comes within `OFF` nats."""
    low, high = math.log(1e-4), math.log(1e6)
    if abs(curve(1.0) - wanted) < 1e-6:
        return 1.0
    for _ in range(24):
        middle = (low + high) / 2
        if curve(math.exp(middle)) < wanted:
            low = middle
        else:
            high = middle
    found = math.exp((low + high) / 2)
    return found if abs(curve(found) - wanted) <= OFF else math.nan


def summarise(
    table: Mapping[str, Tensor], slices: Mapping[str, Tensor]
) -> dict[str, dict[str, float | None]]:
    """Means over all prompts and over each slice that has any: {slice: {metric: value}}.

    table: a metric of each prompt, `[P]`; slices: bool `[P]`. None for a mean that is not a number.
    """
    everyone = torch.ones(len(next(iter(table.values()))), dtype=torch.bool)
    return {
        label: {name: _known(value[mask].mean().item()) for name, value in table.items()}
        for label, mask in {"all": everyone, **slices}.items()
        if bool(mask.any())
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def paired_interval(
    difference: Tensor, users: Sequence[str], resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean difference and its 95% bootstrap interval, resampling users with all their prompts.

    difference `[n]`, one per prompt; users: whose prompt it is.
    """
    place = {user: i for i, user in enumerate(dict.fromkeys(users))}
    index = torch.tensor([place[user] for user in users])
    total = torch.zeros(len(place), dtype=torch.float64).index_add_(0, index, difference.double())
    count = torch.bincount(index, minlength=len(place)).double()
    draw = torch.randint(len(place), (resamples, len(place)), generator=generator(seed, "users"))
    means = total[draw].sum(-1) / count[draw].sum(-1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(difference.double().mean()), low, high
