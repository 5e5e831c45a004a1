"""The exact gradient of every signal on a world small enough to enumerate.

P prompts, N items, a tabular policy: every ordered group of W rollouts is visited once, weighted by
its probability, and goes through `build_signal` and `strategy_loss`, the code that trains. What
comes out is the mean and the variance of the update, without sampling. Gradients are those of
ascent, with respect to the table's logits, one block per prompt, the average over prompts.

A group-local strategy is enumerated prompt by prompt (B = 1); one whose credit or whose loss
divisor looks at the batch at B = 2, every two prompts once; one with a memory in its fresh state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.loss import LossSettings, pack, strategy_loss
from recast.signal import build_signal
from recast.stages.supervised import Evidence
from recast.strategy import Strategy
from recast.structure import level_scores, matched_levels
from recast.theory.by_hits import DRAWN
from sim.decoding.sample import path_entropy, path_logp_each
from sim.policies.linear import Tabular
from sim.policies.protocol import Params
from sim.seeds import stream
from sim.worlds.catalogue import Catalogue, build_catalogue

CODES = ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1))
LIMIT = 20_000_000
"""Rollouts that one strategy may enumerate."""
CHUNK = 100_000
"""Rollouts per call of `build_signal`."""
PASS_K = 4
RAREST = 1e-12
"""How near a hit probability may come to 0 and 1."""

Derivative = Callable[[float], float]

OBJECTIVES: Mapping[str, Derivative] = MappingProxyType(
    {
        "p": lambda p: 1.0,
        "log_p": lambda p: 1 / p,
        "pass_at_4": lambda p: PASS_K * (1 - p) ** (PASS_K - 1),
        "arcsin_sqrt_p": lambda p: 1 / math.sqrt(p * (1 - p)),
        "arcsin_sqrt_pass_at_4": lambda p: (
            PASS_K * (1 - p) ** (PASS_K / 2 - 1) / math.sqrt(1 - (1 - p) ** PASS_K)
        ),
    }
)
"""Slope f'(p) of each known objective, up to a constant factor that no cosine sees."""


@dataclass(frozen=True)
class ExactWorld:
    """P prompts over one small catalogue. p `[P]`: probability of the target; target `[P]`;
    chance `[P, N]`: the policy; logp `[P, N, L]`: of each code; score `[P, N, L, D]`: its gradient
    with respect to the prompt's D logits; entropy `[P, N, L]`: along each item's path, nats."""

    catalogue: Catalogue
    p: Tensor
    target: Tensor
    chance: Tensor
    logp: Tensor
    score: Tensor
    entropy: Tensor

    @property
    def target_gradient(self) -> Tensor:
        """grad log p of each prompt's target; `[P, D]`."""
        return self.score[torch.arange(len(self.p)), self.target].sum(1)


@dataclass(frozen=True)
class Exact:
    """One strategy's update. mean `[P, D]`: expected ascent direction, averaged over prompts (each
    block already divided by P); variance: trace of the covariance of one prompt's update, averaged
    over prompts; batch: prompts per loss; width: rollouts per group; state: what it remembers."""

    mean: Tensor
    variance: float
    batch: int
    width: int
    state: str


def exact_world(
    p: Sequence[float], items: int = 4, seed: int = 0, *, flat: bool = False
) -> ExactWorld:
    """A world whose prompt b gives its target probability p[b]; the misses' shares are random.

    The target of prompt b is item b modulo N. An item has three codes, or one if flat. Raises
    ValueError for p outside (0, 1), none at all, or items outside 2..8.
    """
    if not p or not all(RAREST <= value <= 1 - RAREST for value in p):
        wrong = [value for value in p if not RAREST <= value <= 1 - RAREST][:3]
        raise ValueError(f"p: expected hit probabilities in (0, 1), {RAREST:g} off, got {wrong}")
    if not 2 <= items <= len(CODES):
        raise ValueError(f"items: expected 2..{len(CODES)}, got {items}")
    codes = np.arange(items)[:, None] if flat else np.array(CODES[:items])
    catalogue = build_catalogue(codes, n_codes=items if flat else 2)
    rng = stream(seed, "exact")
    target = torch.arange(len(p)) % items
    chance = torch.from_numpy(rng.dirichlet(np.full(items, 2.0), len(p)))
    for row, goal, value in zip(chance, target.tolist(), p, strict=True):
        row[goal] = 0.0
        row *= (1 - value) / row.sum()
        row[goal] = value
    policy, params = Tabular(), {"table": _table(catalogue, chance)}
    context = torch.eye(len(p), dtype=torch.float64).unsqueeze(0)
    item = torch.arange(items).expand(1, len(p), items)
    logp, score = _scores(policy, params, catalogue, context, item)
    encoded = policy.encode(params, context)
    return ExactWorld(
        catalogue=catalogue,
        p=torch.tensor(p, dtype=torch.float64),
        target=target,
        chance=chance,
        logp=logp,
        score=score,
        entropy=path_entropy(policy, params, catalogue, encoded, item)[0],
    )


