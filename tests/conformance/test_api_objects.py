"""What the API says of any object: create, read, update, patch, delete, as the API concepts page documents it."""

from __future__ import annotations

import time
from typing import Any

import pytest

JSON = dict[str, Any]


def config_map(name: str, **data: str) -> JSON:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str, **spec: Any) -> JSON:
    labels = {"app": name}
    container = {"name": "c", "image": "example.invalid/none:1", "ports": [{"containerPort": 80}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    full = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": full}


@pytest.fixture
def maps(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps"


@pytest.fixture
def deployments(namespace: str) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/deployments"


def test_a_new_object_gets_uid_version_and_creation_time(apiserver: Any, maps: str) -> None:
    meta = apiserver.post(maps, config_map("a", k="v"))["metadata"]
    assert meta["uid"]
    assert meta["resourceVersion"]
    assert meta["creationTimestamp"].endswith("Z")
    assert "generation" not in meta


def test_creating_a_name_twice_is_already_exists(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, config_map("a"))
    answer = apiserver.request("POST", maps, config_map("a"))
    assert (answer.code, answer.body["reason"]) == (409, "AlreadyExists")
    assert answer.body["message"] == 'configmaps "a" already exists'


def test_generate_name_adds_five_characters(apiserver: Any, maps: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "run-"}}
    names = {apiserver.post(maps, body)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("run-") and len(name) == 9 for name in names)


def test_what_is_missing_is_not_found_with_its_name(apiserver: Any, maps: str) -> None:
    answer = apiserver.request("GET", f"{maps}/none")
    assert (answer.code, answer.body["reason"]) == (404, "NotFound")
    assert answer.body["message"] == 'configmaps "none" not found'
    assert answer.body["details"] == {"name": "none", "kind": "configmaps"}


def test_creating_in_a_missing_namespace_is_not_found(apiserver: Any) -> None:
    answer = apiserver.request("POST", "/api/v1/namespaces/no-such-namespace/configmaps", config_map("a"))
    assert answer.code == 404
    assert answer.body["message"] == 'namespaces "no-such-namespace" not found'


def test_an_update_with_a_stale_version_is_a_conflict(apiserver: Any, maps: str) -> None:
    stale = apiserver.post(maps, config_map("a", k="1"))
    apiserver.put(f"{maps}/a", {**stale, "data": {"k": "2"}})
    answer = apiserver.request("PUT", f"{maps}/a", {**stale, "data": {"k": "3"}})
    assert (answer.code, answer.body["reason"]) == (409, "Conflict")
    assert "the object has been modified" in answer.body["message"]
    assert apiserver.get(f"{maps}/a")["data"] == {"k": "2"}


def test_an_update_without_a_version_overwrites(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, config_map("a", k="1"))
    assert apiserver.put(f"{maps}/a", config_map("a", k="2"))["data"] == {"k": "2"}


def test_an_update_that_changes_nothing_keeps_the_version(apiserver: Any, maps: str) -> None:
    made = apiserver.post(maps, config_map("a", k="1"))
    for answer in (apiserver.put(f"{maps}/a", made), apiserver.patch(f"{maps}/a", {"data": {"k": "1"}})):
        assert answer["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_an_update_under_another_name_is_refused(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, config_map("a"))
    assert apiserver.request("PUT", f"{maps}/a", config_map("b")).code == 400


def test_a_merge_patch_with_null_removes_a_field(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, config_map("a", k="1", other="2"))
    assert apiserver.patch(f"{maps}/a", {"data": {"k": None, "new": "3"}})["data"] == {"other": "2", "new": "3"}


def test_a_json_patch_whose_test_fails_changes_nothing(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, config_map("a", k="1"))
    operations = [
        {"op": "replace", "path": "/data/k", "value": "2"},
        {"op": "test", "path": "/data/k", "value": "1"},
    ]
    answer = apiserver.request("PATCH", f"{maps}/a", operations, "application/json-patch+json")
    assert (answer.code, answer.body["reason"]) == (422, "Invalid")
    assert apiserver.get(f"{maps}/a")["data"] == {"k": "1"}


def test_a_patch_with_a_stale_version_is_a_conflict(apiserver: Any, maps: str) -> None:
    version = apiserver.post(maps, config_map("a", k="1"))["metadata"]["resourceVersion"]
    body = {"metadata": {"resourceVersion": version}, "data": {"k": "2"}}
    apiserver.patch(f"{maps}/a", body)
    assert apiserver.request("PATCH", f"{maps}/a", body, "application/merge-patch+json").code == 409


def test_a_strategic_merge_patch_merges_containers_by_name(apiserver: Any, deployments: str) -> None:
    apiserver.post(deployments, deployment("d"))
    containers = [{"name": "side", "image": "example.invalid/side:1"}, {"name": "c", "image": "example.invalid/none:2"}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    patched = apiserver.patch(f"{deployments}/d", patch, "strategic-merge-patch+json")
    images = {c["name"]: c["image"] for c in patched["spec"]["template"]["spec"]["containers"]}
    assert images == {"c": "example.invalid/none:2", "side": "example.invalid/side:1"}
    gone = [{"name": "side", "$patch": "delete"}]
    patch = {"spec": {"template": {"spec": {"containers": gone}}}}
    patched = apiserver.patch(f"{deployments}/d", patch, "strategic-merge-patch+json")
    container = patched["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in container] == ["c"]
    assert container[0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]


def test_an_unknown_content_type_is_refused(apiserver: Any, maps: str) -> None:
    assert apiserver.request("POST", maps, config_map("a"), "text/plain").code == 415
    apiserver.post(maps, config_map("a"))
    assert apiserver.request("PATCH", f"{maps}/a", {"data": {}}, "application/json").code == 415


def test_generation_counts_changes_of_spec_alone(apiserver: Any, deployments: str) -> None:
    path = f"{deployments}/d"
    assert apiserver.post(deployments, deployment("d", paused=True))["metadata"]["generation"] == 1
    labelled = apiserver.patch(path, {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    assert apiserver.patch(path, {"spec": {"minReadySeconds": 3}})["metadata"]["generation"] == 2


def test_status_is_written_through_its_subresource_alone(apiserver: Any, namespace: str) -> None:
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "example.invalid/none:1"}]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j"},
        "spec": {"suspend": True, "template": template},
        "status": {"failed": 7},
    }
    assert "failed" not in apiserver.post(jobs, job).get("status", {})
    patched = apiserver.patch(f"{jobs}/j", {"status": {"failed": 7}, "spec": {"backoffLimit": 2}})
    assert "failed" not in patched.get("status", {})
    assert patched["spec"]["backoffLimit"] == 2
    patched = apiserver.patch(f"{jobs}/j/status", {"spec": {"backoffLimit": 5}})
    assert patched["spec"]["backoffLimit"] == 2


def test_documented_defaults_are_filled_in(apiserver: Any, deployments: str) -> None:
    body = deployment("d")
    del body["spec"]["replicas"]
    body["spec"]["paused"] = True
    spec = apiserver.post(f"{deployments}?dryRun=All", body)["spec"]
    assert spec["replicas"] == 1
    assert spec["progressDeadlineSeconds"] == 600
    assert spec["revisionHistoryLimit"] == 10
    rolling = {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Always"
    assert pod["terminationGracePeriodSeconds"] == 30
    assert pod["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert pod["containers"][0]["terminationMessagePath"] == "/dev/termination-log"


def test_a_job_selects_its_pods_by_its_own_uid(apiserver: Any, namespace: str) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "example.invalid/none:1"}]}}
    body = {"metadata": {"name": "j"}, "spec": {"suspend": True, "template": template}}
    job = apiserver.post(f"/apis/batch/v1/namespaces/{namespace}/jobs", body)
    uid = job["metadata"]["uid"]
    assert job["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels["batch.kubernetes.io/job-name"] == "j"
    assert labels["batch.kubernetes.io/controller-uid"] == uid
    assert (job["spec"]["backoffLimit"], job["spec"]["completions"], job["spec"]["parallelism"]) == (6, 1, 1)


def test_a_service_gets_an_address_that_it_keeps(apiserver: Any, namespace: str) -> None:
    services = f"/api/v1/namespaces/{namespace}/services"
    body = {"metadata": {"name": "s"}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}}
    spec = apiserver.post(services, body)["spec"]
    assert spec["clusterIP"]
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert (spec["type"], spec["sessionAffinity"]) == ("ClusterIP", "None")
    again = apiserver.put(f"{services}/s", body)
    assert again["spec"]["clusterIP"] == spec["clusterIP"]
    other = {**again, "spec": {**again["spec"], "clusterIP": "10.255.255.254", "clusterIPs": ["10.255.255.254"]}}
    assert apiserver.request("PUT", f"{services}/s", other).code == 422


def test_a_dry_run_answers_as_if_and_stores_nothing(apiserver: Any, maps: str) -> None:
    assert apiserver.request("POST", f"{maps}?dryRun=All", config_map("a", k="1")).code == 201
    assert apiserver.request("GET", f"{maps}/a").code == 404
    apiserver.post(maps, config_map("a", k="1"))
    answer = apiserver.request("PATCH", f"{maps}/a?dryRun=All", {"data": {"k": "2"}}, "application/merge-patch+json")
    assert answer.body["data"] == {"k": "2"}
    apiserver.delete(f"{maps}/a?dryRun=All")
    assert apiserver.get(f"{maps}/a")["data"] == {"k": "1"}


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"spec": {"replicas": -1}}, "spec.replicas", "must be greater than or equal to 0"),
        ({"metadata": {"name": "A_b"}}, "metadata.name", "a lowercase RFC 1123 subdomain must consist of"),
        ({"metadata": {"labels": {"k": "a b"}}}, "metadata.labels", "a valid label must be an empty string or"),
        ({"spec": {"selector": {"matchLabels": {"app": "other"}}}}, "spec.template.metadata.labels", "does not match"),
        ({"spec": {"selector": {"matchLabels": {"app": None}}}}, "spec.selector", "empty selector is invalid"),
        ({"spec": {"template": {"spec": {"containers": []}}}}, "spec.template.spec.containers", "Required value"),
        ({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}, "spec.template.spec.restartPolicy", "Always"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_by_field(
    apiserver: Any, deployments: str, change: JSON, field: str, text: str
) -> None:
    body = merged(deployment("d"), change)
    answer = apiserver.request("POST", deployments, body)
    assert (answer.code, answer.body["reason"]) == (422, "Invalid")
    causes = {cause["field"]: cause["message"] for cause in answer.body["details"]["causes"]}
    assert text in causes[field]


def merged(target: JSON, patch: JSON) -> JSON:
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name, {}), value) if isinstance(value, dict) else value
    return result


