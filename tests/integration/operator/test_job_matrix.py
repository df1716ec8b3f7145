"""Every way in which a gate's Job can end, seen from outside: the verdict, its reason, and that nothing is promoted.

One operator has a CreditModel for each case at the same time. What takes the two minutes' patience for a pod that does
not start is followed to its end in the unit tests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Row
    from tests.integration.operator.conftest import Ground

JSON = dict[str, Any]
End = Callable[["Ground", JSON], None]
TABLE = "Job-outcome table: how the parity Job ends"
DEADLINE = 150.0


def says(**over: Any) -> End:
    return lambda ground, job: ground.end_job(job, ground.measured("parity", bundle_of(job), **over))


def leaves(text: str | None, *, complete: bool = False, **condition: str) -> End:
    return lambda ground, job: ground.end_job(job, text, complete=complete, **condition)


def is_killed(reason: str) -> End:
    def end(ground: Ground, job: JSON) -> None:
        ended = {"terminated": {"exitCode": 137, "reason": reason, "message": ""}}
        ground.pod_of(job, {"phase": "Failed", "containerStatuses": [container(ended)]})
        ground.finish_job(job, complete=False, reason="BackoffLimitExceeded")

    return end


def is_evicted(ground: Ground, job: JSON) -> None:
    ground.pod_of(job, {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"})
    ground.finish_job(job, complete=False, reason="BackoffLimitExceeded")


def loses_its_pod(complete: bool, reason: str) -> End:
    """The Job ends, and there is no pod to be heard: it was deleted, or its node is gone."""
    return lambda ground, job: ground.finish_job(job, complete=complete, reason=reason, message="no pod is left")


def is_deleted(ground: Ground, job: JSON) -> None:
    ground.server.delete(f"{ground.path('Job')}/{job['metadata']['name']}", {"propagationPolicy": "Background"})


def waits(reason: str) -> End:
    state = {"waiting": {"reason": reason, "message": "as told"}}
    return lambda ground, job: ground.pod_of(job, {"phase": "Pending", "containerStatuses": [container(state)]})


def is_never_scheduled(ground: Ground, job: JSON) -> None:
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    ground.pod_of(job, {"phase": "Pending", "conditions": [refused]})


def nothing(ground: Ground, job: JSON) -> None:
    """A quota or a policy forbids the pod: nobody tells the Job."""


def container(state: JSON) -> JSON:
    return {"name": "measure", "image": "stub", "imageID": "", "ready": False, "restartCount": 0, "state": state}


def bundle_of(job: JSON) -> str:
    return str(job["metadata"]["annotations"]["creditmodel.dev/uri"]).rsplit("/", 1)[1]


def failure(reason: str) -> str:
    error = {"reason": reason, "message": "model.onnx has other bytes"}
    return json.dumps({"schema_version": 1, "kind": "parity", "tool": "stub 1", "error": error})


CASES: dict[str, tuple[End, str, str]] = {
    "complete, with a valid measurement": (says(), "Passed", "Passed"),
    "complete, over the limit": (says(envelope=[[1.0, 0.5]], max_abs_diff=0.5), "Failed", "LimitExceeded"),
    "complete, with outputs that are not finite": (says(not_finite=1), "Failed", "LimitExceeded"),
    "complete, without a measurement": (leaves("", complete=True), "Error", "NoMeasurement"),
    "complete, with half a document": (leaves('{"schema_v', complete=True), "Error", "MalformedMeasurement"),
    "complete, with an oversized document": (
        leaves("{" + " " * 5000 + "}", complete=True),
        "Error",
        "MalformedMeasurement",
    ),
    "complete, with another schema version": (says(schema_version=2), "Error", "MalformedMeasurement"),
    "complete, with a field that nobody knows": (says(weather="fair"), "Passed", "Passed"),
    "complete, with the measurement of another gate": (
        lambda ground, job: ground.end_job(job, ground.measured("artifact", bundle_of(job))),
        "Error",
        "MalformedMeasurement",
    ),
    "complete, with the measurement of another model": (says(digest="sha256:" + "0" * 64), "Error", "WrongModel"),
    "complete, and its pod is gone": (loses_its_pod(complete=True, reason=""), "Error", "NoMeasurement"),
    "non-zero exit that says the bundle is corrupt": (leaves(failure("Corrupt")), "Failed", "Corrupt"),
    "non-zero exit that says the store is unreachable": (leaves(failure("Unreachable")), "Error", "Unreachable"),
    "non-zero exit, nothing said": (leaves(""), "Error", "JobFailed"),
    "non-zero exit after a valid measurement": (
        lambda ground, job: ground.end_job(job, ground.measured("parity", bundle_of(job)), complete=False),
        "Error",
        "JobFailed",
    ),
    "out of memory": (is_killed("OOMKilled"), "Error", "OOMKilled"),
    "past its deadline": (loses_its_pod(complete=False, reason="DeadlineExceeded"), "Error", "DeadlineExceeded"),
    "evicted": (is_evicted, "Error", "Evicted"),
    "node lost, or pod deleted": (loses_its_pod(complete=False, reason="BackoffLimitExceeded"), "Error", "JobFailed"),
    "Job deleted by hand: measured anew": (is_deleted, "Running", "Running"),
    "image that cannot be pulled": (waits("ImagePullBackOff"), "Running", "ImagePullFailed"),
    "container that cannot be made": (waits("CreateContainerConfigError"), "Running", "NotStarted"),
    "never scheduled": (is_never_scheduled, "Running", "Unschedulable"),
    "no pod is ever made": (nothing, "Running", "Running"),
}
CONDITION = {"Passed": "True", "Failed": "False", "Error": "False", "Running": "Unknown"}


@dataclass
class Cases:
    """Every case's CreditModel, its parity Job ended as the case has it, and its status when that was judged."""

    grounds: dict[str, Ground]
    judged: dict[str, JSON]


