"""Mutants: what a mutation changes, and how a module's source becomes its mutants.

This part is what a mutation library does not do. mutmut 3.8 has a fixed table of operators for
Python in general; tensor code goes wrong in other ways: argmin for argmax, any for all, sum for
mean, a method call that is missing, one side of a mask alone. 89 of our 1,264 mutants are of the
kind `extreme` alone (docs/mutation.md). mutmut also changes the texts of errors, which we leave
alone, and keeps no explanation beside a survivor.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Expression = Callable[[ast.expr], Iterator[ast.expr]]


@dataclass(frozen=True)
class Mutant:
    """One change of one function; `source` is its whole module with that change."""

    module: str
    function: str
    line: int
    operator: str
    change: str
    source: str
    digest: str

    @property
    def where(self) -> str:
        return f"{self.module.rpartition('.')[2]}.{self.function}"


# --- operators: each yields the replacements of one node ---------------------------------------

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
MASKS: dict[type[ast.operator], type[ast.operator]] = {ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
EXTREMES = {
    "argmin": "argmax",
    "amin": "amax",
    "min": "max",
    "minimum": "maximum",
    "any": "all",
    "cumsum": "cumprod",
    "sum": "mean",
    "square": "abs",
    "zeros_like": "ones_like",
}
EXTREMES |= {new: old for old, new in EXTREMES.items() if old not in ("square", "sum")}


def comparisons(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            for swapped in COMPARISONS[type(operator)]:
                yield ast.Compare(
                    node.left, [*node.ops[:i], swapped(), *node.ops[i + 1 :]], node.comparators
                )


def arithmetic(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)


def masks(node: ast.expr) -> Iterator[ast.expr]:
    """& against |, and against or, and each side alone."""
    if isinstance(node, ast.BinOp) and type(node.op) in MASKS:
        yield ast.BinOp(node.left, MASKS[type(node.op)](), node.right)
        yield from (node.left, node.right)
    if isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def signs(node: ast.expr) -> Iterator[ast.expr]:
    """A minus, a ~ or a not goes away; a lone -1 (an axis, mostly) is a constant instead."""
    if isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield node.operand


def constants(node: ast.expr) -> Iterator[ast.expr]:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    inner = node.operand if negative and isinstance(node, ast.UnaryOp) else node
    if not isinstance(inner, ast.Constant) or not isinstance(inner.value, int | float):
        return
    if isinstance(inner.value, bool):
        yield ast.Constant(not inner.value)
        return
    value = -inner.value if negative else inner.value
    yield _number(value + 1)
    if isinstance(value, float) and value:
        yield _number(2 * value)


def extremes(node: ast.expr) -> Iterator[ast.expr]:
    """argmin against argmax, any against all, and their like."""
    if not isinstance(node, ast.Call):
        return
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr in EXTREMES:
        renamed: ast.expr = ast.Attribute(function.value, EXTREMES[function.attr], function.ctx)
    elif isinstance(function, ast.Name) and function.id in EXTREMES:
        renamed = ast.Name(EXTREMES[function.id], function.ctx)
    else:
        return
    yield ast.Call(renamed, node.args, node.keywords)


def calls(node: ast.expr) -> Iterator[ast.expr]:
    """A method call goes away and leaves its receiver; a keyword argument goes away."""
    if not isinstance(node, ast.Call):
        return
    function = node.func
    if isinstance(function, ast.Attribute) and not (
        isinstance(function.value, ast.Name) and function.value.id in ("torch", "math")
    ):
        yield function.value
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield ast.Call(function, node.args, [*node.keywords[:i], *node.keywords[i + 1 :]])


def conditions(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)


EXPRESSIONS: dict[str, Expression] = {
    "comparison": comparisons,
    "arithmetic": arithmetic,
    "mask": masks,
    "sign": signs,
    "constant": constants,
    "extreme": extremes,
    "call": calls,
    "condition": conditions,
}


def _number(value: float) -> ast.expr:
    return ast.UnaryOp(ast.USub(), ast.Constant(-value)) if value < 0 else ast.Constant(value)


def statements(node: ast.stmt, bound: set[str]) -> Iterator[tuple[str, ast.stmt]]:
    """A condition is negated; a statement without which the function still runs goes away."""
    if isinstance(node, ast.If | ast.While):
        negated = copy.copy(node)
        negated.test = ast.UnaryOp(ast.Not(), node.test)
        yield "condition", negated
    removable = isinstance(node, ast.Expr | ast.Raise | ast.AugAssign)
    if isinstance(node, ast.Assign):
        names = {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        removable = names <= bound
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if removable and not docstring:
        yield "statement", ast.Pass()


# --- from a module's source to its mutants -----------------------------------------------------


def mutants_of(module: str, source: str) -> list[Mutant]:
    """Every mutant of every function and method of a module, in the order of the source."""
    tree = ast.parse(source)
    found = []
    for name, function in functions_of(tree):
        seen = {ast.unparse(function)}
        shown: Counter[str] = Counter()
        for place, operator, new in _replacements(function):
            before = place.shown()
            place.put(new)
            if (text := ast.unparse(function)) not in seen:  # two operators may say the same
                seen.add(text)
                change = f"{before} -> {place.shown(new)}"
                shown[change] += 1
                if shown[change] > 1:
                    change += f" (number {shown[change]})"
                mutated = ast.unparse(ast.fix_missing_locations(tree))
                digest = hashlib.sha256(text.encode()).hexdigest()[:16]
                line = place.node.lineno
                found.append(Mutant(module, name, line, operator, change, mutated, digest))
            place.put(place.node)
    return found


def functions_of(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}", inner


@dataclass(frozen=True)
class Place:
    """Where a node hangs, and the expression around it, which a reader needs to place a `-1`."""

    node: ast.expr | ast.stmt
    parent: ast.AST
    field: str
    index: int | None
    around: ast.AST | None

    def put(self, new: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, new)
        else:
            getattr(self.parent, self.field)[self.index] = new

    def shown(self, new: ast.AST | None = None) -> str:
        """This place as text, with `new` instead of the node."""
        if isinstance(self.node, ast.If | ast.While):
            test = getattr(new, "test", self.node.test)
            return f"if {ast.unparse(test)}"
        small = self.around is not None and len(ast.unparse(self.node)) < 12
        shown = self.around if small and self.around is not None else new or self.node
        return re.sub(r"\s+", " ", ast.unparse(shown))


def _replacements(function: ast.FunctionDef) -> Iterator[tuple[Place, str, ast.AST]]:
    """Each place, with the operator and the replacement of each change that fits there."""
    bound = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    for place in _places(function, None):
        node = place.node
        if isinstance(node, ast.stmt):
            for operator, changed in statements(node, bound):
                yield place, operator, changed
            bound |= {
                n.id
                for n in ast.walk(node)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
            continue
        for operator, replacements in EXPRESSIONS.items():
            for new in replacements(node):
                yield place, operator, new


def _places(node: ast.AST, around: ast.AST | None) -> Iterator[Place]:
    """Statements and expressions below a node, outermost first.

    Left out: annotations, decorators, the texts of errors, and the 1 of a -1.
    """
    if isinstance(node, ast.Raise | ast.JoinedStr):
        return
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return
    around = node if isinstance(node, ast.expr) else around
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.expr | ast.stmt):
                yield Place(child, node, field, index, around)
            if isinstance(child, ast.AST):
                yield from _places(child, None if isinstance(child, ast.stmt) else around)
