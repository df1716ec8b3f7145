"""The CronJob controller: when it starts a Job, when it does not, and what it keeps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from creditmodel_sandbox.client import Obj
from creditmodel_sandbox.controllers import cronjob
from creditmodel_sandbox.controllers.runtime import Action, Create
from creditmodel_sandbox.objects import CRON_JOBS, JOBS, format_time


def a_cron_job(world: Any, schedule: str = "*/10 * * * *", **spec: Any) -> Obj:
    template = {"metadata": {"labels": {"app": "drift"}}, "spec": {"template": {"spec": {"restartPolicy": "Never"}}}}
    made: Obj = world.add(CRON_JOBS, "drift", spec={"schedule": schedule, "jobTemplate": template, **spec})
    return made


def act(world: Any) -> Sequence[Action]:
    snapshot = cronjob.observe(world.cache, "ns/drift")
    return cronjob.reconcile(snapshot, world.now) if snapshot else []


def job_names(world: Any) -> list[str]:
    return [job["metadata"]["name"] for job in world.all(JOBS)]


def end(world: Any, job: Obj, kind: str = "Complete") -> None:
    time = format_time(world.now)
    status = {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": time}]}
    world.change(JOBS, job, status=status | ({"completionTime": time} if kind == "Complete" else {}))


def status_of(world: Any) -> Obj:
    found: Obj = world.get(CRON_JOBS, "drift").get("status") or {}
    return found


def minutes(time: datetime) -> int:
    return int(time.timestamp()) // 60


def test_it_sleeps_until_the_next_scheduled_time(world: Any) -> None:
    a_cron_job(world)
    world.settle(act)
    assert job_names(world) == []
    assert world.wakes == [world.now + timedelta(minutes=10)]


def test_a_due_job_is_named_after_its_scheduled_time(world: Any) -> None:
    a_cron_job(world)
    due = world.now + timedelta(minutes=10)
    world.pass_time(minutes=10, seconds=3)
    world.settle(act)
    (job,) = world.all(JOBS)
    assert job["metadata"]["name"] == f"drift-{minutes(due)}"
    assert job["metadata"]["labels"] == {"app": "drift"}
    assert job["metadata"]["annotations"] == {"batch.kubernetes.io/cronjob-scheduled-timestamp": format_time(due)}
    assert job["metadata"]["ownerReferences"][0]["kind"] == "CronJob"
    assert status_of(world)["lastScheduleTime"] == format_time(due)
    assert [reference["name"] for reference in status_of(world)["active"]] == job_names(world)
    assert ("SuccessfulCreate", f"Created job {job['metadata']['name']}") in world.events


def test_a_restart_between_creating_the_job_and_noting_it_makes_no_second_one(world: Any) -> None:
    a_cron_job(world)
    world.pass_time(minutes=10)
    world.carry_out([action for action in act(world) if isinstance(action, Create)])
    assert status_of(world) == {}
    world.settle(act)
    assert len(world.all(JOBS)) == 1
    assert len(status_of(world)["active"]) == 1


def test_many_missed_times_start_one_job_and_a_warning(world: Any) -> None:
    a_cron_job(world, "* * * * *")
    world.pass_time(minutes=150)
    world.settle(act)
    assert job_names(world) == [f"drift-{minutes(world.now)}"]
    assert any(reason == "TooManyMissedTimes" for reason, _ in world.events)


def test_a_time_missed_by_more_than_the_deadline_is_skipped(world: Any) -> None:
    a_cron_job(world, startingDeadlineSeconds=60)
    world.pass_time(minutes=12)
    world.settle(act)
    assert job_names(world) == []
    world.pass_time(minutes=8, seconds=30)
    world.settle(act)
    assert len(job_names(world)) == 1


# (policy, jobs after the second scheduled time, event)
POLICIES = [
    ("Allow", [1, 2], "SuccessfulCreate"),
    ("Forbid", [1], "JobAlreadyActive"),
    ("Replace", [2], "SuccessfulDelete"),
]


@pytest.mark.parametrize(("policy", "left", "event"), POLICIES)
def test_concurrency_policy(world: Any, policy: str, left: list[int], event: str) -> None:
    a_cron_job(world, concurrencyPolicy=policy)
    start = world.now
    for _ in range(2):
        world.pass_time(minutes=10)
        world.settle(act)
    assert job_names(world) == [f"drift-{minutes(start) + 10 * number}" for number in left]
    assert event in [reason for reason, _ in world.events]


def test_under_forbid_the_next_job_starts_when_the_former_has_ended(world: Any) -> None:
    a_cron_job(world, concurrencyPolicy="Forbid")
    world.pass_time(minutes=10)
    world.settle(act)
    world.pass_time(minutes=10)
    world.settle(act)
    end(world, world.all(JOBS)[0])
    world.settle(act)
    assert len(job_names(world)) == 2


def test_a_completed_job_leaves_the_active_list_and_is_remembered(world: Any) -> None:
    a_cron_job(world)
    world.pass_time(minutes=10)
    world.settle(act)
    world.pass_time(seconds=30)
    (job,) = world.all(JOBS)
    end(world, job)
    world.settle(act)
    assert "active" not in status_of(world)
    assert status_of(world)["lastSuccessfulTime"] == format_time(world.now)
    assert ("SawCompletedJob", f"Saw completed job: {job['metadata']['name']}, condition: Complete") in world.events


def test_a_failed_job_is_no_success(world: Any) -> None:
    a_cron_job(world)
    world.pass_time(minutes=10)
    world.settle(act)
    end(world, world.all(JOBS)[0], "Failed")
    world.settle(act)
    assert "active" not in status_of(world)
    assert "lastSuccessfulTime" not in status_of(world)


def test_a_job_started_by_hand_counts_as_a_success_and_does_not_block(world: Any) -> None:
    cron_job = a_cron_job(world, concurrencyPolicy="Forbid")
    by_hand = world.add(JOBS, "by-hand", owner=cron_job, spec={})
    world.pass_time(minutes=10)
    world.settle(act)
    assert len(job_names(world)) == 2
    end(world, by_hand)
    world.settle(act)
    assert status_of(world)["lastSuccessfulTime"] == format_time(world.now)


def test_history_limits_keep_the_newest_of_each_outcome(world: Any) -> None:
    a_cron_job(world, successfulJobsHistoryLimit=2, failedJobsHistoryLimit=1)
    for number in range(6):
        world.pass_time(minutes=10)
        world.settle(act)
        end(world, world.all(JOBS)[-1], "Failed" if number % 2 else "Complete")
        world.settle(act)
    start = minutes(world.now) - 60
    assert job_names(world) == [f"drift-{start + 10 * number}" for number in (3, 5, 6)]


def test_a_suspended_cron_job_starts_nothing_and_still_notes_what_ended(world: Any) -> None:
    cron_job = a_cron_job(world)
    world.pass_time(minutes=10)
    world.settle(act)
    world.change(CRON_JOBS, world.get(CRON_JOBS, "drift"), spec={**cron_job["spec"], "suspend": True})
    end(world, world.all(JOBS)[0])
    world.pass_time(minutes=30)
    world.settle(act)
    assert len(job_names(world)) == 1
    assert "active" not in status_of(world)
    assert world.wakes == []


def test_the_scheduled_time_is_written_in_the_time_zone_of_the_schedule(world: Any) -> None:
    a_cron_job(world, "0 21 * * *", timeZone="Asia/Tokyo", startingDeadlineSeconds=3600)
    world.pass_time(days=1)
    world.settle(act)
    (job,) = world.all(JOBS)
    stamp = job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
    assert stamp == "2026-03-03T21:00:00+09:00"


@pytest.mark.parametrize(
    ("spec", "reason"), [({"schedule": "never"}, "UnparseableSchedule"), ({"timeZone": "Mars/X"}, "UnknownTimeZone")]
)
def test_a_schedule_that_cannot_be_read_is_an_event(world: Any, spec: Obj, reason: str) -> None:
    a_cron_job(world, **spec)
    world.pass_time(minutes=10)
    world.settle(act)
    assert job_names(world) == []
    assert [event for event, _ in world.events] == [reason]


def test_a_missing_active_job_is_taken_off_the_list(world: Any) -> None:
    a_cron_job(world)
    world.pass_time(minutes=10)
    world.settle(act)
    world.delete(JOBS, world.all(JOBS)[0])
    world.settle(act)
    assert "active" not in status_of(world)
    assert "MissingJob" in [reason for reason, _ in world.events]
