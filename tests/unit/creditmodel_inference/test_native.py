"""Reading in C: what it accepts, it reads as Python does; what it declines, Python reads."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from creditmodel_bundle.contract import Category, Contract, Feature, Reason
from creditmodel_bundle.encoder import Encoder
from creditmodel_bundle.errors import ContractViolation
from creditmodel_inference import native
from creditmodel_inference.batches import Batches
from creditmodel_inference.decoding import CANNOT_DECODE
from creditmodel_inference.intake import Intake
from creditmodel_inference.native import Scanner
from creditmodel_inference.steps import at_once

Row = dict[str, Any]
Rows = Callable[..., list[Row]]
SOURCE = Path(__file__).parents[3] / "inference/native/scan.c"
MAX_ROWS = 100


def built() -> str:
    assert native.LIBRARY is not None, "inference/native was not built: is there a C compiler? (make setup)"
    return native.LIBRARY


def of(features: Iterable[Feature]) -> Contract:
    """A contract with no more than what reading needs."""
    fields: dict[str, Any] = {"features": list(features)}
    return Contract.model_construct(**fields)


def number(name: str, dtype: str = "number", **more: Any) -> Feature:
    return Feature(name=name, dtype=dtype, reason=Reason(code="R", text=name), **more)


@pytest.fixture(scope="module")
def scanner(contract: Contract) -> Scanner:
    return Scanner(built(), contract, MAX_ROWS)


@pytest.fixture(scope="module")
def batches(contract: Contract) -> Batches:
    return Batches(Intake(contract, MAX_ROWS))


def joined(rows: list[Row], **style: Any) -> bytes:
    return json.dumps(rows, **style)[1:-1].encode()


def encoded(contract: Contract, rows: list[Row]) -> bytes:
    encoder = Encoder(contract)
    return np.array([encoder.encode(row) for row in rows], np.float64).tobytes()


def read(scanner: Scanner, piece: bytes) -> bytes | None:
    rows = scanner.rows(piece)
    return None if rows is None else rows.tobytes()


# What is plainly right is accepted.


@pytest.mark.parametrize(
    "style",
    [
        {},
        {"ensure_ascii": False},
        {"separators": (",", ":")},
        {"indent": 2},
        {"indent": "\t", "separators": (" ,", "\r\n: ")},
    ],
    ids=str,
)
def test_what_clients_usually_write_is_read_in_c(
    scanner: Scanner, contract: Contract, applicants: Rows, style: Row
) -> None:
    rows = applicants(50)
    gaps = [{name: value for name, value in row.items() if value is not None} for row in rows]
    backwards = [dict(reversed(row.items())) for row in rows]
    for written in (rows, gaps, backwards):
        assert read(scanner, joined(written, **style)) == encoded(contract, rows)


def test_a_large_body_is_read_in_c_alone(contract: Contract, applicants: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches(Intake(contract, 10_000))
    monkeypatch.setattr(batches._decoder, "_decoded", lambda _: pytest.fail("a piece was declined"))
    reader, body = batches.reader(), json.dumps({"applicants": applicants(100) * 20}).encode()
    for start in range(0, len(body), 100_000):
        at_once(reader.add(body[start : start + 100_000]))
    assert sum(map(len, at_once(reader.finish())[0])) == 2_000


def test_a_category_is_read_in_either_of_its_usual_spellings() -> None:
    values = [
        "",
        "é",
        "\N{GRINNING FACE}",
        'a "quote"',
        "back\\slash",
        "tab\t",
        "\x00\x7f",
        "/",
        "01",
        "1",
        1,
        -1,
        10**18,
    ]
    values += ["a long common beginning, " + end for end in ("", "one", "two", "one and a half")]
    kinds = [Category(value=value, code=code + 100) for code, value in enumerate(values)]
    contract = of([number("kind", "category", categories=kinds, missing="allowed")])
    scanner = Scanner(built(), contract, MAX_ROWS)
    gc.collect()  # the tables must be held by the scanner alone
    for style in ({"ensure_ascii": True}, {"ensure_ascii": False}):
        rows: list[Row] = [{"kind": value} for value in [*values, None]] + [{}]
        assert read(scanner, joined(rows, **style)) == encoded(contract, rows)
    for strange in (
        '"\\u0031"',
        "1.0",
        "1e0",
        "-0",
        "01",
        "true",
        '"É"',
        '"\\/"',
        '"a long common beginning"',
        "[1]",
        "",
    ):
        assert read(scanner, b'{"kind":%b}' % strange.encode()) is None


def test_a_name_that_begins_like_another_is_not_taken_for_it() -> None:
    contract = of(number(name) for name in ("a", "ab", "abcdefghi", "abcdefghij", "B", "b.c-d_e"))
    scanner = Scanner(built(), contract, MAX_ROWS)
    names = [feature.name for feature in contract.features]
    for order in (names, names[::-1], names[3:] + names[:3]):
        rows = [{name: names.index(name) for name in order}]
        assert read(scanner, joined(rows)) == encoded(contract, rows)
    for strange in ("A", "abc", "", "abcdefgh", "abcdefghijk"):
        assert read(scanner, joined([dict.fromkeys([*names[1:], strange], 1)])) is None


# Numbers.

READ = [
    *("0", "0.0", "-0", "-0.0", "-0e5", "0e400", "0E-400", "0.00000000000000000000", "0.0000000123456789012345678"),
    *("5.0", "1E5", "1e+5", "1e05", "0.1e1", "1e22", "9007199254740992e22", "9007199254740992", "9007199254740993.0"),
    *("0.1234567890123456789", "1e-27", "123e-27", "1e-28", "5.551115123125783e-17", "-1e-99"),
]
BROKEN = [
    *("01", "-01", "00", "1.", ".5", "-.5", "+1", "-", "--1", "1e", "1e+", "1.e5", "0x10", "1_0", "1e5.0"),
    *("NaN", "Infinity", "-Infinity", "nan", "null", "true"),
    *('"1"', "[1]", "1 2", "", "1e400", "-1e400", "1e99999999999999999999", "3.1e38", "9007199254740993", "1" * 400),
]
FAR = [
    *("1e23", "12345678901234567e1", "3e38", "1e-100", "1e-400", "5e-324", "9007199254740994"),
    *("0.12345678901234567890", "100000000000000000000.0"),
]
"""Right, and left to Python: more digits or further exponents than are plain."""


@pytest.mark.parametrize("text", READ)
def test_a_number_is_read_to_the_bit(text: str) -> None:
    contract = of([number("x")])
    found = read(Scanner(built(), contract, MAX_ROWS), b'{"x":%b}' % text.encode())
    assert found == encoded(contract, [{"x": json.loads(text)}])


@pytest.mark.parametrize("text", [*BROKEN, *FAR])
def test_a_number_that_is_none_or_cannot_be_rounded_exactly_is_declined(text: str) -> None:
    assert read(Scanner(built(), of([number("x")]), MAX_ROWS), b'{"x":%b}' % text.encode()) is None


@pytest.mark.parametrize("text", ["5", "5.0", "50e-1", "0.5e1", "4.9999999999999999999", "5.5", "5e-1", "1e15", "-0"])
def test_an_integer_may_be_written_as_any_number_that_is_one(text: str) -> None:
    contract = of([number("x", "integer")])
    found = read(Scanner(built(), contract, MAX_ROWS), b'{"x":%b}' % text.encode())
    value = float(text)
    plain = value.is_integer() and len(text) < 20
    assert found == (encoded(contract, [{"x": json.loads(text)}]) if plain else None)


def test_bounds_are_inclusive_and_known_to_the_bit() -> None:
    contract = of([number("x", minimum=0.1, maximum=1e22)])
    scanner = Scanner(built(), contract, MAX_ROWS)
    for value, accepted in [
        (0.1, True),
        (np.nextafter(0.1, 0), False),
        (1e22, True),
        (np.nextafter(1e22, np.inf), False),
    ]:
        assert (read(scanner, joined([{"x": float(value)}])) is not None) == accepted


def decimals(count: int, seed: int) -> list[str]:
    """Spelled numbers: of random float64 and float32, of random digits, and half-way between two float64."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    made = [repr(draw.uniform(-1, 1) * 10 ** draw.randint(-80, 15)) for _ in range(count)]
    made += [repr(float(np.float32(draw.gauss(0, 1) * 10 ** draw.randint(-37, 14)))) for _ in range(count)]
    made += [f"{draw.getrandbits(draw.randint(1, 63))}e{draw.randint(-99, 0)}" for _ in range(count)]
    made += [f"{draw.getrandbits(53)}e{draw.randint(0, 22)}" for _ in range(count)]
    made += [f"{draw.randint(0, 10**6)}.{draw.getrandbits(40)}" for _ in range(count)]
    halves = [(2 * draw.getrandbits(52) + 2**53 + 1) << draw.randint(0, 8) for _ in range(count)]
    made += [f"{half + off}.0" for half in halves if half < 10**18 for off in (-1, 0, 1)]
    made += [f"{draw.randrange(2**52, 2**53)}.5" for _ in range(count)]
    made += [f"{draw.randrange(2**51, 2**52)}.{draw.choice([25, 75])}" for _ in range(count)]
    for _ in range(count):
        # As near to half-way as nineteen digits come, below it and above.
        power, odd = draw.randint(5, 99), 2 * draw.randrange(2**52, 2**53) + 1
        half, cut = odd * 5**power, (5**power).bit_length() - 9
        made += [f"{half >> cut}e-{power}", f"{-(-half >> cut)}e-{power}"]
    return made


