"""A trainer that is missing, or lacks what an adapter hooks into, is one line: what to install."""

from __future__ import annotations

import builtins
import importlib
import sys
from types import ModuleType

import pytest

ADAPTERS = {
    "recast.adapters.verl": "verl",
    "recast.adapters.verl_trainer": "verl",
    "recast.adapters.trl": "trl",
}


def stub(monkeypatch, name: str, **content: object) -> ModuleType:
    """A module that is found under a name."""
    made = ModuleType(name)
    made.__path__ = []  # type: ignore[attr-defined]
    vars(made).update(content)
    monkeypatch.setitem(sys.modules, name, made)
    return made


@pytest.fixture
def imported(monkeypatch):
    """Import an adapter as a process would that has none of the trainers; what was raised."""
    for name in list(sys.modules):
        top = name.partition(".")[0]
        if top in ("trl", "verl") or name in (*ADAPTERS, "recast.adapters.trl_hooks"):
            monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__
    blocked: set[str] = {"trl", "verl"}

    def find(name, *rest, **more):
        if name.partition(".")[0] in blocked and name not in sys.modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    def load(name, package=None):
        if name.partition(".")[0] in blocked and name not in sys.modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, package)

    original = importlib.import_module
    monkeypatch.setattr(builtins, "__import__", find)

    def attempt(adapter: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(importlib, "import_module", load)
            with pytest.raises(ImportError) as caught:
                original(adapter)
        return str(caught.value)

    return attempt


def check(text: str, adapter: str) -> None:
    assert text.startswith(adapter)
    assert "\n" not in text
    assert len(text) < 300
    assert "pip install '" in text
    assert "No module named" not in text
    assert "cannot import name" not in text.partition("(")[0]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_missing_trainer_is_one_line_that_says_what_to_install(adapter, imported):
    text = imported(adapter)
    check(text, adapter)
    assert f"needs the package {ADAPTERS[adapter]!r}" in text


def test_a_trainer_that_lacks_a_package_of_its_own_names_it(imported, monkeypatch):
    class Lazy(ModuleType):
        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)
            raise ModuleNotFoundError("No module named 'ray'", name="ray")

    made = Lazy("trl")
    made.__version__ = "1.3"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trl", made)
    text = imported("recast.adapters.trl")
    check(text, "recast.adapters.trl")
    assert "there is no ray" in text
    assert "trl 1.3 has no GRPOTrainer that imports here" in text


@pytest.mark.parametrize(
    ("adapter", "version", "message"),
    [
        ("recast.adapters.verl", "0.4.1", "works with verl 0.5 and later, found 0.4.1"),
        ("recast.adapters.verl", "0.9.0", "has no register_adv_est in its core_algos"),
        (
            "recast.adapters.verl_trainer",
            "0.7.0",
            "works with verl 0.8.x and 0.9.x, found 0.7.0; the nearest is had with: pip install "
            "'verl==0.8.*'",
        ),
        ("recast.adapters.verl_trainer", "0.10.0", "found 0.10.0; the nearest is had with: pip "),
        ("recast.adapters.verl_trainer", "0.10.0", "'verl==0.9.*'"),
        ("recast.adapters.verl_trainer", "0.8.0", "no PPOTrainer in verl.trainer.main_ppo_sync"),
        ("recast.adapters.verl_trainer", "0.9.1", "has no register_trainer in verl.trainer.ppo.v1"),
    ],
)
def test_a_release_without_a_hook_is_one_line(adapter, version, message, imported, monkeypatch):
    stub(monkeypatch, "verl", __version__=version)
    for name in ("main_ppo_sync", "ppo.core_algos", "ppo.v1"):
        stub(monkeypatch, f"verl.trainer.{name}")
    for name in ("trainer_sync", "trainer_base"):
        stub(monkeypatch, f"verl.trainer.ppo.v1.{name}")
    text = imported(adapter)
    check(text, adapter)
    assert message in text


def test_a_trainer_that_does_not_import_beside_what_is_installed_says_why(imported, monkeypatch):
    stub(monkeypatch, "verl", __version__="0.9.0")
    text = imported("recast.adapters.verl_trainer")
    check(text, "recast.adapters.verl_trainer")
    assert "the verl that is installed does not serve it" in text


def test_verl_started_by_its_own_program_is_refused_where_it_would_train_without_the_adapter(
    imported, monkeypatch
):
    stub(monkeypatch, "verl", __version__="0.8.0")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "verl.trainer.main_ppo_sync", "a=b"])
    text = imported("recast.adapters.verl_trainer")
    assert "start it with: python -m recast.adapters.verl_main" in text
    assert "\n" not in text


def test_the_launcher_ends_with_one_line_where_verl_does_not_serve_the_trainer(
    imported, monkeypatch, capsys
):
    def refused(name):
        raise ImportError(f"{name}: one line")

    launcher = importlib.import_module("recast.adapters.verl_main")
    monkeypatch.setattr(launcher.importlib, "import_module", refused)
    monkeypatch.setenv(launcher.VARIABLE, "")
    with pytest.raises(SystemExit) as caught:
        launcher.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == "recast.adapters.verl_trainer: one line\n"


def test_a_trainer_whose_loss_passes_the_adapter_over_is_refused(imported, monkeypatch):
    hooks = [
        "_generate_single_turn",
        "_get_per_token_logps_and_entropies",
        "_generate_and_score_completions",
        "_prepare_inputs",
        "_compute_loss",
        "_set_signature_columns_if_needed",
    ]
    own = dict.fromkeys(hooks, lambda self: 0)
    patched = type("PatchedGRPOTrainer", (), own | {"compute_loss": lambda self: 0})
    stub(monkeypatch, "trl", __version__="1.15.0", GRPOTrainer=patched)
    stub(monkeypatch, "trl.models", unwrap_model_for_generation=None)
    text = imported("recast.adapters.trl")
    assert "PatchedGRPOTrainer" in text
    assert "computes its loss without _compute_loss" in text
    assert len(text) < 400
