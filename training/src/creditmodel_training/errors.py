"""Errors of training.

TrainingError                anything that keeps a bundle from being written; the message names what to mend
├── SchemaError              the schema contradicts itself or the table
├── DataError                the table cannot be read, or cannot be learned from
├── DataUnreachable          the store that has it does not answer now; trying again may help
├── OutputError              the bundle cannot be written where it was asked for
├── NetworkError             a network's answers do not explain one another, or it cannot be exported
└── ModelFileError           model.pt is not a network that is known here
"""

from __future__ import annotations

__all__ = [
    "DataError",
    "DataUnreachable",
    "ModelFileError",
    "NetworkError",
    "OutputError",
    "SchemaError",
    "TrainingError",
]


class TrainingError(Exception):
    """Anything that keeps a bundle from being written; the message names what to mend.

    `reason` is a CamelCase constant that measurements repeat.
    """

    reason = "TrainingError"


class SchemaError(TrainingError):
    """The schema contradicts itself or the table."""

    reason = "SchemaError"


class DataError(TrainingError):
    """The table cannot be read, or cannot be learned from."""

    reason = "DataError"


class DataUnreachable(TrainingError):
    """The store that has the table does not answer now; trying again may help."""

    reason = "Unreachable"


class OutputError(TrainingError):
    """The bundle cannot be written where it was asked for."""

    reason = "OutputError"


class NetworkError(TrainingError):
    """A network's answers do not explain one another, or it cannot be exported."""

    reason = "NetworkError"


class ModelFileError(TrainingError):
    """model.pt is not a network that is known here."""

    reason = "ModelFileError"
