"""What people do with kubectl, as far as it needs nothing but an API server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

JSON = dict[str, Any]
Run = Callable[..., str]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  paused: true
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "example.invalid/none:1", ports: [{containerPort: 80}]}
"""


@pytest.fixture
def run(kubectl: Run, namespace: str) -> Run:
    """kubectl in the test's namespace."""
    return lambda *arguments, **options: kubectl("-n", namespace, *arguments, **options)


def test_client_side_apply_creates_configures_and_leaves_unchanged(run: Run) -> None:
    assert run("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/web created\n"
    assert run("apply", "-f", "-", stdin=DEPLOYMENT) == "deployment.apps/web unchanged\n"
    changed = DEPLOYMENT.replace("none:1", "none:2")
    assert run("apply", "-f", "-", stdin=changed) == "deployment.apps/web configured\n"
    assert run("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}").endswith("none:2")


def test_client_side_apply_removes_what_is_left_out(run: Run) -> None:
    run("apply", "-f", "-", stdin=DEPLOYMENT)
    run("apply", "-f", "-", stdin=DEPLOYMENT.replace(", ports: [{containerPort: 80}]", ""))
    assert run("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].ports}") == ""


def test_server_side_apply_takes_over_from_client_side_apply(run: Run) -> None:
    run("apply", "-f", "-", stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("none:1", "none:2")
    assert run("apply", "--server-side", "-f", "-", stdin=changed) == "deployment.apps/web serverside-applied\n"
    shown = json.loads(run("get", "deploy", "web", "-o", "json", "--show-managed-fields"))
    names = {entry["manager"] for entry in shown["metadata"]["managedFields"] if "subresource" not in entry}
    assert "kubectl" in names
    assert "kubectl-client-side-apply" not in names
    assert "example.invalid/none:2" in run("apply", "view-last-applied", "deployment/web")


def test_a_kind_that_is_not_there_is_named(run: Run) -> None:
    nothing = "{apiVersion: conformance.test/v1, kind: Nothing, metadata: {name: x}}"
    said = run("apply", "-f", "-", stdin=nothing, fails=True)
    assert 'no matches for kind "Nothing" in version "conformance.test/v1"' in said


def test_events_are_shown_by_age_and_the_name_last(run: Run) -> None:
    namespace = json.loads(run("create", "configmap", "c", "-o", "json"))["metadata"]["namespace"]
    about = {"kind": "Pod", "name": "p", "namespace": namespace}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": about}
    event |= {"reason": "Tried", "message": "in vain", "type": "Normal", "lastTimestamp": "2026-01-01T00:00:00Z"}
    run("create", "-f", "-", stdin=json.dumps(event))
    head, row = run("get", "events").splitlines()
    assert head.split() == ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert row.split()[1:] == ["Normal", "Tried", "pod/p", "in", "vain"]
    assert run("get", "events", "-o", "wide").splitlines()[0].split()[-2:] == ["COUNT", "NAME"]


def test_a_conflict_is_explained_and_can_be_forced(run: Run) -> None:
    run("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=DEPLOYMENT)
    changed = DEPLOYMENT.replace("none:1", "none:2")
    text = run("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=changed, fails=True)
    assert 'conflict with "one": .spec.template.spec.containers[name="c"].image' in text
    assert "--force-conflicts" in text
    run("apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-", stdin=changed)


def test_a_mistyped_field_is_named(run: Run) -> None:
    text = run("apply", "-f", "-", stdin=DEPLOYMENT.replace("replicas:", "replikas:"), fails=True)
    assert 'unknown field "spec.replikas"' in text


def test_create_makes_the_built_in_kinds(run: Run) -> None:
    assert run("create", "configmap", "a", "--from-literal=k=v") == "configmap/a created\n"
    assert run("create", "secret", "generic", "s", "--from-literal=k=v") == "secret/s created\n"
    assert run("create", "serviceaccount", "robot") == "serviceaccount/robot created\n"
    assert run("create", "service", "clusterip", "svc", "--tcp=80:8080") == "service/svc created\n"
    assert run("get", "secret", "s", "-o", "jsonpath={.data.k}") == "dg=="
    assert run("get", "service", "svc", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"


def test_a_job_is_made_from_a_cron_job(run: Run) -> None:
    run("create", "cronjob", "nightly", "--image=example.invalid/none:1", "--schedule=0 0 1 1 *", "--", "true")
    run("patch", "cronjob", "nightly", "-p", '{"spec":{"jobTemplate":{"spec":{"suspend":true}}}}')
    assert run("create", "job", "now", "--from=cronjob/nightly") == "job.batch/now created\n"
    job = json.loads(run("get", "job", "now", "-o", "json"))
    assert job["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"] == "manual"
    assert job["metadata"]["ownerReferences"][0]["name"] == "nightly"


def test_every_output_format_shows_the_object(run: Run) -> None:
    run("apply", "-f", "-", stdin=DEPLOYMENT)
    assert json.loads(run("get", "deploy", "web", "-o", "json"))["kind"] == "Deployment"
    assert "kind: Deployment" in run("get", "deploy", "web", "-o", "yaml")
    assert run("get", "deploy", "-o", "name") == "deployment.apps/web\n"
    assert run("get", "deploy", "web", "-o", "jsonpath={.metadata.name}") == "web"
    assert run("get", "deploy", "-o", "custom-columns=N:.metadata.name,R:.spec.replicas").split() == [
        "N",
        "R",
        "web",
        "0",
    ]
    wide = run("get", "deploy", "-o", "wide").splitlines()
    assert wide[0].split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR"]
    row = wide[1].split()
    assert [row[0], row[1], *row[5:]] == ["web", "0/0", "c", "example.invalid/none:1", "app=web"]


def test_describe_shows_the_object(run: Run) -> None:
    run("apply", "-f", "-", stdin=DEPLOYMENT)
    text = run("describe", "deploy", "web")
    assert "StrategyType:           RollingUpdate" in text
    assert "example.invalid/none:1" in text


def test_explain_reads_the_schema(run: Run) -> None:
    text = run("explain", "deployment.spec.strategy")
    assert "FIELD: strategy <DeploymentStrategy>" in text
    assert "rollingUpdate" in text


def test_edit_sends_what_the_editor_changed(run: Run) -> None:
    run("apply", "-f", "-", stdin=DEPLOYMENT)
    run("edit", "deploy", "web", env={"KUBE_EDITOR": "sed -i s/none:1/none:9/"})
    assert run("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}").endswith("none:9")


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("strategic", '{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"example.invalid/none:3"}]}}}}'),
        ("json", '[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"example.invalid/none:3"}]'),
        ("merge", '{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"example.invalid/none:3"}]}}}}'),
    ],
)
def test_patches_of_three_kinds(run: Run, kind: str, patch: str) -> None:
    run("apply", "-f", "-", stdin=DEPLOYMENT)
    assert run("patch", "deploy", "web", "--type", kind, "-p", patch) == "deployment.apps/web patched\n"
    unchanged, deadline = "deployment.apps/web patched (no change)\n", time.monotonic() + 60
    while run("patch", "deploy", "web", "--type", kind, "-p", patch) != unchanged:
        assert time.monotonic() < deadline  # a controller that writes status between kubectl's two looks is a change
    image = run("get", "deploy", "web", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
    assert image == "example.invalid/none:3"


def test_label_annotate_scale_and_set_image(run: Run) -> None:
    run("apply", "-f", "-", stdin=DEPLOYMENT)
    assert run("label", "deploy", "web", "tier=front") == "deployment.apps/web labeled\n"
    assert "already has a value" in run("label", "deploy", "web", "tier=back", fails=True)
    assert run("annotate", "deploy", "web", "note=x") == "deployment.apps/web annotated\n"
    assert run("scale", "deploy", "web", "--replicas=2") == "deployment.apps/web scaled\n"
    assert run("set", "image", "deploy/web", "c=example.invalid/none:5") == "deployment.apps/web image updated\n"
    found = json.loads(run("get", "deploy", "-l", "tier=front", "-o", "json"))["items"][0]
    assert found["spec"]["replicas"] == 2
    assert found["metadata"]["annotations"]["note"] == "x"


def test_wait_sees_a_value_and_a_deletion(run: Run) -> None:
    run("create", "configmap", "a", "--from-literal=k=v")
    run("wait", "--for=jsonpath={.data.k}=v", "configmap/a", "--timeout=10s")
    run("wait", "--for=create", "configmap/a", "--timeout=10s")
    run("delete", "configmap", "a")
    run("wait", "--for=delete", "configmap/a", "--timeout=10s")


def test_events_are_listed_by_their_object(run: Run, apiserver: Any, namespace: str) -> None:
    reference = {"kind": "ConfigMap", "namespace": namespace, "name": "a", "apiVersion": "v1"}
    times = {"firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z"}
    body = {
        "metadata": {"name": "e"},
        "involvedObject": reference,
        "reason": "Tried",
        "message": "hello",
        "type": "Normal",
    }
    apiserver.post(f"/api/v1/namespaces/{namespace}/events", body | times)
    assert "Tried" in run("events", "--for", "configmap/a")
    assert "configmap/a" in run("get", "events")


def test_delete_with_a_label_deletes_what_has_it(run: Run) -> None:
    for name in ("a", "b"):
        run("create", "configmap", name)
    run("label", "configmap", "a", "old=yes")
    assert "deleted" in run("delete", "configmap", "-l", "old=yes")
    assert "b" in run("get", "configmap", "b", "-o", "name")
    assert "NotFound" in run("get", "configmap", "a", fails=True)


@pytest.mark.parametrize(("cascade", "finalizer"), [("foreground", "foregroundDeletion"), ("orphan", "orphan")])
def test_a_cascade_leaves_its_order_to_the_garbage_collector(
    run: Run, apiserver: Any, namespace: str, cascade: str, finalizer: str
) -> None:
    """The collector may do its part at once: the watch still tells of the finalizer that it waited for."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    run("create", "configmap", "a")
    held = apiserver.patch(f"{path}/a", {"metadata": {"finalizers": ["example.com/hold"]}})
    run("delete", "configmap", "a", f"--cascade={cascade}", "--wait=false")
    connection = apiserver.connect()
    version = held["metadata"]["resourceVersion"]
    query = f"watch=true&resourceVersion={version}&fieldSelector=metadata.name%3Da&timeoutSeconds=10"
    connection.request("GET", f"{path}?{query}", headers=apiserver.headers)
    event = json.loads(connection.getresponse().readline())
    connection.close()
    meta = event["object"]["metadata"]
    assert finalizer in meta["finalizers"]
    assert meta["deletionTimestamp"]
    apiserver.patch(f"{path}/a", {"metadata": {"finalizers": None}})


def test_diff_shows_what_apply_would_change(run: Run) -> None:
    run("apply", "-f", "-", stdin=DEPLOYMENT)
    assert run("diff", "-f", "-", stdin=DEPLOYMENT) == ""


def test_auth_can_i_and_whoami_answer(run: Run) -> None:
    assert run("auth", "can-i", "create", "deployments") == "yes\n"
    rows = [row.split() for row in run("auth", "can-i", "--list").splitlines()]
    assert ["*.*", "[]", "[]", "[*]"] in rows
    assert ["[*]", "[]", "[*]"] in rows
    assert "system:authenticated" in run("auth", "whoami")


def test_the_version_is_that_of_a_kubernetes_server(run: Run) -> None:
    assert json.loads(run("version", "-o", "json"))["serverVersion"]["major"] == "1"


def test_api_resources_name_what_there_is(run: Run) -> None:
    rows = [line.split() for line in run("api-resources", "--namespaced=true", "--no-headers").splitlines()]
    assert ["deployments", "deploy", "apps/v1", "true", "Deployment"] in rows
    assert ["configmaps", "cm", "v1", "true", "ConfigMap"] in rows
