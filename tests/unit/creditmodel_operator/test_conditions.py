"""Times and events of conditions, and the vocabulary that scripts rely on."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from creditmodel_operator import reasons
from creditmodel_operator.conditions import MAX_MESSAGE, TYPES, Aspect, dated
from creditmodel_operator.events import of_conditions

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def condition(type_: str, status: str, reason: str = "R", message: str = "m") -> dict[str, Any]:
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": "then"}


def aspects(**status: str) -> list[Aspect]:
    return [Aspect(name, status.get(name, "Unknown"), "R", "m" * 5000) for name in TYPES]


def test_a_flip_gets_the_time_of_now_and_what_stays_keeps_its_own() -> None:
    found = {
        c["type"]: c
        for c in dated(aspects(Ready="True"), [condition("Ready", "False"), condition("Stalled", "Unknown")], 7, NOW)
    }
    assert found["Ready"]["lastTransitionTime"] == "2026-11-02T00:00:00Z"
    assert found["Stalled"]["lastTransitionTime"] == "then"
    assert {c["observedGeneration"] for c in found.values()} == {7}


def test_conditions_come_in_one_order_and_with_bounded_messages() -> None:
    found = dated(reversed(aspects()), [], 1, NOW)
    assert tuple(c["type"] for c in found) == TYPES
    assert all(len(c["message"]) == MAX_MESSAGE for c in found)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        pytest.param(None, condition("ParityPassed", "True"), ["ParityPassed"], id="a gate passed"),
        pytest.param(
            condition("ParityPassed", "True"), condition("ParityPassed", "True", "X"), [], id="it stays passed"
        ),
        pytest.param(
            condition("ParityPassed", "Unknown"),
            condition("ParityPassed", "False"),
            ["ParityFailed"],
            id="a gate failed",
        ),
        pytest.param(condition("Ready", "True"), condition("Ready", "False"), [], id="work begins"),
        pytest.param(condition("Ready", "False"), condition("Ready", "True"), ["Ready"], id="work is done"),
        pytest.param(None, condition("Stalled", "True", "GateFailed"), ["GateFailed"], id="nothing more will happen"),
        pytest.param(
            condition("Stalled", "True", "GateFailed"),
            condition("Stalled", "True", "GateError"),
            ["GateError"],
            id="for another reason",
        ),
        pytest.param(
            condition("Available", "True"), condition("Available", "False"), ["ChampionUnavailable"], id="an outage"
        ),
        pytest.param(None, condition("Available", "False"), [], id="nothing serves yet"),
        pytest.param(
            condition("DriftDetected", "True"),
            condition("DriftDetected", "False"),
            ["DriftDetectedCleared"],
            id="drift ended",
        ),
        pytest.param(
            condition("DriftDetected", "Unknown"), condition("DriftDetected", "False"), [], id="no drift found"
        ),
    ],
)
def test_an_event_is_told_when(before: dict[str, Any] | None, after: dict[str, Any], told: list[str]) -> None:
    assert [event.reason for event in of_conditions([before] if before else [], [after])] == told


def test_every_reason_is_one_camel_case_word_and_documented() -> None:
    constants = {name: value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    assert all(re.fullmatch(r"[A-Z][A-Za-z]+", value) for value in constants.values())
    assert set(constants) | {"REFUSED"} == set(reasons.__all__)
    source = Path(reasons.__file__).read_text()
    for name in constants:
        assert re.search(rf'^{name}: Final = "\w+"\n"""', source, re.MULTILINE), f"{name} is not documented"


def test_every_reason_is_used() -> None:
    folder = Path(reasons.__file__).parent
    text = "".join(file.read_text() for file in folder.rglob("*.py") if file.name != "reasons.py")
    unused = [name for name in reasons.__all__ if not re.search(rf"reasons\.{name}\b", text)]
    assert unused == []
