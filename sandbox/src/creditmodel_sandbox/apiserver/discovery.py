"""Discovery: which groups, versions and resources there are, in the aggregated and in the older form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from creditmodel_sandbox.apiserver.resources import Registry, Resource

__all__ = ["aggregated", "api_versions", "group", "group_list", "priority", "resource_list"]

JSON = dict[str, Any]

# Verbs and kind of each subresource; those not named here read and write the resource's own kind.
_SUBRESOURCES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "scale": ("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "log": ("", "v1", "Pod", ("get",)),
    "binding": ("", "v1", "Binding", ("create",)),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
    "finalize": ("", "v1", "Namespace", ("update",)),
}
HIDDEN = ("exec", "attach", "portforward", "proxy")
"""Known by name, so that asking for them is answered clearly, and not offered."""


def _subresource(resource: Resource, name: str) -> tuple[str, str, str, tuple[str, ...]]:
    default = (resource.group, resource.version, resource.kind, ("get", "patch", "update"))
    return _SUBRESOURCES.get(name, default)


def _offered(resource: Resource) -> list[str]:
    return [name for name in resource.subresources if name not in HIDDEN]


def group_versions(registry: Registry) -> dict[str, list[str]]:
    """Each group's versions, the preferred first."""
    found: dict[str, list[str]] = {}
    for resource in registry:
        versions = found.setdefault(resource.group, [])
        if resource.version not in versions:
            versions.append(resource.version)
    return {name: sorted(versions, key=priority, reverse=True) for name, versions in found.items()}


def priority(version: str) -> tuple[int, int, int]:
    """v2 before v1 before v1beta2 before v1beta1 before v1alpha1."""
    digits, _, rest = version.removeprefix("v").partition("beta" if "beta" in version else "alpha")
    stage = 2 if not rest else 1 if "beta" in version else 0
    return stage, int(digits) if digits.isdigit() else 0, int(rest) if rest.isdigit() else 0


def api_versions(server: str) -> JSON:
    """GET /api."""
    address = {"clientCIDR": "0.0.0.0/0", "serverAddress": server}
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [address]}


def group(registry: Registry, name: str) -> JSON | None:
    """GET /apis/<group>."""
    versions = group_versions(registry).get(name)
    if not versions or not name:
        return None
    entries = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": entries, "preferredVersion": entries[0]}


def group_list(registry: Registry) -> JSON:
    """GET /apis."""
    groups = [group(registry, name) for name in group_versions(registry) if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def resource_list(registry: Registry, name: str, version: str) -> JSON | None:
    """GET /api/v1 and /apis/<group>/<version>."""
    found = [resource for resource in registry if (resource.group, resource.version) == (name, version)]
    if not found:
        return None
    entries = [entry for resource in found for entry in _entries(resource)]
    version_name = f"{name}/{version}" if name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version_name, "resources": entries}


def _entries(resource: Resource) -> Iterable[JSON]:
    entry: JSON = {"name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced}
    entry |= {"kind": resource.kind, "verbs": list(resource.verbs)}
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    yield entry
    for name in _offered(resource):
        group_name, version, kind, verbs = _subresource(resource, name)
        sub: JSON = {"name": f"{resource.plural}/{name}", "singularName": "", "namespaced": resource.namespaced}
        if (group_name, version) != (resource.group, resource.version):
            sub |= {"group": group_name, "version": version}
        yield {**sub, "kind": kind, "verbs": list(verbs)}


def aggregated(registry: Registry, core: bool) -> JSON:
    """The same in one document (APIGroupDiscoveryList), for /api when `core`, else for /apis."""
    items: list[JSON] = []
    for name, versions in group_versions(registry).items():
        if core == (not name):
            entries = [_version(registry, name, version) for version in versions]
            items.append({"metadata": {"name": name} if name else {}, "versions": entries})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _version(registry: Registry, name: str, version: str) -> JSON:
    found = [resource for resource in registry if (resource.group, resource.version) == (name, version)]
    return {"version": version, "resources": [_aggregated(resource) for resource in found], "freshness": "Current"}


def _kind(name: str, version: str, kind: str) -> JSON:
    return {"group": name, "version": version, "kind": kind}


def _aggregated(resource: Resource) -> JSON:
    entry: JSON = {
        "resource": resource.plural,
        "responseKind": _kind(resource.group, resource.version, resource.kind),
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    subs = []
    for name in _offered(resource):
        group_name, version, kind, verbs = _subresource(resource, name)
        subs.append({"subresource": name, "responseKind": _kind(group_name, version, kind), "verbs": list(verbs)})
    return entry | ({"subresources": subs} if subs else {})
