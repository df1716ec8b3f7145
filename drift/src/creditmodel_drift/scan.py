# ruff: noqa: S608 - every name and literal in these statements is quoted by binning.quote and binning.literal.
"""The usable parts as one stream of rows: filtered, each applicant once, counted into frozen bins in one pass.

DuckDB runs the pass, on local files with its own reader and on object stores through an Arrow dataset: its httpfs
extension would have to be downloaded. Memory is bounded by `memory_limit` whatever the number of rows; what does not
fit (only finding duplicates keeps state per row) spills to the temporary directory.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from creditmodel_bundle.storage import local_path
from creditmodel_drift.baseline import SCORE, Baseline
from creditmodel_drift.binning import conditions, literal, quote, to_bins
from creditmodel_drift.errors import BadInput, NoUsableData, transport_errors
from creditmodel_drift.parts import Part, Survey, survey
from creditmodel_drift.window import Period

__all__ = ["Census", "Counts", "Scan", "around_broken_parts", "connect", "open_scan", "raw_table"]

MEMORY_LIMIT = "1GB"
TOP_REFUSALS = 10
T = TypeVar("T")
_SERIAL = itertools.count()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NULLS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""What a text file writes for a missing value, unless the contract has a category of that name."""


@dataclass(frozen=True, slots=True)
class Census:
    """Rows that were read, and those left out of the comparison, each with its reason.

    `refused` rows are in the window but were not scored, `refusals` has their most frequent errors.
    `duplicates` are further copies of a row (same request, same place in it): one copy is counted.
    """

    read: int
    outside_window: int = 0
    other_revision: int = 0
    refused: int = 0
    duplicates: int = 0
    refusals: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of the window in the order of each table's counts. `first` and `last` are times of scoring, if known."""

    rows: int
    bins: dict[str, list[int]]
    census: Census
    first: datetime | None = None
    last: datetime | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows of one window. `rows` is the SQL of those to compare, `window` of those in the window, refused ones too."""

    connection: duckdb.DuckDBPyConnection
    survey: Survey
    baseline: Baseline
    rows: str
    census: Census

    def counts(self) -> Counts:
        """Count every column into its frozen bins, in one pass."""
        statement, sizes = self._tally("0", _time(self.survey) or "NULL")
        return self._counts(_one(self.connection, statement)[1:], sizes)

    def counts_by(self, start: datetime, length: timedelta) -> dict[int, Counts]:
        """The same for each span of time: span i begins i times `length` after `start`. Spans without rows are none."""
        time = _time(self.survey)
        if time is None:
            raise BadInput(f"spans of time need the column _time, which {self.survey.uri} has not")
        span = f"({time} - {_microseconds(start)}) // {length // timedelta(microseconds=1)}"
        statement, sizes = self._tally(span, time)
        found = self.connection.execute(f"{statement} GROUP BY 1 ORDER BY 1").fetchall()
        return {int(at): self._counts(row, sizes) for at, *row in found if at is not None}

    def _tally(self, group: str, time: str) -> tuple[str, list[int]]:
        """A statement of group, rows, first and last time and the hits of every condition; how many each column has."""
        tests = [conditions(column, self.survey.physical[column.name]) for column in self._columns()]
        sums = "".join(f", countif({test})" for tested in tests for test in tested)
        statement = f"SELECT {group}, count(*), min({time}), max({time}){sums} FROM ({self.rows})"
        return statement, [len(tested) for tested in tests]

    def _counts(self, row: Sequence[Any], sizes: Sequence[int]) -> Counts:
        rows, first, last, *sums_or_null = row
        # DuckDB's countif of no rows is NULL.
        hits = [int(hit or 0) for hit in sums_or_null]
        bins: dict[str, list[int]] = {}
        for column, size in zip(self._columns(), sizes, strict=True):
            bins[column.name], hits = to_bins(column, hits[:size], rows), hits[size:]
        return Counts(rows, bins, self.census, _moment(first), _moment(last))

    def sample(self, rows: int, seed: int) -> pa.Table:
        """At most `rows` random rows of the columns that are there, the same ones for the same seed and files."""
        columns = [column for column in self._columns() if column.name in self.survey.names]
        shown = ", ".join(_typed(column.name, column.kind, self.survey) for column in columns)
        self.connection.execute("SET threads = 1")
        sampled = f"SELECT {shown} FROM ({self.rows}) USING SAMPLE reservoir({rows} ROWS) REPEATABLE ({seed})"
        return self.connection.sql(sampled).to_arrow_table()

    def _columns(self) -> tuple[Any, ...]:
        return tuple(c for c in self.baseline.columns if c.name != SCORE or SCORE in self.survey.names)


@contextmanager
def connect(memory_limit: str = MEMORY_LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """An embedded DuckDB that reaches no network and leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="creditmodel-drift-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with duckdb.connect(config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
            yield connection


