"""The scoring of requests: alone, in company, and in bulk, all with the same bits.

Requests that the event loop reads in one turn share a call of the model: each is decoded where it arrives, and what
has gathered is scored when the turn ends. Nobody waits for company.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from creditmodel_inference.answers import Verdict
from creditmodel_inference.batches import Batches
from creditmodel_inference.blocks import Outputs
from creditmodel_inference.columns import Columns
from creditmodel_inference.errors import Denied, Problem, Unscorable
from creditmodel_inference.intake import Intake, Request
from creditmodel_inference.memory import give_back_memory
from creditmodel_inference.meter import SCORE, Meter
from creditmodel_inference.pages import Record, Span
from creditmodel_inference.scorer import Scorer
from creditmodel_inference.scoring_log import ScoringLog
from creditmodel_inference.sheets import Answer, Piece, Sheet
from creditmodel_inference.steps import Steps, Turns, at_once, in_turns
from creditmodel_inference.tensors import TensorReader
from creditmodel_inference.wire import RequestIds

__all__ = ["ReplyTo", "Service"]

logger = logging.getLogger(__name__)

Rows = NDArray[np.float64]

PART_ROWS = 512
"""Rows of a large request between two looks at other clients: half a millisecond. More are no faster, and lie in memory
as rows, columns and JSON at once."""

LOG_SECONDS = 0.001
MAX_LOG_PAUSES = 100
"""How long a large request waits after each part while the scoring log is behind, and how often at most: the log takes
the smaller share of the processor, so that single applicants need not wait for it, and this is how it keeps up with
bulk."""


LARGE_BYTES = 1024 * 1024
IDLE_SECONDS = 0.01
"""After a body of that size, and so long without another, the memory of what is over goes back to the system."""


class ReplyTo(Protocol):
    """A client that waits for an answer."""

    def scored(self, request_id: str, body: bytes) -> None:
        """Send a 200."""

    def failed(self, problem: Problem, request_id: str) -> None:
        """Send a problem."""


class _Waiting(msgspec.Struct, frozen=True, gc=False):
    client: ReplyTo
    request_id: str
    start: int
    stop: int
    arrived: float


class Service:
    """One model being served."""

    def __init__(
        self,
        scorer: Scorer,
        intake: Intake,
        meter: Meter,
        log: ScoringLog | None,
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self.scorer = scorer
        self.intake = intake
        self.batches = Batches(intake)
        self.tensors = TensorReader(scorer.contract, intake.max_rows)
        self.meter = meter
        self.request_ids = RequestIds()
        self._log = log
        self._call_soon = call_soon
        self._row = struct.Struct(f"{scorer.width}d")
        self._capacity = scorer.blocks.capacity
        self._gathered = np.zeros((self._capacity, scorer.width), np.float64)
        self._buffer = self._gathered.data.cast("B")
        self._waiting: list[_Waiting] = []
        self._filled = 0
        self._giving_back: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for the end of this turn."""
        return len(self._waiting)

    def submit(self, client: ReplyTo, body: bytes, given_id: str | None, arrived: float) -> None:
        """Decode a request now and answer it when the turn ends; a bad one is answered at once.

        `given_id` is the client's header, already checked; an id in the body comes before it.
        """
        try:
            request = self.intake.read(body)
        except Problem as problem:
            self.refuse(client, problem, given_id, arrived)
            return
        request_id = request.request_id or given_id or self.request_ids()
        if self._filled + len(request.rows) > self._capacity:
            self.flush()
        if len(request.rows) > self._capacity:
            self._answer_alone(client, request, request_id, arrived)
            return
        start = self._filled
        size = self._row.size
        for row in request.rows:
            self._row.pack_into(self._buffer, self._filled * size, *row)
            self._filled += 1
        if not self._waiting:
            self._call_soon(self.flush)
        self._waiting.append(_Waiting(client, request_id, start, self._filled, arrived))

    def refuse(self, client: ReplyTo, problem: Problem, given_id: str | None, arrived: float) -> None:
        """Answer a request that is not scored."""
        request_id = given_id or self.request_ids()
        client.failed(problem, request_id)
        self.note_problem(problem, request_id, arrived)

    def note_problem(self, problem: Problem, request_id: str, arrived: float) -> None:
        """Count and log a request to score that was answered with a problem."""
        seconds = time.perf_counter() - arrived
        self.meter.request(SCORE, problem.status, seconds)
        self.log_problem(problem, request_id, seconds)

    def log_problem(self, problem: Problem, request_id: str, seconds: float) -> None:
        """Log a request that was answered with a problem, and count its violations."""
        self.meter.refused(problem.errors)
        if self._log is not None and not isinstance(problem, Denied):
            self._log.add_error(request_id, round(seconds * 1e6), problem.summary())

    def flush(self) -> None:
        """Score and answer everything that waits."""
        waiting, self._waiting = self._waiting, []
        count, self._filled = self._filled, 0
        if not waiting:
            return
        try:
            self._answer(waiting, count)
        except Exception:  # whatever it was, each client gets an answer and the next turn goes on
            logger.exception("scoring failed for %d requests", len(waiting))
            for item in waiting:
                item.client.failed(Unscorable("The server could not score this request."), item.request_id)

    def _answer(self, waiting: list[_Waiting], count: int) -> None:
        meter, answers = self.meter, self.scorer.answers
        outputs = self.scorer.blocks.run_small(self._gathered, count)
        meter.calls += 1
        probabilities = outputs.probability[:count].tolist()
        log_odds = outputs.log_odds[:count].tolist()
        contributions = outputs.contributions[:count].tolist()
        records: list[Record] = []
        for item in waiting:
            client, request_id, arrived = item.client, item.request_id, item.arrived
            try:
                verdicts = [
                    answers.verdict(probabilities[i], log_odds[i], contributions[i])
                    for i in range(item.start, item.stop)
                ]
            except Unscorable as problem:
                client.failed(problem, request_id)
                self._note_unscorable(request_id, item.stop - item.start, arrived, problem, records)
                continue
            client.scored(request_id, answers.body(request_id.encode(), [verdict.json for verdict in verdicts]))
            seconds = time.perf_counter() - arrived
            meter.requests[SCORE, 200] += 1
            meter.score_latency.observe(seconds)
            meter.verdicts(verdicts)
            if self._log is not None:
                records += _records(request_id, verdicts, round(seconds * 1e6))
        if self._log is not None:
            self._log.add(self._gathered[:count], records)

    def _note_unscorable(
        self, request_id: str, rows: int, arrived: float, problem: Unscorable, records: list[Record]
    ) -> None:
        seconds = time.perf_counter() - arrived
        self.meter.request(SCORE, problem.status, seconds)
        records += [Record(request_id, i, round(seconds * 1e6), error=problem.summary()) for i in range(rows)]

    def _answer_alone(self, client: ReplyTo, request: Request, request_id: str, arrived: float) -> None:
        """A request of more rows than gather, small enough in bytes to be answered in one go."""
        rows = np.array(request.rows, np.float64)
        try:
            sheets = at_once(self._sheets([rows], request_id, arrived))
        except Problem as problem:
            client.failed(problem, request_id)
            self.note_problem(problem, request_id, arrived)
            return
        client.scored(request_id, b"".join(self.scorer.sheets.answer(request_id, sheets).pieces))
        self.meter.request(SCORE, 200, time.perf_counter() - arrived)

    async def read(self, parts: AsyncIterator[bytes]) -> tuple[list[Rows], str | None]:
        """Rows [n, F], in several arrays, and the id that the body has, giving way to other clients now and then.

        Reads the parts as they come. Raises Problem, and what the parts raise.
        """
        reader, turns = self.batches.reader(), Turns()
        try:
            async for part in parts:
                await turns.take(reader.add(part))
                if reader.size >= LARGE_BYTES:
                    self._keep_memory()
            return await turns.take(reader.finish())
        finally:
            if reader.size >= LARGE_BYTES:
                self._give_back_soon()

    async def score(self, rows: list[Rows], request_id: str, arrived: float) -> Answer:
        """The response body, whose pieces are made when they are asked for. Empties `rows`. Raises Problem."""
        is_large = sum(map(len, rows)) > PART_ROWS
        if is_large:
            self._keep_memory()
        try:
            sheets = await in_turns(self._sheets(rows, request_id, arrived))
        finally:
            if is_large:
                self._give_back_soon()
        self.meter.request(SCORE, 200, time.perf_counter() - arrived)
        answer = self.scorer.sheets.answer(request_id, sheets)
        return Answer(answer.size, self._keeping_memory(answer.pieces)) if is_large else answer

    def _keeping_memory(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        try:
            for piece in pieces:
                self._keep_memory()
                yield piece
        finally:
            self._give_back_soon()

    def _keep_memory(self) -> None:
        """A large request is worked on: what it leaves behind is of use."""
        if self._giving_back is not None:
            self._giving_back.cancel()

    def _give_back_soon(self) -> None:
        """Give back the memory of large requests if none comes for a while."""
        self._keep_memory()
        self._giving_back = asyncio.get_running_loop().call_later(IDLE_SECONDS, give_back_memory)

    def _sheets(self, rows: list[Rows], request_id: str, arrived: float) -> Steps[list[Sheet]]:
        """The results, some rows at a time."""
        sheets: list[Sheet] = []
        for outputs, columns in self._in_parts(rows, request_id, arrived):
            sheets.append(self.scorer.sheets.sheet(columns, outputs))
            yield from self._pauses()
        return sheets

    def infer(
        self, rows: NDArray[np.float64], request_id: str, arrived: float
    ) -> Steps[tuple[Outputs, NDArray[np.int64]]]:
        """Outputs and score points of rows already encoded and checked. Raises Unscorable."""
        parts = []
        for part in self._in_parts([rows], request_id, arrived):
            parts.append(part)
            yield from self._pauses()
        outputs = Outputs(*(np.concatenate(arrays) for arrays in zip(*(made for made, _ in parts), strict=True)))
        return outputs, np.concatenate([columns.points for _, columns in parts])

    def _pauses(self) -> Iterator[float]:
        """One for other clients, and then as many as the scoring log needs to catch up."""
        yield 0.0
        for _ in range(MAX_LOG_PAUSES):
            if self._log is None or not self._log.is_behind:
                return
            yield LOG_SECONDS

    def _in_parts(self, rows: list[Rows], request_id: str, arrived: float) -> Iterator[tuple[Outputs, Columns]]:
        """Score some rows at a time; counted and logged as it goes."""
        scorer, log = self.scorer, self._log
        drawn = log is not None and log.draw()
        start = 0
        for part in _parts_of(rows):
            outputs = scorer.blocks.run(part)
            self.meter.calls += 1
            columns = scorer.columns(outputs)
            self.meter.columns(columns)
            if log is not None and drawn:
                latency = round((time.perf_counter() - arrived) * 1e6)
                log.add_span(part, Span(request_id, start, latency, columns))
            start += len(part)
            yield outputs, columns


def _parts_of(arrays: list[Rows]) -> Iterator[Rows]:
    """Rows in parts of PART_ROWS, the last one shorter. Each array is taken out of the list before it is divided."""
    rest = arrays.pop(0)
    while True:
        while len(rest) < PART_ROWS and arrays:
            rest = np.concatenate([rest, arrays.pop(0)])
        yield rest[:PART_ROWS]
        rest = rest[PART_ROWS:]
        if not len(rest) and not arrays:
            return


def _records(request_id: str, verdicts: list[Verdict], latency: int) -> list[Record]:
    return [
        Record(request_id, i, latency, v.probability, v.log_odds, v.points, v.decision, v.reasons)
        for i, v in enumerate(verdicts)
    ]
