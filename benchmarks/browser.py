"""The app and a headless Chromium that looks at it, for screenshots and for measuring."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
CHART = '[data-testid="stVegaLiteChart"]'
DRAWN = f"""count => {{
    const frames = [...document.querySelectorAll('{CHART}')];
    return document.querySelector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        && frames.length >= count
        && frames.every(frame => frame.querySelector('svg .mark-group path'));
}}"""


@contextmanager
def app(store: Path, folder: Path = ROOT) -> Iterator[str]:
    """Serve the app on a free loopback port; yields its address once it is up.

    folder: where the server runs; a relative store lies in it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
    process = subprocess.Popen(
        [*command, "--server.port", str(port), "--server.fileWatcherType", "none"],
        cwd=folder,
        env=os.environ
        | {"RECAST_STORE": str(store), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=10).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def tab(width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """A browser tab of that width in the light or dark theme."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.set_default_timeout(180_000)
        yield page
        chromium.close()
