"""Reading a log of unknown origin in a process of its own, with ceilings on memory and time.

A file says little about what it becomes: a kilobyte of parquet may hold gigabytes. Whatever the
readers do, the process that shows a page or a table is not the one that runs out. The child gives
back a folder with the table and everything else as JSON; nothing is unpickled.

`python -m workbench.jobs.log_reading` is the child: an order on stdin, JSON lines on stdout.
"""

from __future__ import annotations

import gc
import json
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

from recast.progress import Progress
from recast.quoting import plain_line
from workbench.diagnosis.logs.archives import files_inside
from workbench.diagnosis.logs.layout import Choice
from workbench.diagnosis.logs.packed import MAGIC
from workbench.diagnosis.logs.problems import unforeseen
from workbench.diagnosis.logs.read import AS_LOGGED, MOST, Log, read_log
from workbench.diagnosis.logs.scalars import Scalars, read_scalars
from workbench.errors import LogError, Refused
from workbench.jobs.dataclass_folder import built_from, load_record, plain_of, save_record
from workbench.jobs.process import environment
from workbench.jobs.stuck_process import Guard
from workbench.spec.limits import are_lifted

GIBIBYTES = 1.8
"""Ceiling of the reading process."""
SECONDS, PER_MEGABYTE, PER_FILE = 9, 1.0, 0.05
"""Ceiling of its processor time, and what every megabyte and every file adds to it."""
PER_SECOND = 20.0
"""Ceiling of its time by the clock, per second of that."""
HARMLESS = 256_000
"""Bytes of text files that are read in this process: they cannot become large."""
HEARTBEAT = 0.5
"""Seconds of silence of the reading process after which the caller hears that it still reads."""


@dataclass(frozen=True)
class HowToRead:
    """The arguments of `read_log` but for the files. scalars: whether a tracker's scalars will do
    where there are no rollouts and nobody named a format or a column."""

    form: str = ""
    choice: Choice = AS_LOGGED
    most: int = MOST
    names: Sequence[str] | None = None
    scalars: bool = False


def read_guarded(
    paths: Sequence[Path],
    how: HowToRead = HowToRead(),
    progress: Progress = lambda *_: None,
    harmless: int = HARMLESS,
) -> Log | Scalars:
    """`read_log` under ceilings of memory and processor time. harmless: bytes of text that are read
    in this process; 0 where others may change the files meanwhile.

    progress is called again every `HEARTBEAT` seconds; what it raises ends the reading.
    Raises LogError for what cannot be read; Refused for what is no regular file and beyond a
    ceiling.
    """
    sizes = [_size(path) for path in paths]
    small = sum(sizes) <= harmless and not any(map(_may_grow, compress(paths, sizes)))
    if are_lifted() or small:
        with tempfile.TemporaryDirectory(prefix="recast-log-") as folder:
            return _read(paths, how, progress, Path(folder))
    seconds = int(SECONDS + PER_MEGABYTE * sum(sizes) / 1e6 + PER_FILE * len(paths))
    last = (how.names[0] if how.names else paths[0].name) if paths else ""
    with tempfile.TemporaryDirectory(prefix="recast-log-") as folder:
        said = {
            "paths": [str(path.absolute()) for path in paths],
            "how": plain_of(how),
            "folder": folder,
            "seconds": seconds,
            "ceiling": int(GIBIBYTES * 2**30),
        }
        kind: type[Log | Scalars] = Log
        done = 0
        for event in _child(said):
            if event["kind"] == "progress":
                done, last = event["done"], event["name"]
                progress(done, sum(sizes), last)
            elif event["kind"] == "still":
                progress(done, sum(sizes), last)
            elif event["kind"] == "scalars":
                kind = Scalars
            elif event["kind"] == "refused":
                raise LogError(event["text"], tuple(event["columns"]))
            elif event["kind"] == "memory":
                raise Refused(_too_much(last))
            elif event["kind"] == "end" and event["late"]:
                raise Refused(
                    f"{plain_line(last)}: not read after {seconds} seconds of processor time; give "
                    "fewer files, or lift the ceiling with `recast --no-limits diagnose`"
                )
            elif event["kind"] == "end" and event["code"]:
                raise Refused(_too_much(last))
        return load_record(kind, Path(folder))


