"""Tiny random models, prompts and tries for the real-model tests; skipped without the extra."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers", reason="needs the optional extra [lm]: make lm-test")
