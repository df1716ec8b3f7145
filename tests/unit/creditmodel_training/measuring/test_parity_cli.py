"""creditmodel-parity and creditmodel-benchmark as a user, a pipeline and a Job run them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.manifest import seal
from creditmodel_bundle.measurement import Benchmark, Failure, Parity, parse
from creditmodel_training.cli import benchmark, parity
from creditmodel_training.model import ScoringNetwork, save
from creditmodel_training.model.network import ScoringTensors, Sizes

QUICK = ["--batch-sizes", "1,4", "--rounds", "5", "--budget", "0.2"]


@pytest.fixture
def exported(tmp_path: Path) -> Callable[[float], tuple[Path, Path]]:
    """A real network of four features and its export; the export's weights may be off."""

    def export(damage: float = 0.0) -> tuple[Path, Path]:
        torch.manual_seed(1)
        network = ScoringNetwork(ScoringTensors.zeros(Sizes(features=4, ramps=6, left=0, right=0)))
        tensors = network.tensors
        with torch.no_grad():
            tensors.ceiling.copy_(torch.tensor([90.0, 8.0, 2.0, 1.0]))
            tensors.floor.copy_(torch.tensor([18.0, -2.0, 0.0, 0.0]))
            for ramp in range(6):
                tensors.select[ramp % 4, ramp] = 1.0
            tensors.scale.copy_(torch.tensor([0.02, 0.1, 0.5, 1.0, 0.03, 0.2]))
            tensors.weights.copy_(torch.randn(6, 4))
        path = tmp_path / "model.pt"
        save(network, path)
        onnx = tmp_path / f"model-{damage}.onnx"
        onnx.write_bytes(graph_of(network, damage))
        return path, onnx

    return export


