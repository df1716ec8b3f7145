"""What create, update, apply and delete mean, for any resource: the part between HTTP and the database."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from creditmodel_sandbox.apiserver import admission, kinds, limits, ssa
from creditmodel_sandbox.apiserver.crd import CRD_FINALIZER, CRD_STORAGE, serve_definition
from creditmodel_sandbox.apiserver.defaults import apply_defaults
from creditmodel_sandbox.apiserver.errors import (
    ApiError,
    Invalid,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid_value,
    not_found,
    unmet,
)  # fmt: skip
from creditmodel_sandbox.apiserver.resources import Registry, Resource
from creditmodel_sandbox.apiserver.schema import MISSING, TYPE_INVALID, fill, judge, prune, validate
from creditmodel_sandbox.apiserver.storage import Key, Record, Store
from creditmodel_sandbox.notation import format_time

__all__ = ["DeleteOptions", "Objects", "Options"]

JSON = dict[str, Any]
Change = Callable[[JSON], JSON]

GC_FINALIZERS = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


@dataclass(slots=True)
class Options:
    """How a write is to be done; `warnings` collects what its answer warns of."""

    manager: str = "unknown"
    dry_run: bool = False
    validation: str = "Warn"
    force: bool = False
    user: str = ""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """The body of a delete."""

    grace: int | None = None
    propagation: str | None = None
    uid: str | None = None
    version: str | None = None
    dry_run: bool = False


class Objects:
    """The stored objects of all resources, with Kubernetes' rules on their life."""

    def __init__(self, store: Store, registry: Registry, addresses: kinds.Addresses) -> None:
        self.store, self.registry, self.addresses = store, registry, addresses

    # Reading

    def read(self, resource: Resource, key: Key) -> Record:
        record = self.store.get(resource.storage, key)
        if record is None:
            raise not_found(resource, key[1])
        return record

    def typed(self, resource: Resource, record: Record) -> JSON:
        """A stored object in a version of its resource, the caller's to change."""
        return {"apiVersion": resource.api_version, "kind": resource.kind, **record.object()}

    # Creating

    def create(self, resource: Resource, namespace: str, obj: JSON, options: Options) -> Record:
        self._decode(resource, obj, options)
        key = self._name(resource, namespace, obj["metadata"])
        self._check_namespace(resource, key)
        if obj["metadata"].get("resourceVersion") not in (None, "", "0"):
            raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
        if (found := self.store.get(resource.storage, key)) is not None:
            raise already_exists(resource, key[1], "deletionTimestamp" in found.object()["metadata"])
        return self._save_new(resource, key, obj, options)

    def _save_new(
        self, resource: Resource, key: Key, obj: JSON, options: Options, managed: list[JSON] | None = None
    ) -> Record:
        self._prepare_new(resource, obj)
        self._complete(resource, obj)
        obj["metadata"]["managedFields"] = (
            ssa.track({}, obj, resource, options.manager, "") if managed is None else managed
        )
        admission.admit(resource, key[0], obj, self.store)
        kinds.prepare_create(resource, obj)
        self._complete(resource, obj)
        self._validate(resource, obj, None)
        self._check_limits(resource, obj, None, options)
        kinds.allocate(resource, obj, self.addresses, self.store)
        return self._put(resource, key, obj, options)

    def _name(self, resource: Resource, namespace: str, meta: JSON) -> Key:
        if resource.namespaced and meta.setdefault("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if not resource.namespaced:
            meta.pop("namespace", None)
        if not meta.get("name"):
            if not meta.get("generateName"):
                raise Invalid(resource, "", [kinds.NAME_REQUIRED])
            suffix = "".join(random.choices(admission.SUFFIX, k=5))  # noqa: S311 - a name, not a secret
            meta["name"] = meta["generateName"][:58] + suffix
        return namespace if resource.namespaced else "", meta["name"]

    def _check_namespace(self, resource: Resource, key: Key) -> None:
        if not resource.namespaced:
            return
        found = self.read(self.registry.builtin("namespaces"), ("", key[0]))
        if b'"deletionTimestamp"' in found.raw and "deletionTimestamp" in found.object()["metadata"]:
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {key[0]} is being terminated",
                "field": "metadata.namespace",
            }
            why = f"unable to create new content in namespace {key[0]} because it is being terminated"
            raise forbidden(resource, key[1], why, [cause])

    def _prepare_new(self, resource: Resource, obj: JSON) -> None:
        meta = obj["metadata"]
        for name in (
            "resourceVersion",
            "selfLink",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "managedFields",
            "generation",
        ):
            meta.pop(name, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": format_time()}
        if resource.generation:
            meta["generation"] = 1
        if resource.has_status:
            obj.pop("status", None)

    # Updating

    def check_replacement(self, resource: Resource, key: Key, obj: JSON) -> None:
        """Raises ApiError where an object may not be replaced without naming it and the version that is replaced."""
        self.read(resource, key)
        meta = obj.get("metadata") or {}
        if not meta.get("name"):
            raise bad_request(
                f"the name of the object ({key[1]} based on URL) was undeterminable: name must be provided"
            )
        if meta.get("resourceVersion") in (None, "", "0") and kinds.is_replaced_by_version(resource):
            wrong = invalid_value("metadata.resourceVersion", 0, "must be specified for an update")
            raise Invalid(replace(resource, kind=resource.plural), key[1], [wrong])

    def update(self, resource: Resource, key: Key, change: Change, options: Options, subresource: str = "") -> Record:
        """Replace an object by what `change` makes of it; nothing is written when nothing changes."""
        record = self.read(resource, key)
        old = self.typed(resource, record)
        new = change(self.typed(resource, record))
        self._decode(resource, new, options)
        self._check_identity(resource, key, old["metadata"], new["metadata"])
        new = self._merge_scope(resource, old, new, subresource)
        kinds.prepare_update(resource, new, old)
        self._complete(resource, new)
        new["metadata"]["managedFields"] = ssa.track(old, new, resource, options.manager, subresource)
        return self._save_changed(resource, key, record, old, new, options)

    def apply(
        self, resource: Resource, key: Key, config: JSON, options: Options, subresource: str = ""
    ) -> tuple[Record, bool]:
        """Server-side apply: the object, and whether it was created."""
        self._decode(resource, config, options, applied=True)
        meta = config["metadata"]
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        record = self.store.get(resource.storage, key)
        if record is None:
            return self._apply_new(resource, key, config, options, subresource), True
        old = self.typed(resource, record)
        merged, managed = ssa.apply(old, config, resource, options.manager, subresource, options.force)
        self._check_identity(resource, key, old["metadata"], {**merged["metadata"], **_given(meta)})
        new = self._merge_scope(resource, old, merged, subresource)
        kinds.prepare_update(resource, new, old)
        self._complete(resource, new)
        new["metadata"]["managedFields"] = managed
        return self._save_changed(resource, key, record, old, new, options), False

    def _apply_new(self, resource: Resource, key: Key, config: JSON, options: Options, subresource: str) -> Record:
        if subresource:
            raise not_found(resource, key[1])
        if config["metadata"].get("uid"):
            uid = config["metadata"]["uid"]
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise conflict(resource, key[1], why)
        config["metadata"].setdefault("name", key[1])
        key = self._name(resource, key[0], config["metadata"])
        self._check_namespace(resource, key)
        merged, managed = ssa.apply({}, config, resource, options.manager, "", options.force)
        return self._save_new(resource, key, merged, options, managed)

    def _check_identity(self, resource: Resource, key: Key, old: JSON, new: JSON) -> None:
        name = new.setdefault("name", key[1])
        if name != key[1]:
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({key[1]})")
        if resource.namespaced and new.setdefault("namespace", key[0]) != key[0]:
            given = new["namespace"]
            raise bad_request(
                f"the namespace of the object ({given}) does not match the namespace on the request ({key[0]})"
            )
        if new.get("uid") and new["uid"] != old["uid"]:
            why = f"Precondition failed: UID in precondition: {new['uid']}, UID in object meta: {old['uid']}"
            raise conflict(resource, key[1], why)
        if new.get("resourceVersion") and new["resourceVersion"] != old["resourceVersion"]:
            raise conflict(resource, key[1])

    def _merge_scope(self, resource: Resource, old: JSON, new: JSON, subresource: str) -> JSON:
        """Keep what the request's endpoint does not write: the status, or all but the status."""
        if subresource == "status":
            new = {
                **old,
                "status": new.get("status"),
                "metadata": {**old["metadata"], **_pick(new["metadata"], "managedFields")},
            }
            if new["status"] is None:
                del new["status"]
        elif resource.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        meta = new["metadata"]
        for name in (
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "resourceVersion",
            "generateName",
        ):
            meta.pop(name, None)
            if name in old["metadata"]:
                meta[name] = old["metadata"][name]
        return new

    def _save_changed(
        self, resource: Resource, key: Key, record: Record, old: JSON, new: JSON, options: Options
    ) -> Record:
        if resource.generation and _spec(new, resource) != _spec(old, resource):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        self._validate(resource, new, old)
        if new == old:
            return record
        self._check_limits(resource, new, old, options)
        if "deletionTimestamp" in new["metadata"] and not self._held(resource, new):
            last = record if options.dry_run else self._remove(resource, key)
            return Record(key, last.rv, msgspec.json.encode(_stored(new)), {}, {})
        return self._put(resource, key, new, options)

    # Deleting

    def delete(self, resource: Resource, key: Key, options: DeleteOptions) -> tuple[Record, bool]:
        """Delete, or begin to: the last state, and whether the object is gone."""
        kinds.check_delete(resource, key[1])
        record = self.read(resource, key)
        obj = self.typed(resource, record)
        meta = obj["metadata"]
        self._check_preconditions(resource, key, meta, options)
        grace = kinds.grace_period(resource, obj, options.grace)
        self._set_finalizers(meta, options.propagation)
        if not self._held(resource, obj, grace):
            return (record, True) if options.dry_run else (self._remove(resource, key), True)
        if "deletionTimestamp" not in meta or grace < meta.get("deletionGracePeriodSeconds", 0):
            deadline = datetime.now(UTC) + timedelta(seconds=grace)
            if "generation" in meta and "deletionTimestamp" not in meta:
                meta["generation"] += 1
            meta |= {"deletionTimestamp": format_time(deadline), "deletionGracePeriodSeconds": grace}
            kinds.begin_delete(resource, obj)
        if obj == self.typed(resource, record):
            return record, False
        saved = self._put(resource, key, obj, Options(dry_run=options.dry_run))
        if resource.storage == CRD_STORAGE and not options.dry_run:
            self._delete_instances(key[1])
        return saved, False

    def _check_preconditions(self, resource: Resource, key: Key, meta: JSON, options: DeleteOptions) -> None:
        for wanted, name, label in (
            (options.uid, "uid", "UID"),
            (options.version, "resourceVersion", "ResourceVersion"),
        ):
            if wanted is not None and wanted != meta[name]:
                raise unmet(resource, key[1], label, wanted, meta[name])

    def _set_finalizers(self, meta: JSON, propagation: str | None) -> None:
        """Leave the garbage collector its orders, as finalizers. A repeated delete without a policy changes none."""
        if propagation is None:
            return
        kept = [name for name in meta.get("finalizers", ()) if name not in GC_FINALIZERS.values()]
        wanted = GC_FINALIZERS.get(propagation)
        meta["finalizers"] = [*kept, wanted] if wanted else kept
        if not meta["finalizers"]:
            del meta["finalizers"]

    def _held(self, resource: Resource, obj: JSON, grace: int | None = None) -> bool:
        """Whether something must still happen before a deleted object may go."""
        remaining = obj["metadata"].get("deletionGracePeriodSeconds", 0) if grace is None else grace
        return bool(obj["metadata"].get("finalizers") or remaining or kinds.holds(resource, obj))

    def _delete_instances(self, definition: str) -> None:
        """A terminating CustomResourceDefinition takes its objects with it, and goes when the last one has gone."""
        resource = self.registry.stored(definition)
        if resource is not None:
            for key in list(self.store.collection(resource.storage).records):
                self.delete(resource, key, DeleteOptions())
        self._finish_definition(definition)

    def _finish_definition(self, definition: str) -> None:
        found = self.store.get(CRD_STORAGE, ("", definition))
        if found is None or self.store.collection(definition).records:
            return
        meta = (obj := found.object())["metadata"]
        if "deletionTimestamp" in meta:
            resource = self.registry.builtin(CRD_STORAGE)
            meta["finalizers"] = [name for name in meta.get("finalizers", ()) if name != CRD_FINALIZER]
            if meta["finalizers"]:
                self._put(resource, ("", definition), obj, Options())
            else:
                self._remove(resource, ("", definition))

    # Shared steps

    def _decode(self, resource: Resource, obj: JSON, options: Options, applied: bool = False) -> None:
        """Check that a body is an object of this kind, and drop the fields that its schema does not have, but from one
        that is `applied`: nobody can own those, so it is refused."""
        self._check_kind(resource, obj)
        if obj.get("metadata") is None:
            obj["metadata"] = {}
        if not isinstance(obj["metadata"], dict):
            raise bad_request(f"{resource.kind} metadata must be an object")
        unknown = prune(resource.node, obj, keep_null=applied)
        if resource.custom is not None:
            unknown.sort()
        if unknown and applied:
            raise _untyped(resource, obj, unknown)
        if unknown and options.validation == "Strict":
            found = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise bad_request(f"{_unreadable(resource)}: strict decoding error: {found}")
        if options.validation == "Warn":
            options.warnings += [f'unknown field "{path}"' for path in unknown]
        self._check_types(resource, obj)

    def _check_kind(self, resource: Resource, obj: JSON) -> None:
        """A built-in object need not say what it is, where the URL says it."""
        if resource.custom is None:
            obj.setdefault("apiVersion", resource.api_version)
            obj.setdefault("kind", resource.kind)
        version, kind = (obj.get(name) or "" for name in ("apiVersion", "kind"))
        if not kind:
            raise bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}): Object 'Kind' is missing"
            )
        if version != resource.api_version:
            wanted = resource.api_version
            raise bad_request(
                f"the API version in the data ({version}) does not match the expected API version ({wanted})"
            )
        if kind != resource.kind and resource.custom is not None:
            why = invalid_value("kind", kind, f"must be {resource.kind}")
            raise Invalid(replace(resource, kind=kind), (obj.get("metadata") or {}).get("name", ""), [why])
        if kind != resource.kind:
            raise bad_request(f"the kind in the data ({kind}) does not match the expected kind ({resource.kind})")

    def _check_types(self, resource: Resource, obj: JSON) -> None:
        """What Go could not decode is refused before anything looks into it: a built-in object, any metadata."""
        node, value, struct = resource.node, obj, resource.kind
        if resource.custom is not None:
            node, value, struct = node.properties["metadata"], obj["metadata"], "ObjectMeta"
        wrong = next((error for error in validate(node, value) if error.reason == TYPE_INVALID), None)
        if wrong and wrong.text.partition(" must be of type ")[2].startswith("byte"):
            raise bad_request(f"{_unreadable(resource)}: illegal base64 data in {wrong.field}")
        if wrong:
            (_, wanted), (found, _) = re.findall(r'"(\w+)"$|of type ([\w,]+):', wrong.text)
            what = f"json: cannot unmarshal {found} into Go struct field {struct}.{wrong.field} of type {wanted}"
            raise bad_request(f"{_unreadable(resource)}: {what}")

    def _complete(self, resource: Resource, obj: JSON) -> None:
        kinds.start(resource, obj)
        fill(resource.node, obj)
        if resource.custom is None:
            apply_defaults(resource.storage, obj)

    def _validate(self, resource: Resource, obj: JSON, old: JSON | None) -> None:
        before = MISSING if old is None else old
        errors = validate(resource.node, obj, before)
        errors += judge(resource.node, obj, before, errors)
        errors = kinds.relevant(resource, errors) + kinds.check(resource, obj, old)
        if errors:
            raise Invalid(resource, obj["metadata"].get("name", ""), errors)

    def _check_limits(self, resource: Resource, obj: JSON, old: JSON | None, options: Options) -> None:
        if old is None or _spec(obj, resource) != _spec(old, resource):
            limits.refuse(resource, obj)
            options.warnings += limits.warnings(resource, obj, old)

    def _put(self, resource: Resource, key: Key, obj: JSON, options: Options) -> Record:
        if not obj["metadata"].get("managedFields"):
            obj["metadata"].pop("managedFields", None)
        if options.dry_run:
            return Record(key, self.store.rv, msgspec.json.encode(_stored(obj)), {}, {})
        if resource.storage == CRD_STORAGE:
            serve_definition(self.registry, obj)
        return self.store.put(resource.storage, key, obj)

    def _remove(self, resource: Resource, key: Key) -> Record:
        last = self.store.remove(resource.storage, key)
        if resource.storage == CRD_STORAGE:
            self.registry.forget(key[1])
        elif resource.custom is not None and not self.store.collection(resource.storage).records:
            self._finish_definition(resource.storage)
        return last


def _unreadable(resource: Resource) -> str:
    return f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'


def _untyped(resource: Resource, obj: JSON, unknown: list[str]) -> ApiError:
    """An applied configuration with fields that its schema does not have; the code is Kubernetes' own."""
    where = f"{obj['metadata'].get('namespace', '')}/{obj['metadata'].get('name', '')}"
    complaints = [f".{path}: field not declared in schema" for path in unknown]
    text = complaints[0] if len(complaints) == 1 else "\n  ".join(["errors:", *complaints])
    what = f"({where}; {resource.api_version}, Kind={resource.kind})"
    return ApiError(500, "", f"failed to create typed patch object {what}: {text}")


def _spec(obj: JSON, resource: Resource) -> JSON:
    skipped = ("metadata", "status") if resource.has_status or resource.custom is None else ("metadata",)
    return {name: value for name, value in obj.items() if name not in skipped}


def _stored(obj: JSON) -> JSON:
    return {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")}


def _pick(source: JSON, *names: str) -> JSON:
    return {name: source[name] for name in names if name in source}


def _given(meta: JSON) -> JSON:
    return _pick(meta, "name", "namespace", "uid", "resourceVersion")
