"""`recast lm evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click
import polars as pl

from workbench.commands.bounds import BATCH, WHOLE
from workbench.commands.lm.session import (
    CODEBOOK,
    DATA,
    category,
    on_device,
    one_line,
    reads_models,
    show_start,
)
from workbench.commands.output import FORMAT, emit
from workbench.spec.metrics import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from recast.items import Interaction
    from recast.lm.checkpoint import Checkpoint
    from recast.lm.dataset import LMData
    from recast.lm.device import Placement
    from recast.lm.evaluate import EvaluationSet
    from recast.lm.pretrained import ModelReading
    from recast.lm.trie import Trie

MEASURED = (
    *(name for name in METRICS if name != "recall_at_10"),
    "hr_at_50",
    "recall_at_32",
    "invalid",
)


@click.command()
@DATA
@CODEBOOK
@click.option(
    "--model", "place", required=True, help="A folder or hub name, with or without recast.json."
)
@click.option("--against", default=None, help="A second one to compare.")
@click.option("--split", type=click.Choice(["test", "validation"]), default="test")
@click.option(
    "--limit", type=click.IntRange(1, WHOLE), default=None, help="A fixed choice of so many rows."
)
@click.option("--group", type=BATCH, default=32, show_default=True)
@on_device
@reads_models
@FORMAT
def evaluate(
    folder: Path,
    codebook: int | None,
    place: str,
    against: str | None,
    split: str,
    limit: int | None,
    group: int,
    style: str,
    placement: Placement,
    reading: ModelReading,
) -> None:
    """Metrics of a checkpoint on a split, or of two with paired intervals.

    Columns: slice, metric, prompts, value; with --against also other, difference (value - other)
    and its 95% interval low, high from 2,000 resamples of users. `pass_at_1_matched` is read where
    the policy's entropy on tuning users equals that of --against (of --model itself without one),
    and is missing where no temperature gives it.
    """
    from recast.lm.dataset import load_data
    from recast.lm.pretrained import open_model
    from recast.lm.trie import build_trie

    reading = replace(reading, trained="nothing", copies=int(against is not None))
    with one_line("transformers", "safetensors"):
        data = load_data(folder, codebook, category=category())
        trie = build_trie(data.sids).to(placement.device)
        rows = data.test if split == "test" else data.tuning
        loaded = [open_model(path, data, placement, reading) for path in (place, against) if path]
        for one in loaded:
            show_start(one, data, reading)
        read = _read(loaded, data, trie, rows, limit, group)
    emit(
        _table(*read),
        style,
        f"{place} on {split}" + (f", against {against}" if against else ""),
    )
    if style == "table":
        click.echo(
            "c_at_k is Pass@k at the temperature that is best for that k on tuning users, area its "
            "mean over k = 1, 2, 4, .. 64. "
            "These, pass_at_1 and pass_at_32 are exact under trie-constrained sampling; hr, ndcg "
            "and recall come from 50 beams; entropy from 8 rollouts, invalid from 1 free sample."
        )


class _Read(NamedTuple):
    """Of one checkpoint: metrics by prompt, share of all items among its beams, the prompts."""

    metrics: Mapping[str, Tensor]
    coverage: float
    prompts: EvaluationSet


def _read(
    loaded: Sequence[Checkpoint],
    data: LMData,
    trie: Trie,
    rows: Sequence[Interaction],
    limit: int | None,
    group: int,
) -> list[_Read]:
    """What each checkpoint shows on `rows`, at the entropy of the last one where that is asked."""
    from recast.lm.evaluate import (
        MATCHING_PROMPTS,
        TUNING_PROMPTS,
        coverage,
        entropy_curve,
        evaluation_set,
        matched_temperature,
        per_prompt,
        tuned_temperatures,
    )

    first = [row.history for row in data.tuning[:MATCHING_PROMPTS]]
    curves = [
        entropy_curve(
            one.model, one.vocabulary, trie, one.vocabulary.prompts(first).to(trie.codes.device)
        )
        for one in loaded
    ]
    wanted, found = curves[-1](1.0), []
    for one, curve in zip(loaded, curves, strict=True):
        chosen = evaluation_set(one.vocabulary, trie, rows, data.slices(rows), limit)
        temperature = matched_temperature(curve, wanted)
        tuning = evaluation_set(
            one.vocabulary, trie, data.tuning, data.slices(data.tuning), TUNING_PROMPTS
        )
        best = tuned_temperatures(one.model, one.vocabulary, trie, tuning)
        table, items = per_prompt(one.model, one.vocabulary, trie, chosen, group, temperature, best)
        found.append(_Read(table, coverage(items, trie.items), chosen))
    return found


def _table(ours: _Read, theirs: _Read | None = None) -> pl.DataFrame:
    """A row per slice and metric, as `recast lm evaluate` says it; theirs: the one to compare."""
    from recast.lm.evaluate import paired_interval

    found: list[dict[str, str | int | float]] = []
    for label, mask in {"all": None, **ours.prompts.slices}.items():
        keep = range(len(ours.prompts)) if mask is None else mask.nonzero().squeeze(-1).tolist()
        if not len(keep):
            continue
        index = list(keep)
        users = [ours.prompts.users[i] for i in index]
        for metric in MEASURED:
            mine = ours.metrics[metric][index]
            row: dict[str, str | int | float] = {
                "slice": label,
                "metric": metric,
                "prompts": len(index),
                "value": float(mine.mean()),
            }
            if theirs is not None:
                other = theirs.metrics[metric][index]
                difference, low, high = paired_interval(mine - other, users)
                row |= {
                    "other": float(other.mean()),
                    "difference": difference,
                    "difference_low": low,
                    "difference_high": high,
                }
            found.append(row)
    everyone = {"slice": "all", "metric": "coverage_at_10", "prompts": len(ours.prompts)}
    everyone["value"] = ours.coverage
    if theirs is not None:
        everyone |= {"other": theirs.coverage, "difference": ours.coverage - theirs.coverage}
    return pl.DataFrame([*found, everyone], infer_schema_length=None)
