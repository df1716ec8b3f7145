"""Server-side apply and field ownership.

A set of fields is kept as it is published (FieldsV1): nested dicts keyed `f:<name>`, `k:{<keys>}`, `v:<value>`, where
`.` marks the path itself and an empty dict a leaf. All set operations work on that form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from creditmodel_sandbox.apiserver.errors import ApiError, bad_request
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.apiserver.schema import MISSING, Node, item_key
from creditmodel_sandbox.notation import format_time

__all__ = ["Fields", "apply", "fields_of", "track"]

JSON = dict[str, Any]
Fields = dict[str, Any]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_UNOWNED = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_EMPTY: Node = Node({})


# Sets of fields


def union(left: Fields, right: Fields) -> Fields:
    """Fields in either. A leaf next to children becomes their `.`."""
    if not left or not right:
        if left == right:
            return {}
        found = left or right
        return found if "." in found else {".": {}, **found}
    return {
        key: union(left[key], right[key]) if key in left and key in right else left.get(key, right.get(key))
        for key in sorted({*left, *right})
    }


def _join(left: Fields, right: Fields) -> Fields:
    """Union of two whole sets, where an empty one has no fields instead of being a leaf."""
    return union(left, right) if left and right else left or right


def combine(left: Fields, right: Fields, keep_common: bool) -> Fields | None:
    """The intersection (`keep_common`) or the difference of two sets; None when it is empty."""
    left_is, right_is = _member(left), _member(right)
    member = left_is and (right_is == keep_common)
    children: Fields = {}
    for key, below in left.items():
        if key == ".":
            continue
        absent = None if keep_common else below
        found = combine(below, right[key], keep_common) if key in right else absent
        if found is not None:
            children[key] = found
    if member:
        return {".": {}, **children} if children else {}
    return children or None


def _member(fields: Fields) -> bool:
    return not fields or "." in fields


def difference(left: Fields, right: Fields) -> Fields:
    return _whole(left, right, keep_common=False)


def intersection(left: Fields, right: Fields) -> Fields:
    return _whole(left, right, keep_common=True)


def _whole(left: Fields, right: Fields, keep_common: bool) -> Fields:
    if not left or not right:
        return {} if keep_common else left
    return combine(left, right, keep_common) or {}


def paths(fields: Fields, prefix: str = "") -> Iterator[str]:
    """Each member as a person reads it: `.spec.containers[name="a"].image`."""
    for key, below in fields.items():
        if key == ".":
            continue
        path = prefix + _step(key)
        if _member(below):
            yield path
        yield from paths(below, path)


def _step(key: str) -> str:
    kind, text = key.split(":", 1)
    if kind == "f":
        return f".{text}"
    if kind == "k":
        keys = json.loads(text)
        return "[" + ",".join(f"{name}={json.dumps(value)}" for name, value in keys.items()) + "]"
    return f"[={text}]" if kind == "v" else f"[{text}]"


# From objects to sets


def _items(node: Node, value: list[Any]) -> Iterator[tuple[str, Any]]:
    """The items of a map or set list, each with its key in a set of fields."""
    for index, item in enumerate(value):
        if node.list_type == "map":
            keys = item_key(node, item)
            if keys is None:  # validation will refuse it, by its index
                yield f"i:{index}", item
                continue
            named = dict(sorted(zip(node.map_keys, keys, strict=True)))
            yield "k:" + json.dumps(named, separators=(",", ":")), item
        else:
            yield "v:" + json.dumps(item, separators=(",", ":")), item


def fields_of(node: Node | None, value: Any) -> Fields:
    """The set of fields that a value gives, below the value's own path."""
    node = node or _EMPTY
    if isinstance(value, dict) and not node.atomic():
        found: Fields = {}
        for name, item in value.items():
            below = fields_of(node.child(name), item)
            # An entry of a map is itself a field; a struct's field is one only through what it contains.
            if below and name not in node.properties and isinstance(node.extra, Node):
                below = {".": {}, **below}
            found[f"f:{name}"] = below
        return found
    if isinstance(value, list) and node.list_type in ("map", "set"):
        if not value:
            return {}
        return {key: _with_self(fields_of(node.items, item)) for key, item in _items(node, value)}
    return {}


def _with_self(below: Fields) -> Fields:
    return {".": {}, **below} if below else {}


class Changes(NamedTuple):
    """What differs between two objects."""

    changed: Fields
    """Added or modified."""
    removed: Fields


def compare(node: Node | None, old: Any, new: Any) -> Changes:
    """The fields below a value that differ."""
    node = node or _EMPTY
    pairs = _pairs(node, old, new)
    changed: Fields = {}
    removed: Fields = {}
    for key, child, before, after in pairs:
        if after is MISSING:
            removed[key] = _with_self(fields_of(child, before))
        elif before is MISSING:
            changed[key] = _with_self(fields_of(child, after))
        elif before != after:
            if _granular(child, before, after):
                below = compare(child, before, after)
                if below.changed:
                    changed[key] = below.changed
                if below.removed:
                    removed[key] = below.removed
            else:
                changed[key] = {}
    return Changes(changed, removed)


