"""What became of applicants, by probability of default: as much as figures of quality need, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outcomes"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Applicants by probability of default, each array [distinct probabilities]: how many, and how many went bad."""

    probability: NDArray[np.float64]
    rows: NDArray[np.float64]
    bad: NDArray[np.float64]

    def ordered(self) -> Outcomes:
        """By rising probability."""
        return self.where(np.argsort(self.probability))

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Outcomes:
        """The chosen probabilities."""
        return Outcomes(self.probability[chosen], self.rows[chosen], self.bad[chosen])
