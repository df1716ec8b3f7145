"""Server-side apply and field ownership.

A field is a path of steps as FieldsV1 writes them: `f:<name>`, `k:{<keys>}`, `v:<value>`. What a manager owns is a set
of fields, published as nested dicts in which `.` marks a field that has others below it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from creditmodel_sandbox.apiserver.errors import ApiError, bad_request
from creditmodel_sandbox.apiserver.resources import Resource
from creditmodel_sandbox.apiserver.schema import MISSING, Node, item_key
from creditmodel_sandbox.notation import format_time

__all__ = ["apply", "read_fields", "show_path", "track", "write_fields"]

JSON = dict[str, Any]
Path = tuple[str, ...]
Fields = set[Path]
Tree = dict[str, Any]
"""Fields in their published form."""

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


def read_fields(tree: Tree) -> Fields:
    """The fields of a published set."""
    found: Fields = set()
    _read(tree, (), found)
    return found


def _read(tree: Tree, at: Path, found: Fields) -> None:
    for key, below in tree.items():
        if key == ".":
            found.add(at)
        elif below:
            _read(below, (*at, key), found)
        else:
            found.add((*at, key))


def write_fields(fields: Fields) -> Tree:
    """The published form of a set."""
    tree: Tree = {}
    for path in sorted(fields):
        node = tree
        for depth, key in enumerate(path):
            if key not in node:
                if path[:depth] in fields:
                    node["."] = {}
                node[key] = {}
            node = node[key]
    return tree


def show_path(path: Path) -> str:
    """A field as a person reads it: `.spec.containers[name="a"].image`."""
    return "".join(map(_show_step, path))


def _show_step(key: str) -> str:
    kind, text = key.split(":", 1)
    if kind == "f":
        return f".{text}"
    if kind == "k":
        keys = json.loads(text)
        return "[" + ",".join(f"{name}={json.dumps(value)}" for name, value in keys.items()) + "]"
    return f"[={text}]" if kind == "v" else f"[{text}]"


# From objects to sets


def _items(node: Node, value: list[Any]) -> Iterator[tuple[str, Any]]:
    """The items of a map or set list, each with its step in a path."""
    for index, item in enumerate(value):
        if node.list_type == "map":
            keys = item_key(node, item)
            if keys is None:  # validation will refuse it, by its index
                yield f"i:{index}", item
                continue
            yield "k:" + _step(dict(zip(node.map_keys, keys, strict=True))), item
        else:
            yield "v:" + _step(item), item


def _step(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _fields_of(node: Node | None, value: Any, at: Path = (), whole: bool = False) -> list[Path]:
    """The fields that a value gives.

    An entry of a map and an item of a list are fields themselves, and so is what is empty or atomic; a struct or list
    is one only through what it contains, unless `whole`: of a custom resource, who adds one by an update owns it too.
    """
    found: list[Path] = []
    _gather(node or _EMPTY, value, at, whole, found)
    return found


def _gather(node: Node, value: Any, at: Path, whole: bool, found: list[Path]) -> None:
    inside = value and isinstance(value, dict) and not node.atomic()
    listed = value and isinstance(value, list) and node.list_type in ("map", "set")
    if not (inside or listed) or (whole and not node.builtin):
        found.append(at)
    if inside:
        for name, item in value.items():
            path = (*at, f"f:{name}")
            if isinstance(node.extra, Node) and name not in node.properties:
                found.append(path)
            _gather(node.child(name) or _EMPTY, item, path, whole, found)
    elif listed:
        for key, item in _items(node, value):
            found.append((*at, key))
            _gather(node.items or _EMPTY, item, (*at, key), whole, found)


class Changes(NamedTuple):
    """What differs between two objects."""

    changed: Fields
    """Added or modified."""
    removed: Fields


def _compare(node: Node | None, old: Any, new: Any) -> Changes:
    changes = Changes(set(), set())
    _note_changes(node, old, new, (), changes)
    return changes


def _note_changes(node: Node | None, old: Any, new: Any, at: Path, changes: Changes) -> None:
    for key, child, before, after in _differing(node or _EMPTY, old, new):
        path = (*at, key)
        if after is MISSING:
            changes.removed.update([path, *_fields_of(child, before, path, whole=True)])
        elif before is MISSING:
            changes.changed.update([path, *_fields_of(child, after, path, whole=True)])
        elif _granular(child, before, after):
            _note_changes(child, before, after, path, changes)
        else:
            changes.changed.add(path)


def _granular(node: Node | None, before: Any, after: Any) -> bool:
    node = node or _EMPTY
    if isinstance(before, dict) and isinstance(after, dict):
        return not node.atomic()
    return isinstance(before, list) and isinstance(after, list) and node.list_type in ("map", "set")


def _differing(node: Node, old: Any, new: Any) -> Iterator[tuple[str, Node | None, Any, Any]]:
    """The entries or items in which two values of one kind differ: step, schema, before and after."""
    if isinstance(new, dict):
        for name in {**old, **new}:
            before, after = old.get(name, MISSING), new.get(name, MISSING)
            if before != after:
                yield f"f:{name}", node.child(name), before, after
    else:
        had, has = dict(_items(node, old)), dict(_items(node, new))
        for key in {**had, **has}:
            before, after = had.get(key, MISSING), has.get(key, MISSING)
            if before != after:
                yield key, node.items, before, after


def _owned(fields: Iterable[Path], subresource: str, resource: Resource) -> Fields:
    """Without what nobody owns: the object's identity, and what the endpoint does not write."""
    return {path for path in fields if path and _can_be_owned(path, subresource, resource)}


