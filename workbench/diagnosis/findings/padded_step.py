"""The groups of one step of a log as padded arrays, for what is made of their advantages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.diagnosis.counterfactual import StepGroups

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PaddedStep:
    """The groups of one step, padded. place: among the log's batches; order: of the rows in the
    log; valid: which slots hold one; reward, advantage; masked: cut off, with an advantage of 0;
    skip: what is not compared with a formula; all `[B, G]`."""

    place: int
    batch: StepGroups
    order: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]
    reward: Floats
    advantage: Floats
    masked: npt.NDArray[np.bool_]
    skip: npt.NDArray[np.bool_] | None = None

    @property
    def uneven(self) -> npt.NDArray[np.bool_]:
        """Groups of different rewards, `[B]`."""
        return np.asarray(spread_of(self.reward, self.valid) > 1e-6, np.bool_)

    @property
    def rounded(self) -> float:
        """How far rounding may have moved an advantage, where all have at most three decimals."""
        for unit in (0.1, 0.01, 0.001):
            if np.abs(self.advantage / unit - np.round(self.advantage / unit)).max() < 1e-4:
                return unit / 2
        return 0.0


def spread_of(reward: Floats, valid: npt.NDArray[np.bool_]) -> Floats:
    """The largest less the smallest reward of each group, `[B]`."""
    top = np.where(valid, reward, -np.inf).max(1)
    low = np.where(valid, reward, np.inf).min(1)
    return np.asarray(top - low, np.float64)
