"""The extra [lm] of a built wheel in clean environments outside the checkout, one per interpreter.

    python -m benchmarks.wheel_lm [--newest] [PYTHON ...]

Builds the wheel; for each PYTHON (default: this one) makes an environment below build/, installs
WHEEL[lm] with constraints.txt and constraints-lm.txt (with --newest: without them), and trains and
reads a tiny model by the installed command, in another folder. Prints one row per interpreter, as
docs/real-models.md shows it. `make wheel-lm` runs it; an environment that is there is used again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.made_up_data import write_data
from benchmarks.measure import table

ROOT = Path(__file__).parents[1]
TINY = ("--steps", "1", "--batch", "4", "--group", "4")
SHOWN = """
import importlib.metadata as m, platform, workbench
print(platform.python_version(), *(m.version(n) for n in ("torch", "transformers", "trl")))
print(workbench.__file__)
"""


def steps(data: Path) -> dict[str, list[str]]:
    """The commands that a new user types, smallest sizes."""
    folder, small = str(data), ("--codebook", "8")
    return {
        "data": ["data", folder],
        "sft": ["sft", folder, "--out", "sft", "--epochs", "1", *small],
        "evaluate": ["evaluate", folder, "--model", "sft/model", "--limit", "8", *small],
        "rl": ["rl", folder, "--start", "sft/model", "--strategy", "recast", "--store", "runs",
               "--eval-prompts", "8", *small, *TINY],
    }  # fmt: skip


def run(*words: object, cwd: Path) -> str:
    """What a command prints; SystemExit with its last lines where it fails."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RECAST_STORE")}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=inherited | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def built(folder: Path) -> Path:
    """The wheel of this checkout."""
    source = folder / "checkout"
    left_out = shutil.ignore_patterns(".git", ".venv*", "build", "dist", "*.egg-info", "runs")
    shutil.copytree(ROOT, source, ignore=left_out, symlinks=True)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source,
        cwd=folder)  # fmt: skip
    return next(folder.glob("*.whl"))


def install(python: str, wheel: Path, newest: bool, home: Path) -> Path:
    """An interpreter with the wheel and its extra; the environment at home is used again."""
    inside = home / "bin" / "python"
    if not inside.exists():
        run(python, "-m", "venv", home, cwd=wheel.parent)
    names = () if newest else ("constraints.txt", "constraints-lm.txt")
    limits = [word for name in names for word in ("-c", ROOT / name)]
    run(inside, "-m", "pip", "install", "-q", *limits, f"{wheel}[lm]", cwd=wheel.parent)
    again = ("--force-reinstall", "--no-deps", "--no-index")
    run(inside, "-m", "pip", "install", "-q", *again, wheel, cwd=wheel.parent)
    return inside


def walk(inside: Path, folder: Path) -> dict[str, str]:
    """The row of an environment: its versions, and how each command went."""
    numbers, where = run(inside, "-c", SHOWN, cwd=folder).splitlines()
    if str(ROOT / "workbench") in where:
        raise SystemExit(f"{inside}: imports the checkout, not the wheel")
    row = dict(zip(("Python", "torch", "transformers", "trl"), numbers.split(), strict=True))
    write_data(folder / "data")
    for name, words in steps(folder / "data").items():
        run(inside.parent / "recast", "lm", *words, cwd=folder)
        row[f"lm {name}"] = "ends with 0"
    return row


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--newest"]
    newest = "--newest" in sys.argv
    rows = []
    with tempfile.TemporaryDirectory() as held:
        wheel = built(Path(held))
        for python in words or [sys.executable]:
            (number,) = run(python, "-c", "import sys; print(*sys.version_info[:2], sep='.')",
                            cwd=Path(held)).split()  # fmt: skip
            home = ROOT / "build" / f"wheel-lm-{number}{'-newest' if newest else ''}"
            inside = install(python, wheel, newest, home)
            with tempfile.TemporaryDirectory() as elsewhere:
                rows.append(walk(inside, Path(elsewhere)))
    table("The wheel with its extra [lm] in clean environments", list(rows))


if __name__ == "__main__":
    main()
