"""Older reports of the same model removed from a directory: only those that this tool wrote there, under this name.

Each report carries a mark with its model, its time and its own file name. A file without a readable mark, or with that
of another model or name (a copy that someone put aside), is not ours to remove.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from html import escape, unescape
from pathlib import PurePosixPath
from typing import Any

from creditmodel_bundle.storage import filesystem

__all__ = ["Mark", "html_mark", "prune"]

_HEAD = 4096
_META = "<meta name='creditmodel-drift-report' content=\""
_KEY = '"report": '


@dataclass(frozen=True, slots=True)
class Mark:
    """Whose report a file is. `created` is ISO 8601 in UTC with microseconds, the same for all files of one check."""

    model: str
    created: str
    file: str


def html_mark(mark: Mark) -> str:
    """The mark as an element of a page's head."""
    return f'{_META}{escape(json.dumps(asdict(mark)), quote=True)}">'


def prune(uri: str, model: str, keep: int) -> list[str]:
    """Remove the model's reports beside `uri` but for those of the last `keep` checks; returns what was removed.

    Raises what the file system raises.
    """
    source, path = filesystem(uri)
    listed = source.ls(str(PurePosixPath(path).parent), detail=False)
    marks = {found: mark for found in listed if (mark := _read(source, found)) is not None and mark.model == model}
    kept = set(sorted({mark.created for mark in marks.values()}, reverse=True)[:keep])
    old = sorted(found for found, mark in marks.items() if mark.created not in kept)
    for found in old:
        source.rm_file(found)
    return old


def _read(source: Any, path: str) -> Mark | None:
    """The mark of a file that was written as a report under its own name."""
    if not path.endswith((".html", ".json")):
        return None
    with source.open(path, "rb") as file:
        head = file.read(_HEAD).decode("utf-8", "replace")
    try:
        mark = Mark(**(_in_page(head) if path.endswith(".html") else _in_document(head)))
    except (TypeError, ValueError, IndexError):
        return None
    return mark if mark.file == PurePosixPath(path).name else None


def _in_page(head: str) -> Any:
    return json.loads(unescape(head.split(_META, 1)[1].split('"', 1)[0]))


def _in_document(head: str) -> Any:
    return json.JSONDecoder().raw_decode(head.split(_KEY, 1)[1])[0]
