"""The scoring log's hash chain, and scoring a log again."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.encoder import Encoder
from creditmodel_inference.arrays import columns_of
from creditmodel_inference.chain import FIRST, KEY, Blocks, PartSeal, blocks_of, head_of, opening, read_seal
from creditmodel_inference.log_cli import main
from creditmodel_inference.pages import Span
from creditmodel_inference.parts import _TextList, schema
from creditmodel_inference.scorer import Scorer
from creditmodel_inference.scoring_log import ScoringLog
from creditmodel_inference.settings import LogSettings

Row = dict[str, Any]


@pytest.fixture
def log(scorer: Scorer, applicants: Callable[..., list[Row]], tmp_path: Path) -> Path:
    """A log of three parts, 1,100 rows and an error each."""
    encoder = Encoder(scorer.contract)
    made = ScoringLog(LogSettings(tmp_path.as_uri()), scorer.contract, scorer.identity)
    made.start()
    for number in range(3):
        rows = np.array([encoder.encode(row) for row in applicants(1100, seed=number)])
        verdicts = scorer.columns(scorer.blocks.run(rows))
        made.add_span(rows, Span(f"request-{number}", 0, 5, verdicts))
        made.add_error("bad", 3, "422: no")
        made.flush()
        deadline = time.monotonic() + 60
        while made.statistics()[1] < 1101 * (number + 1):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    made.close()
    assert len(parts(tmp_path)) == 3
    return tmp_path


def parts(log: Path) -> list[Path]:
    return sorted(log.rglob("*.parquet"))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], seal: bytes | None = None) -> None:
    """Change a part and keep its seal, as a forger would, or put another in its place."""
    with pq.ParquetFile(path) as part:
        table, metadata = change(part.read()), part.metadata.metadata
    writer = pq.ParquetWriter(path, table.schema, compression="gzip")
    writer.write_table(table, row_group_size=100)
    writer.add_key_value_metadata({KEY: seal or metadata[KEY]})
    writer.close()


def with_value(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    column = table[name].to_pylist()
    column[row] = value
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), [column])


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_log_as_it_was_written_verifies(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "verify", log.as_uri()) == (0, "3 parts, 3303 rows, 1 chains: as sealed\n")


def eight(kind: str, *values: float) -> bytes:
    return struct.pack(f"<{len(values)}{kind}", *values)


def four(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}i", *values)


COLUMNS = {
    "n": pa.array([1.5, None, -0.0]),
    "i": pa.array([7, None, 2**40], pa.int64()),
    "s": pa.array(["a", None, "é"], pa.string()),
    "l": pa.array([["R1", "R2"], None, []], pa.list_(pa.string())),
    "t": pa.array([0, 1, 2], pa.timestamp("us", tz="UTC")),
    "r": pa.array(["same"] * 3),
    "w": pa.array([1, 2, 3], pa.int32()),
}
KINDS = [
    ["n", "double"],
    ["i", "int64"],
    ["s", "string"],
    ["l", "list"],
    ["t", "timestamp[us, tz=UTC]"],
    ["r", "string"],
    ["w", "int32"],
]
SOME, EVERY = eight("q", 1, 0, 1), eight("q", 1, 1, 1)
FORM_1 = [
    SOME, eight("d", 1.5, 0, -0.0), SOME, eight("q", 7, 0, 2**40), SOME, SOME, EVERY, eight("q", 0, 1, 2), EVERY,
    EVERY, eight("q", 1, 2, 3), eight("q", 1, 0, 2), "aé".encode(), eight("q", 2, 0, 0), eight("q", 2, 2), b"R1R2",
    eight("q", 4, 4, 4), b"same" * 3,
]  # fmt: skip
TEXTS = {"l": ["R0", "R2", "R1"], "r": ["same"]}
FORM_2 = [
    b"\0\1\0\1", eight("d", 1.5, 0, -0.0), b"\0\1\0\1", eight("q", 7, 0, 2**40),
    b"\0\1\0\1", four(3, 1, 0, 2), "aé".encode(), b"\0\1\0\1", four(2, 0, 0), four(2, 2, 2), b"R1R2",
    b"\1", eight("q", 0, 1, 2), b"\1", four(1, 4), b"same", b"\1", eight("q", 1, 2, 3),
]  # fmt: skip
FORM_3 = [
    four(3), b"\0\1\0\1", eight("d", 1.5, 0, -0.0), b"\0\1\0\1", eight("q", 7, 0, 2**40),
    b"\0\1\0\1", four(3, 1, 0, 2), "aé".encode(), b"\0\1\0\1", four(2, 0, 0), b"\2\1",
    b"\1", eight("q", 0, 1, 2), b"\0\0\0", b"\1", four(1, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize(("version", "pieces", "texts"), [(1, FORM_1, {}), (2, FORM_2, {}), (3, FORM_3, TEXTS)])
def test_a_link_is_what_the_described_form_gives_by_hand(
    version: int, pieces: list[bytes], texts: dict[str, list[str]]
) -> None:
    table = pa.table(COLUMNS)
    told = json.dumps(KINDS) + ("\n" + json.dumps(TEXTS) if version == 3 else "")
    first = hashlib.sha256(b"creditmodel scoring log %d\n" % version + told.encode()).digest()
    assert opening(table.schema, version, texts) == first
    blocks = Blocks(columns_of(table, texts), blocks_of(3, version), version)
    assert blocks.link(0, first) == hashlib.sha256(first + b"".join(pieces)).digest()


def test_a_text_that_the_log_has_not_written_has_a_place_of_its_own() -> None:
    known, forged = (columns_of(pa.table({"t": pa.array([text])}), {"t": ["a", "b"]}) for text in ("b", "c"))
    assert Blocks(known, [1]).link(0, b"") == hashlib.sha256(four(1) + b"\1").digest()
    assert Blocks(forged, [1]).link(0, b"") == hashlib.sha256(four(1) + b"\xfe").digest()


@pytest.mark.parametrize(("version", "told"), [(1, "rows 256 to 511"), (2, "rows 0 to 1023")])
def test_a_log_in_an_older_form_is_still_verified(
    log: Path, capsys: pytest.CaptureFixture[str], version: int, told: str
) -> None:
    previous = FIRST
    for sequence, path in enumerate(parts(log), start=1):
        table = pq.read_table(path, partitioning=None)
        first = opening(table.schema, version)
        links = Blocks(columns_of(table, {}), blocks_of(len(table), version), version).links(first)
        head = head_of(links[-1], "c", sequence, previous, len(table))
        seal = PartSeal(version, "c", sequence, previous, len(table), [link.hex() for link in links], head)
        document = {key: value for key, value in json.loads(seal.encode()).items() if key not in ("blocks", "texts")}
        writer = pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
        writer.add_key_value_metadata({KEY: json.dumps(document)})
        writer.close()
        previous = head
    assert run(capsys, "verify", str(log)) == (0, "3 parts, 3303 rows, 1 chains: as sealed\n")
    rewrite(parts(log)[1], lambda table: with_value(table, "age", 300, 17))
    assert f"{told} are not what was sealed" in run(capsys, "verify", str(log))[1]


def test_two_texts_that_change_places_in_the_seal_and_in_every_row_are_found(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = parts(log)[0]
    document = json.loads(pq.read_metadata(path).metadata[KEY])
    first, second, *others = document["texts"]["_decision"]
    document["texts"]["_decision"] = [second, first, *others]

    def swapped(table: pa.Table) -> pa.Table:
        other = {first: second, second: first}
        decisions = [other.get(decision, decision) for decision in table["_decision"].to_pylist()]
        return table.set_column(table.column_names.index("_decision"), "_decision", [decisions])

    rewrite(path, swapped, json.dumps(document).encode())
    code, text = run(capsys, "verify", str(log))
    assert (code, "rows 0 to 1023 are not what was sealed" in text) == (1, True)


def test_every_reader_finds_the_types_that_are_promised(log: Path, scorer: Scorer) -> None:
    found = pq.read_schema(parts(log)[0])
    assert [(field.name, field.type) for field in found if field.name != "_reasons"] == [
        (field.name, field.type) for field in schema(scorer.contract) if field.name != "_reasons"
    ]
    assert found.field("_reasons").type.value_type == pa.string()


def test_features_that_share_a_reason_code_have_one_place_for_it() -> None:
    texts = _TextList(["R1", "R2", "R1"])
    assert texts.texts == ["R1", "R2"]
    assert texts.column(np.array([2, 1, 0, -1])).places.tolist() == [0, 1, 0, -1]


def test_rows_around_midnight_go_to_the_parts_of_their_days(
    scorer: Scorer,
    applicants: Callable[..., list[Row]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("creditmodel_inference.parts.GROUP_ROWS", 1_024)  # a page's and a day's do not fit
    asked = applicants(700, seed=8)
    rows = np.array([Encoder(scorer.contract).encode(row) for row in asked])
    verdicts = scorer.columns(scorer.blocks.run(rows))
    midnight = 1_767_225_600
    made = ScoringLog(LogSettings(tmp_path.as_uri()), scorer.contract, scorer.identity)
    for request, at in (("before", midnight * 10**9 - 1), ("after", midnight * 10**9)):
        monkeypatch.setattr(time, "time_ns", lambda at=at: at)
        made.add_span(rows, Span(request, 0, 5, verdicts))
    made.start()
    made.close()
    assert run(capsys, "verify", str(tmp_path)) == (0, "2 parts, 1400 rows, 1 chains: as sealed\n")
    for date, request in (("2025-12-31", "before"), ("2026-01-01", "after")):
        table = pq.read_table(tmp_path / f"date={date}", partitioning=None)
        assert set(table["_request_id"].to_pylist()) == {request}
        assert table["_row"].to_pylist() == list(range(700))
        assert table.select([feature.name for feature in scorer.contract.features]).to_pylist() == asked


def test_another_encoding_of_the_same_rows_verifies(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(parts(log)[1], lambda table: table)
    assert run(capsys, "verify", str(log))[0] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("age", 30), ("age", None), ("income", 1.5), ("home", "é"), ("_probability", 0.5), ("_decision", "x"),
        ("_reasons", ["R01"]), ("_reasons", None), ("_request_id", "other"), ("_error", ""), ("_digest", "sha256:0"),
    ],
)  # fmt: skip
def test_an_edited_row_is_found_within_its_block(
    log: Path, capsys: pytest.CaptureFixture[str], name: str, value: object
) -> None:
    with pq.ParquetFile(parts(log)[1]) as part:
        column = part.read([name])[name].to_pylist()
    row = next(i for i in range(1030, 1100) if column[i] != value)
    rewrite(parts(log)[1], lambda table: with_value(table, name, row, value))
    code, text = run(capsys, "verify", str(log))
    assert code == 1
    assert (
        text == f"{parts(log)[1]}: rows 1024 to 1100 are not what was sealed\n3 parts, 3303 rows, 1 chains: 1 faults\n"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: pa.concat_tables([t.slice(0, 10), t.slice(11)]), "has 1100 rows, and was sealed with 1101"),
        (lambda t: pa.concat_tables([t, t.slice(5, 1)]), "has 1102 rows, and was sealed with 1101"),
        (lambda t: t.take([1, 0, *range(2, len(t))]), "rows 0 to 1023 are not what was sealed"),
        (lambda t: t.slice(0, 0), "has 0 rows"),
        (lambda t: t.drop_columns(["_error"]), "are not what was sealed"),
        (lambda t: t.rename_columns(["x", *t.column_names[1:]]), "rows 0 to 1023 are not what was sealed"),
    ],
)
def test_deleted_added_and_moved_rows_are_found(
    log: Path, capsys: pytest.CaptureFixture[str], change: Callable[[pa.Table], pa.Table], told: str
) -> None:
    rewrite(parts(log)[0], change)
    code, text = run(capsys, "verify", str(log))
    assert code == 1
    assert told in text


def test_missing_parts_are_found_and_the_last_one_with_an_anchor(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, last = parts(log)
    seal = read_seal(pq.read_metadata(last).metadata)
    assert seal is not None
    anchor = f"{seal.chain}:{seal.sequence}:{seal.head}"
    assert run(capsys, "verify", str(log), "--anchor", anchor)[0] == 0
    forged = anchor[:-1] + ("1" if anchor[-1] == "0" else "0")
    assert "has another head than the anchor" in run(capsys, "verify", str(log), "--anchor", forged)[1]
    last.rename(log / "last")
    assert run(capsys, "verify", str(log))[0] == 0
    code, text = run(capsys, "verify", str(log), "--anchor", anchor)
    assert (code, "part 3 is missing, which the anchor names" in text) == (1, True)
    (log / "last").rename(last)
    second.unlink()
    assert "parts 2 to 2 of chain" in run(capsys, "verify", str(log))[1]
    first.unlink()
    assert "parts 1 to 2 of chain" in run(capsys, "verify", str(log))[1]
    assert run(capsys, "verify", str(log), "--since", "2020-01-01")[0] == 0


def test_a_part_that_is_no_parquet_is_a_fault(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts(log)[2].write_bytes(b"PAR1nothing")
    code, text = run(capsys, "verify", str(log))
    assert (code, "cannot be read" in text) == (1, True)


def test_an_empty_or_absent_log_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        code, text = run(capsys, "verify", str(place))
        assert (code, "has no parts" in text) == (2, True)


def test_a_log_scored_again_gives_the_same_bits(log: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "replay", str(log), "--bundle", str(bundle), "--tolerance", "0")
    assert (code, text) == (0, "3303 rows, 3300 scored again, 3 of other models or errors: 0 differ\n")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("_probability", 0.987, "probability 0.987, now 0."),
        ("_decision", "x", "decision 'x', now "),
        ("_reasons", ["R99"], "reasons ['R99'], now "),
        ("age", 10, "its inputs break the contract"),
    ],
)
def test_a_row_that_scores_differently_is_named(
    log: Path, bundle: Path, capsys: pytest.CaptureFixture[str], name: str, value: object, told: str
) -> None:
    rewrite(parts(log)[1], lambda table: with_value(table, name, 7, value))
    code, text = run(capsys, "replay", str(log), "--bundle", str(bundle))
    assert code == 1
    assert f"request-1 row 7: {told}" in text
    assert text.endswith(": 1 differ\n")
