"""What an actor update costs inside TRL's trainer, by the same made-up data as `efficiency`.

The trainer is `RecastGRPOTrainer` with trie-constrained rollouts; an update is every forward and
backward pass of one generation batch, from TRL's own micro-batches, and the optimizer step.
"""

from __future__ import annotations

import statistics
import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig

from recast.adapters.trl import RecastGRPOTrainer
from recast.lm.device import CPU, Placement, clock
from recast.lm.efficiency import Shapes, TimingRow, made_up
from recast.lm.models import SmallModel, build_small
from recast.lm.optional_extra import LMError
from recast.lm.tokenizer import code_tokenizer, prompt_text
from recast.lm.vocabulary import Vocabulary, small_vocabulary
from recast.progress import Progress


class _Clock(TrainerCallback):  # type: ignore[misc]  # transformers is optional and untyped
    """Seconds of each optimizer step: update alone, and with the rollouts; rows."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.update = self.rollout = self.began = 0.0
        self.rows = 0
        self.steps: list[tuple[float, float, int]] = []

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.began = clock(self.device)

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        update = self.update + clock(self.device) - self.began
        self.steps.append((update, self.rollout, self.rows))
        self.update, self.rollout, self.rows = 0.0, 0.0, 0


class _Timed(RecastGRPOTrainer):
    clock: _Clock

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        began = clock(self.clock.device)
        found = super()._prepare_inputs(generation_batch)
        self.clock.rollout += clock(self.clock.device) - began
        self.clock.rows += len(found.get("completion_ids", ()))
        return found

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        began, rollout = clock(self.clock.device), self.clock.rollout
        found = super().training_step(*args, **kwargs)
        self.clock.update += clock(self.clock.device) - began - (self.clock.rollout - rollout)
        return found


def measure_trl(
    shapes: Shapes,
    shape: SmallModel | None = None,
    progress: Progress = lambda *_: None,
    placement: Placement = CPU,
) -> list[TimingRow]:
    """One row per strategy, group and micro-batch, seconds (of `clock`) as medians.

    Columns: engine, strategy, group, prompt_tokens, micro_rows, batch, rows (with padding),
    update_seconds, step_seconds, ratio, step_ratio (the baseline's over this one's). The cases of
    one shape take turns. Raises LMError where B x G is no multiple of the micro-batch.
    """
    grid = [
        (tokens, group, min(micro or whole, whole))
        for tokens in shapes.prompt_tokens
        for group in shapes.groups
        for whole in (shapes.batch * group,)
        for micro in shapes.micro_rows
    ]
    for _, group, micro in grid:
        if shapes.batch * group % micro:
            raise LMError(
                f"--micro-rows: {shapes.batch} prompts x G = {group} rollouts are no multiple of "
                f"{micro}; expected a divisor"
            )
    found: list[TimingRow] = []
    for place, (tokens, group, micro) in enumerate(grid):
        progress(place, len(grid), f"TRL, G = {group}, P = {tokens}, micro-batch {micro}")
        steps: dict[str, list[tuple[float, float, int]]] = {name: [] for name in shapes.strategies}
        for _ in range(shapes.repeats):
            for name in shapes.strategies:
                # The first step of a trainer warms up and is not counted.
                steps[name] += _steps(name, tokens, group, micro, shapes, shape, placement)[1:]
        here = [_row(name, steps[name], tokens, group, micro, shapes) for name in shapes.strategies]
        for row in here:
            for ratio, column in (("ratio", "update_seconds"), ("step_ratio", "step_seconds")):
                row[ratio] = float(here[0][column]) / float(row[column])
        found += here
    progress(len(grid), len(grid), "done")
    return found


def _row(
    name: str,
    steps: list[tuple[float, float, int]],
    tokens: int,
    group: int,
    micro: int,
    shapes: Shapes,
) -> TimingRow:
    update = statistics.median(u for u, _, _ in steps)
    return {
        "engine": "trl",
        "strategy": name,
        "group": group,
        "prompt_tokens": tokens,
        "micro_rows": micro,
        "batch": shapes.batch,
        "rows": steps[0][2],
        "update_seconds": update,
        "step_seconds": update + statistics.median(r for _, r, _ in steps),
    }


def _steps(
    name: str,
    tokens: int,
    group: int,
    micro: int,
    shapes: Shapes,
    shape: SmallModel | None,
    placement: Placement,
) -> list[tuple[float, float, int]]:
    vocabulary = small_vocabulary(3, 256, recent=10_000)
    trie, histories, targets = made_up(tokens, shapes.batch, vocabulary)
    timer = _Clock(placement.device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = _Timed(
            model=build_small(vocabulary, shape or SmallModel(), 0, placement),
            args=_config(folder, group, micro, shapes, placement),
            train_dataset=_dataset(vocabulary, histories, targets),
            processing_class=code_tokenizer(vocabulary),
            strategy=name,
            trie=trie,
            vocabulary=vocabulary,
            callbacks=[timer],
        )
        trainer.clock = timer
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return timer.steps


def _config(folder: str, group: int, micro: int, shapes: Shapes, placement: Placement) -> Any:
    return GRPOConfig(
        folder,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=shapes.batch * group // micro,
        num_generations=group,
        max_completion_length=3,
        max_steps=3,
        gradient_checkpointing=placement.checkpointing,
        learning_rate=1e-6,
        beta=shapes.kl_weight,
        bf16=False,
        use_cpu=placement.device.type == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _dataset(vocabulary: Vocabulary, histories: Any, targets: Any) -> Any:
    return Dataset.from_list(
        [
            {
                "prompt": prompt_text(vocabulary, history),
                "target_ids": [vocabulary.tokens[lv][code] for lv, code in enumerate(target)],
            }
            for history, target in zip(histories, targets, strict=True)
        ]
    )
