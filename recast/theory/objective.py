"""Weights and objectives: which function of the hit probability does a strategy climb?

For binary rewards, one target with probability p, on-policy i.i.d. rollouts and no KL term, the
expected update of one prompt is w(p) grad log p. Write A+(k) and A-(k) for the advantage of a hit
and of a miss in a group with k hits of G, and D for the loss's divisor. A miss has expected
gradient -p / (1 - p) grad log p, so

    w(p) = E_k[k A+(k) - (G - k) A-(k) p / (1 - p)] / D = E_k[k (A+(k) - A-(k - 1))] / D

with K ~ Binomial(G, p), and the objective f with f' = w / p is, as the integral of
p^(k-1) (1-p)^(G-k) is a binomial tail,

    f(p) = sum over k of (A+(k) - A-(k - 1)) P(K >= k) / D = E[F(K)],  F(k) = F(k-1) + (A+ - A-) / D

so that a group-local strategy climbs the expectation of a utility F of the number of hits. An
anchor adds a(k) grad log p. All of it is computed from `recast.theory.by_hits`, that is from the
code that trains; `CLOSED_FORMS` restates what is known in closed form.
Source: the policy-gradient theorem; the table of weights is this project's derivation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from recast.loss import policy_loss
from recast.signal import build_signal
from recast.stages.supervised import Evidence
from recast.strategies import as_strategy
from recast.strategy import Strategy
from recast.theory.by_hits import ByHits, by_hits, groups_of
from recast.theory.learnability import binomial_pmf, hit_probability

NODES = 12
STEP = 0.05
"""Quadrature in log p: Gauss-Legendre nodes per interval of at most STEP."""


@dataclass(frozen=True)
class Weight:
    """w(p) by its parts, each `[P]` float64 and already divided by the divisor.

    hits, misses: from the group's own rollouts; anchors, supervised: from the ground truth.
    apart: summed advantage of misses that are picked by their structure, E[sum A-]: they push along
    -grad log pi(miss), which is no multiple of grad log p, and are not in w.
    batch: 1, or 2 where w holds for two prompts of the same p; shifted: the hits' credit depends on
    the structure of the misses, shown for misses that share nothing with the target.
    """

    hits: Tensor
    misses: Tensor
    anchors: Tensor
    supervised: Tensor
    apart: Tensor
    batch: int
    shifted: bool
    divisor: str

    @property
    def total(self) -> Tensor:
        """w(p): the sum of the parts along grad log p."""
        return self.hits + self.misses + self.anchors + self.supervised


def weight(strategy: str | Strategy, p: Tensor, group: int) -> Weight:
    """w(p; G) of a strategy at hit probabilities p `[P]`; see `Weight`.

    Raises ValueError for p outside [0, 1], group < 1, an unknown strategy, or one that hits alone
    do not determine.
    """
    chosen = as_strategy(strategy)
    table = by_hits(chosen, group)
    pmf = binomial_pmf(p, table.width)
    tilted = _tilted(pmf)
    scale = chosen.policy_weight / table.divisor
    hit, miss, anchor = (scale * table.mean(x) for x in (table.hit, table.miss, table.anchor))
    taught = _taught(chosen, p, table)
    return Weight(
        hits=_average(hit, pmf, pmf, table),
        misses=-_average(miss.masked_fill(table.apart, 0.0), tilted, pmf, table),
        anchors=_average(anchor, pmf, pmf, table) * _anchor_factor(chosen, p),
        supervised=(pmf * (taught.target + taught.hit)).sum(-1) - tilted @ taught.miss,
        apart=_average(miss.masked_fill(~table.apart, 0.0), pmf, pmf, table),
        batch=table.batch,
        shifted=table.shifted,
        divisor=table.divisor_name,
    )


def objective(strategy: str | Strategy, p: Tensor, group: int) -> Tensor:
    """f(p) with f' = w / p and f(1) = 0; `[P]` float64, -inf at p = 0 where it diverges.

    Exact sums over k for a group-local strategy, quadrature where w is no such sum (two groups in
    the batch; a term that depends on p itself). Raises ValueError as `weight` does.
    """
    chosen = as_strategy(strategy)
    if by_hits(chosen, group).batch > 1 or not _constant_in_p(chosen, group):
        return _by_quadrature(chosen, p, group)
    utility, grounded = utility_of_hits(chosen, group)
    width = len(utility) - 1
    climbed = binomial_pmf(p, width) @ utility - utility[-1]
    return climbed + grounded * _log_where_all_zero(p, width) if grounded else climbed


def utility_of_hits(strategy: str | Strategy, group: int) -> tuple[Tensor, float]:
    """F(k) for k = 0..W hits, and c: the strategy climbs E[F(K)] + c L(p).

    L' = (1 - p)^W / p: what a ground truth in an all-zero group adds, close to log p while hits are
    rare. Raises ValueError for a strategy that looks at the batch or depends on p itself, or as
    `weight` does.
    """
    return _utility(as_strategy(strategy), group)


@lru_cache(maxsize=512)
def _utility(chosen: Strategy, group: int) -> tuple[Tensor, float]:
    table = by_hits(chosen, group)
    if table.batch > 1 or not _constant_in_p(chosen, group):
        raise ValueError("strategy: it depends on more than its own hits, so it has no utility")
    half = torch.tensor([0.5], dtype=torch.float64)
    taught = _taught(chosen, half, table)
    scale = chosen.policy_weight / table.divisor
    given = scale * table.mean(table.anchor)[0] * _anchor_factor(chosen, half) + taught.target[0]
    push = scale * table.mean(table.hit)[0] + given + taught.hit
    pull = (scale * table.mean(table.miss)[0]).masked_fill(table.apart, 0.0) + taught.miss
    k = torch.arange(table.width + 1, dtype=torch.float64)
    step = push[1:] / k[1:] - pull[:-1] / (table.width - k[:-1])
    return torch.cat([step.new_zeros(1), step.cumsum(0)]), float(given[0])


def signal_to_noise(strategy: str | Strategy, p: Tensor, group: int) -> Tensor:
    """Mean over standard deviation of one group's update along the logit of p; `[P]` float64.

    Two outcomes, hit or miss, so that a hit's gradient is 1 - p and a miss's is -p. inf where the
    update has no noise (SFT on a known target), 0 where there is no update. Raises ValueError as
    `weight` does.
    """
    chosen = as_strategy(strategy)
    table = by_hits(chosen, group)
    p = p.to(torch.float64)
    pmf = binomial_pmf(p, table.width)
    taught = _taught(chosen, p, table)
    scale = chosen.policy_weight / table.divisor
    up, down, factor = (
        x.view(-1, 1, 1, 1) for x in (1 - p, p, (1 - p) * _anchor_factor(chosen, p))
    )
    update = scale * (table.hit * up - table.miss * down + table.anchor * factor)
    given = (taught.target + taught.hit) * (1 - p).unsqueeze(-1) - taught.miss * p.unsqueeze(-1)
    update = update + given.unsqueeze(1).unsqueeze(1)
    other = pmf if table.batch > 1 else torch.ones_like(pmf[:, :1])
    chance = (pmf.unsqueeze(1) * table.share[:, 0]).unsqueeze(2) * other.unsqueeze(1).unsqueeze(-1)
    mean = (chance * update).sum((1, 2, 3))
    noise = (chance * (update - mean.view(-1, 1, 1, 1)).square()).sum((1, 2, 3)).sqrt()
    quiet = noise <= 1e-12 * update.abs().amax((1, 2, 3))
    ratio = mean.abs() / torch.where(quiet, torch.ones_like(noise), noise)
    return torch.where(quiet, torch.where(mean == 0, 0.0, torch.inf), ratio)


def target_weights(
    strategy: str | Strategy, targets: Tensor, group: int, anchor: str = "uniform"
) -> Tensor:
    """Coefficient of grad log p_t of each target of one prompt; targets `[T]` -> `[T]` float64.

    Hits and misses climb the total p = sum p_t, so that target t gets w p_t / p; an anchor or a
    supervised target is drawn uniformly, or is always the first (anchor = "uniform", "first").
    Raises ValueError for another anchor, targets that are no probabilities, or as `weight` does.
    """
    if anchor not in ("uniform", "first"):
        raise ValueError(f"anchor: expected uniform or first, got {anchor!r}")
    chosen = as_strategy(strategy)
    table = by_hits(chosen, group)
    total = hit_probability(targets).reshape(1)
    parts = weight(chosen, total, group)
    pmf = binomial_pmf(total, table.width)
    split = targets.double() / total.clamp(min=torch.finfo(torch.float64).tiny)
    given = torch.zeros_like(split)
    if anchor == "first":
        given[0] = 1.0
    else:
        given[:] = 1.0 / len(given)
    injected = table.mean(table.anchor) * chosen.policy_weight / table.divisor
    anchors = _average(injected, pmf, pmf, table) * _anchor_factor(chosen, targets)
    together, each = _taught(chosen, total, table), _taught(chosen, targets, table)
    rows = pmf @ together.hit - _tilted(pmf) @ together.miss
    taught = anchors + (pmf * each.target).sum(-1)
    return (parts.hits + parts.misses + rows) * split + given * taught


def _tilted(pmf: Tensor) -> Tensor:
    """P(k) p / (1 - p) without the division: (k + 1) / (W - k) P(k + 1), and 0 at k = W."""
    width = pmf.shape[-1] - 1
    k = torch.arange(width, dtype=pmf.dtype)
    return torch.cat([pmf[:, 1:] * (k + 1) / (width - k), torch.zeros_like(pmf[:, :1])], dim=-1)


def _average(value: Tensor, own: Tensor, other: Tensor, table: ByHits) -> Tensor:
    """E over k (weights own `[P, W + 1]`) and over the other group's hits; value `[M, W + 1]`."""
    by_other = own @ value.T
    return (by_other * other).sum(-1) if table.batch > 1 else by_other.squeeze(-1)


