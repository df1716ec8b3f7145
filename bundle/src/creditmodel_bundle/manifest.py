"""manifest.json: every file of a bundle with its size and SHA-256. The SHA-256 of its own bytes is the digest."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from creditmodel_bundle._model import Document, first_error
from creditmodel_bundle.errors import BundleInvalid, DigestMismatch

__all__ = [
    "CONTRACT",
    "EVALUATION",
    "GOLDEN",
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "ONNX",
    "PYTORCH",
    "REFERENCE",
    "REQUIRED",
    "SIGNATURE",
    "FileEntry",
    "Manifest",
    "check_digest",
    "digest_of",
    "is_digest",
    "seal",
]

MANIFEST = "manifest.json"
ONNX = "model.onnx"
PYTORCH = "model.pt"
CONTRACT = "contract.json"
EVALUATION = "evaluation.json"
GOLDEN = "golden.json"
REFERENCE = "reference.parquet"
SIGNATURE = "signature"
"""Stands beside the manifest and not in it, because it is made of the manifest's own bytes."""
REQUIRED = (ONNX, PYTORCH, CONTRACT, REFERENCE, EVALUATION, GOLDEN)
"""Files without which a directory is no bundle."""

_PARTIAL = ".manifest-partial"
_BESIDE = (MANIFEST, SIGNATURE, _PARTIAL)

MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 32
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class FileEntry(Document):
    """One file, directly in the bundle's directory."""

    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=MAX_FILE_BYTES)

    @field_validator("path")
    @classmethod
    def _plain(cls, path: str) -> str:
        if not _FILE_NAME.fullmatch(path) or path in (MANIFEST, SIGNATURE):
            raise ValueError(f"{path!r} is no plain file name")
        return path


class Manifest(Document):
    """What a bundle holds."""

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=253)
    version: str = Field(min_length=1, max_length=128)
    created: datetime
    files: list[FileEntry] = Field(max_length=64)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        paths = [entry.path for entry in self.files]
        if len(set(paths)) != len(paths):
            raise ValueError("a file stands twice")
        if absent := sorted(set(REQUIRED) - set(paths)):
            raise ValueError(f"without {', '.join(absent)}")
        return self

    @classmethod
    def parse(cls, raw: bytes, expected_digest: str | None = None) -> Self:
        """The manifest in these bytes. Raises DigestMismatch before anything in it is believed, and BundleInvalid."""
        if expected_digest is not None and digest_of(raw) != check_digest(expected_digest):
            raise DigestMismatch(f"the bundle's digest is {digest_of(raw)}, not {expected_digest}")
        try:
            return cls.model_validate_json(raw)
        except ValidationError as e:
            raise BundleInvalid(f"{MANIFEST}: {first_error(e)}") from e


def digest_of(manifest: bytes) -> str:
    """A model's digest from the bytes of its manifest.json."""
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether this has the form sha256:<64 lower-case hex digits>."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(digest: str) -> str:
    """The digest itself. Raises BundleInvalid for anything not of the form sha256:<64 hex digits>."""
    if not is_digest(digest):
        raise BundleInvalid(f"{digest!r} is no digest: it takes the form sha256:<64 lower-case hex digits>")
    return digest


def seal(directory: Path, name: str, version: str, created: datetime | None = None) -> str:
    """Write manifest.json over the directory's files and return the digest. Called last: a directory without a
    manifest is no bundle, so an interrupted writer leaves nothing that could be taken for one.

    A signature that lies there is of what was there before: it is removed.
    Raises BundleInvalid for a directory that holds something else than a bundle's files, or not all of them.
    """
    try:
        entries = [_entry(path) for path in sorted(directory.iterdir()) if path.name not in _BESIDE]
        manifest = Manifest(name=name, version=version, created=created or datetime.now(UTC), files=entries)
    except ValidationError as e:
        raise BundleInvalid(f"{directory}: {first_error(e)}") from e
    (directory / SIGNATURE).unlink(missing_ok=True)
    raw = manifest.model_dump_json(indent=1).encode() + b"\n"
    # Beside the manifest and not beside the directory, which may be the root of a volume.
    partial = directory / _PARTIAL
    partial.write_bytes(raw)
    partial.replace(directory / MANIFEST)
    return digest_of(raw)


def _entry(path: Path) -> FileEntry:
    if not path.is_file():
        raise BundleInvalid(f"{path} is no file; a bundle holds files and nothing else")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(path=path.name, sha256=digest, size=path.stat().st_size)
