"""Mutation pass: break every function of some modules on purpose and see whether a test notices.

    python tools/mutation.py --report docs/mutation.md     every mutant, and a page about them
    python tools/mutation.py --sample 60                   a fixed random sample
    python tools/mutation.py --journal build/mutation.jsonl --minutes 30    goes on where it stopped

What is changed, and why no library does it, stands in tools/mutants.py. The tests are collected
once. Each mutant is a forked child that swaps the code of one live function, then runs the tests
that entered that function in an unbroken run, until one fails: first those that killed a mutant of
the same function, then the shortest. A mutant that outlives `--budget` seconds of tests counts as a
survivor, whatever the tests left out would have said. No mutant is hand-picked. Module level tables
are not functions and are left alone, as are texts, docstrings and annotations.

The journal holds one line per mutant that ran and the unbroken run. A mutant runs again when its
function has changed since; with `--again` survivors run again too, against tests written since.

A survivor keeps the explanation that stands beside it in the report, so a rerun asks only for what
is new. Exit code 1: fewer mutants killed than `--threshold`; 2: the unbroken tests fail.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import importlib
import inspect
import json
import math
import os
import random
import re
import resource
import select
import sys
import time
import types
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest
from _pytest.runner import runtestprotocol
from mutants import Mutant, functions_of, mutants_of

MODULES = (
    "recast.structure",
    "recast.stages.repair",
    "recast.stages.selection",
    "recast.stages.credit",
    "recast.loss",
)
TESTS = (
    "tests/recast/test_structure.py",
    "tests/recast/stages/test_repair.py",
    "tests/recast/stages/test_selection.py",
    "tests/recast/test_signal_pins.py",
    "tests/recast/test_strategy_loss.py",
    "tests/recast/stages/test_credit.py",
    "tests/recast/test_strategy.py",
    "tests/recast/test_loss.py",
)
GRACE_S = 60  # of processor time, beyond the budget, for the test that is running


# --- from a mutant to live code ----------------------------------------------------------------


def live_function(module: str, name: str) -> types.FunctionType:
    """The function object that everybody already holds."""
    return _bare(vars(importlib.import_module(module)), name)


def swap(module: str, name: str, source: str) -> None:
    """Give the live function the code and the defaults that `source`, a whole module, gives it."""
    scratch = types.ModuleType(module)
    exec(compile(source, f"<mutant of {module}>", "exec"), scratch.__dict__)
    live, new = live_function(module, name), _bare(vars(scratch), name)
    live.__code__ = new.__code__
    live.__defaults__ = new.__defaults__
    live.__kwdefaults__ = new.__kwdefaults__


def _bare(names: Mapping[str, Any], path: str) -> types.FunctionType:
    """The plain function at a dotted path, beneath property, staticmethod and cache."""
    head, _, rest = path.partition(".")
    found = names[head]
    if rest:
        return _bare(vars(found), rest)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    while hasattr(found, "__wrapped__"):
        if hasattr(found, "cache_clear"):
            found.cache_clear()
        found = found.__wrapped__
    if not isinstance(found, types.FunctionType):
        raise TypeError(f"{path}: expected a function, got {found!r}")
    return found


# --- running the tests -------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: the first test that failed on it, or None if it survived."""

    mutant: Mutant
    killer: str | None


