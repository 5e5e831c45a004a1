"""The policies: logits of rows, and their gradient.

`encode` is done once per prompt, `forward` and `backward` on rows a to b of one level. Products of
matrices are cut into pieces of at most `SMALL` multiplications, which BLAS does on one thread, with
the same bits wherever operands lie; where one row alone is longer, plain loops do it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.kernel.machine_code import blas, inner
from sim.kernel.numbers import tanh
from sim.kernel.shapes import Array, Net, NodeArrays

SMALL = 200_000
MLP, LOG_LINEAR, TABULAR = 0, 1, 2


@inner
def fill(array: Array, value: Any) -> None:
    """Set all of a matrix."""
    for i in range(array.shape[0]):
        for j in range(array.shape[1]):
            array[i, j] = value


@blas
def times(left: Array, right: Array, a: Any, b: Any, out: Array) -> None:
    """Rows a to b of out = left `[n, p]` @ right `[p, q]`."""
    size = right.shape[0] * right.shape[1]
    if size > SMALL:
        for i in range(a, b):
            for k in range(right.shape[1]):
                out[i, k] = 0
            for j in range(right.shape[0]):
                if left[i, j] != 0:
                    for k in range(right.shape[1]):
                        out[i, k] += left[i, j] * right[j, k]
        return
    piece = SMALL // size
    for start in range(a, b, piece):
        stop = min(start + piece, b)
        np.dot(left[start:stop], right, out[start:stop])


@blas
def add_outer(left: Array, right: Array, a: Any, b: Any, outer: Array, out: Array) -> None:
    """Add left `[n, p]`^T @ right `[n, q]`, of rows a to b, to out `[p, q]`; outer: scratch of that
    shape."""
    size = out.shape[0] * out.shape[1]
    if size > SMALL:
        for i in range(a, b):
            for j in range(out.shape[0]):
                if left[i, j] != 0:
                    for k in range(out.shape[1]):
                        out[j, k] += left[i, j] * right[i, k]
        return
    piece = SMALL // size
    for start in range(a, b, piece):
        stop = min(start + piece, b)
        np.dot(left[start:stop].T, right[start:stop], outer)
        for j in range(out.shape[0]):
            for k in range(out.shape[1]):
                out[j, k] += outer[j, k]


@inner
def encode(net: Net, x: Array, encoded: Array) -> None:
    """What is computed once per prompt, `[B, E]`, of x `[B, D]`."""
    if net.kind != TABULAR:
        times(x, net.input, np.int64(0), np.int64(len(x)), encoded)


@inner
def encode_backward(grad: Net, x: Array, dencoded: Array, outer: Array) -> None:
    """Add the gradient of `encode`, given that on its result `[B, E]`."""
    if grad.kind != TABULAR:
        add_outer(x, dencoded, np.int64(0), np.int64(len(x)), outer, grad.input)


@inner
def forward(
    net: Net, x: Array, encoded: Array, level: Any, rows: NodeArrays, a: Any, b: Any
) -> None:
    """Logits of rows, and hidden for the way back."""
    logits, hidden, codes = rows.logits, rows.hidden, rows.logits.shape[1]
    if net.kind == MLP:
        one = hidden.dtype.type(1)
        for i in range(a, b):
            own, there = rows.prompt[i], rows.place[i]
            for j in range(hidden.shape[1]):
                hidden[i, j] = tanh(encoded[own, j] + net.node[there, j], one)
        times(hidden, net.head[level], a, b, logits)
        for i in range(a, b):
            for k in range(codes):
                logits[i, k] += net.bias[level, k]
    elif net.kind == LOG_LINEAR:
        for i in range(a, b):
            own, there = rows.prompt[i], rows.place[i]
            for k in range(codes):
                logits[i, k] = encoded[own, level * codes + k] + net.node[there, k]
    else:
        for i in range(a, b):
            own, first = rows.prompt[i], rows.place[i] * codes
            for k in range(codes):
                logits[i, k] = 0
            for d in range(x.shape[1]):
                if x[own, d] != 0:
                    for k in range(codes):
                        logits[i, k] += x[own, d] * net.input[d, first + k]


@inner
def backward(
    net: Net,
    grad: Net,
    x: Array,
    level: Any,
    rows: NodeArrays,
    a: Any,
    b: Any,
    dencoded: Array,
    outer: Array,
) -> None:
    """Add the gradient of rows, given that on their logits, to grad and to dencoded `[B, E]`."""
    hidden, pull, inside, codes = rows.hidden, rows.pull, rows.inside, rows.pull.shape[1]
    if net.kind == MLP:
        add_outer(hidden, pull, a, b, outer, grad.head[level])
        times(pull, net.head[level].T, a, b, inside)
        one = hidden.dtype.type(1)
        for i in range(a, b):
            own, there = rows.prompt[i], rows.place[i]
            grad.reached[there] = 1
            for k in range(codes):
                grad.bias[level, k] += pull[i, k]
            for j in range(hidden.shape[1]):
                slope = inside[i, j] * (one - hidden[i, j] * hidden[i, j])
                grad.node[there, j] += slope
                dencoded[own, j] += slope
    elif net.kind == LOG_LINEAR:
        for i in range(a, b):
            own, there = rows.prompt[i], rows.place[i]
            grad.reached[there] = 1
            for k in range(codes):
                grad.node[there, k] += pull[i, k]
                dencoded[own, level * codes + k] += pull[i, k]
    else:
        for i in range(a, b):
            own, first = rows.prompt[i], rows.place[i] * codes
            for d in range(x.shape[1]):
                if x[own, d] != 0:
                    for k in range(codes):
                        grad.input[d, first + k] += x[own, d] * pull[i, k]
