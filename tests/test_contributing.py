"""CONTRIBUTING.md: its recipes are followed in a copy of the sources, and what comes out works."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
PLACE = re.compile(r"# (?P<file>[\w/.]+)(?:, (?P<how>above|in) (?P<name>\S+))?\n")


def apply(recipe: str, folder: Path) -> set[str]:
    """Change the copy as a recipe's blocks say; returns the files touched."""
    touched = set()
    for kind, block in re.findall(r"```(python|sh)\n(.*?)```", recipe, re.DOTALL):
        if kind == "sh":
            before = {p: p.read_bytes() for p in folder.rglob("*.py")}
            subprocess.run(["sh", "-ec", block], cwd=folder, check=True)
            changed = [p for p, held in before.items() if p.read_bytes() != held]
            assert changed, block
            touched |= {str(p.relative_to(folder)) for p in changed}
            continue
        place = PLACE.match(block)
        assert place is not None, block
        path, text = folder / place["file"], block[place.end() :]
        touched.add(place["file"])
        if place["how"] is None:
            assert not path.exists()
            path.write_text(text, encoding="utf-8")
            continue
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        at = _line(lines, place["how"], place["name"])
        gap = "\n\n" if place["how"] == "above" else ""
        path.write_text("".join([*lines[:at], text, gap, *lines[at:]]), encoding="utf-8")
    return touched


def _line(lines: list[str], how: str, name: str) -> int:
    """Index of the line before which a block belongs."""
    for node in ast.parse("".join(lines)).body:
        if isinstance(node, ast.ClassDef) and node.name == name and how == "in":
            return (node.body[0].end_lineno or 0) + 1  # below the docstring and a blank line
    (first,) = [
        i
        for i, line in enumerate(lines)
        if re.match(rf"\s*{re.escape(name)}\b", line)
        or (name.startswith('"') and line.strip().startswith(name))
    ][:1]
    if how == "above":
        return first
    while not lines[first].rstrip().endswith(("{", "(")) or "MappingProxyType(" in lines[first]:
        first += 1
    return first + 1


