"""A part of the scoring log, as Parquet. Imported only where there is a scoring log: Arrow costs 30 MB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from creditmodel_bundle.contract import Category, Contract, Feature
from creditmodel_inference.answers import Identity
from creditmodel_inference.arrays import array_of, text_array
from creditmodel_inference.chain import (
    KEY,
    VERSION,
    Blocks,
    Coded,
    Column,
    Lists,
    Numbers,
    PartSeal,
    Texts,
    blocks_of,
    head_of,
    opening,
    place_type,
)
from creditmodel_inference.pages import FACTS, Rows

__all__ = ["GROUP_ROWS", "Layout", "PartBuilder", "schema"]

GROUP_ROWS = 8_192
"""Rows of a row group: 2 MB where a model has 23 features. Groups of half as many take a fifth longer to write."""

_LOOKED_FOR = ["_request_id", "_time"]
_NOISY = ["_probability", "_log_odds"]
Values = NDArray[np.float64]
Given = NDArray[np.bool_] | None


class Layout:
    """The columns of a model's parts."""

    def __init__(self, contract: Contract, identity: Identity) -> None:
        self.features = contract.features
        self.codes = [np.array([category.code for category in _by_code(f)], np.float64) for f in contract.features]
        self.schema = schema(contract)
        self.lists = {name: _TextList(texts) for name, texts in _texts(contract, identity).items()}
        self.texts = {name: list_.texts for name, list_ in self.lists.items()}
        kinds = [_kind_in_memory(field, self.lists.get(field.name)) for field in self.schema]
        self.in_memory = pa.schema([field.with_type(kind) for field, kind in zip(self.schema, kinds, strict=True)])
        self.encodings = _encodings(self.schema, self.lists)
        self.opening = opening(self.schema, VERSION, self.texts)


class PartBuilder:
    """Collects rows and gives the bytes of one Parquet file."""

    def __init__(self, layout: Layout) -> None:
        self.rows = 0
        self._layout = layout
        self._sink = pa.BufferOutputStream()
        self._writer = pq.ParquetWriter(self._sink, layout.in_memory, **layout.encodings)
        self._group = _Group(len(layout.features))
        self._links = [layout.opening]
        self._blocks: list[int] = []

    def add(self, rows: Rows) -> None:
        """Copy rows in, GROUP_ROWS at most."""
        if self._group.room < len(rows.facts):
            self._write_row_group()
        self._group.add(rows)
        self.rows += len(rows.facts)

    def finish(self, chain: str, sequence: int, previous: str) -> tuple[memoryview, str]:
        """The whole file, sealed at its place in a chain, and its head. The builder cannot be used any more."""
        self._write_row_group()
        head = head_of(self._links[-1], chain, sequence, previous, self.rows)
        links = [link.hex() for link in self._links[1:]]
        seal = PartSeal(VERSION, chain, sequence, previous, self.rows, links, head, self._blocks, self._layout.texts)
        self._writer.add_key_value_metadata({KEY: seal.encode()})
        self._writer.close()
        return memoryview(self._sink.getvalue()), head

    def _write_row_group(self) -> None:
        if not self._group.used:
            return
        columns = self._feature_columns() + self._system_columns()
        arrays = [
            array_of(
                column, field.type, self._layout.lists[field.name].array if field.name in self._layout.lists else None
            )
            for column, field in zip(columns, self._layout.schema, strict=True)
        ]
        table = pa.Table.from_arrays(arrays, schema=self._layout.in_memory)
        self._writer.write_table(table, row_group_size=self._group.used)
        blocks = blocks_of(self._group.used)
        self._links += Blocks(columns, blocks).links(self._links[-1])
        self._blocks += blocks
        self._group.clear()

    def _feature_columns(self) -> list[Column]:
        layout, values = self._layout, self._group.features[:, : self._group.used]
        return [
            _feature_column(feature, column, codes, layout.lists.get(feature.name))
            for feature, column, codes in zip(layout.features, values, layout.codes, strict=True)
        ]

    def _system_columns(self) -> list[Column]:
        group, lists = self._group, self._layout.lists
        facts = {name: values[: group.used] for name, values in group.facts.items()}
        given = _unless_all(facts["decision"] >= 0)
        first = np.zeros(group.used, np.int8)
        return [
            Texts(None, _offsets(facts["id_bytes"]), memoryview(group.ids)),
            Numbers(None, facts["row"]),
            Numbers(None, facts["time"]),
            lists["_revision"].column(first),
            lists["_digest"].column(first),
            _numbers(given, facts["probability"]),
            _numbers(given, facts["log_odds"]),
            _numbers(given, facts["points"].astype(np.int32)),
            lists["_decision"].column(facts["decision"]),
            _reasons(given, facts["reasons"], lists["_reasons"]),
            Numbers(None, facts["latency_us"]),
            _errors(group.errors, group.used),
        ]


