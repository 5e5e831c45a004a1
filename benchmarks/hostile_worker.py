"""Runs hostile inputs one after the other and says what each cost: JSON lines in, JSON lines out.

The process may hold 2 GiB; an input that wants more ends it, which the caller counts.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import click

from benchmarks.hostile_places import damage, lay
from workbench.cli import cli
from workbench.cli import main as run_recast

CEILING = 2 * 2**30
STARTED, SILENT = 6.0, 30.0
"""Seconds of processor time after which what was accepted and works is stopped: when it has said
something, and when it has said nothing, which counts as hanging."""


class Started(BaseException):
    """An input was accepted, and its work went on for `STARTED` or `SILENT` seconds."""


def attempt(given: dict[str, Any]) -> dict[str, Any]:
    """How one input ended: code, error lines, seconds of processor time, a traceback if any."""
    out, err, code, trace = io.StringIO(), io.StringIO(), 0, ""
    began = time.process_time()

    def stop(*_: object) -> None:
        if err.getvalue() or out.getvalue() or time.process_time() - began > SILENT:
            raise Started

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, STARTED, 1.0)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = page(given) if "page" in given else command(given["arguments"])
        except Started:
            code = 0 if err.getvalue() or out.getvalue() else -1
        except BaseException:  # noqa: BLE001 - whatever it is, it is counted
            trace = traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return {
        "code": code,
        "err": err.getvalue()[-2000:],
        "longest": max(map(len, err.getvalue().splitlines()), default=0),
        "lines": len(err.getvalue().splitlines()),
        "seconds": time.process_time() - began,
        "trace": trace[-1500:],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def command(arguments: list[str]) -> int:
    """Run `recast` in this process; its exit code."""
    sys.argv = ["recast", *arguments]
    try:
        run_recast()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def page(given: dict[str, Any]) -> int:
    """Hand a text to what a page does with it; 2 when it is refused."""
    from workbench.errors import UserError
    from workbench.jobs.sweep import check_sweep
    from workbench.theory.group import read_group

    try:
        if given["page"] == "sweep":
            check_sweep(given["text"]).runs()
        else:
            read_group(given["text"])
    except (UserError, ValueError) as problem:
        if isinstance(problem, UnicodeError):
            raise
        print(str(problem), file=sys.stderr)
        return 2
    return 0


def _served(*_: object) -> NoReturn:
    """Instead of a server that takes this process over."""
    sys.exit(0)


def main() -> None:
    """Serve until stdin closes."""
    resource.setrlimit(resource.RLIMIT_DATA, (CEILING, CEILING))
    os.execv = _served
    time.sleep = lambda _: None
    context = click.Context(cli)
    for name in cli.list_commands(context):  # what an import costs is no cost of an input
        cli.get_command(context, name)
    voice = sys.stdout
    for line in sys.stdin:
        given = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            inside = Path(folder) / "a" / "b" / "c" / "d"
            inside.mkdir(parents=True)
            os.chdir(inside)
            if given.get("places"):
                lay(inside)
            if given.get("damage"):
                name, how = given["damage"]
                damage(inside / "data" / name, how)
            for name, content in given.get("files", {}).items():
                Path(name).write_bytes(content.encode("utf-8", "surrogatepass"))
            voice.write(json.dumps(attempt(given)) + "\n")
            voice.flush()
            os.chdir("/")


if __name__ == "__main__":
    main()
