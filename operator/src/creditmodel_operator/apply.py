"""Carry out a plan: the actions in order, then one status patch, then the events."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from creditmodel_operator import api, names
from creditmodel_operator.children.common import Manifest
from creditmodel_operator.client import Blocked, Client, Conflict, Gone, Refused, Taken, partial
from creditmodel_operator.compare import ADMITTED, APPLIED, admitted, contains
from creditmodel_operator.events import events
from creditmodel_operator.metrics import GATES
from creditmodel_operator.observed import Model
from creditmodel_operator.plan import Action, Apply, Claim, Create, Delete, Event, Look, Plan
from creditmodel_operator.report import refused
from creditmodel_operator.store import Store

__all__ = ["carry_out"]

logger = logging.getLogger(__name__)

_FINAL = frozenset({"Passed", "Failed", "Error", "Inconclusive"})


async def carry_out(plan: Plan, model: Model, client: Client, store: Store) -> bool:
    """Do what the plan says; True if an action has changed something, so that it is worth another look.

    The first action that fails ends the pass, and status then says no more than is true.
    Raises ApiFailure; what was done stays done, and the next pass goes on from there.
    """
    changed, done = False, 0
    try:
        for action in plan.actions:
            if isinstance(action, Claim):
                await _claim(action, model, client)
            else:
                changed |= await _act(action, model, client, store)
            done += 1
    except Refused as e:
        await _tell(e, plan, plan.actions[done:], model, client, store)
        raise
    if plan.status is not None:
        changed |= await _write_status(plan.status, model, client, store)
        _count_gates(model, plan.status)
    for event in plan.events:
        await _emit(event, model, client)
    return changed


async def _tell(
    problem: Refused, plan: Plan, undone: Sequence[Action], model: Model, client: Client, store: Store
) -> None:
    """Say in status that an action was refused, once."""
    planned = plan.status if plan.status is not None else model.status
    moved = not any(action.kind == "Service" for action in undone)
    taken = isinstance(problem, Taken)
    told = refused(model, planned, str(problem), datetime.now(UTC), moved=moved, taken=taken)
    if told == model.status:
        return
    await _write_status(told, model, client, store)
    for event in events(model, told):
        await _emit(event, model, client)


async def _claim(claim: Claim, model: Model, client: Client) -> bool:
    """True if the object is there already, and the CreditModel's own.

    Raises Taken where the name is somebody else's, Blocked where a deleted CreditModel's child has yet to go.
    """
    meta = model.meta
    try:
        found = await client.get(claim.kind, meta.namespace, claim.name)
    except Gone:
        return False
    owners = found["metadata"].get("ownerReferences") or ()
    if any(owner["uid"] == meta.uid for owner in owners) or (not owners and _left_behind(found, meta.name)):
        return True
    name = f"{claim.kind} {meta.namespace}/{claim.name}"
    if any((owner["kind"], owner["name"]) == (api.KIND, meta.name) for owner in owners):
        raise Blocked(f"{name} belongs to a deleted CreditModel of this name, and is about to go")
    raise Taken(
        f"{name} exists and is not this CreditModel's, so it is left alone: delete or rename it, or give the "
        "CreditModel another name. It is looked at again every two minutes"
    )


def _left_behind(child: Manifest, crm: str) -> bool:
    """Whether the operator made it for a CreditModel of this name that was deleted with `--cascade=orphan`."""
    labels = child["metadata"].get("labels") or {}
    return {**labels, **names.instance_labels(crm)} == labels


async def _created(action: Create, model: Model, client: Client) -> Manifest:
    """What is there already under this name is put right if it is the CreditModel's own: its labels were lost."""
    try:
        return await client.create(action.manifest)
    except Conflict:
        if not await _claim(Claim(action.kind, action.name), model, client):
            raise
    return await client.apply(action.manifest, names.FIELD_MANAGER)


async def _act(action: Apply | Create | Delete | Look, model: Model, client: Client, store: Store) -> bool:
    namespace, name = model.meta.namespace, model.meta.name
    log = {"key": f"{namespace}/{name}"}
    if isinstance(action, Create):
        body = await _created(action, model, client)
        logger.info("created %s %s", action.kind, action.name, extra=log)
        return bool(store.saw(action.kind, body))
    if isinstance(action, Apply):
        body = await client.apply(action.body, action.manager)
        logger.info("applied %s %s", action.kind, action.name, extra=log)
        changed = bool(store.saw(action.kind, body))
        return await _note_admission(action, body, client, store) or changed
    if isinstance(action, Look):
        async for page in client.list("Pod", namespace, f"{names.JOB_NAME}={action.name}"):
            for pod in page["items"]:
                store.saw("Pod", pod)
        store.looked(action.uid)
        return True
    try:
        await client.delete(action.kind, namespace, action.name, action.uid)
    except Gone:
        logger.debug("%s %s was gone", action.kind, action.name, extra=log)
    else:
        logger.info("deleted %s %s", action.kind, action.name, extra=log)
    store.deleted(action.kind, action.uid)
    return True


async def _note_admission(action: Apply, body: Manifest, client: Client, store: Store) -> bool:
    """Write on a child what admission made of it, so that it is not asked for again and again; True if it was news.

    A Job is made once and never compared.
    """
    wanted, spec = action.manifest, body.get("spec") or {}
    notes = body["metadata"].get("annotations") or {}
    if APPLIED not in (wanted["metadata"].get("annotations") or {}) or contains(spec, wanted["spec"]):
        return False
    mark = admitted(wanted["spec"], spec)
    if notes.get(ADMITTED) == mark:
        return False
    meta = body["metadata"]
    document = partial(action.kind, meta["namespace"], action.name)
    document["metadata"] |= {"uid": meta["uid"], "annotations": {ADMITTED: mark}}
    logger.warning("admission changed %s %s: it is left as it is", action.kind, action.name)
    return bool(store.saw(action.kind, await client.apply(document, names.RECORD_MANAGER)))


async def _write_status(status: Any, model: Model, client: Client, store: Store) -> bool:
    """True if spec has changed since the decision: the answer brings the edit, and the watch tells nothing new."""
    meta = model.meta
    document = partial(api.KIND, meta.namespace, meta.name, status=status)
    document["metadata"]["uid"] = meta.uid
    body = await client.apply_status(document, names.FIELD_MANAGER)
    store.saw(api.KIND, body)
    logger.info("%s", status.get("phase"), extra={"key": f"{meta.namespace}/{meta.name}"})
    return bool(body["metadata"]["generation"] != meta.generation)


async def _emit(event: Event, model: Model, client: Client) -> None:
    """An event is told once or not at all: it is worth less than the next pass."""
    meta = model.meta
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = partial("Event", meta.namespace, names.event(meta.name, [meta.uid, event.reason, event.message, now]))
    document |= {
        "involvedObject": {
            "apiVersion": f"{api.GROUP}/{api.VERSION}",
            "kind": api.KIND,
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
        },
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "message": event.message[:1000],
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    try:
        await client.create(document)
    except (Conflict, Refused, Gone) as e:
        logger.warning("event %s was not posted: %s", event.reason, e)


def _count_gates(model: Model, status: Any) -> None:
    """Count verdicts that are new; only once status has them."""
    before = {gate["name"]: (gate.get("job"), gate["verdict"]) for gate in model.status.get("gates") or ()}
    for gate in status.get("gates") or ():
        now = (gate.get("job"), gate["verdict"])
        if gate["verdict"] in _FINAL and now != before.get(gate["name"]):
            GATES.labels(gate["name"], gate["verdict"]).inc()
