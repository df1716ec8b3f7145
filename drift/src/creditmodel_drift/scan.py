# ruff: noqa: S608 - every name and literal in these statements is quoted by binning.quote and binning.literal.
"""The usable parts as one stream of rows: filtered, each applicant once, counted into frozen bins in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pyarrow as pa

from creditmodel_drift.baseline import SCORE, Baseline, Column
from creditmodel_drift.binning import conditions, literal, quote, to_bins, with_numbers
from creditmodel_drift.engine import Engine
from creditmodel_drift.errors import BadInput, EngineFailed, NoUsableData, transport_errors
from creditmodel_drift.parts import Part, Survey, survey
from creditmodel_drift.window import Period

__all__ = ["Census", "Counts", "Scan", "Selection", "around_broken_parts", "open_scan", "select", "time_of"]

TOP_REFUSALS = 10
CLOCKS_DIFFER = timedelta(minutes=1)
"""By as much clocks may differ without a remark."""
T = TypeVar("T")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NULLS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""What a text file writes for a missing value, unless the contract has a category of that name."""


@dataclass(frozen=True, slots=True)
class Census:
    """Rows that were read, and those left out of the comparison, each with its reason.

    `untimed` rows have no time that can be read, so no window holds them. `refused` rows are in the window but were not
    scored, `refusals` has their most frequent errors. `duplicates` are further copies of a row (same request, same
    place in it): one copy is counted. `future` rows, most of them outside the window, are dated after the check.
    """

    read: int
    outside_window: int = 0
    untimed: int = 0
    other_revision: int = 0
    refused: int = 0
    duplicates: int = 0
    refusals: tuple[tuple[str, int], ...] = ()
    future: int = 0


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

    engine: Engine
    survey: Survey
    baseline: Baseline
    rows: str
    census: Census

    def counts(self) -> Counts:
        """Count every column into its frozen bins, in one pass."""
        statement, sizes = self._tally("0", time_of(self.survey) or "NULL")
        return self._counts(_one(self.engine, statement)[1:], sizes)

    def counts_by(self, start: datetime, length: timedelta) -> dict[int, Counts]:
        """The same for each span of time: span i begins i times `length` after `start`. Spans without rows are none."""
        time = time_of(self.survey)
        if time is None:
            raise BadInput(f"spans of time need the column _time, which {self.survey.uri} has not")
        span = f"({time} - {_microseconds(start)}) // {length // timedelta(microseconds=1)}"
        statement, sizes = self._tally(span, time)
        found = self.engine.rows(f"{statement} GROUP BY 1 ORDER BY 1")
        return {int(at): self._counts(row, sizes) for at, *row in found if at is not None}

    def _tally(self, group: str, time: str) -> tuple[str, list[int]]:
        """A statement of group, rows, first and last time and the hits of every condition; how many each column has."""
        columns = [(column, self.survey.physical[column.name]) for column in self._columns()]
        tests = [conditions(column, physical) for column, physical in columns]
        sums = "".join(f", countif({test})" for tested in tests for test in tested)
        rows = with_numbers(self.rows, columns)
        statement = f"SELECT {group}, count(*), min({time}), max({time}){sums} FROM ({rows})"
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
        return self.engine.sample(f"SELECT {shown} FROM ({self.rows})", rows, seed)

    def _columns(self) -> tuple[Column, ...]:
        return tuple(c for c in self.baseline.columns if c.name != SCORE or SCORE in self.survey.names)


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions in SQL that choose rows of a table: never NULL."""

    table: str
    in_window: str
    of_revision: str
    scored: str

    @property
    def window(self) -> str:
        """All rows of the window, refused ones too."""
        return f"SELECT * FROM {self.table} WHERE {self.in_window} AND {self.of_revision}"

    @property
    def rows(self) -> str:
        """The rows to compare, copies included."""
        return f"SELECT * FROM ({self.window}) WHERE {self.scored}"


def select(
    engine: Engine, survey: Survey, baseline: Baseline, period: Period | None = None, revision: str | None = None
) -> Selection:
    """Say which rows of the usable parts count; reads none. Raises BadInput."""
    if period is not None and "_time" not in survey.names:
        raise BadInput(f"a window needs the column _time, which {survey.uri} has not; leave --window and --until out")
    return Selection(
        engine.table(survey, _nulls(baseline)),
        _in_period(survey, period),
        _of_revision(survey, revision),
        '"_error" IS NULL' if "_error" in survey.names else "TRUE",
    )


def open_scan(
    engine: Engine, survey: Survey, baseline: Baseline, period: Period | None = None, revision: str | None = None
) -> Scan:
    """Take the census of the usable parts and prepare their rows. Raises BadInput, EngineFailed for a broken part."""
    chosen = select(engine, survey, baseline, period, revision)
    time, same = chosen.in_window, chosen.of_revision
    clock = time_of(survey) if period is not None else None
    untimed = "FALSE" if clock is None else f"{clock} IS NULL"
    read, blank, ahead, within, ours, kept = _one(
        engine,
        f"SELECT count(*), countif({untimed}), countif({_ahead(clock, period)}), "
        f"countif({time}), countif({time} AND {same}), "
        f"countif({time} AND {same} AND {chosen.scored}) FROM {chosen.table}",
    )
    refusals = _refusals(engine, chosen.window, ours - kept)
    census = Census(read, read - within - blank, blank, within - ours, ours - kept, 0, refusals, ahead)
    rows = chosen.rows
    if {"_request_id", "_row"} <= survey.names:
        rows, duplicates = _each_once(engine, rows, time_of(survey) or "0")
        census = replace(census, duplicates=duplicates)
    return Scan(engine, survey, baseline, rows, census)


def around_broken_parts(
    engine: Engine,
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
        except transport_errors(EngineFailed) as e:
            newly = _broken_parts(engine, looked, baseline)
            if not newly:
                raise NoUsableData(f"{uri} cannot be read: {' '.join(str(e).split())[:300]}") from e
            broken |= newly


def _broken_parts(engine: Engine, survey: Survey, baseline: Baseline) -> dict[str, str]:
    """Paths of usable parts that cannot be read to the end, with the reason. Slow: for after a scan has failed."""
    broken: dict[str, str] = {}
    for part in survey.usable:
        names = part.schema.names if part.schema else []
        alone = replace(survey, usable=(part,), names=frozenset(names))
        columns = ", ".join(f"max(hash({quote(name)}))" for name in names)
        try:
            engine.rows(f"SELECT {columns} FROM {engine.table(alone, _nulls(baseline))}")
        except transport_errors(EngineFailed) as e:
            broken[part.path] = " ".join(str(e).split())[:200]
    return broken


def _each_once(engine: Engine, rows: str, time: str) -> tuple[str, int]:
    """The rows without further copies, and how many copies there were. Only rows that have copies are ever sorted."""
    key = 'hash("_request_id", "_row")'
    copied = engine.keep(
        f"SELECT {key} AS key, count(*) AS copies FROM ({rows}) "
        'WHERE "_request_id" IS NOT NULL GROUP BY ALL HAVING count(*) > 1'
    )
    if not _one(engine, f"SELECT count(*) FROM {copied}")[0]:
        return rows, 0
    among = f'{key} IN (SELECT key FROM {copied}) AND "_request_id" IS NOT NULL'
    place = f'row_number() OVER (PARTITION BY "_request_id", "_row" ORDER BY {time}) AS "_place"'
    numbered = f"SELECT *, {place} FROM ({rows}) WHERE {among}"
    originals = engine.keep(f'SELECT * EXCLUDE ("_place") FROM ({numbered}) WHERE "_place" = 1')
    copies = _one(engine, f"SELECT sum(copies) FROM {copied}")[0]
    kept = _one(engine, f"SELECT count(*) FROM {originals}")[0]
    once = f"SELECT * FROM ({rows}) WHERE NOT ({among}) UNION ALL SELECT * FROM {originals}"
    return once, int(copies) - int(kept)


def _refusals(engine: Engine, window: str, refused: int) -> tuple[tuple[str, int], ...]:
    if not refused:
        return ()
    statement = (
        f'SELECT CAST("_error" AS VARCHAR), count(*) FROM ({window}) WHERE "_error" IS NOT NULL '
        f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {TOP_REFUSALS}"
    )
    return tuple((str(error), int(rows)) for error, rows in engine.rows(statement))


def _nulls(baseline: Baseline) -> list[str]:
    categories = {str(value) for column in baseline.columns for value in getattr(column.table, "values", ())}
    return [null for null in _NULLS if null not in categories]


def _in_period(survey: Survey, period: Period | None) -> str:
    time = time_of(survey)
    if period is None or time is None:
        return "TRUE"
    begun = "TRUE" if period.start is None else f"{time} >= {_microseconds(period.start)}"
    return f"coalesce({begun} AND {time} < {_microseconds(period.end)}, FALSE)"


def _ahead(clock: str | None, period: Period | None) -> str:
    """Whether a row was scored later than it is now, in SQL."""
    if clock is None or period is None or period.now is None:
        return "FALSE"
    return f"coalesce({clock} > {_microseconds(period.now + CLOCKS_DIFFER)}, FALSE)"


def _of_revision(survey: Survey, revision: str | None) -> str:
    if revision is None or "_revision" not in survey.names:
        return "TRUE"
    return f'coalesce("_revision" = {literal(revision)}, FALSE)'


def time_of(survey: Survey, name: str = "_time") -> str | None:
    """The time of scoring in SQL, in microseconds since 1970; a time without a zone is UTC. None without the column."""
    if name not in survey.names:
        return None
    stored = {_stored(part, name) for part in survey.usable} - {None}
    if all(pa.types.is_timestamp(kind) for kind in stored):
        # Parts of several units have the finest of them together, of which epoch_us knows nothing.
        return f"epoch_us(CAST({quote(name)} AS TIMESTAMPTZ))"
    return f"epoch_us(TRY_CAST(CAST({quote(name)} AS VARCHAR) AS TIMESTAMPTZ))"


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


def _one(engine: Engine, statement: str) -> tuple[Any, ...]:
    """The one row of a statement."""
    return engine.rows(statement)[0]
