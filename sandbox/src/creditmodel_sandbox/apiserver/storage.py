"""Objects and their history: one SQLite file, mirrored in memory, with one resourceVersion that only grows.

An object is held as the JSON bytes that go to clients, without apiVersion and kind, which belong to the version
asked for. Reading decodes a fresh dict, so no caller can change what is stored.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from creditmodel_sandbox.apiserver.errors import ApiError, expired

__all__ = ["Collection", "Event", "Key", "Record", "Store"]

JSON = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty for a cluster-scoped object) and name."""

Fields = Callable[[str, JSON], dict[str, str]]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT, namespace TEXT, name TEXT, data BLOB NOT NULL, PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS version (id INTEGER PRIMARY KEY CHECK (id = 1), rv INTEGER NOT NULL);
INSERT OR IGNORE INTO version VALUES (1, 1);
"""


class Record:
    """One stored object: its bytes, and what selectors look at."""

    __slots__ = ("fields", "key", "labels", "raw", "rv")

    def __init__(self, key: Key, rv: int, raw: bytes, labels: dict[str, str], fields: dict[str, str]) -> None:
        self.key, self.rv, self.raw, self.labels, self.fields = key, rv, raw, labels, fields

    def object(self) -> JSON:
        """A fresh decoded copy, the caller's to change."""
        decoded: JSON = msgspec.json.decode(self.raw)
        return decoded

    def field(self, path: str) -> str:
        """What a field selector compares."""
        own = {"metadata.namespace": self.key[0], "metadata.name": self.key[1]}
        return own[path] if path in own else self.fields.get(path, "")


class Event:
    """A change of one object. `frames` holds its serialised forms, so that each is made once for all watchers."""

    __slots__ = ("frames", "previous", "record", "rv")

    def __init__(self, rv: int, record: Record | None, previous: Record | None, frames: dict[Any, bytes]) -> None:
        self.rv, self.record, self.previous, self.frames = rv, record, previous, frames


class Collection:
    """All objects of one resource, and its latest events."""

    def __init__(self, rv: int, history: int) -> None:
        self.records: dict[Key, Record] = {}
        self.events: list[Event] = []
        self.compacted = rv
        """Events up to here are forgotten: a watch can begin at this version or later."""
        self._history = history
        self._changed = asyncio.Event()

    def append(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) > 2 * self._history:
            dropped = len(self.events) - self._history
            self.compacted = self.events[dropped - 1].rv
            del self.events[:dropped]
        self._changed.set()
        self._changed = asyncio.Event()

    def since(self, rv: int) -> list[Event]:
        """Events after a version; 410 when some of them are forgotten."""
        if rv < self.compacted:
            raise expired(f"too old resource version: {rv} ({self.compacted})")
        index = len(self.events)
        while index and self.events[index - 1].rv > rv:
            index -= 1
        return self.events[index:]

    def changed(self) -> asyncio.Event:
        """Is set at the next change."""
        return self._changed

    def snapshot(self, rv: int) -> dict[Key, Record]:
        """The objects as they were at a version, from the present ones and the events since."""
        records = dict(self.records)
        for event in reversed(self.since(rv)):
            if event.previous is not None:
                records[event.previous.key] = event.previous
            elif event.record is not None:
                records.pop(event.record.key, None)
        return records


class Store:
    """The database of one instance. Everything here is synchronous: a read-change-write without `await` is atomic."""

    def __init__(self, path: Path, fields: Fields, history: int = 1000) -> None:
        self._path, self._db = path, sqlite3.connect(path, isolation_level=None, timeout=0.3)
        # WAL with NORMAL survives kill -9 of the process; only a power cut may lose the last writes, never half of one.
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "locking_mode=EXCLUSIVE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        self.rv: int = self._db.execute("SELECT rv FROM version").fetchone()[0]
        self._start = self.rv
        self._fields, self._history = fields, history
        self._collections: dict[str, Collection] = {}

    def close(self) -> None:
        self._db.close()

    def collection(self, resource: str) -> Collection:
        """The resource's objects, read from disk at first use."""
        found = self._collections.get(resource)
        if found is None:
            found = self._collections[resource] = Collection(self._start, self._history)
            rows = self._db.execute("SELECT namespace, name, data FROM objects WHERE resource = ?", (resource,))
            for namespace, name, data in rows:
                obj = msgspec.json.decode(data)
                rv = int(obj["metadata"]["resourceVersion"])
                found.records[namespace, name] = self._record(resource, (namespace, name), rv, data, obj)
        return found

    def get(self, resource: str, key: Key) -> Record | None:
        return self.collection(resource).records.get(key)

    def put(self, resource: str, key: Key, obj: JSON) -> Record:
        """Create or replace; gives the object its resourceVersion."""
        collection = self.collection(resource)
        record = self._encode(resource, key, obj)
        self._write("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (resource, *key, record.raw))
        previous = collection.records.get(key)
        collection.records[key] = record
        collection.append(Event(record.rv, record, previous, {}))
        return record

    def remove(self, resource: str, key: Key) -> Record:
        """Delete; the returned last state carries the version of the deletion, as watchers see it."""
        collection = self.collection(resource)
        last = self._encode(resource, key, collection.records[key].object())
        self._write("DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?", (resource, *key))
        del collection.records[key]
        collection.append(Event(last.rv, None, last, {}))
        return last

    def check_known(self, rv: int) -> None:
        """Refuse a version from the future, as a server does that lags behind."""
        if rv > self.rv:
            details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
            message = f"Timeout: Too large resource version: {rv}, current: {self.rv}"
            raise ApiError(504, "Timeout", message, details | {"retryAfterSeconds": 1})

    def _encode(self, resource: str, key: Key, obj: JSON) -> Record:
        obj.pop("apiVersion", None)
        obj.pop("kind", None)
        rv = self.rv + 1
        obj["metadata"]["resourceVersion"] = str(rv)
        return self._record(resource, key, rv, msgspec.json.encode(obj), obj)

    def _record(self, resource: str, key: Key, rv: int, raw: bytes, obj: JSON) -> Record:
        return Record(key, rv, raw, obj["metadata"].get("labels") or {}, self._fields(resource, obj))

    def _write(self, statement: str, parameters: tuple[Any, ...]) -> None:
        try:
            self._db.execute("BEGIN")
            self._db.execute(statement, parameters)
            self._db.execute("UPDATE version SET rv = ?", (self.rv + 1,))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:  # which some errors end by themselves
                self._db.execute("ROLLBACK")
            message = f"{self._path} cannot be written: {error}; nothing has changed"
            raise ApiError(500, "InternalError", message) from error
        self.rv += 1
