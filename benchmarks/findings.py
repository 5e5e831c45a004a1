"""Precision and recall of every finding, over logs with a planted fault and clean ones.

    python benchmarks/findings.py            # 4 seeds of each, some minutes
    python benchmarks/findings.py 8 --csv findings.csv

The logs are those of tests/planted_logs/, made for the checks, and of tests/foreign_logs/, written
from trainers' sources and users' reports before the checks were run on them. A finding that a
planted fault rightly brings along counts as right, and so does one that is true of a clean log (a
made-up run without learning stands still). Of a stranger's log those findings count that it must or
must not have; a third kind (what may be said or not) is left out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from foreign_logs import check
from planted_logs import clean as clean_logs
from planted_logs import faults
from planted_logs import rollouts as planted

from workbench.diagnosis.diagnosis import diagnose
from workbench.diagnosis.findings import CHECKS, examine
from workbench.diagnosis.findings.scalar_checks import SCALAR_CHECKS
from workbench.diagnosis.logs.read import read_log

NAMES = tuple(dict.fromkeys([*CHECKS, *(check.name for check in SCALAR_CHECKS)]))


def found_in(rows: planted.Rows, folder: Path) -> dict[str, str]:
    """The findings of a log, by name, with their level."""
    path = planted.as_jsonl(rows, folder / "log.jsonl")
    return {one.name: one.level for one in examine(diagnose(read_log([path]))).findings}


def measured(seeds: int, folder: Path) -> tuple[pl.DataFrame, int, int, list[str]]:
    """The table, the number of clean logs, how many of them were accused of a problem, and which
    planted faults were missed."""
    missed: list[str] = []
    planted_in, hit, right, wrong, clean_alarms = (Counter[str]() for _ in range(5))
    clean = accused = 0
    for seed in range(seeds):
        for fault, name in faults.FAULTS.items():
            said = found_in(fault(seed), folder)
            planted_in[name] += 1
            hit[name] += name in said
            if name not in said:
                missed.append(f"{name} in {fault.__name__}({seed})")
            follows = faults.FOLLOWS.get(name, frozenset()) | faults.FLAT | {name}
            right.update(one for one in said if one in follows)
            wrong.update(one for one in said if one not in follows)
        for kind, make in clean_logs.CLEAN.items():
            said = found_in(make(seed), folder)
            allowed = clean_logs.ALLOWED.get(kind, frozenset()) | faults.FLAT
            clean += 1
            accused += "problem" in said.values()
            right.update(one for one in said if one in allowed)
            wrong.update(one for one in said if one not in allowed)
            clean_alarms.update(one for one in said if one not in allowed)
    for name, make in check.CASES.items():
        place = folder / name
        place.mkdir()
        truth = make(place)
        if truth.refused:
            continue
        levels = {one.name: one.level for one in check.read(place, truth)[1].findings}
        problems = {one for one, level in levels.items() if level == "problem"}
        for wanted in truth.must:
            names = (wanted,) if isinstance(wanted, str) else wanted
            met = next((one for one in names if one in levels), "")
            planted_in[met or names[0]] += 1
            hit[met or names[0]] += bool(met)
            right[met] += bool(met)
            if not met:
                missed.append(f"{names[0]} in {name}")
        barred = problems if truth.clean else problems & set(truth.never)
        wrong.update(barred)
        if truth.clean:
            clean += 1
            accused += bool(problems)
            clean_alarms.update(problems)
    rows = [
        {
            "finding": name,
            "planted": planted_in[name],
            "found": hit[name],
            "recall": hit[name] / planted_in[name] if planted_in[name] else None,
            "fired": right[name] + wrong[name],
            "precision": right[name] / fired if (fired := right[name] + wrong[name]) else None,
            "on_clean": clean_alarms[name],
        }
        for name in NAMES
    ]
    return pl.DataFrame(rows), clean, accused, missed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("seeds", nargs="?", type=int, default=4)
    parser.add_argument("--csv", type=Path, default=None)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table, clean, accused, missed = measured(given.seeds, Path(folder))
    print("| finding | planted | found | recall | fired | precision | on clean logs |")
    print("|---|---|---|---|---|---|---|")
    for row in table.iter_rows(named=True):
        recall, precision = (
            "-" if row[name] is None else f"{row[name]:.0%}" for name in ("recall", "precision")
        )
        print(
            f"| `{row['finding']}` | {row['planted']} | {row['found']} | {recall} "
            f"| {row['fired']} | {precision} | {row['on_clean']} |"
        )
    print(f"\n{accused} of {clean} clean logs were accused of a problem.")
    print(f"Missed: {', '.join(missed) or 'none'}.")
    if given.csv is not None:
        table.write_csv(given.csv)


if __name__ == "__main__":
    main()