def _log_where_all_zero(p: Tensor, width: int) -> Tensor:
    """L(p) with L' = (1 - p)^width / p and L(1) = 0: log p + sum of (1 - p)^j / j, j = 1..width."""
    p = p.to(torch.float64)
    j = torch.arange(1, width + 1, dtype=torch.float64)
    return p.log() + ((1 - p).unsqueeze(-1) ** j / j).sum(-1)


def _anchor_factor(strategy: Strategy, p: Tensor) -> Tensor:
    """What an advantage of 1 on an anchor becomes as a multiple of grad log p; `[P]`.

    Through the strategy's own loss, on a single anchor of one code with probability p.
    """
    logp = _log_p(p).requires_grad_()
    one = torch.ones(len(p), 1, 1, dtype=torch.float64)
    loss = policy_loss(
        logp,
        logp.detach(),
        one,
        one > 0,
        one[:, 0, 0],
        ratio=strategy.ratio,
        clip=strategy.clip,
        anchor=one > 0,
        anchor_ratio=strategy.anchor_ratio,
    )
    return -torch.autograd.grad(loss.sum(), logp)[0].flatten()


def _log_p(p: Tensor) -> Tensor:
    """log p of a target of one code, `[P, 1, 1, 1]`; p = 0 as a limit."""
    smallest = torch.finfo(torch.float64).tiny
    return p.detach().to(torch.float64).clamp(min=smallest).log().view(-1, 1, 1, 1)


