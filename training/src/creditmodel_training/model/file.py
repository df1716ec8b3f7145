"""model.pt: the network's dimensions and its state_dict, never a pickled object."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from creditmodel_training.errors import ModelFileError
from creditmodel_training.model.network import ScoringNetwork, ScoringTensors, Sizes

__all__ = ["ARCHITECTURE", "load", "save"]

ARCHITECTURE = "additive-ramps/1"


def save(model: ScoringNetwork, path: Path) -> None:
    """Write a network. The same network gives the same bytes."""
    config = {"architecture": ARCHITECTURE, **asdict(model.tensors.sizes)}
    torch.save({"config": config, "state_dict": model.state_dict()}, path)


def load(path: Path) -> ScoringNetwork:
    """The network in model.pt, in evaluation mode. Nothing is unpickled but tensors and plain values.

    Raises ModelFileError for a file that is absent, damaged, or of another architecture.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as e:
        raise ModelFileError(f"{path} is not a PyTorch state: {_first_line(e)}") from e
    try:
        model = ScoringNetwork(ScoringTensors.zeros(_sizes(document)))
        model.load_state_dict(document["state_dict"])
    except (TypeError, KeyError, ValueError, AttributeError, RuntimeError) as e:
        raise ModelFileError(f"{path} does not hold a network of {ARCHITECTURE}: {_first_line(e)}") from e
    return model.eval()


def _first_line(error: Exception) -> str:
    """PyTorch's errors go on with pages of advice, or say nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _sizes(document: Any) -> Sizes:
    if not isinstance(document, dict):
        raise TypeError(f"it holds a {type(document).__name__}")
    config = dict(document["config"])
    if config.pop("architecture", None) != ARCHITECTURE:
        raise ValueError(f"its architecture is {document['config'].get('architecture')!r}")
    return Sizes(**config)
