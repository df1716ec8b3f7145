"""Errors of the scoring server.

ServeError
├── Refusal                  this bundle must not be served: the process says why and exits with code 3
└── Problem                  an answer to a client, as RFC 9457 problem details; the status lives on the class
    ├── Malformed            400
    ├── Denied
    │   ├── Unauthorized     401
    │   ├── Forbidden        403
    │   └── TooFast          429  more than this key may
    ├── NotFound             404
    ├── MethodNotAllowed     405
    ├── SlowClient           408
    ├── TooLarge             413
    ├── WrongMediaType       415
    ├── Unacceptable         422  the contract is broken; `errors` has each violation
    ├── Busy                 429
    ├── LongHead             431
    ├── Unscorable           500  the model gave no finite answer
    └── NotReady             503
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import ClassVar

import msgspec

__all__ = [
    "Busy",
    "Denied",
    "FieldError",
    "Forbidden",
    "LongHead",
    "Malformed",
    "MethodNotAllowed",
    "NotFound",
    "NotReady",
    "Problem",
    "Refusal",
    "ServeError",
    "SlowClient",
    "TooFast",
    "TooLarge",
    "Unacceptable",
    "Unauthorized",
    "Unscorable",
    "WrongMediaType",
]

PROBLEM_JSON = "application/problem+json"


class ServeError(Exception):
    """Anything that this server raises on purpose."""


class Refusal(ServeError):
    """This bundle must not be served. `reason` is a CamelCase constant."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FieldError:
    """One value that is not acceptable: its JSON Pointer, what is wrong, the kind of fault, and what is allowed."""

    path: str
    message: str
    kind: str
    allowed: object = None


class Problem(ServeError):
    """An error that a client is told. `headers` go with the answer."""

    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    type: ClassVar[str] = "internal"

    def __init__(
        self,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: Sequence[tuple[str, str]] = (),
        rows: int = 0,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = tuple(headers)
        self.rows = rows

    def document(self, request_id: str | None = None, *, to_protocol: bool = False) -> dict[str, object]:
        """The problem details object; `to_protocol` adds what clients of the Open Inference Protocol look for."""
        document: dict[str, object] = {
            "type": f"urn:creditmodel:problem:{self.type}",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
        }
        if request_id is not None:
            document["request_id"] = request_id
        if self.errors:
            document["errors"] = [asdict(error) for error in self.errors]
        if to_protocol:
            document["error"] = self.summary()
        return document

    def body(self, request_id: str | None = None, *, to_protocol: bool = False) -> bytes:
        """The problem details as JSON."""
        return msgspec.json.encode(self.document(request_id, to_protocol=to_protocol))

    def summary(self) -> str:
        """One line for the scoring log: the first violation, or the detail."""
        if not self.errors:
            return f"{int(self.status)}: {self.detail}"
        more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
        return f"{int(self.status)}: {self.errors[0].path} {self.errors[0].message}{more}"


class Malformed(Problem):
    """The body is not the JSON that this route takes."""

    status = HTTPStatus.BAD_REQUEST
    type = "malformed"


class Denied(Problem):
    """An API key is missing, unknown or used too often. Counted, and not in the scoring log: nobody was scored."""


class Unauthorized(Denied):
    """There is no API key."""

    status = HTTPStatus.UNAUTHORIZED
    type = "unauthorized"


class Forbidden(Denied):
    """This API key is not known."""

    status = HTTPStatus.FORBIDDEN
    type = "forbidden"


class TooFast(Denied):
    """More requests than this API key may send."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "rate-limit"


class NotFound(Problem):
    """There is no such route, model or version."""

    status = HTTPStatus.NOT_FOUND
    type = "not-found"


class MethodNotAllowed(Problem):
    """The route exists, with another method."""

    status = HTTPStatus.METHOD_NOT_ALLOWED
    type = "method-not-allowed"


class SlowClient(Problem):
    """The request did not arrive in time."""

    status = HTTPStatus.REQUEST_TIMEOUT
    type = "slow-client"


class TooLarge(Problem):
    """More bytes or rows than the server takes at once."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    type = "too-large"


class WrongMediaType(Problem):
    """Not application/json in UTF-8, uncompressed."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    type = "media-type"


class Unacceptable(Problem):
    """The values break the data contract."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    type = "contract-violation"


class Busy(Problem):
    """As much is in flight as the server takes."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "busy"


class LongHead(Problem):
    """A request line and headers beyond what any client of this server needs."""

    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    type = "long-head"


class Unscorable(Problem):
    """The model gave no finite answer for this input. It is never turned into a decision."""

    type = "unscorable"


class NotReady(Problem):
    """The server is starting, draining, or has refused its bundle."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    type = "not-ready"
