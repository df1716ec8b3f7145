"""Every check that make lint runs, the slow ones first."""

from __future__ import annotations

import os
from pathlib import Path

from checks import documents, kubernetes, packages, prometheus, secrets, terraform
from checks.common import BIN, Check, Outcome, files, ran, tool

__all__ = ["CHECKS", "SOURCES"]

DISTRIBUTIONS = ("bundle", "training", "inference", "drift", "operator", "sandbox")
SOURCES = tuple(f"{name}/src" for name in DISTRIBUTIONS)
ZIZMOR = tool("zizmor", "--offline", "--no-progress", "--persona", "pedantic", ".github")


def types(root: Path) -> Outcome:
    return tool("mypy", *(path for path in (*SOURCES, "tests") if (root / path).is_dir()))(root)


def imports(root: Path) -> Outcome:
    """import-linter looks at what Python finds first: the sources of this checkout."""
    paths = os.pathsep.join(str(root / source) for source in SOURCES)
    return ran([str(BIN / "lint-imports"), "--no-cache"], root, PYTHONPATH=paths)


def yaml(root: Path) -> Outcome:
    """Generated CRDs are laid out by the generator; all else by hand."""
    paths = [path for path in files(root, "*.yaml", "*.yml") if "crds" not in path.relative_to(root).parts]
    return tool("yamllint", "--strict", "--config-file", root / ".yamllint.yml", *paths)(root)


def scripts(root: Path) -> Outcome:
    paths = [path for path in files(root, ".ci/*", ".github/*", "terraform/*") if _is_shell(path)]
    return tool("shellcheck", *(path.relative_to(root) for path in paths))(root)


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().rstrip() in (b"#!/usr/bin/env bash", b"#!/bin/bash", b"#!/bin/sh")


def native(root: Path) -> Outcome:
    """Whatever the compiler finds odd: setuptools goes on without what does not compile."""
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
    compiled = [ran(["cc", *strict, "-c", str(path), "-o", os.devnull], root) for path in files(root, "*.c")]
    return Outcome(tuple(finding for outcome in compiled for finding in outcome.findings))


def dockerfiles(root: Path) -> Outcome:
    return tool("hadolint", *(path.relative_to(root) for path in files(root, "Dockerfile.*")))(root)


def pipelines(root: Path) -> Outcome:
    """actionlint looks at workflows; the scripts inside of them go through shellcheck."""
    return tool("actionlint", "-no-color", *files(root, ".github/workflows/*.yml"))(root)


CHECKS = (
    Check("types", "Python's types, by mypy", types),
    Check("secrets", "tokens, keys and passwords in any file", secrets.secrets),
    Check("imports", "the layers, by import-linter", imports),
    Check("alerts", "Prometheus rules: promtool, metrics that exist", prometheus.alerts),
    Check("dashboards", "Grafana dashboards: metrics that exist", prometheus.dashboards),
    Check("manifests", "kustomizations, samples and documentation by their schemas", kubernetes.manifests),
    Check("crds", "CRDs: generated, structural, CEL rules that compile", kubernetes.crds),
    Check("terraform", "Terraform's layout", terraform.layout),
    Check("tables", "Terraform's generated tables", tool("python", "terraform/docs.py", "--check")),
    Check("ruff", "Python, by ruff", tool("ruff", "check", "--no-cache", ".")),
    Check("format", "Python's layout, by ruff", tool("ruff", "format", "--no-cache", "--check", ".")),
    Check("yaml", "YAML, by yamllint", yaml),
    Check("documents", "links and make targets in documentation", documents.documents),
    Check("scripts", "shell scripts, by shellcheck", scripts),
    Check("native", "C, by the compiler", native),
    Check("dockerfiles", "Dockerfiles, by hadolint", dockerfiles),
    Check("workflows", "GitHub workflows, by actionlint", pipelines),
    Check("hardening", "GitHub workflows' security, by zizmor", ZIZMOR),
    Check("licences", "licences of everything that is shipped", packages.licences),
    Check("pins", "one version for every package", packages.pins),
)
