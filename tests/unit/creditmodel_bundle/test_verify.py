"""creditmodel-bundle verify, as a user and as the artifact Job; sealing; and what a measurement can carry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditmodel_bundle.cli import main
from creditmodel_bundle.errors import BundleInvalid
from creditmodel_bundle.manifest import digest_of, seal
from creditmodel_bundle.measurement import MAX_BYTES, Artifact, Failure, FailureDetail, dump, parse

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "log" / "measurement.json"


def failure(path: Path) -> Failure:
    found = parse(path.read_bytes())
    assert isinstance(found, Failure)
    assert found.kind == "artifact"
    assert found.tool.startswith("creditmodel-bundle ")
    return found


def test_a_sound_bundle_is_verified_and_measured(
    sealed: Any, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(sealed.directory), "--digest", sealed.digest, "--measurement", str(written)]) == 0
    found = parse(written.read_bytes())
    assert isinstance(found, Artifact)
    assert (found.digest, found.name, found.model_version, found.files) == (sealed.digest, "toy", "1.0", 6)
    assert found.bytes == sum(p.stat().st_size for p in sealed.directory.iterdir() if p.name != "manifest.json")
    assert (found.evaluation.auc, found.evaluation.rows) == (0.7, 10)
    assert capsys.readouterr().out.splitlines()[-1] == sealed.digest


@pytest.mark.parametrize(
    ("damage", "reason", "code"),
    [
        (lambda d: (d / "model.onnx").write_bytes(b"x" * 1_500_000), "Corrupt", 1),
        (lambda d: (d / "model.onnx").unlink(), "Corrupt", 1),
        (lambda d: (d / "manifest.json").unlink(), "Unreachable", 2),
        (lambda d: (d / "manifest.json").write_text("{"), "Invalid", 2),
    ],
    ids=["flipped", "missing", "no manifest", "no JSON"],
)
def test_a_damaged_bundle_is_refused_and_the_measurement_says_why(
    sealed: Any, written: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], reason: str,
    code: int,
) -> None:  # fmt: skip
    damage(sealed.directory)
    assert main(["verify", str(sealed.directory), "--measurement", str(written)]) == code
    assert failure(written).error.reason == reason
    captured = capsys.readouterr()
    assert captured.err.startswith(f"creditmodel-bundle: {reason}: ")
    assert captured.out == ""


def test_another_digest_is_refused_and_the_measurement_names_the_one_that_was_asked_for(
    sealed: Any, written: Path
) -> None:
    assert main(["verify", str(sealed.directory), "--digest", DIGEST, "--measurement", str(written)]) == 1
    found = failure(written)
    assert (found.error.reason, found.digest) == ("DigestMismatch", DIGEST)
    assert sealed.digest in found.error.message


def test_a_malformed_digest_is_bad_input(sealed: Any, written: Path) -> None:
    assert main(["verify", str(sealed.directory), "--digest", "1234", "--measurement", str(written)]) == 2
    assert failure(written).error.reason == "Invalid"


@pytest.mark.parametrize("name", ["contract.json", "evaluation.json", "golden.json"])
@pytest.mark.parametrize("damage", ["truncated", "schema_version", "unknown field", "not a number", "empty", "binary"])
def test_a_sealed_bundle_whose_document_breaks_its_schema_is_refused_by_name(
    sealed: Any, written: Path, name: str, damage: str
) -> None:
    path = sealed.directory / name
    text = path.read_text()
    document = json.loads(text)
    path.write_bytes(
        {
            "truncated": text[:-5].encode(),
            "schema_version": json.dumps(document | {"schema_version": 2}).encode(),
            "unknown field": json.dumps(document | {"surprise": 1}).encode(),
            "not a number": text.replace("1.0", "NaN").replace("0.7", "NaN").encode(),
            "empty": b"",
            "binary": b"\xff\xfe\x00",
        }[damage]
    )
    digest = seal(sealed.directory, "toy", "2")
    assert main(["verify", str(sealed.directory), "--digest", digest, "--measurement", str(written)]) == 2
    found = failure(written)
    assert (found.error.reason, found.digest) == ("Invalid", digest)
    assert found.error.message.startswith(f"{name}: ")


def test_a_measurement_that_cannot_be_written_is_an_error_without_a_traceback(
    sealed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["verify", str(sealed.directory), "--measurement", str(tmp_path / "file" / "m")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["verify"], ["unpack", "x"], ["verify", "x", "--colour"]])
def test_arguments_that_make_no_sense_are_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2


def test_sealing_again_gives_the_digest_of_what_lies_there(sealed: Any) -> None:
    (sealed.directory / "model.onnx").write_bytes(b"other")
    digest = seal(sealed.directory, "toy", "2")
    assert digest != sealed.digest
    assert digest == digest_of((sealed.directory / "manifest.json").read_bytes())
    assert not [p for p in sealed.directory.iterdir() if p.name.startswith(".")]


def test_sealing_writes_nothing_beside_the_directory_which_may_be_a_volume(sealed: Any) -> None:
    beside = sorted(sealed.directory.parent.iterdir())
    seal(sealed.directory, "toy", "2")
    assert sorted(sealed.directory.parent.iterdir()) == beside


def test_sealing_goes_on_over_what_an_interrupted_one_left(sealed: Any) -> None:
    (sealed.directory / ".manifest-partial").write_text("{")
    seal(sealed.directory, "toy", "2")
    assert main(["verify", str(sealed.directory)]) == 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "weights").mkdir(), "weights is no file"),
        (lambda d: (d / "notes about it.txt").write_text(""), "no plain file name"),
        (lambda d: (d / "model.pt").unlink(), r"without model\.pt"),
        (lambda d: (d / "dangling").symlink_to(d / "nowhere"), "dangling is no file"),
    ],
    ids=["directory", "name", "missing", "dangling link"],
)
def test_a_directory_that_is_no_bundle_is_not_sealed(
    sealed: Any, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(sealed.directory)
    (sealed.directory / "manifest.json").unlink()
    with pytest.raises(BundleInvalid, match=message):
        seal(sealed.directory, "toy", "2")
    assert not (sealed.directory / "manifest.json").exists()


@given(st.text(max_size=8000))
def test_whatever_a_failures_message_is_it_fits_and_can_be_read_again(message: str) -> None:
    document = Failure(tool="t", kind="parity", error=FailureDetail(reason="Broken", message=message))
    raw = dump(document)
    assert len(raw) <= MAX_BYTES
    found = parse(raw)
    assert isinstance(found, Failure)
    assert message.startswith(found.error.message.removesuffix("…")) or found.error.message == message


@pytest.mark.parametrize("character", ["\x00", '"', "é", "\U0001f600", "a"])
def test_a_message_of_characters_that_grow_in_json_is_cut_far_enough(character: str) -> None:
    document = Failure(tool="t", kind="drift", error=FailureDetail(reason="Broken", message=character * 20_000))
    raw = dump(document)
    assert 500 < len(raw) <= MAX_BYTES
    assert isinstance(parse(raw), Failure)


def test_a_directory_that_was_changed_by_hand_is_sealed_anew(sealed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (sealed.directory / "model.onnx").write_bytes(b"another graph")
    assert main(["seal", str(sealed.directory), "--name", "toy", "--version", "2"]) == 0
    digest = capsys.readouterr().out.strip()
    assert digest != sealed.digest
    assert main(["verify", str(sealed.directory), "--digest", digest]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: [(d / name).unlink() for name in ("contract.json", "golden.json")], "contract.json, golden.json"),
        (lambda d: (d / "contract.json").write_text('{"name": "toy"}'), "contract.json: version: Field required"),
        (lambda d: (d / "folder").mkdir(), "a bundle holds files and nothing else"),
        (lambda d: d.rename(d.with_name("elsewhere")), "is no directory"),
    ],
    ids=["without files", "half a contract", "a folder", "not there"],
)
def test_what_is_no_whole_bundle_is_not_sealed(
    sealed: Any, change: Callable[[Path], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(sealed.directory)
    assert main(["seal", str(sealed.directory), "--name", "toy", "--version", "2"]) == 2
    assert message in capsys.readouterr().err
