"""The `recast` command in this process, as its entry point would run it."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cli import main


def recast(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command from a folder, by default the one at hand."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["recast", *arguments])
        if cwd is not None:
            patch.chdir(cwd)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
    code = int(ended.value.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