class Journal:
    """A file of what is known already: one JSON line per mutant that ran, and the baselines."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.mutants: dict[tuple[str, str], str | None] = {}
        self.baselines: dict[str, dict[str, Baseline]] = {}
        text = path.read_text() if path and path.exists() else ""
        if path and text and not text.endswith("\n"):
            path.write_text(text + "\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # a line cut short when the pass was stopped
                continue
            if "baseline" in entry:
                self.baselines[entry["key"]] = entry["baseline"]
            else:
                self.mutants[entry["where"], entry["digest"]] = entry["killer"]

    def write(self, entry: Mapping[str, Any]) -> None:
        if self.path:
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")


class Baseline(TypedDict):
    """One unbroken test: how long it took, the functions it entered, whether it passed."""

    seconds: float
    entered: list[str]
    passed: bool


class Session:
    """A pytest plugin: pytest collects as usual, then the mutants run instead of the tests."""

    def __init__(
        self,
        modules: Sequence[str],
        jobs: int,
        examples: int,
        choose: Callable[[list[Mutant]], list[Mutant]],
        budget: float = 60.0,
        journal: Journal | None = None,
        again: bool = False,
        minutes: float = math.inf,
    ) -> None:
        self.modules, self.jobs, self.examples, self.choose = modules, jobs, examples, choose
        self.budget, self.journal, self.again = budget, journal or Journal(None), again
        self.minutes = minutes
        self.failures: list[str] = []
        self.outcomes: list[Outcome] = []
        self.total = 0

    def pytest_configure(self) -> None:
        """Without shrinking and replay a failing test stops at its first failing example."""
        from hypothesis import HealthCheck, Phase, settings  # pytest must rewrite it first

        settings.register_profile(
            "mutation",
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        settings.load_profile("mutation")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Fewer random examples than usual: a survivor runs every test that covers it."""
        from hypothesis import settings

        attribute = "_hypothesis_internal_use_settings"  # what @settings itself writes
        for item in items:
            function = getattr(item, "obj", None)
            usual = getattr(function, attribute, None)
            if usual is not None and usual.max_examples > self.examples:
                function = getattr(function, "__func__", function)
                setattr(function, attribute, settings(usual, max_examples=self.examples))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        mutants = [
            mutant
            for module in self.modules
            for mutant in mutants_of(module, inspect.getsource(importlib.import_module(module)))
        ]
        self.total = len(mutants)
        functions = {(m.module, m.function) for m in mutants}
        baseline = self._unbroken(items, functions)
        self.failures = [name for name, test in baseline.items() if not test["passed"]]
        if self.failures:
            return True

        def covering(mutant: Mutant) -> list[pytest.Item]:
            names = [n for n, t in baseline.items() if mutant.where in t["entered"]]
            return [items[n] for n in sorted(names, key=lambda n: baseline[n]["seconds"])]

        chosen = self.choose(mutants)
        # Tests that have killed a mutant of the same function go first.
        killers: dict[str, Counter[str]] = defaultdict(Counter)

        def work(mutant: Mutant) -> str:
            known = killers[mutant.where]
            order = sorted(covering(mutant), key=lambda item: -known[item.nodeid])
            return _try(mutant, order, self.budget)

        known = self.journal.mutants
        old = [m for m in chosen if (m.where, m.digest) in known]
        old = [m for m in old if known[m.where, m.digest] or not self.again]
        self.outcomes += [Outcome(m, known[m.where, m.digest]) for m in old]
        for outcome in self.outcomes:
            if outcome.killer:
                killers[outcome.mutant.where][outcome.killer] += 1
        done = {(m.where, m.digest) for m in old}
        chosen = [m for m in chosen if (m.where, m.digest) not in done]
        random.Random(0).shuffle(chosen)  # so that what has run by any time is a random sample
        tasks = [functools.partial(work, mutant) for mutant in chosen]
        deadline = time.monotonic() + 60 * self.minutes
        for mutant, killer in zip(chosen, _in_children(tasks, self.jobs, deadline), strict=False):
            self.outcomes.append(Outcome(mutant, killer or None))
            entry = {"where": mutant.where, "digest": mutant.digest, "killer": killer or None}
            self.journal.write(entry)
            killers[mutant.where][killer] += 1
            if not killer:
                _say(f"survived: {mutant.where}, line {mutant.line}: {mutant.change}\n")
            everyone = len(chosen) + len(old)
            if len(self.outcomes) % 50 == 0 or len(self.outcomes) == everyone:
                _say(f"{len(self.outcomes)} of {everyone} mutants, {self.survived} survived\n")
        place = {mutant.digest + mutant.where: i for i, mutant in enumerate(mutants)}
        self.outcomes.sort(key=lambda o: place[o.mutant.digest + o.mutant.where])
        return True

    def _unbroken(
        self, items: dict[str, pytest.Item], functions: set[tuple[str, str]]
    ) -> dict[str, Baseline]:
        """The unbroken run, from the journal where nothing it looked at has changed."""
        files = sorted({str(item.path) for item in items.values()})
        files += [inspect.getfile(importlib.import_module(module)) for module in self.modules]
        text = "".join(Path(file).read_text() for file in files) + str(self.examples)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        if key not in self.journal.baselines:
            (found,) = _in_children([lambda: _baseline(items, functions)], 1)
            self.journal.baselines[key] = json.loads(found)
            self.journal.write({"key": key, "baseline": self.journal.baselines[key]})
        return self.journal.baselines[key]

    @property
    def survived(self) -> int:
        return sum(outcome.killer is None for outcome in self.outcomes)


