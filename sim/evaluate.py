"""Exact evaluation: the catalogue is enumerated, so metrics carry no sampling noise.

Pass@1 means the expected hit of one sample, E[p(target)]; `pass_at_1_matched` is its value at
the temperature at which mean entropy on validation users equals the start's. `greedy` is the hit
of greedy decoding (the T -> 0 limit of Pass@1); `hr_at_1` is the hit of the most probable item.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.optimize import brentq
from torch import Tensor

from sim.catalogue import Catalogue
from sim.policy import Params, Policy
from sim.world import Prompts, World

CHUNK = 256
MATCHING_USERS = 128


def metrics(
    policy: Policy, params: Params, world: World, prompts: Prompts, group: int, temperature: Tensor
) -> list[dict[str, dict[str, float]]]:
    """Exact metrics of every run on one split: a list over runs of {slice: {metric: value}}.

    temperature `[R]`: where `pass_at_1_matched` is read. Regime shares are those of i.i.d. groups
    of width `group` at T = 1.
    """
    results = []
    for run in range(temperature.shape[0]):
        one = {name: value[run : run + 1] for name, value in params.items()}
        columns = [
            _per_prompt(policy, one, world.catalogue, chunk, target, group, temperature[run])
            for chunk, target in zip(
                torch.split(prompts.context, CHUNK), torch.split(prompts.target, CHUNK), strict=True
            )
        ]
        table = {name: torch.cat([c[name] for c in columns]) for name in columns[0]}
        slices = {"all": torch.ones(len(prompts), dtype=torch.bool), **prompts.slices}
        results.append(
            {
                label: {name: value[mask].mean().item() for name, value in table.items()}
                for label, mask in slices.items()
                if bool(mask.any())
            }
        )
    return results


def matched_temperature(
    policy: Policy, params: Params, world: World, entropy: Tensor, users: int = MATCHING_USERS
) -> Tensor:
    """Temperature `[R]` at which mean entropy on validation users equals `entropy` `[R]`, nats.

    Brent's method on log T inside [1/16, 16]; the nearest end where no T reaches the request.
    """
    found = []
    context = world.validation.context[:users]
    for run in range(entropy.shape[0]):
        one = {name: value[run : run + 1] for name, value in params.items()}
        slots = _slot_logits(policy, one, world.catalogue, context)
        wanted = float(entropy[run])

        def gap(log_t: float, slots: list[Tensor] = slots, wanted: float = wanted) -> float:
            return _entropy(slots, world.catalogue, math.exp(log_t)) - wanted

        found.append(math.exp(_root(gap)))
    return torch.tensor(found, dtype=torch.float64)


def mean_entropy(
    policy: Policy, params: Params, world: World, users: int = MATCHING_USERS
) -> Tensor:
    """Mean entropy of the policy on validation users at T = 1, nats; `[R]`."""
    runs = next(iter(params.values())).shape[0]
    values = []
    for run in range(runs):
        one = {name: value[run : run + 1] for name, value in params.items()}
        slots = _slot_logits(policy, one, world.catalogue, world.validation.context[:users])
        values.append(_entropy(slots, world.catalogue, 1.0))
    return torch.tensor(values, dtype=torch.float64)


def item_logp(slots: list[Tensor], catalogue: Catalogue, temperature: float) -> Tensor:
    """Log-probability of every item, `[P, N]`, each code sampled at `temperature`."""
    logp = slots[0].new_zeros(slots[0].shape[0], 1)
    for level, here in enumerate(catalogue.levels):
        step = torch.log_softmax(slots[level] / temperature, dim=-1).flatten(1)
        logp = logp.index_select(1, here.parent)
        logp.index_add_(1, here.branched, step.index_select(1, here.place))
    return logp


def greedy_item(slots: list[Tensor], catalogue: Catalogue) -> Tensor:
    """The item that greedy decoding reaches, `[P]`; ties go to the lowest code."""
    prompts = slots[0].shape[0]
    node = torch.zeros(prompts, dtype=torch.int64)
    for level, here in enumerate(catalogue.levels):
        best = here.child[:, 0].repeat(prompts, 1)
        slot = slots[level].argmax(-1).unsqueeze(-1)
        chosen = here.child[here.branching].expand(prompts, -1, -1).gather(-1, slot)
        best[:, here.branching] = chosen.squeeze(-1)
        node = best.gather(1, node.unsqueeze(1)).squeeze(1)
    return node


def _root(gap: Callable[[float], float]) -> float:
    """Root of an increasing function on [-log 16, log 16], or the nearer end."""
    if abs(gap(0.0)) < 1e-9:
        return 0.0
    end = math.log(16.0)
    if gap(-end) >= 0:
        return -end
    if gap(end) <= 0:
        return end
    return float(brentq(gap, -end, end, xtol=1e-3))


def _slot_logits(
    policy: Policy, params: Params, catalogue: Catalogue, context: Tensor
) -> list[Tensor]:
    """Masked child logits of branching nodes, one `[P, m_l, W_l]` per level, of a single run."""
    dtype = next(iter(params.values())).dtype
    with torch.no_grad():
        encoded = policy.encode(params, context.to(dtype).unsqueeze(0))
        return [
            policy.slot_logits(params, encoded, catalogue, level)[0].masked_fill(
                ~here.mask[here.branching], -torch.inf
            )
            for level, here in enumerate(catalogue.levels)
        ]


def _entropy(slots: list[Tensor], catalogue: Catalogue, temperature: float) -> float:
    logp = item_logp(slots, catalogue, temperature)
    return -(logp.exp() * logp.clamp(min=-1e4)).sum(-1).mean().item()


def _per_prompt(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    context: Tensor,
    target: Tensor,
    group: int,
    temperature: Tensor,
) -> dict[str, Tensor]:
    slots = _slot_logits(policy, params, catalogue, context)
    logp = item_logp(slots, catalogue, 1.0).double()
    at_target = logp.gather(-1, target.unsqueeze(-1))
    p = at_target.squeeze(-1).exp().clamp(max=1 - 1e-12)
    better = (logp > at_target).sum(-1)
    tied = (logp == at_target).sum(-1) - 1
    rank = better + tied // 2
    miss = torch.log1p(-p)
    all_zero = torch.exp(group * miss)
    single = group * p * torch.exp((group - 1) * miss) if group > 1 else torch.zeros_like(p)
    saturated = p**group
    cold = item_logp(slots, catalogue, float(temperature)).gather(-1, target.unsqueeze(-1))
    return {
        "pass_at_1": p,
        "pass_at_1_matched": cold.double().squeeze(-1).exp(),
        "greedy": (greedy_item(slots, catalogue) == target).double(),
        "hr_at_1": (rank < 1).double(),
        "hr_at_5": (rank < 5).double(),
        "recall_at_10": (rank < 10).double(),
        "ndcg_at_10": torch.where(rank < 10, 1 / torch.log2(rank + 2.0), 0.0).double(),
        "pass_at_32": 1 - torch.exp(32 * miss),
        "entropy": -(logp.exp() * logp.clamp(min=-1e4)).sum(-1),
        "all_zero": all_zero,
        "single_hit": single,
        "multi_hit": 1 - all_zero - single - saturated,
        "saturated": saturated,
    }
