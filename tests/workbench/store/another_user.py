"""Commands of `recast` in a process that belongs to another user of this machine; needs root.

`python another_user.py ORDER` is that process. It runs the commands once as root, elsewhere: what
they import late may lie where the other user may not read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[2]
Ended = subprocess.CompletedProcess[str]


class AnotherUser:
    """Commands that another user runs one after the other in a folder, from now on."""

    def __init__(
        self, user: int, group: int, umask: int, folder: Path, commands: list[list[str]]
    ) -> None:
        self._commands = commands
        self._order = {"user": user, "group": group, "umask": umask, "commands": commands}
        self._process = subprocess.Popen(
            [sys.executable, __file__, json.dumps(self._order)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self) -> list[Ended]:
        """How each command ended."""
        with self._process as process:
            out, err = process.communicate()
        assert process.returncode == 0, err
        found = [json.loads(line) for line in out.splitlines()]
        return [Ended(words, *one) for words, one in zip(self._commands, found, strict=True)]


def main() -> None:
    from command_line import recast

    order = json.loads(sys.argv[1])
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as elsewhere:
        (Path(elsewhere) / "small.toml").write_text((here / "small.toml").read_text())
        for words in order["commands"]:
            recast(*words, cwd=Path(elsewhere))
    os.setgroups([])
    os.setgid(order["group"])
    os.setuid(order["user"])
    os.umask(order["umask"])
    assert os.geteuid() == order["user"] != 0
    for words in order["commands"]:
        done = recast(*words, cwd=here)
        sys.stdout.write(json.dumps([done.returncode, done.stdout, done.stderr]) + "\n")


if __name__ == "__main__":
    main()
