"""Bodies in and out of the ASGI application, and how many of them are held at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi import Request, Response

from creditmodel_inference.errors import Busy
from creditmodel_inference.requests import too_many_bytes
from creditmodel_inference.settings import Limits
from creditmodel_inference.steps import Turns

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from creditmodel_inference.sheets import Answer

__all__ = ["InFlight", "LongResponse", "body_parts", "json_response"]


class InFlight:
    """Requests and bytes that go through ASGI now, against their limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requests = 0
        self.bytes = 0

    @contextmanager
    def admit(self, size: int) -> Iterator[None]:
        """Hold a place for a request of `size` bytes. Raises Busy."""
        if self.requests >= self._limits.in_flight or self.bytes + size > self._limits.buffered_bytes:
            raise Busy("As much as the server takes is in flight.", headers=[("retry-after", "1")])
        self.requests += 1
        self.bytes += size
        try:
            yield
        finally:
            self.requests -= 1
            self.bytes -= size


async def body_parts(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body, in the parts in which it comes. Raises TooLarge as soon as it is."""
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limits.body_bytes:
            raise too_many_bytes(limits)
        if part:
            yield part


def json_response(body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is already encoded."""
    return Response(body, media_type="application/json", headers=headers)


class LongResponse(Response):
    """JSON of megabytes, each piece of it made when those before have left, in turns with other clients."""

    def __init__(self, answer: Answer, headers: Mapping[str, str]) -> None:
        super().__init__(media_type="application/json", headers={**headers, "content-length": str(answer.size)})
        self._pieces = answer.pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        turns = Turns()
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await turns.give_way()
        await send({"type": "http.response.body", "body": b""})
