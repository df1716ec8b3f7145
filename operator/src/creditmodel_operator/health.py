"""The HTTP endpoint for probes and Prometheus.

/healthz/live fails when a pass hangs, so that the kubelet restarts the process. /healthz/ready succeeds once everything
in a namespace is listed, whether this replica acts or not: a rolling update waits for the new replica, and the new one
for the Lease.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from creditmodel_operator.worker import Worker

__all__ = ["HANG_SECONDS", "serve"]

HANG_SECONDS = 180.0


@asynccontextmanager
async def serve(host: str, port: int, worker: Worker, ready: Callable[[], bool]) -> AsyncIterator[str]:
    """Serve on `host`:`port` (0: a free port); yields the base URL."""
    app = web.Application()
    app.router.add_get("/healthz/live", _live(worker))
    app.router.add_get("/healthz/ready", _ready(ready))
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        address = runner.addresses[0]
        yield f"http://{address[0]}:{address[1]}"
    finally:
        await runner.cleanup()


def _live(worker: Worker):  # type: ignore[no-untyped-def]
    async def live(_: web.Request) -> web.Response:
        oldest = min(worker.started.values(), default=time.monotonic())
        age = time.monotonic() - oldest
        return web.Response(status=200 if age < HANG_SECONDS else 503, text=f"oldest pass: {age:.1f} s\n")

    return live


def _ready(ready: Callable[[], bool]):  # type: ignore[no-untyped-def]
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ready\n") if ready() else web.Response(status=503, text="indexing\n")

    return answer


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
