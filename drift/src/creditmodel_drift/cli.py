"""creditmodel-drift: compare current applicants with those that the model was built on.

With a bundle the comparison uses the bins that training froze; alone, it freezes the bins of a reference file.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.errors import BundleError
from creditmodel_bundle.manifest import CONTRACT, REFERENCE, is_digest
from creditmodel_bundle.measurement import Drift, Failure, FailureDetail, dump
from creditmodel_bundle.storage import fetch, write_file
from creditmodel_drift.baseline import from_contract
from creditmodel_drift.check import check
from creditmodel_drift.duck import MEMORY_LIMIT, Duck, duck
from creditmodel_drift.engine import ENGINES, Engine
from creditmodel_drift.errors import BadInput, DriftError, ReportFailed, transport_errors
from creditmodel_drift.freeze import freeze
from creditmodel_drift.insights import look_closer
from creditmodel_drift.measure import measurement
from creditmodel_drift.parts import find, survey
from creditmodel_drift.publish import Destinations, clean_up, publish
from creditmodel_drift.quality import Realised, matured, realised
from creditmodel_drift.reference import Reference
from creditmodel_drift.terminal import render
from creditmodel_drift.verdict import Settings
from creditmodel_drift.window import Period, parse_duration, parse_time, period

__all__ = ["main"]

TOOL = f"creditmodel-drift {version('creditmodel-drift')}"
SAMPLE_ROWS = 50_000
MAX_SAMPLE_ROWS = 200_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 measured, 1 drift with --fail-on-drift, 2 could not measure."""
    arguments = _parser().parse_args(argv)
    try:
        measured = _run(arguments, datetime.now(UTC))
        return 1 if arguments.fail_on_drift and measured.verdict == "drift" else 0
    except ReportFailed as e:
        return _complain(e.reason, str(e))
    except (DriftError, BundleError) as e:
        return _fail(arguments, e.reason, str(e))
    except transport_errors(MemoryError) as e:
        return _fail(arguments, "CouldNotMeasure", f"{type(e).__name__}: {e}")


def _run(arguments: argparse.Namespace, now: datetime) -> Drift:
    """Check, report, measure. Raises ReportFailed after the measurement was written, other DriftErrors before."""
    settings = _settings(arguments)
    wanted = _period(arguments, now)
    destinations = Destinations(
        arguments.html, arguments.json, arguments.sample_rows, arguments.seed, arguments.keep_reports
    )
    uris = destinations.uris
    with tempfile.TemporaryDirectory(prefix="creditmodel-drift-") as fetched, duck(arguments.memory) as local:
        reference = _reference(arguments, local, Path(fetched))
        engine = _engine(arguments, local)
        checked = check(engine, reference.baseline, arguments.current, settings, wanted, arguments.revision)
        outcomes = _realised(arguments, engine, reference, wanted or Period(None, now))
        insights = look_closer(checked, reference, outcomes, arguments.revision, reported=bool(uris))
        measured = measurement(checked, TOOL, reference.digest, uris, insights)
        try:
            if uris:
                publish(destinations, checked, measured, reference, insights, now)
        except ReportFailed as e:
            _write_measurement(arguments, measurement(checked, TOOL, reference.digest, {}, insights, problem=str(e)))
            _say(render(checked, insights, {}))
            raise
    _write_measurement(arguments, measured)
    _say(render(checked, insights, uris))
    if destinations.keep is not None:
        for problem in clean_up(destinations, reference.baseline):
            print(f"creditmodel-drift: {problem}", file=sys.stderr)
    return measured


def _reference(arguments: argparse.Namespace, engine: Duck, directory: Path) -> Reference:
    if arguments.reference is not None:
        return freeze(engine, arguments.reference, arguments.seed)
    bundle = fetch(arguments.bundle, directory, arguments.digest)
    # From here on a failure, too, can say which model it is of.
    arguments.digest = bundle.digest
    baseline = from_contract(Contract.read(bundle.path(CONTRACT)))
    uri = str(bundle.path(REFERENCE))
    return Reference(baseline, survey(uri, *find(uri), baseline, {}), engine, bundle.digest)


def _engine(arguments: argparse.Namespace, local: Duck) -> Engine:
    """Where the current data is counted. Spark is imported when it is asked for and at no other time."""
    if arguments.engine == "duckdb":
        return local
    try:
        from creditmodel_drift.spark import Spark
    except ModuleNotFoundError as e:
        raise BadInput(f"--engine spark needs the extra creditmodel-drift[spark]: {e}") from e
    return Spark()


def _realised(arguments: argparse.Namespace, engine: Engine, reference: Reference, wanted: Period) -> Realised | None:
    if arguments.labels is None:
        return None
    length = None if arguments.labels_window is None else parse_duration(arguments.labels_window)
    old = matured(timedelta(days=arguments.maturity_days), wanted, length)
    return realised(engine, reference.baseline, arguments.current, arguments.labels, old, arguments.revision)


def _period(arguments: argparse.Namespace, now: datetime) -> Period | None:
    length = None if arguments.window is None else parse_duration(arguments.window)
    return period(length, None if arguments.until is None else parse_time(arguments.until), now)


