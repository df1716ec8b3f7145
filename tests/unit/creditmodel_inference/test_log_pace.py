"""Bulk waits for the scoring log's writer, and never for its sink."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from creditmodel_bundle.encoder import Encoder
from creditmodel_inference.intake import Intake
from creditmodel_inference.meter import Meter
from creditmodel_inference.scorer import Scorer
from creditmodel_inference.scoring_log import BEHIND_PAGES, PAGE_ROWS, ScoringLog
from creditmodel_inference.service import LOG_SECONDS, PART_ROWS, Service
from creditmodel_inference.settings import LogSettings

Row = dict[str, Any]


def pauses(scorer: Scorer, log: ScoringLog | None, applicants: list[Row]) -> list[float]:
    """The pauses of one request of many pages of rows."""
    encoder, meter = Encoder(scorer.contract), Meter()
    meter.serve(scorer.contract, scorer.identity)
    service = Service(scorer, Intake(scorer.contract, 1), meter, log, lambda _: None)
    rows = np.resize([encoder.encode(row) for row in applicants], (2 * BEHIND_PAGES * PAGE_ROWS, scorer.width))
    return list(service.infer(rows, "bulk", 0.0))


def test_bulk_pauses_once_the_log_is_behind(scorer: Scorer, applicants: Callable[..., list[Row]]) -> None:
    log = ScoringLog(LogSettings("file:///nowhere"), scorer.contract, scorer.identity)  # its writer is not started
    found = pauses(scorer, log, applicants(64))
    free = BEHIND_PAGES * PAGE_ROWS // PART_ROWS
    assert set(found[:free]) == {0.0}
    assert set(found[free + 4 :]) == {LOG_SECONDS}


def test_bulk_does_not_pause_for_a_slow_sink_or_without_a_log(
    scorer: Scorer, applicants: Callable[..., list[Row]]
) -> None:
    log = ScoringLog(LogSettings("file:///nowhere"), scorer.contract, scorer.identity)
    log._at_sink = True
    for given in (log, None):
        assert set(pauses(scorer, given, applicants(64))) == {0.0}
