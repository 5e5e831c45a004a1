"""How a log is read: its controls, who may read now, and the columns by hand where nobody knows the
format."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from workbench.diagnosis.logs.column_values import number
from workbench.diagnosis.logs.layout import Choice
from workbench.diagnosis.logs.mapping import choice_of
from workbench.diagnosis.logs.read import FORMATS, Log, mapping_guess
from workbench.diagnosis.logs.scalars import Scalars
from workbench.errors import LogError, Refused, UserError
from workbench.jobs.log_reading import HARMLESS, HEARTBEAT, HowToRead, read_guarded
from workbench.pages.address import Address
from workbench.pages.figure import plain

BY_HAND = ("step", "prompt", "group", "reward", "outcome", "prediction", "target", "advantage")
NONE = "(none)"
MOST = 400_000
"""Rollouts of a log that the page keeps."""
AT_ONCE = max(1, min(8, os.cpu_count() or 1))
"""Logs that a server reads at once; each reader may hold the memory of its ceiling."""
OTHERS = 0
"""Bytes of files on the disk that are read in this process: others may change them meanwhile."""


class Choices(NamedTuple):
    """How to read a log; threshold: None to find out what a hit is."""

    form: str
    choice: Choice
    threshold: float | None


class Unread(NamedTuple):
    """Why nothing could be read, in one line; columns: of a format that nobody knows."""

    reason: str
    columns: tuple[str, ...]


def choices(view: Address) -> Choices | str:
    """Format, columns and threshold as the controls say; a text is the one-line reason why not."""
    with st.expander("How to read it"):
        boxes = st.columns(4, vertical_alignment="bottom")
        form = boxes[0].selectbox(
            "Format",
            ["", *FORMATS],
            format_func=lambda name: name or "recognise it",
            **view.one_of("format", ["", *FORMATS]),
        )
        outcome = boxes[1].text_input(
            "Column of the raw outcome", **view.text("outcome", longest=80)
        )
        reward = boxes[2].text_input(
            "Columns of the reward",
            help="Added up; separate several by commas. Empty: as the format says.",
            **view.text("reward", longest=200),
        )
        threshold = boxes[3].text_input(
            "A hit is an outcome above",
            help="Empty: found out from the outcome's values.",
            **view.text("threshold", longest=40),
        )
        mapped = st.text_input(
            "Which column holds what",
            help="FIELD=COLUMN, separated by commas, such as step=iter,prompt=question.",
            **view.text("map", longest=600),
        )
    cut = number(threshold) if threshold.strip() else None
    if threshold.strip() and cut is None:
        return f"A hit is an outcome above {threshold.strip()[:40]}: expected a number."
    rewards = tuple(name.strip() for name in reward.split(",") if name.strip())
    try:
        choice = choice_of([mapped], rewards, outcome.strip())
    except UserError as problem:
        return f"{str(problem).removeprefix('--map ')}."
    return Choices(form, choice, cut)


@st.cache_resource(show_spinner=False)
def _places() -> threading.Semaphore:
    """Of those who read, on this server."""
    return threading.Semaphore(AT_ONCE)


def _go_on(*_: object) -> None:
    """Ends this run of the page where its visitor is gone or has asked for something else:
    Streamlit looks whenever a session's state is read."""
    st.session_state.get("still here")


def read_in_turn(
    paths: Sequence[Path], how: Choices, names: Sequence[str], ours: bool
) -> Log | Scalars | Unread:
    """Read a log once fewer than `AT_ONCE` others are being read, for as long as its visitor is
    there. ours: nobody else changes the files."""
    while not _places().acquire(timeout=HEARTBEAT):
        _go_on()
    try:
        asked = HowToRead(how.form, how.choice, MOST, names, scalars=True)
        return read_guarded(paths, asked, _go_on, HARMLESS if ours else OTHERS)
    except Refused as problem:
        return Unread(str(problem), ())
    except LogError as problem:
        return Unread(str(problem), problem.columns)
    finally:
        _places().release()


def columns_by_hand(view: Address, columns: Sequence[str]) -> None:
    """One box per field for a log of an unknown format, and a button that reads it so."""
    st.write("Say which column holds what; a prompt (or a group) and a reward are enough.")
    guess = mapping_guess(columns)
    said = {}
    boxes = st.columns(4)
    for place, name in enumerate(BY_HAND):
        options = [NONE, *columns]
        first = options.index(guess[name]) if guess.get(name) in columns else 0
        said[name] = boxes[place % 4].selectbox(
            name.capitalize(), options, first, format_func=plain, key=f"column of {name}"
        )
    words = ",".join(f"{name}={column}" for name, column in said.items() if column != NONE)
    missing = said["reward"] == NONE or (said["prompt"] == NONE and said["group"] == NONE)
    st.button("Read it so", on_click=view.put, args=({"map": words},), disabled=missing)
    st.code(f"recast diagnose PATH --map {words}", language=None, wrap_lines=True)


__all__ = ["Choices", "Unread", "choices", "columns_by_hand", "read_in_turn"]