def _baseline(items: dict[str, pytest.Item], functions: set[tuple[str, str]]) -> str:
    """Run every test on unbroken code whose functions report that they were entered."""
    entered: set[str] = set()
    for module, function in sorted(functions):
        where = f"{module.rpartition('.')[2]}.{function}"
        live = live_function(module, function)
        name = f"_entered_{function.replace('.', '_')}"
        live.__globals__[name] = functools.partial(entered.add, where)
        tree = ast.parse(inspect.getsource(importlib.import_module(module)))
        body = dict(functions_of(tree))[function].body
        docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
        body.insert(int(docstring), ast.parse(f"{name}()").body[0])
        swap(module, function, ast.unparse(tree))
    results: dict[str, Baseline] = {}
    for nodeid, item in items.items():
        entered.clear()
        start = time.perf_counter()
        passed = _passes(item)
        results[nodeid] = {
            "seconds": time.perf_counter() - start,
            "entered": sorted(entered),
            "passed": passed,
        }
    return json.dumps(results)


def _try(mutant: Mutant, items: Sequence[pytest.Item], budget: float) -> str:
    """The first test that fails on the mutant within the budget, or an empty text.

    An endless loop ends at the limit of processor time, whatever else the machine is doing.
    """
    start = time.process_time()
    limit = int(start + budget + GRACE_S)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    try:
        swap(mutant.module, mutant.function, mutant.source)
    except Exception as problem:  # noqa: BLE001
        return f"import: {type(problem).__name__}"
    for item in items:
        if time.process_time() - start > budget:
            return ""
        if not _passes(item):
            return item.nodeid
    return ""


def _passes(item: pytest.Item) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=None)
    return all(report.outcome != "failed" for report in reports)


def _in_children(
    tasks: Sequence[Callable[[], str]], jobs: int, deadline: float = math.inf
) -> Iterator[str]:
    """What each task returns, in order, each run in a forked child of its own.

    A child that dies yields its status as a text. No child starts after the
    deadline (`time.monotonic`).
    """
    waiting = list(reversed(list(enumerate(tasks))))
    running: dict[int, tuple[int, int, list[bytes]]] = {}
    done: dict[int, str] = {}
    shown = 0
    while waiting or running:
        if time.monotonic() > deadline:
            waiting.clear()
        while waiting and len(running) < jobs:
            number, task = waiting.pop()
            end, pid = _fork(task)
            running[end] = (number, pid, [])
        if not running:
            return
        for end in select.select(list(running), [], [])[0]:
            number, pid, chunks = running[end]
            if chunk := os.read(end, 1 << 16):
                chunks.append(chunk)
                continue
            _, status = os.waitpid(pid, 0)
            os.close(end)
            del running[end]
            done[number] = f"died with status {status}" if status else b"".join(chunks).decode()
        while shown in done:
            yield done.pop(shown)
            shown += 1


def _fork(task: Callable[[], str]) -> tuple[int, int]:
    """Start `task` in a child; the end of the pipe that its text arrives at, and its pid."""
    end, start = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's idle threads: never used
        pid = os.fork()
    if pid:
        os.close(start)
        return end, pid
    code = 1
    try:
        os.close(end)
        with os.fdopen(start, "w") as pipe:
            pipe.write(task())
        code = 0
    finally:
        os._exit(code)


# --- the report --------------------------------------------------------------------------------


