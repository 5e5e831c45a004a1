"""Weights and objectives that are known in closed form, by strategy.

A second derivation, by hand, of what `recast.theory.objective` computes from the code that trains:
each holds for that strategy's own divisor (`Weight.divisor`) and for eps = 0 in its credit, whose
default of 1e-6 moves w by about as much. `SYMBOLS` says what stands in them; f(1) = 0. A strategy
that picks misses by their structure (a hard negative) has the pull of its positives alone here.
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
    is known; weight_text, objective_text: the same as Markdown, formulas between dollar signs."""

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


SYMBOLS = (
    r"$p$: chance that one rollout of the prompt hits; $G$: rollouts per group; $E$: mean over "
    r"$k \sim \text{Binomial}(G, p)$, the hits of a group, or over "
    r"$j \sim \text{Binomial}(G-1, p)$, those of a rollout's companions; "
    r"$A_{+}$, $A_{-}$: advantages of a hit and of a miss when a group "
    r"has $k$ hits; $\varepsilon$: what is added to a standard deviation."
)
"""What the letters of `CLOSED_FORMS` stand for, as Markdown."""
_ARCSIN = r"$\to 2\arcsin\sqrt{p}$ as $G$ grows"

CLOSED_FORMS: Mapping[str, ClosedForm] = MappingProxyType(
    {
        "grpo": ClosedForm(
            r"$\sqrt{\frac{G-1}{G}}\,\frac{E\sqrt{k(G-k)}}{G(1-p)}$", _grpo, _ARCSIN
        ),
        "greso": ClosedForm("as `grpo`, every prompt rolled out", _grpo, _ARCSIN),
        "grpo_trl": ClosedForm(r"as `grpo`, but for $\varepsilon$", _grpo, _ARCSIN),
        "grpo_population": ClosedForm(r"$\frac{E\sqrt{k(G-k)}}{G(1-p)}$", _root, _ARCSIN),
        "dynamic_sampling": ClosedForm(r"$G$ times `grpo`", lambda p, g: g * _grpo(p, g), _ARCSIN),
        "dr_grpo": ClosedForm(
            r"$(1-\frac{1}{G})\,p$",
            lambda p, g: (1 - 1 / g) * p,
            "$p$",
            lambda p, g: (1 - 1 / g) * (p - 1),
        ),
        "opo": ClosedForm(
            r"$(1-\frac{1}{G})\,p$",
            lambda p, g: (1 - 1 / g) * p,
            "$p$",
            lambda p, g: (1 - 1 / g) * (p - 1),
        ),
        "gpg_authors": ClosedForm(
            "$(G-1)\\,p$", lambda p, g: (g - 1) * p, "$p$", lambda p, g: (g - 1) * (p - 1)
        ),
        "rloo": ClosedForm("$p$", lambda p, g: p, "$p$", lambda p, g: p - 1),
        "reinforce": ClosedForm(
            r"$(1-\frac{1}{2G})\,p$ at two prompts per batch",
            lambda p, g: (1 - 0.5 / g) * p,
            "$p$",
            lambda p, g: (1 - 0.5 / g) * (p - 1),
        ),
        "psr": ClosedForm("$G\\,p$", lambda p, g: g * p, "$p$", lambda p, g: g * (p - 1)),
        "nsr": ClosedForm("$G\\,p$", lambda p, g: g * p, "$p$", lambda p, g: g * (p - 1)),
        "w_reinforce": ClosedForm(
            "$1.1\\,p$", lambda p, g: 1.1 * p, "$p$", lambda p, g: 1.1 * (p - 1)
        ),
        "maxrl": ClosedForm(
            "$1-(1-p)^{G-1}$",
            lambda p, g: 1 - (1 - p) ** (g - 1),
            r"$-\sum_{j<G}\frac{(1-p)^j}{j} \to \log p$",
            lambda p, g: -_harmonic(p, g - 1),
        ),
        "best_of_group": ClosedForm(
            r"$\sqrt{G}\,p\,(1-p)^{G-1}$",
            lambda p, g: math.sqrt(g) * p * (1 - p) ** (g - 1),
            r"Pass@G / $\sqrt{G}$",
            lambda p, g: -((1 - p) ** g) / math.sqrt(g),
        ),
        "pass_at_k": ClosedForm(
            r"$\frac{1}{G}\,E\left[k A_{+} - (G-k) A_{-}\frac{p}{1-p}\right]$",
            _pass_at_k,
            r"$\to \arcsin\sqrt{\text{Pass@4}}$ as $G$ grows",
        ),
        "ngrpo": ClosedForm(
            r"$\frac{1}{\sqrt{G(G+1)}}\,E\left[k\sqrt{\frac{G-k}{k+1}}"
            r" + \sqrt{(G-k)(k+1)}\,\frac{p}{1-p}\right]$",
            _ngrpo,
            _ARCSIN,
        ),
        "add_gt": ClosedForm(
            r"$\sqrt{\frac{G-1}{G}}\,\frac{E\sqrt{(j+1)(G-1-j)}}{G(1-p)}$",
            _add_gt,
            r"between $\log p$ and $2\arcsin\sqrt{p}$",
        ),
        "visurf": ClosedForm(
            r"$\frac{1}{G+1}\left(\frac{E\sqrt{k(G-k)}}{1-p}"
            r" + \frac{(1-p)^{G-1} G}{\sqrt{G+1}}\right)$",
            _visurf,
            r"between $\log p$ and $2\arcsin\sqrt{p}$",
        ),
        "luffy": ClosedForm(
            r"$\frac{G-1}{G^2}\left((G-1)\,p + (1-p)\frac{.1\,p}{(p+.1)^2}\right)$",
            _luffy,
            "$p$ plus a bounded push",
        ),
        "repair_only": ClosedForm(
            r"that of `grpo` $+\,(1-\frac{1}{G})\frac{(1-p)^G}{\sqrt{G}}$; "
            "pulls alone in repaired groups",
            _repaired,
            r"$\frac{\log p}{\sqrt{G}}$ while hits are rare, then $2\arcsin\sqrt{p}$",
        ),
        "contrast_only": ClosedForm(
            "$1-p^G-(1-p)^G$; pulls alone",
            _pair,
            r"$\frac{1-p^G}{G} - \sum_{j\le G}\frac{(1-p)^j}{j}$",
            lambda p, g: (1 - p**g) / g - _harmonic(p, g),
        ),
        "recast": ClosedForm(
            "$1-p^G$; pulls alone",
            lambda p, g: 1 - p**g,
            r"$\log p + \frac{1-p^G}{G}$",
            lambda p, g: p.log() + (1 - p**g) / g,
        ),
        "recast_random_negative": ClosedForm(
            r"$1-p^G + (1-p^G-(1-p)^G)\frac{p}{1-p}$",
            lambda p, g: 1 - p**g + _pair(p, g) * p / (1 - p),
            r"$\log p$ and more",
        ),
        "dpo": ClosedForm(
            r"$\frac{\beta}{2}\,\frac{1-p^G}{1-p}$, at the reference, $\beta = .1$",
            lambda p, g: 0.05 * (1 - p**g) / (1 - p),
            r"$\frac{\beta}{2}\log\frac{p}{1-p}$ while misses are common",
        ),
        "s_dpo": ClosedForm(
            r"$\frac{\beta}{1-p}\,E\frac{m}{1+m}$, $m = \min(4, G-k)$, at the reference, "
            r"$\beta = .1$",
            _s_dpo,
            r"about $\frac{4\beta}{5}\log\frac{p}{1-p}$",
        ),
        "chord": ClosedForm(
            r".9 times `grpo` $+\,.1\,p\,(1-p)$",
            lambda p, g: 0.9 * _grpo(p, g) + 0.1 * p * (1 - p),
            _ARCSIN,
        ),
        "sft": ClosedForm("$1$", _sft, r"$\log p$", _log),
        "grpo_sft": ClosedForm(
            "that of `grpo` $+\\,.1$",
            lambda p, g: _grpo(p, g) + 0.1,
            r"$\frac{\log p}{10}$ plus that of `grpo`",
        ),
        "target_power": ClosedForm(
            "$p^{.25}$, at the end of the schedule",
            lambda p, g: p**0.25,
            "$p^{.25} / .25$",
            lambda p, g: (p**0.25 - 1) / 0.25,
        ),
        "target_power_hits": ClosedForm(
            r"$E\left(\frac{k+.5}{G+1}\right)^{.25}$, at the end of the schedule",
            lambda p, g: _mean(p, g, lambda k: ((k + 0.5) / (g + 1)) ** 0.25),
            "close to $p^{.25} / .25$",
        ),
        "pkpo": ClosedForm(
            "$4\\,p\\,(1-p)^3$",
            lambda p, g: 4 * p * (1 - p) ** 3,
            "Pass@4",
            lambda p, g: -((1 - p) ** 4),
        ),
        "nemo_loo": ClosedForm(
            r"$p\,E\left[\frac{1}{s}\right]$, $s$ the standard deviation of the other rewards, "
            "1 where it is 0",
            _nemo_loo,
            r"$p$ while hits are rare, then $2\arcsin\sqrt{p}$",
        ),
        "gce": ClosedForm(
            "$p^{.25}$", lambda p, g: p**0.25, "$p^{.25} / .25$", lambda p, g: (p**0.25 - 1) / 0.25
        ),
        "gce_code": ClosedForm(
            "$p^{.7}$", lambda p, g: p**0.7, "$p^{.7} / .7$", lambda p, g: (p**0.7 - 1) / 0.7
        ),
        "dft": ClosedForm("$p$", lambda p, g: p, "$p$", lambda p, g: p - 1),
        "exact_pass_at_k": ClosedForm(
            "$8\\,p\\,(1-p)^7$",
            lambda p, g: 8 * p * (1 - p) ** 7,
            "Pass@8",
            lambda p, g: -((1 - p) ** 8),
        ),
        "exact_maxrl": ClosedForm(
            "$1-(1-p)^{32}$",
            _exact_maxrl,
            r"$-\sum_{j\le 32}\frac{(1-p)^j}{j}$",
            lambda p, g: -_harmonic(p, 32),
        ),
        "sft_pg": ClosedForm(
            "$1+p$", lambda p, g: 1 + p, r"$\log p + p$", lambda p, g: p.log() + p - 1
        ),
        "sft_any": ClosedForm("$1$", _sft, r"$\log p$", _log),
        "bear": ClosedForm(
            "1.125 on the beam's cut, 1 to 1.25 elsewhere",
            lambda p, g: torch.full_like(p, 1.125),
            r"$1.125 \log p$ on the cut",
            lambda p, g: 1.125 * p.log(),
        ),
    }
)
