"""Hit first, lazy pair: draw only the rollouts that a signal asks for, exactly in distribution.

With one target per prompt a rollout is a hit, or it leaves the target's path at some level. Which
of these happens has a closed law given the L rows of that path alone, and most signals look no
further: they need the hits, and the level at which each miss leaves. So the path is scored first,
hits and leaving levels are drawn, the signal is made, and only misses that carry weight are walked
on, many at once, with the counts of a node's children drawn as one multinomial.

Shapes: flat prompts P = R B, run after run; L levels, K codes; n rows off the path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from sim.catalogue import Catalogue
from sim.nodes import NodePolicy, Params, Rows
from sim.tree import Softmax

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
    offset = torch.tensor([level.offset for level in catalogue.levels])
    place = (catalogue.path[target] + offset).transpose(1, 2).reshape(-1)
    code = catalogue.codes[target].transpose(1, 2).reshape(-1)
    prompt = torch.arange(runs * prompts).view(runs, 1, prompts).expand(-1, depth, -1).reshape(-1)
    segment = torch.arange(runs * depth).repeat_interleave(prompts)
    rows = Rows(prompt, place, segment, range(0, len(prompt) + 1, prompts))
    logits, saved = policy.forward_rows(params, encoded, catalogue, rows)
    softmax = Softmax.of(logits, catalogue, rows)
    heat = softmax.heat(temperature)
    flat = torch.arange(len(code)) * heat.shape[1] + code
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
    first = torch.arange(runs * prompts) + prompts * (depth - 1) * torch.arange(
        runs
    ).repeat_interleave(prompts)
    return Path(
        rows, saved, softmax, off, code, first, by_prompt[2], reach, reach[:, :-1] * gone, prompts
    )


def draw_misses(rngs: Generators, path: Path, misses: np.ndarray) -> np.ndarray:
    """Levels at which misses leave the path; misses `[P]` int64 -> counts `[P, L]`."""
    return draw_counts(rngs, misses, torch.from_numpy(path.leave), path.bounds).numpy()


def draw_counts(rngs: Generators, n: np.ndarray, weight: Tensor, bounds: Sequence[int]) -> Tensor:
    """Counts `[m, k]` int64 of n `[m]` draws of each row by its weights `[m, k]`, never of a zero
    entry. bounds: where the rows of each generator's run begin.

    A few draws invert the cumulative sum, many are one multinomial.
    """
    m, k = weight.shape
    few = np.where(n <= FEW, n, 0)
    counts = torch.zeros(m, k, dtype=torch.int64)
    ends = np.concatenate([[0], np.cumsum(few)])[list(bounds)]
    if ends[-1]:
        size = np.diff(ends)
        point = np.concatenate([rng.random(s) for rng, s in zip(rngs, size, strict=True) if s])
        row = torch.from_numpy(np.repeat(np.arange(m), few))
        cdf = weight.cumsum(-1)
        last = cdf[:, -1].index_select(0, row)
        at = torch.from_numpy(point).to(cdf.dtype).mul_(last)
        at = torch.minimum(at, torch.nextafter(last, last.new_zeros(())))
        code = torch.searchsorted(cdf.index_select(0, row), at.unsqueeze(-1), right=True).view(-1)
        counts.view(-1).index_add_(0, row * k + code, torch.ones_like(code))
    many = np.flatnonzero(n > FEW)
    if many.size:
        law = weight.numpy()[many].astype(np.float64)
        law /= law.sum(1, keepdims=True)
        for rng, (a, b) in zip(rngs, pairwise(np.searchsorted(many, list(bounds))), strict=True):
            if a < b:
                found = multinomial(rng, n[many[a:b]], law[a:b])
                counts[torch.from_numpy(many[a:b])] = torch.from_numpy(found)
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
    """Misses off the path: prompt, place `[n]` (a node of all levels, or an item at the end), how
    many are there, and the weight of each."""

    prompt: Tensor
    place: Tensor
    count: Tensor
    weight: Tensor

    @staticmethod
    def join(parts: Sequence[Walkers]) -> Walkers:
        """In order of prompt."""
        columns = zip(*((w.prompt, w.place, w.count, w.weight) for w in parts), strict=True)
        joined = [torch.cat(column) for column in columns]
        order = joined[0].argsort(stable=True)
        return Walkers(*(column.index_select(0, order) for column in joined))


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
    runs, prompts = context.shape[:2]
    depth, dtype = catalogue.depth, path.off.dtype
    counts = torch.from_numpy(demand.count)
    on_count = torch.zeros(path.off.shape, dtype=dtype)
    on_weight = torch.zeros_like(on_count)
    blocks: list[_Block] = []
    walkers: Walkers | None = None
    for level in range(depth):
        leaving = counts[:, level].nonzero().view(-1)
        rows_on = path.first[leaving] + prompts * level
        drawn = draw_counts(
            rngs,
            demand.count[leaving.numpy(), level],
            path.off.index_select(0, rows_on),
            np.searchsorted(leaving.numpy(), path.bounds).tolist(),
        )
        miss = demand.miss[leaving, level]
        on_count[rows_on] = drawn.to(dtype)
        on_weight[rows_on] = drawn * miss.unsqueeze(-1)
        place = path.rows.place.index_select(0, rows_on)
        going = [_children(catalogue, leaving, place, drawn, miss)]
        if walkers is not None and len(walkers.prompt):
            run = walkers.prompt.div(prompts, rounding_mode="floor")
            rows = Rows.of(walkers.prompt, walkers.place, run * depth + level, runs * depth)
            logits, saved = policy.forward_rows(params, encoded, catalogue, rows)
            softmax = Softmax.of(logits, catalogue, rows)
            drawn = draw_counts(
                rngs,
                walkers.count.numpy(),
                softmax.heat(temperature),
                np.searchsorted(walkers.prompt.numpy(), path.bounds).tolist(),
            )
            weight = drawn * walkers.weight.unsqueeze(-1)
            blocks.append(_Block(rows, saved, softmax, drawn.to(dtype), weight.to(dtype)))
            going.append(_children(catalogue, walkers.prompt, walkers.place, drawn, walkers.weight))
        if level + 1 < depth or name_items:
            walkers = Walkers.join(going) if len(going) > 1 else going[0]
    target = _onward(demand.hit, counts * demand.miss)
    carried = None if demand.kl_hits is None else _onward(demand.kl_hits, counts)
    wanted = (target != 0).any(1) | counts.any(1)
    live = (wanted if carried is None else wanted | (carried != 0).any(1)).nonzero().view(-1)
    through = [target] if carried is None else [target, carried]
    place = path.first[live].unsqueeze(-1) + prompts * torch.arange(depth)
    flat = place * path.off.shape[1] + path.code[place]
    for into, extra in zip((on_weight, on_count), through, strict=False):
        into.view(-1).index_add_(0, flat.view(-1), extra[live].to(dtype).view(-1))
    chosen = place.view(-1)
    every = path.rows
    softmax_on = Softmax(*(part.index_select(0, chosen) for part in path.softmax))
    on = _Block(
        Rows(every.prompt[chosen], every.place[chosen], every.segment[chosen], ()),
        path.saved.index_select(0, chosen),
        softmax_on,
        on_count.index_select(0, chosen),
        on_weight.index_select(0, chosen),
    )
    block = _join([on, *blocks], runs * depth)
    pull = block.weight
    if reference is not None and demand.kl is not None:
        logits, _ = policy.forward_rows(reference.params, reference.encoded, catalogue, block.rows)
        there = Softmax.of(logits, catalogue, block.rows).logp
        slope = reference.slope(block.softmax.logp, there)
        kl = demand.kl[block.rows.prompt].unsqueeze(-1) * block.count * slope
        pull = pull + kl.masked_fill(block.count == 0, 0.0)
    grads = {name: torch.zeros_like(value) for name, value in params.items()}
    dencoded = torch.zeros_like(encoded)
    dlogits = block.softmax.pull(pull)
    policy.backward_rows(params, catalogue, block.rows, block.saved, dlogits, grads, dencoded)
    policy.encode_backward(context, dencoded, grads)
    return grads, walkers if name_items else None


@dataclass(frozen=True)
class _Block:
    """Rows with what their passes need; count `[n, K]`: rollouts that chose each code, weight
    `[n, K]`: derivative of the loss by its log-probability."""

    rows: Rows
    saved: Tensor
    softmax: Softmax
    count: Tensor
    weight: Tensor


def _join(blocks: Sequence[_Block], segments: int) -> _Block:
    """One block, in order of segment."""
    order = torch.cat([b.rows.segment for b in blocks]).argsort(stable=True)

    def take(column: Callable[[_Block], Tensor]) -> Tensor:
        return torch.cat([column(b) for b in blocks]).index_select(0, order)

    rows = Rows.of(
        take(lambda b: b.rows.prompt),
        take(lambda b: b.rows.place),
        take(lambda b: b.rows.segment),
        segments,
    )
    softmax = Softmax(
        take(lambda b: b.softmax.shifted),
        take(lambda b: b.softmax.weight),
        take(lambda b: b.softmax.total),
    )
    return _Block(
        rows, take(lambda b: b.saved), softmax, take(lambda b: b.count), take(lambda b: b.weight)
    )


def _onward(hit: Tensor, missed: Tensor) -> Tensor:
    """What goes through the target's code at each level, `[P, L]`: hits, and misses that leave
    further down; hit `[P]` or `[P, L]`, missed `[P, L]`."""
    later = missed.flip(1).cumsum(1).flip(1)
    through = (hit if hit.ndim == 2 else hit.unsqueeze(-1)).expand(later.shape).to(later.dtype)
    through = through.clone()
    through[:, :-1] += later[:, 1:]
    return through


def _children(
    catalogue: Catalogue, prompt: Tensor, place: Tensor, drawn: Tensor, weight: Tensor
) -> Walkers:
    """Where the draws `[n, K]` of rows lead."""
    row, code = drawn.nonzero(as_tuple=True)
    return Walkers(prompt[row], catalogue.follow[place[row], code], drawn[row, code], weight[row])
