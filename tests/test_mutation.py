"""The mutation tool breaks every function, sees tests that cannot fail, and keeps its notes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parent.parent / "tools" / "mutation.py"
SUBJECT = '''
"""A module to break."""

LIMIT = 3


def clipped(value: float, limit: float = 2.0) -> float:
    """The value, at most the limit in size."""
    if value > limit:
        return limit
    return -limit if value < -limit else value


class Pair:
    @property
    def both(self) -> bool:
        return self.left & self.right

    def __init__(self, left: bool, right: bool) -> None:
        self.left, self.right = left, right
'''
GOOD = """
from subject import Pair, clipped

def test_inside():
    assert clipped(1.5) == 1.5 and clipped(-1.5) == -1.5

def test_outside():
    assert clipped(2.5) == 2 and clipped(-2.5) == -2 and clipped(2.5, 2.25) == 2.25

def test_both():
    assert Pair(True, True).both and not Pair(True, False).both and not Pair(False, True).both
"""
BLIND = """
from subject import Pair, clipped

def test_it_runs():
    clipped(1.0), clipped(3.0), clipped(-3.0), Pair(True, False).both
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "subject.py").write_text(SUBJECT)

    def call(tests, *options):
        (tmp_path / "test_subject.py").write_text(tests)
        command = [sys.executable, str(TOOL), "--modules", "subject", "--tests", "test_subject.py"]
        return subprocess.run(
            [*command, "--report", "report.md", *options],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_good_tests_kill_all_but_the_mutants_that_change_nothing(run, tmp_path):
    done = run(GOOD, "--threshold", "0.8")
    assert done.returncode == 0, done.stdout + done.stderr
    survivors = {line for line in done.stderr.splitlines() if line.startswith("survived")}
    # At value = limit both branches return the limit.
    assert survivors == {
        "survived: subject.clipped, line 9: value > limit -> value >= limit",
        "survived: subject.clipped, line 11: value < -limit -> value <= -limit",
    }
    report = (tmp_path / "report.md").read_text()
    for operator in ("comparison", "condition", "constant", "mask", "sign"):
        assert f"| {operator} |" in report
    assert report.count("| unexplained |") == 2


def test_tests_that_cannot_fail_are_seen(run):
    done = run(BLIND)
    assert done.returncode == 1
    assert "at least 90% expected" in done.stdout
    assert "line 17: self.left & self.right -> self.left | self.right" in done.stderr


def test_an_explanation_survives_a_rerun(run, tmp_path):
    run(GOOD)
    report = tmp_path / "report.md"
    report.write_text(report.read_text().replace("unexplained", "both branches agree"))
    run(GOOD)
    assert report.read_text().count("both branches agree") == 2


def test_a_pass_goes_on_where_it_was_stopped_and_reruns_what_changed(run, tmp_path):
    journal = tmp_path / "journal.jsonl"
    options = ("--journal", "journal.jsonl", "--threshold", "0.8")
    stopped = run(GOOD, *options, "--minutes", "0")
    assert stopped.returncode == 1
    assert "0 of 0 mutants" in stopped.stdout
    whole = run(GOOD, *options)
    assert whole.returncode == 0
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:-1], lines[-1][:20]]))  # the last line cut short
    again = run(GOOD, *options)
    assert again.stdout == whole.stdout
    assert len(journal.read_text().splitlines()) == len(lines) + 1
    assert "survived" not in again.stderr or again.stderr.count("survived:") <= 1
    subject = tmp_path / "subject.py"
    subject.write_text(SUBJECT.replace("self.left & self.right", "self.right & self.left"))
    before = len(journal.read_text().splitlines())
    run(GOOD, *options)
    rerun = journal.read_text().splitlines()[before:]
    assert {json.loads(line).get("where", "subject.Pair.both") for line in rerun} == {
        "subject.Pair.both"
    }


def test_tests_that_fail_on_unbroken_code_stop_the_pass(run):
    done = run("def test_broken():\n    assert False\n")
    assert done.returncode == 2
    assert "fails on unbroken code: test_subject.py::test_broken" in done.stderr


@pytest.mark.drill
def test_a_sample_of_the_signals_mutants_is_killed():
    done = subprocess.run(
        [sys.executable, str(TOOL), "--sample", "60", "--threshold", "0.85"],
        cwd=TOOL.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
