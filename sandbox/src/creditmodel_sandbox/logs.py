"""Logs of the sandbox's parts: readable at a terminal, one JSON object a line elsewhere."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["log_to_stderr", "readable"]

CLOCK = "%H:%M:%S"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry = {"time": time, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send this process's logs to standard error."""
    handler = logging.StreamHandler()
    readable = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", CLOCK)
    handler.setFormatter(readable if sys.stderr.isatty() else _Json())
    logging.basicConfig(level=level, handlers=[handler])


def readable(line: str) -> str:
    """A line that a part wrote as JSON, as it would have written it at a terminal; any other as it is."""
    try:
        entry = json.loads(line)
        time = datetime.fromisoformat(entry["time"]).astimezone()
        exception = f"\n{entry['exception']}" if "exception" in entry else ""
        return f"{time:{CLOCK}} {entry['level']:<7} {entry['message']}{exception}"
    except (ValueError, TypeError, KeyError):
        return line
