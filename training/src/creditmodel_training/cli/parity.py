"""Compare a PyTorch model with its ONNX graph: is it the same model?

Scores reference rows and made ones (missing, extreme, unseen, beside every bin edge and cut-off) with both, in batches,
alone, in odd sizes and shuffled. It measures; with --fail-on-breach it judges too.

Exit codes: 0 measured (with --fail-on-breach: and within the limits), 1 breach, 2 could not measure.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence

from creditmodel_bundle import measurement
from creditmodel_training.cli.shared import BREACH, MEASURED, add_subject, at_least, measured, tool
from creditmodel_training.parity.compare import Tolerance
from creditmodel_training.parity.measure import Limits, ParityResult, breaches, document, measure
from creditmodel_training.parity.report import as_json, as_text
from creditmodel_training.runners import pinned_threads
from creditmodel_training.subject import Subject

__all__ = ["main"]

PROG = "creditmodel-parity"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    limits = Limits(Tolerance(arguments.rtol, arguments.atol), arguments.max_decision_flips)

    def work(subject: Subject) -> tuple[int, measurement.Parity | None]:
        with pinned_threads(1):
            result = measure(subject, arguments.rows, arguments.seed, limits.tolerance)
        _print(result, limits, subject, arguments.json)
        failed = arguments.fail_on_breach and breaches(result.comparison, limits)
        written = document(result, subject.digest, tool(PROG)) if subject.digest else None
        return BREACH if failed else MEASURED, written

    return measured("parity", parser, arguments, work)


def _print(result: ParityResult, limits: Limits, subject: Subject, as_document: bool) -> None:
    if as_document:
        print(json.dumps({"digest": subject.digest, **as_json(result, limits)}, allow_nan=False))
    else:
        print(as_text(result, limits))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_subject(parser)
    parser.add_argument("--rows", type=at_least(1), metavar="N", help="at most N reference rows (default: all)")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of samples and made rows (default: 0)")
    judging = parser.add_argument_group("judging")
    judging.add_argument("--fail-on-breach", action="store_true", help="exit with 1 when a limit is exceeded")
    judging.add_argument("--rtol", type=_tolerance, default=1e-5, help="relative tolerance (default: 1e-5)")
    judging.add_argument("--atol", type=_tolerance, default=1e-6, help="absolute tolerance (default: 1e-6)")
    judging.add_argument(
        "--max-decision-flips", type=at_least(0), default=0, metavar="N", help="decisions that may flip (default: 0)"
    )
    return parser


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no tolerance: a number from 0 on")
    return value
