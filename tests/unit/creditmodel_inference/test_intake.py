"""Reading requests: two readers, one contract."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.encoder import Encoder
from creditmodel_bundle.errors import ContractViolation
from creditmodel_inference.errors import Malformed, Problem, TooLarge, Unacceptable
from creditmodel_inference.intake import CAREFUL_BYTES, MAX_ERRORS, Intake

Row = dict[str, Any]


@pytest.fixture
def intake(contract: Contract) -> Intake:
    return Intake(contract, max_rows=100)


@pytest.fixture
def row(applicants: Callable[..., list[Row]]) -> Row:
    return applicants(1)[0] | {"income": 10.5, "home": "rent"}


def body(*rows: object, **more: object) -> bytes:
    return json.dumps({"applicants": list(rows), **more}, ensure_ascii=False).encode()


def same(left: Any, right: Any) -> bool:
    return all((math.isnan(a) and math.isnan(b)) or a == b for a, b in zip(left, right, strict=True))


ANY_VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**12), 10**12),
    st.integers(-(10**400), 10**400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1, 2, 3, 7, 1.0, 2.5, "own", "rent", "é", "1", "", 0, -0.0, 1e308, 3.1e38, 1e-320, 18.0]),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_both_readers_accept_exactly_what_the_encoder_accepts(
    data: st.DataObject, contract: Contract, applicants: Callable[..., list[Row]]
) -> None:
    rows = applicants(2, seed=data.draw(st.integers(0, 50)))
    names = [feature.name for feature in contract.features]
    for name in data.draw(st.lists(st.sampled_from(names), max_size=3)):
        rows[0][name] = data.draw(ANY_VALUE)
    for name in data.draw(st.lists(st.sampled_from(["income", "home", "age"]), max_size=2)):
        rows[1].pop(name, None)
    encoder = Encoder(contract)
    try:
        expected = [encoder.encode(row) for row in rows]
    except ContractViolation:
        expected = None
    try:
        found = Intake(contract, 100).read(body(*rows)).rows
    except Unacceptable:
        found = None
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_a_whole_number_written_as_a_float_is_an_integer(intake: Intake, row: Row) -> None:
    assert same(intake.read(body(row | {"age": 41.0})).rows[0], intake.read(body(row | {"age": 41})).rows[0])


def test_an_absent_and_a_null_value_are_both_missing(intake: Intake, row: Row) -> None:
    absent = {name: value for name, value in row.items() if name not in ("income", "home")}
    null = row | {"income": None, "home": None}
    assert same(intake.read(body(absent)).rows[0], intake.read(body(null)).rows[0])


@pytest.mark.parametrize(
    ("change", "path", "kind"),
    [
        ({"age": 17}, "/applicants/0/age", "range"),
        ({"age": 41.5}, "/applicants/0/age", "type"),
        ({"age": "41"}, "/applicants/0/age", "type"),
        ({"age": True}, "/applicants/0/age", "type"),
        ({"age": None}, "/applicants/0/age", "missing"),
        ({"limit": 1_000_000.5}, "/applicants/0/limit", "range"),
        ({"balance.total": 1e39}, "/applicants/0/balance.total", "range"),
        ({"balance.total": 10**30 * 10**30}, "/applicants/0/balance.total", "range"),
        ({"sex": 3}, "/applicants/0/sex", "category"),
        ({"sex": "1"}, "/applicants/0/sex", "type"),
        ({"sex": 1.0}, "/applicants/0/sex", "type"),
        ({"home": "castle"}, "/applicants/0/home", "category"),
        ({"home": ["own"]}, "/applicants/0/home", "type"),
        ({"unknown/~name": 1}, "/applicants/0/unknown~1~0name", "unknown"),
    ],
)
def test_a_violation_names_path_kind_and_what_is_allowed(
    intake: Intake, row: Row, change: Row, path: str, kind: str
) -> None:
    with pytest.raises(Unacceptable) as caught:
        intake.read(body(row | change))
    assert [(error.path, error.kind) for error in caught.value.errors] == [(path, kind)]
    assert caught.value.errors[0].allowed


def test_every_violation_of_every_applicant_is_named(intake: Intake, row: Row) -> None:
    with pytest.raises(Unacceptable) as caught:
        intake.read(body(row, row | {"age": 1, "sex": 9}, row | {"limit": -1}))
    assert [error.path for error in caught.value.errors] == [
        "/applicants/1/age", "/applicants/1/sex", "/applicants/2/limit",
    ]  # fmt: skip


def test_an_answer_lists_a_bounded_number_of_violations(intake: Intake) -> None:
    with pytest.raises(Unacceptable) as caught:
        intake.read(body(*[{}] * 50))
    assert len(caught.value.errors) == MAX_ERRORS


def test_a_repeated_key_is_refused_although_json_would_keep_the_last(intake: Intake, row: Row) -> None:
    text = body(row).decode().replace('"age":', '"age": 30, "age":')
    with pytest.raises(Unacceptable) as caught:
        intake.read(text.encode())
    assert [(error.path, error.kind) for error in caught.value.errors] == [("/applicants/0/age", "duplicate")]


def test_a_repeated_key_is_found_where_another_is_left_out(intake: Intake, row: Row) -> None:
    without = {name: value for name, value in row.items() if name != "income"}
    text = body(without).decode().replace('"age":', '"age": 30, "age":')
    with pytest.raises(Unacceptable) as caught:
        intake.read(text.encode())
    assert caught.value.errors[0].kind == "duplicate"


def test_a_repeated_list_of_applicants_is_refused(intake: Intake, row: Row) -> None:
    text = body(row).decode()
    with pytest.raises(Unacceptable) as caught:
        intake.read(f"{text[:-1]}, {text[1:]}".encode())
    assert [(error.path, error.kind) for error in caught.value.errors] == [("/applicants", "duplicate")]


def test_an_escaped_name_means_what_json_says_it_means(intake: Intake, row: Row) -> None:
    escaped = body(row).decode().replace('"age"', '"\\u0061ge"')
    assert same(intake.read(escaped.encode()).rows[0], intake.read(body(row)).rows[0])


@pytest.mark.parametrize(
    "hostile",
    [
        b"", b" ", b"{", b"nul", b"\x00", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"applicants": [NaN]}',
        b'{"applicants": [{"age": NaN}]}', b'{"applicants": [{"age": Infinity}]}', b"[" * 60_000,
        b'{"a":' * 12_000, b'{"applicants": [{}]} trailing', b'{"applicants": [{"age": 01}]}', b"{'applicants': []}",
        b'{"applicants": [{"home": "\xff"}]}', b'{"applicants": [{"home": "\n"}]}',
    ],
)  # fmt: skip
def test_what_is_not_json_is_malformed(intake: Intake, hostile: bytes) -> None:
    with pytest.raises(Malformed):
        intake.read(hostile)


@pytest.mark.parametrize(
    ("hostile", "path"),
    [
        (b"[]", ""),
        (b"null", ""),
        (b"{}", "/applicants"),
        (b'{"applicants": null}', "/applicants"),
        (b'{"applicants": {}}', "/applicants"),
        (b'{"applicants": []}', "/applicants"),
        (b'{"applicants": [1]}', "/applicants/0"),
        (b'{"applicants": [[]]}', "/applicants/0"),
        (b'{"applicants": [{}], "more": 1}', "/more"),
        (b'{"applicants": [{}], "request_id": 1}', "/request_id"),
        (b'{"applicants": [{}], "request_id": "a b"}', "/request_id"),
        (b'{"applicants": [{}], "request_id": "\\ud800"}', "/request_id"),
        (b'{"applicants": [{"\\ud800": 1}]}', "/applicants/0/limit"),
    ],
)
def test_json_of_another_shape_is_unacceptable(intake: Intake, hostile: bytes, path: str) -> None:
    with pytest.raises(Unacceptable) as caught:
        intake.read(hostile)
    assert caught.value.errors[0].path == path
    assert caught.value.body("id").decode()


@pytest.mark.parametrize("digits", ["9" * 5_000, "9" * 100_000, "1e999", "-1e999", "1" + "0" * 400])
def test_a_number_beyond_every_float_is_out_of_range(intake: Intake, row: Row, digits: str) -> None:
    text = body(row | {"age": 0}).decode().replace('"age": 0', f'"age": {digits}')
    with pytest.raises(Unacceptable) as caught:
        intake.read(text.encode())
    assert [(error.path, error.kind) for error in caught.value.errors] == [("/applicants/0/age", "range")]


def test_a_bad_request_id_is_refused_by_the_fast_reader_too(intake: Intake, row: Row) -> None:
    with pytest.raises(Unacceptable) as caught:
        intake.read(body(row, request_id="x" * 129))
    assert caught.value.errors[0].path == "/request_id"
    assert intake.read(body(row, request_id="case-17")).request_id == "case-17"


def test_more_rows_than_the_limit_are_too_large(contract: Contract, row: Row) -> None:
    with pytest.raises(TooLarge):
        Intake(contract, max_rows=2).read(body(row, row, row))
    with pytest.raises(TooLarge):
        Intake(contract, max_rows=2).read(body(row, row, {}))


def large(row: Row, text: str, replacement: str) -> bytes:
    rows = [row] * (CAREFUL_BYTES // (len(body(row)) - 20) + 20)
    made = body(*rows).decode()
    head, _, tail = made.rpartition(text)
    return f"{head}{replacement}{tail}".encode()


@pytest.mark.parametrize(
    ("text", "replacement", "kind", "field"),
    [
        ('"age"', '"agee"', "unknown", "agee"),
        ('"sex": ', '"sex": 9', "category", "sex"),
        ('"limit": ', '"limit": -', "range", "limit"),
        ('"home": "rent"', '"home": 1', "type", "home"),
        ('"home": "rent"', '"age": 30, "home": "rent"', "duplicate", ""),
    ],
)
def test_a_large_body_is_read_once_and_its_first_violation_named(
    contract: Contract, row: Row, text: str, replacement: str, kind: str, field: str
) -> None:
    intake = Intake(contract, max_rows=10_000)
    with pytest.raises(Unacceptable) as caught:
        intake.read(large(row, text, replacement))
    (error,) = caught.value.errors
    assert error.kind == kind
    assert error.path.endswith(field)


def test_a_large_body_of_tiny_objects_is_refused_before_it_is_decoded(contract: Contract) -> None:
    with pytest.raises(TooLarge):
        Intake(contract, max_rows=100).read(b'{"applicants": [' + b"{}," * 200_000 + b"{}]}")


def test_problems_are_json_whatever_the_client_sent(intake: Intake, row: Row) -> None:
    with pytest.raises(Problem) as caught:
        intake.read(body(row | {"x" * 10_000: 1}))
    assert len(caught.value.body("id")) < 2_000
