"""The base of every document in this package."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from creditmodel_bundle.errors import BundleInvalid

__all__ = ["Document", "first_error"]


class Document(BaseModel):
    """A frozen JSON document: unknown fields are refused, and so are NaN and infinities, which JSON cannot say."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The document in a file. Raises BundleInvalid naming the place that is wrong."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as e:
            raise BundleInvalid(f"{path.name}: {first_error(e)}") from e


def first_error(error: ValidationError) -> str:
    """The first thing that is wrong with a document, and where."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "document"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
