"""What Kubernetes documents of CronJobs. A lastScheduleTime in the past makes a scheduled time due at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest


def schedule(cluster: Any, last: str, name: str = "yearly", **spec: Any) -> None:
    """A CronJob for New Year's midnight that was last run at `last`."""
    template = {"metadata": {"labels": {"run": name}}, "spec": {"template": cluster.template("Never")}}
    times = {"schedule": "0 0 1 1 *", "timeZone": "Etc/UTC"}
    cluster.create("cronjobs", name, {**times, "jobTemplate": template, **spec, "suspend": True})
    cluster.patch("cronjobs", name, {"status": {"lastScheduleTime": last}}, "status")
    cluster.patch("cronjobs", name, {"spec": {"suspend": spec.get("suspend", False), "failedJobsHistoryLimit": 2}})


def new_year(years_ago: int = 0) -> datetime:
    return datetime(datetime.now(UTC).year - years_ago, 1, 1, tzinfo=UTC)


def stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def name_of(time: datetime) -> str:
    return f"yearly-{int(time.timestamp()) // 60}"


def jobs(cluster: Any, name: str = "yearly") -> list[str]:
    return [job["metadata"]["name"] for job in cluster.all("jobs", run=name)]


def finish(cluster: Any, job: str) -> None:
    (pod,) = cluster.until(lambda: cluster.all("pods", job_name=job))
    cluster.set_pod(pod["metadata"]["name"], "Succeeded")
    cluster.until(lambda: cluster.condition(cluster.get("jobs", job), "Complete")[0] == "True")


def test_the_latest_missed_time_starts_one_job_named_after_it(cluster: Any) -> None:
    schedule(cluster, stamp(new_year(3)))
    cluster.until(lambda: jobs(cluster) == [name_of(new_year())])
    (job,) = cluster.all("jobs")
    assert job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] == stamp(new_year())
    assert job["metadata"]["labels"]["run"] == "yearly"
    assert job["metadata"]["ownerReferences"][0]["kind"] == "CronJob"
    status = cluster.until(lambda: (found := cluster.get("cronjobs", "yearly")["status"]).get("active") and found)
    assert [reference["name"] for reference in status["active"]] == [name_of(new_year())]
    assert status["lastScheduleTime"] == stamp(new_year())
    cluster.until(lambda: cluster.event("SuccessfulCreate", "yearly"))


def test_a_completed_job_is_taken_off_the_active_list(cluster: Any) -> None:
    schedule(cluster, stamp(new_year(1)))
    cluster.until(lambda: jobs(cluster))
    finish(cluster, name_of(new_year()))
    status = cluster.until(lambda: not (found := cluster.get("cronjobs", "yearly")["status"]).get("active") and found)
    assert "lastSuccessfulTime" in status
    cluster.until(lambda: cluster.event("SawCompletedJob", "yearly"))


@pytest.mark.parametrize("spec", [{"suspend": True}, {"startingDeadlineSeconds": 10, "schedule": "0 0 29 2 *"}])
def test_a_suspended_cron_job_and_one_that_is_too_late_start_nothing(cluster: Any, spec: Any) -> None:
    schedule(cluster, stamp(new_year(5)), **spec)
    schedule(cluster, stamp(new_year(1)), name="witness")
    cluster.until(lambda: jobs(cluster, "witness"))
    assert jobs(cluster) == []


@pytest.mark.parametrize(("policy", "left"), [("Forbid", [1]), ("Replace", [0]), ("Allow", [0, 1])])
def test_the_concurrency_policy_decides_while_a_job_runs(cluster: Any, policy: str, left: list[int]) -> None:
    """The second scheduled time is a minute after the first: a change of schedule makes it due."""
    schedule(cluster, stamp(new_year(1)), concurrencyPolicy=policy)
    first, second = new_year(), new_year().replace(hour=0, minute=1)
    cluster.until(lambda: cluster.get("cronjobs", "yearly")["status"].get("active"))
    cluster.patch("cronjobs", "yearly", {"spec": {"schedule": "1 0 1 1 *"}})
    # A change of the schedule alone is looked at when the new schedule is due next; any other change, at once.
    cluster.patch("cronjobs", "yearly", {"spec": {"failedJobsHistoryLimit": 3}})
    expected = sorted(name_of([second, first][number]) for number in left)
    cluster.until(lambda: sorted(jobs(cluster)) == expected)
    if policy == "Forbid":
        cluster.until(lambda: cluster.event("JobAlreadyActive", "yearly"))


def test_a_job_made_from_the_cron_job_by_hand_belongs_to_it(cluster: Any) -> None:
    """What `kubectl create job --from=cronjob/yearly` sends."""
    schedule(cluster, stamp(new_year()))
    cron_job = cluster.get("cronjobs", "yearly")
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "yearly", "controller": True}
    owner["uid"] = cron_job["metadata"]["uid"]
    notes = {"cronjob.kubernetes.io/instantiate": "manual"}
    spec = cron_job["spec"]["jobTemplate"]["spec"]
    cluster.create("jobs", "by-hand", spec, ownerReferences=[owner], annotations=notes)
    finish(cluster, "by-hand")
    cluster.until(lambda: "lastSuccessfulTime" in cluster.get("cronjobs", "yearly")["status"])


def test_finished_jobs_are_kept_up_to_the_history_limit(cluster: Any) -> None:
    schedule(cluster, stamp(new_year(1)), successfulJobsHistoryLimit=0)
    cluster.until(lambda: jobs(cluster))
    (pod,) = cluster.until(lambda: cluster.all("pods", job_name=name_of(new_year())))
    cluster.set_pod(pod["metadata"]["name"], "Succeeded")
    cluster.until(lambda: jobs(cluster) == [])
    cluster.until(lambda: cluster.event("SuccessfulDelete", "yearly"))
