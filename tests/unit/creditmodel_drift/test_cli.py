"""The command: exit codes, the measurement in every case, and sentences instead of tracebacks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest

from creditmodel_bundle.measurement import MAX_BYTES, Drift, Failure, parse
from creditmodel_drift.cli import main

Applicants = Callable[..., pa.Table]


@pytest.fixture
def current(applicants: Applicants, tmp_path: Path) -> Callable[..., str]:
    def write(rows: int = 2_000, shift: float = 0.0) -> str:
        pq.write_table(applicants(rows, seed=7, shift=shift), tmp_path / "current.parquet")
        return str(tmp_path / "current.parquet")

    return write


@pytest.fixture
def run(bundle: tuple[Path, str], engine_name: str, tmp_path: Path) -> Callable[..., tuple[int, Drift | Failure]]:
    """Runs the command on the bundle; its exit code and its measurement."""

    def command(*arguments: str, against: tuple[str, ...] | None = None) -> tuple[int, Drift | Failure]:
        place = tmp_path / "measurement.json"
        code = main(
            [
                *(against or ("--bundle", str(bundle[0]))),
                *arguments,
                "--engine",
                engine_name,
                "--measurement",
                str(place),
            ]
        )
        raw = place.read_bytes()
        assert len(raw) <= MAX_BYTES
        measured = parse(raw)
        assert isinstance(measured, Drift | Failure)
        return code, measured

    return command


Run = Callable[..., tuple[int, Drift | Failure]]


def test_no_drift_is_measured_with_the_bundles_digest(
    run: Run, current: Callable[..., str], bundle: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, measured = run("--current", current(), "--digest", bundle[1], "--fail-on-drift")
    assert isinstance(measured, Drift)
    assert (code, measured.verdict, measured.digest) == (0, "no_drift", bundle[1])
    assert (measured.rows, measured.reference_rows, measured.drifted_share) == (2_000, 8_000, 0)
    assert measured.tool.startswith("creditmodel-drift ")
    assert capsys.readouterr().out.startswith("No drift: 0 of 6 features drifted")


def test_a_measurement_that_finds_no_room_is_said_in_a_sentence_and_nothing_half_is_left(
    current: Callable[..., str], bundle: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "no" / "directory"
    place.parent.write_text("a file is in the way")
    assert main(["--bundle", str(bundle[0]), "--current", current(), "--measurement", str(place)]) == 2
    assert f"the measurement cannot be written to {place}: " in capsys.readouterr().err
    assert not list(tmp_path.glob(".partial*"))


def test_drift_is_exit_1_only_when_it_is_to_fail(run: Run, current: Callable[..., str]) -> None:
    code, measured = run("--current", current(shift=1.0))
    assert isinstance(measured, Drift)
    assert (code, measured.verdict, measured.drifted_features) == (0, "drift", ["limit"])
    assert measured.psi_max is not None
    assert measured.psi_max > 0.5
    assert measured.features[0].name == "limit"
    assert measured.features[0].psi > measured.features[0].threshold
    assert run("--current", current(shift=1.0), "--fail-on-drift")[0] == 1


def test_too_few_rows_are_inconclusive_and_no_failure(run: Run, current: Callable[..., str]) -> None:
    code, measured = run("--current", current(rows=40), "--fail-on-drift")
    assert isinstance(measured, Drift)
    assert (code, measured.verdict) == (0, "inconclusive")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_it_runs_alone_on_two_files(kind: str, run: Run, applicants: Applicants, tmp_path: Path) -> None:
    write = {"parquet": pq.write_table, "csv": pv.write_csv}[kind]
    files = {
        "ref": applicants(5_000, seed=1),
        "same": applicants(2_000, seed=2),
        "moved": applicants(2_000, 3, shift=1),
    }
    for name, table in files.items():
        write(
            table.append_column("note", pa.array([f"n{i}" for i in range(table.num_rows)])), tmp_path / f"{name}.{kind}"
        )
    alone = ("--reference", str(tmp_path / f"ref.{kind}"))
    code, measured = run("--current", str(tmp_path / f"same.{kind}"), "--fail-on-drift", against=alone)
    assert isinstance(measured, Drift)
    assert (code, measured.verdict, measured.digest) == (0, "no_drift", None)
    assert run("--current", str(tmp_path / f"moved.{kind}"), "--fail-on-drift", against=alone)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "reason", "message"),
    [
        (["--current", "{here}/nowhere.csv"], "NoUsableData", "nowhere.csv"),
        (["--current", "{here}/broken.parquet"], "NoUsableData", "broken.parquet"),
        (["--current", "{here}", "--digest", "sha256:" + "0" * 64], "DigestMismatch", "not sha256:0000"),
        (["--current", "ftp://host/x"], "BadInput", "a URI begins with"),
        (["--current", "{here}", "--window", "a day"], "BadInput", "write a number and s, m, h, d or w"),
        (["--current", "{here}", "--until", "yesterday"], "BadInput", "ISO 8601"),
        (["--current", "{here}", "--alpha", "2"], "BadInput", "--alpha is 2; it lies between"),
        (["--current", "{here}", "--sample-rows", "900000"], "BadInput", "--sample-rows is 900000"),
        (["--current", "{here}", "--html", "https://host/x"], "BadInput", "a report goes to a path"),
    ],
)
def test_what_cannot_be_measured_is_exit_2_with_a_reason_and_a_sentence(
    arguments: list[str], reason: str, message: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    code, measured = run(*(argument.replace("{here}", str(tmp_path)) for argument in arguments))
    assert isinstance(measured, Failure)
    assert (code, measured.error.reason) == (2, reason)
    assert message in measured.error.message
    assert capsys.readouterr().err == f"creditmodel-drift: {reason}: {measured.error.message}\n"


def test_an_unreachable_bundle_is_exit_2(run: Run, current: Callable[..., str], tmp_path: Path) -> None:
    code, measured = run("--current", current(), against=("--bundle", str(tmp_path / "none")))
    assert isinstance(measured, Failure)
    assert (code, measured.error.reason) == (2, "Unreachable")


def test_a_report_that_cannot_be_stored_keeps_the_verdict_and_is_exit_2(
    run: Run, current: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    code, measured = run("--current", current(shift=1.0), "--json", str(tmp_path / "file" / "r.json"))
    assert isinstance(measured, Drift)
    assert (code, measured.verdict) == (2, "drift")
    assert measured.reason.startswith("the report could not be stored")
    assert measured.report.json_ is None


def test_spark_without_its_packages_is_exit_2_and_names_the_extra(
    bundle: tuple[Path, str],
    current: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "creditmodel_drift.spark", None)
    assert main(["--bundle", str(bundle[0]), "--current", current(), "--engine", "spark"]) == 2
    assert "BadInput: --engine spark needs the extra creditmodel-drift[spark]" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("true", "false"), ("True", "False"), ("TRUE", "FALSE")])
def test_booleans_drift_however_a_text_file_writes_them(words: tuple[str, str], run: Run, tmp_path: Path) -> None:
    for name, share in (("ref.csv", 3), ("now.csv", 8)):
        lines = [f"{words[0] if i % 10 < share else words[1]},{i % 7}" for i in range(2_000)]
        (tmp_path / name).write_text("\n".join(["flag,x", *lines]) + "\n")
    _, measured = run("--current", str(tmp_path / "now.csv"), against=("--reference", str(tmp_path / "ref.csv")))
    assert isinstance(measured, Drift)
    assert (measured.verdict, measured.drifted_features) == ("drift", ["flag"])
    assert measured.features[0].psi == pytest.approx(0.5 * (np.log(0.8 / 0.3) + np.log(0.7 / 0.2)), abs=0.02)
    assert measured.features[0].unseen_rate == 0


def test_neither_bundle_nor_reference_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--current", "x"])
    assert stopped.value.code == 2
    assert "--bundle --reference is required" in capsys.readouterr().err


def test_a_measurement_of_many_long_names_still_fits(run: Run, tmp_path: Path, applicants: Applicants) -> None:
    names = [f"feature_with_a_very_long_name_{'x' * 80}_{i}" for i in range(60)]
    limit = applicants(3_000, seed=1)["limit"]
    pq.write_table(pa.table(dict.fromkeys(names, limit)), tmp_path / "ref.parquet")
    moved = applicants(2_000, seed=2, shift=2)["limit"]
    pq.write_table(pa.table(dict.fromkeys(names, moved)), tmp_path / "now.parquet")
    _, measured = run(
        "--current", str(tmp_path / "now.parquet"), against=("--reference", str(tmp_path / "ref.parquet"))
    )
    assert isinstance(measured, Drift)
    assert (measured.verdict, measured.drifted_share) == ("drift", 1)
    assert measured.features


@pytest.mark.parametrize("asked", [True, False])
def test_a_failure_names_the_model_as_soon_as_it_is_known(
    asked: bool, run: Run, bundle: tuple[Path, str], tmp_path: Path
) -> None:
    digest = ["--digest", bundle[1]] if asked else []
    _, fetched = run("--current", str(tmp_path / "nowhere.csv"), *digest)
    _, missing = run("--current", "x", *digest, against=("--bundle", str(tmp_path / "none")))
    assert isinstance(fetched, Failure)
    assert isinstance(missing, Failure)
    assert fetched.digest == bundle[1]
    assert missing.digest == (bundle[1] if asked else None)


class _Answers(BaseHTTPRequestHandler):
    """Answers with the status that the path begins with; /cut promises more than comes, /drop closes at once."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        if kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.close_connection = True
        elif kind == "drop":
            self.close_connection = True
        else:
            self.send_error(int(kind))

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass

    def log_error(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as serving:
        thread = Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.mark.parametrize("what", ["log", "a.parquet", "log/*.parquet"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [("500", "500"), ("403", "403"), ("cut", "not completed"), ("drop", "closed connection|disconnected")],
)
def test_a_server_that_does_not_answer_is_an_error_and_no_log_without_rows(
    kind: str, message: str, what: str, run: Run, server: str
) -> None:
    code, measured = run("--current", f"{server}/{kind}/{what}")
    assert isinstance(measured, Failure)
    assert (code, measured.error.reason) == (2, "NoUsableData")
    assert re.search(f"{kind}/{re.escape(what)} .*({message})", measured.error.message)


def test_a_log_that_an_answering_server_has_not_is_a_log_without_rows(run: Run, server: str) -> None:
    code, measured = run("--current", f"{server}/404/log")
    assert isinstance(measured, Drift)
    assert (code, measured.verdict) == (0, "inconclusive")


def test_a_reader_that_has_gone_takes_nothing_back_of_what_was_measured(
    current: Callable[..., str], bundle: tuple[Path, str], tmp_path: Path
) -> None:
    place, read, write = tmp_path / "measurement.json", *os.pipe()
    os.close(read)
    code = "import sys; from creditmodel_drift.cli import main; sys.exit(main())"
    arguments = ["--bundle", str(bundle[0]), "--current", current(), "--measurement", str(place)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert isinstance(parse(place.read_bytes()), Drift)
