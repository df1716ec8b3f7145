"""Bad data of every kind, and the defined answer to each: log, CSV, labels, reference; on disk or in an object store.

Run with -rP to read the answers. `make test-object-store` puts the same files into a real object store.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs

from creditmodel_bundle.measurement import Drift, Failure, parse
from creditmodel_drift.cli import main

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = ("--window", "24h", "--until", "2026-11-21T00:00:00Z")


class Files:
    """The files of one case: a log, and whatever else it names."""

    def __init__(self, root: Path, applicants: Callable[..., pa.Table], log: Callable[..., Path]) -> None:
        self.root, self.applicants, self.log = root, applicants, log

    def good(self, rows: int = 800, **how: Any) -> Path:
        """A part with nothing wrong."""
        return self.log(self.applicants(rows, seed=1), name="good", **how)

    def changed(self, column: str, make: Callable[[Any], Any], rows: int = 800, name: str = "changed") -> Path:
        """A part with one column replaced."""
        table = self.applicants(rows, seed=2)
        at = table.column_names.index(column)
        return self.log(table.set_column(at, column, make(table[column])), name=name)

    def timed(self, name: str, kind: pa.DataType) -> Path:
        """A part whose times are stored as another type."""
        part = self.log(self.applicants(400, seed=len(name)), name=name)
        pq.write_table(retyped(kind)(pq.read_table(part, partitioning=None)), part)
        return part

    def rewritten(self, make: Callable[[pa.Table], pa.Table]) -> Path:
        """A part whose system columns are changed as well."""
        part = self.good()
        pq.write_table(make(pq.read_table(part)), part)
        return part

    def damaged(self, make: Callable[[bytes], bytes]) -> Path:
        """A part whose bytes are changed."""
        part = self.log(self.applicants(800, seed=2), name="bad")
        part.write_bytes(make(part.read_bytes()))
        return part

    def beside(self, name: str, content: bytes) -> Path:
        """A file of another name in the log's day."""
        part = self.good()
        part.with_name(name).write_bytes(content)
        return part

    def csv(self, make: Callable[[bytes], bytes] = bytes, name: str = "log/rows.csv") -> Path:
        """A text file of applicants."""
        place = self.root / name
        place.parent.mkdir(exist_ok=True, parents=True)
        pv.write_csv(self.applicants(800, seed=2), place)
        place.write_bytes(make(place.read_bytes()))
        return place

    def labels(self, make: Callable[[pa.Table], Any], name: str = "labels/a.parquet") -> Path:
        """Labels of a good part's applicants."""
        part = pq.read_table(self.good(), columns=["_request_id", "_row"], partitioning=None)
        labels = part.append_column("_label", pa.array(np.arange(part.num_rows) % 2, pa.int8()))
        place = self.root / name
        place.parent.mkdir(exist_ok=True)
        made = make(labels)
        place.write_bytes(made) if isinstance(made, bytes) else pq.write_table(made, place)
        return place


@dataclass(frozen=True)
class Case:
    """What is there, what is asked, and the answer: the exit code, the verdict or the error's reason, and words."""

    make: Callable[[Files], object]
    answer: tuple[int, str]
    words: str = ""
    rows: int | None = None
    options: tuple[str, ...] = DAY
    quality: int | None = None
    on_spark: tuple[int, str] | None = None


def as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return values.cast(pa.string())


def some(value: float, share: float = 0.1) -> Callable[[pa.ChunkedArray], pa.Array]:
    """Every tenth value replaced."""
    return lambda old: pa.array(np.where(np.arange(len(old)) % round(1 / share) == 0, value, old.to_numpy()))