def test_a_wrong_type_is_a_bad_request(apiserver: Any, deployments: str) -> None:
    answer = apiserver.request("POST", deployments, merged(deployment("d"), {"spec": {"replicas": "three"}}))
    assert (answer.code, answer.body["reason"]) == (400, "BadRequest")
    assert "cannot unmarshal string" in answer.body["message"]


def test_an_immutable_field_is_refused(apiserver: Any, deployments: str) -> None:
    body = deployment("d")
    apiserver.post(deployments, body)
    labels = {"app": "d", "more": "x"}
    body["spec"]["selector"] = {"matchLabels": labels}
    body["spec"]["template"]["metadata"]["labels"] = labels
    answer = apiserver.request("PUT", f"{deployments}/d", body)
    assert answer.code == 422
    assert "field is immutable" in answer.body["message"]


def test_an_unknown_field_is_refused_warned_of_or_ignored(apiserver: Any, maps: str) -> None:
    body = {**config_map("a"), "dat": {"k": "v"}}
    strict = apiserver.request("POST", f"{maps}?fieldValidation=Strict", body)
    assert strict.code == 400
    assert 'unknown field "dat"' in strict.body["message"]
    warned = apiserver.request("POST", f"{maps}?fieldValidation=Warn", body)
    assert warned.code == 201
    assert any('unknown field \\"dat\\"' in warning for warning in warned.warnings)
    assert "dat" not in warned.body
    body["metadata"]["name"] = "b"
    ignored = apiserver.request("POST", f"{maps}?fieldValidation=Ignore", body)
    assert (ignored.code, ignored.warnings) == (201, [])