def open_scan(
    connection: duckdb.DuckDBPyConnection,
    survey: Survey,
    baseline: Baseline,
    period: Period | None = None,
    revision: str | None = None,
) -> Scan:
    """Take the census of the usable parts and prepare their rows. Raises BadInput, duckdb.Error for a broken part."""
    if period is not None and "_time" not in survey.names:
        raise BadInput(f"a window needs the column _time, which {survey.uri} has not; leave --window and --until out")
    table = _table(connection, survey, baseline)
    time, same = _in_period(survey, period), _of_revision(survey, revision)
    scored = '"_error" IS NULL' if "_error" in survey.names else "TRUE"
    window = f"SELECT * FROM {table} WHERE {time} AND {same}"
    read, within, ours, kept = _one(
        connection,
        f"SELECT count(*), countif({time}), countif({time} AND {same}), countif({time} AND {same} AND {scored}) "
        f"FROM {table}",
    )
    census = Census(read, read - within, within - ours, ours - kept, 0, _refusals(connection, window, ours - kept))
    rows = f"SELECT * FROM ({window}) WHERE {scored}"
    if {"_request_id", "_row"} <= survey.names:
        rows, duplicates = _each_once(connection, rows, _time(survey) or "0")
        census = replace(census, duplicates=duplicates)
    return Scan(connection, survey, baseline, rows, census)


def around_broken_parts(
    connection: duckdb.DuckDBPyConnection,
    baseline: Baseline,
    uri: str,
    found: tuple[Any, Sequence[Part]],
    use: Callable[[Survey], T],
) -> T:
    """What `use` makes of the parts that `find` found. Where it fails in the middle of a part, it runs again without.

    Raises NoUsableData when it fails although every part can be read.
    """
    broken: dict[str, str] = {}
    while True:
        looked = survey(uri, *found, baseline, broken)
        try:
            return use(looked)
        except transport_errors(duckdb.Error, pa.ArrowException) as e:
            newly = _broken_parts(connection, looked, baseline)
            if not newly:
                raise NoUsableData(f"{uri} cannot be read: {' '.join(str(e).split())[:300]}") from e
            broken |= newly


def _broken_parts(connection: duckdb.DuckDBPyConnection, survey: Survey, baseline: Baseline) -> dict[str, str]:
    """Paths of usable parts that cannot be read to the end, with the reason. Slow: for after a scan has failed."""
    broken: dict[str, str] = {}
    for part in survey.usable:
        alone = replace(survey, usable=(part,), names=frozenset(part.schema.names if part.schema else ()))
        try:
            table = _table(connection, alone, baseline)
            connection.execute(f"SELECT max(hash(COLUMNS(*))) FROM {table}").fetchall()
        except transport_errors(duckdb.Error, pa.ArrowException) as e:
            broken[part.path] = " ".join(str(e).split())[:200]
    return broken


def _each_once(connection: duckdb.DuckDBPyConnection, rows: str, time: str) -> tuple[str, int]:
    """The rows without further copies, and how many copies there were. Only rows that have copies are ever sorted."""
    key, copied, originals = 'hash("_request_id", "_row")', _unique("copied"), _unique("originals")
    connection.execute(
        f"CREATE TEMP TABLE {copied} AS SELECT {key} AS key, count(*) AS copies FROM ({rows}) "
        'WHERE "_request_id" IS NOT NULL GROUP BY ALL HAVING count(*) > 1'
    )
    if not _one(connection, f"SELECT count(*) FROM {copied}")[0]:
        return rows, 0
    among = f'{key} IN (SELECT key FROM {copied}) AND "_request_id" IS NOT NULL'
    first = f'row_number() OVER (PARTITION BY "_request_id", "_row" ORDER BY {time}) = 1'
    connection.execute(f"CREATE TEMP TABLE {originals} AS SELECT * FROM ({rows}) WHERE {among} QUALIFY {first}")
    copies = _one(connection, f"SELECT sum(copies) FROM {copied}")[0]
    kept = _one(connection, f"SELECT count(*) FROM {originals}")[0]
    once = f"SELECT * FROM ({rows}) WHERE NOT ({among}) UNION ALL SELECT * FROM {originals}"
    return once, int(copies) - int(kept)