def schema(contract: Contract) -> Any:
    """The log's columns: the features with their raw values, then the system's, which begin with an underscore."""
    return pa.schema(
        [pa.field(feature.name, _type(feature)) for feature in contract.features]
        + [
            pa.field("_request_id", pa.string(), nullable=False),
            pa.field("_row", pa.int32(), nullable=False),
            pa.field("_time", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("_revision", pa.string(), nullable=False),
            pa.field("_digest", pa.string(), nullable=False),
            pa.field("_probability", pa.float64()),
            pa.field("_log_odds", pa.float64()),
            pa.field("_points", pa.int32()),
            pa.field("_decision", pa.string()),
            pa.field("_reasons", pa.list_(pa.string())),
            pa.field("_latency_us", pa.int64(), nullable=False),
            pa.field("_error", pa.string()),
        ]
    )


def _type(feature: Feature) -> Any:
    if feature.dtype == "category":
        return pa.int64() if all(isinstance(c.value, int) for c in feature.categories) else pa.string()
    return pa.int64() if feature.dtype == "integer" else pa.float64()


def _by_code(feature: Feature) -> list[Category]:
    return sorted(feature.categories, key=lambda category: category.code)


class _Group:
    """Rows of a row group by column; of each feature its encoded values. The same memory serves the next group."""

    def __init__(self, width: int) -> None:
        self.used = 0
        self.features = np.empty((width, GROUP_ROWS))
        self.facts = {name: np.empty(GROUP_ROWS, FACTS[name]) for name in FACTS.names or ()}
        self.clear()

    @property
    def room(self) -> int:
        """Rows that still fit."""
        return GROUP_ROWS - self.used

    def add(self, rows: Rows) -> None:
        """Copy rows for which there is room."""
        start, self.used = self.used, self.used + len(rows.facts)
        self.features[:, start : self.used] = rows.features.T
        for name, values in self.facts.items():
            values[start : self.used] = rows.facts[name]
        self.ids += rows.ids
        self.errors.update({start + place: error for place, error in rows.errors.items()})

    def clear(self) -> None:
        """Begin anew."""
        self.used = 0
        self.ids = bytearray()
        self.errors: dict[int, bytes] = {}


class _TextList:
    """The texts of a column that are known beforehand, each once."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(dict.fromkeys(texts))
        self.array = text_array(self.texts)
        self._places = np.array([*map(self.texts.index, texts), -1], place_type(len(self.texts)))

    def column(self, indices: NDArray[np.integer[Any]]) -> Coded:
        """A column, from indices into the texts as they were given; -1 is none."""
        return Coded(self._places.take(indices))


def _texts(contract: Contract, identity: Identity) -> dict[str, list[str]]:
    """By column, all texts that may stand in it; a category's in the order of their codes."""
    categories = [feature for feature in contract.features if _type(feature) == pa.string()]
    return {
        **{feature.name: [str(category.value) for category in _by_code(feature)] for feature in categories},
        "_revision": [identity.revision],
        "_digest": [identity.digest],
        "_decision": [cutoff.decision for cutoff in contract.cutoffs],
        "_reasons": [feature.reason.code for feature in contract.features],
    }


def _kind_in_memory(field: Any, texts: _TextList | None) -> Any:
    """A column's type in memory: Arrow need not look for the different texts where they are known."""
    if texts is None:
        return field.type
    kind = pa.dictionary(pa.from_numpy_dtype(place_type(len(texts.texts))), pa.string())
    return pa.list_(kind) if pa.types.is_list(field.type) else kind


def _encodings(schema: Any, lists: dict[str, _TextList]) -> dict[str, Any]:
    """Options of the Parquet writer: less processor time than its defaults take, for a smaller part.

    Whole numbers as differences take a third of their eight bytes. Dictionaries of numbers cost more than they save;
    no two rows of different requests share a request id. What the model gives is hardly smaller when compressed, and
    takes longest. Few look for a range of anything but an id or a time. Without Arrow's own schema beside Parquet's,
    every reader finds strings where the writer had places in a list.
    """
    whole = [field.name for field in schema if pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)]
    items = {"_reasons": "_reasons.list.element"}
    leaves = [items.get(field.name, field.name) for field in schema]
    return {
        "compression": dict.fromkeys(leaves, "snappy") | dict.fromkeys(_NOISY, "none"),
        "use_dictionary": [items.get(name, name) for name in lists],
        "column_encoding": dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
        "write_statistics": _LOOKED_FOR,
        "store_schema": False,
        "write_batch_size": GROUP_ROWS,
    }


