"""Logs: JSON in a pod, readable at a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["configure"]

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class _Json(logging.Formatter):
    """One JSON object a line; `extra` fields beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str, ensure_ascii=False)


class _Readable(logging.Formatter):
    """Time, level, object, message."""

    def format(self, record: logging.LogRecord) -> str:
        self._style._fmt = "%(asctime)s %(levelname)-7s " + (f"{record.key}: " if "key" in record.__dict__ else "")  # type: ignore[attr-defined]
        self._style._fmt += "%(message)s"
        return super().format(record)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in record.__dict__.items() if key not in _STANDARD and not key.startswith("_")}


def configure(level: str) -> None:
    """Set up the root logger on standard error. The framework's own chatter is kept to warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Readable(datefmt="%H:%M:%S") if sys.stderr.isatty() else _Json())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("kopf", "asyncio", "aiohttp.access", "kubernetes"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))
