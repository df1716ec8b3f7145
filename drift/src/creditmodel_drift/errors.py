"""Errors of the drift check. Each ends the command with exit code 2, one sentence and a measurement that says why.

DriftError                  the check could not be made
├── BadInput                an argument or a document is wrong; trying again cannot help
├── NoUsableData            nothing that was found can be read as applicants of this model
├── EngineFailed            the engine that counts could not read data or run a statement
└── ReportFailed            the verdict stands, but a report could not be made or stored
"""

from __future__ import annotations

import sys

__all__ = ["BadInput", "DriftError", "EngineFailed", "NoUsableData", "ReportFailed", "transport_errors"]


def transport_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What a file system raises when it cannot be reached or breaks off, and `others`; evaluated when it raised.

    Those of HTTP are no OSErrors; they exist only once a URI has asked for their client, which takes long to import.
    """
    aiohttp = sys.modules.get("aiohttp")
    return (OSError, *others) if aiohttp is None else (OSError, aiohttp.ClientError, *others)


class DriftError(Exception):
    """The check could not be made. `reason` is a CamelCase constant that measurements repeat."""

    reason = "DriftError"


class BadInput(DriftError):
    """An argument or a document is wrong; trying again cannot help."""

    reason = "BadInput"


class NoUsableData(DriftError):
    """Nothing that was found can be read as applicants of this model."""

    reason = "NoUsableData"


class EngineFailed(DriftError):
    """The engine that counts could not read data or run a statement."""

    reason = "CouldNotMeasure"


class ReportFailed(DriftError):
    """The verdict stands, but a report could not be made or stored."""

    reason = "ReportFailed"
