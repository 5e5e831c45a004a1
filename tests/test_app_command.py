"""`recast app` serves the pages of whatever is installed, on the loopback address alone."""

from __future__ import annotations

import os
import socket
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import recast

from workbench.commands import app as command
from workbench.pages import navigation


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that would have taken the process over."""
    taken: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: taken.append([path, *words]))
    monkeypatch.setenv("RECAST_STORE", "before")
    return taken


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def test_the_app_is_streamlit_on_the_packaged_pages_bound_to_loopback(started):
    port = free_port()
    done = recast("app", "--port", str(port), "--store", "elsewhere")
    assert done.returncode == 0, done.stderr
    ((path, *words),) = started
    assert path == words[0] == sys.executable
    assert words[1:4] == ["-m", "streamlit", "run"]
    assert Path(words[4]) == Path(navigation.__file__).with_name("asgi_app.py")
    options = dict(zip(words[5::2], words[6::2], strict=True))
    assert options["--server.address"] == "127.0.0.1"
    assert options["--server.port"] == str(port)
    assert os.environ["RECAST_STORE"] == "elsewhere"


def test_a_port_in_use_is_one_line(started):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        done = recast("app", "--port", str(port))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: --port {port}: cannot be served on (")
    assert started == []


def test_the_look_of_the_app_lies_beside_the_page_that_streamlit_starts():
    """Streamlit reads `.streamlit/config.toml` beside the script it runs: in a checkout the link
    beside app.py, in an installed package the file itself."""
    packaged = Path(command.SERVED).parent / ".streamlit" / "config.toml"
    content = tomllib.loads(packaged.read_text(encoding="utf-8"))
    assert content["server"]["address"] == "127.0.0.1"
    assert content["browser"]["gatherUsageStats"] is False
    assert (Path(__file__).parents[1] / ".streamlit" / "config.toml").samefile(packaged)


def test_every_page_of_the_folder_is_in_the_navigation():
    folder = Path(navigation.__file__).parent
    pages = {p.stem for p in folder.glob("*.py") if "st.title(" in p.read_text(encoding="utf-8")}
    assert pages == set(navigation.PAGES)
    assert {name for _, name, _ in navigation.QUESTIONS} <= pages
