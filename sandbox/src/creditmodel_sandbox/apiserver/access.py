"""Who asks, and may they: bearer tokens, impersonation, and role-based access control."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from creditmodel_sandbox.apiserver.credentials import Credentials, TokenError
from creditmodel_sandbox.apiserver.errors import ApiError
from creditmodel_sandbox.apiserver.storage import Store

__all__ = ["ADMIN", "BINDABLE", "Action", "User", "authenticate", "authorized", "refuse", "review"]

JSON = dict[str, Any]
BINDABLE = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
"""Where the objects are that a token can be bound to."""
_RBAC = "rbac.authorization.k8s.io"
_EVERYTHING: list[JSON] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]
_RULE_KINDS = {"resource": "resources", "nonResource": "nonResourceURLs"}


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated client."""

    name: str
    groups: tuple[str, ...] = ("system:authenticated",)
    uid: str = ""

    @property
    def is_admin(self) -> bool:
        return "system:masters" in self.groups

    def info(self) -> JSON:
        info: JSON = {"username": self.name, "groups": list(self.groups)}
        return info | ({"uid": self.uid} if self.uid else {})


ADMIN = User("kubernetes-admin", ("system:masters", "system:authenticated"))


@dataclass(frozen=True, slots=True)
class Action:
    """What a client wants to do, in the words of a Role."""

    verb: str
    group: str
    resource: str
    """The plural, with the subresource: `pods/log`."""
    namespace: str = ""
    name: str = ""


def authenticate(headers: Mapping[str, str], credentials: Credentials, store: Store) -> User:
    """The client behind a request's headers.

    Raises 401 for an unknown token, 403 for an impersonation that is not allowed.
    """
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise ApiError(401, "Unauthorized", "Unauthorized: a bearer token is needed")
    user = identify(token.strip(), credentials, store)
    wanted = headers.get("Impersonate-User")
    if wanted is None:
        return user
    if not user.is_admin:
        raise ApiError(403, "Forbidden", f'users "{wanted}" is forbidden: User "{user.name}" cannot impersonate', {})
    group = headers.get("Impersonate-Group")
    return User(wanted, tuple(filter(None, (group, *_account_groups(wanted), "system:authenticated"))))


def identify(token: str, credentials: Credentials, store: Store) -> User:
    """The user that a token stands for."""
    if hmac.compare_digest(token.encode(), credentials.token.encode()):
        return ADMIN
    try:
        claims = credentials.verify(token, time.time())
    except TokenError as error:
        raise ApiError(401, "Unauthorized", f"Unauthorized: {error}") from error
    given = claims["kubernetes.io"]
    bound = {"serviceaccounts": given["serviceaccount"]}
    bound |= {storage: given[kind.lower()] for kind, storage in BINDABLE.items() if kind.lower() in given}
    for storage, reference in bound.items():
        found = store.get(storage, ("" if storage == "nodes" else given["namespace"], reference["name"]))
        if found is None or found.object()["metadata"]["uid"] != reference["uid"]:
            raise ApiError(401, "Unauthorized", f"Unauthorized: what the token belongs to is gone ({storage})")
    account = given["serviceaccount"]
    return User(claims["sub"], (*_account_groups(claims["sub"]), "system:authenticated"), account["uid"])


def _account_groups(name: str) -> tuple[str, ...]:
    if not name.startswith("system:serviceaccount:"):
        return ()
    return "system:serviceaccounts", f"system:serviceaccounts:{name.split(':')[2]}"


def authorized(user: User, action: Action, store: Store) -> bool:
    """Whether a role that is bound to the user allows the action."""
    return user.is_admin or any(_allows(rule, action) for rule in _rules(user, action.namespace, store))


