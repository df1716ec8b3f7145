"""What Kubernetes documents of Jobs, as far as gates and drift checks rely on it."""

from __future__ import annotations

from typing import Any

import pytest

FINALIZER = "batch.kubernetes.io/job-tracking"


def start(cluster: Any, restart: str = "Never", **spec: Any) -> Any:
    """Start a Job, and return its first pod."""
    cluster.create("jobs", "job", {"template": cluster.template(restart), **spec})
    return cluster.until(lambda: pods(cluster))[0]


def pods(cluster: Any) -> list[Any]:
    found: list[Any] = cluster.all("pods", job_name="job")
    return found


def end(cluster: Any, pod: Any, code: int, *conditions: Any) -> None:
    """Let a pod's container end with an exit code."""
    terminated = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
    state = {
        "name": "main",
        "image": "v1",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": terminated},
    }
    phase = "Failed" if code else "Succeeded"
    extra = {"conditions": list(conditions)} if conditions else {}
    cluster.set_pod(pod["metadata"]["name"], phase, containerStatuses=[state], **extra)


def status(cluster: Any) -> Any:
    return cluster.get("jobs", "job").get("status") or {}


def numbers(cluster: Any) -> tuple[int, int]:
    """(active, succeeded)."""
    return status(cluster).get("active", 0), status(cluster).get("succeeded", 0)


def finished(cluster: Any, kind: str) -> Any:
    """The Job, once it has this terminal condition."""
    return cluster.until(
        lambda: (job := cluster.get("jobs", "job")) and cluster.condition(job, kind)[0] == "True" and job
    )


@pytest.fixture(scope="module", autouse=True)
def pods_of_a_failure(lasting_cluster: Any) -> int:
    """How many pods a Job has just when its first has failed; the pause after that passes while other tests run."""
    end(lasting_cluster, start(lasting_cluster, backoffLimit=3), 1)
    lasting_cluster.until(lambda: status(lasting_cluster).get("failed") == 1)
    return len(pods(lasting_cluster))


def test_a_job_labels_and_tracks_its_pods(cluster: Any) -> None:
    pod = start(cluster)
    job = cluster.until(lambda: (found := cluster.get("jobs", "job"))["status"].get("active") == 1 and found)
    uid = job["metadata"]["uid"]
    labels = pod["metadata"]["labels"]
    assert {labels[f"{prefix}job-name"] for prefix in ("", "batch.kubernetes.io/")} == {"job"}
    assert {labels[f"{prefix}controller-uid"] for prefix in ("", "batch.kubernetes.io/")} == {uid}
    assert FINALIZER in pod["metadata"]["finalizers"]
    assert pod["metadata"]["name"].startswith("job-")
    assert job["spec"]["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": uid}
    assert (job["status"]["ready"], "startTime" in job["status"]) == (0, True)
    cluster.until(lambda: cluster.event("SuccessfulCreate", "job"))