def recast(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("recast", "sim", "workbench"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    # Python reads this at its start. In a place of its own the kernel would be compiled anew.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['numba'] = sys.modules['llvmlite'] = None\n"
    )
    return tmp_path


TINY = ("--seeds=1", "--steps=3", "--lr=0.01", "--executor=serial", "--format=json")


@pytest.mark.drill
def test_a_strategy_is_two_files_and_trains(copy):
    assert len(apply(RECIPES["A strategy"], copy)) == 2
    printed = recast(copy, "run", "--preset=quick", "--strategy=halved_grpo", *TINY)
    assert [row["strategy"] for row in json.loads(printed)] == ["start", "halved_grpo"]


@pytest.mark.drill
def test_a_stateful_strategy_is_two_files_and_remembers_between_batches(copy):
    assert len(apply(RECIPES["A stateful strategy"], copy)) == 2
    program = (
        "import torch\n"
        "from recast import STRATEGIES, RolloutGroups, build_signal\n"
        "groups = RolloutGroups.of(torch.tensor([[1.0, 0.0]]))\n"
        "strategy = STRATEGIES['running_reinforce']\n"
        "first = build_signal(strategy, groups)\n"
        "second = build_signal(strategy, groups, first.state)\n"
        "print(first.advantage.tolist(), second.advantage.tolist())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    told = [pytest.approx(float(x)) for x in re.findall(r"-?\d+\.\d+", done.stdout)]
    assert told == [1.0, 0.0, 0.95, -0.05], done.stderr
    printed = recast(copy, "run", "--preset=quick", "--strategy=running_reinforce", *TINY)
    assert [row["strategy"] for row in json.loads(printed)] == ["start", "running_reinforce"]


@pytest.mark.drill
def test_a_page_is_two_files_and_shows(copy):
    assert len(apply(RECIPES["A page"], copy)) == 2
    program = (
        "from streamlit.testing.v1 import AppTest\n"
        "shown = AppTest.from_file('workbench/pages/navigation.py', default_timeout=120).run()\n"
        "assert not shown.exception, shown.exception\n"
        "shown = AppTest.from_file('workbench/pages/hello.py').run()\n"
        "assert not shown.exception and int(shown.metric[0].value) > 40\n"
        "from workbench.pages.navigation import PAGES\n"
        "assert PAGES['hello'] == 'Hello'\n"
    )
    environment = os.environ | {"PYTHONPATH": str(copy)}
    subprocess.run([sys.executable, "-c", program], cwd=copy, env=environment, check=True)


@pytest.mark.drill
def test_a_log_format_is_two_files_and_is_read(copy):
    assert len(apply(RECIPES["A log format"], copy)) == 2
    rows = [
        {
            "iteration_number": step,
            "query_number": group,
            "query_text": f"prompt {group}",
            "answer_text": f"item {place}",
            "points": float(place == group),
        }
        for step in range(3)
        for group in range(6)
        for place in range(4)
    ]
    (copy / "log.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    program = (
        "from pathlib import Path\n"
        "from workbench.diagnosis.logs.read import read_log\n"
        "log = read_log([Path('log.jsonl')])\n"
        "print(log.form, log.total)\n"
        "from workbench.diagnosis.logs.formats import FORMATS\n"
        "assert all(form.versions for form in FORMATS.values())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["ours", "72"], done.stderr


@pytest.mark.drill
def test_a_claim_is_one_file_and_gets_a_verdict(copy):
    assert len(apply(RECIPES["A claim"], copy)) == 1
    recast(copy, "run", "--preset=quick", "--strategy=grpo", *TINY, "--store=runs")
    printed = recast(copy, "claims", "--no-run", "--store=runs", "--format=json")
    assert "C0" in {row["claim"] for row in json.loads(printed)}


@pytest.mark.drill
def test_a_field_is_two_files_and_leaves_the_names_of_runs_as_they_were(copy):
    before = recast(copy, "run", "--preset=quick", "--strategy=sft", *TINY)
    held = sorted(p.name for p in (copy / "runs" / "runs").iterdir())
    assert len(apply(RECIPES["A field of an experiment"], copy)) == 2
    assert recast(copy, "run", "--preset=quick", "--strategy=sft", *TINY) == before
    assert sorted(p.name for p in (copy / "runs" / "runs").iterdir()) == held
    recast(copy, "run", "--preset=quick", "--strategy=sft", "--set=train.patience=2", *TINY)
    assert len(list((copy / "runs" / "runs").iterdir())) == len(held) + 1
    assert "train.patience" in recast(copy, "fields")


def test_every_file_command_and_target_that_the_page_names_exists():
    named = set(
        re.findall(r"`((?:tests|docs|workbench|recast|sim|benchmarks|\.github)/[\w/.-]+)`", PAGE)
    )
    named |= set(re.findall(r"\]\(([^)#]+)\)", PAGE))
    named |= {m["file"] for m in PLACE.finditer(PAGE) if m["how"]}
    assert len(named) > 15
    for name in named:
        assert (ROOT / name).exists(), name
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([\w-]+)", PAGE)) <= targets
    assert {"A strategy", "A stateful strategy", "A page", "A log format", "A claim"} <= set(
        RECIPES
    )


def test_the_workflows_run_what_the_page_says_with_pinned_actions():
    flows = {p.name: p.read_text() for p in (ROOT / ".github" / "workflows").glob("*.yml")}
    assert set(flows) == {"test.yml", "newest.yml"}
    assert "run: make test" in flows["test.yml"]
    assert "cron:" in flows["newest.yml"]
    assert "run: make newest" in flows["newest.yml"]
    for text in flows.values():
        for action in re.findall(r"uses: (\S+)", text):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action
        assert "permissions:\n  contents: read" in text
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"id: (\S+)", hooks) == ["ruff", "ruff-format", "mypy"]


def test_the_version_is_the_same_wherever_it_stands():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {project['version']}\n" in citation
    assert f"license: {project['license']}\n" in citation
