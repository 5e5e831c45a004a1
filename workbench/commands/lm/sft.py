"""`recast lm sft`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from workbench.commands.lm.session import CODEBOOK, DATA, on_device, one_line
from workbench.commands.output import FORMAT, emit, progress_bar

if TYPE_CHECKING:
    from recast.lm.device import Placement


@click.command()
@DATA
@CODEBOOK
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the model.")
@click.option("--model", "name", default=None, help="Local folder or hub id. Default: small Qwen3.")
@click.option("--lora", "rank", type=click.IntRange(1), default=None, help="LoRA of this rank.")
@click.option("--chat", is_flag=True, help="Put the history into the model's chat template.")
@click.option("--gguf", default=None, help="GGUF file inside the --model folder.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the model.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option("--patience", type=click.IntRange(1), default=2, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True)
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True)
@click.option(
    "--stop-on", type=click.Choice(["ndcg_at_10", "nll"]), default="ndcg_at_10", show_default=True
)
@click.option("--history-loss", is_flag=True, help="Learn the codes of the history too.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=None,
    help="Use so many train rows, and so many tuning rows.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--micro-rows",
    type=click.IntRange(0),
    default=0,
    help="Rows per forward pass (memory, not result). Default: the batch.",
)
@on_device
@FORMAT
def sft(
    folder: Path,
    codebook: int | None,
    out: Path,
    name: str | None,
    rank: int | None,
    chat: bool,
    gguf: str | None,
    trust_remote_code: bool,
    epochs: int,
    patience: int,
    batch: int,
    lr: float,
    stop_on: Any,
    history_loss: bool,
    limit: int | None,
    seed: int,
    style: str,
    micro_rows: int,
    placement: Placement,
) -> None:
    """Fine-tune on next items; early-stopped on the tuning users; the model goes to OUT/model.

    A killed command continues when it is given again. Columns: epoch, train_loss (nats per code),
    nll (nats per target of the tuning users, trie-constrained), ndcg_at_10 (theirs), kept.
    """
    from recast.lm import checkpoint
    from recast.lm.dataset import load_data
    from recast.lm.models import (
        SmallModel,
        build_small,
        default_vocabulary,
        load_pretrained,
        with_lora,
    )
    from recast.lm.sft import Tuning, fine_tune
    from recast.lm.trie import build_trie

    packages = ["transformers", "safetensors", *(["peft"] if rank else [])]
    with one_line(*packages):
        data = load_data(folder, codebook)
        tokenizer: Any = None
        if name is None:
            vocabulary = default_vocabulary(data.depth, data.codebook)
            model = build_small(vocabulary, SmallModel(), seed, placement)
        else:
            model, tokenizer, vocabulary = load_pretrained(
                name,
                data.depth,
                data.codebook,
                chat=chat,
                trust_remote_code=trust_remote_code,
                gguf=gguf,
                placement=placement,
            )
        if rank:
            model = with_lora(model, vocabulary, rank)
        total = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        how = Tuning(
            epochs=epochs,
            batch=batch,
            lr=lr,
            patience=patience,
            history_loss=history_loss,
            stop_on=stop_on,
            seed=seed,
            micro_rows=micro_rows,
        )
        with progress_bar("steps") as progress:
            outcome = fine_tune(
                model,
                vocabulary,
                build_trie(data.sids).to(placement.device),
                data.sft[:limit],
                data.tuning[:limit],
                how,
                out,
                data.fingerprint,
                progress,
            )
        meta = {"history": outcome.history, "best": outcome.best, "data": data.name, "base": name}
        checkpoint.save_model(out / "model", model, vocabulary, data.fingerprint, meta, tokenizer)
    frame = pl.DataFrame(outcome.history).with_columns(
        pl.col("epoch").cast(pl.Int64), kept=pl.col("epoch") == outcome.best
    )
    emit(
        frame, style, f"{total:,} parameters, {trained:,} trained, on {len(data.sft[:limit])} rows"
    )
    if style == "table":
        click.echo(f"model: {out / 'model'}; next: recast lm evaluate {folder} --model {out}/model")
