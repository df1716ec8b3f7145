"""The training schema: what the columns of a table mean, before a model and its contract exist.

A TOML or JSON file (see docs/design/data.md), or inferred from the table. `features_of` completes it with what only the
table can tell, and gives the features of the contract.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from anyascii import anyascii
from pydantic import Field, ValidationError, model_validator

from creditmodel_bundle._model import Document, first_error
from creditmodel_bundle.contract import FLOAT32_LIMIT, Category, Feature, Reason
from creditmodel_training.errors import SchemaError

__all__ = ["FeatureSpec", "Inferred", "Schema", "SplitColumn", "features_of", "infer", "read_schema"]

MAX_INFERRED_CATEGORIES = 50
"""A text column with more values than this is taken for an identifier or free text, and left out."""

MAX_CATEGORIES = 1000

_CODES = (*range(1, 10), 96, 97, 98, 99, 996, 997, 998, 999, 9996, 9997, 9998, 9999, 99999, 999999)
"""Numbers, with either sign, that stand in credit bureaus' files for why there is no number."""
_NINES = 96
MAX_CODES = 4
"""More negative numbers than this in a row are a scale: points, or months before a date."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:.*)?")


class FeatureSpec(Document):
    """One feature. What is left out is taken from the table: the categories, and whether a value may be missing.

    `column` is the table's column where that is not called like the feature.
    """

    name: str
    column: str | None = None
    dtype: Literal["number", "integer", "category"]
    unit: str = ""
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    categories: list[Category | str | int] = []
    missing: Literal["allowed", "forbidden"] | None = None
    monotonic: Literal["increasing", "decreasing", "none"] = "none"
    reason: Reason | None = None
    example: str | int | float | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dtype == "category" and self.monotonic != "none":
            raise ValueError(f"{self.name}: a category has no order, so it cannot be monotonic")
        if self.dtype != "category" and self.categories:
            raise ValueError(f"{self.name}: only dtype category has categories")
        return self

    @property
    def source(self) -> str:
        """The table's column."""
        return self.column or self.name


class SplitColumn(Document):
    """A time or segment column whose values say which rows validate and which are held out; the rest train."""

    column: str
    validation: list[str | int] = Field(min_length=1)
    holdout: list[str | int] = Field(min_length=1)


