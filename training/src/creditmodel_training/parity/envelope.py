"""The envelope: every difference that was seen, in a few points that any tolerance can be judged on afterwards.

An element breaches a tolerance when `difference > atol + rtol * |reference|`. Over points (|reference|, difference)
and any `rtol >= 0`, the largest `difference - rtol * |reference|` lies on the upper-left convex hull, which therefore
is all that a judge needs.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["MAX_POINTS", "Envelope", "Point", "hull", "simplify"]

MAX_POINTS = 24
"""An envelope of this size stays below 1.3 kB as JSON, in a measurement that may have 4,096 bytes."""

Point = tuple[float, float]
"""(|reference|, difference), both finite and not negative."""


class Envelope:
    """Collects differences chunk by chunk and keeps only the points that can decide a tolerance."""

    def __init__(self) -> None:
        self._kept: list[Point] = []

    def add(self, reference: NDArray[np.floating], difference: NDArray[np.floating]) -> None:
        """Add elements: absolute values of the reference and absolute differences, same shape, all finite."""
        candidates = _records(np.ravel(reference).astype(np.float64), np.ravel(difference).astype(np.float64))
        self._kept = hull([*self._kept, *candidates])

    def points(self, limit: int = MAX_POINTS) -> list[Point]:
        """Return at most `limit` points, ascending in both coordinates; empty when nothing was added."""
        return simplify(self._kept, limit)


def _records(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[Point]:
    """Return the elements that no other element covers: walking right, each one is higher than all before it."""
    if x.size == 0:
        return []
    order = np.lexsort((-y, x))
    x, y = x[order], y[order]
    before = np.concatenate(([-np.inf], np.maximum.accumulate(y)[:-1]))
    keep = y > before
    return list(zip(x[keep].tolist(), y[keep].tolist(), strict=True))


def hull(points: Iterable[Point]) -> list[Point]:
    """Return the upper-left convex hull, ascending; its vertices are points of the input.

    The arithmetic is exact: rounding here could drop a vertex and hide a breach.
    """
    chain: list[tuple[Fraction, Fraction]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if chain and Fraction(y) <= chain[-1][1]:
            continue
        vertex = (Fraction(x), Fraction(y))
        while len(chain) >= 2 and _not_above(chain[-2], chain[-1], vertex):
            chain.pop()
        chain.append(vertex)
    return [(float(x), float(y)) for x, y in chain]


def _not_above(a: tuple[Fraction, Fraction], b: tuple[Fraction, Fraction], c: tuple[Fraction, Fraction]) -> bool:
    """Tell whether b lies on or below the line from a to c."""
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def simplify(vertices: Sequence[Point], limit: int) -> list[Point]:
    """Return at most `limit` points whose hull covers `vertices`: the judgement may get stricter, never milder.

    Edges are taken out, each time the one whose loss raises the hull least, and the others extended until they meet.
    """
    if limit < 1:
        raise ValueError(f"an envelope needs at least 1 point, not {limit}")
    if len(vertices) <= limit:
        return list(vertices)
    edges = [_Line.through(a, b) for a, b in itertools.pairwise(vertices)]
    left, top = Fraction(vertices[0][0]), Fraction(vertices[-1][1])
    kept = _least_raising(edges, float(left), float(top), limit - 1)
    if not kept:
        return [(float(left), float(top))]
    meetings = [a.meeting(b) for a, b in itertools.pairwise(kept)]
    corners = [(left, kept[0].at(left)), *meetings, (kept[-1].reaching(top), top)]
    return hull((_rounded_down(x), _rounded_up(y)) for x, y in corners)


@dataclass(frozen=True)
class _Line:
    """y = slope · x + height, exactly."""

    slope: Fraction
    height: Fraction

    @classmethod
    def through(cls, a: Point, b: Point) -> _Line:
        x, y = Fraction(a[0]), Fraction(a[1])
        slope = (Fraction(b[1]) - y) / (Fraction(b[0]) - x)
        return cls(slope, y - slope * x)

    def at(self, x: Fraction) -> Fraction:
        return self.slope * x + self.height

    def reaching(self, y: Fraction) -> Fraction:
        return (y - self.height) / self.slope

    def meeting(self, other: _Line) -> tuple[Fraction, Fraction]:
        x = (other.height - self.height) / (self.slope - other.slope)
        return x, self.at(x)


def _least_raising(edges: list[_Line], left: float, top: float, limit: int) -> list[_Line]:
    """Choose which edges stay. Which ones is a matter of taste, so floating point will do."""
    kept = list(edges)
    slopes = np.array([float(edge.slope) for edge in edges])
    heights = np.array([float(edge.height) for edge in edges])
    while len(kept) > limit:
        drop = int(np.argmin(_raises(slopes, heights, left, top)))
        del kept[drop]
        slopes, heights = np.delete(slopes, drop), np.delete(heights, drop)
    return kept


def _raises(slopes: NDArray[np.float64], heights: NDArray[np.float64], left: float, top: float) -> NDArray[np.float64]:
    """By what factor the hull rises where each edge is taken out. It is vertical at `left` and level at `top`."""
    with np.errstate(all="ignore"):
        x = (np.append(heights[1:], top) - np.append(0.0, heights[:-1])) / (
            np.append(1.0, slopes[:-1]) - np.append(slopes[1:], 0.0)
        )
        x[0] = left
        y = np.append(slopes[1:], 0.0) * x + np.append(heights[1:], top)
        raised: NDArray[np.float64] = y / (slopes * x + heights)
    return np.where(np.isfinite(raised), raised, np.inf)


def _rounded_down(value: Fraction) -> float:
    nearest = float(value)
    return max(0.0, math.nextafter(nearest, -math.inf)) if Fraction(nearest) > value else nearest


def _rounded_up(value: Fraction) -> float:
    nearest = float(value)
    return math.nextafter(nearest, math.inf) if Fraction(nearest) < value else nearest
