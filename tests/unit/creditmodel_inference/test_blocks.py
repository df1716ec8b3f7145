"""The same bits alone and in company."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.encoder import Encoder
from creditmodel_inference.blocks import Blocks, Outputs
from creditmodel_inference.errors import Refusal
from creditmodel_inference.scorer import Scorer

Row = dict[str, Any]
ROWS = 700


@pytest.fixture(scope="module")
def rows(contract: Contract, applicants: Callable[..., list[Row]]) -> NDArray[np.float64]:
    encoder = Encoder(contract)
    return np.array([encoder.encode(row) for row in applicants(ROWS)])


@pytest.fixture(scope="module")
def alone(scorer: Scorer, rows: NDArray[np.float64]) -> Outputs:
    parts = [scorer.blocks.run(rows[i : i + 1]) for i in range(ROWS)]
    return Outputs(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def bits(outputs: Outputs) -> list[bytes]:
    return [np.ascontiguousarray(array).tobytes() for array in outputs]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 31, 33, 64, 65, 255, 256, 257, ROWS])
def test_a_batch_of_any_size_gives_each_row_the_bits_that_it_has_alone(
    scorer: Scorer, rows: NDArray[np.float64], alone: Outputs, count: int
) -> None:
    assert bits(scorer.blocks.run(rows[:count])) == bits(Outputs(*(array[:count] for array in alone)))


def test_a_graph_that_is_exact_in_company_shares_its_calls(scorer: Scorer) -> None:
    assert scorer.blocks.capacity >= 32


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(40)), count=st.integers(1, 40))
def test_permuting_rows_permutes_their_answers_bit_for_bit(
    scorer: Scorer, rows: NDArray[np.float64], alone: Outputs, order: list[int], count: int
) -> None:
    chosen = order[:count]
    assert bits(scorer.blocks.run(rows[chosen])) == bits(Outputs(*(array[chosen] for array in alone)))


def test_the_answers_are_those_of_onnx_runtime(scorer: Scorer, bundle: Path, rows: NDArray[np.float64]) -> None:
    session = ort.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    expected = session.run(["log_odds", "probability", "contributions"], {"features": rows.astype(np.float32)})
    for found, reference in zip(scorer.blocks.run(rows), expected, strict=True):
        np.testing.assert_allclose(found, reference, rtol=1e-5, atol=1e-6)


def test_contributions_sum_to_the_log_odds_less_the_baseline(
    scorer: Scorer, contract: Contract, rows: NDArray[np.float64]
) -> None:
    outputs = scorer.blocks.run(rows)
    summed = outputs.contributions.astype(np.float64).sum(axis=1) + contract.baseline_log_odds
    np.testing.assert_allclose(summed, outputs.log_odds, atol=1e-5)


def test_no_rows_give_no_answers(scorer: Scorer) -> None:
    outputs = scorer.blocks.run(np.empty((0, scorer.width)))
    assert [array.shape for array in outputs] == [(0,), (0,), (0, scorer.width)]


def save(path: Path, nodes: list[Any], width: int, constants: list[Any] | None = None) -> Path:
    def value(name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    made = helper.make_graph(
        nodes,
        "made",
        [value("features", ["batch", width])],
        [value("log_odds", ["batch"]), value("probability", ["batch"]), value("contributions", ["batch", width])],
        constants or [],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return path


def additive(sum_nodes: list[Any]) -> list[Any]:
    return [
        helper.make_node("Tanh", ["features"], ["contributions"]),
        *sum_nodes,
        helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
    ]


@pytest.mark.parametrize("width", [1, 3, 5, 16, 23, 37])
def test_a_sum_whose_bits_depend_on_a_rows_place_is_served_with_one_set_of_bits(tmp_path: Path, width: int) -> None:
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    total = helper.make_node("ReduceSum", ["contributions", "axes"], ["log_odds"], keepdims=0)
    blocks = Blocks(save(tmp_path / "model.onnx", additive([total]), width, [axes]), width)
    rows = np.random.default_rng(1).normal(size=(100, width)) * 3
    alone = [blocks.run(rows[i : i + 1]).log_odds[0] for i in range(100)]
    assert blocks.run(rows).log_odds.tolist() == alone
    assert blocks.run(rows[::-1]).log_odds.tolist() == alone[::-1]


def test_a_graph_that_looks_at_its_whole_batch_is_scored_row_by_row(tmp_path: Path) -> None:
    # Scaled by the largest value of the batch, as dynamic quantisation does.
    nodes = [
        helper.make_node("IsNaN", ["features"], ["gap"]),
        helper.make_node("Where", ["gap", "zero", "features"], ["filled"]),
        helper.make_node("Abs", ["filled"], ["size"]),
        helper.make_node("ReduceMax", ["size"], ["largest"], keepdims=0),
        helper.make_node("Add", ["largest", "one"], ["scale"]),
        helper.make_node("Div", ["filled", "scale"], ["contributions"]),
        helper.make_node("ReduceSum", ["contributions", "axes"], ["log_odds"], keepdims=0),
        helper.make_node("Sigmoid", ["log_odds"], ["probability"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
        numpy_helper.from_array(np.array(0.0, np.float32), "zero"),
        numpy_helper.from_array(np.array(1.0, np.float32), "one"),
    ]
    blocks = Blocks(save(tmp_path / "model.onnx", nodes, 4, constants), 4)
    rows = np.random.default_rng(1).normal(size=(20, 4))
    assert blocks.sizes == (1,)
    assert blocks.run(rows).log_odds.tolist() == [blocks.run(rows[i : i + 1]).log_odds[0] for i in range(20)]


def test_a_graph_without_contributions_is_refused(tmp_path: Path, scorer: Scorer) -> None:
    node = helper.make_node("Sigmoid", ["features"], ["probability"])
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in ("features", "probability")]
    made = helper.make_graph([node], "made", values[:1], values[1:])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(Refusal, match="does not give contributions, log_odds"):
        Blocks(tmp_path / "m.onnx", 2)
    with pytest.raises(Refusal, match="not float32 'features' with 3 columns"):
        Blocks(tmp_path / "m.onnx", 3)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(Refusal, match=r"ONNX Runtime cannot load m\.onnx"):
        Blocks(tmp_path / "m.onnx", 3)