def wrongly_read(texts: list[str]) -> list[str]:
    """Those whose bits are not Python's. Raises AssertionError where one was declined."""
    scanner = Scanner(built(), of([number("x")]), len(texts))
    rows = scanner.rows(",".join(f'{{"x":{text}}}' for text in texts).encode())
    assert rows is not None
    same = rows[:, 0].view(np.uint64) == np.array([float(text) for text in texts]).view(np.uint64)
    return [text for text, is_same in zip(texts, same, strict=True) if not is_same]


def test_numbers_of_seventeen_digits_are_rounded_as_python_rounds_them() -> None:
    assert wrongly_read(decimals(2_000, seed=1)) == []


@pytest.mark.full
@pytest.mark.parametrize("seed", range(20))
def test_millions_of_numbers_are_rounded_as_python_rounds_them(seed: int) -> None:
    assert wrongly_read(decimals(50_000, seed)) == []


# What is not plainly right is declined.

SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\r\n ", "\x0b", "\xa0"])
VALUE = st.one_of(
    st.sampled_from(
        [*READ, *BROKEN, *FAR, "1", "2", "3", '"own"', '"é"', '"\\u00e9"', '"own', "{}", "30", "41.5", "7e1"]
    ),
    st.integers(-5, 130).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"\A-?[0-9]{1,3}(\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?\Z"),
)


