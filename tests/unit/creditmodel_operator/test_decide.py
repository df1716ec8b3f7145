"""The life of a CreditModel, decided pass by pass in a small world."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from creditmodel_operator import names
from creditmodel_operator.conditions import TYPES
from creditmodel_operator.plan import Apply

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

    from creditmodel_operator.plan import Action

JSON = dict[str, Any]


def gate(world: World, name: str) -> JSON:
    found: JSON = next(item for item in world.status["gates"] if item["name"] == name)
    return found


def test_the_first_model_gets_no_service_until_it_is_gated_and_ready(world: World) -> None:
    world.spec("v1")
    world.reconcile()
    for expected in ("artifact", "parity", "benchmark"):
        assert [job["metadata"]["labels"][names.GATE] for job in world.jobs(running=True)] == [expected]
        assert world.champion is None
        assert not world.names_of("Deployment")
        world.run_jobs()
        world.reconcile()
    v1 = world.revision("v1")
    assert world.names_of("Deployment") == {v1}
    assert world.champion is None
    world.settle(v1, ready=1)
    world.reconcile()
    assert world.champion is None
    world.settle(v1)
    world.reconcile()
    assert world.champion == v1
    assert world.names_of("HorizontalPodAutoscaler") == world.names_of("PodDisruptionBudget") == {v1}
    assert world.conditions["Ready"] == "True"
    assert world.status["phase"] == "Ready"
    assert world.status["traffic"] == [{"revision": v1, "weight": 100}]
    assert world.status["active"]["endpoint"] == "http://credit.default.svc"


def test_every_condition_is_there_on_every_pass_with_the_generation(world: World) -> None:
    world.spec("v1")
    for _ in range(4):
        world.reconcile()
        assert tuple(c["type"] for c in world.status["conditions"]) == TYPES
        assert {c["observedGeneration"] for c in world.status["conditions"]} == {1}
        world.run_jobs()


def test_a_settled_model_is_not_written_to(world: World) -> None:
    world.promote("v1")
    for _ in range(3):
        world.wait(1000)
        assert world.reconcile() == 0


def test_a_transition_time_moves_only_when_the_status_flips(world: World) -> None:
    world.spec("v1")
    world.reconcile()
    first = world.condition("Ready")
    world.wait(30)
    world.run_jobs()
    world.reconcile()
    second = world.condition("Ready")
    assert second["message"] != first["message"]
    assert second["lastTransitionTime"] == first["lastTransitionTime"]


def test_a_digest_that_spec_leaves_out_is_resolved_by_the_artifact_gate(world: World) -> None:
    world.promote("v1", model={"digest": None})
    assert world.status["active"]["revision"] == world.revision("v1")
    assert "--digest" not in world.jobs("artifact")[0]["spec"]["template"]["spec"]["containers"][0]["command"]
    parity = world.jobs("parity")[0]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert world.status["active"]["digest"] in parity


def test_a_rejected_challenger_leaves_the_champion_serving(world: World) -> None:
    v1 = world.promote("v1")
    world.spec("v2")
    world.reconcile()
    world.run_jobs()
    world.reconcile()
    bad = {
        **world.good(world.jobs(running=True)[0]),
        "decision_flips": 3,
        "max_abs_diff": 0.2,
        "envelope": [[1.0, 0.2]],
    }
    world.run_jobs(parity=bad)
    world.reconcile()
    found = world.conditions
    assert (found["Ready"], found["Stalled"], found["Available"], found["Reconciling"]) == (
        "False",
        "True",
        "True",
        "False",
    )
    assert found["ParityPassed"] == "False"
    assert world.condition("Stalled")["reason"] == "GateFailed"
    message = world.condition("Ready")["message"]
    assert "parity" in message
    assert "0.2" in message
    assert "atol 1e-06" in message
    assert "3 decisions flip, limit 0" in message
    assert world.champion == v1
    assert world.names_of("Deployment") == {v1}
    assert world.status["phase"] == "Rejected"
    assert world.status["candidate"]["revision"] == world.revision("v2")


SLOW = {"speedup": 1.2, "speedup_low": 1.1, "speedup_high": 1.3}


@pytest.mark.parametrize(
    ("name", "strict", "loose", "measured"),
    [
        ("parity", {"rtol": 1e-5}, {"rtol": 1e-3}, {"envelope": [[1.0, 1e-4]]}),
        ("parity", {"maxDecisionFlips": 0}, {"maxDecisionFlips": 2}, {"decision_flips": 2}),
        ("benchmark", {"minSpeedup": 2}, {"minSpeedup": 1}, SLOW),
        ("benchmark", {"maxP99Milliseconds": 0.01}, {"maxP99Milliseconds": 1}, {}),
        ("quality", {"minAUC": 0.8}, {"minAUC": 0.7}, {}),
        ("quality", {"minKS": 0.8}, {"minKS": 0.3}, {}),
    ],
)
def test_a_changed_threshold_is_judged_again_without_a_job(
    world: World, name: str, strict: JSON, loose: JSON, measured: JSON
) -> None:
    for limits, verdict in ((strict, "Failed"), (loose, "Passed"), (strict, "Failed")):
        world.spec("v1", gates={name: limits})
        world.reconcile()
        while world.jobs(running=True):
            (job,) = world.jobs(running=True)
            found = world.good(job)
            if found["kind"] == name == "benchmark":
                found["batches"] = [{**batch, **measured} for batch in found["batches"]]
            world.end_job(job, {**found, **measured} if found["kind"] == name == "parity" else found)
            world.reconcile()
        assert gate(world, name)["verdict"] == verdict
        assert {len(world.jobs(each)) for each in ("artifact", "parity")} == {1}
        assert len(world.jobs("benchmark")) <= 1


def test_another_account_for_the_jobs_measures_nothing_again(world: World) -> None:
    world.promote("v1", drift={"current": {"uri": "s3://log"}})
    jobs = len(world.jobs())
    world.spec("v1", drift={"current": {"uri": "s3://log"}}, jobs={"serviceAccountName": "judge"})
    world.reconcile()
    assert len(world.jobs()) == jobs
    assert world.conditions["Ready"] == "True"
    cron = world.objects["CronJob", "credit-drift"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert cron["serviceAccountName"] == "judge"


def test_another_account_for_serving_replaces_the_pods_of_the_same_revision(world: World) -> None:
    v1 = world.promote("v1")
    jobs = len(world.jobs())
    world.spec("v1", serving={"serviceAccountName": "scorer"})
    world.reconcile()
    assert len(world.jobs()) == jobs
    assert world.names_of("Deployment") == {v1}
    assert (world.champion, world.conditions["Ready"]) == (v1, "False")
    assert world.objects["Deployment", v1]["spec"]["template"]["spec"]["serviceAccountName"] == "scorer"
    world.settle(v1)
    world.reconcile()
    assert world.conditions["Ready"] == "True"


@pytest.mark.parametrize(
    ("gate_name", "change"),
    [
        ("parity", {"gates": {"parity": {"rows": 99}}}),
        ("benchmark", {"gates": {"benchmark": {"rounds": 99}}}),
        ("benchmark", {"gates": {"benchmark": {"batchSizes": [1]}}}),
        ("artifact", {"rollout": {"retryToken": "again"}}),
        ("artifact", {"model": {"uri": "file:///elsewhere/v1"}}),
    ],
)
def test_a_changed_input_is_measured_again_while_the_champion_serves(
    world: World, gate_name: str, change: JSON
) -> None:
    v1 = world.promote("v1")
    before = {job["metadata"]["name"] for job in world.jobs(gate_name)}
    world.spec("v1", **change)
    world.reconcile()
    assert {job["metadata"]["name"] for job in world.jobs(gate_name, running=True)} - before
    assert (world.conditions["Ready"], world.conditions["Available"]) == ("False", "True")
    assert world.champion == v1
    for _ in range(3):
        world.run_jobs()
        world.reconcile()
    world.settle(v1)
    world.reconcile()
    assert world.conditions["Ready"] == "True"


def test_the_champion_is_fetched_from_another_uri_only_when_the_model_there_has_passed(world: World) -> None:
    v1 = world.promote("v1")

    def fetched_from() -> str:
        arguments = world.objects["Deployment", v1]["spec"]["template"]["spec"]["containers"][0]["args"]
        return str(arguments[arguments.index("--bundle") + 1])

    world.spec("v1", model={"uri": "file:///elsewhere/v1"})
    for _ in range(3):
        world.reconcile()
        assert fetched_from() == "file:///models/v1"
        world.run_jobs()
    world.reconcile()
    assert fetched_from() == "file:///elsewhere/v1"


def test_a_challenger_comes_up_as_large_as_the_champion_and_takes_over_at_once(world: World) -> None:
    v1 = world.promote("v1", serving={"replicas": {"min": 2, "max": 8}})
    world.hand_edit("Deployment", v1, lambda live: live["spec"].update(replicas=5))
    world.settle(v1)
    world.spec("v2", serving={"replicas": {"min": 2, "max": 8}})
    for _ in range(4):
        world.reconcile()
        world.run_jobs()
    v2 = world.revision("v2")
    assert world.replicas(v2) == 5
    assert world.names_of("HorizontalPodAutoscaler") == {v1}
    world.settle(v2, ready=4)
    world.reconcile()
    assert world.champion == v1
    world.settle(v2)
    world.reconcile()
    assert world.champion == v2
    assert world.names_of("HorizontalPodAutoscaler") == {v2}
    assert [entry["revision"] for entry in world.status["history"]] == [v2, v1]
    assert world.replicas(v1) == 5


def test_the_previous_revision_stays_warm_then_goes_to_zero_then_goes(world: World) -> None:
    rollout = {"keepPreviousSeconds": 100, "revisionHistoryLimit": 1}
    v1 = world.promote("v1", rollout=rollout)
    v2 = world.promote("v2", rollout=rollout)
    assert world.replicas(v1) == 2
    look_again = world.decide().look_again
    assert look_again is not None
    assert (look_again - world.now).total_seconds() == pytest.approx(100, abs=1)
    world.wait(101)
    world.reconcile()
    assert world.replicas(v1) == 0
    assert world.names_of("PodDisruptionBudget") == {v2}
    v3 = world.promote("v3", rollout=rollout)
    assert world.names_of("Deployment") == {v2, v3}


def test_a_revision_is_warm_for_as_long_after_it_was_left_whoever_takes_over_later(world: World) -> None:
    rollout = {"keepPreviousSeconds": 100, "revisionHistoryLimit": 2}
    v1 = world.promote("v1", rollout=rollout)
    v2 = world.promote("v2", rollout=rollout)
    world.wait(60)
    world.promote("v3", rollout=rollout)
    world.wait(50)
    world.reconcile()
    assert (world.replicas(v1), world.replicas(v2)) == (0, 2)


def test_a_champion_that_took_over_again_is_put_back_when_the_service_is_deleted(world: World) -> None:
    v1 = world.promote("v1")
    world.promote("v2")
    world.wait(10)
    world.spec("v1")
    world.reconcile()
    world.delete("Service", "credit")
    world.spec("v3")
    world.reconcile()
    assert world.champion == v1
    assert [entry["revision"] for entry in world.status["history"]] == [v1, world.revision("v2")]


def test_setting_spec_back_switches_back_at_once_without_a_job(world: World) -> None:
    v1 = world.promote("v1")
    world.promote("v2")
    jobs = {job["metadata"]["name"] for job in world.jobs()}
    world.spec("v1")
    world.reconcile()
    assert world.champion == v1
    assert world.conditions["Ready"] == "True"
    assert {job["metadata"]["name"] for job in world.jobs()} == jobs


def test_measurements_that_failed_since_do_not_cost_a_model_the_one_that_it_passed(world: World) -> None:
    world.promote("v1")
    for token in "abcde":
        world.wait(1)
        world.spec("v1", rollout={"retryToken": token})
        world.reconcile()
        (job,) = world.jobs(running=True)
        world.end_job(job, "", complete=False)
        world.reconcile()
    world.spec("v1")
    world.reconcile()
    assert not world.jobs(running=True)
    assert world.conditions["Ready"] == "True"


def test_a_former_champion_at_zero_loses_its_disruption_budget_when_its_warm_time_ends(world: World) -> None:
    rollout = {"keepPreviousSeconds": 100}
    v1, v2 = (world.promote(name, rollout=rollout) for name in ("v1", "v2"))
    world.hand_edit("Deployment", v1, lambda live: live["spec"].update(replicas=0))
    world.reconcile()
    assert world.names_of("PodDisruptionBudget") == {v1, v2}
    look_again = world.decide().look_again
    assert look_again is not None
    world.now = look_again
    world.reconcile()
    assert world.names_of("PodDisruptionBudget") == {v2}


def test_setting_spec_back_is_instant_under_another_retry_token_and_another_jobs_image(world: World) -> None:
    v1 = world.promote("v1")
    world.promote("v2", rollout={"retryToken": "second"})
    world.images = type(world.images)(jobs="creditmodel-jobs:next")
    world.spec("v1", rollout={"retryToken": "second"})
    world.reconcile()
    assert world.champion == v1
    assert world.conditions["Ready"] == "True"
    assert not world.jobs(running=True)


def test_an_operator_with_another_jobs_image_does_not_measure_again_what_serves(world: World) -> None:
    world.promote("v1")
    world.images = type(world.images)(jobs="creditmodel-jobs:next")
    world.reconcile()
    assert not world.jobs(running=True)
    assert world.conditions["Ready"] == "True"


def test_a_switch_back_to_a_revision_at_zero_starts_it_first(world: World) -> None:
    v1 = world.promote("v1", rollout={"keepPreviousSeconds": 10})
    v2 = world.promote("v2", rollout={"keepPreviousSeconds": 10})
    world.wait(11)
    world.reconcile()
    world.settle(v1)
    world.spec("v1", rollout={"keepPreviousSeconds": 10})
    world.reconcile()
    assert world.replicas(v1) == 2
    assert world.champion == v2
    world.settle(v1)
    world.reconcile()
    assert world.champion == v1


def test_a_challenger_that_misses_the_deadline_is_removed_and_not_tried_again(world: World) -> None:
    v1 = world.promote("v1", rollout={"progressDeadlineSeconds": 60})
    world.spec("v2", rollout={"progressDeadlineSeconds": 60})
    for _ in range(4):
        world.reconcile()
        world.run_jobs()
    v2 = world.revision("v2")
    world.settle(v2, ready=1)
    world.waiting_pod(v2, "ErrImagePull", "no such image")
    world.wait(59)
    world.reconcile()
    assert v2 in world.names_of("Deployment")
    world.wait(2)
    world.reconcile()
    assert world.names_of("Deployment") == {v1}
    assert world.champion == v1
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "ProgressDeadlineExceeded")
    assert stalled["message"].endswith(
        f"1 of 2 pods ready after 60 s; pod {v2}-0 waits: ErrImagePull: no such image"
    ), stalled["message"]
    world.wait(1000)
    assert world.reconcile() == 0
    world.spec("v2", rollout={"progressDeadlineSeconds": 60}, serving={"image": "mended"})
    world.reconcile()
    assert v2 in world.names_of("Deployment")


def bring_up(world: World, bundle: str, **sections: Any) -> str:
    """Let a model pass its gates; its revision, whose pods are yet to come."""
    world.spec(bundle, **sections)
    for _ in range(4):
        world.reconcile()
        world.run_jobs()
    return world.revision(bundle)


def test_the_operator_wakes_at_the_deadline_of_a_challenger_of_which_nothing_is_heard(world: World) -> None:
    world.promote("v1", rollout={"progressDeadlineSeconds": 60})
    v2 = bring_up(world, "v2", rollout={"progressDeadlineSeconds": 60})
    wake = world.decide().look_again
    assert wake is not None
    assert wake > world.now
    world.now = wake
    world.reconcile()
    assert v2 not in world.names_of("Deployment")


def test_the_operator_wakes_for_the_next_attempt_at_a_gate(world: World) -> None:
    world.spec("v1")
    world.reconcile()
    world.end_job(world.jobs()[0], "", complete=False)
    world.reconcile()
    wake = world.decide().look_again
    assert wake is not None
    assert wake > world.now
    world.now = wake
    world.reconcile()
    assert len(world.jobs(running=True)) == 1


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_a_rollout_that_was_being_given_up_when_the_operator_died_is_given_up(world: World, writes: int) -> None:
    v1 = world.promote("v1", rollout={"progressDeadlineSeconds": 60})
    v2 = bring_up(world, "v2", rollout={"progressDeadlineSeconds": 60})
    world.settle(v2, ready=0)
    world.wait(61)
    world.carry_out(world.decide(), stop_after=writes)
    world.reconcile()
    assert world.names_of("Deployment") == {v1}
    assert world.condition("Stalled")["reason"] == "ProgressDeadlineExceeded"


def test_a_challenger_whose_deployment_is_on_its_way_out_does_not_take_over(world: World) -> None:
    v1 = world.promote("v1")
    v2 = bring_up(world, "v2")
    world.settle(v2)
    world.objects["Deployment", v2]["metadata"]["deletionTimestamp"] = "2026-11-01T13:00:00Z"
    for _ in range(3):
        world.carry_out(world.decide())
        assert world.champion == v1


def test_ready_is_false_with_the_very_write_that_replaces_the_champion_s_pods(world: World) -> None:
    world.promote("v1")
    world.spec("v1", serving={"image": "other"})
    world.carry_out(world.decide())
    assert world.status["observedGeneration"] == 2
    assert world.conditions["Ready"] == "False"


def test_a_quota_that_forbids_a_challenger_s_pods_is_named_when_its_time_is_over(world: World) -> None:
    world.promote("v1", rollout={"progressDeadlineSeconds": 60})
    v2 = bring_up(world, "v2", rollout={"progressDeadlineSeconds": 60})
    why = 'pods "credit-x" is forbidden: exceeded quota: small'
    world.settle(v2, ready=0)
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": why}
    world.objects["Deployment", v2]["status"]["conditions"] = [refused]
    world.wait(61)
    world.reconcile()
    assert world.condition("Stalled")["message"].endswith(f"0 of 2 pods ready after 60 s; {why}")


def test_a_clock_that_was_ahead_when_the_challenger_came_up_does_not_put_its_deadline_off(world: World) -> None:
    v1 = world.promote("v1", rollout={"progressDeadlineSeconds": 60})
    right = world.now
    world.wait(86_400)
    v2 = bring_up(world, "v2", rollout={"progressDeadlineSeconds": 60})
    world.now = right
    world.reconcile()
    world.wait(61)
    world.reconcile()
    assert world.names_of("Deployment") == {v1}
    assert v2 in world.condition("Stalled")["message"]


def test_a_challenger_that_was_ready_before_its_settings_changed_has_to_be_ready_again(world: World) -> None:
    v1 = world.promote("v1")
    v2 = bring_up(world, "v2")
    world.settle(v2)
    world.spec("v2", serving={"image": "other"})
    world.reconcile()
    assert world.champion == v1, "the pods that were counted are of the former template"
    world.settle(v2)
    world.reconcile()
    assert world.champion == v2


def test_the_former_champion_is_not_touched_before_the_selector_has_moved(world: World) -> None:
    rollout = {"keepPreviousSeconds": 0, "revisionHistoryLimit": 0}
    v1 = world.promote("v1", rollout=rollout)
    v2 = bring_up(world, "v2", rollout=rollout)
    world.settle(v2)

    def serves(_: Action) -> None:
        assert world.champion == v2 or world.replicas(v1) > 0

    world.watcher = serves
    world.reconcile()
    assert world.names_of("Deployment") == {v2}


def test_suspend_leaves_the_drift_check_and_old_jobs_as_they_are(world: World) -> None:
    world.promote("v1")
    before = {key for key in world.objects if key[0] != "Pod"}
    world.spec("v1", suspend=True, drift={"current": {"uri": "file:///log"}})
    world.reconcile()
    assert {key for key in world.objects if key[0] != "Pod"} == before


def test_what_keeps_a_challenger_from_starting_is_said_before_the_deadline(world: World) -> None:
    world.promote("v1")
    world.spec("v2", rollout={"progressDeadlineSeconds": 600})
    for _ in range(4):
        world.reconcile()
        world.run_jobs()
    v2 = world.revision("v2")
    world.waiting_pod(v2, "ContainerCreating", "")
    world.reconcile()
    assert world.condition("Ready")["message"] == f"{v2}: 0 of 2 pods ready"
    world.delete("Pod", f"{v2}-0")
    world.waiting_pod(v2, "ImagePullBackOff", "not found")
    world.reconcile()
    message = world.condition("Ready")["message"]
    assert message == f"{v2}: 0 of 2 pods ready; pod {v2}-0 waits: ImagePullBackOff: not found"
    assert world.conditions["Stalled"] == "False"
    world.delete("Pod", f"{v2}-0")
    world.waiting_pod(v2, "ContainerCreating", "")
    world.wait(601)
    world.reconcile()
    assert world.condition("Stalled")["message"].endswith(f"after 600 s; pod {v2}-0 waits: ContainerCreating")


def test_a_new_spec_during_a_rollout_supersedes_it(world: World) -> None:
    v1 = world.promote("v1")
    world.spec("v2")
    for _ in range(4):
        world.reconcile()
        world.run_jobs()
    assert world.revision("v2") in world.names_of("Deployment")
    world.spec("v3")
    world.reconcile()
    assert world.names_of("Deployment") == {v1}
    assert "Superseded" in [event.reason for event in world.events]


def test_a_running_job_of_a_superseded_candidate_is_stopped(world: World) -> None:
    world.spec("v1")
    world.reconcile()
    world.spec("v2")
    world.reconcile()
    running = world.jobs(running=True)
    assert [job["metadata"]["annotations"][names.URI] for job in running] == ["file:///models/v2"]


def test_jobs_of_candidates_that_came_to_nothing_are_bounded_and_those_of_history_stay(world: World) -> None:
    world.promote("v1")
    champions = {job["metadata"]["name"] for job in world.jobs()}
    for number in range(20):
        world.wait(10)
        world.spec(f"bad{number}")
        world.reconcile()
        world.end_job(world.jobs(running=True)[0], {**world.good(world.jobs(running=True)[0]), "digest": "x"})
        world.end_job(world.jobs()[-1], "nonsense", complete=False)
        world.reconcile()
    names_ = {job["metadata"]["name"] for job in world.jobs()}
    assert champions <= names_
    assert len(names_ - champions) <= 8


def test_suspend_starts_nothing_and_touches_nothing_that_serves(world: World) -> None:
    v1 = world.promote("v1")
    world.spec("v2", suspend=True)
    world.reconcile()
    assert not world.jobs(running=True)
    assert world.champion == v1
    assert world.status["phase"] == "Suspended"
    assert world.condition("Ready")["reason"] == "Suspended"
    world.delete("HorizontalPodAutoscaler", v1)
    world.reconcile()
    assert not world.names_of("HorizontalPodAutoscaler")


def test_suspending_what_is_ready_leaves_it_ready(world: World) -> None:
    world.promote("v1")
    world.spec("v1", suspend=True)
    world.reconcile()
    assert world.conditions["Ready"] == "True"


@pytest.mark.parametrize("kind", ["Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"])
def test_a_child_that_is_deleted_by_hand_is_put_back(world: World, kind: str) -> None:
    v1 = world.promote("v1")
    name = "credit" if kind == "Service" else v1
    world.delete(kind, name)
    world.reconcile()
    assert name in world.names_of(kind)
    assert world.champion == v1


def test_a_champion_is_put_back_whole_while_spec_names_something_else(world: World) -> None:
    v1 = world.promote("v1", serving={"image": "first"})
    world.spec("v2", serving={"image": "second"})
    world.reconcile()
    world.delete("Deployment", v1)
    world.reconcile()
    container = world.objects["Deployment", v1]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "first"
    assert world.champion == v1


def test_settings_for_the_challenger_are_not_tried_out_on_the_champion(world: World) -> None:
    v1 = world.promote("v1", serving={"image": "first"})
    world.spec("v2", serving={"image": "second"})
    world.reconcile()
    assert world.objects["Deployment", v1]["spec"]["template"]["spec"]["containers"][0]["image"] == "first"


def test_a_hand_edit_is_undone_and_what_others_own_is_left_alone(world: World) -> None:
    v1 = world.promote("v1")

    def edit(live: JSON) -> None:
        live["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
        live["spec"]["replicas"] = 4
        live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "7"

    world.hand_edit("Deployment", v1, edit)
    world.reconcile()
    live = world.objects["Deployment", v1]
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "creditmodel-serving:dev"
    assert live["spec"]["replicas"] == 4
    assert live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "7"
    world.settle(v1)
    world.reconcile()
    assert world.reconcile() == 0


@pytest.mark.parametrize(
    ("note", "text"),
    [
        (names.ACTIVE_SINCE, "yesterday"),
        (names.ACTIVE_SINCE, "2026-11-01T12:00:00+25:00"),
        (names.EVALUATION, '{"auc": "high"}'),
        (names.EVALUATION, '{"auc": 0.7, "of a later release": 1}'),
        (names.RECIPE, '"text"'),
        (names.RECIPE, '{"digest": 7, "uri": "file:///m", "image": "i", "serving": {}}'),
    ],
)
def test_what_is_written_on_the_champion_and_cannot_be_read_is_written_anew(world: World, note: str, text: str) -> None:
    quality = {"gates": {"quality": {"maxAUCDrop": 0.01}}}
    v1 = world.promote("v1", **quality)
    world.hand_edit("Deployment", v1, lambda live: live["metadata"]["annotations"].update({note: text}))
    world.reconcile()
    world.settle(v1)
    world.reconcile()
    assert (world.champion, world.conditions["Ready"]) == (v1, "True")
    assert world.objects["Deployment", v1]["metadata"]["annotations"].get(note) != text
    world.promote("v2", **quality)


@pytest.mark.parametrize("text", ["now", "2026-11-01T11:59:00"])
def test_a_challenger_whose_start_was_edited_by_hand_still_comes_up(world: World, text: str) -> None:
    world.spec("v1")
    for _ in range(4):
        world.reconcile()
        world.run_jobs()
    v1 = world.revision("v1")
    note = {names.CANDIDATE_SINCE: text}
    world.hand_edit("Deployment", v1, lambda live: live["metadata"]["annotations"].update(note))
    world.reconcile()
    world.settle(v1)
    world.reconcile()
    assert world.champion == v1


def test_a_recipe_to_which_a_later_release_has_added_something_is_read(world: World) -> None:
    v1 = world.promote("v1")
    for kind, name in (("Deployment", v1), ("Service", "credit")):
        world.hand_edit(kind, name, _with_a_later_recipe)
    world.reconcile()
    assert (world.champion, world.replicas(v1)) == (v1, 6)


def _with_a_later_recipe(live: JSON) -> None:
    """Also scaled up, as an autoscaler does."""
    live["spec"]["replicas"] = 6
    notes = live["metadata"]["annotations"]
    notes[names.RECIPE] = json.dumps(json.loads(notes[names.RECIPE]) | {"canary": 10})


def test_a_selector_edited_onto_a_stranger_is_moved_back_to_the_champion(world: World) -> None:
    v1 = world.promote("v1")
    world.hand_edit("Service", "credit", lambda live: live["spec"]["selector"].update({names.REVISION: "stranger"}))
    world.reconcile()
    assert world.champion == v1


def test_a_deployment_is_made_with_its_size_in_one_write(world: World) -> None:
    v1 = world.promote("v1")
    assert list(world.applied["Deployment", v1]) == [names.FIELD_MANAGER]
    assert world.replicas(v1) == 2


@pytest.mark.parametrize("scaled", [2, 6])
def test_an_apply_leaves_the_size_as_the_autoscaler_has_it(world: World, scaled: int) -> None:
    v1 = world.promote("v1")
    world.hand_edit("Deployment", v1, lambda live: live["spec"].update(replicas=scaled))
    world.settle(v1)
    world.spec("v1", serving={"image": "another:1"})
    changes = [a for a in world.decide().actions if isinstance(a, Apply) and (a.kind, a.name) == ("Deployment", v1)]
    assert [(a.size, a.version is not None) for a in changes] == [(2, True) if scaled == 2 else (None, False)]
    world.reconcile()
    assert world.replicas(v1) == scaled


def test_an_unhealthy_champion_is_degraded_and_nothing_is_rolled_back(world: World) -> None:
    world.promote("v1")
    v2 = world.promote("v2")
    world.settle(v2, ready=1)
    world.reconcile()
    assert (world.conditions["Ready"], world.conditions["Available"]) == ("False", "True")
    assert world.status["phase"] == "Degraded"
    world.settle(v2, ready=0)
    world.reconcile()
    assert world.conditions["Available"] == "False"
    assert world.champion == v2


def test_a_champion_without_enough_pods_says_what_its_pods_say(world: World) -> None:
    v1 = world.promote("v1")
    world.settle(v1, ready=0)
    world.waiting_pod(v1, "CrashLoopBackOff", "back-off 20s restarting failed container")
    world.reconcile()
    assert f"0 pods available, at least 2; pod {v1}-0 waits: CrashLoopBackOff" in world.condition("Ready")["message"]
    assert f"no ready pod; pod {v1}-0 waits" in world.condition("Available")["message"]
    world.settle(v1)
    world.reconcile()
    assert world.condition("Ready")["message"] == f"{v1} is gated, rolled and serving"


def test_a_champion_whose_new_template_does_not_start_says_why(world: World) -> None:
    v1 = world.promote("v1")
    world.spec("v1", serving={"image": "registry.example/typo:1"})
    world.reconcile()
    live = world.objects["Deployment", v1]
    world.settle(v1)
    live["status"] |= {"replicas": 3, "updatedReplicas": 1}
    world.waiting_pod(v1, "ImagePullBackOff", "registry.example/typo:1: not found")
    world.reconcile()
    assert "1 of 3 pods are of the newest template" in world.condition("Ready")["message"]
    assert "registry.example/typo:1: not found" in world.condition("Ready")["message"]


def test_a_gate_job_deleted_before_its_end_is_started_again_and_never_passes(world: World) -> None:
    world.spec("v1")
    world.reconcile()
    name = world.jobs()[0]["metadata"]["name"]
    world.delete("Job", name)
    world.reconcile()
    assert [job["metadata"]["name"] for job in world.jobs(running=True)] == [name]
    assert world.conditions["ArtifactVerified"] == "Unknown"


def test_a_measurement_outlives_its_pod(world: World) -> None:
    world.promote("v1")
    for kind, name in [key for key in world.objects if key[0] == "Pod"]:
        world.delete(kind, name)
    assert world.reconcile() == 0
    assert world.conditions["Ready"] == "True"


def test_losing_the_evidence_of_the_champion_measures_again_and_goes_on_serving(world: World) -> None:
    v1 = world.promote("v1")
    for job in world.jobs():
        world.delete("Job", job["metadata"]["name"])
    world.reconcile()
    assert world.champion == v1
    assert world.conditions["Available"] == "True"
    assert world.conditions["Ready"] == "False"
    assert world.jobs(running=True)


def test_a_challenger_worse_than_the_champion_is_rejected_with_both_numbers(world: World) -> None:
    quality = {"quality": {"maxAUCDrop": 0.01}}
    world.promote("v1", gates=quality)
    world.spec("v2", gates=quality)
    world.reconcile()
    weak = world.good(world.jobs(running=True)[0])
    weak["evaluation"]["auc"] = 0.74
    for _ in range(4):
        world.run_jobs(artifact=weak)
        world.reconcile()
    assert world.conditions["QualityPassed"] == "False"
    message = world.condition("QualityPassed")["message"]
    assert "0.7400" in message
    assert "0.7700" in message
    assert "at most 0.01" in message


def test_figures_say_how_sure_they_are_on_a_small_hold_out(world: World) -> None:
    quality = {"quality": {"minAUC": 0.65, "maxAUCDrop": 0.01}}
    world.promote("v1", gates=quality)
    world.spec("v2", gates=quality)
    world.reconcile()
    small = world.good(world.jobs(running=True)[0])
    small["evaluation"] |= {"auc": 0.70, "rows": 500, "bad_rate": 0.22}
    for _ in range(4):
        world.run_jobs(artifact=small)
        world.reconcile()
    assert "(an AUC on 500 such rows is known to ± 0.059)" in world.condition("QualityPassed")["message"]
    lenient = {"quality": {"minAUC": 0.65, "maxAUCDrop": 0.1}}
    world.spec("v2", gates=lenient)
    world.reconcile()
    assert "AUC 0.7000 ± 0.059 on 500 hold-out rows, at least 0.65" in world.condition("QualityPassed")["message"]


def test_going_back_to_a_weaker_former_champion_is_not_compared_again(world: World) -> None:
    world.spec("v1")
    world.reconcile()
    weak = world.good(world.jobs(running=True)[0])
    weak["evaluation"]["auc"] = 0.70
    world.run_jobs(artifact=weak)
    v1 = world.promote("v1", gates={"quality": {"maxAUCDrop": 0.01}})
    world.promote("v2", gates={"quality": {"maxAUCDrop": 0.01}})
    world.spec("v1", gates={"quality": {"maxAUCDrop": 0.01}})
    world.reconcile()
    assert world.champion == v1


def test_the_first_model_passes_a_limit_on_the_drop_with_its_figures_in_the_message(world: World) -> None:
    world.promote("v1", gates={"quality": {"maxAUCDrop": 0.01}})
    assert gate(world, "quality")["message"] == "no champion to compare with; AUC 0.7700, KS 0.4100"


def test_quality_without_limits_is_not_judged(world: World) -> None:
    world.promote("v1")
    assert world.condition("QualityPassed")["reason"] == "NotConfigured"
    assert world.conditions["QualityPassed"] == "Unknown"


def test_an_inconclusive_benchmark_is_measured_again_and_then_stalls(world: World) -> None:
    world.spec("v1", gates={"benchmark": {"minSpeedup": 3.0}})
    world.reconcile()
    for _ in range(2):
        world.run_jobs()
        world.reconcile()
    for attempt in range(1, 5):
        assert len(world.jobs("benchmark")) == attempt
        job = world.jobs("benchmark", running=True)[0]
        world.end_job(job, _between(world, job))
        world.reconcile()
    assert world.condition("Stalled")["reason"] == "BenchmarkInconclusive"
    assert world.conditions["BenchmarkPassed"] == "False"
    assert not world.jobs(running=True)
    assert "limit 3x" in world.condition("BenchmarkPassed")["message"]


def _between(world: World, job: JSON) -> JSON:
    found: JSON = world.good(job)
    for batch in found["batches"]:
        batch["speedup_low"], batch["speedup_high"] = 2.5, 3.5
    return found


def test_an_object_that_this_operator_cannot_read_says_so_and_keeps_serving(world: World) -> None:
    v1 = world.promote("v1")
    world.hand_edit("CreditModel", "credit", lambda live: live["spec"].pop("model"))
    world.reconcile()
    assert world.condition("Stalled")["reason"] == "InvalidSpec"
    assert "model" in world.condition("Ready")["message"]
    assert world.champion == v1


def test_a_champion_whose_new_template_never_comes_up_stalls_with_what_serves_available(world: World) -> None:
    champion = world.promote("v1")
    world.spec("v1", serving={"image": "missing:1"})
    world.reconcile()
    world.settle(champion)
    live = world.objects["Deployment", champion]
    live["status"] |= {"replicas": 3, "updatedReplicas": 1}
    world.reconcile()
    assert (world.condition("Reconciling")["status"], world.condition("Stalled")["status"]) == ("True", "False")
    overdue = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    live["status"]["conditions"] = [overdue]
    world._touch(live)
    world.reconcile()
    assert [world.condition(name)["status"] for name in ("Ready", "Reconciling", "Stalled", "Available")] == [
        "False", "False", "True", "True"
    ]  # fmt: skip
    assert world.condition("Stalled")["reason"] == "ProgressDeadlineExceeded"
    assert "1 of 3 pods" in world.condition("Stalled")["message"]
    world.settle(champion)
    world.reconcile()
    assert (world.condition("Ready")["status"], world.condition("Stalled")["status"]) == ("True", "False")


def test_a_model_that_is_being_deleted_is_left_to_the_garbage_collector(world: World) -> None:
    world.promote("v1")
    world.objects["CreditModel", "credit"]["metadata"]["deletionTimestamp"] = "2026-11-01T13:00:00Z"
    world.delete("Service", "credit")
    plan = world.decide()
    assert (plan.actions, plan.status) == ((), None)


def test_events_tell_each_transition_once(world: World) -> None:
    world.promote("v1")
    reasons = [event.reason for event in world.events]
    assert reasons == ["ArtifactVerified", "ParityPassed", "BenchmarkPassed", "Promoted"]
    assert world.events[-1].message.endswith("takes the requests; it is gated, rolled and serving")
    count = len(reasons)
    world.wait(3600)
    world.reconcile()
    assert len(world.events) == count


def test_the_status_that_tells_of_a_promotion_has_nothing_to_add_afterwards(world: World) -> None:
    for bundle in ("v1", "v2", "v1"):
        world.spec(bundle)
        world.reconcile()
        for _ in range(3):
            world.run_jobs()
            world.reconcile()
        world.wait(60)
        world.settle(world.revision(bundle))
        world.carry_out(world.decide())
        told = world.status
        assert told["active"]["revision"] == world.revision(bundle)
        world.settle(world.revision(bundle))
        world.reconcile()
        assert world.status == told
    assert [entry["state"] for entry in told["history"]] == ["Active", "Warm"]


def test_children_go_with_their_owner(world: World) -> None:
    world.promote("v1", drift={"current": {"uri": "file:///log"}})
    uid = world.objects["CreditModel", "credit"]["metadata"]["uid"]
    for (kind, name), child in world.objects.items():
        if kind in ("CreditModel", "Pod"):
            continue
        owner = child["metadata"]["ownerReferences"][0]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (uid, True, True), (kind, name)
        assert "finalizers" not in child["metadata"]


def test_an_edited_selector_is_put_back_where_every_deployment_is_gone_too(world: World) -> None:
    champion = world.promote("v1")
    world.spec("v2")
    world.delete("Deployment", champion)
    world.hand_edit("Service", "credit", lambda live: live["spec"]["selector"].update({names.REVISION: "x"}))
    world.carry_out(world.decide(), stop_after=1)
    assert world.champion == champion
    world.reconcile()
    assert champion in world.names_of("Deployment")
