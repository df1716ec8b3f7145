"""A part of the scoring log, as Parquet. Imported by the writer's thread only: Arrow costs 40 MB.

Columns are made from buffers. Arrow's own conversion of Python objects would import pandas wherever that is installed,
which costs the process 50 MB and its requests a pause, and it would hold the interpreter for longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract, Feature
from creditmodel_inference.answers import Identity
from creditmodel_inference.chain import BLOCK_ROWS, KEY, VERSION, PartSeal, head_of, links_of, opening
from creditmodel_inference.columns import reason_table
from creditmodel_inference.scoring_log import Span

if TYPE_CHECKING:
    from creditmodel_inference.scoring_log import Page, Record

__all__ = ["PartBuilder", "schema"]

ROW_GROUP = 4_096
_LOOKED_FOR = ["_request_id", "_time"]
_PADDING = b"\xff"  # stands in no UTF-8 text
Codes = NDArray[np.float64]


class PartBuilder:
    """Collects pages and gives the bytes of one Parquet file."""

    def __init__(self, contract: Contract, identity: Identity) -> None:
        self.rows = 0
        self._contract = contract
        self._identity = identity
        self._schema = schema(contract)
        self._codes = [_category_values(feature) for feature in contract.features]
        self._decisions = _TextTable([cutoff.decision for cutoff in contract.cutoffs])
        self._reason_codes = _TextTable([feature.reason.code for feature in contract.features])
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, self._schema, **_encodings(self._schema))
        self._pending: list[_Rows] = []
        self._waiting = 0
        self._rest: list[Any] = []
        self._links = [opening(self._schema)]

    def add(self, page: Page, rows: NDArray[np.intp]) -> None:
        """Add some rows of a page, which must not change any more."""
        # The entries of single requests take a kilobyte each: of a page that waits only columns are kept.
        self._pending.append(_rows_of(page, rows))
        self.rows += len(rows)
        self._waiting += len(rows)
        if self._waiting >= ROW_GROUP:
            self._write_row_group()

    def finish(self, chain: str, sequence: int, previous: str) -> tuple[memoryview, str]:
        """The whole file, sealed at its place in a chain, and its head. The builder cannot be used any more."""
        self._write_row_group(last=True)
        head = head_of(self._links[-1], chain, sequence, previous, self.rows)
        links = [link.hex() for link in self._links[1:]]
        seal = PartSeal(VERSION, chain, sequence, previous, self.rows, links, head)
        self._writer.add_key_value_metadata({KEY: seal.encode()})
        self._writer.close()
        return memoryview(self._sink.getvalue()), head

    def _write_row_group(self, *, last: bool = False) -> None:
        """Write what waits; but for the last time in whole blocks of the chain."""
        if self._pending:
            self._rest.append(self._batch(self._pending))
            self._pending.clear()
        table = pa.Table.from_batches(self._rest, self._schema)
        written = len(table) if last else len(table) - len(table) % BLOCK_ROWS[VERSION]
        if written:
            group = table.slice(0, written).combine_chunks()
            self._writer.write_table(group, row_group_size=written)
            self._links += links_of(self._links[-1], group)
        self._rest = table.slice(written).to_batches()
        self._waiting = len(table) - written

    def _batch(self, pending: list[_Rows]) -> Any:
        columns = [
            _feature_column(feature, codes, np.concatenate([rows.features[:, i] for rows in pending]))
            for i, (feature, codes) in enumerate(zip(self._contract.features, self._codes, strict=True))
        ]
        columns += self._system_columns(pending)
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _system_columns(self, pending: list[_Rows]) -> list[Any]:
        spans = _together([rows.spans for rows in pending])
        decision = spans.decision
        scored = decision >= 0
        count = len(decision)
        return [
            _texts(spans.request_ids),
            _numbers(pa.int32(), spans.rows.astype(np.int32)),
            _numbers(pa.timestamp("us", tz="UTC"), np.concatenate([rows.times for rows in pending])),
            _repeated(self._identity.revision.encode(), count),
            _repeated(self._identity.digest.encode(), count),
            _numbers(pa.float64(), np.concatenate([rows.probability for rows in pending]), scored),
            _numbers(pa.float64(), np.concatenate([rows.log_odds for rows in pending]), scored),
            _numbers(pa.int32(), spans.points.astype(np.int32), scored),
            self._decisions.column(decision),
            _reason_lists(spans.reasons, self._reason_codes, scored),
            _numbers(pa.int64(), spans.latency_us),
            _sparse_texts(spans.errors),
        ]


class _Rows(NamedTuple):
    """Rows of a page, features [n, F]."""

    features: Codes
    probability: Codes
    log_odds: Codes
    times: NDArray[np.int64]
    spans: _Spans


def _rows_of(page: Page, rows: NDArray[np.intp]) -> _Rows:
    """The chosen rows of a page: all of them, but around midnight."""
    spans = _joined(page.spans())
    whole = len(rows) == page.rows
    chosen = slice(page.rows) if whole else rows
    return _Rows(
        page.features[chosen],
        page.probability[chosen],
        page.log_odds[chosen],
        page.times[chosen],
        spans if whole else spans.take(rows),
    )


class _Spans(NamedTuple):
    """All rows of a page, beside their numbers. A decision of -1 is a row that was not scored."""

    request_ids: list[bytes]
    rows: NDArray[np.int64]
    latency_us: NDArray[np.int64]
    errors: list[bytes | None]
    points: NDArray[np.int64]
    decision: NDArray[np.int64]
    reasons: NDArray[np.int64]

    def take(self, rows: NDArray[np.intp]) -> _Spans:
        """Some of the rows."""
        return _Spans(
            [self.request_ids[i] for i in rows],
            self.rows[rows],
            self.latency_us[rows],
            [self.errors[i] for i in rows],
            self.points[rows],
            self.decision[rows],
            self.reasons[rows],
        )


def _joined(entries: Iterable[list[Record] | Span]) -> _Spans:
    return _together([_of_span(entry) if isinstance(entry, Span) else _of_records(entry) for entry in entries])


def _together(made: list[_Spans]) -> _Spans:
    if len(made) == 1:
        return made[0]
    return _Spans(
        [text for part in made for text in part.request_ids],
        np.concatenate([part.rows for part in made]),
        np.concatenate([part.latency_us for part in made]),
        [error for part in made for error in part.errors],
        np.concatenate([part.points for part in made]),
        np.concatenate([part.decision for part in made]),
        np.concatenate([part.reasons for part in made]),
    )


def _of_span(span: Span) -> _Spans:
    count = len(span.verdicts.points)
    rows = np.arange(span.first, span.first + count)
    ids: list[bytes] = [span.request_id.encode()] * count
    told = span.verdicts
    latency = np.full(count, span.latency_us)
    return _Spans(ids, rows, latency, [None] * count, told.points, told.decision, told.reasons)


def _of_records(records: list[Record]) -> _Spans:
    return _Spans(
        [record.request_id.encode() for record in records],
        np.array([record.row for record in records], np.int64),
        np.array([record.latency_us for record in records], np.int64),
        [None if record.error is None else record.error.encode() for record in records],
        np.array([record.points for record in records], np.int64),
        np.array([record.decision for record in records], np.int64),
        reason_table(record.reasons for record in records),
    )


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


def _encodings(schema: Any) -> dict[str, Any]:
    """Options of the Parquet writer: half the processor time of its defaults with zstd, and a smaller part.

    Whole numbers as differences take a third of their eight bytes. Dictionaries of numbers cost more than they save;
    no two rows of different requests share a request id. Few look for a range of anything but an id or a time.
    """
    whole = [field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)]
    texts = [field.name for field in schema if field.type == pa.string() and field.name != "_request_id"]
    return {
        "compression": "snappy",
        "use_dictionary": [*texts, "_reasons.list.element"],
        "column_encoding": dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
        "write_statistics": _LOOKED_FOR,
    }


_Categories = tuple[Codes, "NDArray[np.int64] | _TextTable"]


def _type(feature: Feature) -> Any:
    if feature.dtype == "category":
        return pa.int64() if all(isinstance(c.value, int) for c in feature.categories) else pa.string()
    return pa.int64() if feature.dtype == "integer" else pa.float64()


def _category_values(feature: Feature) -> _Categories | None:
    """A category's codes in ascending order, and the values they stand for."""
    if feature.dtype != "category":
        return None
    ordered = sorted(feature.categories, key=lambda category: category.code)
    codes = np.array([category.code for category in ordered], np.float64)
    if _type(feature) == pa.int64():
        return codes, np.array([category.value for category in ordered], np.int64)
    return codes, _TextTable([str(category.value) for category in ordered])