def _feature_column(feature: Feature, values: Values, codes: Values, texts: _TextList | None) -> Column:
    """Encoded values, over which its own may be written, as raw ones."""
    missing = np.isnan(values)
    given = _unless_all(~missing)
    if given is not None:
        values[missing] = codes[0] if len(codes) else 0.0
    if texts is not None:
        places = np.searchsorted(codes, values)
        return texts.column(places if given is None else np.where(given, places, -1))
    if len(codes):
        named = np.array([category.value for category in _by_code(feature)], np.int64)
        return _numbers(given, named[np.searchsorted(codes, values)])
    return Numbers(given, _whole(values) if feature.dtype == "integer" else values)


def _whole(values: Values) -> NDArray[np.int64]:
    """The same numbers as integers, in the same place."""
    if max(values.max(), -values.min()) >= 2.0**63:  # float32 reaches further than any integer column
        values = np.clip(values, -(2.0**63), 2.0**63 - 1024)
    whole = values.view(np.int64)
    whole[:] = values.astype(np.int64)
    return whole


def _unless_all(given: NDArray[np.bool_]) -> Given:
    return None if given.all() else given


def _numbers(given: Given, values: NDArray[Any]) -> Numbers:
    """Numbers, zero where they are not given."""
    return Numbers(given, values if given is None else np.where(given, values, values.dtype.type(0)))


def _reasons(given: Given, reasons: NDArray[np.int16], texts: _TextList) -> Lists:
    """Lists of reason codes, from feature indices [n, k] with -1 where there are fewer."""
    named = reasons >= 0
    lengths = named @ np.ones(named.shape[1], np.int32)  # a sum over so short an axis takes five times longer
    return Lists(given, _offsets(lengths), texts.column(reasons[named]))


def _errors(errors: dict[int, bytes], count: int) -> Texts:
    """Why rows were not scored, missing where they were."""
    lengths, given = np.zeros(count, np.int32), np.zeros(count, np.bool_)
    lengths[list(errors)], given[list(errors)] = [len(error) for error in errors.values()], True
    return Texts(given, _offsets(lengths), b"".join(errors.values()))


def _offsets(lengths: NDArray[Any]) -> NDArray[np.int32]:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
