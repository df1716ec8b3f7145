"""The training schema: what the columns of a table mean, before a model and its contract exist.

A TOML or JSON file (see docs/design/data.md), or inferred from the table. `features_of` completes it with what only the
table can tell, and gives the features of the contract.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationError, model_validator

from creditmodel_bundle._model import Document
from creditmodel_bundle.contract import Category, Feature, Reason
from creditmodel_training.errors import SchemaError

__all__ = ["FeatureSpec", "Schema", "SplitColumn", "features_of", "infer", "read_schema"]

MAX_INFERRED_CATEGORIES = 50
"""A text column with more values than this is taken for an identifier or free text, and left out."""

MAX_CATEGORIES = 1000


class FeatureSpec(Document):
    """One feature. What is left out is taken from the table: the categories, and whether a value may be missing."""

    name: str
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
    positive: str | int = 1
    key: str | None = None
    split: SplitColumn | None = None
    features: list[FeatureSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = Counter(feature.name for feature in self.features)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"{twice[0]!r} stands twice among the features")
        for role, column in self.roles().items():
            if column in names:
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
        first = e.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "schema"
        raise SchemaError(f"{path}: {where}: {first['msg']}") from e


def infer(table: pa.Table, label: str, positive: str | int | None, key: str | None) -> Schema:
    """A schema for a table without one: every usable column a feature, nothing monotonic, missing as the table has it.

    Left out: the label, the key, columns whose name begins with `_`, without a value, of free text, or of identifiers.
    Raises SchemaError when the label is absent or not binary.
    """
    _require(table, label, "label")
    features = [
        spec
        for name in table.column_names
        if name not in (label, key) and not name.startswith("_") and (spec := _inferred(name, table[name])) is not None
    ]
    if not features:
        raise SchemaError("the table has no column to learn from beside its label")
    return Schema(label=label, positive=_positive(table[label], label, positive), key=key, features=features)


def features_of(schema: Schema, table: pa.Table) -> list[Feature]:
    """The contract's features: the schema completed from the table. Raises SchemaError for a column not there."""
    for role, column in schema.roles().items():
        _require(table, column, role)
    for spec in schema.features:
        _require(table, spec.name, "feature")
    return [_completed(spec, table[spec.name]) for spec in schema.features]


def _require(table: pa.Table, column: str, role: str) -> None:
    if column not in table.column_names:
        known = ", ".join(table.column_names[:30])
        raise SchemaError(f"the table has no column {column!r} (the {role}); it has {known}")


def _inferred(name: str, column: pa.ChunkedArray) -> FeatureSpec | None:
    if column.null_count == len(column):
        return None
    kind = column.type
    if pa.types.is_floating(kind):
        return FeatureSpec(name=name, dtype="number")
    if pa.types.is_integer(kind):
        return None if _is_identifier(column) else FeatureSpec(name=name, dtype="integer")
    if pa.types.is_string(kind):
        values = _distinct(column)
        if len(values) <= MAX_INFERRED_CATEGORIES:
            return FeatureSpec(name=name, dtype="category", categories=values)
    return None


def _is_identifier(column: pa.ChunkedArray) -> bool:
    """Whether every row of a table of some size has a whole number of its own."""
    return len(column) >= 100 and len(column.unique()) == len(column)


def _completed(spec: FeatureSpec, column: pa.ChunkedArray) -> Feature:
    missing = spec.missing or ("allowed" if _missing(column) else "forbidden")
    given: dict[str, Any] = spec.model_dump(exclude={"categories", "missing", "reason", "example"})
    try:
        return Feature(
            **given,
            missing=missing,
            categories=_categories(spec, column),
            reason=spec.reason or _default_reason(spec.name),
            example=spec.example if spec.example is not None else _typical(spec, column),
        )
    except ValidationError as e:
        raise SchemaError(e.errors(include_url=False)[0]["msg"]) from e


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
    return int(median) if spec.dtype == "integer" else median


def _default_reason(name: str) -> Reason:
    words = name.replace("_", " ").replace(".", " ").strip()
    return Reason(code=name.upper().replace(".", "_").replace("-", "_"), text=f"Value of {words}")


def _positive(column: pa.ChunkedArray, name: str, given: str | int | None) -> str | int:
    values = [value for value in column.unique().to_pylist() if value is not None]
    if given is not None:
        return _as_label(given, values)
    if all(value in (0, 1) for value in values):
        return 1
    shown = ", ".join(repr(value) for value in sorted(values, key=str)[:10])
    raise SchemaError(f"the label {name!r} has the values {shown}; say which one is a bad payer with --positive")


def _as_label(given: str | int, values: list[Any]) -> str | int:
    """The label's value that the given text names, so that --positive 2 finds the number 2."""
    for value in values:
        if value == given or str(value).lower() == str(given).lower():
            return value if isinstance(value, int) else str(value)
    return given
