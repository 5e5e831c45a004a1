"""The stored runs that pages show: read once, and again whenever a file of the store changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import polars as pl
import streamlit as st

from workbench.analysis.example import load_or_example, packaged_example
from workbench.errors import StoreError
from workbench.pages.address import Address

StoreState = tuple[str, str]


PACKAGED = ""
"""The folder of a state that shows the packaged example."""
OWN, EXAMPLE = "store", "packaged"


def store_folder() -> Path:
    """The folder named by RECAST_STORE, else `runs`: where the app writes."""
    return Path(os.environ.get("RECAST_STORE", "runs"))


def store_state(folder: Path | None = None) -> StoreState:
    """A store's folder (default: the app's own), and a digest of its files' names, times and
    sizes: other content, other state."""
    folder = store_folder() if folder is None else folder
    return str(folder), _fingerprint(folder)


def data_switch(view: Address, wanted: str = "") -> StoreState:
    """A box that says whose runs the page shows, and the state of the choice, for `stored_runs`.

    Choices: the packaged example, the app's own store, and the stores in the folders beside it. It
    opens with the store where that holds runs, else with the example; the address holds the rest.
    wanted: pattern of a file in the store without which the example is shown first.
    """
    own = store_folder()
    held = any((own / kind).is_dir() and any((own / kind).iterdir()) for kind in ("runs", "real"))
    held = held and (not wanted or any(own.glob(wanted)))
    choices = {EXAMPLE: "packaged example", OWN: f"my store: {own}"}
    choices |= {folder.name: f"folder {folder}" for folder in _beside(own)}
    chosen = st.selectbox(
        "Data",
        list(choices),
        format_func=choices.__getitem__,
        help="The packaged example stays within reach, whatever you have stored.",
        **view.one_of("data", list(choices), OWN if held else EXAMPLE),
    )
    if chosen == EXAMPLE:
        return PACKAGED, "example"
    return store_state(own if chosen == OWN else own.parent / str(chosen))


def _beside(own: Path) -> list[Path]:
    """Other stores in the folder that holds the app's own, at most 20, by name."""
    with contextlib.suppress(OSError):
        names = sorted(
            path
            for path in own.absolute().parent.iterdir()
            if path.name not in (own.absolute().name, OWN, EXAMPLE) and (path / "runs").is_dir()
        )
        return [own.parent / path.name for path in names[:20]]
    return []


@st.cache_resource(max_entries=1, show_spinner="Reading the packaged example")
def packaged_runs() -> tuple[pl.DataFrame, str]:
    """The packaged example's runs, and a label; treat the frame as read-only."""
    return packaged_example()


def stored_runs(state: StoreState | None = None) -> tuple[pl.DataFrame, str]:
    """All runs and a label that says where they come from; treat the frame as read-only.

    Stops the page with a one-line message when the store is damaged.
    """
    folder, content = state or store_state()
    try:
        return packaged_runs() if folder == PACKAGED else _load(folder, content)
    except StoreError as problem:
        st.error(str(problem))
        st.stop()


def _fingerprint(folder: Path) -> str:
    """Changes whenever the content of a run's file can have changed."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder / "runs") as runs:
        for run in runs:
            # A run that is deleted meanwhile, or a stray file: neither is a run.
            with contextlib.suppress(OSError), os.scandir(run.path) as files:
                for file in files:
                    facts = file.stat()
                    found.append(f"{file.path}\0{facts.st_mtime_ns}\0{facts.st_size}")
    return hashlib.sha256("\0".join(sorted(found)).encode()).hexdigest()


@st.cache_resource(max_entries=2, show_spinner="Reading the stored runs")
def _load(folder: str, content: str) -> tuple[pl.DataFrame, str]:
    return load_or_example(folder)


T = TypeVar("T")


def cached_by_store(state: StoreState, name: str, make: Callable[[], T]) -> T:
    """What `make` gives, made anew only when the store's files change; treat it as read-only.

    name: of what is made, unique in the app.
    """
    return cast(T, _derive(name, *state, make))


@st.cache_resource(max_entries=16, show_spinner=False)
def _derive(name: str, folder: str, content: str, _make: Callable[[], Any]) -> Any:
    return _make()
