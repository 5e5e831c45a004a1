"""Visitors of the app without a browser: sessions over its WebSocket, from cold, at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

ROOT = Path(__file__).parents[1]
PAGES = (
    "learnability",
    "gradient_signals",
    "train_live",
    "budget",
    "sweeps",
    "real_models",
    "your_rollouts",
    "claims",
)


@contextmanager
def server(store: Path) -> Iterator[tuple[int, int]]:
    """The app on a free port; yields the port and its process id as soon as it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            str(ROOT / "app.py"),
            "--server.port",
            str(port),
        ],
        cwd=store.parent,
        env=os.environ
        | {"RECAST_STORE": str(store), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/_stcore/health", timeout=10
                ).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


class Tab:
    """A tab of a browser, without the browser. finished: whether its page was drawn to the end;
    errors: those that it showed; progress: the text of its bar; texts: everything written on it;
    buttons: their identities by label."""

    def __init__(self, port: int, page: str) -> None:
        host = f"127.0.0.1:{port}"
        self.page, self.finished, self.progress = page, False, ""
        self.errors: list[str] = []
        self.texts: list[str] = []
        self.buttons: dict[str, str] = {}
        self._query = ""
        self._session = connect(
            f"ws://{host}/_stcore/stream",
            additional_headers={"Origin": f"http://{host}"},
            subprotocols=["streamlit"],  # type: ignore[list-item]
            max_size=None,
            open_timeout=60,
            ping_interval=None,
        )

    @property
    def drawn(self) -> bool:
        """Whether the page was drawn to its end, without an error."""
        return self.finished and not self.errors

    def ask(self, press: str = "") -> None:
        """Have the page drawn; press: the label of a button, as it stood when it was last drawn."""
        ask = BackMsg()
        ask.rerun_script.query_string = self._query
        ask.rerun_script.page_name = self.page
        if press:
            pressed = ask.rerun_script.widget_states.widgets.add()
            pressed.id, pressed.trigger_value = self.buttons[press], True
        self.finished, self.progress, self.texts = False, "", []
        self._session.send(ask.SerializeToString())

    def read(self, patience: float = 300.0) -> None:
        """Read until the page is drawn; the session stays open."""
        end = time.monotonic() + patience
        while not self.finished and time.monotonic() < end:
            try:
                raw = self._session.recv(timeout=max(0.1, end - time.monotonic()))
            except TimeoutError:
                break
            said = ForwardMsg()
            said.ParseFromString(raw if isinstance(raw, bytes) else raw.encode())
            self._take(said)

    def _take(self, said: ForwardMsg) -> None:
        kind = said.WhichOneof("type")
        if kind == "script_finished":
            # A page that asks to be drawn anew ends early first.
            self.finished = said.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN
        elif kind == "page_info_changed":
            self._query = said.page_info_changed.query_string
        elif kind == "delta":
            element = said.delta.new_element
            match element.WhichOneof("type"):
                case "exception":
                    found = element.exception
                    self.errors.append(f"{found.type}: {found.message}"[:300])
                case "button":
                    self.buttons[element.button.label] = element.button.id
                case "markdown":
                    self.texts.append(element.markdown.body)
                case "alert":
                    self.texts.append(element.alert.body)
                case "progress":
                    self.progress = element.progress.text.replace("\\", "")

    def close(self) -> None:
        """The tab is gone."""
        self._session.close()


def look(port: int, page: str) -> Tab:
    """Open a page as a browser does, and read until it is drawn."""
    tab = Tab(port, page)
    tab.ask()
    tab.read()
    return tab


def at_once(port: int, pages: list[str]) -> list[Tab]:
    """So many tabs that start together; each page is drawn to its end, and the tab closed."""
    gate = threading.Barrier(len(pages))
    tabs: list[Tab] = []

    def one(page: str) -> None:
        gate.wait()
        tab = look(port, page)
        tabs.append(tab)
        tab.close()

    threads = [threading.Thread(target=one, args=(page,)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tabs


def children(pid: int) -> list[int]:
    """The process ids of what a process has started and what goes on."""
    return [one for one, parent in _parents().items() if parent == pid]


def resident(pid: int) -> int:
    """Bytes of a process and its children, shared pages counted once in each."""
    return sum(_bytes_of(one) for one in (pid, *children(pid)))


def _parents() -> dict[int, int]:
    """The parent of every process that has not ended."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            found[int(folder.name)] = int(fields[1])
    return found


def _bytes_of(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        return 1024 * int(status.split("VmRSS:")[1].split()[0])
    except (OSError, IndexError):
        return 0
