"""Signatures, as far as the operator goes: which keys the Job is given, and what its answer means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from creditmodel_operator import names

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]
KEY = "f3845fc5305cd09383a6f5b9971ae964831c0f2c3b6c8bcfc35f0698495cd06f"


def signed(name: str = "keys") -> JSON:
    return {"model": {"signature": {"publicKeySecretRef": {"name": name}}}}


def ask(world: World, **sections: Any) -> JSON:
    """Apply a CreditModel; its newest artifact Job."""
    world.spec("v1", **sections)
    world.reconcile()
    return world.jobs("artifact")[-1]


def pod(job: JSON) -> JSON:
    found: JSON = job["spec"]["template"]["spec"]
    return found


def failure(reason: str) -> JSON:
    error = {"reason": reason, "message": "file:///models/v1 has no file signature"}
    return {"schema_version": 1, "kind": "artifact", "tool": "test 1", "error": error}


def test_the_job_gets_the_keys_as_files_and_the_operator_never_reads_them(world: World) -> None:
    container = pod(ask(world, **signed()))["containers"][0]
    assert container["command"][-4:-2] == ["--public-key", "/secrets/keys"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["files"] == {"name": "files", "mountPath": "/secrets/keys", "readOnly": True}
    volumes = {volume["name"]: volume for volume in pod(world.jobs("artifact")[0])["volumes"]}
    assert volumes["files"]["secret"] == {"secretName": "keys", "optional": True}


def test_no_other_job_gets_the_keys(world: World) -> None:
    job = ask(world, **signed())
    world.end_job(job, {**world.good(job), "signed_by": KEY})
    world.reconcile()
    assert {volume["name"] for volume in pod(world.jobs("parity")[0])["volumes"]} == {"scratch"}


def test_a_signed_model_passes_and_the_message_names_the_key(world: World) -> None:
    job = ask(world, **signed())
    world.end_job(job, {**world.good(job), "signed_by": KEY})
    world.reconcile()
    assert world.conditions["ArtifactVerified"] == "True"
    assert "signed by key f3845fc5305c…" in world.condition("ArtifactVerified")["message"]


@pytest.mark.parametrize("reason", ["Unsigned", "SignatureUntrusted", "SignatureMismatch"])
def test_what_nobody_trusted_has_signed_is_refused_for_good_with_its_reason(world: World, reason: str) -> None:
    champion = world.promote("v0")
    job = ask(world, **signed())
    world.end_job(job, failure(reason), complete=False)
    world.reconcile()
    found = world.condition("ArtifactVerified")
    assert (found["status"], found["reason"]) == ("False", reason)
    assert (world.conditions["Stalled"], world.champion) == ("True", champion)
    world.wait(10**4)
    world.reconcile()
    assert len(world.jobs(running=True)) == 0


def test_keys_that_are_missing_are_an_error_that_is_tried_again(world: World) -> None:
    job = ask(world, **signed())
    world.end_job(job, failure("KeyUnusable"), complete=False)
    world.wait(10)
    world.reconcile()
    assert world.conditions["Stalled"] == "False"
    assert len(world.jobs("artifact")) == 2


def test_a_measurement_that_says_nothing_of_the_signature_does_not_pass(world: World) -> None:
    job = ask(world, **signed())
    world.end_job(job, world.good(job))
    world.reconcile()
    assert world.conditions["ArtifactVerified"] == "False"
    assert "keys" in world.condition("ArtifactVerified")["message"]


@pytest.mark.parametrize(
    "change", [signed("other-keys"), {**signed(), "rollout": {"retryToken": "signed now"}}], ids=["secret", "token"]
)
def test_another_secret_or_retry_token_verifies_again_a_refused_model(world: World, change: JSON) -> None:
    job = ask(world, **signed())
    world.end_job(job, failure("Unsigned"), complete=False)
    world.reconcile()
    again = ask(world, **change)
    assert again["metadata"]["name"] != job["metadata"]["name"]
    world.end_job(again, {**world.good(again), "signed_by": KEY})
    world.reconcile()
    assert world.conditions["ArtifactVerified"] == "True"


def test_asking_for_a_signature_later_verifies_the_champion_again_while_it_serves(world: World) -> None:
    v1 = world.promote("v1")
    job = ask(world, **signed())
    assert (world.champion, world.conditions["Available"], world.conditions["Ready"]) == (v1, "True", "False")
    world.end_job(job, {**world.good(job), "signed_by": KEY})
    world.reconcile()
    assert (world.champion, world.conditions["Ready"]) == (v1, "True")
    assert len(world.jobs("parity")) == 1


def test_an_operator_told_to_ask_for_signatures_asks_whatever_spec_says(world: World) -> None:
    world.public_keys = "house-keys"
    assert "/secrets/house-keys" in pod(ask(world))["containers"][0]["command"]
    assert "/secrets/house-keys" in pod(ask(world, **signed("mine")))["containers"][0]["command"]


def test_a_model_without_keys_keeps_the_job_that_it_had(world: World) -> None:
    job = ask(world)
    assert "--public-key" not in pod(job)["containers"][0]["command"]
    identity = [["artifact", measured(job)], world.images.jobs, None, world.observe().model.meta.uid]
    assert names.gate_job("credit", "artifact", identity, 1) == job["metadata"]["name"]


def measured(job: JSON) -> JSON:
    command = pod(job)["containers"][0]["command"]
    return {"uri": command[2], "digest": command[4]}
