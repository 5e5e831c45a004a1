"""Exact evaluation: the catalogue is enumerated, so metrics carry no sampling noise.

Pass@1 means the expected hit of one sample, E[p(a target)]; `pass_at_1_matched` is its value at
the temperature at which mean entropy on validation users equals the start's; `pass_at_1_t050` its
value at T = .5. `greedy` is the hit of greedy decoding (the T -> 0 limit of Pass@1), `hr_at_1` of
the most probable item, `beam_pass_at_1` of the top beam of a beam search of width 32.
Metrics are computed in float32 (relative error about 1e-6) unless told otherwise.

With free decoding (`sim.free`) Pass@k, greedy and beams face the dead ends as well, `invalid_share`
is the chance that a rollout ends in one, and lists of the most probable items hold items alone.

Splits: `test` is a fixed sample of the test prompts, the same at every evaluation; `test_all` is
all of them and `validation` the tuning prompts, both at the start and at the end only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

from recast.metrics import (
    entropy,
    hit_probability,
    hit_rate_at_k,
    ndcg_at_k,
    pass_at_k,
    recall_at_k,
    regime_shares,
    target_ranks,
    total_variation,
)
from sim.beam import beam
from sim.catalogue import Catalogue
from sim.enumerate import Enumeration, enumerate_logits, item_logp, tree_entropy
from sim.invalid import covered, invalid_share, valid_logp
from sim.policy import Params, Policy
from sim.seeds import stream
from sim.world import Prompts, World

CHUNK = 256
MATCHING_USERS = 64
BEAM = 32
PASS_AT = (2, 4, 8, 16, 32, 64)
TEMPERATURES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.2, 1.5, 2.0)
Slices = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Snapshot:
    """R runs at one moment. found: split -> per run {slice: {metric: value}}; temperature `[R]`
    where Pass@1 at matched entropy is read; entropy `[R]`, nats, that it matches."""

    found: dict[str, list[Slices]]
    temperature: Tensor
    entropy: Tensor

    def of(self, runs: Sequence[int]) -> Snapshot:
        """The same of some of the runs."""
        picked = {split: [rows[run] for run in runs] for split, rows in self.found.items()}
        return Snapshot(picked, self.temperature[list(runs)], self.entropy[list(runs)])


def snapshot(
    policy: Policy,
    params: Params,
    world: World,
    group: int,
    *,
    curve_prompts: int = 0,
    full: bool = True,
    matching: Tensor | None = None,
    sampled_at: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Snapshot:
    """Evaluate every run. curve_prompts: size of the `test` sample, 0 = all test prompts.

    full: the splits and metrics of the start and the end too. matching `[R]`: entropy at which
    Pass@1 is also read; None = the policy's own, so T = 1. sampled_at: temperature of the rollouts,
    to which the regime shares belong.
    """
    params = {name: value.detach().to(dtype) for name, value in params.items()}
    if matching is None:
        matching = mean_entropy(policy, params, world)
        temperature = torch.ones_like(matching)
    else:
        temperature = matched_temperature(policy, params, world, matching)
    splits = {"test": curve_sample(world, curve_prompts)}
    if full:
        splits |= {"test_all": world.test, "validation": world.validation}
    return Snapshot(
        {
            split: metrics(
                policy,
                params,
                world,
                prompts,
                group,
                temperature,
                full=split == "test_all",
                sampled_at=sampled_at,
            )
            for split, prompts in splits.items()
        },
        temperature,
        matching,
    )


def curve_sample(world: World, size: int) -> Prompts:
    """The fixed sample of test prompts that learning curves are measured on."""
    if not 0 < size < len(world.test):
        return world.test
    order = stream(0, f"curve/{len(world.test)}").permutation(len(world.test))[:size]
    return world.test.take(torch.from_numpy(order).sort().values)


def metrics(
    policy: Policy,
    params: Params,
    world: World,
    prompts: Prompts,
    group: int,
    temperature: Tensor,
    *,
    full: bool = True,
    sampled_at: float = 1.0,
) -> list[Slices]:
    """Exact metrics of every run on some prompts: a list over runs of {slice: {metric: value}}.

    temperature `[R]`: where `pass_at_1_matched` is read. Regime shares are those of i.i.d. groups
    of width `group` at the temperature `sampled_at`. Metrics of `full` alone are None without it;
    `total_variation` is None where the true preferences are unknown.
    """
    results = []
    for run in range(temperature.shape[0]):
        one = {name: value[run : run + 1] for name, value in params.items()}
        columns, lists = [], []
        for chunk in prompts.chunks(CHUNK):
            at = (float(temperature[run]), sampled_at)
            column, top = _per_prompt(policy, one, world.catalogue, chunk, at, full)
            columns.append(column)
            lists.append(top)
        table = {name: torch.cat([c[name] for c in columns]) for name in columns[0]}
        table |= regime_shares(table.pop("sampled"), group)
        slices = {"all": torch.ones(len(prompts), dtype=torch.bool), **prompts.slices}
        found: Slices = {}
        for label, mask in slices.items():
            if bool(mask.any()):
                values: dict[str, float | None] = {
                    name: value[mask].mean().item() for name, value in table.items()
                }
                if full:
                    shown = torch.cat(lists)[mask]
                    values["coverage_at_10"] = covered(shown, world.catalogue)
                else:
                    values |= dict.fromkeys(("coverage_at_10", *FULL_ONLY))
                values.setdefault("total_variation", None)
                found[label] = {"prompts": float(mask.sum()), **values}
        results.append(found)
    return results


FULL_ONLY = (
    *(f"pass_at_1_t{round(100 * t):03d}" for t in TEMPERATURES),
    "beam_pass_at_1",
    f"beam_hit_at_{BEAM}",
    "total_variation",
)


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
        logits = enumerate_logits(policy, one, world.catalogue, context)

        def gap(log_t: float, logits: Enumeration = logits, run: int = run) -> float:
            return _mean(tree_entropy(logits, math.exp(log_t))) - float(entropy[run])

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
        context = world.validation.context[:users]
        values.append(_mean(tree_entropy(enumerate_logits(policy, one, world.catalogue, context))))
    return torch.tensor(values, dtype=torch.float64)


def _mean(values: Tensor) -> float:
    return values.double().mean().item()


def _root(gap: Callable[[float], float]) -> float:
    """Root of an increasing function on [-log 16, log 16], or the nearer end.

    The bracket grows from 0, where the root usually is near.
    """
    here = gap(0.0)
    if abs(here) < 1e-6:
        return 0.0
    end, side = math.log(16.0), -math.copysign(1.0, here)
    inner, outer = 0.0, side * 0.25
    while gap(outer) * side < 0:
        if abs(outer) >= end:
            return side * end
        inner, outer = outer, side * min(2 * abs(outer), end)
    return float(brentq(gap, min(inner, outer), max(inner, outer), xtol=1e-3))


def _per_prompt(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    prompts: Prompts,
    temperatures: tuple[float, float],
    full: bool,
) -> tuple[dict[str, Tensor], Tensor]:
    """Metrics of each prompt, `[P]` float64, and the top ten lists `[P, 10]` if `full`.

    temperatures: of matched entropy and of the rollouts; `sampled` is Pass@1 at the latter.
    """
    targets = prompts.all_targets
    logits = enumerate_logits(policy, params, catalogue, prompts.context)
    logp = item_logp(logits).T.contiguous()
    listed = valid_logp(logp, catalogue)
    ranks = target_ranks(listed, targets)
    at_target = _path_logits(policy, params, catalogue, prompts.context, targets)
    p = hit_probability(logp, targets)
    found = {
        "pass_at_1": p,
        "pass_at_1_matched": _hit_at(at_target, targets, temperatures[0]),
        "sampled": p if temperatures[1] == 1.0 else _hit_at(at_target, targets, temperatures[1]),
        "greedy": _greedy_hit(policy, params, catalogue, prompts.context, targets),
        **{f"hr_at_{k}": hit_rate_at_k(ranks, k) for k in (1, 5, 10)},
        **{f"recall_at_{k}": recall_at_k(ranks, k) for k in (5, 10, 50)},
        **{f"ndcg_at_{k}": ndcg_at_k(ranks, k) for k in (5, 10)},
        **{f"pass_at_{k}": pass_at_k(p, k) for k in PASS_AT},
        "entropy": entropy(logp).double(),
        **invalid_share(logits, logp, temperatures[1]),
    }
    if not full:
        return found, targets
    for t in TEMPERATURES:
        found[f"pass_at_1_t{round(100 * t):03d}"] = _hit_at(at_target, targets, t)
    beams = target_ranks(item_logp(logits, beam=BEAM).T.contiguous(), targets)
    found["beam_pass_at_1"] = hit_rate_at_k(beams, 1)
    found[f"beam_hit_at_{BEAM}"] = hit_rate_at_k(beams, BEAM)
    if prompts.preference is not None:
        found["total_variation"] = total_variation(logp.exp().double(), prompts.preference)
    return found, listed.topk(min(10, catalogue.items), dim=-1).indices


def _greedy_hit(
    policy: Policy, params: Params, catalogue: Catalogue, context: Tensor, targets: Tensor
) -> Tensor:
    dtype = next(iter(params.values())).dtype
    with torch.no_grad():
        encoded = policy.encode(params, context.to(dtype).unsqueeze(0))
        item = beam(policy, params, catalogue, encoded, 1)[0].view(-1, 1)
    return (item == targets).any(-1).double()


def _path_logits(
    policy: Policy, params: Params, catalogue: Catalogue, context: Tensor, targets: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Masked logits at every node on the targets' paths and the codes taken, per level:
    `[P, M, K]` and `[P, M]`."""
    dtype = next(iter(params.values())).dtype
    item = targets.clamp(min=0)
    with torch.no_grad():
        encoded = policy.encode(params, context.to(dtype).unsqueeze(0))
        found = []
        for level, here in enumerate(catalogue.levels):
            node = catalogue.path[item, level]
            logits = policy.node_logits(params, encoded, catalogue, level, node.unsqueeze(0))[0]
            masked = logits.masked_fill(~here.allowed[node], -torch.inf)
            found.append((masked, catalogue.codes[item, level]))
    return found


def _hit_at(path: list[tuple[Tensor, Tensor]], targets: Tensor, temperature: float) -> Tensor:
    """Probability that one sample at a temperature is a target, `[P]`."""
    logp = torch.stack(
        [
            torch.log_softmax(logits / temperature, dim=-1).gather(-1, code.unsqueeze(-1))
            for logits, code in path
        ]
    ).sum(0)
    return logp.squeeze(-1).double().exp().masked_fill(targets < 0, 0.0).sum(-1)
