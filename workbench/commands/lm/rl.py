"""`recast lm rl` and `recast lm study`: strategies on a real model, stored like simulated runs."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from workbench.commands.lm.session import CODEBOOK, DATA, one_line
from workbench.commands.output import FORMAT, emit, progress_bar
from workbench.keys import run_key
from workbench.rollout_log import RolloutLog
from workbench.spec import SpecError, plain_text
from workbench.store import Store
from workbench.tables import COST, QUALITY, REGIME, SIGNAL, summary
from workbench.tuning import mark_tuned

if TYPE_CHECKING:
    from recast.lm.dataset import LMData
    from recast.lm.signal import Collected
    from recast.lm.trainer import Job, RLTraining

ENGINE = 1
"""Generation of this path's numbers; raised when the same configuration gives other numbers."""

STUDY = (
    "sft",
    "grpo",
    "dr_grpo",
    "rloo",
    "recast",
    "recast_random_negative",
    "contrast_only",
    "repair_only",
    "grpo_sft",
)
STUDY_RATES = (5e-5, 1e-4, 2e-4, 4e-4)


def _shared(command: Any) -> Any:
    """The options that `rl` and `study` have in common."""
    for option in reversed(
        (
            DATA,
            CODEBOOK,
            click.option(
                "--start",
                type=click.Path(path_type=Path),
                required=True,
                help="The SFT checkpoint to start from; also the KL reference.",
            ),
            click.option("--steps", type=click.IntRange(1), default=120, show_default=True),
            click.option("--batch", type=click.IntRange(1), default=32, show_default=True),
            click.option("--group", type=click.IntRange(1), default=32, show_default=True),
            click.option("--kl", type=click.FloatRange(0), default=0.001, show_default=True),
            click.option(
                "--search",
                type=click.Choice(["sample", "beam"]),
                default="sample",
                show_default=True,
            ),
            click.option("--micro-rows", type=click.IntRange(1), default=1024, show_default=True),
            click.option("--evaluations", type=click.IntRange(1), default=4, show_default=True),
            click.option(
                "--eval-prompts",
                type=click.IntRange(8),
                default=512,
                show_default=True,
                help="Test and tuning prompts per evaluation.",
            ),
            click.option("--tune-metric", type=click.Choice(QUALITY), default="hr_at_1"),
            click.option("--store", "store_path", default="runs", show_default=True),
            FORMAT,
        )
    ):
        command = option(command)
    return command


