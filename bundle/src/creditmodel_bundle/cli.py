"""creditmodel-bundle: verify a bundle, say what it is, sign it, and seal one that was made by hand."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from creditmodel_bundle.contract import Contract
from creditmodel_bundle.documents import Evaluation, Golden
from creditmodel_bundle.errors import BundleCorrupt, BundleError, BundleInvalid, BundleUntrusted
from creditmodel_bundle.manifest import CONTRACT, EVALUATION, GOLDEN, SIGNATURE, is_digest, seal
from creditmodel_bundle.measurement import Artifact, EvaluationSummary, Failure, FailureDetail, Measurement, dump
from creditmodel_bundle.storage import Bundle, fetch, fetch_signature, write_bytes, write_file

__all__ = ["main"]

PROG = "creditmodel-bundle"
PASSWORD = "CREDITMODEL_SIGNING_KEY_PASSWORD"  # noqa: S105 - the variable's name
TOOL = f"{PROG} {version('creditmodel-bundle')}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 verified, 1 refused, 2 unreachable or bad input."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.run
    return command(arguments)


def _verify_command(arguments: argparse.Namespace) -> int:
    try:
        measurement = _verify(arguments.uri, arguments.digest, arguments.public_key)
        _write(arguments.measurement, measurement)
    except BundleError as e:
        return _refuse(arguments, e.reason, str(e), 1 if isinstance(e, BundleCorrupt | BundleUntrusted) else 2)
    except OSError as e:
        return _refuse(arguments, type(e).__name__, str(e), 2)
    if measurement.signed_by is not None:
        print(f"signed by key {measurement.signed_by}")
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


def _sign_command(arguments: argparse.Namespace) -> int:
    try:
        fingerprint = _sign(arguments.uri, arguments.key)
    except (BundleError, OSError) as e:
        print(f"{PROG}: {e}", file=sys.stderr)
        return 1 if isinstance(e, BundleCorrupt) else 2
    print(f"{arguments.uri.rstrip('/')}/{SIGNATURE}: signed by key {fingerprint}")
    return 0


def _sign(uri: str, key: Path) -> str:
    """Sign a bundle whose every byte was verified first; the key's fingerprint."""
    from creditmodel_bundle import signing

    password = os.environ.get(PASSWORD)
    with tempfile.TemporaryDirectory(prefix="creditmodel-") as directory:
        bundle = fetch(uri, Path(directory))
    files = signing.files_of(bundle.manifest, bundle.digest)
    private = signing.PrivateKey.of_pem(key.read_bytes(), password.encode() if password else None)
    write_bytes(f"{uri.rstrip('/')}/{SIGNATURE}", signing.sign(bundle.manifest.name, files, private))
    return private.public.fingerprint


def _seal_command(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.directory
    try:
        if not directory.is_dir():
            raise BundleInvalid(f"{directory} is no directory")
        for name, document in ((CONTRACT, Contract), (GOLDEN, Golden), (EVALUATION, Evaluation)):
            if (directory / name).is_file():  # an absent one is named by seal, with all the others
                document.read(directory / name)
        digest = seal(directory, arguments.name, arguments.version)
    except (BundleError, OSError) as e:
        print(f"{PROG}: {e}", file=sys.stderr)
        return 2
    print(digest)
    return 0


def _signer(bundle: Bundle, keys: Path | None) -> str | None:
    """The fingerprint of the trusted key that signed the bundle; None where none is asked for."""
    if keys is None:
        return None
    from creditmodel_bundle import signing  # cryptography is an extra

    trusted = signing.public_keys(keys)
    files = signing.files_of(bundle.manifest, bundle.digest)
    return signing.verify(fetch_signature(bundle.uri), files, trusted).fingerprint


def _verify(uri: str, digest: str | None, keys: Path | None) -> Artifact:
    """Fetch every file, check the signature where keys are given, and read every document that has a schema here."""
    with tempfile.TemporaryDirectory(prefix="creditmodel-") as directory:
        bundle = fetch(uri, Path(directory), digest)
        signer = _signer(bundle, keys)
        Contract.read(bundle.path(CONTRACT))
        Golden.read(bundle.path(GOLDEN))
        return _artifact(bundle, signer)


def _artifact(bundle: Bundle, signer: str | None) -> Artifact:
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
            bad_rate=evaluation.holdout.bad_rate,
        ),
        signed_by=signer,
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
    verify.add_argument(
        "--public-key",
        type=Path,
        metavar="PATH",
        help="ask for a signature by one of the PEM public keys in this file, or in the files of this directory",
    )
    verify.add_argument("--measurement", type=Path, metavar="PATH", help="write the measurement here as JSON")
    verify.set_defaults(run=_verify_command)
    sealing = commands.add_parser("seal", help="write the manifest of a directory that was filled or changed by hand")
    sealing.add_argument("directory", type=Path, help="a local directory with a bundle's files")
    sealing.add_argument("--name", required=True, help="the model's name")
    sealing.add_argument("--version", required=True, help="the model's version")
    sealing.set_defaults(run=_seal_command)
    sign = commands.add_parser("sign", help="write the bundle's signature, in the OpenSSF model-signing format")
    sign.add_argument("uri", help="the bundle's directory: file://, s3://, gs:// or a local path")
    sign.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="PATH",
        help=f"PEM private key on P-256, P-384 or P-521; the password of an encrypted one is read from {PASSWORD}",
    )
    sign.set_defaults(run=_sign_command)
    return parser
