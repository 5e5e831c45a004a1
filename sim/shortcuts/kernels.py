"""Machine code for `compiled`, by numba: the target's paths, the walk of misses, Adam.

A run is walked on its own, in pieces of a fixed size, so that its bits do not depend on its
company. exp and tanh are made here, since the compiler turns them into vector code. Sizes come as
arguments, not from other modules: compiled code is kept on disk and only noticed as old when this
file changes.

Shapes: R runs, B prompts, P = R B, L levels, K codes, H hidden units, D features; n rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

CONTRACT: Any = {"fastmath": {"contract"}, "error_model": "numpy"}
"""A multiplication and an addition may be one instruction; sums keep their order."""


def compiled(function: Callable[..., Any]) -> Any:
    """A function in machine code, kept on disk from its first call on where that can be."""
    try:
        return njit(cache=True, **CONTRACT)(function)
    except RuntimeError:
        return njit(**CONTRACT)(function)


@intrinsic  # type: ignore[untyped-decorator]
def _two_to_the(typing: Any, shifted: Any) -> Any:
    """2^n for a whole number n, from 1.5 x 2^m + n, whose last bits are those of n; m: bits of the
    mantissa."""
    bits, bias, mantissa = (64, 1023, 52) if shifted == types.float64 else (32, 127, 23)

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = ir.IntType(bits)
        exponent = builder.add(builder.bitcast(args[0], whole), whole(bias))
        return builder.bitcast(builder.shl(exponent, whole(mantissa)), args[0].type)

    return shifted(shifted), write


def _exp(x: Any) -> Any:
    """e^x of a number that is not positive, to the last bits; 0 for what is too small."""
    raise NotImplementedError


@overload(_exp, jit_options=CONTRACT)  # type: ignore[untyped-decorator]
def _exp_of(x: Any) -> Any:
    kind: Any = np.float64 if x == types.float64 else np.float32
    wide = kind is np.float64
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
        found = (one + (r + r * r * middle)) * _two_to_the(shifted)
        return zero if x < least else found

    return exp


@compiled
def _tanh(x: Any, one: Any) -> Any:
    """To a few last bits of 1, not of a small result. one: 1 in the type of x; a plain 1 would turn
    it into float64."""
    e = _exp(-abs(x + x))
    size = (one - e) / (one + e)
    return -size if x < 0 else size


@compiled
def _hidden(encoded: Any, node: Any, place: Any, prompt: Any, hidden: Any) -> None:
    """tanh of encoded prompt plus node, row by row."""
    one = hidden.dtype.type(1)
    for i in range(len(place)):
        own, there, to = encoded[prompt[i]], node[place[i]], hidden[i]
        for j in range(len(to)):
            to[j] = _tanh(own[j] + there[j], one)


@compiled
def _sum(row: Any) -> Any:
    found = row[0]
    for k in range(1, len(row)):
        found += row[k]
    return found


@compiled
def _exp_all(x: Any, out: Any) -> None:
    """Of contiguous arrays as one long row, since rows are short."""
    x, out = x.reshape(-1), out.reshape(-1)
    for i in range(len(x)):
        out[i] = _exp(x[i])


@compiled
def _softmax(shifted: Any, bias: Any, dead: Any, place: Any, weight: Any, total: Any) -> None:
    """Of some rows of products, in shifted: as in `sim.decoding.shared_tree.Softmax`."""
    nothing = shifted.dtype.type(-np.inf)
    for i in range(len(shifted)):
        row, closed, top = shifted[i], dead[place[i]], nothing
        for k in range(len(row)):
            row[k] = nothing if closed[k] else row[k] + bias[k]
        for k in range(len(row)):
            top = max(top, row[k])
        for k in range(len(row)):
            row[k] -= top
    _exp_all(shifted, weight)
    for i in range(len(weight)):
        total[i] = _sum(weight[i])


@compiled
def _heat(shifted: Any, weight: Any, temperature: Any, heat: Any) -> None:
    """Sampling weights of some rows."""
    if temperature == 1.0:
        heat[:] = weight
        return
    degrees = heat.dtype.type(temperature)
    for i in range(len(shifted)):
        for k in range(shifted.shape[1]):
            heat[i, k] = shifted[i, k] / degrees
    _exp_all(heat, heat)


@compiled
def _draw(uniform: Any, weight: Any, cdf: Any, found: Any) -> None:
    """Count how many uniforms fall to each code, by weight; never to one without weight."""
    whole = 0.0
    for k in range(len(weight)):
        whole += weight[k]
        cdf[k], found[k] = whole, 0
    for u in uniform:
        # Below the last bound in float64, since u is below 1.
        point = u * whole
        code = 0
        for k in range(len(cdf)):
            code += cdf[k] <= point
        # numba checks no index: a NaN must not lead out of the row.
        found[min(code, len(cdf) - 1)] += 1


@compiled
def score(
    encoded: Any,
    node: Any,
    head: Any,
    bias: Any,
    dead: Any,
    places: Any,
    codes: Any,
    target: Any,
    temperature: Any,
    piece: Any,
    place: Any,
    code: Any,
    saved: Any,
    shifted: Any,
    weight: Any,
    total: Any,
    off: Any,
    logp: Any,
    reach: Any,
    leave: Any,
) -> None:
    """Fill the arrays of a `walk.Path`, from place `[R L B]` on, in its order of rows.

    encoded `[P, H]`; node `[R, nodes, H]`, head `[R, L, H, K]`, bias `[R, L, K]`; dead
    `[nodes, K]`; places, codes `[items, L]`; target `[R, B]`; piece: rows of one product. reach
    comes filled with ones.
    """
    runs, prompts = target.shape
    depth = head.shape[1]
    everyone = np.arange(prompts)
    for run in range(runs):
        whose = encoded[run * prompts : (run + 1) * prompts]
        for level in range(depth):
            begin = (run * depth + level) * prompts
            for b in range(prompts):
                place[begin + b] = places[target[run, b], level]
                code[begin + b] = codes[target[run, b], level]
            end = begin + prompts
            _hidden(whose, node[run], place[begin:end], everyone, saved[begin:end])
            for start in range(begin, end, piece):
                stop = min(start + piece, end)
                np.dot(saved[start:stop], head[run, level], shifted[start:stop])
            _softmax(
                shifted[begin:end],
                bias[run, level],
                dead,
                place[begin:end],
                weight[begin:end],
                total[begin:end],
            )
            _heat(shifted[begin:end], weight[begin:end], temperature, off[begin:end])
            for b in range(prompts):
                row, prompt = begin + b, run * prompts + b
                chosen = code[row]
                stays = off[row, chosen]
                off[row, chosen] = 0
                gone = _sum(off[row])
                logp[prompt, level] = shifted[row, chosen] - np.log(total[row])
                reach[prompt, level + 1] = reach[prompt, level] * (stays / (gone + stays))
                leave[prompt, level] = reach[prompt, level] * (gone / (gone + stays))


@compiled
def _backward(
    hidden: Any,
    dlogits: Any,
    head: Any,
    place: Any,
    prompt: Any,
    inside: Any,
    outer: Any,
    g_node: Any,
    g_head: Any,
    g_bias: Any,
    dencoded: Any,
) -> None:
    """Add the gradient of some rows of one run and level."""
    np.dot(hidden.T, dlogits, outer)
    g_head += outer
    one = hidden.dtype.type(1)
    np.dot(dlogits, head.T, inside)
    for i in range(len(place)):
        slope, here, there, back = inside[i], hidden[i], g_node[place[i]], dencoded[prompt[i]]
        for k in range(len(g_bias)):
            g_bias[k] += dlogits[i, k]
        for j in range(len(slope)):
            pull = slope[j] * (one - here[j] * here[j])
            there[j] += pull
            back[j] += pull


@compiled
def _branch(
    drawn: Any,
    children: Any,
    prompt: Any,
    worth: Any,
    after: Any,
    after_weight: Any,
    fresh: Any,
) -> Any:
    """Write down, from place `fresh` on, the walkers that drew each code; return the next place."""
    for k in range(len(drawn)):
        if drawn[k]:
            after[0, fresh], after[1, fresh], after[2, fresh] = prompt, children[k], drawn[k]
            after_weight[fresh] = worth
            fresh += 1
    return fresh


@compiled
def walk(
    context: Any,
    encoded: Any,
    node: Any,
    head: Any,
    bias: Any,
    dead: Any,
    follow: Any,
    path_place: Any,
    path_code: Any,
    path_hidden: Any,
    path_weight: Any,
    path_total: Any,
    off: Any,
    through: Any,
    count: Any,
    miss: Any,
    uniform: Any,
    ends: Any,
    temperature: Any,
    piece: Any,
    input_piece: Any,
    g_input: Any,
    g_node: Any,
    g_head: Any,
    g_bias: Any,
    name_items: Any,
) -> Any:
    """Add the gradient of all runs to g_input `[R, D, H]`, g_node, g_head, g_bias; return prompt,
    item, count and weight of the misses that were walked, if name_items, else four empty arrays.

    context `[R, B, D]`; encoded to dead as in `score`; follow `[nodes, K]`: where each code leads;
    path_place to off: of the `Path`; through `[P, L]`: what goes through the target's codes; count,
    miss `[P, L]`: of the `Demand`; uniform: draws of all runs, those of run r from ends[r] on;
    piece, input_piece: rows of one product with the head, with the input.
    """
    runs, prompts, _ = context.shape
    depth, width, n_codes = head.shape[1:]
    most = 1 + max([count[r * prompts : (r + 1) * prompts].sum() for r in range(runs)])
    # Walkers of this level and of the next: prompt, place, count; weight.
    now, after = np.empty((3, most), np.int64), np.empty((3, most), np.int64)
    now_weight, after_weight = np.empty(most, miss.dtype), np.empty(most, miss.dtype)
    hidden, inside = np.empty((piece, width), head.dtype), np.empty((piece, width), head.dtype)
    logits, dlogits = np.empty((piece, n_codes), head.dtype), np.empty((piece, n_codes), head.dtype)
    outer = np.empty((width, n_codes), head.dtype)
    weight, heat = np.empty((piece, n_codes), head.dtype), np.empty((piece, n_codes), head.dtype)
    total = np.empty(piece, head.dtype)
    cdf, drawn = np.empty(n_codes), np.empty(n_codes, head.dtype)
    kind = head.dtype.type
    on_path = np.empty((prompts, n_codes), head.dtype)
    dencoded = np.empty((prompts, width), head.dtype)
    everyone = np.arange(prompts)
    named = np.empty((3, len(uniform) * int(name_items)), np.int64)
    named_weight = np.empty(named.shape[1], miss.dtype)
    finished = 0
    for run in range(runs):
        at = ends[run]
        dencoded[:] = 0
        whose = encoded[run * prompts : (run + 1) * prompts]
        walkers = 0
        for level in range(depth):
            going = level + 1 < depth or name_items
            fresh = 0
            for start in range(0, walkers, piece):
                n = min(piece, walkers - start)
                prompt, place = now[0, start : start + n], now[1, start : start + n]
                _hidden(whose, node[run], place, prompt, hidden[:n])
                np.dot(hidden[:n], head[run, level], logits[:n])
                _softmax(logits[:n], bias[run, level], dead, place, weight[:n], total[:n])
                _heat(logits[:n], weight[:n], temperature, heat[:n])
                for i in range(n):
                    number, worth = now[2, start + i], now_weight[start + i]
                    _draw(uniform[at : at + number], heat[i], cdf, drawn)
                    at += number
                    share = kind(number) * worth / total[i]
                    for k in range(n_codes):
                        dlogits[i, k] = drawn[k] * worth - weight[i, k] * share
                    if going:
                        fresh = _branch(
                            drawn, follow[place[i]], prompt[i], worth, after, after_weight, fresh
                        )
                _backward(
                    hidden[:n],
                    dlogits[:n],
                    head[run, level],
                    place,
                    prompt,
                    inside[:n],
                    outer,
                    g_node[run],
                    g_head[run, level],
                    g_bias[run, level],
                    dencoded,
                )
            begin = (run * depth + level) * prompts
            for b in range(prompts):
                row, owner = begin + b, run * prompts + b
                number, worth = count[owner, level], miss[owner, level]
                passed = through[owner, level]
                share = (passed + kind(number) * worth) / path_total[row, 0]
                for k in range(n_codes):
                    on_path[b, k] = -path_weight[row, k] * share
                on_path[b, path_code[row]] += passed
                if number:
                    _draw(uniform[at : at + number], off[row], cdf, drawn)
                    at += number
                    for k in range(n_codes):
                        on_path[b, k] += drawn[k] * worth
                    if going:
                        fresh = _branch(
                            drawn, follow[path_place[row]], b, worth, after, after_weight, fresh
                        )
            for start in range(0, prompts, piece):
                stop = min(start + piece, prompts)
                _backward(
                    path_hidden[begin + start : begin + stop],
                    on_path[start:stop],
                    head[run, level],
                    path_place[begin + start : begin + stop],
                    everyone[start:stop],
                    inside[: stop - start],
                    outer,
                    g_node[run],
                    g_head[run, level],
                    g_bias[run, level],
                    dencoded,
                )
            now, after = after, now
            now_weight, after_weight = after_weight, now_weight
            walkers = fresh
        if name_items:
            named[0, finished : finished + walkers] = now[0, :walkers] + run * prompts
            named[1:, finished : finished + walkers] = now[1:, :walkers]
            named_weight[finished : finished + walkers] = now_weight[:walkers]
            finished += walkers
        for start in range(0, prompts, input_piece):
            stop = min(start + input_piece, prompts)
            g_input[run] += np.dot(context[run, start:stop].T, dencoded[start:stop])
    return named[0, :finished], named[1, :finished], named[2, :finished], named_weight[:finished]


@compiled
def adam(
    value: Any,
    grad: Any,
    mean: Any,
    square: Any,
    after: Any,
    rate: Any,
    scale: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
) -> None:
    """One update into after; all but rate `[R]` and numbers are `[R, n]`. rate over the first bias
    correction, scale: one over the root of the second."""
    kind = value.dtype.type
    keep, take = kind(beta1), kind(1 - beta1)
    keep2, take2, scale, eps = kind(beta2), kind(1 - beta2), kind(scale), kind(eps)
    for run in range(len(value)):
        old, new, slope, m, v = value[run], after[run], grad[run], mean[run], square[run]
        lr = kind(rate[run])
        for i in range(len(old)):
            m[i] = keep * m[i] + take * slope[i]
            v[i] = keep2 * v[i] + take2 * slope[i] * slope[i]
            new[i] = old[i] - lr * m[i] / (np.sqrt(v[i]) * scale + eps)
