"""A tiny catalogue, tokenizer and data set for the TRL adapter; also run by `torchrun`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import tiny
import torch
from datasets import Dataset
from trl import GRPOConfig

from recast.lm.tokenizer import code_tokenizer, prompt_text

VOCAB = tiny.vocabulary()
TRIE = tiny.catalogue(1, 12)


def dataset(count: int = 16) -> Dataset:
    rows = tiny.interactions(TRIE, count)
    return Dataset.from_list(
        [
            {
                "prompt": prompt_text(VOCAB, row.history),
                "target_ids": [VOCAB.tokens[lv][c] for lv, c in enumerate(row.target)],
            }
            for row in rows
        ]
    )


def easy_dataset(count: int = 16) -> Dataset:
    """Targets that free generation often finds: what the model itself would say greedily."""
    model, tokenizer = tiny.model("qwen3", VOCAB), code_tokenizer(VOCAB)
    rows = []
    for row in dataset(count):
        ids = tokenizer(row["prompt"])["input_ids"]
        for _ in range(3):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        rows.append({**row, "target_ids": ids[-3:]})
    return Dataset.from_list(rows)


def several(count: int = 16) -> Dataset:
    """Rows whose right answers are the target and the next two items of the catalogue."""
    table, sids = VOCAB.tokens, TRIE.codes.tolist()
    items = [[table[lv][code] for lv, code in enumerate(sid)] for sid in sids]
    rows = []
    for row in dataset(count):
        place = items.index(row["target_ids"])
        right = [items[(place + k) % len(items)] for k in range(3)]
        rows.append({**row, "target_ids": right})
    return Dataset.from_list(rows)


def config(folder: Path, **changes: Any) -> GRPOConfig:
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 16,
        "num_generations": 4,
        "max_completion_length": 3,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1e9,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "beta": 0.0,
        "seed": 3,
    }
    return GRPOConfig(**{**settings, **changes})


def trainer(folder: Path, strategy: Any, free: bool = False, **changes: Any) -> Any:
    from recast.adapters.trl import RecastGRPOTrainer

    more = {name: changes.pop(name) for name in ("peft_config", "rollout_func") if name in changes}
    divisor, rows = changes.pop("divisor", "trl"), changes.pop("rows", None)
    where = {} if free else {"trie": TRIE, "vocabulary": VOCAB}
    return RecastGRPOTrainer(
        model=tiny.model("qwen3", VOCAB),
        args=config(folder, **changes),
        train_dataset=rows or (easy_dataset() if free else dataset()),
        processing_class=code_tokenizer(VOCAB),
        strategy=strategy,
        divisor=divisor,
        **where,
        **more,
    )


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


BOTH = "repair=anchor, select=pair, credit=sign, supervised=sft(0.1)"
"""Two active rows and a target per group."""


def ranked(folder: Path, rows: int) -> Any:
    """Two optimizer steps over so many rows per rank, in two micro-batches."""
    return trainer(
        folder, BOTH, per_device_train_batch_size=rows, gradient_accumulation_steps=2, max_steps=2
    )


def main(folder: Path) -> None:
    """One rank: train, and write what this rank ended with."""
    it = ranked(folder, 6)
    it.train()
    rank, ended = it.accelerator.process_index, weights(it.accelerator.unwrap_model(it.model))
    torch.save(ended, folder / f"rank{rank}.pt")
    norms = [row["grad_norm"] for row in it.state.log_history if "grad_norm" in row]
    (folder / f"rank{rank}.json").write_text(json.dumps(norms))
    it.accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # The work is done and written. Now and then the libraries' own threads abort the interpreter
    # while it shuts down, after this point; an exception above still ends with its traceback.
    sys.stdout.flush()
    os._exit(0)
