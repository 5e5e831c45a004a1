"""The TRL adapter inside several releases: one row per interpreter, with the steps that it took.

    python -m benchmarks.trainers PYTHON [PYTHON ...]

Each PYTHON is the interpreter of an environment with its own trl. Two steps of each case run there
on a tiny model; the same norms of the gradient in every row say that the adapter does the same.
`make trainers` builds the environments and prints the table of docs/adapters.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import table

ROOT = Path(__file__).parents[1]
CASES = {
    "grpo, down the trie": ("grpo_trl", False),
    "recast, down the trie": ("recast", False),
    "grpo_sft, down the trie": ("grpo_sft", False),
    "recast, TRL generates": ("recast", True),
    "target_power, no rollouts": ("target_power", True),
}


def inside() -> None:
    """Run the cases with the trl at hand; one JSON object."""
    sys.path.insert(0, str(ROOT / "tests" / "lm"))
    import transformers
    import trl

    found: dict[str, Any] = {"trl": trl.__version__, "transformers": transformers.__version__}
    for label, (strategy, free) in CASES.items():
        try:
            import trl_case

            with tempfile.TemporaryDirectory() as folder:
                it = trl_case.trainer(Path(folder), strategy, free, loss_type="dapo", max_steps=2)
                it.train()
                norms = [row["grad_norm"] for row in it.state.log_history if "grad_norm" in row]
            found[label] = ", ".join(f"{norm:.4f}" for norm in norms)
        except Exception as problem:  # noqa: BLE001  # whatever a release does is its row
            said = f"{type(problem).__name__}: {str(problem).splitlines()[0][:60]}"
            # Without triton trl 1.15 has None where its fused log-softmax would be.
            found[label] = "needs triton" if said.endswith("no attribute 'apply'") else said
    print(json.dumps(found))


def main() -> None:
    rows = []
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for python in sys.argv[1:]:
        command = [python, "-W", "ignore", "-m", "benchmarks.trainers", "--inside"]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        last = (done.stdout.strip().splitlines() or ["{}"])[-1]
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        rows.append(json.loads(last) if last.startswith('{"trl"') else {"trl": said[:120]})
    columns = ["trl", "transformers", *CASES]
    title = "Norm of the gradient at two steps of the adapter inside TRL"
    table(title, [{name: row.get(name, "-") for name in columns} for row in rows])


if __name__ == "__main__":
    inside() if sys.argv[1:] == ["--inside"] else main()
