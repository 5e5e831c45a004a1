"""A public class or type name of recast, sim and workbench stands for one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("recast", "sim", "workbench")


def named(tree: ast.Module, file: str) -> dict[str, str]:
    """Public names of types that a module defines, with what each stands for: a class is its own,
    two aliases of the same text are one."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            name, meaning = node.name, f"a class of {file}"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, meaning = node.targets[0].id, ast.unparse(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            name, meaning = node.target.id, ast.unparse(node.value)
        else:
            continue
        if name[0].isupper() and not name.isupper():
            found[name] = meaning.replace("npt.", "")
    return found


def clashes(sources: dict[str, str]) -> dict[str, list[str]]:
    """Names that stand for more than one thing, with the files that define them."""
    meanings, files = defaultdict(set), defaultdict(list)
    for file, source in sources.items():
        for name, meaning in named(ast.parse(source), file).items():
            meanings[name].add(meaning)
            files[name].append(file)
    return {name: files[name] for name, found in meanings.items() if len(found) > 1}


def test_no_two_public_types_share_a_name() -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    sources = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in paths}
    assert len(sources) > 200
    assert clashes(sources) == {}


def test_a_shared_name_is_found_and_the_same_alias_is_not() -> None:
    sources = {
        "a.py": "class Plan: ...\nPair = tuple[int, int]\nRow = dict[str, int]\nclass _Own: ...",
        "b.py": "class Plan: ...\nPair = tuple[int, int]\nRow: T = dict[str, str]\nclass _Own: ...",
        "c.py": "Task = int\nSIZE = 1",
        "d.py": "class Task: ...\nSIZE = 2",
    }
    assert clashes(sources) == {
        "Plan": ["a.py", "b.py"],
        "Row": ["a.py", "b.py"],
        "Task": ["c.py", "d.py"],
    }


def test_every_package_says_in_one_line_what_lives_there() -> None:
    packages = [path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    for path in packages:
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert said.split("\n")[0].endswith((".", ":")), path
