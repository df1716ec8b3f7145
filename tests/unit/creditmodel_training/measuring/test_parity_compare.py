"""Comparing two runners: what is counted, and that nothing can hide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.reasons import top_reasons
from creditmodel_training.parity import compare as module
from creditmodel_training.parity.compare import Tolerance, compare
from creditmodel_training.parity.rows import Rows, edge_rows, fuzz_rows, reference_rows
from creditmodel_training.runners import FloatArray, ModelMismatch, ModelRefused, OnnxRunner, Outputs, TorchRunner


class Table:
    """A runner that returns prepared answers: column 0 of a row says which row it is."""

    def __init__(self, answers: Outputs, alone: Outputs | None = None) -> None:
        self.name, self.features = "table", None
        self.outputs = tuple(answers)
        self.answers, self.alone = answers, alone or answers
        self.batches: list[int] = []

    def run(self, rows_bf: FloatArray) -> Outputs:
        self.batches.append(len(rows_bf))
        source = self.alone if len(rows_bf) == 1 else self.answers
        return {name: values[rows_bf[:, 0].astype(int)] for name, values in source.items()}

    def prepared(self, rows_bf: FloatArray) -> Callable[[], object]:
        return lambda: self.run(rows_bf)


def rows(count: int) -> Rows:
    return Rows(np.arange(count, dtype=np.float32)[:, None], tuple(f"row {i}" for i in range(count)))


def probabilities(*values: float) -> Outputs:
    return {"probability": np.array(values, np.float32)}


@pytest.fixture
def real(reference_file: Path, contract: Contract) -> Rows:
    reference = reference_rows(reference_file, contract, None, seed=0)
    return Rows.join(
        [reference, edge_rows(contract, reference.values[0]), fuzz_rows(contract, reference.values, count=300)]
    )


def test_a_faithful_graph_is_within_the_tolerance_on_every_row(
    weights: Any, network: Callable[..., torch.nn.Module], graph_file: Callable[..., Path], real: Rows,
    contract: Contract,
) -> None:  # fmt: skip
    found = compare(TorchRunner(network(weights)), OnnxRunner(graph_file(weights)), real, contract)
    assert found.outside == found.decision_flips == found.not_finite == 0
    assert 0 < found.max_abs_diff < 2e-6
    assert [output.name for output in found.outputs] == ["log_odds", "probability", "contributions"]
    assert found.rows == found.alone == len(real)


@pytest.mark.parametrize("damage", [1e-4, -1e-4])
def test_one_weight_off_by_a_ten_thousandth_is_seen(
    weights: Any, network: Callable[..., torch.nn.Module], graph_file: Callable[..., Path], real: Rows,
    contract: Contract, damage: float,
) -> None:  # fmt: skip
    damaged = weights.damaged(damage)
    found = compare(TorchRunner(network(weights)), OnnxRunner(graph_file(damaged)), real, contract)
    assert found.outside > len(real) / 2
    assert found.max_abs_diff == pytest.approx(1e-4, rel=0.05)
    assert max(d - 1e-5 * x for x, d in found.envelope) > 1e-6


def test_every_shape_of_batch_is_tried() -> None:
    answers = {"probability": np.linspace(0, 1, 3000, dtype=np.float32)}
    runner = Table(answers)
    compare(Table(answers), runner, rows(3000))
    assert runner.batches.count(1) >= 3000
    assert {2, 3, 5, 7, 13, 31, 33, 127, 1024} <= set(runner.batches)
    assert sum(runner.batches) == 4 * 3000


def test_a_difference_that_shows_only_in_a_batch_of_one_is_seen() -> None:
    together, alone = probabilities(0.1, 0.2, 0.3), probabilities(0.1, 0.25, 0.3)
    found = compare(Table(together), Table(together, alone), rows(3))
    assert found.outside == 1
    assert found.worst[0].label == "row 1"
    assert found.worst[0].onnx == pytest.approx(0.25)
    assert found.batch_dependent == 1


def test_rows_whose_bits_depend_on_their_batch_are_counted_even_within_the_tolerance() -> None:
    value = np.float32(0.5)
    together, alone = probabilities(0.1, 0.5), probabilities(0.1, float(np.nextafter(value, np.float32(1))))
    found = compare(Table(together), Table(together, alone), rows(2))
    assert (found.batch_dependent, found.outside) == (1, 0)


def test_a_decision_flips_when_the_two_probabilities_fall_on_two_sides_of_a_cutoff(contract: Contract) -> None:
    below = float(np.nextafter(np.float32(0.7), np.float32(0)))
    found = compare(
        Table(probabilities(0.1, 0.39999, 0.7, 0.9)), Table(probabilities(0.1, 0.40001, below, 0.8)), rows(4), contract
    )
    assert float(np.float32(0.7)) < 0.7
    assert contract.cutoff(float(np.float32(0.7))).decision == "refer", "0.7 in float32 is below 0.7"
    assert found.decision_flips == 1


@given(
    hnp.arrays(np.float32, 20, elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.float32, 20, elements=st.floats(0, 1, width=32)),
)
def test_decisions_are_those_of_the_contract(contract: Contract, a: FloatArray, b: FloatArray) -> None:
    found = compare(Table({"probability": a}), Table({"probability": b}), rows(20), contract)
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    assert found.decision_flips == sum(contract.cutoff(x) != contract.cutoff(y) for x, y in pairs)


CONTRIBUTIONS = st.one_of(
    st.floats(-2, 2, width=32),
    st.integers(-30, 30).map(lambda tick: float(np.float32((tick + 0.5) * 1e-4))),
    st.integers(-30, 30).map(lambda tick: float(np.float32(tick * 1e-4))),
)


@given(
    hnp.arrays(np.float32, (6, 4), elements=CONTRIBUTIONS), hnp.arrays(np.float32, (6, 4), elements=st.sampled_from(
        [0.0, 0.0, 1e-7, -1e-7, 1e-4, -1e-4, 6e-8])),
)  # fmt: skip
def test_reasons_differ_exactly_where_the_shared_rule_says_so(
    contract: Contract, expected: FloatArray, shift: FloatArray
) -> None:
    actual = expected + shift
    found = compare(Table({"contributions": expected}), Table({"contributions": actual}), rows(6), contract)
    assert found.reason_diffs == sum(
        top_reasons(a) != top_reasons(b) for a, b in zip(expected.tolist(), actual.tolist(), strict=True)
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sides", ["pytorch", "onnx", "both"])
def test_an_output_that_is_not_finite_is_counted_and_outside_whichever_side_it_is_on(value: float, sides: str) -> None:
    bad, good = probabilities(0.1, value, 0.3), probabilities(0.1, 0.2, 0.3)
    found = compare(
        Table(good if sides == "onnx" else bad), Table(good if sides == "pytorch" else bad), rows(3)
    )  # fmt: skip
    assert (found.not_finite, found.outside) == (1, 1)
    assert found.worst[0].label == "row 1"
    assert np.isfinite(found.max_abs_diff)
    assert all(np.isfinite(point).all() for point in found.envelope)


def test_a_model_that_never_answers_a_number_still_gives_an_envelope() -> None:
    found = compare(Table(probabilities(np.nan)), Table(probabilities(np.nan)), rows(1))
    assert found.envelope == ((0.0, 0.0),)
    assert found.not_finite == 1


def test_reasons_of_a_row_that_is_not_finite_differ(contract: Contract) -> None:
    a = np.array([[0.1, np.nan, 0.0, 0.0]], np.float32)
    assert compare(Table({"contributions": a}), Table({"contributions": a * 0}), rows(1), contract).reason_diffs == 1


@given(
    hnp.arrays(np.float32, 12, elements=st.floats(-1e6, 1e6, width=32)),
    hnp.arrays(np.float32, 12, elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(0, 1),
    st.floats(0, 100),
)
def test_rows_outside_are_those_that_numpy_calls_not_close(
    a: FloatArray, b: FloatArray, rtol: float, atol: float
) -> None:
    found = compare(Table({"probability": a}), Table({"probability": b}), rows(12), tolerance=Tolerance(rtol, atol))
    expected, actual = a.astype(np.float64), b.astype(np.float64)
    assert found.outside == int((~np.isclose(actual, expected, rtol=rtol, atol=atol)).sum())


def test_outputs_are_matched_by_name_in_whatever_order_and_company(
    weights: Any, network: Callable[..., torch.nn.Module], graph_file: Callable[..., Path], real: Rows
) -> None:
    renamed = graph_file(weights, names=("raw", "probability", "parts"))
    found = compare(TorchRunner(network(weights)), OnnxRunner(renamed), real)
    assert [output.name for output in found.outputs] == ["probability"]


def test_models_without_a_common_output_cannot_be_compared(
    weights: Any, network: Callable[..., torch.nn.Module], graph_file: Callable[..., Path], real: Rows
) -> None:
    renamed = graph_file(weights, names=("a", "b", "c"))
    with pytest.raises(ModelMismatch, match="log_odds, probability, contributions against a, b, c"):
        compare(TorchRunner(network(weights)), OnnxRunner(renamed), real)


def test_outputs_of_different_shape_cannot_be_compared() -> None:
    wide = {"probability": np.zeros((3, 2), np.float32)}
    with pytest.raises(ModelMismatch, match=r"probability has shape \[\] a row in PyTorch, \[2\] in ONNX"):
        compare(Table(probabilities(0, 0, 0)), Table(wide), rows(3))


def test_an_output_that_loses_rows_is_an_error_and_never_a_pass() -> None:
    class Short(Table):
        def run(self, rows_bf: FloatArray) -> Outputs:
            return {name: values[:-1] for name, values in super().run(rows_bf).items()}

    with pytest.raises(ModelRefused, match="shape"):
        compare(Table(probabilities(0, 0, 0)), Short(probabilities(0, 0, 0)), rows(3))


def test_a_relative_difference_is_that_of_the_probability() -> None:
    a = {"probability": np.array([0.5], np.float32), "log_odds": np.array([1e-9], np.float32)}
    b = {"probability": np.array([0.55], np.float32), "log_odds": np.array([1e-6], np.float32)}
    found = compare(Table(a), Table(b), rows(1))
    assert found.max_rel_diff == pytest.approx(0.1, rel=1e-4)
    assert found.max_abs_diff == pytest.approx(0.05, rel=1e-4)


def test_a_relative_difference_of_next_to_nothing_is_none() -> None:
    a, b = probabilities(0.5, 1e-40), probabilities(0.5, 4e-40)
    assert compare(Table(a), Table(b), rows(2)).max_rel_diff == 0


def test_beyond_the_cap_only_a_sample_is_scored_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALONE_ROWS", 50)
    answers = {"probability": np.zeros(200, np.float32)}
    assert compare(Table(answers), Table(answers), rows(200)).alone == 50
