"""creditmodel-bundle: verify a bundle, and say what it is."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from creditmodel_bundle.documents import Evaluation
from creditmodel_bundle.errors import BundleCorrupt, BundleError
from creditmodel_bundle.manifest import EVALUATION
from creditmodel_bundle.measurement import Artifact, EvaluationSummary, Failure, FailureDetail, Measurement, dump
from creditmodel_bundle.storage import Bundle, fetch, write_file

__all__ = ["main"]

TOOL = f"creditmodel-bundle {version('creditmodel-bundle')}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 verified, 1 refused, 2 unreachable or bad input."""
    arguments = _parser().parse_args(argv)
    try:
        measurement = _verify(arguments.uri, arguments.digest)
    except BundleError as e:
        failure = Failure(tool=TOOL, kind="artifact", digest=None, error=FailureDetail(reason=e.reason, message=str(e)))
        _write(arguments.measurement, failure)
        print(f"creditmodel-bundle: {e.reason}: {e}", file=sys.stderr)
        return 1 if isinstance(e, BundleCorrupt) else 2
    _write(arguments.measurement, measurement)
    size = f"{measurement.files} files, {measurement.bytes} bytes"
    print(f"{measurement.name} {measurement.model_version}: {size}, verified")
    print(measurement.digest)
    return 0


def _verify(uri: str, digest: str | None) -> Artifact:
    with tempfile.TemporaryDirectory(prefix="creditmodel-") as directory:
        return _artifact(fetch(uri, Path(directory), digest))


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
        ),
    )


def _write(path: Path | None, measurement: Measurement | Failure) -> None:
    if path is not None:
        write_file(path, dump(measurement))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="creditmodel-bundle", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    verify = commands.add_parser("verify", help="fetch a bundle and compare every byte with its manifest")
    verify.add_argument("uri", help="the bundle's directory: file://, http(s)://, s3://, gs:// or a local path")
    verify.add_argument("--digest", help="refuse any other model than sha256:…")
    verify.add_argument("--measurement", type=Path, metavar="PATH", help="write the measurement here as JSON")
    return parser