@st.composite
def spelled(draw: st.DrawFn, row: Row) -> str:
    """An applicant in any spelling, with perhaps a value, a key, or a comma that is none of the contract's."""
    members = [(json.dumps(name), json.dumps(value)) for name, value in row.items()]
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(members) - 1))
        name, value = members[place]
        change = draw(st.sampled_from(["value", "value", "value", "drop", "twice", "escape", "unknown", "move"]))
        if change == "value":
            members[place] = name, draw(VALUE)
        elif change in ("drop", "move"):
            moved = members.pop(place)
            members += [moved] if change == "move" else []
        elif change == "twice":
            members.append((name, draw(st.one_of(st.just(value), VALUE))))
        else:
            other = f'"\\u{ord(name[1]):04x}{name[2:]}' if change == "escape" else '"new"'
            members[place] = other, value
    comma = draw(st.sampled_from([", ", ",", ",,"] if draw(st.integers(0, 9)) == 0 else [", ", ","]))
    inside = comma.join(f"{name}{draw(SPACE)}:{draw(SPACE)}{value}" for name, value in members)
    return f"{{{inside}}}"


def decoded(batches: Batches, piece: bytes) -> bytes | None:
    """The rows that the other way gives; None if it refuses them, or finds a key twice."""
    try:
        rows, repeats_key = batches._decoder._decoded(piece)
    except CANNOT_DECODE:
        return None
    return None if repeats_key else rows.tobytes()


def judged(contract: Contract, piece: bytes) -> bytes | None:
    """The rows that `Encoder` gives; None if it refuses one."""
    try:
        return encoded(contract, json.loads(b"[%b]" % piece))
    except (ContractViolation, ValueError):
        return None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_read_in_c_is_what_the_other_readers_read(
    data: st.DataObject, scanner: Scanner, batches: Batches, contract: Contract, applicants: Rows
) -> None:
    rows = applicants(2, seed=data.draw(st.integers(0, 50)))
    piece = ",".join(data.draw(spelled(row)) for row in rows).encode()
    found = read(scanner, piece)
    if found is not None:
        assert found == decoded(batches, piece) == judged(contract, piece)


@pytest.mark.parametrize("piece", [b"", b" ", b",", b"{}", b"[]", b"1", b"null", b'"', b"{", b"{}x", b"\xef\xbb\xbf{}"])
def test_what_is_no_list_of_applicants_is_declined(scanner: Scanner, piece: bytes) -> None:
    assert read(scanner, piece) is None


def test_a_piece_is_declined_for_whatever_stands_around_its_applicants(scanner: Scanner, applicants: Rows) -> None:
    piece = joined(applicants(3))
    assert read(scanner, piece) is not None
    assert read(scanner, b"\n" + piece + b"\r\t ") == read(scanner, piece)
    for before, behind in [
        (b"", b","),
        (b",", b""),
        (b"", b"]"),
        (b"", b",{}"),
        (b"", b"\x00"),
        (b"\xff", b""),
        (b"", b"}"),
    ]:
        assert read(scanner, before + piece + behind) is None
    for between in (b"} {", b"},, {", b"}, , {", b"};{", b"},[{"):
        assert read(scanner, piece.replace(b"}, {", between)) is None


