"""PSI over the latest applicants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from creditmodel_bundle.bins import NumberBins
from creditmodel_bundle.contract import Contract
from creditmodel_bundle.encoder import Encoder
from creditmodel_inference.meter import Meter
from creditmodel_inference.window import WINDOW_ROWS, FeatureWindow

Row = dict[str, Any]


@pytest.fixture
def encoded(contract: Contract, applicants: Callable[..., list[Row]]) -> NDArray[np.float64]:
    return np.array([Encoder(contract).encode(row) for row in applicants(1_000, seed=9)])


def test_rows_fall_into_the_bins_that_the_contracts_tables_give(
    contract: Contract, applicants: Callable[..., list[Row]], encoded: NDArray[np.float64]
) -> None:
    window = FeatureWindow(contract)
    window.add(encoded)
    for feature, total in zip(contract.features, window.counts(), strict=True):
        table: Any = contract.bins.features[feature.name]
        expected = Counter(table.index(row[feature.name]) for row in applicants(1_000, seed=9))
        assert {index: count for index, count in enumerate(total.tolist()) if count} == expected


def test_a_point_an_edge_and_what_is_out_of_range_have_their_bins(contract: Contract) -> None:
    window = FeatureWindow(contract)
    for index, feature in enumerate(contract.features):
        table: Any = contract.bins.features[feature.name]
        if table.kind == "number":
            values = [*table.points, *table.edges, -2e38, 2e38, 0.0, np.nan]
            assert window._bins[index](np.array(values, np.float32)).tolist() == [
                table.index(value) for value in values
            ]


def test_a_decimal_that_float32_cannot_hold_falls_into_the_bin_that_training_froze_of_it(contract: Contract) -> None:
    index, feature = next((i, f) for i, f in enumerate(contract.features) if f.dtype == "number")
    values = [3.9, 10.6, 0.35, 11.99, 4.3, 4.299]
    points, edges = np.array([0.35, 3.9], np.float32).tolist(), np.array([4.3, 10.6], np.float32).tolist()
    table = NumberBins(points=points, edges=edges, maximum=11.99, counts=[0] * 7)
    frozen = contract.model_copy(deep=True)
    frozen.bins.features[feature.name] = table
    assert FeatureWindow(frozen)._bins[index](np.array(values, np.float32)).tolist() == [1, 3, 0, 4, 2, 2]
    assert [table.index(value) for value in values] == [1, 3, 0, 4, 2, 2]


def test_a_shift_raises_the_index_of_its_feature_alone(contract: Contract, encoded: NDArray[np.float64]) -> None:
    window = FeatureWindow(contract)
    window.add(encoded[:999])
    window.measure()
    assert window.psi() == (999, {})
    window.add(encoded[999:])
    window.measure()
    _, before = window.psi()
    shifted = encoded.copy()
    column = [feature.name for feature in contract.features].index("age")
    shifted[:, column] = 20
    other = FeatureWindow(contract)
    other.add(shifted)
    other.measure()
    rows, after = other.psi()
    assert rows == 1_000
    assert after["age"] > 1 > before["age"]
    assert {name: value for name, value in after.items() if name != "age"} == {
        name: value for name, value in before.items() if name != "age"
    }


def test_old_rows_leave_the_window(contract: Contract, encoded: NDArray[np.float64]) -> None:
    window = FeatureWindow(contract)
    for _ in range(14):
        window.add(encoded[:999])
    newest = encoded[-1] * np.ones((WINDOW_ROWS, 1))
    window.add(newest[:7_001])
    window.add(newest[7_001:])
    window.measure()
    assert window.psi()[0] == WINDOW_ROWS
    assert all(np.sort(counts).tolist()[-2:] == [0, WINDOW_ROWS] for counts in window.counts())


def test_the_metrics_tell_each_features_index(contract: Contract, encoded: NDArray[np.float64]) -> None:
    window, meter = FeatureWindow(contract), Meter()
    window.add(encoded)
    window.measure()
    meter.psi = window.psi
    text = meter.exposition().decode()
    assert 'creditmodel_psi{feature="age"} ' in text
    assert "creditmodel_psi_window_rows 1000.0" in text
