"""SFT checkpoints of small models, the starts of a comparison that brings none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recast.progress import Progress

if TYPE_CHECKING:
    from recast.lm.dataset import LMData
    from recast.lm.device import Placement

START_RATE = 2e-3
"""Learning rate of the small models' SFT."""


def train_starts(
    data: LMData,
    folder: Path,
    count: int,
    layers: int,
    width: int,
    progress: Progress,
    placement: Placement | None = None,
) -> tuple[Path, ...]:
    """SFT checkpoints of small models, seeds 0, 1, ...; those that exist are kept."""
    from recast.lm import checkpoint
    from recast.lm.device import CPU
    from recast.lm.models import SmallModel, build_small
    from recast.lm.sft import Tuning, fine_tune
    from recast.lm.trie import build_trie
    from recast.lm.vocabulary import small_vocabulary

    placement = placement or CPU
    trie = build_trie(data.sids).to(placement.device)
    found = []
    for seed in range(count):
        place = folder / "starts" / f"{layers}x{width}-{seed}"
        if not (place / "model").exists():
            vocabulary = small_vocabulary(data.depth, data.codebook)
            shape = SmallModel(layers, width, max(1, width // 32), 3 * width)
            model = build_small(vocabulary, shape, seed, placement)
            how = Tuning(lr=START_RATE, history_loss=True, seed=seed)

            def show(done: int, total: int, text: str, seed: int = seed) -> None:
                progress(seed * total + done, count * total, f"start {seed + 1}, {text}")

            found_best = fine_tune(model, vocabulary, trie, data, how, place, show)
            meta = {"history": found_best.history, "best": found_best.best, "data": data.name}
            checkpoint.save_model(place / "model", model, vocabulary, data.fingerprint, meta)
        found.append(place / "model")
    return tuple(found)
