"""The rows that parity is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.contract import FLOAT32_LIMIT, Contract
from creditmodel_bundle.encoder import UNSEEN, Encoder
from creditmodel_training.parity.rows import (
    CUTOFF_MARGINS,
    ReferenceUnreadable,
    cutoff_rows,
    edge_rows,
    example_row,
    fuzz_rows,
    random_rows,
    reference_rows,
)
from creditmodel_training.runners import FloatArray


@pytest.fixture
def base() -> FloatArray:
    return np.array([40.0, 1.0, 1.0, 0.25], np.float32)


def test_reference_rows_are_what_the_encoder_makes_of_them(
    reference_file: Path, contract: Contract, table: pa.Table
) -> None:
    rows = reference_rows(reference_file, contract, None, seed=0)
    assert rows.values.dtype == np.float32
    assert len(rows) == table.num_rows
    row = {key: value for key, value in table.slice(17, 1).to_pylist()[0].items() if key != "_label"}
    expected = np.array(Encoder(contract).encode(row), np.float32)
    np.testing.assert_array_equal(rows.values[17], expected)
    assert rows.labels[17] == "reference row 17"


def test_a_sample_is_seeded_and_says_which_rows_it_took(reference_file: Path, contract: Contract) -> None:
    whole = reference_rows(reference_file, contract, None, seed=0)
    first, again, other = (reference_rows(reference_file, contract, 50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.values, again.values)
    assert first.labels != other.labels
    index = int(first.labels[3].removeprefix("reference row "))
    np.testing.assert_array_equal(first.values[3], whole.values[index])


def test_a_limit_above_the_sample_takes_every_row(reference_file: Path, contract: Contract) -> None:
    assert len(reference_rows(reference_file, contract, 10_000, seed=0)) == 600


@pytest.mark.parametrize("kind", ["garbage", "directory", "absent"])
def test_a_reference_that_is_no_parquet_file_is_named(tmp_path: Path, contract: Contract, kind: str) -> None:
    path = tmp_path / "reference.parquet"
    if kind == "garbage":
        path.write_bytes(b"PAR1 not really")
    elif kind == "directory":
        path.mkdir()
        (path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ReferenceUnreadable, match=r"reference\.parquet"):
        reference_rows(path, contract, None, seed=0)


def test_a_reference_without_a_feature_is_refused_by_the_features_name(tmp_path: Path, contract: Contract) -> None:
    path = tmp_path / "r.parquet"
    pq.write_table(pa.table({"age": [30.0], "home": ["own"]}), path)
    with pytest.raises(ReferenceUnreadable, match="no column delay, used"):
        reference_rows(path, contract, None, seed=0)


def test_a_reference_without_rows_is_refused(tmp_path: Path, contract: Contract, table: pa.Table) -> None:
    path = tmp_path / "r.parquet"
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(ReferenceUnreadable, match="no rows"):
        reference_rows(path, contract, None, seed=0)


def column(rows: FloatArray, base: FloatArray, index: int) -> set[float]:
    """Values that a feature takes in the rows that leave every other feature alone."""
    others = [i for i in range(rows.shape[1]) if i != index]
    return {float(row[index]) for row in rows if np.array_equal(row[others], base[others], equal_nan=True)}


def test_edge_rows_try_the_bounds_what_lies_beyond_and_both_neighbours_of_every_bin_edge(
    contract: Contract, base: FloatArray
) -> None:
    tried = column(edge_rows(contract, base).values, base, 0)
    table = contract.bins.features["age"]
    assert table.kind == "number"
    for mark in [*table.edges, *table.points, 18.0, 90.0]:
        single = np.float32(mark)
        near = {float(np.nextafter(single, np.float32(way))) for way in (-np.inf, np.inf)}
        assert near | {float(single)} <= tried, mark
    assert {v for v in tried if v < 17} >= {
        0.0,
        float(np.float32(-FLOAT32_LIMIT)),
        float(np.float32(-1e30)),
        float(np.float32(-1e-45)),
    }
    assert {v for v in tried if v > 91} >= {180.0, float(np.float32(1e30))}
    assert any(np.isnan(v) for v in tried)
    assert np.signbit([v for v in tried if v == 0.0]).size


def test_edge_rows_try_each_category_an_unseen_one_and_a_missing_one(contract: Contract, base: FloatArray) -> None:
    tried = column(edge_rows(contract, base).values, base, 2)
    assert tried >= {0.0, 1.0, 2.0, UNSEEN, 3.0}
    assert any(np.isnan(v) for v in tried)


def test_edge_rows_hold_zeros_of_both_signs_and_subnormals(contract: Contract, base: FloatArray) -> None:
    values = edge_rows(contract, base).values[:, 0]
    zeros = values[values == 0]
    assert set(np.signbit(zeros).tolist()) == {True, False}
    assert (np.abs(values[(values != 0) & np.isfinite(values)]) < np.finfo(np.float32).tiny).any()


def test_edge_rows_end_with_rows_of_one_kind_of_value(contract: Contract, base: FloatArray) -> None:
    rows = edge_rows(contract, base)
    kinds = {label: row for label, row in zip(rows.labels, rows.values, strict=True) if label.startswith("every")}
    assert np.isnan(kinds["every feature missing"]).all()
    np.testing.assert_array_equal(kinds["every feature at minimum"], np.array([18, -2, 0, 0], np.float32))
    np.testing.assert_array_equal(kinds["every feature at maximum"], np.array([90, 8, 2, 1e6], np.float32))


def test_no_made_row_holds_an_infinity_because_the_encoder_makes_none(contract: Contract, base: FloatArray) -> None:
    for rows in (edge_rows(contract, base), fuzz_rows(contract, base[None, :]), random_rows(4, 100, seed=0)):
        assert not np.isinf(rows.values).any()
        assert rows.values.dtype == np.float32


def test_fuzz_rows_are_seeded_and_mix_every_source(contract: Contract, base: FloatArray) -> None:
    first, again, other = (fuzz_rows(contract, base[None, :], seed=seed).values for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other, equal_nan=True)
    ages = first[:, 0]
    assert np.isnan(ages).mean() == pytest.approx(0.08, abs=0.03)
    assert ((ages >= 18) & (ages <= 90)).mean() > 0.5
    assert (np.abs(ages[np.isfinite(ages)]) > 1e6).any()


def test_random_rows_of_one_row_are_possible() -> None:
    assert random_rows(3, 1, seed=0).values.shape == (1, 3)


def probability(rows: FloatArray) -> FloatArray:
    """A probability that moves with age alone, and jumps with home."""
    jump = np.where(rows[:, 2] == 2, 0.05, 0.0)
    return (1 / (1 + np.exp(-(rows[:, 0].astype(np.float64) - 50) / 15)) * 0.9 + jump).astype(np.float32)


def test_cutoff_rows_lie_on_both_sides_of_every_cutoff_at_every_margin(
    reference_file: Path, contract: Contract
) -> None:
    reference = reference_rows(reference_file, contract, None, seed=0).values
    rows = cutoff_rows(contract, reference, probability, seed=0)
    pd = probability(rows.values).astype(np.float64)
    for cutoff in (0.4, 0.7):
        for margin in CUTOFF_MARGINS:
            for target in (cutoff - margin, cutoff + margin):
                beside = np.abs(pd - target) < min(CUTOFF_MARGINS) / 2
                assert beside.any(), target
    assert (np.abs(pd[:, None] - np.array([0.4, 0.7])).min(axis=1) > min(CUTOFF_MARGINS) / 3).all()


def test_there_are_no_cutoff_rows_where_every_applicant_is_on_one_side(contract: Contract) -> None:
    reference = np.array([[20, 0, 0, 0], [21, 0, 0, 0]], np.float32)
    assert len(cutoff_rows(contract, reference, probability, seed=0)) == 0


def test_the_example_row_takes_the_contracts_examples_and_else_the_lowest_value(contract: Contract) -> None:
    np.testing.assert_array_equal(example_row(contract), np.array([40.5, -2, 1, 0.5], np.float32))
