"""Fixtures of the browser tests: the app on a free loopback port, a Chromium, a tab, axe-core."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsing import CHROMIUM, FLAGS, PATIENCE, ROOT, Server, Visit, wait_until_up


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The app on a free loopback port, started once for all files."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")),
                *("--server.port", str(port)),
            ],
            cwd=ROOT,
            env=os.environ
            | {
                "OMP_NUM_THREADS": "1",
                "RECAST_STORE": str(folder / "store"),
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(f"http://127.0.0.1:{port}", process.pid, folder / "store")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def server(app: Server) -> Iterator[Server]:
    """The app with an empty store for each file."""
    yield app
    shutil.rmtree(app.store, ignore_errors=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if not CHROMIUM.exists() and shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium to run this test")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    try:
        found = str(CHROMIUM) if CHROMIUM.exists() else shutil.which("chromium")
        chromium = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        try:
            yield chromium
        finally:
            chromium.close()
    finally:
        playwright.stop()


@pytest.fixture
def visit(browser, server: Server, request) -> Iterator[Visit]:
    looks = getattr(request, "param", {})
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | looks)
    context.set_default_timeout(PATIENCE)
    tab = context.new_page()
    guest = Visit(tab, server)

    def overhear(line) -> None:
        # Below a page's path Streamlit asks for these two there first, and then at the root.
        path = urlsplit(line.location.get("url", "")).path
        expected = re.fullmatch(r"/\w+/_stcore/(health|host-config)", path)
        vega = line.type == "warning" and line.text.startswith("WARN")
        if vega or (line.type == "error" and not expected):
            guest.complaints.append(f"{line.text} ({path})")

    tab.on("console", overhear)
    tab.on("pageerror", lambda problem: guest.complaints.append(str(problem)))

    def loopback_only(route) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            route.continue_()
        else:
            guest.complaints.append(f"asked for {route.request.url}")
            route.abort()

    context.route(lambda address: address.startswith("http"), loopback_only)
    wait_until_up(tab, server.address)
    yield guest
    context.close()


@pytest.fixture(scope="module")
def axe() -> Path:
    """The accessibility checker axe-core, fetched once by npm into a folder that git ignores."""
    folder = ROOT / "build" / "axe"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed: it fetches axe-core for this test")
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder)]
        done = subprocess.run([*command, "axe-core@4"], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"axe-core could not be fetched: {done.stderr.strip()[-200:]}")
    return script
