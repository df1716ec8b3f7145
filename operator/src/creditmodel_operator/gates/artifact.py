"""The artifact gate: every byte of the bundle is what its manifest promises, the manifest is the one asked for, and,
where keys are given, somebody who holds one of them has signed it."""

from __future__ import annotations

from typing import Any

from creditmodel_bundle.measurement import Artifact, Measurement
from creditmodel_operator import reasons
from creditmodel_operator.children.job import SECRETS
from creditmodel_operator.gates.base import Gate, Judgement, Resources, Subject, Verdict
from creditmodel_operator.narrow import expect

__all__ = ["ARTIFACT"]


def _measured(subject: Subject) -> Any:
    """Without a digest in spec, retryToken asks for the URI to be looked at again."""
    model = subject.spec.model
    resolved = {} if model.digest else {"resolved": subject.spec.rollout.retry_token}
    signed = {"publicKeys": subject.public_keys} if subject.public_keys else {}
    return {"uri": model.uri, "digest": model.digest} | resolved | signed


def _command(subject: Subject) -> list[str]:
    model = subject.spec.model
    return [
        *("creditmodel-bundle", "verify", model.uri),
        *(("--digest", model.digest) if model.digest else ()),
        *(("--public-key", f"{SECRETS}/{subject.public_keys}") if subject.public_keys else ()),
    ]


def _judge(subject: Subject, found: Measurement | None) -> Judgement:
    measurement = expect(Artifact, found)
    if subject.public_keys is not None and measurement.signed_by is None:
        message = f"the Job did not look at the signature, which Secret {subject.public_keys} is there for"
        return Judgement(Verdict.ERROR, reasons.MALFORMED_MEASUREMENT, message)
    message = (
        f"{measurement.name} {measurement.model_version} at {subject.spec.model.uri}: "
        f"{measurement.files} files, {measurement.bytes:,} bytes, {measurement.digest}"
    )
    if measurement.signed_by is not None:
        message += f", signed by key {measurement.signed_by[:12]}…"
    return Judgement(Verdict.PASSED, reasons.PASSED, message, summary=measurement.digest[7:17])


ARTIFACT = Gate(
    name="artifact",
    condition="ArtifactVerified",
    judge=_judge,
    measured=_measured,
    command=_command,
    secret=lambda subject: subject.public_keys,
    resources=Resources("100m", "256Mi", "1Gi"),
)
