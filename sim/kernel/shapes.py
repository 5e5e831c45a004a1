"""What the kernel works on, as tuples of arrays with names. Shapes as in the package's own text.

T is the precision of the parameters, float32 or float64; the rest is float64 and int64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Net(NamedTuple):
    """Parameters of one run by kind, T. MLP: input `[D, H]`, node `[nodes, H]`, head `[L, H, K]`,
    bias `[L, K]`. LOG_LINEAR: input `[D, L K]`, node `[nodes, K]`. TABULAR: input `[D, nodes K]`.
    What a kind lacks is empty. reached `[nodes]`: see `Flat`."""

    kind: int
    input: Array
    node: Array
    head: Array
    bias: Array
    reached: Array


class Flat(NamedTuple):
    """All parameters of one run, T `[n]`, which those of its `Net` lie in; their gradient, 0
    between steps; and Adam's moments. From `first` on lie rows of `width`, one per node: those that
    no gradient has reached yet (uint8 `[nodes]`) have moments of 0 and stay as they are, so that a
    step costs what its nodes cost, and not what the catalogue has."""

    value: Array
    grad: Array
    mean: Array
    square: Array
    first: int = 0
    width: int = 1
    reached: Array = np.zeros(0, np.uint8)


class TrieArrays(NamedTuple):
    """dead bool `[nodes, K]`: codes without a child; follow `[nodes, K]`: where each code leads, a
    node or at the last level an item; places, codes `[N, L]`: of each item."""

    dead: Array
    follow: Array
    places: Array
    codes: Array


class PromptArrays(NamedTuple):
    """context T `[P, D]`, target `[P]` and the order `[..]` in which an epoch takes them."""

    context: Array
    target: Array
    order: Array


class Rules(NamedTuple):
    """How a run learns. plan: see `sim.kernel.draw`; displaces: an anchor takes a miss's slot;
    weight: of the policy's loss; fixed, per_row, per_active, per_live: what it is divided by;
    kl, estimator: weight of the KL term, and 1 to 3 for k1 to k3; batch B, group G."""

    plan: int
    batch: int
    group: int
    displaces: bool
    temperature: float
    weight: float
    fixed: float
    per_row: float
    per_active: float
    per_live: float
    kl: float
    estimator: int


class NodeArrays(NamedTuple):
    """Nodes in front of prompts. prompt, place `[n]`; hidden and its gradient inside T `[n, H]`;
    logits (less the largest), weight (their exp), heat (sampling weights), pull (derivative of the
    loss, first by log-probabilities, then by logits) T `[n, K]`; total T `[n]`: sum of weight."""

    prompt: Array
    place: Array
    hidden: Array
    inside: Array
    logits: Array
    weight: Array
    heat: Array
    pull: Array
    total: Array


class PathArrays(NamedTuple):
    """Where the targets' paths lead; row l B + b of their rows is level l of prompt b. code
    `[L B]`: the target's, whose heat is 0. logp T `[B, L]`: log-probabilities of the target's codes
    at T = 1, nats; reach `[B, L + 1]`: probability that a rollout gets that far; leave `[B, L]`:
    that it leaves exactly there."""

    code: Array
    logp: Array
    reach: Array
    leave: Array


class Demand(NamedTuple):
    """What a signal asks of each prompt. row `[B]`: of the plan's table; hits `[B]`: as sampled.
    hit `[B, L]`: derivative of the loss by the log-probability of each code of the target, all hits
    and anchors together; misses `[B, L]`: those wanted that leave at each level; miss `[B, L]`:
    the derivative by each code of such a miss; kl `[B]`: coefficient of the KL term per token;
    kl_hits `[B]`: rollouts on the whole path that carry it. Every wanted miss carries it."""

    row: Array
    hits: Array
    hit: Array
    misses: Array
    miss: Array
    kl: Array
    kl_hits: Array


class Walkers(NamedTuple):
    """Misses off their paths: prompt, place (a node, or an item in the end), how many rollouts are
    there, and the weight T of each; room for B G."""

    prompt: Array
    place: Array
    number: Array
    worth: Array


class Scratch(NamedTuple):
    """x T `[B, D]`, target `[B]`; the encoding of prompts, of the reference, and the gradient of
    the former T `[B, E]`; outer T `[H, K]`; cdf, law `[1, 2 L + 2]` and found at least K and
    2 L + 2 long; carried T `[K]`; uniform numbers point `[BLOCK]`; stream uint64 `[2]`."""

    x: Array
    target: Array
    encoded: Array
    frozen: Array
    dencoded: Array
    outer: Array
    outer_input: Array
    cdf: Array
    law: Array
    found: Array
    carried: Array
    point: Array
    stream: Array
