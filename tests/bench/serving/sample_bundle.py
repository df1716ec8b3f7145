"""A small bundle with every kind of feature, for tests and for the bench: `python sample_bundle.py DIRECTORY`.

The graph is an additive network with random weights of a fixed seed. It has the interface of a real bundle: missing
values are imputed inside, categories come as codes, contributions sum to the log-odds less the baseline.
"""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from creditmodel_bundle.bins import freeze_categories, freeze_numbers
from creditmodel_bundle.contract import Bins, Category, Contract, Cutoff, Feature, Reason, ScoreScale
from creditmodel_bundle.documents import Evaluation, Golden, GoldenRow, Holdout
from creditmodel_bundle.encoder import Encoder
from creditmodel_bundle.manifest import CONTRACT, EVALUATION, GOLDEN, ONNX, PYTORCH, REFERENCE, seal
from creditmodel_bundle.reasons import top_reasons

BASELINE = -1.25
HIDDEN = 16
AMOUNTS = 16

Row = dict[str, str | int | float | None]


def features() -> list[Feature]:
    """Numbers with and without bounds and gaps, integers, and categories of every kind."""
    made = [
        Feature(
            name="limit", dtype="number", unit="NT$", description="Credit limit", minimum=0, maximum=1_000_000,
            monotonic="decreasing", reason=Reason(code="R01", text="The limit is low"), example=50_000,
        ),
        Feature(
            name="age", dtype="integer", minimum=18, maximum=120, reason=Reason(code="R02", text="Age"), example=41,
        ),
        Feature(
            name="income", dtype="number", minimum=0, missing="allowed",
            reason=Reason(code="R03", text="Income is low"), example=2_500.5,
        ),
        Feature(name="balance.total", dtype="number", reason=Reason(code="R04", text="Balance"), example=-12.25),
        Feature(
            name="sex", dtype="category", categories=[Category(value=1, code=1), Category(value=2, code=2)],
            reason=Reason(code="R05", text="Not used for decisions"), example=2,
        ),
        Feature(
            name="grade", dtype="category", categories=[Category(value=v, code=c) for c, v in enumerate((3, 1, 2))],
            reason=Reason(code="R06", text="Grade"), example=1,
        ),
        Feature(
            name="home", dtype="category", missing="allowed",
            categories=[
                Category(value="own", code=0, label="Owner"),
                Category(value="rent", code=7),
                Category(value="é", code=3),
            ],
            reason=Reason(code="R07", text='Housing, "declared"'), example="rent",
        ),
    ]  # fmt: skip
    made += [
        Feature(name=f"bill_{i}", dtype="integer", minimum=-10_000, maximum=10_000_000, example=1_000 + i,
                reason=Reason(code=f"B{i:02d}", text=f"Bill of month {i}"))
        for i in range(1, AMOUNTS + 1)
    ]  # fmt: skip
    return made


def applicants(count: int, seed: int = 1) -> list[Row]:
    """Applicants that the contract accepts, gaps included."""
    random = np.random.default_rng(seed)
    return [_applicant(random) for _ in range(count)]


def _applicant(random: np.random.Generator) -> Row:
    row: Row = {
        "limit": float(round(random.uniform(0, 1_000_000), 2)),
        "age": int(random.integers(18, 121)),
        "income": None if random.random() < 0.2 else float(random.uniform(0, 9_000)),
        "balance.total": float(random.normal() * 1_000),
        "sex": int(random.integers(1, 3)),
        "grade": int(random.integers(1, 4)),
        "home": [None, "own", "rent", "é"][int(random.integers(0, 4))],
    }
    return row | {f"bill_{i}": int(random.integers(-10_000, 1_000_000)) for i in range(1, AMOUNTS + 1)}


def contract() -> Contract:
    """The bundle's contract, bins frozen over a reference sample."""
    reference = applicants(200)
    tables: dict[str, Any] = {}
    for feature in features():
        column: list[Any] = [row[feature.name] for row in reference]
        if feature.dtype == "category":
            tables[feature.name] = freeze_categories(column, [c.value for c in feature.categories])
        else:
            tables[feature.name] = freeze_numbers(column, feature.minimum, feature.maximum)
    return Contract(
        name="sample",
        version="1.0",
        features=features(),
        baseline_log_odds=BASELINE,
        cutoffs=[
            Cutoff(decision="approve", min_probability=0.0),
            Cutoff(decision="refer", min_probability=0.2),
            Cutoff(decision="decline", min_probability=0.35),
        ],
        scale=ScoreScale(points=600, odds=50, pdo=20),
        bins=Bins(rows=len(reference), features=tables, score=freeze_numbers([-2.0, -1.0, 0.0, 1.0])),
    )


