from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from creditmodel_sandbox.node.environment import ConfigError, Materials, Paths, Sources
from creditmodel_sandbox.node.launch import PodContext, launch, working_directory
from creditmodel_sandbox.node.lifecycle import Record


@pytest.mark.parametrize(
    ("spec", "container"),
    [({}, {"lifecycle": {"preStop": {}}}), ({"readinessGates": [{"conditionType": "a.test/b"}]}, {})],
)
def test_what_would_be_wrong_if_it_were_ignored_is_refused(
    pod: Any, tmp_path: Path, spec: dict[str, Any], container: dict[str, Any]
) -> None:
    sources = Sources(pod(**spec), Materials(), {}, {})
    context = PodContext(sources, tmp_path, tmp_path, identity="n", volumes={}, given={}, session=None)
    (name,) = {**spec, **container}
    with pytest.raises(ConfigError, match=f"{name}: not supported by the sandbox's node"):
        launch(context, {"name": "c", **container}, Record("c"), 0, Path("/usr/bin"))
    assert list(tmp_path.iterdir()) == []


def test_the_working_directory_is_the_mounted_one_or_the_machines_or_one_of_its_own(tmp_path: Path) -> None:
    real, own = tmp_path / "real", tmp_path / "own"
    real.mkdir()
    own.mkdir()
    paths = Paths({"/data": real})
    assert working_directory({}, paths, own) == own
    assert working_directory({"workingDir": "/data"}, paths, own) == real
    assert working_directory({"workingDir": "/usr"}, paths, own) == Path("/usr")
    assert working_directory({"workingDir": "/no/such"}, paths, own) == own / "no/such"
    assert (own / "no/such").is_dir()
