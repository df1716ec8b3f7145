"""The network as an ONNX graph."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import torch

from creditmodel_training.errors import NetworkError
from creditmodel_training.model.own import INPUT, OUTPUTS, CreditNetwork

__all__ = ["OPSET", "export"]

OPSET = 20
IR_VERSION = 10
"""Written with every graph, so that the runtime of a serving image need not be newer than this."""


def export(network: CreditNetwork, path: Path, metadata: dict[str, str]) -> None:
    """Write model.onnx: one input `features` [batch, F], OUTPUTS, a dynamic dimension `batch`, all weights inside.

    `metadata` becomes metadata_props. The same network and metadata give the same bytes. Raises NetworkError.
    """
    model = _traced(network.eval())
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(metadata.items())))
    _without_traces(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _traced(network: CreditNetwork) -> onnx.ModelProto:
    rows = torch.zeros(2, network.features)  # two: PyTorch takes a dimension of 1 for a constant
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's exporter warns of its own deprecations
            program = torch.onnx.export(
                network,
                (rows,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes={"features": {0: torch.export.Dim("batch")}},
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as e:
        raise NetworkError(f"PyTorch cannot export the network to ONNX: {_cause(e)}") from e
    finally:
        exporter_log.setLevel(level)
    assert program is not None  # noqa: S101 - the exporter returns a program whenever dynamo is on
    model = program.model_proto
    model.ir_version = IR_VERSION
    return model


def _cause(error: BaseException) -> str:
    """The first line of what the exporter stumbled over, without its pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def _without_traces(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes about itself: file paths of this machine, stack traces, annotations."""
    graph = model.graph
    model.doc_string = graph.doc_string = ""
    del graph.metadata_props[:]
    for item in [*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]:
        item.doc_string = ""
        del item.metadata_props[:]
