"""From the files of `benchmarks/gpu.sh` to the packaged results, which claims, app and docs read.

    python -m benchmarks.gpu_package RUN.json [LATER.json ...] > workbench/example/gpu.json

A later run's rows take the place of an earlier one's of the same case. A row of costs is left out,
and named under `left_out`, when its strategy sent other rows to the actor than it does for groups
without a hit: the policy it met was not the one that was meant.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KEPT = (
    "model",
    "parameters",
    "dtype",
    "optimizer",
    "checkpointing",
    "strategy",
    "prefix",
    "group",
    "prompt_tokens",
    "micro_tokens",
    "batch",
    "rows",
    "tokens",
    "update_seconds",
    "step_seconds",
    "peak_mib",
    "gflop",
    "mfu",
    "turns",
)
WIDTH = {"grpo": 32, "recast": 2, "sft": 1, "add_gt": 32}
"""Rows per group of 32 rollouts without a hit."""

Row = dict[str, Any]


def package(runs: list[Row]) -> Row:
    """One table of costs, the simulator's speeds, and the end-to-end runs."""
    costs: dict[tuple[Any, ...], Row] = {}
    found: Row = {"runs": [], "costs": [], "left_out": [], "simulator": [], "end_to_end": []}
    for run in runs:
        machine: Row = {}
        for row in run["parts"].get("machine", {"rows": []})["rows"]:
            machine |= row if "device" in row else {}
            if "matrix_product" in row:
                machine[f"{row['matrix_product']}_tflops"] = row["tflops"]
            if "copy_gb_per_second" in row:
                machine |= row
        found["runs"].append({"date": run["date"], "command": run["command"], **machine})
        tests = run["parts"].get("equality", {"rows": []})["rows"]
        if tests:
            names = [row for row in tests if "test" in row]
            passed = sum(row["state"] == "passed" for row in names)
            found["runs"][-1] |= {"equality_tests": len(names), "equality_passed": passed}
        for name, part in run["parts"].items():
            for row in part["rows"]:
                if row.get("kind") == "cost" and "update_seconds" in row:
                    key = tuple(row[k] for k in ("model", "prompt_tokens", "strategy", "prefix"))
                    kept = {k: row[k] for k in KEPT}
                    costs[key] = kept | {"card": machine.get("device"), "date": run["date"]}
            if name == "simulator" and part["rows"]:
                found["simulator"] = part["rows"]
            ran = [row for row in part["rows"] if row.get("command") == "recast lm rl"]
            if name == "lm rl" and ran:
                found["end_to_end"] = [
                    {"strategy": row["strategy"], "seconds": row["seconds"]} for row in ran
                ]
    for row in costs.values():
        meant = row["rows"] == WIDTH[row["strategy"]] * row["batch"]
        found["costs" if meant else "left_out"].append(row)
    return found


if __name__ == "__main__":
    print(json.dumps(package([json.loads(Path(p).read_text()) for p in sys.argv[1:]]), indent=1))
