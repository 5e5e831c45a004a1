"""`recast app`."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from workbench.commands.output import STORE
from workbench.errors import UserError

SERVED = Path(__file__).parents[1] / "pages" / "asgi_app.py"
LOOPBACK = "127.0.0.1"


@click.command()
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=8501,
    show_default=True,
    help="Where to serve.",
)
@click.option(
    "--logs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    show_default="the current folder",
    help="Logs below this folder can be named, and followed, on the page Your rollouts.",
)
@STORE
def app(port: int, logs: Path, store_path: str) -> None:
    """Serve the app on this machine alone, at http://127.0.0.1:PORT, until Ctrl-C."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((LOOPBACK, port))
        except OSError as problem:
            raise UserError(
                f"--port {port}: cannot be served on ({problem.strerror}); expected a free port"
            ) from None
    os.environ["RECAST_STORE"] = store_path
    os.environ["RECAST_LOGS"] = str(logs.resolve())
    click.echo(f"http://{LOOPBACK}:{port}", err=True)
    # Streamlit takes this process over: Ctrl-C reaches it, and its exit code is ours.
    arguments = ["-m", "streamlit", "run", str(SERVED)]
    options = [
        "--server.address",
        LOOPBACK,
        "--server.port",
        str(port),
        "--server.headless",
        "true",
    ]
    os.execv(sys.executable, [sys.executable, *arguments, *options])
