"""Points, decisions and reasons: the shared rules, whatever short cut the server takes."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.reasons import top_reasons
from creditmodel_inference.answers import Answers, reasons_of
from creditmodel_inference.errors import Unscorable
from creditmodel_inference.scorer import Scorer

CLOSE = st.integers(-60, 200).map(lambda steps: steps * 0.000_005)
NEAR = st.floats(0.000_049, 0.000_051)
CONTRIBUTION = st.one_of(CLOSE, NEAR, st.floats(-5, 5, width=32), st.sampled_from([0.0, -0.0, 0.00005, 0.03125, 1e-30]))


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.lists(CONTRIBUTION, min_size=1, max_size=30), st.lists(CLOSE, min_size=2, max_size=8)))
def test_the_short_cut_names_the_reasons_that_the_rule_names(contributions: list[float]) -> None:
    assert reasons_of(contributions) == top_reasons(contributions)


@given(log_odds=st.floats(-40, 40, width=32), probability=st.floats(0, 1, width=32))
def test_points_and_decision_are_those_of_the_contract(
    scorer: Scorer, contract: Contract, log_odds: float, probability: float
) -> None:
    verdict = scorer.answers.verdict(probability, log_odds, [0.0] * scorer.width)
    assert verdict.points == contract.scale.to_points(log_odds)
    assert contract.cutoffs[verdict.decision] == contract.cutoff(probability)


@pytest.mark.parametrize(
    ("probability", "decision"), [(0.0, "approve"), (0.2, "refer"), (0.35, "decline"), (1.0, "decline")]
)
def test_a_probability_on_a_cut_off_belongs_above_it(scorer: Scorer, probability: float, decision: str) -> None:
    answer = json.loads(scorer.answers.verdict(probability, 0.0, [0.0] * scorer.width).json)
    assert answer["decision"] == answer["cutoff"]["decision"] == decision


def test_the_json_repeats_every_double_exactly(answers: Answers, contract: Contract) -> None:
    contributions = [0.0] * (len(contract.features) - 2) + [0.25, 0.1]
    probability, log_odds = 0.123_456_791_043_281_56, -1.960_000_038_146_972_7
    verdict = answers.verdict(probability, log_odds, contributions)
    document = json.loads(answers.body(b"case-1", [verdict.json]))
    assert document["request_id"] == "case-1"
    (result,) = document["results"]
    assert (result["probability"], result["log_odds"]) == (probability, log_odds)
    assert result["reasons"] == [
        {"code": "B15", "text": "Bill of month 15", "feature": "bill_15", "contribution": 0.25},
        {"code": "B16", "text": "Bill of month 16", "feature": "bill_16", "contribution": 0.1},
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_turned_into_a_decision(answers: Answers, contract: Contract, value: float) -> None:
    width = len(contract.features)
    with pytest.raises(Unscorable):
        answers.verdict(0.5, value, [0.0] * width)
    with pytest.raises(Unscorable):
        answers.verdict(value, 0.0, [0.0] * width)
    with pytest.raises(Unscorable):
        answers.verdict(0.5, 0.0, [value] + [0.0] * (width - 1))


@pytest.fixture
def answers(scorer: Scorer) -> Answers:
    return scorer.answers
