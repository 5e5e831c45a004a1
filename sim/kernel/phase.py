"""Optimizer steps on rollouts that are known: the clipped loss of given items, in closed form.

For strategies whose groups are rolled out and judged by the general path, and for several steps per
rollout phase. U rows per prompt reach the actor. Some prompts are looked at together; row
l M + m is level l of the m-th of M items, the targets of a supervised term among them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.kernel.machine_code import compiled, inner
from sim.kernel.nets import backward, encode, encode_backward, fill, forward
from sim.kernel.path import softmax
from sim.kernel.shapes import Array, Flat, Net, NodeArrays, Scratch, TrieArrays
from sim.kernel.step import adam
from sim.kernel.walk import project


class Phase(NamedTuple):
    """Prompts of one phase. context T `[B, D]`, target `[B]`; items `[B, U]`, advantage
    `[B, U, L]` and active bool `[B, U]` of the rows that reach the actor; old `[B, U, L]`: their
    log-probabilities when they were rolled out, nats; estimate `[B]`: of p(target), from hits."""

    context: Array
    target: Array
    items: Array
    advantage: Array
    active: Array
    old: Array
    estimate: Array


class LossTerms(NamedTuple):
    """The loss. fresh: these parameters rolled out, so that every ratio is 1; low, high: the
    ratio's clip; share: the policy's weight over the denominator; kl, estimator: weight of the KL
    term and 1 to 3 for k1 to k3; taught: one over the prompts of the step, 0 without a supervised
    term; the rest is a `recast.stages.supervised.Slope`."""

    fresh: bool
    low: float
    high: float
    share: float
    kl: float
    estimator: int
    taught: float
    weight: float
    power: float
    hits_power: float
    chord: float


class Listed(NamedTuple):
    """The M items that are looked at: prompt (of the phase), slot (row of the prompt, -1 for the
    target), item `[M]`; code `[L M]`; logp `[M, L]`, and under the reference."""

    prompt: Array
    slot: Array
    item: Array
    code: Array
    logp: Array
    reference: Array


@inner
def list_items(phase: Phase, first: Any, last: Any, taught: Any, listed: Listed, s: Scratch) -> Any:
    """Note down the items of prompts first to last, and their features in scratch; how many."""
    n = np.int64(0)
    for b in range(first, last):
        for d in range(s.x.shape[1]):
            s.x[b - first, d] = phase.context[b, d]
        for u in range(phase.items.shape[1] + 1):
            slot = u if u < phase.items.shape[1] else np.int64(-1)
            wanted = taught if slot < 0 else phase.active[b, u]
            if wanted:
                listed.prompt[n], listed.slot[n] = b, slot
                listed.item[n] = phase.target[b] if slot < 0 else phase.items[b, u]
                n += 1
    return n


@inner
def score_items(
    net: Net,
    trie: TrieArrays,
    first: Any,
    n: Any,
    rows: NodeArrays,
    listed: Listed,
    logp: Array,
    encoded: Array,
    s: Scratch,
) -> None:
    """Rows of n items, and their log-probabilities `[n, L]`."""
    for level in range(logp.shape[1]):
        a, b = level * n, (level + 1) * n
        for i in range(n):
            item = listed.item[i]
            rows.prompt[a + i] = listed.prompt[i] - first
            rows.place[a + i] = trie.places[item, level]
            listed.code[a + i] = trie.codes[item, level]
        forward(net, s.x, encoded, level, rows, a, b)
        softmax(trie.dead, rows, a, b)
        for i in range(n):
            logp[i, level] = rows.logits[a + i, listed.code[a + i]] - np.log(rows.total[a + i])


@inner
def look_back(
    reference: Net,
    trie: TrieArrays,
    first: Any,
    n: Any,
    frozen: NodeArrays,
    listed: Listed,
    s: Scratch,
) -> None:
    """Log-probabilities of n items under the reference."""
    encode(reference, s.x, s.frozen)
    score_items(reference, trie, first, n, frozen, listed, listed.reference, s.frozen, s)


@inner
def slope_of(phase: Phase, terms: LossTerms, listed: Listed, i: Any, level: Any) -> Any:
    """Derivative of the loss by one log-probability."""
    prompt, slot, logp = listed.prompt[i], listed.slot[i], np.float64(listed.logp[i, level])
    if slot < 0:
        whole = 0.0
        for every in range(listed.logp.shape[1]):
            whole += listed.logp[i, every]
        p = np.exp(logp)
        taught = terms.weight * np.exp(terms.power * whole)
        taught *= phase.estimate[prompt] ** terms.hits_power
        return -terms.taught * (taught + terms.chord * p * (1 - p))
    ratio = 1.0 if terms.fresh else np.exp(logp - phase.old[prompt, slot, level])
    credit = phase.advantage[prompt, slot, level]
    clipped = min(max(ratio, terms.low), terms.high)
    slope = -ratio * credit if ratio * credit <= clipped * credit else 0.0
    gap = logp - listed.reference[i, level]
    if terms.estimator == 1:
        slope += terms.kl
    elif terms.estimator == 2:
        slope += terms.kl * gap
    elif terms.kl != 0:
        slope += terms.kl * (1.0 - np.exp(-gap))
    return terms.share * slope


@inner
def pull_items(
    net: Net,
    grad: Net,
    phase: Phase,
    terms: LossTerms,
    n: Any,
    rows: NodeArrays,
    listed: Listed,
    s: Scratch,
) -> None:
    """Add the gradient of n scored items."""
    kind, codes = rows.pull.dtype.type, rows.pull.shape[1]
    fill(s.dencoded, 0)
    for level in range(listed.logp.shape[1]):
        a, b = level * n, (level + 1) * n
        for i in range(n):
            for k in range(codes):
                rows.pull[a + i, k] = 0
            rows.pull[a + i, listed.code[a + i]] = kind(slope_of(phase, terms, listed, i, level))
            project(rows, a + i)
        backward(net, grad, s.x, level, rows, a, b, s.dencoded, s.outer)
    encode_backward(grad, s.x, s.dencoded, s.outer_input)


@compiled
def phase_step(
    training: Any,
    flat: Flat,
    net: Net,
    grad: Net,
    reference: Net | None,
    trie: TrieArrays,
    phase: Phase,
    terms: LossTerms,
    first: Any,
    last: Any,
    rows: NodeArrays,
    frozen: NodeArrays | None,
    listed: Listed,
    s: Scratch,
    rate: Any,
    taken: Any,
) -> Any:
    """One optimizer step on prompts first to last of a phase, whether it was sound; or, if not
    training, their old log-probabilities. taken: optimizer steps so far."""
    size = len(s.x)
    for start in range(first, last, size):
        stop = min(start + size, last)
        taught = training and terms.taught > 0
        n = list_items(phase, start, stop, taught, listed, s)
        encode(net, s.x, s.encoded)
        score_items(net, trie, start, n, rows, listed, listed.logp, s.encoded, s)
        if not training:
            for i in range(n):
                for level in range(phase.old.shape[2]):
                    phase.old[listed.prompt[i], listed.slot[i], level] = listed.logp[i, level]
        else:
            if reference is not None and frozen is not None:
                look_back(reference, trie, start, n, frozen, listed, s)
            pull_items(net, grad, phase, terms, n, rows, listed, s)
    if training:
        return adam(flat, rate, taken + 1)
    return True
