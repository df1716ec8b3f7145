"""Each check of `make lint` finds a mistake that is planted in a copy of what it looks at, and names the file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from checks.common import BIN, Check
from checks.registry import CHECKS, SOURCES

ROOT = Path(__file__).resolve().parents[3]
BY_NAME = {check.name: check for check in CHECKS}


@dataclass(frozen=True)
class Mistake:
    """A mistake of one kind: what of the checkout is copied, the file that is changed, and what must be said of it."""

    check: str
    sentence: str
    copied: tuple[str, ...]
    file: str
    change: Callable[[str], str]
    said: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.check}: {self.sentence}"


def replaced(old: str, new: str) -> Callable[[str], str]:
    """Replace the first occurrence, which must be there."""

    def change(text: str) -> str:
        assert old in text, f"{old!r} is not in the file any more; plant another mistake"
        return text.replace(old, new, 1)

    return change


def added(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}{line}\n"


PYTHON = ("pyproject.toml", "bundle/src")
ALL_SOURCES = ("pyproject.toml", *SOURCES)
MANIFESTS = ("manifests", "crds")
RULES = ("manifests/monitoring", ".ci/check-rules")
PROJECTS = ("constraints.txt", "requirements-dev.txt", "operator/pyproject.toml")
ERRORS = "bundle/src/creditmodel_bundle/errors.py"
WORKFLOW = ".github/workflows/ci.yml"
SAMPLE = "manifests/samples/creditmodel.yaml"
NETWORK = "terraform/modules/network/main.tf"
TOKEN = "".join(("ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"))  # in two parts, or this file would be found
CHECKOUT = "actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8"

MISTAKES = [
    Mistake(
        "ruff", "a name that does not exist", PYTHON, ERRORS, added("print(undefined_name)"), ("errors.py", "F821")
    ),
    Mistake("format", "single quotes", PYTHON, ERRORS, added("x = 'a'"), ("errors.py",)),
    Mistake("types", "a number for a text", PYTHON, ERRORS, added("text: str = 1"), ("errors.py", "assignment")),
    Mistake(
        "imports",
        "torch in the operator",
        ALL_SOURCES,
        "operator/src/creditmodel_operator/names.py",
        added("import torch"),
        ("creditmodel_operator.names -> torch", "The operator has no numeric stack BROKEN"),
    ),
    Mistake(
        "native",
        "a number that loses its sign",
        ("inference/native",),
        "inference/native/scan.c",
        replaced("return 64 - __builtin_clzll(value);", "return value - 64;"),
        ("scan.c", "conversion"),
    ),
    Mistake(
        "manifests",
        "a field that Kubernetes does not have",
        MANIFESTS,
        "manifests/base/deployment.yaml",
        replaced("serviceAccountName:", "serviceAccount_Name:"),
        ("manifests/base/kustomization.yaml", "serviceAccount_Name"),
    ),
    Mistake(
        "manifests",
        "a kustomization of a file that is gone",
        MANIFESTS,
        "manifests/base/kustomization.yaml",
        replaced("deployment.yaml", "deploiment.yaml"),
        ("manifests/base/kustomization.yaml", "deploiment.yaml"),
    ),
    Mistake(
        "manifests",
        "a field that the CRD does not have",
        MANIFESTS,
        SAMPLE,
        replaced("targetCPUUtilization", "targetCpu"),
        (SAMPLE, "spec.serving.targetCpu: no such field"),
    ),
    Mistake(
        "manifests",
        "a rule of the CRD's that does not hold",
        MANIFESTS,
        SAMPLE,
        replaced("{min: 2, max: 6}", "{min: 8, max: 6}"),
        (SAMPLE, "spec.serving.replicas"),
    ),
    Mistake(
        "manifests",
        "an overlay's patch that makes a list of a number",
        MANIFESTS,
        "manifests/overlays/dev/kustomization.yaml",
        replaced("value: {cpu: 20m, memory: 128Mi}", "value: [20m]"),
        ("manifests/overlays/dev", "requests"),
    ),
    Mistake(
        "manifests",
        "a monitor that names its endpoints wrongly",
        MANIFESTS,
        "manifests/monitoring/serving-pods.yaml",
        replaced("podMetricsEndpoints", "podMetricEndpoints"),
        ("manifests/monitoring", "podMetricEndpoints"),
    ),
    Mistake(
        "manifests",
        "an example in the documentation that nobody could apply",
        (*MANIFESTS, "README.md"),
        "README.md",
        replaced("keepPreviousSeconds: 3600", "keepPreviousSeconds: one hour"),
        ("README.md", "keepPreviousSeconds"),
    ),
    Mistake(
        "crds",
        "a CRD edited by hand",
        MANIFESTS,
        "crds/creditmodel.dev_creditmodels.yaml",
        replaced("shortNames:", "categories: []\n    shortNames:"),
        ("crds/creditmodel.dev_creditmodels.yaml", "make crds"),
    ),
    Mistake(
        "crds",
        "a CEL rule that does not compile",
        MANIFESTS,
        "manifests/crds/creditmodel.dev_creditmodels.yaml",
        replaced("rule: ", "rule: self.nowhere == 1 && "),
        ("manifests/crds", "nowhere"),
    ),
    Mistake(
        "terraform",
        "a line that is not aligned",
        ("terraform",),
        NETWORK,
        added("locals {\n  a = 1\n  long = 2\n}"),
        ("main.tf",),
    ),
    Mistake(
        "tables",
        "a variable that the README does not list",
        ("terraform",),
        "terraform/modules/network/variables.tf",
        added('\nvariable "more" {\n  description = "More."\n  type        = string\n}'),
        ("network/README.md is stale",),
    ),
    Mistake(
        "alerts",
        "a metric that nothing exposes",
        RULES,
        "manifests/monitoring/rules.yaml",
        replaced("absent(creditmodel_operator_build_info)", "absent(creditmodel_operator_info)"),
        ("rules.yaml", "CreditModelOperatorDown: nothing exposes creditmodel_operator_info"),
    ),
    Mistake(
        "alerts",
        "a query that does not parse",
        RULES,
        "manifests/monitoring/rules.yaml",
        replaced("absent(creditmodel_operator_build_info)", "absent(creditmodel_operator_build_info"),
        ("rules.yaml",),
    ),
    Mistake(
        "dashboards",
        "a panel of a metric that nothing exposes",
        ("manifests/monitoring",),
        "manifests/monitoring/dashboards/operator.json",
        replaced("creditmodel_operator_passes_total", "creditmodel_passes_total"),
        ("dashboards/operator.json", "nothing exposes creditmodel_passes_total"),
    ),
    Mistake(
        "dashboards",
        "a file that is no JSON",
        ("manifests/monitoring",),
        "manifests/monitoring/dashboards/model.json",
        replaced("{", ""),
        ("dashboards/model.json",),
    ),
    Mistake(
        "dockerfiles",
        "a base image that floats",
        ("Dockerfile.operator",),
        "Dockerfile.operator",
        added("FROM debian:latest"),
        ("Dockerfile.operator", "DL3007"),
    ),
    Mistake("scripts", "a variable without quotes", (".ci",), ".ci/run", added("rm -r $1"), (".ci/run", "SC2086")),
    Mistake(
        "workflows",
        "an expression for something that is not there",
        (".github",),
        WORKFLOW,
        replaced("${{ matrix.python }}", "${{ matrix.snake }}"),
        ("ci.yml", "snake"),
    ),
    Mistake(
        "hardening",
        "an action by its tag",
        (".github",),
        WORKFLOW,
        replaced(CHECKOUT, "actions/checkout@v5"),
        ("ci.yml", "unpinned"),
    ),
    Mistake(
        "yaml",
        "a key twice",
        (".yamllint.yml", "manifests"),
        "manifests/base/namespace.yaml",
        added("kind: Namespace"),
        ("namespace.yaml", "duplication of key"),
    ),
    Mistake("secrets", "a token", ("README.md",), "README.md", added(f"token {TOKEN}"), ("README.md", "GitHub Token")),
    Mistake(
        "secrets",
        "a password in a manifest",
        (SAMPLE,),
        SAMPLE,
        added("password: 'tr0ub4dor-and-3'"),
        (SAMPLE, "Secret Keyword"),
    ),
    Mistake(
        "documents",
        "a link that leads nowhere",
        ("README.md", "Makefile", "docs", "terraform/README.md"),
        "README.md",
        added("[here](docs/nowhere.md)"),
        ("README.md: links to docs/nowhere.md",),
    ),
    Mistake(
        "documents",
        "a target that make does not have",
        ("README.md", "Makefile", "docs", "terraform/README.md"),
        "docs/delivery.md",
        added("`make believe`"),
        ("docs/delivery.md: names make believe",),
    ),
    Mistake(
        "licences",
        "a package under the GPL",
        PROJECTS,
        "operator/pyproject.toml",
        replaced('"pyyaml>=6",', '"pyyaml>=6", "yamllint",'),
        ("operator/pyproject.toml: yamllint", "GPL"),
    ),
    Mistake(
        "pins",
        "a package without a version",
        PROJECTS,
        "constraints.txt",
        replaced("PyYAML==", "PyJAML=="),
        ("pyproject.toml: pyyaml has no version in constraints.txt",),
    ),
]


def copy(mistake: Mistake, to: Path) -> Path:
    """What the check needs, without caches."""
    for name in mistake.copied:
        source, target = ROOT / name, to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".terraform"))
        else:
            shutil.copy(source, target)
    return to


def findings(check: Check, root: Path) -> str:
    return "\n".join(check.run(root).findings)


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_a_planted_mistake_is_found_in_its_file(mistake: Mistake, tmp_path: Path) -> None:
    root = copy(mistake, tmp_path)
    path = root / mistake.file
    path.write_text(mistake.change(path.read_text()))
    found = findings(BY_NAME[mistake.check], root)
    for part in mistake.said:
        assert part in found


def test_each_check_has_a_mistake_to_find() -> None:
    assert {mistake.check for mistake in MISTAKES} == set(BY_NAME)


@pytest.mark.parametrize("check", sorted(set(BY_NAME) - {"types", "imports"}))
def test_without_the_mistake_the_copy_is_clean(check: str, tmp_path: Path) -> None:
    mistake = next(m for m in MISTAKES if m.check == check)
    assert findings(BY_NAME[check], copy(mistake, tmp_path)) == ""


@pytest.mark.parametrize("name", ["terraform", "alerts"])
def test_where_the_projects_own_tool_is_missing_that_is_said_and_the_rest_is_checked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(BIN))
    mistake = next(m for m in MISTAKES if m.check == name)
    path = copy(mistake, tmp_path) / mistake.file
    path.write_text(mistake.change(path.read_text()))
    outcome = BY_NAME[name].run(tmp_path)
    assert "is not here" in outcome.note
    assert all(part in "\n".join(outcome.findings) for part in mistake.said)


def test_the_command_fails_names_the_check_and_shows_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.x").write_text("FROM debian:latest\n")
    command = [sys.executable, str(ROOT / "tests" / "lint" / "run.py"), "--root", str(tmp_path), "dockerfiles"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert "Dockerfile.x:1 DL3007" in done.stdout
