"""Networks that a bundle may hold: what they share, and how an installed package brings its own.

A package registers the class under the entry points `creditmodel.networks`, by the name that its `architecture` says:

    [project.entry-points."creditmodel.networks"]
    "acme-mlp.1" = "acme_credit.network:AcmeNetwork"

model.pt has that name, plain values and tensors. So what runs is code that somebody installed, never code that came
with a bundle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from creditmodel_training.errors import ModelFileError

__all__ = ["GROUP", "INPUT", "OUTPUTS", "CreditNetwork", "Plain", "attributed", "registered"]

GROUP = "creditmodel.networks"
"""The entry points that networks are registered under."""

INPUT = "features"
OUTPUTS = ("log_odds", "probability", "contributions")
"""What a network takes and returns, in its order; so the graph calls its input and outputs."""

Plain = str | int | float | bool


class CreditNetwork(nn.Module, ABC):
    """A network as bundles, parity and serving need it. Its parameters and buffers are all that it has learned."""

    architecture: ClassVar[str]
    """The name under which it is registered."""

    @property
    @abstractmethod
    def features(self) -> int:
        """F, the number of features that its rows have."""

    @abstractmethod
    def config(self) -> dict[str, Plain]:
        """The keyword arguments with which `of_config` makes a network of the same shape."""

    @classmethod
    def of_config(cls, **config: Plain) -> Self:
        """A network of this shape, whatever its parameters: they are loaded next."""
        return cls(**config)

    @abstractmethod
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log_odds [B], probability [B], contributions [B, F] of encoded rows float32 [B, F], in which NaN is missing.

        Contributions are log-odds, and add up to log_odds minus the same baseline for every row.
        """


def attributed(log_odds_of: Callable[[Tensor], Tensor], x_bf: Tensor, neutral_f: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds [B], and contributions [B, F] to them, of any network, against one neutral applicant [F].

    On the way from the neutral applicant to this one, features change from the first to the last and, once more, from
    the last to the first; a contribution is the mean of a feature's two steps. The steps of a way add up to the whole
    by construction, and for features that interact in pairs at most the mean is exactly the Shapley value.
    `log_odds_of` takes rows [N, F] and gives [N]; it is asked for 2·F rows an applicant.
    Source: Štrumbelj and Kononenko, Explaining prediction models and individual predictions (2014), with the two
    orders that antithetic sampling pairs.
    """
    count = neutral_f.shape[0]
    upward = torch.tril(torch.ones(count + 1, count, dtype=torch.bool), -1)  # row k has the first k features
    taken_kf = torch.cat([upward, ~upward[1:-1]]) if count > 1 else upward
    rows_bkf = torch.where(taken_kf, x_bf[:, None, :], neutral_f)
    values_bk = log_odds_of(rows_bkf.reshape(-1, count)).reshape(-1, taken_kf.shape[0])
    forward_bk, whole_b = values_bk[:, : count + 1], values_bk[:, count]
    # ~upward[k] has all but the first k features; for k = 0 that is the whole, for k = F the neutral applicant.
    backward_bk = torch.cat([whole_b[:, None], values_bk[:, count + 1 :], values_bk[:, :1]], dim=1)
    steps_bf = forward_bk[:, 1:] - forward_bk[:, :-1] + backward_bk[:, :-1] - backward_bk[:, 1:]
    return whole_b, steps_bf / 2


def registered(architecture: str) -> type[CreditNetwork]:
    """The installed network of this name. Raises ModelFileError when there is none, or it cannot be imported."""
    found = entry_points(group=GROUP, name=architecture)
    if not found:
        raise ModelFileError(
            f"no installed package registers the architecture {architecture!r} under the entry points {GROUP}: install "
            "the package that has it beside creditmodel-training, in a cluster in the image of the Jobs"
        )
    try:
        network = next(iter(found)).load()
    except Exception as e:
        raise ModelFileError(f"the architecture {architecture!r} cannot be imported: {type(e).__name__}: {e}") from e
    if not (isinstance(network, type) and issubclass(network, CreditNetwork)):
        raise ModelFileError(f"the architecture {architecture!r} is registered as no CreditNetwork, but {network!r}")
    return network
