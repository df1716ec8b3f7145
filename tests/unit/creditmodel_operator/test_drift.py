"""Drift checks: which one counts, what it says, and when a model needs retraining."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from creditmodel_operator import names

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]
DRIFT: JSON = {"current": {"uri": "s3://log"}, "report": {"uri": "s3://reports/"}, "consecutiveBreaches": 2}


def said(bundle: str = "v1", psi: float = 0.05, share: float = 0.0, **over: Any) -> JSON:
    numbers = {"rows": 5000, "reference_rows": 20000, "psi_max": psi, "psi_score": 0.0, "drifted_share": share}
    verdict = "drift" if share > 0 else "no_drift"
    from_bundle = _digest(bundle)
    base = {
        "schema_version": 1,
        "kind": "drift",
        "tool": "t",
        "digest": from_bundle,
        "verdict": verdict,
        "reason": "why",
    }
    return base | numbers | over


def _digest(bundle: str) -> str:
    return "sha256:" + hashlib.sha256(bundle.encode()).hexdigest()


BREACH: dict[str, Any] = {"psi": 0.5, "share": 0.1, "drifted_features": ["pay_status"]}


@pytest.fixture
def watched(world: World) -> World:
    world.promote("v1", drift=DRIFT)
    return world


def test_the_cronjob_checks_the_champion_and_is_made_with_the_first_promotion(world: World) -> None:
    world.spec("v1", drift=DRIFT)
    world.reconcile()
    assert not world.names_of("CronJob")
    world.promote("v1", drift=DRIFT)
    cron = world.objects["CronJob", "credit-drift"]
    command = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"]
    expected = [
        "creditmodel-drift",
        "--bundle",
        "file:///models/v1",
        "--digest",
        _digest("v1"),
        "--current",
        "s3://log",
    ]
    assert command[:7] == expected
    assert command[7:11] == ["--window", "24h", "--revision", world.revision("v1")]
    assert "s3://reports/credit/$(POD_NAME).html" in command
    assert cron["spec"]["successfulJobsHistoryLimit"] >= 2 * 2 + 1
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_cronjob_moves_with_the_champion_and_goes_with_its_spec(watched: World) -> None:
    watched.spec("v2", drift=DRIFT)
    watched.reconcile()
    cron = watched.objects["CronJob", "credit-drift"]
    assert cron["spec"]["jobTemplate"]["metadata"]["annotations"][names.DIGEST] == _digest("v1")
    watched.promote("v2", drift=DRIFT)
    assert cron["spec"]["jobTemplate"]["metadata"]["annotations"][names.DIGEST] == _digest("v2")
    watched.spec("v2")
    watched.reconcile()
    assert not watched.names_of("CronJob")
    assert watched.condition("DriftDetected")["reason"] == "NotConfigured"


def test_without_a_result_drift_is_unknown(watched: World) -> None:
    assert watched.conditions["DriftDetected"] == "Unknown"
    assert watched.condition("DriftDetected")["reason"] == "NoResult"
    assert watched.conditions["RetrainingRequired"] == "False"


@pytest.mark.parametrize(
    ("message", "limits", "status", "reason"),
    [
        pytest.param(said(), {}, "False", "WithinLimits", id="everything within limits"),
        pytest.param(said(**BREACH), {}, "True", "LimitsExceeded", id="a feature drifted"),
        pytest.param(said(psi=0.24, share=0.3), {}, "False", "WithinLimits", id="both figures at their limits"),
        pytest.param(said(psi=0.2, share=0.31), {}, "True", "LimitsExceeded", id="too many features drifted"),
        pytest.param(said(psi=0.26, share=0.0), {}, "True", "LimitsExceeded", id="the score drifted"),
        pytest.param(
            said(verdict="inconclusive", psi=0.9, share=0.9), {}, "Unknown", "Inconclusive", id="too few rows"
        ),
        pytest.param(said(psi_max=None, drifted_share=None), {}, "Unknown", "Inconclusive", id="no numbers"),
        pytest.param("nonsense", {}, "Unknown", "MalformedMeasurement", id="nonsense is never no drift"),
        pytest.param(said("v9"), {}, "Unknown", "WrongModel", id="a result for another model is an error"),
    ],
)
def test_the_newest_check_says(world: World, message: JSON | str, limits: JSON, status: str, reason: str) -> None:
    world.promote("v1", drift=DRIFT | limits)
    world.check_drift(1, message)  # type: ignore[arg-type]
    world.reconcile()
    found = world.condition("DriftDetected")
    assert (found["status"], found["reason"]) == (status, reason)


@pytest.mark.parametrize("limits", [{"psi": 0.1}, {"maxDriftedShare": 0.05}], ids=["a lower PSI", "a lower share"])
def test_a_changed_limit_is_judged_again_without_a_check(watched: World, limits: JSON) -> None:
    watched.check_drift(1, said(psi=0.2, share=0.1))
    watched.reconcile()
    assert watched.conditions["DriftDetected"] == "False"
    watched.spec("v1", drift=DRIFT | limits)
    watched.reconcile()
    assert watched.conditions["DriftDetected"] == "True"


def test_status_has_the_numbers_and_the_report(watched: World) -> None:
    watched.check_drift(1, said(**BREACH, report={"html": "s3://r.html", "json": "s3://r.json"}))
    watched.reconcile()
    found = watched.status["drift"]
    assert (found["psiMax"], found["driftedShare"], found["driftedFeatures"]) == (0.5, 0.1, ["pay_status"])
    assert (found["report"], found["job"], found["verdict"]) == ("s3://r.html", "check-1", "Drift")


def test_an_error_after_a_result_is_told(watched: World) -> None:
    watched.check_drift(1, said())
    watched.check_drift(2, "", name="broken")  # type: ignore[arg-type]
    watched.reconcile()
    assert watched.condition("DriftDetected")["reason"] == "NoMeasurement"
    assert watched.conditions["DriftDetected"] == "Unknown"


B, C, I, E = "breach", "clean", "inconclusive", "error"  # noqa: E741


@pytest.mark.parametrize(
    ("row", "required"),
    [
        pytest.param([B], "False", id="one breach is not enough"),
        pytest.param([B, B], "True", id="two in a row are"),
        pytest.param([B, C, B], "False", id="not in a row"),
        pytest.param([B, I, B], "True", id="an inconclusive check interrupts nothing"),
        pytest.param([B, E, B], "True", id="an error interrupts nothing"),
        pytest.param([B, B, C], "True", id="one clean check does not clear it"),
        pytest.param([B, B, C, B, C], "True", id="nor do clean ones apart"),
        pytest.param([B, B, C, C], "False", id="two clean ones in a row do"),
        pytest.param([B, B, C, C, B], "False", id="a new row begins from nothing"),
        pytest.param([B, B, C, C, B, B], "True", id="a second episode"),
    ],
)
def test_retraining_is_required_after(watched: World, row: list[str], required: str) -> None:
    watched.spec("v1", drift=DRIFT, retraining={"cooldown": "0m"})
    for number, result in enumerate(row):
        say(watched, number, result)
        watched.reconcile()
    assert watched.conditions["RetrainingRequired"] == required


def say(world: World, number: int, result: str) -> None:
    messages: dict[str, Any] = {B: said(**BREACH), C: said(), I: said(verdict="inconclusive"), E: ""}
    world.check_drift(number, messages[result])


def test_an_episode_keeps_its_id_and_is_told_once(watched: World) -> None:
    for number in range(4):
        say(watched, number, B)
        watched.reconcile()
    first = watched.status["retraining"]["episode"]
    watched.objects["CreditModel", "credit"].pop("status")
    watched.reconcile()
    assert watched.status["retraining"]["episode"] == first
    assert watched.status["retraining"]["firstBreach"] == "check-0"
    told = [event for event in watched.events if event.reason == "RetrainingRequired"]
    assert len(told) == 2  # once, and once more for the status that was lost


def test_an_episode_outlives_the_jobs_with_which_it_began(watched: World) -> None:
    for number, result in enumerate([B, B, C, B, C, B, C]):
        say(watched, number, result)
        watched.reconcile()
    episode = watched.status["retraining"]["episode"]
    for number in range(3):
        watched.delete("Job", f"check-{number}")
        watched.reconcile()
    assert watched.conditions["RetrainingRequired"] == "True"
    assert watched.status["retraining"]["episode"] == episode


@pytest.mark.parametrize(
    ("streak", "episode"),
    [
        ('{"breaches": "many"}', '{"first": "u", "opened": "2026-13-01"}'),
        ('{"breaches": 0, "of a later release": 2}', '{"first": "u", "opened": 7}'),
        ('{"last_opened": "soon", "last": "u"}', "[]"),
    ],
)
def test_what_is_written_on_a_check_and_cannot_be_read_stops_nothing(watched: World, streak: str, episode: str) -> None:
    job = watched.check_drift(1, said(**BREACH))
    watched.reconcile()
    notes = {("Job", job["metadata"]["name"]): {names.STREAK: streak}}
    notes["CronJob", "credit-drift"] = {names.LAST_EPISODE: episode}
    for (kind, name), note in notes.items():
        watched.hand_edit(kind, name, lambda live, note=note: live["metadata"]["annotations"].update(note))  # type: ignore[misc]
    watched.check_drift(2, said(**BREACH))
    watched.reconcile()
    assert watched.conditions["RetrainingRequired"] == "True"


def test_a_new_champion_ends_the_episode(watched: World) -> None:
    for number in range(2):
        say(watched, number, B)
    watched.reconcile()
    assert watched.conditions["RetrainingRequired"] == "True"
    watched.promote("v2", drift=DRIFT)
    assert watched.conditions["RetrainingRequired"] == "False"
    assert watched.conditions["DriftDetected"] == "Unknown"
    assert "retraining" not in watched.status


def test_status_has_realised_quality_with_its_calibration_apart_from_estimated_quality(watched: World) -> None:
    figures = {"auc": 0.74, "ks": 0.36, "gini": 0.48, "brier": 0.15}
    calibration = {"mean_probability": 0.2, "bad_rate": 0.26, "bands": 10, "too_low": 4, "too_high": 0}
    realised = {"rows": 900, "matured": 4_000, **figures, "calibration": calibration}
    estimated = {"rows": 5_000, **figures, "auc": 0.78, "bad_rate": 0.21}
    watched.check_drift(0, said(quality=realised, estimated=estimated))
    watched.reconcile()
    assert watched.status["quality"] == {
        "rows": 900,
        "matured": 4_000,
        **figures,
        "calibration": {"meanProbability": 0.2, "badRate": 0.26, "bands": 10, "tooLow": 4, "tooHigh": 0},
    }
    assert watched.status["drift"]["estimatedQuality"] == {"rows": 5_000, **figures, "auc": 0.78, "badRate": 0.21}
    watched.check_drift(1, said())
    watched.reconcile()
    assert "estimatedQuality" not in watched.status["drift"]


def test_quality_below_its_limit_is_decay_and_counts_as_a_breach(world: World) -> None:
    labels = {"labels": {"uri": "s3://labels", "minAUC": 0.75}}
    world.promote("v1", drift=DRIFT | labels)
    for number in range(2):
        world.check_drift(number, said(quality={"rows": 900, "auc": 0.70, "ks": 0.3, "gini": 0.4, "brier": 0.2}))
        world.reconcile()
    assert world.conditions["DriftDetected"] == "False"
    degraded = world.condition("QualityDegraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "BelowLimit")
    assert "AUC 0.7000 on 900 labelled rows, at least 0.75" in degraded["message"]
    assert world.condition("RetrainingRequired")["reason"] == "QualityDecay"
    assert world.status["quality"]["auc"] == 0.70
