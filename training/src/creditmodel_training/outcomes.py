"""Scored applicants whose outcome is known by now: the scoring log joined with a table of labels.

A part that cannot be read, or that has no applicants of this model, is named and left out, as in a drift check. Only
the labelled rows of a part are kept, so that memory grows with what there is to learn from and not with the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from creditmodel_bundle.errors import BundleError
from creditmodel_bundle.storage import filesystem
from creditmodel_bundle.text import TEXT
from creditmodel_training.data import plain, read_text
from creditmodel_training.errors import DataError, DataUnreachable

__all__ = ["KEY", "Outcomes", "read_outcomes"]

KEY = ("_request_id", "_row")
SLACK = timedelta(days=1)
"""A part is filed under the day it was written, which may be after midnight for a row scored before."""
_ROWS_AT_ONCE = 250_000
_SUFFIXES = (".parquet", *TEXT)
_DAY = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Labelled applicants: the features' raw values, `_request_id`, `_row` and `_label` (1 = bad), oldest first.

    `seen` counts the scored rows that were looked at; `skipped` says what was left out, and why.
    """

    table: pa.Table
    seen: int
    skipped: list[str] = field(default_factory=list)


def read_outcomes(
    current: str, labels: str, features: Sequence[str], scored: tuple[datetime | None, datetime], max_rows: int
) -> Outcomes:
    """The newest `max_rows` labelled applicants scored from the first time (None: ever) up to before the second.

    A label that was given twice counts as it was last observed, a row that was logged twice counts once. Raises
    DataError for tables that are not what they should be, DataUnreachable when a store does not answer.
    """
    known = _labels(labels)
    skipped: list[str] = []
    seen = 0
    found: list[pa.Table] = []
    for part in _together(_scored(current, features, scored, skipped)):
        seen += part.num_rows
        found.append(part.join(known, keys=list(KEY), join_type="inner"))
    if not found:
        raise DataError(f"{current} has no scored applicants up to {scored[1]:%Y-%m-%d %H:%M} UTC; {_why(skipped)}")
    table = _once(pa.concat_tables(found, promote_options="permissive"))
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in ("_time", *KEY)])
    return Outcomes(table.take(order).slice(max(0, table.num_rows - max_rows)), seen, skipped)


def _why(skipped: list[str]) -> str:
    return "; ".join(skipped[:3]) or "nothing was left out"


def _labels(uri: str) -> pa.Table:
    """One label of each row: the newest."""
    source, paths = _find(uri, (None, None))
    if not paths:
        raise DataError(f"{uri} has no {', '.join(_SUFFIXES)} file with labels")
    parts = [_read(source, path, [*KEY, "_label", "_observed"]) for path in paths]
    for part, path in zip(parts, paths, strict=True):
        if absent := [name for name in (*KEY, "_label") if name not in part.column_names]:
            raise DataError(f"{path}: labels need the column {absent[0]!r}")
    table = pa.concat_tables([_keyed(part) for part in parts], promote_options="permissive")
    if "_observed" in table.column_names:
        table = table.take(pc.sort_indices(table, sort_keys=[("_observed", "descending")]))
    usable = table.filter(pc.is_in(table["_label"], pa.array([0, 1], pa.int64())))
    return _once(usable).select([*KEY, "_label"])


def _once(table: pa.Table) -> pa.Table:
    """The first row of each key."""
    numbered = table.append_column("_at", pa.array(np.arange(table.num_rows)))
    return table.take(numbered.group_by(list(KEY)).aggregate([("_at", "min")])["_at_min"])


