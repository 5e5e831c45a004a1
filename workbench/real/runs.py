"""A run of the real-model path: what determines it, and what it trains and evaluates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.spec.experiment import plain_text
from workbench.spec.keys import run_key

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from recast.items import Interaction
    from recast.lm.checkpoint import Checkpoint
    from recast.lm.dataset import LMData
    from recast.lm.device import Placement
    from recast.lm.pretrained import ModelReading
    from recast.lm.update import RLSetup, RLTraining

ENGINE = 3
"""Generation of this path's numbers; raised when the same configuration gives other numbers."""


@dataclass(frozen=True)
class LMCell:
    """What runs of the real-model path share. weights: `recast.lm.pretrained.identity` of the
    start. Of the placement its type alone counts: device, kernel and checkpointing round
    differently, no more. similarity: hash of the items' vectors."""

    data: LMData
    weights: Mapping[str, str]
    how: RLTraining
    eval_prompts: int
    placement: Placement | None = None
    reading: ModelReading | None = None
    lora: int = 0
    similarity: str | None = None


def lm_run_config(shared: LMCell, strategy: str, lr: float, seed: int) -> dict[str, Any]:
    """Everything that determines one run, JSON-serialisable, in the simulator's layout."""
    from recast.lm.models import LORA_SEED
    from recast.strategies import parse_strategy

    left_out = ("lr", "seed", "micro_tokens")
    data, placement, reading, lora = shared.data, shared.placement, shared.reading, shared.lora
    settings = {k: v for k, v in shared.how.settings().items() if k not in left_out}
    dtype = str(placement.dtype).removeprefix("torch.") if placement is not None else "float32"
    if dtype != "float32":
        settings["dtype"] = dtype
    if lora:
        settings |= {"lora": lora, "lora_seed": LORA_SEED}
    if shared.similarity is not None:
        settings["similarity"] = shared.similarity
    tensors = {n: d for n, d in shared.weights.items() if n.endswith(".safetensors")}
    start: dict[str, Any] = {"weights": tensors or dict(shared.weights)}
    if reading is not None and reading.wording != type(reading.wording)():
        start["wording"] = asdict(reading.wording)
    cell = {
        "lm_engine": ENGINE,
        "world_spec": {
            "kind": "lm",
            "data": data.name,
            "catalogue": data.fingerprint,
            **({"targets": "sets"} if any(row.more for row in data.test) else {}),
        },
        "policy_spec": {"kind": "causal LM"},
        "start_spec": start,
        "train_spec": {**settings, "eval_prompts": shared.eval_prompts},
    }
    return {
        **cell,
        "strategy": plain_text(strategy),
        "composition": parse_strategy(strategy).composition,
        "lr": lr,
        "seed": seed,
        "cell": run_key(cell)[:8],
        "world": f"lm:{data.name}",
        "group": shared.how.group,
    }


def build_setup(
    start: str | Path,
    data: LMData,
    eval_prompts: int | None,
    placement: Placement | None = None,
    reading: ModelReading | None = None,
    lora: int = 0,
    reference: bool = True,
) -> tuple[RLSetup, Checkpoint]:
    """The policy and its frozen reference, RL prompts, and what to evaluate on, on one device (by
    default the CPU); and the start as it was opened.

    start: a folder or hub name; lora: train adapters of this rank, 0 = every weight; reference:
    False where no loss will score it, and no second model is held.
    """
    import copy

    import torch

    from recast.lm.device import CPU
    from recast.lm.evaluate import evaluation_set
    from recast.lm.models import with_lora
    from recast.lm.pretrained import ModelReading, open_model
    from recast.lm.trie import build_trie
    from recast.lm.update import RLSetup

    placement = placement or CPU
    device = placement.device
    reading = reading or ModelReading()
    reading = replace(
        reading,
        trained="adapters" if lora else "adam",
        copies=reading.copies + reference,
    )
    policy = open_model(str(start), data, placement, reading)
    frozen = copy.deepcopy(policy.model).requires_grad_(False) if reference else policy.model
    model = with_lora(policy.model, policy.vocabulary, lora) if lora else policy.model
    trie = build_trie(data.sids).to(device)
    splits = {"test": data.test, "validation": data.tuning}
    setup = RLSetup(
        model=model,
        reference=frozen,
        vocabulary=policy.vocabulary,
        trie=trie,
        prompts=policy.vocabulary.prompts([row.history for row in data.learning]).to(device),
        target=torch.tensor([row.target for row in data.learning], device=device),
        more=further_targets(data.learning, device),
        evaluation={
            split: evaluation_set(policy.vocabulary, trie, rows, data.slices(rows), eval_prompts)
            for split, rows in splits.items()
        },
    )
    return setup, policy


class Setups:
    """Setups of several starts, each built once; what trained one leaves no trace in the next."""

    def __init__(self) -> None:
        self._built: dict[int, tuple[RLSetup, dict[str, Tensor]]] = {}

    def fresh(self, place: int, build: Callable[[], RLSetup]) -> RLSetup:
        """The setup of a start, with the weights it was built with and without gradients."""
        from recast.lm.optimizer import trainable

        if place not in self._built:
            setup = build()
            named = trainable(setup.model).items()
            weights = {name: value.detach().clone() for name, value in named}
            self._built[place] = (setup, weights)
        setup, weights = self._built[place]
        for name, value in trainable(setup.model).items():
            value.data.copy_(weights[name])
            value.grad = None
        return setup


def further_targets(rows: Sequence[Interaction], device: torch.device) -> Tensor | None:
    """Codes of the targets behind the first, `[n, M - 1, L]`, the first fills up; None where no row
    has several."""
    import torch

    width = max((len(row.more) for row in rows), default=0)
    if not width:
        return None
    filled = [[*row.more, *[row.target] * (width - len(row.more))] for row in rows]
    return torch.tensor(filled, device=device)


def needs_reference(how: RLTraining, strategies: Sequence[str]) -> bool:
    """Whether any of these strategies, trained so, scores the frozen reference."""
    from recast.strategies import parse_strategy

    return bool(how.kl_weight) or any("reference" in parse_strategy(s).needs for s in strategies)


def world_values(setup: RLSetup) -> dict[str, float | None]:
    """Numbers of the world that every run of the store carries; a real log has no ceiling."""
    parameters = float(sum(p.numel() for p in setup.model.parameters()))
    return {"ceiling_pass_at_1": None, "ceiling_recall_at_10": None, "parameters": parameters}
