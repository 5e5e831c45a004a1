"""`recast lm efficiency`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from workbench.commands.bounds import BATCH, CODES, FEW, KL, WHOLE
from workbench.commands.lm.session import check_rollouts, on_device, one_line
from workbench.commands.output import FORMAT, emit, progress_bar
from workbench.errors import UserError
from workbench.spec.strategy_texts import parsed

if TYPE_CHECKING:
    from recast.lm.device import Placement
    from recast.lm.efficiency import Shapes


@click.command()
@click.option("--strategy", "strategies", multiple=True, default=("grpo", "recast"))
@click.option("--group", "groups", multiple=True, type=BATCH, default=(8, 32, 128))
@click.option(
    "--prompt-tokens", "prompts", multiple=True, type=click.IntRange(4, 32_768), default=(31,)
)
@click.option(
    "--micro-rows",
    "micros",
    multiple=True,
    type=click.IntRange(0, WHOLE),
    default=(0, 64),
    help="Rollouts per micro-batch, 0 = the whole batch; repeatable.",
)
@click.option(
    "--micro-tokens",
    type=click.IntRange(0, WHOLE),
    default=0,
    help="Tokens per micro-batch, instead of rows; a group is never split.",
)
@click.option(
    "--model",
    default="small",
    show_default=True,
    help="Architecture with random weights: small, qwen3-0.6b, qwen3-1.7b, qwen3-8b, or a folder "
    "with a config.json.",
)
@click.option(
    "--codebook",
    type=click.IntRange(2, CODES),
    default=256,
    show_default=True,
    help="Codes per level.",
)
@click.option(
    "--optimizer",
    type=click.Choice(["adam", "sgd"]),
    default="adam",
    show_default=True,
    help="sgd keeps no state: where Adam does not fit.",
)
@click.option("--batch", type=BATCH, default=16, show_default=True, help="Prompts.")
@click.option("--repeats", type=click.IntRange(1, FEW), default=3, show_default=True)
@click.option("--kl", type=KL, default=0.0, show_default=True)
@click.option(
    "--engine",
    type=click.Choice(["own", "trl"]),
    default="own",
    show_default=True,
    help="Our own loop, or TRL's trainer with our adapter (prompts re-encoded per rollout).",
)
@click.option("--chart", type=click.Path(path_type=Path), default=None, help="An .html file.")
@on_device
@FORMAT
def efficiency(
    strategies: tuple[str, ...],
    groups: tuple[int, ...],
    prompts: tuple[int, ...],
    micros: tuple[int, ...],
    batch: int,
    repeats: int,
    kl: float,
    engine: str,
    chart: Path | None,
    style: str,
    micro_tokens: int,
    model: str,
    codebook: int,
    optimizer: Any,
    placement: Placement,
) -> None:
    """What an actor update costs: time, step, memory, tokens, FLOPs, MFU; ratios in one run.

    Random weights; the first strategy is the baseline of every ratio.
    Columns: strategy, prefix, group, prompt_tokens, micro_rows (0 = whole batch, or by tokens),
    micro_tokens (0 = by rows), batch, rows, tokens, update_seconds, step_seconds, peak_mib, gflop
    (attention counted), mfu (of the card's bfloat16 peak where the card is known, else of a large
    matrix product measured here), ratio, token_ratio, step_ratio, memory_ratio, prefix_speedup.
    With --engine trl: engine, strategy, group, prompt_tokens, micro_rows, batch, rows,
    update_seconds, step_seconds, ratio, step_ratio. Seconds are processor time on a CPU, wall time
    on a GPU.
    """
    from recast.lm.efficiency import CODEBOOK, SMALL, Shapes, make_rig, measure

    parsed(strategies, "--strategy")
    check_rollouts(batch, max(groups))
    if chart is not None and chart.suffix != ".html":
        raise UserError(f"--chart: {chart.name!r}; expected a file name ending in .html")
    if model == SMALL and max(prompts) > 500:
        raise UserError(
            f"--prompt-tokens: the small model takes at most 500, got {max(prompts)}; choose a "
            "larger one with --model"
        )
    micros = (0,) if micro_tokens else micros
    shapes = Shapes(strategies, groups, prompts, micros, batch, repeats, kl, micro_tokens)
    if engine == "trl":
        if chart is not None:
            raise UserError("--chart: draws the own engine; leave out --engine trl")
        if micro_tokens or kl or (model, codebook, optimizer) != (SMALL, CODEBOOK, "adam"):
            raise UserError(
                "--engine trl: measures the small model, with Adam and without KL, in "
                "micro-batches of rows"
            )
        _inside_trl(shapes, style, placement)
        return
    with one_line("transformers"), progress_bar("measurements") as progress:
        rig = make_rig(placement, model, codebook=codebook, optimizer=optimizer, kl=bool(kl))
        frame = pl.DataFrame(measure(rig, shapes, progress))
    emit(frame, style, f"Cost of one actor update, {batch} prompts, median of {repeats}")
    if chart is not None and len(strategies) > 1:
        from workbench.charts.efficiency import update_ratio

        try:
            update_ratio(frame, strategies[0], strategies[1]).save(str(chart))
        except OSError as problem:
            raise UserError(f"{chart}: cannot write ({problem.strerror})") from None
    if style == "table":
        click.echo(
            "Memory ratios hold for the named micro-batch only; peak_mib on a CPU: tensors kept "
            "for the backward pass, weights, gradient and Adam."
        )


def _inside_trl(shapes: Shapes, style: str, placement: Placement) -> None:
    with one_line("trl", "datasets", "accelerate"), progress_bar("measurements") as progress:
        from recast.adapters.trl_cost import measure_trl

        frame = pl.DataFrame(measure_trl(shapes, progress=progress, placement=placement))
    title = f"Cost of one actor update inside TRL, {shapes.batch} prompts, median of steps"
    emit(frame, style, title)
