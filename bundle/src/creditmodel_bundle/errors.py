"""Errors of the shared formats.

BundleError                  anything wrong with a bundle
├── BundleUnreachable        the URI cannot be read now; trying again may help
├── BundleCorrupt            the bytes are not what the manifest promises; trying again cannot help
│   └── DigestMismatch       a sound bundle, but not the one that was asked for
├── BundleInvalid            a document of the bundle breaks its schema
├── BundleNotStored          the bundle was read, and the disk or store cannot take it
├── BundleExists             there is a bundle already where one was to be written
├── BundleUntrusted          nobody who is trusted has signed these bytes; trying again cannot help
│   ├── Unsigned             there is no signature
│   ├── SignatureUntrusted   there is one, by none of the trusted keys
│   └── SignatureMismatch    there is one by a trusted key, of other bytes
└── KeyUnusable              a key cannot be read, or is none
MeasurementError             a Job's message is not a measurement
ContractViolation            an applicant's values break the data contract
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "BundleCorrupt",
    "BundleError",
    "BundleExists",
    "BundleInvalid",
    "BundleNotStored",
    "BundleUnreachable",
    "BundleUntrusted",
    "ContractViolation",
    "DigestMismatch",
    "KeyUnusable",
    "MeasurementError",
    "SignatureMismatch",
    "SignatureUntrusted",
    "Unsigned",
    "Violation",
]


class BundleError(Exception):
    """Anything wrong with a bundle. `reason` is a CamelCase constant that conditions and measurements repeat."""

    reason = "BundleError"


class BundleUnreachable(BundleError):
    """The URI cannot be read now; trying again may help."""

    reason = "Unreachable"


class BundleNotStored(BundleError):
    """The bundle was read, and this machine's disk cannot take it."""

    reason = "NotStored"


class BundleCorrupt(BundleError):
    """The bytes are not what the manifest promises; trying again cannot help."""

    reason = "Corrupt"


class DigestMismatch(BundleCorrupt):
    """A sound bundle, but not the one that was asked for."""

    reason = "DigestMismatch"


class BundleInvalid(BundleError):
    """A document of the bundle breaks its schema."""

    reason = "Invalid"


class BundleExists(BundleError):
    """There is a bundle already where one was to be written; it stays as it is."""

    reason = "Exists"


class BundleUntrusted(BundleError):
    """Nobody who is trusted has signed these bytes; trying again cannot help."""

    reason = "Untrusted"


class Unsigned(BundleUntrusted):
    """There is no signature."""

    reason = "Unsigned"


class SignatureUntrusted(BundleUntrusted):
    """There is a signature, by none of the trusted keys."""

    reason = "SignatureUntrusted"


class SignatureMismatch(BundleUntrusted):
    """There is a signature by a trusted key, of other bytes."""

    reason = "SignatureMismatch"


class KeyUnusable(BundleError):
    """A key cannot be read, or is none."""

    reason = "KeyUnusable"


class MeasurementError(Exception):
    """A Job's message is not a measurement."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One value that breaks the contract.

    `kind` is one of missing, unknown, type, range, category. `allowed` says what would have been accepted.
    """

    feature: str
    kind: str
    message: str
    allowed: object = None


class ContractViolation(ValueError):
    """An applicant's values break the data contract; `violations` has every one of them."""

    def __init__(self, violations: list[Violation]) -> None:
        super().__init__("; ".join(f"{v.feature}: {v.message}" for v in violations))
        self.violations = violations