def test_a_finalizer_holds_a_deleted_object(apiserver: Any, maps: str) -> None:
    body = config_map("a", k="v")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    apiserver.post(maps, body)
    dying = apiserver.delete(f"{maps}/a")
    assert dying["metadata"]["deletionTimestamp"]
    again = apiserver.get(f"{maps}/a")
    assert again["metadata"]["deletionTimestamp"] == dying["metadata"]["deletionTimestamp"]
    assert apiserver.request("POST", maps, config_map("a")).code == 409
    apiserver.patch(f"{maps}/a", {"metadata": {"finalizers": None}})
    assert apiserver.request("GET", f"{maps}/a").code == 404


def test_a_delete_with_another_uid_is_a_conflict(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, config_map("a"))
    answer = apiserver.request("DELETE", f"{maps}/a", {"preconditions": {"uid": "not-this-one"}})
    assert answer.code == 409
    assert "the UID in the precondition (not-this-one) does not match the UID in record" in answer.body["message"]


def test_a_delete_says_what_was_deleted(apiserver: Any, maps: str) -> None:
    uid = apiserver.post(maps, config_map("a"))["metadata"]["uid"]
    status = apiserver.delete(f"{maps}/a")
    assert (status["kind"], status["status"]) == ("Status", "Success")
    assert status["details"] == {"name": "a", "kind": "configmaps", "uid": uid}


