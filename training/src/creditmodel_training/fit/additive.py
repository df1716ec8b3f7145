"""The network while it learns: free parameters, from which the scoring tensors follow with every constraint built in.

A monotonic feature's rises are softplus of a parameter, so they have one sign. An interaction may steepen or flatten
its features' shapes; where it could turn a monotonic one round, for some value of the partner, the shape is steepened
by exactly that much. The constraint holds for every parameter value and excludes no monotonic network.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from creditmodel_training.fit.basis import FeatureBasis
from creditmodel_training.model.network import ScoringTensors, Sizes, score

__all__ = ["AdditiveNetwork", "Pair"]

FLAT = -4.0
"""Where a monotonic rise starts: softplus(-4) is 0.018 log-odds."""

Pair = tuple[int, int]
Array = npt.NDArray[np.float64]


class _Side(NamedTuple):
    """One side of all interactions, padded to C coarse coordinates each.

    `tie` [P·C, ramps], `start` and `width` [ramps], `owner` [ramps] (feature of each ramp), `anchor` [ramps],
    `vertices` [P, V, C], `sign` [P, 1] (of the side's feature), `refine` [P·C, D] (coarse to fine coordinates).
    """

    tie: Tensor
    start: Array
    width: Array
    owner: list[int]
    anchor: Tensor
    vertices: Tensor
    sign: Tensor
    refine: Tensor


class AdditiveNetwork(nn.Module):
    """Shape functions of `bases` and interactions of `pairs`. Its forward gives uncalibrated log-odds [B]."""

    def __init__(self, bases: Sequence[FeatureBasis], pairs: Sequence[Pair], base_log_odds: float) -> None:
        super().__init__()
        self.bases, self.pairs = list(bases), list(pairs)
        ties = [basis.tie() for basis in bases]
        self.slices = _slices([tie.shape[0] for tie in ties])
        size = self.slices[-1].stop
        self._tie = _tensor(_block_diagonal(ties))
        self._owner = _one_hot([f for f, tie in enumerate(ties) for _ in range(tie.shape[1])], len(bases))
        self._sign = torch.cat([torch.full((tie.shape[0],), float(b.sign)) for tie, b in zip(ties, bases, strict=True)])
        self.rises = nn.Parameter(torch.where(self._sign == 0, 0.0, FLAT).reshape(size))
        self.absent = nn.Parameter(torch.zeros(len(bases)))
        self.baseline = nn.Parameter(torch.tensor(base_log_odds))
        self._left = self._side([left for left, _ in pairs])
        self._right = self._side([right for _, right in pairs])
        coarse = self._left.vertices.shape[2], self._right.vertices.shape[2]
        self.cells = nn.Parameter(torch.zeros(len(pairs), *coarse))
        self._fixed = self._fixed_tensors()

    def forward(self, x_bf: Tensor) -> Tensor:
        """Log-odds [B] of encoded rows [B, F]."""
        return score(self.tensors(), x_bf)[0]

    def effective_rises(self) -> Tensor:
        """[D]: each coordinate's rise with its sign and the interactions' compensation."""
        steepened = functional.softplus(self.rises)
        if self.pairs:
            left = _compensation(self.cells, self._left, self._right)
            right = _compensation(self.cells.transpose(1, 2), self._right, self._left)
            steepened = steepened + left @ self._left.refine + right @ self._right.refine
        return torch.where(self._sign == 0, self.rises, self._sign * steepened)

    def tensors(self) -> ScoringTensors:
        """The scoring tensors of the present parameters, differentiable in them."""
        weights = (self.effective_rises() @ self._tie).unsqueeze(1) * self._owner
        offset = -(self._neutral_ramps @ weights)
        pair_weights = self._pair_weights()
        fixed = self._fixed
        return ScoringTensors(
            neutral=fixed.neutral,
            floor=fixed.floor,
            ceiling=fixed.ceiling,
            select=fixed.select,
            start=fixed.start,
            scale=fixed.scale,
            weights=weights,
            offset=offset,
            absent=self.absent,
            left_anchor=fixed.left_anchor,
            pair_weights=pair_weights,
            pair_bias=-(self._right.anchor @ pair_weights),
            share=fixed.share,
            baseline=self.baseline,
        )

    def _pair_weights(self) -> Tensor:
        """[R, L]: the cells of all interactions, one block each."""
        if not self.pairs:
            return torch.zeros(0, 0)
        blocks: Tensor = torch.block_diag(*self.cells.transpose(1, 2))  # type: ignore[no-untyped-call]
        return self._right.tie.T @ blocks @ self._left.tie

    def _side(self, features: list[int]) -> _Side:
        bases = [self.bases[feature] for feature in features]
        ties = [basis.tie(coarse=True) for basis in bases]
        vertices = [basis.vertices() for basis in bases]
        width = max((tie.shape[0] for tie in ties), default=0)
        ramps = [basis.ramps(coarse=True) for basis in bases]
        refine = [self._refinement(feature, width) for feature in features]
        neutral = [basis.neutral for basis in bases]
        start = np.concatenate([s for s, _ in ramps]) if ramps else np.zeros(0)
        widths = np.concatenate([w for _, w in ramps]) if ramps else np.zeros(0)
        at = np.concatenate([np.full(len(s), z) for (s, _), z in zip(ramps, neutral, strict=True)]) if ramps else start
        return _Side(
            tie=_tensor(_block_diagonal([_padded(tie, width, tie.shape[1]) for tie in ties])),
            start=start,
            width=widths,
            owner=[feature for feature, (s, _) in zip(features, ramps, strict=True) for _ in s],
            anchor=_tensor(np.clip((at - start) / widths, 0, 1)),
            vertices=_tensor(_stacked([_padded(v, max(map(len, vertices)), width) for v in vertices], width)),
            sign=torch.tensor([[float(basis.sign)] for basis in bases]).reshape(-1, 1),
            refine=_tensor(np.concatenate(refine) if refine else np.zeros((0, self.slices[-1].stop))),
        )

    def _refinement(self, feature: int, width: int) -> Array:
        """[width, D]: the coarse coordinates of one feature in everyone's fine coordinates."""
        basis = self.bases[feature]
        wide = np.zeros((width, self.slices[-1].stop))
        if basis.sign:
            own = basis.refinement()
            wide[: own.shape[0], self.slices[feature]] = own
        return wide

    def _fixed_tensors(self) -> ScoringTensors:
        """Everything that is not learned; the learned fields are zero."""
        bases, left, right = self.bases, self._left, self._right
        ramps = [basis.ramps() for basis in bases]
        start = np.concatenate([*(s for s, _ in ramps), left.start, right.start])
        width = np.concatenate([*(w for _, w in ramps), left.width, right.width])
        owner = [f for f, (s, _) in enumerate(ramps) for _ in s]
        neutral = np.array([basis.neutral for basis in bases])
        main = len(owner)
        self._neutral_ramps = _tensor(np.clip((neutral[owner] - start[:main]) / width[:main], 0, 1))
        left_share = _one_hot(left.owner, len(bases))
        right_share = _one_hot([self._partner(ramp) for ramp in range(len(left.owner))], len(bases))
        zeros = ScoringTensors.zeros(Sizes(len(bases), main, len(left.owner), len(right.owner)))
        return ScoringTensors(
            neutral=_tensor(neutral),
            floor=_tensor(np.array([basis.floor for basis in bases])),
            ceiling=_tensor(np.array([basis.ceiling for basis in bases])),
            select=_one_hot([*owner, *left.owner, *right.owner], len(bases)).T.contiguous(),
            start=_tensor(start),
            scale=_tensor(1.0 / width),
            weights=zeros.weights,
            offset=zeros.offset,
            absent=zeros.absent,
            left_anchor=left.anchor,
            pair_weights=zeros.pair_weights,
            pair_bias=zeros.pair_bias,
            share=(left_share + right_share) / 2,
            baseline=zeros.baseline,
        )

    def _partner(self, ramp: int) -> int:
        """The feature on the right of the interaction that a left ramp belongs to."""
        counts = [len(self.bases[left].ramps(coarse=True)[0]) for left, _ in self.pairs]
        ends = list(accumulate(counts))
        return self.pairs[next(pair for pair, end in enumerate(ends) if ramp < end)][1]


def _compensation(cells: Tensor, side: _Side, other: _Side) -> Tensor:
    """[P·C]: how much steeper each coarse segment of a monotonic `side` must be, so that no value of `other` turns it.

    `cells` [P, C, C'] is linear in the other side's anchored coordinates, so its extremes lie at the vertices.
    """
    slopes_pcv = side.sign.unsqueeze(2) * (cells @ other.vertices.transpose(1, 2))
    needed = functional.relu(-slopes_pcv.amin(dim=2)) if slopes_pcv.numel() else slopes_pcv.sum(2)
    return needed.flatten()


def _slices(sizes: list[int]) -> list[slice]:
    ends = list(accumulate(sizes))
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _one_hot(owner: list[int], count: int) -> Tensor:
    return _tensor(np.eye(count)[np.array(owner, int)])


def _padded(block: Array, rows: int, columns: int) -> Array:
    return np.pad(block, ((0, rows - block.shape[0]), (0, columns - block.shape[1])))


def _stacked(blocks: list[Array], width: int) -> Array:
    return np.stack(blocks) if blocks else np.zeros((0, 0, width))


def _block_diagonal(blocks: list[Array]) -> Array:
    rows, columns = sum(b.shape[0] for b in blocks), sum(b.shape[1] for b in blocks)
    whole = np.zeros((rows, columns))
    row = column = 0
    for block in blocks:
        whole[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return whole
