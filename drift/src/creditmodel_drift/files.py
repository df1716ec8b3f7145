"""Text files of any file system as DuckDB reads them: one reader, and so one answer, wherever they lie.

DuckDB asks for `creditmodel://3.csv.gz` and gets the file that was entered third, by a suffix that is spelt as DuckDB
knows it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from fsspec.spec import AbstractFileSystem

from creditmodel_drift.parts import Part

__all__ = ["Files"]

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = re.compile(r"creditmodel://(\d+)[.a-z]*")


class Files(AbstractFileSystem):  # type: ignore[misc]
    """What was entered, under names that no statement has to escape. Read-only."""

    protocol = "creditmodel"
    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._entered: list[tuple[Any, Part]] = []

    def enter(self, source: Any, part: Part) -> str:
        """The name of a file that lies on the file system `source`."""
        self._entered.append((source, part))
        return f"{self.protocol}://{len(self._entered) - 1}{part.suffix}"

    def in_words(self, message: str) -> str:
        """A message of DuckDB's with the parts' own names."""
        return _NAME.sub(lambda found: self._entered[int(found[1])][1].name, message)

    def glob(self, path: str, **_: Any) -> list[str]:
        """A name is no pattern."""
        return [path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What DuckDB asks for."""
        source, part = self._at(path)
        return {"name": path, "size": source.size(part.path), "type": "file"}

    def modified(self, _path: str) -> datetime:
        """A part is written once."""
        return _NEVER

    def open(self, path: str, _mode: str = "rb", **_: Any) -> Any:
        """The bytes as they lie there."""
        source, part = self._at(path)
        return source.open(part.path, "rb")

    def _at(self, path: str) -> tuple[Any, Part]:
        found = _NAME.fullmatch(path)
        if found is None:
            raise FileNotFoundError(path)
        return self._entered[int(found[1])]