def test_delete_collection_obeys_its_selector(apiserver: Any, maps: str) -> None:
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue")):
        body = config_map(name)
        body["metadata"]["labels"] = {"colour": colour}
        apiserver.post(maps, body)
    apiserver.delete(f"{maps}?labelSelector=colour%3Dred")
    names = [item["metadata"]["name"] for item in apiserver.get(f"{maps}?labelSelector=colour")["items"]]
    assert names == ["c"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=x", {"a", "b"}),
        ("app==x,tier!=web", {"b"}),
        ("tier in (web,db)", {"a", "c"}),
        ("tier notin (web),app", {"b", "c"}),
        ("!tier,app", {"b"}),
    ],
)
def test_label_selectors_select(apiserver: Any, maps: str, selector: str, expected: set[str]) -> None:
    for name, labels in (("a", {"app": "x", "tier": "web"}), ("b", {"app": "x"}), ("c", {"app": "y", "tier": "db"})):
        body = config_map(name)
        body["metadata"]["labels"] = labels
        apiserver.post(maps, body)
    query = selector.replace(" ", "%20").replace("=", "%3D").replace("!", "%21")
    assert {i["metadata"]["name"] for i in apiserver.get(f"{maps}?labelSelector={query}")["items"]} == expected


def test_field_selectors_know_the_name_and_refuse_what_they_do_not_know(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, config_map("a"))
    apiserver.post(maps, config_map("b"))
    found = apiserver.get(f"{maps}?fieldSelector=metadata.name%3Db")["items"]
    assert [item["metadata"]["name"] for item in found] == ["b"]
    assert apiserver.request("GET", f"{maps}?fieldSelector=data.k%3Dv").code == 400


def test_an_immutable_config_map_cannot_change(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, {**config_map("a", k="v"), "immutable": True})
    assert apiserver.request("PATCH", f"{maps}/a", {"data": {"k": "w"}}, "application/merge-patch+json").code == 422


