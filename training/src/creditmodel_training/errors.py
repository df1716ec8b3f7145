"""Errors of training.

TrainingError                anything that keeps a bundle from being written; the message names what to mend
├── SchemaError              the schema contradicts itself or the table
├── DataError                the table cannot be read, or cannot be learned from
├── OutputError              the bundle cannot be written where it was asked for
└── ModelFileError           model.pt is not a model of this package
"""

from __future__ import annotations

__all__ = ["DataError", "ModelFileError", "OutputError", "SchemaError", "TrainingError"]


class TrainingError(Exception):
    """Anything that keeps a bundle from being written; the message names what to mend."""


class SchemaError(TrainingError):
    """The schema contradicts itself or the table."""


class DataError(TrainingError):
    """The table cannot be read, or cannot be learned from."""


class OutputError(TrainingError):
    """The bundle cannot be written where it was asked for."""


class ModelFileError(TrainingError):
    """model.pt is not a model of this package."""
