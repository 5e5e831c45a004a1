"""Weights and objectives that are known in closed form, by strategy.

A second derivation, by hand, of what `recast.theory.objective` computes from the code that trains:
each holds for that strategy's own divisor (`Weight.divisor`) and for eps = 0 in its credit, whose
default of 1e-6 moves w by about as much. k ~ Binomial(G, p) and j ~ Binomial(G - 1, p) count hits,
E is the expectation, f(1) = 0. A strategy that picks misses by their structure (a hard negative)
has its positive half here.
Source: the table of weights is this project's derivation from each formula's paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from recast.theory.learnability import binomial_pmf

Form = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class ClosedForm:
    """weight, objective: w and f as functions of p `[P]` in (0, 1) and G, f None where only a limit
    is known; weight_text, objective_text: the same in words."""

    weight_text: str
    weight: Form
    objective_text: str
    objective: Form | None = None


def _mean(p: Tensor, group: int, value: Callable[[Tensor], Tensor]) -> Tensor:
    """E[value(k)], k ~ Binomial(group, p); `[P]`."""
    return binomial_pmf(p, group) @ value(torch.arange(group + 1, dtype=torch.float64))


def _root(p: Tensor, group: int) -> Tensor:
    """E[sqrt(k (G - k))] / (G (1 - p)): GRPO with the population standard deviation."""
    return _mean(p, group, lambda k: (k * (group - k)).sqrt()) / (group * (1 - p))


def _grpo(p: Tensor, group: int) -> Tensor:
    return math.sqrt((group - 1) / group) * _root(p, group)


def _harmonic(p: Tensor, last: int) -> Tensor:
    """Sum over j = 1..last of (1 - p)^j / j."""
    j = torch.arange(1, last + 1, dtype=torch.float64)
    return ((1 - p).unsqueeze(-1) ** j / j).sum(-1)


def _add_gt(p: Tensor, group: int) -> Tensor:
    spread = _mean(p, group - 1, lambda j: ((j + 1) * (group - 1 - j)).sqrt())
    return math.sqrt((group - 1) / group) * spread / (group * (1 - p))


def _visurf(p: Tensor, group: int) -> Tensor:
    grounded = (1 - p) ** (group - 1) * group / math.sqrt(group + 1)
    return (group * _root(p, group) + grounded) / (group + 1)


def _luffy(p: Tensor, group: int) -> Tensor:
    shaped = 0.1 * p / (p + 0.1).square()
    return (group - 1) / group**2 * ((group - 1) * p + (1 - p) * shaped)


def _ngrpo(p: Tensor, group: int) -> Tensor:
    spread = _mean(p, group, lambda k: ((group - k) / (k + 1)).sqrt() * k)
    pulled = _mean(p, group, lambda k: ((group - k) * (k + 1)).sqrt())
    scale = math.sqrt(group / (group + 1)) / group
    return scale * (spread + pulled * p / (1 - p))


def _pass_at_k(p: Tensor, group: int, k: int = 4) -> Tensor:
    fail = [math.comb(group - c, k) / math.comb(group, k) for c in range(group + 1)]
    kept = [math.comb(max(group - c - 1, 0), k - 1) for c in range(group + 1)]
    fail_t = torch.tensor(fail, dtype=torch.float64)
    without = torch.tensor(kept, dtype=torch.float64) / math.comb(group - 1, k - 1)
    sigma = (fail_t * (1 - fail_t)).sqrt()
    live = sigma > 0
    c = torch.arange(group + 1, dtype=torch.float64)
    up, down = (
        torch.where(live, x / torch.where(live, sigma, 1.0), 0.0)
        for x in (c * fail_t, (group - c) * (fail_t - without))
    )
    pmf = binomial_pmf(p, group)
    return (pmf @ up - (pmf @ down) * p / (1 - p)) / group


def _pair(p: Tensor, group: int) -> Tensor:
    return 1 - p**group - (1 - p) ** group


def _repaired(p: Tensor, group: int) -> Tensor:
    return _grpo(p, group) + (1 - 1 / group) / math.sqrt(group) * (1 - p) ** group


def _s_dpo(p: Tensor, group: int, negatives: int = 4, beta: float = 0.1) -> Tensor:
    def margin(k: Tensor) -> Tensor:
        used = (group - k).clamp(max=negatives)
        return used / (1 + used)

    return beta * _mean(p, group, margin) / (1 - p)


def _nemo_loo(p: Tensor, group: int) -> Tensor:
    """Hits and misses over the spread of the others; not divided where the others are alike."""
    n = group - 1

    def over(others: Tensor, gap: Tensor) -> Tensor:
        spread = (others * (n - others) / (n * (n - 1))).sqrt() if n > 1 else 0 * others
        return gap / torch.where(spread > 0, spread, 1.0)

    up = _mean(p, n, lambda j: over(j, 1 - j / n))
    down = _mean(p, n, lambda j: over(j, j / n))
    return p * (up + down)


def _exact_maxrl(p: Tensor, group: int) -> Tensor:
    return 1 - (1 - p) ** 32


def _sft(p: Tensor, group: int) -> Tensor:
    return torch.ones_like(p)


def _log(p: Tensor, group: int) -> Tensor:
    return p.log()


_ARCSIN = "-> 2 arcsin sqrt p as G grows"

CLOSED_FORMS: Mapping[str, ClosedForm] = MappingProxyType(
    {
        "grpo": ClosedForm("sqrt((G-1)/G) E[sqrt(k (G-k))] / (G (1-p))", _grpo, _ARCSIN),
        "greso": ClosedForm("as grpo, every prompt rolled out", _grpo, _ARCSIN),
        "grpo_trl": ClosedForm("as grpo, eps apart", _grpo, _ARCSIN),
        "grpo_population": ClosedForm("E[sqrt(k (G-k))] / (G (1-p))", _root, _ARCSIN),
        "dynamic_sampling": ClosedForm("G x grpo", lambda p, g: g * _grpo(p, g), _ARCSIN),
        "dr_grpo": ClosedForm(
            "(1 - 1/G) p", lambda p, g: (1 - 1 / g) * p, "p", lambda p, g: (1 - 1 / g) * (p - 1)
        ),
        "opo": ClosedForm(
            "(1 - 1/G) p", lambda p, g: (1 - 1 / g) * p, "p", lambda p, g: (1 - 1 / g) * (p - 1)
        ),
        "gpg_authors": ClosedForm(
            "(G - 1) p", lambda p, g: (g - 1) * p, "p", lambda p, g: (g - 1) * (p - 1)
        ),
        "rloo": ClosedForm("p", lambda p, g: p, "p", lambda p, g: p - 1),
        "reinforce": ClosedForm(
            "(1 - 1/(2G)) p at B = 2",
            lambda p, g: (1 - 0.5 / g) * p,
            "p",
            lambda p, g: (1 - 0.5 / g) * (p - 1),
        ),
        "psr": ClosedForm("G p", lambda p, g: g * p, "p", lambda p, g: g * (p - 1)),
        "nsr": ClosedForm("G p", lambda p, g: g * p, "p", lambda p, g: g * (p - 1)),
        "w_reinforce": ClosedForm("1.1 p", lambda p, g: 1.1 * p, "p", lambda p, g: 1.1 * (p - 1)),
        "maxrl": ClosedForm(
            "1 - (1-p)^(G-1)",
            lambda p, g: 1 - (1 - p) ** (g - 1),
            "-sum over j < G of (1-p)^j / j, -> log p",
            lambda p, g: -_harmonic(p, g - 1),
        ),
        "best_of_group": ClosedForm(
            "sqrt(G) p (1-p)^(G-1)",
            lambda p, g: math.sqrt(g) * p * (1 - p) ** (g - 1),
            "Pass@G / sqrt(G)",
            lambda p, g: -((1 - p) ** g) / math.sqrt(g),
        ),
        "pass_at_k": ClosedForm(
            "E[c A+ - (G-c) A- p/(1-p)] / G", _pass_at_k, "-> arcsin sqrt(Pass@k) as G grows"
        ),
        "ngrpo": ClosedForm(
            "E[k sqrt((G-k)/(k+1)) + sqrt((G-k)(k+1)) p/(1-p)] / sqrt(G (G+1))", _ngrpo, _ARCSIN
        ),
        "add_gt": ClosedForm(
            "sqrt((G-1)/G) E[sqrt((j+1)(G-1-j))] / (G (1-p))", _add_gt, "between log p and arcsin"
        ),
        "visurf": ClosedForm(
            "(E[sqrt(k (G-k))] / (1-p) + (1-p)^(G-1) G / sqrt(G+1)) / (G+1)",
            _visurf,
            "between log p and arcsin",
        ),
        "luffy": ClosedForm(
            "(G-1)/G^2 ((G-1) p + (1-p) .1 p/(p+.1)^2)", _luffy, "p plus a bounded push"
        ),
        "repair_only": ClosedForm(
            "grpo + (1-1/G) (1-p)^G / sqrt(G), positive half of the repaired groups",
            _repaired,
            "log p / sqrt(G) while hits are rare, then arcsin",
        ),
        "contrast_only": ClosedForm(
            "1 - p^G - (1-p)^G, positive half",
            _pair,
            "(1 - p^G)/G - sum over j <= G of (1-p)^j / j",
            lambda p, g: (1 - p**g) / g - _harmonic(p, g),
        ),
        "recast": ClosedForm(
            "1 - p^G, positive half",
            lambda p, g: 1 - p**g,
            "log p + (1 - p^G)/G",
            lambda p, g: p.log() + (1 - p**g) / g,
        ),
        "recast_random_negative": ClosedForm(
            "1 - p^G + (1 - p^G - (1-p)^G) p/(1-p)",
            lambda p, g: 1 - p**g + _pair(p, g) * p / (1 - p),
            "log p and more",
        ),
        "dpo": ClosedForm(
            "(beta/2) (1 - p^G) / (1-p), at the reference",
            lambda p, g: 0.05 * (1 - p**g) / (1 - p),
            "beta/2 log(p/(1-p)) while misses are common",
        ),
        "s_dpo": ClosedForm(
            "beta E[m/(1+m)] / (1-p), m = min(4, G-k), at the reference",
            _s_dpo,
            "about beta 4/5 log(p/(1-p))",
        ),
        "chord": ClosedForm(
            ".9 grpo + .1 p (1-p)", lambda p, g: 0.9 * _grpo(p, g) + 0.1 * p * (1 - p), _ARCSIN
        ),
        "sft": ClosedForm("1", _sft, "log p", _log),
        "grpo_sft": ClosedForm(
            "grpo + .1", lambda p, g: _grpo(p, g) + 0.1, "log p / 10 plus that of grpo"
        ),
        "target_power": ClosedForm(
            "p^.25, at the end of the schedule",
            lambda p, g: p**0.25,
            "p^.25 / .25",
            lambda p, g: (p**0.25 - 1) / 0.25,
        ),
        "target_power_hits": ClosedForm(
            "E[((k + .5)/(G + 1))^.25], at the end of the schedule",
            lambda p, g: _mean(p, g, lambda k: ((k + 0.5) / (g + 1)) ** 0.25),
            "close to p^.25 / .25",
        ),
        "pkpo": ClosedForm(
            "4 p (1-p)^3",
            lambda p, g: 4 * p * (1 - p) ** 3,
            "Pass@4",
            lambda p, g: -((1 - p) ** 4),
        ),
        "nemo_loo": ClosedForm(
            "p (E[(1 - j/(G-1)) / s] + E[j/(G-1) / s]), s that of the others, 1 where it is 0",
            _nemo_loo,
            "p while hits are rare, then arcsin",
        ),
        "gce": ClosedForm(
            "p^.25", lambda p, g: p**0.25, "p^.25 / .25", lambda p, g: (p**0.25 - 1) / 0.25
        ),
        "gce_code": ClosedForm(
            "p^.7", lambda p, g: p**0.7, "p^.7 / .7", lambda p, g: (p**0.7 - 1) / 0.7
        ),
        "dft": ClosedForm("p", lambda p, g: p, "p", lambda p, g: p - 1),
        "exact_pass_at_k": ClosedForm(
            "8 p (1-p)^7",
            lambda p, g: 8 * p * (1 - p) ** 7,
            "Pass@8",
            lambda p, g: -((1 - p) ** 8),
        ),
        "exact_maxrl": ClosedForm(
            "1 - (1-p)^32",
            _exact_maxrl,
            "-sum over j <= 32 of (1-p)^j / j",
            lambda p, g: -_harmonic(p, 32),
        ),
        "sft_pg": ClosedForm(
            "1 + p", lambda p, g: 1 + p, "log p + p", lambda p, g: p.log() + p - 1
        ),
        "sft_any": ClosedForm("1", _sft, "log p", _log),
        "bear": ClosedForm(
            "1.125 on the beam's cut, 1 to 1.25 elsewhere",
            lambda p, g: torch.full_like(p, 1.125),
            "1.125 log p on the cut",
            lambda p, g: 1.125 * p.log(),
        ),
    }
)
