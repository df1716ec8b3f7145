"""A person's decision about one model. Every description here is what `kubectl explain modelapproval` prints."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field

from creditmodel_operator.api.base import Digest, Part, rule

__all__ = ["ModelApprovalSpec"]


class ModelApprovalSpec(Part):
    """The decision. It cannot be changed: delete it and create another, so that the audit log has both."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self == oldSelf",
                    "a decision cannot be changed: delete this ModelApproval and create another, so that the audit "
                    "log has both",
                )
            ]
        }
    )

    credit_model_name: str = Field(
        min_length=1, max_length=46, description="The CreditModel, in the namespace of this object."
    )
    digest: Digest = Field(
        description="The model that is decided about, as status.candidate.digest and creditmodel-bundle verify show "
        "it. The decision is void for any other model."
    )
    decision: Literal["Approve", "Reject"] = Field(
        description="Approve lets the model take over once it has passed every other gate. Reject fails the gate, "
        "whatever approvals there are, for as long as it stands."
    )
    reason: str = Field(
        min_length=1,
        max_length=1024,
        description="What the decision rests on, for whoever audits it: a validation report, a committee's minutes.",
    )
    approver: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        description="Who decided. A claim like any text, unless the admission policy of manifests/approval is "
        "installed, which compares it with the user that the API server has authenticated.",
    )
    expires: datetime | None = Field(
        default=None,
        description="When an approval ceases to count for a model that has not taken over by then. One that has is "
        "not taken down. A rejection does not expire.",
    )
