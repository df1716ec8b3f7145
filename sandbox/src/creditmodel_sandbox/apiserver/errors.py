"""The errors of the API: each is a metav1.Status with Kubernetes' own reason, message and details.

ApiError
└── Invalid     422, carries one FieldError per offending field
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "ApiError",
    "FieldError",
    "Invalid",
    "already_exists",
    "bad_request",
    "conflict",
    "expired",
    "forbidden",
    "invalid_options",
    "invalid_value",
    "method_not_allowed",
    "not_found",
    "not_implemented",
    "required",
    "unmet",
    "unsupported_media_type",
    "unsupported_value",
]

JSON = dict[str, Any]


class Named(Protocol):
    """What an error needs to know of a resource."""

    @property
    def group(self) -> str: ...
    @property
    def plural(self) -> str: ...
    @property
    def kind(self) -> str: ...


class ApiError(Exception):
    """An answer other than success; `status()` is its body."""

    def __init__(self, code: int, reason: str, message: str, details: JSON | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details

    def status(self) -> JSON:
        status: JSON = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        status |= {"message": self.message, "reason": self.reason}
        if self.details is not None:
            status["details"] = self.details
        return status | {"code": self.code}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One offending field. `text` is what follows the path: `Invalid value: 0: must be positive`."""

    field: str
    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"

    def cause(self) -> JSON:
        return {"reason": self.reason, "message": self.text, "field": self.field}


def show(value: Any) -> str:
    """A value as Kubernetes prints it in an error."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def invalid_value(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(field, "FieldValueInvalid", f"Invalid value: {show(value)}: {detail}")


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(field, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value")


def unsupported_value(field: str, value: Any, allowed: Sequence[Any]) -> FieldError:
    names = ", ".join(show(item) for item in allowed)
    return FieldError(field, "FieldValueNotSupported", f"Unsupported value: {show(value)}: supported values: {names}")


def _qualified(name: str, group: str) -> str:
    return f"{name}.{group}" if group else name


def _details(resource: Named, name: str) -> JSON:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return {key: value for key, value in details.items() if value}


class Invalid(ApiError):
    """422: the object was understood and refused, field by field."""

    def __init__(self, resource: Named, name: str, errors: Sequence[FieldError]) -> None:
        unique = list(dict.fromkeys(errors))
        text = str(unique[0]) if len(unique) == 1 else "[" + ", ".join(str(error) for error in unique) + "]"
        message = f'{_qualified(resource.kind, resource.group)} "{name}" is invalid: {text}'
        details = _details(resource, name) | {"kind": resource.kind, "causes": [error.cause() for error in unique]}
        super().__init__(422, "Invalid", message, details)


@dataclass(frozen=True, slots=True)
class _OptionsKind:
    kind: str
    group: str = "meta.k8s.io"
    plural: str = ""


def invalid_options(kind: str, errors: Sequence[FieldError]) -> Invalid:
    """422: a query or body says something that ListOptions, PatchOptions and so on cannot say."""
    return Invalid(_OptionsKind(kind), "", errors)


def not_found(resource: Named, name: str) -> ApiError:
    message = f'{_qualified(resource.plural, resource.group)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(resource, name))


def already_exists(resource: Named, name: str, going: bool = False) -> ApiError:
    message = f'{_qualified(resource.plural, resource.group)} "{name}" already exists'
    message = f"object is being deleted: {message}" if going else message
    return ApiError(409, "AlreadyExists", message, _details(resource, name))


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: Named, name: str, why: str = STALE) -> ApiError:
    message = f'Operation cannot be fulfilled on {_qualified(resource.plural, resource.group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def forbidden(resource: Named, name: str, why: str, causes: Sequence[JSON] = ()) -> ApiError:
    details = _details(resource, name) | ({"causes": list(causes)} if causes else {})
    shown = f' "{name}"' if name else ""
    return ApiError(
        403, "Forbidden", f"{_qualified(resource.plural, resource.group)}{shown} is forbidden: {why}", details
    )


def unmet(resource: Named, name: str, label: str, wanted: str, found: str) -> ApiError:
    """409: a delete's precondition does not hold."""
    happened = {"UID": "deleted and then recreated"}.get(label, "modified")
    why = f"the {label} in the precondition ({wanted}) does not match the {label} in record ({found})"
    where = f'{_qualified(resource.kind, resource.group)} "{name}"'
    message = f"Operation cannot be fulfilled on {where}: {why}. The object might have been {happened}"
    return ApiError(409, "Conflict", message, _details(resource, name) | {"kind": resource.kind})


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def not_implemented(what: str) -> ApiError:
    return ApiError(501, "NotImplemented", f"the sandbox does not implement {what}")


def unsupported_media_type(known: Sequence[str]) -> ApiError:
    accepted = ", ".join(known)
    message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return ApiError(415, "UnsupportedMediaType", message)
