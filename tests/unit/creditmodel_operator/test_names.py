"""Names stay within Kubernetes' limits, and mean the same thing every time."""

from __future__ import annotations

import pytest

from creditmodel_operator import names

DIGEST = "sha256:" + "0123456789abcdef" * 4
LONGEST = "c" * names.MAX_NAME


def test_a_revision_is_the_model_s_name_and_ten_digits_of_its_digest() -> None:
    assert names.revision("credit", DIGEST) == "credit-0123456789"


@pytest.mark.parametrize("gate", ["artifact", "parity", "benchmark"])
def test_a_job_of_the_longest_name_fits_and_keeps_its_hash(gate: str) -> None:
    first, second = names.gate_job(LONGEST, gate, {"a": 1}, 4), names.gate_job(LONGEST, gate, {"a": 2}, 4)
    assert len(first) <= 63
    assert first != second
    assert first.endswith("-4")


def test_two_models_with_names_that_are_cut_alike_do_not_share_a_job() -> None:
    first, second = names.gate_job("c" * 45 + "a", "benchmark", 1, 1), names.gate_job("c" * 45 + "b", "benchmark", 1, 1)
    assert first != second


def test_every_other_name_of_the_longest_model_fits() -> None:
    assert len(names.drift_cronjob(LONGEST)) <= 52
    assert len(names.revision(LONGEST, DIGEST)) <= 63
    assert len(names.service(LONGEST)) <= 63


def test_a_cut_never_ends_in_a_dash() -> None:
    name = names.gate_job("a" * 38 + "-bcdefgh", "benchmark", 1, 1)
    assert "--" not in name


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert names.fingerprint({"a": 1, "b": 2}) == names.fingerprint({"b": 2, "a": 1})


def test_an_episode_is_the_same_for_the_same_beginning() -> None:
    assert names.episode("u", DIGEST, "j") == names.episode("u", DIGEST, "j")
    assert names.episode("u", DIGEST, "j") != names.episode("u", DIGEST, "k")
