"""Every public name says what a caller must know, and what docstrings show runs."""

from __future__ import annotations

import ast
import doctest
import functools
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import recast

ROOT = Path(__file__).parents[1]
PACKAGES = ("recast", "sim", "workbench")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Functions and methods whose names, and whose classes' names, have no leading underscore."""

    def inside(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in node.body:
            if getattr(child, "name", "_").startswith("_"):
                continue
            if isinstance(child, Function):
                yield prefix + child.name, child
            elif isinstance(child, ast.ClassDef):
                yield from inside(child, f"{prefix}{child.name}.")

    return inside(tree, "")


def raised(function: Function) -> set[str]:
    """Names of the exceptions that a function's own body raises by name, not those of functions
    defined inside it. A raised local name counts as what it was assigned."""
    assigned = {
        target.id: {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def own(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function | ast.ClassDef | ast.Lambda):
                continue
            if isinstance(child, ast.Raise) and child.exc is not None:
                what = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
                name = ast.unparse(what).rpartition(".")[2]
                classes = {n for n in assigned.get(name, set()) if n[:1].isupper()}
                yield from {n for n in classes if not n.isupper()} or {name}
            if isinstance(child, ast.Try):
                caught = " ".join(ast.unparse(h.type) for h in child.handlers if h.type)
                body = ast.Module(child.body, [])
                yield from {name for name in own(body) if name not in re.findall(r"\w+", caught)}
                yield from own(ast.Module([*child.orelse, *child.finalbody], []))
                for handler in child.handlers:
                    yield from own(handler)
                continue
            yield from own(child)

    return set(own(function))


def is_command(function: Function) -> bool:
    """Is its docstring the help text of a command?"""
    return any(
        re.search(r"\b(command|group)\b", ast.unparse(decorator))
        for decorator in function.decorator_list
    )


def unsaid(source: str) -> list[str]:
    """Public functions of a module that raise what their docstring does not name."""
    return [
        f"{name}: {', '.join(missing)}"
        for name, function in public_functions(ast.parse(source))
        if not is_command(function)
        and (missing := sorted(raised(function) - _named(ast.get_docstring(function) or "")))
    ]


def _named(docstring: str) -> set[str]:
    after = docstring[match.start() :] if (match := re.search(r"\b[Rr]aises?\b", docstring)) else ""
    return set(re.findall(r"\w+", after))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_name_what_they_raise(path):
    assert unsaid(path.read_text(encoding="utf-8")) == []


def test_the_search_for_unnamed_exceptions_finds_them():
    source = '''
def quiet(x):
    """Raises KeyError."""
    raise ValueError("no")

def told(x):
    """Raises ValueError, DiskError."""
    kind = DiskError if x else ValueError
    raise kind("no") from None

def _private():
    raise ValueError

class Thing:
    def method(self):
        "Something."
        def inner():
            raise RuntimeError
        raise errors.LogError(f"{self}")

@click.command()
def command():
    "Help."
    raise UserError("one line")
'''
    assert unsaid(source) == ["quiet: ValueError", "Thing.method: LogError"]


NO_API = ("workbench/pages/", "workbench/commands/", "workbench/cli.py")
"""Scripts of the app and the bodies of commands; the site shows the commands' help instead."""
API = [path for path in SOURCES if not path.relative_to(ROOT).as_posix().startswith(NO_API)]


@functools.cache
def promised() -> frozenset[str]:
    """Methods that some class documents, so that others may have them without saying it again."""
    return frozenset(
        name.rpartition(".")[2]
        for path in API
        for name, function in public_functions(ast.parse(path.read_text(encoding="utf-8")))
        if "." in name and ast.get_docstring(function)
    )


def undocumented(source: str) -> list[str]:
    """Public names of a module without a docstring."""
    tree = ast.parse(source)
    functions = [
        name
        for name, function in public_functions(tree)
        if not ast.get_docstring(function)
        and not ("." in name and name.rpartition(".")[2] in promised())
    ]
    classes = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    return functions + classes + ([] if ast.get_docstring(tree) else ["the module"])


def shapeless(source: str) -> list[str]:
    """Public functions that take or return tensors, where neither they nor their module say any
    shape."""
    tree = ast.parse(source)
    found = []
    for name, function in public_functions(tree):
        signature = f"{ast.unparse(function.args)} -> {ast.unparse(function.returns or ast.Pass())}"
        said = f"{ast.get_docstring(function)} {ast.get_docstring(tree)}"
        if (
            "." not in name
            and re.search(r"\bTensor\b", signature)
            and not re.search(r"`[^`]*\[[^`]*`|\bshapes?\b|\bAs `sim|^As `", said)
        ):
            found.append(name)
    return found


@pytest.mark.parametrize("path", API, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_documented_and_tensors_have_shapes(path):
    source = path.read_text(encoding="utf-8")
    assert undocumented(source) == []
    assert shapeless(source) == []


def test_the_search_for_undocumented_names_finds_them():
    source = "def f(x: Tensor) -> Tensor:\n    pass\n\nclass A:\n    def unheard_of(self): pass\n"
    assert undocumented(source) == ["f", "A.unheard_of", "A", "the module"]
    assert shapeless(source) == ["f"]
    assert shapeless('def f(x: Tensor):\n    """x `[B, G]`."""') == []


def test_each_stage_says_where_it_comes_from_or_belongs_to_a_strategy_that_does():
    """A source is an arXiv number, a named code base or paper, or the word control."""
    for name, strategy in recast.STRATEGIES.items():
        assert re.search(
            r"arXiv \d{4}\.\d{5}|verl|TRL|NeMo-RL|MiniOneRec|control|REINFORCE", strategy.source
        ), name


def with_examples() -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in SOURCES
        if ">>> " in path.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("module", with_examples())
def test_examples_in_docstrings_run(module):
    done = doctest.testmod(importlib.import_module(module))
    assert done.attempted > 0
    assert done.failed == 0


def test_the_core_of_the_library_shows_examples():
    shown = {
        name for name in recast.__all__ if ">>> " in (inspect.getdoc(getattr(recast, name)) or "")
    }
    assert {"RolloutGroups", "build_signal", "parse_strategy", "structural_score"} <= shown
    assert {"pack", "matched_levels", "regime", "denominator", "kl_estimate"} <= shown