@dataclass(frozen=True)
class _Taught:
    """The supervised term's gradient: target, the multiple of grad log p of the target; hit, miss,
    the summed multiples of grad log pi of the rows that are hits and misses. By hits k, `[W + 1]`,
    target `[P, W + 1]`."""

    target: Tensor
    hit: Tensor
    miss: Tensor


def _taught(strategy: Strategy, p: Tensor, table: ByHits) -> _Taught:
    """Through the strategy's own supervised stage; at the reference policy, where preferences are
    still even, and at the end of any schedule. A target of one code with probability p."""
    counts = table.width + 1
    nothing = torch.zeros(counts, dtype=torch.float64)
    if not strategy.learns_from_target:
        return _Taught(torch.zeros(len(p), counts, dtype=torch.float64), nothing, nothing)
    stage = strategy.stage("supervised")
    logp = _log_p(p).requires_grad_()
    if "rollouts" not in stage.stage.needs:
        loss = stage(Evidence(target_logp=logp, target_ref_logp=logp.detach()))
        grad = torch.autograd.grad(loss.sum(), logp)[0]
        return _Taught(-grad.view(-1, 1).expand(-1, counts), nothing, nothing)
    # What a term makes of the rollouts does not depend on p at the reference: one p is enough.
    target = logp[:1, 0].detach().expand(counts, 1, 1).clone().requires_grad_()
    reward = (torch.arange(counts - 1) < torch.arange(counts).unsqueeze(-1)).double().unsqueeze(1)
    signal = build_signal(strategy, groups_of(reward))
    rows = torch.full_like(reward, -1.0).requires_grad_()
    loss = stage(
        Evidence(
            target_logp=target,
            target_ref_logp=target.detach(),
            hits=signal.hits,
            valid=signal.valid,
            rows_logp=rows,
            rows_ref_logp=rows.detach(),
            rows=signal.rows,
        )
    )
    found = torch.autograd.grad(loss.sum(), (target, rows), allow_unused=True)
    on_target, on_rows = (
        torch.zeros_like(leaf) if grad is None else -grad
        for leaf, grad in zip((target, rows), found, strict=True)
    )
    on_rows, hit = on_rows.squeeze(1), reward.squeeze(1) > 0
    return _Taught(
        on_target.flatten().expand(len(p), counts),
        (on_rows * hit).sum(-1),
        (on_rows * ~hit).sum(-1),
    )


