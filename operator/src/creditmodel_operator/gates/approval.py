"""The approval gate: somebody whom RBAC lets create ModelApprovals has decided about this very model. It needs no Job.

An approval has to stand when the model takes over; what it said is then written on the revision, and counts from there
on. A rejection counts whenever it stands, and outweighs every approval.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from creditmodel_bundle.measurement import Measurement
from creditmodel_operator import api, names, reasons
from creditmodel_operator.gates.base import Gate, Judgement, Subject, Verdict
from creditmodel_operator.narrow import present
from creditmodel_operator.observed import Approval

__all__ = ["APPROVAL"]


def _judge(subject: Subject, _measurement: Measurement | None) -> Judgement:
    if not subject.approval_required:
        return Judgement(Verdict.NOT_CONFIGURED, reasons.NOT_CONFIGURED, "spec.gates.approval.required is false")
    digest = present(subject.digest)
    decided = [approval for approval in subject.approvals if approval.digest == digest]
    rejected = [approval for approval in decided if not approval.approves]
    if rejected:
        return _told(Verdict.FAILED, reasons.REJECTED, f"rejected {_words(rejected)}", rejected[0])
    if decided:
        return _told(Verdict.PASSED, reasons.PASSED, f"approved {_words(decided)}", decided[0])
    if digest in subject.approved:
        message = f"took over with ModelApproval {subject.approved[digest]}, which no longer stands"
        return Judgement(Verdict.PASSED, reasons.PASSED, message)
    return Judgement(Verdict.WAITING, reasons.AWAITING_APPROVAL, _request(subject, digest))


def _told(verdict: Verdict, reason: str, message: str, approval: Approval) -> Judgement:
    until = approval.expires if approval.approves else None
    return Judgement(verdict, reason, message, approval.approver, evidence=approval, look_again=until)


def _words(decisions: Sequence[Approval]) -> str:
    more = f" (and {len(decisions) - 1} more)" if len(decisions) > 1 else ""
    return f"with ModelApproval {decisions[0].words}{more}"


def _request(subject: Subject, digest: str) -> str:
    """What is waited for, and the command that grants it: a shell takes it as it is."""
    wanted = {
        "apiVersion": f"{api.GROUP}/{api.VERSION}",
        "kind": api.APPROVAL_KIND,
        "metadata": {"name": names.revision(subject.name, digest)},
        "spec": {"creditModelName": subject.name, "digest": digest, "decision": "Approve", "reason": "WHY"},
    }
    command = f"kubectl create -n {subject.namespace} -f - <<< '{json.dumps(wanted)}'"
    return f"no approval of {digest} stands; whoever may create modelapprovals gives it with: {command}"


APPROVAL = Gate(name="approval", condition="ApprovalGranted", judge=_judge)
