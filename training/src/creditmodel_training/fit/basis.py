"""Where the shapes may bend: knots of a number at the quantiles of the training rows, one indicator per category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from creditmodel_bundle.contract import Feature

__all__ = ["FINE", "FeatureBasis", "build_basis"]

FINE = 16
"""Segments of a number's shape function."""

COARSE = 4
"""Segments of a number within an interaction."""

MAX_PAIR_CATEGORIES = 12
"""A category with more values takes part in no interaction: its cells would be too thin."""

LARGEST = 1e37
"""Knots stay where widths, and one over them, are normal float32 numbers."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureBasis:
    """The ramps of one feature.

    A number has `knots`, and `coarse`, those of them that interactions use. A category has its `codes`; each is an
    indicator, the difference of two ramps that meet at the code, so any other number switches all of them off.
    `neutral` is the value of the neutral applicant: the median, or the most common category.
    """

    neutral: float
    knots: Array
    coarse: Array
    codes: Array | None = None
    sign: int = 0

    @property
    def floor(self) -> float:
        """Below it the shape is flat."""
        return float(self.knots[0]) if self.codes is None else -1.0

    @property
    def ceiling(self) -> float:
        """Above it the shape is flat."""
        return float(self.knots[-1]) if self.codes is None else float(self.codes.max()) + 1.0

    @property
    def can_pair(self) -> bool:
        """Whether the feature may take part in an interaction."""
        return len(self.coarse) > 1 if self.codes is None else 1 < len(self.codes) <= MAX_PAIR_CATEGORIES

    def ramps(self, coarse: bool = False) -> tuple[Array, Array]:
        """Start and width of each ramp."""
        if self.codes is None:
            knots = self.coarse if coarse else self.knots
            return knots[:-1], np.diff(knots)
        step = 2.0**-8 if self.codes.max() < 2**15 else 1.0  # as small as float32 can tell from the code itself
        starts = np.stack([self.codes - step, self.codes], axis=1).ravel()
        return starts, np.full(len(starts), step)

    def tie(self, coarse: bool = False) -> Array:
        """[coordinates, ramps]: how a coordinate that is learned (a segment's rise, a category) is made of ramps."""
        count = len(self.ramps(coarse)[0])
        if self.codes is None:
            return np.eye(count)
        indicators: Array = np.kron(np.eye(count // 2), np.array([[1.0, -1.0]]))
        return indicators

    def coordinates(self, values: Array, coarse: bool = False) -> Array:
        """[N, coordinates] of values without missing ones."""
        start, width = self.ramps(coarse)
        clipped = np.clip(values, self.floor, self.ceiling)
        ramps = np.clip((clipped[:, None] - start) / width, 0.0, 1.0)
        return ramps @ self.tie(coarse).T

    def anchored(self, values: Array, coarse: bool = False) -> Array:
        """Coordinates minus those of the neutral value; 0 where the value is missing."""
        filled = np.where(np.isnan(values), self.neutral, values)
        return self.coordinates(filled, coarse) - self.coordinates(np.array([self.neutral]), coarse)

    def vertices(self) -> Array:
        """[V, coarse coordinates]: the anchored coordinates at which a function linear in them has its extremes."""
        if self.codes is None:
            return self.anchored(self.coarse, coarse=True)
        return self.anchored(np.array([*self.codes, self.codes.max() + 1.0]), coarse=True)

    def refinement(self) -> Array:
        """[coarse coordinates, fine coordinates]: each coarse ramp of a number as a sum of fine ramps."""
        start, width = self.ramps(coarse=True)
        fine_start, fine_width = self.ramps()
        inside = (fine_start >= start[:, None]) & (fine_start < (start + width)[:, None])
        return np.where(inside, fine_width / width[:, None], 0.0)


def build_basis(features: Sequence[Feature], x: npt.NDArray[np.float32]) -> list[FeatureBasis]:
    """One basis per column of training rows [N, F]."""
    return [_basis(feature, x[:, index].astype(np.float64)) for index, feature in enumerate(features)]


def _basis(feature: Feature, column: Array) -> FeatureBasis:
    known = np.clip(column[~np.isnan(column)], -LARGEST, LARGEST)
    if feature.dtype == "category":
        codes = np.array(sorted(category.code for category in feature.categories), np.float64)
        counts = [(known == code).sum() for code in codes]
        return FeatureBasis(float(codes[int(np.argmax(counts))]), codes, codes, codes)
    if not len(known):  # the rows with a value all fell into the other parts
        return FeatureBasis(0.0, np.zeros(1), np.zeros(1))
    knots = _knots(known, FINE)
    neutral = float(np.quantile(known, 0.5, method="nearest"))
    sign = {"increasing": 1, "decreasing": -1, "none": 0}[feature.monotonic]
    return FeatureBasis(neutral, knots, _coarse(known, knots), None, sign)


def _knots(known: Array, segments: int) -> Array:
    """All values where there are few, else distinct quantiles. Ends are kept, so that a tail is not cut off."""
    distinct = _apart(np.unique(known))
    if len(distinct) <= segments + 1:
        return distinct
    return _apart(np.unique(np.quantile(known, np.linspace(0, 1, segments + 1), method="nearest")))


def _apart(ascending: Array) -> Array:
    """Without values so near to their predecessor that one over the distance overflows."""
    return ascending[np.diff(ascending, prepend=-np.inf) > 1 / LARGEST]


def _coarse(known: Array, knots: Array) -> Array:
    """A subset of the knots near the coarse quantiles, so that a coarse ramp is a sum of fine ones."""
    wanted = _knots(known, COARSE)
    return np.unique(knots[np.abs(knots[None, :] - wanted[:, None]).argmin(axis=1)])
