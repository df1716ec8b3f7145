"""The files that hold current data: found, and each looked at before anything is read from it.

A part is *usable*, or *empty*, *corrupt* (cannot be read), or *foreign* (no applicants of this model). Only usable
parts are read; the others are named in the report, and the check goes on without them. A column that no usable part
has, or that every part stores as another type, is a change of schema and so drift. Parts that lack a column others have
are usable: their values are missing, which shows in the missing rate by as many rows as they have.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from http import HTTPStatus
from http.client import HTTPException
from pathlib import PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from creditmodel_bundle.errors import BundleError
from creditmodel_bundle.storage import TIMEOUT_SECONDS, filesystem, local_path
from creditmodel_bundle.text import TEXT, delimiter_of
from creditmodel_drift.baseline import SCORE, Baseline, Column
from creditmodel_drift.binning import Physical
from creditmodel_drift.errors import BadInput, NoUsableData, transport_errors
from creditmodel_drift.window import Period

__all__ = ["Part", "Survey", "find", "readable", "survey"]

_PARTITION = re.compile(r"(date|revision)=([^/]+)")
_GLOB = re.compile(r"[*?\[]")
_NO_TEXT = {
    "compressed, as .csv.gz is": (b"\x1f\x8b",),
    "compressed, as .csv.zst is": (b"\x28\xb5\x2f\xfd",),
    "UTF-16": (b"\xff\xfe", b"\xfe\xff"),
}
_LONGEST_HEADER = 1 << 20
_PIECE = 1 << 16
_READ = (".parquet", ".parq", ".pq", *TEXT)
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".zip")
_UNREAD = (*_COMPRESSED, ".orc", ".avro", ".arrow", ".feather", ".jsonl", ".ndjson", ".tsv", ".txt", ".xls", ".xlsx")
"""Files that may well hold applicants. To pass over them would be to miss rows without a word."""
_LAKES = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table"}
_LOOKS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Part:
    """One file: `path` on its file system, its schema where it could be read, and the delimiter of a text file."""

    path: str
    schema: pa.Schema | None = None
    delimiter: str = ","

    @property
    def suffix(self) -> str:
        """How the file is to be read; without a suffix that says otherwise it is taken for Parquet."""
        return next((suffix for suffix in TEXT if self.path.lower().endswith(suffix)), ".parquet")

    @property
    def is_csv(self) -> bool:
        """Whether the file is text, in which every column is stored as text."""
        return self.suffix in TEXT

    @property
    def is_read(self) -> bool:
        """Whether the file is of a kind that is read."""
        return self.is_csv or not self.path.lower().endswith(_UNREAD)

    @property
    def name(self) -> str:
        """The end of the path, enough to find the file again."""
        return "/".join(PurePosixPath(self.path).parts[-3:])


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found at a URI. `corrupt` and `foreign` say why, by part name."""

    uri: str
    filesystem: Any
    local: bool
    usable: tuple[Part, ...]
    physical: dict[str, Physical]
    names: frozenset[str] = frozenset()
    empty: int = 0
    corrupt: dict[str, str] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    wrong_types: dict[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()

    @property
    def is_csv(self) -> bool:
        """Whether the usable parts are text."""
        return bool(self.usable) and self.usable[0].is_csv

    @property
    def absent(self) -> list[str]:
        """Features that no usable part has."""
        return [name for name in self.physical if name not in self.names and name != SCORE]


def find(uri: str, period: Period | None = None, revision: str | None = None) -> tuple[Any, list[Part]]:
    """The file system of a URI and the data files there: one file, a glob, or a directory with everything below it.

    Partitions named date= and revision= that cannot hold what is asked for are left out without a look. Hidden and
    unfinished files (their names begin with '.' or '_') are none. A directory that is not there has no files: nothing
    has been scored yet. Raises BadInput, and NoUsableData for a file that is not there.
    """
    try:
        source, root = filesystem(uri)
    except BundleError as e:
        raise BadInput(str(e)) from e
    try:
        _reach(uri, source)
        paths = _listing(source, root, period)
    except transport_errors(ValueError) as e:
        raise NoUsableData(f"{uri} cannot be listed: {_sentence(e)}") from e
    wanted = [path for path in paths if _wanted(_below(path, root), period, revision)]
    return source, [Part(path) for path in sorted(wanted)]


def _reach(uri: str, source: Any) -> None:
    """Ask a server whether it answers for this URI. Raises OSError or ValueError.

    The file system of HTTP takes any answer but success for "there is no such file", and an object store has no more to
    say of a bucket that is not there than of a log that nothing was written to: a log behind a server that is down, or
    under a mistyped name, would be a log without rows.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("s3", "gs") and not source.exists(parts.netloc):
        raise FileNotFoundError(f"there is no bucket {parts.netloc}, or it may not be looked at")
    if parts.scheme not in ("http", "https") or _GLOB.search(uri):
        return
    question = Request(uri, method="HEAD")  # noqa: S310 - the scheme is HTTP's
    try:
        with urlopen(question, timeout=TIMEOUT_SECONDS):  # noqa: S310 - likewise
            return
    except HTTPError as e:
        if e.code not in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
            raise
    except HTTPException as e:
        raise OSError(f"the server broke off: {type(e).__name__} {e}") from e


def _listing(source: Any, root: str, period: Period | None) -> list[str]:
    if _GLOB.search(root) and not source.exists(root):
        return [path for path in source.glob(root) if source.isfile(path)]
    if source.isfile(root):
        return [root]
    if source.exists(root):
        # Years of a log have far more files than a window: only the days that may hold it are listed.
        entries = source.ls(root, detail=False)
        _refuse_lakes(entries)
        days = [entry for entry in entries if _wanted(_below(entry, root), period, None)]
        return [path for day in days for path in source.find(day) if path.lower().endswith((*_READ, *_UNREAD))]
    if root.lower().endswith((*_READ, *_UNREAD)):
        raise FileNotFoundError("there is no such file")
    return []


def _refuse_lakes(entries: Iterable[str]) -> None:
    """A table whose own log says which of its files count: others hold rows that were deleted or replaced."""
    names = {PurePosixPath(entry).name for entry in entries}
    kind = next((kind for name, kind in _LAKES.items() if name in names), None)
    if kind is None and {"data", "metadata"} <= names:
        kind = "an Iceberg table"
    if kind is not None:
        raise BadInput(f"this is {kind}, not all of whose files hold rows of today; export the window as Parquet")


def _below(path: str, root: str) -> str:
    """The part of a path below the root; below a pattern its partitions and its name."""
    if path.startswith(root):
        return path.removeprefix(root)
    parts = PurePosixPath(path).parts
    return "/".join([*(part for part in parts[:-1] if _PARTITION.fullmatch(part)), *parts[-1:]])


def _wanted(path: str, period: Period | None, revision: str | None) -> bool:
    if any(part.startswith((".", "_")) for part in PurePosixPath(path).parts):
        return False
    partitions = dict(_PARTITION.findall(path))
    if revision is not None and partitions.get("revision", revision) != revision:
        return False
    return period is None or "date" not in partitions or _may_hold(period, partitions["date"])


def _may_hold(period: Period, day: str) -> bool:
    try:
        return period.may_hold(date.fromisoformat(day))
    except ValueError:
        return True


def survey(uri: str, source: Any, parts: Iterable[Part], baseline: Baseline, broken: dict[str, str]) -> Survey:
    """Look at every part's schema. `broken` names parts, by path, already known to be corrupt."""
    found = [part for part in parts if part.path not in broken]
    unread = {part.name: "is of a kind that is not read: Parquet and CSV are" for part in found if not part.is_read}
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        looked = list(pool.map(lambda part: _look(source, part), (part for part in found if part.is_read)))
    corrupt = {Part(path).name: why for path, why in broken.items()}
    corrupt |= {part.name: why for part, why in looked if isinstance(why, str)}
    readable = [part for _, part in looked if isinstance(part, Part)]
    empty = sum(part is None for _, part in looked)
    ours, foreign = _ours(readable, baseline)
    kinds = _majority_format(ours)
    foreign |= unread
    foreign |= {part.name: "is of another format than the other parts" for part in ours if part.is_csv != kinds}
    usable = [part for part in ours if part.is_csv == kinds]
    physical, wrong, odd = _reconcile(usable, baseline.columns)
    foreign |= odd
    usable = [part for part in usable if part.name not in odd]
    return Survey(
        uri=uri,
        filesystem=source,
        local=local_path(uri) is not None,
        usable=tuple(usable),
        physical=physical,
        names=frozenset(name for part in usable for name in _names(part)),
        empty=empty,
        corrupt=corrupt,
        foreign=foreign,
        wrong_types=wrong,
        extra=tuple(_extra(usable, baseline)),
    )


def _look(source: Any, part: Part) -> tuple[Part, Part | str | None]:
    """The part with its schema, None where it is empty, or what is wrong with it."""
    try:
        size = source.size(part.path)
        if size is None:
            return part, "is of unknown length: its server sends no Content-Length"
        if part.is_csv:
            return part, _look_at_csv(source, part) if size else None
        if size == 0:
            return part, "has no bytes"
        return part, _look_at_parquet(source, part)
    except transport_errors(pa.ArrowException, ValueError) as e:
        return part, _sentence(e)


def _look_at_parquet(source: Any, part: Part) -> Part | None:
    with source.open(part.path, "rb") as file, pq.ParquetFile(file) as parquet:
        return _with(part, parquet.schema_arrow) if parquet.metadata.num_rows else None


def _with(part: Part, schema: pa.Schema) -> Part:
    """The part with its schema. SQL knows columns apart by more than case alone."""
    names = [name.lower() for name in schema.names]
    if twice := next((name for name, lower in zip(schema.names, names, strict=True) if names.count(lower) > 1), None):
        raise ValueError(f"has two columns of the name {twice}")
    return replace(part, schema=schema)


def readable(source: Any, parts: Iterable[Part]) -> list[Part]:
    """The parts that have rows, looked at. Raises NoUsableData for one that cannot be read, and where none has rows."""
    looked = [_look(source, part) for part in parts]
    if broken := next((f"{part.name} {why}" for part, why in looked if isinstance(why, str)), None):
        raise NoUsableData(f"{broken}; it cannot be read")
    if not (found := [part for _, part in looked if isinstance(part, Part)]):
        raise NoUsableData(f"{', '.join(part.name for part, _ in looked)[:200]}: no row in it")
    return found


def _look_at_csv(source: Any, part: Part) -> Part | None:
    header, has_rows = _lines(source, part)
    if not has_rows:
        return None
    delimiter = delimiter_of(header.decode("utf-8", "replace"))
    options = pv.ParseOptions(delimiter=delimiter)
    names = pv.read_csv(pa.BufferReader(header.rstrip(b"\r\n") + b"\n"), parse_options=options).column_names
    return _with(replace(part, delimiter=delimiter), pa.schema([(name, pa.string()) for name in names]))


def _lines(source: Any, part: Part) -> tuple[bytes, bool]:
    """The first line of a text file, and whether anything follows. Raises ValueError for what is no text."""
    with source.open(part.path, "rb") as file, _plain(file, part) as text:
        header = text.readline(_LONGEST_HEADER)
        if kind := next((kind for kind, magic in _NO_TEXT.items() if header.startswith(magic)), None):
            raise ValueError(f"is no text in UTF-8: it is {kind}")
        if b"\0" in header:
            raise ValueError("is no text in UTF-8")
        if len(header) == _LONGEST_HEADER:
            raise ValueError(f"has a first line of over {_LONGEST_HEADER:,} bytes")
        # Not line by line: a line may have no end.
        return header, any(piece.strip() for piece in iter(lambda: text.read(_PIECE), b""))


def _plain(file: Any, part: Part) -> io.BufferedReader:
    compression = TEXT[part.suffix]
    # Arrow takes a file apart as it reads it, so what was cut off is still read to where it was cut.
    return io.BufferedReader(file if compression is None else pa.CompressedInputStream(file, compression))


def _ours(parts: Sequence[Part], baseline: Baseline) -> tuple[list[Part], dict[str, str]]:
    """Parts with at least half of the features; the rest are tables of something else."""
    features = {column.name for column in baseline.features}
    ours = [part for part in parts if 2 * len(features.intersection(_names(part))) >= len(features)]
    known = {part.path for part in ours}
    why = f"has under half of the {len(features)} features; its columns are"
    return ours, {part.name: f"{why} {', '.join(_names(part))[:80]}" for part in parts if part.path not in known}


def _majority_format(parts: Sequence[Part]) -> bool:
    return 2 * sum(part.is_csv for part in parts) > len(parts)


def _reconcile(
    parts: Sequence[Part], columns: Sequence[Column]
) -> tuple[dict[str, Physical], dict[str, str], dict[str, str]]:
    """How each column is stored, columns of a wrong type in every part, and parts of a type that no others share."""
    physical: dict[str, Physical] = {}
    wrong: dict[str, str] = {}
    odd: dict[str, str] = {}
    for column in columns:
        stored = {part.name: (_physical(_type(part, column.name), column, part.is_csv)) for part in parts}
        right = {kind for kind in stored.values() if kind not in ("wrong", "absent")}
        refused = [name for name, kind in stored.items() if kind == "wrong"]
        if refused and not right:
            wrong[column.name] = f"is stored as {_stored_as(parts, column.name)}"
        elif refused:
            odd |= dict.fromkeys(refused, f"stores {column.name} as another type than the other parts")
        physical[column.name] = _common(right, bool(refused))
    return physical, wrong, odd


def _common(kinds: set[Physical], refused: bool) -> Physical:
    """One type for a column over all parts: integers and floating point together are read as numbers."""
    if not kinds:
        return "wrong" if refused else "absent"
    return "number" if "number" in kinds else next(iter(kinds))


def _physical(stored: pa.DataType | None, column: Column, is_csv: bool) -> Physical:
    if stored is None or pa.types.is_null(stored):
        return "absent"
    if is_csv:
        return "text"
    kind = _kind_of(stored)
    if kind == "boolean" and column.kind == "text":
        return "boolean"
    numeric = column.kind != "text"
    return kind if kind is not None and numeric == (kind in ("integer", "number")) and kind != "boolean" else "wrong"


def _kind_of(stored: pa.DataType) -> Physical | None:
    if pa.types.is_dictionary(stored):
        return _kind_of(stored.value_type)
    if pa.types.is_integer(stored):
        return "integer"
    if pa.types.is_floating(stored) or pa.types.is_decimal(stored):
        return "number"
    if pa.types.is_string(stored) or pa.types.is_large_string(stored) or pa.types.is_string_view(stored):
        return "text"
    return "boolean" if pa.types.is_boolean(stored) else None


def _stored_as(parts: Sequence[Part], name: str) -> str:
    return " and ".join(sorted({str(kind) for part in parts if (kind := _type(part, name)) is not None}))


def _names(part: Part) -> list[str]:
    return [] if part.schema is None else list(part.schema.names)


def _type(part: Part, name: str) -> pa.DataType | None:
    schema = part.schema
    return None if schema is None or name not in schema.names else schema.field(schema.names.index(name)).type


def _extra(parts: Sequence[Part], baseline: Baseline) -> list[str]:
    known = {column.name for column in baseline.columns} | set(baseline.skipped)
    return sorted({name for part in parts for name in _names(part) if not name.startswith("_")} - known)


def _sentence(error: Exception) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return " ".join(text.split())[:200] or type(error).__name__