def explanations(report: str) -> dict[tuple[str, str], str]:
    """What the last column of a report's table of survivors says, by function and change."""
    rows = re.findall(r"^\| `(\S+)` \| `` (.*?) `` \| (.*?) \|$", report, re.M)
    return {(where, change.replace("\\|", "|")): text for where, change, text in rows}


def report(outcomes: Sequence[Outcome], total: int, known: Mapping[tuple[str, str], str]) -> str:
    """The page: counts by module and by operator, then each survivor with its explanation."""
    killed = [o for o in outcomes if o.killer]
    lines = [
        "# Mutation pass",
        "",
        "Written by `make mutation`; only the last column of the table of survivors is written",
        "by hand, and a rerun keeps it. Each mutant changes one spot of one function; it is killed",
        "when a test fails.",
        "",
        f"**{len(killed)} of {len(outcomes)} mutants killed "
        f"({100 * len(killed) / max(len(outcomes), 1):.1f}%)**; "
        + ("every mutant ran." if len(outcomes) == total else f"a random sample of {total}."),
    ]
    for title, key in (
        ("module", lambda o: o.mutant.module),
        ("operator", lambda o: o.mutant.operator),
    ):
        lines += ["", f"| {title} | mutants | killed | share |", "|---|---|---|---|"]
        for value, count in sorted(Counter(map(key, outcomes)).items()):
            dead = sum(key(o) == value for o in killed)
            lines.append(f"| {value} | {count} | {dead} | {100 * dead / count:.1f}% |")
    lines += ["", "## Survivors", "", "| function | change | why it survives |", "|---|---|---|"]
    for outcome in outcomes:
        if not outcome.killer:
            where = outcome.mutant.where
            change = outcome.mutant.change.replace("|", "\\|")
            lines.append(
                f"| `{where}` | `` {change} `` | {known.get((where, change), 'unexplained')} |"
            )
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--modules", nargs="+", default=MODULES)
    parser.add_argument("--tests", nargs="+", default=TESTS)
    parser.add_argument("--sample", type=int, help="only this many mutants, drawn at random")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--examples", type=int, default=10, help="random examples per test, most")
    parser.add_argument("--budget", type=float, default=60, help="seconds of tests per mutant")
    parser.add_argument("--journal", type=Path, help="remember here what ran, and go on from it")
    parser.add_argument("--again", action="store_true", help="run known survivors again")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no more after this")
    parser.add_argument("--threshold", type=float, default=0.9, help="least share to be killed")
    parser.add_argument("--report", type=Path, help="write the page here, keep its explanations")
    options = parser.parse_args(arguments)
    if options.sample is not None and options.sample < 1:
        parser.error(f"--sample: expected at least 1, got {options.sample}")

    def choose(mutants: list[Mutant]) -> list[Mutant]:
        if options.sample is None or options.sample >= len(mutants):
            return mutants
        picked = random.Random(0).sample(range(len(mutants)), options.sample)
        return [mutants[i] for i in sorted(picked)]

    if options.journal:
        options.journal.parent.mkdir(parents=True, exist_ok=True)
    session = Session(
        options.modules,
        options.jobs,
        options.examples,
        choose,
        options.budget,
        Journal(options.journal),
        options.again,
        options.minutes,
    )
    quiet = ["-qq", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-p", "no:xdist"]
    status = pytest.main([*quiet, "-m", "not drill", *options.tests], plugins=[session])
    if status or session.failures:
        for name in session.failures:
            _say(f"fails on unbroken code: {name}\n")
        return 2
    outcomes = session.outcomes
    killed = len(outcomes) - session.survived
    share = killed / max(len(outcomes), 1)
    sys.stdout.write(
        f"{killed} of {len(outcomes)} mutants killed, {share:.1%}; "
        f"at least {options.threshold:.0%} expected\n"
    )
    if options.report:
        known = explanations(options.report.read_text()) if options.report.exists() else {}
        options.report.write_text(report(outcomes, session.total, known))
    return 0 if share >= options.threshold else 1


if __name__ == "__main__":
    sys.exit(main())
