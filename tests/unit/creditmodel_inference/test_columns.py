"""Many applicants at once: the answers of one at a time, to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creditmodel_bundle.contract import Contract
from creditmodel_inference import intake as intake_module
from creditmodel_inference.blocks import Outputs
from creditmodel_inference.errors import Problem, Unscorable
from creditmodel_inference.intake import Intake
from creditmodel_inference.scorer import Scorer
from creditmodel_inference.steps import at_once

Row = dict[str, Any]

STEPS = st.integers(-60, 99_000).map(lambda steps: steps * 0.000_05)
CONTRIBUTION = st.one_of(STEPS, st.floats(-12, 12, width=32), st.sampled_from([0.0, -0.0, 9.999, 1e-30, 0.03125]))
NUMBER = st.one_of(st.floats(-40, 40, width=32), st.sampled_from([0.0, -0.0, 1e-7, -1e-5, 1e6, -1e6]))
PROBABILITY = st.one_of(st.floats(0, 1, width=32), st.sampled_from([0.0, 1.0, 0.2, 0.35, 1e-6, 1e-20]))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), rows=st.integers(1, 6))
def test_columns_and_single_verdicts_have_the_same_bytes(scorer: Scorer, data: st.DataObject, rows: int) -> None:
    width = scorer.width

    def drawn(values: st.SearchStrategy[float], count: int) -> Any:
        return np.array(data.draw(st.lists(values, min_size=count, max_size=count)), np.float32)

    outputs = Outputs(
        drawn(NUMBER, rows), drawn(PROBABILITY, rows), drawn(CONTRIBUTION, rows * width).reshape(rows, -1)
    )
    numbers = zip(
        *(array.tolist() for array in (outputs.probability, outputs.log_odds, outputs.contributions)), strict=True
    )
    single = [scorer.answers.verdict(*row) for row in numbers]
    columns = scorer.columns(outputs)
    assert scorer.column_answers.json(columns, outputs) == b",".join(verdict.json for verdict in single)
    assert columns.points.tolist() == [verdict.points for verdict in single]
    assert columns.decision.tolist() == [verdict.decision for verdict in single]
    assert [tuple(i for i in row if i >= 0) for row in columns.reasons.tolist()] == [v.reasons for v in single]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(3))
def test_one_row_that_is_not_finite_fails_the_columns(scorer: Scorer, value: float, place: int) -> None:
    outputs = Outputs(np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros((3, scorer.width), np.float32))
    outputs[place][1] = value
    with pytest.raises(Unscorable):
        scorer.columns(outputs)


VALUE = st.one_of(
    st.none(),
    st.integers(-5, 200),
    st.floats(0, 90, allow_nan=False),
    st.sampled_from(["own", "é", "x", '"', "},{", 1]),
)


def outcome(read: Callable[[bytes], Any], body: bytes) -> Any:
    """What a reader says: rows and id, or the problem's document."""
    try:
        found = read(body)
        if isinstance(found, Generator):
            found = at_once(found)
    except Problem as problem:
        return problem.document()
    rows, request_id = found if isinstance(found, tuple) else (found.rows, found.request_id)
    return np.array(rows, np.float64).tobytes(), request_id


def parts_of(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_reader_of_many_says_what_the_reader_of_one_says(
    data: st.DataObject, contract: Contract, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "PIECE_BYTES", data.draw(st.sampled_from([1, 300, 2_000])))
    monkeypatch.setattr(intake_module, "CAREFUL_BYTES", data.draw(st.sampled_from([0, 256 * 1024])))
    rows = applicants(8, seed=data.draw(st.integers(0, 50)))
    names = [feature.name for feature in contract.features]
    for name in data.draw(st.lists(st.sampled_from([*names, "new"]), max_size=2)):
        rows[data.draw(st.integers(0, 7))][name] = data.draw(VALUE)
    for name in data.draw(st.lists(st.sampled_from(["income", "home", "age"]), max_size=2)):
        rows[data.draw(st.integers(0, 7))].pop(name, None)
    document: Row = {"applicants": rows}
    if data.draw(st.booleans()):
        given_id = data.draw(st.sampled_from(["case-1", "a]b", "[", "", '"', "é"]))
        document = (
            {"request_id": given_id} | document if data.draw(st.booleans()) else document | {"request_id": given_id}
        )
    text = json.dumps(document, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.sampled_from([None, 1])))
    spoilt = data.draw(st.sampled_from(["", '"age"', "},", "]", "}", '"limit"']))
    if spoilt and data.draw(st.booleans()):
        text = text.replace(spoilt, data.draw(st.sampled_from([spoilt * 2, ",", '"age": 30, "age"', "],["])), 1)
    intake, body = Intake(contract, 100), text.encode()
    size = data.draw(st.sampled_from([1, 7, 400, len(body)]))
    assert outcome(lambda _: intake.read_columns(*parts_of(body, size)), body) == outcome(intake.read, body)


def test_of_two_violations_both_readers_name_the_first(
    contract: Contract, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "CAREFUL_BYTES", 0)
    rows = applicants(2)
    rows[0]["age"] = 200
    del rows[1]["limit"]
    intake = Intake(contract, 100)
    for ordered in (rows, rows[::-1]):
        body = json.dumps({"applicants": ordered}).encode()
        assert outcome(intake.read_columns, body) == outcome(intake.read, body)


def test_a_large_body_may_have_escapes(contract: Contract, applicants: Callable[..., list[Row]]) -> None:
    rows = [row | {"home": "é"} for row in applicants(1_500)]
    intake = Intake(contract, 10_000)
    escaped, plain = (json.dumps({"applicants": rows}, ensure_ascii=flag).encode() for flag in (True, False))
    assert b"\\u00e9" in escaped
    assert outcome(intake.read_columns, escaped) == outcome(intake.read_columns, plain)
    assert outcome(intake.read_columns, escaped) == outcome(intake.read, escaped)


def test_columns_are_read_piece_by_piece_and_not_by_the_slow_way_round(
    contract: Contract, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = Intake(contract, 10_000)
    body = json.dumps({"applicants": applicants(1_500), "request_id": "x"}).encode()
    assert len(body) > 2 * intake_module.PIECE_BYTES
    monkeypatch.setattr(intake, "read", lambda _: pytest.fail("the fast reader could not tell"))
    for size in (len(body), len(body) - 1, 100_000, 16_384):
        rows, request_id = at_once(intake.read_columns(*parts_of(body, size)))
        assert (rows.shape, request_id) == ((1_500, len(contract.features)), "x")
