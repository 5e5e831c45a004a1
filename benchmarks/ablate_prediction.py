"""What of the replay world's small policy makes it order strategies unlike a language model?

    python -m benchmarks.ablate_prediction STUDY DIR [DIR ...] [--variant NAME] [--seeds 10]

STUDY is the folder of a finished `recast predict --study` with the rungs lm_0.15M and replay_mlp
on these data folders. Each variant changes one thing of the MLP's rung, is tuned and run like it,
and is held against the language model's pairs. Runs are kept below STUDY/ablation; the same command
resumes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import polars as pl
import torch

from benchmarks.measure import table
from recast.lm.dataset import load_data
from sim.policies.mlp import MLP
from sim.training.warm_start import StartRequest, warm_start
from sim.worlds.replay import replay_world
from sim.worlds.world import World
from workbench.studies.prediction import missing_runs
from workbench.studies.prediction.accuracy import accuracy_table, pairs_of
from workbench.studies.prediction.language_models import SMALLEST, LanguageRung
from workbench.studies.prediction.protocol import (
    ALL_ZERO,
    START,
    STARTS,
    USUAL,
    Case,
    PredictionPlan,
    case_of,
    start_of,
)
from workbench.studies.prediction.small_policies import SmallRung, world_of
from workbench.studies.prediction.study import RATES, PredictionStudy

MLP_RUNG, DEAR = "replay_mlp", SMALLEST
DRAWS = 8
"""Items that the language model's start says after each SFT history, for its start to be learnt."""

SHORT = 0.1
"""A copy hardly reaches its model's share of groups with a hit: so much less of it is asked for."""


@dataclass
class Distilled(SmallRung):
    """The MLP learns what the language model's start says, not what the SFT rows hold; worlds: by
    place, their SFT rows are the model's own draws."""

    worlds: tuple[World, ...] = ()

    def start(self, seed: int) -> dict[str, float]:
        """The start of the seed, warm-started to the case's share on the draws."""
        place = start_of(seed)
        if place not in self._starts:
            wanted = StartRequest(1 - (1 - SHORT) * (1 - self.all_zero), self.plan.group)
            warm = warm_start(self.policy, self.worlds[place], (place,), wanted)
            about = {"steps": float(warm.steps[0]), "all_zero": float(warm.all_zero[0])}
            self._starts[place] = (warm.params, about)
        return super().start(seed)


def _usual(study: PredictionStudy, case: Case) -> SmallRung:
    rung = study.rung(MLP_RUNG, case)
    assert isinstance(rung, SmallRung)
    return rung


def _sized(width: int, study: PredictionStudy, case: Case) -> SmallRung:
    rung = _usual(study, case)
    rung.policy = MLP(width)
    return rung


def _distilled(study: PredictionStudy, case: Case) -> SmallRung:
    dear = study.rung(DEAR, case)
    assert isinstance(dear, LanguageRung)
    worlds = tuple(_drawn(dear, case, place) for place in range(STARTS))
    return Distilled(
        MLP_RUNG, world_of(case), case.all_zero, study.plan, RATES[MLP_RUNG], worlds=worlds
    )


def _drawn(dear: LanguageRung, case: Case, place: int) -> World:
    """The case's world with what start number `place` draws in the place of the SFT targets."""
    data = case.data
    dear.start(place)
    generator = torch.Generator().manual_seed(place)
    drawn = dear.drawn([row.history for row in data.sft], DRAWS, generator)
    rows = [
        replace(row, target=tuple(codes))
        for row, said in zip(data.sft, drawn.tolist(), strict=True)
        for codes in said
    ]
    roles = {"sft": rows, "train": data.learning, "validation": data.tuning, "test": data.test}
    return replay_world(data.name, data.sids, data.codebook, roles)


VARIANTS: Mapping[str, Callable[[PredictionStudy, Case], SmallRung]] = {
    "as it is": _usual,
    "16 hidden units": partial(_sized, 16),
    "256 hidden units": partial(_sized, 256),
    "start distilled": _distilled,
}


def measured(study: PredictionStudy, name: str, case: Case, seeds: int) -> pl.DataFrame:
    """The pairs of a variant on a case, called `name` for a rung."""
    plan = study.plan
    folder = study.folder / "ablation" / name.replace(" ", "-") / case.data.name
    if name == "as it is":
        folder = study.place(MLP_RUNG, case)
    rung = VARIANTS[name](study, case)
    for _ in missing_runs.do(rung, plan, folder, range(seeds), lambda *_: None):
        pass
    held = missing_runs.collected(folder, plan)
    assert held is not None
    rows = (START, *plan.strategies)
    return pairs_of(name, case.data.name, rows, held[0], case.users)


def main() -> None:
    """Print decision accuracy by variant and metric."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--variant", action="append", choices=tuple(VARIANTS))
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    plan = PredictionPlan(seeds=asked.seeds)
    cases = []
    for folder in asked.data:
        data = load_data(folder)
        cases.append(case_of(data, plan, ALL_ZERO.get(data.name, USUAL)))
    study = PredictionStudy(asked.study, tuple(cases), plan)
    pairs = [study.pairs()]
    names = asked.variant or list(VARIANTS)
    for name in names:
        for case in cases:
            print(f"{name}: {case.data.name}", file=sys.stderr)
            pairs.append(measured(study, name, case, asked.seeds))
    every = pl.concat(pairs)
    for name in names:
        found = accuracy_table(every, (name, DEAR))
        table(name, found.select("metric", "accuracy", "low", "high", "pairs").to_dicts())


if __name__ == "__main__":
    main()
