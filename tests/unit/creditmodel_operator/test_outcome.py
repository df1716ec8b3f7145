"""Every way in which a Job can end, with its verdict: what is missing, malformed or of another model never passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from creditmodel_operator import names
from creditmodel_operator.evaluate import ATTEMPTS
from creditmodel_operator.plan import Look

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]
End = Callable[["World", JSON], None]


def says(**over: Any) -> End:
    return lambda world, job: world.end_job(job, {**world.good(job), **over})


def leaves(text: str | None, **ending: Any) -> End:
    return lambda world, job: world.end_job(job, text, **ending)


def fails_to_start(**state: Any) -> End:
    def start(world: World, job: JSON) -> None:
        world.pod_of(job, **state)
        world.wait(121)

    return start


def other_gate(world: World, job: JSON) -> None:
    from_artifact = world.good(world.jobs("artifact")[0])
    world.end_job(job, from_artifact)


REFUSED = json.dumps(
    {
        "schema_version": 1,
        "kind": "parity",
        "tool": "t",
        "error": {"reason": "Corrupt", "message": "model.onnx has other bytes"},
    }
)
UNREACHABLE = REFUSED.replace("Corrupt", "Unreachable")

CASES: dict[str, tuple[End, str, str]] = {
    "complete with a valid measurement": (says(), "Passed", "Passed"),
    "complete with numbers over the limit": (says(envelope=[[1.0, 0.5]]), "Failed", "LimitExceeded"),
    "complete with outputs that are not finite": (says(not_finite=1), "Failed", "LimitExceeded"),
    "complete without a measurement": (leaves(""), "Error", "NoMeasurement"),
    "complete and its pod is gone": (leaves(None), "Running", "Running"),
    "complete with half a document": (leaves('{"schema_version": 1, "kind": "pari'), "Error", "MalformedMeasurement"),
    "complete with something that is not JSON": (leaves("parity is fine"), "Error", "MalformedMeasurement"),
    "complete with an oversized document": (leaves("{" + " " * 5000 + "}"), "Error", "MalformedMeasurement"),
    "complete with another schema version": (says(schema_version=2), "Error", "MalformedMeasurement"),
    "complete with fields of a newer jobs image": (says(verdict="failed", more={"a": 1}), "Passed", "Passed"),
    "complete with fields of a newer jobs image over the limit": (
        says(verdict="passed", envelope=[[1.0, 0.5]]),
        "Failed",
        "LimitExceeded",
    ),
    "complete with a number that is not one": (says(max_abs_diff=None), "Error", "MalformedMeasurement"),
    "complete with NaN": (
        leaves('{"schema_version": 1, "kind": "parity", "rows": NaN}'),
        "Error",
        "MalformedMeasurement",
    ),
    "complete with another gate's measurement": (other_gate, "Error", "MalformedMeasurement"),
    "complete with the measurement of another model": (says(digest="sha256:" + "0" * 64), "Error", "WrongModel"),
    "says that the bundle is corrupt": (leaves(REFUSED, complete=False), "Failed", "Corrupt"),
    "says that the bundle is unreachable": (leaves(UNREACHABLE, complete=False), "Error", "Unreachable"),
    "exits with an error and says nothing": (leaves("", complete=False), "Error", "JobFailed"),
    "measures and then exits with an error": (
        lambda world, job: world.end_job(job, world.good(job), complete=False),
        "Error",
        "JobFailed",
    ),
    "runs out of memory": (
        leaves("", complete=False, terminated={"reason": "OOMKilled", "exitCode": 137}),
        "Error",
        "OOMKilled",
    ),
    "runs out of memory in the middle of writing": (
        leaves('{"sche', complete=False, terminated={"reason": "OOMKilled", "exitCode": 137}),
        "Error",
        "OOMKilled",
    ),
    "runs past its deadline": (leaves("", complete=False, job_reason="DeadlineExceeded"), "Error", "DeadlineExceeded"),
    "is evicted": (leaves("", complete=False, reason="Evicted"), "Error", "Evicted"),
    "has an image that cannot be pulled": (
        fails_to_start(waiting={"reason": "ImagePullBackOff", "message": "not found"}),
        "Error",
        "ImagePullFailed",
    ),
    "has an image name that is no name": (
        fails_to_start(waiting={"reason": "InvalidImageName"}),
        "Error",
        "ImagePullFailed",
    ),
    "never gets a pod": (lambda world, _: world.wait(121), "Error", "NotStarted"),
    "is never scheduled": (fails_to_start(unschedulable="0/3 nodes are available"), "Error", "Unschedulable"),
    "has a container that cannot be made": (
        fails_to_start(waiting={"reason": "CreateContainerConfigError", "message": "no secret"}),
        "Error",
        "NotStarted",
    ),
}


def parity(world: World) -> JSON:
    found: JSON = next(gate for gate in world.status["gates"] if gate["name"] == "parity")
    return found


def start(world: World) -> JSON:
    world.spec("v1")
    world.reconcile()
    world.run_jobs()
    world.reconcile()
    job: JSON = world.jobs("parity", running=True)[0]
    return job


@pytest.mark.parametrize("case", CASES)
def test_a_job_that(world: World, case: str) -> None:
    end, verdict, reason = CASES[case]
    end(world, start(world))
    world.reconcile()
    assert (parity(world)["verdict"], parity(world)["reason"]) == (verdict, reason)
    passed = {"Passed": "True", "Running": "Unknown"}.get(verdict, "False")
    assert world.conditions["ParityPassed"] == passed
    assert bool(world.jobs("benchmark")) == (verdict == "Passed")
    assert world.champion is None


@pytest.mark.parametrize("case", [case for case, (_, verdict, _) in CASES.items() if verdict == "Error"])
def test_an_error_is_tried_again_with_longer_waits_and_then_stalls(world: World, case: str) -> None:
    end, _, reason = CASES[case]
    job, waits = start(world), []
    for attempt in range(2, ATTEMPTS + 1):
        end(world, job)
        world.reconcile()
        due = world.decide().look_again
        if not world.jobs("parity", running=True) or due is not None:
            assert due is not None
            waits.append(due - world.now)
            world.wait((due - world.now).total_seconds())
            world.reconcile()
        job = world.jobs("parity", running=True)[-1]
        assert job["metadata"]["name"].endswith(f"-{attempt}")
    end(world, job)
    world.reconcile()
    assert world.conditions["Stalled"] == "True"
    assert world.condition("Stalled")["reason"] == "GateError"
    assert f"{ATTEMPTS} attempts" in world.condition("Stalled")["message"]
    assert parity(world)["reason"] == reason
    assert waits == sorted(waits)
    world.wait(100_000)
    assert world.reconcile() == 0


def test_a_refusal_is_final_at_once(world: World) -> None:
    world.end_job(start(world), REFUSED, complete=False)
    world.reconcile()
    assert world.condition("Stalled")["reason"] == "GateFailed"
    assert "model.onnx has other bytes" in world.condition("Ready")["message"]
    world.wait(100_000)
    assert world.reconcile() == 0
    assert len(world.jobs("parity")) == 1


def test_a_new_retry_token_tries_again_after_the_attempts_are_used_up(world: World) -> None:
    world.end_job(start(world), REFUSED, complete=False)
    world.reconcile()
    world.spec("v1", rollout={"retryToken": "2"})
    for _ in range(3):
        world.reconcile()
        world.run_jobs()
    world.reconcile()
    assert parity(world)["verdict"] == "Passed"


def test_a_pod_that_is_watched_later_than_its_job_is_waited_for(world: World) -> None:
    job = start(world)
    world.end_job(job, None)
    world.reconcile()
    assert world.decide().look_again == world.now + timedelta(seconds=5)
    world.end_job(job, world.good(job))
    world.reconcile()
    assert parity(world)["verdict"] == "Passed"


def test_a_pod_whose_watch_lags_is_asked_about_before_its_job_is_called_silent(world: World) -> None:
    job = start(world)
    world.end_job(job, None)
    world.reconcile()
    world.wait(600)
    plan = world.decide()
    assert [action for action in plan.actions if isinstance(action, Look)] == [
        Look(job["metadata"]["name"], job["metadata"]["uid"])
    ]
    assert plan.look_again is None, "what comes next comes with the answer, not with time"
    world.end_job(job, world.good(job))
    world.reconcile()
    assert parity(world)["verdict"] == "Passed"
    assert len(world.jobs("parity")) == 1


def test_a_pod_that_never_turns_up_is_no_measurement(world: World) -> None:
    world.end_job(start(world), None)
    world.reconcile()
    world.wait(6)
    world.reconcile()
    assert (parity(world)["verdict"], parity(world)["reason"]) == ("Error", "NoMeasurement")


@pytest.mark.parametrize(
    "case", [case for case, (_, verdict, _) in CASES.items() if verdict in ("Error", "Failed", "Passed")]
)
def test_what_was_found_is_kept_when_the_pod_is_gone(world: World, case: str) -> None:
    end, verdict, reason = CASES[case]
    end(world, start(world))
    world.reconcile()
    for kind, name in [key for key in world.objects if key[0] == "Pod"]:
        if "conditions" in world.objects["Job", name.removesuffix("-x")].get("status", {}):
            world.delete(kind, name)
    world.reconcile()
    assert (parity(world)["verdict"], parity(world)["reason"]) == (verdict, reason)


def test_a_measurement_is_written_on_its_job_once_and_under_its_own_manager(world: World) -> None:
    job = start(world)
    world.end_job(job, world.good(job))
    world.reconcile()
    assert json.loads(job["metadata"]["annotations"][names.MEASUREMENT])["kind"] == "parity"
    assert set(world.applied["Job", job["metadata"]["name"]]) == {names.FIELD_MANAGER, names.RECORD_MANAGER}


def test_while_a_retry_runs_the_last_error_stays_to_be_read(world: World) -> None:
    world.end_job(start(world), "", complete=False)
    world.reconcile()
    first = world.condition("ParityPassed")
    world.wait(11)
    world.reconcile()
    second = world.condition("ParityPassed")
    assert (first["status"], second["status"]) == ("False", "False")
    assert first["lastTransitionTime"] == second["lastTransitionTime"]
    assert "attempt 2 of" in second["message"]
    assert world.conditions["Reconciling"] == "True"


def test_a_container_that_a_mesh_has_put_beside_the_own_one_says_nothing(world: World) -> None:
    world.spec("v1")
    world.reconcile()
    (job,) = world.jobs("artifact")
    world.end_job(job, world.good(job))
    status = world.objects["Pod", f"{job['metadata']['name']}-x"]["status"]
    status["containerStatuses"][0]["name"] = "measure"
    proxy = {"name": "a-proxy", "state": {"terminated": {"exitCode": 0, "message": "bye"}}}
    status["containerStatuses"].insert(0, proxy)
    world.reconcile()
    assert world.conditions["ArtifactVerified"] == "True"
