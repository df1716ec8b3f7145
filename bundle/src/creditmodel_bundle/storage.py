"""Bundles and reports at URIs: file, http(s), s3, gs.

Object stores are reached through Arrow's own clients, HTTP and files through fsspec. Credentials and endpoints come
from the environment, in the stores' usual variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL,
GOOGLE_APPLICATION_CREDENTIALS and so on).
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fsspec

from creditmodel_bundle.errors import BundleCorrupt, BundleInvalid, BundleUnreachable
from creditmodel_bundle.manifest import MANIFEST, MAX_MANIFEST_BYTES, FileEntry, Manifest, digest_of

__all__ = ["Bundle", "fetch", "filesystem", "local_path", "write_bytes", "write_file"]

ATTEMPTS = 3
BACKOFF_SECONDS = 0.5
TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20
_NO_REPLACING = (errno.EBUSY, errno.EROFS, errno.EACCES, errno.EPERM, errno.EXDEV, errno.ENOENT)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle on this machine's disk."""

    directory: Path
    manifest: Manifest
    digest: str
    uri: str

    def path(self, name: str) -> Path:
        """Path of one of its files."""
        return self.directory / name


def fetch(uri: str, directory: Path, digest: str | None = None) -> Bundle:
    """Copy a bundle into `directory` and verify every byte on the way.

    The files appear under their names only when all of them are right. Raises BundleUnreachable after bounded retries,
    BundleCorrupt or DigestMismatch for wrong bytes, BundleInvalid for a broken manifest or URI.
    """
    source, root = filesystem(uri)
    raw = _retrying(lambda: _read_small(source, f"{root}/{MANIFEST}"), uri)
    manifest = Manifest.parse(raw, digest)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as partial:
        for entry in manifest.files:
            target = Path(partial) / entry.path
            _retrying(lambda entry=entry, target=target: _copy(source, f"{root}/{entry.path}", target, entry), uri)  # type: ignore[misc]
        for entry in manifest.files:
            (Path(partial) / entry.path).replace(directory / entry.path)
        (Path(partial) / MANIFEST).write_bytes(raw)
        (Path(partial) / MANIFEST).replace(directory / MANIFEST)
    return Bundle(directory, manifest, digest_of(raw), uri)


def write_bytes(uri: str, content: bytes) -> None:
    """Write one object whole: a reader sees the old content, none, or all of the new. Raises BundleUnreachable."""
    target, path = filesystem(uri)

    def write() -> None:
        if _is_local(uri):
            write_file(Path(path), content)
            return
        with target.open(path, "wb") as file:
            file.write(content)

    _retrying(write, uri)


def write_file(path: Path, content: bytes) -> None:
    """Write a local file whole: a reader sees the old content, none, or all of the new. Raises OSError.

    A container's termination message is a file mounted on its own: nothing can be created beside it or renamed over it,
    so such a file is written in place.
    """
    try:
        _replace_file(path, content)
    except OSError as e:
        if e.errno not in _NO_REPLACING or not path.is_file():
            raise
        path.write_bytes(content)


def _replace_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def local_path(uri: str) -> Path | None:
    """The path of a file:// URI or of a plain path; None for a URI of another scheme."""
    return Path(filesystem(uri)[1]) if _is_local(uri) else None


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI, and the path in it without a trailing slash. Raises BundleInvalid."""
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        if parts.netloc not in ("", "localhost"):
            raise BundleInvalid(f"{uri!r} names the host {parts.netloc!r}; a local path takes three slashes: file:///…")
        path = url2pathname(parts.path) if parts.scheme else uri
        return fsspec.filesystem("file"), str(Path(path).absolute())
    if parts.scheme in ("http", "https"):
        return _http_filesystem(), uri.rstrip("/")
    if parts.scheme in ("s3", "gs"):
        return _object_store(parts.scheme), f"{parts.netloc}{parts.path}".rstrip("/")
    raise BundleInvalid(f"{uri!r}: a URI begins with file://, https://, http://, s3:// or gs://")


def _is_local(uri: str) -> bool:
    return urlsplit(uri).scheme in ("", "file")


def _http_filesystem() -> Any:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, connect=TIMEOUT_SECONDS, sock_read=TIMEOUT_SECONDS)
    return fsspec.filesystem("http", client_kwargs={"timeout": timeout, "trust_env": True})


def _object_store(scheme: str) -> Any:
    try:
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow import fs
    except ImportError as e:
        raise BundleInvalid(f"{scheme}:// needs the extra creditmodel-bundle[object-store]") from e
    if scheme == "gs":
        return ArrowFSWrapper(fs.GcsFileSystem(retry_time_limit=None))
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    options = {"connect_timeout": TIMEOUT_SECONDS, "request_timeout": TIMEOUT_SECONDS}
    return ArrowFSWrapper(fs.S3FileSystem(endpoint_override=endpoint, region=region, **options))


def _read_small(source: Any, path: str) -> bytes:
    with source.open(path, "rb") as file:
        raw: bytes = file.read(MAX_MANIFEST_BYTES + 1)
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleInvalid(f"{MANIFEST} has over {MAX_MANIFEST_BYTES} bytes")
    return raw


def _copy(source: Any, path: str, target: Path, entry: FileEntry) -> None:
    """Copy one file, hashing as it streams; stops at the first byte past its declared size."""
    sha256 = hashlib.sha256()
    size = 0
    with source.open(path, "rb") as incoming, target.open("wb") as outgoing:
        while chunk := incoming.read(_CHUNK):
            size += len(chunk)
            if size > entry.size:
                raise BundleCorrupt(f"{entry.path} has more than the {entry.size} bytes that the manifest says")
            sha256.update(chunk)
            outgoing.write(chunk)
    if size != entry.size or sha256.hexdigest() != entry.sha256:
        raise BundleCorrupt(
            f"{entry.path} has {size} bytes with SHA-256 {sha256.hexdigest()[:12]}…, "
            f"the manifest says {entry.size} with {entry.sha256[:12]}…"
        )


def _retrying(action: Callable[[], T], uri: str) -> T:
    """Run an action that may fail in transit. Missing and forbidden are final; the rest is tried again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except FileNotFoundError as e:
            raise BundleUnreachable(f"{uri}: {e} does not exist") from e
        except PermissionError as e:
            raise BundleUnreachable(f"{uri}: access denied ({e})") from e
        except (OSError, TimeoutError) as e:
            if attempt == ATTEMPTS:
                raise BundleUnreachable(f"{uri}: {type(e).__name__}: {e} (tried {ATTEMPTS} times)") from e
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
    raise AssertionError("unreachable")
