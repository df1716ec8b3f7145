from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from creditmodel_training.errors import ModelFileError
from creditmodel_training.fit.fitting import Fitted
from creditmodel_training.model import load, save
from creditmodel_training.prepare import Prepared


def test_a_loaded_network_answers_bit_for_bit_as_the_saved_one(
    fitted: Fitted, clients: Prepared, tmp_path: Path
) -> None:
    save(fitted.network, tmp_path / "model.pt")
    loaded = load(tmp_path / "model.pt")
    assert not loaded.training
    x = torch.from_numpy(clients.x)
    for saved, again in zip(fitted.network(x), loaded(x), strict=True):
        assert torch.equal(saved, again)


def test_the_same_network_is_saved_as_the_same_bytes(fitted: Fitted, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        save(fitted.network, tmp_path / name / "model.pt")
    assert (tmp_path / "first" / "model.pt").read_bytes() == (tmp_path / "second" / "model.pt").read_bytes()


class Exploit:
    """What a hostile file would hold: unpickling it runs a function."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, ("unused", "unused")


def test_a_pickled_object_is_refused_and_never_run(tmp_path: Path) -> None:
    torch.save({"config": Exploit(), "state_dict": {}}, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match="not a PyTorch state"):
        load(tmp_path / "model.pt")


def changed(fitted: Fitted, path: Path, **changes: object) -> Path:
    save(fitted.network, path)
    document = torch.load(path, weights_only=True)
    document["config"].update(changes)
    torch.save(document, path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "transformer/9"}, "architecture"),
        ({"features": 3}, "size mismatch|Error"),
        ({"features": "many"}, "does not hold"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_another_architecture_is_refused(
    changes: dict[str, object], message: str, fitted: Fitted, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match=message):
        load(changed(fitted, tmp_path / "model.pt", **changes))


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04broken"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.pt"):
        load(tmp_path / "model.pt")


def test_an_absent_file_and_a_bare_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"model\.pt"):
        load(tmp_path / "model.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(ModelFileError, match="says no architecture"):
        load(tmp_path / "tensor.pt")


def test_loading_a_model_needs_neither_scikit_learn_nor_the_onnx_exporter() -> None:
    code = (
        "import sys, creditmodel_training.model\n"
        "print([m for m in ('sklearn', 'onnx', 'onnxscript', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
