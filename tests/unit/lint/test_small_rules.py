"""The rules that the checks bring themselves: Terraform's layout without Terraform, and which licences are allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from checks.packages import allowed
from checks.terraform import layout_errors

ROOT = Path(__file__).resolve().parents[3]
RESOURCE = """resource "aws_s3_bucket" "this" {
  bucket        = "loans"
  force_destroy = var.allow_destroy

  tags = {
    team = "risk" # who answers
  }
}
"""


def test_what_terraform_itself_laid_out_is_clean() -> None:
    for path in (ROOT / "terraform").rglob("*.tf"):
        assert list(layout_errors(path.read_text())) == [], path


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("  bucket  ", "   bucket  ", ":2: must be indented by 2 spaces"),
        ("force_destroy =", "force_destroy  =", ":3: force_destroy = is not aligned with its neighbours"),
        ('= "loans"', '=  "loans"', ":2: one space belongs after ="),
        ("tags = {", "tags  = {", ":5: one space belongs before ="),
        ("allow_destroy\n", "allow_destroy \n", ":3: ends in spaces"),
        ("tags = {", "tags = [", "does not parse"),
    ],
)
def test_a_slip_is_found_without_terraform(old: str, new: str, error: str) -> None:
    assert list(layout_errors(RESOURCE)) == []
    assert error in "\n".join(layout_errors(RESOURCE.replace(old, new, 1)))


@pytest.mark.parametrize(
    ("licence", "verdict"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("GPL-3.0-or-later OR BSD-3-Clause", True),
        ("Apache-2.0 AND LGPL-2.1-only", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("unknown", False),
    ],
)
def test_a_licence_is_allowed_by_every_part_of_one_alternative(licence: str, verdict: bool) -> None:
    assert allowed(licence) is verdict
