"""The process behind a race: `python -m workbench.jobs.race_worker`, spoken to in JSON lines.

Reads one order from stdin, then words: `pause`, `resume`, `stop`. Writes events to stdout. It ends
itself as soon as stdin closes, so that it never outlives whoever started it.

Each strategy trains in a thread of its own, and one step at a time passes from thread to thread:
everyone has taken equally many steps, and what a run gives does not depend on the others.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sim.allocator import keep_freed_memory
from sim.general.runs import Runs
from sim.policies.protocol import Params
from sim.training.trainer import Hooks, train
from sim.worlds.world import World
from workbench.errors import UserError
from workbench.execution.tasks import (
    Start,
    StartTask,
    abreast,
    build_policy,
    make_starts,
    world_of,
)
from workbench.execution.warm_starts import Starts
from workbench.jobs.process import Voice, listen
from workbench.jobs.race import usual_race
from workbench.jobs.race_trees import SEED, Forest, plant
from workbench.jobs.warm_up import load_compiled
from workbench.plurals import number_of
from workbench.spec.experiment import Experiment
from workbench.spec.keys import start_key
from workbench.spec.row_names import strategy_of, training_of


class Stopped(Exception):
    """The race was called off."""


class Turns:
    """One step at a time, in a fixed order, among the threads that take part."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._waiting = list(names)
        self._turn = 0
        self._paused = self._stopped = False
        self._changed = threading.Condition()

    @contextmanager
    def part(self, name: str) -> Iterator[Callable[[], None]]:
        """Take part as `name`: the block starts at its turn, and calls what it gets to pass on."""
        self._await(name)
        try:
            yield lambda: self._pass_on(name)
        finally:
            with self._changed:
                place = self._waiting.index(name)
                del self._waiting[place]
                self._turn = place % len(self._waiting) if self._waiting else 0
                self._changed.notify_all()

    def obey(self, word: str) -> None:
        """`pause`, `resume` or `stop`, each after the step under way."""
        if word == "stop":
            self.stop()
        else:
            self.pause(word == "pause")

    def pause(self, paused: bool) -> None:
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _pass_on(self, name: str) -> None:
        with self._changed:
            self._turn = (self._turn + 1) % len(self._waiting)
            self._changed.notify_all()
        self._await(name)

    def _await(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopped or (not self._paused and self._waiting[self._turn] == name)
            )
            if self._stopped:
                raise Stopped


def starts_of(spec: Experiment, store: Path, voice: Voice) -> list[Start]:
    """The warm starts of a race, from the store where they are, else trained and kept there."""
    kept, found = Starts(store), {}
    for seed in range(spec.seeds):
        start = kept.load(start_key(spec, seed))
        if start is not None:
            found[seed] = start
    missing = tuple(seed for seed in range(spec.seeds) if seed not in found)
    if missing:
        voice.say(
            "phase",
            text=f"Warm start of {number_of(len(missing), 'seed')} (kept for the next time)",
        )
        for seed, start in zip(
            missing, make_starts(StartTask(spec, missing), _ignore), strict=True
        ):
            kept.save(start_key(spec, seed), start)
            found[seed] = start
    return [found[seed] for seed in range(spec.seeds)]


def race(
    spec: Experiment, rates: dict[str, float], store: Path, voice: Voice, turns: Turns
) -> None:
    """Train every strategy of the experiment side by side, and say what happens."""
    voice.say("phase", text="Building the world")
    world = world_of(spec)
    starts = starts_of(spec, store, voice)
    voice.say("phase", text="First evaluation")
    facts = {
        "ceiling_pass_at_1": None,
        "ceiling_recall_at_10": None,
        **world.ceilings,
    }
    forest = plant(build_policy(spec), abreast(starts[SEED : SEED + 1], spec), world)
    voice.say("forest", prompts=forest.plain())
    entrants = _Entrants(spec, world, starts, facts, forest, voice, turns)
    threads = [
        threading.Thread(target=entrants.train, args=(name, rates[name]))
        for name in spec.strategies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@dataclass(frozen=True)
class _Entrants:
    """What the strategies of a race share. facts: what is true of the world, for each row."""

    spec: Experiment
    world: World
    starts: list[Start]
    facts: dict[str, float | None]
    forest: Forest
    voice: Voice
    turns: Turns

    def train(self, name: str, rate: float) -> None:
        """One strategy from start to end, in its turns."""
        seeds = tuple(range(self.spec.seeds))
        try:
            with self.turns.part(name) as pass_on:
                results = train(
                    self._runs(name, seeds),
                    torch.full((len(seeds),), rate, dtype=torch.float64),
                    self._hooks(name, pass_on),
                    opening=[start.opening for start in self.starts],
                )
        except Stopped:
            return
        except ValueError as problem:
            self.voice.say("failed", strategy=name, text=str(problem))
            return
        for seed, result in zip(seeds, results, strict=True):
            self.voice.say(
                "finished",
                strategy=name,
                seed=seed,
                rows=list(result.rows),
                world={**self.facts, "warm_start_steps": float(self.starts[seed].steps)},
                diverged_at=result.diverged_at,
            )

    def _runs(self, name: str, seeds: tuple[int, ...]) -> Runs:
        spec, start = self.spec, abreast(self.starts, self.spec)
        how = training_of(name, spec.train)
        return Runs(build_policy(spec), self.world, strategy_of(name), start, seeds, how)

    def _hooks(self, name: str, pass_on: Callable[[], None]) -> Hooks:
        policy, done = build_policy(self.spec), 0

        def progress(steps: int) -> None:
            nonlocal done
            done += steps
            self.voice.say("steps", strategy=name, done=done // self.spec.seeds)
            pass_on()

        def watch(run: int, rows: list[dict[str, Any]]) -> None:
            shown = [row for row in rows if row["split"] == "test" and row["slice"] == "all"]
            self.voice.say("rows", strategy=name, seed=run, rows=shown, world=self.facts)

        def look(run: int, step: int, params: Params) -> None:
            if run == SEED:
                grown = self.forest.grown(policy, params, self.world)
                self.voice.say("tree", strategy=name, step=step, prompts=grown)

        return Hooks(progress, watch, look=look)


def _ignore(_: int) -> None:
    return None


def main() -> None:
    """Serve one race."""
    torch.set_num_threads(1)
    keep_freed_memory()
    load_compiled()
    world_of(usual_race())  # remembered: most visitors start the race that the page offers
    voice = Voice(sys.stdout)
    voice.say("ready")
    line = sys.stdin.readline()
    if not line:
        return
    order = json.loads(line)
    spec = Experiment.model_validate(order["experiment"])
    turns = Turns(spec.strategies)
    listen(turns.obey)
    try:
        race(spec, order["rates"], Path(order["store"]), voice, turns)
    except UserError as problem:
        voice.say("refused", text=str(problem))
    voice.say("end")


if __name__ == "__main__":
    main()