def _together(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Parts put together, so that each join is worth its while."""
    waiting: list[pa.Table] = []
    for part in parts:
        waiting.append(part)
        if sum(table.num_rows for table in waiting) >= _ROWS_AT_ONCE:
            yield pa.concat_tables(waiting, promote_options="permissive")
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting, promote_options="permissive")


def _scored(
    uri: str, features: Sequence[str], scored: tuple[datetime | None, datetime], skipped: list[str]
) -> Iterator[pa.Table]:
    """The scored rows of each usable part, without those that failed and those of another time."""
    source, paths = _find(uri, scored)
    for path in paths:
        try:
            table = _read(source, path, [*KEY, "_time", "_error", *features])
            _check_columns(table, features)
            rows = _within(_keyed(table), scored)
            values = plain(rows.select(list(features)))
            yield pa.table([rows[name] for name in (*KEY, "_time")] + values.columns, [*KEY, "_time", *features])
        except (pa.ArrowException, DataError) as e:
            skipped.append(f"{path} was left out: {str(e).splitlines()[0][:200]}")


def _check_columns(table: pa.Table, features: Sequence[str]) -> None:
    absent = [name for name in (*KEY, *features) if name not in table.column_names]
    if absent:
        raise DataError(f"it has no column {absent[0]!r}")


def _keyed(table: pa.Table) -> pa.Table:
    """The key in one pair of types everywhere, and only rows that have it."""
    types = {"_request_id": pa.string(), "_row": pa.int64()}
    for name, kind in types.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    return table.filter(pc.and_(*(pc.is_valid(table[name]) for name in KEY)))


def _within(table: pa.Table, scored: tuple[datetime | None, datetime]) -> pa.Table:
    """Rows scored in time and without an error. A table without times counts as old enough."""
    if "_error" in table.column_names:
        table = table.filter(pc.is_null(table["_error"]))
    utc = pa.timestamp("us", "UTC")
    if "_time" not in table.column_names:
        return table.append_column("_time", pa.nulls(table.num_rows, utc))
    times = table["_time"].cast(utc)
    table = table.set_column(table.column_names.index("_time"), "_time", times)
    start, end = scored
    wanted = pc.less(times, pa.scalar(end, utc))
    return table.filter(wanted if start is None else pc.and_(wanted, pc.greater_equal(times, pa.scalar(start, utc))))


def _find(uri: str, scored: tuple[datetime | None, datetime | None]) -> tuple[Any, list[str]]:
    """The file system of a URI and the data files there; a day that cannot hold what is wanted is not looked at."""
    try:
        source, root = filesystem(uri)
    except BundleError as e:
        raise DataError(str(e)) from e
    try:
        paths = [root] if source.isfile(root) else sorted(source.find(root))
    except FileNotFoundError:
        return source, []
    except OSError as e:
        raise DataUnreachable(f"{uri} cannot be listed: {e}") from e
    return source, [path for path in paths if path == root or _wanted(path.removeprefix(root), scored)]


def _wanted(path: str, scored: tuple[datetime | None, datetime | None]) -> bool:
    hidden = any(part.startswith((".", "_")) for part in path.split("/") if part)
    if hidden or not path.endswith(_SUFFIXES):
        return False
    day = _DAY.search(path)
    if day is None:
        return True
    start, end = scored
    on = date.fromisoformat(day[1])
    return (start is None or on >= (start - SLACK).date()) and (end is None or on <= (end + SLACK).date())


def _read(source: Any, path: str, wanted: Sequence[str]) -> pa.Table:
    """The wanted columns of a file, as far as it has them. Raises ArrowException for a file that is no table."""
    try:
        if path.endswith(tuple(TEXT)):
            table = read_text(lambda: source.open(path, "rb"), path)
            return _text_times(table.select([name for name in wanted if name in table.column_names]))
        with source.open(path, "rb") as file:
            parquet = pq.ParquetFile(file)
            return parquet.read([name for name in wanted if name in parquet.schema_arrow.names])
    except pa.ArrowException:
        raise
    except OSError as e:
        raise DataUnreachable(f"{path} cannot be read: {e}") from e


def _text_times(table: pa.Table) -> pa.Table:
    """CSV has no type for a list or a time zone; what Arrow took for a plain time is UTC."""
    kept = [name for name in table.column_names if not name.startswith("_") or name in (*KEY, "_label")]
    times = [name for name in ("_time", "_observed") if name in table.column_names]
    result = plain(table.select(kept))
    for name in times:
        result = result.append_column(name, table[name].cast(pa.timestamp("us", "UTC")))
    return result if "_error" not in table.column_names else result.append_column("_error", table["_error"])
