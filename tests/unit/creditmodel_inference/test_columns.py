"""Many applicants at once: the answers of one at a time, to the byte."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creditmodel_bundle.contract import Contract
from creditmodel_inference import decoding, native
from creditmodel_inference import intake as intake_module
from creditmodel_inference.batches import Batches
from creditmodel_inference.blocks import Outputs
from creditmodel_inference.columns import ColumnAnswers
from creditmodel_inference.errors import Problem, Unscorable
from creditmodel_inference.intake import Intake
from creditmodel_inference.scorer import Scorer
from creditmodel_inference.sheets import Sheets
from creditmodel_inference.steps import Steps, at_once

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
    for sheets in (scorer.sheets, Sheets(scorer.answers, None)):
        sheet = sheets.sheet(columns, outputs)
        assert sheet.json(b"[") == b"[" + b",".join(verdict.json for verdict in single)
        assert sheet.size == len(sheet.json(b""))
    without = ColumnAnswers(scorer.answers, None).columns(outputs)
    pairs: Any = zip(columns, without, strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)
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


@pytest.fixture(params=["C", "Python"])
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is plainly right is read in C, or, where that was not built, in Python."""
    if request.param == "Python":
        monkeypatch.setattr(native, "LIBRARY", None)


VALUE = st.one_of(
    st.none(),
    st.integers(-5, 200),
    st.floats(0, 90, allow_nan=False),
    st.sampled_from(["own", "é", "x", '"', "},{", 1]),
)


def many(intake: Intake, *parts: bytes) -> Steps[tuple[Any, str | None]]:
    """What the reader of many says of a body that comes in these parts."""
    reader = Batches(intake).reader()
    for part in parts:
        yield from reader.add(part)
    rows, request_id = yield from reader.finish()
    return np.concatenate(rows), request_id


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


@pytest.mark.usefixtures("language")
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_reader_of_many_says_what_the_reader_of_one_says(
    data: st.DataObject, contract: Contract, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PIECE_BYTES", data.draw(st.sampled_from([1, 300, 2_000])))
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
    assert outcome(lambda _: many(intake, *parts_of(body, size)), body) == outcome(intake.read, body)


@pytest.mark.usefixtures("language")
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
        assert outcome(lambda body: many(intake, body), body) == outcome(intake.read, body)


@pytest.mark.usefixtures("language")
def test_a_large_body_may_have_escapes(contract: Contract, applicants: Callable[..., list[Row]]) -> None:
    rows = [row | {"home": "é"} for row in applicants(1_500)]
    intake = Intake(contract, 10_000)
    escaped, plain = (json.dumps({"applicants": rows}, ensure_ascii=flag).encode() for flag in (True, False))
    assert b"\\u00e9" in escaped
    assert outcome(lambda body: many(intake, body), escaped) == outcome(lambda body: many(intake, body), plain)
    assert outcome(lambda body: many(intake, body), escaped) == outcome(intake.read, escaped)


@pytest.mark.usefixtures("language")
def test_columns_are_read_piece_by_piece_and_not_by_the_slow_way_round(
    contract: Contract, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = Intake(contract, 10_000)
    body = json.dumps({"applicants": applicants(1_500), "request_id": "x"}).encode()
    assert len(body) > 2 * decoding.PIECE_BYTES
    monkeypatch.setattr(intake, "read", lambda *_: pytest.fail("the fast reader could not tell"))
    for size in (len(body), len(body) - 1, 100_000, 16_384):
        rows, request_id = at_once(many(intake, *parts_of(body, size)))
        assert (rows.shape, request_id) == ((1_500, len(contract.features)), "x")


@pytest.mark.usefixtures("language")
def test_a_body_is_read_while_it_arrives_and_never_held_as_a_whole(
    contract: Contract, applicants: Callable[..., list[Row]]
) -> None:
    body = json.dumps({"applicants": applicants(100) * 100}).encode()
    parts, reader = parts_of(body, 100_000), Batches(Intake(contract, 10_000)).reader()
    rows_bytes = 10_000 * len(contract.features) * 8
    tracemalloc.start()
    try:
        while parts:
            at_once(reader.add(parts.pop(0)))
        assert sum(map(len, at_once(reader.finish())[0])) == 10_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < rows_bytes + 12 * decoding.PIECE_BYTES < len(body)


@pytest.mark.usefixtures("language")
@pytest.mark.parametrize("end", [b"", b" " * 300_000, b"]"])
def test_what_follows_a_violation_is_awaited_and_not_kept(
    contract: Contract, applicants: Callable[..., list[Row]], end: bytes
) -> None:
    rows = applicants(100) * 30
    rows[5] = rows[5] | {"age": 1}
    reader = Batches(Intake(contract, 10_000)).reader()
    for part in parts_of(json.dumps({"applicants": rows}).encode() + end, 100_000):
        at_once(reader.add(part))
    assert reader._held == [b""]
    with pytest.raises(Problem) as caught:
        at_once(reader.finish())
    assert [error.path for error in caught.value.errors] == ["/applicants/5/age"]


@pytest.mark.usefixtures("language")
def test_where_json_breaks_is_told_by_its_place_in_the_whole_body(
    contract: Contract, applicants: Callable[..., list[Row]]
) -> None:
    body = json.dumps({"applicants": applicants(100) * 20}).encode()
    broken = body[:700_000] + b"\x01" + body[700_000:]
    for size in (len(broken), 100_000):
        with pytest.raises(Problem, match=r"byte 70000[0-9]") as caught:
            at_once(many(Intake(contract, 10_000), *parts_of(broken, size)))
        with pytest.raises(Problem, match=re.escape(str(caught.value))):
            Intake(contract, 10_000).read(broken)


@pytest.mark.usefixtures("language")
def test_a_category_may_look_like_the_end_of_an_applicant(
    contract: Contract, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[Any, str] = {"own": "},{", "rent": '},"', "é": "}]}"}
    features = [
        feature.model_copy(
            update={"categories": [c.model_copy(update={"value": names[c.value]}) for c in feature.categories]}
        )
        if feature.name == "home"
        else feature
        for feature in contract.features
    ]
    odd = contract.model_copy(update={"features": features})
    monkeypatch.setattr(intake_module, "CAREFUL_BYTES", 0)
    monkeypatch.setattr(decoding, "PIECE_BYTES", 400)
    rows = [row | {"home": names.get(row["home"])} for row in applicants(60)]
    intake, body = Intake(odd, 100), json.dumps({"applicants": rows, "request_id": "x"}).encode()
    for size in (len(body), 977, 100):
        assert outcome(lambda _: many(intake, *parts_of(body, size)), body) == outcome(intake.read, body)  # noqa: B023


def test_an_answer_is_made_piece_by_piece_and_its_length_is_known_before(
    scorer: Scorer, applicants: Callable[..., list[Row]]
) -> None:
    rows = at_once(many(Intake(scorer.contract, 10_000), json.dumps({"applicants": applicants(300)}).encode()))[0]
    outputs = scorer.blocks.run(rows)
    sheet = scorer.sheets.sheet(scorer.columns(outputs), outputs)
    sheets = [sheet] * 30
    answer = scorer.sheets.answer("case-1", sheets)
    tracemalloc.start()
    try:
        document = [len(piece) for piece in answer.pieces]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(document) == answer.size
    assert peak < 10 * sheet.size
    assert not sheets
    whole = b"".join(scorer.sheets.answer("case-1", [sheet, sheet]).pieces)
    verdicts = [scorer.verdict(row).json for row in rows.tolist()] * 2
    assert whole == scorer.answers.body(b"case-1", verdicts)
