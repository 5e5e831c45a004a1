"""Supervised fine-tuning on next items, early-stopped, resumable.

Loss: cross-entropy of the codes, the target's alone or those of the whole sequence, unconstrained
softmax. After each epoch the tuning users give the mean negative log-likelihood of the target under
the trie-constrained policy (nats), which is what rollouts sample from, and NDCG@10 of 10 beams; one
of the two chooses the epoch that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recast.lm import checkpoint
from recast.lm.dataset import LMData
from recast.lm.decode import beams
from recast.lm.optimizer import AdamW, trainable
from recast.lm.optional_extra import LMError
from recast.lm.prefix import (
    CausalLM,
    chosen_logp,
    head,
    hidden_states,
    level_logits,
    packed_states,
)
from recast.lm.seeds import batch_indices
from recast.lm.trie import Trie
from recast.lm.vocabulary import PromptTokens, Vocabulary
from recast.progress import Progress

StopOn = Literal["ndcg_at_10", "nll"]


@dataclass(frozen=True)
class Tuning:
    """epochs: at most; patience: epochs without a better `stop_on` before stopping; history_loss:
    learn the codes of the history too; micro_rows: rows per forward pass (memory, not result), 0 =
    the batch; lr peaks after the first warmup steps and falls along a
    cosine to a tenth at the last epoch."""

    epochs: int = 10
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.1
    warmup: int = 50
    patience: int = 2
    stop_on: StopOn = "ndcg_at_10"
    history_loss: bool = False
    clip_norm: float = 1.0
    seed: int = 0
    micro_rows: int = 0


@dataclass(frozen=True)
class FineTuned:
    """history: one entry per epoch (epoch, train_loss, nll, ndcg_at_10). best: the epoch kept."""

    history: tuple[dict[str, float], ...]
    best: int


def sequence_loss(
    model: CausalLM, vocabulary: Vocabulary, prompts: PromptTokens, target: Tensor, history: bool
) -> Tensor:
    """Mean cross-entropy of the codes, in nats; target `[B, L]` codes."""
    depth = target.shape[-1]
    table = vocabulary.table(prompts.ids.device)
    ids = torch.nn.functional.pad(prompts.ids, (0, depth), value=vocabulary.pad)
    line = torch.arange(len(prompts), device=ids.device)
    for level in range(depth):
        ids[line, prompts.length + level] = table[level][target[:, level]]
    place = torch.arange(ids.shape[1], device=ids.device)
    states = hidden_states(model, ids, place.expand_as(ids), None)
    counted = _counted(vocabulary, prompts, depth, history)
    counted = counted[:, :-1]
    logits = head(model, states[:, :-1][counted])
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][counted])


def _counted(vocabulary: Vocabulary, prompts: PromptTokens, depth: int, history: bool) -> Tensor:
    """Positions whose next token the loss counts, bool `[B, P + L]`."""
    place = torch.arange(prompts.ids.shape[1] + depth, device=prompts.ids.device)
    # Position p predicts token p + 1; a history code counts when it follows the opening tokens.
    start = prompts.length.unsqueeze(-1) - 1
    counted = (place >= start) & (place < start + depth)
    if history:
        first, end = len(vocabulary.before) - 1, start - len(vocabulary.after)
        counted = counted | ((place >= first) & (place < end))
    return counted


@torch.no_grad()
def target_logp(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    prompts: PromptTokens,
    target: Tensor,
    chunk: int = 256,
    temperature: float = 1.0,
) -> Tensor:
    """log p(target) of the constrained policy, `[B]`, exact; target `[B, L]` codes."""
    return target_logps(model, vocabulary, trie, prompts, target, (temperature,), chunk)[0]


@torch.no_grad()
def target_logps(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    prompts: PromptTokens,
    target: Tensor,
    temperatures: Sequence[float],
    chunk: int = 256,
) -> Tensor:
    """`target_logp` at several temperatures from one forward pass, `[T, B]` float64."""
    tokens = vocabulary.table(prompts.ids.device)
    found = []
    for start in range(0, len(prompts), chunk):
        part, codes = prompts[start : start + chunk], target[start : start + chunk].unsqueeze(1)
        states = packed_states(model, vocabulary, part, codes)
        logits = [here.double() for here in level_logits(model, states, tokens, trie)]
        found.append(
            torch.stack(
                [chosen_logp(logits, tokens, codes, trie, t).sum((-2, -1)) for t in temperatures]
            )
        )
    return torch.cat(found, 1)


def fine_tune(
    model: CausalLM,
    vocabulary: Vocabulary,
    trie: Trie,
    data: LMData,
    how: Tuning,
    folder: Path,
    progress: Progress = lambda *_: None,
) -> FineTuned:
    """Train `model` in place on the SFT rows to its best epoch, which the tuning rows choose.

    After each epoch `folder/progress` holds what a resumed call needs: the same command continues
    bit for bit. Raises LMError for a loss that is not finite (the checkpoint of the epoch before
    stays) and for a progress folder of another configuration.
    """
    device = trie.codes.device
    prompts = vocabulary.prompts([row.history for row in data.sft]).to(device)
    target = torch.tensor([row.target for row in data.sft], device=device)
    held_prompts = vocabulary.prompts([row.history for row in data.tuning]).to(device)
    held_target = torch.tensor([row.target for row in data.tuning], device=device)
    batch = min(how.batch, len(prompts))
    per_epoch = len(prompts) // batch
    named = trainable(model)
    optimizer = AdamW(named, how.lr, weight_decay=how.weight_decay)
    best = {name: value.detach().clone() for name, value in named.items()}
    settings = {name: value for name, value in asdict(how).items() if name != "micro_rows"}
    wanted = {"how": settings, "rows": len(data.sft), "catalogue": data.fingerprint}
    history = _resumed(folder, wanted, optimizer, named, best)
    while not _finished(history, how):
        epoch = len(history)
        model.train()
        total = 0.0
        for place in range(per_epoch):
            step = epoch * per_epoch + place
            index = batch_indices(how.seed, "sft", step, batch, len(prompts)).to(device)
            loss = _gradient(model, vocabulary, prompts[index], target[index], how)
            _check_finite(loss, step, how, folder)
            optimizer.step(_rate(step, how, per_epoch), how.clip_norm)
            total += loss
            progress(step + 1, how.epochs * per_epoch, f"epoch {epoch + 1}")
        model.eval()
        nll = -target_logp(model, vocabulary, trie, held_prompts, held_target).mean().item()
        ndcg = _ndcg(model, vocabulary, trie, held_prompts, held_target)
        loss_mean = total / per_epoch
        history.append({"epoch": epoch, "train_loss": loss_mean, "nll": nll, "ndcg_at_10": ndcg})
        if _best(history, how) == epoch:
            for name, value in named.items():
                best[name].copy_(value.detach())
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
    return FineTuned(tuple(history), _best(history, how))


def _check_finite(loss: float, step: int, how: Tuning, folder: Path) -> None:
    if not math.isfinite(loss):
        raise LMError(
            f"SFT: the loss became {loss} at step {step + 1} (lr {how.lr:g}); "
            f"lower --lr; the last good state is kept in {folder}"
        )


def _resumed(
    folder: Path,
    wanted: dict[str, Any],
    optimizer: AdamW,
    named: dict[str, nn.Parameter],
    best: dict[str, Tensor],
) -> list[dict[str, float]]:
    """Put back what `folder/progress` holds, in place; the epochs that are done, none without it.

    Raises LMError for the progress of another configuration.
    """
    saved = checkpoint.unfinished(folder / "progress", wanted, folder)
    if saved is None:
        return []
    state, meta = saved
    optimizer.load(state)
    for name in named:
        named[name].data.copy_(state[f"now.{name}"])
        best[name].copy_(state[f"best.{name}"])
    return list(meta["history"])


def _gradient(
    model: CausalLM, vocabulary: Vocabulary, prompts: PromptTokens, target: Tensor, how: Tuning
) -> float:
    """Add the gradient of one batch's loss, in micro-batches; returns the loss."""
    total, counts = 0.0, _counted(vocabulary, prompts, target.shape[-1], how.history_loss).sum(-1)
    size = how.micro_rows or len(prompts)
    for part in torch.split(torch.arange(len(prompts), device=target.device), size):
        loss = sequence_loss(model, vocabulary, prompts[part], target[part], how.history_loss)
        loss = loss * (counts[part].sum() / counts.sum())
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def _best(history: list[dict[str, float]], how: Tuning) -> int:
    """The first epoch with the best value."""
    sign = -1 if how.stop_on == "nll" else 1
    return max(range(len(history)), key=lambda e: (sign * history[e][how.stop_on], -e))


def _finished(history: list[dict[str, float]], how: Tuning) -> bool:
    if not history:
        return False
    return len(history) >= how.epochs or len(history) - 1 - _best(history, how) >= how.patience


def _ndcg(
    model: CausalLM, vocabulary: Vocabulary, trie: Trie, prompts: PromptTokens, target: Tensor
) -> float:
    wanted = trie.walk(target)[2].unsqueeze(-1)
    gains = []
    for start in range(0, len(prompts), 128):
        part = slice(start, start + 128)
        hit = beams(model, vocabulary, trie, prompts[part], 10)[0] == wanted[part]
        gains.append((hit / torch.log2(torch.arange(10, device=hit.device) + 2.0)).sum(-1))
    return torch.cat(gains).mean().item()


def _rate(step: int, how: Tuning, per_epoch: int) -> float:
    if step < how.warmup:
        return how.lr * (step + 1) / how.warmup
    part = (step - how.warmup) / max(1, how.epochs * per_epoch - how.warmup)
    return how.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, part))))