def _settings(arguments: argparse.Namespace) -> Settings:
    limits = (
        ("--psi", arguments.psi, 0, 100),
        ("--alarm-psi", arguments.alarm_psi, 0, 100),
        ("--alpha", arguments.alpha, 1e-9, 0.5),
        ("--max-drifted-share", arguments.max_drifted_share, 0, 1),
        ("--min-rows", arguments.min_rows or 1, 1, 1 << 40),
        ("--maturity-days", arguments.maturity_days, 0, 36_500),
        ("--sample-rows", arguments.sample_rows, 1, MAX_SAMPLE_ROWS),
        ("--keep-reports", 1 if arguments.keep_reports is None else arguments.keep_reports, 1, 10_000),
    )
    for option, value, low, high in limits:
        if not low <= value <= high:
            raise BadInput(f"{option} is {value:g}; it lies between {low:g} and {high:g}")
    return Settings(
        psi=arguments.psi,
        alarm_psi=arguments.alarm_psi,
        alpha=arguments.alpha,
        max_drifted_share=arguments.max_drifted_share,
        min_rows=arguments.min_rows,
    )


def _say(text: str) -> None:
    """Print to whoever still reads: a pager that was closed takes nothing back of what was measured."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The interpreter flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(arguments: argparse.Namespace, reason: str, message: str) -> int:
    detail = FailureDetail(reason=reason, message=message)
    try:
        _write_measurement(arguments, Failure(tool=TOOL, kind="drift", digest=_known_digest(arguments), error=detail))
    except OSError as e:
        print(f"creditmodel-drift: the measurement cannot be written to {arguments.measurement}: {e}", file=sys.stderr)
    return _complain(reason, message)


def _known_digest(arguments: argparse.Namespace) -> str | None:
    """The digest that was asked for or fetched, where it is one; none without a bundle."""
    digest = arguments.digest if arguments.bundle is not None else None
    return digest if digest is not None and is_digest(digest) else None


def _complain(reason: str, message: str) -> int:
    print(f"creditmodel-drift: {reason}: {message}", file=sys.stderr)
    return 2


def _write_measurement(arguments: argparse.Namespace, measured: Drift | Failure) -> None:
    if arguments.measurement is not None:
        write_file(arguments.measurement, dump(measured))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="creditmodel-drift", description=__doc__)
    against = parser.add_argument_group("what to compare with").add_mutually_exclusive_group(required=True)
    against.add_argument("--bundle", metavar="URI", help="model bundle: file://, http(s)://, s3://, gs:// or a path")
    against.add_argument(
        "--reference", metavar="FILE", help="reference table alone, Parquet or CSV; bins are frozen from it"
    )
    current = parser.add_argument_group("current data")
    current.add_argument(
        "--current", metavar="URI", required=True, help="scoring log, Parquet or CSV; a file, directory or glob"
    )
    current.add_argument("--window", metavar="24h", help="length of time to look at; everything when left out")
    current.add_argument("--until", metavar="TIME", help="end of the window, ISO 8601; now when left out")
    current.add_argument("--revision", help="only rows that this revision scored")
    current.add_argument("--labels", metavar="URI", help="outcomes by _request_id and _row, for realised quality")
    current.add_argument("--maturity-days", type=int, default=0, help="age of a score at which its outcome is known")
    current.add_argument(
        "--labels-window", metavar="90d", help="length of time before that to take scores from; all when left out"
    )
    judging = parser.add_argument_group("judging")
    judging.add_argument(
        "--psi", type=float, default=Settings().psi, help="PSI over which a feature has drifted (%(default)s)"
    )
    judging.add_argument(
        "--alarm-psi",
        type=float,
        default=Settings().alarm_psi,
        help="PSI of a feature or the score over which the data set has drifted (%(default)s)",
    )
    judging.add_argument(
        "--alpha", type=float, default=Settings().alpha, help="probability of any false alarm (%(default)s)"
    )
    judging.add_argument(
        "--max-drifted-share",
        type=float,
        default=Settings().max_drifted_share,
        help="share of drifted features over which the data set has drifted (%(default)s)",
    )
    judging.add_argument("--min-rows", type=int, help="rows that a verdict needs; computed when left out")
    judging.add_argument("--fail-on-drift", action="store_true", help="exit with 1 when the verdict is drift")
    output = parser.add_argument_group("output")
    output.add_argument("--html", metavar="URI", help="write the report's page here")
    output.add_argument("--json", metavar="URI", help="write the report's document here")
    output.add_argument(
        "--keep-reports",
        type=int,
        metavar="N",
        help="remove this model's older reports beside the new ones but for the last N checks'; all stay when left out",
    )
    output.add_argument("--measurement", type=Path, metavar="PATH", help="write the measurement here as JSON")
    output.add_argument(
        "--sample-rows", type=int, default=SAMPLE_ROWS, help="rows of each table for Evidently (%(default)s)"
    )
    parser.add_argument("--digest", help="refuse any other bundle than sha256:…")
    parser.add_argument("--seed", type=int, default=0, help="seed of every sample (%(default)s)")
    parser.add_argument("--memory", default=MEMORY_LIMIT, help="memory for counting, DuckDB's (%(default)s)")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="duckdb",
        help="where to count: in this process, or on the Spark that its own configuration names (%(default)s)",
    )
    parser.add_argument("--version", action="version", version=TOOL)
    return parser
