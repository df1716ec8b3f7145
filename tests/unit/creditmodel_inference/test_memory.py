"""Memory of large requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from creditmodel_inference.intake import Intake
from creditmodel_inference.meter import Meter
from creditmodel_inference.scorer import Scorer
from creditmodel_inference.service import LARGE_BYTES, Service

Row = dict[str, Any]


def test_memory_goes_back_once_large_requests_are_over(
    scorer: Scorer, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back = asyncio.Event()
    times: list[None] = []

    def give_back() -> None:
        times.append(None)
        given_back.set()

    monkeypatch.setattr("creditmodel_inference.service.give_back_memory", give_back)
    monkeypatch.setattr("creditmodel_inference.service.IDLE_SECONDS", 0.2)
    meter = Meter()
    meter.serve(scorer.contract, scorer.identity)
    service = Service(scorer, Intake(scorer.contract, 10_000), meter, None, lambda _: None)
    body = json.dumps({"applicants": applicants(1)}).encode()

    async def clients() -> None:
        for _ in range(3):
            await service.score([body.ljust(LARGE_BYTES)], None, 0.0)
        assert not times, "between two of them it would have to be asked for again"
        await asyncio.wait_for(given_back.wait(), 10)
        await service.score([body], None, 0.0)
        await asyncio.sleep(0.3)

    asyncio.run(clients())
    assert len(times) == 1
