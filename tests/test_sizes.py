"""Nothing is longer than a reader holds: functions of sixty lines, modules of four hundred."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("recast", "sim", "workbench", "benchmarks", "examples", "tools", "tests")
FUNCTION, MODULE = 60, 400
TABLES = {"recast/strategies.py"}
"""Modules of one table, a row per published strategy; their length is the table's."""


def sources() -> Iterator[tuple[str, str]]:
    for path in [ROOT / "app.py", *(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))]:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines without decorators and docstring. Of a command, those of its body: its parameters are
    the options of the command line, one a line."""
    documented = ast.get_docstring(function) is not None
    body = function.body[documented:]
    if not body:
        return 0
    last = function.end_lineno or 0
    if any("command" in ast.unparse(wrapper) for wrapper in function.decorator_list):
        return last - body[0].lineno + 1
    docstring = function.body[0]
    said = (docstring.end_lineno or 0) - docstring.lineno + 1 if documented else 0
    return last - function.lineno + 1 - said


def long_functions(source: str) -> list[str]:
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > FUNCTION
    ]


def test_no_function_is_longer_than_sixty_lines() -> None:
    found = {file: long_functions(source) for file, source in sources()}
    assert len(found) > 600
    assert {file: names for file, names in found.items() if names} == {}


def test_no_module_but_a_table_is_longer_than_four_hundred_lines() -> None:
    counted = {file: source.count("\n") for file, source in sources()}
    assert {file for file, lines in counted.items() if lines > MODULE} == TABLES


def test_a_long_function_is_found_and_docstrings_and_options_do_not_count() -> None:
    lines = "".join(f"    x = {i}\n" for i in range(FUNCTION))
    said = '    """' + "\n" * 70 + '    """\n'
    options = "".join(f"    option_{i}: int,\n" for i in range(70))
    assert long_functions(f"def f():\n{lines}") == ["f"]
    assert long_functions(f"def f():\n{said}{lines[lines.index(chr(10)) + 1 :]}") == []
    assert long_functions(f"@click.command()\ndef f(\n{options}):\n{said}{lines}") == []
    assert long_functions(f"def f(\n{options}):\n    return 1\n") == ["f"]
