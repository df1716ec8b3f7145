"""What a gate is: what it measures, how, and what it says of the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from creditmodel_bundle.measurement import Artifact, EvaluationSummary, Measurement
from creditmodel_operator.api.spec import CreditModelSpec
from creditmodel_operator.api.status import Number
from creditmodel_operator.observed import Approval

__all__ = ["Champion", "Gate", "Judgement", "Resources", "Subject", "Verdict"]


class Verdict(StrEnum):
    """What a gate says of a model."""

    PASSED = "Passed"
    FAILED = "Failed"
    """Measured, and over a limit; or refused for good."""
    ERROR = "Error"
    """Could not be measured."""
    INCONCLUSIVE = "Inconclusive"
    RUNNING = "Running"
    WAITING = "Waiting"
    """An earlier gate has not passed, or a person has not decided."""
    NOT_CONFIGURED = "NotConfigured"


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that serves, as far as a challenger is compared with it."""

    digest: str
    revision: str
    evaluation: EvaluationSummary | None


@dataclass(frozen=True, slots=True)
class Subject:
    """The model under test, and the limits."""

    spec: CreditModelSpec
    digest: str | None
    """None until the artifact gate has resolved it."""
    artifact: Artifact | None = None
    champion: Champion | None = None
    """None while there is none, and where no gate compares with it."""
    promoted: frozenset[str] = frozenset()
    """Digests of the models that are or were champion: they are not compared with the champion again."""
    name: str = ""
    """Name of the CreditModel."""
    namespace: str = ""
    public_keys: str | None = None
    """The Secret with the keys of which one must have signed; None: a signature is not looked at."""
    approval_required: bool = False
    approvals: tuple[Approval, ...] = ()
    """The decisions about this CreditModel that stand, the oldest first."""
    approved: Mapping[str, str] = field(default_factory=dict)
    """The approval that each digest took over with."""

    @property
    def opponent(self) -> Champion | None:
        """The champion that this model has to be compared with."""
        return None if self.digest in self.promoted else self.champion


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with the words and numbers behind it."""

    verdict: Verdict
    reason: str
    message: str
    summary: str | None = None
    numbers: tuple[Number, ...] = ()
    evidence: Approval | None = None
    """The decision that the verdict stands on."""
    look_again: datetime | None = None
    """When the verdict may change by itself."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a gate's Job may use."""

    cpu: str
    memory: str
    memory_limit: str


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate. `command` and `measured` are None for a gate that needs no Job of its own."""

    name: str
    condition: str
    judge: Callable[[Subject, Measurement | None], Judgement]
    measured: Callable[[Subject], Any] | None = None
    """What the Job's name stands for: everything that, when it changes, asks for another measurement."""
    command: Callable[[Subject], Sequence[str]] | None = None
    secret: Callable[[Subject], str | None] = lambda _: None
    """A Secret that the Job finds as files beneath SECRETS (children.job), in a directory of the Secret's name."""
    resources: Resources = Resources("500m", "512Mi", "4Gi")
