"""From an applicant's raw values to the row of numbers that the graph takes.

The one way in which raw values become numbers, for training, parity, serving and drift alike: a row has the contract's
order, NaN is missing, a category is its code, and UNSEEN is any category that the contract does not know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from creditmodel_bundle.contract import FLOAT32_LIMIT, Contract, Feature
from creditmodel_bundle.errors import ContractViolation, Violation

__all__ = ["UNSEEN", "Encoder"]

UNSEEN = -1.0
"""Code of a category outside the contract."""

_Converter = Callable[[object], float]


class _Refused(Exception):
    def __init__(self, kind: str, message: str, allowed: object) -> None:
        super().__init__(message)
        self.kind, self.message, self.allowed = kind, message, allowed


class Encoder:
    """Encodes rows for one contract. `columns` are the feature names in the graph's order."""

    def __init__(self, contract: Contract) -> None:
        self.columns = tuple(feature.name for feature in contract.features)
        self._strict = [(feature.name, _converter(feature)) for feature in contract.features]
        self._lenient = {feature.name: _lenient_converter(feature) for feature in contract.features}
        self._known = frozenset(self.columns)

    def encode(self, row: Mapping[str, object]) -> list[float]:
        """One applicant's row, F floats. Raises ContractViolation naming every value that is not acceptable."""
        encoded: list[float] = []
        violations: list[Violation] = []
        for name, convert in self._strict:
            try:
                encoded.append(convert(row.get(name)))
            except _Refused as e:
                violations.append(Violation(name, e.kind, e.message, e.allowed))
        if len(row) > len(self._known) or not self._known.issuperset(row):
            violations.extend(
                Violation(name, "unknown", "is no feature of this model", list(self.columns))
                for name in row
                if name not in self._known
            )
        if violations:
            raise ContractViolation(violations)
        return encoded

    def encode_column(self, name: str, values: Sequence[object]) -> list[float]:
        """A column of raw values as the graph sees it. Refuses nothing: what is not a number is missing,
        an unknown category is UNSEEN. For tables that are measured rather than decided upon."""
        convert = self._lenient[name]
        return [convert(value) for value in values]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _converter(feature: Feature) -> _Converter:
    return _category_converter(feature) if feature.dtype == "category" else _number_converter(feature)


def _missing(feature: Feature) -> float:
    if feature.missing == "forbidden":
        raise _Refused("missing", "is required", describe(feature))
    return math.nan


def _category_converter(feature: Feature) -> _Converter:
    codes = {(type(c.value), c.value): float(c.code) for c in feature.categories}
    allowed = [c.value for c in feature.categories]
    kinds = tuple({type(c.value) for c in feature.categories})

    def convert(value: object) -> float:
        if value is None:
            return _missing(feature)
        code = codes.get((type(value), value)) if isinstance(value, str | int) else None
        if code is not None:
            return code
        kind = "category" if type(value) in kinds else "type"
        raise _Refused(kind, f"is {_shown(value)}, which is none of the allowed categories", allowed)

    return convert


def _number_converter(feature: Feature) -> _Converter:
    low = -FLOAT32_LIMIT if feature.minimum is None else feature.minimum
    high = FLOAT32_LIMIT if feature.maximum is None else feature.maximum
    integer = feature.dtype == "integer"

    def convert(value: object) -> float:
        if value is None:
            return _missing(feature)
        if type(value) is not int and type(value) is not float:
            raise _Refused("type", f"is {_shown(value)}, not {_article(feature.dtype)}", describe(feature))
        if low <= value <= high and (not integer or value == math.floor(value)):
            return float(value)
        if low <= value <= high:
            raise _Refused("type", f"is {_shown(value)}, not an integer", describe(feature))
        raise _Refused("range", f"is {_shown(value)}, outside {_range(feature)}", describe(feature))

    return convert


def _lenient_converter(feature: Feature) -> _Converter:
    if feature.dtype == "category":
        codes: dict[object, float] = {c.value: float(c.code) for c in feature.categories}

        def category(value: object) -> float:
            return math.nan if _is_missing(value) else codes.get(value, UNSEEN)

        return category

    def number(value: object) -> float:
        if _is_missing(value):
            return math.nan
        try:
            converted = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return math.nan
        return max(-FLOAT32_LIMIT, min(FLOAT32_LIMIT, converted))

    return number


def describe(feature: Feature) -> dict[str, object]:
    """What a feature accepts, for an error's `allowed`."""
    if feature.dtype == "category":
        return {"categories": [c.value for c in feature.categories], "missing": feature.missing}
    return {
        "dtype": feature.dtype,
        "minimum": feature.minimum,
        "maximum": feature.maximum,
        "missing": feature.missing,
    }


def _range(feature: Feature) -> str:
    low = -FLOAT32_LIMIT if feature.minimum is None else feature.minimum
    high = FLOAT32_LIMIT if feature.maximum is None else feature.maximum
    return f"{low:g} to {high:g}"


def _article(dtype: str) -> str:
    return "an integer" if dtype == "integer" else "a number"


def _shown(value: object) -> str:
    """A value as an error may repeat it: its kind, and the value itself only where it is short."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return f"the string {value[:40]!r}" + ("…" if len(value) > 40 else "")
    if isinstance(value, int) and abs(value) >= 10**18:
        return "an integer of over 18 digits"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, list):
        return "an array"
    return "an object" if isinstance(value, dict) else type(value).__name__
