"""What an actor update costs: time, memory, tokens, FLOPs, for chosen strategies and shapes.

Every case runs the real `collect` and `update` on prompts of one length and a made-up catalogue.
Cases of one shape take turns in one process, so that their ratios share the machine's mood. The
update is forward, backward and optimizer step; the KL reference is scored when kl_weight is set.

tokens: what goes through the actor's forward pass. Re-encoded, U rows of a prompt of P tokens and L
codes cost U (P + L - 1); with a shared prefix they cost P + (L - 1) U, which gives the token model
(P + 2 G) / (P + 2 U) for L = 3.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from recast.lm.models import SmallModel, build_small
from recast.lm.optimizer import Adam
from recast.lm.prefix import CausalLM
from recast.lm.signal import Collected, collect
from recast.lm.trainer import roller
from recast.lm.trie import Codes, Trie, build_trie
from recast.lm.update import Job, RLTraining, update
from recast.lm.vocabulary import Vocabulary, small_vocabulary
from recast.strategies import STRATEGIES
from recast.strategy import Strategy

DEPTH, CODEBOOK, ITEMS = 3, 256, 3444
Row = dict[str, str | int | float]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Shapes:
    """The grid: every strategy x group x prompt tokens x micro-batch rows (0 = the whole batch),
    each with prompts re-encoded and with a shared prefix. The first strategy is the baseline."""

    strategies: Sequence[str] = ("grpo", "recast")
    groups: Sequence[int] = (8, 32, 128)
    prompt_tokens: Sequence[int] = (31,)
    micro_rows: Sequence[int] = (0, 64)
    batch: int = 16
    repeats: int = 3
    kl_weight: float = 0.0


@dataclass
class _Case:
    name: str
    strategy: Strategy
    how: RLTraining
    job: Job
    optimizer: Adam
    updates: list[float]
    rollouts: list[float]
    collected: Collected | None = None


def measure(
    shapes: Shapes, shape: SmallModel | None = None, progress: Progress = lambda *_: None
) -> list[Row]:
    """One row per case, seconds (of `clock`) as medians over the repeats.

    Columns: strategy, prefix, group, prompt_tokens, micro_rows, batch, rows, tokens,
    update_seconds, step_seconds, peak_mib, gflop, mfu; ratio (the baseline's update_seconds over
    this one's, same prefix), and likewise token_ratio, step_ratio, memory_ratio; prefix_speedup
    (re-encoded update_seconds over this one's, same strategy). peak_mib: on CUDA the allocator's
    peak; on a CPU the tensors kept for the backward pass of the largest micro-batch plus weights,
    gradient and Adam's moments. gflop: 6 x parameters x tokens, the usual model of a forward and a
    backward pass; mfu: its rate over that of a large matrix product measured here.
    """
    peak_rate = matrix_rate()
    vocabulary = small_vocabulary(DEPTH, CODEBOOK, recent=10_000)
    grid = [
        (group, tokens, micro)
        for tokens in shapes.prompt_tokens
        for group in shapes.groups
        for micro in shapes.micro_rows
    ]
    found: list[Row] = []
    for place, (group, tokens, micro) in enumerate(grid):
        progress(place, len(grid), f"G = {group}, P = {tokens}, micro-batch {micro or 'whole'}")
        cases = [
            _case(name, prefix, group, tokens, micro, shapes, vocabulary, shape or SmallModel())
            for prefix in ("reencoded", "shared")
            for name in shapes.strategies
        ]
        for turn in range(shapes.repeats + 1):
            for case in cases:
                _turn(case, turn)
        found += _rows(cases, group, tokens, micro, shapes, peak_rate)
    progress(len(grid), len(grid), "done")
    return found


def matrix_rate(size: int = 768, seconds: float = 0.2) -> float:
    """FLOP per second, of `clock`, of a large float32 matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    a @ b
    began, count = clock(), 0
    while clock() - began < seconds:
        a @ b
        count += 1
    return 2.0 * size**3 * count / (clock() - began)


def clock() -> float:
    """Processor seconds of this process on a CPU, so that what else runs there does not count; wall
    seconds with a GPU, when its queue is empty."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def token_model(prompt: int, group: int, width: int, depth: int = DEPTH) -> float:
    """(P + (L - 1) G) / (P + (L - 1) U): how many times fewer tokens U rows cost than G, with a
    shared prefix."""
    return (prompt + (depth - 1) * group) / (prompt + (depth - 1) * width)


def made_up(
    tokens: int, batch: int, vocabulary: Vocabulary
) -> tuple[Trie, list[list[Codes]], list[Codes]]:
    """A random catalogue, and the history and target of each of `batch` prompts of at most
    `tokens` tokens."""
    draw = random.Random(0)
    sids = set[Codes]()
    while len(sids) < ITEMS:
        sids.add(tuple(draw.randrange(CODEBOOK) for _ in range(DEPTH)))
    known = sorted(sids)
    items = max(1, (tokens - len(vocabulary.before)) // DEPTH)
    histories = [[draw.choice(known) for _ in range(items)] for _ in range(batch)]
    return build_trie(known), histories, [draw.choice(known) for _ in range(batch)]


def _case(
    name: str,
    prefix: str,
    group: int,
    tokens: int,
    micro: int,
    shapes: Shapes,
    vocabulary: Vocabulary,
    shape: SmallModel,
) -> _Case:
    trie, histories, targets = made_up(tokens, shapes.batch, vocabulary)
    model = build_small(vocabulary, shape, seed=0)
    job = Job(
        model=model,
        reference=build_small(vocabulary, shape, seed=0),
        vocabulary=vocabulary,
        trie=trie,
        prompts=vocabulary.prompts(histories),
        target=torch.tensor(targets),
        evaluation={},
    )
    how = RLTraining(
        batch=shapes.batch,
        group=group,
        micro_rows=micro or 10**9,
        shared_prefix=prefix == "shared",
        kl_weight=shapes.kl_weight,
    )
    optimizer = Adam(dict(model.named_parameters()), lr=1e-6)
    return _Case(name, STRATEGIES[name], how, job, optimizer, [], [])


def _turn(case: _Case, turn: int) -> None:
    """One step; turn 0 warms up and is not counted."""
    job, how = case.job, case.how
    began = clock()
    collected = collect(roller(job, how), case.strategy, turn, {})
    rolled = clock() - began
    case.collected = collected
    # Once untimed: memory that the case before gave back is mapped anew, at the wrong one's cost.
    _update(case)
    began = clock()
    update(job, case.strategy, how, collected, 0.0)
    case.optimizer.step(1e-6, how.clip_norm)
    done = clock()
    if turn:
        case.rollouts.append(rolled)
        case.updates.append(done - began)


def _rows(
    cases: list[_Case], group: int, tokens: int, micro: int, shapes: Shapes, peak_rate: float
) -> list[Row]:
    found: list[Row] = []
    for case in cases:
        parameters = sum(p.numel() for p in case.job.model.parameters())
        assert case.collected is not None
        rows, cost = tokens_of(case.job, case.strategy, case.how, case.collected)
        seconds = statistics.median(case.updates)
        flop = 6.0 * parameters * cost
        found.append(
            {
                "strategy": case.name,
                "prefix": "shared" if case.how.shared_prefix else "reencoded",
                "group": group,
                "prompt_tokens": int(case.job.prompts.length.max()),
                "micro_rows": micro,
                "batch": shapes.batch,
                "rows": rows,
                "tokens": cost,
                "update_seconds": seconds,
                "step_seconds": statistics.median(case.rollouts) + seconds,
                "peak_mib": peak_memory(case.job.model, partial(_update, case)) / 2**20,
                "gflop": flop / 1e9,
                "mfu": flop / seconds / peak_rate,
            }
        )
    for row in found:
        base = next(
            r for r in found if (r["strategy"], r["prefix"]) == (cases[0].name, row["prefix"])
        )
        again = next(
            r for r in found if (r["strategy"], r["prefix"]) == (row["strategy"], "reencoded")
        )
        row["ratio"] = float(base["update_seconds"]) / float(row["update_seconds"])
        row["token_ratio"] = float(base["tokens"]) / float(row["tokens"])
        row["step_ratio"] = float(base["step_seconds"]) / float(row["step_seconds"])
        row["memory_ratio"] = float(base["peak_mib"]) / float(row["peak_mib"])
        row["prefix_speedup"] = float(again["update_seconds"]) / float(row["update_seconds"])
    return found


def _update(case: _Case) -> None:
    assert case.collected is not None
    update(case.job, case.strategy, case.how, case.collected, 0.0)
    case.job.model.zero_grad(set_to_none=True)


def tokens_of(
    job: Job, strategy: Strategy, how: RLTraining, collected: Collected
) -> tuple[int, int]:
    """Rows, and tokens of the actor's forward pass, of one collected batch."""
    signal, length = collected.signal, collected.prompts.length
    extra = int(strategy.learns_from_target)
    width = (signal.rows.sum(-1) if signal is not None else torch.zeros_like(length)) + extra
    depth = job.trie.depth
    used = width > 0
    if how.shared_prefix:
        tokens = (length + (depth - 1) * width)[used]
    else:
        tokens = (width * (length + depth - 1))[used]
    return int(width.sum()), int(tokens.sum())


def peak_memory(model: CausalLM, call: Callable[[], None]) -> float:
    """Bytes at the peak of one update: see `measure`."""
    weights = float(sum(4 * p.numel() * p.element_size() for p in model.parameters()))
    if next(model.parameters()).is_cuda:
        torch.cuda.reset_peak_memory_stats()
        call()
        return float(torch.cuda.max_memory_allocated())
    held: dict[int, int] = {}
    live = peak = 0
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    class Kept:
        """A tensor that waits for the backward pass; its storage is counted once."""

        def __init__(self, tensor: torch.Tensor) -> None:
            nonlocal live, peak
            self.tensor = tensor
            self.key = tensor.untyped_storage().data_ptr()
            if self.key not in own:
                if not held.get(self.key):
                    live += tensor.untyped_storage().nbytes()
                    peak = max(peak, live)
                held[self.key] = held.get(self.key, 0) + 1

        def __del__(self) -> None:
            nonlocal live
            if self.key not in own:
                held[self.key] -= 1
                if not held[self.key]:
                    live -= self.tensor.untyped_storage().nbytes()

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        call()
    return weights + peak
