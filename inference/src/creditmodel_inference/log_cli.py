"""creditmodel-log: verify the hash chain of a scoring log, or score the log again."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from creditmodel_bundle.errors import BundleError
from creditmodel_inference.errors import Refusal

if TYPE_CHECKING:
    from creditmodel_inference.chain import PartSeal
    from creditmodel_inference.verify import Anchor, Fault

__all__ = ["main"]

MAX_SHOWN = 20
_ANCHOR = re.compile(r"([0-9a-f]{16}):([0-9]{1,9}):([0-9a-f]{64})")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0 nothing found, 1 something found, 2 bad input or unreachable."""
    arguments = _parser().parse_args(argv)
    try:
        return _verify(arguments) if arguments.command == "verify" else _replay(arguments)
    except (BundleError, Refusal) as e:
        print(f"creditmodel-log: {e.reason}: {e}", file=sys.stderr)
        return 2


def _verify(arguments: argparse.Namespace) -> int:
    from creditmodel_inference.verify import check_chains, parts_of

    anchors = [_anchor(text) for text in arguments.anchor]
    parts = parts_of(arguments.log, arguments.since)
    faults: list[Fault] = []
    seals: list[tuple[str, PartSeal]] = []
    rows = 0
    for path in parts:
        seal, found, count = _checked(arguments.log, path)
        faults += found
        rows += count
        if seal is not None:
            seals.append((path, seal))
    faults += check_chains(seals, whole=arguments.since is None, anchors=anchors)
    for fault in faults:
        print(f"{fault.part}: {fault.message}")
    chains = len({seal.chain for _, seal in seals})
    print(f"{len(parts)} parts, {rows} rows, {chains} chains: {f'{len(faults)} faults' if faults else 'as sealed'}")
    return 1 if faults else 0


def _checked(log: str, path: str) -> tuple[PartSeal | None, list[Fault], int]:
    import pyarrow as pa

    from creditmodel_inference.verify import Fault, check_part, read_part

    try:
        table, seal = read_part(log, path)
    except (OSError, pa.ArrowException) as e:
        return None, [Fault(path, f"cannot be read: {str(e).splitlines()[0][:200]}")], 0
    return seal, check_part(path, table, seal), len(table)


def _anchor(text: str) -> Anchor:
    from creditmodel_inference.verify import Anchor

    chain, sequence, head = text.split(":")
    return Anchor(chain, int(sequence), head)


def _replay(arguments: argparse.Namespace) -> int:
    import pyarrow as pa

    from creditmodel_inference.replay import replay
    from creditmodel_inference.scorer import load
    from creditmodel_inference.verify import parts_of, read_part

    parts = parts_of(arguments.log, arguments.since)
    with tempfile.TemporaryDirectory(prefix="creditmodel-") as directory:
        scorer = load(arguments.bundle, arguments.digest, None, Path(directory))
    total = scored = different = 0
    for path in parts:
        try:
            table, _ = read_part(arguments.log, path)
        except (OSError, pa.ArrowException) as e:
            raise Refusal("Unreadable", f"{path} cannot be read: {str(e).splitlines()[0][:200]}") from e
        total += len(table)
        for count, differences in replay(scorer, table, arguments.tolerance):
            scored += count
            for difference in differences[: max(0, MAX_SHOWN - different)]:
                print(f"{difference.request_id} row {difference.row}: {difference.message}")
            different += len(differences)
    print(f"{total} rows, {scored} scored again, {total - scored} of other models or errors: {different} differ")
    return 1 if different else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="creditmodel-log",
        description="Check a scoring log.",
        epilog="Exit codes: 0 nothing found, 1 something found, 2 bad input or unreachable.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="find edited, deleted, added or moved rows, and missing parts")
    verify.add_argument(
        "--anchor", type=_matching(_ANCHOR, "CHAIN:PART:HEAD"), action="append", default=[], metavar="CHAIN:PART:HEAD",
        help="a chain's end as the server logged it when it stopped; may be given several times",
    )  # fmt: skip
    again = commands.add_parser("replay", help="score the log again, and report any difference")
    again.add_argument("--bundle", required=True, metavar="URI", help="the model; rows of other models are passed over")
    again.add_argument("--digest", help="sha256:…; anything else at the URI is refused")
    again.add_argument(
        "--tolerance", type=float, default=1e-6,
        help="absolute, on the probability, for another processor (default: %(default)g); 0 asks for the same bits",
    )  # fmt: skip
    for command in (verify, again):
        command.add_argument("log", metavar="LOG", help="the log's URI or directory, or that of one date")
        command.add_argument("--since", type=_matching(_DATE, "YYYY-MM-DD"), help="only parts of this date and later")
    return parser


class _matching:  # noqa: N801 - a converter that argparse names in its errors
    def __init__(self, pattern: re.Pattern[str], form: str) -> None:
        self._pattern, self._form = pattern, form

    def __call__(self, text: str) -> str:
        if not self._pattern.fullmatch(text):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form {self._form}")
        return text
