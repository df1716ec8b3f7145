"""Images: a name stands for a directory of commands on this machine.

`creditmodel-serving`, `creditmodel-jobs` and `creditmodel-operator` stand for the Python environment that the node runs
in, with any registry before the name and any tag or digest after it. `--image NAME=DIRECTORY` adds others: a NAME
without a tag matches every tag, a NAME with a `/` must match the registry and path as well.
"""

from __future__ import annotations

import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BUILT_IN", "Image", "ImageError", "Images", "parse_option"]

BUILT_IN = ("creditmodel-serving", "creditmodel-jobs", "creditmodel-operator")
_REFERENCE = re.compile(
    r"(?P<path>[a-z0-9]+([._:/-]+[a-zA-Z0-9]+)*?)(:(?P<tag>\w[\w.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class ImageError(Exception):
    """An image that cannot be had; `reason` is the kubelet's word for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Image:
    bin_dir: Path
    id: str


class Images:
    """The images that this node has."""

    def __init__(self, extra: dict[str, Path] | None = None) -> None:
        own = Path(sys.executable).parent
        self._directories = dict.fromkeys(BUILT_IN, own) | (extra or {})

    def pull(self, reference: str, policy: str = "IfNotPresent") -> Image:
        """The image of this name, or ImageError."""
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise ImageError("InvalidImageName", f'couldn\'t parse image name "{reference}": invalid reference format')
        path, tag = match["path"], match["tag"] or "latest"
        short = path.rsplit("/", 1)[-1]
        for name in (f"{path}:{tag}", path, f"{short}:{tag}", short):
            if name in self._directories:
                directory = self._directories[name]
                digest = hashlib.sha256(str(directory).encode()).hexdigest()
                return Image(directory, f"{path}@sha256:{digest}")
        known = ", ".join(sorted(self._directories))
        message = (
            f'"{reference}" is not an image of this sandbox node; it has: {known} (add one with --image NAME=BIN_DIR)'
        )
        raise ImageError("ErrImageNeverPull" if policy == "Never" else "ErrImagePull", message)


def parse_option(text: str) -> tuple[str, Path]:
    """`NAME=BIN_DIR` of the command line; ValueError says what is wrong with it."""
    name, equals, directory = text.partition("=")
    path = Path(directory).expanduser()
    if not (name and equals and directory):
        raise ValueError(f"--image {text}: write it as NAME=BIN_DIR")
    if not path.is_dir():
        raise ValueError(f"--image {text}: {path} is not a directory")
    return name, path.absolute()
