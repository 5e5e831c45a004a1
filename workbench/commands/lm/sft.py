"""`recast lm sft`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl

from workbench.commands.bounds import BATCH, RANK, RATE, SEED, WHOLE
from workbench.commands.lm.session import (
    CODEBOOK,
    DATA,
    category,
    on_device,
    one_line,
    reads_models,
    show_start,
)
from workbench.commands.output import FORMAT, emit, progress_bar

if TYPE_CHECKING:
    from recast.lm.device import Placement
    from recast.lm.pretrained import ModelReading


@click.command()
@DATA
@CODEBOOK
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the model.")
@click.option("--model", "name", default=None, help="Local folder or hub id. Default: small Qwen3.")
@click.option(
    "--lora", "rank", type=click.IntRange(1, RANK), default=None, help="LoRA of this rank."
)
@click.option("--gguf", default=None, help="GGUF file inside the --model folder.")
@click.option(
    "--add-tokens", is_flag=True, help="Give the model a token for each code that it lacks."
)
@click.option("--epochs", type=click.IntRange(1, WHOLE), default=10, show_default=True)
@click.option("--patience", type=click.IntRange(1, WHOLE), default=2, show_default=True)
@click.option("--batch", type=BATCH, default=64, show_default=True)
@click.option("--lr", type=RATE, default=1e-3, show_default=True)
@click.option(
    "--stop-on", type=click.Choice(["ndcg_at_10", "nll"]), default="ndcg_at_10", show_default=True
)
@click.option("--history-loss", is_flag=True, help="Learn the codes of the history too.")
@click.option(
    "--limit",
    type=click.IntRange(1, WHOLE),
    default=None,
    help="Use so many train rows, and so many tuning rows.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option(
    "--micro-rows",
    type=click.IntRange(0, WHOLE),
    default=0,
    help="Rows per forward pass (memory, not result). Default: the batch.",
)
@on_device
@reads_models
@FORMAT
def sft(
    folder: Path,
    codebook: int | None,
    out: Path,
    name: str | None,
    rank: int | None,
    gguf: str | None,
    add_tokens: bool,
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
    reading: ModelReading,
) -> None:
    """Fine-tune on next items; early-stopped on the tuning users; the model goes to OUT/model.

    A killed command continues when it is given again. Columns: epoch, train_loss (nats per code),
    nll (nats per target of the tuning users, trie-constrained), ndcg_at_10 (theirs), kept.
    """
    from recast.lm import checkpoint
    from recast.lm.dataset import load_data
    from recast.lm.models import SmallModel, build_small, with_lora
    from recast.lm.pretrained import open_model
    from recast.lm.sft import Tuning, fine_tune
    from recast.lm.trie import build_trie
    from recast.lm.vocabulary import small_vocabulary

    packages = ["transformers", "safetensors", *(["peft"] if rank else [])]
    with one_line(*packages):
        data = load_data(folder, codebook, category=category())
        tokenizer: Any = None
        if name is None:
            vocabulary = small_vocabulary(data.depth, data.codebook)
            model = build_small(vocabulary, SmallModel(), seed, placement)
        else:
            reading = replace(
                reading, gguf=gguf, add_tokens=add_tokens, trained="adapters" if rank else "adam"
            )
            start = open_model(name, data, placement, reading)
            show_start(start, data, reading)
            model, tokenizer, vocabulary = start.model, start.tokenizer, start.vocabulary
        if rank:
            model = with_lora(model, vocabulary, rank, seed)
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
            trie = build_trie(data.sids).to(placement.device)
            few = replace(data, sft=data.sft[:limit], tuning=data.tuning[:limit])
            outcome = fine_tune(model, vocabulary, trie, few, how, out, progress)
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
