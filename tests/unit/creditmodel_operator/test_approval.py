"""The approval gate: nothing takes over before a person has approved that very model, and what is undone undoes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from creditmodel_operator import names

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]
REQUIRED: JSON = {"gates": {"approval": {"required": True}}}


def measured(world: World, bundle: str, **sections: Any) -> None:
    """Apply `bundle` and let every Job end well."""
    world.spec(bundle, **(sections or REQUIRED))
    for _ in range(4):
        world.reconcile()
        world.run_jobs()
    world.reconcile()


def promoted(world: World, bundle: str) -> str:
    """What was approved comes up and takes over; its revision."""
    world.reconcile()
    name = world.revision(bundle)
    for _ in range(2):
        world.settle(name)
        world.reconcile()
    assert world.champion == name, world.status
    return name


def gate(world: World) -> JSON:
    found: JSON = next(item for item in world.status["gates"] if item["name"] == "approval")
    return found


def heard(world: World) -> list[str]:
    return [event.reason for event in world.events]


def test_a_model_waits_for_its_approval_with_the_evidence_in_sight(world: World) -> None:
    measured(world, "v1")
    assert not world.names_of("Deployment")
    assert [item["verdict"] for item in world.status["gates"]] == [
        "Passed",
        "Passed",
        "Passed",
        "NotConfigured",
        "Waiting",
    ]
    found = world.conditions
    assert (found["Ready"], found["Reconciling"], found["Stalled"], found["ApprovalGranted"]) == (
        "False",
        "False",
        "False",
        "Unknown",
    )
    assert world.condition("Ready")["reason"] == world.status["phase"] == "AwaitingApproval"
    world.wait(10**6)
    assert world.reconcile() == 0
    assert heard(world).count("AwaitingApproval") == 1


def test_the_message_has_the_command_that_grants_it(world: World) -> None:
    measured(world, "v1")
    command = re.search(r"kubectl create -n default -f - <<< '(.*)'$", world.condition("Ready")["message"])
    assert command is not None
    approval = json.loads(command[1])
    assert (approval["apiVersion"], approval["kind"]) == ("creditmodel.dev/v1alpha1", "ModelApproval")
    spec = approval["spec"]
    world.decide_about("v1", name=approval["metadata"]["name"], **spec)
    promoted(world, "v1")


def test_an_approved_model_takes_over_and_says_who_approved_it(world: World) -> None:
    measured(world, "v1")
    world.decide_about("v1", approver="jane.doe")
    promoted(world, "v1")
    assert world.conditions["ApprovalGranted"] == world.conditions["Ready"] == "True"
    assert "by jane.doe: report 7" in gate(world)["message"]
    assert "by jane.doe: report 7" in world.status["history"][0]["approval"]
    assert "ApprovalGranted" in heard(world)


def test_an_approval_may_come_before_the_measurements_and_replaces_none(world: World) -> None:
    world.decide_about("v1")
    world.spec("v1", **REQUIRED)
    world.reconcile()
    assert [item["verdict"] for item in world.status["gates"]] == ["Running", *["Waiting"] * 4]
    world.run_jobs()
    world.reconcile()
    bad = {**world.good(world.jobs(running=True)[0]), "envelope": [[1.0, 0.2]], "max_abs_diff": 0.2}
    world.run_jobs(parity=bad)
    world.reconcile()
    assert world.status["phase"] == "Rejected"
    assert not world.names_of("Deployment")


def test_another_model_needs_an_approval_of_its_own(world: World) -> None:
    measured(world, "v1")
    world.decide_about("v1")
    v1 = promoted(world, "v1")
    measured(world, "v2")
    assert world.champion == v1
    assert world.names_of("Deployment") == {v1}
    assert (world.conditions["Ready"], world.conditions["Available"]) == ("False", "True")
    world.decide_about("v2")
    promoted(world, "v2")


@pytest.mark.parametrize("other", [{"creditModelName": "another"}, {"digest": "sha256:" + "0" * 64}])
def test_an_approval_of_something_else_counts_for_nothing(world: World, other: JSON) -> None:
    world.decide_about("v1", **other)
    measured(world, "v1")
    assert world.status["phase"] == "AwaitingApproval"


def test_a_rejection_fails_the_gate_and_outweighs_every_approval(world: World) -> None:
    measured(world, "v1")
    world.decide_about("v1")
    v1 = promoted(world, "v1")
    measured(world, "v2")
    world.decide_about("v2", "Reject", reason="unstable on small businesses", expires="2020-01-01T00:00:00Z")
    world.decide_about("v2")
    world.reconcile()
    found = world.conditions
    assert (found["Ready"], found["Stalled"], found["ApprovalGranted"], found["Available"]) == (
        "False",
        "True",
        "False",
        "True",
    )
    assert world.condition("Stalled")["reason"] == "GateFailed"
    assert "unstable on small businesses" in world.condition("Stalled")["message"]
    assert world.names_of("Deployment") == {v1}
    assert "ApprovalRejected" in heard(world)
    world.delete("ModelApproval", "reject-v2")
    promoted(world, "v2")


def test_an_approval_that_is_taken_back_in_time_stops_the_rollout(world: World) -> None:
    measured(world, "v1")
    name = world.decide_about("v1")
    world.reconcile()
    assert world.names_of("Deployment")
    world.delete("ModelApproval", name)
    world.reconcile()
    assert not world.names_of("Deployment")
    assert world.status["phase"] == "AwaitingApproval"


def test_an_approval_that_is_deleted_later_takes_nothing_down_and_stays_on_record(world: World) -> None:
    measured(world, "v1")
    name = world.decide_about("v1", approver="jane.doe")
    v1 = promoted(world, "v1")
    world.delete("ModelApproval", name)
    world.reconcile()
    assert (world.champion, world.conditions["Ready"], world.conditions["ApprovalGranted"]) == (v1, "True", "True")
    assert "no longer stands" in gate(world)["message"]
    assert "jane.doe" in world.status["history"][0]["approval"]
    assert world.reconcile() == 0


def test_going_back_to_an_approved_model_is_instant_even_without_the_object(world: World) -> None:
    measured(world, "v1")
    name = world.decide_about("v1")
    v1 = promoted(world, "v1")
    world.delete("ModelApproval", name)
    measured(world, "v2")
    world.decide_about("v2")
    promoted(world, "v2")
    jobs = len(world.jobs())
    world.spec("v1", **REQUIRED)
    world.reconcile()
    assert (world.champion, len(world.jobs())) == (v1, jobs)


def test_a_rejected_champion_goes_on_serving_and_says_so(world: World) -> None:
    measured(world, "v1")
    world.decide_about("v1")
    v1 = promoted(world, "v1")
    world.decide_about("v1", "Reject")
    world.reconcile()
    assert (world.champion, world.replicas(v1)) == (v1, 2)
    assert (world.conditions["Ready"], world.conditions["Stalled"], world.conditions["Available"]) == (
        "False",
        "True",
        "True",
    )


def test_a_rejected_former_champion_does_not_come_back(world: World) -> None:
    measured(world, "v1")
    world.decide_about("v1")
    promoted(world, "v1")
    measured(world, "v2")
    world.decide_about("v2")
    v2 = promoted(world, "v2")
    world.decide_about("v1", "Reject")
    world.spec("v1", **REQUIRED)
    world.reconcile()
    assert world.champion == v2
    assert world.status["phase"] == "Rejected"


def test_an_approval_expires_by_itself_unless_the_model_has_taken_over(world: World) -> None:
    measured(world, "v1")
    world.decide_about("v1", expires="2026-11-01T13:00:00Z")
    world.reconcile()
    assert world.names_of("Deployment")
    plan = world.decide()
    assert plan.look_again is not None
    world.wait(3600)
    world.reconcile()
    assert not world.names_of("Deployment")
    assert world.status["phase"] == "AwaitingApproval"


@pytest.mark.parametrize("expires", ["2026-11-01t13:00:00z", "2026-11-01T13:00:00x9Z", "2026-11-01T13:00:00+24:30"])
def test_an_expiry_that_only_an_api_server_can_read_never_lengthens_an_approval(world: World, expires: str) -> None:
    measured(world, "v1")
    world.decide_about("v1", expires=expires)
    world.wait(3600)
    world.reconcile()
    assert not world.names_of("Deployment")
    assert world.status["phase"] == "AwaitingApproval"


def test_a_rejection_whose_expiry_has_passed_stands_and_nothing_is_looked_at_again_for_it(world: World) -> None:
    measured(world, "v1")
    world.decide_about("v1", "Reject", expires="2026-01-01T00:00:00Z")
    world.reconcile()
    assert world.status["phase"] == "Rejected"
    assert world.decide().look_again is None


def test_an_expiry_after_the_promotion_changes_nothing_that_serves(world: World) -> None:
    measured(world, "v1")
    world.decide_about("v1", expires="2026-11-01T13:00:00Z")
    v1 = promoted(world, "v1")
    world.wait(3600)
    world.reconcile()
    assert (world.champion, world.conditions["Ready"]) == (v1, "True")


def test_an_operator_told_to_ask_for_approvals_asks_whatever_spec_says(world: World) -> None:
    world.approval_required = True
    measured(world, "v1", gates={"approval": {"required": False}})
    assert world.status["phase"] == "AwaitingApproval"
    world.decide_about("v1")
    promoted(world, "v1")


def test_asking_for_approvals_later_leaves_the_champion_serving(world: World) -> None:
    v1 = world.promote("v1")
    world.spec("v1", **REQUIRED)
    world.reconcile()
    assert (world.champion, world.conditions["Available"]) == (v1, "True")
    assert (world.conditions["Ready"], world.status["phase"]) == ("False", "AwaitingApproval")
    world.decide_about("v1")
    world.reconcile()
    assert world.conditions["Ready"] == "True"
    assert names.APPROVAL in world.objects["Deployment", v1]["metadata"]["annotations"]


def test_two_approvals_are_no_more_than_one(world: World) -> None:
    measured(world, "v1")
    world.decide_about("v1", name="first", approver="jane.doe")
    world.wait(5)
    world.decide_about("v1", name="second", approver="john.roe")
    promoted(world, "v1")
    assert "first" in gate(world)["message"]
    assert "(and 1 more)" in gate(world)["message"]
    assert gate(world)["summary"] == "jane.doe"
