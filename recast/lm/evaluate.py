"""Evaluation of a real model, one number per prompt and metric.

Exact, by scoring the target's path under the trie-constrained policy: `c_at_k` is C(k), Pass@k at
the temperature that is best for that k on tuning users, and `area` its mean over k = 1, 2, 4, ..
64; `pass_at_1` = p(target), the expected hit of one sample at T = 1; `pass_at_1_matched`, the same
at a temperature that matches an entropy (missing where none does); `pass_at_32` = 1 - (1 - p)^32
for 32 independent samples; the regime shares of i.i.d. groups. By constrained beam search of width
50 (a beam may prune what enumeration would keep): `hr_at_k` (the target is among the first k beams;
`recall_at_k` with one target), `ndcg_at_10` = 1 / log2(rank + 1) with rank from 1, as MiniOneRec
computes them; `hr_at_1` is the top beam's hit, which OpenOneRec's evaluation calls Pass@1. With
several right items a hit is any of them, p(target) the sum of their paths' probabilities, and
recall the share found, as OpenOneRec's evaluation has them (Pass@k, Recall@k).
Estimated: `entropy` from 8 rollouts per prompt (chain rule, unbiased), `invalid` from one
unconstrained sample per prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recast.items import Codes, Interaction
from recast.lm.decode import beams, entropy, enumerate_nodes, sample
from recast.lm.prefix import CausalLM, head, hidden_states, last_state
from recast.lm.seeds import generator, uniforms
from recast.lm.sft import target_logps
from recast.lm.trie import Trie
from recast.lm.vocabulary import PromptTokens, Vocabulary
from recast.metrics import best_temperatures, pass_curve

BEAMS = 50
CHUNK = 64
ENTROPY_ROLLOUTS = 8
MATCHING_PROMPTS = 64
TUNING_PROMPTS = 512
"""Most tuning prompts on which the best temperatures are chosen."""

ENUMERATED = 20_000
"""Most items of a catalogue that is enumerated for an entropy; a larger one is sampled."""

OFF = 0.05
"""Nats: a temperature whose entropy misses the wanted one by more is no match."""


@dataclass(frozen=True)
class EvaluationSet:
    """prompts, target item `[n]`, target codes `[n, L]`, slices name -> bool `[n]` (on the CPU, as
    tables of metrics are), users; more `[n, M - 1]`: further right items, -1 for none, where some
    prompt has several."""

    prompts: PromptTokens
    item: Tensor
    codes: Tensor
    slices: Mapping[str, Tensor]
    users: tuple[str, ...]
    more: Tensor | None = None

    @property
    def right(self) -> Tensor:
        """Every right item of each prompt, `[n, M]`, -1 for none."""
        first = self.item.unsqueeze(-1)
        return first if self.more is None else torch.cat([first, self.more], -1)

    def __len__(self) -> int:
        return len(self.users)

    def first(self, count: int) -> EvaluationSet:
        """The first so many of its prompts."""
        return self.take(torch.arange(min(count, len(self)), device=self.item.device))

    def take(self, index: Tensor) -> EvaluationSet:
        """Some of its prompts, in this order; int64 `[m]`."""
        there = index.cpu()
        return EvaluationSet(
            self.prompts[index],
            self.item[index],
            self.codes[index],
            {name: flags[there] for name, flags in self.slices.items()},
            tuple(self.users[i] for i in there.tolist()),
            None if self.more is None else self.more[index],
        )


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
        more=_more_items(trie, [rows[i].more for i in chosen]),
    )


def _more_items(trie: Trie, more: Sequence[Sequence[Codes]]) -> Tensor | None:
    """Items of further targets, `[n, M - 1]`, -1 for none; None where no row has any."""
    width = max((len(sids) for sids in more), default=0)
    if not width:
        return None
    device = trie.codes.device
    found = torch.full((len(more), width), -1, dtype=torch.int64, device=device)
    for place, sids in enumerate(more):
        if sids:
            found[place, : len(sids)] = trie.walk(torch.tensor(sids, device=device))[2]
    return found


def right_logps(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    data: EvaluationSet,
    temperatures: Sequence[float],
) -> Tensor:
    """Log-probability that one sample is right, `[T, n]` float64: of the target's path, or of all
    right items' paths together."""
    logp = target_logps(model, vocabulary, trie, data.prompts, data.codes, temperatures)
    if data.more is None:
        return logp
    for column in data.more.unbind(-1):
        some = (column >= 0).nonzero().squeeze(-1)
        codes = trie.codes[column[some]]
        other = torch.full_like(logp, -torch.inf)
        other[:, some] = target_logps(
            model, vocabulary, trie, data.prompts[some], codes, temperatures
        )
        logp = torch.logaddexp(logp, other)
    return logp