@pytest.fixture(scope="module")
def cases(grounds: Callable[[], AbstractContextManager[Ground]]) -> Iterator[Cases]:
    """A Job that came to nothing is followed by another: what is wanted is kept when it is seen, not when all are."""
    with grounds() as ground:
        ground.start()
        own = {case: replace(ground, name=f"case-{number}") for number, case in enumerate(CASES)}
        for number, each in enumerate(own.values()):
            each.apply(f"v{number}")
        judged: dict[str, JSON] = {}
        waiting, end = dict(own), time.monotonic() + DEADLINE
        while len(judged) < len(own) and time.monotonic() < end:
            for job in ground.objects("Job"):
                end_one(job, waiting, own)
            for case in own.keys() - waiting.keys() - judged.keys():
                status = own[case].status
                if (gate := parity(status)) and (gate["verdict"], gate["reason"]) == CASES[case][1:]:
                    judged[case] = status
            time.sleep(0.05)
        yield Cases(own, judged)


def end_one(job: JSON, waiting: dict[str, Ground], own: dict[str, Ground]) -> None:
    """Let artifact Jobs pass, and end a parity Job as its case wants."""
    labels, ended = job["metadata"]["labels"], job.get("status", {}).get("conditions")
    case = next(case for case, each in own.items() if each.name == labels["app.kubernetes.io/instance"])
    if labels["creditmodel.dev/gate"] == "artifact" and not ended:
        own[case].end_job(job, own[case].measured("artifact", bundle_of(job)))
    elif labels["creditmodel.dev/gate"] == "parity" and case in waiting:
        CASES[case][0](waiting.pop(case), job)


def parity(status: JSON) -> JSON | None:
    return next((gate for gate in status.get("gates", []) if gate["name"] == "parity"), None)


@pytest.mark.parametrize("case", CASES)
def test_a_parity_job_is_judged_by_how_it_ends(cases: Cases, row: Callable[..., Row], case: str) -> None:
    line, ground, (_, verdict, reason) = row(TABLE, case), cases.grounds[case], CASES[case]
    assert case in cases.judged, f"not {verdict} ({reason}) but {parity(ground.status)}"
    conditions = {found["type"]: found for found in cases.judged[case]["conditions"]}
    found = conditions["ParityPassed"]
    line.done, line.verdict = f"condition {found['status']}", f"{verdict} ({reason})"
    assert (found["status"], found["reason"]) == (CONDITION[verdict], reason)
    assert conditions["Available"]["status"] == conditions["Ready"]["status"] == "False"
    gates = {job["metadata"]["labels"]["creditmodel.dev/gate"] for job in ground.objects("Job") if of(job, ground)}
    assert ("benchmark" in gates) == (verdict == "Passed")
    assert ground.selected is None


def of(job: JSON, ground: Ground) -> bool:
    return bool(job["metadata"]["labels"]["app.kubernetes.io/instance"] == ground.name)


@pytest.mark.full
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("image that cannot be pulled", "ImagePullFailed"),
        ("container that cannot be made", "NotStarted"),
        ("never scheduled", "Unschedulable"),
        ("no pod is ever made", "NotStarted"),
    ],
)
def test_a_job_that_does_not_start_is_an_error_after_two_minutes(
    cases: Cases, row: Callable[..., Row], case: str, reason: str
) -> None:
    ground, line, end = cases.grounds[case], row(TABLE, f"{case}, after two minutes"), time.monotonic() + 180
    while (found := parity(ground.status) or {}).get("verdict") != "Error" and time.monotonic() < end:
        time.sleep(1)
    line.done, line.verdict = f"attempt {found['attempts']}", f"{found['verdict']} ({found['reason']})"
    assert (found["verdict"], found["reason"]) == ("Error", reason)
    assert ground.selected is None
