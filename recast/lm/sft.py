"""Supervised fine-tuning on next items, early-stopped, resumable.

Loss: cross-entropy of the codes, the target's alone or those of the whole sequence, unconstrained
softmax. The validation value is the mean negative log-likelihood of the target under the
trie-constrained policy (nats), which is what rollouts sample from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from recast.items import Interaction
from recast.lm import checkpoint
from recast.lm.extra import LMError
from recast.lm.models import CausalLM
from recast.lm.optimizer import Adam
from recast.lm.prefix import head, hidden_states, packed_logp, prompt_mask
from recast.lm.seeds import batch_indices
from recast.lm.trie import Trie
from recast.lm.vocabulary import Prompts, Vocabulary

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Tuning:
    """epochs: at most; patience: epochs without a better validation value before stopping;
    history_loss: learn the codes of the history too; lr peaks after the first warmup steps and
    falls along a cosine to a tenth at the last epoch."""

    epochs: int = 10
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 50
    patience: int = 2
    history_loss: bool = False
    clip_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """history: one entry per epoch (epoch, train_loss, validation_nll). best: the epoch kept."""

    history: tuple[dict[str, float], ...]
    best: int


def sequence_loss(
    model: CausalLM, vocabulary: Vocabulary, prompts: Prompts, target: Tensor, history: bool
) -> Tensor:
    """Mean cross-entropy of the codes, in nats; target `[B, L]` codes."""
    depth = target.shape[-1]
    table = vocabulary.table(prompts.ids.device)
    ids = torch.nn.functional.pad(prompts.ids, (0, depth), value=vocabulary.pad)
    line = torch.arange(len(prompts), device=ids.device)
    for level in range(depth):
        ids[line, prompts.length + level] = table[level][target[:, level]]
    length = prompts.length + depth
    _, mask = prompt_mask(length, ids.shape[1])
    place = torch.arange(ids.shape[1], device=ids.device)
    states = hidden_states(model, ids, place.expand_as(ids), mask.unsqueeze(1))
    # Position p predicts token p + 1; a history code counts when it follows the opening tokens.
    first = len(vocabulary.before) - 1 if history else None
    start = prompts.length.unsqueeze(-1) - 1
    counted = (place >= start) & (place < start + depth)
    if first is not None:
        end = prompts.length.unsqueeze(-1) - 1 - len(vocabulary.after)
        counted = counted | ((place >= first) & (place < end))
    counted = counted[:, :-1]
    logits = head(model, states[:, :-1][counted])
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][counted])


@torch.no_grad()
def target_logp(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    prompts: Prompts,
    target: Tensor,
    chunk: int = 256,
    temperature: float = 1.0,
) -> Tensor:
    """log p(target) of the constrained policy, `[B]`, exact; target `[B, L]` codes."""
    found = [
        packed_logp(
            model,
            vocabulary,
            prompts[start : start + chunk],
            target[start : start + chunk].unsqueeze(1),
            trie,
            temperature,
        ).sum((-2, -1))
        for start in range(0, len(prompts), chunk)
    ]
    return torch.cat(found)


def fine_tune(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    rows: Sequence[Interaction],
    tuning: Sequence[Interaction],
    how: Tuning,
    folder: Path,
    fingerprint: str,
    progress: Progress = lambda *_: None,
) -> Outcome:
    """Train `model` in place to its best epoch.

    After each epoch `folder/progress` holds what a resumed call needs: the same command continues
    bit for bit. Raises LMError for a loss that is not finite (the checkpoint of the epoch before
    stays) and for a progress folder of another configuration.
    """
    prompts = vocabulary.prompts([row.history for row in rows])
    target = torch.tensor([row.target for row in rows])
    held_prompts = vocabulary.prompts([row.history for row in tuning])
    held_target = torch.tensor([row.target for row in tuning])
    batch = min(how.batch, len(prompts))
    per_epoch = len(prompts) // batch
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = Adam(named, how.lr, weight_decay=how.weight_decay)
    best = {name: value.detach().clone() for name, value in named.items()}
    history: list[dict[str, float]] = []
    wanted = {"how": asdict(how), "rows": len(rows), "catalogue": fingerprint}
    saved = checkpoint.load_state(folder / "progress")
    if saved is not None:
        state, meta = saved
        if meta["wanted"] != wanted:
            raise LMError(
                f"{folder}: an unfinished run with other settings lives here; finish it with its "
                "own settings, delete the folder, or choose another --out"
            )
        history = list(meta["history"])
        optimizer.load(state)
        for name in named:
            named[name].data.copy_(state[f"now.{name}"])
            best[name].copy_(state[f"best.{name}"])
    while not _finished(history, how):
        epoch = len(history)
        model.train()
        total = 0.0
        for place in range(per_epoch):
            step = epoch * per_epoch + place
            index = batch_indices(how.seed, "sft", step, batch, len(prompts))
            loss = sequence_loss(model, vocabulary, prompts[index], target[index], how.history_loss)
            if not bool(loss.isfinite()):
                raise LMError(
                    f"SFT: the loss became {loss.item()} at step {step + 1} (lr {how.lr:g}); "
                    f"lower --lr; the last good state is kept in {folder}"
                )
            loss.backward()
            optimizer.step(_rate(step, how, per_epoch), how.clip_norm)
            total += loss.item()
            progress(step + 1, how.epochs * per_epoch, f"epoch {epoch + 1}")
        model.eval()
        nll = -target_logp(model, vocabulary, trie, held_prompts, held_target).mean().item()
        if not history or nll < min(h["validation_nll"] for h in history):
            for name, value in named.items():
                best[name].copy_(value.detach())
        history.append(
            {"epoch": epoch, "train_loss": total / per_epoch, "validation_nll": nll}
        )
        checkpoint.save_state(
            folder / "progress",
            {
                **optimizer.state(),
                **{f"now.{n}": v for n, v in named.items()},
                **{f"best.{n}": v for n, v in best.items()},
            },
            {"wanted": wanted, "history": history},
        )
    for name, value in named.items():
        value.data.copy_(best[name])
    model.eval()
    chosen = min(range(len(history)), key=lambda e: history[e]["validation_nll"])
    return Outcome(tuple(history), chosen)


def _finished(history: list[dict[str, float]], how: Tuning) -> bool:
    if not history:
        return how.epochs == 0
    best = min(range(len(history)), key=lambda e: history[e]["validation_nll"])
    return len(history) >= how.epochs or len(history) - 1 - best >= how.patience


def _rate(step: int, how: Tuning, per_epoch: int) -> float:
    if step < how.warmup:
        return how.lr * (step + 1) / how.warmup
    part = (step - how.warmup) / max(1, how.epochs * per_epoch - how.warmup)
    return how.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, part))))
