"""Server-side apply, as its reference page documents it."""

from __future__ import annotations

from typing import Any

import pytest

JSON = dict[str, Any]


@pytest.fixture
def deployment(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/d"


@pytest.fixture
def config_map(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/a"


def data(**items: str) -> JSON:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": items}


def workload(containers: list[JSON], **spec: Any) -> JSON:
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": containers}}
    full = {"selector": {"matchLabels": {"app": "d"}}, "template": template, "paused": True, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": full}


def container(name: str = "c", **more: Any) -> JSON:
    return {"name": name, "image": f"example.invalid/{name}:1", **more}


def managers(obj: JSON) -> dict[tuple[str, str], JSON]:
    return {(entry["manager"], entry["operation"]): entry for entry in obj["metadata"]["managedFields"]}


def test_apply_creates_what_is_missing(apiserver: Any, config_map: str) -> None:
    answer = apiserver.apply(config_map, data(k="1"), "one")
    assert answer.code == 201
    entry = managers(answer.body)["one", "Apply"]
    assert entry["fieldsV1"] == {"f:data": {"f:k": {}}}
    assert (entry["apiVersion"], entry["fieldsType"]) == ("v1", "FieldsV1")


def test_apply_needs_a_field_manager(apiserver: Any, config_map: str) -> None:
    answer = apiserver.request("PATCH", config_map, data(), "application/apply-patch+yaml")
    assert answer.code == 422
    assert "is required for apply patch" in answer.body["message"]


def test_applying_the_same_again_changes_nothing(apiserver: Any, config_map: str) -> None:
    first = apiserver.apply(config_map, data(k="1"), "one")
    again = apiserver.apply(config_map, data(k="1"), "one")
    assert again.code == 200
    assert again.body == first.body


def test_a_field_of_another_manager_is_a_conflict_that_names_both(apiserver: Any, config_map: str) -> None:
    apiserver.apply(config_map, data(k="1"), "one")
    answer = apiserver.apply(config_map, data(k="2"), "two")
    assert (answer.code, answer.body["reason"]) == (409, "Conflict")
    assert answer.body["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.k'
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.k"}
    assert answer.body["details"]["causes"] == [cause]


def test_conflicts_with_an_updater_name_its_version(apiserver: Any, config_map: str) -> None:
    path = config_map.rpartition("/")[0]
    apiserver.post(f"{path}?fieldManager=editor", data(k="1", l="1"))
    answer = apiserver.apply(config_map, data(k="2", l="2"), "two")
    lines = ['Apply failed with 2 conflicts: conflicts with "editor" using v1:', "- .data.k", "- .data.l"]
    assert answer.body["message"] == "\n".join(lines)


def test_the_same_value_is_shared(apiserver: Any, config_map: str) -> None:
    apiserver.apply(config_map, data(k="1"), "one")
    answer = apiserver.apply(config_map, data(k="1", own="2"), "two")
    assert answer.code == 200
    owners = managers(answer.body)
    assert owners["one", "Apply"]["fieldsV1"] == {"f:data": {"f:k": {}}}
    assert owners["two", "Apply"]["fieldsV1"] == {"f:data": {"f:k": {}, "f:own": {}}}


def test_force_takes_a_field_over(apiserver: Any, config_map: str) -> None:
    apiserver.apply(config_map, data(k="1", rest="x"), "one")
    answer = apiserver.apply(config_map, data(k="2"), "two", force=True)
    assert answer.body["data"] == {"k": "2", "rest": "x"}
    assert managers(answer.body)["one", "Apply"]["fieldsV1"] == {"f:data": {"f:rest": {}}}


def test_a_field_that_is_no_longer_applied_goes(apiserver: Any, config_map: str) -> None:
    apiserver.apply(config_map, data(k="1", old="x"), "one")
    assert apiserver.apply(config_map, data(k="1"), "one").body["data"] == {"k": "1"}


def test_a_struct_that_is_no_longer_applied_goes_with_its_defaults(apiserver: Any, deployment: str) -> None:
    probe = {"httpGet": {"path": "/", "port": 80}}
    apiserver.apply(deployment, workload([container(livenessProbe=probe)]), "one")
    before = apiserver.get(deployment)["spec"]["template"]["spec"]["containers"][0]
    assert before["livenessProbe"]["periodSeconds"] == 10
    answer = apiserver.apply(deployment, workload([container()]), "one")
    assert answer.code == 200, answer.body
    assert "livenessProbe" not in answer.body["spec"]["template"]["spec"]["containers"][0]


def test_a_struct_of_which_another_owns_a_part_stays_with_it(apiserver: Any, deployment: str) -> None:
    probe = {"httpGet": {"path": "/", "port": 80}}
    apiserver.apply(deployment, workload([container(livenessProbe=probe)]), "one")
    theirs = workload([{"name": "c", "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 7}}])
    assert apiserver.apply(deployment, theirs, "two", True).code == 200
    apiserver.apply(deployment, workload([container()]), "one")
    left = apiserver.get(deployment)["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]
    assert (left["periodSeconds"], left["httpGet"]["port"]) == (7, 80)


def test_a_field_that_another_still_owns_stays(apiserver: Any, config_map: str) -> None:
    apiserver.apply(config_map, data(k="1", both="x"), "one")
    apiserver.apply(config_map, data(both="x"), "two")
    after = apiserver.apply(config_map, data(k="1"), "one").body
    assert after["data"] == {"k": "1", "both": "x"}
    assert managers(after)["two", "Apply"]["fieldsV1"] == {"f:data": {"f:both": {}}}


def test_what_others_set_is_left_alone(apiserver: Any, config_map: str) -> None:
    apiserver.apply(config_map, data(k="1"), "one")
    patch = {"data": {"theirs": "x"}, "metadata": {"annotations": {"note": "y"}}}
    apiserver.patch(f"{config_map}?fieldManager=other", patch)
    after = apiserver.apply(config_map, data(k="2"), "one").body
    assert after["data"] == {"k": "2", "theirs": "x"}
    assert after["metadata"]["annotations"] == {"note": "y"}


def test_an_updater_takes_the_fields_that_it_changes(apiserver: Any, config_map: str) -> None:
    apiserver.apply(config_map, data(k="1", l="1"), "one")
    after = apiserver.patch(f"{config_map}?fieldManager=editor", {"data": {"k": "2"}})
    owners = managers(after)
    assert owners["one", "Apply"]["fieldsV1"] == {"f:data": {"f:l": {}}}
    assert owners["editor", "Update"]["fieldsV1"] == {"f:data": {"f:k": {}}}


def test_an_update_that_removes_a_field_removes_its_ownership(apiserver: Any, config_map: str) -> None:
    apiserver.apply(config_map, data(k="1", l="1"), "one")
    after = apiserver.patch(f"{config_map}?fieldManager=editor", {"data": {"k": None}})
    assert managers(after)["one", "Apply"]["fieldsV1"] == {"f:data": {"f:l": {}}}


def test_containers_merge_by_name_and_ports_by_port_and_protocol(apiserver: Any, deployment: str) -> None:
    ports = [{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]
    apiserver.apply(deployment, workload([container("c", ports=ports)]), "one")
    env = [{"name": "A", "value": "1"}]
    second = workload([container("c", env=env), container("side")])
    after = apiserver.apply(deployment, second, "two").body["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in after] == ["c", "side"]
    assert after[0]["env"] == env
    assert [(p["containerPort"], p["protocol"]) for p in after[0]["ports"]] == [(80, "TCP"), (80, "UDP")]
    fewer = workload([container("c", ports=ports[:1])])
    left = apiserver.apply(deployment, fewer, "one").body["spec"]["template"]["spec"]["containers"]
    assert [(p["containerPort"], p["protocol"]) for p in left[0]["ports"]] == [(80, "TCP")]
    assert [c["name"] for c in left] == ["c", "side"]


def test_a_list_item_goes_with_its_only_applier(apiserver: Any, deployment: str) -> None:
    apiserver.apply(deployment, workload([container("c"), container("side", env=[{"name": "A", "value": "1"}])]), "one")
    after = apiserver.apply(deployment, workload([container("c")]), "one").body
    assert [c["name"] for c in after["spec"]["template"]["spec"]["containers"]] == ["c"]


def test_keys_of_list_items_are_shown_in_managed_fields(apiserver: Any, deployment: str) -> None:
    body = workload([container("c", ports=[{"containerPort": 80}])])
    entry = managers(apiserver.apply(deployment, body, "one").body)["one", "Apply"]
    fields = entry["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']
    assert set(fields) == {".", "f:name", "f:image", "f:ports"}
    assert set(fields["f:ports"]) == {'k:{"containerPort":80,"protocol":"TCP"}'}


def test_replicas_that_are_never_applied_belong_to_the_scaler(apiserver: Any, deployment: str) -> None:
    apiserver.apply(deployment, workload([container()]), "one")
    apiserver.patch(f"{deployment}/scale?fieldManager=scaler", {"spec": {"replicas": 0}})
    changed = workload([container("c", env=[{"name": "A", "value": "1"}])])
    assert apiserver.apply(deployment, changed, "one").body["spec"]["replicas"] == 0
    answer = apiserver.apply(deployment, workload([container()], replicas=3), "one")
    assert answer.code == 409
    assert 'conflict with "scaler" with subresource "scale" using apps/v1: .spec.replicas' in answer.body["message"]


def test_replicas_that_are_applied_no_more_fall_back_to_the_default(apiserver: Any, deployment: str) -> None:
    apiserver.apply(deployment, workload([container()], replicas=0), "one")
    assert apiserver.apply(deployment, workload([container()]), "one").body["spec"]["replicas"] == 1


def test_an_atomic_list_is_owned_as_a_whole(apiserver: Any, deployment: str) -> None:
    apiserver.apply(deployment, workload([container("c", args=["a", "b"])]), "one")
    answer = apiserver.apply(deployment, workload([container("c", args=["a", "c"])]), "two")
    assert answer.code == 409
    assert answer.body["details"]["causes"][0]["field"] == '.spec.template.spec.containers[name="c"].args'


def test_finalizers_merge_as_a_set(apiserver: Any, config_map: str) -> None:
    def held(name: str) -> JSON:
        body = data()
        body["metadata"]["finalizers"] = [name]
        return body

    apiserver.apply(config_map, held("example.com/one"), "one")
    both = apiserver.apply(config_map, held("example.com/two"), "two").body
    assert sorted(both["metadata"]["finalizers"]) == ["example.com/one", "example.com/two"]
    after = apiserver.apply(config_map, data(), "one").body
    assert after["metadata"]["finalizers"] == ["example.com/two"]
    apiserver.patch(config_map, {"metadata": {"finalizers": None}})


def test_status_is_applied_through_its_subresource(apiserver: Any, namespace: str) -> None:
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    body = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}}
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "none"}}}
    status = {"conditions": [condition("Mine", "True")]}
    apiserver.apply(f"{budgets}/b", {**body, "spec": spec, "status": status}, "one")
    assert "Mine" not in str(apiserver.get(f"{budgets}/b").get("status"))
    after = apiserver.apply(f"{budgets}/b/status", {**body, "status": status}, "two").body
    assert "Mine" in [c["type"] for c in after["status"]["conditions"]]
    entry = managers(after)["two", "Apply"]
    assert entry["subresource"] == "status"
    assert list(entry["fieldsV1"]) == ["f:status"]


def condition(kind: str, status: str) -> JSON:
    when = "2026-01-01T00:00:00Z"
    return {"type": kind, "status": status, "reason": "Tried", "message": "", "lastTransitionTime": when}


def test_an_applied_uid_of_a_missing_object_is_a_conflict(apiserver: Any, config_map: str) -> None:
    body = data()
    body["metadata"]["uid"] = "11111111-2222-3333-4444-555555555555"
    assert apiserver.apply(config_map, body, "one").code == 409


def test_managed_fields_cannot_be_applied(apiserver: Any, config_map: str) -> None:
    body = data()
    body["metadata"]["managedFields"] = [{"manager": "x", "operation": "Apply", "apiVersion": "v1"}]
    assert apiserver.apply(config_map, body, "one").code == 400


def test_an_update_cannot_delete_managed_fields_but_by_an_empty_entry(apiserver: Any, config_map: str) -> None:
    apiserver.apply(config_map, data(k="1"), "one")
    kept = apiserver.patch(config_map, {"metadata": {"managedFields": []}})
    assert ("one", "Apply") in managers(kept)
    cleared = apiserver.patch(config_map, {"metadata": {"managedFields": [{}]}})
    assert not cleared["metadata"].get("managedFields")
