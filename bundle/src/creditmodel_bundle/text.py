"""Text files of applicants: how they are compressed, as their names say, and what delimits their columns."""

from __future__ import annotations

import re

__all__ = ["TEXT", "delimiter_of"]

TEXT = {".csv": None, ".csv.gz": "gzip", ".csv.zst": "zstd"}
"""Text files by the end of their name, and how they are compressed."""

_DELIMITERS = ",;\t|"
_QUOTED = re.compile('"[^"]*"')


def delimiter_of(header: str) -> str:
    """What the header has most of, outside of quotes: of comma, semicolon, tab and bar, the earlier where they tie."""
    return max(_DELIMITERS, key=_QUOTED.sub("", header).count)
