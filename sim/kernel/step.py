"""One run's training: several steps in one call, or the two halves of one step.

Nothing here knows of another run, so that no other run can change a run's bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.kernel.draw import ask, supervise
from sim.kernel.machine_code import compiled, inner
from sim.kernel.nets import encode
from sim.kernel.numbers import open_stream
from sim.kernel.path import score_paths
from sim.kernel.shapes import (
    Array,
    Demand,
    Flat,
    Net,
    NodeArrays,
    PathArrays,
    PromptArrays,
    Rules,
    Scratch,
    TrieArrays,
    Walkers,
)
from sim.kernel.walk import descend

KEEP, KEEP_SQUARE, EPS = 0.9, 0.999, 1e-8
LARGEST = 1e15
"""A parameter beyond this, or not a number, has diverged."""


@inner
def move(flat: Flat, a: Any, b: Any, lr: Any, scale: Any) -> Any:
    """Where numbers a to b go, written to their gradient; how many would not be sound."""
    value, grad = flat.value[a:b], flat.grad[a:b]
    mean, square = flat.mean[a:b], flat.square[a:b]
    kind = value.dtype.type
    keep, take = kind(KEEP), kind(1 - KEEP)
    keep2, take2 = kind(KEEP_SQUARE), kind(1 - KEEP_SQUARE)
    eps, limit, wrong = kind(EPS), kind(LARGEST), 0
    for i in range(len(value)):
        slope = grad[i]
        mean[i] = keep * mean[i] + take * slope
        square[i] = keep2 * square[i] + take2 * slope * slope
        grad[i] = value[i] - lr * mean[i] / (np.sqrt(square[i]) * scale + eps)
        wrong += not (abs(grad[i]) <= limit)
    return wrong


@inner
def settle(flat: Flat, a: Any, b: Any, sound: Any) -> None:
    """Take numbers a to b from their gradient, if that is sound, and clear it."""
    value, grad = flat.value[a:b], flat.grad[a:b]
    for i in range(len(value)):
        if sound:
            value[i] = grad[i]
        grad[i] = 0


@inner
def stretch(reached: Array, row: Any) -> Any:
    """The next rows in succession that were reached, from one on and up to another."""
    while row < len(reached) and not reached[row]:
        row += 1
    end = row
    while end < len(reached) and reached[end]:
        end += 1
    return row, end


@inner
def adam(flat: Flat, rate: Any, steps: Any) -> Any:
    """One update of a run's parameters, unless one of them would not be sound: whether all are.
    The gradient is 0 afterwards. steps: with this one. Source: arXiv 1412.6980."""
    kind, start, width = flat.value.dtype.type, flat.first, flat.width
    lr, scale = kind(rate / (1 - KEEP**steps)), kind((1 - KEEP_SQUARE**steps) ** -0.5)
    rows, end = np.int64(len(flat.reached)), np.int64(len(flat.value))
    last = start + rows * width
    wrong = move(flat, np.int64(0), start, lr, scale) + move(flat, last, end, lr, scale)
    a, b = stretch(flat.reached, np.int64(0))
    while a < rows:
        wrong += move(flat, start + a * width, start + b * width, lr, scale)
        a, b = stretch(flat.reached, b)
    settle(flat, np.int64(0), start, wrong == 0)
    settle(flat, last, end, wrong == 0)
    a, b = stretch(flat.reached, np.int64(0))
    while a < rows:
        settle(flat, start + a * width, start + b * width, wrong == 0)
        a, b = stretch(flat.reached, b)
    return wrong == 0


@inner
def begin(
    net: Net,
    trie: TrieArrays,
    prompts: PromptArrays,
    rules: Rules,
    on_path: NodeArrays,
    paths: PathArrays,
    s: Scratch,
    key: Any,
    step: Any,
    place: Any,
) -> Any:
    """Take the prompts of a step, those at `place` in their order, and score their targets' paths;
    whether what they give is sound."""
    open_stream(s.stream, key, step)
    for i in range(rules.batch):
        prompt = prompts.order[place * rules.batch + i]
        s.target[i] = prompts.target[prompt]
        for d in range(s.x.shape[1]):
            s.x[i, d] = prompts.context[prompt, d]
    encode(net, s.x, s.encoded)
    return score_paths(net, trie, rules, on_path, paths, s)


SCORE, TRAIN, GIVEN_TRAIN = range(3)
"""What `run_steps` does: score the paths of a step; several steps; and one whose paths are scored
and whose demand the caller has filled in."""


@compiled
def run_steps(
    task: Any,
    flat: Flat,
    net: Net,
    grad: Net,
    reference: Net | None,
    trie: TrieArrays,
    prompts: PromptArrays,
    rules: Rules,
    table: Array,
    slopes: Array,
    on_path: NodeArrays,
    paths: PathArrays,
    demand: Demand,
    off_path: NodeArrays,
    frozen: NodeArrays | None,
    s: Scratch,
    walkers: Walkers,
    key: Any,
    rate: Any,
    first: Any,
    place: Any,
    taken: Any,
    tally: Array,
) -> Any:
    """Steps first, first + 1, ... of one run, one per row of slopes `[steps, 4]`; how many were
    sound: the first that is not is the last, and changes no parameter. SCORE returns 1 for a sound
    one. taken: optimizer steps so far; place: of the first step's prompts in their order; tally
    `[TALLIES]` is added to.
    """
    for i in range(len(slopes)):
        sound = True
        if task != GIVEN_TRAIN:
            sound = begin(net, trie, prompts, rules, on_path, paths, s, key, first + i, place + i)
        if task == SCORE:
            return int(sound)
        ask(paths, rules, table, demand, s, tally)
        supervise(slopes, i, paths, rules, demand)
        descend(
            net, grad, reference, trie, rules, on_path, paths, demand, off_path, frozen, s,
            walkers, tally,
        )  # fmt: skip
        if not sound:
            return i
        if not adam(flat, rate, taken + i + 1):
            return i
    return len(slopes)
