"""Whoever changes a module finds its tests by the folder listing.

The tests of `sim/worlds/replay.py` lie in `tests/sim/worlds`, or in the nearest folder above it
that exists; what needs another environment lies in `tests/lm` and `tests/parity`. There a test has
the module's name, imports it, or names it quoted, as commands and pages are named. What is tested
by way of another module stands in `TESTED_BY`.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
EXTRAS = {
    "recast/lm": "lm",
    "recast/adapters": "lm parity",
    "workbench/commands/lm": "lm",
    "workbench/real": "lm",
    "workbench/studies/prediction": "lm",
    "workbench/diagnosis/logs/formats": "planted_logs/trainers.py",
}
"""Packages whose tests, or some of them, need another environment, and the folders of those; and
the file that writes a log of every format."""

TESTED_BY = {
    "recast/test_strategy.py": "recast: signal",
    "recast/stages/test_credit.py": "recast/stages: by_level confidence leave_one_out normalise"
    " tracker whiten",
    "recast/stages/test_apart.py": "recast/stages: resample",
    "lm/test_trl.py": "recast/adapters: trl_targets trl_trie",
    "lm/test_published.py": "recast/lm: similarity",
    "lm/test_commands.py": "workbench/commands/lm: session",
    "lm/test_study.py": "workbench/real: sft_starts",
    "test_layers.py": "recast: lazy_names",
    "test_why_not.py": "sim: inputs; workbench/diagnosis: snippets",
    "test_app_command.py": "workbench/commands: app; workbench/pages: asgi_app",
    "sim/general/test_step.py": "recast: accounting",
    "sim/worlds/test_worlds.py": "sim/training: calibrate",
    "sim/worlds/test_free_decoding.py": "sim/decoding: dead_ends; workbench/spec: later_fields",
    "sim/test_evaluate.py": "recast: metrics; sim/decoding: beam; sim/policies: protocol",
    "sim/test_exact.py": "workbench/theory: enumeration",
    "sim/test_sim.py": "sim/training: warm_start",
    "sim/kernel/test_kernel.py": "sim/kernel: available; sim/training: learner",
    "sim/decoding/test_compiled.py": "sim/kernel: enumeration",
    "sim/policies/test_policies.py": "sim/policies: nodes",
    "sim/training/test_determinism.py": "sim/general: counts",
    "sim/training/test_iterates.py": "sim/general: optimizer",
    "sim/shortcuts/test_phases.py": "sim/general: general_path; sim/kernel: phase",
    "sim/shortcuts/test_fast_path.py": "sim/kernel: buffers nets path walk; sim/shortcuts: plan",
    "sim/shortcuts/test_laws.py": "sim/kernel: draw",
    "workbench/charts/test_chart_rules.py": "workbench/charts: decision_accuracy diagnose"
    " efficiency learnability questions real regimes runs signals story trade_offs training",
    "workbench/commands/test_cli.py": "workbench/commands: run_output; workbench/spec:"
    " strategy_texts",
    "workbench/commands/test_predict.py": "workbench/commands: predict_case;"
    " workbench/studies/prediction: curves question saved",
    "workbench/commands/test_sweep_cli.py": "workbench/commands: dry_run",
    "workbench/diagnosis/test_diagnosis.py": "workbench/commands: diagnose diagnosis_output;"
    " workbench/report: log",
    "workbench/diagnosis/test_findings.py": "workbench/diagnosis/findings: audit_faults checks"
    " padded_step policy",
    "workbench/diagnosis/test_lookalike.py": "workbench/execution: imitation; workbench/jobs:"
    " lookalike lookalike_worker",
    "workbench/diagnosis/test_watch.py": "workbench/commands: log_options watch",
    "workbench/diagnosis/logs/test_formats.py": "workbench/diagnosis/logs/formats: swift",
    "workbench/diagnosis/logs/test_hits.py": "workbench/diagnosis/logs: rewards task_hits",
    "workbench/diagnosis/logs/test_logs.py": "workbench/diagnosis/logs: records tensors"
    " training_data",
    "workbench/diagnosis/test_strangers.py": (
        "workbench/diagnosis/logs: column_names csv_cells databases evaluation_rows"
        " printed_rollouts scalar_series scalar_stores shown_rollouts"
    ),
    "workbench/diagnosis/logs/test_scalars.py": "workbench/diagnosis/logs: printed token_exports",
    "workbench/diagnosis/logs/test_unreadable.py": "workbench/diagnosis/logs: file_kinds"
    " log_files packed problems",
    "workbench/diagnosis/logs/test_weights.py": "workbench/diagnosis/logs: signs",
    "workbench/execution/test_runner.py": "workbench/execution: executor_names from_python",
    "workbench/jobs/test_race.py": "workbench/jobs: job process race_trees",
    "workbench/jobs/test_started_sweeps.py": "workbench/jobs: sweep_worker;"
    " workbench/store: records",
    "workbench/jobs/test_warm_up.py": "sim/shortcuts: compile_ahead",
    "workbench/pages/test_answers.py": "workbench/analysis: answers; workbench/pages:"
    " tuned_for; workbench/theory: story",
    "workbench/pages/test_app.py": "workbench/pages: end_forecasts figure group_picture"
    " notice preload race_trees",
    "workbench/pages/test_sweeps_page.py": "workbench/analysis: cells runs; workbench/pages:"
    " parallel_coordinates run_details sweep_list sweep_start;"
    " workbench/report: selection",
    "workbench/pages/test_your_rollouts.py": "workbench/jobs: dataclass_folder log_reading"
    " stuck_process; workbench/pages: log_questions ranked_by_theory",
    "workbench/real/test_gpu.py": "workbench/studies: costs",
    "browsing.py": "workbench/pages: cheaper_experiments",
    "workbench/report/test_report.py": "workbench/commands: claims packaged phase_map questions"
    " report search",
    "workbench/spec/test_fields.py": "workbench/commands: fields",
    "workbench/store/test_store.py": "recast: ledger; workbench/store: other_files",
    "workbench/studies/test_prediction.py": "workbench/spec: rungs",
    "workbench/studies/test_proof.py": "workbench/commands: prove",
    "workbench/studies/test_search.py": "workbench/spec: metrics",
}
"""Tests of modules that the folder listing does not lead to: a test, and whom it is about."""


def modules() -> list[str]:
    """Every module of the project as a path."""
    found = [
        path for name in ("recast", "sim", "workbench") for path in (ROOT / name).rglob("*.py")
    ]
    return sorted(str(p.relative_to(ROOT)) for p in found if p.name != "__init__.py")


def near(module: str) -> list[Path]:
    """The tests in the folders where a module's tests lie."""
    package = Path(module).parent
    own = next(TESTS / p for p in (package, *package.parents) if (TESTS / p).is_dir())
    extra = [TESTS / name for name in EXTRAS.get(str(package), "").split()]
    found = [path for folder in (own, *extra) for path in folder.rglob("*.py")]
    return [*found, *(path for path in extra if path.is_file())]


