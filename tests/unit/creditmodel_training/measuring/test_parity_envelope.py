"""The envelope: a few points that judge any tolerance as every element would."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from creditmodel_bundle.measurement import Parity, dump
from creditmodel_training.parity.envelope import MAX_POINTS, Envelope, hull, simplify

magnitudes = st.floats(min_value=0, max_value=float(np.float32(3.4e38)), width=32)
elements = st.lists(st.tuples(magnitudes, magnitudes), min_size=1, max_size=60)
tolerances = st.one_of(st.just(0.0), st.floats(min_value=1e-9, max_value=2.0))


def breaks(points: list[tuple[float, float]], rtol: float, atol: float) -> bool:
    """Whether any element exceeds the tolerance, in exact arithmetic."""
    return any(Fraction(d) > Fraction(atol) + Fraction(rtol) * Fraction(x) for x, d in points)


def envelope_of(
    points: list[tuple[float, float]], limit: int = MAX_POINTS, chunk: int = 7
) -> list[tuple[float, float]]:
    envelope = Envelope()
    for start in range(0, len(points), chunk):
        part = np.array(points[start : start + chunk], np.float64)
        envelope.add(part[:, 0], part[:, 1])
    return envelope.points(limit)


def judged(points: list[tuple[float, float]]) -> Parity:
    return Parity(
        tool="t", digest="sha256:" + "0" * 64, rows=1, edge_rows=0, max_abs_diff=0, max_rel_diff=0,
        envelope=points, decision_flips=0, reason_diffs=0, not_finite=0,
    )  # fmt: skip


@given(elements, tolerances, tolerances)
@example([(1.0, 2.0), (2.0, 3.0)], 1.0, 1.0)
@example([(0.0, 1.0), (1.0, 1.5), (2.0, 2.0)], 0.5, 1.0)
def test_a_tolerance_is_judged_on_the_envelope_as_on_every_element(
    points: list[tuple[float, float]], rtol: float, atol: float
) -> None:
    if len(hull(points)) <= MAX_POINTS:
        assert (judged(envelope_of(points)).excess(rtol, atol) > 0) == breaks(points, rtol, atol)


@given(elements, st.data())
def test_a_tolerance_that_an_element_touches_is_no_breach_and_the_next_smaller_one_is(
    points: list[tuple[float, float]], data: st.DataObject
) -> None:
    _, highest = max(points, key=lambda point: point[1])
    assert judged(envelope_of(points)).excess(0.0, highest) <= 0
    if highest > 0:
        assert judged(envelope_of(points)).excess(0.0, np.nextafter(highest, 0)) > 0


@given(elements, tolerances, tolerances, st.integers(min_value=1, max_value=6))
def test_a_simplified_envelope_never_hides_a_breach(
    points: list[tuple[float, float]], rtol: float, atol: float, limit: int
) -> None:
    simplified = envelope_of(points, limit)
    assert 1 <= len(simplified) <= limit
    if breaks(points, rtol, atol):
        assert judged(simplified).excess(rtol, atol) > 0


def critical_slopes(points: list[tuple[float, float]]) -> set[Fraction]:
    """Slopes of a hull's edges: between two of them, one vertex decides."""
    exact = [(Fraction(x), Fraction(y)) for x, y in points]
    return {(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(exact)}


@given(elements, st.integers(min_value=1, max_value=6))
def test_a_simplified_envelope_covers_the_whole_one_to_the_last_bit(
    points: list[tuple[float, float]], limit: int
) -> None:
    whole = hull(points)
    simplified = simplify(whole, limit)
    for slope in {Fraction(0), *critical_slopes(whole), *critical_slopes(simplified)}:
        most, covered = (
            max(Fraction(y) - slope * Fraction(x) for x, y in vertices) for vertices in (whole, simplified)
        )
        assert most <= covered


@given(elements)
def test_an_envelope_ascends_and_bends_one_way(points: list[tuple[float, float]]) -> None:
    vertices = [(Fraction(x), Fraction(y)) for x, y in hull(points)]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(vertices))
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(vertices)]
    assert all(left > right for left, right in itertools.pairwise(slopes))


def arc(count: int) -> list[tuple[float, float]]:
    """Points of a quarter circle: every one of them is a vertex."""
    angles = np.linspace(0, np.pi / 2, count)
    return [(float(1 - np.cos(a)), float(np.sin(a)) * 1e-6) for a in angles]


def test_a_thousand_vertices_are_simplified_with_an_error_of_a_few_per_cent() -> None:
    points = arc(1000)
    simplified = simplify(hull(points), MAX_POINTS)
    assert len(simplified) == MAX_POINTS
    for rtol in (0.0, 1e-8, 1e-7, 1e-6, 1e-5):
        true, judged_as = judged(hull(points)[:1]), judged(simplified)
        true_excess = max(d - rtol * x for x, d in points)
        assert true_excess <= judged_as.excess(rtol, 0.0) <= true_excess * 1.03 + 1e-12, (rtol, true)


def test_a_full_envelope_fits_a_termination_message() -> None:
    points = [(float(np.float32(1.1e-30 * 7.3**i)), float(np.float32(1.23456e-38 * 5.1**i))) for i in range(MAX_POINTS)]
    assert len(dump(judged(points))) < 2048


def test_an_envelope_of_nothing_is_empty() -> None:
    assert envelope_of([]) == []


def test_an_envelope_of_no_points_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="at least 1 point"):
        simplify([(0.0, 0.0)], 0)
