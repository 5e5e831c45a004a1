"""Pages of the app, opened in this process, and a small store for them to show."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from streamlit.testing.v1 import AppTest

from recast.ledger import RunRecord
from workbench import charts

ROOT = Path(__file__).parents[3]


PAGES = ROOT / "workbench" / "pages"


def made_up_runs() -> dict[str, RunRecord]:
    """Three seeds of three strategies that rise at different speeds; one seed never rises."""
    runs = {}
    for name, speed, width in (("grpo", 1, 8), ("recast", 2, 2), ("sft", 3, 1)):
        for seed in range(3):
            rows = []
            for step, split in product(range(0, 50, 10), ("test", "validation")):
                level = 0.1 if (name, seed) == ("recast", 2) else 0.1 + 0.002 * speed * step
                row = dict.fromkeys(charts.METRICS, level + 0.001 * seed)
                row |= dict.fromkeys(charts.COUNTS, float(width) if step else None)
                row |= {
                    "split": split,
                    "slice": "all",
                    "step": step,
                    "rollouts": 0 if name == "sft" else step * 64,
                    "updated_rows": step * 8 * width,
                    "optimizer_steps": step,
                    "labels": 0 if name == "grpo" else step * 8,
                    "scored_rows": 0 if name == "sft" else step * 64,
                    "skipped_prompts": 0,
                }
                rows.append(row)
            config = {"strategy": name, "seed": seed, "lr": 0.01, "cell": "one", "world": "demo"}
            ceilings = {"ceiling_pass_at_1": 0.6, "ceiling_recall_at_10": None}
            runs[f"{name}-{seed}"] = RunRecord(config | {"group": 8}, tuple(rows), ceilings)
    return runs


def page(name: str) -> AppTest:
    app = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=60).run()
    assert not app.exception
    return app


def tables(app: AppTest) -> list:
    """Every table of the page, those that unfold below a picture as well."""
    known = app.session_state._state.filtered_state
    folded = [key for key, opened in known.items() if key.startswith("numbers-") and not opened]
    for key in folded:
        app.session_state[key] = True
    if folded:
        app.run()
        assert not app.exception
    return [table.value for table in app.dataframe]
