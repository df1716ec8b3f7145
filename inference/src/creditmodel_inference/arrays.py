"""Columns of the scoring log as Arrow has them, and back.

To Arrow they go as buffers. Its own conversion of Python objects would import pandas wherever that is installed, which
costs the process 50 MB and its requests a pause, and it would hold the interpreter for longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from creditmodel_inference.chain import Coded, Column, Lists, Numbers, Texts, place_type

__all__ = ["array_of", "columns_of", "text_array"]

_Given = NDArray[np.bool_] | None


def text_array(texts: Sequence[str]) -> Any:
    """An array of texts."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return array_of(Texts(None, offsets, b"".join(encoded)), pa.string())


def array_of(column: Column, kind: Any, texts: Any = None) -> Any:
    """An array of type `kind` over a column's own memory; `texts` is what a `Coded` one has its places in."""
    if isinstance(column, Coded):
        return _array_of_places(column, texts)
    if isinstance(column, Numbers):
        return _from_buffers(kind, column.given, column.values)
    if isinstance(column, Texts):
        return _from_buffers(kind, column.given, column.offsets, column.content)
    items = array_of(column.items, pa.string(), texts)
    return _from_buffers(pa.list_(items.type), column.given, column.offsets, children=[items])


def _array_of_places(column: Coded, texts: Any) -> Any:
    places = _from_buffers(pa.from_numpy_dtype(column.places.dtype), column.places >= 0, column.places)
    return pa.DictionaryArray.from_arrays(places, texts, safe=False)


def _from_buffers(kind: Any, given: _Given, values: NDArray[Any], *more: Any, children: Any = None) -> Any:
    """An array over such buffers. Before texts and lists, `values` are offsets, one more than there are rows."""
    rows = len(values) - bool(more or children)
    validity = None if given is None or given.all() else pa.py_buffer(np.packbits(given, bitorder="little"))
    buffers = [validity, *map(pa.py_buffer, (values, *more))]
    return pa.Array.from_buffers(kind, rows, buffers, children=children)


def columns_of(table: Any, texts: Mapping[str, Sequence[str]]) -> list[Column]:
    """The columns of a table; by places those that have a list of texts. Raises ArrowException, TypeError, ValueError
    or AttributeError for types that the log does not have."""
    combined = table.combine_chunks()
    return [_column(combined.column(name), texts.get(name)) for name in table.column_names]


def _column(chunked: Any, texts: Sequence[str] | None) -> Column:
    array = chunked.chunk(0) if chunked.num_chunks else pa.array([], chunked.type)
    given = None if array.null_count == 0 else _given(array)
    if pa.types.is_list(array.type):
        return Lists(given, _offsets(array), _items(array.values, texts))
    if pa.types.is_string(array.type):
        return _items(array, texts, given)
    values = _values(array)
    return Numbers(given, values if given is None else np.where(given, values, values.dtype.type(0)))


def _items(array: Any, texts: Sequence[str] | None, given: _Given = None) -> Texts | Coded:
    if texts is not None:
        return Coded(_places(array, texts))
    content = array.buffers()[2]
    return Texts(given, _offsets(array), memoryview(b"" if content is None else content))


def _places(array: Any, texts: Sequence[str]) -> NDArray[Any]:
    """Places in a list; -1 where missing. What is not in it has none that the log writes: -2."""
    place = {text: i for i, text in enumerate(texts)}
    found = [-1 if text is None else place.get(text, -2) for text in array.to_pylist()]
    return np.array(found, place_type(len(texts)))


def _given(array: Any) -> NDArray[np.bool_]:
    bits = np.unpackbits(np.frombuffer(array.buffers()[0], np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(np.bool_)


def _values(array: Any) -> NDArray[Any]:
    """Numbers of their own width."""
    width = array.type.bit_width // 8
    kind = np.dtype(np.float64 if pa.types.is_float64(array.type) else f"i{width}")
    if not len(array):
        return np.zeros(0, kind)
    return np.frombuffer(array.buffers()[1], kind, len(array), array.offset * width)


def _offsets(array: Any) -> NDArray[np.int32]:
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(1, np.int32)
    return np.frombuffer(buffer, np.int32, len(array) + 1, array.offset * 4)
