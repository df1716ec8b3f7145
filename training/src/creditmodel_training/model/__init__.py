"""The PyTorch network, and the file it is kept in."""

from creditmodel_training.model.file import load, save
from creditmodel_training.model.network import ScoringNetwork

__all__ = ["ScoringNetwork", "load", "save"]
