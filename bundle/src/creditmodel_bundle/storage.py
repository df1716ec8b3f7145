"""Bundles and reports at URIs: file, http(s), s3, gs.

Object stores are reached through Arrow's own clients, files through fsspec, bundles over HTTP by plain GETs.
Credentials and endpoints come from the environment, in the stores' usual variables (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS and so on).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fsspec

from creditmodel_bundle._http import HttpDirectory
from creditmodel_bundle.errors import (
    BundleCorrupt,
    BundleError,
    BundleExists,
    BundleInvalid,
    BundleNotStored,
    BundleUnreachable,
    Unsigned,
)
from creditmodel_bundle.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SIGNATURE,
    FileEntry,
    Manifest,
    check_digest,
    digest_of,
)

__all__ = [
    "Bundle",
    "fetch",
    "fetch_signature",
    "filesystem",
    "local_path",
    "publish",
    "write_bytes",
    "write_file",
]

ATTEMPTS = 3
BACKOFF_SECONDS = 0.5
TIMEOUT_SECONDS = 30
"""How long a server may stay silent."""
FILE_SECONDS = 900.0
"""How long one file may take, from a server that never quite stays silent."""
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

    The files appear under their names only when all of them are right. Several processes may fetch the same bundle into
    one directory at once. Raises BundleUnreachable after bounded retries, BundleCorrupt or DigestMismatch for wrong
    bytes, BundleInvalid for a broken manifest, digest or URI, BundleNotStored when the local disk cannot take it.
    """
    if digest is not None:
        check_digest(digest)
    source, shown = _source(uri), _shown(uri)
    raw = _retrying(lambda: _manifest_bytes(source, shown), shown)
    manifest = Manifest.parse(raw, digest)
    try:
        _store(source, manifest, raw, directory, shown)
    except OSError as e:
        raise BundleNotStored(f"{shown} cannot be stored in {directory}: {e.strerror or e}") from e
    return Bundle(directory, manifest, digest_of(raw), uri)


def fetch_signature(uri: str) -> bytes:
    """The bundle's signature, as it lies there. Raises Unsigned where there is none, and as `fetch` does."""
    source, shown = _source(uri), _shown(uri)

    def read() -> bytes:
        try:
            return _read_small(source, SIGNATURE)
        except FileNotFoundError as e:
            raise Unsigned(f"{shown} has no file {SIGNATURE}: `creditmodel-bundle sign` makes one") from e

    return _retrying(read, shown)


def _store(source: _Directory, manifest: Manifest, raw: bytes, directory: Path, shown: str) -> None:
    """Copy every file beside its place, then put all of them in place, the manifest last. An OSError is the disk's."""
    directory.mkdir(parents=True, exist_ok=True)
    needed, free = sum(entry.size for entry in manifest.files), shutil.disk_usage(directory).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"it takes {needed} bytes, and {free} are free")
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as partial:
        for entry in manifest.files:
            _retrying(_copying(source, Path(partial) / entry.path, entry), shown)
        for entry in manifest.files:
            (Path(partial) / entry.path).replace(directory / entry.path)
        (Path(partial) / MANIFEST).write_bytes(raw)
        (Path(partial) / MANIFEST).replace(directory / MANIFEST)


def publish(directory: Path, uri: str) -> Bundle:
    """Copy a sealed bundle from a local directory to a URI where there is none yet, and read it back whole.

    The manifest goes last, so what is interrupted is no bundle. On a file system the directory appears at once. Raises
    BundleExists, and leaves what is there alone; BundleUnreachable when the store does not answer; BundleInvalid for a
    URI that cannot be written to; BundleCorrupt when somebody else wrote there meanwhile.
    """
    shown, raw = _shown(uri), (directory / MANIFEST).read_bytes()
    manifest = Manifest.parse(raw)
    source = _source(uri)
    try:
        _retrying(lambda: _manifest_bytes(source, shown), shown)
    except BundleUnreachable as e:
        if not isinstance(e.__cause__, FileNotFoundError):
            raise
    else:
        raise BundleExists(f"{shown} holds a bundle already, which stays as it is; name another place")
    target = local_path(uri)
    if target is not None:
        _put(directory, target, shown)
    else:
        signature = [SIGNATURE] if (directory / SIGNATURE).is_file() else []
        for name in (*(entry.path for entry in manifest.files), *signature, MANIFEST):
            write_bytes(f"{uri.rstrip('/')}/{name}", (directory / name).read_bytes())
    with tempfile.TemporaryDirectory(prefix="creditmodel-published-") as copy:
        return fetch(uri, Path(copy), digest_of(raw))


