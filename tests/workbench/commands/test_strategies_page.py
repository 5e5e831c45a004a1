"""What docs/strategies.md tells a reader to do works as written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recast import parse_strategy

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CREDIT_FUNCTION = next(block for block in BLOCKS if block.startswith("def "))
CREDIT_ROW = next(block for block in BLOCKS if "Stage(" in block)
NAMED_ROW = next(block for block in BLOCKS if "meaning=" in block)


def insert_before(path: Path, marker: str, text: str) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count(marker) == 1, (path, marker)
    path.write_text(source.replace(marker, text + marker), encoding="utf-8")


def insert_at_the_end_of_the_table(path: Path, row: str) -> None:
    source = path.read_text(encoding="utf-8")
    end = max(source.rfind("    }\n)"), source.rfind("\n}\n") + 1)
    assert end > 0, path
    path.write_text(source[:end] + row + source[end:], encoding="utf-8")


@pytest.fixture
def followed(tmp_path: Path) -> Path:
    """The library after a reader has pasted the page's function and its two rows."""
    shutil.copytree(ROOT / "recast", tmp_path / "recast")
    credit = tmp_path / "recast" / "stages" / "credit.py"
    insert_before(credit, "CREDITS: Mapping", CREDIT_FUNCTION + "\n\n")
    insert_at_the_end_of_the_table(credit, CREDIT_ROW)
    insert_at_the_end_of_the_table(tmp_path / "recast" / "strategies.py", NAMED_ROW)
    return tmp_path


def run(followed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(followed), str(ROOT)])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=followed,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


COMMAND = "from workbench.cli import main; main()"


def test_one_function_and_one_row_make_a_strategy(followed):
    code = """
import torch
from recast import STRATEGIES, RolloutGroups, build_signal, parse_strategy
from recast.theory.objective import weight

reward = torch.tensor([[0.0, 0.0, 0.0, 1.0, 7.0]])
valid = torch.tensor([[True, True, True, True, False]])
groups = RolloutGroups.of(reward, valid=valid)
for strategy in (parse_strategy("credit=median_centred"), STRATEGIES["median"]):
    print(build_signal(strategy, groups).advantage.tolist())
print(weight(STRATEGIES["median"], torch.tensor([0.1]), 4).total.tolist())
"""
    done = run(followed, "-c", code)
    assert done.returncode == 0, done.stderr
    *found, weight = map(json.loads, done.stdout.splitlines())
    assert found == [[[0.0, 0.0, 0.0, 1.0, 0.0]]] * 2
    assert weight[0] > 0


def test_the_new_strategy_is_listed_and_its_exact_update_is_enumerated(followed):
    listed = run(followed, "-c", COMMAND, "strategies", "--format", "json")
    assert listed.returncode == 0, listed.stderr
    rows = {row["strategy"]: row for row in json.loads(listed.stdout)}
    assert rows["median"]["composition"] == "credit=median_centred"
    exact = run(
        followed, "-c", COMMAND, "exact", "--strategy", "median", "--group", "3", "--format", "json"
    )
    assert exact.returncode == 0, exact.stderr
    assert json.loads(exact.stdout)[0]["cos_own"] == pytest.approx(1.0)


def test_every_composition_that_the_page_shows_is_read():
    shown = re.findall(r'--strategy "?([^"\n]+?)"?(?= --|\n)', PAGE)
    shown = [text for text in shown if "median" not in text]
    assert len(shown) >= 2
    for text in shown:
        parse_strategy(text)


def test_the_python_composition_of_the_page_runs(followed):
    composed = next(block for block in BLOCKS if "mine = " in block)
    done = run(followed, "-c", composed + "\nassert mine.width(32) == 8")
    assert done.returncode == 0, done.stderr


def test_the_page_names_the_tables_as_they_are():
    for kind, where in re.findall(r"\| `(\w+)` \| [^|]*\| `recast/([\w/]+)\.py`, `\w+` \|", PAGE):
        assert (ROOT / "recast" / f"{where}.py").exists(), kind
    for table in re.findall(r"`(GATES|REPAIRS|SELECTIONS|CREDITS|SUPERVISED)`", PAGE):
        assert any(f"{table}: Mapping" in p.read_text() for p in (ROOT / "recast").rglob("*.py"))
