"""Exact evaluation: the catalogue is enumerated, so metrics carry no sampling noise.

Pass@1 means the expected hit of one sample, E[p(a target)]; `pass_at_1_matched` is its value at
the temperature at which mean entropy on validation users equals the start's; `pass_at_1_t050` its
value at T = .5. `greedy` is the hit of greedy decoding (the T -> 0 limit of Pass@1), `hr_at_1` of
the most probable item, `beam_pass_at_1` of the top beam of a beam search of width 32.
Metrics are computed in float32 (relative error about 1e-6) unless told otherwise.

With free decoding (`sim.worlds.free_decoding`) Pass@k, greedy and beams face the dead ends as well,
`invalid_share` is the chance that a rollout ends in one, and lists of the most probable items hold
items alone.

Splits: `test` is a fixed sample of the test prompts, the same at every evaluation; `test_all` is
all of them and `validation` the tuning prompts, both at the start and at the end only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
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
from sim.decoding.dead_ends import covered, invalid_share, valid_logp
from sim.decoding.enumerate import (
    Enumeration,
    entropy_and_slope,
    enumerate_logits,
    item_logp,
    tree_entropy,
)
from sim.policies.protocol import Params, Policy
from sim.seeds import stream
from sim.worlds.catalogue import Catalogue
from sim.worlds.world import Prompts, World

CHUNK = 256
MATCHING_USERS = 64
CLOSE = 0.03
"""A Newton step on log T shorter than this is the last: the next would be about its square."""
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
    near: Tensor | None = None,
    sampled_at: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Snapshot:
    """Evaluate every run. curve_prompts: size of the `test` sample, 0 = all test prompts.

    full: the splits and metrics of the start and the end too. matching `[R]`: entropy at which
    Pass@1 is also read; None = the policy's own, so T = 1. near `[R]`: the temperature at which the
    evaluation before found it. sampled_at: temperature of the rollouts, to which the regime shares
    belong.
    """
    params = {name: value.detach().to(dtype) for name, value in params.items()}
    index = _curve_index(world, curve_prompts)
    # The same chunk of curve prompts every time, so that a point of the curve is the same number
    # whether or not the other test prompts are looked at beside it.
    test = list(world.test.take(index).chunks(CHUNK))
    users = world.validation.take(torch.arange(min(MATCHING_USERS, len(world.validation))))
    validation = [users]
    if full:
        others = torch.ones(len(world.test), dtype=torch.bool)
        others[index] = False
        test += world.test.take(others.nonzero().view(-1)).chunks(CHUNK)
        rest = torch.arange(len(users), len(world.validation))
        validation += world.validation.take(rest).chunks(CHUNK)
    found: dict[str, list[Slices]] = {"test": []}
    if full:
        found |= {"test_all": [], "validation": []}
    temperatures, entropies = [], []
    for run in range(next(iter(params.values())).shape[0]):
        one = {name: value[run : run + 1] for name, value in params.items()}
        logits = enumerate_logits(policy, one, world.catalogue, users.context)
        if matching is None:
            wanted, temperature = _mean(tree_entropy(logits)), 1.0
        else:
            wanted = float(matching[run])
            temperature = _matched(logits, wanted, 1.0 if near is None else float(near[run]))
        temperatures.append(temperature)
        entropies.append(wanted)
        measure = partial(_measure, policy, one, world.catalogue, (temperature, sampled_at))
        measured = [measure(chunk, full) for chunk in test]
        found["test"].append(_summary(measured, world.catalogue, group, first=len(index)))
        if full:
            found["test_all"].append(_summary(measured, world.catalogue, group))
            tuning = [measure(users, False, logits), *(measure(c, False) for c in validation[1:])]
            found["validation"].append(_summary(tuning, world.catalogue, group))
    held = [torch.tensor(values, dtype=torch.float64) for values in (temperatures, entropies)]
    return Snapshot(found, *held)


def curve_sample(world: World, size: int) -> Prompts:
    """The fixed sample of test prompts that learning curves are measured on."""
    return world.test.take(_curve_index(world, size))


def _curve_index(world: World, size: int) -> Tensor:
    total = len(world.test)
    if not 0 < size < total:
        return torch.arange(total)
    return torch.from_numpy(stream(0, f"curve/{total}").permutation(total)[:size]).sort().values


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
    for run, matched in enumerate(temperature.tolist()):
        one = {name: value[run : run + 1] for name, value in params.items()}
        measured = [
            _measure(policy, one, world.catalogue, (matched, sampled_at), chunk, full)
            for chunk in prompts.chunks(CHUNK)
        ]
        results.append(_summary(measured, world.catalogue, group))
    return results


FULL_ONLY = (
    *(f"pass_at_1_t{round(100 * t):03d}" for t in TEMPERATURES),
    "beam_pass_at_1",
    f"beam_hit_at_{BEAM}",
    "total_variation",
)


def matched_temperature(
    policy: Policy,
    params: Params,
    world: World,
    entropy: Tensor,
    users: int = MATCHING_USERS,
    near: Tensor | None = None,
) -> Tensor:
    """Temperature `[R]` at which mean entropy on validation users equals `entropy` `[R]`, nats.

    near `[R]`: where to look first, 1 by default. Newton's method on log T with the exact slope,
    kept inside a bracket, to about a part in a thousand; inside [1/16, 16], the nearest end where
    no T there reaches the request, and 1 where the entropy is not a number.
    """
    found = []
    context = world.validation.context[:users]
    for run in range(entropy.shape[0]):
        one = {name: value[run : run + 1] for name, value in params.items()}
        logits = enumerate_logits(policy, one, world.catalogue, context)
        start = 1.0 if near is None else float(near[run])
        found.append(_matched(logits, float(entropy[run]), start))
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


def _matched(logits: Enumeration, wanted: float, near: float) -> float:
    """Temperature at which mean entropy is `wanted`; see `matched_temperature`."""
    end = math.log(16.0)
    low, high = -end, end
    here = min(max(math.log(near), low), high)
    looked = set()
    for _ in range(60):
        looked.add(here)
        entropy, slope = (_mean(x) for x in entropy_and_slope(logits, math.exp(here)))
        gap = entropy - wanted
        if not math.isfinite(gap):
            return 1.0
        if abs(gap) < 1e-6 or high - low < 1e-4:
            break
        if gap > 0:
            high = here
        else:
            low = here
        if low == high:
            break
        step = -gap / slope if math.isfinite(slope) and slope > 0 else math.copysign(end, -gap)
        after = here + step
        if not low < after < high:
            # Out of the bracket: to an end that nobody has looked at, else halfway.
            after = high if step > 0 else low
            after = after if abs(after) == end and after not in looked else (low + high) / 2
        step, here = after - here, after
        if abs(step) < CLOSE:
            break
    return math.exp(here)


@dataclass(frozen=True)
class _Measured:
    """Metrics of each prompt, `[P]` float64 by name, the prompts' slices, and the top ten lists
    `[P, 10]` where asked for; `sampled` is Pass@1 at the temperature of the rollouts."""

    values: dict[str, Tensor]
    slices: Mapping[str, Tensor]
    lists: Tensor | None


def _summary(
    measured: Sequence[_Measured], catalogue: Catalogue, group: int, first: int | None = None
) -> Slices:
    """Means over each slice that has prompts. first: of so many prompts, without what only all of
    them are asked for."""
    full = first is None and measured[0].lists is not None
    names = [name for name in measured[0].values if full or name not in FULL_ONLY]
    table = torch.stack([torch.cat([m.values[name] for m in measured]) for name in names])
    labels = list(measured[0].slices)
    masks = torch.stack([torch.cat([m.slices[label] for m in measured]) for label in labels])
    table, masks = table[:, :first], masks[:, :first]
    regimes = regime_shares(table[names.index("sampled")], group)
    table = torch.cat([table, torch.stack(list(regimes.values()))])
    names += regimes
    count = masks.sum(1)
    means = (table @ masks.double().T / count).T.tolist()
    lists = torch.cat([m.lists for m in measured if m.lists is not None]) if full else None
    found: Slices = {}
    for label, mask, prompts, mean in zip(labels, masks, count.tolist(), means, strict=True):
        if not prompts:
            continue
        values: dict[str, float | None] = dict(zip(names, mean, strict=True))
        del values["sampled"]
        if lists is not None:
            values["coverage_at_10"] = covered(lists[mask], catalogue)
        else:
            values |= dict.fromkeys(("coverage_at_10", *FULL_ONLY))
        values.setdefault("total_variation", None)
        found[label] = {"prompts": float(prompts), **values}
    return found


def _measure(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    temperatures: tuple[float, float],
    prompts: Prompts,
    full: bool,
    logits: Enumeration | None = None,
) -> _Measured:
    """Metrics of each prompt. temperatures: of matched entropy and of the rollouts; logits: of
    these prompts, where they are known."""
    targets = prompts.all_targets
    if logits is None:
        logits = enumerate_logits(policy, params, catalogue, prompts.context)
    logp = item_logp(logits).T
    listed = valid_logp(logp, catalogue)
    ranks = target_ranks(listed, targets)
    path, greedy = _paths(policy, params, catalogue, prompts.context, targets)
    p = hit_probability(logp, targets)
    found = {
        "pass_at_1": p,
        "pass_at_1_matched": _hit_at(path, targets, temperatures[0]),
        "sampled": p if temperatures[1] == 1.0 else _hit_at(path, targets, temperatures[1]),
        "greedy": (greedy.unsqueeze(-1) == targets).any(-1).double(),
        **{f"hr_at_{k}": hit_rate_at_k(ranks, k) for k in (1, 5, 10)},
        **{f"recall_at_{k}": recall_at_k(ranks, k) for k in (5, 10, 50)},
        **{f"ndcg_at_{k}": ndcg_at_k(ranks, k) for k in (5, 10)},
        **{f"pass_at_{k}": pass_at_k(p, k) for k in PASS_AT},
        "entropy": entropy(logp).double(),
        **invalid_share(logits, logp, temperatures[1]),
    }
    slices = {"all": torch.ones(len(prompts), dtype=torch.bool), **prompts.slices}
    if not full:
        return _Measured(found, slices, None)
    for t in TEMPERATURES:
        found[f"pass_at_1_t{round(100 * t):03d}"] = _hit_at(path, targets, t)
    beams = target_ranks(item_logp(logits, beam=BEAM).T, targets)
    found["beam_pass_at_1"] = hit_rate_at_k(beams, 1)
    found[f"beam_hit_at_{BEAM}"] = hit_rate_at_k(beams, BEAM)
    if prompts.preference is not None:
        found["total_variation"] = total_variation(logp.exp().double(), prompts.preference)
    return _Measured(found, slices, listed.topk(min(10, catalogue.items), dim=-1).indices)


def _paths(
    policy: Policy, params: Params, catalogue: Catalogue, context: Tensor, targets: Tensor
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """What lies on the targets' paths, per level: logits of the children less the largest
    `[P, M, W]`, dead = -inf, and those of the codes taken `[P, M]`; the item of greedy decoding
    `[P]`."""
    dtype = next(iter(params.values())).dtype
    item = targets.clamp(min=0)
    greedy = torch.zeros(len(targets), 1, dtype=torch.int64)
    with torch.no_grad():
        encoded = policy.encode(params, context.to(dtype).unsqueeze(0))
        found = []
        for level, here in enumerate(catalogue.levels):
            node = torch.cat([catalogue.path[item, level], greedy], 1)
            logits = policy.node_logits(params, encoded, catalogue, level, node.unsqueeze(0))[0]
            # The children's codes alone, in ascending order, dead slots last.
            code, live = here.code[node], here.mask[node]
            logits = logits.gather(-1, code).masked_fill_(~live, -torch.inf)
            before = code[:, :-1] < catalogue.codes[item, level].unsqueeze(-1)
            slot = (before & live[:, :-1]).sum(-1, keepdim=True)
            shifted = logits[:, :-1] - logits[:, :-1].amax(-1, keepdim=True)
            found.append((shifted, shifted.gather(-1, slot).squeeze(-1)))
            greedy = here.child[greedy, logits[:, -1].argmax(-1, keepdim=True)]
    return found, greedy.squeeze(1)


def _hit_at(path: list[tuple[Tensor, Tensor]], targets: Tensor, temperature: float) -> Tensor:
    """Probability that one sample at a temperature is a target, `[P]`."""
    logp = torch.zeros(targets.shape, dtype=path[0][0].dtype)
    for shifted, taken in path:
        logp += taken / temperature - (shifted / temperature).exp_().sum(-1).log_()
    return logp.double().exp().masked_fill(targets < 0, 0.0).sum(-1)