def _granular(node: Node | None, before: Any, after: Any) -> bool:
    node = node or _EMPTY
    if isinstance(before, dict) and isinstance(after, dict):
        return not node.atomic()
    return isinstance(before, list) and isinstance(after, list) and node.list_type in ("map", "set")


def _pairs(node: Node, old: Any, new: Any) -> Iterator[tuple[str, Node | None, Any, Any]]:
    if isinstance(new, dict):
        for name in {**old, **new}:
            yield f"f:{name}", node.child(name), old.get(name, MISSING), new.get(name, MISSING)
    else:
        before, after = dict(_items(node, old)), dict(_items(node, new))
        for key in {**before, **after}:
            yield key, node.items, before.get(key, MISSING), after.get(key, MISSING)


def strip(fields: Fields, subresource: str, resource: Resource) -> Fields:
    """Without what nobody owns: the object's identity, and what the endpoint does not write."""
    kept = {key: below for key, below in fields.items() if key not in ("f:apiVersion", "f:kind")}
    if subresource == "status":
        kept = {key: below for key, below in kept.items() if key == "f:status"}
    elif resource.has_status:
        kept.pop("f:status", None)
    meta = kept.get("f:metadata")
    if meta is not None:
        owned = {key: below for key, below in meta.items() if key[2:] not in _UNOWNED and key != "."}
        if owned:
            kept["f:metadata"] = owned
        else:
            del kept["f:metadata"]
    return kept


# From sets back to objects


def remove(node: Node | None, value: Any, gone: Fields, kept: Fields) -> Any:
    """The value without the fields of a set; MISSING when that leaves it empty.

    An item or entry goes as a whole, with what nobody owns in it, unless `kept` names something below it.
    """
    node = node or _EMPTY
    if "." in gone and not kept:
        return MISSING
    if isinstance(value, dict):
        for name in list(value):
            below = gone.get(key := f"f:{name}")
            if below is not None:
                _replace(
                    value, name, remove(node.child(name), value[name], below, kept.get(key, {})) if below else MISSING
                )
        return value or MISSING
    if isinstance(value, list) and node.list_type in ("map", "set"):
        items = [_remove_item(node, item, gone.get(key), kept.get(key, {})) for key, item in _items(node, value)]
        return [item for item in items if item is not MISSING] or MISSING
    return value


def _remove_item(node: Node, item: Any, gone: Fields | None, kept: Fields) -> Any:
    if gone is None:
        return item
    if not isinstance(item, dict) or not gone:
        return MISSING
    keys = {name: item[name] for name in node.map_keys if name in item}
    left = remove(node.items, item, gone, kept)
    # A key goes with its item and never alone.
    return MISSING if left is MISSING else {**keys, **left}


def _replace(holder: JSON, name: str, value: Any) -> None:
    if value is MISSING:
        del holder[name]
    else:
        holder[name] = value


def merge(node: Node | None, live: Any, config: Any) -> Any:
    """The live value with an applied configuration laid over it."""
    node = node or _EMPTY
    if isinstance(live, dict) and isinstance(config, dict) and not node.atomic():
        merged = dict(live)
        for name, value in config.items():
            merged[name] = merge(node.child(name), live[name], value) if name in live else value
        return merged
    if isinstance(live, list) and isinstance(config, list) and node.list_type in ("map", "set"):
        return _merge_lists(node, live, config)
    return config


def _merge_lists(node: Node, live: list[Any], config: list[Any]) -> list[Any]:
    """Applied items in the order given; each live item that is not applied stays behind the one it followed."""
    wanted = dict(_items(node, config))
    if len(wanted) != len(config):
        raise bad_request("a list of type map or set has the same item twice")
    present = dict(_items(node, live))
    followers: dict[str, list[Any]] = {}
    last = ""
    for key, item in present.items():
        if key in wanted:
            last = key
        else:
            followers.setdefault(last, []).append(item)
    merged = followers.get("", [])
    for key, item in wanted.items():
        merged.append(merge(node.items, present[key], item) if key in present else item)
        merged += followers.get(key, [])
    return merged


# Managers


def _same(entry: JSON, manager: str, operation: str, subresource: str, api_version: str | None) -> bool:
    found = (entry.get("manager"), entry.get("operation"), entry.get("subresource", ""))
    return found == (manager, operation, subresource) and api_version in (None, entry.get("apiVersion"))


def _entry(manager: str, operation: str, resource: Resource, subresource: str, fields: Fields) -> JSON:
    entry = {
        "manager": manager, "operation": operation, "apiVersion": resource.api_version,
        "time": format_time(), "fieldsType": "FieldsV1", "fieldsV1": fields,
    }  # fmt: skip
    return entry | ({"subresource": subresource} if subresource else {})


def _without(entries: Sequence[JSON], gone: Fields) -> list[JSON]:
    """Entries that lose fields; one that loses all of them goes. An entry that loses nothing stays as it is."""
    result = []
    for entry in entries:
        left = difference(entry["fieldsV1"], gone) if gone else entry["fieldsV1"]
        if left:
            result.append(entry if left == entry["fieldsV1"] else {**entry, "fieldsV1": left})
    return result


