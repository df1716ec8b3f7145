"""What the OpenAPI document promises holds for generated requests, valid and not."""

from __future__ import annotations

import json
import warnings
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode

DESCRIBED = {200, 400, 413, 415, 422, 429}


def operations(server: Any) -> Any:
    document = json.loads(server.request("GET", "/openapi.json").body)
    return schemathesis.openapi.from_dict(document)


def exercise(server: Any, mode: GenerationMode, examples: int) -> set[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # schemathesis' own
        strategy = operations(server)["/v1/score"]["POST"].as_strategy(generation_mode=mode)
    statuses: set[int] = set()

    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def run(case: Any) -> None:
        response = case.call(base_url=server.url)
        statuses.add(response.status_code)
        assert response.status_code in DESCRIBED
        case.validate_response(response, excluded_checks=[])

    run()
    return statuses


def test_generated_requests_get_the_answers_that_are_documented(server: Any) -> None:
    assert exercise(server, GenerationMode.POSITIVE, 20) == {200}
    assert exercise(server, GenerationMode.NEGATIVE, 30)
