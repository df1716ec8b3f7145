"""The Job controller: counting, retries, limits and the order of its conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from creditmodel_sandbox.client import Obj
from creditmodel_sandbox.controllers import job
from creditmodel_sandbox.controllers.runtime import Action, Create, Delete, Patch, Replace
from creditmodel_sandbox.objects import JOBS, PODS, condition

Step = Callable[[Any], Sequence[Action]]


def a_job(world: Any, *, restart: str = "Never", **spec: Any) -> Obj:
    template = {"metadata": {}, "spec": {"restartPolicy": restart, "containers": [{"name": "main"}]}}
    counts = {"parallelism": 1, "completions": 1, "backoffLimit": 6}
    made: Obj = world.add(JOBS, "job", spec={**counts, "template": template, **spec})
    return made


@pytest.fixture
def act() -> Step:
    """One look of the Job controller."""
    controller = job.JobController()
    return lambda world: job.reconcile(controller.observe(world.cache, "ns/job"), world.now)


def status_of(world: Any) -> Obj:
    found: Obj = world.get(JOBS, "job")["status"]
    return found


def conditions_of(world: Any) -> list[tuple[str, str]]:
    return [(c["type"], c["reason"]) for c in status_of(world).get("conditions", []) if c["status"] == "True"]


def exited(code: int) -> Obj:
    return {"containerStatuses": [{"name": "main", "state": {"terminated": {"exitCode": code}}}]}


def end_pods(world: Any, phase: str, code: int = 1) -> None:
    for pod in world.all(PODS):
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            world.set_phase(pod, phase, **exited(0 if phase == "Succeeded" else code))


def test_a_job_creates_a_tracked_and_labelled_pod(world: Any, act: Step) -> None:
    made = a_job(world)
    world.settle(act)
    (pod,) = world.all(PODS)
    assert pod["metadata"]["finalizers"] == ["batch.kubernetes.io/job-tracking"]
    uid = made["metadata"]["uid"]
    assert pod["metadata"]["labels"] == {
        "batch.kubernetes.io/job-name": "job",
        "batch.kubernetes.io/controller-uid": uid,
        "job-name": "job",
        "controller-uid": uid,
    }
    status = status_of(world)
    assert (status["active"], status["ready"], status["terminating"]) == (1, 0, 0)
    assert status["startTime"] == "2026-03-02T12:00:00Z"
    assert ("SuccessfulCreate", f"Created pod: {pod['metadata']['name']}") in world.events


def test_a_succeeded_pod_completes_the_job(world: Any, act: Step) -> None:
    a_job(world)
    world.settle(act)
    end_pods(world, "Succeeded")
    world.settle(act)
    status = status_of(world)
    assert status["succeeded"] == 1
    assert status["uncountedTerminatedPods"] == {}
    assert status["completionTime"] == "2026-03-02T12:00:00Z"
    assert {"active", "failed"}.isdisjoint(status)
    assert conditions_of(world) == [("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")]
    assert ("Completed", "Job completed") in world.events
    assert not world.all(PODS)[0]["metadata"].get("finalizers")


def test_the_uid_is_written_down_before_the_finalizer_goes_and_counted_after(world: Any, act: Step) -> None:
    a_job(world, completions=2)
    world.settle(act)
    end_pods(world, "Succeeded")
    first = [type(action) for action in act(world) if isinstance(action, Replace | Patch)]
    assert first == [Replace, Patch]
    world.carry_out([action for action in act(world) if isinstance(action, Replace)])
    assert status_of(world)["uncountedTerminatedPods"] == {"succeeded": [world.all(PODS)[0]["metadata"]["uid"]]}
    assert "succeeded" not in status_of(world)
    world.settle(act)
    assert status_of(world)["succeeded"] == 1


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_controller_that_dies_after_any_write_counts_every_pod_once(world: Any, phase: str) -> None:
    """Each write is followed by a new controller that remembers nothing."""
    a_job(world, parallelism=3, completions=3)

    def one_write(world: Any) -> Sequence[Action]:
        actions = job.reconcile(job.JobController().observe(world.cache, "ns/job"), world.now)
        return [action for action in actions if isinstance(action, Create | Replace | Patch | Delete)][:1]

    world.settle(one_write)
    assert len(world.all(PODS)) == 3
    end_pods(world, phase)
    world.settle(one_write)
    assert status_of(world)[phase.lower()] == 3
    assert status_of(world)["uncountedTerminatedPods"] == {}
    assert len(world.all(PODS)) == 3


def test_parallelism_bounds_the_pods_that_run_at_once(world: Any, act: Step) -> None:
    a_job(world, parallelism=2, completions=5)
    sizes = []
    for _ in range(3):
        world.settle(act)
        sizes.append(status_of(world).get("active", 0))
        end_pods(world, "Succeeded")
    world.settle(act)
    assert sizes == [2, 2, 1]
    assert status_of(world)["succeeded"] == 5
    assert len(world.all(PODS)) == 5


def test_without_completions_one_success_ends_the_job_when_the_others_end(world: Any, act: Step) -> None:
    a_job(world, parallelism=2, completions=None)
    world.settle(act)
    world.set_phase(world.all(PODS)[0], "Succeeded")
    world.settle(act)
    assert len(world.all(PODS)) == 2
    assert conditions_of(world) == []
    end_pods(world, "Succeeded")
    world.settle(act)
    assert conditions_of(world)[-1] == ("Complete", "CompletionsReached")


def test_retries_wait_10_then_20_then_40_seconds(world: Any, act: Step) -> None:
    a_job(world)
    world.settle(act)
    for failures, pause in enumerate((10, 20, 40), 1):
        end_pods(world, "Failed")
        world.settle(act)
        assert len(world.all(PODS)) == failures
        assert world.wakes == [world.now + timedelta(seconds=pause)]
        world.pass_time(seconds=pause - 1)
        world.settle(act)
        assert len(world.all(PODS)) == failures
        world.pass_time(seconds=1)
        world.settle(act)
        assert len(world.all(PODS)) == failures + 1


def test_the_backoff_limit_fails_the_job(world: Any, act: Step) -> None:
    a_job(world, backoffLimit=1)
    world.settle(act)
    end_pods(world, "Failed")
    world.settle(act)
    assert conditions_of(world) == []
    world.pass_time(seconds=10)
    world.settle(act)
    end_pods(world, "Failed")
    world.settle(act)
    assert status_of(world)["failed"] == 2
    assert "completionTime" not in status_of(world)
    assert conditions_of(world) == [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]
    assert ("BackoffLimitExceeded", "Job has reached the specified backoff limit") in world.events


def test_the_job_is_not_failed_before_its_last_pod_has_ended(world: Any, act: Step) -> None:
    a_job(world, parallelism=2, completions=2, backoffLimit=0)
    world.settle(act)
    first, second = world.all(PODS)
    world.change(PODS, second, metadata={**second["metadata"], "finalizers": [job.FINALIZER, "test/hold"]})
    world.set_phase(first, "Failed", **exited(1))
    world.settle(act)
    assert conditions_of(world) == [("FailureTarget", "BackoffLimitExceeded")]
    assert status_of(world)["terminating"] == 1
    world.cache.change(PODS, world.get(PODS, second["metadata"]["name"]), None)
    world.settle(act)
    assert conditions_of(world)[-1] == ("Failed", "BackoffLimitExceeded")
    assert status_of(world)["failed"] == 2


def test_the_deadline_stops_the_pods_and_fails_the_job(world: Any, act: Step) -> None:
    a_job(world, activeDeadlineSeconds=30)
    world.settle(act)
    assert world.wakes == [world.now + timedelta(seconds=30)]
    world.pass_time(seconds=30)
    world.settle(act)
    assert world.all(PODS) == []
    assert conditions_of(world) == [("FailureTarget", "DeadlineExceeded"), ("Failed", "DeadlineExceeded")]
    assert ("DeadlineExceeded", "Job was active longer than specified deadline") in world.events


def test_a_finished_job_goes_when_its_time_to_live_is_over(world: Any, act: Step) -> None:
    a_job(world, ttlSecondsAfterFinished=60)
    world.settle(act)
    end_pods(world, "Succeeded")
    world.settle(act)
    assert world.wakes == [world.now + timedelta(seconds=60)]
    world.pass_time(seconds=60)
    (delete,) = act(world)
    assert isinstance(delete, Delete)
    assert delete.propagation == "Foreground"


def test_a_deleted_pod_counts_as_failed_and_is_replaced_after_the_pause(world: Any, act: Step) -> None:
    a_job(world)
    world.settle(act)
    world.delete(PODS, world.all(PODS)[0])
    world.settle(act)
    assert status_of(world)["failed"] == 1
    assert world.all(PODS) == []
    world.pass_time(seconds=10)
    world.settle(act)
    assert len(world.all(PODS)) == 1


def rules(*rules: Obj) -> Obj:
    return {"rules": list(rules)}


def on_codes(action: str, operator: str, *values: int, **more: Any) -> Obj:
    return {"action": action, "onExitCodes": {"operator": operator, "values": list(values), **more}}


def on_condition(action: str, kind: str) -> Obj:
    return {"action": action, "onPodConditions": [{"type": kind, "status": "True"}]}


DISRUPTED = {"type": "DisruptionTarget", "status": "True"}

# (case, policy, exit code, pod conditions, failed count, verdict)
POLICIES = [
    ("a listed exit code fails the job at once", rules(on_codes("FailJob", "In", 42)), 42, [], 1, "PodFailurePolicy"),
    ("another exit code is retried", rules(on_codes("FailJob", "In", 42)), 1, [], 1, ""),
    ("NotIn fails on every other code", rules(on_codes("FailJob", "NotIn", 1)), 2, [], 1, "PodFailurePolicy"),
    ("a rule for another container", rules(on_codes("FailJob", "In", 42, containerName="x")), 42, [], 1, ""),
    ("an ignored code is not counted", rules(on_codes("Ignore", "In", 42)), 42, [], 0, ""),
    ("a disruption is ignored", rules(on_condition("Ignore", "DisruptionTarget")), 137, [DISRUPTED], 0, ""),
    ("a condition that the pod has not", rules(on_condition("Ignore", "DisruptionTarget")), 137, [], 1, ""),
    (
        "the first rule that matches decides",
        rules(on_codes("Count", "In", 42), on_codes("FailJob", "In", 42)), 42, [], 1, "",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "code", "conditions", "failed", "verdict"), [c[1:] for c in POLICIES], ids=[c[0] for c in POLICIES]
)
def test_pod_failure_policy(
    world: Any, act: Step, policy: Obj, code: int, conditions: list[Obj], failed: int, verdict: str
) -> None:
    a_job(world, podFailurePolicy=policy)
    world.settle(act)
    (pod,) = world.all(PODS)
    world.set_phase(pod, "Failed", **exited(code))
    current = world.all(PODS)[0]
    world.change(PODS, current, status={**current["status"], "conditions": conditions})
    world.settle(act)
    assert status_of(world).get("failed", 0) == failed
    assert conditions_of(world)[-1:] == ([("Failed", verdict)] if verdict else [])
    if not failed:
        assert len(world.all(PODS)) == 2, "an ignored failure is replaced without a pause"
    if verdict:
        message = condition(world.get(JOBS, "job"), "Failed")["message"]
        assert message.startswith(f"Container main for pod ns/{pod['metadata']['name']} failed with exit code {code}")
        assert message.endswith("matching FailJob rule at index 0")


def test_with_a_failure_policy_a_terminating_pod_is_replaced_only_when_it_has_failed(world: Any, act: Step) -> None:
    a_job(world, podFailurePolicy=rules(on_codes("Ignore", "In", 42)))
    world.settle(act)
    pod = world.set_phase(world.all(PODS)[0], "Running")
    world.delete(PODS, pod)
    world.pass_time(minutes=1)
    world.settle(act)
    assert len(world.all(PODS)) == 1
    assert status_of(world)["terminating"] == 1
    world.set_phase(world.all(PODS)[0], "Failed", **exited(137))
    world.pass_time(minutes=1)
    world.settle(act)
    assert status_of(world)["failed"] == 1
    assert len(world.all(PODS)) == 1


def test_restarts_in_place_count_towards_the_limit(world: Any, act: Step) -> None:
    a_job(world, restart="OnFailure", backoffLimit=2)
    world.settle(act)
    for restarts, verdict in (
        (1, []),
        (2, [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]),
    ):
        world.set_phase(world.all(PODS)[0], "Running", containerStatuses=[{"name": "main", "restartCount": restarts}])
        world.settle(act)
        assert conditions_of(world) == verdict


def test_a_suspended_job_runs_nothing_and_counts_no_failure(world: Any, act: Step) -> None:
    made = a_job(world, parallelism=2, completions=2)
    world.settle(act)
    world.change(JOBS, made, spec={**made["spec"], "suspend": True})
    world.settle(act)
    assert world.all(PODS) == []
    assert "failed" not in status_of(world)
    assert conditions_of(world) == [("Suspended", "JobSuspended")]
    world.pass_time(seconds=5)
    world.change(JOBS, made, spec={**made["spec"], "suspend": False})
    world.settle(act)
    assert len(world.all(PODS)) == 2
    assert status_of(world)["startTime"] == "2026-03-02T12:00:05Z"
    assert [event for event in world.events if event[0] in ("Suspended", "Resumed")] == [
        ("Suspended", "Job suspended"),
        ("Resumed", "Job resumed"),
    ]


def test_a_job_created_suspended_has_no_start(world: Any, act: Step) -> None:
    a_job(world, suspend=True, activeDeadlineSeconds=1)
    world.settle(act)
    world.pass_time(seconds=5)
    world.settle(act)
    assert "startTime" not in status_of(world)
    assert world.all(PODS) == []
    assert conditions_of(world) == [("Suspended", "JobSuspended")]


def test_lower_parallelism_stops_pods_without_counting_them(world: Any, act: Step) -> None:
    made = a_job(world, parallelism=3, completions=5)
    world.settle(act)
    world.change(JOBS, made, spec={**made["spec"], "parallelism": 1})
    world.settle(act)
    assert len(world.all(PODS)) == 1
    assert "failed" not in status_of(world)


def test_pods_of_a_job_that_is_gone_are_let_go(world: Any, act: Step) -> None:
    made = a_job(world)
    world.settle(act)
    world.cache.change(JOBS, world.get(JOBS, "job"), None)
    world.delete(PODS, world.all(PODS)[0])
    world.settle(act)
    assert world.all(PODS) == []
    assert made["metadata"]["uid"]


def test_a_job_that_another_controller_manages_is_left_alone(world: Any, act: Step) -> None:
    a_job(world, managedBy="example.com/batch")
    world.settle(act)
    assert world.writes == 0


def test_zero_completions_are_complete_at_once(world: Any, act: Step) -> None:
    a_job(world, completions=0)
    world.settle(act)
    assert conditions_of(world)[-1] == ("Complete", "CompletionsReached")
    assert world.all(PODS) == []
