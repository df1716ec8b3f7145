"""A part of the scoring log, as Parquet. Imported only where there is a scoring log: Arrow costs 30 MB.

Columns are made from buffers. Arrow's own conversion of Python objects would import pandas wherever that is installed,
which costs the process 50 MB and its requests a pause, and it would hold the interpreter for longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract, Feature
from creditmodel_inference.answers import Identity
from creditmodel_inference.chain import BLOCK_ROWS, KEY, VERSION, PartSeal, head_of, links_of, opening
from creditmodel_inference.pages import Rows

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
        self._pending: list[Rows] = []
        self._waiting = 0
        self._rest: list[Any] = []
        self._links = [opening(self._schema)]

    def add(self, rows: Rows) -> None:
        """Add rows, which must not change any more."""
        self._pending.append(rows)
        self.rows += len(rows.facts)
        self._waiting += len(rows.facts)
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

    def _batch(self, pending: list[Rows]) -> Any:
        columns = [
            _feature_column(feature, codes, np.concatenate([rows.features[:, i] for rows in pending]))
            for i, (feature, codes) in enumerate(zip(self._contract.features, self._codes, strict=True))
        ]
        columns += self._system_columns(pending)
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _system_columns(self, pending: list[Rows]) -> list[Any]:
        facts = np.concatenate([rows.facts for rows in pending])
        scored = facts["decision"] >= 0
        count = len(facts)
        return [
            _texts(facts["id_bytes"], b"".join([rows.ids for rows in pending])),
            _numbers(pa.int32(), facts["row"]),
            _numbers(pa.timestamp("us", tz="UTC"), facts["time"]),
            _repeated(self._identity.revision.encode(), count),
            _repeated(self._identity.digest.encode(), count),
            _numbers(pa.float64(), facts["probability"], scored),
            _numbers(pa.float64(), facts["log_odds"], scored),
            _numbers(pa.int32(), facts["points"].astype(np.int32), scored),
            self._decisions.column(facts["decision"]),
            _reason_lists(facts["reasons"], self._reason_codes, scored),
            _numbers(pa.int64(), facts["latency_us"]),
            _errors(pending, count),
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


def _texts(lengths: NDArray[Any], content: bytes, given: NDArray[np.bool_] | None = None) -> Any:
    """A column of UTF-8 strings that lie one after the other."""
    return pa.Array.from_buffers(
        pa.string(), len(lengths), [_validity(given), _offsets(lengths), pa.py_buffer(content)]
    )


def _errors(pending: list[Rows], count: int) -> Any:
    """A column of why rows were not scored, null where they were."""
    starts = accumulate((len(rows.facts) for rows in pending), initial=0)
    errors = {
        start + place: error
        for start, rows in zip(starts, pending, strict=False)
        for place, error in rows.errors.items()
    }
    lengths, given = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    lengths[list(errors)], given[list(errors)] = [len(error) for error in errors.values()], True
    return _texts(lengths, b"".join(errors.values()), given)


class _TextTable:
    """Texts by index; -1 is none."""

    def __init__(self, texts: Sequence[str]) -> None:
        encoded = [*(text.encode() for text in texts), b""]
        self._lengths = np.array([len(text) for text in encoded], np.int64)
        width = max(1, int(self._lengths.max()))
        self._padded = np.frombuffer(b"".join(text.ljust(width, _PADDING) for text in encoded), f"V{width}")

    def column(self, places: NDArray[np.integer[Any]]) -> Any:
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


def _reason_lists(reasons: NDArray[np.int16], codes: _TextTable, scored: NDArray[np.bool_]) -> Any:
    """A column of lists of reason codes, from feature indices [n, k] with -1 where there are fewer."""
    named = reasons >= 0
    items = codes.column(reasons[named])
    buffers = [_validity(scored), _offsets(named.sum(axis=1))]
    return pa.Array.from_buffers(pa.list_(pa.string()), len(reasons), buffers, children=[items])


def _offsets(lengths: NDArray[Any]) -> Any:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.py_buffer(offsets)


def _validity(given: NDArray[np.bool_] | None) -> Any:
    """Arrow's bitmap; None where nothing is missing."""
    if given is None or given.all():
        return None
    return pa.py_buffer(np.packbits(given, bitorder="little"))
