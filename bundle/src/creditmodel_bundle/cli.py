"""creditmodel-bundle: verify a bundle, and say what it is."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.documents import Evaluation, Golden
from creditmodel_bundle.errors import BundleCorrupt, BundleError
from creditmodel_bundle.manifest import CONTRACT, EVALUATION, GOLDEN, is_digest
from creditmodel_bundle.measurement import Artifact, EvaluationSummary, Failure, FailureDetail, Measurement, dump
from creditmodel_bundle.storage import Bundle, fetch, write_file

__all__ = ["main"]

PROG = "creditmodel-bundle"
TOOL = f"{PROG} {version('creditmodel-bundle')}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 verified, 1 refused, 2 unreachable or bad input."""
    arguments = _parser().parse_args(argv)
    try:
        measurement = _verify(arguments.uri, arguments.digest)
        _write(arguments.measurement, measurement)
    except BundleError as e:
        return _refuse(arguments, e.reason, str(e), 1 if isinstance(e, BundleCorrupt) else 2)
    except OSError as e:
        return _refuse(arguments, type(e).__name__, str(e), 2)
    size = f"{measurement.files} files, {measurement.bytes} bytes"
    print(f"{measurement.name} {measurement.model_version}: {size}, verified")
    print(measurement.digest)
    return 0


def _refuse(arguments: argparse.Namespace, reason: str, message: str, code: int) -> int:
    print(f"{PROG}: {reason}: {message}", file=sys.stderr)
    digest = arguments.digest if arguments.digest and is_digest(arguments.digest) else None
    failure = Failure(tool=TOOL, kind="artifact", digest=digest, error=FailureDetail(reason=reason, message=message))
    try:
        _write(arguments.measurement, failure)
    except OSError as e:
        print(f"{PROG}: the measurement cannot be written to {arguments.measurement}: {e}", file=sys.stderr)
    return code


def _verify(uri: str, digest: str | None) -> Artifact:
    """Fetch every file, and read every document that has a schema here."""
    with tempfile.TemporaryDirectory(prefix="creditmodel-") as directory:
        bundle = fetch(uri, Path(directory), digest)
        Contract.read(bundle.path(CONTRACT))
        Golden.read(bundle.path(GOLDEN))
        return _artifact(bundle)


def _artifact(bundle: Bundle) -> Artifact:
    evaluation = Evaluation.read(bundle.path(EVALUATION))
    return Artifact(
        tool=TOOL,
        digest=bundle.digest,
        name=bundle.manifest.name,
        model_version=bundle.manifest.version,
        files=len(bundle.manifest.files),
        bytes=sum(entry.size for entry in bundle.manifest.files),
        evaluation=EvaluationSummary(
            auc=evaluation.auc,
            ks=evaluation.ks,
            gini=evaluation.gini,
            brier=evaluation.brier,
            rows=evaluation.holdout.rows,
            holdout_sha256=evaluation.holdout.sha256,
            champion=evaluation.champion,
        ),
    )


def _write(path: Path | None, measurement: Measurement | Failure) -> None:
    if path is not None:
        write_file(path, dump(measurement))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    verify = commands.add_parser("verify", help="fetch a bundle and compare every byte with its manifest")
    verify.add_argument("uri", help="the bundle's directory: file://, http(s)://, s3://, gs:// or a local path")
    verify.add_argument("--digest", help="refuse any other model than sha256:…")
    verify.add_argument("--measurement", type=Path, metavar="PATH", help="write the measurement here as JSON")
    return parser