class Schema(Document):
    """Label, features and split. `positive` is the label of a bad payer.

    Without `split`, rows are split by a hash of `key` (rows of one client stay together) or, without a key, of the
    whole row.
    """

    label: str
    positive: str | int | float = 1
    key: str | None = None
    split: SplitColumn | None = None
    features: list[FeatureSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        # Like a contract's: SQL does not tell the case of names.
        names = Counter(feature.name.lower() for feature in self.features)
        if twice := [feature.name for feature in self.features if names[feature.name.lower()] > 1]:
            raise ValueError(f"{twice[-1]!r} stands twice among the features")
        sources = {feature.source for feature in self.features}
        for role, column in self.roles().items():
            if column in sources:
                raise ValueError(f"{column!r} is the {role} and cannot be a feature as well")
        return self

    def roles(self) -> dict[str, str]:
        """The columns that are no features: role to column name."""
        found = {"label": self.label, "key": self.key, "split column": self.split.column if self.split else None}
        return {role: column for role, column in found.items() if column is not None}


def read_schema(path: Path) -> Schema:
    """The schema in a .toml or .json file. Raises SchemaError naming the place that is wrong."""
    try:
        if path.suffix == ".toml":
            return Schema.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        return Schema.model_validate_json(path.read_bytes())
    except OSError as e:
        raise SchemaError(f"{path} cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise SchemaError(f"{path} is not TOML: {e}") from e
    except ValidationError as e:
        raise SchemaError(f"{path}: {first_error(e)}") from e


@dataclass(frozen=True, slots=True)
class Inferred:
    """A schema, the columns that are no part of it with the reason, and what a person should look at."""

    schema: Schema
    left_out: dict[str, str]
    notes: list[str]


def infer(table: pa.Table, label: str, positive: str | int | None, key: str | None) -> Inferred:
    """A schema for a table without one: every usable column a feature, nothing monotonic, missing as the table has it.

    Left out: the label, the key, columns whose name begins with `_`, without a value, of dates, of free text, or of
    identifiers. A column whose name no feature can have gives its feature a like name.
    Raises SchemaError when the label is absent or not binary.
    """
    _require(table, label, "label")
    features: list[FeatureSpec] = []
    left_out: dict[str, str] = {}
    for column in table.column_names:
        if column in (label, key):
            continue
        found = _inferred(column, table[column])
        if isinstance(found, str):
            left_out[column] = found
        else:
            features.append(_named(found, {feature.name.lower() for feature in features}))
    if not features:
        why = "; ".join(f"{column}: {reason}" for column, reason in left_out.items())
        raise SchemaError(f"the table has no column to learn from beside its label{f' ({why})' if why else ''}")
    schema = Schema(label=label, positive=_positive(table[label], label, positive), key=key, features=features)
    return Inferred(schema, left_out, [note for spec in features for note in _notes(spec, table[spec.source])])


def features_of(schema: Schema, table: pa.Table) -> list[Feature]:
    """The contract's features: the schema completed from the table. Raises SchemaError for a column not there."""
    for role, column in schema.roles().items():
        _require(table, column, role)
    for spec in schema.features:
        _require(table, spec.source, "feature")
    return [_completed(spec, table[spec.source]) for spec in schema.features]


def _require(table: pa.Table, column: str, role: str) -> None:
    if column not in table.column_names:
        known = ", ".join(table.column_names[:30])
        raise SchemaError(f"the table has no column {column!r} (the {role}); it has {known}")


def _inferred(name: str, column: pa.ChunkedArray) -> FeatureSpec | str:
    """The feature that a column makes, or why it makes none."""
    if name.startswith("_"):
        return "names that begin with '_' are the system's own"
    if column.null_count == len(column):
        return "no row has a value"
    kind = column.type
    if pa.types.is_floating(kind):
        return FeatureSpec(name=name, dtype="number")
    if pa.types.is_integer(kind):
        if _is_identifier(column):
            return "a whole number of its own in every row, as identifiers are"
        return FeatureSpec(name=name, dtype="integer")
    values = _distinct(column)
    if all(_DATE.fullmatch(value) for value in values):
        return "dates: make a duration of them, such as months since"
    if len(values) <= MAX_INFERRED_CATEGORIES:
        return FeatureSpec(name=name, dtype="category", categories=values)
    if words := _words_among_numbers(values):
        return f"text, since values like {words[0]!r} are no numbers"
    return f"text of {len(values)} different values"


def _words_among_numbers(values: list[str]) -> list[str]:
    """Values that are no numbers although most are, or would be without separators, signs and units."""
    words = [value for value in values if not _is_number(value)]
    readable = sum(_is_number(re.sub(r"[\s,'%€$£]", "", value)) for value in values)
    return words if 2 * readable > len(values) else []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _named(spec: FeatureSpec, taken: set[str]) -> FeatureSpec:
    """The feature under a name that a contract takes, in Latin letters; its column stays what it is.

    The name follows from the column's own, whatever stands beside it, so that a table whose columns have changed places
    gives the same features. Only where two columns would be called the same does their order tell them apart.
    """
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", anyascii(spec.name)).strip("_")[:120]
    stem = stem if stem[:1].isalpha() else f"x_{stem}".rstrip("_")
    names = [stem, *(f"{stem}_{number}" for number in range(2, len(taken) + 3))]
    name = next(name for name in names if name.lower() not in taken)
    return spec if name == spec.name else spec.model_copy(update={"name": name, "column": spec.name})


def _notes(spec: FeatureSpec, column: pa.ChunkedArray) -> list[str]:
    notes = [f"{spec.source!r} is the feature {spec.name}"] if spec.column is not None else []
    words = _words_among_numbers(_distinct(column)) if spec.dtype == "category" else []
    if words:
        notes.append(f"{spec.source} is a category, since values like {words[0]!r} are no numbers")
    if spec.dtype != "category" and (codes := _codes(column)):
        shown = ", ".join(f"{code:g}" for code in codes)
        notes.append(
            f"{spec.source} has {shown} beside other numbers: if that says why there is no value, leave it empty"
        )
    return notes


def _codes(column: pa.ChunkedArray) -> list[float]:
    """Values that look like codes of why there is no number: -9, -8, -7, or 999, in at least 1 % of rows each.

    Negative ones are where nothing else is negative, nines where they are more than twice as large as all else.
    """
    listed = pc.is_in(pc.abs(column), value_set=pa.array(_CODES, column.type))
    counted = column.filter(listed).value_counts()
    counts = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    frequent = {value for value, count in counts.items() if count * 100 >= len(column)}
    span = pc.min_max(column.filter(pc.invert(listed))).as_py()
    rest = [value for value in (*span.values(), *(counts.keys() - frequent)) if value is not None]
    below = [value for value in frequent if value < 0 <= min(rest, default=0)]
    top = max([abs(value) for value in (*rest, *frequent) if abs(value) < _NINES], default=math.inf)
    above = [value for value in frequent if value >= _NINES and value > 2 * max([*rest, top])]
    return sorted((below if len(below) <= MAX_CODES else []) + above)


def _is_identifier(column: pa.ChunkedArray) -> bool:
    """Whether every row of a table of some size has a whole number of its own."""
    return len(column) >= 100 and len(column.unique()) == len(column)


def _completed(spec: FeatureSpec, column: pa.ChunkedArray) -> Feature:
    missing = spec.missing or ("allowed" if _missing(column) else "forbidden")
    given: dict[str, Any] = spec.model_dump(exclude={"column", "categories", "missing", "reason", "example"})
    try:
        return Feature(
            **given,
            missing=missing,
            categories=_categories(spec, column),
            reason=spec.reason or _default_reason(spec),
            example=spec.example if spec.example is not None else _typical(spec, column),
        )
    except ValidationError as e:
        raise SchemaError(first_error(e).removeprefix("document: ")) from e


def _missing(column: pa.ChunkedArray) -> int:
    nan = pc.sum(pc.is_nan(column)).as_py() if pa.types.is_floating(column.type) else 0
    return int(column.null_count + (nan or 0))


def _categories(spec: FeatureSpec, column: pa.ChunkedArray) -> list[Category]:
    if spec.dtype != "category":
        return []
    listed = spec.categories or _distinct(column)
    if not listed:
        raise SchemaError(f"{spec.name} has no value in the table, so its categories must be in the schema")
    if len(listed) > MAX_CATEGORIES:
        raise SchemaError(f"{spec.name} has {len(listed)} categories, over the {MAX_CATEGORIES} that a model may have")
    return [item if isinstance(item, Category) else Category(value=item, code=code) for code, item in enumerate(listed)]


def _distinct(column: pa.ChunkedArray) -> list[Any]:
    return sorted(value for value in column.unique().to_pylist() if value is not None)


def _typical(spec: FeatureSpec, column: pa.ChunkedArray) -> str | int | float | None:
    """The most common value of a category, the median of a number."""
    if _missing(column) == len(column):
        return None
    if spec.dtype == "category":
        counts = Counter(value for value in column.to_pylist() if value is not None)
        common: str | int = max(counts, key=lambda value: (counts[value], str(value)))
        return common
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        return None
    median = float(np.nanquantile(column.cast(pa.float64()).to_numpy(), 0.5, method="nearest"))
    if abs(median) > FLOAT32_LIMIT:
        return None
    return int(median) if spec.dtype == "integer" else median


def _default_reason(spec: FeatureSpec) -> Reason:
    words = spec.source.replace("_", " ").replace(".", " ").strip()
    return Reason(code=spec.name.upper().replace(".", "_").replace("-", "_"), text=f"Value of {words}")


def _positive(column: pa.ChunkedArray, name: str, given: str | int | None) -> str | int | float:
    values = [value for value in column.unique().to_pylist() if value is not None]
    if given is not None:
        return next((value for value in values if _names(given, value)), given)
    if all(value in (0, 1) for value in values):
        return 1
    if all(value in ("false", "true") for value in values):
        return "true"
    shown = ", ".join(repr(value) for value in sorted(values, key=str)[:10])
    if len(values) > 2:
        raise SchemaError(f"the label {name!r} has {len(values)} values, such as {shown}; it must have two")
    raise SchemaError(f"the label {name!r} has the values {shown}; say which one is a bad payer with --positive")


def _names(given: str | int, value: str | int | float) -> bool:
    """Whether --positive means this value of the label: 2 names the number 2.0, True the text true."""
    if isinstance(value, str):
        return value.strip().lower() == str(given).strip().lower()
    return _is_number(str(given)) and float(given) == value