@click.command()
@_shared
@click.option("--strategy", "strategies", multiple=True, required=True, help="Repeatable.")
@click.option("--lr", "rates", type=float, multiple=True, default=(2e-4,), help="Repeatable.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="Keep models here.")
@click.option(
    "--log-rollouts",
    "logs",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Write every rollout here, one folder per run, for `recast diagnose`.",
)
@click.option("--reencode", is_flag=True, help="Encode the prompt again for every rollout.")
def rl(
    strategies: tuple[str, ...],
    rates: tuple[float, ...],
    seeds: int,
    out: Path | None,
    logs: Path | None,
    reencode: bool,
    style: str,
    **shared: Any,
) -> None:
    """Continue an SFT checkpoint with any strategy; runs go to the store like simulated ones.

    Runs that the store has are not repeated, and a killed run continues from its last evaluation.
    """
    _execute(strategies, rates, range(seeds), out, not reencode, style, logs=logs, **shared)


@click.command()
@_shared
@click.option("--seeds", type=click.IntRange(1), default=10, show_default=True)
@click.option("--strategy", "strategies", multiple=True, default=STUDY, help="Repeatable.")
@click.option("--lr", "rates", type=float, multiple=True, default=STUDY_RATES, help="Repeatable.")
@click.option("--time-only", is_flag=True, help="Measure three steps, state the time, stop.")
def study(
    strategies: tuple[str, ...],
    rates: tuple[float, ...],
    seeds: int,
    time_only: bool,
    style: str,
    **shared: Any,
) -> None:
    """The measured comparison: every strategy at every rate over paired seeds, resumable.

    States its time before it starts, from three steps of GRPO and one evaluation.
    """
    _execute(
        strategies,
        rates,
        range(seeds),
        None,
        True,
        style,
        estimate=True,
        time_only=time_only,
        **shared,
    )


def _execute(
    strategies: Sequence[str],
    rates: Sequence[float],
    seeds: Sequence[int],
    out: Path | None,
    shared_prefix: bool,
    style: str,
    *,
    folder: Path,
    codebook: int | None,
    start: Path,
    steps: int,
    batch: int,
    group: int,
    kl: float,
    search: Any,
    micro_rows: int,
    evaluations: int,
    eval_prompts: int,
    tune_metric: str,
    store_path: str,
    logs: Path | None = None,
    estimate: bool = False,
    time_only: bool = False,
) -> None:
    from recast.lm import checkpoint
    from recast.lm.dataset import load_data
    from recast.lm.trainer import RLTraining
    from recast.strategies import parse_strategy

    if any(rate <= 0 for rate in rates):
        raise SpecError(f"--lr: expected rates above 0, got {min(rates):g}")
    try:
        for name in strategies:
            parse_strategy(name)
    except ValueError as problem:
        raise SpecError(str(problem)) from None
    with one_line("transformers", "safetensors"):
        data = load_data(folder, codebook)
        _, manifest = checkpoint.read_manifest(start)
        store = Store(Path(store_path)).prepare()
        how = RLTraining(
            steps=steps,
            batch=batch,
            group=group,
            kl_weight=kl,
            search=search,
            micro_rows=micro_rows,
            shared_prefix=shared_prefix,
            evaluations=min(evaluations, steps),
        )
        jobs = {}
        for name, rate, seed in itertools.product(strategies, rates, seeds):
            config = run_config(data, manifest, how, name, rate, seed, eval_prompts)
            jobs[run_key(config)] = config
        missing = [key for key in jobs if not store.has(key)]
        if estimate and missing:
            seconds = _time(start, data, how, eval_prompts) * len(missing)
            click.echo(
                f"{len(missing)} of {len(jobs)} runs to do, about {seconds / 3600:.1f} hours here "
                "(three GRPO steps and one evaluation measured; other strategies are "
                "quicker); the same command resumes",
                err=True,
            )
        if time_only:
            return
        with progress_bar() as show:
            for place, key in enumerate(missing):
                config = jobs[key]
                _one_run(start, data, how, config, key, store, out, logs, place, len(missing), show)
    frame = mark_tuned(store.load(list(jobs)), tune_metric)
    frame = frame.sort(pl.col("strategy").replace_strict({s: i for i, s in enumerate(strategies)}))
    table = summary(frame)
    if style != "table":
        emit(table, style, "")
        return
    columns = [c for q in QUALITY for c in (q, f"{q}_low", f"{q}_high")]
    emit(
        table.select("strategy", "slice", "lr", "seeds", "diverged", *columns),
        style,
        f"{data.name}: {min(eval_prompts, len(data.test))} of {len(data.test)} test prompts, "
        "mean [95% interval] over seeds",
    )
    everyone = table.filter((pl.col("slice") == "all") & (pl.col("strategy") != "start"))
    emit(everyone.select("strategy", *SIGNAL, *REGIME, *COST), style, "What taught, at what cost?")
    click.echo(f"runs: {len(jobs)} in {store.root}; rates chosen by {tune_metric} on tuning users")
    if len(seeds) < 10:
        click.echo(f"note: {len(seeds)} seeds; a difference between strategies needs ten or more")


def _one_run(
    start: Path,
    data: LMData,
    how: RLTraining,
    config: dict[str, Any],
    key: str,
    store: Store,
    out: Path | None,
    logs: Path | None,
    place: int,
    runs: int,
    show: Callable[[int, int, str], None],
) -> None:
    """Train one run, store it, and keep its model when asked to."""
    from recast.ledger import RunRecord
    from recast.lm import checkpoint
    from recast.lm.trainer import RLTraining, train
    from recast.strategies import parse_strategy

    job = build_job(start, data, config["train_spec"]["eval_prompts"])
    mine = RLTraining(**{**asdict(how), "lr": config["lr"], "seed": config["seed"]})
    label = f"{config['strategy']} lr {config['lr']:g} seed {config['seed']}"
    progress = store.root / ".lm-progress" / key
    name = f"{config['strategy']}-{config['lr']:g}-{config['seed']}".replace(" ", "")
    log = RolloutLog(logs / name) if logs is not None else None

    def record(step: int, collected: Collected) -> None:
        if log is not None:
            log.sampled(job.trie, step, collected)

    rows = train(
        job,
        parse_strategy(config["strategy"]),
        mine,
        progress,
        lambda done, total, _: show(place * total + done, runs * total, label),
        record,
    )
    if out is not None:
        meta = {n: config[n] for n in ("strategy", "lr", "seed", "train_spec")}
        checkpoint.save_model(out / name, job.model, job.vocabulary, data.fingerprint, meta)
    store.write(key, RunRecord(config, rows, world_values(job)))
    shutil.rmtree(progress, ignore_errors=True)


def run_config(
    data: LMData,
    manifest: dict[str, Any],
    how: RLTraining,
    strategy: str,
    lr: float,
    seed: int,
    eval_prompts: int,
) -> dict[str, Any]:
    """Everything that determines one run, JSON-serialisable, in the simulator's layout."""
    from recast.strategies import parse_strategy

    weights = {n: d for n, d in manifest["files"].items() if n.endswith(".safetensors")}
    settings = {k: v for k, v in asdict(how).items() if k not in ("lr", "seed")}
    chosen = asdict(parse_strategy(strategy))
    cell = {
        "lm_engine": ENGINE,
        "world_spec": {"kind": "lm", "data": data.name, "catalogue": data.fingerprint},
        "policy_spec": {"kind": "causal LM"},
        "start_spec": {"weights": weights},
        "train_spec": {**settings, "eval_prompts": eval_prompts},
    }
    return {
        **cell,
        "strategy": plain_text(strategy),
        "composition": {
            k: v for k, v in chosen.items() if k not in ("meaning", "source", "all_zero")
        },
        "lr": lr,
        "seed": seed,
        "cell": run_key(cell)[:8],
        "world": f"lm:{data.name}",
        "group": how.group,
    }


def build_job(start: Path, data: LMData, eval_prompts: int) -> Job:
    """The policy and its frozen reference, RL prompts, and what to evaluate on."""
    import torch

    from recast.lm import checkpoint
    from recast.lm.evaluate import evaluation_set
    from recast.lm.trainer import Job
    from recast.lm.trie import build_trie

    policy = checkpoint.load_model(start, data.fingerprint)
    reference = checkpoint.load_model(start, data.fingerprint).model
    for parameter in reference.parameters():
        parameter.requires_grad_(False)
    trie = build_trie(data.sids)
    splits = {"test": data.test, "validation": data.tuning}
    return Job(
        model=policy.model,
        reference=reference,
        vocabulary=policy.vocabulary,
        trie=trie,
        prompts=policy.vocabulary.prompts([row.history for row in data.learning]),
        target=torch.tensor([row.target for row in data.learning]),
        evaluation={
            split: evaluation_set(policy.vocabulary, trie, rows, data.slices(rows), eval_prompts)
            for split, rows in splits.items()
        },
    )


def world_values(job: Job) -> dict[str, float | None]:
    """Numbers of the world that every run of the store carries; a real log has no ceiling."""
    parameters = float(sum(p.numel() for p in job.model.parameters()))
    return {"ceiling_pass_at_1": None, "ceiling_recall_at_10": None, "parameters": parameters}


def _time(start: Path, data: LMData, how: RLTraining, eval_prompts: int) -> float:
    """Seconds of one GRPO run on this machine, extrapolated from three steps and one evaluation."""
    from recast.lm.trainer import RLTraining, train
    from recast.strategies import STRATEGIES

    job = build_job(start, data, eval_prompts)
    short = RLTraining(**{**asdict(how), "steps": 3, "evaluations": 1})
    began = time.perf_counter()
    rows = train(job, STRATEGIES["grpo"], short)
    whole = time.perf_counter() - began
    step = next(r["step_seconds"] for r in rows if r["step"] == 3)
    # Start and end evaluate two splits each; the evaluations between them the test split alone.
    evaluation = (whole - 3 * step) / 4
    return float(how.steps * step + (how.evaluations + 3) * evaluation)
