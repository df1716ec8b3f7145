"""The verdict of each gate on numbers, and the Job that measures them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from creditmodel_bundle.measurement import Benchmark, Parity
from creditmodel_operator.api import CreditModelSpec
from creditmodel_operator.gates import BENCHMARK, GATES, PARITY, Judgement, Subject, Verdict

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]
DIGEST = "sha256:" + "a" * 64


def subject(**gates: Any) -> Subject:
    spec = CreditModelSpec.model_validate({"model": {"uri": "s3://m/v1"}, "gates": gates})
    return Subject(spec, digest=DIGEST)


def timed(*batches: tuple[int, float, float], p99: float = 0.05) -> Benchmark:
    rows = [
        {
            "batch": batch,
            "pytorch_ms": {"median": 1, "p99": 1},
            "onnx_ms": {"median": p99 / 2, "p99": p99},
            "onnx_rows_per_s": 1,
            "speedup": (low + high) / 2,
            "speedup_low": low,
            "speedup_high": high,
        }
        for batch, low, high in batches
    ]
    return Benchmark.model_validate(
        {"tool": "t", "digest": DIGEST, "rounds": 1, "threads": 1, "cpu": "c", "batches": rows}
    )


def compared(**over: Any) -> Parity:
    base = {"rows": 10, "edge_rows": 5, "max_abs_diff": 1e-7, "max_rel_diff": 1e-6, "envelope": [(0.5, 1e-7)]}
    counts = {"decision_flips": 0, "reason_diffs": 0, "not_finite": 0}
    return Parity.model_validate({"tool": "t", "digest": DIGEST} | base | counts | over)


def test_the_gates_stand_in_the_order_in_which_they_are_passed() -> None:
    assert [gate.name for gate in GATES] == ["artifact", "parity", "benchmark", "quality", "approval"]


@pytest.mark.parametrize(
    ("batches", "limits", "verdict"),
    [
        pytest.param(
            [(1, 3.0, 3.5), (32, 2.0, 2.2)], {"minSpeedup": 2}, Verdict.PASSED, id="low end at the limit everywhere"
        ),
        pytest.param(
            [(1, 3.0, 3.5), (32, 1.5, 1.9)], {"minSpeedup": 2}, Verdict.FAILED, id="high end below it at one size"
        ),
        pytest.param(
            [(1, 3.0, 3.5), (32, 1.8, 2.2)], {"minSpeedup": 2}, Verdict.INCONCLUSIVE, id="interval contains it"
        ),
        pytest.param(
            [(1, 1.8, 2.2), (32, 1.5, 1.9)], {"minSpeedup": 2}, Verdict.FAILED, id="failed outweighs inconclusive"
        ),
        pytest.param(
            [(1, 3.0, 3.5), (32, 3.0, 3.5)], {"maxP99Milliseconds": 0.01}, Verdict.FAILED, id="p99 over its limit"
        ),
        pytest.param(
            [(1, 3.0, 3.5), (32, 3.0, 3.5)], {"maxP99Milliseconds": 0.1}, Verdict.PASSED, id="p99 within its limit"
        ),
        pytest.param([(1, 3.0, 3.5)], {}, Verdict.ERROR, id="a batch size was not measured"),
    ],
)
def test_the_benchmark_is(batches: list[tuple[int, float, float]], limits: JSON, verdict: Verdict) -> None:
    assert BENCHMARK.judge(subject(benchmark=limits), timed(*batches)).verdict is verdict


def test_a_failed_benchmark_names_the_batch_size_the_numbers_and_the_limit() -> None:
    found = BENCHMARK.judge(subject(benchmark={"minSpeedup": 2}), timed((1, 3, 3.5), (32, 1.5, 1.9)))
    assert found.message == "batch 32: speedup 1.70x [1.50, 1.90], limit 2x"
    assert found.summary == "1.7x"


@pytest.mark.parametrize(
    ("over", "limits", "verdict"),
    [
        pytest.param({}, {}, Verdict.PASSED, id="everything within"),
        pytest.param({"envelope": [(1.0, 1.1e-5)]}, {}, Verdict.PASSED, id="exactly at atol + rtol·|pytorch|"),
        pytest.param({"envelope": [(1.0, 1.2e-5)]}, {}, Verdict.FAILED, id="over atol + rtol·|pytorch|"),
        pytest.param({"envelope": [(0.0, 2e-6), (9.0, 2e-6)]}, {}, Verdict.FAILED, id="over atol where pytorch is 0"),
        pytest.param({"envelope": [(1.0, 1.2e-5)]}, {"rtol": 1e-4}, Verdict.PASSED, id="within a wider tolerance"),
        pytest.param({"decision_flips": 2}, {"maxDecisionFlips": 1}, Verdict.FAILED, id="too many decisions flip"),
        pytest.param({"decision_flips": 1}, {"maxDecisionFlips": 1}, Verdict.PASSED, id="as many flips as allowed"),
        pytest.param(
            {"not_finite": 1}, {"rtol": 1, "atol": 1}, Verdict.FAILED, id="not finite, whatever the tolerance"
        ),
        pytest.param({"reason_diffs": 5}, {}, Verdict.PASSED, id="reasons differ: reported, not judged"),
    ],
)
def test_parity_is(over: JSON, limits: JSON, verdict: Verdict) -> None:
    assert PARITY.judge(subject(parity=limits), compared(**over)).verdict is verdict


def test_numbers_stand_beside_their_limits() -> None:
    found: Judgement = PARITY.judge(subject(parity={"maxDecisionFlips": 4}), compared(decision_flips=3))
    flips = next(number for number in found.numbers if number.name == "decisionFlips")
    assert (flips.value, flips.limit) == (3, 4)


def test_a_gate_job_is_what_a_restricted_namespace_lets_in(world: World) -> None:
    world.spec("v1", model={"credentialsSecretRef": {"name": "store"}})
    world.reconcile()
    job = world.jobs()[0]
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] > 0
    assert (pod["automountServiceAccountToken"], pod["restartPolicy"]) == (False, "Never")
    assert pod["terminationGracePeriodSeconds"] < 5
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"]
    assert container["resources"]["limits"]["memory"]
    assert container["envFrom"] == [{"secretRef": {"name": "store"}}]
    assert container["command"][-2:] == ["--measurement", "/dev/termination-log"]
    assert {"name": "TMPDIR", "value": container["volumeMounts"][0]["mountPath"]} in container["env"]


def test_each_gate_runs_the_command_of_the_contract(world: World) -> None:
    world.spec("v1", gates={"parity": {"rows": 7}, "benchmark": {"batchSizes": [32, 1], "rounds": 9}})
    commands = {}
    for _ in range(3):
        world.reconcile()
        job = world.jobs(running=True)[0]
        labels = job["metadata"]["labels"]
        commands[labels["creditmodel.dev/gate"]] = job["spec"]["template"]["spec"]["containers"][0]["command"][:-2]
        world.run_jobs()
    digest = world.objects["CreditModel", "credit"]["spec"]["model"]["digest"]
    model = ["--bundle", "file:///models/v1", "--digest", digest]
    assert commands["artifact"] == ["creditmodel-bundle", "verify", "file:///models/v1", "--digest", digest]
    assert commands["parity"] == ["creditmodel-parity", *model, "--rows", "7"]
    assert commands["benchmark"] == ["creditmodel-benchmark", *model, "--batch-sizes", "1,32", "--rounds", "9"]
