"""The artifact gate: every byte of the bundle is what its manifest promises, and the manifest is the one asked for."""

from __future__ import annotations

from typing import Any

from creditmodel_bundle.measurement import Artifact, Measurement
from creditmodel_operator import reasons
from creditmodel_operator.gates.base import Gate, Judgement, Resources, Subject, Verdict
from creditmodel_operator.narrow import expect

__all__ = ["ARTIFACT"]


def _measured(subject: Subject) -> Any:
    """Without a digest in spec, retryToken asks for the URI to be looked at again."""
    model = subject.spec.model
    return {"uri": model.uri, "digest": model.digest} | (
        {} if model.digest else {"resolved": subject.spec.rollout.retry_token}
    )


def _command(subject: Subject) -> list[str]:
    model = subject.spec.model
    return ["creditmodel-bundle", "verify", model.uri, *(("--digest", model.digest) if model.digest else ())]


def _judge(subject: Subject, found: Measurement | None) -> Judgement:
    measurement = expect(Artifact, found)
    size = f"{measurement.files} files, {measurement.bytes:,} bytes"
    message = (
        f"{measurement.name} {measurement.model_version} at {subject.spec.model.uri}: {size}, {measurement.digest}"
    )
    return Judgement(Verdict.PASSED, reasons.PASSED, message, summary=measurement.digest[7:17])


ARTIFACT = Gate(
    name="artifact",
    condition="ArtifactVerified",
    judge=_judge,
    measured=_measured,
    command=_command,
    resources=Resources("100m", "256Mi", "1Gi"),
)
