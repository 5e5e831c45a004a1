"""Exact evaluation: the catalogue is enumerated, so metrics carry no sampling noise.

Pass@1 means the expected hit of one sample, E[p(a target)]. `c_at_k` is C(k): Pass@k at the
temperature that is best for that k on validation users (`sim.target_paths`); `area` is its mean
over k = 1, 2, 4, .. 64. Sharpening alone changes neither. `pass_at_1_matched` is Pass@1 at the
temperature at which mean entropy on validation users equals the start's
(`sim.matched_temperature`), None where no temperature does; `pass_at_1_t050` is Pass@1 at T = .5.
`greedy` is the hit of greedy decoding (the T -> 0 limit of Pass@1), `hr_at_1` of the most probable
item, `beam_pass_at_1` of the top beam of a beam search of width 32.
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
from functools import lru_cache, partial

import torch
from torch import Tensor

from recast.metrics import (
    PASSES,
    entropy,
    hit_probability,
    hit_rate_at_k,
    ndcg_at_k,
    pass_at_k,
    pass_curve,
    recall_at_k,
    regime_shares,
    target_ranks,
    total_variation,
)
from sim.decoding.dead_ends import covered, invalid_share, valid_logp
from sim.decoding.enumerate import Enumeration, Enumerator, item_logp, tree_entropy
from sim.matched_temperature import MATCHING_USERS, matched, mean
from sim.policies.protocol import Params, Policy
from sim.seeds import stream
from sim.settings import Training
from sim.target_paths import target_paths, tuned_temperatures, tuning_users
from sim.worlds.catalogue import Catalogue
from sim.worlds.world import Prompts, World

CHUNK = 256
BEAM = 32
PASS_AT = (2, 4, 8, 16, 32, 64)
TEMPERATURES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 1.2, 1.5, 2.0)
Slices = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Snapshot:
    """R runs at one moment. found: split -> per run {slice: {metric: value}}; temperature `[R]`
    where Pass@1 at matched entropy is read, NaN where none matches; entropy `[R]`, nats, that it
    matches."""

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
    how: Training,
    *,
    full: bool = True,
    matching: Tensor | None = None,
    near: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Snapshot:
    """Evaluate every run; regime shares are those of the groups and the temperature of `how`.

    full: the splits and metrics of the start and the end too. matching `[R]`: entropy at which
    Pass@1 is also read; None = the policy's own, so T = 1. near `[R]`: the temperature at which the
    evaluation before found it.
    """
    params = {name: value.detach().to(dtype) for name, value in params.items()}
    parts, group = _parts(world, how.curve_prompts), how.group
    test = [*parts.curve, *parts.others] if full else parts.curve
    users = parts.matching
    found: dict[str, list[Slices]] = {"test": []}
    if full:
        found |= {"test_all": [], "validation": []}
    temperatures, entropies = [], []
    for run in range(next(iter(params.values())).shape[0]):
        one = {name: value[run : run + 1] for name, value in params.items()}
        enumerate_at = Enumerator(policy, one, world.catalogue)
        logits = enumerate_at(users.context)
        if matching is None:
            wanted, temperature = mean(tree_entropy(logits)), 1.0
        else:
            wanted = float(matching[run])
            temperature = matched(logits, wanted, 1.0 if near is None else float(near[run]))
        temperatures.append(temperature)
        entropies.append(wanted)
        best = tuned_temperatures(policy, one, world.catalogue, parts.tuning)
        heat = _Heat(temperature, how.temperature, best)
        measure = partial(_measure, policy, one, world.catalogue, enumerate_at, heat)
        measured = [measure(chunk, full) for chunk in test]
        found["test"].append(_summary(measured, world.catalogue, heat, group, first=parts.size))
        if full:
            found["test_all"].append(_summary(measured, world.catalogue, heat, group))
            tuning = [
                measure(users, False, logits),
                *(measure(chunk, False) for chunk in parts.rest),
            ]
            found["validation"].append(_summary(tuning, world.catalogue, heat, group))
    held = [torch.tensor(values, dtype=torch.float64) for values in (temperatures, entropies)]
    return Snapshot(found, *held)


@dataclass(frozen=True)
class _Parts:
    """Prompts of a world as `snapshot` takes them: those of learning curves (`size` of them) and
    the other test prompts; validation users to match entropies on, and the rest of them; those
    that temperatures are tuned on."""

    curve: list[Prompts]
    size: int
    others: list[Prompts]
    matching: Prompts
    rest: list[Prompts]
    tuning: Prompts


@lru_cache(maxsize=2)
def _parts(world: World, curve_prompts: int) -> _Parts:
    # The same chunk of curve prompts every time, so that a point of the curve is the same number
    # whether or not the other test prompts are looked at beside it.
    index = _curve_index(world, curve_prompts)
    others = torch.ones(len(world.test), dtype=torch.bool)
    others[index] = False
    held = world.validation
    users = min(MATCHING_USERS, len(held))
    return _Parts(
        list(world.test.take(index).chunks(CHUNK)),
        len(index),
        list(world.test.take(others.nonzero().view(-1)).chunks(CHUNK)),
        held.take(torch.arange(users)),
        list(held.take(torch.arange(users, len(held))).chunks(CHUNK)),
        tuning_users(held),
    )


def _curve_index(world: World, size: int) -> Tensor:
    """Places of the fixed sample of test prompts that learning curves are measured on."""
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

    temperature `[R]`: where `pass_at_1_matched` is read, NaN = nowhere. Regime shares are those of
    i.i.d. groups of width `group` at the temperature `sampled_at`. Metrics of `full` alone are
    None without it; `total_variation` is None where the true preferences are unknown.
    """
    results, users = [], tuning_users(world.validation)
    for run, same in enumerate(temperature.tolist()):
        one = {name: value[run : run + 1] for name, value in params.items()}
        best = tuned_temperatures(policy, one, world.catalogue, users)
        heat = _Heat(same, sampled_at, best)
        enumerate_at = Enumerator(policy, one, world.catalogue)
        measured = [
            _measure(policy, one, world.catalogue, enumerate_at, heat, chunk, full)
            for chunk in prompts.chunks(CHUNK)
        ]
        results.append(_summary(measured, world.catalogue, heat, group))
    return results


