"""A race as the app sees it: a worker process, what it has told so far, and how to steer it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from recast.ledger import RunRecord
from workbench.jobs.job import Job, JobState, Standing
from workbench.spec.experiment import Experiment
from workbench.spec.keys import run_config, run_key
from workbench.store.runs import Store


@dataclass
class Race(Standing):
    """One race, from order to end.

    rows: test rows so far, one per (strategy, seed, evaluation). records: finished runs by key.
    steps: optimizer steps done per strategy. failures: one line per strategy that gave up.
    """

    spec: Experiment
    rates: Mapping[str, float]
    rows: list[dict[str, Any]] = field(default_factory=list)
    records: dict[str, RunRecord] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    forest: list[dict[str, Any]] = field(default_factory=list)
    trees: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    first_step: float | None = None

    @property
    def share(self) -> float:
        """How much of all steps is done, 0 to 1."""
        return sum(self.steps.values()) / (len(self.spec.strategies) * self.spec.train.steps)

    @property
    def complete(self) -> list[str]:
        """Strategies all of whose seeds are finished, in the order of the experiment."""
        counts = [record.config["strategy"] for record in self.records.values()]
        return [name for name in self.spec.strategies if counts.count(name) == self.spec.seeds]

    def frame(self) -> pl.DataFrame:
        """The rows so far, with the columns of a stored frame that charts need."""
        return pl.DataFrame(self.rows, infer_schema_length=None)

    def told(self) -> dict[str, Any]:
        """All that a page shows of it, as plain data; `Race.recorded` reads it."""
        return {
            "experiment": self.spec.model_dump(mode="json"),
            "rates": dict(self.rates),
            "rows": self.rows,
            "steps": self.steps,
            "forest": self.forest,
            "trees": self.trees,
        }

    @classmethod
    def recorded(cls, told: Mapping[str, Any]) -> Race:
        """A race that is over, from what `told` gave. Raises KeyError and ValueError."""
        return cls(
            Experiment.model_validate(told["experiment"]),
            told["rates"],
            state="finished",
            rows=told["rows"],
            steps=told["steps"],
            forest=told["forest"],
            trees=told["trees"],
        )

    def keep(self, store: Store) -> int:
        """Put the finished runs into a store, as a sweep would; returns how many.

        Raises StoreError when the disk refuses.
        """
        store.prepare()
        for key, record in self.records.items():
            store.write(key, record)
        return len(self.records)

    def take_in(self, event: Mapping[str, Any]) -> None:
        """Note one event of the worker."""
        match event["kind"]:
            case "steps":
                if self.first_step is None:
                    self.first_step = time.monotonic()
                self.says("Training")
                self.steps[event["strategy"]] = event["done"]
            case "rows":
                name, seed = event["strategy"], event["seed"]
                tags = {"strategy": name, "seed": seed, "run": f"{name} {seed}", "cell": "live"}
                self.rows += [{**row, **tags, **event["world"]} for row in event["rows"]]
            case "forest":
                self.forest = event["prompts"]
            case "tree":
                told = {"step": event["step"], "prompts": event["prompts"]}
                self.trees.setdefault(event["strategy"], []).append(told)
            case "finished":
                config = run_config(
                    self.spec, event["strategy"], self.rates[event["strategy"]], event["seed"]
                )
                self.records[run_key(config)] = RunRecord(
                    config, tuple(event["rows"]), event["world"], event["diverged_at"]
                )
            case "failed":
                self.failures[event["strategy"]] = event["text"]
            case "end":
                whole = len(self.complete) + len(self.failures) == len(self.spec.strategies)
                self.end("finished" if whole else "stopped", self.text)
            case _:
                super().take_in(event)


def usual_race() -> Experiment:
    """What the page's controls ask for as they stand at first; the recorded race is one of it."""
    return Experiment.model_validate(
        {
            "strategies": ("grpo", "recast", "sft", "grpo_sft"),
            "seeds": 8,
            "world": {"items": 512, "test_prompts": 128, "validation_prompts": 128},
            "start": {"all_zero": 0.85},
            "train": {"group": 32, "steps": 120, "evaluations": 30},
        }
    )


class Worker(Job[Race | None]):
    """A process that waits for one race. Started early, it imports while the user chooses."""

    def __init__(self) -> None:
        super().__init__("workbench.jobs.race_worker", None)

    def start(
        self,
        spec: Experiment,
        rates: Mapping[str, float],
        store: Path,
        race: Race | None = None,
    ) -> Race:
        """Send it off; once per worker. rates: learning rate per strategy; race: the one that has
        waited for this worker, if any."""
        race = Race(spec, dict(rates)) if race is None else race
        race.text = "Starting"
        self.told = race
        experiment = spec.model_dump(mode="json")
        self.order({"experiment": experiment, "rates": dict(rates), "store": str(store)})
        return race

    def pause(self) -> None:
        """Hold everyone after the step under way."""
        self._steer("pause", "running", "paused")

    def resume(self) -> None:
        """Go on."""
        self._steer("resume", "paused", "running")

    def _steer(self, word: str, before: JobState, after: JobState) -> None:
        if self.told is not None and self.told.state == before:
            self._child.say(word)
            self.told.state = after
