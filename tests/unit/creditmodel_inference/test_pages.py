"""Pages of the scoring log: what goes in comes out, and little memory is taken meanwhile."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from creditmodel_bundle.encoder import Encoder
from creditmodel_inference.pages import PAGE_ROWS, Page, Record, Rows, Span
from creditmodel_inference.scorer import Scorer
from creditmodel_inference.scoring_log import SPARE_PAGES, ScoringLog
from creditmodel_inference.settings import LogSettings

NOW = 1_767_225_600_000_000
SPAN = 3
"""Rows of the request that `filled` logs as a span, between one of two applicants and one that was refused."""


@pytest.fixture
def features(scorer: Scorer, applicants: Callable[..., list[dict[str, Any]]]) -> NDArray[np.float64]:
    """Encoded rows of distinct applicants."""
    encoder = Encoder(scorer.contract)
    return np.array([encoder.encode(row) for row in applicants(2 + SPAN)])


def filled(scorer: Scorer, features: NDArray[np.float64]) -> Page:
    page = Page(scorer.width)
    two = [Record("two", 0, 70, 0.25, -1.5, 600, 1, (4, 2)), Record("two", 1, 70, 0.5, 0.5, 500, 2, (0, 1, 2, 3))]
    page.add(features[:2], two, NOW)
    page.add(features[2:], Span("many", 7, 90, scorer.columns(scorer.blocks.run(features[2:]))), NOW + 1)
    page.add(np.full((1, scorer.width), np.nan), [Record("é", 0, 5, error="422: süß")], NOW + 2)
    return page


def ids(rows: Rows) -> list[str]:
    ends = np.cumsum(rows.facts["id_bytes"]).tolist()
    return [bytes(rows.ids[end - size : end]).decode() for end, size in zip(ends, rows.facts["id_bytes"], strict=True)]


def test_rows_come_out_as_they_went_in(scorer: Scorer, features: NDArray[np.float64]) -> None:
    page = filled(scorer, features)
    rows = page.rows
    assert page.room == PAGE_ROWS - 6
    assert ids(rows) == ["two", "two", "many", "many", "many", "é"]
    assert rows.errors == {5: "422: süß".encode()}
    assert np.array_equal(rows.features[:5], features, equal_nan=True)
    assert rows.facts["row"].tolist() == [0, 1, 7, 8, 9, 0]
    assert rows.facts["latency_us"].tolist() == [70, 70, 90, 90, 90, 5]
    assert rows.facts["time"].tolist() == [NOW, NOW, NOW + 1, NOW + 1, NOW + 1, NOW + 2]
    assert rows.facts["reasons"][:2].tolist() == [[4, 2, -1, -1], [0, 1, 2, 3]]
    verdicts = scorer.columns(scorer.blocks.run(features[2:]))
    for name, (first, second) in {
        "probability": (0.25, 0.5), "log_odds": (-1.5, 0.5), "points": (600, 500), "decision": (1, 2)
    }.items():  # fmt: skip
        assert rows.facts[name][:5].tolist() == [first, second, *getattr(verdicts, name).tolist()]
    assert rows.facts["decision"][5] == -1
    assert np.isnan(rows.facts["probability"][5])


def test_some_rows_of_a_page_keep_what_belongs_to_them(scorer: Scorer, features: NDArray[np.float64]) -> None:
    rows = filled(scorer, features).rows.take(np.array([0, 3, 5]))
    assert ids(rows) == ["two", "many", "é"]
    assert rows.errors == {2: "422: süß".encode()}
    assert np.array_equal(rows.features[:2], features[[0, 3]], equal_nan=True)
    assert rows.facts["row"].tolist() == [0, 8, 0]


def test_a_row_that_waits_takes_no_objects_of_its_own(scorer: Scorer, features: NDArray[np.float64]) -> None:
    page = Page(scorer.width)
    tracemalloc.start()
    try:
        for number in range(PAGE_ROWS):
            page.add(features[:1], [Record(f"0123456789-{number:09}", 0, 700 + number, 0.1, -2.2, 600, 1, (1, 2))], NOW)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert page.room == 0
    assert taken < PAGE_ROWS * 30, "the 20 bytes of its request id, and what an array grows ahead"


def test_a_page_serves_again_once_its_rows_are_copied_and_is_given_back_when_parts_are_closed(
    scorer: Scorer, features: NDArray[np.float64], tmp_path: Path
) -> None:
    log = ScoringLog(LogSettings(tmp_path.as_uri()), scorer.contract, scorer.identity)  # its writers are not started
    rows = np.resize(features, (PAGE_ROWS, scorer.width))
    span = Span("bulk", 0, 5, scorer.columns(scorer.blocks.run(rows)))
    pages = set()
    for _ in range(3 * SPARE_PAGES):
        pages.add(id(log._page))
        log.add_span(rows, span)
        log._hand_over()
        log._take(log._queue.get())
    assert len(pages) == 2, "one that is filled, one that is written"
    mapping = weakref.ref(log._spare[0]._packed)
    log.flush()
    log._take(log._queue.get())
    log._close_what_is_due()
    assert mapping() is None
    assert log.statistics()[:2] == (0, 3 * SPARE_PAGES * PAGE_ROWS)


def test_only_so_many_empty_pages_are_kept(scorer: Scorer, features: NDArray[np.float64]) -> None:
    log = ScoringLog(LogSettings("file:///nowhere"), scorer.contract, scorer.identity)
    rows = np.resize(features, (2 * SPARE_PAGES * PAGE_ROWS, scorer.width))
    log.add_span(rows, Span("bulk", 0, 5, scorer.columns(scorer.blocks.run(rows))))
    log._hand_over()
    for _ in range(2 * SPARE_PAGES):
        log._take(log._queue.get())
    assert len(log._spare) == SPARE_PAGES


def test_rows_are_counted_against_the_reference_when_time_is_up_and_not_whenever_a_part_is_full(
    scorer: Scorer, features: NDArray[np.float64], tmp_path: Path
) -> None:
    log = ScoringLog(LogSettings(tmp_path.as_uri(), rows=PAGE_ROWS), scorer.contract, scorer.identity)
    rows = np.resize(features, (PAGE_ROWS, scorer.width))
    log.add_span(rows, Span("bulk", 0, 5, scorer.columns(scorer.blocks.run(rows))))
    log.flush()
    log._take(log._queue.get())
    log._close_what_is_due()
    assert log.statistics()[1] == PAGE_ROWS
    assert log.window.psi()[0] == 0
    log._take(log._queue.get())
    log._close_what_is_due()
    assert log.window.psi()[0] == PAGE_ROWS
