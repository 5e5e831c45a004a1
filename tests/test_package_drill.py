"""What is built installs elsewhere and works there: a source distribution, the wheel built from it,
and an environment that sees this one's dependencies but not this checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from workbench.spec.experiment import load_experiment

pytestmark = pytest.mark.drill

ROOT = Path(__file__).parents[1]
OURS = ("recast", "sim", "workbench")
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "runs", "stores", "*.egg-info", "__pycache__", ".*_cache"
)


def run(*words: str | Path, cwd: Path, **more: str) -> str:
    """What a command prints; its errors fail the test."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RECAST_STORE")}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=inherited | {"OMP_NUM_THREADS": "1"} | more,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel built from it."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    shutil.copytree(ROOT, source, ignore=LEFT_OUT, symlinks=True)
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=out)
    (archive,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return archive, wheel


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment with the wheel in it; dependencies are borrowed, by a path and
    not by their `.pth` files, so that an editable install of this checkout stays out of sight."""
    folder = tmp_path_factory.mktemp("elsewhere")
    home = folder / "venv"
    run(sys.executable, "-m", "venv", home, cwd=folder)
    (own,) = home.glob("lib/python*/site-packages")
    (own / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ("-m", "pip", "install", "--no-deps", "--no-index", "--ignore-installed")
    run(home / "bin" / "python", *install, built[1], cwd=folder)
    where = run(
        home / "bin" / "python",
        "-c",
        f"import {', '.join(OURS)}; print(*({', '.join(f'{name}.__file__' for name in OURS)},))",
        cwd=folder,
    )
    assert all(path.startswith(str(own)) for path in where.split())
    return home


def files_of(package: str) -> set[str]:
    """What git-tracked or new files a package of the checkout consists of, but for bytecode."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        (metadata,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        text = wheel.read(metadata).decode()
    assert held == set().union(*map(files_of, OURS))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==)", text, re.MULTILINE)
    assert set(required) == {word.split(">")[0] for word in project["dependencies"]}
    for expected in (
        "Author:",
        "Keywords:",
        "Classifier: Operating System :: POSIX",
        "Project-URL:",
    ):
        assert expected in text


def test_the_source_distribution_holds_what_its_own_tests_and_pages_need(built):
    with tarfile.open(built[0]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("app.py", "Makefile", "constraints.txt", "CITATION.cff", "mkdocs.yml"):
        assert name in held
    for folder in ("docs", "examples", "tests"):
        there = {
            str(path.relative_to(ROOT))
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert there <= held


def test_the_installed_command_trains_the_quick_preset_outside_the_checkout(installed, tmp_path):
    recast = installed / "bin" / "recast"
    smaller = ("--seeds", "1", "--steps", "6", "--lr", "0.003", "--workers", "1")
    printed = run(recast, "run", "--preset", "quick", *smaller, "--format", "json", cwd=tmp_path)
    names = [row["strategy"] for row in json.loads(printed)]
    assert sorted(names) == sorted({"start", *load_experiment("quick", {}).strategies})
    assert len(list((tmp_path / "runs").rglob("*.parquet"))) >= len(names) - 1
    assert "sparsity" in run(recast, "sweeps", cwd=tmp_path)
    assert "default" in run(recast, "presets", cwd=tmp_path)


@pytest.fixture
def address(installed: Path, tmp_path: Path) -> Iterator[str]:
    """`recast app` of the installed package, up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [str(installed / "bin" / "recast"), "app", "--port", str(port)],
            cwd=tmp_path,
            env=inherited,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_the_installed_app_is_served_and_counts_nobody(address, tmp_path):
    with urllib.request.urlopen(address, timeout=20) as page:
        assert b"streamlit" in page.read().lower()
    assert "Collecting usage statistics" not in (tmp_path / "log").read_text()
    port = address.rpartition(":")[2]
    with socket.socket() as outside, pytest.raises(OSError, match="refused"):
        outside.connect(("127.0.0.2", int(port)))  # bound to 127.0.0.1, not to every address


def test_every_page_of_the_installed_app_renders(installed, tmp_path):
    program = tmp_path / "pages.py"
    program.write_text(
        "from pathlib import Path\n"
        "from streamlit.testing.v1 import AppTest\n"
        "from workbench.pages import navigation\n"
        "folder = Path(navigation.__file__).parent\n"
        "for name in ['navigation', *navigation.PAGES]:\n"
        "    shown = AppTest.from_file(str(folder / f'{name}.py'), default_timeout=120).run()\n"
        "    assert not shown.exception, (name, shown.exception)\n"
        "    assert shown.title, name\n"
        "    print(name)\n"
    )
    printed = run(installed / "bin" / "python", program, cwd=tmp_path)
    assert len(printed.split()) == 10
