"""What Argo CD, Flux and kstatus make of a CreditModel, over statuses that the operator has really written.

Argo CD's check runs in Lua. Flux evaluates its expressions as fluxcd/pkg's runtime/cel does: a status of another
generation is progress, then inProgress, failed, current, and progress for the rest. kstatus is what `flux` and
`helm --wait` do without any configuration: another generation, Reconciling and Stalled first, then Ready.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cel_expr_python import cel
from lupa import lua54

from creditmodel_operator.api import crd
from creditmodel_operator.report import refused

if TYPE_CHECKING:
    from tests.unit.creditmodel_operator.conftest import World

JSON = dict[str, Any]
GITOPS = Path(__file__).parents[3] / "docs" / "integrations" / "gitops"
LUA = (GITOPS / "argocd" / "health.lua").read_text()


def argo(found: JSON) -> tuple[str, str]:
    """Health and message by the Lua check."""
    runtime = lua54.LuaRuntime(register_eval=False)
    runtime.globals().obj = runtime.table_from(found, recursive=True)
    answer = runtime.execute(LUA)
    return answer["status"], answer["message"]


def flux(found: JSON) -> str:
    """The status by Flux's rules."""
    (check,) = yaml.safe_load((GITOPS / "flux" / "kustomization.yaml").read_text())["spec"]["healthCheckExprs"]
    assert f"{found['apiVersion']} {found['kind']}" == f"{check['apiVersion']} {check['kind']}"
    observed = found.get("status", {}).get("observedGeneration")
    if observed is not None and observed != found["metadata"]["generation"]:
        return "InProgress"
    environment = cel.NewEnv(variables={"metadata": cel.Type.DYN, "status": cel.Type.DYN})
    for name, verdict in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        if name in check and environment.compile(check[name]).eval(data=found).value() is True:
            return verdict
    return "InProgress"


def kstatus(found: JSON) -> str:
    """The status by the generic rules."""
    if "deletionTimestamp" in found["metadata"]:
        return "Terminating"
    conditions = {c["type"]: c for c in found.get("status", {}).get("conditions", ())}
    if found.get("status", {}).get("observedGeneration") not in (None, found["metadata"]["generation"]):
        return "InProgress"
    if conditions.get("Reconciling", {}).get("status") == "True":
        return "InProgress"
    if conditions.get("Stalled", {}).get("status") == "True":
        return "Failed"
    ready = conditions.get("Ready", {}).get("status")
    return "InProgress" if ready in ("False", "Unknown") else "Current"


def gating(world: World) -> None:
    world.spec("v1")
    world.reconcile()


def rolling_out(world: World) -> None:
    world.spec("v1")
    for _ in range(4):
        world.reconcile()
        world.run_jobs()


def ready(world: World) -> None:
    world.promote("v1")


def rejected(world: World) -> None:
    world.promote("v1")
    world.spec("v2")
    world.reconcile()
    world.run_jobs()
    world.reconcile()
    world.run_jobs(parity={**world.good(world.jobs(running=True)[0]), "decision_flips": 3})
    world.reconcile()


def out_of_time(world: World) -> None:
    rolling_out(world)
    world.reconcile()
    world.wait(1000)
    world.reconcile()


def awaiting_approval(world: World) -> None:
    world.promote("v1")
    world.spec("v2", gates={"approval": {"required": True}})
    for _ in range(4):
        world.reconcile()
        world.run_jobs()
    world.reconcile()


def suspended_before_it_serves(world: World) -> None:
    world.spec("v1", suspend=True)
    world.reconcile()


def suspended_while_it_serves(world: World) -> None:
    world.promote("v1")
    world.spec("v1", suspend=True)
    world.reconcile()


def changed_and_not_looked_at(world: World) -> None:
    world.promote("v1")
    world.spec("v2")


def rejected_and_changed_since(world: World) -> None:
    rejected(world)
    world.spec("v3")


def short_of_pods(world: World) -> None:
    world.settle(world.promote("v1"), ready=0)
    world.reconcile()


def refused_by_the_api_server(world: World) -> None:
    world.promote("v1")
    model = world.observe().model
    world.objects["CreditModel", "credit"]["status"] = refused(model, model.status, "403 quota exceeded", world.now)


def unreadable(world: World) -> None:
    world.spec("v1", gates={"parity": {"rtol": "much"}})
    world.reconcile()


def never_looked_at(world: World) -> None:
    world.spec("v1")
    status = crd.crds()[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    world.objects["CreditModel", "credit"]["status"] = copy.deepcopy(status["default"])


def being_deleted(world: World) -> None:
    world.promote("v1")
    world.objects["CreditModel", "credit"]["metadata"]["deletionTimestamp"] = "2026-11-01T13:00:00Z"


TABLE = [
    (never_looked_at, "Progressing", "InProgress", "InProgress"),
    (gating, "Progressing", "InProgress", "InProgress"),
    (rolling_out, "Progressing", "InProgress", "InProgress"),
    (ready, "Healthy", "Current", "Current"),
    (rejected, "Degraded", "Failed", "Failed"),
    (out_of_time, "Degraded", "Failed", "Failed"),
    (awaiting_approval, "Suspended", "InProgress", "InProgress"),
    (suspended_before_it_serves, "Suspended", "InProgress", "InProgress"),
    (suspended_while_it_serves, "Healthy", "Current", "Current"),
    (changed_and_not_looked_at, "Progressing", "InProgress", "InProgress"),
    (rejected_and_changed_since, "Progressing", "InProgress", "InProgress"),
    (short_of_pods, "Degraded", "InProgress", "InProgress"),
    (refused_by_the_api_server, "Degraded", "InProgress", "InProgress"),
    (unreadable, "Degraded", "Failed", "Failed"),
    (being_deleted, "Progressing", "Current", "Terminating"),
]


@pytest.mark.parametrize(("happens", "in_argo", "in_flux", "in_kstatus"), TABLE)
def test_every_tool_reads_the_state_as_it_is(
    world: World, happens: Callable[[World], None], in_argo: str, in_flux: str, in_kstatus: str
) -> None:
    happens(world)
    found = resource(world)
    assert (argo(found)[0], flux(found), kstatus(found)) == (in_argo, in_flux, in_kstatus)


def resource(world: World) -> JSON:
    found = copy.deepcopy(world.objects["CreditModel", "credit"])
    return {"apiVersion": "creditmodel.dev/v1alpha1", **found}


def test_argo_shows_the_gate_and_the_number_of_a_rejected_challenger(world: World) -> None:
    rejected(world)
    assert "3 decisions flip, limit 0" in argo(resource(world))[1]


def test_the_config_map_of_argo_has_the_check_word_for_word() -> None:
    config = yaml.safe_load((GITOPS / "argocd" / "argocd-cm.yaml").read_text())
    assert config["data"] == {"resource.customizations.health.creditmodel.dev_CreditModel": LUA}
