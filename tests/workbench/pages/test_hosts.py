"""A page of another site connects to the app as it could after DNS rebinding, and is refused."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.pages.hosts import OWN, refusal

ROOT = Path(__file__).parents[3]
PATHS = ("/", "/_stcore/health", "/_stcore/host-config", "/sweeps")


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py")]
    server = subprocess.Popen(
        [*command, "--server.port", str(number)],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                if get(number, f"127.0.0.1:{number}", path="/_stcore/health") == 200:
                    break
            except OSError:
                time.sleep(0.1)
        yield number
    finally:
        server.terminate()
        server.wait()


def get(port: int, host: str, path: str, origin: str | None = None, upgrade: bool = False) -> int:
    """The status of a request as a page would send it; 101 for an accepted WebSocket."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        return ask(connection, host, path, origin, upgrade)


def ask(
    connection: http.client.HTTPConnection, host: str, path: str, origin: str | None, upgrade: bool
) -> int:
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host)
    if origin is not None:
        connection.putheader("Origin", origin)
    if upgrade:
        connection.putheader("Connection", "Upgrade")
        connection.putheader("Upgrade", "websocket")
        connection.putheader("Sec-WebSocket-Version", "13")
        connection.putheader("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        connection.putheader("Sec-WebSocket-Protocol", "streamlit")
    connection.endheaders()
    with connection.getresponse() as answer:
        return answer.status


def test_the_app_answers_its_own_pages(port):
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        for path in PATHS:
            assert get(port, host, path) == 200, path
        assert get(port, host, "/_stcore/stream", f"http://{host}", upgrade=True) == 101


def test_a_name_that_was_rebound_to_this_machine_gets_nothing(port):
    evil = f"rebound.example:{port}"
    for path in PATHS:
        assert get(port, evil, path) == 403, path
        assert get(port, evil, path, f"http://{evil}") == 403, path
    assert get(port, evil, "/_stcore/stream", f"http://{evil}", upgrade=True) == 403
    assert get(port, evil, "/_stcore/stream", upgrade=True) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:1",
        "http://127.0.0.1:8000",
        "null",
        "http://rebound.example",
        "file://",
        "",
    ],
)
def test_a_page_of_another_port_or_place_gets_no_connection(port, origin):
    own = f"127.0.0.1:{port}"
    assert get(port, own, "/_stcore/stream", origin, upgrade=True) == 403
    assert get(port, own, "/_stcore/upload_file/a/b", origin) == 403


def test_no_page_of_another_site_may_show_the_app_in_a_frame(port):
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/sweeps")
        with connection.getresponse() as answer:
            assert answer.getheader("content-security-policy") == "frame-ancestors 'self'"


@pytest.mark.parametrize(
    "origin",
    [
        *("https://localhost", "ftp://localhost", "chrome-extension://localhost"),
        *("http://foreign.example\\@localhost", "http://me@localhost", "http://localhost/path"),
        *("http://local\thost", "http://localhost, http://foreign.example", "http://localhost."),
    ],
)
def test_an_origin_is_taken_by_its_plain_text_alone(origin):
    assert not refusal([(b"host", b"Localhost"), (b"origin", b"http://LOCALHOST")], OWN)
    assert refusal([(b"host", b"localhost"), (b"origin", origin.encode())], OWN)


@pytest.mark.parametrize("host", ["recast.example", "recast.example:8443", "[fd00::1]"])
def test_a_proxy_may_speak_https_for_a_name_that_was_allowed(host):
    names = ["recast.example", "fd00::1"]
    headers = [(b"host", host.encode()), (b"origin", f"https://{host}".encode())]
    assert refusal(headers, names) == ""
    assert refusal(headers, OWN) == "unknown host"
    assert refusal([headers[0], (b"origin", b"https://foreign.example")], names)


@given(st.binary(max_size=40))
def test_no_other_host_is_taken_for_an_own_one(host):
    said = host.decode("latin-1").lower()
    own = any(said.startswith((name, f"[{name}]")) for name in OWN)
    assert own or refusal([(b"host", host)], OWN) == "unknown host"


@given(st.binary(max_size=40))
def test_no_other_origin_is_taken_for_the_own_one(origin):
    if refusal([(b"host", b"localhost:8501"), (b"origin", origin)], OWN) == "":
        assert origin.lower().endswith(b"localhost:8501")


def test_two_hosts_or_none_are_refused():
    assert refusal([], OWN)
    assert refusal([(b"host", b"localhost"), (b"host", b"localhost")], OWN)