def retyped(kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    """The column _time stored as another type."""
    return lambda t: t.set_column(t.column_names.index("_time"), "_time", t["_time"].cast(kind))


def parted(delimiter: bytes) -> Callable[[bytes], bytes]:
    """A text file as a spreadsheet writes it: with another delimiter, and a byte order mark."""
    return lambda text: b"\xef\xbb\xbf" + text.replace(b",", delimiter)


def zstd(plain: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(plain)
    return bytes(sink.getvalue())


def with_notes(text: bytes) -> bytes:
    """A further column of free text in quotes, which a reader that splits lines first would tear apart."""
    header, *rows = text.splitlines()
    return b"\n".join([header + b",note", *(row + b',"called, said ""yes""\nand hung up"' for row in rows), b""])


def nothing(files: Files) -> None:
    """No file, and no directory."""


LABELLED = (*DAY, "--labels", "{root}/labels")
ALONE = ("--reference", "{root}/reference.csv")
TOKYO = pa.timestamp("ns", "Asia/Tokyo")
OK, DRIFT, LITTLE = (0, "no_drift"), (0, "drift"), (0, "inconclusive")

CASES = {
    # The log.
    "a good part": Case(lambda f: f.good(), OK, rows=800),
    "a part filed under the next day": Case(
        lambda f: (f.good(), f.log(f.applicants(100), name="late", day="2026-11-21")), OK, rows=900
    ),
    "a part twice": Case(
        lambda f: [f.log(f.applicants(600, seed=1), name=n, requests=[f"r{i}" for i in range(600)]) for n in "ab"],
        OK,
        "600 duplicate rows counted once",
        600,
    ),
    "a part without rows": Case(lambda f: (f.good(), f.log(f.applicants(0), name="empty")), OK, rows=800),
    "a part without bytes": Case(
        lambda f: (f.good(), f.damaged(lambda _: b"")), OK, r"1 corrupt part left out \(.*bad.parquet has no bytes", 800
    ),
    "a part of garbage": Case(lambda f: (f.good(), f.damaged(lambda _: b"x" * 99)), OK, "1 corrupt part left out", 800),
    "a truncated part": Case(lambda f: (f.good(), f.damaged(lambda b: b[:-50])), OK, "1 corrupt part left out", 800),
    "a part broken in the middle": Case(
        lambda f: (f.good(), f.damaged(lambda b: b[:4] + b"\xff" * 60 + b[64:])), OK, "1 corrupt part left out", 800
    ),
    "nothing but broken parts": Case(
        lambda f: f.damaged(lambda b: b[:-50]), (2, "NoUsableData"), "none of 1 parts can be used; .*bad.parquet"
    ),
    "a table of something else": Case(
        lambda f: pq.write_table(pa.table({"x": [1]}), f.good().with_name("other.parquet")),
        OK,
        "1 foreign part left out",
        800,
    ),
    "one part with another type": Case(
        lambda f: (f.good(), f.changed("age", as_text)), OK, "1 foreign part left out .*another type", 800
    ),
    "another type in every part": Case(lambda f: f.changed("age", as_text), DRIFT, "age .is stored as string"),
    "a column gone from every part": Case(
        lambda f: f.log(f.applicants(800).drop_columns(["region"])), DRIFT, "region .the column is missing"
    ),
    "a column gone from some parts": Case(
        lambda f: (f.good(600), f.log(f.applicants(400).drop_columns(["age"]), name="b")),
        DRIFT,
        "age .*missing 40 %",
        1_000,
    ),
    "a column of nothing but nulls": Case(lambda f: f.changed("region", lambda c: pa.nulls(len(c))), DRIFT, "region"),
    "a column of typed nulls": Case(
        lambda f: f.changed("age", lambda c: pa.nulls(len(c), pa.int64())), DRIFT, "age .*missing 100 %"
    ),
    "categories never seen": Case(
        lambda f: f.changed("region", lambda c: pa.array(["mars"] * 80 + c.to_pylist()[80:])),
        DRIFT,
        "region .*unseen 10 %",
    ),
    "infinities": Case(lambda f: f.changed("limit", some(np.inf)), DRIFT, "limit .*out of range 10 %"),
    "NaN": Case(lambda f: f.changed("limit", some(np.nan)), DRIFT, "limit .*missing 10 %"),
    "huge values": Case(lambda f: f.changed("limit", some(1e300)), DRIFT, "limit .*out of range 10 %"),
    "one huge value": Case(lambda f: f.changed("limit", some(1e8, 1 / 800)), OK, rows=800),
    "rows in no order": Case(
        lambda f: f.rewritten(lambda t: t.take(np.random.default_rng(0).permutation(t.num_rows))), OK, rows=800
    ),
    "times without a zone": Case(lambda f: f.rewritten(retyped(pa.timestamp("us"))), OK, rows=800),
    "times in another unit and zone": Case(
        lambda f: f.rewritten(retyped(pa.timestamp("ms", "Asia/Tokyo"))), OK, rows=800
    ),
    "times as text": Case(lambda f: f.rewritten(retyped(pa.string())), OK, rows=800),
    "times that are none": Case(
        lambda f: f.rewritten(retyped(pa.int64())),
        LITTLE,
        "800 rows left out because no time can be read from their _time",
        0,
    ),
    "no time at all": Case(
        lambda f: f.rewritten(lambda t: t.drop_columns(["_time"])), (2, "BadInput"), "needs the column _time"
    ),
    "no row in the window": Case(lambda f: f.good(time=NOON - timedelta(hours=13)), LITTLE, "no rows in the window", 0),
    "too few rows": Case(lambda f: f.good(40), LITTLE, "40 rows, and 1[0-9][0-9] are needed", 40),
    "nothing written yet": Case(nothing, LITTLE, "there are no rows at", 0),
    "parts still being written": Case(
        lambda f: (f.beside(".part-1.parquet", b"half"), f.beside("_part-2.parquet", b"half")), OK, rows=800
    ),
    "files of other kinds": Case(
        lambda f: (f.beside("README.md", b"# log"), f.beside("part.parquet.crc", b"1")), OK, rows=800
    ),
    "a name that SQL and globs would read otherwise": Case(
        lambda f: f.good().rename(f.root / "log" / "it's [1]* 100%.parquet"), OK, rows=800, options=()
    ),
    "a name that is a pattern of another's": Case(
        lambda f: [
            f.log(f.applicants(rows, seed=rows), name=name, requests=[f"{name}-{i}" for i in range(rows)])
            for name, rows in (("part[1]", 600), ("part1", 400))
        ],
        OK,
        r"\(limit 0.25\)$",
        1_000,
    ),
    "parts in a directory that is being written": Case(
        lambda f: (f.good(), f.log(f.applicants(400), name="_temporary/0/part-0", revision="small-1/.staging")),
        OK,
        rows=800,
    ),
    "a Delta table": Case(
        lambda f: (f.good(), f.csv(name="log/_delta_log/0.csv")),
        (2, "BadInput"),
        "this is a Delta table",
    ),
    "a feature that only the paths have": Case(
        lambda f: f.log(f.applicants(800).drop_columns(["region"]), revision="small-1/region=north"),
        DRIFT,
        "region .the column is missing .paths have region=",
    ),
    "strings as views": Case(lambda f: f.changed("region", lambda c: c.cast(pa.string_view())), OK, rows=800),
    "files that may hold applicants and are not read": Case(
        lambda f: (f.good(), f.beside("part-1.jsonl", b"{}")), OK, "1 foreign part left out .*is of a kind", 800
    ),
    "nothing but files that are not read": Case(
        lambda f: f.csv(name="log/rows.csv.bz2"), (2, "NoUsableData"), "rows.csv.bz2 is of a kind", options=()
    ),
    "parts with times of all kinds": Case(
        lambda f: [f.timed(f"t{i}", kind) for i, kind in enumerate((pa.timestamp("ms"), TOKYO, pa.string()))],
        OK,
        "",
        1_200,
    ),
    "parts that write one column in several ways": Case(
        lambda f: (
            f.good(),
            f.changed("region", lambda c: c.dictionary_encode(), name="b"),
            f.changed("region", lambda c: c.cast(pa.large_string()), name="c"),
            f.changed("age", lambda c: c.cast(pa.float32()), name="d"),
            f.changed("limit", lambda c: c.cast(pa.decimal128(20, 6), safe=False), name="e"),
            f.changed("education", lambda c: c.cast(pa.uint8()), name="f"),
        ),
        OK,
        rows=4_800,
    ),
    "further columns that differ between the parts": Case(
        lambda f: [
            f.log(f.applicants(400, seed=i).append_column("note", pa.array([note] * 400)), name=f"n{i}")
            for i, note in enumerate(("x", 1, {"a": 1}, [1.5], NOON))
        ],
        OK,
        "model does not know: note",
        rows=2_000,
    ),
    # Text files.
    "a compressed text file": Case(lambda f: f.csv(gzip.compress, "log/rows.csv.gz"), OK, rows=800, options=()),
    "a compressed text file that was cut": Case(
        lambda f: (f.csv(name="log/a.csv"), f.csv(lambda b: gzip.compress(b)[:-5_000], "log/b.csv.gz")),
        OK,
        "1 corrupt part left out .*b.csv.gz",
        800,
        (),
    ),
    "a compressed text file under another name": Case(
        lambda f: f.csv(gzip.compress), (2, "NoUsableData"), "it is compressed", options=()
    ),
    "a text file with a suffix in capitals": Case(
        lambda f: f.csv(name="log/ROWS.CSV"), OK, rows=800, options=(), on_spark=(2, "BadInput")
    ),
    "a text file": Case(lambda f: f.csv(), OK, rows=800, options=()),
    "a text file with a byte order mark": Case(
        lambda f: f.csv(lambda b: b"\xef\xbb\xbf" + b), OK, rows=800, options=()
    ),
    "a text file with Windows line ends": Case(
        lambda f: f.csv(lambda b: b.replace(b"\n", b"\r\n")), OK, rows=800, options=()
    ),
    "a text file with nothing but its header": Case(
        lambda f: f.csv(lambda b: b.splitlines(keepends=True)[0]), LITTLE, "no rows", 0, ()
    ),
    "a text file without bytes": Case(lambda f: f.csv(lambda _: b""), LITTLE, "no rows", 0, ()),
    "words among a text file's numbers": Case(
        lambda f: f.csv(lambda b: re.sub(rb"(?m)^[^,\"\n]+,", b"abc,", b)), DRIFT, "income .*out of range", options=()
    ),
    "a text file cut in the middle of a row": Case(
        lambda f: (f.csv(name="log/a.csv"), f.csv(lambda b: b[: b.rindex(b",", 0, -40)], "log/b.csv")),
        OK,
        "1 corrupt part left out",
        800,
        (),
    ),
    "a text file with semicolons": Case(
        lambda f: f.csv(lambda b: b.replace(b",", b";")), OK, r"\(limit 0.25\)$", 800, ()
    ),
    "text files with semicolons, tabs, bars and commas": Case(
        lambda f: [f.csv(parted(by), f"log/{i}.csv") for i, by in enumerate((b";", b"\t", b"|", b","))],
        OK,
        r"\(limit 0.25\)$",
        3_200,
        (),
    ),
    "a text file of numbers with decimal commas": Case(
        lambda f: f.csv(lambda b: b.replace(b",", b";").replace(b".", b",")), DRIFT, "income .*out of range", 800, ()
    ),
    "a text file compressed by Zstandard": Case(
        lambda f: (f.csv(zstd, "log/rows.csv.zst"), f.csv(gzip.compress, "log/ROWS.CSV.GZ")),
        OK,
        rows=1_600,
        options=(),
        on_spark=(2, "BadInput"),
    ),
    "a text file compressed by Zstandard that was cut": Case(
        lambda f: (f.csv(name="log/a.csv"), f.csv(lambda b: zstd(b)[:-5_000], "log/b.csv.zst")),
        OK,
        "1 corrupt part left out .*b.csv.zst",
        800,
        (),
    ),
    "a text file compressed by Zstandard under another name": Case(
        lambda f: f.csv(zstd, "log/rows.csv.gz"), (2, "NoUsableData"), "rows.csv.gz", options=()
    ),
    "values with line ends, commas and quotes": Case(
        lambda f: f.csv(with_notes), OK, "model does not know: note", 800, ()
    ),
    "a text file with blank lines": Case(
        lambda f: f.csv(lambda b: b.replace(b"\n", b"\n\n", 9) + b"\n\n"), OK, rows=800, options=()
    ),
    "a text file with rows of more values than its header": Case(
        lambda f: (
            f.csv(name="log/a.csv"),
            f.csv(lambda b: b.replace(b"\n", b",1,2\n", 9).replace(b",1,2\n", b"\n", 1), "log/b.csv"),
        ),
        OK,
        "1 corrupt part left out .*b.csv",
        800,
        (),
    ),
    "a text file with two columns of one name": Case(
        lambda f: f.csv(lambda b: b.replace(b"limit", b"income", 1)),
        (2, "NoUsableData"),
        "two columns .*income",
        options=(),
    ),
    "a text file with spaces after its commas": Case(
        lambda f: f.csv(lambda b: b.replace(b",", b", ")), (2, "NoUsableData"), "rows.csv", options=()
    ),
    "a text file in UTF-16": Case(
        lambda f: f.csv(lambda b: b.decode().encode("utf-16")), (2, "NoUsableData"), "UTF-16", options=()
    ),
    "a text file of bytes that are no UTF-8": Case(
        lambda f: f.csv(lambda b: b.replace(b"north", b"n\xf6rth")), (2, "NoUsableData"), "rows.csv", options=()
    ),
    "text beside Parquet": Case(
        lambda f: (f.log(f.applicants(800, seed=1), name="a"), f.log(f.applicants(800, seed=3), name="b"), f.csv()),
        OK,
        "1 foreign part left out .*another format",
        1_600,
        (),
    ),
    # Labels.
    "labels": Case(lambda f: f.labels(lambda t: t), OK, quality=800, options=LABELLED),
    "no labels yet": Case(lambda f: f.good(), OK, "has no labels yet", quality=0, options=LABELLED),
    "labels of other applicants": Case(
        lambda f: f.labels(lambda t: t.set_column(0, "_request_id", pa.array(["x"] * 800))),
        OK,
        quality=0,
        options=LABELLED,
    ),
    "labels twice": Case(
        lambda f: (f.labels(lambda t: t), f.labels(lambda t: t, "labels/b.parquet")), OK, quality=800, options=LABELLED
    ),
    "labels that are neither 0 nor 1": Case(
        lambda f: f.labels(lambda t: t.set_column(2, "_label", pa.array([0, 1, 2, None] * 200))),
        OK,
        quality=400,
        options=LABELLED,
    ),
    "a broken file beside good labels": Case(
        lambda f: (f.labels(lambda t: t), f.labels(lambda _: b"PAR1", "labels/b.parquet")),
        OK,
        "1 files with labels left out",
        quality=800,
        options=LABELLED,
    ),
    "nothing but broken labels": Case(
        lambda f: f.labels(lambda _: b"PAR1"),
        (2, "NoUsableData"),
        "none of 1 files with labels can be read",
        options=LABELLED,
    ),
    "labels without a key": Case(
        lambda f: f.labels(lambda t: t.drop_columns(["_request_id"])),
        (2, "BadInput"),
        "labels need the columns _request_id",
        options=LABELLED,
    ),
    "labels as words": Case(
        lambda f: f.labels(lambda t: t.set_column(2, "_label", pa.array(["bad"] * 800))),
        (2, "BadInput"),
        "_label is stored as string",
        options=LABELLED,
    ),
    # A reference of one's own.
    "a reference without rows": Case(
        lambda f: (f.good(), f.csv(lambda b: b.splitlines(keepends=True)[0], "reference.csv")),
        (2, "NoUsableData"),
        "reference.csv",
        options=ALONE,
    ),
    "a reference of garbage": Case(
        lambda f: (f.good(), f.csv(lambda _: b"\x00\xff\x00" * 99, "reference.csv")),
        (2, "NoUsableData"),
        "reference.csv",
        options=ALONE,
    ),
    "no reference": Case(lambda f: f.good(), (2, "NoUsableData"), "there is no such file", options=ALONE),
    "a small reference": Case(
        lambda f: (f.good(), f.csv(lambda b: b"".join(b.splitlines(keepends=True)[:31]), "reference.csv")),
        LITTLE,
        "the reference has 30 rows, too few",
        options=ALONE,
    ),
    "a reference of something else": Case(
        lambda f: (f.good(), f.csv(lambda _: b"a,b\n1,2\n3,4\n", "reference.csv")),
        (2, "NoUsableData"),
        "half of the 2 features",
        options=ALONE,
    ),
}


def answer(
    case: Case, root: str, bundle: tuple[Path, str], engine_name: str, place: Path
) -> tuple[int, str, str, Drift | Failure]:
    """Exit code, verdict or reason, words, and the whole measurement."""
    options = [option.replace("{root}", root) for option in case.options]
    against = [] if "--reference" in options else ["--bundle", str(bundle[0])]
    code = main([*against, "--current", f"{root}/log", *options, "--engine", engine_name, "--measurement", str(place)])
    measured = parse(place.read_bytes())
    assert isinstance(measured, Drift | Failure)
    said = measured.verdict if isinstance(measured, Drift) else measured.error.reason
    words = measured.reason if isinstance(measured, Drift) else measured.error.message
    return code, said, words.replace(root, ""), measured


@pytest.mark.parametrize("name", CASES)
def test_bad_data_has_its_defined_answer(
    name: str,
    bundle: tuple[Path, str],
    applicants: Any,
    log: Any,
    stored: Callable[[Path], str],
    engine_name: str,
    tmp_path: Path,
) -> None:
    case = CASES[name]
    case.make(Files(tmp_path, applicants, log))
    root = stored(tmp_path)
    code, said, words, measured = answer(case, root, bundle, engine_name, tmp_path / "measurement.json")
    print(f"{name}: exit {code}, {said}: {words}")
    if engine_name == "spark" and case.on_spark:
        assert (code, said) == case.on_spark, words
        return
    assert (code, said) == case.answer, words
    assert re.search(case.words, words), words
    if isinstance(measured, Drift):
        assert case.rows in (None, measured.rows)
        assert case.quality == (None if measured.quality is None else measured.quality.rows)
    if root != str(tmp_path):
        on_disk = answer(case, str(tmp_path), bundle, engine_name, tmp_path / "on-disk.json")
        assert same(on_disk) == same((code, said, words, measured))


def same(found: tuple[int, str, str, Drift | Failure]) -> object:
    """What must not depend on where the data lies: all but the words for what a file system could not read."""
    code, said, words, measured = found
    if isinstance(measured, Failure):
        return code, said
    return code, re.sub(r"\(.*?\)", "", words), measured.model_dump(exclude={"reason"})


IN_STORES = [name for name in CASES if "parts" in name or name in ("labels twice", "a text file with semicolons")]


@pytest.mark.parametrize("name", IN_STORES)
def test_an_object_store_gives_the_answer_of_a_disk(
    name: str, bundle: tuple[Path, str], applicants: Any, log: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A sample, through Arrow's interface to stores. `make test-object-store` asks a real one for all of it."""
    case = CASES[name]
    case.make(Files(tmp_path, applicants, log))
    store = ArrowFSWrapper(fs.SubTreeFileSystem(str(tmp_path.parent), fs.LocalFileSystem()))
    monkeypatch.setattr("creditmodel_bundle.storage._object_store", lambda _: store)
    answers = [
        answer(case, root, bundle, "duckdb", tmp_path / "m.json") for root in (f"s3://{tmp_path.name}", str(tmp_path))
    ]
    assert same(answers[0]) == same(answers[1])


def test_a_directory_whose_name_is_a_pattern_is_that_directory(
    bundle: tuple[Path, str], applicants: Any, tmp_path: Path
) -> None:
    for name, rows in (("a[1]", 300), ("a1", 200)):
        (tmp_path / name).mkdir()
        pq.write_table(applicants(rows), tmp_path / name / "part.parquet")
    place = tmp_path / "m.json"
    for current, rows in ((tmp_path / "a[1]", 300), (tmp_path / "a*", 500)):
        asked = f"{current}/*.parquet" if rows == 500 else str(current)
        assert main(["--bundle", str(bundle[0]), "--current", asked, "--measurement", str(place)]) == 0
        measured = parse(place.read_bytes())
        assert isinstance(measured, Drift)
        assert measured.rows == rows


def test_parts_with_times_in_several_units_are_one_log(
    bundle: tuple[Path, str], applicants: Any, log: Any, tmp_path: Path
) -> None:
    for i, unit in enumerate(("ms", "us", "ns")):
        part = log(applicants(100, seed=i), name=f"part-{i}")
        pq.write_table(retyped(pa.timestamp(unit, "UTC"))(pq.read_table(part, partitioning=None)), part)
    place = tmp_path / "m.json"
    arguments = ["--bundle", str(bundle[0]), "--current", str(tmp_path / "log"), *DAY, "--measurement", str(place)]
    assert main(arguments) == 0
    measured = parse(place.read_bytes())
    assert isinstance(measured, Drift)
    assert measured.rows == 300
