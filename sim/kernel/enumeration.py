"""The whole catalogue at once, level by level: logits of all children, and what follows from them.

Shapes: a level has n nodes and c children, in order of their parents; first `[n + 1]` says where
the children of each node begin, code `[c]` which code leads to each. Prompts P come last: inner
loops run over them, one `TILE` at a time where what is computed meanwhile has to stay in the cache.
A node with one child costs nothing: it leads there with probability 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.kernel.machine_code import compiled, inner
from sim.kernel.numbers import exp, tanh
from sim.kernel.shapes import Array

TILE = 64
"""Prompts whose hidden units are in memory at once."""


@inner
def hidden_units(wide: Any, left: Array, own: Array, half: Array) -> None:
    """(1 - tanh(x + s)) / 2 of hidden units `[H, TILE]`: 1 / (1 + e^2x e^2s), of left and own as
    `children_of_mlp` has them."""
    for j in range(half.shape[0]):
        shift, one = own[j], half.dtype.type(1)
        x, out = left[j], half[j]
        if wide:
            for p in range(len(out)):
                out[p] = (one - tanh(x[p] + shift, one)) / (one + one)
        else:
            for p in range(len(out)):
                out[p] = one / (x[p] * shift + one)


@inner
def weigh(by: Array, half: Array, out: Array) -> None:
    """Add by `[H]` @ half `[H, TILE]` to out `[TILE]`, four rows in one pass over it."""
    width = len(by)
    whole = width - width % 8
    for j in range(0, whole, 8):
        a, b, c, d = by[j], by[j + 1], by[j + 2], by[j + 3]
        e, f, g, h = by[j + 4], by[j + 5], by[j + 6], by[j + 7]
        q, r, s, t = half[j], half[j + 1], half[j + 2], half[j + 3]
        u, v, w, x = half[j + 4], half[j + 5], half[j + 6], half[j + 7]
        for p in range(len(out)):
            one = a * q[p] + b * r[p] + (c * s[p] + d * t[p])
            out[p] += one + (e * u[p] + f * v[p] + (g * w[p] + h * x[p]))
    for j in range(whole, width):
        h = half[j]
        for p in range(len(out)):
            out[p] += by[j] * h[p]


@compiled
def children_of_mlp(
    wide: Any,
    left: Array,
    own: Array,
    by: Array,
    plus: Array,
    first: Array,
    code: Array,
    tiles: Array,
    row: Array,
    out: Array,
) -> None:
    """Logits `[c, P]` of the children of nodes that have several.

    left `[H, P]`: e^2x of the encoded prompts; own `[n, H]`: e^2s of the nodes; or x and s
    themselves if `wide`, where a product of these could overflow. With tanh = 1 - 2 half, by
    `[K, H]` is -2 times the head and plus `[K]` the bias plus the head's sums. Scratch: tiles
    `[2, H, TILE]`, zeros, and row `[TILE]`.
    """
    x, half = tiles[0], tiles[1]
    for start in range(0, left.shape[1], len(row)):
        some = min(len(row), left.shape[1] - start)
        for j in range(len(x)):
            for p in range(some):
                x[j, p] = left[j, start + p]
        for node in range(len(own)):
            if first[node + 1] - first[node] < 2:
                continue
            hidden_units(wide, x, own[node], half)
            for child in range(first[node], first[node + 1]):
                for p in range(len(row)):
                    row[p] = plus[code[child]]
                weigh(by[code[child]], half, row)
                for p in range(some):
                    out[child, start + p] = row[p]


@inner
def copy(row: Array, out: Array) -> None:
    """An assignment of a row would compile numba's message for a shape that does not fit, which
    takes longer than all else here."""
    for p in range(len(out)):
        out[p] = row[p]


@inner
def scaled(logits: Array, a: Any, b: Any, temperature: Any, top: Array, out: Array) -> None:
    """Rows a to b of logits less the largest of each column, over the temperature, to out; top
    `[P]`: scratch."""
    for p in range(len(top)):
        top[p] = logits[a, p]
    for child in range(a + 1, b):
        row = logits[child]
        for p in range(len(top)):
            top[p] = max(top[p], row[p])
    for child in range(a, b):
        row, to = logits[child], out[child - a]
        for p in range(len(top)):
            to[p] = (row[p] - top[p]) / temperature


@compiled
def descend(
    logits: Array,
    first: Array,
    temperature: Any,
    before: Array,
    shifted: Array,
    sums: Array,
    after: Array,
) -> None:
    """Log-probabilities of children, after `[c, P]`, from those of their parents, before `[n, P]`,
    each code sampled at a temperature. Scratch: shifted `[most children, P]`, sums `[2, P]`."""
    top, total = sums[0], sums[1]
    degrees = total.dtype.type(temperature)
    for node in range(len(before)):
        a, b = first[node], first[node + 1]
        came = before[node]
        if b - a < 2:
            copy(came, after[a])
            continue
        scaled(logits, a, b, degrees, top, shifted)
        for p in range(len(total)):
            total[p] = 0
        for child in range(b - a):
            row = shifted[child]
            for p in range(len(total)):
                total[p] += exp(row[p])
        for p in range(len(total)):
            total[p] = came[p] - np.log(total[p])
        for child in range(a, b):
            row, to = shifted[child - a], after[child]
            for p in range(len(total)):
                to[p] = row[p] + total[p]


@compiled
def entropies(
    logits: Array,
    first: Array,
    temperature: Any,
    last: Any,
    reach: Array,
    change: Array,
    shifted: Array,
    weight: Array,
    sums: Array,
    total: Array,
    slope: Array,
    reached: Array,
    changed: Array,
) -> None:
    """Add a level to entropies over items and their derivatives by log T, total and slope `[P]`.

    reach `[n, P]`: probability of getting to each node, change: its derivative; reached, changed
    `[c, P]`: the same of the children, left as they are at the last level. All but the logits is
    float64. Scratch: shifted, weight `[most children, P]`, sums `[4, P]`.
    """
    top, mass, mean, square = sums[0], sums[1], sums[2], sums[3]
    for node in range(len(reach)):
        a, b = first[node], first[node + 1]
        came, moved = reach[node], change[node]
        if b - a < 2:
            if not last:
                copy(came, reached[a])
                copy(moved, changed[a])
            continue
        scaled(logits, a, b, temperature, top, shifted)
        for p in range(len(mass)):
            mass[p], mean[p], square[p] = 0.0, 0.0, 0.0
        for child in range(b - a):
            s, w = shifted[child], weight[child]
            for p in range(len(mass)):
                w[p] = exp(s[p])
                mass[p] += w[p]
                mean[p] += w[p] * s[p]
                square[p] += w[p] * s[p] * s[p]
        for p in range(len(mass)):
            mean[p] /= mass[p]
            entropy = np.log(mass[p]) - mean[p]
            total[p] += came[p] * entropy
            slope[p] += moved[p] * entropy + came[p] * (square[p] / mass[p] - mean[p] * mean[p])
        if last:
            continue
        for child in range(b - a):
            s, w, to, turn = shifted[child], weight[child], reached[a + child], changed[a + child]
            for p in range(len(mass)):
                share = w[p] / mass[p]
                to[p] = came[p] * share
                turn[p] = moved[p] * share + to[p] * (mean[p] - s[p])


@compiled
def follow(shifted: Array, taken: Array, temperatures: Array, total: Array, logp: Array) -> None:
    """Add to logp `[T, Q]` the log-probability of one code on each of Q paths at T temperatures.

    shifted `[W, Q]`: logits of the children less the largest, -inf where there is none; taken
    `[Q]`: that of the path's own child; total `[Q]`: scratch. All of it is float64.
    """
    for t in range(len(temperatures)):
        degrees, to = temperatures[t], logp[t]
        for q in range(len(total)):
            total[q] = 0.0
        for w in range(len(shifted)):
            row = shifted[w]
            for q in range(len(total)):
                total[q] += exp(row[q] / degrees)
        for q in range(len(total)):
            to[q] += taken[q] / degrees - np.log(total[q])
