"""Memory of large requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from creditmodel_inference.intake import Intake
from creditmodel_inference.meter import Meter
from creditmodel_inference.scorer import Scorer
from creditmodel_inference.service import LARGE_BYTES, Service

Row = dict[str, Any]


async def arriving(body: bytes) -> AsyncIterator[bytes]:
    yield body


def test_memory_goes_back_once_large_requests_are_over(
    scorer: Scorer, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back = asyncio.Event()
    monkeypatch.setattr("creditmodel_inference.service.give_back_memory", given_back.set)
    meter = Meter()
    meter.serve(scorer.contract, scorer.identity)
    service = Service(scorer, Intake(scorer.contract, 10_000), meter, None, lambda _: None)
    body = json.dumps({"applicants": applicants(1)}).encode()
    large = body.ljust(LARGE_BYTES)

    async def asked_for(request: bytes, idle_seconds: float) -> asyncio.TimerHandle | None:
        monkeypatch.setattr("creditmodel_inference.service.IDLE_SECONDS", idle_seconds)
        rows, _ = await service.read(arriving(request))
        for _ in (await service.score(rows, "id", 0.0)).pieces:
            pass
        return service._giving_back

    async def clients() -> None:
        assert await asked_for(body, 0.0) is None
        first = await asked_for(large, 3_600.0)
        second = await asked_for(large, 0.0)
        assert first is not None
        assert first.cancelled(), "between two of them it would have to be asked for again"
        await asyncio.wait_for(given_back.wait(), 60)
        assert await asked_for(body, 0.0) is second

    asyncio.run(clients())