def why_not_enumerable(strategy: Strategy, world: ExactWorld, group: int) -> str | None:
    """Why this strategy has no exact update here, in one line; None where it has one."""
    if "beam_rank" in strategy.needs:
        return "its groups are beams, whose rollouts are not drawn independently"
    if strategy.draws_repair:
        return DRAWN
    try:
        strategy.check_group(group)
    except ValueError as problem:
        return str(problem)
    width, batch = strategy.sampled(group), _batch(strategy)
    items, drawn = world.catalogue.items, width * batch
    if drawn > math.log(LIMIT, items) or items**drawn * drawn > LIMIT:
        return (
            f"{items}^{drawn} batches of {batch} x {width} rollouts are too many; lower G or the "
            "items"
        )
    if batch > len(world.p):
        return "it looks at the batch: B = 2 needs two prompts"
    return None


def exact_update(strategy: Strategy, world: ExactWorld, group: int) -> Exact:
    """Mean and variance of a strategy's update at G = group, by enumeration.

    Raises ValueError with `why_not_enumerable`.
    """
    reason = why_not_enumerable(strategy, world, group)
    if reason:
        raise ValueError(f"strategy: not enumerable: {reason}")
    prompts, size = len(world.p), _batch(strategy)
    mean, square = torch.zeros_like(world.target_gradient), 0.0
    batches = list(itertools.combinations(range(prompts), size))
    for batch in batches:
        first, second = _moments(strategy, world, torch.tensor(batch), group)
        mean[list(batch)] += first / len(batches)
        square += (second - float(first.square().sum())) * size / len(batches)
    return Exact(
        mean=mean,
        variance=max(square, 0.0),
        batch=size,
        width=strategy.sampled(group),
        state="fresh" if strategy.coupling == "state" else "",
    )


def objective_gradient(world: ExactWorld, slope: Derivative) -> Tensor:
    """Gradient of the mean over prompts of f(p), from its slope f'; `[P, D]`."""
    weight = torch.tensor([slope(p) * p for p in world.p.tolist()], dtype=torch.float64)
    return weight.unsqueeze(-1) * world.target_gradient / len(world.p)


def cosine(one: Tensor, other: Tensor) -> float:
    """Cosine between two gradients of one shape; nan where one of them is zero."""
    size = float(one.norm() * other.norm())
    return float((one * other).sum()) / size if size > 1e-14 else math.nan


def _batch(strategy: Strategy) -> int:
    """Prompts per loss: 2 where credit or divisor depends on what else the batch holds."""
    if not strategy.has_credit:
        return 1
    stages = (strategy.stage(kind).stage.coupling for kind in ("repair", "select", "credit"))
    local = all(coupling == "group" for coupling in stages)
    return 1 if local and strategy.denominator not in ("active", "tokens", "live_groups") else 2