def graph_of(network: ScoringNetwork, damage: float) -> bytes:
    """The network's graph, written node by node: torch's exporter takes seconds."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    t = network.tensors
    weights = t.weights.numpy().copy()
    weights[0, 0] += damage
    constants: dict[str, Any] = {
        **{name: getattr(t, name).numpy() for name in ("neutral", "floor", "ceiling", "select", "start", "scale")},
        **{name: getattr(t, name).numpy() for name in ("offset", "absent", "baseline")},
        "weights": weights, "zero": np.float32(0), "one": np.float32(1), "axes": np.array([1]),
    }  # fmt: skip
    steps = [
        ("IsNaN", ["features"], ["missing"]), ("Where", ["missing", "neutral", "features"], ["filled"]),
        ("Max", ["filled", "floor"], ["raised"]), ("Min", ["raised", "ceiling"], ["inside"]),
        ("MatMul", ["inside", "select"], ["looked"]), ("Sub", ["looked", "start"], ["begun"]),
        ("Mul", ["begun", "scale"], ["slope"]), ("Clip", ["slope", "zero", "one"], ["ramps"]),
        ("MatMul", ["ramps", "weights"], ["shapes"]), ("Add", ["shapes", "offset"], ["placed"]),
        ("Cast", ["missing"], ["flags"]), ("Mul", ["flags", "absent"], ["penalty"]),
        ("Add", ["placed", "penalty"], ["contributions"]), ("ReduceSum", ["contributions", "axes"], ["sum"]),
        ("Add", ["sum", "baseline"], ["log_odds"]), ("Sigmoid", ["log_odds"], ["probability"]),
    ]  # fmt: skip
    attributes: dict[str, dict[str, int]] = {"Cast": {"to": TensorProto.FLOAT}, "ReduceSum": {"keepdims": 0}}
    nodes = []
    for operator, inputs, outputs in steps:
        node = helper.make_node(operator, inputs, outputs)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.get(operator, {}).items())
        nodes.append(node)
    made = helper.make_graph(
        nodes,
        "scoring",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 4])],
        [
            helper.make_tensor_value_info("log_odds", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["batch", 4]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    document = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(document.SerializeToString())


@pytest.fixture
def bundle(
    tmp_path: Path, exported: Callable[..., tuple[Path, Path]], contract: Contract, table: pa.Table
) -> Callable[..., tuple[str, str]]:
    """A sealed bundle; returns its URI and digest."""

    def make(damage: float = 0.0) -> tuple[str, str]:
        directory = tmp_path / f"bundle-{damage}"
        directory.mkdir()
        pytorch, onnx = exported(damage)
        (directory / "model.pt").write_bytes(pytorch.read_bytes())
        (directory / "model.onnx").write_bytes(onnx.read_bytes())
        (directory / "contract.json").write_text(contract.model_dump_json())
        pq.write_table(table, directory / "reference.parquet")
        for name in ("evaluation.json", "golden.json"):
            (directory / name).write_text("{}")
        return directory.as_uri(), seal(directory, "toy", "1", datetime(2026, 1, 1, tzinfo=UTC))

    return make


def test_a_faithful_bundle_is_measured_and_passes(
    bundle: Callable[..., tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, digest = bundle()
    written = tmp_path / "measurement.json"
    code = parity.main(["--bundle", uri, "--digest", digest, "--measurement", str(written), "--fail-on-breach"])
    assert code == 0, capsys.readouterr().out
    found = parse(written.read_bytes())
    assert isinstance(found, Parity)
    assert found.digest == digest
    assert found.tool.startswith("creditmodel-parity ")
    assert found.rows == 600
    assert found.edge_rows > 2000
    assert found.excess(1e-5, 1e-6) <= 0
    assert (found.decision_flips, found.not_finite) == (0, 0)
    assert "within the limits" in capsys.readouterr().out


def test_a_bundle_with_one_weight_off_by_a_ten_thousandth_is_a_breach_that_the_operator_can_judge_too(
    bundle: Callable[..., tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, _ = bundle(1e-4)
    written = tmp_path / "measurement.json"
    assert parity.main(["--bundle", uri, "--measurement", str(written), "--fail-on-breach"]) == 1
    found = parse(written.read_bytes())
    assert isinstance(found, Parity)
    assert found.excess(1e-5, 1e-6) > 0
    assert found.excess(1e-3, 1e-3) <= 0
    out = capsys.readouterr().out
    assert "breach:" in out
    assert "over the tolerance" in out
    assert "age=" in out


def test_measuring_alone_never_fails_on_a_breach(bundle: Callable[..., tuple[str, str]]) -> None:
    assert parity.main(["--bundle", bundle(0.5)[0]]) == 0


def test_wider_limits_let_the_same_damage_pass(bundle: Callable[..., tuple[str, str]]) -> None:
    limits = ["--rtol", "1e-3", "--atol", "1e-3", "--max-decision-flips", "1000"]
    assert parity.main(["--bundle", bundle(1e-4)[0], "--fail-on-breach", *limits]) == 0


def test_rows_limits_the_reference_rows(
    bundle: Callable[..., tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert parity.main(["--bundle", bundle()[0], "--rows", "25", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 25


def test_two_files_are_compared_without_a_contract(
    exported: Callable[..., tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    pytorch, onnx = exported(1e-3)
    assert parity.main(["--pytorch", str(pytorch), "--onnx", str(onnx), "--json", "--fail-on-breach"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 0
    assert found["edge_rows"] == 4096
    assert found["max_abs_diff"] == pytest.approx(1e-3, rel=0.05)
    assert found["breaches"]
    assert set(found["worst"][0]["values"]) == {f"feature {i}" for i in range(4)}
    assert {"envelope", "outside", "decision_flips", "batch_dependent", "limits"} <= set(found)


def test_a_contract_without_a_reference_gives_made_rows_only(
    exported: Callable[..., tuple[Path, Path]], contract_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytorch, onnx = exported()
    arguments = ["--pytorch", str(pytorch), "--onnx", str(onnx), "--contract", str(contract_file), "--json"]
    assert parity.main([*arguments, "--fail-on-breach"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 0


def test_a_model_may_be_compared_with_itself(
    exported: Callable[..., tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    pytorch, onnx = exported()
    for path, most in ((pytorch, 1e-6), (onnx, 0.0)):
        assert parity.main(["--pytorch", str(path), "--onnx", str(path), "--json", "--fail-on-breach"]) == 0
        assert json.loads(capsys.readouterr().out)["max_abs_diff"] <= most


@pytest.mark.parametrize("command", [parity.main, benchmark.main], ids=["parity", "benchmark"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--bundle URI, or --pytorch FILE and --onnx FILE"),
        (["--pytorch", "a"], "--bundle URI, or --pytorch FILE and --onnx FILE"),
        (["--bundle", "b", "--onnx", "a"], "leave out --pytorch, --onnx"),
        (["--pytorch", "a", "--onnx", "b", "--measurement", "m"], "--measurement and --digest need --bundle"),
        (["--bundle", "b", "--seed", "-1"], "'-1' is no integer from 0 on"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused_with_a_way_out(
    command: Callable[[list[str]], int], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        command(arguments)
    assert refused.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (parity.main, ["--rtol", "-1"], "'-1' is no tolerance"),
        (parity.main, ["--atol", "nan"], "'nan' is no tolerance"),
        (parity.main, ["--rows", "0"], "'0' is no integer from 1 on"),
        (benchmark.main, ["--batch-sizes", "1,x"], "'1,x': batch sizes are integers from 1 to 65536"),
        (benchmark.main, ["--batch-sizes", "0"], "batch sizes are integers from 1"),
        (benchmark.main, ["--batch-sizes", "1,2,3,4,5,6,7,8,9"], "at most 8 batch sizes"),
        (benchmark.main, ["--budget", "0"], "'0' is no number above 0"),
        (benchmark.main, ["--fail-on-breach"], "--fail-on-breach needs --min-speedup"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    command: Callable[[list[str]], int], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        command(["--bundle", "b", *arguments])
    assert refused.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def failing(
    command: Callable[[list[str]], int], kind: str, arguments: list[str], tmp_path: Path
) -> tuple[int, Failure]:
    written = tmp_path / "out" / "measurement.json"
    code = command([*arguments, "--measurement", str(written)])
    found = parse(written.read_bytes())
    assert isinstance(found, Failure)
    assert found.kind == kind
    assert [path.name for path in written.parent.iterdir()] == [written.name], "nothing is left beside it"
    return code, found


COMMANDS = pytest.mark.parametrize(("command", "kind"), [(parity.main, "parity"), (benchmark.main, "benchmark")])


@COMMANDS
def test_a_bundle_that_is_not_there_is_an_error_that_the_measurement_names(
    command: Callable[[list[str]], int], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, failure = failing(command, kind, ["--bundle", (tmp_path / "absent").as_uri()], tmp_path)
    assert (code, failure.error.reason) == (2, "Unreachable")
    err = capsys.readouterr().err
    assert "Unreachable" in err
    assert "Traceback" not in err


@COMMANDS
def test_a_corrupt_bundle_is_an_error_and_not_a_breach(
    command: Callable[[list[str]], int], kind: str, bundle: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    uri, digest = bundle()
    path = tmp_path / "bundle-0.0" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    code, failure = failing(command, kind, ["--bundle", uri, "--digest", digest], tmp_path)
    assert (code, failure.error.reason, failure.digest) == (2, "Corrupt", digest)


@COMMANDS
def test_another_digest_is_refused(
    command: Callable[[list[str]], int], kind: str, bundle: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    uri, _ = bundle()
    wanted = "sha256:" + "1" * 64
    code, failure = failing(command, kind, ["--bundle", uri, "--digest", wanted], tmp_path)
    assert (code, failure.error.reason, failure.digest) == (2, "DigestMismatch", wanted)


@COMMANDS
def test_a_malformed_digest_is_named_and_still_measured_as_a_failure(
    command: Callable[[list[str]], int], kind: str, bundle: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    code, failure = failing(command, kind, ["--bundle", bundle()[0], "--digest", "sha1:abc"], tmp_path)
    assert (code, failure.error.reason, failure.digest) == (2, "Invalid", None)
    assert "sha1:abc" in failure.error.message


def resealed(tmp_path: Path, name: str, content: bytes) -> str:
    directory = tmp_path / "bundle-0.0"
    (directory / name).write_bytes(content)
    return seal(directory, "toy", "1")


@COMMANDS
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.onnx", "ModelUnreadable"),
        ("model.pt", "ModelUnreadable"),
        ("contract.json", "Invalid"),
        ("reference.parquet", "ReferenceUnreadable"),
    ],
)
def test_a_sealed_bundle_with_a_nonsense_file_says_which(
    command: Callable[[list[str]], int],
    kind: str,
    name: str,
    reason: str,
    bundle: Callable[..., tuple[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri, _ = bundle()
    resealed(tmp_path, name, b"nonsense")
    code, failure = failing(command, kind, ["--bundle", uri], tmp_path)
    assert (code, failure.error.reason) == (2, reason)
    assert name in failure.error.message
    assert "Traceback" not in capsys.readouterr().err


def test_a_defect_of_ours_is_told_too_and_is_never_taken_for_a_breach(
    bundle: Callable[..., tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(parity, "measure", lambda *_: 1 / 0)
    code, failure = failing(parity.main, "parity", ["--bundle", bundle()[0], "--fail-on-breach"], tmp_path)
    assert (code, failure.error.reason) == (2, "InternalError")
    assert "ZeroDivisionError" in failure.error.message
    assert "Traceback" in capsys.readouterr().err


def test_a_measurement_that_cannot_be_written_is_an_error(
    bundle: Callable[..., tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    written = tmp_path / "file" / "measurement.json"
    assert parity.main(["--bundle", bundle()[0], "--measurement", str(written)]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["--pytorch", "absent.pt", "--onnx", "absent.onnx"], "absent.pt is no file"),
        (["--pytorch", "a", "--onnx", "b", "--reference", "r"], "--reference needs --contract"),
        (["--pytorch", "a", "--onnx", "b", "--contract", "absent.json"], "absent.json is no file"),
    ],
)
@pytest.mark.parametrize("command", [parity.main, benchmark.main], ids=["parity", "benchmark"])
def test_files_that_cannot_be_used_are_named(
    command: Callable[[list[str]], int], files: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(files) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_a_contract_of_another_width_is_refused(
    exported: Callable[..., tuple[Path, Path]], contract: Contract, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = contract.model_dump(mode="json")
    dropped = document["features"].pop()["name"]
    del document["bins"]["features"][dropped]
    path = tmp_path / "narrow.json"
    path.write_text(json.dumps(document))
    pytorch, onnx = exported()
    assert parity.main(["--pytorch", str(pytorch), "--onnx", str(onnx), "--contract", str(path)]) == 2
    assert "the contract takes 3 features" in capsys.readouterr().err


def test_a_bundle_is_benchmarked_and_its_measurement_written(
    bundle: Callable[..., tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, digest = bundle()
    written = tmp_path / "measurement.json"
    assert benchmark.main(["--bundle", uri, "--digest", digest, "--measurement", str(written), *QUICK]) == 0
    found = parse(written.read_bytes())
    assert isinstance(found, Benchmark)
    assert (found.digest, found.threads, [b.batch for b in found.batches]) == (digest, 1, [1, 4])
    assert all(b.speedup > 1 for b in found.batches), "a graph of sixteen nodes beats eager PyTorch"
    assert all(b.speedup_low <= b.speedup <= b.speedup_high for b in found.batches)
    out = capsys.readouterr().out
    assert "pytorch" in out
    assert "1 thread" in out


def test_a_speedup_below_the_limit_is_a_breach_only_when_it_is_asked_for(
    bundle: Callable[..., tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    uri, _ = bundle()
    assert benchmark.main(["--bundle", uri, *QUICK, "--min-speedup", "1e6"]) == 0
    assert benchmark.main(["--bundle", uri, *QUICK, "--min-speedup", "1e6", "--fail-on-breach"]) == 1
    assert "below 1e+06" in capsys.readouterr().out
    assert benchmark.main(["--bundle", uri, *QUICK, "--min-speedup", "0.01", "--fail-on-breach"]) == 0


def test_a_benchmark_as_json_says_what_was_compared_and_how_noisy_it_was(
    exported: Callable[..., tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, onnx = exported()
    assert benchmark.main(["--pytorch", str(onnx), "--onnx", str(onnx), "--json", "--self-check", *QUICK]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["compared"] == ["onnx", "onnx"]
    assert found["batches"][0]["self_check"]["width"] > 0
    assert found["batches"][0]["speedup"] == pytest.approx(1, abs=0.5)


def test_nothing_but_the_answer_goes_to_standard_output(
    bundle: Callable[..., tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["--bundle", bundle()[0], "--json", *QUICK]) == 0
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert captured.err == ""
    assert not sys.stderr.isatty()
