"""Bodies in and out of the ASGI application, and how many of them are held at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fastapi import Request, Response

from creditmodel_inference.errors import Busy
from creditmodel_inference.requests import too_many_bytes
from creditmodel_inference.settings import Limits

__all__ = ["InFlight", "json_response", "read_body"]


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


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body. Raises TooLarge as soon as it is."""
    parts = []
    size = 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > limits.body_bytes:
            raise too_many_bytes(limits)
    return b"".join(parts)


def json_response(body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is already encoded."""
    return Response(body, media_type="application/json", headers=headers)
