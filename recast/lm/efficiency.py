"""What an actor update costs: time, memory, tokens, FLOPs, for chosen strategies and shapes.

Every case runs the real `collect` and `update` on prompts of one length and a made-up catalogue.
Cases of one shape take turns on one model in one process: whatever slows the machine down for a
while slows all of them, and their ratios stay. The update is forward, backward and optimizer step;
the KL reference is scored when kl_weight is set.

tokens: what goes through the actor's forward pass. Re-encoded, U rows of a prompt of P tokens and L
codes cost U (P + L - 1); with a shared prefix they cost P + (L - 1) U, which gives the token model
(P + 2 G) / (P + 2 U) for L = 3.
"""

from __future__ import annotations

import copy
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from recast.items import Codes
from recast.lm.architectures import random_model
from recast.lm.device import CPU, Placement, card_peak, clock, matrix_rate
from recast.lm.flops import token_counts, update_flops
from recast.lm.memory import TrainedPart, peak_memory
from recast.lm.models import SmallModel, build_small
from recast.lm.optimizer import AdamW, Sgd
from recast.lm.prefix import CausalLM
from recast.lm.signal import RolloutPhase, collect
from recast.lm.trainer import roller
from recast.lm.trie import Trie, build_trie
from recast.lm.update import RLSetup, RLTraining, update
from recast.lm.vocabulary import Vocabulary, small_vocabulary
from recast.progress import Progress
from recast.strategies import parse_strategy
from recast.strategy import Strategy

DEPTH, CODEBOOK, ITEMS = 3, 256, 3444
SMALL = "small"
TimingRow = dict[str, str | int | float]


@dataclass(frozen=True)
class Shapes:
    """The grid: every strategy x group x prompt tokens x micro-batch rows (0 = the whole batch),
    each with prompts re-encoded and with a shared prefix. The first strategy is the baseline.
    micro_tokens: micro-batches of so many tokens instead, 0 = by rows."""

    strategies: Sequence[str] = ("grpo", "recast")
    groups: Sequence[int] = (8, 32, 128)
    prompt_tokens: Sequence[int] = (31,)
    micro_rows: Sequence[int] = (0, 64)
    batch: int = 16
    repeats: int = 3
    kl_weight: float = 0.0
    micro_tokens: int = 0


@dataclass(frozen=True)
class Rig:
    """What every case of a measurement shares. peak: FLOP per second that MFU is a share of, the
    card's by its data sheet where it is known, a large matrix product's measured here otherwise."""

    model: CausalLM
    reference: CausalLM
    vocabulary: Vocabulary
    codebook: int
    items: int
    optimizer: AdamW | Sgd
    device: torch.device
    peak: float


@dataclass
class TimedStrategy:
    """One strategy at one shape, and the seconds of its turns."""

    rig: Rig
    name: str
    strategy: Strategy
    how: RLTraining
    setup: RLSetup
    collected: RolloutPhase | None = None
    updates: list[float] = field(default_factory=list)
    rollouts: list[float] = field(default_factory=list)


def make_rig(
    placement: Placement = CPU,
    model: str = SMALL,
    shape: SmallModel | None = None,
    *,
    codebook: int = CODEBOOK,
    items: int = ITEMS,
    optimizer: TrainedPart = "adam",
    kl: bool = False,
) -> Rig:
    """A model with random weights on its device. model: `small`, or a name or folder that
    `random_model` takes; optimizer: adam or sgd. Raises LMError, one line."""
    if model == SMALL:
        vocabulary = small_vocabulary(DEPTH, codebook, recent=1_000_000)
        policy = build_small(vocabulary, shape or SmallModel(), 0, placement)
    else:
        policy, vocabulary = random_model(
            model, DEPTH, codebook, placement, optimizer=optimizer, copies=int(kl)
        )
    named = dict(policy.named_parameters())
    measured = card_peak(placement.device) if placement.dtype == torch.bfloat16 else None
    return Rig(
        model=policy,
        reference=copy.deepcopy(policy).requires_grad_(False) if kl else policy,
        vocabulary=vocabulary,
        codebook=codebook,
        items=items,
        optimizer=AdamW(named, lr=RATE) if optimizer == "adam" else Sgd(named),
        device=placement.device,
        peak=measured or matrix_rate(placement.device, placement.dtype),
    )


