"""What the server serves: a registry of resources, the built-in ones and those of CustomResourceDefinitions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from creditmodel_sandbox.apiserver.schema import Node

__all__ = ["Registry", "Resource", "Scale", "builtin_definitions", "builtin_node", "builtin_resources"]

JSON = dict[str, Any]

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a resource keeps what its scale subresource shows (dotted paths)."""

    spec: str = "spec.replicas"
    status: str = "status.replicas"
    selector: str | None = "spec.selector"
    """A LabelSelector object in built-in kinds, a string in custom resources."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource in one version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    generation: bool = True
    """Whether the server counts metadata.generation."""
    fields: tuple[str, ...] = ()
    """Dotted paths that field selectors may name, besides metadata.name and metadata.namespace."""
    scale: Scale | None = None
    custom: JSON | None = field(default=None, repr=False)
    """The version's entry in the CustomResourceDefinition; None for a built-in kind."""
    node: Node = field(default_factory=lambda: Node({}), repr=False)
    singular: str = ""
    list_kind: str = ""
    virtual: bool = False
    """Answered by code, not stored."""
    verbs: tuple[str, ...] = VERBS
    absent: bool = False
    """Known, so that tools find its kind and whoever creates one is told: there are none."""
    deprecation: str = ""
    """What to warn of when this version is used."""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def storage(self) -> str:
        """The key in the store; events of both groups are the same objects."""
        group = "" if self.group == "events.k8s.io" else self.group
        return f"{self.plural}.{group}" if group else self.plural

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources


# group/version, plural, kind, flags, short names, subresources. Flags: n: namespaced, g: generation is counted,
# x: there are none, a: answered by code and not stored, m: measured and not stored.
_TABLE = """
v1                           namespaces               Namespace                -  ns       status,finalize
v1                           pods                     Pod                      ng po      status
v1                           services                 Service                  n  svc      status,proxy
v1                           configmaps               ConfigMap                n  cm       -
v1                           secrets                  Secret                   n  -        -
v1                           serviceaccounts          ServiceAccount           n  sa       token
v1                           events                   Event                    n  ev       -
v1                           nodes                    Node                     -  no       status,proxy
apps/v1                      deployments              Deployment               ng deploy   status,scale
apps/v1                      replicasets              ReplicaSet               ng rs       status,scale
batch/v1                     jobs                     Job                      ng -        status
batch/v1                     cronjobs                 CronJob                  ng cj       status
autoscaling/v2               horizontalpodautoscalers HorizontalPodAutoscaler  n  hpa      status
policy/v1                    poddisruptionbudgets     PodDisruptionBudget      ng pdb      status
discovery.k8s.io/v1          endpointslices           EndpointSlice            ng -        -
events.k8s.io/v1             events                   Event                    n  ev       -
coordination.k8s.io/v1       leases                   Lease                    n  -        -
networking.k8s.io/v1         servicecidrs             ServiceCIDR              -  -        status
rbac.authorization.k8s.io/v1 roles                    Role                     n  -        -
rbac.authorization.k8s.io/v1 rolebindings             RoleBinding              n  -        -
rbac.authorization.k8s.io/v1 clusterroles             ClusterRole              -  -        -
rbac.authorization.k8s.io/v1 clusterrolebindings      ClusterRoleBinding       -  -        -
apiextensions.k8s.io/v1      customresourcedefinitions CustomResourceDefinition g  crd,crds status
v1                           endpoints                Endpoints                nx ep       -
v1                           limitranges              LimitRange               nx limits   -
v1                           persistentvolumeclaims   PersistentVolumeClaim    nx pvc      -
v1                           persistentvolumes        PersistentVolume         x  pv       -
v1                           replicationcontrollers   ReplicationController    nx rc       -
v1                           resourcequotas           ResourceQuota            nx quota    -
apps/v1                      daemonsets               DaemonSet                nx ds       -
apps/v1                      statefulsets             StatefulSet              nx sts      -
networking.k8s.io/v1         ingresses                Ingress                  nx ing      -
networking.k8s.io/v1         networkpolicies          NetworkPolicy            nx netpol   -
scheduling.k8s.io/v1         priorityclasses          PriorityClass            x  pc       -
storage.k8s.io/v1            storageclasses           StorageClass             x  sc       -
authorization.k8s.io/v1      selfsubjectaccessreviews SelfSubjectAccessReview  a  -        -
authorization.k8s.io/v1      selfsubjectrulesreviews  SelfSubjectRulesReview   a  -        -
authorization.k8s.io/v1      subjectaccessreviews     SubjectAccessReview      a  -        -
authorization.k8s.io/v1      localsubjectaccessreviews LocalSubjectAccessReview na -       -
authentication.k8s.io/v1     selfsubjectreviews       SelfSubjectReview        a  -        -
authentication.k8s.io/v1     tokenreviews             TokenReview              a  -        -
metrics.k8s.io/v1beta1       pods                     PodMetrics               nm -        -
metrics.k8s.io/v1beta1       nodes                    NodeMetrics              m  -        -
"""

POD_SUBRESOURCES = ("status", "log", "binding", "eviction", "proxy", "exec", "attach", "portforward")

_IN_ALL = {"pods", "services", "deployments", "replicasets", "jobs", "cronjobs", "horizontalpodautoscalers"}

