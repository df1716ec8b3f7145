"""What the sandbox's server does of its own: restarts, pods, nodes, tokens, roles."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

JSON = dict[str, Any]
Start = Callable[..., Any]


def pod(name: str, **spec: Any) -> JSON:
    containers = [{"name": "c", "image": "example.invalid/none:1", "ports": [{"containerPort": 8080, "name": "http"}]}]
    meta = {"name": name, "labels": {"app": "x"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": containers, **spec}}


@pytest.fixture
def pods(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


class Kubelet(BaseHTTPRequestHandler):
    """Answers with what it was asked, as a kubelet and as a pod."""

    def do_GET(self) -> None:
        refused = "/broken" in self.path
        summary = {
            "node": {"nodeName": "n", "cpu": {"usageNanoCores": 9}, "memory": {"workingSetBytes": 4096}},
            "pods": [
                {
                    "podRef": {"name": "p", "namespace": "somewhere"},
                    "containers": [{"name": "c", "cpu": {"usageNanoCores": 5}, "memory": {"workingSetBytes": 2048}}],
                }
            ],
        }
        body = json.dumps(summary) if self.path == "/stats/summary" else f"asked for {self.path}\n"
        self.send_response(400 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@pytest.fixture
def kubelet() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kubelet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def node(apiserver: Any, kubelet: int) -> Iterator[str]:
    """A node whose kubelet is the one above."""
    apiserver.post("/api/v1/nodes", {"metadata": {"name": "n"}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet}},
    }
    apiserver.patch("/api/v1/nodes/n/status", {"status": status})
    yield "n"
    apiserver.delete("/api/v1/nodes/n")


def bind(apiserver: Any, path: str, name: str, node: str = "n") -> Any:
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
    return apiserver.request("POST", f"{path}/{name}/binding", body)


# Restarts


def test_state_and_address_survive_kill_9(start_apiserver: Start) -> None:
    first = start_apiserver()
    path = "/api/v1/namespaces/default/configmaps"
    made = first.post(path, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    first.process.kill()
    first.process.wait(60)
    second = start_apiserver(state=first.kubeconfig.parent)
    assert second.get(f"{path}/a") == made
    assert int(second.get(path)["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])
    assert second.headers == first.headers


def test_custom_resources_survive_a_restart(start_apiserver: Start) -> None:
    first = start_apiserver()
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer", "default": 4}}}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {
        "group": "example.com",
        "scope": "Namespaced",
        "names": {"plural": "tools", "kind": "Tool"},
        "versions": [version],
    }
    first.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        {"metadata": {"name": "tools.example.com"}, "spec": spec},
    )
    path = "/apis/example.com/v1/namespaces/default/tools"
    first.post(path, {"apiVersion": "example.com/v1", "kind": "Tool", "metadata": {"name": "a"}, "spec": {}})
    first.process.kill()
    first.process.wait(60)
    second = start_apiserver(state=first.kubeconfig.parent)
    assert second.get(f"{path}/a")["spec"] == {"n": 4}


def test_a_watch_from_before_a_restart_or_compaction_is_expired(start_apiserver: Start) -> None:
    server = start_apiserver("--watch-history", "3")
    path = "/api/v1/namespaces/default/configmaps"
    version = server.get(path)["metadata"]["resourceVersion"]
    for number in range(10):
        server.post(path, {"metadata": {"name": f"c{number}"}})
    answer = server.request("GET", f"{path}?watch=true&resourceVersion={version}&timeoutSeconds=2")
    assert answer.body["type"] == "ERROR"
    assert (answer.body["object"]["code"], answer.body["object"]["reason"]) == (410, "Expired")


def test_a_taken_port_is_said_clearly(start_apiserver: Start) -> None:
    port = start_apiserver().url.rpartition(":")[2]
    with pytest.raises(AssertionError, match=f"port {port} on 127.0.0.1 cannot be had.*choose another with --port"):
        start_apiserver("--port", port)


def test_a_second_server_on_the_same_state_is_refused(start_apiserver: Start) -> None:
    first = start_apiserver()
    with pytest.raises(AssertionError, match="another server may use it"):
        start_apiserver(state=first.kubeconfig.parent)


def test_two_servers_share_no_credentials(start_apiserver: Start) -> None:
    first, second = start_apiserver(), start_apiserver()
    answer = second.request("GET", "/api/v1/namespaces", headers=first.headers)
    assert answer.code == 401


# Pods


def test_a_pod_is_given_to_a_node_once(apiserver: Any, pods: str) -> None:
    apiserver.post(pods, pod("p"))
    assert bind(apiserver, pods, "p").code == 201
    bound = apiserver.get(f"{pods}/p")
    assert bound["spec"]["nodeName"] == "n"
    assert bound["status"]["conditions"][0]["type"] == "PodScheduled"
    assert bind(apiserver, pods, "p", "other").code == 409
    found = apiserver.get(f"{pods}?fieldSelector=spec.nodeName%3Dn")["items"]
    assert [item["metadata"]["name"] for item in found] == ["p"]


def test_a_pod_that_may_run_is_deleted_gracefully(apiserver: Any, pods: str) -> None:
    apiserver.post(pods, pod("p", terminationGracePeriodSeconds=20))
    bind(apiserver, pods, "p")
    dying = apiserver.delete(f"{pods}/p")
    assert dying["metadata"]["deletionGracePeriodSeconds"] == 20
    again = apiserver.delete(f"{pods}/p", {"gracePeriodSeconds": 5})
    assert again["metadata"]["deletionGracePeriodSeconds"] == 5
    apiserver.delete(f"{pods}/p", {"gracePeriodSeconds": 0})
    assert apiserver.request("GET", f"{pods}/p").code == 404


def test_a_pod_that_never_ran_goes_at_once(apiserver: Any, pods: str) -> None:
    apiserver.post(pods, pod("p"))
    apiserver.delete(f"{pods}/p")
    assert apiserver.request("GET", f"{pods}/p").code == 404


def test_a_pods_containers_do_not_change_but_for_their_image(apiserver: Any, pods: str) -> None:
    made = apiserver.post(pods, pod("p"))
    made["spec"]["containers"][0]["image"] = "example.invalid/none:2"
    made = apiserver.put(f"{pods}/p", made)
    made["spec"]["containers"][0]["command"] = ["other"]
    answer = apiserver.request("PUT", f"{pods}/p", made)
    assert answer.code == 422
    assert "pod updates may not change fields other than" in answer.body["message"]


def evict(apiserver: Any, pods: str, name: str) -> Any:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    return apiserver.request("POST", f"{pods}/{name}/eviction", body)


def test_an_eviction_obeys_the_disruption_budget(apiserver: Any, namespace: str, pods: str) -> None:
    budgets = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}
    apiserver.post(budgets, {"metadata": {"name": "b"}, "spec": spec})
    for name in ("p", "q"):
        apiserver.post(pods, pod(name))
        bind(apiserver, pods, name)
        apiserver.patch(f"{pods}/{name}/status", {"status": {"phase": "Running"}})
    healthy = {
        "observedGeneration": 1,
        "disruptionsAllowed": 1,
        "currentHealthy": 2,
        "desiredHealthy": 1,
        "expectedPods": 2,
    }
    apiserver.patch(f"{budgets}/b/status", {"status": healthy})
    assert evict(apiserver, pods, "p").code == 201
    assert apiserver.get(f"{pods}/p")["metadata"]["deletionTimestamp"]
    refused = evict(apiserver, pods, "q")
    assert refused.code == 429
    assert "needs 1 healthy pods and has 2 currently" in refused.body["details"]["causes"][0]["message"]
    assert "p" in apiserver.get(f"{budgets}/b")["status"]["disruptedPods"]


# Nodes


def test_logs_come_from_the_pods_node(apiserver: Any, namespace: str, pods: str, node: str) -> None:
    apiserver.post(pods, pod("p"))
    assert "does not have a host assigned" in apiserver.request("GET", f"{pods}/p/log").body["message"]
    bind(apiserver, pods, "p", node)
    answer = apiserver.request("GET", f"{pods}/p/log?tailLines=3&container=c")
    assert (answer.code, answer.body) == (200, f"asked for /containerLogs/{namespace}/p/c?tailLines=3\n")
    assert apiserver.request("GET", f"{pods}/p/log?container=x").body["message"] == "container x is not valid for pod p"


def test_a_pod_of_several_containers_needs_one_named(apiserver: Any, pods: str, node: str) -> None:
    body = pod("p")
    body["spec"]["containers"].append({"name": "side", "image": "example.invalid/none:1"})
    apiserver.post(pods, body)
    bind(apiserver, pods, "p", node)
    text = "a container name must be specified for pod p, choose one of: [c side]"
    assert apiserver.request("GET", f"{pods}/p/log").body["message"] == text


def test_what_the_node_refuses_is_a_bad_request(apiserver: Any, pods: str, node: str) -> None:
    apiserver.post(pods, pod("broken"))
    bind(apiserver, pods, "broken", node)
    answer = apiserver.request("GET", f"{pods}/broken/log")
    assert (answer.code, answer.body["reason"]) == (400, "BadRequest")


def test_resource_use_comes_from_the_nodes(apiserver: Any, node: str) -> None:
    found = apiserver.get("/apis/metrics.k8s.io/v1beta1/namespaces/somewhere/pods")["items"]
    assert found[0]["containers"] == [{"name": "c", "usage": {"cpu": "5n", "memory": "2Ki"}}]
    assert apiserver.get("/apis/metrics.k8s.io/v1beta1/nodes/n")["usage"] == {"cpu": "9n", "memory": "4Ki"}
    assert apiserver.request("GET", "/apis/metrics.k8s.io/v1beta1/namespaces/elsewhere/pods/p").code == 404
    assert node


@pytest.mark.parametrize("name", ["exec", "attach", "portforward", "proxy", "proxy/a/b"])
def test_what_is_not_there_is_said_by_name(apiserver: Any, pods: str, name: str) -> None:
    apiserver.post(pods, pod("p"))
    answer = apiserver.request("POST", f"{pods}/p/{name}")
    assert (answer.code, answer.body["reason"]) == (501, "NotImplemented")
    assert answer.body["message"] == f"the sandbox does not implement pods/{name.removesuffix('/a/b')}"


def test_an_unknown_resource_is_named(apiserver: Any, namespace: str) -> None:
    answer = apiserver.request("GET", f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions")
    assert answer.code == 404
    assert "controllerrevisions.apps/v1" in answer.body["message"]


def test_a_kind_that_is_not_implemented_has_an_empty_list_and_cannot_be_made(apiserver: Any, namespace: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    assert apiserver.get(path)["items"] == []
    answer = apiserver.request("POST", path, {"metadata": {"name": "s"}})
    assert (answer.code, answer.body["message"]) == (501, "the sandbox does not implement statefulsets.apps")


# Who may do what


@pytest.fixture
def robot(apiserver: Any, namespace: str) -> dict[str, str]:
    """The header of a service account that may read config maps of its namespace."""
    base = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    apiserver.post(base, {"metadata": {"name": "robot"}})
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    apiserver.post(f"{rbac}/roles", {"metadata": {"name": "reader"}, "rules": rules})
    subjects = [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace}]
    binding = {"metadata": {"name": "reader"}, "roleRef": {"kind": "Role", "name": "reader"}, "subjects": subjects}
    apiserver.post(f"{rbac}/rolebindings", binding)
    token = apiserver.post(f"{base}/robot/token", {"spec": {"expirationSeconds": 600}})["status"]["token"]
    return {"Authorization": f"Bearer {token}"}


def test_a_service_account_may_do_what_its_role_says(apiserver: Any, namespace: str, robot: dict[str, str]) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    assert apiserver.request("GET", maps, headers=robot).code == 200
    answer = apiserver.request("POST", maps, {"metadata": {"name": "a"}}, headers=robot)
    assert (answer.code, answer.body["reason"]) == (403, "Forbidden")
    who = f"system:serviceaccount:{namespace}:robot"
    what = f'User "{who}" cannot create resource "configmaps" in API group "" in the namespace "{namespace}"'
    assert answer.body["message"] == f"configmaps is forbidden: {what}"
    assert apiserver.request("GET", "/api/v1/namespaces/default/configmaps", headers=robot).code == 403
    assert apiserver.request("GET", f"{maps}?watch=true", headers=robot).code == 403


def test_a_service_account_can_ask_what_it_may_do(apiserver: Any, namespace: str, robot: dict[str, str]) -> None:
    def allowed(verb: str) -> bool:
        attributes = {"verb": verb, "resource": "configmaps", "namespace": namespace}
        body = {"spec": {"resourceAttributes": attributes}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = apiserver.request("POST", path, body, headers=robot)
        return bool(answer.body["status"]["allowed"])

    assert allowed("list")
    assert not allowed("delete")


def test_a_token_dies_with_its_account(apiserver: Any, namespace: str, robot: dict[str, str]) -> None:
    apiserver.delete(f"/api/v1/namespaces/{namespace}/serviceaccounts/robot")
    assert apiserver.request("GET", "/api/v1/namespaces", headers=robot).code == 401


def test_the_administrator_can_act_as_another(apiserver: Any, namespace: str, robot: dict[str, str]) -> None:
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    as_robot = {"Impersonate-User": f"system:serviceaccount:{namespace}:robot"}
    assert apiserver.request("GET", maps, headers=as_robot).code == 200
    assert apiserver.request("DELETE", f"{maps}/x", headers=as_robot).code == 403
    assert apiserver.request("GET", maps, headers={**robot, "Impersonate-User": "anyone"}).code == 403


def test_a_request_without_a_good_token_is_not_trusted(apiserver: Any) -> None:
    for value in ("Bearer wrong", "Bearer a.b.c", "Basic eA==", ""):
        answer = apiserver.request("GET", "/api/v1/namespaces", headers={"Authorization": value})
        assert (answer.code, answer.body["reason"]) == (401, "Unauthorized")


# Services and namespaces


def test_service_addresses_are_distinct_and_from_the_range(start_apiserver: Start) -> None:
    server = start_apiserver("--service-cidr", "127.98.7.0/30")
    path = "/api/v1/namespaces/default/services"
    made = [server.post(path, {"metadata": {"name": n}, "spec": {"ports": [{"port": 80}]}}) for n in ("a", "b")]
    assert [service["spec"]["clusterIP"] for service in made] == ["127.98.7.1", "127.98.7.2"]
    full = server.request("POST", path, {"metadata": {"name": "c"}, "spec": {"ports": [{"port": 80}]}})
    assert full.code == 500
    assert "range is full" in full.body["message"]
    server.delete(f"{path}/a")
    again = server.post(path, {"metadata": {"name": "c"}, "spec": {"ports": [{"port": 80}]}})
    assert again["spec"]["clusterIP"] == "127.98.7.1"
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None", "selector": {"a": "b"}}}
    assert server.post(path, headless)["spec"]["clusterIPs"] == ["None"]
    ranges = server.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes")["spec"]["cidrs"]
    assert ranges == ["127.98.7.0/30"]


SERVICE: JSON = {"selector": {"a": "b"}, "ports": [{"port": 80}]}


@pytest.mark.parametrize(
    ("plural", "spec", "named"),
    [
        ("services", SERVICE | {"type": "NodePort"}, "NodePort"),
        ("services", SERVICE | {"type": "LoadBalancer"}, "LoadBalancer"),
        ("services", SERVICE | {"type": "ExternalName", "externalName": "example.com"}, "ExternalName"),
        ("services", SERVICE | {"sessionAffinity": "ClientIP"}, "session affinity"),
        ("services", SERVICE | {"ipFamilies": ["IPv6"]}, "IPv6"),
        ("services", SERVICE | {"externalIPs": ["192.0.2.1"]}, "externalIPs"),
        ("services", SERVICE | {"ports": [{"port": 53, "protocol": "UDP"}]}, "UDP"),
        ("jobs", {"completionMode": "Indexed", "completions": 2}, "Indexed"),
        ("cronjobs", {"schedule": "* * * * *", "jobTemplate": {"spec": {"completionMode": "Indexed"}}}, "Indexed"),
        ("horizontalpodautoscalers", {"maxReplicas": 3, "behavior": {"scaleDown": {}}}, "behavior"),
    ],
)
def test_what_would_be_kept_and_not_done_is_refused_by_name(
    apiserver: Any, namespace: str, plural: str, spec: JSON, named: str
) -> None:
    pods = {"template": {"spec": pod("x")["spec"] | {"restartPolicy": "Never"}}}
    if plural == "jobs":
        spec = spec | pods
    if plural == "cronjobs":
        spec = {**spec, "jobTemplate": {"spec": spec["jobTemplate"]["spec"] | pods | {"completions": 2}}}
    if plural == "horizontalpodautoscalers":
        spec = spec | {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}
    groups = {"services": "/api/v1", "horizontalpodautoscalers": "/apis/autoscaling/v2"}
    group = groups.get(plural, "/apis/batch/v1")
    answer = apiserver.request(
        "POST", f"{group}/namespaces/{namespace}/{plural}", {"metadata": {"name": "s"}, "spec": spec}
    )
    assert (answer.code, answer.body["reason"]) == (501, "NotImplemented")
    assert named in answer.body["message"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"schedule": "@every 1h"}, "spec.schedule"),
        ({"schedule": "* * * *"}, "spec.schedule"),
        ({"schedule": "60 * * * *"}, "spec.schedule"),
        ({"schedule": "jan * * * *"}, "spec.schedule"),
        ({"schedule": "5-1 * * * *"}, "spec.schedule"),
        ({"schedule": "@daily", "timeZone": "Europe/Nowhere"}, "spec.timeZone"),
        ({"schedule": "@daily", "timeZone": ""}, "spec.timeZone"),
    ],
)
def test_a_schedule_that_would_never_run_is_refused(apiserver: Any, namespace: str, given: JSON, field: str) -> None:
    job = {"spec": {"template": {"spec": pod("x")["spec"] | {"restartPolicy": "Never"}}}}
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    answer = apiserver.request("POST", path, {"metadata": {"name": "c"}, "spec": {"jobTemplate": job, **given}})
    assert answer.code == 422
    assert [cause["field"] for cause in answer.body["details"]["causes"]] == [field]


def test_aggregation_of_roles_is_refused(apiserver: Any) -> None:
    path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    rule = {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
    answer = apiserver.request("POST", path, {"metadata": {"name": "sum"}, "aggregationRule": rule})
    assert answer.code == 501
    assert "aggregation" in answer.body["message"]


def test_a_change_to_what_is_not_implemented_is_refused_too(apiserver: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    apiserver.post(path, {"metadata": {"name": "s"}, "spec": SERVICE})
    answer = apiserver.request("PATCH", f"{path}/s", {"spec": {"type": "NodePort"}}, "application/merge-patch+json")
    assert answer.code == 501
    assert apiserver.get(f"{path}/s")["spec"]["type"] == "ClusterIP"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("affinity", {"podAntiAffinity": {}}),
        ("hostAliases", [{"ip": "127.0.0.1", "hostnames": ["a"]}]),
        ("dnsConfig", {"searches": ["example.com"]}),
        (
            "topologySpreadConstraints",
            [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}],
        ),
    ],
)
def test_a_field_of_a_pod_without_effect_is_warned_of(apiserver: Any, namespace: str, field: str, value: Any) -> None:
    template = {"metadata": {"labels": {"app": "x"}}, "spec": pod("x")["spec"] | {field: value}}
    spec = {"selector": {"matchLabels": {"app": "x"}}, "template": template}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    made = apiserver.request("POST", path, {"metadata": {"name": "d"}, "spec": spec})
    assert made.code == 201
    assert len(made.warnings) == 1
    assert f"spec.template.spec.{field}: no effect: " in made.warnings[0]
    scaled = apiserver.request(
        "PATCH", f"{path}/d", {"metadata": {"labels": {"a": "b"}}}, "application/merge-patch+json"
    )
    assert (scaled.code, scaled.warnings) == (200, [])


def test_what_stays_without_a_backend_is_warned_of(apiserver: Any, namespace: str) -> None:
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    made = apiserver.request("POST", f"/api/v1/namespaces/{namespace}/services", service)
    assert (made.code, len(made.warnings)) == (201, 1)
    headless = {"metadata": {"name": "h"}, "spec": {"clusterIP": "None"}}
    assert apiserver.request("POST", f"/api/v1/namespaces/{namespace}/services", headless).warnings == []


def test_another_image_for_a_pod_is_warned_of(apiserver: Any, pods: str) -> None:
    made = apiserver.request("POST", pods, pod("p"))
    assert (made.code, made.warnings) == (201, [])
    images = [{"op": "replace", "path": "/spec/containers/0/image", "value": "example.invalid/none:2"}]
    changed = apiserver.request("PATCH", f"{pods}/p", images, "application/json-patch+json")
    assert changed.code == 200
    assert "does not start a container again for another image" in changed.warnings[0]


def test_a_host_port_is_warned_of(apiserver: Any, pods: str) -> None:
    containers = [{"name": "c", "image": "none:1", "ports": [{"containerPort": 80, "hostPort": 8080}]}]
    made = apiserver.request("POST", pods, pod("p", containers=containers))
    assert ["hostPort" in warning for warning in made.warnings] == [True]


def test_openapi_v2_is_refused(apiserver: Any) -> None:
    answer = apiserver.request("GET", "/openapi/v2")
    assert (answer.code, answer.body["message"]) == (501, "the sandbox does not implement /openapi/v2")


def test_a_namespace_goes_when_its_finalizer_is_taken(apiserver: Any) -> None:
    path = "/api/v1/namespaces/short-lived"
    made = apiserver.post("/api/v1/namespaces", {"metadata": {"name": "short-lived"}})
    assert made["spec"]["finalizers"] == ["kubernetes"]
    assert made["metadata"]["labels"]["kubernetes.io/metadata.name"] == "short-lived"
    dying = apiserver.delete(path)
    assert dying["status"]["phase"] == "Terminating"
    apiserver.put(f"{path}/finalize", {**dying, "spec": {}})
    assert apiserver.request("GET", path).code == 404


def test_a_body_that_cannot_be_read_is_a_bad_request(apiserver: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for body in (b"{", b"[]", b'"text"', b""):
        assert apiserver.request("POST", path, body).code == 400
    apiserver.post(path, {"metadata": {"name": "a"}})
    for body in (b"{", b"[]"):
        assert apiserver.request("PATCH", f"{path}/a", body, "application/merge-patch+json").code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": "x"},
        {"metadata": {"name": 3}},
        {"metadata": {"labels": "x"}, "spec": {}},
        {"metadata": {"name": "a"}, "spec": "x"},
        {"metadata": {"name": "a"}, "spec": {"template": []}},
        {"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": {"a": 1}}}}},
        {"metadata": {"name": "a"}, "spec": {"template": {"spec": {"containers": ["x"]}}}},
        {"metadata": {"name": "a"}, "spec": {"selector": {"matchLabels": {"a": 1}}}},
        {"metadata": {"name": "a"}, "spec": {}},
        {"metadata": {"name": "a"}},
        {"metadata": {"name": "a", "ownerReferences": [{}]}},
    ],
)
def test_nonsense_is_refused_and_never_an_internal_error(apiserver: Any, namespace: str, body: JSON) -> None:
    for group, plural in (("apps/v1", "deployments"), ("batch/v1", "jobs"), ("batch/v1", "cronjobs")):
        answer = apiserver.request("POST", f"/apis/{group}/namespaces/{namespace}/{plural}", body)
        assert answer.code in (400, 422), answer.body
    for plural in ("pods", "services"):
        answer = apiserver.request("POST", f"/api/v1/namespaces/{namespace}/{plural}", body)
        assert answer.code in (400, 422), answer.body