RATE = 0.0
"""The optimizer works in full and moves nothing: every turn and case meets the same policy. Any
rate above 0 teaches a random policy its few prompts within tens of turns, and its groups change."""


def measure(rig: Rig, shapes: Shapes, progress: Progress = lambda *_: None) -> list[TimingRow]:
    """One row per case, seconds (of `clock`) as medians over the repeats.

    Columns: strategy, prefix, group, prompt_tokens, micro_rows, micro_tokens, batch, rows, tokens,
    update_seconds, step_seconds, peak_mib (see `recast.lm.memory`), gflop (see `recast.lm.flops`),
    mfu (its rate over the rig's peak); ratio (the baseline's update_seconds over this one's, same
    prefix), and likewise token_ratio, step_ratio, memory_ratio; prefix_speedup (re-encoded
    update_seconds over this one's, same strategy).
    """
    grid = [
        (group, tokens, micro)
        for tokens in shapes.prompt_tokens
        for group in shapes.groups
        for micro in shapes.micro_rows
    ]
    found: list[TimingRow] = []
    for place, (group, tokens, micro) in enumerate(grid):
        progress(place, len(grid), f"G = {group}, P = {tokens}, micro-batch {micro or 'whole'}")
        cases = [
            make_case(rig, name, prefix == "shared", group, tokens, micro, shapes)
            for prefix in ("reencoded", "shared")
            for name in shapes.strategies
        ]
        for turn in range(shapes.repeats + 1):
            for case in cases:
                take_turn(case, turn)
        found += related([row_of(case) for case in cases], cases[0].name)
    progress(len(grid), len(grid), "done")
    return found


