"""A log on this machine by its path, read again while it grows.

The page reads what lies below one folder, that of `recast app --logs`, the current one by default:
whoever else can reach the server on this machine gets at nothing more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from recast.quoting import plain_line
from workbench.diagnosis.answer import DiagnosisSummary
from workbench.diagnosis.logs.read import files_of
from workbench.diagnosis.logs.training_data import training_files
from workbench.errors import LogError
from workbench.pages.address import Address
from workbench.pages.figure import plain

FOLDER = "RECAST_LOGS"
"""Environment variable: the folder below which logs may be named."""

EVERY, REST = 5.0, 3.0
"""Seconds between two glances at the files; a pause is at least so many times what a look took."""

SHOWN = 5
_LEVELS, _EVENTS, _LAST = "_followed_levels", "_followed_events", "_last_look"


class DiskLog(NamedTuple):
    """said: the path as typed; files: of the log; ids: change with any of them; problem: one line
    where there is no log; seconds: what finding them took; follow: whether it is looked at again.
    """

    said: str
    files: list[Path]
    ids: tuple[str, ...]
    problem: str
    seconds: float
    follow: bool = False


def readable_folder() -> Path:
    """The folder below which logs may be named."""
    return Path(os.environ.get(FOLDER) or ".").resolve()


def files_below(said: str) -> list[Path]:
    """The files of a log by its path, from `readable_folder` on. Raises LogError, one line, for
    what is not there or outside that folder."""
    folder = readable_folder()
    try:
        path = (folder / Path(said).expanduser()).resolve()
    except (OSError, ValueError, RuntimeError):
        raise LogError(f"{plain_line(said)}: no such file or folder") from None
    if not path.is_relative_to(folder):
        raise LogError(
            f"{plain_line(said)}: outside {plain_line(folder)}, the folder whose logs this page "
            "reads; name another when you start it: recast app --logs FOLDER"
        )
    files = files_of([path])
    read = [*files, *chain.from_iterable(map(training_files, files))]
    real = {one.parent for one in read} | {one for one in read if one.is_symlink()}
    if any(not one.resolve().is_relative_to(folder) for one in real):
        raise LogError(f"{plain_line(said)}: a link to a file outside {plain_line(folder)}")
    return files


def look_at(said: str) -> DiskLog:
    """What a path names now."""
    began = time.monotonic()
    try:
        files, problem = files_below(said), ""
    except LogError as found:
        files, problem = [], str(found)
    ids = _stamps(files)
    return DiskLog(said, files, ids, problem, time.monotonic() - began)


def asked_for(view: Address) -> DiskLog | None:
    """What the path field says, None where it is empty. An upload goes before it."""
    said = st.text_input(
        "Or a file or folder on this machine",
        help=f"Below {readable_folder()}; `recast app --logs FOLDER` names another folder.",
        placeholder="runs/completions",
        **view.text("path", longest=400),
    ).strip()
    follow = st.toggle(
        "Follow it while it grows",
        help="Read it again whenever its files change, and say what begins and what is over.",
        **view.flag("follow"),
    )
    if not said:
        return None
    # Where many files take long to find, not every control of the page finds them anew.
    last: tuple[DiskLog | None, float] = st.session_state.get(_LAST, (None, 0.0))
    log, when = last
    if log is None or log.said != said or time.monotonic() - when > REST * log.seconds:
        log = look_at(said)
        st.session_state[_LAST] = log, time.monotonic()
    return log._replace(follow=follow)


def _stamps(files: Sequence[Path]) -> tuple[str, ...]:
    found = []
    for path in files:
        try:
            state = path.stat()
            found.append(f"{path}:{state.st_size}:{state.st_mtime_ns}")
        except OSError:
            found.append(f"{path}:gone")
    return tuple(found)


def watch(log: DiskLog, took: float) -> None:
    """Look at the files again and again, and run the page anew once they have changed; took: the
    seconds of the last look."""

    drawn = False

    def glance() -> None:
        nonlocal drawn
        # What was read is shown first, however fast the log grows.
        if drawn:
            now = look_at(log.said)
            if (now.ids, now.problem) != (log.ids, log.problem):
                st.session_state[_LAST] = now, time.monotonic()
                st.rerun()
        drawn = True
        st.caption(f"Followed: its files are looked at every {pause:.0f} seconds.")

    pause = max(EVERY, REST * (took + log.seconds))
    st.fragment(glance, run_every=pause)()


def show_changes(log: DiskLog, said: DiagnosisSummary) -> None:
    """What began and what is over since the look before, the last `SHOWN` times anything did."""
    known: dict[str, dict[str, str]] = st.session_state.setdefault(_LEVELS, {})
    events: dict[str, list[str]] = st.session_state.setdefault(_EVENTS, {})
    levels = {one.name: str(one.level) for one in said.findings}
    before = known.get(log.said)
    if before is not None and before != levels:
        began = [name for name in levels if before.get(name) != levels[name]]
        over = [name for name in before if name not in levels]
        words = [f"began: {', '.join(began)}"] * bool(began)
        words += [f"over: {', '.join(over)}"] * bool(over)
        line = f"{time.strftime('%H:%M:%S')} {'; '.join(words)}"
        events[log.said] = [*events.get(log.said, []), line][-SHOWN:]
    known[log.said] = levels
    for line in events.get(log.said, []):
        st.write(plain(line))


__all__ = ["FOLDER", "DiskLog", "asked_for", "files_below", "readable_folder", "show_changes",
           "watch"]  # fmt: skip
