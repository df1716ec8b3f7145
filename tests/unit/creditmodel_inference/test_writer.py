"""What C writes for large requests: within its bounds, whatever it is given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from creditmodel_bundle.reasons import top_reasons
from creditmodel_inference.native import LIBRARY
from creditmodel_inference.writer import Digits, Rows, Writer

DIGITS = Digits(b"0.5,0.25", b"0.1,-0.2", b"600,580")
DECISIONS = np.array([0, 1], np.int32)
REASONS = np.array([[0, 2, -1, -1], [-1, -1, -1, -1]], np.int32)
MILLIONTHS = np.array([[1_234_567, 3, 0, 0], [0, 0, 0, 0]], np.int32)
ROWS = Rows(DIGITS, DECISIONS, REASONS, MILLIONTHS)
WRITTEN = (
    b'{"probability":0.5,"log_odds":0.1,"points":600<yes>a1.234567},c0.000003}]},'
    b'{"probability":0.25,"log_odds":-0.2,"points":580<no>]}'
)


@pytest.fixture(scope="module")
def writer() -> Writer:
    assert LIBRARY is not None, "inference/native was not built: is there a C compiler? (make setup)"
    return Writer(LIBRARY, ["<yes>", "<no>"], ["a", "b", "c"])


def test_results_are_written_behind_what_is_there(writer: Writer) -> None:
    out = bytearray(b"head:" + bytes(len(WRITTEN)))
    writer.write(ROWS, out, 5)
    assert out == b"head:" + WRITTEN


@pytest.mark.parametrize("room", [0, 1, 20, len(WRITTEN) - 1, len(WRITTEN) + 1])
def test_results_that_take_another_size_are_an_error(writer: Writer, room: int) -> None:
    with pytest.raises(RuntimeError, match="another size"):
        writer.write(ROWS, bytearray(room), 0)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS._replace(decisions=np.array([0, 2], np.int32)),
        ROWS._replace(decisions=np.array([0, -1], np.int32)),
        ROWS._replace(reasons=REASONS + np.int32(3)),
        ROWS._replace(digits=Digits(b"0.5", b"", b"600,")),
    ],
    ids=["decision", "negative decision", "reason", "digits"],
)
def test_what_the_tables_and_digits_do_not_have_is_an_error(writer: Writer, rows: Rows) -> None:
    with pytest.raises(RuntimeError, match="another size"):
        writer.write(rows, bytearray(len(WRITTEN)), 0)


def test_what_results_will_take_is_known_before(writer: Writer) -> None:
    contributions = np.array([[1.234567, -1, 0.000003], [0, 0, 0]], np.float32)
    rows, size = writer.rows(DIGITS, DECISIONS, REASONS, contributions)
    assert size == len(WRITTEN)
    assert rows.millionths[0, :2].tolist() == [1_234_567, 3]


@pytest.mark.parametrize("decision", [-1, 2])
def test_places_that_no_table_has_are_not_measured(writer: Writer, decision: int) -> None:
    contributions = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="does not have"):
        writer.rows(DIGITS, np.array([0, decision], np.int32), REASONS, contributions)
    for reasons, width in ((REASONS + np.int32(1), 3), (REASONS, 2)):
        with pytest.raises(ValueError, match="does not have"):
            writer.rows(DIGITS, DECISIONS, reasons, contributions[:, :width].copy())


def test_only_contiguous_arrays_of_the_right_kind_reach_c(writer: Writer) -> None:
    with pytest.raises(TypeError, match="contiguous array of int32"):
        writer.write(ROWS._replace(decisions=DECISIONS.astype(np.int64)), bytearray(len(WRITTEN)), 0)
    with pytest.raises(TypeError, match="contiguous array of float32"):
        writer.top_reasons(np.zeros((4, 6), np.float32)[:, ::2])


@pytest.mark.parametrize("width", [1, 3, 4, 30])
def test_top_reasons_of_many_rows_are_those_of_each(writer: Writer, width: int) -> None:
    draw = np.random.default_rng(width)
    contributions = np.round(draw.normal(0, 0.0003, (500, width)), 5).astype(np.float32)
    expected = [top_reasons(row) for row in contributions.astype(np.float64).tolist()]
    assert [[i for i in row if i >= 0] for row in writer.top_reasons(contributions).tolist()] == expected


def test_results_of_all_kinds_are_those_that_python_makes(fuzzed: Callable[..., str]) -> None:
    assert LIBRARY is not None
    fuzzed("results_fuzz.py", LIBRARY, 300)


@pytest.mark.full
def test_no_results_find_a_fault_that_sanitizers_see(
    fuzzed: Callable[..., str], sanitized: Callable[[str], tuple[str, dict[str, str]]]
) -> None:
    library, environment = sanitized("results.c")
    fuzzed("results_fuzz.py", library, 20_000, **environment)
