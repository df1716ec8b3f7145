"""The scoring network: additive shape functions and a few pairwise interactions, each piecewise linear.

Every feature passes through ramps, functions that rise from 0 to 1 between two knots and stay flat outside. A shape
function is a weighted sum of one feature's ramps, an interaction a bilinear form of the ramps of two. Both vanish at
the neutral applicant, so an applicant's contributions are differences to the neutral one, and their sum is the log-odds
minus the neutral applicant's. With half of an interaction given to each of its features they are the exact Shapley
values against that baseline: a feature at its neutral value contributes nothing, and one that is monotonic contributes
with the right sign, whatever the other features are.

Everything is a matrix product of fixed weights or elementwise, which ONNX Runtime runs in a dozen microseconds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor, nn

from creditmodel_training.model.own import CreditNetwork, Plain

__all__ = ["ScoringNetwork", "ScoringTensors", "Sizes", "score"]


ALIGNED = 16
"""float32 numbers in 64 bytes, beyond which no vector instruction reads."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Dimensions: F features, T ramps of shape functions, L and R ramps on the two sides of the interactions."""

    features: int
    ramps: int
    left: int
    right: int


@dataclass(frozen=True, slots=True)
class ScoringTensors:
    """All numbers of the network, float32. A = T + L + R ramps in all.

    `neutral`, `floor`, `ceiling` [F]: what stands in for a missing value, and the range beyond which shapes are flat.
    `select` [F, A]: 1 where a ramp looks at a feature. `start`, `scale` [A]: where a ramp begins, one over its width.
    `weights` [T, F], `offset` [F]: the shape functions, 0 at the neutral value. `absent` [F]: what missing adds.
    `left_anchor` [L], `pair_weights` [R, L], `pair_bias` [L]: the interactions. `share` [L, F]: half for each feature.
    `baseline` []: log-odds of the neutral applicant.
    """

    neutral: Tensor
    floor: Tensor
    ceiling: Tensor
    select: Tensor
    start: Tensor
    scale: Tensor
    weights: Tensor
    offset: Tensor
    absent: Tensor
    left_anchor: Tensor
    pair_weights: Tensor
    pair_bias: Tensor
    share: Tensor
    baseline: Tensor

    @property
    def sizes(self) -> Sizes:
        """The dimensions."""
        right, left = self.pair_weights.shape
        return Sizes(self.neutral.shape[0], self.weights.shape[0], left, right)

    @classmethod
    def zeros(cls, sizes: Sizes) -> ScoringTensors:
        """Tensors of these dimensions, all zero."""
        f, t, left, right = sizes.features, sizes.ramps, sizes.left, sizes.right
        a = t + left + right
        shapes = {
            **dict.fromkeys(("neutral", "floor", "ceiling", "offset", "absent"), (f,)),
            "select": (f, a),
            **dict.fromkeys(("start", "scale"), (a,)),
            "weights": (t, f),
            **dict.fromkeys(("left_anchor", "pair_bias"), (left,)),
            "pair_weights": (right, left),
            "share": (left, f),
            "baseline": (),
        }
        return cls(**{name: torch.zeros(shape) for name, shape in shapes.items()})


def score(tensors: ScoringTensors, x_bf: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds of default [B] and contributions [B, F] of encoded rows [B, F], in which NaN is missing."""
    sizes = tensors.sizes
    missing_bf = torch.isnan(x_bf)
    x_bf = torch.where(missing_bf, tensors.neutral, x_bf)
    # Clamped first: an infinity times a 0 of `select` would be NaN. The product only copies, so it is exact.
    x_bf = torch.minimum(torch.maximum(x_bf, tensors.floor), tensors.ceiling)
    ramps_ba = ((x_bf @ tensors.select - tensors.start) * tensors.scale).clamp(0.0, 1.0)
    contributions_bf = ramps_ba[:, : sizes.ramps] @ tensors.weights + tensors.offset
    contributions_bf = contributions_bf + missing_bf.to(x_bf.dtype) * tensors.absent
    if sizes.left:
        left_bl = ramps_ba[:, sizes.ramps : sizes.ramps + sizes.left] - tensors.left_anchor
        right_bl = ramps_ba[:, sizes.ramps + sizes.left :] @ tensors.pair_weights + tensors.pair_bias
        contributions_bf = contributions_bf + (left_bl * right_bl) @ tensors.share
    return (tensors.baseline.double() + _sum(contributions_bf)).float(), contributions_bf


def _sum(values_bf: Tensor) -> Tensor:
    """Sums of the rows in float64, whose bits do not depend on a row's place in the batch.

    A kernel adds the numbers between two aligned addresses at once and those before and after one by one: rows whose
    length is no multiple of ALIGNED begin differently aligned, and the same numbers are added in another order.

    Every runtime has an order of its own as well. Where large contributions cancel, float32 sums then differ by more
    than a parity check may allow for a result near 0; float64 sums differ by nothing that float32 can tell.
    """
    return nn.functional.pad(values_bf, (0, -values_bf.shape[1] % ALIGNED)).double().sum(1)


class ScoringNetwork(CreditNetwork):
    """The network that creditmodel-train makes. Its state is ScoringTensors, one buffer each."""

    architecture: ClassVar[str] = "additive-ramps/1"

    def __init__(self, tensors: ScoringTensors) -> None:
        super().__init__()
        for field in fields(tensors):
            self.register_buffer(field.name, getattr(tensors, field.name).detach().clone())

    @property
    def tensors(self) -> ScoringTensors:
        """The numbers of the network."""
        return ScoringTensors(**{field.name: getattr(self, field.name) for field in fields(ScoringTensors)})

    @property
    def features(self) -> int:
        """F, see CreditNetwork."""
        return self.tensors.sizes.features

    def config(self) -> dict[str, Plain]:
        """Its Sizes, see CreditNetwork."""
        return asdict(self.tensors.sizes)

    @classmethod
    def of_config(cls, **config: int) -> ScoringNetwork:  # type: ignore[override]  # its sizes are numbers
        """A network of these Sizes, see CreditNetwork."""
        return cls(ScoringTensors.zeros(Sizes(**config)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log_odds [B], probability [B], contributions [B, F] of encoded rows float32 [B, F]."""
        log_odds_b, contributions_bf = score(self.tensors, features)
        return log_odds_b, torch.sigmoid(log_odds_b), contributions_bf