def _can_be_owned(path: Path, subresource: str, resource: Resource) -> bool:
    if subresource == "status":
        return path[0] == "f:status"
    if path[0] == "f:metadata":
        return len(path) > 1 and path[1][2:] not in _UNOWNED
    return path[0] not in ("f:apiVersion", "f:kind") and not (path[0] == "f:status" and resource.has_status)


# From sets back to objects


def remove(node: Node | None, value: Any, gone: Tree, kept: Tree | None, config: Any) -> Any:
    """The value without the fields of a set; MISSING when that leaves it empty.

    An item, an entry or a struct goes as a whole, with what nobody owns in it (defaults, for instance), unless `kept`
    names something below it or the configuration still has it.
    """
    node = node or _EMPTY
    if "." in gone and kept is None:
        return MISSING
    if isinstance(value, dict):
        given = config if isinstance(config, dict) else {}
        for name in list(value):
            below = gone.get(key := f"f:{name}")
            if below is not None:
                left = _remove_field(node, name, value[name], below, _below(kept, key), given.get(name, MISSING))
                _replace(value, name, left)
        return value if value or kept is not None else MISSING
    if isinstance(value, list) and node.list_type in ("map", "set"):
        given = dict(_items(node, config)) if isinstance(config, list) else {}
        items = [
            _remove_item(node, item, gone.get(key), _below(kept, key), given.get(key, MISSING))
            for key, item in _items(node, value)
        ]
        return [item for item in items if item is not MISSING] or MISSING
    return value


def _below(kept: Tree | None, key: str) -> Tree | None:
    """What others own of a field; None where they own nothing of it, {} where they own it as a whole."""
    return None if kept is None else kept.get(key)


def _remove_field(node: Node, name: str, value: Any, gone: Tree, kept: Tree | None, config: Any) -> Any:
    is_struct = isinstance(value, dict) and name in node.properties
    if kept is None and (not gone or (is_struct and config is MISSING)):
        return MISSING
    return remove(node.child(name), value, gone, kept, config)


def _remove_item(node: Node, item: Any, gone: Tree | None, kept: Tree | None, config: Any) -> Any:
    if gone is None:
        return item
    if not isinstance(item, dict) or not gone:
        return MISSING
    keys = {name: item[name] for name in node.map_keys if name in item}
    left = remove(node.items, item, gone, kept, config)
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
            same = name not in live or live[name] == value
            merged[name] = value if same else merge(node.child(name), live[name], value)
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


class Owner(NamedTuple):
    """An entry of managedFields, and its fields."""

    entry: JSON
    fields: Fields

    def without(self, gone: Fields) -> Owner:
        """The owner after it lost fields; one that loses nothing stays as it is."""
        left = self.fields - gone
        return self if left == self.fields else Owner({**self.entry, "fieldsV1": write_fields(left)}, left)

    def is_named(self, manager: str, operation: str, subresource: str) -> bool:
        found = (self.entry.get("manager"), self.entry.get("operation"), self.entry.get("subresource", ""))
        return found == (manager, operation, subresource)


def _owners(obj: JSON) -> list[Owner]:
    entries = obj.get("metadata", {}).get("managedFields") or ()
    return [Owner(entry, read_fields(entry["fieldsV1"])) for entry in entries if entry.get("fieldsV1")]


def _new_owner(manager: str, operation: str, resource: Resource, subresource: str, fields: Fields) -> Owner:
    entry = {
        "manager": manager, "operation": operation, "apiVersion": resource.api_version, "time": format_time(),
        "fieldsType": "FieldsV1", "fieldsV1": write_fields(fields),
    }  # fmt: skip
    return Owner(entry | ({"subresource": subresource} if subresource else {}), fields)


