"""The real-model tests need the optional extra [lm]; without it they are named, not collected."""

from __future__ import annotations

import importlib.util

MISSING = importlib.util.find_spec("transformers") is None
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_report_header() -> str | None:
    return "tests/lm: left out, they need the extra [lm]; run: make lm-test" if MISSING else None