_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "namespaces": ("status.phase",),
    "secrets": ("type",),
    "nodes": ("spec.unschedulable",),
    "jobs": ("status.successful",),
    "replicasets": ("status.replicas",),
    "services": ("spec.clusterIP", "spec.type"),
}

_DEFINITION_GROUPS = {
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
    "": "io.k8s.api.core",
}


@cache
def builtin_definitions() -> JSON:
    """The published schemas of Kubernetes 1.36, by definition name."""
    package = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / "v1.36.0-local"
    definitions: JSON = json.loads((package / "_definitions.json").read_bytes())["$defs"]
    left_out = yaml.load(Path(__file__).with_name("schemas.yaml").read_bytes(), yaml.CSafeLoader)
    for name, fields in left_out.items():
        definition = definitions[f"io.k8s.api.{name}"]
        for field_name, facts in fields.items():
            if facts.pop("required", False):
                definition["required"] = [*definition.get("required", ()), field_name]
            definition["properties"][field_name] |= facts
    return definitions


def definition_name(group: str, version: str, kind: str) -> str:
    """The name under which a built-in kind's schema is published."""
    return f"{_DEFINITION_GROUPS.get(group) or 'io.k8s.api.' + group.split('.')[0]}.{version}.{kind}"


@cache
def builtin_node(name: str) -> Node:
    """The schema of a definition. Children are read when first needed, as definitions may contain themselves."""
    return _LazyNode(builtin_definitions()[name])


class _LazyNode(Node):
    __slots__ = ("_source",)

    def __init__(self, source: JSON) -> None:
        if len(source.get("oneOf", ())) > 1:  # IntOrString and Quantity
            super().__init__({"format": "quantity"}, builtin=True)
        else:
            super().__init__(source, builtin=True)
        self.filled = True  # as may well be: what is below is not known yet
        if "default" in source:
            self.default = source["default"]
        del self.properties, self.extra, self.items
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name == "properties":
            children = self._source.get("properties", {})
            value: Any = {key: _resolve(child) for key, child in children.items()}
        elif name == "extra":
            extra = self._source.get("additionalProperties")
            value = _resolve(extra) if isinstance(extra, dict) else bool(extra)
        elif name == "items":
            items = self._source.get("items")
            value = _resolve(items) if items else None
        else:
            raise AttributeError(name)
        setattr(self, name, value)
        return value


def _resolve(schema: JSON) -> Node:
    reference = schema.get("$ref")
    if reference is None:
        return _LazyNode(schema)
    target = reference.rsplit("/", 1)[1]
    about = {key: value for key, value in schema.items() if key.startswith("x-") or key == "default"}
    if not about:
        return builtin_node(target)
    return _LazyNode({**builtin_definitions()[target], **about})


def builtin_resources() -> Iterator[Resource]:
    """Every built-in resource."""
    for line in filter(None, _TABLE.split("\n")):
        yield _builtin(*line.split())


_VERBS = {"x": ("create", "get", "list"), "a": ("create",), "m": ("get", "list")}


def _builtin(api_version: str, plural: str, kind: str, flags: str, short: str, subresources: str) -> Resource:
    group, _, version = api_version.rpartition("/")
    subs = () if subresources == "-" else tuple(subresources.split(","))
    if (group, kind) == ("", "Pod"):
        subs = POD_SUBRESOURCES
    served = (plural, group) not in (("events", "events.k8s.io"), ("pods", "metrics.k8s.io"))
    return Resource(
        group, version, plural, kind, "n" in flags,
        short_names=() if short == "-" else tuple(short.split(",")),
        categories=("all",) if plural in _IN_ALL and served else (),
        subresources=subs, generation="g" in flags, absent="x" in flags, virtual="a" in flags,
        verbs=next((verbs for flag, verbs in _VERBS.items() if flag in flags), VERBS),
        fields=() if "m" in flags else _FIELDS.get(plural, ()), scale=Scale() if "scale" in subs else None,
        node=Node({}) if "m" in flags else builtin_node(definition_name(group, version, kind)),
        singular=kind.lower(), list_kind=f"{kind}List",
    )  # fmt: skip


class Registry:
    """All resources, looked up by group, version and plural."""

    def __init__(self) -> None:
        self._builtin = list(builtin_resources())
        self._custom: dict[str, list[Resource]] = {}
        self._index: dict[tuple[str, str, str], Resource] = {}
        self._rebuild()

    def define(self, definition: str, resources: Iterable[Resource]) -> None:
        """Serve a CustomResourceDefinition's versions instead of those it had."""
        self._custom[definition] = list(resources)
        self._rebuild()

    def forget(self, definition: str) -> None:
        """Stop serving a CustomResourceDefinition."""
        self._custom.pop(definition, None)
        self._rebuild()

    def _rebuild(self) -> None:
        self._index = {(r.group, r.version, r.plural): r for r in self}

    def __iter__(self) -> Iterator[Resource]:
        yield from self._builtin
        for versions in self._custom.values():
            yield from versions

    def get(self, group: str, version: str, plural: str) -> Resource | None:
        return self._index.get((group, version, plural))

    def builtin(self, storage: str) -> Resource:
        """The built-in resource with a storage key."""
        return next(r for r in self._builtin if r.storage == storage and not r.virtual)

    def stored(self, storage: str) -> Resource | None:
        """A version of the resource with this storage key."""
        return next((r for r in self if r.storage == storage and not r.virtual), None)
