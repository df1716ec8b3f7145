"""What the operator makes of answers that are no good."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from kubernetes.aio import client as kube

from creditmodel_operator.client import ApiFailure, Blocked, Client, Conflict, Forbidden, Gone, Refused, Unavailable

PAGE = "<html>be right back</html>"
WEBHOOK = '{"message": "Internal error occurred: failed calling webhook \\"policy\\": no route to host"}'


async def _listed(answer: web.Response) -> None:
    async def always(_: web.BaseRequest) -> web.Response:
        return answer

    runner = web.ServerRunner(web.Server(always))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        async with Client(kube.Configuration(host=f"http://{host}:{port}")) as client:
            async for _ in client.list("Job", "default", ""):
                pass
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("code", "text", "failure", "longest_wait"),
    [
        (403, '{"message": "exceeded quota"}', Forbidden, 15.0),
        (422, "{}", Refused, 120.0),
        (500, WEBHOOK, Blocked, 15.0),
        (500, "{}", Unavailable, 4.0),
        (404, PAGE, Gone, 4.0),
        (409, "{}", Conflict, 4.0),
        (429, "{}", Unavailable, 4.0),
        (200, PAGE, Unavailable, 4.0),
        (200, '{"message": "be right back"}', Unavailable, 4.0),
    ],
)
def test_an_answer_says_how_long_to_wait_at_most(
    code: int, text: str, failure: type[ApiFailure], longest_wait: float
) -> None:
    with pytest.raises(ApiFailure) as found:
        asyncio.run(_listed(web.Response(status=code, text=text)))
    assert (type(found.value), found.value.longest_wait) == (failure, longest_wait)
