"""The stored runs that pages show: read once, and again whenever a file of the store changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import polars as pl
import streamlit as st

from workbench import store

State = tuple[str, tuple[tuple[str, int, int], ...]]


def store_folder() -> Path:
    """The folder named by RECAST_STORE, else `runs`."""
    return Path(os.environ.get("RECAST_STORE", "runs"))


def store_state() -> State:
    """The store's folder, and its files' names, times and sizes: other content, other state."""
    folder = store_folder()
    return str(folder), _fingerprint(folder)


def stored_runs(state: State | None = None) -> tuple[pl.DataFrame, str]:
    """All runs and a label that says where they come from; treat the frame as read-only.

    Stops the page with a one-line message when the store is damaged.
    """
    try:
        return _load(*(state or store_state()))
    except store.StoreError as problem:
        st.error(str(problem))
        st.stop()


def _fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, time and size of every run's file: changes whenever the content can have changed."""
    found = []
    for path in store.Store(folder).files():
        try:
            facts = path.stat()
        except OSError:
            continue  # deleted since it was listed
        found.append((str(path), facts.st_mtime_ns, facts.st_size))
    return tuple(found)


@st.cache_resource(max_entries=2, show_spinner="Reading the stored runs")
def _load(folder: str, content: tuple[tuple[str, int, int], ...]) -> tuple[pl.DataFrame, str]:
    return store.load_or_example(folder)


T = TypeVar("T")


def cached_by_store(state: State, name: str, make: Callable[[], T]) -> T:
    """What `make` gives, made anew only when the store's files change; treat it as read-only.

    name: of what is made, unique in the app.
    """
    return cast(T, _derive(name, *state, make))


@st.cache_resource(max_entries=16, show_spinner=False)
def _derive(
    name: str, folder: str, content: tuple[tuple[str, int, int], ...], _make: Callable[[], Any]
) -> Any:
    return _make()
