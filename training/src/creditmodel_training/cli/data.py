"""creditmodel-data: list the data sets that ship with the package, and export applicants from them."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from creditmodel_training.errors import DataError, TrainingError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["main"]

PARTS = {"training": 0, "validation": 1, "holdout": 2}
FORMATS = (".parquet", ".csv", ".json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0 done, 2 bad input."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except (TrainingError, OSError) as e:
        print(f"creditmodel-data: {e}", file=sys.stderr)
        return 2
    return code


def _list(_: argparse.Namespace) -> int:
    from creditmodel_training.data import named, names

    for name in names():
        table = named(name).table
        print(f"{name}  {table.num_rows} clients, {table.num_columns - 2} features")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    table = _applicants(arguments)
    out: Path = arguments.out
    if out.suffix not in FORMATS:
        raise DataError(f"{out}: its name must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    out.parent.mkdir(parents=True, exist_ok=True)
    _write(table, out)
    print(f"{out}: {table.num_rows} applicants of {arguments.name}", file=sys.stderr)
    return 0


def _applicants(arguments: argparse.Namespace) -> pa.Table:
    """The rows of the wanted part, raw values, with `_label` last where it is asked for."""
    import numpy as np
    import pyarrow as pa

    from creditmodel_training.data import named
    from creditmodel_training.prepare import prepare
    from creditmodel_training.schema import Schema

    source = named(arguments.name)
    schema = source.schema
    assert isinstance(schema, Schema)  # noqa: S101 - every shipped data set has a schema
    data = prepare(source.table, schema)
    rows = np.arange(len(data.y)) if arguments.part == "all" else data.rows(PARTS[arguments.part])
    if arguments.rows is not None:
        rows = np.sort(np.random.default_rng(arguments.seed).permutation(rows)[: arguments.rows])
    table = data.table.take(pa.array(rows))
    return table.append_column("_label", pa.array(data.y[rows], pa.int8())) if arguments.labels else table


def _write(table: pa.Table, out: Path) -> None:
    """By the file's suffix; .json is a body for POST /v1/score."""
    import pyarrow.csv
    import pyarrow.parquet as pq

    if out.suffix == ".parquet":
        pq.write_table(table, out, compression="zstd")
    elif out.suffix == ".csv":
        pyarrow.csv.write_csv(table, out)
    else:
        applicants = [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]
        out.write_text(json.dumps({"applicants": applicants}, indent=1) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="creditmodel-data", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    listing = commands.add_parser("list", help="the data sets that ship with the package")
    listing.set_defaults(run=_list)
    export = commands.add_parser("export", help="write applicants of a data set to a file")
    export.add_argument("name", help="a data set, as `creditmodel-data list` has it")
    export.add_argument("--out", type=Path, required=True, help=".parquet, .csv, or .json (a body for POST /v1/score)")
    export.add_argument(
        "--part",
        choices=[*PARTS, "all"],
        default="holdout",
        help="which clients; each is in the same part in every snapshot (default: those that no model learned from)",
    )
    export.add_argument("--rows", type=_count, metavar="N", help="at most this many, drawn at random")
    export.add_argument("--seed", type=_count, default=0, help="of the draw (default 0)")
    export.add_argument("--labels", action="store_true", help="add the column _label: 1 for a client who defaulted")
    export.set_defaults(run=_export)
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