def made_up(
    tokens: int, batch: int, vocabulary: Vocabulary, items: int = ITEMS
) -> tuple[Trie, list[list[Codes]], list[Codes]]:
    """A random catalogue of `items`, and the history and target of each of `batch` prompts of at
    most `tokens` tokens."""
    draw, codebook = random.Random(0), len(vocabulary.tokens[0])
    sids = set[Codes]()
    while len(sids) < items:
        sids.add(tuple(draw.randrange(codebook) for _ in range(DEPTH)))
    known = sorted(sids)
    recent = max(1, (tokens - len(vocabulary.before)) // DEPTH)
    histories = [[draw.choice(known) for _ in range(recent)] for _ in range(batch)]
    return build_trie(known), histories, [draw.choice(known) for _ in range(batch)]


def make_case(
    rig: Rig, name: str, shared: bool, group: int, tokens: int, micro: int, shapes: Shapes
) -> TimedStrategy:
    """A strategy on made-up prompts of at most `tokens` tokens; micro: rows, 0 = the whole."""
    trie, histories, targets = made_up(tokens, shapes.batch, rig.vocabulary, rig.items)
    setup = RLSetup(
        model=rig.model,
        reference=rig.reference,
        vocabulary=rig.vocabulary,
        trie=trie.to(rig.device),
        prompts=rig.vocabulary.prompts(histories).to(rig.device),
        target=torch.tensor(targets, device=rig.device),
        evaluation={},
    )
    how = RLTraining(
        batch=shapes.batch,
        group=group,
        micro_rows=micro or 10**9,
        micro_tokens=shapes.micro_tokens,
        shared_prefix=shared,
        kl_weight=shapes.kl_weight,
    )
    return TimedStrategy(rig, name, parse_strategy(name), how, setup)


def take_turn(case: TimedStrategy, turn: int) -> None:
    """One step; turn 0 warms up and is not counted."""
    setup, how, device = case.setup, case.how, case.rig.device
    began = clock(device)
    collected = collect(roller(setup, how), case.strategy, turn, {})
    rolled = clock(device) - began
    case.collected = collected
    if device.type == "cpu":
        # Once untimed: memory that the case before gave back is mapped anew, at its cost.
        _update(case)
    began = clock(device)
    _update(case)
    done = clock(device)
    if turn:
        case.rollouts.append(rolled)
        case.updates.append(done - began)


def row_of(case: TimedStrategy) -> TimingRow:
    """What a case measured, without ratios; see `measure`."""
    assert case.collected is not None
    how, depth = case.how, case.setup.trie.depth
    rows, cost = tokens_of(case.setup, case.strategy, how, case.collected)
    lengths, widths = token_counts(case.collected.prompts.length, width_of(case))
    flop = update_flops(
        case.rig.model,
        lengths,
        widths,
        depth,
        case.rig.codebook,
        how.shared_prefix,
        bool(how.kl_weight),
    )
    seconds = statistics.median(case.updates)
    return {
        "strategy": case.name,
        "prefix": "shared" if how.shared_prefix else "reencoded",
        "group": how.group,
        "prompt_tokens": int(case.setup.prompts.length.max()),
        "micro_rows": 0 if how.micro_tokens or how.micro_rows == 10**9 else how.micro_rows,
        "micro_tokens": how.micro_tokens,
        "batch": how.batch,
        "rows": rows,
        "tokens": cost,
        "update_seconds": seconds,
        "step_seconds": statistics.median(case.rollouts) + seconds,
        "peak_mib": peak_memory(case.setup.model, partial(_update, case)) / 2**20,
        "gflop": flop / 1e9,
        "mfu": flop / seconds / case.rig.peak,
    }


def related(rows: list[TimingRow], baseline: str) -> list[TimingRow]:
    """The same rows with their ratios to the baseline's, and to the re-encoded ones."""
    for row in rows:
        base = next(r for r in rows if (r["strategy"], r["prefix"]) == (baseline, row["prefix"]))
        again = next(
            r for r in rows if (r["strategy"], r["prefix"]) == (row["strategy"], "reencoded")
        )
        row["ratio"] = float(base["update_seconds"]) / float(row["update_seconds"])
        row["token_ratio"] = float(base["tokens"]) / float(row["tokens"])
        row["step_ratio"] = float(base["step_seconds"]) / float(row["step_seconds"])
        row["memory_ratio"] = float(base["peak_mib"]) / float(row["peak_mib"])
        row["prefix_speedup"] = float(again["update_seconds"]) / float(row["update_seconds"])
    return rows


def _update(case: TimedStrategy) -> None:
    assert case.collected is not None
    update(case.setup, case.strategy, case.how, case.collected, 0.0)
    case.rig.optimizer.step(RATE, case.how.clip_norm)


def width_of(case: TimedStrategy) -> torch.Tensor:
    """Rows that each prompt of the collected batch sends through the actor, `[B]`."""
    assert case.collected is not None
    return _width(case.strategy, case.collected)


def _width(strategy: Strategy, collected: RolloutPhase) -> torch.Tensor:
    signal, extra = collected.signal, int(strategy.learns_from_target)
    none = torch.zeros_like(collected.prompts.length)
    return (signal.rows.sum(-1) if signal is not None else none) + extra


def tokens_of(
    setup: RLSetup, strategy: Strategy, how: RLTraining, collected: RolloutPhase
) -> tuple[int, int]:
    """Rows, and tokens of the actor's forward pass, of one collected batch."""
    length, width, depth = collected.prompts.length, _width(strategy, collected), setup.trie.depth
    used = width > 0
    if how.shared_prefix:
        tokens = (length + (depth - 1) * width)[used]
    else:
        tokens = (width * (length + depth - 1))[used]
    return int(width.sum()), int(tokens.sum())
