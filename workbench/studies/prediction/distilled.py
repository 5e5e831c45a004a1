"""The replay world's MLP that begins as a copy of a language model's start.

It learns what that start draws after each history of the SFT rows, not the targets of these rows:
so it hits and misses on the prompts where the model does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sim.training.warm_start import StartRequest, warm_start
from sim.worlds.replay import replay_world
from sim.worlds.world import World
from workbench.studies.prediction.language_models import LanguageRung
from workbench.studies.prediction.protocol import start_of
from workbench.studies.prediction.small_policies import DISTILLED, SmallRung, roles_of

DRAWS = 8
"""Items that the language model's start says after each SFT history, for its start to be learnt."""

SHORT = 0.1
"""A copy hardly reaches its model's share of groups with a hit: so much less of it is asked for."""


@dataclass(kw_only=True)
class Distilled(SmallRung):
    """Small policies that start as copies of the model of `teacher`, at its own share where it was
    given and not trained to one."""

    teacher: LanguageRung

    def start(self, seed: int) -> dict[str, float]:
        """The start of the seed. Raises ValueError where a copy does not get to the share."""
        place = start_of(seed)
        if place not in self._starts:
            share = self.teacher.start(place)["all_zero"]
            if self.teacher.given is None:
                share = self.all_zero
            wanted = StartRequest(1 - (1 - SHORT) * (1 - share), self.plan.group)
            warm = warm_start(self.policy, self.drawn(place), (place,), wanted)
            about = {"steps": float(warm.steps[0]), "all_zero": float(warm.all_zero[0])}
            self._starts[place] = (warm.params, about)
        return super().start(seed)

    def drawn(self, place: int) -> World:
        """The case's world with what start number `place` draws in the place of the SFT targets."""
        data = self.teacher.case.data
        generator = torch.Generator().manual_seed(place)
        drawn = self.teacher.drawn([row.history for row in data.sft], DRAWS, generator)
        rows = [
            replace(row, target=tuple(codes), more=())
            for row, said in zip(data.sft, drawn.tolist(), strict=True)
            for codes in said
        ]
        return replay_world(data.name, data.sids, data.codebook, {**roles_of(data), "sft": rows})


def distilled(teacher: LanguageRung, world: World, rates: tuple[float, ...]) -> Distilled:
    """The rung that copies a language model's start in the case's own replay world."""
    case = teacher.case
    return Distilled(DISTILLED, world, case.all_zero, teacher.plan, rates, teacher=teacher)