def refuse(user: User, action: Action) -> ApiError:
    """The 403 for an action that no role allows."""
    qualified = f"{action.resource}.{action.group}" if action.group else action.resource
    shown = f'{qualified} "{action.name}"' if action.name else qualified
    scope = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    why = f'User "{user.name}" cannot {action.verb} resource "{action.resource}" in API group "{action.group}" {scope}'
    details = {"name": action.name, "group": action.group, "kind": action.resource}
    return ApiError(403, "Forbidden", f"{shown} is forbidden: {why}", {k: v for k, v in details.items() if v})


def _rules(user: User, namespace: str, store: Store) -> Iterator[JSON]:
    for record in store.collection(f"clusterrolebindings.{_RBAC}").records.values():
        yield from _bound(user, record.object(), "", store)
    if namespace:
        for key, record in store.collection(f"rolebindings.{_RBAC}").records.items():
            if key[0] == namespace:
                yield from _bound(user, record.object(), namespace, store)


def _bound(user: User, binding: JSON, namespace: str, store: Store) -> Iterator[JSON]:
    if not any(_is_subject(user, subject, namespace) for subject in binding.get("subjects") or ()):
        return
    reference = binding["roleRef"]
    if reference["kind"] == "Role":
        role = store.get(f"roles.{_RBAC}", (namespace, reference["name"]))
    else:
        role = store.get(f"clusterroles.{_RBAC}", ("", reference["name"]))
    if role is not None:
        yield from role.object().get("rules") or ()


def _is_subject(user: User, subject: JSON, namespace: str) -> bool:
    match subject["kind"]:
        case "User":
            return bool(subject["name"] == user.name)
        case "Group":
            return subject["name"] in user.groups
        case "ServiceAccount":
            return user.name == f"system:serviceaccount:{subject.get('namespace') or namespace}:{subject['name']}"
        case _:
            return False


def _allows(rule: JSON, action: Action) -> bool:
    names = rule.get("resourceNames")
    subresource = action.resource.partition("/")[2]
    resources = (action.resource, "*", f"*/{subresource}") if subresource else (action.resource, "*")
    return (
        _any(rule.get("verbs"), action.verb, "*")
        and _any(rule.get("apiGroups"), action.group, "*")
        and _any(rule.get("resources"), *resources)
        and (not names or action.name in names)
    )


def _any(allowed: list[str] | None, *wanted: str) -> bool:
    return any(item in (allowed or ()) for item in wanted)


def review(kind: str, obj: JSON, user: User, credentials: Credentials, store: Store) -> JSON:
    """The status of an access or identity review."""
    spec = obj.get("spec") or {}
    match kind:
        case "SelfSubjectReview":
            return {"userInfo": user.info()}
        case "TokenReview":
            return _token_review(spec, credentials, store)
        case "SelfSubjectRulesReview":
            rules = _EVERYTHING if user.is_admin else list(_rules(user, spec.get("namespace", ""), store))
            found = {f"{kind}Rules": [rule for rule in rules if key in rule] for kind, key in _RULE_KINDS.items()}
            return found | {"incomplete": False}
        case "SelfSubjectAccessReview":
            subject = user
        case _:
            subject = User(spec.get("user", ""), tuple(spec.get("groups") or ()))
    wanted = spec.get("resourceAttributes")
    if wanted is None:
        return {"allowed": subject.is_admin or spec.get("nonResourceAttributes", {}).get("verb") == "get"}
    resource = "/".join(filter(None, (wanted.get("resource", ""), wanted.get("subresource", ""))))
    action = Action(
        wanted.get("verb", ""), wanted.get("group", ""), resource, wanted.get("namespace", ""), wanted.get("name", "")
    )
    allowed = authorized(subject, action, store)
    return {"allowed": allowed} if allowed else {"allowed": False, "reason": str(refuse(subject, action))}


def _token_review(spec: JSON, credentials: Credentials, store: Store) -> JSON:
    try:
        return {"authenticated": True, "user": identify(spec.get("token", ""), credentials, store).info()}
    except ApiError as error:
        return {"authenticated": False, "error": error.message}
