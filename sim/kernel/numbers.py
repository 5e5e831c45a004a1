"""exp, tanh, and draws: what the kernel computes with.

exp and tanh are made here, since the compiler turns them into vector code. Every step of a run has
a stream of its own, uint64 `[2]`: a key, and how many numbers were drawn from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from sim.kernel.machine_code import CONTRACT, inner
from sim.kernel.shapes import Array

BLOCK = 512
"""Uniform numbers that are drawn together, and trials of one binomial by inversion."""


@inner
def power_wide(shifted: Any) -> Any:
    """2^n of 1.5 x 2^52 + n: its last bits are those of n, and are moved to the exponent."""
    bits = np.float64(shifted).view(np.int64) + np.int64(1023)
    return np.int64(bits << np.int64(52)).view(np.float64)


@inner
def power_narrow(shifted: Any) -> Any:
    """2^n of 1.5 x 2^23 + n in float32."""
    bits = np.int32(np.float32(shifted).view(np.int32) + np.int32(127))
    return np.int32(bits << np.int32(23)).view(np.float32)


def exp(x: Any) -> Any:
    """e^x of a number that is not positive, to the last bits; 0 for what is too small.

    Compiled code alone has it; called from Python it raises NotImplementedError."""
    raise NotImplementedError


@overload(exp, jit_options=CONTRACT)  # type: ignore[untyped-decorator]
def _exp_of(x: Any) -> Any:
    """2^n e^r with n a whole number and r small."""
    wide = x == types.float64
    kind: Any = np.float64 if wide else np.float32
    power = power_wide if wide else power_narrow
    least, shift = kind(-708.0 if wide else -87.0), kind(1.5 * 2.0 ** (52 if wide else 23))
    # ln 2 in two parts, the first with so few bits that n times it is exact.
    cut = 32 if wide else 12
    high = kind(np.floor(np.log(2.0) * 2.0**cut) / 2.0**cut)
    low = kind(0.6931471805599453 - float(high) + 2.3190468138462996e-17)
    per = kind(1.4426950408889634)
    factor = np.cumprod([1.0, *range(1, 13)])
    c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12 = (kind(1.0 / f) for f in factor[2:])
    one, zero = kind(1.0), kind(0.0)

    def exp(x: Any) -> Any:
        shifted = x * per + shift
        n = shifted - shift
        r = x - n * high - n * low
        tail = c7
        if wide:
            tail = c7 + r * (c8 + r * (c9 + r * (c10 + r * (c11 + r * c12))))
        middle = c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * tail))))
        found = (one + (r + r * r * middle)) * power(shifted)
        return zero if x < least else found

    return exp


@inner
def tanh(x: Any, one: Any) -> Any:
    """To a few last bits of 1, not of a small result. one: 1 in the type of x; a plain 1 would turn
    it into float64."""
    e = exp(-abs(x + x))
    size = (one - e) / (one + e)
    return -size if x < 0 else size


@inner
def mixed(x: Any) -> Any:
    """A bijection of 64 bits that leaves no pattern. Source: SplitMix64, Steele et al. 2014."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inner
def open_stream(stream: Array, key: Any, step: Any) -> None:
    """The stream of one step of the run whose key this is."""
    stream[0] = mixed(np.uint64(key) ^ mixed(np.uint64(step) + np.uint64(0x9E3779B97F4A7C15)))
    stream[1] = 0


@inner
def uniforms(stream: Array, n: Any, out: Array) -> None:
    """n numbers in [0, 1), multiples of 2^-53."""
    key, drawn = stream[0], stream[1]
    for i in range(n):
        place = drawn + np.uint64(i + 1)
        bits = mixed(key + place * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)
        out[i] = np.float64(np.int64(bits)) * 1.1102230246251565e-16
    stream[1] = drawn + np.uint64(n)


@inner
def binomial(stream: Array, n: Any, p: Any, point: Array) -> Any:
    """Hits of n trials: by inversion, in parts so short that no probability is lost."""
    rare = p if p <= 0.5 else 1.0 - p
    odds, found, left = rare / (1.0 - rare), 0, n
    while left > 0:
        trials = min(left, BLOCK)
        uniforms(stream, np.int64(1), point)
        rest, hits = point[0], 0
        mass = np.exp(trials * np.log1p(-rare))
        while rest >= mass and hits < trials:
            rest -= mass
            mass *= odds * (trials - hits) / (hits + 1)
            hits += 1
        found += hits
        left -= trials
    return found if p <= 0.5 else n - found


@inner
def draw_codes(
    stream: Array, n: Any, weights: Array, row: Any, cdf: Array, point: Array, found: Array
) -> None:
    """Count how many of n draws fall to each code, by the weights of a row `[K]`; never to one
    without weight.

    cdf `[K]` and point `[BLOCK]` are scratch. A draw is below the last bound, since a uniform
    number is below 1. numba checks no index: where a weight is NaN, the first code gets all.
    """
    codes, whole = weights.shape[1], 0.0
    for k in range(codes):
        whole += weights[row, k]
        cdf[k], found[k] = whole, 0
    for start in range(0, n, BLOCK):
        some = min(BLOCK, n - start)
        uniforms(stream, some, point)
        for i in range(some):
            point[i] *= whole
        if some < codes:
            for i in range(some):
                code = 0
                for k in range(codes - 1):
                    code += cdf[k] <= point[i]
                found[code] += 1
        else:
            left = some
            for k in range(codes - 1):
                beyond = 0
                for i in range(some):
                    beyond += cdf[k] <= point[i]
                found[k] += left - beyond
                left = beyond
            found[codes - 1] += left
