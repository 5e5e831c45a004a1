"""Write the rollouts of this project's own trainers as the generic table, one file per step.

A file is replaced whole, so a run that continues after a kill writes its steps again and leaves no
half of one. Rewards are the raw outcomes, before any repair; the advantage is the rollout's own, 0
where the ground truth took its slot. Dynamic sampling shows the groups that it kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recast.groups import Origin, RolloutGroups
from recast.signal import Signal
from sim.general.step import Collected
from sim.worlds.world import World
from workbench.store import files

if TYPE_CHECKING:
    from recast.lm.signal import RolloutPhase as LMCollected
    from recast.lm.trie import Trie

LETTERS = "abcdefghijklmnop"


def semantic_id(codes: Sequence[int]) -> str:
    """Codes as text: `<a_3><b_0><c_7>`."""
    return "".join(f"<{letter}_{code}>" for letter, code in zip(LETTERS, codes, strict=False))


class RolloutLog:
    """A folder with one JSON-lines file per step of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def simulated(self, world: World, step: int, collected: Collected) -> None:
        """Write one step of a simulated run; the first run of the run axis. Raises DiskError."""
        if collected.signal is None:
            return
        codes, batch = world.catalogue.codes, collected.batch
        wanted = [
            [semantic_id(codes[item].tolist()) for item in targets if item >= 0]
            for targets in batch.targets[0].tolist()
        ]
        signal = _first_run(collected.signal)
        self._write(step, signal, [str(p) for p in batch.prompt[0].tolist()], wanted, codes)

    def sampled(self, trie: Trie, step: int, collected: LMCollected) -> None:
        """Write one step of a real model's run. Raises DiskError."""
        if collected.signal is None:
            return
        prompts = collected.prompts
        names = [
            " ".join(map(str, ids[:length]))
            for ids, length in zip(prompts.ids.tolist(), prompts.length.tolist(), strict=True)
        ]
        right = collected.target.unsqueeze(1) if collected.right is None else collected.right
        wanted = [list(dict.fromkeys(map(semantic_id, sids))) for sids in right.tolist()]
        self._write(step, collected.signal, names, wanted, trie.codes)

    def _write(
        self,
        step: int,
        signal: Signal,
        prompts: Sequence[str],
        wanted: Sequence[Sequence[str]],
        codes: Tensor,
    ) -> None:
        sampled = signal.sampled
        assert sampled.item is not None
        width = sampled.reward.shape[-1]
        advantage = signal.advantage.sum(-1) if signal.advantage.ndim > 2 else signal.advantage
        own = signal.rows & (signal.groups.origin == int(Origin.POLICY))
        credit = torch.where(own, advantage, 0.0)[:, :width].tolist()
        items, reward = sampled.item.cpu(), sampled.reward.tolist()
        entropy = None if sampled.entropy is None else sampled.entropy.mean(-1).tolist()
        rank = None if sampled.beam_rank is None else sampled.beam_rank.tolist()
        lines = []
        for b, valid in enumerate(sampled.valid.tolist()):
            for g in range(width):
                if not valid[g]:
                    continue
                row: dict[str, Any] = {
                    "step": step,
                    "prompt": prompts[b],
                    "group": f"{step}-{b}",
                    "prediction": semantic_id(codes[items[b, g]].tolist()),
                    "target": list(wanted[b]),
                    "reward": reward[b][g],
                    "advantage": credit[b][g],
                    "tokens": codes.shape[-1],
                }
                row |= {} if entropy is None else {"entropy": entropy[b][g]}
                row |= {} if rank is None else {"beam_rank": rank[b][g]}
                lines.append(json.dumps(row))
        files.replace(
            "".join(line + "\n" for line in lines).encode(), self.folder / f"{step}.jsonl"
        )


def _first_run(signal: Signal) -> Signal:
    """The signal of the first run, without a run axis."""

    def first(groups: RolloutGroups) -> RolloutGroups:
        tensors: dict[str, Any] = {
            f.name: value[0]
            for f in fields(groups)
            if isinstance(value := getattr(groups, f.name), Tensor)
        }
        return replace(groups, **tensors)

    return replace(
        signal,
        groups=first(signal.groups),
        sampled=first(signal.sampled),
        advantage=signal.advantage[0],
        rows=signal.rows[0],
    )
