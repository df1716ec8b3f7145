"""Read files over HTTP, one plain GET each: no HEAD, no ranges, no cache, so that any static server will do.

Whatever goes wrong is an OSError: FileNotFoundError and PermissionError say what they say, the rest may pass.
"""

from __future__ import annotations

import base64
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

__all__ = ["HttpDirectory"]


class HttpDirectory:
    """A directory at a URL. `timeout` is how long the server may stay silent, in seconds."""

    def __init__(self, url: str, timeout: float) -> None:
        self._base, self._authorization = _without_user(url.rstrip("/"))
        self._timeout = timeout
        self._opener = _opener()

    @contextmanager
    def open(self, name: str) -> Iterator[_Body]:
        """The file of this name, as a stream. Raises OSError."""
        request = Request(f"{self._base}/{name}", headers={"User-Agent": "creditmodel"})  # noqa: S310 - http(s) only
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            response = self._opener.open(request, timeout=self._timeout)
        except HTTPError as e:
            with e:
                raise _status_error(e) from e
        except URLError as e:
            raise OSError(str(e.reason)) from e
        except (http.client.HTTPException, ValueError) as e:
            raise OSError(f"the server's answer makes no sense: {e!r}") from e
        with response:
            yield _Body(response)


class _Body:
    """A response's body. A read returns what has come, so that its reader can keep an eye on the clock."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end. Raises OSError, also when the body ends before its declared length."""
        try:
            chunk: bytes = self._response.read1(size)
        except http.client.HTTPException as e:
            raise ConnectionError(f"the connection broke off: {e!r}") from e
        if not chunk and self._response.length:
            raise ConnectionError(f"the connection broke off {self._response.length} bytes before the end")
        return chunk


class _SafeRedirects(HTTPRedirectHandler):
    """Follows redirects, but never from an encrypted connection to a plain one."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise HTTPError(req.full_url, 403, "redirects to an unencrypted address", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    """An opener for http and https alone: urllib's own would also follow a redirect to ftp."""
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        UnknownHandler(),
        HTTPHandler(),
        HTTPSHandler(),
        HTTPDefaultErrorHandler(),
        _SafeRedirects(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _without_user(url: str) -> tuple[str, str | None]:
    """The URL without user and password, and the header that says them."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, None
    user, _, host = parts.netloc.rpartition("@")
    secret = base64.b64encode(unquote(user).encode()).decode()
    return parts._replace(netloc=host).geturl(), f"Basic {secret}"


def _status_error(error: HTTPError) -> OSError:
    said = f"the server answers {error.code} {' '.join(str(error.reason).split())}"
    if error.code in (404, 410):
        return FileNotFoundError(said)
    if error.code in (401, 403):
        return PermissionError(said)
    return OSError(said)
