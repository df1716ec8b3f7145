"""What creditmodel-parity and creditmodel-benchmark share: naming the models, writing the measurement, failing well."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from creditmodel_bundle.errors import BundleError, MeasurementError
from creditmodel_bundle.manifest import is_digest
from creditmodel_bundle.measurement import Benchmark, Failure, FailureDetail, Parity, dump
from creditmodel_bundle.storage import write_file
from creditmodel_training.parity.rows import ReferenceUnreadable
from creditmodel_training.runners import ModelError
from creditmodel_training.subject import Subject, opened_bundle, opened_files

__all__ = ["BREACH", "FAILED", "MEASURED", "add_subject", "at_least", "measured", "tool"]

MEASURED, BREACH, FAILED = 0, 1, 2


def tool(command: str) -> str:
    """The command and its version, as a measurement names them."""
    return f"{command} {version('creditmodel-training')}"


def at_least(minimum: int) -> Callable[[str], int]:
    """An argparse type: an integer from `minimum` on."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is no integer from {minimum} on")
        return int(text)

    return parse


def add_subject(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say what is measured and where the measurement goes."""
    bundle = parser.add_argument_group("a bundle")
    bundle.add_argument("--bundle", metavar="URI", help="file://, http(s)://, s3://, gs:// or a local directory")
    bundle.add_argument("--digest", metavar="sha256:…", help="refuse any other model")
    files = parser.add_argument_group("or two files")
    files.add_argument("--pytorch", type=Path, metavar="FILE", help="model.pt (or a graph, to compare two of a kind)")
    files.add_argument("--onnx", type=Path, metavar="FILE", help="model.onnx (or a model.pt)")
    files.add_argument(
        "--contract", type=Path, metavar="FILE", help="contract.json (without it: rows of random numbers)"
    )
    files.add_argument("--reference", type=Path, metavar="FILE", help="reference.parquet: real rows")
    parser.add_argument("--measurement", type=Path, metavar="PATH", help="write the measurement here (needs --bundle)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")


def measured(
    kind: Literal["parity", "benchmark"],
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    work: Callable[[Subject], tuple[int, Parity | Benchmark | None]],
) -> int:
    """Open the subject, do the work, write what came of it. Returns the exit code.

    Whatever goes wrong, the measurement says so: a Job must never leave its operator guessing.
    """
    opened = _opened(parser, arguments)
    try:
        with opened as subject:
            code, document = work(subject)
            if arguments.measurement is not None and document is not None:
                write_file(arguments.measurement, dump(document))
            return code
    except (BundleError, ModelError, ReferenceUnreadable) as e:
        return _failed(kind, parser, arguments, e.reason, str(e))
    except (OSError, MemoryError, MeasurementError) as e:
        return _failed(kind, parser, arguments, type(e).__name__, str(e) or type(e).__name__)
    except Exception as e:  # noqa: BLE001 - a defect of ours: the operator is told, and the log has the traceback
        traceback.print_exc()
        return _failed(kind, parser, arguments, "InternalError", f"{type(e).__name__}: {e}")


def _opened(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> AbstractContextManager[Subject]:
    files = (arguments.pytorch, arguments.onnx, arguments.contract, arguments.reference)
    if arguments.bundle is not None:
        if any(file is not None for file in files):
            parser.error("--bundle holds both models; leave out --pytorch, --onnx, --contract and --reference")
        return opened_bundle(arguments.bundle, arguments.digest)
    if arguments.pytorch is None or arguments.onnx is None:
        parser.error("say what to measure: --bundle URI, or --pytorch FILE and --onnx FILE")
    if arguments.measurement is not None or arguments.digest is not None:
        parser.error("--measurement and --digest need --bundle, whose digest they are about; use --json for two files")
    return opened_files(*files)


def _failed(
    kind: Literal["parity", "benchmark"],
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    reason: str,
    message: str,
) -> int:
    print(f"{parser.prog}: {reason}: {message}", file=sys.stderr)
    if arguments.measurement is not None:
        detail = FailureDetail(reason=reason, message=message)
        failure = Failure(tool=tool(parser.prog), kind=kind, digest=_digest(arguments), error=detail)
        try:
            write_file(arguments.measurement, dump(failure))
        except OSError as e:
            print(f"{parser.prog}: the measurement cannot be written to {arguments.measurement}: {e}", file=sys.stderr)
    return FAILED


def _digest(arguments: argparse.Namespace) -> str | None:
    """The digest that was asked for, where it is one; a failure must not fail over a malformed digest."""
    digest: str | None = arguments.digest
    return digest if digest is not None and is_digest(digest) else None