def _entries(owners: Iterable[Owner]) -> list[JSON]:
    """managedFields as published. An owner that lost everything goes."""
    entries = [owner.entry for owner in owners if owner.fields]
    return sorted(entries, key=lambda entry: (entry["operation"], entry.get("time", ""), entry["manager"]))


def track(old: JSON, new: JSON, resource: Resource, manager: str, subresource: str) -> list[JSON]:
    """managedFields after a create or update: the manager owns what it changed, and everyone loses what is gone."""
    changes = _compare(resource.node, _base(old, resource), new)
    changed, removed = (_owned(fields, subresource, resource) for fields in changes)
    given = new.get("metadata", {}).get("managedFields")
    before = [] if given == [{}] else _owners(new) or _owners(old)
    if (old and not before) or not (changed or removed):
        return _entries(before)  # who takes managedFields away has ownership counted no more, until an apply
    mine = next((owner for owner in before if _is_updater(owner, resource, manager, subresource)), None)
    rest = [owner.without(removed | changed) for owner in before if owner is not mine]
    fields = (mine.fields - removed if mine else set()) | changed
    if mine is None or fields != mine.fields:
        mine = _new_owner(manager, "Update", resource, subresource, fields)
    return _entries([*rest, mine])


def _is_updater(owner: Owner, resource: Resource, manager: str, subresource: str) -> bool:
    return owner.is_named(manager, "Update", subresource) and owner.entry.get("apiVersion") == resource.api_version


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
    applied = _owned(_fields_of(node, config), subresource, resource)
    before = _owners(live)
    mine = next((owner for owner in before if owner.is_named(manager, "Apply", subresource)), None)
    others = [owner for owner in before if owner is not mine]
    if live and not before:
        unclaimed = _owned(_fields_of(node, live, whole=True), subresource, resource)
        others = [_new_owner("before-first-apply", "Update", resource, subresource, unclaimed)]
    merged = _merged(node, live, config, applied, mine, others)
    changes = _compare(node, live or {"metadata": {}}, merged)
    changed, removed = (_owned(fields, subresource, resource) for fields in changes)
    conflicts = [(owner.entry, found) for owner in others if (found := owner.fields & changed)]
    if conflicts and not force and not (manager == "kubectl" and _was_applied(live, conflicts, node)):
        raise _conflict(conflicts)
    _follow_annotation(merged, config, manager)
    if mine is None or mine.fields != applied or mine.entry["apiVersion"] != resource.api_version:
        mine = _new_owner(manager, "Apply", resource, subresource, applied)
    return merged, _entries([*(owner.without(removed | changed) for owner in others), mine])


def _merged(node: Node, live: JSON, config: JSON, applied: Fields, mine: Owner | None, others: Sequence[Owner]) -> JSON:
    """The live object with the configuration, and without what its manager applied before and nobody else owns."""
    found: JSON = merge(node, live, config)
    kept = set().union(*(owner.fields for owner in others))
    dropped = (mine.fields if mine else set()) - applied - kept
    if dropped:
        found = merge(node, remove(node, _copy(found), write_fields(dropped), write_fields(kept), config), config)
    return found


def _copy(value: JSON) -> JSON:
    """A copy of an object, in a tenth of what `deepcopy` takes."""
    copied: JSON = msgspec.json.decode(msgspec.json.encode(value))
    return copied


def _was_applied(live: JSON, conflicts: Sequence[tuple[JSON, Fields]], node: Node) -> bool:
    """Whether kubectl itself set all the fields before, by a client-side apply: it may take them over."""
    text = (live.get("metadata", {}).get("annotations") or {}).get(LAST_APPLIED)
    if text is None:
        return False
    before = set(_fields_of(node, json.loads(text)))
    return all(fields <= before for _, fields in conflicts)


def _follow_annotation(merged: JSON, config: JSON, manager: str) -> None:
    """kubectl's annotation follows its server-side applies: a later client-side apply compares with the truth."""
    annotations = merged["metadata"].get("annotations") or {}
    if manager == "kubectl" and LAST_APPLIED in annotations:
        text = json.dumps(config, separators=(",", ":")) + "\n"
        merged["metadata"]["annotations"] = {**annotations, LAST_APPLIED: text}


def _conflict(conflicts: Sequence[tuple[JSON, Fields]]) -> ApiError:
    found = [(_describe(entry), show_path(path)) for entry, fields in conflicts for path in sorted(fields)]
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
