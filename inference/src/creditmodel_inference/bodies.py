"""Bodies in and out of the ASGI application, and how many of them are held at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastapi import Request, Response

from creditmodel_inference.errors import Busy
from creditmodel_inference.requests import too_many_bytes
from creditmodel_inference.settings import Limits

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["InFlight", "LongResponse", "json_response", "read_body"]


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


async def read_body(request: Request, limits: Limits) -> list[bytes]:
    """The whole body, in the parts in which it came. Raises TooLarge as soon as it is."""
    parts = []
    size = 0
    async for part in request.stream():
        if part:
            parts.append(part)
        size += len(part)
        if size > limits.body_bytes:
            raise too_many_bytes(limits)
    return parts


def json_response(body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is already encoded."""
    return Response(body, media_type="application/json", headers=headers)


class LongResponse(Response):
    """JSON of megabytes in pieces, which are sent as they are: put together, they would be copied once more."""

    def __init__(self, pieces: Sequence[bytes], headers: Mapping[str, str]) -> None:
        length = {"content-length": str(sum(map(len, pieces)))}
        super().__init__(media_type="application/json", headers={**headers, **length})
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
