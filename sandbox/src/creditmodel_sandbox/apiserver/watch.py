"""Watches: each follows the resource's event log with a cursor of its own, so a slow one costs nothing but itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from creditmodel_sandbox.apiserver.errors import ApiError
from creditmodel_sandbox.apiserver.storage import Collection, Event, Record, Store

__all__ = ["Watch", "stream"]

BOOKMARK_SECONDS = 60.0
BATCH = 500
"""Events in one write to the network."""

Present = Callable[[Record], bytes]


@dataclass(frozen=True, slots=True)
class Watch:
    """What one client asked to be told."""

    matches: Callable[[Record], bool]
    everything: bool
    """Whether `matches` never says no, so that it need not be asked."""
    present: Present
    form: tuple[Any, ...]
    """Names the form that `present` gives, as key of the events' shared frames."""
    identity: dict[str, str]
    """The apiVersion and kind of the objects, for bookmarks."""
    since: int | None
    """The resourceVersion to begin after; None for the present objects first."""
    bookmarks: bool
    initial: bool
    """Whether a bookmark marks the end of the present objects (sendInitialEvents)."""
    seconds: float
    """How long it may last; 0 leaves it to the server."""


def frame(kind: str, body: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)


def _shared_frame(watch: Watch, event: Event, kind: str, record: Record) -> bytes:
    key = (kind, record is event.previous, watch.form)
    found = event.frames.get(key)
    if found is None:
        found = event.frames[key] = frame(kind, watch.present(record))
    return found


def translate(watch: Watch, event: Event) -> bytes | None:
    """The event as this watcher sees it: an object that leaves its selection is DELETED, one that enters ADDED."""
    new, previous = event.record, event.previous
    if watch.everything:
        is_in, was_in = new is not None, previous is not None
    else:
        is_in = new is not None and watch.matches(new)
        was_in = previous is not None and watch.matches(previous)
    if is_in and new is not None:
        return _shared_frame(watch, event, "MODIFIED" if was_in else "ADDED", new)
    if was_in and previous is not None:
        # An object that changed out of the selection is shown as it is now; one that is gone as it last was.
        return _shared_frame(watch, event, "DELETED", new or previous)
    return None


def bookmark(watch: Watch, rv: int, end_of_initial: bool = False) -> bytes:
    """A sign that every event up to `rv` has been sent."""
    annotations = {"annotations": {"k8s.io/initial-events-end": "true"}} if end_of_initial else {}
    metadata = {"resourceVersion": str(rv), **annotations}
    obj = {**watch.identity, "metadata": metadata}
    return frame("BOOKMARK", msgspec.json.encode(obj))


async def stream(store: Store, collection: Collection, watch: Watch) -> AsyncIterator[bytes]:
    """The frames of a watch, until its time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + (watch.seconds or random.uniform(1800, 3600))  # noqa: S311 - spreads reconnects
    next_bookmark = loop.time() + random.uniform(0.8, 1.0) * BOOKMARK_SECONDS  # noqa: S311
    cursor = store.rv if watch.since is None else watch.since
    if watch.since is None:
        for batch in _present_objects(collection, watch):
            yield batch
        if watch.initial:
            yield bookmark(watch, cursor, end_of_initial=True)
    while True:
        changed = collection.changed()
        try:
            events = collection.since(cursor)
        except ApiError as error:
            yield frame("ERROR", msgspec.json.encode(error.status()))
            return
        if events:
            cursor = events[-1].rv
            for start in range(0, len(events), BATCH):
                frames = [sent for event in events[start : start + BATCH] if (sent := translate(watch, event))]
                if frames:
                    yield b"".join(frames)
            continue
        now = loop.time()
        if now >= end:
            return
        if watch.bookmarks and now >= next_bookmark:
            next_bookmark = now + BOOKMARK_SECONDS
            cursor = store.rv
            yield bookmark(watch, cursor)
        wait = min(end, next_bookmark if watch.bookmarks else end) - now
        try:
            async with asyncio.timeout(wait):
                await changed.wait()
        except TimeoutError:
            continue


def _present_objects(collection: Collection, watch: Watch) -> list[bytes]:
    records = [collection.records[key] for key in sorted(collection.records)]
    frames = [frame("ADDED", watch.present(record)) for record in records if watch.everything or watch.matches(record)]
    return [b"".join(frames[start : start + BATCH]) for start in range(0, len(frames), BATCH)]
