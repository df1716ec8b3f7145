"""terraform/docs.py: the inputs and outputs in every README are those of the code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

TERRAFORM = Path(__file__).resolve().parents[3] / "terraform"
VARIABLES = """variable "name" {
  description = "Prefix of \\"every\\" name | here."
  type        = string
}

variable "access" {
  description = "Who may enter."
  type = map(object({
    level = string
  }))
  default = {}

  validation {
    condition     = true
    error_message = "never"
  }
}
"""
OUTPUTS = 'output "id" {\n  description = "Its id."\n  value       = 1\n}\n'


@pytest.fixture(scope="module")
def docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("terraform_docs", TERRAFORM / "docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name.
    sys.modules["terraform_docs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def module(tmp_path: Path, docs: ModuleType) -> Path:
    (tmp_path / "variables.tf").write_text(VARIABLES)
    (tmp_path / "outputs.tf").write_text(OUTPUTS)
    (tmp_path / "README.md").write_text(f"# M\n\n{docs.BEGIN}\n{docs.END}\nAfter.\n")
    return tmp_path


def test_no_readme_in_the_repository_is_stale(docs: ModuleType) -> None:
    assert docs.main(TERRAFORM, check=True) == 0


def test_inputs_and_outputs_are_written_between_the_markers(module: Path, docs: ModuleType) -> None:
    assert docs.main(module, check=False) == 0
    text = (module / "README.md").read_text()
    assert '| `name` | `string` | required | Prefix of "every" name \\| here. |' in text
    assert "| `access` | `map(object({…}))` | `{}` | Who may enter. |" in text
    assert "| `id` | Its id. |" in text
    assert text.endswith("\nAfter.\n")
    assert docs.main(module, check=True) == 0


def test_a_changed_variable_makes_the_readme_stale_and_check_writes_nothing(module: Path, docs: ModuleType) -> None:
    docs.main(module, check=False)
    before = (module / "README.md").read_text()
    (module / "variables.tf").write_text(VARIABLES.replace("Who may enter", "Who may leave"))
    assert docs.main(module, check=True) == 1
    assert (module / "README.md").read_text() == before


def test_a_variable_without_a_description_is_named(
    module: Path, docs: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (module / "variables.tf").write_text('variable "bare" {\n  type = string\n}\n')
    assert docs.main(module, check=False) == 2
    assert "bare has no description" in capsys.readouterr().err


def test_a_module_without_a_readme_is_named(module: Path, docs: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    (module / "README.md").unlink()
    assert docs.main(module, check=True) == 2
    assert "README.md lacks the lines" in capsys.readouterr().err