def graph(scales: list[float]) -> onnx.ModelProto:
    """An additive network: each feature has a small network of its own, whose output is its contribution."""
    width = len(scales)
    random = np.random.default_rng(5)

    def constant(name: str, values: Any, kind: Any = np.float32) -> Any:
        return numpy_helper.from_array(np.asarray(values, kind), name)

    def node(operation: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(operation, inputs.split(), [output], **attributes)

    constants = [
        constant("median", random.normal(size=width)),
        constant("scale", scales),
        constant("w1", random.normal(size=(width, 1, HIDDEN))),
        constant("b1", random.normal(size=(width, 1, HIDDEN))),
        constant("w2", random.normal(size=(width, HIDDEN, 1)) * 0.12),
        constant("baseline", BASELINE),
        constant("rows", [1], np.int64),
        constant("last", [2], np.int64),
        constant("pads", [0, 0, 0, -width % 16], np.int64),
    ]
    nodes = [
        node("IsNaN", "features", "gap"),
        node("Div", "features scale", "scaled"),
        node("Clip", "scaled low high", "clipped"),
        node("Where", "gap median clipped", "filled"),
        node("Transpose", "filled", "by_feature", perm=[1, 0]),
        node("Unsqueeze", "by_feature last", "column"),
        node("MatMul", "column w1", "first"),
        node("Add", "first b1", "shifted"),
        node("Tanh", "shifted", "hidden"),
        node("MatMul", "hidden w2", "second"),
        node("Squeeze", "second last", "effects"),
        node("Transpose", "effects", "contributions", perm=[1, 0]),
        node("Pad", "contributions pads", "aligned"),
        node("ReduceSum", "aligned rows", "raised", keepdims=0),
        node("Add", "raised baseline", "log_odds"),
        node("Sigmoid", "log_odds", "probability"),
    ]
    constants += [constant("low", -5.0), constant("high", 5.0)]
    vector: list[str | int | None] = ["batch"]
    outputs: dict[str, list[str | int | None]] = {
        "log_odds": vector,
        "probability": vector,
        "contributions": ["batch", width],
    }
    made = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


def _scale(feature: Feature) -> float:
    return 1.0 if feature.dtype == "category" else max(abs(feature.maximum or 5_000) / 4, 1.0)


def _golden(model: Path, made: Contract) -> Golden:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    rows = applicants(20, seed=3)
    encoded: NDArray[np.float32] = np.array([Encoder(made).encode(row) for row in rows], np.float32)
    log_odds, probability, contributions = session.run(
        ["log_odds", "probability", "contributions"], {"features": encoded}
    )
    return Golden(
        rows=[
            GoldenRow(
                features=row,
                probability=float(p),
                log_odds=float(z),
                points=made.scale.to_points(float(z)),
                decision=made.cutoff(float(p)).decision,
                reasons=[made.features[i].reason.code for i in top_reasons(c.tolist())],
            )
            for row, z, p, c in zip(rows, log_odds, probability, contributions, strict=True)
        ]
    )


def write(directory: Path) -> str:
    """Write the bundle and return its digest."""
    directory.mkdir(parents=True, exist_ok=True)
    made = contract()
    onnx.save(graph([_scale(feature) for feature in made.features]), str(directory / ONNX))
    (directory / CONTRACT).write_text(made.model_dump_json(indent=1))
    (directory / GOLDEN).write_text(_golden(directory / ONNX, made).model_dump_json(indent=1))
    holdout = Holdout(rows=100, bad_rate=0.2, sha256="0" * 64)
    evaluation = Evaluation(holdout=holdout, auc=0.7, ks=0.3, gini=0.4, brier=0.15, calibration=[])
    (directory / EVALUATION).write_text(evaluation.model_dump_json())
    (directory / PYTORCH).write_bytes(b"not needed by the server")
    pq.write_table(pa.Table.from_pylist(applicants(50)), directory / REFERENCE)
    assert math.isclose(made.baseline_log_odds, BASELINE)
    return seal(directory, "sample", "1.0", datetime(2026, 11, 23, tzinfo=UTC))


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
