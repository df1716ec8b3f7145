"""Loading model files: what is taken, and what is refused with a reason."""

from __future__ import annotations

import itertools
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from creditmodel_training.model import ScoringNetwork, save
from creditmodel_training.model.network import ScoringTensors, Sizes
from creditmodel_training.runners import ModelRefused, ModelUnreadable, OnnxRunner, load_runner, run_in_batches


def identity(shape: list[str | int], kind: int = TensorProto.FLOAT, inputs: int = 1) -> bytes:
    """A graph that gives its first input back."""
    names = [f"input{i}" for i in range(inputs)]
    graph = helper.make_graph(
        [helper.make_node("Identity", [names[0]], ["probability"])],
        "identity",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info("probability", kind, shape)],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def test_a_graph_says_how_many_features_it_takes_and_what_it_answers(
    weights: Any, graph_file: Callable[..., Path]
) -> None:
    runner = load_runner(graph_file(weights))
    assert (runner.name, runner.features) == ("onnx", 4)
    assert runner.outputs == ("log_odds", "probability", "contributions")


def test_a_network_is_known_by_its_bytes_and_not_by_its_files_name(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    save(ScoringNetwork(ScoringTensors.zeros(Sizes(features=3, ramps=2, left=1, right=1))), path)
    runner = load_runner(path)
    assert (runner.name, runner.features) == ("pytorch", 3)
    answer = runner.run(np.zeros((2, 3), np.float32))
    assert {name: value.shape for name, value in answer.items()} == {
        "log_odds": (2,), "probability": (2,), "contributions": (2, 3),
    }  # fmt: skip


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("form", ["torch.save", "bare pickle"])
def test_nothing_in_a_model_file_is_ever_unpickled(tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "sprung", tmp_path / "model.pt"
    if form == "torch.save":
        torch.save({"config": Trap(mark), "state_dict": {}}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(ModelUnreadable):
        load_runner(path)
    assert not mark.exists()


def test_a_torch_export_program_is_refused_because_loading_it_unpickles(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/archive_format", "pt2")
    with pytest.raises(ModelUnreadable, match=r"torch\.export program.*unpickles.*write model\.pt with"):
        load_runner(path)


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("scripted/code/__torch__.py", "")
    with pytest.raises(ModelUnreadable, match="TorchScript"):
        load_runner(path)


def test_a_state_of_another_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"config": {"architecture": "resnet"}, "state_dict": {}}, path)
    with pytest.raises(ModelUnreadable, match="no installed package registers the architecture 'resnet'"):
        load_runner(path)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x0a" * 400], ids=["empty", "text", "half protobuf"])
def test_a_file_that_is_no_graph_is_named(put: Callable[[str, bytes], Path], content: bytes) -> None:
    with pytest.raises(ModelUnreadable, match=r"model\.onnx is no ONNX graph"):
        load_runner(put("model.onnx", content))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_graph_is_refused(
    weights: Any, graph_file: Callable[..., Path], put: Callable[[str, bytes], Path], keep: float
) -> None:
    whole = graph_file(weights).read_bytes()
    with pytest.raises(ModelUnreadable):
        load_runner(put("cut.onnx", whole[: int(len(whole) * keep)]))


@pytest.mark.parametrize("path", ["absent.onnx", "."])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(ModelUnreadable, match="is no file"):
        load_runner(tmp_path / path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (identity(["batch", 3], inputs=2), "needs one input.*input0.*input1"),
        (identity(["batch", 3], TensorProto.DOUBLE), "needs one input, float32"),
        (identity(["batch", 3], TensorProto.STRING), "needs one input, float32"),
        (identity(["batch"]), r"shape \[batch, features\]"),
        (identity(["batch", 3, 2]), r"shape \[batch, features\]"),
        (identity([1, 3]), "takes batches of 1 only; export it with a dynamic batch"),
    ],
)
def test_a_graph_with_another_signature_is_refused_with_what_it_has(
    put: Callable[[str, bytes], Path], content: bytes, message: str
) -> None:
    with pytest.raises(ModelUnreadable, match=message):
        load_runner(put("model.onnx", content))


def test_a_graph_of_a_newer_opset_is_refused_in_words(put: Callable[[str, bytes], Path]) -> None:
    graph = onnx.load_from_string(identity(["batch", 3]))
    graph.opset_import[0].version = 99
    with pytest.raises(ModelUnreadable, match=r"failed:ONNX Runtime only .* Opset 99 is under development"):
        load_runner(put("model.onnx", graph.SerializeToString()))


def test_a_graph_may_leave_its_width_open(put: Callable[[str, bytes], Path]) -> None:
    runner = load_runner(put("model.onnx", identity(["batch", "features"])))
    assert runner.features is None


def test_rows_of_the_wrong_width_are_refused_by_either_kind(
    weights: Any, graph_file: Callable[..., Path], tmp_path: Path
) -> None:
    save(ScoringNetwork(ScoringTensors.zeros(Sizes(features=3, ramps=2, left=0, right=0))), tmp_path / "model.pt")
    for runner in (load_runner(graph_file(weights)), load_runner(tmp_path / "model.pt")):
        with pytest.raises(ModelRefused, match="2 rows of 9 features"):
            runner.run(np.zeros((2, 9), np.float32))


def test_batches_of_any_size_give_every_row_in_order(put: Callable[[str, bytes], Path]) -> None:
    rows = np.arange(300, dtype=np.float32).reshape(100, 3)
    runner = OnnxRunner(put("model.onnx", identity(["batch", 3])))
    for sizes in (itertools.repeat(1), itertools.cycle([7, 1, 33]), itertools.repeat(1000)):
        np.testing.assert_array_equal(run_in_batches(runner, rows, sizes)["probability"], rows)


def test_the_session_uses_as_many_threads_as_it_is_told(weights: Any, graph_file: Callable[..., Path]) -> None:
    runner = OnnxRunner(graph_file(weights), threads=1)
    options = runner._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert runner._session.get_providers() == ["CPUExecutionProvider"]