FULL_ONLY = (
    *(f"pass_at_1_t{round(100 * t):03d}" for t in TEMPERATURES),
    "beam_pass_at_1",
    f"beam_hit_at_{BEAM}",
    "total_variation",
)


@dataclass(frozen=True)
class _Heat:
    """Temperatures: of matched entropy (NaN = none), of the rollouts, and best for each k."""

    matched: float
    rollouts: float
    best: tuple[float, ...]


@dataclass(frozen=True)
class _Measured:
    """Metrics of each prompt, `[P]` float64 by name, the prompts' slices, and the top ten lists
    `[P, 10]` where asked for; `sampled` is Pass@1 at the temperature of the rollouts."""

    values: dict[str, Tensor]
    slices: Mapping[str, Tensor]
    lists: Tensor | None


def _summary(
    measured: Sequence[_Measured],
    catalogue: Catalogue,
    heat: _Heat,
    group: int,
    first: int | None = None,
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
    for label, mask, prompts, row in zip(labels, masks, count.tolist(), means, strict=True):
        if not prompts:
            continue
        values: dict[str, float | None] = dict(zip(names, row, strict=True))
        del values["sampled"]
        if math.isnan(heat.matched):
            values["pass_at_1_matched"] = None
        if lists is not None:
            values["coverage_at_10"] = covered(lists[mask], catalogue)
        else:
            values |= dict.fromkeys(("coverage_at_10", *FULL_ONLY))
        values.setdefault("total_variation", None)
        values |= {f"temperature_c_at_{k}": t for k, t in zip(PASSES, heat.best, strict=True)}
        found[label] = {"prompts": float(prompts), **values}
    return found


def _measure(
    policy: Policy,
    params: Params,
    catalogue: Catalogue,
    enumerate_at: Enumerator,
    heat: _Heat,
    prompts: Prompts,
    full: bool,
    logits: Enumeration | None = None,
) -> _Measured:
    """Metrics of each prompt. logits: of these prompts, where they are known."""
    targets = prompts.all_targets
    if logits is None:
        logits = enumerate_at(prompts.context)
    logp = item_logp(logits).T
    listed = valid_logp(logp, catalogue)
    ranks = target_ranks(listed, targets)
    paths = target_paths(policy, params, catalogue, prompts)
    p = hit_probability(logp, targets)
    found = {
        **pass_curve(paths.hits(heat.best)),
        "pass_at_1": p,
        "pass_at_1_matched": paths.hit(heat.matched),
        "sampled": p if heat.rollouts == 1.0 else paths.hit(heat.rollouts),
        "greedy": (paths.greedy.unsqueeze(-1) == targets).any(-1).double(),
        **{f"hr_at_{k}": hit_rate_at_k(ranks, k) for k in (1, 5, 10)},
        **{f"recall_at_{k}": recall_at_k(ranks, k) for k in (5, 10, 50)},
        **{f"ndcg_at_{k}": ndcg_at_k(ranks, k) for k in (5, 10)},
        **{f"pass_at_{k}": pass_at_k(p, k) for k in PASS_AT},
        "entropy": entropy(logp).double(),
        **invalid_share(logits, logp, heat.rollouts),
    }
    slices = {"all": torch.ones(len(prompts), dtype=torch.bool), **prompts.slices}
    if not full:
        return _Measured(found, slices, None)
    for t, hit in zip(TEMPERATURES, paths.hits(TEMPERATURES), strict=True):
        found[f"pass_at_1_t{round(100 * t):03d}"] = hit
    beams = target_ranks(item_logp(logits, beam=BEAM).T, targets)
    found["beam_pass_at_1"] = hit_rate_at_k(beams, 1)
    found[f"beam_hit_at_{BEAM}"] = hit_rate_at_k(beams, BEAM)
    if prompts.preference is not None:
        found["total_variation"] = total_variation(
            logp.contiguous().exp_().double(), prompts.preference
        )
    return _Measured(found, slices, listed.topk(min(10, catalogue.items), dim=-1).indices)
