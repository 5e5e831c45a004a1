"""A pipe in the place of a file is refused, and never waited for."""

from __future__ import annotations

import os

import pytest
from command_line import recast


@pytest.mark.parametrize(
    "arguments",
    [
        ("forecast", "--end=3", "PIPE"),
        ("run", "--preset", "PIPE"),
        ("sweep", "PIPE"),
        ("predict", "--data", "PIPE", "--followed", "PIPE"),
    ],
    ids=lambda words: words[0],
)
def test_a_pipe_is_no_file(tmp_path, arguments):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    done = recast(*(str(pipe) if word == "PIPE" else word for word in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
