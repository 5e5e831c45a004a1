"""Hit first, lazy pair: draw only the rollouts that a signal asks for, exactly in distribution.

With one target per prompt a rollout is a hit, or it leaves the target's path at some level. Which
of these happens has a closed law given the L rows of that path alone, and most signals look no
further: they need the hits, and the level at which each miss leaves. So the path is scored first,
hits and leaving levels are drawn, the signal is made, and only misses that carry weight are walked
on, many at once, with the counts of a node's children drawn as one multinomial.

Shapes: flat prompts P = R B, run after run; L levels, K codes; n rows off the path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from sim.catalogue import Catalogue, Level
from sim.nodes import NodePolicy, Params, Rows
from sim.tree import Softmax

Generators = tuple[np.random.Generator, ...]


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
    """The target's path by level: rows, saved, softmax, and off `[P, K]`, the sampling weight
    of each other code. code, logp `[P, L]`: the target's codes and their log-probabilities, nats.
    reach `[P, L + 1]`: probability that a rollout gets that far; leave `[P, L]`: that it leaves
    exactly there; float64.
    """

    rows: tuple[Rows, ...]
    saved: tuple[Tensor, ...]
    softmax: tuple[Softmax, ...]
    off: tuple[Tensor, ...]
    code: Tensor
    logp: Tensor
    reach: np.ndarray
    leave: np.ndarray


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
    flat = target.reshape(-1)
    prompt = torch.arange(runs * prompts)
    run = prompt.div(prompts, rounding_mode="floor")
    bounds = [prompts * r for r in range(runs + 1)]
    node, code = catalogue.path[flat], catalogue.codes[flat]
    rows, saved, softmax, off, logp, stay, away = [], [], [], [], [], [], []
    for level, here in enumerate(catalogue.levels):
        at = Rows(prompt, node[:, level].contiguous(), run, bounds)
        logits, kept = policy.forward_rows(params, encoded, catalogue, level, at)
        found = Softmax.of(logits, here, at.node)
        chosen = code[:, level : level + 1]
        heat = found.heat(temperature)
        rest = heat.scatter(1, chosen, 0.0)
        total = heat.sum(-1, keepdim=True)
        rows.append(at)
        saved.append(kept)
        softmax.append(found)
        off.append(rest)
        logp.append(found.shifted.gather(1, chosen) - found.total.log())
        stay.append(heat.gather(1, chosen) / total)
        away.append(rest.sum(-1, keepdim=True) / total)
    here_on, gone = torch.cat(stay, 1).double().numpy(), torch.cat(away, 1).double().numpy()
    reach = np.cumprod(np.concatenate([np.ones((len(here_on), 1)), here_on], axis=1), axis=1)
    parts = tuple(rows), tuple(saved), tuple(softmax), tuple(off), code, torch.cat(logp, 1)
    return Path(*parts, reach=reach, leave=reach[:, :-1] * gone)


def draw_misses(rngs: Generators, path: Path, misses: np.ndarray) -> np.ndarray:
    """Levels at which misses leave the path; misses `[P]` int64 -> counts `[P, L]`."""
    law = path.leave / np.maximum(path.leave.sum(1, keepdims=True), np.finfo(float).tiny)
    found = np.zeros(law.shape, dtype=np.int64)
    for rng, (a, b) in zip(rngs, pairwise(path.rows[0].bounds), strict=True):
        some = a + np.flatnonzero(misses[a:b])
        if some.size:
            found[some] = multinomial(rng, misses[some], law[some])
    return found


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
) -> tuple[Params, Walkers]:
    """Walk the wanted misses; return the gradient `[R, ...]` of the loss, and who ended where.

    name_items: whether the second result names the items that misses reached (as nodes), else it
    is empty.
    """
    runs, prompts = context.shape[:2]
    grads = {name: torch.zeros_like(value) for name, value in params.items()}
    dencoded = torch.zeros_like(encoded)
    count = torch.from_numpy(demand.count)
    target = _onward(demand.hit, count * demand.miss)
    carried = None if demand.kl_hits is None else _onward(demand.kl_hits, count)
    wanted = (target != 0).any(1) | count.any(1)
    live = (wanted if carried is None else wanted | (carried != 0).any(1)).nonzero().squeeze(1)
    walkers = Walkers.none(demand.miss)
    for level, here in enumerate(catalogue.levels):
        chosen = path.code[live, level : level + 1]
        on = _Block(
            _select(path.rows[level], live, prompts, runs),
            path.saved[level].index_select(0, live),
            Softmax(*(part.index_select(0, live) for part in path.softmax[level])),
            demand.miss[live, level : level + 1],
        )
        rows = Rows.of(walkers.prompt, walkers.node, prompts, runs)
        logits, saved = policy.forward_rows(params, encoded, catalogue, level, rows)
        below = _Block(rows, saved, Softmax.of(logits, here, rows.node), walkers.weight)
        off = path.off[level].index_select(0, live)
        heat = below.softmax.heat(temperature)
        drawn = _draw(
            rngs, on.rows, demand.count[live.numpy(), level], off, rows, walkers.count, heat
        )
        for block, found, extra in ((on, drawn[0], target), (below, drawn[1], None)):
            if not block.rows.bounds[-1]:
                continue
            weight = found * block.weight
            if extra is not None:
                weight.scatter_add_(1, chosen, extra[live, level : level + 1].to(weight.dtype))
            if reference is not None and demand.kl is not None and carried is not None:
                passing = found
                if extra is not None:
                    through = carried[live, level : level + 1].to(found.dtype)
                    passing = found.scatter_add(1, chosen, through)
                slope = _kl_slope(policy, catalogue, level, here, block, reference)
                pulled = demand.kl[block.rows.prompt].unsqueeze(-1) * passing * slope
                weight += pulled.masked_fill(passing == 0, 0.0)
            policy.backward_rows(
                params,
                catalogue,
                level,
                block.rows,
                block.saved,
                block.softmax.pull(weight),
                grads,
                dencoded,
            )
        if level + 1 < catalogue.depth or name_items:
            walkers = _children(here, (on, drawn[0]), (below, drawn[1]))
    policy.encode_backward(context, dencoded, grads)
    return grads, walkers if name_items else Walkers.none(demand.miss)


@dataclass(frozen=True)
class _Block:
    """Rows of one level, what their passes need, and the weight `[n, 1]` of a miss that they send
    off the path."""

    rows: Rows
    saved: Tensor
    softmax: Softmax
    weight: Tensor


def _onward(hit: Tensor, missed: Tensor) -> Tensor:
    """What goes through the target's code at each level, `[P, L]`: hits, and misses that leave
    further down; hit `[P]` or `[P, L]`, missed `[P, L]`."""
    later = missed.flip(1).cumsum(1).flip(1)
    through = (hit if hit.ndim == 2 else hit.unsqueeze(-1)).expand(later.shape).to(later.dtype)
    through = through.clone()
    through[:, :-1] += later[:, 1:]
    return through


def _kl_slope(
    policy: NodePolicy,
    catalogue: Catalogue,
    level: int,
    here: Level,
    block: _Block,
    reference: Reference,
) -> Tensor:
    rows = block.rows
    logits, _ = policy.forward_rows(reference.params, reference.encoded, catalogue, level, rows)
    return reference.slope(block.softmax.logp, Softmax.of(logits, here, rows.node).logp)


@dataclass(frozen=True)
class Walkers:
    """Misses off the path: prompt, node `[n]`, how many are there, weight `[n, 1]` of each."""

    prompt: Tensor
    node: Tensor
    count: np.ndarray
    weight: Tensor

    @staticmethod
    def none(like: Tensor) -> Walkers:
        empty = torch.zeros(0, dtype=torch.int64)
        return Walkers(empty, empty, np.zeros(0, dtype=np.int64), like.new_zeros(0, 1))


def _select(rows: Rows, which: Tensor, prompts: int, runs: int) -> Rows:
    return Rows.of(rows.prompt[which], rows.node[which], prompts, runs)


def _draw(
    rngs: Generators,
    rows: Rows,
    count: np.ndarray,
    off: Tensor,
    below: Rows,
    count_below: np.ndarray,
    weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """Children that misses choose: on the path away from it (`off`), below it by `weight`."""
    dtype = off.dtype
    laws = [_law(off), _law(weight)]
    drawn = [np.zeros(law.shape, dtype=np.int64) for law in laws]
    for rng, (a, b), (c, d) in zip(
        rngs, pairwise(rows.bounds), pairwise(below.bounds), strict=True
    ):
        some = a + np.flatnonzero(count[a:b])
        n = np.concatenate([count[some], count_below[c:d]])
        if n.size:
            found = multinomial(rng, n, np.concatenate([laws[0][some], laws[1][c:d]]))
            drawn[0][some] = found[: some.size]
            drawn[1][c:d] = found[some.size :]
    first, second = (torch.from_numpy(x).to(dtype) for x in drawn)
    return first, second


def _law(weight: Tensor) -> np.ndarray:
    p = weight.numpy().astype(np.float64)
    p /= np.maximum(p.sum(1, keepdims=True), np.finfo(float).tiny)
    return p


def _children(here: Level, *parts: tuple[_Block, Tensor]) -> Walkers:
    """The nodes that walkers go to, in order of prompt."""
    found = []
    for block, drawn in parts:
        row, code = drawn.nonzero(as_tuple=True)
        node = here.next[block.rows.node[row], code]
        found.append((block.rows.prompt[row], node, drawn[row, code], block.weight[row]))
    prompt, node, count, weight = (torch.cat(x) for x in zip(*found, strict=True))
    order = prompt.argsort(stable=True)
    return Walkers(prompt[order], node[order], count[order].to(torch.int64).numpy(), weight[order])
