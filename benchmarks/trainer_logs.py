"""Logs that real trainers write, diagnosed: short runs with a planted course, one row each.

    python -m benchmarks.trainer_logs PYTHON [PYTHON ...]

Each PYTHON is the interpreter of an environment with trl (0.28 or later), verl or verifiers
(0.4); every one of these that it has is run there by `trainer_runs.py`. A trainer that is not
installed, or does not run, is one line. Ends with exit code 1 where a log is read or diagnosed
wrongly. `make trainer-logs` builds the environments and prints the table of docs/diagnose.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import table
from benchmarks.trainer_runs import GROUP, RUNS
from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.findings import examine
from workbench.diagnosis.logs.read import files_of, read_log
from workbench.errors import LogError

PLANTED = {
    "good": "", "hopeless": "starved", "cut": "truncated", "of_prompt": "reward_ignores_rollout",
}  # fmt: skip
FORMATS = {"trl": "trl", "verl": "verl", "verifiers": "prime-rl"}


def judged(trainer: str, kind: str, folder: Path) -> dict[str, str]:
    """What one log is read as, and whether that is right."""
    row = {"planted": PLANTED[kind] or "nothing"}
    try:
        log = read_log(files_of([folder]))
    except LogError as problem:
        return row | {"read as": str(problem)[:80], "problems": "", "right": "no"}
    found = diagnose(log)
    problems = [one.name for one in examine(found).findings if one.level == "problem"]
    whole = log.form == FORMATS[trainer] and found.group == GROUP and found.known
    right = PLANTED[kind] in problems if PLANTED[kind] else not problems
    return row | {
        "read as": f"{log.form}, {found.groups.height} groups of {found.group}",
        "problems": ", ".join(problems),
        "right": "yes" if whole and right else "no",
    }


def version(python: str, trainer: str) -> str:
    """That interpreter's version of the trainer, "" where it has none."""
    asked = (
        "import importlib.metadata as m, importlib.util as u\n"
        f"print(m.version({trainer!r}) if u.find_spec({trainer!r}) else '')"
    )
    try:
        done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pythons", nargs="+", metavar="PYTHON")
    parser.add_argument("--trainer", action="append", choices=RUNS, help="Repeat; all by default.")
    given = parser.parse_args()
    rows: list[dict[str, str]] = []
    ran: set[str] = set()
    for python in given.pythons:
        for trainer in given.trainer or RUNS:
            name = f"{trainer} {version(python, trainer)}"
            if name.endswith(" ") or name in ran:
                why = "ran already" if name in ran else "is not installed"
                print(f"{python}: {name.strip()} {why}, left out", flush=True)
                continue
            with tempfile.TemporaryDirectory() as folder:
                script = str(Path(__file__).with_name("trainer_runs.py"))
                done = subprocess.run(
                    [python, "-W", "ignore", script, trainer, folder],
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    said = (done.stderr.strip().splitlines() or ["no output"])[-1]
                    print(f"{python}: {trainer} does not run: {said[:160]}", flush=True)
                    continue
                ran.add(name)
                rows += [
                    {"trainer": name} | judged(trainer, kind, Path(folder) / kind)
                    for kind in RUNS[trainer][1]
                ]
    if not rows:
        sys.exit("no trainer ran")
    table("Logs of real trainers with a planted fault", rows)
    sys.exit(any(row["right"] != "yes" for row in rows))


if __name__ == "__main__":
    main()
