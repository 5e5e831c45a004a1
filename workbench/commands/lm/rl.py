"""`recast lm rl`: strategies on a real model, stored like simulated runs."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import polars as pl

from recast import REGIMES
from recast.ledger import COST, TAUGHT
from recast.progress import Progress
from workbench.analysis.summary import summary
from workbench.analysis.tuning import mark_tuned
from workbench.commands.bounds import FEW, KL, RATE, WHOLE
from workbench.commands.lm.recipe import RECIPE
from workbench.commands.lm.session import (
    BATCHES,
    CODEBOOK,
    DATA,
    LORA,
    SCHEDULE,
    SEARCH,
    category,
    check_rollouts,
    on_device,
    one_line,
    reads_models,
    show_start,
)
from workbench.commands.output import FORMAT, emit, progress_bar
from workbench.diagnosis.logs.write import RolloutLog
from workbench.plurals import number_of
from workbench.real.runs import LMCell, build_setup, lm_run_config, needs_reference, world_values
from workbench.spec.keys import run_key
from workbench.spec.metrics import METRICS
from workbench.spec.strategy_texts import parsed
from workbench.stats.estimates import ENOUGH
from workbench.store.runs import Store

if TYPE_CHECKING:
    from torch import Tensor

    from recast.lm.checkpoint import Checkpoint
    from recast.lm.dataset import LMData
    from recast.lm.device import Placement
    from recast.lm.pretrained import ModelReading
    from recast.lm.signal import RolloutPhase
    from recast.lm.update import RLSetup, RLTraining


@click.command()
@DATA
@CODEBOOK
@click.option(
    "--start",
    required=True,
    help="The checkpoint to start from, a folder or hub name; also the KL reference.",
)
@LORA
@click.option("--steps", type=click.IntRange(1, WHOLE), default=120, show_default=True)
@BATCHES
@click.option("--kl", type=KL, default=0.001, show_default=True)
@SCHEDULE
@SEARCH
@click.option("--evaluations", type=click.IntRange(1, FEW), default=4, show_default=True)
@click.option(
    "--eval-prompts",
    type=click.IntRange(8, WHOLE),
    default=512,
    show_default=True,
    help="Test and tuning prompts per evaluation.",
)
@click.option("--tune-metric", type=click.Choice(tuple(METRICS)), default="area", show_default=True)
@click.option("--store", "store_path", default="runs", show_default=True)
@FORMAT
@click.option("--strategy", "strategies", multiple=True, required=True, help="Repeatable.")
@click.option("--lr", "rates", type=RATE, multiple=True, default=(2e-4,), help="Repeatable.")
@click.option("--seeds", type=click.IntRange(1, FEW), default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Keep models here.")
@click.option(
    "--report-to",
    type=click.Choice(["tensorboard", "wandb", "trackio"]),
    default=None,
    help="Show training curves there; TensorBoard's files go below STORE/tracking.",
)
@click.option(
    "--log-rollouts",
    "logs",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Write every rollout here, one folder per run, for `recast diagnose`.",
)
@click.option("--reencode", is_flag=True, help="Encode the prompt again for every rollout.")
@click.option(
    "--micro-tokens",
    type=click.IntRange(0, WHOLE),
    default=0,
    help="Tokens per micro-batch instead of --micro-rows; a group is never split.",
)
@click.option(
    "--logp",
    type=click.Choice(["constrained", "free"]),
    default="constrained",
    show_default=True,
    help="Score rollouts and targets over the codes that may follow, or over the whole vocabulary.",
)
@click.option(
    "--similarity",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="A .npy of item vectors: their cosine is the score, in the place of shared codes.",
)
@RECIPE
@on_device
@reads_models
def rl(
    strategies: tuple[str, ...],
    rates: tuple[float, ...],
    seeds: int,
    out: Path | None,
    report_to: str | None,
    logs: Path | None,
    reencode: bool,
    style: str,
    folder: Path,
    codebook: int | None,
    start: str,
    lora: int | None,
    steps: int,
    batch: int,
    group: int,
    kl: float,
    schedule: Any,
    search: Any,
    micro_rows: int,
    evaluations: int,
    eval_prompts: int,
    tune_metric: str,
    store_path: str,
    micro_tokens: int,
    logp: str,
    similarity: Path | None,
    placement: Placement,
    reading: ModelReading,
) -> None:
    """Continue an SFT checkpoint with any strategy; runs go to the store like simulated ones.

    Runs that the store has are not repeated, and a killed run continues from its last evaluation.
    """
    from recast.lm.dataset import load_data
    from recast.lm.pretrained import identity
    from recast.lm.similarity import read_similarity
    from recast.lm.update import RLTraining

    parsed(strategies)
    check_rollouts(batch, group)
    with one_line("transformers", "safetensors"):
        data = load_data(folder, codebook, category=category())
        weights = identity(start)
        store = Store(Path(store_path)).prepare()
        how = RLTraining(
            steps=steps,
            batch=batch,
            group=group,
            kl_weight=kl,
            search=search,
            micro_rows=micro_rows,
            micro_tokens=micro_tokens,
            shared_prefix=not reencode,
            evaluations=min(evaluations, steps),
            free_logp=logp == "free",
            schedule=schedule,
        )
        vectors = read_similarity(similarity, folder, data, category()) if similarity else None
        near = file_digest(similarity) if similarity else None
        rank = lora or 0
        shared = LMCell(data, weights, how, eval_prompts, placement, reading, rank, near)
        each = itertools.product(strategies, rates, range(seeds))
        jobs = {run_key(made): made for made in (lm_run_config(shared, *one) for one in each)}
        missing = [key for key in jobs if not store.has(key)]
        reference = needs_reference(how, strategies)
        source = Source(start, placement, reading, rank, reference, vectors)
        study = _Runs(source, data, how, store, Artefacts(out, logs, report_to))
        with progress_bar("steps") as show:
            for place, key in enumerate(missing):
                study.train(key, jobs[key], (place, len(missing)), show)
    frame = mark_tuned(store.load(list(jobs)), tune_metric)
    frame = frame.sort(pl.col("strategy").replace_strict({s: i for i, s in enumerate(strategies)}))
    _show(summary(frame), style, f"{min(eval_prompts, len(data.test))} of {len(data.test)}", data)
    if style != "table":
        return
    click.echo(f"runs: {len(jobs)} in {store.root}; rates chosen by {tune_metric} on tuning users")
    if seeds < ENOUGH:
        click.echo(
            f"note: {number_of(seeds, 'seed')}; a difference between strategies needs ten or more"
        )


def _show(table: pl.DataFrame, style: str, prompts: str, data: LMData) -> None:
    """The summary: whole for a program, for a reader as two tables. prompts: how many of which."""
    if style != "table":
        emit(table, style, "")
        return
    columns = [c for q in METRICS for c in (q, f"{q}_low", f"{q}_high")]
    emit(
        table.select("strategy", "slice", "lr", "seeds", "diverged", *columns),
        style,
        f"{data.name}: {prompts} test prompts, mean [95% interval] over seeds",
    )
    everyone = table.filter((pl.col("slice") == "all") & (pl.col("strategy") != "start"))
    emit(everyone.select("strategy", *TAUGHT, *REGIMES, *COST), style, "What taught, at what cost?")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, which tells one from another in a run's settings."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class Source(NamedTuple):
    """The start: its name, where and how to open it, the rank of adapters, whether a reference is
    scored, and vectors of the items."""

    start: str
    placement: Placement
    reading: ModelReading
    lora: int
    reference: bool
    similarity: Tensor | None

    def open(self, data: LMData, eval_prompts: int) -> tuple[RLSetup, Checkpoint]:
        """The start as a run begins from it, read anew."""
        setup, opened = build_setup(
            self.start,
            data,
            eval_prompts,
            self.placement,
            self.reading,
            self.lora,
            self.reference,
        )
        if self.similarity is not None:
            setup = replace(setup, similarity=self.similarity.to(self.placement.device))
        return setup, opened


class Artefacts(NamedTuple):
    """Where to put what the store does not hold: models, rollouts, training curves."""

    models: Path | None
    rollouts: Path | None
    tracker: str | None


class _Runs(NamedTuple):
    """What the runs of one call share: their start, data and settings, and what becomes of them."""

    source: Source
    data: LMData
    how: RLTraining
    store: Store
    kept: Artefacts

    def train(
        self, key: str, config: dict[str, Any], turn: tuple[int, int], show: Progress
    ) -> None:
        """Train one run, store it, and keep its model when asked to. turn: which of how many."""
        from recast.ledger import RunRecord
        from recast.lm import checkpoint
        from recast.lm.tracking import open_tracker
        from recast.lm.trainer import train
        from recast.strategies import parse_strategy

        data, store, kept = self.data, self.store, self.kept
        setup, opened = self.source.open(data, config["train_spec"]["eval_prompts"])
        place, runs = turn
        if not place:
            show_start(opened, data, self.source.reading)
        mine = replace(self.how, lr=config["lr"], seed=config["seed"])
        label = f"{config['strategy']} lr {config['lr']:g} seed {config['seed']}"
        progress = store.root / ".lm-progress" / key
        name = f"{config['strategy']}-{config['lr']:g}-{config['seed']}".replace(" ", "")
        rollouts = RolloutLog(kept.rollouts / name) if kept.rollouts is not None else None
        tracker = (
            open_tracker(kept.tracker, label, store.root / "tracking") if kept.tracker else None
        )

        def record(step: int, collected: RolloutPhase) -> None:
            if rollouts is not None:
                rollouts.sampled(setup.trie, step, collected)

        try:
            rows = train(
                setup,
                parse_strategy(config["strategy"]),
                mine,
                progress,
                lambda done, total, _: show(place * total + done, runs * total, label),
                record,
                lambda step, values: tracker.log(dict(values), step=step) if tracker else None,
            )
        finally:
            if tracker is not None:
                tracker.finish()
        if kept.models is not None:
            meta = {n: config[n] for n in ("strategy", "lr", "seed", "train_spec")}
            to, tokenizer = kept.models / name, opened.tokenizer
            checkpoint.save_model(
                to, setup.model, setup.vocabulary, data.fingerprint, meta, tokenizer
            )
        store.write(key, RunRecord(config, rows, world_values(setup)))
        shutil.rmtree(progress, ignore_errors=True)
