"""What `make up` tells a person to try."""

from __future__ import annotations

import shlex
from pathlib import Path

import playground


def test_the_commands_to_try_can_be_copied_wherever_the_checkout_lies() -> None:
    names = ("kubeconfig", "bin", "resource", "body")
    paths = {name: Path(f"/home/a b/ü'x/{name}") for name in names}
    lines = [shlex.split(line) for line in playground.to_try(paths, ":8080").splitlines() if line.startswith("  ")]
    words = [word for line in lines for word in line]
    assert f"KUBECONFIG={paths['kubeconfig']}" in words
    assert f"PATH={paths['bin']}:$PATH" in words
    assert str(paths["resource"]) in words
    assert f"@{paths['body']}" in words
