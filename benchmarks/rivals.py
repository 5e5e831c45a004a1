"""Other tools that read training logs, on the same cases: what each of them finds.

    python -m venv .venv-rivals
    .venv-rivals/bin/pip install rldoctor==0.2.0 rlprobe==0.1.0 rlwatch==0.5.1 rlvr-audit==0.1.0
    python benchmarks/rivals.py CASES --bin .venv-rivals/bin > table.md

CASES holds one folder per case with an expected.json: id, kind ("real" or "clean"), paths and args
of `recast diagnose`, must (findings). None of the others reads rollouts of a trainer, so each gets
what it does read, made from the same log: the scalars that the trainer would have logged (reward
mean and standard deviation, share of groups of equal rewards, and length, entropy, KL, truncation
where the log has them), or the rewards of each group. martingale 0.2.0 reads only its own ledger
and is left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl

from workbench.commands.log_options import LogOptions, reading_options
from workbench.diagnosis.diagnosis import Diagnosis
from workbench.diagnosis.findings import examine
from workbench.diagnosis.findings.curves import curves_of
from workbench.diagnosis.logs.read import files_of
from workbench.errors import LogError

SECONDS = 120
TRL = {
    "reward": "reward",
    "zero_spread": "frac_reward_zero_std",
    "entropy": "entropy",
    "kl": "kl",
    "length": "completions/mean_length",
    "truncated": "completions/clipped_ratio",
    "clipped": "clip_ratio/region_mean",
}
PROBE = """
import json, sys
from rlprobe import Recorder
names = {"reward": "reward_mean", "reward_std": "reward_std", "entropy": "entropy_mean",
         "kl": "kl_mean", "frac_reward_zero_std": "zero_variance_group_frac",
         "completions/mean_length": "completion_len_mean",
         "completions/clipped_ratio": "truncation_rate", "clip_ratio/region_mean": "clip_fraction"}
with Recorder(sys.argv[2], algorithm="grpo") as record:
    for line in open(sys.argv[1]):
        row = json.loads(line)
        record.log_step(int(row.pop("step")), **{names[n]: v for n, v in row.items()})
"""
WATCH = """
import json, sys
import rlwatch
monitor = rlwatch.attach(framework="manual", run_id="case", storage={"log_dir": sys.argv[2]})
for line in open(sys.argv[1]):
    row = json.loads(line)
    monitor.log_step(int(row["step"]), reward_mean=row["reward"], reward_std=row["reward_std"],
                     entropy=row.get("entropy"), kl_divergence=row.get("kl"),
                     clip_fraction=row.get("clip_ratio/region_mean"))
monitor.stop()
"""


def scalars_of(found: Diagnosis, path: Path) -> None:
    """Write the scalars of a log, one JSON line per step, under TRL's names."""
    rows: dict[float, dict[str, float]] = {}
    for name, one in curves_of(found).items():
        if name in TRL:
            for step, value in zip(one.step, one.value, strict=True):
                rows.setdefault(step, {"step": int(step)})[TRL[name]] = float(value)
    spread = found.rollouts.group_by("key", "part").agg(pl.col("step").first(),
                                                        pl.col("reward").std())  # fmt: skip
    for step, value in spread.group_by("step").agg(pl.col("reward").mean()).iter_rows():
        rows[float(step)]["reward_std"] = float(value or 0.0)
    path.write_text("".join(json.dumps(rows[step]) + "\n" for step in sorted(rows)))


def groups_of(found: Diagnosis, path: Path) -> int:
    """Write the rewards of each group of the usual size, 0 and 1 where hits are known (other
    rewards are refused); returns the size."""
    hit = (pl.col("outcome") > found.threshold + found.tolerance).cast(pl.Float64)
    grouped = found.rollouts.group_by("key", "part", maintain_order=True).agg(
        reward=hit if found.known else pl.col("reward"), prompt=pl.col("prompt").first()
    )
    with path.open("w") as stream:
        for row in grouped.iter_rows(named=True):
            if len(row["reward"]) == found.group:
                line = {"prompt_id": str(row["prompt"]), "rewards": row["reward"]}
                stream.write(json.dumps(line) + "\n")
    return found.group


