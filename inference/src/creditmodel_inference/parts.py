"""A part of the scoring log, as Parquet. Imported by the writer's thread only: Arrow costs 50 MB and 0.2 s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract, Feature
from creditmodel_inference.answers import Identity

if TYPE_CHECKING:
    from creditmodel_inference.scoring_log import Page

__all__ = ["PartBuilder", "schema"]

ROW_GROUP = 32_768
Codes = NDArray[np.float64]


class PartBuilder:
    """Collects pages and gives the bytes of one Parquet file."""

    def __init__(self, contract: Contract, identity: Identity) -> None:
        self.rows = 0
        self._contract = contract
        self._identity = identity
        self._schema = schema(contract)
        self._codes = [_category_values(feature) for feature in contract.features]
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._batches: list[Any] = []
        self._batched = 0

    def add(self, page: Page, rows: NDArray[np.intp]) -> None:
        """Add some rows of a page."""
        self._batches.append(self._batch(page, rows))
        self.rows += len(rows)
        self._batched += len(rows)
        if self._batched >= ROW_GROUP:
            self._write_row_group()

    def finish(self) -> bytes:
        """The whole file. The builder cannot be used any more."""
        self._write_row_group()
        self._writer.close()
        content: bytes = self._sink.getvalue().to_pybytes()
        return content

    def _write_row_group(self) -> None:
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches, self._schema), row_group_size=ROW_GROUP)
        self._batches, self._batched = [], 0

    def _batch(self, page: Page, rows: NDArray[np.intp]) -> Any:
        features = page.features[rows]
        columns = [
            _feature_column(feature, codes, np.ascontiguousarray(features[:, i]))
            for i, (feature, codes) in enumerate(zip(self._contract.features, self._codes, strict=True))
        ]
        columns += self._system_columns(page, rows)
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _system_columns(self, page: Page, rows: NDArray[np.intp]) -> list[Any]:
        records = [page.records[i] for i in rows]
        verdicts = [record.verdict for record in records]
        decisions = [cutoff.decision for cutoff in self._contract.cutoffs]
        codes = [feature.reason.code for feature in self._contract.features]
        unscored = np.array([verdict is None for verdict in verdicts], bool)
        return [
            pa.array([record.request_id for record in records], pa.string()),
            pa.array([record.row for record in records], pa.int32()),
            pa.array(page.times[rows]).cast(pa.timestamp("us", tz="UTC")),
            _constant(self._identity.revision, len(records)),
            _constant(self._identity.digest, len(records)),
            pa.array(page.probability[rows], mask=unscored),
            pa.array(page.log_odds[rows], mask=unscored),
            pa.array([None if v is None else v.points for v in verdicts], pa.int32()),
            pa.array([None if v is None else decisions[v.decision] for v in verdicts], pa.string()),
            pa.array([None if v is None else [codes[i] for i in v.reasons] for v in verdicts], pa.list_(pa.string())),
            pa.array([record.latency_us for record in records], pa.int64()),
            pa.array([record.error for record in records], pa.string()),
        ]


def schema(contract: Contract) -> Any:
    """The log's columns: the features with their raw values, then the system's, which begin with an underscore."""
    return pa.schema(
        [(feature.name, _type(feature)) for feature in contract.features]
        + [
            ("_request_id", pa.string()),
            ("_row", pa.int32()),
            ("_time", pa.timestamp("us", tz="UTC")),
            ("_revision", pa.string()),
            ("_digest", pa.string()),
            ("_probability", pa.float64()),
            ("_log_odds", pa.float64()),
            ("_points", pa.int32()),
            ("_decision", pa.string()),
            ("_reasons", pa.list_(pa.string())),
            ("_latency_us", pa.int64()),
            ("_error", pa.string()),
        ]
    )


def _type(feature: Feature) -> Any:
    if feature.dtype == "category":
        return pa.int64() if all(isinstance(c.value, int) for c in feature.categories) else pa.string()
    return pa.int64() if feature.dtype == "integer" else pa.float64()


def _category_values(feature: Feature) -> tuple[Codes, Any] | None:
    """A category's codes in ascending order, and the values they stand for."""
    if feature.dtype != "category":
        return None
    ordered = sorted(feature.categories, key=lambda category: category.code)
    kind = _type(feature)
    values: Sequence[object] = [c.value if pa.types.is_integer(kind) else str(c.value) for c in ordered]
    return np.array([category.code for category in ordered], np.float64), pa.array(values, kind)


def _feature_column(feature: Feature, codes: tuple[Codes, Any] | None, values: Codes) -> Any:
    """Encoded numbers as raw values, null where missing."""
    missing = np.isnan(values)
    if codes is not None:
        known, names = codes
        places = np.searchsorted(known, np.where(missing, known[0], values))
        return names.take(pa.array(places, mask=missing))
    if feature.dtype == "integer":
        whole = np.where(missing, 0.0, np.clip(values, -(2.0**63), 2.0**63 - 1024))
        return pa.array(whole.astype(np.int64), mask=missing)
    return pa.array(values, mask=missing)


def _constant(text: str, rows: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text])).dictionary_decode()
