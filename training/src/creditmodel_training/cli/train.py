"""creditmodel-train: train a credit-scoring network and write its bundle.

`creditmodel-train retrain` trains a challenger for a model that serves, `creditmodel-train signal` asks somebody else
to. Both have a --help of their own.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from creditmodel_training.errors import TrainingError

if TYPE_CHECKING:
    from creditmodel_bundle.contract import Cutoff
    from creditmodel_bundle.documents import Evaluation
    from creditmodel_training.data import Source
    from creditmodel_training.fit.fitting import Fitted
    from creditmodel_training.prepare import Prepared
    from creditmodel_training.schema import Schema

__all__ = ["main"]

WRITTEN, BAD_INPUT = 0, 2
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 bundle written, 2 bad input."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in ("retrain", "signal"):
        return _part(given[0])(given[1:])
    arguments = _parser().parse_args(given)
    try:
        return _run(arguments)
    except TrainingError as e:
        print(f"creditmodel-train: {e}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("creditmodel-train: interrupted, no bundle was written", file=sys.stderr)
        return 130


def _part(command: str) -> Callable[[Sequence[str]], int]:
    """A command of its own; what it needs is loaded for it alone."""
    from creditmodel_training.cli import retrain, signal

    return {"retrain": retrain.main, "signal": signal.main}[command]


def _run(arguments: argparse.Namespace) -> int:
    from creditmodel_training.bundling import check_target, default_cutoffs
    from creditmodel_training.data import open_source
    from creditmodel_training.prepare import prepare

    started = time.monotonic()
    check_target(arguments.out, arguments.force)
    source = open_source(arguments.data)
    schema = _schema(arguments, source)
    data = prepare(source.table, schema)
    say = _quiet if arguments.json else print
    _describe(say, source.name, schema, data)
    cutoffs = arguments.cutoffs or default_cutoffs(float(data.y.mean()))
    fitted, evaluation, digest = _trained(arguments, data, cutoffs)
    _report(say, arguments, evaluation)
    if arguments.json:
        print(json.dumps(_summary(arguments, evaluation, digest, time.monotonic() - started)))
    say(f"\n{len(fitted.pairs)} interactions, trained in {time.monotonic() - started:.0f} s")
    say(f"bundle  {arguments.out.resolve()}\ndigest  {digest}")
    return WRITTEN


def _schema(arguments: argparse.Namespace, source: Source) -> Schema:
    """The schema that was given, the data set's own, or an inferred one, which is written down for review."""
    from creditmodel_training.errors import OutputError, SchemaError
    from creditmodel_training.schema import infer, read_schema

    if arguments.schema is not None:
        return read_schema(arguments.schema)
    if source.schema is not None:
        return source.schema
    if arguments.label is None:
        raise SchemaError(f"{source.name} needs --schema FILE, or --label COLUMN to have one inferred")
    inferred = infer(source.table, arguments.label, arguments.positive, arguments.key)
    path = arguments.out.with_name(arguments.out.name + ".schema.json")
    try:
        path.write_text(inferred.schema.model_dump_json(indent=1, exclude_defaults=True) + "\n", encoding="utf-8")
    except OSError as e:
        raise OutputError(f"{path} cannot be written: {e.strerror}") from e
    for line in [
        f"no --schema: inferred one, review it (names, ranges, directions, reason texts): {path}",
        *(f"left out: {column} ({why})" for column, why in inferred.left_out.items()),
        *inferred.notes,
    ]:
        print(f"creditmodel-train: {line}", file=sys.stderr)
    return inferred.schema


def _trained(arguments: argparse.Namespace, data: Prepared, cutoffs: list[Cutoff]) -> tuple[Fitted, Evaluation, str]:
    from creditmodel_bundle.contract import ScoreScale
    from creditmodel_training.bundling import Meaning, scores, write_bundle
    from creditmodel_training.evaluation.baselines import baselines
    from creditmodel_training.evaluation.report import evaluate
    from creditmodel_training.fit.fitting import fit
    from creditmodel_training.fit.loop import Settings
    from creditmodel_training.prepare import HOLDOUT

    fitted = fit(data, Settings(seed=arguments.seed, epochs=arguments.epochs, interactions=arguments.interactions))
    held = data.rows(HOLDOUT)
    probability = scores(fitted.network, data.x[held])[1]
    evaluation = evaluate(data.x[held], data.y[held], probability, baselines(data, arguments.seed))
    scale = ScoreScale(points=arguments.points, odds=arguments.odds, pdo=arguments.pdo)
    meaning = Meaning(arguments.name, arguments.version, cutoffs, scale)
    digest = write_bundle(arguments.out, data, fitted.network, evaluation, meaning, replace=arguments.force)
    return fitted, evaluation, digest