def _put(directory: Path, target: Path, shown: str) -> None:
    """A copy beside the target takes its name. What is there stays, unless it is an empty directory."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        try:
            shutil.copytree(directory, partial, dirs_exist_ok=True)
            partial.chmod(0o755)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as e:
        if e.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise BundleExists(f"{shown} is not empty; what is there stays as it is; name another place") from e
        raise BundleNotStored(f"{shown} cannot be written: {_reason(e)}") from e


def _reason(error: OSError) -> str:
    """What the system says: of a copied directory that of its first file."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][2])
    return error.strerror or str(error)


def write_bytes(uri: str, content: bytes | memoryview) -> None:
    """Write one object whole: a reader sees the old content, none, or all of the new. Raises BundleError."""
    if urlsplit(uri).scheme in ("http", "https"):
        raise BundleInvalid(f"{_shown(uri)} cannot be written to: give a file://, s3:// or gs:// URI")
    target, path = filesystem(uri)

    def write() -> None:
        if _is_local(uri):
            write_file(Path(path), content)
            return
        with target.open(path, "wb") as file:
            file.write(content)

    _retrying(write, _shown(uri))


def write_file(path: Path, content: bytes | memoryview) -> None:
    """Write a local file whole: a reader sees the old content, none, or all of the new. Raises OSError.

    A container's termination message is a file mounted on its own: nothing can be created beside it or renamed over it,
    so such a file is written in place. So is what is no file of its own: /dev/stdout, a pipe, a link.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_bytes(content)
        return
    try:
        _replace_file(path, content)
    except OSError as e:
        if e.errno not in _NO_REPLACING or not path.is_file():
            raise
        path.write_bytes(content)


def _replace_file(path: Path, content: bytes | memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".partial-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            view = memoryview(content)
            for start in range(0, len(view), _CHUNK):  # Linux may take ten times longer over more than 2 MB at once
                file.write(view[start : start + _CHUNK])
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
        return ArrowFSWrapper(fs.GcsFileSystem(retry_time_limit=timedelta(seconds=TIMEOUT_SECONDS)))
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    options = {"connect_timeout": TIMEOUT_SECONDS, "request_timeout": TIMEOUT_SECONDS}
    return ArrowFSWrapper(fs.S3FileSystem(endpoint_override=endpoint, region=region, **options))


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Directory(Protocol):
    """Where a bundle comes from. What `open` and `read` raise is an OSError, or ValueError for an impossible name."""

    def open(self, name: str) -> AbstractContextManager[_Stream]: ...


class _FileSystemDirectory:
    def __init__(self, uri: str) -> None:
        self._source, self._root = filesystem(uri)

    def open(self, name: str) -> AbstractContextManager[_Stream]:
        stream: AbstractContextManager[_Stream] = self._source.open(f"{self._root}/{name}", "rb")
        return stream


def _source(uri: str) -> _Directory:
    """The directory at a URI. Raises BundleInvalid for a URI that names none."""
    parts = urlsplit(uri)
    if parts.scheme and (parts.query or parts.fragment):
        raise BundleInvalid(
            f"{_shown(uri)!r} has a query or a fragment; a bundle is a directory: percent-encode ? and #"
        )
    if parts.scheme in ("http", "https", "s3", "gs") and not parts.netloc:
        raise BundleInvalid(f"{uri!r} names no host or bucket")
    if parts.scheme in ("http", "https"):
        return HttpDirectory(uri, TIMEOUT_SECONDS)
    return _FileSystemDirectory(uri)


def _shown(uri: str) -> str:
    """The URI as a message may show it: without a password."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return parts._replace(netloc=f"…@{parts.netloc.rpartition('@')[2]}").geturl()


