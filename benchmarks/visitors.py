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
from dataclasses import dataclass, field
from pathlib import Path

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

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


@dataclass
class Visit:
    """One session: whether its page was drawn to the end, and the errors that it showed."""

    page: str
    finished: bool = False
    errors: list[str] = field(default_factory=list)


def look(port: int, page: str, patience: float = 300.0) -> tuple[Visit, ClientConnection]:
    """Open a page as a browser does and read until it is drawn; the session stays open."""
    visit = Visit(page)
    host = f"127.0.0.1:{port}"
    session = connect(
        f"ws://{host}/_stcore/stream",
        additional_headers={"Origin": f"http://{host}"},
        subprotocols=["streamlit"],  # type: ignore[list-item]
        max_size=None,
        open_timeout=60,
        ping_interval=None,
    )
    ask = BackMsg()
    ask.rerun_script.query_string = ""
    ask.rerun_script.page_name = page
    session.send(ask.SerializeToString())
    end = time.monotonic() + patience
    while not visit.finished and time.monotonic() < end:
        try:
            raw = session.recv(timeout=max(0.1, end - time.monotonic()))
        except TimeoutError:
            break
        said = ForwardMsg()
        said.ParseFromString(raw if isinstance(raw, bytes) else raw.encode())
        kind = said.WhichOneof("type")
        if kind == "script_finished":
            visit.finished = True
        elif kind == "delta" and said.delta.new_element.WhichOneof("type") == "exception":
            found = said.delta.new_element.exception
            visit.errors.append(f"{found.type}: {found.message}"[:300])
    return visit, session


def at_once(port: int, pages: list[str]) -> list[Visit]:
    """So many sessions that start together; each page is drawn to its end."""
    gate = threading.Barrier(len(pages))
    visits: list[Visit] = []

    def one(page: str) -> None:
        gate.wait()
        visit, session = look(port, page)
        visits.append(visit)
        session.close()

    threads = [threading.Thread(target=one, args=(page,)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return visits


def resident(pid: int) -> int:
    """Bytes of a process and its children, shared pages counted once in each."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(folder.name) == pid or int(stat[1]) == pid:
                status = (folder / "status").read_text()
                total += 1024 * int(status.split("VmRSS:")[1].split()[0])
        except (OSError, IndexError):
            continue
    return total