def _describe(say: Any, name: str, schema: Schema, data: Prepared) -> None:
    from creditmodel_training.prepare import HOLDOUT, TRAIN, VALIDATION

    rows = [len(data.rows(part)) for part in (TRAIN, VALIDATION, HOLDOUT)]
    how = schema.split.column if schema.split else f"hash of {schema.key or 'the row'}"
    say(f"data    {name}: {len(data.y)} rows, {len(data.features)} features, {data.y.mean():.1%} bad")
    say(f"split   {rows[0]} training, {rows[1]} validation, {rows[2]} hold-out (by {how})")
    for warning in data.warnings:
        print(f"creditmodel-train: {warning}", file=sys.stderr)


def _report(say: Any, arguments: argparse.Namespace, evaluation: Evaluation) -> None:
    from creditmodel_training.evaluation.report import comparison, table, trails_logistic_regression

    say("")
    for line in table(f"{arguments.name} {arguments.version}", evaluation):
        say(line)
    say(f"\n{comparison(evaluation)}")
    if trails_logistic_regression(evaluation):
        print("creditmodel-train: the logistic regression is better on the hold-out: prefer it", file=sys.stderr)


def _summary(arguments: argparse.Namespace, evaluation: Evaluation, digest: str, seconds: float) -> dict[str, Any]:
    return {
        "name": arguments.name,
        "version": arguments.version,
        "bundle": str(arguments.out.resolve()),
        "digest": digest,
        "seconds": round(seconds, 1),
        "evaluation": evaluation.model_dump(),
    }


def _quiet(_: str) -> None:
    """With --json, standard output has one document and nothing else."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="creditmodel-train", description=__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", required=True, help="a .csv or .parquet file, or a data set (see creditmodel-data list)"
    )
    data.add_argument("--schema", type=Path, metavar="FILE", help="what the columns mean (.toml or .json)")
    data.add_argument("--label", metavar="COLUMN", help="without --schema: the label, and all else is inferred")
    data.add_argument("--positive", metavar="VALUE", help="with --label: the value that marks a bad payer")
    data.add_argument("--key", metavar="COLUMN", help="with --label: rows of one key stay in one part of the split")
    bundle = parser.add_argument_group("bundle")
    bundle.add_argument("--out", type=Path, required=True, metavar="DIR", help="the bundle's directory")
    bundle.add_argument(
        "--name", type=_name, required=True, help="the model's name: lower-case letters, digits, - and ."
    )
    bundle.add_argument("--version", required=True, type=_version)
    bundle.add_argument("--force", action="store_true", help="replace what is at --out")
    bundle.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    training = parser.add_argument_group("training")
    training.add_argument(
        "--seed",
        type=_natural,
        default=0,
        help="same data and seed, same model; the digest covers the time of making too, which SOURCE_DATE_EPOCH "
        "(seconds since 1970, in the environment) fixes (default 0)",
    )
    training.add_argument("--epochs", type=_natural, default=100, help="at most (default 100)")
    training.add_argument("--interactions", type=_natural, default=16, metavar="N", help="feature pairs (default 16)")
    meaning = parser.add_argument_group("what a score means")
    meaning.add_argument(
        "--cutoffs",
        type=_cutoffs,
        metavar="LIST",
        help="decision=lowest PD, ascending from 0, as in approve=0,review=0.2,decline=0.4 "
        "(default: review from the data's default rate on, decline from twice that)",
    )
    meaning.add_argument(
        "--points", type=_between(-1e6, 1e6), default=600, help="points at the reference odds (default 600)"
    )
    meaning.add_argument(
        "--odds", type=_between(1e-6, 1e6), default=50, help="the reference odds, good to bad (default 50)"
    )
    meaning.add_argument(
        "--pdo", type=_between(0.01, 1000), default=20, help="points that double the odds (default 20)"
    )
    return parser


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: use lower-case letters, digits, '-' and '.'")
    return text


def _version(text: str) -> str:
    if not text or len(text) > 128 or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r}: use 1 to 128 printable characters")
    return text


def _natural(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no integer from 0 to 2147483647")
    return int(text)


def _between(low: float, high: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {low:g} to {high:g}")
        return value

    return convert


def _cutoffs(text: str) -> list[Cutoff]:
    from pydantic import ValidationError

    from creditmodel_bundle.contract import Cutoff

    try:
        pairs = [part.split("=") for part in text.split(",")]
        cutoffs = [Cutoff(decision=decision.strip(), min_probability=float(bound)) for decision, bound in pairs]
    except (ValueError, ValidationError) as e:
        raise argparse.ArgumentTypeError(f"{text!r}: write approve=0,review=0.2,decline=0.4") from e
    bounds = [cutoff.min_probability for cutoff in cutoffs]
    if bounds[0] != 0 or sorted(set(bounds)) != bounds:
        raise argparse.ArgumentTypeError(f"{text!r}: the first bound is 0 and they ascend")
    return cutoffs


if __name__ == "__main__":
    sys.exit(main())
