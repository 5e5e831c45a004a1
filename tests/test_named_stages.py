"""Stages are closed: no source outside their tables looks a row up or compares by its name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from recast.strategy import STAGES

ROOT = Path(__file__).parents[1]
TABLES = {
    "GATES",
    "REPAIRS",
    "SELECTIONS",
    "CREDITS",
    "SUPERVISED",
    "RATIOS",
    "CLIPS",
    "ANCHOR_RATIOS",
    "STAGES",
}
# Where the rows stand.
HOMES = ("gate", "repair", "selection", "credit", "supervised", "surrogate")


def names_a_stage(source: str) -> list[str]:
    """Places where a source looks a row up by its name, or compares a strategy's stage with one."""
    kinds = set(STAGES)
    found = []
    tree = ast.parse(source)
    rows = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.comprehension | ast.For)
        and any(isinstance(n, ast.Name) and n.id in TABLES for n in ast.walk(node.iter))
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    }

    def a_stage(node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in rows
        if isinstance(node, ast.Attribute):
            return node.attr in kinds
        if isinstance(node, ast.Call):
            named = isinstance(node.func, ast.Name) and node.func.id == "getattr"
            method = isinstance(node.func, ast.Attribute) and a_stage(node.func.value)
            return method or (
                named
                and len(node.args) > 1
                and isinstance(node.args[1], ast.Constant)
                and node.args[1].value in kinds
            )
        return isinstance(node, ast.Subscript) and a_stage(node.value)

    def texts(node: ast.expr) -> bool:
        return any(
            isinstance(part, ast.Constant) and isinstance(part.value, str)
            for part in ast.walk(node)
        )

    for node in ast.walk(tree):
        where = ast.unparse(node) if isinstance(node, ast.expr) else ""
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            table = node.value.value if isinstance(node.value, ast.Subscript) else node.value
            if isinstance(table, ast.Name) and table.id in TABLES and node.slice.value not in kinds:
                found.append(where)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(a_stage, sides)) and any(texts(s) for s in sides if not a_stage(s)):
                found.append(where)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("startswith", "endswith", "split", "partition")
            and a_stage(node.func.value)
        ):
            found.append(where)
    return found


def sources() -> list[Path]:
    folders = ("recast", "sim", "workbench", "benchmarks", "examples", "tools")
    paths = [p for folder in folders for p in (ROOT / folder).rglob("*.py")]
    return [p for p in paths if not (p.stem in HOMES and "recast" in p.parts[-3:])]


def test_nothing_outside_the_tables_compares_with_a_named_stage():
    looked_at = {p: names_a_stage(p.read_text(encoding="utf-8")) for p in sources()}
    assert len(looked_at) > 150
    assert {p: found for p, found in looked_at.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "x = REPAIRS['anchor']",
        "x = STAGES['repair']['anchor']",
        "x = strategy.gate != 'none'",
        "x = 'none' == strategy.gate",
        "x = strategy.repair in ('none', 'anchor')",
        "x = strategy.supervised.startswith('chord')",
        "x = strategy.repair.split('(')[0] in refused",
        "x = strategy.credit.split('(')[0] == 'grpo'",
        "x = getattr(strategy, 'gate', 'none') != 'none'",
        "x = a and strategy.stage('repair').stage is REPAIRS['append']",
        "if strategy.clip == 'none': pass",
        "x = [n for n, s in CREDITS.items() if n not in ('none', 'grpo')]",
    ],
)
def test_a_comparison_by_name_is_found(source):
    assert names_a_stage(source)


@pytest.mark.parametrize(
    "source",
    [
        "x = STAGES['repair']",
        "x = STAGES[kind]",
        "x = replace(strategy, repair='none')",
        "x = strategy.denominator not in ('active', 'tokens')",
        "x = strategy.has_gate and stage.injects == 'miss'",
        "x = strategy.coupling == 'group'",
        "x = REPAIRS[name]",
        "x = [n for n, s in CREDITS.items() if 'prompt' not in s.needs]",
    ],
)
def test_what_is_no_comparison_by_name_passes(source):
    assert not names_a_stage(source)
