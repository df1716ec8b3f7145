"""A small scoring model in three forms: weights, a PyTorch module, an ONNX graph; and the contract of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from creditmodel_bundle.bins import freeze_categories, freeze_numbers
from creditmodel_bundle.contract import Bins, Category, Contract, Cutoff, Feature, Reason

HOME = ["rent", "own", "other"]
HIDDEN = 8


@dataclass(frozen=True)
class Weights:
    """What the toy model has learned: fill, low, high, direct of shape [F]; inner [F, H]; outer [H, F]."""

    fill: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    direct: NDArray[np.float32]
    inner: NDArray[np.float32]
    outer: NDArray[np.float32]

    def damaged(self, by: float) -> Weights:
        """The same with one weight off."""
        direct = self.direct.copy()
        direct[0] += np.float32(by)
        return replace(self, direct=direct)


class Network(torch.nn.Module):
    """The toy model in PyTorch: log-odds, probability and contributions, as every model of a bundle returns them."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        for name, values in vars(weights).items():
            self.register_buffer(name, torch.from_numpy(values))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        b = dict(self.named_buffers())
        filled = torch.where(torch.isnan(features), b["fill"], features)
        scaled = (torch.clamp(filled, b["low"], b["high"]) - b["low"]) / (b["high"] - b["low"])
        contributions = scaled * b["direct"] + torch.tanh(scaled @ b["inner"]) @ b["outer"]
        log_odds = contributions.sum(1)
        return log_odds, torch.sigmoid(log_odds), contributions


def graph(weights: Weights, names: tuple[str, str, str] = ("log_odds", "probability", "contributions")) -> bytes:
    """The toy model as an ONNX graph."""
    width = len(weights.fill)
    constants = {**vars(weights), "span": weights.high - weights.low}
    steps = [
        ("IsNaN", ["features"], ["absent"]),
        ("Where", ["absent", "fill", "features"], ["filled"]),
        ("Max", ["filled", "low"], ["raised"]),
        ("Min", ["raised", "high"], ["clamped"]),
        ("Sub", ["clamped", "low"], ["shifted"]),
        ("Div", ["shifted", "span"], ["scaled"]),
        ("MatMul", ["scaled", "inner"], ["hidden"]),
        ("Tanh", ["hidden"], ["bent"]),
        ("MatMul", ["bent", "outer"], ["indirect"]),
        ("Mul", ["scaled", "direct"], ["straight"]),
        ("Add", ["straight", "indirect"], [names[2]]),
        ("ReduceSum", [names[2], "axes"], [names[0]]),
        ("Sigmoid", [names[0]], [names[1]]),
    ]
    nodes = [helper.make_node(op, i, o) for op, i, o in steps]
    nodes[-2].attribute.append(helper.make_attribute("keepdims", 0))
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "toy",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", width])],
            [
                helper.make_tensor_value_info(names[0], TensorProto.FLOAT, ["batch"]),
                helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["batch"]),
                helper.make_tensor_value_info(names[2], TensorProto.FLOAT, ["batch", width]),
            ],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
            + [numpy_helper.from_array(np.array([1]), "axes")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def weights() -> Weights:
    rng = np.random.default_rng(7)
    f = np.float32
    return Weights(
        fill=np.array([40, 3, 0, 0.3], f),
        low=np.array([18, -2, 0, 0], f),
        high=np.array([90, 8, 2, 1], f),
        direct=np.array([-3.0, 2.5, 0.6, 1.5], f),
        inner=rng.normal(0, 1, (4, HIDDEN)).astype(f),
        outer=rng.normal(0, 0.3, (HIDDEN, 4)).astype(f),
    )


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """Six hundred applicants."""
    rng = np.random.default_rng(3)
    n = 600
    return pa.table(
        {
            "age": rng.uniform(18, 90, n).round(1),
            "delay": [None if rng.random() < 0.1 else int(v) for v in rng.integers(-2, 9, n)],
            "home": rng.choice(HOME, n).tolist(),
            "used": rng.beta(2, 4, n),
            "_label": rng.integers(0, 2, n).astype(np.int8),
        }
    )


@pytest.fixture(scope="session")
def contract(table: pa.Table) -> Contract:
    def reason(code: str) -> Reason:
        return Reason(code=code, text=code)

    columns = {name: table.column(name).to_pylist() for name in ("age", "delay", "home", "used")}
    return Contract(
        name="toy",
        version="1",
        features=[
            Feature(name="age", dtype="number", minimum=18, maximum=90, reason=reason("A"), example=40.5),
            Feature(name="delay", dtype="integer", minimum=-2, maximum=8, missing="allowed", reason=reason("D")),
            Feature(
                name="home",
                dtype="category",
                categories=[Category(value=value, code=code) for code, value in enumerate(HOME)],
                reason=reason("H"),
                example="own",
            ),
            Feature(name="used", dtype="number", minimum=0, reason=reason("U"), example=0.5),
        ],
        baseline_log_odds=0.0,
        cutoffs=[
            Cutoff(decision="approve", min_probability=0.0),
            Cutoff(decision="refer", min_probability=0.4),
            Cutoff(decision="decline", min_probability=0.7),
        ],
        bins=Bins(
            rows=table.num_rows,
            features={
                "age": freeze_numbers(columns["age"], 18, 90),
                "delay": freeze_numbers(columns["delay"], -2, 8),
                "home": freeze_categories(columns["home"], HOME),
                "used": freeze_numbers(columns["used"], 0),
            },
            score=freeze_numbers([0.0, 1.0]),
        ),
    )


@pytest.fixture
def graph_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the toy model as a graph; returns its path."""

    def write(weights: Weights, name: str = "model.onnx", **options: tuple[str, str, str]) -> Path:
        path = tmp_path / name
        path.write_bytes(graph(weights, **options))
        return path

    return write


@pytest.fixture
def contract_file(tmp_path: Path, contract: Contract) -> Path:
    path = tmp_path / "contract.json"
    path.write_text(contract.model_dump_json())
    return path


@pytest.fixture
def reference_file(tmp_path: Path, table: pa.Table) -> Path:
    path = tmp_path / "reference.parquet"
    pq.write_table(table, path)
    return path


@pytest.fixture
def network() -> Callable[[Weights], torch.nn.Module]:
    """The toy model in PyTorch."""
    return Network
