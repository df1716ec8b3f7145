"""The shared formats: what they accept, what they refuse, and what they compute."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditmodel_bundle.bins import NumberBins, freeze_categories, freeze_numbers
from creditmodel_bundle.contract import Bins, Category, Contract, Cutoff, Feature, Reason, ScoreScale
from creditmodel_bundle.encoder import UNSEEN, Encoder
from creditmodel_bundle.errors import ContractViolation, MeasurementError
from creditmodel_bundle.measurement import Failure, FailureDetail, Parity, dump, parse
from creditmodel_bundle.reasons import top_reasons

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def contract() -> Contract:
    amount = Feature(name="amount", dtype="number", minimum=0, maximum=1e6, reason=Reason(code="R1", text="Amount"))
    months = Feature(
        name="months", dtype="integer", minimum=-2, maximum=8, missing="allowed", reason=Reason(code="R2", text="Delay")
    )
    home = Feature(
        name="home",
        dtype="category",
        categories=[Category(value="rent", code=0), Category(value="own", code=1)],
        reason=Reason(code="R3", text="Home"),
    )
    return Contract(
        name="m",
        version="1",
        features=[amount, months, home],
        baseline_log_odds=-1.0,
        cutoffs=[Cutoff(decision="approve", min_probability=0), Cutoff(decision="decline", min_probability=0.5)],
        bins=Bins(
            rows=2,
            features={
                "amount": freeze_numbers([1.0, 2.0]),
                "months": freeze_numbers([0.0, None]),
                "home": freeze_categories(["rent", "own"], ["rent", "own"]),
            },
            score=freeze_numbers([-1.0, 0.5]),
        ),
    )


def test_an_applicant_becomes_a_row_in_the_contracts_order(contract: Contract) -> None:
    row = Encoder(contract).encode({"home": "own", "months": None, "amount": 12})
    assert row[0] == 12.0
    assert math.isnan(row[1])
    assert row[2] == 1.0


@pytest.mark.parametrize(
    ("changes", "feature", "kind"),
    [
        ({"amount": None}, "amount", "missing"),
        ({"amount": "12"}, "amount", "type"),
        ({"amount": True}, "amount", "type"),
        ({"amount": math.nan}, "amount", "range"),
        ({"amount": math.inf}, "amount", "range"),
        ({"amount": 10**400}, "amount", "range"),
        ({"amount": -0.01}, "amount", "range"),
        ({"months": 1.5}, "months", "type"),
        ({"home": "castle"}, "home", "category"),
        ({"home": 1}, "home", "type"),
        ({"home": ["own"]}, "home", "type"),
        ({"colour": "red"}, "colour", "unknown"),
    ],
)
def test_a_value_outside_the_contract_is_named(
    contract: Contract, changes: dict[str, object], feature: str, kind: str
) -> None:
    applicant: dict[str, object] = {"amount": 1, "months": 0, "home": "own", **changes}
    with pytest.raises(ContractViolation) as caught:
        Encoder(contract).encode(applicant)
    assert [(v.feature, v.kind) for v in caught.value.violations] == [(feature, kind)]


def test_a_measured_table_refuses_nothing(contract: Contract) -> None:
    encoder = Encoder(contract)
    assert encoder.encode_column("home", ["own", "castle"]) == [1.0, UNSEEN]
    assert math.isnan(encoder.encode_column("amount", ["junk"])[0])


def test_names_that_differ_in_case_alone_are_one_name(contract: Contract) -> None:
    document = contract.model_dump()
    document["features"][1]["name"] = "Amount"
    with pytest.raises(ValueError, match="SQL does not tell the case: 'amount', 'Amount'"):
        Contract.model_validate(document)


@pytest.mark.parametrize(
    ("scale", "field"), [({"points": 1e12}, "points"), ({"odds": 0}, "odds"), ({"pdo": 1e8}, "pdo")]
)
def test_points_of_every_log_odds_are_a_32_bit_integer(scale: dict[str, float], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        ScoreScale(**scale)


@pytest.mark.parametrize(
    ("probability", "decision"), [(0.0, "approve"), (0.4999, "approve"), (0.5, "decline"), (1.0, "decline")]
)
def test_the_last_cutoff_not_above_the_probability_decides(
    contract: Contract, probability: float, decision: str
) -> None:
    assert contract.cutoff(probability).decision == decision


def test_points_double_the_odds() -> None:
    scale = ScoreScale(points=600, odds=50, pdo=20)
    assert scale.to_points(-math.log(50)) == 600
    assert scale.to_points(-math.log(100)) == 620


def test_a_point_mass_has_its_own_bin() -> None:
    table = freeze_numbers([0.0] * 70 + [float(i) for i in range(1, 31)])
    assert table.points == [0.0]
    assert table.counts[0] == 70
    assert len(table.edges) == 8


@given(st.lists(st.one_of(st.none(), st.floats(allow_infinity=False)), max_size=200), st.floats(0, 10))
def test_every_reference_row_lies_in_one_bin(values: list[float | None], minimum: float) -> None:
    table = freeze_numbers(values, minimum=minimum)
    assert sum(table.counts) == len(values)
    assert table.counts == [sum(table.index(v) == i for v in values) for i in range(len(table.counts))]


def test_bins_and_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="counts"):
        NumberBins(points=[0.0], edges=[1.0], counts=[1, 2])


def test_reasons_are_the_largest_increases_and_ties_go_to_the_first() -> None:
    assert top_reasons([0.5, -2.0, 0.50001, 0.0, 1.0, 0.2, 0.1]) == [4, 0, 2, 5]


def parity(envelope: list[tuple[float, float]]) -> Parity:
    return Parity(
        tool="t 1",
        digest=DIGEST,
        rows=1,
        edge_rows=0,
        max_abs_diff=1,
        max_rel_diff=1,
        envelope=envelope,
        decision_flips=0,
        reason_diffs=0,
        not_finite=0,
    )


def test_any_tolerance_can_be_judged_from_the_envelope() -> None:
    measured = parity([(0.0, 1e-7), (1.0, 5e-6)])
    assert measured.excess(rtol=1e-5, atol=1e-6) <= 0
    assert measured.excess(rtol=1e-6, atol=1e-6) > 0


def test_a_measurement_survives_the_round_trip() -> None:
    measured = parity([(0.5, 1e-7)])
    assert parse(dump(measured)) == measured


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ok",
        "[]",
        "{}",
        '{"kind": "parity"}',
        '{"kind": "parity", "error": 1}',
        dump(parity([(0.5, 1e-7)])).decode().replace('"rows":1', '"rows":NaN'),
        dump(parity([(0.5, 1e-7)])).decode().replace('"schema_version":1', '"schema_version":2'),
        dump(parity([(0.5, 1e-7)])).decode() + " " * 5000,
    ],
)
def test_what_is_no_measurement_is_an_error(text: str) -> None:
    with pytest.raises(MeasurementError):
        parse(text)


def test_a_reader_passes_over_what_a_newer_writer_adds_and_refuses_a_newer_version() -> None:
    window = {"start": None, "zone": "UTC"}
    common = {"kind": "drift", "tool": "t", "rows": 1, "reference_rows": 1, "verdict": "no_drift", "reason": ""}
    assert parse(json.dumps({"schema_version": 1, **common, "window": window, "added": [1]})).kind == "drift"
    with pytest.raises(MeasurementError, match=r"schema_version 2, .* update the operator first"):
        parse(json.dumps({"schema_version": 2, **common}))


def test_a_failures_message_is_cut_to_fit() -> None:
    failure = Failure(tool="t 1", kind="drift", error=FailureDetail(reason="Unreachable", message="é" * 10_000))
    raw = dump(failure)
    assert len(raw) <= 4096
    assert json.loads(raw)["error"]["reason"] == "Unreachable"
    assert isinstance(parse(raw), Failure)
