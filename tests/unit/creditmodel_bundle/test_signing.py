"""Signatures: who signed is who is trusted, what was signed is what is there, and others' tools make the same.

`openssf/` holds a model that `model_signing sign key` (model-signing 1.1.1) has signed, with its public key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from creditmodel_bundle.cli import main
from creditmodel_bundle.errors import BundleInvalid, BundleUntrusted, KeyUnusable
from creditmodel_bundle.manifest import digest_of, seal
from creditmodel_bundle.measurement import Artifact, Failure, parse
from creditmodel_bundle.signing import PrivateKey, public_keys, sign, verify

JSON = dict[str, Any]
OPENSSF = Path(__file__).parent / "openssf"
PEM = serialization.Encoding.PEM


def write_keys(directory: Path, curve: ec.EllipticCurve | None = None, password: bytes | None = None) -> Path:
    """A key pair as private.pem and keys/public.pem; the private one."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    (directory / "keys").mkdir(parents=True)
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    (directory / "private.pem").write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))
    public = key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (directory / "keys" / "public.pem").write_bytes(public)
    return directory / "private.pem"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_keys(tmp_path / "owner")


def trusted(key: Path) -> str:
    return str(key.parent / "keys")


def files_in(directory: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.glob("m*")}


def test_a_signed_bundle_is_verified_and_the_measurement_names_the_key(
    sealed: Any, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sign", str(sealed.directory), "--key", str(key)]) == 0
    written = tmp_path / "measurement.json"
    arguments = ["--digest", sealed.digest, "--public-key", trusted(key), "--measurement", str(written)]
    assert main(["verify", str(sealed.directory), *arguments]) == 0
    found = parse(written.read_bytes())
    assert isinstance(found, Artifact)
    fingerprint = public_keys(Path(trusted(key)))[0].fingerprint
    assert found.signed_by == fingerprint
    assert capsys.readouterr().out.count(fingerprint) == 2


def test_a_signature_is_looked_at_only_where_keys_are_given(sealed: Any, tmp_path: Path) -> None:
    written = tmp_path / "measurement.json"
    (sealed.directory / "signature").write_text("nonsense")
    assert main(["verify", str(sealed.directory), "--measurement", str(written)]) == 0
    found = parse(written.read_bytes())
    assert isinstance(found, Artifact)
    assert found.signed_by is None


def reseal(sealed: Any) -> None:
    """Another model, sealed by somebody who has no key, under the old signature."""
    before = (sealed.directory / "signature").read_bytes()
    (sealed.directory / "model.onnx").write_bytes(b"another")
    seal(sealed.directory, "toy", "1.0")
    (sealed.directory / "signature").write_bytes(before)


def edit_payload(sealed: Any) -> None:
    """The list of files altered, under the old signature."""
    file = sealed.directory / "signature"
    document = json.loads(file.read_text())
    payload = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    payload["predicate"]["resources"][0]["digest"] = "0" * 64
    document["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    file.write_text(json.dumps(document))


def sign_with_another_key(sealed: Any) -> None:
    stranger = write_keys(sealed.directory.parent / "stranger")
    assert main(["sign", str(sealed.directory), "--key", str(stranger)]) == 0


def remove(sealed: Any) -> None:
    (sealed.directory / "signature").unlink()


def garble(sealed: Any) -> None:
    (sealed.directory / "signature").write_bytes(b"\x00\xff not JSON")


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (remove, "Unsigned"),
        (garble, "SignatureUntrusted"),
        (sign_with_another_key, "SignatureUntrusted"),
        (edit_payload, "SignatureUntrusted"),
        (reseal, "SignatureMismatch"),
    ],
)
def test_what_nobody_trusted_has_signed_is_refused_and_the_measurement_says_why(
    sealed: Any, key: Path, tmp_path: Path, harm: Callable[[Any], None], reason: str
) -> None:
    assert main(["sign", str(sealed.directory), "--key", str(key)]) == 0
    harm(sealed)
    written = tmp_path / "measurement.json"
    arguments = ["--public-key", trusted(key), "--measurement", str(written)]
    assert main(["verify", str(sealed.directory), *arguments]) == 1
    found = parse(written.read_bytes())
    assert isinstance(found, Failure)
    assert found.error.reason == reason


