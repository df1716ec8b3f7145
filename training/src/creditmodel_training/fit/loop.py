"""The training loop: mini-batches, averaged parameters, early stopping on the validation loss, a progress bar."""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from tqdm import tqdm

from creditmodel_training.evaluation.metrics import auc
from creditmodel_training.fit.additive import AdditiveNetwork

__all__ = ["Progress", "Settings", "Stopped", "losses", "train"]

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train. The defaults were chosen on the validation rows of the UCI snapshots (docs/design/model.md)."""

    seed: int = 0
    epochs: int = 100
    batch: int = 512
    learning_rate: float = 0.005
    patience: int = 8
    averaging: float = 0.996
    shape_penalty: float = 1e-4
    cell_penalty: float = 1e-3
    interactions: int = 16


@dataclass(frozen=True, slots=True)
class Stopped:
    """Where training stopped: the epoch whose parameters were kept, and its figures on the validation rows."""

    epoch: int
    epochs: int
    loss: float
    auc: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Encoded rows and labels of one part."""

    x: Floats
    y: Labels


class Progress:
    """A progress bar on standard error at a terminal, nothing anywhere else."""

    def __init__(self, description: str, epochs: int) -> None:
        self._bar = tqdm(total=epochs, desc=description, unit="epoch", file=sys.stderr, disable=not sys.stderr.isatty())

    def show(self, loss: float, validation: Stopped) -> None:
        """One epoch further."""
        self._bar.set_postfix_str(f"loss {loss:.4f}, validation loss {validation.loss:.4f}, AUC {validation.auc:.4f}")
        self._bar.update()

    def close(self) -> None:
        """Leave the last line as it is."""
        self._bar.close()


class _Average:
    """The running average of a network's parameters: it generalises better than any of the moments it averages."""

    def __init__(self, network: AdditiveNetwork, decay: float) -> None:
        self.network, self._decay, self._steps = network, decay, 0

    def follow(self, network: AdditiveNetwork) -> None:
        """Move towards the present parameters; in its first steps quickly, so that the start is soon forgotten."""
        self._steps += 1
        decay = min(self._decay, self._steps / (self._steps + 10))
        with torch.no_grad():
            for mean, value in zip(self.network.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)


def train(network: AdditiveNetwork, training: Rows, validation: Rows, settings: Settings, description: str) -> Stopped:
    """Fit `network` in place, and leave it with the averaged parameters of its best epoch.

    The loss is the plain log-loss: nothing is reweighted, since a reweighted rare class makes every probability wrong.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(settings.seed)
    x, y = torch.from_numpy(training.x), torch.from_numpy(training.y.astype(np.float32))
    average = _Average(copy.deepcopy(network), settings.averaging)
    best, kept = validate(average.network, validation, 0), copy.deepcopy(average.network.state_dict())
    progress = Progress(description, settings.epochs)
    epoch = 0
    for epoch in range(1, settings.epochs + 1):
        loss = _epoch(network, average, optimiser, x, y, generator, settings)
        now = validate(average.network, validation, epoch)
        progress.show(loss, now)
        if now.loss < best.loss:
            best, kept = now, copy.deepcopy(average.network.state_dict())
        if epoch - best.epoch >= settings.patience:
            break
    progress.close()
    network.load_state_dict(kept)
    return Stopped(best.epoch, epoch, best.loss, best.auc)


def validate(network: AdditiveNetwork, rows: Rows, epoch: int) -> Stopped:
    """Log-loss and AUC of the present parameters."""
    log_odds, each = _judged(network, rows)
    return Stopped(epoch, epoch, float(each.mean()), auc(rows.y, log_odds.numpy()))


def losses(network: AdditiveNetwork, rows: Rows) -> Floats:
    """The log-loss of each row [N]."""
    each: Floats = _judged(network, rows)[1].numpy()
    return each


def _judged(network: AdditiveNetwork, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-odds and log-loss of each row."""
    with torch.inference_mode():
        log_odds = network(torch.from_numpy(rows.x))
        y = torch.from_numpy(rows.y.astype(np.float32))
        return log_odds, functional.binary_cross_entropy_with_logits(log_odds, y, reduction="none")


def _epoch(
    network: AdditiveNetwork,
    average: _Average,
    optimiser: torch.optim.Optimizer,
    x: torch.Tensor,
    y: torch.Tensor,
    generator: torch.Generator,
    settings: Settings,
) -> float:
    total = 0.0
    for chosen in torch.randperm(len(x), generator=generator).split(settings.batch):  # type: ignore[no-untyped-call]
        log_loss = functional.binary_cross_entropy_with_logits(network(x[chosen]), y[chosen])
        loss = log_loss + _penalty(network, settings)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        average.follow(network)
        total += float(log_loss.detach()) * len(chosen)
    return total / len(x)


def _penalty(network: AdditiveNetwork, settings: Settings) -> torch.Tensor:
    shapes = network.effective_rises().square().sum() + network.absent.square().sum()
    return settings.shape_penalty * shapes + settings.cell_penalty * network.cells.square().sum()
