"""creditmodel-train signal: tell somebody else that a model must be retrained, by one HTTP POST.

The event is a CloudEvents 1.0 document in JSON; docs/retraining.md has it, and how a receiver verifies the signature.
Keys come from the environment: CREDITMODEL_SIGNAL_KEY signs, CREDITMODEL_SIGNAL_TOKEN, or _USERNAME and _PASSWORD with
Airflow, authenticate. Exit codes: 0 taken over, 2 refused, given up, or bad input.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from creditmodel_bundle.manifest import is_digest
from creditmodel_bundle.measurement import Failure, FailureDetail, Signal, dump
from creditmodel_bundle.storage import write_file
from creditmodel_training.webhook import Delivered, DeliveryFailed, Receiver, deliver

__all__ = ["main"]

PROG = "creditmodel-train signal"
DELIVERED, FAILED = 0, 2
EVENT = "CREDITMODEL_EVENT"


class _BadEvent(Exception):
    """The event is not one of a CreditModel."""

    reason = "Invalid"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if (arguments.format == "Airflow") != (arguments.dag_id is not None):
        parser.error("--dag-id names the DAG to run: give it with --format Airflow, and only with it")
    digest = None
    try:
        event = _event(arguments.event)
        digest = event["data"]["digest"]
        answer = deliver(_receiver(arguments, os.environ), event, arguments.deadline)
    except (DeliveryFailed, _BadEvent) as e:
        return _failed(arguments.measurement, e.reason, str(e), digest)
    _write(arguments.measurement, _measurement(event, answer))
    print(f"{event['id']} taken over: HTTP {answer.status} at attempt {answer.attempts}")
    return DELIVERED


def _event(path: Path | None) -> dict[str, Any]:
    """The event in a file or in the environment."""
    try:
        text = os.environ[EVENT] if path is None else path.read_text(encoding="utf-8")
        event: dict[str, Any] = json.loads(text)
        known = {"namespace", "name", "episode", "digest"} <= event["data"].keys()
        if not known or not event["id"] or not is_digest(event["data"]["digest"]):
            raise _BadEvent("the event has no id, or its data no namespace, name, episode and digest")
    except KeyError as e:
        raise _BadEvent(f"the event has no {e}" if str(e) != repr(EVENT) else f"give --event, or set {EVENT}") from e
    except (OSError, ValueError, TypeError, AttributeError) as e:
        raise _BadEvent(f"the event cannot be read: {e}") from e
    return event


def _receiver(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Receiver:
    def given(name: str) -> str | None:
        return environment.get(f"CREDITMODEL_SIGNAL_{name}", "").strip() or None

    return Receiver(
        url=arguments.url,
        dag_id=arguments.dag_id,
        key=given("KEY"),
        token=given("TOKEN"),
        username=given("USERNAME"),
        password=given("PASSWORD"),
        timeout_seconds=arguments.timeout,
    )


def _measurement(event: Mapping[str, Any], answer: Delivered) -> Signal:
    data = event["data"]
    return Signal(
        tool=_tool(), digest=data["digest"], episode=data["episode"], status=answer.status, attempts=answer.attempts
    )


def _failed(path: Path | None, reason: str, message: str, digest: str | None) -> int:
    print(f"{PROG}: {reason}: {message}", file=sys.stderr)
    detail = FailureDetail(reason=reason, message=message)
    _write(path, Failure(tool=_tool(), kind="signal", digest=digest, error=detail))
    return FAILED


def _write(path: Path | None, measurement: Signal | Failure) -> None:
    if path is not None:
        write_file(path, dump(measurement))


def _tool() -> str:
    return f"creditmodel-train {version('creditmodel-training')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__)
    parser.add_argument("--url", required=True, help="where to POST; with Airflow the API server's address")
    parser.add_argument("--format", choices=["CloudEvents", "Airflow"], default="CloudEvents")
    parser.add_argument("--dag-id", metavar="DAG", help="with --format Airflow: the DAG to run")
    parser.add_argument("--event", type=Path, metavar="FILE", help=f"the event (default: what {EVENT} holds)")
    parser.add_argument("--timeout", type=_seconds, default=10.0, help="seconds for one answer (default 10)")
    parser.add_argument("--deadline", type=_seconds, default=3600.0, help="seconds in all (default 3600)")
    parser.add_argument("--measurement", type=Path, metavar="PATH", help="write the measurement here as JSON")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 604_800:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return value