@lru_cache(maxsize=512)
def _constant_in_p(strategy: Strategy, group: int) -> bool:
    """Whether the ground truth counts alike at every p, so that f is a sum over k."""
    probe = torch.tensor([0.03, 0.3], dtype=torch.float64)
    target = _taught(strategy, probe, by_hits(strategy, group)).target
    alike = bool((target[0] - target[1]).abs().max() <= 1e-12)
    factor = _anchor_factor(strategy, probe)
    return alike and (not strategy.anchors or bool((factor[0] - factor[1]).abs() <= 1e-12))


def _by_quadrature(strategy: Strategy, p: Tensor, group: int) -> Tensor:
    """-integral of w d(log p) from p to 1, interval by interval on the sorted p."""
    p = p.to(torch.float64)
    order = p.argsort(descending=True)
    node, share = (torch.as_tensor(x, dtype=torch.float64) for x in _gauss_legendre(NODES))
    result, total, upper = torch.empty_like(p), 0.0, 0.0
    for place in order.tolist():
        if p[place] == 0:
            result[place] = -math.inf
            continue
        lower = math.log(p[place])
        pieces = max(1, math.ceil((upper - lower) / STEP))
        edge = torch.linspace(lower, upper, pieces + 1, dtype=torch.float64)
        half = (edge[1:] - edge[:-1]) / 2
        at = ((edge[1:] + edge[:-1]) / 2).unsqueeze(-1) + half.unsqueeze(-1) * node
        height = weight(strategy, at.exp().flatten().clamp(max=1.0), group).total.view(at.shape)
        total -= float((height * share * half.unsqueeze(-1)).sum())
        result[place], upper = total, lower
    return result


def _gauss_legendre(count: int) -> tuple[list[float], list[float]]:
    """Nodes and weights on [-1, 1], by Newton's method on the Legendre polynomial."""
    nodes, weights = [], []
    for i in range(count):
        x = math.cos(math.pi * (i + 0.75) / (count + 0.5))
        slope = 1.0
        for _ in range(50):
            before, here = 1.0, x
            for n in range(2, count + 1):
                before, here = here, ((2 * n - 1) * x * here - (n - 1) * before) / n
            slope = count * (x * here - before) / (x * x - 1)
            x -= here / slope
        nodes.append(x)
        weights.append(2 / ((1 - x * x) * slope * slope))
    return nodes, weights
