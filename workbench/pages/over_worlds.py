"""What the packaged map of worlds says beside runs of one world: where, and not only whether."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.analysis.answers import Answer
from workbench.pages.stored import PACKAGED, StoreState
from workbench.studies.packaged import packaged
from workbench.studies.phase_map import across_worlds


def over_worlds(state: StoreState, first: str, rivals: Sequence[str], metric: str) -> Answer | None:
    """In how many worlds `first` is ahead of each rival; None beside data of one's own, and where
    the map has no such pair or metric."""
    study = packaged("phase-map") if state[0] == PACKAGED else None
    if study is None or first != "recast" or "duels" not in study.tables:
        return None
    return across_worlds(study.tables["duels"], metric, first, rivals)
