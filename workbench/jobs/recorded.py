"""The recorded race of the package: played where nobody has started one.

`python -m workbench.jobs.recorded FILE` runs it anew and writes it; the package's own file is
`workbench/example/race.json`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any

from recast import REGIMES
from workbench.analysis.example import packaged_example
from workbench.analysis.race import tuned_rates
from workbench.jobs.race import Race, Worker, usual_race
from workbench.spec.experiment import Experiment
from workbench.spec.keys import ENGINE
from workbench.spec.metrics import METRICS
from workbench.store.runs import Store

FILE = Path(__file__).parents[1] / "example" / "race.json"
COMMAND = "python -m workbench.jobs.recorded FILE"
USUAL_RATE = 0.003
"""Of a strategy that the packaged example does not hold."""
KEPT = (
    *("strategy", "seed", "run", "cell", "step", "rollouts", "optimizer_steps", "updated_rows"),
    *(name for name in METRICS if name not in ("hr_at_1", "hr_at_5")),
    *REGIMES,
)
"""Columns; without those that no chart of a race asks for."""


@cache
def recorded_race() -> Race | None:
    """The packaged race; None where the package has none, or one of other rules."""
    try:
        return Race.recorded(json.loads(FILE.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError):
        return None


def record(spec: Experiment) -> dict[str, Any]:
    """Race it to the end; what `Race.told` gives, with fewer columns and digits.

    Raises RuntimeError where the race does not come to its end.
    """
    known = tuned_rates(packaged_example()[0])
    rates = {name: known.get(name, USUAL_RATE) for name in spec.strategies}
    worker = Worker()
    try:
        with tempfile.TemporaryDirectory() as folder:
            race = worker.start(spec, rates, Store(Path(folder)).prepare().root)
            while not race.over:
                threading.Event().wait(0.2)
                worker.look()
    finally:
        worker.close()
    if race.state != "finished":
        raise RuntimeError(f"race: {race.state}: {race.text}")
    told = race.told()
    told["rows"] = [{name: _short(row.get(name)) for name in KEPT} for row in race.rows]
    return {"engine": ENGINE, "command": COMMAND, **told}


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main() -> None:
    """Write the file named on the command line."""
    Path(sys.argv[1]).write_text(json.dumps(record(usual_race())), encoding="utf-8")


if __name__ == "__main__":
    main()
