"""Imports point one way: recast <- sim <- workbench <- commands; pages and app.py on top."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("recast", "sim", "workbench")
# What the real-model path and the adapters may import besides torch: the extras [lm] and [verl].
EXTRAS = {
    "accelerate", "datasets", "peft", "pyarrow", "safetensors", "tensordict", "transformers",
    "trl", "verl",
}  # fmt: skip
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*(p for name in PACKAGES for p in (ROOT / name).rglob("*.py")), ROOT / "app.py"]
    if path.exists()
)


def imported_modules(file: str, source: str) -> set[str]:
    """Every module that a source imports, at any depth; `from a import b` gives a and a.b."""
    package = PurePosixPath(file).parent.parts
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*start, *filter(None, [node.module])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def wrong_imports(file: str, source: str) -> set[str]:
    """The imports of one source that break the layering."""
    layer = PurePosixPath(file).parts[0]
    on_top = file == "app.py" or file.startswith("workbench/pages/")
    at_the_prompt = file == "workbench/cli.py" or file.startswith("workbench/commands/")
    wrong = set()
    for module in imported_modules(file, source):
        root = module.split(".")[0]
        if layer == "recast":
            allowed = root in {"recast", "torch"} or root in sys.stdlib_module_names
            if file.startswith(("recast/lm/", "recast/adapters/")):
                allowed = allowed or root in EXTRAS
            else:
                allowed = allowed and not module.startswith(("recast.lm", "recast.adapters"))
        elif layer == "sim":
            allowed = root not in {"workbench", "app"}
        else:
            allowed = True
        page = root == "streamlit" or module.startswith("workbench.pages")
        command = module.startswith(("workbench.commands", "workbench.cli"))
        if not allowed or (page and not on_top) or (command and not at_the_prompt):
            wrong.add(module)
    return wrong


@pytest.mark.parametrize("file", SOURCES)
def test_a_source_imports_only_what_stands_to_its_left(file: str) -> None:
    assert wrong_imports(file, (ROOT / file).read_text(encoding="utf-8")) == set()


def test_every_package_is_looked_at() -> None:
    assert {PurePosixPath(file).parts[0] for file in SOURCES} >= set(PACKAGES)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("recast/groups.py", "import numpy as np"),
        ("recast/groups.py", "from sim.worlds.world import World"),
        ("recast/groups.py", "def f():\n    import polars"),
        ("recast/groups.py", "import transformers"),
        ("recast/groups.py", "from recast.lm import trie"),
        ("recast/lm/models.py", "import numpy"),
        ("recast/lm/models.py", "from sim.worlds.world import World"),
        ("sim/worlds/world.py", "from workbench.spec import experiment as spec"),
        ("sim/worlds/world.py", "import workbench.store.runs"),
        ("sim/worlds/world.py", "import streamlit as st"),
        ("workbench/charts.py", "from streamlit import cache_data"),
        ("workbench/cli.py", "from workbench import pages"),
        ("workbench/cli.py", "from . import pages"),
        ("workbench/cli.py", "from .pages.budget import page"),
        ("workbench/report/figures.py", "def f():\n    from workbench.commands.exact import exact"),
        ("workbench/pages/claims.py", "from workbench.cli import cli"),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str) -> None:
    assert wrong_imports(file, source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("recast/loss.py", "import math\nimport torch\nfrom recast.groups import RolloutGroups"),
        ("recast/lm/models.py", "import transformers\nfrom recast.groups import regime"),
        ("sim/worlds/world.py", "import numpy\nfrom recast import RolloutGroups"),
        (
            "workbench/execution/runner.py",
            "from sim.training.trainer import train\nfrom workbench.spec import experiment as spec",
        ),
        ("workbench/pages/budget.py", "import streamlit as st\nfrom ..charts import curve"),
        ("app.py", "import streamlit as st\nfrom workbench.pages import budget"),
        ("workbench/cli.py", "from workbench.commands.exact import exact"),
        ("workbench/commands/exact.py", "from workbench.commands.output import emit"),
    ],
)
def test_a_right_import_passes(file: str, source: str) -> None:
    assert wrong_imports(file, source) == set()


def test_importing_recast_loads_none_of_the_workbench_dependencies() -> None:
    heavy = ("polars", "streamlit", "altair", "scipy", "sim", "workbench")
    code = f"import sys, recast; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["recast", "workbench.charts"])
def test_what_a_package_lends_lazily_is_what_type_checkers_are_told(package: str) -> None:
    source = (ROOT / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
    told = {
        alias.name: f"{node.module}"
        for branch in ast.parse(source).body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    module = importlib.import_module(package)
    assert set(module.__all__) == set(told)
    for name, home in told.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="no attribute 'zebra'"):
        module.__getattr__("zebra")


def test_a_name_that_a_package_lends_is_never_a_module_of_it() -> None:
    for package in ("recast", "workbench.charts"):
        module = importlib.import_module(package)
        modules = {path.stem for path in (ROOT / package.replace(".", "/")).glob("*.py")}
        assert not modules & set(module.__all__)


def test_the_first_picture_of_the_start_page_needs_no_torch_and_no_scipy() -> None:
    code = (
        "import sys\n"
        "from workbench import charts\n"
        "from workbench.pages import address, figure\n"
        "from workbench.theory.regimes import regime_frame\n"
        "charts.regimes_by_group(regime_frame(0.01, 0.5, [8])).to_dict()\n"
        "from workbench.theory import group, story\n"
        "charts.group_story(*story.leaves()[:2], group.DEPTH).to_dict()\n"
        "print([m for m in ('torch', 'scipy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_nothing_heavy_stands_beside_the_process_that_reads_a_log() -> None:
    code = (
        "import sys, workbench.commands.diagnose, workbench.jobs.log_reading\n"
        "print([m for m in ('torch', 'scipy', 'numba', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
