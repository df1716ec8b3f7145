from __future__ import annotations

from typing import Any

import pytest

from creditmodel_sandbox.node.lifecycle import (
    Facts,
    Record,
    decide,
    delay,
    pod_status,
    record_of,
    rfc3339,
    terminal_phase,
)

FACTS = Facts("127.0.0.1", "127.1.0.1", rfc3339(50))


def running(name: str = "main", *, ready: bool = True, started: bool = True, restarts: int = 0) -> Record:
    record = Record(name)
    record.running(100.0, restarts, "c://1")
    record.ready, record.started = ready, started
    return record


def ended(name: str = "main", code: int = 0, at: float = 200.0, crashes: int = 0) -> Record:
    record = running(name)
    record.ran(at, code, "Completed" if code == 0 else "Error", "", rfc3339(100))
    record.crashes = crashes
    return record


def _decide(spec: Any, *records: Record, now: float = 200.0) -> Any:
    return decide(spec, {record.name: record for record in records}, now)


ONE = {"containers": [{"name": "main"}]}
INITS = {"initContainers": [{"name": "a"}, {"name": "b"}], **ONE}
SIDECAR = {"initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "a"}], **ONE}


def test_containers_start_at_once_and_together() -> None:
    spec = {"containers": [{"name": "x"}, {"name": "y"}]}
    assert _decide(spec, Record("x"), Record("y")).start == ("x", "y")


def test_init_containers_run_one_after_the_other_and_before_the_rest() -> None:
    new = (Record("b"), Record("main"))
    assert _decide(INITS, Record("a"), *new).start == ("a",)
    assert _decide(INITS, running("a"), *new).start == ()
    assert _decide(INITS, ended("a"), *new).start == ("b",)
    assert _decide(INITS, ended("a"), running("b"), Record("main")).start == ()
    assert _decide(INITS, ended("a"), ended("b"), Record("main")).start == ("main",)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("Always", 1, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_the_restart_policy_decides_whether_an_ended_container_runs_again(policy: str, code: int, again: bool) -> None:
    decision = _decide({**ONE, "restartPolicy": policy}, ended(code=code))
    assert decision.start == (("main",) if again else ())
    assert decision.over is not again


def test_a_failed_init_container_ends_a_pod_that_is_never_restarted() -> None:
    records = (ended("a", code=2), Record("b"), Record("main"))
    assert _decide({**INITS, "restartPolicy": "Never"}, *records).over
    assert _decide({**INITS, "restartPolicy": "Always"}, *records).start == ("a",)


def test_a_finished_init_container_is_not_restarted_by_policy_always() -> None:
    assert _decide({**INITS, "restartPolicy": "Always"}, ended("a"), ended("b"), running()).start == ()


@pytest.mark.parametrize(
    ("crashes", "seconds"), [(0, 0), (1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (20, 300)]
)
def test_restarts_are_delayed_more_and_more(crashes: int, seconds: float) -> None:
    record = ended(code=1, at=200.0, crashes=crashes)
    assert delay(record, 10.0) == seconds
    early = _decide(ONE, record, now=199.0 + seconds)
    assert (early.start, early.wake_at) == ((), 200.0 + seconds)
    assert _decide(ONE, record, now=200.0 + seconds).start == ("main",)


def test_what_could_not_be_started_waits_until_it_is_tried_again() -> None:
    record = Record("main", retry_at=210.0)
    assert _decide(ONE, record).back_off == {"main": 210.0}
    assert _decide(ONE, record, now=210.0).start == ("main",)


def test_a_sidecar_starts_first_and_the_rest_waits_only_until_it_has_started() -> None:
    new = (Record("a"), Record("main"))
    assert _decide(SIDECAR, Record("s"), *new).start == ("s",)
    assert _decide(SIDECAR, running("s", started=False), *new).start == ()
    assert _decide(SIDECAR, running("s"), *new).start == ("a",)


def test_a_sidecar_is_restarted_and_does_not_keep_a_pod_alive() -> None:
    spec = {**SIDECAR, "restartPolicy": "Never"}
    assert _decide(spec, ended("s", code=1), ended("a"), running()).start == ("s",)
    assert _decide(spec, running("s"), ended("a"), ended()).over


def _status(pod: Any, *records: Record, facts: Facts = FACTS, known: Any = None, now: float = 300.0) -> Any:
    return pod_status(pod, {record.name: record for record in records}, facts, known or {}, now)


def _conditions(status: Any) -> dict[str, tuple[str, str | None]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


def test_a_running_and_ready_pod(pod: Any) -> None:
    status = _status(pod(), running())
    assert status["phase"] == "Running"
    assert {kind: value for kind, (value, _) in _conditions(status).items()} == dict.fromkeys(
        ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"], "True"
    )
    assert (status["podIP"], status["podIPs"], status["hostIP"]) == ("127.1.0.1", [{"ip": "127.1.0.1"}], "127.0.0.1")
    assert status["observedGeneration"] == 2
    assert status["containerStatuses"][0] | {"imageID": ""} == {
        "name": "main", "image": "i", "imageID": "", "containerID": "c://1", "ready": True, "started": True,
        "restartCount": 0, "lastState": {}, "state": {"running": {"startedAt": "1970-01-01T00:01:40Z"}},
    }  # fmt: skip


def test_a_pod_is_pending_while_init_containers_run(pod: Any) -> None:
    p = pod(initContainers=[{"name": "a", "image": "i"}])
    status = _status(p, running("a"), Record("main", {"waiting": {"reason": "PodInitializing"}}))
    assert status["phase"] == "Pending"
    conditions = _conditions(status)
    assert conditions["Initialized"] == ("False", "ContainersNotInitialized")
    assert conditions["Ready"] == ("False", "ContainersNotReady")
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_a_crashing_container_leaves_the_pod_running_and_not_ready(pod: Any) -> None:
    record = ended(code=1)
    record.wait("CrashLoopBackOff", "back-off")
    status = _status(pod(), record)
    assert status["phase"] == "Running"
    assert _conditions(status)["ContainersReady"] == ("False", "ContainersNotReady")
    shown = status["containerStatuses"][0]
    assert shown["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert shown["lastState"]["terminated"]["exitCode"] == 1


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "PodCompleted"), (3, "Failed", "PodFailed")])
def test_a_finished_pod_says_so_in_phase_and_conditions(pod: Any, code: int, phase: str, reason: str) -> None:
    status = _status(pod(), ended(code=code), facts=Facts("h", "ip", rfc3339(0), over=True))
    assert status["phase"] == phase
    assert _conditions(status)["Ready"] == ("False", reason)


def test_a_deadline_fails_the_pod_whatever_its_containers_say(pod: Any) -> None:
    status = _status(pod(), ended(), facts=Facts("h", "ip", rfc3339(0), True, "DeadlineExceeded", "m"))
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_transition_time_moves_only_when_the_condition_flips(pod: Any) -> None:
    first = {c["type"]: c for c in _status(pod(), running(ready=False))["conditions"]}
    second = {c["type"]: c for c in _status(pod(), running(), known=first, now=400.0)["conditions"]}
    assert second["Initialized"]["lastTransitionTime"] == rfc3339(300)
    assert second["Ready"]["lastTransitionTime"] == rfc3339(400)
    assert second["Ready"]["reason"] is None


def test_a_pod_that_is_stopped_before_it_ran_has_failed() -> None:
    assert terminal_phase(ONE, {"main": Record("main")}) == "Failed"


def test_a_record_is_rebuilt_from_the_api(pod: Any) -> None:
    record = ended(code=4, at=200.0)
    record.wait("CrashLoopBackOff", "m")
    record.restarts = 2
    again = record_of(_status(pod(), record)["containerStatuses"][0])
    assert (again.state, again.last, again.restarts, again.ended, again.exit_code) == (
        record.state, record.last, 2, 200.0, 4,
    )  # fmt: skip