def _refusals(connection: duckdb.DuckDBPyConnection, window: str, refused: int) -> tuple[tuple[str, int], ...]:
    if not refused:
        return ()
    statement = (
        f'SELECT CAST("_error" AS VARCHAR), count(*) FROM ({window}) WHERE "_error" IS NOT NULL '
        f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {TOP_REFUSALS}"
    )
    return tuple((str(error), int(rows)) for error, rows in connection.execute(statement).fetchall())


def raw_table(connection: duckdb.DuckDBPyConnection, uri: str, source: Any, parts: Sequence[Part]) -> str:
    """Files as a table in SQL, with the types that they declare, or that a text file's values suggest."""
    if local_path(uri) is None:
        from pyarrow import dataset

        shape = "csv" if parts[0].is_csv else "parquet"
        table = _unique("table")
        connection.register(table, dataset.dataset([p.path for p in parts], format=shape, filesystem=source))
        return table
    reader = "read_csv" if parts[0].is_csv else "read_parquet"
    return f"{reader}({_paths(parts)}, union_by_name = true, hive_partitioning = false)"


def _table(connection: duckdb.DuckDBPyConnection, survey: Survey, baseline: Baseline) -> str:
    """The usable parts as a table in SQL; every column of text files is text."""
    if not survey.local:
        name = _unique("parts")
        connection.register(name, _dataset(survey))
        return name
    paths = _paths(survey.usable)
    if not survey.is_csv:
        return f"read_parquet({paths}, union_by_name = true, hive_partitioning = false)"
    nulls = "[" + ", ".join(literal(null) for null in _nulls(baseline)) + "]"
    options = f"all_varchar = true, header = true, hive_partitioning = false, nullstr = {nulls}"
    return f"read_csv({paths}, union_by_name = true, {options})"


def _paths(parts: Sequence[Part]) -> str:
    return "[" + ", ".join(literal(part.path) for part in parts) + "]"


def _nulls(baseline: Baseline) -> list[str]:
    categories = {str(value) for column in baseline.columns for value in getattr(column.table, "values", ())}
    return [null for null in _NULLS if null not in categories]


def _dataset(survey: Survey) -> Any:
    from pyarrow import csv, dataset

    schema = pa.unify_schemas([part.schema for part in survey.usable], promote_options="permissive")
    shape: Any = "parquet"
    if survey.is_csv:
        convert = csv.ConvertOptions(column_types=dict.fromkeys(schema.names, pa.string()), strings_can_be_null=True)
        shape = dataset.CsvFileFormat(convert_options=convert)
    paths = [part.path for part in survey.usable]
    return dataset.dataset(paths, schema=schema, format=shape, filesystem=survey.filesystem)


def _in_period(survey: Survey, period: Period | None) -> str:
    time = _time(survey)
    if period is None or time is None:
        return "TRUE"
    begun = "TRUE" if period.start is None else f"{time} >= {_microseconds(period.start)}"
    return f"coalesce({begun} AND {time} < {_microseconds(period.end)}, FALSE)"


def _of_revision(survey: Survey, revision: str | None) -> str:
    if revision is None or "_revision" not in survey.names:
        return "TRUE"
    return f'coalesce("_revision" = {literal(revision)}, FALSE)'


def _time(survey: Survey) -> str | None:
    """The time of scoring in microseconds since 1970; a time without a zone is UTC."""
    if "_time" not in survey.names:
        return None
    stored = {_stored(part, "_time") for part in survey.usable} - {None}
    if all(pa.types.is_timestamp(kind) for kind in stored):
        return 'epoch_us("_time")'
    return 'epoch_us(TRY_CAST(CAST("_time" AS VARCHAR) AS TIMESTAMPTZ))'


def _stored(part: Part, name: str) -> pa.DataType | None:
    return part.schema.field(name).type if part.schema is not None and name in part.schema.names else None


def _typed(name: str, kind: str, survey: Survey) -> str:
    """A column for a sample: text files' numbers become numbers."""
    if survey.is_csv and kind != "text":
        return f"TRY_CAST({quote(name)} AS DOUBLE) AS {quote(name)}"
    return quote(name)


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _EPOCH + timedelta(microseconds=microseconds)


def _unique(name: str) -> str:
    """A table name of its own: scans of one connection outlive each other."""
    return f"{name}_{next(_SERIAL)}"


def _one(connection: duckdb.DuckDBPyConnection, statement: str) -> Sequence[Any]:
    """The one row of a statement. Fetching all of them frees the connection for the next."""
    return connection.execute(statement).fetchall()[0]
