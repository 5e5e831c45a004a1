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

from workbench.analysis.example import load_or_example
from workbench.errors import StoreError

State = tuple[str, str]


def store_folder() -> Path:
    """The folder named by RECAST_STORE, else `runs`."""
    return Path(os.environ.get("RECAST_STORE", "runs"))


def store_state() -> State:
    """The store's folder, and a digest of its files' names, times and sizes: other content, other
    state."""
    folder = store_folder()
    return str(folder), _fingerprint(folder)


def stored_runs(state: State | None = None) -> tuple[pl.DataFrame, str]:
    """All runs and a label that says where they come from; treat the frame as read-only.

    Stops the page with a one-line message when the store is damaged.
    """
    try:
        return _load(*(state or store_state()))
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


def cached_by_store(state: State, name: str, make: Callable[[], T]) -> T:
    """What `make` gives, made anew only when the store's files change; treat it as read-only.

    name: of what is made, unique in the app.
    """
    return cast(T, _derive(name, *state, make))


@st.cache_resource(max_entries=16, show_spinner=False)
def _derive(name: str, folder: str, content: str, _make: Callable[[], Any]) -> Any:
    return _make()