def _manifest_bytes(source: _Directory, shown: str) -> bytes:
    try:
        return _read_small(source, MANIFEST)
    except FileNotFoundError as e:
        raise BundleUnreachable(f"{shown} has no {MANIFEST}: no bundle is there, or it is not finished") from e


def _read_small(source: _Directory, name: str) -> bytes:
    deadline = time.monotonic() + FILE_SECONDS
    raw = b""
    with source.open(name) as file:
        while chunk := file.read(_CHUNK):
            raw += chunk
            if len(raw) > MAX_MANIFEST_BYTES:
                raise BundleInvalid(f"{name} has over {MAX_MANIFEST_BYTES} bytes")
            _check_clock(deadline)
    return raw


def _copying(source: _Directory, target: Path, entry: FileEntry) -> Callable[[], None]:
    def copy() -> None:
        try:
            _copy(source, target, entry)
        except FileNotFoundError as e:
            raise BundleCorrupt(f"{entry.path}, which the manifest names, is missing") from e

    return copy


def _copy(source: _Directory, target: Path, entry: FileEntry) -> None:
    """Copy one file, hashing as it streams; stops at the first byte past its declared size."""
    sha256 = hashlib.sha256()
    size = 0
    deadline = time.monotonic() + FILE_SECONDS
    with source.open(entry.path) as incoming, target.open("wb") as outgoing:
        while chunk := incoming.read(_CHUNK):
            size += len(chunk)
            if size > entry.size:
                raise BundleCorrupt(f"{entry.path} has more than the {entry.size} bytes that the manifest says")
            sha256.update(chunk)
            _keep(outgoing, chunk)
            _check_clock(deadline)
    if size < entry.size:
        raise _CutShort(f"{entry.path} has {size} bytes, the manifest says {entry.size}")
    if sha256.hexdigest() != entry.sha256:
        raise BundleCorrupt(
            f"{entry.path} has SHA-256 {sha256.hexdigest()[:12]}…, the manifest says {entry.sha256[:12]}…"
        )


def _keep(outgoing: IO[bytes], chunk: bytes) -> None:
    """Write to the local disk. What fails here is not the source's fault, and trying again would not help."""
    try:
        outgoing.write(chunk)
        outgoing.flush()
    except OSError as e:
        raise BundleNotStored(f"{Path(outgoing.name).name} cannot be stored: {e.strerror or e}") from e


def _check_clock(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"it takes longer than {FILE_SECONDS:g} s")


class _CutShort(OSError):
    """Less came than the manifest promises: the transfer broke off, or the file is short."""


def _retrying(action: Callable[[], T], shown: str) -> T:
    """Run an action that may fail in transit. What a second attempt cannot mend is final; the rest is tried again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except FileNotFoundError as e:
            raise BundleUnreachable(f"{shown}: {e.strerror or e}") from e
        except PermissionError as e:
            raise BundleUnreachable(f"{shown}: access denied ({e.strerror or e})") from e
        except (IsADirectoryError, NotADirectoryError, ValueError) as e:
            raise BundleInvalid(f"{shown} is no directory of files: {e}") from e
        except OSError as e:
            if attempt == ATTEMPTS:
                raise _final(e, shown) from e
            time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def _final(error: OSError, shown: str) -> BundleError:
    if isinstance(error, _CutShort):
        return BundleCorrupt(str(error))
    return BundleUnreachable(f"{shown}: {str(error) or type(error).__name__} (tried {ATTEMPTS} times)")
