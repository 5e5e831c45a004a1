"""How long a store of many runs takes: python benchmarks/store.py [RUNS].

Prints the seconds of the first load (every file verified and parsed) and of the next ones (every
file verified, rows taken from the verified part), then of `recast compare` and
`recast store check`, for runs shaped like a default experiment's: ten strategies at five rates.
On a busy machine read the processor time.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from click.testing import CliRunner

import workbench.store.files
from recast import REGIMES
from recast.ledger import COST, TAUGHT, RunRecord
from workbench.cli import cli
from workbench.spec.experiment import load_experiment
from workbench.spec.keys import run_config, run_key
from workbench.spec.metrics import METRICS
from workbench.store.runs import Store

EVALUATIONS = 12
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def made_up(number: int) -> RunRecord:
    """A run with random numbers in every column."""
    rng = random.Random(number)
    spec = load_experiment("default", {})
    strategy = spec.strategies[number % len(spec.strategies)]
    rate = RATES[number // len(spec.strategies) % len(RATES)]
    seed = number // (len(spec.strategies) * len(RATES))
    names = (*METRICS, *REGIMES, *TAUGHT, *COST, "temperature_matched")
    steps = [("test", step) for step in range(EVALUATIONS + 1)]
    rows = tuple(
        {"split": split, "slice": "all", "step": step, **{name: rng.random() for name in names}}
        for split, step in [*steps, ("validation", 0), ("validation", EVALUATIONS)]
    )
    config = run_config(spec, strategy, rate, seed)
    return RunRecord(config, rows, {"ceiling_pass_at_1": 0.3, "ceiling_recall_at_10": 0.7})


def main(runs: int) -> None:
    """Fill a store and time its readers."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder)).prepare()
        with patch.object(workbench.store.files.os, "fsync"):
            began = time.perf_counter()
            for seed in range(runs):
                record = made_up(seed)
                store.write(run_key(record.config), record)
            print(f"{runs} runs written in {time.perf_counter() - began:.1f} s without fsync")
        for name in ("first load", "second load", "third load"):
            with timed(name):
                frame = store.load()
        print(f"{frame.height} rows, {frame['run'].n_unique()} runs")
        with timed("lazy scan of three columns"):
            store.scan().select("run", "strategy", "greedy").collect()
        for words in (["compare", "recast", "grpo", "--store"], ["store", "check"]):
            with timed(f"recast {words[0]}"):
                found = CliRunner().invoke(cli, [*words, folder])
            if found.exit_code:
                raise SystemExit(f"{words}: {found.output[-300:]} {found.exception!r}")


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print what the body took, wall and processor time."""
    began, spent = time.perf_counter(), time.process_time()
    yield
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    print(f"{name}: {seconds:.2f} s ({spent:.2f} s of processor time)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
