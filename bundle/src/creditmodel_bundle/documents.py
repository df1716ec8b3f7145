"""The bundle's smaller documents: the hold-out evaluation and the golden rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from creditmodel_bundle._model import Document

__all__ = ["Baseline", "CalibrationBand", "Evaluation", "Golden", "GoldenRow", "Holdout", "Incumbent"]


class Holdout(Document):
    """The rows that the model was judged on; `sha256` of their bytes tells whether two models saw the same ones."""

    rows: int = Field(ge=1)
    bad_rate: float = Field(ge=0, le=1)
    sha256: str


class CalibrationBand(Document):
    """Predicted and observed default rates in one band of predictions, with the 95 % Jeffreys interval."""

    band: int
    rows: int
    mean_probability: float
    bad_rate: float
    lower: float
    upper: float


class Baseline(Document):
    """A simpler or stronger model on the same split, for comparison."""

    name: str
    auc: float
    ks: float
    gini: float
    brier: float


class Incumbent(Document):
    """The champion that a model was retrained from, on the very same hold-out."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    auc: float
    ks: float
    gini: float
    brier: float


class Evaluation(Document):
    """evaluation.json: discrimination and calibration on the hold-out. `champion` is there for a retrained model."""

    schema_version: Literal[1] = 1
    holdout: Holdout
    auc: float = Field(ge=0, le=1)
    ks: float = Field(ge=0, le=1)
    gini: float = Field(ge=-1, le=1)
    brier: float = Field(ge=0, le=1)
    calibration: list[CalibrationBand]
    baselines: list[Baseline] = []
    champion: Incumbent | None = None


class GoldenRow(Document):
    """One applicant and the answer that every replica must reproduce."""

    features: dict[str, str | int | float | None]
    probability: float
    log_odds: float
    points: int
    decision: str
    reasons: list[str]


class Golden(Document):
    """golden.json. `tolerance` is absolute, on the probability."""

    schema_version: Literal[1] = 1
    tolerance: float = 1e-6
    rows: list[GoldenRow] = Field(min_length=1)