def _read(paths: Sequence[Path], how: HowToRead, progress: Progress, folder: Path) -> Log | Scalars:
    """Read in this process; folder: where archives are unpacked. Raises LogError: what is wrong
    with the rollouts, where scalars will not do either."""
    paths, names, cut = files_inside(paths, how.names, folder / "unpacked")
    found = _of_files(paths, replace(how, names=names), progress)
    for name in cut:
        found.problems.file(plain_line(name), "a damaged archive; what stands before is read")
    return found


def _of_files(paths: Sequence[Path], how: HowToRead, progress: Progress) -> Log | Scalars:
    """`_read`, archives apart."""
    try:
        return read_log(
            paths,
            form=how.form,
            choice=how.choice,
            most=how.most,
            names=how.names,
            progress=progress,
        )
    except LogError as problem:
        if not how.scalars or how.form or how.choice.columns:
            raise
        try:
            found = read_scalars(paths, how.names)
        except LogError:
            raise problem from None
        if not found.meanings:
            raise
        return found


def _too_much(name: str) -> str:
    return (
        f"{plain_line(name)}: reading it takes more than {GIBIBYTES:g} GiB of memory; give fewer "
        "files, or lift the ceiling with `recast --no-limits diagnose`"
    )


def _child(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the reading process says, and at last how it ended; it never outlives the caller."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workbench.jobs.log_reading"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    guard = Guard(process, PER_SECOND * order["seconds"])
    try:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        for line in _lines(process.stdout):
            if not line:
                yield {"kind": "still"}
            elif line.endswith("\n"):
                yield json.loads(line)
        code = process.wait()
        yield {"kind": "end", "code": code, "late": guard.late or code == -signal.SIGXCPU}
    finally:
        process.kill()  # before its pipes are closed, or who listens holds them
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _lines(stream: IO[str]) -> Iterator[str]:
    """The lines of a stream, and an empty one after each `HEARTBEAT` without any."""
    heard: Queue[str | None] = Queue()

    def listen() -> None:
        for line in stream:
            heard.put(line)
        heard.put(None)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        try:
            line = heard.get(timeout=HEARTBEAT)
        except Empty:
            line = ""
        if line is None:
            return
        yield line


def _size(path: Path) -> int:
    """Bytes of a file. Raises Refused, one line, for a pipe, a device or a folder."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return 0  # the readers say what is wrong with it
    if not stat.S_ISREG(found.st_mode):
        raise Refused(f"{plain_line(path)}: no regular file; expected a file that stays as it is")
    return found.st_size


def _may_grow(path: Path) -> bool:
    """Whether a small file may become large, or take for ever: everything but plain text. A packed
    text does, and a view of a database can be endless."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
    except (OSError, ValueError):
        return False
    return b"\0" in head or head.startswith((b"PAR1", b"PK", *MAGIC))


def _say(kind: str, **content: Any) -> None:
    print(json.dumps({"kind": kind, **content}), flush=True)  # noqa: T201 - the parent listens


def main() -> None:
    """Read one log as ordered, below the ceilings."""
    order = json.loads(sys.stdin.readline())
    # What is read holds no circles, and looking for them among millions of values takes most of
    # the time of parsing them.
    gc.disable()
    resource.setrlimit(resource.RLIMIT_DATA, (order["ceiling"], order["ceiling"]))
    resource.setrlimit(resource.RLIMIT_CPU, (order["seconds"], order["seconds"] + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        found = _read(
            [Path(path) for path in order["paths"]],
            built_from(HowToRead, order["how"]),
            lambda done, total, name: _say("progress", done=done, total=total, name=name),
            Path(order["folder"]),
        )
        if isinstance(found, Scalars):
            _say("scalars")
        save_record(found, Path(order["folder"]))
    except LogError as problem:
        _say("refused", text=str(problem), columns=list(problem.columns))
    except MemoryError:
        _say("memory")
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as problem:
        _say("refused", text=f"the log {unforeseen(problem)}", columns=[])


if __name__ == "__main__":
    main()
