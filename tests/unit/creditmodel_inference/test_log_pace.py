"""Bulk waits for the scoring log's writer, and never for its sink."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from creditmodel_bundle.encoder import Encoder
from creditmodel_inference.intake import Intake
from creditmodel_inference.meter import Meter
from creditmodel_inference.pages import PAGE_ROWS, Span
from creditmodel_inference.scorer import Scorer
from creditmodel_inference.scoring_log import (
    BEHIND_PAGES,
    CALM_PAGES,
    URGENT_PAGES,
    ScoringLog,
    _Flush,
)
from creditmodel_inference.service import LOG_SECONDS, PART_ROWS, Service
from creditmodel_inference.settings import LogSettings
from creditmodel_inference.steps import in_turns

Row = dict[str, Any]


def service_of(scorer: Scorer, log: ScoringLog | None) -> Service:
    meter = Meter()
    meter.serve(scorer.contract, scorer.identity)
    return Service(scorer, Intake(scorer.contract, 1), meter, log, lambda _: None)


def bulk(scorer: Scorer, applicants: list[Row]) -> NDArray[np.float64]:
    """Rows for twice the pages from which on the log is behind."""
    encoder = Encoder(scorer.contract)
    return np.resize([encoder.encode(row) for row in applicants], (2 * BEHIND_PAGES * PAGE_ROWS, scorer.width))


def pauses(scorer: Scorer, log: ScoringLog | None, applicants: list[Row]) -> list[float]:
    return list(service_of(scorer, log).infer(bulk(scorer, applicants), "bulk", 0.0))


def test_bulk_pauses_while_the_log_is_behind_but_not_for_ever(
    scorer: Scorer, applicants: Callable[..., list[Row]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("creditmodel_inference.service.MAX_LOG_PAUSES", 3)
    log = ScoringLog(LogSettings("file:///nowhere"), scorer.contract, scorer.identity)  # its writer is not started
    found = pauses(scorer, log, applicants(64))
    free = BEHIND_PAGES * PAGE_ROWS // PART_ROWS
    assert set(found[:free]) == {0.0}
    assert found[-4:] == [0.0, LOG_SECONDS, LOG_SECONDS, LOG_SECONDS]


def test_bulk_does_not_pause_for_a_slow_sink_or_without_a_log(
    scorer: Scorer, applicants: Callable[..., list[Row]]
) -> None:
    log = ScoringLog(LogSettings("file:///nowhere"), scorer.contract, scorer.identity)
    log._at_sink = True
    for given in (log, None):
        assert set(pauses(scorer, given, applicants(64))) == {0.0}


def test_bulk_from_several_clients_at_once_loses_no_row_of_the_log(
    scorer: Scorer, applicants: Callable[..., list[Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("creditmodel_inference.scoring_log.MAX_PAGES", 2 * BEHIND_PAGES)
    monkeypatch.setattr("creditmodel_inference.scoring_log.CLOSE_SECONDS", 120)
    # However little of a busy machine the writer gets.
    monkeypatch.setattr("creditmodel_inference.service.MAX_LOG_PAUSES", 100_000)
    log = ScoringLog(LogSettings(tmp_path.as_uri()), scorer.contract, scorer.identity)
    log.start()
    service, rows = service_of(scorer, log), bulk(scorer, applicants(64))

    async def clients() -> None:
        await asyncio.gather(*(in_turns(service.infer(rows, f"bulk-{i}", 0.0)) for i in range(4)))

    asyncio.run(clients())
    log.close()
    assert log.statistics() == (0, 4 * len(rows), 0, 0)


def test_rows_that_pile_up_are_written_by_a_thread_with_a_share_of_its_own(
    scorer: Scorer, applicants: Callable[..., list[Row]], tmp_path: Path
) -> None:
    log = ScoringLog(LogSettings(tmp_path.as_uri()), scorer.contract, scorer.identity)
    log._urgent.start()  # the patient one, which gets nothing of a busy processor, is not started
    rows = bulk(scorer, applicants(64))[:PAGE_ROWS]
    verdicts = scorer.columns(scorer.blocks.run(rows))
    for _ in range(URGENT_PAGES + 1):
        log.add_span(rows, Span("bulk", 0, 5, verdicts))
    assert log._waiting_pages == URGENT_PAGES
    assert log._calm.is_set()
    for _ in range(2):
        log.add_span(rows, Span("bulk", 0, 5, verdicts))
    assert log._calm.wait(60)
    assert CALM_PAGES <= log._waiting_pages <= CALM_PAGES + 1
    log._patient.start()
    log.close()
    assert log.statistics() == (0, (URGENT_PAGES + 3) * PAGE_ROWS, 0, 0)


def test_a_part_is_closed_by_the_thread_with_a_share_of_its_own(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    monkeypatch.setattr(
        "creditmodel_inference.scoring_log.write_bytes", lambda *_: threads.append(threading.current_thread().name)
    )
    log = ScoringLog(LogSettings(tmp_path.as_uri(), rows=3), scorer.contract, scorer.identity)
    log.start()
    for number in range(2 * PAGE_ROWS):
        log.add_error(f"bad-{number}", 3, "422: no")
    log.flush()
    log.close()
    assert threads
    assert set(threads) == {log._urgent.name}
    assert log.statistics() == (0, 2 * PAGE_ROWS, 0, 0)
    log._patient.join(120)
    assert not log._patient.is_alive()


def test_a_log_that_closes_does_not_wait_for_what_a_busy_processor_leaves(
    scorer: Scorer, applicants: Callable[..., list[Row]], tmp_path: Path
) -> None:
    log = ScoringLog(LogSettings(tmp_path.as_uri()), scorer.contract, scorer.identity)
    log._urgent.start()  # the patient one gets nothing
    rows = bulk(scorer, applicants(64))[: 2 * PAGE_ROWS]
    log.add_span(rows, Span("bulk", 0, 5, scorer.columns(scorer.blocks.run(rows))))
    log.close()
    assert log.statistics() == (0, 2 * PAGE_ROWS, 0, 0)


class HandedOver:
    """The writers' lock, of which the patient writer gets hold as soon as the urgent one lets go, and meets the end."""

    def __init__(self, log: ScoringLog) -> None:
        self.log, self.free = log, False

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        if not self.free:
            self.free = True
            self.log._take(_Flush(last=True))
            self.log._call_for_help()


def test_a_call_for_help_is_heard_while_the_last_one_is_being_answered(scorer: Scorer, tmp_path: Path) -> None:
    log = ScoringLog(LogSettings(tmp_path.as_uri()), scorer.contract, scorer.identity)
    log._writing = HandedOver(log)  # type: ignore[assignment]
    log._call_for_help()
    log._urgent.start()
    log._urgent.join(60)
    assert not log._urgent.is_alive()
