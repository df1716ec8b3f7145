"""The CreditModel resource: typed models of its spec and status, and the CRD that is generated from them."""

from creditmodel_operator.api.spec import CreditModelSpec
from creditmodel_operator.api.status import CreditModelStatus

__all__ = ["GROUP", "KIND", "PLURAL", "VERSION", "CreditModelSpec", "CreditModelStatus"]

GROUP = "creditmodel.dev"
VERSION = "v1alpha1"
KIND = "CreditModel"
PLURAL = "creditmodels"
