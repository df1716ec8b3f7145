"""creditmodel-train retrain: train a challenger from the champion's reference and recent labelled applicants.

Writes a new bundle beside the old ones, whole or not at all, and never over another. Exit codes: 0 there is a new
bundle, 2 it cannot be made from what is there, 75 a store did not answer: trying again may help.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from creditmodel_bundle.errors import BundleError, BundleExists, BundleUnreachable
from creditmodel_bundle.manifest import MANIFEST, is_digest
from creditmodel_bundle.measurement import Failure, FailureDetail, Training, dump
from creditmodel_bundle.storage import write_file
from creditmodel_training.errors import DataUnreachable, TrainingError

if TYPE_CHECKING:
    from creditmodel_bundle.documents import Evaluation
    from creditmodel_bundle.storage import Bundle
    from creditmodel_training.retrain import Material

__all__ = ["AGAIN", "main"]

PROG = "creditmodel-train retrain"
WRITTEN, BAD_INPUT, AGAIN = 0, 2, 75
"""75 is EX_TEMPFAIL of sysexits.h: a Job may try again, where 2 ends it."""
_WINDOW = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        document = _run(arguments, datetime.now(UTC))
        if arguments.measurement is not None:
            write_file(arguments.measurement, dump(document))
    except (BundleUnreachable, DataUnreachable) as e:
        return _failed(arguments, e.reason, str(e), AGAIN)
    except (BundleError, TrainingError) as e:
        return _failed(arguments, e.reason, str(e), BAD_INPUT)
    except (OSError, MemoryError) as e:
        return _failed(arguments, type(e).__name__, str(e) or type(e).__name__, AGAIN)
    except Exception as e:  # noqa: BLE001 - a defect of ours: the operator is told, and the log has the traceback
        traceback.print_exc()
        return _failed(arguments, "InternalError", f"{type(e).__name__}: {e}", BAD_INPUT)
    _say(arguments, document)
    return WRITTEN


def _run(arguments: argparse.Namespace, now: datetime) -> Training:
    from creditmodel_bundle.storage import fetch

    with tempfile.TemporaryDirectory(prefix="creditmodel-retrain-") as scratch:
        champion = fetch(arguments.bundle, Path(scratch) / "champion", arguments.digest)
        arguments.digest = champion.digest
        earlier = _earlier(arguments.out, Path(scratch) / "earlier", champion)
        return _document(arguments, *earlier) if earlier else _train(arguments, champion, Path(scratch), now)


def _train(arguments: argparse.Namespace, champion: Bundle, scratch: Path, now: datetime) -> Training:
    from creditmodel_bundle.contract import Contract
    from creditmodel_bundle.manifest import CONTRACT
    from creditmodel_bundle.storage import publish
    from creditmodel_training.fit.loop import Settings
    from creditmodel_training.outcomes import read_outcomes
    from creditmodel_training.retrain import gather, retrain

    features = [feature.name for feature in Contract.read(champion.path(CONTRACT)).features]
    end = now - timedelta(days=arguments.maturity_days)
    scored = (None if arguments.window is None else end - arguments.window, end)
    outcomes = read_outcomes(arguments.current, arguments.labels, features, scored, arguments.max_rows)
    for problem in outcomes.skipped:
        print(f"{PROG}: {problem}", file=sys.stderr)
    material = gather(champion, outcomes)
    settings = Settings(seed=arguments.seed, epochs=arguments.epochs, interactions=arguments.interactions)
    made = retrain(material, champion, scratch / "challenger", _version(arguments, now), settings)
    stored = publish(scratch / "challenger", _uri(arguments.out))
    return _document(arguments, stored, made.evaluation, material)


def _earlier(out: str, directory: Path, champion: Bundle) -> tuple[Bundle, Evaluation] | None:
    """The bundle that an earlier attempt at the same retraining has finished: it is reported, and nothing is trained.

    Raises BundleExists when something else lies there.
    """
    from creditmodel_bundle.documents import Evaluation
    from creditmodel_bundle.manifest import EVALUATION
    from creditmodel_bundle.storage import fetch, local_path

    place = local_path(_uri(out))
    if place is not None and place.is_dir() and any(place.iterdir()) and not (place / MANIFEST).exists():
        raise BundleExists(f"{out} is not empty and holds no finished bundle: name another place")
    try:
        found = fetch(_uri(out), directory)
    except BundleUnreachable as e:
        if isinstance(_root(e), FileNotFoundError):
            return None
        raise
    evaluation = Evaluation.read(found.path(EVALUATION))
    if evaluation.champion is None or evaluation.champion.digest != champion.digest:
        raise BundleExists(f"{out} holds {found.digest}, which was not retrained from {champion.digest}: name another")
    return found, evaluation


def _root(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _root(error.__cause__)


def _document(
    arguments: argparse.Namespace, stored: Bundle, evaluation: Evaluation, material: Material | None = None
) -> Training:
    from creditmodel_bundle.measurement import Figures

    before = evaluation.champion
    assert before is not None  # noqa: S101 - a retrained bundle always has the champion's figures
    return Training(
        tool=_tool(),
        digest=before.digest,
        episode=arguments.episode,
        uri=stored.uri,
        candidate=stored.digest,
        reference_rows=material.reference_rows if material else None,
        labelled_rows=material.labelled_rows if material else None,
        left_out=material.left_out if material else None,
        holdout=evaluation.holdout,
        champion=Figures(auc=before.auc, ks=before.ks, gini=before.gini, brier=before.brier),
        challenger=Figures(auc=evaluation.auc, ks=evaluation.ks, gini=evaluation.gini, brier=evaluation.brier),
    )


def _say(arguments: argparse.Namespace, document: Training) -> None:
    if arguments.json:
        print(document.model_dump_json())
        return
    if document.labelled_rows is None:
        print("an earlier attempt has finished this bundle; nothing was trained")
    else:
        print(f"learned from {document.reference_rows:,} reference rows and {document.labelled_rows:,} labelled ones")
    print(f"{f'hold-out, {document.holdout.rows:,} rows':24}     AUC      KS    Gini   Brier")
    for name, figures in (("champion", document.champion), ("challenger", document.challenger)):
        numbers = (figures.auc, figures.ks, figures.gini, figures.brier)
        print(f"{name:24}" + "".join(f"  {number:6.4f}" for number in numbers))
    print(f"bundle  {document.uri}\ndigest  {document.candidate}")


def _failed(arguments: argparse.Namespace, reason: str, message: str, code: int) -> int:
    print(f"{PROG}: {reason}: {message}", file=sys.stderr)
    if arguments.measurement is not None:
        digest = arguments.digest if arguments.digest and is_digest(arguments.digest) else None
        detail = FailureDetail(reason=reason, message=message)
        try:
            write_file(arguments.measurement, dump(Failure(tool=_tool(), kind="training", digest=digest, error=detail)))
        except OSError as e:
            print(f"{PROG}: the measurement cannot be written to {arguments.measurement}: {e}", file=sys.stderr)
    return code


def _tool() -> str:
    return f"creditmodel-train {version('creditmodel-training')}"


def _version(arguments: argparse.Namespace, now: datetime) -> str:
    return arguments.version or f"retrained-{arguments.episode or now.strftime('%Y%m%d-%H%M%S')}"


def _uri(out: str) -> str:
    return out if "://" in out else Path(out).absolute().as_uri()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROG, description=__doc__)
    champion = parser.add_argument_group("the champion")
    champion.add_argument("--bundle", metavar="URI", required=True, help="its bundle, whose reference is learned from")
    champion.add_argument("--digest", metavar="sha256:…", help="refuse any other model")
    recent = parser.add_argument_group("recent applicants whose outcome is known")
    recent.add_argument(
        "--current", metavar="URI", required=True, help="scoring log, or Parquet or CSV: a file or directory"
    )
    recent.add_argument("--labels", metavar="URI", required=True, help="outcomes by _request_id and _row")
    recent.add_argument("--maturity-days", type=_count, default=0, help="age of a score at which its outcome is known")
    recent.add_argument(
        "--window", type=_window, metavar="90d", help="how far back matured scores reach (default: all)"
    )
    recent.add_argument(
        "--max-rows", type=_count, default=200_000, metavar="N", help="the newest N at most (default %(default)s)"
    )
    bundle = parser.add_argument_group("the challenger")
    bundle.add_argument("--out", required=True, metavar="URI", help="its bundle: file://, s3://, gs:// or a path")
    bundle.add_argument("--episode", help="id of what asked for this; also its version, where none is given")
    bundle.add_argument("--version", help="the challenger's version")
    bundle.add_argument("--measurement", type=Path, metavar="PATH", help="write the measurement here as JSON")
    bundle.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    training = parser.add_argument_group("training")
    training.add_argument("--seed", type=_count, default=0, help="same data and seed, same model (default 0)")
    training.add_argument("--epochs", type=_count, default=100, help="at most (default 100)")
    training.add_argument("--interactions", type=_count, default=16, metavar="N", help="feature pairs (default 16)")
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer from 0 to 2147483647")
    return int(text)


def _window(text: str) -> timedelta:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number and m, h or d, such as 90d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