def _feature_column(feature: Feature, codes: _Categories | None, values: Codes) -> Any:
    """Encoded numbers as raw values, null where missing."""
    given = ~np.isnan(values)
    kind = _type(feature)
    if codes is not None:
        known, names = codes
        places = np.searchsorted(known, np.where(given, values, known[0]))
        if not isinstance(names, _TextTable):
            return _numbers(kind, names[places], given)
        return names.column(np.where(given, places, -1))
    if feature.dtype == "integer":
        return _numbers(kind, _whole(values, given), given)
    return _numbers(kind, values, given)


def _whole(values: Codes, given: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Integers, zero where missing."""
    present = values if given.all() else np.where(given, values, 0.0)
    if np.abs(present).max(initial=0.0) >= 2.0**63:  # float32 reaches further than any integer column
        present = np.clip(present, -(2.0**63), 2.0**63 - 1024)
    return present.astype(np.int64)


def _numbers(kind: Any, values: NDArray[Any], given: NDArray[np.bool_] | None = None) -> Any:
    """A column of fixed width; null where `given` is false."""
    buffers = [_validity(given), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _texts(values: list[bytes]) -> Any:
    """A column of UTF-8 strings."""
    offsets = _offsets(np.fromiter(map(len, values), np.int64, len(values)))
    return pa.Array.from_buffers(pa.string(), len(values), [None, offsets, pa.py_buffer(b"".join(values))])


def _sparse_texts(values: list[bytes | None]) -> Any:
    """The same where most values are missing."""
    count = len(values)
    if values.count(None) == count:
        nothing = np.zeros(count, np.int64)
        return pa.Array.from_buffers(pa.string(), count, [_validity(nothing > 0), _offsets(nothing), pa.py_buffer(b"")])
    given = np.array([value is not None for value in values])
    column = _texts([value or b"" for value in values])
    return pa.Array.from_buffers(pa.string(), count, [_validity(given), *column.buffers()[1:]])


class _TextTable:
    """Texts by index; -1 is none."""

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [*(text.encode() for text in texts), b""]
        self._lengths = np.array([len(text) for text in encoded], np.int64)
        width = max(1, int(self._lengths.max()))
        self._padded = np.frombuffer(b"".join(text.ljust(width, _PADDING) for text in encoded), f"V{width}")

    def column(self, places: NDArray[np.int64]) -> Any:
        """A column of strings."""
        content = self._padded[places].view(np.uint8)
        if not (kept := content != _PADDING[0]).all():
            content = content[kept]
        buffers = [_validity(places >= 0), _offsets(self._lengths[places]), pa.py_buffer(content)]
        return pa.Array.from_buffers(pa.string(), len(places), buffers)


def _repeated(value: bytes, count: int) -> Any:
    """A column of one string."""
    offsets = np.arange(count + 1, dtype=np.int32) * len(value)
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(value * count)])


def _reason_lists(reasons: NDArray[np.int64], codes: _TextTable, scored: NDArray[np.bool_]) -> Any:
    """A column of lists of reason codes, from feature indices [n, k] with -1 where there are fewer."""
    named = reasons >= 0
    items = codes.column(reasons[named])
    buffers = [_validity(scored), _offsets(named.sum(axis=1))]
    return pa.Array.from_buffers(pa.list_(pa.string()), len(reasons), buffers, children=[items])


def _offsets(lengths: Sequence[int] | NDArray[np.int64]) -> Any:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.py_buffer(offsets)


def _validity(given: NDArray[np.bool_] | None) -> Any:
    """Arrow's bitmap; None where nothing is missing."""
    if given is None or given.all():
        return None
    return pa.py_buffer(np.packbits(given, bitorder="little"))
