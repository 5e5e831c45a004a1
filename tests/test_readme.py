"""What the README shows a reader works as shown."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cli import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_example_of_the_library_runs(code):
    done = subprocess.run(
        [sys.executable, "-c", code + "\nassert logp.grad.abs().sum() > 0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_tour_exists():
    named = set(re.findall(r"^recast ([a-z-]+)", README, re.MULTILINE))
    assert len(named) >= 8
    assert named <= set(COMMANDS)


def test_every_page_that_the_readme_links_exists():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", README):
        assert (ROOT / target).exists(), target
