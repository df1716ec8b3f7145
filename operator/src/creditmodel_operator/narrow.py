"""What the type checker cannot see, said in one place; a violation is a bug here, never a user's mistake."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["expect", "present"]

T = TypeVar("T")


def present(value: T | None) -> T:
    """A value that cannot be None at this point."""
    if value is None:
        raise TypeError("a value that is always there is missing")
    return value


def expect(kind: type[T], value: object) -> T:
    """A value that is of `kind` at this point."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value
