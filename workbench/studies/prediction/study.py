"""The study: every rung on every data set, resumable, and what it leaves behind.

Rungs from cheap to dear: theory alone (with the mean of the start's hit probabilities for all
prompts, with each prompt's own, and with hits counted in groups), a look-alike world, the replay
world with an MLP and with a tiny transformer, language models. What is finished is gathered into
two small tables: pairs (see `accuracy.pairs_of`) and costs.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recast.progress import Progress
from workbench.spec.keys import run_key
from workbench.spec.metrics import LM_METRICS
from workbench.spec.rungs import ORDER
from workbench.store.files import replace as write_whole
from workbench.store.kept_files import kept_note
from workbench.studies.prediction import missing_runs
from workbench.studies.prediction.accuracy import pairs_of
from workbench.studies.prediction.distilled import distilled
from workbench.studies.prediction.language_models import (
    PRETRAINED,
    SHAPES,
    SMALLEST,
    Given,
    LanguageRung,
)
from workbench.studies.prediction.protocol import START, Case, Floats, PredictionPlan, Rung
from workbench.studies.prediction.small_policies import (
    DISTILLED,
    MATCHED,
    SmallRung,
    look_alike,
    several_hits,
    sharpness_of,
    world_of,
)
from workbench.studies.prediction.theory import counted, differences, scores

EVEN, THEORY, COUNTED, LOOK_ALIKE = "theory_even", "theory", "theory_counted", "look_alike"
THEORIES = (EVEN, THEORY, COUNTED)
SMALL = (LOOK_ALIKE, "replay_mlp", MATCHED, DISTILLED, "replay_transformer")

_SMALL = tuple(2e-5 * 2**n for n in range(13))
_LANGUAGE = tuple(3.125e-6 * 2**n for n in range(11))
RATES: Mapping[str, tuple[float, ...]] = {
    **dict.fromkeys(SMALL, _SMALL),
    **dict.fromkeys((*SHAPES, PRETRAINED), _LANGUAGE),
}
"""Learning rates to choose from, a factor of two apart: with a factor of four a row can seem better
than a control that only lacks the rate between."""


@dataclass(frozen=True)
class PredictionStudy:
    """Where everything lies, and on which cases. given: the start of the pre-trained rung, and what
    the distilled one copies; without it that copies the smallest language model's."""

    folder: Path
    cases: tuple[Case, ...]
    plan: PredictionPlan
    given: Given | None = None

    def place(self, rung: str, case: Case) -> Path:
        """The folder of a rung on a case; other settings, rates or shares have another one."""
        start: Any = [case.all_zero, case.hit_rate] if rung == MATCHED else case.all_zero
        if rung in (PRETRAINED, DISTILLED) and self.given is not None:
            start = self.given.identity
        settings = {"plan": self.plan.name, "rates": RATES.get(rung, ()), "start": start}
        return self.folder / rung / f"{case.data.name}-{run_key(settings)[:8]}"

    def rung(self, name: str, case: Case) -> Rung:
        """A rung on a case. The look-alike needs the hits of the start that it imitates."""
        if name in (*SHAPES, PRETRAINED):
            return self._language(name, case)
        if name == DISTILLED:
            teacher = self._language(SMALLEST if self.given is None else PRETRAINED, case)
            return distilled(teacher, world_of(case), RATES[name])
        if name == LOOK_ALIKE:
            several = several_hits(self.hits(case)[1], self.plan.group)
            return look_alike(case.all_zero, several, self.plan, RATES[name])
        sharp = self._sharpness(case) if name == MATCHED else 1.0
        world = world_of(case)
        return SmallRung(name, world, case.all_zero, self.plan, RATES[name], sharpness=sharp)

    def _language(self, name: str, case: Case) -> LanguageRung:
        given = self.given if name == PRETRAINED else None
        place = self.folder / "starts" / name / f"{case.data.name}-{case.all_zero:g}"
        return LanguageRung(name, case, self.plan, place, RATES[name], given)

    def _sharpness(self, case: Case) -> float:
        """Solved once, and kept; without a hit rate of the case, for that of the dearest start."""
        path = self.place(MATCHED, case) / "sharpness.json"
        if not path.exists():
            source, hits = self.hits(case)
            if case.hit_rate is None and source in SHAPES:
                case = replace(case, hit_rate=float(hits.mean()))
            write_whole(json.dumps(sharpness_of(case, self.plan)).encode(), path)
        return kept_note(path, float)

    def hits(self, case: Case) -> tuple[str, Floats]:
        """The dearest rung that has a start on this case, and its hit probabilities `[P]`; those of
        the replay world's MLP are made where there are none."""
        for name in reversed(ORDER):
            path = self.place(name, case) / "hits.json"
            if path.exists():
                return name, kept_note(path, _hits)
        return "replay_mlp", self.keep_hits("replay_mlp", case)

    def keep_hits(self, name: str, case: Case) -> Floats:
        """Hit probabilities of the rung's start 0, measured once."""
        path = self.place(name, case) / "hits.json"
        if not path.exists():
            rung = self.rung(name, case)
            rung.start(0)
            hits = rung.hits()
            write_whole(json.dumps({"hits": [float(f"{p:.6g}") for p in hits]}).encode(), path)
        return kept_note(path, _hits)

    def do(self, name: str, case: Case, seeds: Sequence[int], progress: Progress) -> Iterator[str]:
        """Whatever is missing of a rung on a case, for these paired seeds."""
        folder = self.place(name, case)
        if name in THEORIES:
            self._theory(name, case)
            return
        rung = self.rung(name, case)
        yield from missing_runs.do(rung, self.plan, folder, seeds, progress)
        if name != LOOK_ALIKE:
            self.keep_hits(name, case)

    def missing(self, name: str) -> int:
        """Runs of a rung that are not stored, over all cases; theory has none."""
        if name in THEORIES:
            return 0
        seeds = range(self.plan.seeds)
        return sum(
            missing_runs.runs_left(self.plan, self.place(name, case), RATES[name], seeds)[0]
            for case in self.cases
        )

    def seconds_each(self, name: str) -> float | None:
        """Processor seconds of a stored run of the rung, on the mean; None before the first."""
        if name in THEORIES:
            return None
        told = [missing_runs.seconds(self.place(name, case)) for case in self.cases]
        runs = sum(count for _, count in told)
        return sum(spent for spent, _ in told) / runs if runs else None

    def _theory(self, name: str, case: Case) -> None:
        began = time.process_time()
        source, hits = self.hits(case)
        if name == COUNTED:
            hits = counted(hits, self.plan.group)
        elif name == EVEN:
            hits = hits.mean(keepdims=True)
        rows = (START, *self.plan.strategies)
        found = scores(rows, torch.from_numpy(hits), self.plan.group)
        note = {
            "start": source,
            "scores": [[row, metric, value] for (row, metric), value in found.items()],
            "seconds": time.process_time() - began,
        }
        write_whole(json.dumps(note).encode(), self.place(name, case) / "scores.json")

    def pairs(self) -> pl.DataFrame:
        """The pairs of everything that is finished; see `accuracy.pairs_of`."""
        rows = (START, *self.plan.strategies)
        found = []
        for case in self.cases:
            for name in THEORIES:
                theory = self._theory_pairs(name, case)
                if theory is not None:
                    found.append(theory)
            for name, values, _ in self._finished(case):
                users = self._users(name, case, values)
                found.append(pairs_of(name, case.data.name, rows, values, users))
        return pl.concat(found) if found else pl.DataFrame()

    def _finished(self, case: Case) -> Iterator[tuple[str, Floats, list[int]]]:
        """The trained rungs that have runs on a case: name, values and seeds, as
        `missing_runs.collected` gives them."""
        for name in ORDER[len(THEORIES) :]:
            held = missing_runs.collected(self.place(name, case), self.plan)
            if held is not None:
                yield name, *held

    def _users(self, name: str, case: Case, values: Floats) -> Sequence[str]:
        made_up = name == LOOK_ALIKE
        return [str(i) for i in range(values.shape[-1])] if made_up else case.users

    def costs(self) -> pl.DataFrame:
        """rung, data, seeds, runs, seconds (processor time: starts, tuning and paired runs)."""
        found = []
        for case in self.cases:
            for name in ORDER:
                folder, seeds, runs = self.place(name, case), 0, 0
                if name in THEORIES:
                    path = folder / "scores.json"
                    if not path.exists():
                        continue
                    spent = kept_note(path, lambda note: float(note["seconds"]))
                else:
                    held = missing_runs.collected(folder, self.plan)
                    if held is None:
                        continue
                    (spent, runs), seeds = missing_runs.seconds(folder), len(held[1])
                found.append(
                    {
                        "rung": name,
                        "data": case.data.name,
                        "seeds": seeds,
                        "runs": runs,
                        "seconds": spent,
                    }
                )
        return pl.DataFrame(found)

    def values(self) -> pl.DataFrame:
        """rung, data, strategy, metric, value: means over seeds and test prompts."""
        rows = (START, *self.plan.strategies)
        found = []
        for case in self.cases:
            for name, values, _ in self._finished(case):
                mean = values.mean((2, 3))
                found += [
                    {
                        "rung": name,
                        "data": case.data.name,
                        "strategy": row,
                        "metric": metric,
                        "value": float(mean[i, j]),
                    }
                    for i, row in enumerate(rows)
                    for j, metric in enumerate(LM_METRICS)
                ]
        return pl.DataFrame(found)

    def results(self) -> Iterator[tuple[str, str, pl.DataFrame]]:
        """Rung, data, and strategy, seed and every metric's mean over test prompts: what
        `recast predict --followed` reads."""
        rows = (START, *self.plan.strategies)
        for case in self.cases:
            for name, values, seeds in self._finished(case):
                means = values.mean(3)
                found = [
                    {"strategy": row, "seed": seed}
                    | {metric: float(means[i, j, k]) for j, metric in enumerate(LM_METRICS)}
                    for i, row in enumerate(rows)
                    for k, seed in enumerate(seeds)
                ]
                yield name, case.data.name, pl.DataFrame(found)

    def _theory_pairs(self, name: str, case: Case) -> pl.DataFrame | None:
        path = self.place(name, case) / "scores.json"
        if not path.exists():
            return None
        known = kept_note(path, _scores)
        told = (
            differences(known[metric]).with_columns(metric=pl.lit(metric)) for metric in LM_METRICS
        )
        return pl.concat(told).select(
            pl.lit(name).alias("rung"),
            pl.lit(case.data.name).alias("data"),
            *("metric", "first", "second", "difference"),
            pl.lit(0.0).alias("error"),
            pl.lit(math.nan).alias("p_holm"),
            "spread",
            pl.lit(0, dtype=pl.Int64).alias("seeds"),
        )


def _hits(note: dict[str, Any]) -> Floats:
    return np.asarray(note["hits"], dtype=np.float64)


def _scores(note: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The score of every row, by metric."""
    known: dict[str, dict[str, float]] = {metric: {} for metric in LM_METRICS}
    for row, metric, value in note["scores"]:
        if value is not None:
            known[metric][row] = float(value)
    return known
