"""Tables to train on: the data sets that ship with the package, and CSV or Parquet files."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from creditmodel_bundle.text import TEXT, delimiter_of
from creditmodel_training.data import uci
from creditmodel_training.errors import DataError
from creditmodel_training.schema import Schema

__all__ = ["Source", "named", "names", "open_source", "plain", "read_table", "read_text"]

NULL_WORDS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]

_NOT_UTF8 = "is not UTF-8; convert it first, as in: iconv -f WINDOWS-1252 -t UTF-8"


@dataclass(frozen=True, slots=True)
class Source:
    """A table and, where it is known, what its columns mean."""

    name: str
    table: pa.Table
    schema: Schema | None


def names() -> list[str]:
    """The data sets that ship with the package, oldest snapshot first."""
    return [f"{uci.NAME}@{month}" for month in uci.SNAPSHOTS]


def named(name: str) -> Source:
    """A shipped data set: NAME@MONTH, or NAME for its newest snapshot. Raises DataError listing what there is."""
    full = names()[-1] if name == uci.NAME else name
    if full not in names():
        raise DataError(f"there is no data set {name!r}; give a .csv or .parquet file, or one of {', '.join(names())}")
    return Source(full, uci.snapshot(full.removeprefix(f"{uci.NAME}@")), uci.SCHEMA)


def open_source(data: str) -> Source:
    """The data set or the file that --data names. Raises DataError."""
    path = Path(data)
    if path.name.lower().endswith((*TEXT, ".parquet", ".pq")) or path.exists():
        return Source(path.name, read_table(path), None)
    return named(data)


def read_table(path: Path) -> pa.Table:
    """The table in a .csv or .parquet file. Raises DataError for a file that is absent, malformed or empty."""
    try:
        read = _read(path)
        if len(set(read.column_names)) != read.num_columns:
            raise DataError(f"{path} has two columns of the same name")
        table = plain(read)
    except (OSError, pa.ArrowException) as e:
        raise DataError(f"{path} cannot be read: {e}") from e
    if table.num_rows == 0:
        raise DataError(f"{path} has no rows")
    return table


def plain(table: pa.Table) -> pa.Table:
    """Each column as one of the kinds that applicants come in: int64, double or text (booleans in JSON's words).

    NaN is missing. Raises ArrowInvalid naming the column that is none of these.
    """
    return pa.table({name: _plain_column(name, table[name]) for name in table.column_names})


def _plain_column(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        column = column.cast(_plain_type(column.type))
    except pa.ArrowException as e:
        raise pa.ArrowInvalid(f"column {name!r}: {e}") from e
    if not pa.types.is_floating(column.type):
        return column
    return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return pa.float64()
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise pa.ArrowNotImplementedError(f"{kind} is neither number nor text")
    return pa.string()


def _read(path: Path) -> pa.Table:
    if path.name.lower().endswith(tuple(TEXT)):
        if path.is_fifo():  # it can be read once, and its beginning is looked at twice
            content = path.read_bytes()
            return read_text(lambda: io.BytesIO(content), str(path))
        return read_text(lambda: path.open("rb"), str(path))
    if path.suffix.lower() in (".parquet", ".pq"):
        return pq.read_table(path)
    raise DataError(f"{path}: data is a .csv or .parquet file, or text compressed as .csv.gz or .csv.zst")


def read_text(opened: Callable[[], IO[bytes]], name: str) -> pa.Table:
    """The table in a text file, by any usual delimiter, compressed as its name says.

    `opened` opens it, from the beginning each time. Raises DataError for what is no text in UTF-8, ArrowException for
    what is no table, OSError where it cannot be read.
    """
    compression = next(compression for suffix, compression in TEXT.items() if name.lower().endswith(suffix))
    if compression is None:
        return _read_plain_text(opened, name)
    with opened() as file:
        packed = file.read()
    try:
        return _read_plain_text(lambda: _unpacked(packed, compression), name)
    except OSError as e:
        raise DataError(f"{name} cannot be unpacked as {compression}: {e}") from e


def _unpacked(packed: bytes, compression: str) -> IO[bytes]:
    return io.BufferedReader(pa.CompressedInputStream(pa.BufferReader(packed), compression))


def _read_plain_text(opened: Callable[[], IO[bytes]], name: str) -> pa.Table:
    with opened() as text:
        delimiter = _delimiter(text.readline(1 << 20), name)
    convert = pyarrow.csv.ConvertOptions(null_values=NULL_WORDS, strings_can_be_null=True)
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with opened() as text:
        table = pyarrow.csv.read_csv(text, convert_options=convert, parse_options=parse)
    for field in table.schema:
        if pa.types.is_binary(field.type):  # what Arrow takes text for that does not decode
            raise DataError(f"{name}: column {field.name!r} {_NOT_UTF8}")
    return table


def _delimiter(header: bytes, name: str) -> str:
    try:
        if header.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{name} is UTF-16; save it as UTF-8")
        return delimiter_of(header.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise DataError(f"{name}: its header {_NOT_UTF8}") from e