def _managed(obj: JSON) -> list[JSON]:
    return [entry for entry in obj.get("metadata", {}).get("managedFields") or () if entry.get("fieldsV1")]


def _sorted(entries: list[JSON]) -> list[JSON]:
    return sorted(entries, key=lambda entry: (entry["operation"], entry.get("time", ""), entry["manager"]))


def track(old: JSON, new: JSON, resource: Resource, manager: str, subresource: str) -> list[JSON]:
    """managedFields after a create or update: the manager owns what it changed, and everyone loses what is gone."""
    changes = compare(resource.node, _base(old, resource), new)
    changed, removed = (strip(fields, subresource, resource) for fields in changes)
    given = new.get("metadata", {}).get("managedFields")
    before = [] if given == [{}] else _managed(new) or _managed(old)
    if not changed and not removed:
        return before
    others, mine = [], None
    for entry in before:
        if _same(entry, manager, "Update", subresource, resource.api_version):
            mine = entry
        else:
            others.append(entry)
    owned = _join(difference(mine["fieldsV1"], removed) if mine else {}, changed)
    rest = _without(others, _join(removed, changed))
    if mine and owned == mine["fieldsV1"]:
        return _sorted([*rest, mine])
    return _sorted([*rest, _entry(manager, "Update", resource, subresource, owned)] if owned else rest)


def _base(old: JSON, resource: Resource) -> JSON:
    """What an update is compared with; a new built-in object starts with its structs, which nobody owns."""
    if old:
        return old
    return {"metadata": {}} if resource.custom is not None else {"metadata": {}, "spec": {}, "status": {}}


def apply(
    live: JSON, config: JSON, resource: Resource, manager: str, subresource: str, force: bool
) -> tuple[JSON, list[JSON]]:
    """The live object with a configuration applied, and its new managedFields.

    Raises 409 when another manager owns a field that would change, unless `force`.
    """
    node = resource.node
    applied = strip(fields_of(node, config), subresource, resource)
    before = _managed(live)
    mine = next((entry for entry in before if _same(entry, manager, "Apply", subresource, None)), None)
    others = [entry for entry in before if entry is not mine]
    if live and not before:
        unclaimed = strip(fields_of(node, live), subresource, resource)
        others = [_entry("before-first-apply", "Update", resource, subresource, unclaimed)]
    merged = merge(node, live, config)
    dropped = difference(mine["fieldsV1"], applied) if mine else {}
    kept: Fields = {}
    for entry in others:
        kept = _join(kept, entry["fieldsV1"])
    dropped = difference(dropped, kept)
    if dropped:
        merged = merge(node, remove(node, deepcopy(merged), dropped, kept), config)
    changes = compare(node, live or {"metadata": {}}, merged)
    changed = strip(changes.changed, subresource, resource)
    conflicts = [(entry, found) for entry in others if (found := intersection(entry["fieldsV1"], changed))]
    if conflicts and not force and not (manager == "kubectl" and _was_applied(live, conflicts, node)):
        raise _conflict(conflicts)
    _follow_annotation(merged, config, manager)
    rest = _without(others, _join(strip(changes.removed, subresource, resource), changed))
    if mine and mine["fieldsV1"] == applied and mine["apiVersion"] == resource.api_version:
        return merged, _sorted([*rest, mine])
    return merged, _sorted([*rest, _entry(manager, "Apply", resource, subresource, applied)] if applied else rest)


def _was_applied(live: JSON, conflicts: Sequence[tuple[JSON, Fields]], node: Node) -> bool:
    """Whether kubectl itself set all the fields before, by a client-side apply: it may take them over."""
    text = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    if text is None:
        return False
    before = fields_of(node, json.loads(text))
    return not any(difference(fields, before) for _, fields in conflicts)


def _follow_annotation(merged: JSON, config: JSON, manager: str) -> None:
    """kubectl's annotation follows its server-side applies: a later client-side apply compares with the truth."""
    annotations = merged["metadata"].get("annotations") or {}
    if manager == "kubectl" and LAST_APPLIED in annotations:
        text = json.dumps(config, separators=(",", ":")) + "\n"
        merged["metadata"]["annotations"] = {**annotations, LAST_APPLIED: text}


def _conflict(conflicts: Sequence[tuple[JSON, Fields]]) -> ApiError:
    found = [(_describe(entry), path) for entry, fields in conflicts for path in paths(fields)]
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {who}", "field": path} for who, path in found
    ]
    if len(found) == 1:
        who, path = found[0]
        text = f"Apply failed with 1 conflict: conflict with {who}: {path}"
    else:
        lines = []
        for who in dict.fromkeys(who for who, _ in found):
            lines.append(f"conflicts with {who}:")
            lines += [f"- {path}" for owner, path in found if owner == who]
        text = f"Apply failed with {len(found)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", text, {"causes": causes})


def _describe(entry: JSON) -> str:
    text = json.dumps(entry["manager"])
    if entry.get("subresource"):
        text += f' with subresource "{entry["subresource"]}"'
    return f"{text} using {entry['apiVersion']}" if entry["operation"] == "Update" else text
