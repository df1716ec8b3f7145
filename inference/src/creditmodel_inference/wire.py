"""HTTP/1.1 answers as bytes, for the route that does not go through ASGI."""

from __future__ import annotations

import secrets
from itertools import count

from creditmodel_inference.answers import Identity
from creditmodel_inference.errors import PROBLEM_JSON, Problem

__all__ = ["Heads", "RequestIds", "problem_answer"]

Header = tuple[bytes, bytes]


class RequestIds:
    """Request ids for clients that give none: unique over replicas and restarts, and cheap."""

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(10)
        self._counter = count()

    def __call__(self) -> str:
        """A new id."""
        return f"{self._prefix}-{next(self._counter):08x}"


class Heads:
    """The heads of successful answers. They change once a second, with the date."""

    def __init__(self, identity: Identity) -> None:
        self._model = (
            f"content-type: application/json\r\nx-model-digest: {identity.digest}\r\n"
            f"x-model-revision: {identity.revision}\r\n"
        ).encode("latin-1", "replace")
        self._defaults: list[Header] | None = None
        self._keep = self._close = b""

    def ok(self, defaults: list[Header], request_id: bytes, length: int, *, close: bool) -> bytes:
        """Status line and headers of a 200 with a body of `length` bytes."""
        if defaults is not self._defaults:
            self._defaults = defaults
            common = b"HTTP/1.1 200 OK\r\n" + _lines(defaults) + self._model
            self._keep = common + b"x-request-id: "
            self._close = common + b"connection: close\r\nx-request-id: "
        return b"%b%b\r\ncontent-length: %d\r\n\r\n" % (self._close if close else self._keep, request_id, length)


def problem_answer(
    problem: Problem, defaults: list[Header], request_id: str | None, *, close: bool, to_protocol: bool = False
) -> bytes:
    """A whole answer that says what is wrong."""
    body = problem.body(request_id, to_protocol=to_protocol)
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in problem.headers]
    if request_id is not None:
        headers.append((b"x-request-id", request_id.encode()))
    if close:
        headers.append((b"connection", b"close"))
    status = f"HTTP/1.1 {int(problem.status)} {problem.status.phrase}\r\n".encode()
    return status + _lines(defaults) + _lines(headers) + b"\r\n" + body


def _lines(headers: list[Header]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)
