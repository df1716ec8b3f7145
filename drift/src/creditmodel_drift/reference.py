"""The reference: frozen bins, and where the rows lie that they were frozen from."""

from __future__ import annotations

from dataclasses import dataclass

from creditmodel_drift.baseline import Baseline
from creditmodel_drift.engine import Engine
from creditmodel_drift.parts import Survey
from creditmodel_drift.scan import Scan, open_scan

__all__ = ["Reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """`digest` is the model's, where the reference came from a bundle.

    The rows are read by an engine of their own: a bundle's are on this machine, wherever the current ones are counted.
    """

    baseline: Baseline
    rows: Survey
    engine: Engine
    digest: str | None = None

    def scan(self) -> Scan:
        """Its rows, to be counted or sampled. Raises EngineFailed."""
        return open_scan(self.engine, self.rows, self.baseline)
