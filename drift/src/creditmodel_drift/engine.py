"""What a check asks of the machine that counts: tables of parts, and statements over them.

Every statement of the check is written once, in DuckDB's SQL, and says nothing about where it runs: `duck.py` runs it
as it is, in this process, and `spark.py` translates it for a cluster. Both count with integers, so the bins of the same
rows are the same to the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import pyarrow as pa

from creditmodel_drift.parts import Survey

__all__ = ["ENGINES", "Engine", "EngineName"]

EngineName = Literal["duckdb", "spark"]
ENGINES: tuple[EngineName, ...] = ("duckdb", "spark")


class Engine(Protocol):
    """Each method raises EngineFailed where data cannot be read or a statement cannot be run."""

    def table(self, found: Survey, nulls: Sequence[str]) -> str:
        """The usable parts as a table in SQL, by column name. Text files' columns are text, `nulls` in them missing."""
        ...

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        ...

    def arrow(self, statement: str) -> pa.Table:
        """All rows of a statement, as columns."""
        ...

    def keep(self, statement: str) -> str:
        """The rows of a statement, computed once, as a table in SQL."""
        ...

    def sample(self, statement: str, rows: int, seed: int) -> pa.Table:
        """At most `rows` random rows of a statement, the same ones for the same seed and files."""
        ...
