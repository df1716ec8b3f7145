"""The PyTorch network, a user's own, and the file either is kept in."""

from creditmodel_training.model.file import load, save
from creditmodel_training.model.network import ScoringNetwork
from creditmodel_training.model.own import CreditNetwork, attributed

__all__ = ["CreditNetwork", "ScoringNetwork", "attributed", "load", "save"]
