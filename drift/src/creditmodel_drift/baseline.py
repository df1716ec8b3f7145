"""What current data is compared with: frozen bins, of a bundle's contract or frozen from a reference file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from creditmodel_bundle.bins import CategoryBins, NumberBins
from creditmodel_bundle.contract import Contract

__all__ = ["SCORE", "Baseline", "Column", "from_contract"]

SCORE = "_log_odds"
"""The column whose distribution is the score's: calibrated log-odds of default."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column under watch and its frozen bins. `kind` is the type that its raw values have."""

    name: str
    kind: Literal["number", "text", "code"]
    table: NumberBins | CategoryBins
    unit: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The reference: `rows` rows, its features in the model's order, and the score where there is one.

    `skipped` names columns of a reference file that cannot be binned, with the reason. `cutoffs` are decisions with the
    lowest probability of default that each begins at, ascending from 0; a reference file has none.
    `model` is the model's name without its version.
    """

    name: str
    rows: int
    features: tuple[Column, ...]
    score: Column | None
    skipped: dict[str, str] = field(default_factory=dict)
    cutoffs: tuple[tuple[str, float], ...] = ()
    model: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Features, then the score."""
        return self.features if self.score is None else (*self.features, self.score)


def from_contract(contract: Contract) -> Baseline:
    """The baseline that training froze."""
    features = tuple(
        Column(
            feature.name,
            kind_of(contract.bins.features[feature.name]),
            contract.bins.features[feature.name],
            feature.unit,
            feature.description,
        )
        for feature in contract.features
    )
    score = Column(SCORE, "number", contract.bins.score, "log-odds", "Score")
    cutoffs = tuple((cutoff.decision, cutoff.min_probability) for cutoff in contract.cutoffs)
    return Baseline(
        f"{contract.name} {contract.version}", contract.bins.rows, features, score, cutoffs=cutoffs, model=contract.name
    )


def kind_of(table: NumberBins | CategoryBins) -> Literal["number", "text", "code"]:
    """The type of a table's raw values: `code` is a category whose values are all integers."""
    if isinstance(table, NumberBins):
        return "number"
    return "code" if _all_integers(table.values) else "text"


def _all_integers(values: Sequence[str | int]) -> bool:
    return bool(values) and all(isinstance(value, int) for value in values)
