"""creditmodel-operator: run the operator, or write the CRDs that it serves."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from creditmodel_operator.api import crd

__all__ = ["main", "parser"]

EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 success, 1 a CRD is stale or the operator failed, 2 bad input."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except OSError as e:
        print(f"creditmodel-operator: {e}", file=sys.stderr)
        return EXIT_USAGE


def _crd(arguments: argparse.Namespace) -> int:
    if arguments.write is not None:
        print(*crd.write(arguments.write), sep="\n")
        return 0
    if arguments.check is not None:
        return _check(arguments.check)
    print(crd.render(), end="")
    return 0


def _check(directory: Path) -> int:
    stale = crd.stale(directory)
    for file in stale:
        print(
            f"creditmodel-operator: {file} is not what the models generate; "
            f"run `creditmodel-operator crd --write {directory}`",
            file=sys.stderr,
        )
    return 1 if stale else 0


def _run(arguments: argparse.Namespace) -> int:
    from creditmodel_operator import runtime as operator  # CRDs can be written without a Kubernetes client

    return operator.main(operator.Settings.from_arguments(arguments))


def parser() -> argparse.ArgumentParser:
    """The command line, for `main` and for whoever wants to check arguments without running anything."""
    top = argparse.ArgumentParser(prog="creditmodel-operator", description=__doc__)
    top.add_argument("--version", action="version", version=f"creditmodel-operator {version('creditmodel-operator')}")
    commands = top.add_subparsers(required=True, metavar="command")
    _add_run(commands.add_parser("run", help="watch CreditModels, gate them and roll them out"))
    definition = commands.add_parser(
        "crd", help="print the CustomResourceDefinitions, write them, or check written ones"
    )
    where = definition.add_mutually_exclusive_group()
    where.add_argument("--write", type=Path, metavar="DIR", help="write one file for each into this directory")
    where.add_argument("--check", type=Path, metavar="DIR", help="fail when a file in this directory is stale")
    definition.set_defaults(command=_crd)
    return top


def _add_run(run: argparse.ArgumentParser) -> None:
    env = os.environ.get
    scope = run.add_mutually_exclusive_group()
    scope.add_argument("--namespace", action="append", metavar="NS", help="watch this namespace; may be repeated")
    scope.add_argument("--all-namespaces", action="store_true", help="watch every namespace (the default)")
    run.add_argument(
        "--require-approval",
        action="append",
        metavar="NS",
        help="models of this namespace need a ModelApproval, whatever their spec says; may be repeated, '*' is all",
    )
    run.add_argument(
        "--require-signature",
        metavar="SECRET",
        help="every model must be signed by a public key in this Secret of its namespace, whatever its spec says",
    )
    run.add_argument("--serving-image", default=env("CREDITMODEL_SERVING_IMAGE", "creditmodel-serving:dev"))
    run.add_argument("--jobs-image", default=env("CREDITMODEL_JOBS_IMAGE", "creditmodel-jobs:dev"))
    run.add_argument("--workers", type=_positive, default=8, help="objects that are worked on at the same time")
    run.add_argument("--host", default=env("POD_IP", "127.0.0.1"), help="address of the health and metrics endpoint")
    run.add_argument("--metrics-port", type=_port, default=0, help="its port; 0 takes a free one and logs it")
    run.add_argument(
        "--watch-patience",
        type=float,
        default=70.0,
        metavar="SECONDS",
        help="a watch from which nothing came for so long is opened anew; an API server sends a bookmark every minute",
    )
    run.add_argument("--leader-elect", action="store_true", help="act only while holding the Lease")
    run.add_argument(
        "--lease-seconds",
        type=_lease_seconds,
        default=15,
        help="how long a leader that is gone holds up its successor; it renews well before",
    )
    run.add_argument("--lease-namespace", default=env("POD_NAMESPACE", "default"), help="where the Lease lies")
    run.add_argument("--identity", default=env("POD_NAME"), help="name in the Lease; default: host name and process id")
    run.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    run.set_defaults(command=_run)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _lease_seconds(text: str) -> int:
    value = int(text)
    if value < 3:
        raise argparse.ArgumentTypeError(f"{text} is too short to be renewed in time: at least 3")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return value
