"""Manifests against the published schemas, CreditModels against the CRD and its CEL rules, the CRD against its own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from checks.common import BIN, Outcome, files
from creditmodel_operator.api import crd as generated
from creditmodel_sandbox.apiserver.crd import check_definition, custom_resources
from creditmodel_sandbox.apiserver.schema import MISSING, judge, prune, validate

__all__ = ["crds", "manifests"]

JSON = dict[str, Any]
Placed = tuple[str, JSON]
"""Where an object was found, and the object."""

VERSIONS = ("1.34", "1.36")
"""The oldest and the newest Kubernetes that continuous integration runs on."""
CRDS = ("crds", "manifests/crds")
MONITORING = Path(__file__).parents[1] / "schemas" / "monitoring.coreos.com.json"
FENCED = re.compile(r"^```ya?ml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def manifests(root: Path) -> Outcome:
    """Every kustomization renders; every object in them, in loose manifests and in the documentation is valid."""
    found: list[str] = []
    for where, read in _sources(root):
        try:
            found += [f"{where}: {_name(o)}: {error}" for o in read() for error in _errors(root, o)]
        except _Unreadable as e:
            found.append(f"{where}: {e}")
    return Outcome(tuple(dict.fromkeys(found)))


class _Unreadable(Exception):
    """A file or folder that yields no objects. The message says why."""


def _sources(root: Path) -> Iterator[tuple[str, Any]]:
    kustomizations = files(root, "manifests/*kustomization.yaml")
    for path in kustomizations:
        if "kind: Component" not in path.read_text():  # what takes a component renders it
            yield str(path.relative_to(root)), lambda p=path: _rendered(p.parent)
    taken = {path.parent for path in kustomizations}
    for path in files(root, "manifests/*.yaml"):
        if not taken & {path.parent, path.parent.parent}:
            yield str(path.relative_to(root)), lambda p=path: _documents(p.read_text())
    for path in files(root, "*.md"):
        for text in FENCED.findall(path.read_text()):
            yield str(path.relative_to(root)), lambda t=text: _objects_only(t)


def _rendered(folder: Path) -> list[JSON]:
    command = [str(BIN / "kubectl"), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise _Unreadable(done.stderr.strip())
    return _documents(done.stdout)


def _documents(text: str) -> list[JSON]:
    try:
        found = [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]
    except yaml.YAMLError as e:
        raise _Unreadable(str(e)) from e
    for document in found:
        if not isinstance(document, dict) or not {"apiVersion", "kind"} <= set(document):
            raise _Unreadable(f"{str(document)[:80]!r} is no Kubernetes object: it lacks apiVersion or kind")
    return found


def _objects_only(text: str) -> list[JSON]:
    """The Kubernetes objects of a block in a text, which may as well be a part of one or something else."""
    try:
        found = list(yaml.load_all(text, yaml.CSafeLoader))
    except yaml.YAMLError as e:
        raise _Unreadable(f"a YAML block does not parse: {e}") from e
    return [d for d in found if isinstance(d, dict) and {"apiVersion", "kind"} <= set(d) and "metadata" in d]


def _name(obj: JSON) -> str:
    return f"{obj['kind']} {obj.get('metadata', {}).get('name', '(no name)')}"


def _errors(root: Path, obj: JSON) -> list[str]:
    group = obj["apiVersion"].rpartition("/")[0]
    if group == "creditmodel.dev":
        return _custom_errors(root, obj)
    if group == "monitoring.coreos.com":
        return _schema_errors(_monitoring_schema(), obj)
    if group == "" or "." not in group or group.endswith(".k8s.io"):
        return _built_in_errors(json.dumps(obj, default=str))
    return [f"there is no schema for {obj['apiVersion']}; add one to tests/lint/schemas"]


@cache  # overlays repeat what the base has
def _built_in_errors(text: str) -> list[str]:
    obj = json.loads(text)
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(obj, version, strict=True)
        except kubernetes_validate.ValidationError as e:
            return [f"Kubernetes {version}: {'.'.join(map(str, e.path))}: {e.message[:400]}"]
        except kubernetes_validate.SchemaNotFoundError:
            return [f"Kubernetes {version} has no {obj['apiVersion']} {obj['kind']}"]
    return []


def _custom_errors(root: Path, obj: JSON) -> list[str]:
    """What an API server would refuse, or drop without a word."""
    resources = [r for path in sorted((root / CRDS[0]).glob("*.yaml")) for r in _definition(path.read_text())]
    served = {(f"{r.group}/{r.version}", r.kind): r for r in resources}
    resource = served.get((obj["apiVersion"], obj["kind"]))
    if resource is None:
        return [f"no CRD serves {obj['apiVersion']} {obj['kind']}"]
    stored = json.loads(json.dumps(obj, default=str))
    unknown = [f"{path}: no such field" for path in prune(resource.node, stored)]
    errors = validate(resource.node, stored)
    return unknown + [str(error) for error in (*errors, *judge(resource.node, stored, MISSING, errors))]


@cache
def _definition(text: str) -> tuple[Any, ...]:
    return tuple(custom_resources(yaml.load(text, yaml.CSafeLoader)))


@cache
def _monitoring_schema() -> JSON:
    found: JSON = json.loads(MONITORING.read_text())
    return found


def _schema_errors(schema: JSON, obj: JSON) -> list[str]:
    if obj["kind"] not in schema["definitions"]:
        return [f"tests/lint/schemas has no {obj['kind']}"]
    validator = jsonschema.Draft7Validator({**schema, "$ref": f"#/definitions/{obj['kind']}"})
    return [f"{'.'.join(map(str, e.absolute_path))}: {e.message[:400]}" for e in validator.iter_errors(obj)]


def crds(root: Path) -> Outcome:
    """The CRDs are what the models generate, are structural, and each CEL rule compiles for the types it stands on."""
    found: list[str] = []
    for folder in CRDS:
        old = (path.relative_to(root) for path in generated.stale(root / folder))
        found += [f"{path} is not what the operator's models generate; run make crds" for path in old]
        for path in files(root, f"{folder}/creditmodel.dev_*.yaml"):
            found += [f"{path.relative_to(root)}: {error}" for error in _definition_errors(path)]
    return Outcome(tuple(found))


def _definition_errors(path: Path) -> list[str]:
    try:
        documents = _documents(path.read_text())
    except _Unreadable as e:
        return [str(e)]
    return [error for d in documents for error in (*_built_in_errors(json.dumps(d)), *_rule_errors(d))]


def _rule_errors(definition: JSON) -> list[str]:
    spec = {"conversion": {"strategy": "None"}, **definition["spec"]}  # the API server's default
    return [str(error) for error in check_definition({**definition, "spec": spec}, None)]
