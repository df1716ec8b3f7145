"""The resources CreditModel and ModelApproval: typed models, and the CRDs that are generated from them."""

from creditmodel_operator.api.approval import ModelApprovalSpec
from creditmodel_operator.api.spec import CreditModelSpec
from creditmodel_operator.api.status import CreditModelStatus

__all__ = [
    "APPROVAL_KIND",
    "APPROVAL_PLURAL",
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "CreditModelSpec",
    "CreditModelStatus",
    "ModelApprovalSpec",
]

GROUP = "creditmodel.dev"
VERSION = "v1alpha1"
KIND = "CreditModel"
PLURAL = "creditmodels"
APPROVAL_KIND = "ModelApproval"
APPROVAL_PLURAL = "modelapprovals"
