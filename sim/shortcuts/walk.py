"""Hit first, lazy pair: draw only the rollouts that a signal asks for, exactly in distribution.

With one target per prompt a rollout is a hit, or it leaves the target's path at some level. Which
of these happens has a closed law given the L rows of that path alone, and most signals look no
further: they need the hits, and the level at which each miss leaves. So the path is scored first,
hits and leaving levels are drawn, the signal is made, and only misses that carry weight are walked
on, many at once, with the counts of a node's children drawn as one multinomial.

Shapes: flat prompts P = R B, run after run; L levels, K codes; n rows off the path.
Bookkeeping is numpy, whose calls cost less than torch's on few numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from sim.decoding.shared_tree import Softmax, invert
from sim.policies.nodes import NodePolicy, Params, Rows
from sim.worlds.catalogue import Catalogue

Generators = tuple[np.random.Generator, ...]
FEW = 32
"""Up to so many draws of one law are cheaper one by one than as a multinomial."""


@dataclass(frozen=True)
class Demand:
    """What a signal asks of each prompt. hit `[P]` or `[P, L]`: derivative of the loss by the
    log-probability of each code of the target, all hits and anchors together; count `[P, L]` int64:
    misses wanted that leave at each level; miss `[P, L]`: the derivative by each code of such a
    miss. With a KL term, kl `[P]`: its coefficient per token, and kl_hits `[P]`: rollouts on the
    whole path that carry it; every wanted miss does."""

    hit: Tensor
    count: np.ndarray
    miss: Tensor
    kl: Tensor | None = None
    kl_hits: Tensor | None = None

    def taught(self, slope: Tensor) -> Demand:
        """With a supervised term on top: its derivative by each code of the target, `[P, L]`."""
        hit = self.hit if self.hit.ndim == 2 else self.hit.unsqueeze(-1)
        return replace(self, hit=hit + slope)


@dataclass(frozen=True)
class Reference:
    """Where a KL term pulls to; slope: its derivative by log p, given log p and the reference's."""

    params: Params
    encoded: Tensor
    slope: Callable[[Tensor, Tensor], Tensor]


KL_SLOPES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "k1": lambda logp, ref: torch.ones_like(logp),
        "k2": lambda logp, ref: logp - ref,
        "k3": lambda logp, ref: 1 - (ref - logp).exp(),
    }
)


@dataclass(frozen=True)
class Path:
    """The target's paths. rows: R L B of them, run by run, level by level; saved, softmax, off
    `[R L B, K]` (the sampling weight of every code but the target's) and code `[R L B]` belong to
    them; first `[P]`: row of each prompt at level 0, its next levels follow in steps of B.

    logp `[P, L]`: log-probabilities of the target's codes at T = 1, nats. reach `[P, L + 1]`:
    probability that a rollout gets that far; leave `[P, L]`: that it leaves exactly there; float64.
    """

    rows: Rows
    saved: Tensor
    softmax: Softmax
    off: Tensor
    code: Tensor
    first: Tensor
    logp: Tensor
    reach: np.ndarray
    leave: np.ndarray
    prompts: int

    @property
    def bounds(self) -> range:
        """Where the prompts of each run begin and the last ones end; R + 1 numbers."""
        return range(0, len(self.leave) + 1, self.prompts)


def set_broken_aside(path: Path) -> np.ndarray:
    """Runs that are not a number, bool `[R]`: not a number in, not a number out. The path is
    changed, so that nothing is drawn from them, and `spoil` their gradient in the end."""
    runs = len(path.leave) // path.prompts
    broken: np.ndarray = ~np.isfinite(path.leave).all(1).reshape(runs, -1).all(1)
    if broken.any():
        lost = np.repeat(broken, path.prompts)
        path.leave[lost], path.reach[lost] = 0.0, 1.0
    return broken


def spoil(grads: Params, broken: np.ndarray) -> None:
    """The gradient of broken runs is NaN, whatever their groups hold."""
    if broken.any():
        for value in grads.values():
            value[torch.from_numpy(broken)] = torch.nan