def said(command: list[str]) -> Any:
    """What a command prints as JSON; None where it prints none, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None
    start = min((at for at in map(done.stdout.find, "{[") if at >= 0), default=-1)
    try:
        return json.loads(done.stdout[start:]) if start >= 0 else None
    except ValueError:
        return None


def rldoctor(programs: Path, found: Diagnosis, folder: Path) -> list[str] | None:
    """Detectors that fired."""
    scalars_of(found, folder / "scalars.jsonl")
    report = said([str(programs / "rldoctor"), "diagnose", str(folder / "scalars.jsonl"),
                   "-f", "json"])  # fmt: skip
    if report is None:
        return None
    fired = [
        one for one in report.get("findings", []) if one.get("severity") in ("WARNING", "CRITICAL")
    ]
    return [str(one.get("detector") or one.get("title")) for one in fired]


def rlprobe(programs: Path, found: Diagnosis, folder: Path) -> list[str] | None:
    """Signatures that fired on a recording of the scalars."""
    scalars_of(found, folder / "scalars.jsonl")
    subprocess.run([str(programs / "python"), "-c", PROBE, str(folder / "scalars.jsonl"),
                    str(folder / "recording")], capture_output=True, timeout=SECONDS,
                   check=False)  # fmt: skip
    report = said([str(programs / "rlprobe"), "doctor", str(folder / "recording"), "--json"])
    if report is None:
        return None
    fired = report if isinstance(report, list) else report.get("findings", [])
    return [
        str(one.get("signature_id") or one.get("detector") or one.get("id") or one.get("title"))
        for one in fired
    ]


def rlwatch(programs: Path, found: Diagnosis, folder: Path) -> list[str] | None:
    """Detectors that raised an alert while the scalars were logged."""
    scalars_of(found, folder / "scalars.jsonl")
    subprocess.run([str(programs / "python"), "-c", WATCH, str(folder / "scalars.jsonl"),
                    str(folder / "watched")], capture_output=True, timeout=SECONDS,
                   check=False)  # fmt: skip
    report = said([str(programs / "rlwatch"), "diagnose", "--log-dir", str(folder / "watched"),
                   "--format", "json"])  # fmt: skip
    if report is None:
        return None
    return [str(one) for one in report.get("detectors_triggered", [])]


def rlvr_audit(programs: Path, found: Diagnosis, folder: Path) -> list[str] | None:
    """Verdicts that at least half of the prompts got, other than a healthy one."""
    size = groups_of(found, folder / "groups.jsonl")
    report = said([str(programs / "rlvr-audit"), "inspect", "--file", str(folder / "groups.jsonl"),
                   "--G", str(size), "--format", "json"])  # fmt: skip
    if report is None:
        return None
    counts = report.get("verdict_histogram", {})
    total = sum(counts.values()) or 1
    return [name for name, count in counts.items() if count >= total / 2 and name != "HEALTHY"]


RIVALS: dict[str, Callable[[Path, Diagnosis, Path], list[str] | None]] = {
    "rldoctor": rldoctor,
    "rlprobe": rlprobe,
    "rlwatch": rlwatch,
    "rlvr-audit": rlvr_audit,
}


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@reading_options
def _read(paths: tuple[Path, ...], reading: LogOptions) -> Diagnosis:
    """A case's log, by the options of `recast diagnose`."""
    return reading.rollouts(files_of(paths))


def read(folder: Path, expected: dict[str, Any]) -> Diagnosis | None:
    """The log of a case; None where it is rightly refused."""
    names = [str(folder / path) for path in expected["paths"]]
    try:
        found: Diagnosis = _read.main([*names, *expected["args"]], standalone_mode=False)
    except LogError:
        return None
    return found


def main() -> None:
    """Print the table and its sums."""
    parser = argparse.ArgumentParser(description="What other tools find in the same logs.")
    parser.add_argument("cases", type=Path)
    parser.add_argument("--bin", dest="programs", type=Path, required=True)
    given = parser.parse_args()
    names = ("recast", *RIVALS)
    alarms: dict[str, Counter[str]] = {name: Counter() for name in names}
    totals: Counter[str] = Counter()
    print(f"| case | expected | {' | '.join(names)} |")
    print(f"|---|---|{'---|' * len(names)}")
    for folder in sorted(path.parent for path in given.cases.glob("*/expected.json")):
        expected = json.loads((folder / "expected.json").read_text())
        found = read(folder, expected)
        if found is None:
            continue
        wanted = [one if isinstance(one, str) else " or ".join(one) for one in expected["must"]]
        kind = "clean" if expected["kind"] == "clean" else "faulty" if wanted else "open"
        totals[kind] += 1
        mine = [one.name for one in examine(found).problems]
        cells = {"recast": mine}
        for name, run in RIVALS.items():
            with tempfile.TemporaryDirectory() as scratch:
                fired = run(given.programs.absolute(), found, Path(scratch))
            cells[name] = ["(failed)"] if fired is None else fired
        for name in names:
            alarms[name][kind] += bool(cells[name]) and cells[name] != ["(failed)"]
        words = " | ".join(", ".join(cells[name]) or "-" for name in names)
        print(f"| {expected['id']} | {', '.join(wanted) or kind} | {words} |", flush=True)
    faulty, clean = totals["faulty"], totals["clean"]
    print(f"\n| tool | alarms on {faulty} faulty logs | alarms on {clean} clean logs |")
    print("|---|---|---|")
    for name in names:
        print(f"| {name} | {alarms[name]['faulty']} | {alarms[name]['clean']} |")


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