def _moments(
    strategy: Strategy, world: ExactWorld, batch: Tensor, group: int
) -> tuple[Tensor, float]:
    """E[g] `[B, D]` and E[|g|^2] of the update on one set of prompts."""
    width, count = strategy.sampled(group), world.catalogue.items
    slots = len(batch) * width
    mean = torch.zeros(len(batch), world.score.shape[-1], dtype=torch.float64)
    square, base, step = 0.0, count ** torch.arange(slots), CHUNK // max(slots, 1)
    for start in range(0, count**slots, step):
        number = torch.arange(start, min(start + step, count**slots))
        item = (number.unsqueeze(-1) // base % count).reshape(len(number), len(batch), width)
        chance = world.chance[batch.unsqueeze(-1), item].flatten(1).prod(-1)
        update = _updates(strategy, world, batch, item)
        mean += (chance.view(-1, 1, 1) * update).sum(0)
        square += float((chance * update.square().sum((-2, -1))).sum())
    return mean, square


def _updates(strategy: Strategy, world: ExactWorld, batch: Tensor, item: Tensor) -> Tensor:
    """The update that each batch of groups gives; item `[E, B, W]` -> `[E, B, D]`."""
    leading, depth = item.shape[0], world.catalogue.depth
    target = world.target[batch]
    goal = world.logp[batch, target].expand(leading, -1, -1).clone().requires_grad_()
    leaves, items = [goal], [target.view(1, -1, 1).expand(leading, -1, 1)]
    # At the reference: the policy has not moved yet, and a schedule is at its end.
    evidence = Evidence(goal, goal.detach()) if strategy.learns_from_target else None
    if not strategy.needs_rollouts:
        assert evidence is not None
        loss: Tensor = strategy.stage("supervised")(evidence).mean(-1)
    else:
        signal = build_signal(strategy, _judge(world, batch, item))
        appended = signal.rows.shape[-1] - item.shape[-1]
        item = torch.cat([item, items[0].expand(-1, -1, appended)], -1)
        anchor = signal.groups.origin == int(Origin.ANCHOR)
        item = torch.where(anchor, target.unsqueeze(-1), item)
        rows = pack(signal, signal.rows.shape[-1])
        sent = item.gather(-1, rows.index)
        logp = world.logp[batch.view(1, -1, 1), sent].requires_grad_()
        loss = strategy_loss(
            strategy,
            signal,
            rows,
            length=depth,
            settings=LossSettings(),
            logp=logp,
            old_logp=logp.detach(),
            ref_logp=logp.detach(),
            evidence=evidence,
        )
        leaves.append(logp)
        items.append(sent)
    push = torch.zeros(*item.shape[:2], world.catalogue.items, depth, dtype=torch.float64)
    if loss.requires_grad:
        grads = torch.autograd.grad(loss.sum(), leaves, allow_unused=True)
        for grad, where in zip(grads, items, strict=True):
            if grad is not None:
                rowed = -grad.view(*where.shape, depth)
                push.scatter_add_(2, where.unsqueeze(-1).expand(rowed.shape), rowed)
    return torch.einsum("ebnl,bnld->ebd", push, world.score[batch])


def _judge(world: ExactWorld, batch: Tensor, item: Tensor) -> RolloutGroups:
    """What the trainer knows of these rollouts. Ties go by slot: rollouts are i.i.d., so that any
    order that ignores the items gives the same distribution."""
    catalogue, depth = world.catalogue, world.catalogue.depth
    goal = catalogue.codes[world.target[batch]].view(1, len(batch), 1, depth)
    matched = matched_levels(catalogue.codes[item], goal)
    place = (torch.arange(item.shape[-1], dtype=torch.float64) + 0.5) / item.shape[-1]
    return RolloutGroups.of(
        (matched == depth).to(torch.float64),
        score=level_scores(depth, torch.float64)[matched],
        tie_key=place.expand(item.shape),
        entropy=world.entropy[batch.view(1, -1, 1), item],
        matched=matched,
        item=item,
        depth=depth,
        logp=world.logp[batch.view(1, -1, 1), item],
        codes=catalogue.codes[item],
        prompt=torch.arange(len(batch)).expand(item.shape[:-1]),
    )


def _table(catalogue: Catalogue, chance: Tensor) -> Tensor:
    """Logits of a tabular policy that gives each item its chance; `[1, P, nodes, K]`."""
    table = chance.new_zeros(len(chance), catalogue.nodes, catalogue.n_codes)
    for level, here in enumerate(catalogue.levels):
        for item, codes in enumerate(catalogue.codes.tolist()):
            node = here.offset + int(catalogue.path[item, level])
            table[:, node, codes[level]] += chance[:, item]
    return table.clamp(min=1e-300).log().unsqueeze(0)


def _scores(
    policy: Tabular, params: Params, catalogue: Catalogue, context: Tensor, item: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probability of every code of every item and its gradient, by autograd."""
    leaf = params["table"].clone().requires_grad_()
    encoded = policy.encode({"table": leaf}, context)
    logp = path_logp_each(policy, {"table": leaf}, catalogue, encoded, item)[0]
    rows = [
        torch.autograd.grad(value, leaf, retain_graph=True)[0][0, place // logp[0].numel()]
        for place, value in enumerate(logp.flatten())
    ]
    return logp.detach(), torch.stack(rows).view(*logp.shape, -1)
