"""Where the time of a request goes: `python stages.py BUNDLE` times each stage alone, in this process.

Processor time of one thread, the median of many turns. What HTTP costs is the constant's figure in the bench.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from creditmodel_inference.batches import Batches
from creditmodel_inference.intake import Intake
from creditmodel_inference.meter import SCORE, Meter
from creditmodel_inference.pages import PAGE_ROWS, Page, Record, Span
from creditmodel_inference.scorer import Scorer, load
from creditmodel_inference.scoring_log import ScoringLog, prepare_writing
from creditmodel_inference.settings import LogSettings
from creditmodel_inference.steps import at_once
from creditmodel_inference.wire import Heads

ROWS = 10_000
PAGES = 32
"""Of a part."""
PART_BYTES = 256_000
"""What uvloop reads at once."""

Stages = dict[str, float]


def median_seconds(action: Callable[[], object], times: int) -> float:
    """Processor seconds of an action."""
    action()
    durations = []
    for _ in range(times):
        begun = time.thread_time()
        action()
        durations.append(time.thread_time() - begun)
    return statistics.median(durations)


def of_one(scorer: Scorer, applicant: object) -> Stages:
    """Microseconds of one request with one applicant, on the event loop's thread."""
    body = json.dumps({"applicants": [applicant]}).encode()
    intake, meter, heads = Intake(scorer.contract, ROWS), Meter(), Heads(scorer.identity)
    meter.serve(scorer.contract, scorer.identity)
    log = ScoringLog(LogSettings("file:///nowhere"), scorer.contract, scorer.identity)
    rows = np.array(intake.read(body).rows)
    outputs = scorer.blocks.run(rows)
    numbers = float(outputs.probability[0]), float(outputs.log_odds[0]), outputs.contributions[0].tolist()
    verdict = scorer.answers.verdict(*numbers)

    record = Record(
        "0123456789abcdef0123-00000001", 0, 100, *numbers[:2], verdict.points, verdict.decision, verdict.reasons
    )

    def count() -> None:
        meter.requests[SCORE, 200] += 1
        meter.score_latency.observe(0.0001)
        meter.verdicts([verdict])

    stages = {
        "read the JSON, check the contract": lambda: intake.read(body),
        "ONNX Runtime": lambda: scorer.blocks.run_small(rows, 1),
        "points, decision, reasons, their JSON": lambda: scorer.answers.verdict(*numbers),
        "head and body": lambda: heads.ok([], b"id", len(scorer.answers.body(b"id", [verdict.json])), close=False),
        "metrics": count,
        "hand over to the scoring log": lambda: log.add(rows, [record]),
    }
    return {name: median_seconds(stage, 3_000) * 1e6 for name, stage in stages.items()}


def read(batches: Batches, body: bytes) -> NDArray[np.float64]:
    """The rows of a body that comes in parts."""
    reader = batches.reader()
    for start in range(0, len(body), PART_BYTES):
        at_once(reader.add(body[start : start + PART_BYTES]))
    return np.concatenate(at_once(reader.finish())[0])


def of_many(scorer: Scorer, applicants: list[object]) -> Stages:
    """Milliseconds of one request with ROWS applicants."""
    body = json.dumps({"applicants": applicants}).encode()
    batches = Batches(Intake(scorer.contract, ROWS))
    rows = read(batches, body)
    outputs = scorer.blocks.run(rows)
    columns = scorer.columns(outputs)
    sheet = scorer.sheets.sheet(columns, outputs)
    stages = {
        "read the JSON, check the contract": lambda: read(batches, body),
        "ONNX Runtime": lambda: scorer.blocks.run(rows),
        "points, decisions, reasons": lambda: scorer.columns(outputs),
        "JSON of the answer, its length": lambda: scorer.sheets.sheet(columns, outputs),
        "JSON of the answer": lambda: sheet.json(b""),
    }
    return {name: median_seconds(stage, 15) * 1e3 for name, stage in stages.items()}


def of_the_log(scorer: Scorer, applicants: list[object]) -> float:
    """Microseconds a row that the scoring log's thread takes for a part: columns, window, hash chain, Parquet."""
    prepare_writing()
    from creditmodel_inference.parts import Layout, PartBuilder
    from creditmodel_inference.window import FeatureWindow

    rows = read(Batches(Intake(scorer.contract, ROWS)), json.dumps({"applicants": applicants}).encode())
    window, layout = FeatureWindow(scorer.contract), Layout(scorer.contract, scorer.identity)

    def page() -> Page:
        made, part = Page(scorer.width), np.resize(rows, (PAGE_ROWS, scorer.width))
        span = Span("0123456789abcdef0123-00000001", 0, 100, scorer.columns(scorer.blocks.run(part)))
        made.add(part, span, time.time_ns() // 1_000)
        return made

    pages = [page() for _ in range(PAGES)]
    total = sum(made.used for made in pages)

    def write() -> None:
        builder = PartBuilder(layout)
        for made in pages:
            window.add(made.rows.features)
            builder.add(made.rows)
        builder.finish("0" * 16, 1, "0" * 64)

    return median_seconds(write, 9) / total * 1e6


def main() -> None:
    """Print the stages."""
    bundle = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        scorer = load(bundle.resolve().as_uri(), None, None, Path(directory))
    golden = [row["features"] for row in json.loads((bundle / "golden.json").read_bytes())["rows"]]
    many = [golden[i % len(golden)] for i in range(ROWS)]
    for title, stages, unit in (
        ("one applicant", of_one(scorer, golden[0]), "µs"),
        (f"{ROWS:,} applicants", of_many(scorer, many), "ms"),
        ("scoring log's thread", {"a row": of_the_log(scorer, many)}, "µs"),
    ):
        print(f"\nwhere the time goes: {title}")
        for name, value in stages.items():
            print(f"  {name:42}{value:9.2f} {unit}")


if __name__ == "__main__":
    main()
