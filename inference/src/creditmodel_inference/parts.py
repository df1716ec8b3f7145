"""A part of the scoring log, as Parquet. Imported by the writer's thread only: Arrow costs 40 MB.

Columns are made from buffers. Arrow's own conversion of Python objects would import pandas wherever that is installed,
which costs the process 50 MB and its requests a pause, and it would hold the interpreter for longer.
"""

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

ROW_GROUP = 8_192
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
        scored = np.array([verdict is not None for verdict in verdicts], bool)
        decisions = [cutoff.decision.encode() for cutoff in self._contract.cutoffs]
        codes = [feature.reason.code.encode() for feature in self._contract.features]
        return [
            _texts([record.request_id.encode() for record in records]),
            _numbers(pa.int32(), np.array([record.row for record in records], np.int32)),
            _numbers(pa.timestamp("us", tz="UTC"), page.times[rows]),
            _texts([self._identity.revision.encode()] * len(records)),
            _texts([self._identity.digest.encode()] * len(records)),
            _numbers(pa.float64(), page.probability[rows], scored),
            _numbers(pa.float64(), page.log_odds[rows], scored),
            _numbers(pa.int32(), np.array([0 if v is None else v.points for v in verdicts], np.int32), scored),
            _texts([None if v is None else decisions[v.decision] for v in verdicts]),
            _lists([None if v is None else [codes[i] for i in v.reasons] for v in verdicts]),
            _numbers(pa.int64(), np.array([record.latency_us for record in records], np.int64)),
            _texts([None if record.error is None else record.error.encode() for record in records]),
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


def _category_values(feature: Feature) -> tuple[Codes, list[str | int]] | None:
    """A category's codes in ascending order, and the values they stand for."""
    if feature.dtype != "category":
        return None
    ordered = sorted(feature.categories, key=lambda category: category.code)
    return np.array([category.code for category in ordered], np.float64), [category.value for category in ordered]


def _feature_column(feature: Feature, codes: tuple[Codes, list[str | int]] | None, values: Codes) -> Any:
    """Encoded numbers as raw values, null where missing."""
    given = ~np.isnan(values)
    kind = _type(feature)
    if codes is not None:
        known, names = codes
        places = np.searchsorted(known, np.where(given, values, known[0]))
        if kind == pa.int64():
            return _numbers(kind, np.array(names, np.int64)[places], given)
        texts = [str(name).encode() for name in names]
        pairs = zip(places.tolist(), given.tolist(), strict=True)
        return _texts([texts[place] if is_given else None for place, is_given in pairs])
    if feature.dtype == "integer":
        whole = np.where(given, np.clip(values, -(2.0**63), 2.0**63 - 1024), 0.0)
        return _numbers(kind, whole.astype(np.int64), given)
    return _numbers(kind, values, given)


def _numbers(kind: Any, values: NDArray[Any], given: NDArray[np.bool_] | None = None) -> Any:
    """A column of fixed width; null where `given` is false."""
    buffers = [_validity(given), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _texts(values: Sequence[bytes | None]) -> Any:
    """A column of UTF-8 strings."""
    offsets = _offsets([0 if value is None else len(value) for value in values])
    content = b"".join([value for value in values if value is not None])
    given = np.array([value is not None for value in values], bool)
    return pa.Array.from_buffers(pa.string(), len(values), [_validity(given), offsets, pa.py_buffer(content)])


def _lists(values: Sequence[list[bytes] | None]) -> Any:
    """A column of lists of strings."""
    offsets = _offsets([len(value or ()) for value in values])
    given = np.array([value is not None for value in values], bool)
    items = _texts([item for value in values if value is not None for item in value])
    return pa.Array.from_buffers(pa.list_(pa.string()), len(values), [_validity(given), offsets], children=[items])


def _offsets(lengths: list[int]) -> Any:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.py_buffer(offsets)


def _validity(given: NDArray[np.bool_] | None) -> Any:
    """Arrow's bitmap; None where nothing is missing."""
    if given is None or given.all():
        return None
    return pa.py_buffer(np.packbits(given, bitorder="little"))
