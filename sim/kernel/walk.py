"""The gradient: misses that carry weight are walked down the trie, many at once.

At each level the rollouts of a walker draw their codes together; what they drew is a row of the
gradient, and its children are the walkers of the next level.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.kernel.machine_code import inner
from sim.kernel.nets import backward, encode, encode_backward, fill, forward
from sim.kernel.numbers import draw_codes
from sim.kernel.path import softmax, warm
from sim.kernel.shapes import (
    Array,
    Demand,
    Net,
    NodeArrays,
    PathArrays,
    Rules,
    Scratch,
    TrieArrays,
    Walkers,
)


@inner
def add_kl(
    rows: NodeArrays, i: Any, frozen: NodeArrays, j: Any, kl: Any, estimator: Any, carried: Array
) -> None:
    """Add the KL term of row i to its pull; carried `[K]`: rollouts that drew each code; row j of
    frozen is the same under the reference. The slope is the derivative of the estimate by log p."""
    logits, there, pull = rows.logits, frozen.logits, rows.pull
    offset = np.log(rows.total[i]) - np.log(frozen.total[j])
    for k in range(pull.shape[1]):
        if carried[k]:
            gap = np.float64(logits[i, k] - there[j, k] - offset)
            slope = 1.0
            if estimator == 2:
                slope = gap
            elif estimator == 3:
                slope = 1.0 - np.exp(-gap)
            pull[i, k] += carried[k] * pull.dtype.type(kl * slope)


@inner
def project(rows: NodeArrays, i: Any) -> None:
    """From the derivative by log-probabilities to that by logits."""
    pull, weight = rows.pull, rows.weight
    whole = pull[i, 0]
    for k in range(1, pull.shape[1]):
        whole += pull[i, k]
    whole /= rows.total[i]
    for k in range(pull.shape[1]):
        pull[i, k] -= weight[i, k] * whole


@inner
def look_back(
    reference: Net,
    trie: TrieArrays,
    level: Any,
    rows: NodeArrays,
    a: Any,
    b: Any,
    frozen: NodeArrays,
    s: Scratch,
) -> None:
    """Logits of rows a to b under the reference, at the front of frozen."""
    n, top = b - a, np.int64(0)
    for i in range(n):
        frozen.prompt[i], frozen.place[i] = rows.prompt[a + i], rows.place[a + i]
    forward(reference, s.x, s.frozen, level, frozen, top, n)
    softmax(trie.dead, frozen, top, n)


@inner
def branch(
    found: Array,
    codes: Any,
    follow: Array,
    place: Any,
    prompt: Any,
    worth: Any,
    walkers: Walkers,
    side: Any,
    fresh: Any,
) -> Any:
    """Write down, from `fresh` on, the walkers that drew each code; the next free place."""
    for k in range(codes):
        if found[k]:
            walkers.prompt[side, fresh], walkers.place[side, fresh] = prompt, follow[place, k]
            walkers.number[side, fresh], walkers.worth[side, fresh] = found[k], worth
            fresh += 1
    return fresh


@inner
def along_paths(
    level: Any,
    trie: TrieArrays,
    rules: Rules,
    rows: NodeArrays,
    paths: PathArrays,
    demand: Demand,
    frozen: NodeArrays | None,
    s: Scratch,
    walkers: Walkers,
) -> Any:
    """The pull of one level of the paths, where misses draw the code by which they leave; how many
    walkers of the next level that makes."""
    depth, codes, kind = paths.logp.shape[1], rows.pull.shape[1], rows.pull.dtype.type
    side, fresh = (level + 1) % 2, np.int64(0)
    for i in range(rules.batch):
        row, number = level * rules.batch + i, demand.misses[i, level]
        code, worth = paths.code[row], kind(demand.miss[i, level])
        passed, through = demand.hit[i, level], demand.kl_hits[i]
        for below in range(level + 1, depth):
            passed += demand.misses[i, below] * demand.miss[i, below]
            through += demand.misses[i, below]
        draw_codes(s.stream, number, rows.heat, row, s.cdf, s.point, s.found)
        for k in range(codes):
            rows.pull[row, k] = s.found[k] * worth
            s.carried[k] = s.found[k]
        rows.pull[row, code] += kind(passed)
        s.carried[code] += kind(through)
        if number:
            fresh = branch(
                s.found, codes, trie.follow, rows.place[row], i, worth, walkers, side, fresh
            )
        if frozen is not None:
            add_kl(rows, row, frozen, i, demand.kl[i], rules.estimator, s.carried)
        project(rows, row)
    return fresh


@inner
def off_paths(
    level: Any,
    trie: TrieArrays,
    rules: Rules,
    first: Any,
    n: Any,
    rows: NodeArrays,
    demand: Demand,
    frozen: NodeArrays | None,
    s: Scratch,
    walkers: Walkers,
    fresh: Any,
) -> Any:
    """As `along_paths` for n walkers from `first` on, whose rows are scored; `fresh` are written
    down already."""
    codes, here, side = rows.pull.shape[1], level % 2, (level + 1) % 2
    for i in range(n):
        prompt, number = rows.prompt[i], walkers.number[here, first + i]
        worth = walkers.worth[here, first + i]
        draw_codes(s.stream, number, rows.heat, i, s.cdf, s.point, s.found)
        for k in range(codes):
            rows.pull[i, k] = s.found[k] * worth
            s.carried[k] = s.found[k]
        fresh = branch(
            s.found, codes, trie.follow, rows.place[i], prompt, worth, walkers, side, fresh
        )
        if frozen is not None:
            add_kl(rows, i, frozen, i, demand.kl[prompt], rules.estimator, s.carried)
        project(rows, i)
    return fresh


@inner
def walk(
    net: Net,
    grad: Net,
    reference: Net | None,
    trie: TrieArrays,
    level: Any,
    rules: Rules,
    rows: NodeArrays,
    demand: Demand,
    frozen: NodeArrays | None,
    s: Scratch,
    walkers: Walkers,
    there: Any,
    fresh: Any,
) -> Any:
    """One level of the walkers that are there, some rows at a time: score, draw, gradient."""
    size, here, top = len(rows.total), level % 2, np.int64(0)
    for first in range(0, there, size):
        n = min(size, there - first)
        for i in range(n):
            rows.prompt[i] = walkers.prompt[here, first + i]
            rows.place[i] = walkers.place[here, first + i]
        forward(net, s.x, s.encoded, level, rows, top, n)
        softmax(trie.dead, rows, top, n)
        warm(rows, top, n, rules.temperature)
        if reference is not None and frozen is not None:
            look_back(reference, trie, level, rows, top, n, frozen, s)
        fresh = off_paths(level, trie, rules, first, n, rows, demand, frozen, s, walkers, fresh)
        backward(net, grad, s.x, level, rows, top, n, s.dencoded, s.outer)
    return fresh


@inner
def descend(
    net: Net,
    grad: Net,
    reference: Net | None,
    trie: TrieArrays,
    rules: Rules,
    on_path: NodeArrays,
    paths: PathArrays,
    demand: Demand,
    off_path: NodeArrays,
    frozen: NodeArrays | None,
    s: Scratch,
    walkers: Walkers,
    tally: Array,
) -> None:
    """Add the gradient of one run's step to grad. The walkers end on the side of the parity of the
    depth, at their items."""
    depth, batch, there = paths.logp.shape[1], rules.batch, np.int64(0)
    fill(s.dencoded, 0)
    if reference is not None:
        encode(reference, s.x, s.frozen)
    for level in range(depth):
        a, b = level * batch, (level + 1) * batch
        if reference is not None and frozen is not None:
            look_back(reference, trie, level, on_path, a, b, frozen, s)
        fresh = along_paths(level, trie, rules, on_path, paths, demand, frozen, s, walkers)
        backward(net, grad, s.x, level, on_path, a, b, s.dencoded, s.outer)
        tally[5] += batch + there
        there = walk(
            net, grad, reference, trie, level, rules, off_path, demand, frozen, s, walkers, there,
            fresh,
        )  # fmt: skip
    encode_backward(grad, s.x, s.dencoded, s.outer_input)