def test_secret_string_data_becomes_data(apiserver: Any, namespace: str) -> None:
    body = {"metadata": {"name": "s"}, "stringData": {"password": "x"}}
    made = apiserver.post(f"/api/v1/namespaces/{namespace}/secrets", body)
    assert made["data"] == {"password": "eA=="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made


def test_events_are_the_same_objects_in_both_groups(apiserver: Any, namespace: str) -> None:
    reference = {"kind": "ConfigMap", "namespace": namespace, "name": "a", "apiVersion": "v1"}
    body = {
        "metadata": {"name": "e"},
        "involvedObject": reference,
        "reason": "Tried",
        "message": "hello",
        "type": "Normal",
    }
    apiserver.post(f"/api/v1/namespaces/{namespace}/events", body)
    seen = apiserver.get(f"/apis/events.k8s.io/v1/namespaces/{namespace}/events/e")
    assert (seen["note"], seen["regarding"]["name"], seen["reason"]) == ("hello", "a", "Tried")
    query = "involvedObject.name%3Da%2CinvolvedObject.kind%3DConfigMap"
    found = apiserver.get(f"/api/v1/namespaces/{namespace}/events?fieldSelector={query}")["items"]
    assert [event["metadata"]["name"] for event in found] == ["e"]


def test_a_terminating_namespace_refuses_new_objects(apiserver: Any, namespace: str) -> None:
    body = config_map("held")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    apiserver.post(path, body)
    apiserver.delete(f"/api/v1/namespaces/{namespace}")
    try:
        answer = apiserver.request("POST", path, config_map("a"))
        assert (answer.code, answer.body["reason"]) == (403, "Forbidden")
        assert "because it is being terminated" in answer.body["message"]
    finally:
        apiserver.patch(f"{path}/held", {"metadata": {"finalizers": None}})


def test_the_scale_subresource_reads_and_writes_replicas(apiserver: Any, deployments: str) -> None:
    apiserver.post(deployments, deployment("d", paused=True))
    scale = apiserver.get(f"{deployments}/d/scale")
    assert (scale["apiVersion"], scale["kind"]) == ("autoscaling/v1", "Scale")
    assert scale["spec"].get("replicas", 0) == 0
    assert scale["status"]["selector"] == "app=d"
    scale["spec"]["replicas"] = 2
    del scale["metadata"]["resourceVersion"]  # a controller may have written status since
    assert apiserver.put(f"{deployments}/d/scale", scale)["spec"]["replicas"] == 2
    assert apiserver.get(f"{deployments}/d")["spec"]["replicas"] == 2


def test_an_administrator_may_do_everything(apiserver: Any) -> None:
    attributes = {"verb": "create", "group": "apps", "resource": "deployments", "namespace": "default"}
    body: JSON = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    body |= {"spec": {"resourceAttributes": attributes}}
    answer = apiserver.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
    assert answer["status"]["allowed"] is True


@pytest.mark.parametrize("name", ["default", "kube-system"])
def test_the_first_namespaces_may_not_be_deleted(apiserver: Any, name: str) -> None:
    answer = apiserver.request("DELETE", f"/api/v1/namespaces/{name}?dryRun=All")
    assert (answer.code, answer.body["reason"]) == (403, "Forbidden")
    assert "this namespace may not be deleted" in answer.body["message"]


def test_a_number_that_is_none_is_a_bad_request(apiserver: Any, maps: str) -> None:
    assert apiserver.request("GET", f"{maps}?limit=many").code == 400
    assert apiserver.request("GET", f"{maps}?watch=true&timeoutSeconds=long").code == 400


def test_secret_data_is_base64(apiserver: Any, namespace: str) -> None:
    body = {"metadata": {"name": "s"}, "data": {"k": "***"}}
    answer = apiserver.request("POST", f"/api/v1/namespaces/{namespace}/secrets", body)
    assert answer.code == 400
    assert "illegal base64 data" in answer.body["message"]


def test_a_finalizer_is_a_qualified_name(apiserver: Any, maps: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["not qualified"]
    answer = apiserver.request("POST", maps, body)
    assert answer.code == 422
    assert "metadata.finalizers" in answer.body["message"]


def test_a_service_has_each_port_once(apiserver: Any, namespace: str) -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 80}]
    body = {"metadata": {"name": "s"}, "spec": {"selector": {"app": "x"}, "ports": ports}}
    answer = apiserver.request("POST", f"/api/v1/namespaces/{namespace}/services", body)
    assert answer.code == 422
    assert "spec.ports[1]: Duplicate value" in answer.body["message"]


def test_a_variable_may_be_given_twice(apiserver: Any, deployments: str) -> None:
    body = deployment("d")
    body["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "A", "value": "1"},
        {"name": "A", "value": "2"},
    ]
    made = apiserver.post(f"{deployments}?dryRun=All", body)["spec"]["template"]["spec"]["containers"][0]
    assert [variable["value"] for variable in made["env"]] == ["1", "2"]


