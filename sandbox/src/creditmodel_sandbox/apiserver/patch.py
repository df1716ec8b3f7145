"""The three patch formats that are not server-side apply: JSON patch, JSON merge patch, strategic merge patch."""

from __future__ import annotations

from typing import Any

import jsonpatch

from creditmodel_sandbox.apiserver.errors import ApiError, bad_request, show
from creditmodel_sandbox.apiserver.schema import Node

__all__ = ["json_patch", "merge", "strategic"]

JSON = dict[str, Any]


def merge(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


# JSON patch (RFC 6902)


def json_patch(target: Any, operations: Any) -> Any:
    """The target with each operation done in order; it is changed in place."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    for operation in operations:
        try:
            target = jsonpatch.apply_patch(target, [operation], in_place=True)
        except jsonpatch.InvalidJsonPatch as error:
            raise bad_request(f"invalid operation {show(operation)}: unsupported operation") from error
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, TypeError, AttributeError) as error:
            # Kubernetes does not say which operation failed, nor why.
            message = "the server rejected our request due to an error in our request"
            raise ApiError(422, "Invalid", message, {}) from error
    return target


# Strategic merge patch


def strategic(node: Node | None, target: Any, patch: Any) -> Any:
    """The target with a patch merged in: lists by their published merge key, directives (`$patch` and so on) obeyed."""
    if not isinstance(patch, dict):
        return patch
    patch = dict(patch)
    match patch.pop("$patch", None):
        case "replace":
            return patch
        case "delete":
            return {}
        case _:
            pass
    result = dict(target) if isinstance(target, dict) else {}
    if (kept := patch.pop("$retainKeys", None)) is not None:
        result = {name: value for name, value in result.items() if name in kept}
    orders = {name.split("/", 1)[1]: patch.pop(name) for name in list(patch) if name.startswith("$setElementOrder/")}
    for name in [name for name in patch if name.startswith("$deleteFromPrimitiveList/")]:
        field, gone = name.split("/", 1)[1], patch.pop(name)
        result[field] = [item for item in result.get(field) or () if item not in gone]
    for name, value in patch.items():
        child = node.child(name) if node else None
        if value is None:
            result.pop(name, None)
        elif isinstance(value, list):
            result[name] = _merge_list(child, result.get(name), value)
        else:
            result[name] = strategic(child, result.get(name), value)
    for name, order in orders.items():
        child = node.child(name) if node else None
        if isinstance(result.get(name), list):
            result[name] = _ordered(result[name], order, child.merge_key if child else None)
    return result


def _merge_list(node: Node | None, target: Any, patch: list[Any]) -> list[Any]:
    directive = {"$patch": "replace"}
    if directive in patch:
        return [item for item in patch if item != directive]
    if node is None or "merge" not in node.strategy:
        return patch
    present = list(target or ())
    if node.merge_key is None:
        return present + [item for item in patch if item not in present]
    for item in patch:
        _merge_item(node, node.merge_key, present, item)
    return present


def _merge_item(node: Node, key: str, present: list[Any], item: Any) -> None:
    if not isinstance(item, dict) or key not in item:
        raise bad_request(f"map: {item} does not contain declared merge key: {key}")
    index = next((i for i, known in enumerate(present) if known.get(key) == item[key]), None)
    if item.get("$patch") == "delete":
        present[:] = [known for known in present if known.get(key) != item[key]]
    elif index is None:
        present.append(strategic(node.items, {}, item))
    else:
        present[index] = strategic(node.items, present[index], item)


def _ordered(items: list[Any], order: list[Any], key: str | None) -> list[Any]:
    """Items named in `order` in that order; the others keep their place behind the ones they followed."""
    wanted = [item[key] if key and isinstance(item, dict) else item for item in order]

    def name(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    ranked, rank = [], -1
    for item in items:
        rank = wanted.index(name(item)) if name(item) in wanted else rank
        ranked.append((rank, item))
    return [item for _, item in sorted(ranked, key=lambda pair: pair[0])]
