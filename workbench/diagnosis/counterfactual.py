"""Had another strategy been used on the logged groups: who would have learnt what?

`build_signal`, the code that training runs, is called on the groups themselves. The policy that
sampled them stays what it was: this says what one step would have seen, not where it would lead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

from recast.groups import Origin, RolloutGroups, regime
from recast.regimes import REGIMES
from recast.signal import Signal, build_signal
from recast.stage import State
from recast.stages.repair import anchored
from recast.strategies import parse_strategy
from recast.strategy import STAGES, Strategy
from recast.structure import level_scores
from workbench.diagnosis.diagnosis import Diagnosis

MOST = 8192
"""Groups that are looked at: whole steps, evenly spaced over the log."""

DEFAULT = (
    "grpo",
    "dr_grpo",
    "maxrl",
    "ngrpo",
    "dynamic_sampling",
    "contrast_only",
    "repair_only",
    "recast",
    "grpo_sft",
    "sft",
)


@dataclass(frozen=True)
class StepGroups:
    """The groups of one step; binary: with hits as rewards; tokens `[B, G]`, 0 where not logged."""

    groups: RolloutGroups
    binary: RolloutGroups
    tokens: torch.Tensor


@dataclass(frozen=True)
class Logged:
    """The batches of a log, one per step of `rows`, its rollouts in their order. tokens, target:
    whether the log has them; prompts: how many."""

    batches: Sequence[StepGroups]
    rows: pl.DataFrame
    tokens: bool
    target: bool
    prompts: int = 1


def logged(found: Diagnosis, judged: Literal["outcome", "reward"] = "outcome") -> Logged:
    """The log's groups as tensors, at most `MOST`; judged: the column that is the reward. No batch
    where it is the outcome and nobody knows what a hit is."""
    if judged == "outcome" and not found.known:
        return Logged([], found.rollouts.clear(), tokens=False, target=False)
    threshold = found.threshold + found.tolerance if found.known else 0.0
    counts = found.groups.group_by("step").len().sort("step")
    every = max(1, -(-found.groups.height // MOST))
    chosen = counts["step"].gather_every(every).to_list()
    rollouts = found.rollouts.filter(pl.col("step").is_in(chosen)).sort("step", "order")
    # Numbered over the whole log: a memory of prompts and items outlives a step.
    rollouts = rollouts.with_columns(
        visited=pl.col("prompt").rank("dense").cast(pl.Int64) - 1,
        item=pl.col("prediction").rank("dense").cast(pl.Int64),
    )
    batches = [
        _batch(part, threshold, judged)
        for _, part in rollouts.group_by("step", maintain_order=True)
    ]
    return Logged(
        batches,
        rollouts,
        tokens=rollouts["tokens"].null_count() == 0,
        target=rollouts["target"].null_count() < rollouts.height,
        prompts=rollouts["visited"].n_unique(),
    )


def slots(part: pl.DataFrame) -> pl.DataFrame:
    """The rollouts of one step with the place in its tensors: row and slot; at most `MOST` rows."""
    return part.with_columns(
        row=pl.struct("key", "part").rank("dense").cast(pl.Int64) - 1,
        slot=pl.int_range(pl.len()).over("key", "part"),
    ).filter(pl.col("row") < MOST)


def _batch(part: pl.DataFrame, threshold: float, judged: str) -> StepGroups:
    named = slots(part)
    row, slot = (torch.from_numpy(named[c].to_numpy().copy()) for c in ("row", "slot"))
    shape = (int(row.max()) + 1, int(slot.max()) + 1)

    def placed(values: np.ndarray[Any, Any], empty: float = 0) -> torch.Tensor:
        source = torch.from_numpy(np.array(values))
        return torch.full(shape, empty, dtype=source.dtype).index_put((row, slot), source)

    outcome = named[judged].to_numpy()
    valid = placed(np.ones(named.height, dtype=np.bool_), False)
    depth = int(named["depth"].cast(pl.Int64).fill_null(1).to_numpy().max())
    known = named["matched"].null_count() == 0
    matched = named["matched"].cast(pl.Int64).fill_null(0).to_numpy()
    own = named["depth"].cast(pl.Int64).fill_null(1).to_numpy()
    scores = np.zeros(named.height)
    for levels in np.unique(own):
        there = own == levels
        table = level_scores(int(levels), torch.float64).numpy()
        scores[there] = table[np.minimum(matched[there], levels)]
    if not known:
        scores = (outcome > threshold).astype(np.float64)
    optional: dict[str, torch.Tensor] = {}
    if named["prediction"].null_count() == 0:
        optional["item"] = placed(named["item"].to_numpy(), 0)
    if known:
        optional["matched"] = placed(np.minimum(matched, depth), 0)
    if named["beam_rank"].null_count() == 0:
        optional["beam_rank"] = placed(named["beam_rank"].cast(pl.Int64).to_numpy(), 0)
    if named["entropy"].null_count() == 0:
        entropy = np.maximum(named["entropy"].cast(pl.Float64).to_numpy(), 0)
        optional["entropy"] = placed(entropy, 0).unsqueeze(-1)
    tokens = named["tokens"].cast(pl.Float64).fill_null(0).to_numpy()
    draws = torch.from_numpy(np.random.default_rng(int(named["order"][0])).random(shape))
    prompt = torch.zeros(shape[0], dtype=torch.int64)
    prompt[row] = torch.from_numpy(named["visited"].to_numpy().copy())
    common: dict[str, Any] = {
        "prompt": prompt,
        "depth": depth if known and bool((own == depth).all()) else 0,
        "score": placed(scores),
        "valid": valid,
        "tie_key": draws,
        "length": placed(np.maximum(tokens, 1), 1),
        **optional,
    }
    hit = placed((outcome > threshold).astype(np.float64))
    return StepGroups(
        RolloutGroups.of(placed(outcome), hit_threshold=threshold, **common),
        RolloutGroups.of(hit, **common),
        placed(tokens),
    )


def counterfactual(
    found: Diagnosis, strategies: Sequence[str] = DEFAULT, given: Logged | None = None
) -> pl.DataFrame:
    """One row per strategy, on the raw outcomes of the logged groups.

    Columns: strategy, groups, learnable (share with any signal), signal_count, update_width (rows
    to the actor, supervised targets included), repaired (share of groups), on_hits, on_misses,
    on_anchors (summed advantage per group), tokens (updated per group; null where tokens are not
    logged), note (why a row is empty, or what it assumes).
    Raises ValueError, one line, for a strategy that does not exist.
    """
    given = given or logged(found)
    return pl.DataFrame(
        [_row(name, parse_strategy(name), found, given) for name in strategies],
        infer_schema_length=None,
        schema_overrides={"note": pl.String},
    )


def _row(name: str, strategy: Strategy, found: Diagnosis, given: Logged) -> dict[str, Any]:
    if not found.known:
        return {"strategy": name, "note": "nobody knows which rollouts are hits (--threshold)"}
    if strategy.sampled(found.group) > found.group:
        more = strategy.sampled(found.group)
        return {"strategy": name, "note": f"samples {more} rollouts per group; the log has fewer"}
    total: dict[str, float] = {}
    groups = 0
    try:
        for batch, signal in signals(strategy, given):
            groups += signal.hits.numel()
            for key, value in _tally(strategy, batch, signal).items():
                total[key] = total.get(key, 0.0) + value
    except ValueError as problem:
        return {"strategy": name, "note": f"the log lacks what it needs: {problem}"}
    row: dict[str, Any] = {key: value / groups for key, value in total.items()}
    if not given.tokens:
        row["tokens"] = None
    notes = []
    if (strategy.anchors or strategy.learns_from_target) and not given.target:
        notes.append("takes the ground truth to be known")
    if strategy.has_gate:
        notes.append("without its gate")
    if strategy.rounds is not None:
        refills = strategy.rounds.kind == "refill"
        notes.append(
            "before further prompts fill the batch"
            if refills
            else "its first round of sampling alone"
        )
    notes += [note for kind in STAGES if (note := strategy.stage(kind).stage.note)]
    return {"strategy": name, "groups": groups, **row, "note": "; ".join(notes)}


def signals(strategy: Strategy, given: Logged) -> Iterator[tuple[StepGroups, Signal]]:
    """The signal of each batch, one after the other; a state is carried along.

    Raises ValueError when the log lacks an input that the strategy needs.
    """
    state: State = strategy.start((), given.prompts)
    for batch in given.batches:
        groups = batch.binary if strategy.needs_binary else batch.groups
        signal = build_signal(strategy, groups, state)
        state = signal.state
        yield batch, signal


def _tally(strategy: Strategy, batch: StepGroups, signal: Signal) -> Mapping[str, float]:
    advantage = signal.advantage
    advantage = advantage.sum(-1) if advantage.ndim > signal.rows.ndim else advantage
    sent = torch.where(signal.rows, advantage, 0.0)
    anchor = signal.groups.origin == int(Origin.ANCHOR)
    hit = signal.groups.hit & ~anchor
    extra = float(signal.supervised) * signal.hits.numel()
    width = signal.rows.shape[-1]
    tokens = torch.nn.functional.pad(batch.tokens, (0, width - batch.tokens.shape[-1]))
    mean = float(batch.tokens.sum() / batch.groups.valid.sum())
    tokens = torch.where(anchor, mean, tokens)
    return {
        "learnable": float((signal.count > 0).sum()),
        "signal_count": float(signal.count.sum()),
        "update_width": float(signal.rows.sum()) + extra,
        "repaired": float(anchored(signal.groups).sum()),
        "on_hits": float(sent[hit].sum()),
        "on_misses": float(sent[~hit & ~anchor].sum()),
        "on_anchors": float(sent[anchor].sum()),
        "tokens": float((tokens * signal.rows).sum()) + extra * mean,
    }


def example_groups(
    found: Diagnosis, strategies: Sequence[str], given: Logged | None = None
) -> pl.DataFrame:
    """The advantages on one logged group of each regime, the last of its kind.

    Columns: regime, strategy, slot, place, weight, origin (policy, anchor or supervised), as
    `charts.advantages` takes them.
    """
    if not found.known:
        return pl.DataFrame()
    given = given or logged(found)
    rows: list[dict[str, Any]] = []
    last: dict[int, tuple[int, int]] = {}
    hits = sum(int((b.binary.hit & b.binary.valid).sum()) for b in given.batches)
    sampled = sum(int(b.binary.valid.sum()) for b in given.batches)
    for place, batch in enumerate(given.batches):
        kinds = regime(batch.binary.hit, batch.binary.valid).tolist()
        last |= {kind: (place, row) for row, kind in enumerate(kinds)}
    for name in strategies:
        strategy = parse_strategy(name)
        if strategy.sampled(found.group) > found.group:
            continue
        try:
            made = [signal for _, signal in signals(strategy, given)]
        except ValueError:
            continue
        for kind, (place, row) in sorted(last.items()):
            rows += _slots(REGIMES[kind], name, made[place], row, hits / max(sampled, 1))
    return pl.DataFrame(rows, infer_schema_length=None)


def _slots(
    kind: str, name: str, signal: Signal, row: int, probability: float
) -> list[dict[str, Any]]:
    """One group's bars; probability: of its target, for supervised terms that depend on it."""
    advantage = signal.advantage[row]
    advantage = advantage.sum(-1) if advantage.ndim > 1 else advantage
    target, added = 0.0, torch.zeros_like(advantage)
    if signal.supervised:
        from workbench.theory.microscope import supervised_weights

        alone = (signal.hits[row].view(1, 1), signal.valid[row].view(1, 1))
        told, extra = supervised_weights(
            parse_strategy(name), *alone, signal.rows[row].view(1, 1, -1), probability
        )
        target, added = float(told[0]), extra[0]
    found = []
    for slot in range(advantage.shape[-1]):
        sampled = slot < signal.sampled.valid.shape[-1] and bool(signal.sampled.valid[row, slot])
        if not sampled and not bool(signal.groups.valid[row, slot]):
            continue
        anchor = int(signal.groups.origin[row, slot]) == int(Origin.ANCHOR)
        sent = bool(signal.rows[row, slot])
        found.append(
            {
                "regime": kind,
                "strategy": name,
                "slot": f"R{slot + 1}",
                "place": slot,
                "weight": float(advantage[slot] + added[slot]) if sent else 0.0,
                "origin": "anchor" if anchor else "policy",
            }
        )
    if signal.supervised:
        found.append(
            {"regime": kind, "strategy": name, "slot": "target", "place": 10_000, "weight": target,
             "origin": "supervised"}
        )  # fmt: skip
    return found
