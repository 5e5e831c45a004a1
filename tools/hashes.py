"""Writes constraints-hashed.txt: what constraints.txt pins but torch, with the hashes of wheels.

Run by `make hashes` after constraints.txt has changed, with the interpreter and on the kind of
machine for which the wheels are: CPython 3.11 on Linux, x86-64. torch is left out, as its wheel is
another one for each kind of machine and each index.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """\
# What constraints.txt pins, but torch, with the hashes of the wheels for CPython 3.11 on Linux,
# x86-64: `make app HASHES=1` installs no other file. Written by `make hashes`.
"""


def main() -> None:
    """Ask pip which wheels it would take, and write down their hashes."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("torch==")]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:"]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *options, "--report", report, *pins],
            check=True,
        )
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    hashed = {
        one["metadata"]["name"].lower().replace("_", "-"): one["download_info"]["archive_info"]
        for one in found
    }
    text = HEAD
    for pin in pins:
        name = pin.partition("==")[0].lower().replace("_", "-")
        text += f"{pin} --hash=sha256:{hashed[name]['hashes']['sha256']}\n"
    (ROOT / "constraints-hashed.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
