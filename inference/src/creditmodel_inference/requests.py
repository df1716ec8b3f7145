"""What the headers of a request to score must say. Shared by both ways to the scorer."""

from __future__ import annotations

from collections.abc import Mapping

from creditmodel_inference.errors import FieldError, TooLarge, Unacceptable, WrongMediaType
from creditmodel_inference.intake import REQUEST_ID
from creditmodel_inference.settings import Limits

__all__ = ["Headers", "check_encoding", "check_headers", "check_length", "given_request_id"]

Headers = Mapping[bytes, bytes]
"""Names in lower case."""

JSON = b"application/json"


def check_length(headers: Headers, limits: Limits) -> int | None:
    """The announced length of the body, None if there is none. Raises TooLarge."""
    announced = headers.get(b"content-length")
    if announced is None:
        return None
    if len(announced) > 18 or int(announced) > limits.body_bytes:
        raise too_many_bytes(limits)
    return int(announced)


def too_many_bytes(limits: Limits) -> TooLarge:
    """The answer to a body above the limit."""
    return TooLarge(f"A request takes at most {limits.body_bytes} bytes; send fewer applicants at once.")


def check_headers(headers: Headers) -> None:
    """Raises WrongMediaType for anything but uncompressed JSON in UTF-8."""
    content_type = headers.get(b"content-type", b"")
    if content_type != JSON and not _is_json(content_type):
        shown = content_type[:80].decode("latin-1") or "missing"
        raise WrongMediaType(f"Content-Type is {shown}; send application/json in UTF-8.")
    check_encoding(headers)


def check_encoding(headers: Headers) -> None:
    """Raises WrongMediaType for a compressed body: what it would grow to is not known before it has."""
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding != b"identity":
        shown = encoding[:40].decode("latin-1")
        raise WrongMediaType(f"Content-Encoding is {shown}; send the body uncompressed.")


def _is_json(content_type: bytes) -> bool:
    kind, *parameters = (part.strip().lower() for part in content_type.split(b";"))
    charsets = [p.partition(b"=")[2].strip(b'" ') for p in parameters if p.startswith(b"charset")]
    return kind == JSON and all(charset in (b"utf-8", b"utf8") for charset in charsets)


def given_request_id(headers: Headers) -> str | None:
    """The client's own id from X-Request-ID. Raises Unacceptable for one that could not be logged safely."""
    given = headers.get(b"x-request-id")
    if given is None:
        return None
    text = given.decode("latin-1")
    if not REQUEST_ID.fullmatch(text):
        allowed = {"pattern": f"^{REQUEST_ID.pattern}$"}
        error = FieldError("/request_id", "from the header X-Request-ID is not acceptable", "type", allowed)
        raise Unacceptable("The header X-Request-ID is not acceptable.", [error])
    return text
