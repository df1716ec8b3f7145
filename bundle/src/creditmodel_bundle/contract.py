"""The data contract: what an applicant looks like to a model, and what the model's answer means."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from creditmodel_bundle._model import Document
from creditmodel_bundle.bins import BinTable, NumberBins

__all__ = ["Bins", "Category", "Contract", "Cutoff", "Feature", "Reason", "ScoreScale"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")
FLOAT32_LIMIT = 3.0e38
"""No number beyond this reaches the graph: it would become an infinity in float32."""


class Category(Document):
    """One allowed value of a categorical feature, and the number that the graph knows it by."""

    value: str | int
    code: int = Field(ge=0, lt=2**24)
    label: str = ""


class Reason(Document):
    """What an applicant is told when this feature lowered the score. `code` is stable across models."""

    code: str
    text: str


class Feature(Document):
    """One input of the model.

    `monotonic` says how the probability of default may move as the value grows.
    `minimum` and `maximum` bound what is accepted at scoring, not what was seen in training.
    """

    name: str
    dtype: Literal["number", "integer", "category"]
    unit: str = ""
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    categories: list[Category] = []
    missing: Literal["allowed", "forbidden"] = "forbidden"
    monotonic: Literal["increasing", "decreasing", "none"] = "none"
    reason: Reason
    example: str | int | float | None = None

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r}: a feature's name begins with a letter and has letters, digits, '_', '.', '-'")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.dtype == "category") != bool(self.categories):
            raise ValueError(f"{self.name}: a category has categories, and nothing else has")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"{self.name}: minimum {self.minimum} is above maximum {self.maximum}")
        for values in ([c.value for c in self.categories], [c.code for c in self.categories]):
            if len(set(values)) != len(values):
                raise ValueError(f"{self.name}: a category's value or code stands twice")
        return self


class Cutoff(Document):
    """Decision for applicants whose probability of default is at least `min_probability`."""

    decision: str
    min_probability: float = Field(ge=0, le=1)


class ScoreScale(Document):
    """Score points: `points` at `odds`:1 good to bad; `pdo` points double the odds.

    Bounded so that the points of any log-odds that a model may give are a 32-bit integer.
    """

    points: float = Field(default=600, ge=-1e6, le=1e6)
    odds: float = Field(default=50, ge=1e-6, le=1e6)
    pdo: float = Field(default=20, ge=0.01, le=1000)

    def to_points(self, log_odds: float) -> int:
        """Score points of a log-odds of default, rounded half up."""
        factor = self.pdo / math.log(2)
        return math.floor(self.points - factor * (log_odds + math.log(self.odds)) + 0.5)


class Bins(Document):
    """Reference distributions: `rows` rows, one table a feature, and one of the log-odds."""

    rows: int = Field(ge=0)
    features: dict[str, BinTable]
    score: NumberBins


class Contract(Document):
    """What the model accepts and what it answers. The order of `features` is the order of the graph's columns."""

    schema_version: Literal[1] = 1
    name: str
    version: str
    features: list[Feature] = Field(min_length=1)
    baseline_log_odds: float
    cutoffs: list[Cutoff] = Field(min_length=1)
    scale: ScoreScale = ScoreScale()
    bins: Bins

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [feature.name for feature in self.features]
        if twice := [name for name, count in Counter(name.lower() for name in names).items() if count > 1]:
            alike = ", ".join(repr(name) for name in names if name.lower() == twice[0])
            raise ValueError(f"two features have the same name, of which SQL does not tell the case: {alike}")
        if set(self.bins.features) != set(names):
            raise ValueError("bins must have one table for each feature")
        bounds = [cutoff.min_probability for cutoff in self.cutoffs]
        if bounds[0] != 0 or sorted(set(bounds)) != bounds:
            raise ValueError("cutoffs must begin at 0 and ascend strictly")
        return self

    def cutoff(self, probability: float) -> Cutoff:
        """The cut-off that decides for this probability of default: the last one not above it."""
        return self.cutoffs[bisect_right(self.cutoffs, probability, key=lambda c: c.min_probability) - 1]