@cache
def words(test: Path) -> frozenset[str]:
    """What a test imports, as dotted names, and every text in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(test.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return frozenset(found)


def found_by_listing(module: str, test: Path) -> bool:
    """Whether a test has a module's name, imports it, or names it quoted."""
    path = Path(module)
    dotted = ".".join(path.with_suffix("").parts)
    names = {path.name, path.stem, path.stem.replace("_", "-"), dotted}
    return test.stem == f"test_{path.stem}" or not names.isdisjoint(words(test))


def listed() -> dict[str, str]:
    """Modules of `TESTED_BY` and the test of each."""
    found = {}
    for test, groups in TESTED_BY.items():
        for group in groups.split(";"):
            package, names = group.split(":")
            found |= {f"{package.strip()}/{name}.py": test for name in names.split()}
    return found


def test_the_tests_of_every_module_are_found_by_its_folder_or_stand_in_the_list():
    lost = {m for m in modules() if not any(found_by_listing(m, t) for t in near(m))}
    assert lost - set(listed()) == set(), "name them in a test of their folder, or in TESTED_BY"
    assert set(listed()) - lost == set(), "TESTED_BY names what the listing leads to, or nothing"
    assert all((TESTS / test).is_file() for test in TESTED_BY)


def test_every_folder_of_tests_of_a_package_has_the_name_of_a_package():
    for package in ("recast", "sim", "workbench"):
        for folder in (p.parent for p in (TESTS / package).rglob("test_*.py")):
            name = folder.relative_to(TESTS)
            assert (ROOT / name).is_dir() or name == Path("workbench/pages/browser")