def test_a_job_completes_when_its_pod_has_succeeded(cluster: Any) -> None:
    end(cluster, start(cluster), 0)
    job = finished(cluster, "Complete")
    assert job["status"]["succeeded"] == 1
    assert "active" not in job["status"]
    assert not job["status"]["uncountedTerminatedPods"]
    assert "completionTime" in job["status"]
    assert [c["type"] for c in job["status"]["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert cluster.condition(job, "Complete")[1] == "CompletionsReached"
    assert FINALIZER not in pods(cluster)[0]["metadata"].get("finalizers", [])
    cluster.until(lambda: cluster.event("Completed", "job"))


def test_parallelism_and_completions_bound_the_pods(cluster: Any) -> None:
    start(cluster, parallelism=2, completions=3)
    for expected in ((2, 0), (1, 2)):
        cluster.until(lambda expected=expected: numbers(cluster) == expected)
        for pod in pods(cluster):
            if pod["status"]["phase"] == "Pending":
                end(cluster, pod, 0)
    assert finished(cluster, "Complete")["status"]["succeeded"] == 3
    assert len(pods(cluster)) == 3


def test_a_job_over_its_backoff_limit_fails(cluster: Any) -> None:
    end(cluster, start(cluster, backoffLimit=0), 1)
    job = finished(cluster, "Failed")
    assert job["status"]["failed"] == 1
    assert "completionTime" not in job["status"]
    assert [c["type"] for c in job["status"]["conditions"]] == ["FailureTarget", "Failed"]
    assert cluster.condition(job, "Failed")[1] == "BackoffLimitExceeded"
    cluster.until(lambda: cluster.event("BackoffLimitExceeded", "job"))


def test_a_job_past_its_deadline_is_stopped_and_fails(cluster: Any) -> None:
    start(cluster, activeDeadlineSeconds=1)
    job = finished(cluster, "Failed")
    assert cluster.condition(job, "Failed")[1] == "DeadlineExceeded"
    assert "active" not in job["status"]
    cluster.until(lambda: not pods(cluster))


def test_a_failure_policy_can_fail_the_job_on_an_exit_code(cluster: Any) -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    end(cluster, start(cluster, podFailurePolicy={"rules": [rule]}), 42)
    job = finished(cluster, "Failed")
    assert cluster.condition(job, "Failed")[1] == "PodFailurePolicy"
    (message,) = [c["message"] for c in job["status"]["conditions"] if c["type"] == "Failed"]
    assert "exit code 42" in message
    assert "rule at index 0" in message


def test_a_failure_policy_can_ignore_a_disruption(cluster: Any) -> None:
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    pod = start(cluster, backoffLimit=0, podFailurePolicy={"rules": [rule]})
    end(cluster, pod, 137, {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    replacement = cluster.until(lambda: [p for p in pods(cluster) if p["metadata"]["uid"] != pod["metadata"]["uid"]])
    assert "failed" not in status(cluster)
    end(cluster, replacement[0], 0)
    finished(cluster, "Complete")


def test_a_deleted_pod_counts_as_failed(cluster: Any) -> None:
    pod = start(cluster)
    cluster.delete("pods", pod["metadata"]["name"])
    cluster.until(lambda: not cluster.exists("pods", pod["metadata"]["name"]))
    cluster.until(lambda: status(cluster).get("failed") == 1)


def test_suspending_a_job_removes_its_pods_and_counts_no_failure(cluster: Any) -> None:
    start(cluster)
    cluster.patch("jobs", "job", {"spec": {"suspend": True}})
    cluster.until(lambda: cluster.condition(cluster.get("jobs", "job"), "Suspended") == ("True", "JobSuspended"))
    cluster.until(lambda: not pods(cluster))
    assert "failed" not in status(cluster)
    cluster.patch("jobs", "job", {"spec": {"suspend": False}})
    cluster.until(lambda: cluster.condition(cluster.get("jobs", "job"), "Suspended") == ("False", "JobResumed"))
    cluster.until(lambda: pods(cluster))


def test_a_finished_job_and_its_pods_go_after_their_time_to_live(cluster: Any) -> None:
    end(cluster, start(cluster, ttlSecondsAfterFinished=1), 0)
    finished(cluster, "Complete")
    cluster.until(lambda: not cluster.exists("jobs", "job"))
    cluster.until(lambda: not pods(cluster))


def test_deleting_a_job_takes_its_running_pods_along(cluster: Any) -> None:
    start(cluster)
    cluster.delete("jobs", "job")
    cluster.until(lambda: not cluster.exists("jobs", "job") and not pods(cluster))


def test_restarts_in_place_count_towards_the_backoff_limit(cluster: Any) -> None:
    pod = start(cluster, restart="OnFailure", backoffLimit=1)
    state = {"name": "main", "image": "v1", "imageID": "", "ready": False, "restartCount": 2, "state": {}}
    cluster.set_pod(pod["metadata"]["name"], "Running", containerStatuses=[state])
    assert cluster.condition(finished(cluster, "Failed"), "Failed")[1] == "BackoffLimitExceeded"


def test_a_failed_pod_is_followed_by_another_after_a_pause(lasting_cluster: Any, pods_of_a_failure: int) -> None:
    assert pods_of_a_failure == 1
    lasting_cluster.until(lambda: len(pods(lasting_cluster)) == 2)
