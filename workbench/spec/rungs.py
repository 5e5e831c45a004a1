"""The rungs by name: ways to find out how strategies compare, from cheap to dear.

Imports nothing, so that commands and charts can name them without loading what trains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RUNGS: Mapping[str, str] = MappingProxyType(
    {
        "theory_even": "theory, all prompts alike",
        "theory": "theory alone",
        "theory_counted": "theory, hits counted in a log",
        "look_alike": "look-alike world",
        "replay_mlp": "replay world, MLP",
        "replay_mlp_matched": "replay world, MLP, matched hit rate",
        "replay_mlp_distilled": "replay world, MLP, the model's start copied",
        "replay_transformer": "replay world, transformer",
        "lm_0.15M": "language model, 0.15M",
        "lm_1M": "language model, 1M",
        "lm_4M": "language model, 4M",
        "pretrained": "pre-trained language model",
    }
)
"""What a reader calls each."""

ORDER = tuple(RUNGS)
"""From cheap to dear."""
