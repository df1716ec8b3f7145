from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from creditmodel_bundle.storage import Bundle
from creditmodel_training.export import OPSET, export
from creditmodel_training.fit.additive import AdditiveNetwork
from creditmodel_training.fit.basis import build_basis
from creditmodel_training.fit.fitting import Fitted
from creditmodel_training.model import ScoringNetwork
from creditmodel_training.model.network import ScoringTensors, Sizes
from creditmodel_training.prepare import Prepared

NAMES = ["log_odds", "probability", "contributions"]


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def served(bundle: Bundle) -> onnxruntime.InferenceSession:
    return session(bundle.path("model.onnx"))


def run(served: onnxruntime.InferenceSession, x: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    return list(served.run(NAMES, {"features": x}))


def edge_rows(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Real rows with one value each replaced by something hard."""
    hard = [np.nan, np.inf, -np.inf, 3e38, -3e38, -1.0, 0.5, 1e-40]
    made = np.repeat(x[: len(hard)], x.shape[1], axis=0)
    for row in range(len(made)):
        made[row, row % x.shape[1]] = hard[row // x.shape[1]]
    return np.concatenate([made, np.full((1, x.shape[1]), np.nan, np.float32)])


def test_the_graph_has_the_inputs_and_outputs_of_the_interface(
    served: onnxruntime.InferenceSession, clients: Prepared
) -> None:
    count = len(clients.features)
    assert [(i.name, i.shape, i.type) for i in served.get_inputs()] == [("features", ["batch", count], "tensor(float)")]
    assert [(o.name, o.shape, o.type) for o in served.get_outputs()] == [
        ("log_odds", ["batch"], "tensor(float)"),
        ("probability", ["batch"], "tensor(float)"),
        ("contributions", ["batch", count], "tensor(float)"),
    ]


@pytest.mark.parametrize("batch", [1, 2, 31, 1000])
def test_onnx_runtime_answers_as_pytorch_does_within_a_millionth(
    batch: int, served: onnxruntime.InferenceSession, fitted: Fitted, clients: Prepared
) -> None:
    for x in (clients.x[:batch], edge_rows(clients.x)[:batch]):
        with torch.inference_mode():
            expected = fitted.network(torch.from_numpy(x))
        for theirs, ours in zip(run(served, x), expected, strict=True):
            assert theirs == pytest.approx(ours.numpy(), abs=2e-6, rel=1e-5)


def random_network(features: int) -> ScoringNetwork:
    """A network of one ramp a feature and no interactions, with weights that make every sum round."""
    torch.manual_seed(features)
    tensors = ScoringTensors.zeros(Sizes(features, features, 0, 0))
    made = replace(
        tensors,
        floor=torch.full((features,), -3.0),
        ceiling=torch.full((features,), 3.0),
        select=torch.eye(features),
        start=torch.full((features,), -3.0),
        scale=torch.full((features,), 1 / 6),
        weights=torch.randn(features, features),
    )
    return ScoringNetwork(made)


@pytest.mark.parametrize(
    "features", [5, 23, *(pytest.param(width, marks=pytest.mark.full) for width in (1, 2, 3, 7, 8, 13, 16, 17, 37, 50))]
)
def test_a_row_has_the_same_bits_at_every_place_of_a_batch(features: int, tmp_path: Path) -> None:
    export(random_network(features), tmp_path / "model.onnx", {})
    made = session(tmp_path / "model.onnx")
    for row in np.random.default_rng(3).normal(size=(40, features)).astype(np.float32):
        found = {bits for shape in (8, 32, 256) for bits in run(made, np.tile(row, (shape, 1)))[0].tolist()}
        assert len(found) == 1


def test_large_contributions_that_cancel_leave_the_same_log_odds_in_both_runtimes(tmp_path: Path) -> None:
    weights = torch.diag(torch.linspace(-20, 20, 23))
    network = ScoringNetwork(replace(random_network(23).tensors, weights=weights))
    export(network, tmp_path / "model.onnx", {})
    x = np.random.default_rng(0).normal(size=(4000, 23)).astype(np.float32)
    expected, _, contributions = (tensor.numpy() for tensor in network(torch.from_numpy(x)))
    np.testing.assert_allclose(run(session(tmp_path / "model.onnx"), x)[0], expected, rtol=1e-6, atol=0)
    assert np.abs(contributions).sum(axis=1).min() > 1000 * np.abs(expected).min()


@pytest.mark.parametrize("batch", [1, 3, 8, 32, 100])
def test_a_rows_score_is_the_same_to_the_last_bit_whatever_it_is_batched_with(
    batch: int, served: onnxruntime.InferenceSession, clients: Prepared
) -> None:
    x = clients.x[:400]
    together = run(served, x)
    for start in range(0, len(x), batch):
        apart = run(served, x[start : start + batch])
        assert all((a == t[start : start + batch]).all() for a, t in zip(apart, together, strict=True))


def test_the_graph_is_valid_pinned_and_carries_its_identity(bundle: Bundle) -> None:
    model = onnx.load(bundle.path("model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    contract = next(entry for entry in bundle.manifest.files if entry.path == "contract.json")
    assert properties == {"name": "clients", "version": "1.0.0", "contract_sha256": contract.sha256}


def test_all_weights_are_inside_and_nothing_of_this_machine_is(bundle: Bundle) -> None:
    raw = bundle.path("model.onnx").read_bytes()
    assert not any(tensor.external_data for tensor in onnx.load_from_string(raw).graph.initializer)
    for trace in (os.fsencode(Path.home()), b"site-packages", b"creditmodel_training", b".py"):
        assert trace not in raw


def test_the_same_network_is_exported_as_the_same_bytes(fitted: Fitted, tmp_path: Path) -> None:
    for name in ("first.onnx", "second.onnx"):
        export(fitted.network, tmp_path / name, {"name": "a", "version": "1"})
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


def test_a_network_of_one_feature_without_interactions_exports_and_serves(clients: Prepared, tmp_path: Path) -> None:
    limit = clients.x[:, :1]
    network = AdditiveNetwork(build_basis(clients.features[:1], limit), [], -1.0)
    scoring = ScoringNetwork(network.tensors()).eval()
    export(scoring, tmp_path / "model.onnx", {})
    expected = [tensor.detach().numpy() for tensor in scoring(torch.from_numpy(limit[:5]))]
    for theirs, ours in zip(run(session(tmp_path / "model.onnx"), limit[:5]), expected, strict=True):
        assert theirs == pytest.approx(ours, abs=1e-6)
