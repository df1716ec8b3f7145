"""The contract's rules for rows that are already encoded, many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.contract import FLOAT32_LIMIT, Contract, Feature
from creditmodel_bundle.encoder import describe
from creditmodel_inference.errors import FieldError
from creditmodel_inference.intake import MAX_ERRORS

__all__ = ["RowCheck"]


class RowCheck:
    """Finds what the contract refuses in encoded rows, where a category is its code and NaN is missing.

    Bounds are compared in float32, as the graph sees them: a value on its bound may have been rounded on its way here.
    """

    def __init__(self, contract: Contract) -> None:
        self._features = contract.features
        self._low = np.array([_bound(f.minimum, -FLOAT32_LIMIT) for f in contract.features], np.float32)
        self._high = np.array([_bound(f.maximum, FLOAT32_LIMIT) for f in contract.features], np.float32)
        self._forbidden = np.array([f.missing == "forbidden" for f in contract.features])
        self._integers = np.flatnonzero([f.dtype == "integer" for f in contract.features])
        self._codes = [
            (i, np.array([c.code for c in f.categories])) for i, f in enumerate(contract.features) if f.categories
        ]

    def violations(self, rows: NDArray[np.float64]) -> list[FieldError]:
        """The first violations in rows [n, F], by their place in the flat tensor."""
        with np.errstate(over="ignore", invalid="ignore"):
            seen = rows.astype(np.float32)
            gaps = np.isnan(seen)
            refused = np.where(gaps, self._forbidden, (seen < self._low) | (seen > self._high))
            refused[:, self._integers] |= ~gaps[:, self._integers] & (
                seen[:, self._integers] != np.floor(seen[:, self._integers])
            )
        for index, codes in self._codes:
            refused[:, index] |= ~gaps[:, index] & ~np.isin(rows[:, index], codes)
        places = np.flatnonzero(refused)[:MAX_ERRORS]
        return [self._violation(int(place), float(rows.flat[place])) for place in places]

    def _violation(self, place: int, value: float) -> FieldError:
        feature = self._features[place % len(self._features)]
        path = f"/inputs/0/data/{place}"
        if np.isnan(value):
            return FieldError(path, f"({feature.name}) is required", "missing", describe(feature))
        if feature.categories:
            codes = {str(c.code): c.value for c in feature.categories}
            return FieldError(path, f"({feature.name}) is {value:g}, which is no code of a category", "category", codes)
        kind = "range" if _outside(feature, value) else "type"
        told = "is outside its range" if kind == "range" else "is not an integer"
        return FieldError(path, f"({feature.name}) is {value:g}, which {told}", kind, describe(feature))


def _bound(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


def _outside(feature: Feature, value: float) -> bool:
    return not _bound(feature.minimum, -FLOAT32_LIMIT) <= value <= _bound(feature.maximum, FLOAT32_LIMIT)
