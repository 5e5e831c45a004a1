"""The examples run as a user would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ADAPTERS = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")


def test_the_plain_loop_learns_with_three_calls_in_thirty_lines():
    path = ROOT / "examples" / "plain_pytorch.py"
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 30
    assert re.findall(r"# (\d):", source) == ["1", "2", "3"]
    done = subprocess.run(
        [sys.executable, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    hits = [float(value) for value in re.findall(r"hits ([\d.]+)", done.stdout)]
    assert hits[-1] > 0.4 > 0.2 > hits[0]


def test_the_page_on_adapters_shows_the_plain_loop_s_three_calls():
    source = (ROOT / "examples" / "plain_pytorch.py").read_text(encoding="utf-8")
    marked = [line for line in source.splitlines() if re.search(r"# \d:", line)]
    calls = [line.split("  #")[0].strip() for line in marked]
    for call in calls:
        assert call in ADAPTERS


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?://)([^)#]+)", ADAPTERS))
def test_every_file_that_the_page_on_adapters_links_exists(target):
    assert (ROOT / "docs" / target).exists()


def test_the_launch_file_is_shell_that_parses():
    for path in (ROOT / "examples").glob("*.sh"):
        done = subprocess.run(["sh", "-n", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
