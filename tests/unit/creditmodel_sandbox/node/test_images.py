from __future__ import annotations

import sys
from pathlib import Path

import pytest

from creditmodel_sandbox.node.images import ImageError, Images, parse_option

OWN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "reference",
    [
        "creditmodel-jobs",
        "creditmodel-serving:dev",
        "registry.example:5000/team/creditmodel-operator:v1.2",
        "creditmodel-jobs@sha256:" + "0" * 64,
        "ghcr.io/a/creditmodel-jobs:v1@sha256:" + "0" * 64,
    ],
)
def test_the_projects_images_are_the_nodes_own_environment_whatever_registry_and_tag(reference: str) -> None:
    assert Images().pull(reference).bin_dir == OWN


def test_an_option_adds_an_image_for_every_tag_or_for_one(tmp_path: Path) -> None:
    images = Images(dict([parse_option(f"tool={tmp_path}"), parse_option(f"reg.example/x/other:v1={tmp_path}")]))
    assert images.pull("any.example/tool:7").bin_dir == tmp_path
    assert images.pull("reg.example/x/other:v1").bin_dir == tmp_path
    with pytest.raises(ImageError):
        images.pull("reg.example/x/other:v2")


@pytest.mark.parametrize(
    ("reference", "policy", "reason"),
    [
        ("nginx", "", "ErrImagePull"),
        ("not-creditmodel-jobs", "Always", "ErrImagePull"),
        ("nginx", "Never", "ErrImageNeverPull"),
        ("Not A Name", "", "InvalidImageName"),
        ("", "", "InvalidImageName"),
    ],
)
def test_an_image_that_is_not_there_says_so_in_the_kubelets_words(reference: str, policy: str, reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        Images().pull(reference, policy)
    assert caught.value.reason == reason


def test_the_message_says_how_to_add_an_image() -> None:
    with pytest.raises(ImageError, match=r'"nginx:1" is not an image.*creditmodel-jobs.*--image NAME=BIN_DIR'):
        Images().pull("nginx:1")


@pytest.mark.parametrize("text", ["tool", "=x", "tool=", "tool=/does/not/exist"])
def test_a_malformed_option_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--image"):
        parse_option(text)
