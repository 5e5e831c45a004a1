"""The targets' paths: L rows per prompt, from which everything else follows."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.kernel.machine_code import inner
from sim.kernel.nets import forward
from sim.kernel.numbers import exp
from sim.kernel.shapes import Array, Net, NodeArrays, PathArrays, Rules, Scratch, TrieArrays


@inner
def exp_rows(x: Array, out: Array, a: Any, b: Any) -> None:
    """exp of rows of contiguous matrices, as one long row, since rows are short."""
    codes = x.shape[1]
    x, out = x.reshape(-1), out.reshape(-1)
    for i in range(a * codes, b * codes):
        out[i] = exp(x[i])


@inner
def softmax(dead: Array, rows: NodeArrays, a: Any, b: Any) -> None:
    """Logits of rows less the largest of each, -inf at dead codes, in place; weight and total."""
    logits, weight, codes = rows.logits, rows.weight, rows.logits.shape[1]
    nothing = logits.dtype.type(-np.inf)
    for i in range(a, b):
        there, top = rows.place[i], nothing
        for k in range(codes):
            logits[i, k] = nothing if dead[there, k] else logits[i, k]
        for k in range(codes):
            top = max(top, logits[i, k])
        for k in range(codes):
            logits[i, k] -= top
    exp_rows(logits, weight, a, b)
    for i in range(a, b):
        whole = weight[i, 0]
        for k in range(1, codes):
            whole += weight[i, k]
        rows.total[i] = whole


@inner
def warm(rows: NodeArrays, a: Any, b: Any, temperature: Any) -> None:
    """Sampling weights of rows: their heat."""
    logits, heat = rows.logits, rows.heat
    degrees = heat.dtype.type(temperature)
    if temperature == 1.0:
        logits, degrees = rows.weight, heat.dtype.type(1)
    for i in range(a, b):
        for k in range(heat.shape[1]):
            heat[i, k] = logits[i, k] / degrees
    if temperature != 1.0:
        exp_rows(heat, heat, a, b)


@inner
def score_paths(
    net: Net, trie: TrieArrays, rules: Rules, rows: NodeArrays, paths: PathArrays, s: Scratch
) -> Any:
    """Score the paths of the targets in scratch s; whether all that follows is finite."""
    batch, depth = rules.batch, paths.logp.shape[1]
    for level in range(depth):
        a, b = level * batch, (level + 1) * batch
        for i in range(batch):
            item = s.target[i]
            rows.prompt[a + i], rows.place[a + i] = i, trie.places[item, level]
            paths.code[a + i] = trie.codes[item, level]
        forward(net, s.x, s.encoded, level, rows, a, b)
        softmax(trie.dead, rows, a, b)
        warm(rows, a, b, rules.temperature)
    return follow(batch, rows, paths)


@inner
def follow(batch: Any, rows: NodeArrays, paths: PathArrays) -> Any:
    """How far rollouts follow the paths; whether all of it is finite. Where it is not, nothing is
    drawn: all follow to the end."""
    depth, codes, heat = paths.logp.shape[1], rows.heat.shape[1], rows.heat
    lost = 0
    for i in range(batch):
        paths.reach[i, 0] = 1.0
        for level in range(depth):
            row = level * batch + i
            code, gone = paths.code[row], 0.0
            stays = np.float64(heat[row, code])
            heat[row, code] = 0
            for k in range(codes):
                gone += heat[row, k]
            paths.logp[i, level] = rows.logits[row, code] - np.log(rows.total[row])
            paths.reach[i, level + 1] = paths.reach[i, level] * (stays / (gone + stays))
            paths.leave[i, level] = paths.reach[i, level] * (gone / (gone + stays))
            lost += not np.isfinite(paths.leave[i, level])
    if lost:
        for i in range(batch):
            for level in range(depth):
                paths.leave[i, level], paths.reach[i, level + 1] = 0.0, 1.0
    return lost == 0
