from __future__ import annotations
from typing import Any
from creditmodel_sandbox.apiserver.errors import FieldError
from creditmodel_sandbox.apiserver.resources import Registry, Resource, Scale
from creditmodel_sandbox.apiserver.schema import Node
from creditmodel_sandbox.apiserver.resources import builtin_node
JSON = dict[str, Any]
CRD_STORAGE = "customresourcedefinitions.apiextensions.k8s.io"
CRD_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"

def accept_names(obj: JSON, now: str) -> None:
    obj["status"] = {"conditions": [{"type": t, "status": "True", "reason": r, "message": "", "lastTransitionTime": now} for t, r in (("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted"))], "acceptedNames": obj["spec"]["names"], "storedVersions": [v["name"] for v in obj["spec"]["versions"] if v["storage"]]}

def check_definition(obj: JSON, old: JSON | None) -> list[FieldError]:
    return []

def custom_node(schema: JSON) -> Node:
    node = Node.parse(schema)
    for name in ("apiVersion", "kind"):
        node.properties[name] = Node({"type": "string"})
    node.properties["metadata"] = builtin_node("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
    return node


def serve_definition(registry: Registry, crd: JSON) -> None:
    spec = crd["spec"]
    names = spec["names"]
    out = []
    for v in spec["versions"]:
        if not v.get("served"):
            continue
        subs = v.get("subresources", {})
        scale = subs.get("scale")
        out.append(Resource(spec["group"], v["name"], names["plural"], names["kind"], spec["scope"] == "Namespaced",
            tuple(names.get("shortNames", ())), tuple(names.get("categories", ())), tuple(subs),
            scale=Scale(scale["specReplicasPath"].lstrip("."), scale["statusReplicasPath"].lstrip("."), scale.get("labelSelectorPath", "").lstrip(".") or None) if scale else None,
            custom=v, node=custom_node(v["schema"]["openAPIV3Schema"]), singular=names.get("singular", names["kind"].lower()), list_kind=names.get("listKind", names["kind"]+"List"),
            fields=tuple(f["jsonPath"].lstrip(".") for f in v.get("selectableFields", ()))))
    registry.define(crd["metadata"]["name"], out)