def test_more_applicants_than_a_request_may_have_are_left_to_the_reader_that_says_so(
    contract: Contract, applicants: Rows
) -> None:
    assert read(Scanner(built(), contract, 3), joined(applicants(3))) is not None
    assert read(Scanner(built(), contract, 3), joined(applicants(4))) is None


@pytest.mark.parametrize("missing", ["allowed", "forbidden"])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_there_is_room_for_the_shortest_applicants_and_no_more_is_kept(missing: str, count: int) -> None:
    contract = of([number("a", missing=missing), number("bc", missing=missing), number("d", missing="allowed")])
    shortest = [{}] if missing == "allowed" else [{"a": 0, "bc": 1}]
    longer = [{"a": 0, "bc": 1, "d": 123_456}]
    for rows in (shortest * count, longer * count):
        found = Scanner(built(), contract, MAX_ROWS).rows(joined(rows, separators=(",", ":")))
        assert found is not None
        assert found.tobytes() == encoded(contract, rows)
        assert (found.base, found.shape) == (None, (count, 3))


# What it costs, and what it touches.


def seconds(action: Callable[[], object]) -> float:
    begun = time.thread_time()
    action()
    return time.thread_time() - begun


def test_thousands_of_features_and_categories_may_come_in_any_order() -> None:
    names = [f"a_rather_long_common_beginning_{i}" for i in range(3_000)]
    kinds = [Category(value=name, code=code) for code, name in enumerate(names)]
    wide = Scanner(built(), of(number(name) for name in names), MAX_ROWS)
    many = Scanner(built(), of([number("kind", "category", categories=kinds)]), 3_000)
    shuffled = random.Random(1).sample(names, len(names))  # noqa: S311 - not for secrets
    ordered, mixed = (joined([dict.fromkeys(order, 1)]) for order in (names, shuffled))
    piece = joined([{"kind": name} for name in shuffled])
    assert all(rows is not None for rows in (wide.rows(ordered), wide.rows(mixed), many.rows(piece)))
    # A look at each for each would take thousands of times as long.
    good = min(seconds(lambda: wide.rows(ordered)) for _ in range(5))
    for slow in (lambda: wide.rows(mixed), lambda: many.rows(piece)):
        assert min(seconds(slow) for _ in range(5)) < 40 * good + 0.001


def test_no_mutated_piece_is_read_beyond_its_end_or_otherwise_than_by_the_encoder(fuzzed: Callable[..., str]) -> None:
    assert 500 < int(fuzzed("scan_fuzz.py", built(), 5_000)) < 4_000


@pytest.mark.full
def test_no_mutated_piece_finds_a_fault_that_sanitizers_see(
    fuzzed: Callable[..., str], sanitized: Callable[[str], tuple[str, dict[str, str]]]
) -> None:
    library, environment = sanitized("scan.c")
    assert 15_000 < int(fuzzed("scan_fuzz.py", library, 150_000, **environment)) < 100_000


# Without it.


def test_without_a_compiler_the_log_says_so_and_python_reads(
    contract: Contract, applicants: Rows, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "LIBRARY", None)
    batches = Batches(Intake(contract, MAX_ROWS))
    assert [(record.levelname, "without a C compiler" in record.message) for record in caplog.records] == [
        ("WARNING", True)
    ]
    rows, repeats_key = batches._decoder.rows(joined(applicants(3)))
    assert (rows.tobytes(), repeats_key) == (encoded(contract, applicants(3)), False)


# Building it.


def build(directory: Path, **environment: str) -> list[bytes]:
    """The libraries that a build from a copy of the sources gives."""
    shutil.copytree(SOURCE.parent, directory / "native")
    shutil.copy(SOURCE.parents[1] / "setup.py", directory)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", "lib"]
    subprocess.run(command, cwd=directory, env={**os.environ, **environment}, check=True, timeout=120)
    return [path.read_bytes() for path in directory.glob("lib/**/*.so")]


@pytest.mark.full
def test_the_library_has_the_same_bytes_wherever_it_is_built(tmp_path: Path) -> None:
    here, there = build(tmp_path / "here"), build(tmp_path / "there" / "deeper")
    assert here == there
    assert len(here) == 1


@pytest.mark.full
def test_a_build_without_a_compiler_succeeds_without_the_library(tmp_path: Path) -> None:
    assert build(tmp_path / "source", CC="/no/such/compiler") == []