@torch.no_grad()
def tuned_temperatures(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, tuning: EvaluationSet
) -> tuple[float, ...]:
    """The temperature of each k of `recast.metrics.PASSES` that is best on the first
    `TUNING_PROMPTS` tuning prompts."""
    model.eval()
    few = tuning.first(TUNING_PROMPTS)

    def hit_at(temperatures: Sequence[float]) -> Tensor:
        return right_logps(model, vocabulary, trie, few, temperatures).exp()

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
    logp, cold, *tuned = right_logps(model, vocabulary, trie, data, (1.0, temperature, *best))
    found, spread, invalid = [], [], []
    for start in range(0, len(data), CHUNK):
        part = data.prompts[start : start + CHUNK]
        found.append(beams(model, vocabulary, trie, part, BEAMS)[0])
        draws = uniforms(0, "entropy", start, (len(part), ENTROPY_ROLLOUTS, trie.depth))
        rolled = sample(model, vocabulary, trie, part, draws)
        spread.append(rolled.entropy.sum(-1).mean(-1))
        invalid.append(free_sample_is_invalid(model, vocabulary, trie, part, start))
    items = torch.cat(found)
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
        "greedy": (greedy.unsqueeze(-1) == data.right).any(-1).double(),
        **from_beams(items, data.right),
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


def from_beams(items: Tensor, right: Tensor) -> dict[str, Tensor]:
    """Ranking metrics of beams `[n, W]`, best first, against the right items `[n, M]`; -1 is none.

    hr_at_k: some right item is among the first k; recall_at_k: the share of them that is;
    ndcg_at_10: discounted gain over the best that so many right items can have.
    """
    real = right >= 0
    found = (items.unsqueeze(-1) == right.unsqueeze(1)) & real.unsqueeze(1)
    at, count = found.any(-1), real.sum(-1)
    rank = torch.arange(items.shape[1], device=items.device)
    gain = 1 / torch.log2(rank.double() + 2)
    ideal = gain[:10].cumsum(-1)[count.clamp(max=min(10, len(rank))) - 1]
    return {
        **{f"hr_at_{k}": at[:, :k].any(-1).double() for k in (1, 5, 10, 50)},
        **{f"recall_at_{k}": at[:, :k].sum(-1) / count.double() for k in (10, 32)},
        "ndcg_at_10": (at[:, :10] * gain[:10]).sum(-1) / ideal,
    }


def coverage(items: Tensor, catalogue: int, k: int = 10) -> float:
    """Share of the catalogue among anyone's first k beams; items `[n, W]`, -1 = none."""
    shown = items[:, :k]
    return len(set(shown[shown >= 0].tolist())) / catalogue


@torch.no_grad()
def free_sample_is_invalid(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, prompts: PromptTokens, counter: int
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
        codes, real = trie.below(level, node)
        same = (tokens[level][codes] == token) & real
        lost = lost | ~same.any(-1)
        node = trie.step(level, node, same.to(torch.uint8).argmax(-1))[1]
        ids = torch.nn.functional.pad(ids, (0, 1), value=vocabulary.pad)
        ids = ids.scatter(1, length.unsqueeze(-1), token)
        length = length + 1
    return lost


@torch.no_grad()
def entropy_curve(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, prompts: PromptTokens, chunk: int = 16
) -> Callable[[float], float]:
    """Mean entropy (nats) of the policy over prompts as a function of temperature: exact for up to
    `ENUMERATED` items, an unbiased estimate from the same draws at every temperature beyond."""
    model.eval()
    if trie.items > ENUMERATED:
        return _sampled_entropy(model, vocabulary, trie, prompts, chunk)
    parts = [
        enumerate_nodes(model, vocabulary, trie, prompts[s : s + chunk])
        for s in range(0, len(prompts), chunk)
    ]

    def curve(temperature: float) -> float:
        values = [entropy(part.item_logp(temperature).double()) for part in parts]
        return float(torch.cat(values).mean())

    return curve


def _sampled_entropy(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, prompts: PromptTokens, chunk: int
) -> Callable[[float], float]:
    shape = (len(prompts), ENTROPY_ROLLOUTS, trie.depth)
    draws = uniforms(0, "entropy curve", 0, shape).to(prompts.ids.device)

    @torch.no_grad()
    def curve(temperature: float) -> float:
        found = [
            sample(
                model, vocabulary, trie, prompts[s : s + chunk], draws[s : s + chunk], temperature
            )
            for s in range(0, len(prompts), chunk)
        ]
        return float(torch.cat([f.entropy.sum(-1).double() for f in found]).mean())

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
