# ruff: noqa: S608 - every name and literal in these statements is quoted by binning.quote and binning.literal.
"""The default engine: DuckDB in this process.

It reads local Parquet files with its own reader, those in object stores through Arrow data sets (its httpfs extension
would have to be downloaded), and text, wherever it lies, through `files.py`. Memory is bounded by `memory_limit`
whatever the number of rows; what does not fit (only finding duplicates and joining labels keep state per row) spills to
the temporary directory.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from creditmodel_bundle.storage import local_path
from creditmodel_drift.binning import literal
from creditmodel_drift.errors import EngineFailed
from creditmodel_drift.files import Files
from creditmodel_drift.parts import Part, Survey, readable

__all__ = ["MEMORY_LIMIT", "Duck", "duck"]

MEMORY_LIMIT = "1GB"
_WILD = re.compile(r"([*?\[])")
T = TypeVar("T")


@contextmanager
def duck(memory_limit: str = MEMORY_LIMIT) -> Iterator[Duck]:
    """An embedded DuckDB that reaches no network and leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="creditmodel-drift-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with _connected(config) as connection:
            connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
            # A whole row group of compressed bytes a thread, for no time that can be measured on local files.
            connection.execute("SET disable_parquet_prefetching = true; SET enable_external_file_cache = false")
            # It takes a file's largest value for a bound of all, and so counts every NaN, which no file's statistics
            # have, as smaller than anything that is larger than that.
            connection.execute("SET disabled_optimizers = 'statistics_propagation'")
            yield Duck(connection, spill)


def _connected(config: dict[str, str | bool | int | float | list[str]]) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(config=config)
    except duckdb.Error as e:
        raise EngineFailed(_words(e)) from e


class Duck:
    """Statements as they are written."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, directory: str) -> None:
        self._connection, self._directory = connection, directory
        self._files = Files()
        self._connection.register_filesystem(self._files)
        # Scans of one connection outlive each other, so each table has a name of its own.
        self._serial = itertools.count()

    def table(self, found: Survey, nulls: Sequence[str]) -> str:
        """A reader of Parquet files, or of text with one dialect after the other."""
        if not found.is_csv:
            return self._parquet(found.local, found.filesystem, found.usable)
        missing = "[" + ", ".join(literal(null) for null in nulls) + "]"
        # A dialect that is guessed from a damaged file reads all of it as something else.
        dialect = "quote = '\"', escape = '\"', strict_mode = true, header = true, all_varchar = true"
        options = f"{dialect}, union_by_name = true, hive_partitioning = false, nullstr = {missing}"
        return self._text(found.filesystem, found.usable, options)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Fetching all rows frees the connection for the next statement."""
        return self._run(lambda connection: connection.execute(statement).fetchall())

    def arrow(self, statement: str) -> pa.Table:
        """As Arrow columns."""
        return self._run(lambda connection: connection.sql(statement).to_arrow_table())

    def keep(self, statement: str) -> str:
        """A temporary table, which spills where it is large."""
        name = f"kept_{next(self._serial)}"
        self.rows(f"CREATE TEMP TABLE {name} AS {statement}")
        return name

    def sample(self, statement: str, rows: int, seed: int) -> pa.Table:
        """A reservoir; one thread, so that the seed alone decides."""
        self.rows("SET threads = 1")
        try:
            return self.arrow(f"SELECT * FROM ({statement}) USING SAMPLE reservoir({rows} ROWS) REPEATABLE ({seed})")
        finally:
            self.rows("RESET threads")

    def inferred(self, uri: str, source: Any, parts: Sequence[Part]) -> str:
        """Files as a table in SQL, with the types that they declare, or that a text file's values suggest."""
        found = readable(source, parts)
        if found[0].is_csv:
            return self._text(source, found, "union_by_name = true, hive_partitioning = false")
        return self._parquet(local_path(uri) is not None, source, found)

    def _parquet(self, local: bool, source: Any, parts: Sequence[Part]) -> str:
        if local:
            return _read_parquet(_paths(parts))
        native = getattr(source, "fs", None)
        if native is None:
            return _read_parquet(_paths([self._fetched_whole(source, part) for part in parts]))
        # One Arrow data set has one type for a column; which of several types holds all values is DuckDB's to say.
        alike = itertools.groupby(sorted(parts, key=_schema), _schema)
        readers = [f"FROM {self._dataset(native, list(group))}" for _, group in alike]
        return _together(readers)

    def _dataset(self, native: Any, parts: Sequence[Part]) -> str:
        """Through Arrow's own client: one in Python between the two may wait for DuckDB, as DuckDB does for it."""
        # Importing it imports pandas, which takes long and is needed for nothing else here.
        from pyarrow import dataset

        paths = [part.path for part in parts]
        name = f"parts_{next(self._serial)}"
        self._run(
            lambda c: c.register(
                name, dataset.dataset(paths, schema=parts[0].schema, format="parquet", filesystem=native)
            )
        )
        return name

    def _fetched_whole(self, source: Any, part: Part) -> Part:
        place = f"{self._directory}/{next(self._serial)}.parquet"
        source.get_file(part.path, place)
        return replace(part, path=place)

    def _text(self, source: Any, parts: Sequence[Part], options: str) -> str:
        """Text is read as it lies in a store, by names that say how it is compressed, on this machine's disks too."""
        groups = itertools.groupby(sorted(parts, key=_dialect), _dialect)
        readers = [
            f"FROM read_csv({self._entered(source, list(alike))}, delim = {literal(delimiter)}, {options})"
            for (delimiter, _), alike in groups
        ]
        return _together(readers)

    def _entered(self, source: Any, parts: Sequence[Part]) -> str:
        """Parts of any file system, by names of their own."""
        return "[" + ", ".join(literal(self._files.enter(source, part)) for part in parts) + "]"

    def _run(self, fetch: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        try:
            return fetch(self._connection)
        except (duckdb.Error, pa.ArrowException) as e:
            raise EngineFailed(self._files.in_words(_words(e))) from e


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _together(readers: Sequence[str]) -> str:
    return f"({' UNION ALL BY NAME '.join(readers)})" if len(readers) > 1 else readers[0].removeprefix("FROM ")


def _read_parquet(paths: str) -> str:
    return f"read_parquet({paths}, union_by_name = true, hive_partitioning = false)"


def _schema(part: Part) -> str:
    return str(part.schema)


def _dialect(part: Part) -> tuple[str, str]:
    return part.delimiter, part.suffix


def _paths(parts: Sequence[Part]) -> str:
    """DuckDB takes a path for a pattern, and reads what it matches, even where there is a file of that very name."""
    return "[" + ", ".join(literal(_WILD.sub(r"[\1]", part.path)) for part in parts) + "]"