@lru_cache(maxsize=32)
def layout(
    runs: int, prompts: int, depth: int, codes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """prompt, segment `[R L B]` and first `[P]` of a `Path`; where each row begins in `[n, K]`."""
    flat = torch.arange(runs * prompts)
    prompt = flat.view(runs, 1, prompts).expand(-1, depth, -1).reshape(-1)
    segment = torch.arange(runs * depth).repeat_interleave(prompts)
    first = flat + prompts * (depth - 1) * torch.arange(runs).repeat_interleave(prompts)
    return prompt, segment, first, torch.arange(len(prompt)) * codes


def score_path(
    policy: NodePolicy,
    params: Params,
    catalogue: Catalogue,
    encoded: Tensor,
    target: Tensor,
    temperature: float,
) -> Path:
    """Score the path of each prompt's target; encoded `[P, ...]`, target `[R, B]` items.

    Rollouts are sampled at `temperature`; logp is that of T = 1.
    """
    runs, prompts = target.shape
    depth = catalogue.depth
    prompt, segment, first, flat = layout(runs, prompts, depth, catalogue.n_codes)
    place, code = (
        each.index_select(0, target.reshape(-1))
        .view(runs, prompts, depth)
        .transpose(1, 2)
        .reshape(-1)
        for each in (catalogue.places, catalogue.codes)
    )
    rows = Rows(prompt, place, segment, range(0, len(prompt) + 1, prompts))
    logits, saved = policy.forward_rows(params, encoded, catalogue, rows)
    softmax = Softmax.of(logits, catalogue, rows)
    heat = softmax.heat(temperature)
    flat = flat + code
    off = heat.clone()
    off.view(-1).index_fill_(0, flat, 0.0)
    total = heat.sum(-1)
    stay = heat.view(-1).index_select(0, flat) / total
    away = off.sum(-1) / total
    logp = softmax.shifted.view(-1).index_select(0, flat) - softmax.total.view(-1).log()
    by_prompt = [
        x.view(runs, depth, prompts).transpose(1, 2).reshape(-1, depth) for x in (stay, away, logp)
    ]
    here_on, gone = by_prompt[0].double().numpy(), by_prompt[1].double().numpy()
    reach = np.ones((len(here_on), depth + 1))
    np.cumprod(here_on, axis=1, out=reach[:, 1:])
    return Path(
        rows, saved, softmax, off, code, first, by_prompt[2], reach, reach[:, :-1] * gone, prompts
    )


def draw_misses(rngs: Generators, path: Path, misses: np.ndarray) -> np.ndarray:
    """Levels at which misses leave the path; misses `[P]` int64 -> counts `[P, L]`."""
    return draw_counts(rngs, misses, path.leave, path.bounds)


def draw_counts(
    rngs: Generators, n: np.ndarray, weight: np.ndarray, bounds: Sequence[int]
) -> np.ndarray:
    """Counts `[m, k]` int64 of n `[m]` draws of each row by its weights `[m, k]`, never of a zero
    entry. bounds: where the rows of each generator's run begin.

    A few draws invert the cumulative sum, many are one multinomial.
    """
    m, k = weight.shape
    if not m:
        return np.zeros((0, k), dtype=np.int64)
    large = n > FEW
    many = np.flatnonzero(large) if large.any() else None
    few = n if many is None else np.where(large, 0, n)
    ends = [0, *few.cumsum().tolist()]
    starts = [ends[bound] for bound in bounds]
    row = np.arange(m).repeat(few)
    point = np.empty(len(row))
    for rng, (a, b) in zip(rngs, pairwise(starts), strict=True):
        if a < b:
            rng.random(out=point[a:b])
    cdf = torch.from_numpy(weight).cumsum(-1).numpy()
    flat = row * k + invert(cdf, row, point)
    counts = np.bincount(flat, minlength=m * k).reshape(m, k)
    if many is not None:
        law = weight[many].astype(np.float64)
        law /= law.sum(1, keepdims=True)
        for rng, (a, b) in zip(rngs, pairwise(np.searchsorted(many, list(bounds))), strict=True):
            if a < b:
                counts[many[a:b]] = multinomial(rng, n[many[a:b]], law[a:b])
    return counts


def multinomial(rng: np.random.Generator, n: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Counts `[m, k]` of n `[m]` draws from each law p `[m, k]`; never one of a zero entry.

    numpy gives what rounding leaves over to later entries, even impossible ones; it goes to the
    likeliest instead.
    """
    counts = rng.multinomial(n, p)
    stray = counts * (p <= 0)
    if stray.any():
        counts -= stray
        counts[np.arange(len(n)), p.argmax(1)] += stray.sum(1)
    return counts


@dataclass(frozen=True)
class Walkers:
    """Misses off the path, in order of prompt: prompt, place `[n]` (a node of all levels, or an
    item at the end), how many are there, and the weight of each."""

    prompt: np.ndarray
    place: np.ndarray
    count: np.ndarray
    weight: np.ndarray

    @staticmethod
    def joined(one: Walkers, other: Walkers) -> Walkers:
        """Both, in order of prompt."""
        if not len(other.prompt):
            return one
        both = [np.concatenate(pair) for pair in zip(one.columns, other.columns, strict=True)]
        order = both[0].argsort(kind="stable")
        return Walkers(*(column.take(order) for column in both))

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """prompt, place, count, weight."""
        return self.prompt, self.place, self.count, self.weight

    def children(self, follow: np.ndarray, drawn: np.ndarray) -> Walkers:
        """Where the draws `[n, K]` of these lead."""
        codes = drawn.shape[1]
        flat = drawn.reshape(-1).nonzero()[0]
        row = flat // codes
        after = follow.take(self.place.take(row) * codes + (flat - row * codes))
        return Walkers(
            self.prompt.take(row), after, drawn.reshape(-1).take(flat), self.weight.take(row)
        )

    def part(self, chosen: np.ndarray) -> Walkers:
        """Some of them, by position."""
        return Walkers(*(column.take(chosen) for column in self.columns))


def descend(
    policy: NodePolicy,
    params: Params,
    catalogue: Catalogue,
    context: Tensor,
    encoded: Tensor,
    path: Path,
    demand: Demand,
    rngs: Generators,
    temperature: float,
    reference: Reference | None = None,
    *,
    name_items: bool = False,
) -> tuple[Params, Walkers | None]:
    """Walk the wanted misses; return the gradient `[R, ...]` of the loss, and who ended where.

    name_items: whether the second result names the items that misses reached.
    """
    depth, prompts = catalogue.depth, path.prompts
    codes = path.off.shape[1]
    follow = catalogue.follow.numpy().reshape(-1)
    miss = np.ascontiguousarray(demand.miss.numpy())
    on_count, on_weight = np.zeros(path.off.shape), np.zeros(path.off.shape)
    # Where misses leave the path is drawn for all levels at once: nothing depends on the rest.
    pair = demand.count.reshape(-1).nonzero()[0]
    prompt = pair // depth
    level_of = pair - prompt * depth
    row = path.first.numpy().take(prompt) + prompts * level_of
    leaving = Walkers(
        prompt,
        path.rows.place.numpy().take(row),
        demand.count.reshape(-1).take(pair),
        miss.reshape(-1).take(pair),
    )
    drawn = draw_counts(
        rngs,
        leaving.count,
        path.off.numpy().take(row, 0),
        prompt.searchsorted(path.bounds).tolist(),
    )
    on_count[row], on_weight[row] = drawn, drawn * leaving.weight[:, None]
    visits: list[_Visit] = []
    walkers = leaving.part(pair[:0])
    for level in range(depth):
        going = walkers
        if len(walkers.prompt):
            starts = walkers.prompt.searchsorted(path.bounds)
            rows = _rows_at(walkers, starts, level, depth)
            logits, saved = policy.forward_rows(params, encoded, catalogue, rows)
            softmax = Softmax.of(logits, catalogue, rows)
            found = draw_counts(
                rngs, walkers.count, softmax.heat(temperature).numpy(), starts.tolist()
            )
            weight = found * walkers.weight[:, None]
            visits.append(_Visit(rows, saved, softmax, found, weight))
            if level + 1 < depth or name_items:
                going = walkers.children(follow, found)
        if level + 1 < depth or name_items:
            mine = (level_of == level).nonzero()[0]
            fresh = leaving.part(mine).children(follow, drawn.take(mine, 0))
            walkers = Walkers.joined(fresh, going)
    through = onward(demand.hit, demand.count * miss)
    place = path.first.numpy()[:, None] + prompts * np.arange(depth)
    flat = place * codes + path.code.numpy().take(place)
    on_weight.reshape(-1)[flat] += through
    if demand.kl_hits is not None:
        on_count.reshape(-1)[flat] += onward(demand.kl_hits, demand.count)
    grads = {name: torch.zeros_like(value) for name, value in params.items()}
    dencoded = torch.zeros_like(encoded)
    for visit in (_Visit(path.rows, path.saved, path.softmax, on_count, on_weight), *visits):
        dtype = visit.softmax.weight.dtype
        pull = torch.from_numpy(visit.weight).to(dtype)
        if reference is not None and demand.kl is not None:
            count = torch.from_numpy(visit.count).to(dtype)
            logits, _ = policy.forward_rows(
                reference.params, reference.encoded, catalogue, visit.rows
            )
            there = Softmax.of(logits, catalogue, visit.rows).logp
            slope = reference.slope(visit.softmax.logp, there)
            kl = demand.kl[visit.rows.prompt].unsqueeze(-1) * count * slope
            pull = pull + kl.masked_fill_(count == 0, 0.0)
        dlogits = visit.softmax.pull(pull)
        policy.backward_rows(params, catalogue, visit.rows, visit.saved, dlogits, grads, dencoded)
    policy.encode_backward(context, dencoded, grads)
    return grads, walkers if name_items else None


@dataclass(frozen=True)
class _Visit:
    """Rows with what their passes need; count `[n, K]`: rollouts that chose each code, weight
    `[n, K]`: derivative of the loss by its log-probability."""

    rows: Rows
    saved: Tensor
    softmax: Softmax
    count: np.ndarray
    weight: np.ndarray


def _rows_at(walkers: Walkers, starts: np.ndarray, level: int, depth: int) -> Rows:
    """The nodes of walkers at one level; starts: where each run's begin, and the end."""
    per_run = np.diff(starts)
    ends = np.zeros((len(per_run), depth), dtype=np.int64)
    ends[:, level] = per_run
    bounds = [0, *ends.reshape(-1).cumsum().tolist()]
    segment = np.arange(level, len(per_run) * depth, depth).repeat(per_run)
    prompt, place, owner = map(torch.from_numpy, (walkers.prompt, walkers.place, segment))
    return Rows(prompt, place, owner, bounds)


def onward(hit: Tensor, missed: np.ndarray) -> np.ndarray:
    """What goes through the target's code at each level, `[P, L]`: hits, and misses that leave
    further down; hit `[P]` or `[P, L]`, missed `[P, L]`."""
    later: np.ndarray = missed[:, ::-1].cumsum(1)[:, ::-1] - missed
    given = hit.numpy()
    through: np.ndarray = later + (given if given.ndim == 2 else given[:, None])
    return through