def test_a_new_object_has_no_version_yet(apiserver: Any, maps: str) -> None:
    body = config_map("a")
    body["metadata"]["resourceVersion"] = "5"
    answer = apiserver.request("POST", maps, body)
    assert answer.code == 500
    assert answer.body["message"] == "resourceVersion should not be set on objects to be created"


def test_what_is_being_deleted_gets_no_new_finalizer(apiserver: Any, maps: str) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["example.com/one"]
    apiserver.post(maps, body)
    apiserver.delete(f"{maps}/a")
    change = {"metadata": {"finalizers": ["example.com/one", "example.com/two"]}}
    answer = apiserver.request("PATCH", f"{maps}/a", change, "application/merge-patch+json")
    assert answer.code == 422
    assert "no new finalizers can be added if the object is being deleted" in answer.body["message"]
    assert apiserver.request("POST", maps, body).body["message"].startswith("object is being deleted: ")
    last = apiserver.patch(f"{maps}/a", {"metadata": {"finalizers": None}})
    assert "finalizers" not in last["metadata"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("dryRun=Yes", "dryRun"),
        ("fieldValidation=Loose", "fieldValidation"),
        ("fieldManager=" + "m" * 129, "fieldManager"),
        ("force=true", "force"),
    ],
)
def test_an_option_of_a_write_that_cannot_be_is_refused_by_its_name(
    apiserver: Any, maps: str, query: str, field: str
) -> None:
    apiserver.post(maps, config_map("a"))
    answer = apiserver.request("PATCH", f"{maps}/a?{query}", {}, "application/merge-patch+json")
    assert (answer.code, answer.body["details"]["kind"]) == (422, "PatchOptions")
    assert answer.body["details"]["causes"][0]["field"] == field


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("resourceVersionMatch=Exact", "resourceVersionMatch"),
        ("resourceVersion=0&resourceVersionMatch=Exact", "resourceVersionMatch"),
        ("resourceVersion=1&resourceVersionMatch=Newer", "resourceVersionMatch"),
        ("sendInitialEvents=true", "sendInitialEvents"),
        ("watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan", "resourceVersionMatch"),
        ("watch=1&sendInitialEvents=true", "resourceVersionMatch"),
    ],
)
def test_an_option_of_a_list_that_cannot_be_is_refused_by_its_name(
    apiserver: Any, maps: str, query: str, field: str
) -> None:
    answer = apiserver.request("GET", f"{maps}?{query}")
    assert (answer.code, answer.body["details"]["kind"]) == (422, "ListOptions")
    assert answer.body["details"]["causes"][0]["field"] == field


def test_a_list_at_version_0_has_no_pages(apiserver: Any, maps: str) -> None:
    for name in "abc":
        apiserver.post(maps, config_map(name))
    deadline = time.monotonic() + 60
    while True:  # any state will do for version 0, so the list may lag a moment behind
        listed = apiserver.get(f"{maps}?limit=1&resourceVersion=0")
        if {"a", "b", "c"} <= {item["metadata"]["name"] for item in listed["items"]}:
            break
        assert time.monotonic() < deadline, listed
    assert not listed["metadata"].get("continue")


def test_a_form_that_the_server_has_not_is_not_acceptable(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, config_map("a"))
    unknown = "application/json;as=Table;g=meta.k8s.io;v=v9"
    assert apiserver.request("GET", f"{maps}/a", headers={"Accept": unknown}).code == 406
    answer = apiserver.request("GET", f"{maps}/a", headers={"Accept": f"{unknown},application/json"})
    assert (answer.code, answer.body["kind"]) == (200, "ConfigMap")
    assert apiserver.request("GET", f"{maps}/a", headers={"Accept": "application/xml"}).code == 406


def test_one_object_is_given_not_watched(apiserver: Any, maps: str) -> None:
    apiserver.post(maps, config_map("a"))
    assert apiserver.get(f"{maps}/a?watch=1")["kind"] == "ConfigMap"
