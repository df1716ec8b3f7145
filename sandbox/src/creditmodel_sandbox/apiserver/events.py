"""Events are stored once, in the form of the core group, and shown by events.k8s.io/v1 under other names."""

from __future__ import annotations

from typing import Any

__all__ = ["from_core", "to_core"]

JSON = dict[str, Any]

_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK = {new: old for old, new in _NAMES.items()}


def from_core(event: JSON) -> JSON:
    """A core event in the newer form."""
    return {_NAMES.get(name, name): value for name, value in event.items()} | {"apiVersion": "events.k8s.io/v1"}


def to_core(event: JSON) -> JSON:
    """An events.k8s.io event in the stored form."""
    return {_BACK.get(name, name): value for name, value in event.items()} | {"apiVersion": "v1"}
