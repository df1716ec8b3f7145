"""model.pt: the network's architecture, its dimensions and its state_dict, never a pickled object."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from creditmodel_training.errors import ModelFileError
from creditmodel_training.model.network import ScoringNetwork
from creditmodel_training.model.own import CreditNetwork, registered

__all__ = ["load", "save"]


def save(model: CreditNetwork, path: Path) -> None:
    """Write a network. The same network gives the same bytes."""
    config = {"architecture": model.architecture, **model.config()}
    torch.save({"config": config, "state_dict": model.state_dict()}, path)


def load(path: Path) -> CreditNetwork:
    """The network in model.pt, in evaluation mode. Nothing is unpickled but tensors and plain values.

    Raises ModelFileError for a file that is absent or damaged, or an architecture that nothing installed has.
    """
    try:
        document = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as e:
        raise ModelFileError(f"{path} is not a PyTorch state: {_first_line(e)}") from e
    architecture, config = _config(path, document)
    network = ScoringNetwork if architecture == ScoringNetwork.architecture else registered(architecture)
    try:
        model: CreditNetwork = network.of_config(**config)
        model.load_state_dict(document["state_dict"])
    except (TypeError, KeyError, ValueError, AttributeError, RuntimeError) as e:
        raise ModelFileError(f"{path} does not hold a network of {architecture}: {_first_line(e)}") from e
    return model.eval()


def _config(path: Path, document: Any) -> tuple[str, dict[str, Any]]:
    """The architecture, and the arguments that rebuild it."""
    config = document.get("config") if isinstance(document, dict) else None
    if not isinstance(config, dict) or "architecture" not in config:
        raise ModelFileError(
            f"{path} says no architecture: write it with creditmodel_training.model.save (docs/own-network.md)"
        )
    return str(config["architecture"]), {name: value for name, value in config.items() if name != "architecture"}


def _first_line(error: Exception) -> str:
    """PyTorch's errors go on with pages of advice, or say nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