def test_one_of_several_trusted_keys_is_enough_so_that_keys_can_be_rotated(sealed: Any, key: Path) -> None:
    new = write_keys(key.parent / "new")
    shutil.copy(new.parent / "keys" / "public.pem", key.parent / "keys" / "new.pem")
    for signer in (key, new):
        assert main(["sign", str(sealed.directory), "--key", str(signer)]) == 0
        assert main(["verify", str(sealed.directory), "--public-key", trusted(key)]) == 0


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_every_curve_of_the_format_signs(sealed: Any, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    signer = write_keys(tmp_path / "curve", curve)
    assert main(["sign", str(sealed.directory), "--key", str(signer)]) == 0
    assert main(["verify", str(sealed.directory), "--public-key", trusted(signer)]) == 0


def test_an_encrypted_key_asks_for_its_password(
    sealed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signer = write_keys(tmp_path / "locked", password=b"open sesame")
    assert main(["sign", str(sealed.directory), "--key", str(signer)]) == 2
    assert "encrypted" in capsys.readouterr().err
    monkeypatch.setenv("CREDITMODEL_SIGNING_KEY_PASSWORD", "open sesame")
    assert main(["sign", str(sealed.directory), "--key", str(signer)]) == 0


def test_a_bundle_that_is_not_sound_is_not_signed(sealed: Any, key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sealed.directory / "model.onnx").write_bytes(b"x" * 1_500_000)
    assert main(["sign", str(sealed.directory), "--key", str(key)]) == 1
    assert "model.onnx" in capsys.readouterr().err
    assert not (sealed.directory / "signature").exists()


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n", None])
def test_keys_that_are_none_are_named_and_may_be_mended(tmp_path: Path, sealed: Any, content: bytes | None) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    if content is not None:
        (folder / "key.pem").write_bytes(content)
    assert main(["verify", str(sealed.directory), "--public-key", str(folder)]) == 2
    with pytest.raises(KeyUnusable):
        public_keys(folder)


def test_a_key_of_another_kind_is_refused_with_the_kinds_that_do(tmp_path: Path) -> None:
    other = rsa.generate_private_key(65537, 2048)
    file = tmp_path / "rsa.pem"
    file.write_bytes(other.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyUnusable, match="P-256"):
        public_keys(file)
    private = other.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(KeyUnusable, match="P-256"):
        PrivateKey.of_pem(private)


def test_a_signature_of_the_openssf_s_own_tool_is_accepted() -> None:
    (key,) = public_keys(OPENSSF / "public.pem")
    signature = (OPENSSF / "signature").read_bytes()
    assert verify(signature, files_in(OPENSSF), [key]) == key
    with pytest.raises(BundleUntrusted, match="another model: added was signed as nothing"):
        verify(signature, files_in(OPENSSF) | {"added": "0" * 64}, [key])


def test_what_is_written_has_the_shape_that_the_openssf_s_own_tool_writes(key: Path) -> None:
    signer = PrivateKey.of_pem(key.read_bytes())
    ours = json.loads(sign("toy", files_in(OPENSSF), signer))
    theirs = json.loads((OPENSSF / "signature").read_text())
    assert shape(ours) == shape(theirs)
    statements = [json.loads(base64.b64decode(found["dsseEnvelope"]["payload"])) for found in (ours, theirs)]
    for statement in statements:
        statement["predicate"]["serialization"].pop("ignore_paths")
    assert statements[0] == {**statements[1], "subject": [{**statements[1]["subject"][0], "name": "toy"}]}


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(child) for key, child in value.items()}
    return [shape(child) for child in value] if isinstance(value, list) else type(value).__name__


def test_sealing_again_removes_a_signature_of_what_was_there_before(sealed: Any, key: Path) -> None:
    assert main(["sign", str(sealed.directory), "--key", str(key)]) == 0
    digest = digest_of((sealed.directory / "manifest.json").read_bytes())
    assert digest == sealed.digest
    seal(sealed.directory, "toy", "2.0")
    assert not (sealed.directory / "signature").exists()


def test_a_manifest_that_lists_the_signature_is_invalid(sealed: Any) -> None:
    entries = [*sealed.entries(), {"path": "signature", "sha256": "0" * 64, "size": 1}]
    sealed.change(files=entries)
    from creditmodel_bundle.storage import fetch

    with pytest.raises(BundleInvalid, match="signature"):
        fetch(str(sealed.directory), sealed.directory.parent / "copy")
