"""A race in a process of its own: told step by step, steered, ended, and never an orphan."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workbench.execution.runner import run_experiment
from workbench.jobs.race import Race, Worker
from workbench.jobs.race_worker import Stopped, Turns
from workbench.jobs.recorded import recorded_race
from workbench.spec.experiment import Experiment
from workbench.store.runs import Store

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0


def small(steps: int = 4, **changes) -> Experiment:
    return Experiment.model_validate(
        {
            "strategies": ("grpo", "recast", "sft"),
            "seeds": 2,
            "world": {"items": 64, "test_prompts": 16, "validation_prompts": 16},
            "policy": {"width": 8},
            "start": {"all_zero": 0.6, "lr": 0.02},
            "train": {"steps": steps, "evaluations": 2, "batch": 8, "group": 8},
        }
        | changes
    )


RATES = dict.fromkeys(("grpo", "recast", "sft"), 0.003)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def until(worker: Worker, enough: Callable[[Race], bool]) -> Race:
    """Look until the race is as wanted; the pause only keeps the loop from spinning."""
    patience = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        race = worker.look().told
        assert race is not None
        if enough(race):
            return race
        patience.wait(0.02)
    pytest.fail(f"still {race.state}: {race.text}, {race.steps}")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid: int) -> bool:
    """Wait for a process to end."""
    deadline = time.monotonic() + PATIENCE
    patience = threading.Event()
    while alive(pid) and time.monotonic() < deadline:
        patience.wait(0.02)
    return not alive(pid)


def store_in(folder: Path) -> Path:
    return Store(folder / "store").prepare().root


def test_a_race_gives_the_runs_that_a_sweep_of_the_same_experiment_gives(worker, tmp_path):
    spec, root = small(), store_in(tmp_path)
    worker.start(spec, RATES, root)
    race = until(worker, lambda race: race.over)
    assert (race.state, race.failures) == ("finished", {})
    assert race.complete == ["grpo", "recast", "sft"]
    assert race.share == 1.0
    assert race.keep(Store(root)) == 6
    swept = Store(tmp_path / "swept").prepare()
    run_experiment(spec, swept, executor="serial")
    told = race.frame().filter(split="test", slice="all").sort("strategy", "seed", "step")
    for name in ("run", "strategy", "seed", "step", "pass_at_1", "recall_at_10", "rollouts"):
        kept, expected = (
            store.load().sort("run", "split", "slice", "step")[name].to_list()
            for store in (Store(root), swept)
        )
        assert kept == expected
    stored = Store(root).load().filter(split="test", slice="all").sort("strategy", "seed", "step")
    assert told["pass_at_1"].to_list() == stored["pass_at_1"].to_list()


def test_a_pause_holds_everyone_and_resume_goes_on(worker, tmp_path):
    worker.start(small(steps=2000), RATES, store_in(tmp_path))
    until(worker, lambda race: race.share > 0)
    worker.pause()
    assert worker.told is not None
    assert worker.told.state == "paused"
    until(worker, lambda race: _still(worker))
    assert not worker.told.over
    held = sum(worker.told.steps.values())
    worker.resume()
    until(worker, lambda race: sum(race.steps.values()) > held)
    assert worker.told.state == "running"


def _still(worker: Worker) -> bool:
    """No step in a while: half a second is many steps of this world."""
    before = dict(worker.told.steps)
    threading.Event().wait(0.5)
    worker.look()
    return worker.told.steps == before


def test_a_stopped_race_keeps_its_curves(worker, tmp_path):
    worker.start(small(steps=2000, train={"steps": 2000, "evaluations": 1000, "group": 8}), RATES,
                 store_in(tmp_path))  # fmt: skip
    until(worker, lambda race: race.share > 0)
    worker.stop()
    race = until(worker, lambda race: race.over)
    assert race.state == "stopped"
    assert not race.frame().is_empty()
    assert race.records == {}


@pytest.mark.drill
def test_a_killed_worker_is_reported_and_its_finished_runs_are_kept(worker, tmp_path):
    root = store_in(tmp_path)
    spec = small(steps=3)
    race = worker.start(spec, RATES, root)
    until(worker, lambda race: "sft" in race.complete or race.over)
    if not race.over:
        os.kill(worker.pid, signal.SIGKILL)
    until(worker, lambda race: race.over)
    assert "sft" in race.complete
    kept = race.keep(Store(root))
    assert kept == len(race.records) >= 2
    assert set(Store(root).load()["run"]) == set(race.records)


@pytest.mark.drill
def test_a_worker_that_dies_at_once_is_lost_and_says_by_which_signal(worker, tmp_path):
    worker.start(small(steps=2000), RATES, store_in(tmp_path))
    os.kill(worker.pid, signal.SIGKILL)
    race = until(worker, lambda race: race.over)
    assert race.state == "lost"
    assert "-9" in race.text


def test_a_start_that_is_out_of_reach_is_one_line(worker, tmp_path):
    worker.start(small(start={"all_zero": 0.97, "lr": 0.02}), RATES, store_in(tmp_path))
    race = until(worker, lambda race: race.over)
    assert race.state == "refused"
    assert race.text.startswith("start.all_zero")
    assert "\n" not in race.text


@pytest.mark.drill
def test_the_warm_start_is_kept_for_the_next_race(tmp_path):
    root, said = store_in(tmp_path), []
    for _ in range(2):
        worker = Worker()
        race = worker.start(small(), RATES, root)
        taken = race.take_in
        phases: list[str] = []

        def note(event, taken=taken, phases=phases):
            if event["kind"] == "phase":
                phases.append(event["text"])
            taken(event)

        race.take_in = note
        until(worker, lambda race: race.over)
        worker.close()
        said.append(any(text.startswith("Warm start") for text in phases))
    assert said == [True, False]


@pytest.mark.drill
@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_ends_when_its_parent_is_killed(tmp_path, busy):
    start = f"worker.start(small(steps=5000), RATES, Path({str(store_in(tmp_path))!r}))"
    script = (
        "import sys; sys.path.insert(0, 'tests/workbench/jobs')\n"
        "from pathlib import Path\n"
        "from test_race import RATES, small, until\n"
        "from workbench.jobs.race import Worker\n"
        "worker = Worker()\n"
        + (f"{start}\nuntil(worker, lambda race: race.share > 0)\n" if busy else "")
        + "print(worker.pid, flush=True)\nsys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.communicate()
    assert gone(pid)


def test_turns_go_round_and_a_leaver_is_skipped():
    order: list[str] = []
    turns = Turns(("a", "b", "c"))

    def run(name: str, steps: int) -> None:
        with turns.part(name) as pass_on:
            for _ in range(steps):
                order.append(name)
                pass_on()

    threads = [threading.Thread(target=run, args=part) for part in (("a", 3), ("b", 1), ("c", 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["a", "b", "c", "a", "c", "a"]


def test_stop_reaches_a_thread_that_waits_for_its_turn():
    turns = Turns(("a", "b"))
    turns.stop()
    with pytest.raises(Stopped), turns.part("b"):
        pass


def test_a_race_tells_its_trees_at_each_evaluation_and_can_be_recorded(worker, tmp_path):
    spec = small()
    worker.start(spec, RATES, store_in(tmp_path))
    race = until(worker, lambda race: race.over)
    assert race.state == "finished"
    assert len(race.forest) == 3
    for name in spec.strategies:
        assert [told["step"] for told in race.trees[name]] == [0, 2, 4]
        for told in race.trees[name]:
            for prompt, levels in zip(race.forest, told["prompts"], strict=True):
                above = 1.0
                for place, masses in zip(prompt["place"], levels, strict=True):
                    assert sum(masses) == pytest.approx(above, rel=1e-3)
                    above = masses[place]
    start = [race.trees[name][0]["prompts"] for name in spec.strategies]
    assert start[0] == start[1] == start[2]  # one warm start for all
    again = Race.recorded(json.loads(json.dumps(race.told())))
    assert again.over
    assert again.frame().equals(race.frame())
    assert again.trees == race.trees


def test_the_package_ships_a_race_that_can_be_played():
    race = recorded_race()
    assert race is not None
    assert set(race.trees) == set(race.spec.strategies)
    last = {told[-1]["step"] for told in race.trees.values()}
    assert last == {race.spec.train.steps}
    assert race.frame()["seed"].n_unique() == race.spec.seeds
