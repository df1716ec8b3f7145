"""Time a PyTorch model against its ONNX graph under ONNX Runtime on this CPU.

Blocks of calls alternate between the two, with the same real rows, pinned threads and fresh instances each round. The
speedup is PyTorch's time over ONNX Runtime's, with a 95 % bootstrap interval that holds for all batch sizes together.

Exit codes: 0 measured (with --fail-on-breach: and fast enough), 1 breach, 2 could not measure.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence

from tqdm import tqdm

from creditmodel_bundle import measurement
from creditmodel_training.benchmark.measure import BenchmarkResult, Settings, benchmark, breaches, document
from creditmodel_training.benchmark.report import as_json, as_text
from creditmodel_training.benchmark.timing import Round
from creditmodel_training.cli.shared import BREACH, MEASURED, add_subject, at_least, measured, tool
from creditmodel_training.subject import Subject

__all__ = ["main"]

PROG = "creditmodel-benchmark"
MAX_BATCH_SIZES = 8
MAX_BATCH = 65_536


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.fail_on_breach and arguments.min_speedup is None:
        parser.error("--fail-on-breach needs --min-speedup, the limit to judge by")
    settings = Settings(
        batch_sizes=arguments.batch_sizes,
        rounds=arguments.rounds,
        threads=arguments.threads,
        budget=arguments.budget,
        seed=arguments.seed,
        self_check=arguments.self_check,
    )

    def work(subject: Subject) -> tuple[int, measurement.Benchmark | None]:
        result = benchmark(subject, settings, _progress)
        _print(result, subject, arguments.min_speedup, arguments.json)
        failed = arguments.fail_on_breach and breaches(result, arguments.min_speedup)
        written = document(result, subject.digest, tool(PROG)) if subject.digest else None
        return BREACH if failed else MEASURED, written

    return measured("benchmark", parser, arguments, work)


def _progress(rounds: Iterable[Round], label: str, total: int) -> Iterable[Round]:
    """A bar at a terminal, on standard error; nothing elsewhere."""
    return tqdm(rounds, desc=label, total=total, unit="round", leave=False, disable=not sys.stderr.isatty())


def _print(result: BenchmarkResult, subject: Subject, min_speedup: float | None, as_document: bool) -> None:
    if as_document:
        print(json.dumps({"digest": subject.digest, **as_json(result, min_speedup)}, allow_nan=False))
    else:
        print(as_text(result, min_speedup))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_subject(parser)
    defaults = Settings()
    sizes = ",".join(map(str, defaults.batch_sizes))
    measuring = parser.add_argument_group("measuring")
    measuring.add_argument(
        "--batch-sizes", type=_batch_sizes, default=defaults.batch_sizes, metavar="N,N", help=f"default: {sizes}"
    )
    measuring.add_argument("--rounds", type=at_least(5), default=defaults.rounds, metavar="N", help="default: 30")
    measuring.add_argument("--threads", type=at_least(1), default=1, metavar="N", help="of either side (default: 1)")
    measuring.add_argument(
        "--budget", type=_positive, default=defaults.budget, metavar="SECONDS", help="for all together (default: 10)"
    )
    measuring.add_argument("--seed", type=at_least(0), default=0, help="of rows and order (default: 0)")
    measuring.add_argument("--self-check", action="store_true", help="also time the graph against itself: the noise")
    judging = parser.add_argument_group("judging")
    judging.add_argument("--min-speedup", type=_positive, metavar="X", help="the least speedup at every batch size")
    judging.add_argument("--fail-on-breach", action="store_true", help="exit with 1 unless each interval is above it")
    return parser


def _batch_sizes(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= MAX_BATCH for part in parts):
        raise argparse.ArgumentTypeError(
            f"{text!r}: batch sizes are integers from 1 to {MAX_BATCH}, with commas between"
        )
    sizes = tuple(sorted({int(part) for part in parts}))
    if len(sizes) > MAX_BATCH_SIZES:
        raise argparse.ArgumentTypeError(f"{text!r}: at most {MAX_BATCH_SIZES} batch sizes")
    return sizes


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value
