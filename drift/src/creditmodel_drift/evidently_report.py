"""Evidently's report on a sample of both tables. The only module that imports Evidently.

Importing it takes about three seconds, so that happens when a report is made. It raises on an empty table and on a
column without a value: those are left out and named, and so is what comes after MAX_COLUMNS columns, each of which
costs it a quarter of a second and 0.1 MB of page. Its verdicts are its own and shown beside ours, which come from
all rows and from the frozen bins.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from creditmodel_drift.baseline import Column

__all__ = ["EvidentlyReport", "evidently_report"]


MAX_COLUMNS = 60
"""A model of 300 features would keep a report waiting for minutes, and its reader for a page of 34 MB."""


@dataclass(frozen=True, slots=True)
class EvidentlyReport:
    """A page that needs no network, the same as a document, and the columns left out, with the reason.

    Both are None when there was nothing to compare or Evidently failed; `problem` says which.
    """

    html: str | None
    document: dict[str, Any] | None
    rows: tuple[int, int]
    left_out: dict[str, str]
    problem: str | None = None


def evidently_report(reference: pa.Table, current: pa.Table, columns: Sequence[Column]) -> EvidentlyReport:
    """Evidently's data drift report on the first MAX_COLUMNS usable columns.

    Never raises: a report that could not be made says why in `problem`.
    """
    rows = (reference.num_rows, current.num_rows)
    left_out = {column.name: why for column in columns if (why := _unusable(column.name, reference, current))}
    usable = [column for column in columns if column.name not in left_out]
    usable, rest = usable[:MAX_COLUMNS], usable[MAX_COLUMNS:]
    left_out |= {column.name: f"is not among the {MAX_COLUMNS} columns that drifted most" for column in rest}
    if not all(rows) or not usable:
        return EvidentlyReport(None, None, rows, left_out, "there are no values to compare")
    try:
        html, document = _run(reference, current, usable)
    except Exception as e:  # noqa: BLE001 - a verdict must not depend on the health of an illustration
        return EvidentlyReport(None, None, rows, left_out, f"{type(e).__name__}: {e}"[:300])
    return EvidentlyReport(html, document, rows, left_out)


def _unusable(name: str, reference: pa.Table, current: pa.Table) -> str | None:
    for table, which in ((reference, "reference"), (current, "current data")):
        if name not in table.column_names:
            return f"is not in the {which}"
        if pc.all(pc.is_null(table[name], nan_is_null=True)).as_py() is not False:
            return f"has no value in the {which}"
    return None


def _run(reference: pa.Table, current: pa.Table, columns: Sequence[Column]) -> tuple[str, dict[str, Any]]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        # Evidently imports its own server, which its dependencies warn about; nothing of that concerns the reader.
        warnings.simplefilter("ignore")
        from evidently import DataDefinition, Dataset, Report
        from evidently.presets import DataDriftPreset

        definition = DataDefinition(
            numerical_columns=[c.name for c in columns if c.kind == "number"],
            categorical_columns=[c.name for c in columns if c.kind != "number"],
        )
        now, before = (Dataset.from_pandas(_frame(table, columns), definition) for table in (current, reference))
        snapshot = Report([DataDriftPreset()]).run(now, before)
        with tempfile.TemporaryDirectory(prefix="creditmodel-drift-") as directory:
            page = Path(directory) / "report.html"
            snapshot.save_html(str(page))
            return page.read_text(encoding="utf-8"), json.loads(snapshot.json())


def _frame(table: pa.Table, columns: Sequence[Column]) -> Any:
    """A data frame with floats for numbers and text for categories, whatever the file stored."""
    arrays = {c.name: _as_kind(table[c.name], c) for c in columns}
    return pa.table(arrays).to_pandas()


def _as_kind(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if column.kind == "number":
        return values.cast(pa.float64(), safe=False)
    if column.kind == "code" and not pa.types.is_string(values.type):
        # 3 and 3.0 are the same category.
        values = values.cast(pa.float64(), safe=False).cast(pa.int64(), safe=False)
    return values.cast(pa.string())
