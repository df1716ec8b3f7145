"""Counts by SQL are the counts that the bins' own rule gives, row by row."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.bins import CategoryBins, NumberBins, freeze_numbers
from creditmodel_drift.baseline import Baseline, Column, kind_of
from creditmodel_drift.engine import Engine
from creditmodel_drift.parts import find, survey
from creditmodel_drift.scan import open_scan

Count = Callable[[Path, NumberBins | CategoryBins], list[int]]


@pytest.fixture
def counted(engine: Engine) -> Count:
    return lambda path, table: count(engine, path, table)


def count(engine: Engine, path: Path, table: NumberBins | CategoryBins) -> list[int]:
    baseline = Baseline("test", 0, (Column("x", kind_of(table), table),), None)
    found = survey(str(path), *find(str(path)), baseline, {})
    return open_scan(engine, found, baseline).counts().bins["x"]


def by_rule(values: list[Any], table: NumberBins | CategoryBins) -> list[int]:
    counts = [0] * len(table.counts)
    for value in values:
        counts[table.index(value)] += 1
    return counts


def numbers(points: list[float], edges: list[float], low: float | None = None, high: float | None = None) -> NumberBins:
    return NumberBins(
        points=points, edges=edges, minimum=low, maximum=high, counts=[0] * (len(points) + len(edges) + 3)
    )


TENTHS = np.array([0.1, 0.7, 3.9, 10.6], np.float32).tolist()

TABLES = {
    "decimals as training sees them": numbers(TENTHS, np.array([0.2, 0.3, 4.3], np.float32).tolist(), 0.1, 10.6),
    "points within, on and beside edges": numbers([-1.0, 0.0, 2.5], [-0.5, 0.0, 1.0, 3.0], -2.0, 4.0),
    "no range": numbers([0.0], [0.1, 0.2, 0.30000000000000004]),
    "no bins but the whole": numbers([], [], 0, 1),
    "points alone": numbers([0.0, 1.0, 2.0], []),
    "edges outside the range": numbers([], [-5.0, 0.0, 9.0], -1.0, 1.0),
    "the ends of float32": numbers(np.array([-3.4028235e38, 3.4028235e38], np.float32).tolist(), [0.0]),
    "fractional range": numbers([1.0], [0.5, 1.5], 0.25, 2.75),
}
VALUES = [
    -math.inf,
    -5.0,
    -2.0,
    -1.0,
    -0.5,
    -0.0,
    0.0,
    0.1,
    0.2,
    0.3,
    0.30000000000000004,
    0.5,
    1.0,
    1.5,
    2.0,
    2.5,
    3.0,
]
VALUES += [4.0, 4.000000001, 9.0, 1e8, 1e30, math.inf]
VALUES += [-1e300, 1e300, 3.4028235e38, 0.7, 3.9, 4.3, 10.6, *TENTHS, 0.1 - 2e-9, 0.1 + 1e-8, 3.9 + 1e-6, 10.6 + 1e-6]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("stored", [pa.float64(), pa.float32(), pa.int64(), pa.int8(), pa.decimal128(20, 3)])
def test_numbers_fall_into_the_bins_that_the_rule_gives(
    name: str, stored: pa.DataType, counted: Count, tmp_path: Path
) -> None:
    finite = [v for v in VALUES if abs(v) < 100]
    if pa.types.is_floating(stored):
        in_range = [v for v in VALUES if stored == pa.float64() or abs(v) != 1e300]
        raw: list[Any] = [*np.array(in_range, stored.to_pandas_dtype()).tolist(), math.nan, None, None]
    else:
        raw = [*(int(v) for v in finite), None]
    column = pa.array(raw, stored)
    pq.write_table(pa.table({"x": column}), tmp_path / "x.parquet")
    values = [None if v is None else float(v) for v in column.to_pylist()]
    assert counted(tmp_path / "x.parquet", TABLES[name]) == by_rule(values, TABLES[name])


@pytest.mark.parametrize("seed", range(5))
def test_a_real_column_counts_into_its_own_frozen_bins_exactly(seed: int, counted: Count, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    values = np.round(np.exp(random.normal(size=3_000)) * (random.random(3_000) > 0.4), seed)
    table = freeze_numbers(values.tolist(), 0, 20)
    pq.write_table(pa.table({"x": values}), tmp_path / "x.parquet")
    assert counted(tmp_path / "x.parquet", table) == table.counts


@pytest.mark.parametrize("stored", [pa.float64(), pa.float32()])
def test_decimals_fall_into_the_bins_that_training_froze_of_them(
    stored: pa.DataType, counted: Count, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).choice([1.8, 2.0, 3.1, 3.2, 3.6, 3.9, 4.3, 5.3, 8.9, 10.6, 11.1, 11.99], 2_000)
    for table in (
        freeze_numbers(values.astype(np.float32).tolist(), 1.8, 11.99),
        freeze_numbers(values.tolist(), 1.8, 11.99),
    ):
        pq.write_table(pa.table({"x": pa.array(values).cast(stored)}), tmp_path / "x.parquet")
        assert counted(tmp_path / "x.parquet", table) == table.counts
        assert table.counts[-2:] == [0, 0]


def test_integers_that_float32_rounds_fall_into_the_bins_that_training_froze_of_them(
    counted: Count, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).choice(np.arange(20_000_001, 20_000_013), 2_000)
    table = freeze_numbers(values.astype(np.float32).tolist())
    pq.write_table(pa.table({"x": values}), tmp_path / "x.parquet")
    assert counted(tmp_path / "x.parquet", table) == table.counts


def test_text_in_a_csv_counts_as_numbers_and_what_is_none_is_out_of_range(counted: Count, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x,y\n1,a\n2.5e0,a\n,a\nNA,a\nabc,a\n99,a\n")
    assert counted(tmp_path / "x.csv", numbers([1.0], [2.0], 0, 10)) == [1, 0, 1, 2, 2]


@pytest.mark.parametrize("stored", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_text_categories_are_counted_by_value(stored: pa.DataType, counted: Count, tmp_path: Path) -> None:
    table = CategoryBins(values=["it's", 'b"', "NA"], counts=[0] * 5)
    raw = ["it's", "it's", 'b"', "NA", "other", "", None]
    pq.write_table(pa.table({"x": pa.array(raw).cast(stored)}), tmp_path / "x.parquet")
    assert counted(tmp_path / "x.parquet", table) == [2, 1, 1, 2, 1]


@pytest.mark.parametrize("stored", [pa.int8(), pa.int64(), pa.float64()])
def test_integer_categories_are_counted_however_they_are_stored(
    stored: pa.DataType, counted: Count, tmp_path: Path
) -> None:
    table = CategoryBins(values=[1, 2, 9], counts=[0] * 5)
    pq.write_table(pa.table({"x": pa.array([1, 1, 2, 7, None], stored)}), tmp_path / "x.parquet")
    assert counted(tmp_path / "x.parquet", table) == [2, 1, 0, 1, 1]


def test_a_category_named_like_a_missing_value_is_kept_in_a_csv(counted: Count, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("x,y\nNA,1\nnull,1\nb,1\n")
    assert counted(tmp_path / "x.csv", CategoryBins(values=["NA", "b"], counts=[0] * 4)) == [1, 1, 0, 1]
