# ruff: noqa: S608 - every name and literal in these statements is quoted by binning.quote and binning.literal.
"""The default engine: DuckDB in this process.

It reads local files with its own reader and object stores through an Arrow dataset: its httpfs extension would have to
be downloaded. Memory is bounded by `memory_limit` whatever the number of rows; what does not fit (only finding
duplicates and joining labels keep state per row) spills to the temporary directory.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
from pyarrow import csv

from creditmodel_bundle.storage import local_path
from creditmodel_drift.binning import literal
from creditmodel_drift.errors import EngineFailed
from creditmodel_drift.parts import Part, Survey

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
            yield Duck(connection)


def _connected(config: dict[str, str | bool | int | float | list[str]]) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(config=config)
    except duckdb.Error as e:
        raise _failed(e) from e


class Duck:
    """Statements as they are written."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        # Scans of one connection outlive each other, so each table has a name of its own.
        self._serial = itertools.count()

    def table(self, found: Survey, nulls: Sequence[str]) -> str:
        """A reader of local files, or a dataset under a name of its own."""
        if not found.local:
            return self._registered(lambda: _dataset(found, nulls))
        paths = _paths(found.usable)
        if not found.is_csv:
            return f"read_parquet({paths}, union_by_name = true, hive_partitioning = false)"
        missing = "[" + ", ".join(literal(null) for null in nulls) + "]"
        # A dialect that is guessed from a damaged file reads all of it as something else.
        dialect = "delim = ',', quote = '\"', escape = '\"', strict_mode = true, header = true, all_varchar = true"
        options = f"{dialect}, hive_partitioning = false, nullstr = {missing}"
        return f"read_csv({paths}, union_by_name = true, {options})"

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Fetching all rows frees the connection for the next statement."""
        return self._fetched(lambda connection: connection.execute(statement).fetchall())

    def arrow(self, statement: str) -> pa.Table:
        """As Arrow columns."""
        return self._fetched(lambda connection: connection.sql(statement).to_arrow_table())

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
        if local_path(uri) is None:
            from pyarrow import dataset

            shape = "csv" if parts[0].is_csv else "parquet"
            paths = [part.path for part in parts]
            return self._registered(lambda: dataset.dataset(paths, format=shape, filesystem=source))
        reader = "read_csv" if parts[0].is_csv else "read_parquet"
        return f"{reader}({_paths(parts)}, union_by_name = true, hive_partitioning = false)"

    def _registered(self, make: Callable[[], Any]) -> str:
        name = f"parts_{next(self._serial)}"
        self._fetched(lambda connection: connection.register(name, make()))
        return name

    def _fetched(self, fetch: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        try:
            return fetch(self._connection)
        except (duckdb.Error, pa.ArrowException) as e:
            raise _failed(e) from e


def _failed(error: Exception) -> EngineFailed:
    return EngineFailed(f"{type(error).__name__}: {' '.join(str(error).split())}")


def _paths(parts: Sequence[Part]) -> str:
    """DuckDB takes a path for a pattern, and reads what it matches, even where there is a file of that very name."""
    return "[" + ", ".join(literal(_WILD.sub(r"[\1]", part.path)) for part in parts) + "]"


def _dataset(found: Survey, nulls: Sequence[str]) -> Any:
    # Importing it imports pandas, which takes long and is needed for nothing else here.
    from pyarrow import dataset

    schema = pa.unify_schemas([part.schema for part in found.usable], promote_options="permissive")
    shape: Any = "parquet"
    if found.is_csv:
        types = dict.fromkeys(schema.names, pa.string())
        convert = csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=list(nulls))
        shape = dataset.CsvFileFormat(convert_options=convert)
    paths = [part.path for part in found.usable]
    return dataset.dataset(paths, schema=schema, format=shape, filesystem=found.filesystem)
