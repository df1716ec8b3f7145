"""What every part of the resource is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

__all__ = ["Digest", "Part", "rule"]


class Part(BaseModel):
    """A frozen piece of the resource: snake_case in Python, camelCase on the wire.

    Unknown fields are ignored, because the API server has pruned what the schema does not have, and an older operator
    must be able to read an object that a newer CRD let in.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    def wire(self) -> dict[str, Any]:
        """The camelCase JSON of this part, without the fields that are not set."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


def rule(expression: str, message: str) -> JsonValue:
    """One CEL rule of the CRD. The message says what is wrong and how to mend it."""
    return {"rule": expression, "message": message}


Digest = Annotated[
    str,
    Field(
        max_length=71,
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.matches('^sha256:[0-9a-f]{64}$')",
                    "digest must be sha256: followed by 64 lower-case hex digits; "
                    "`creditmodel-bundle verify URI` prints it",
                )
            ]
        },
    ),
]
"""A model's identity."""
