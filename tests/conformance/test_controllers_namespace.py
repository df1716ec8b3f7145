"""What every namespace has, and how it goes."""

from __future__ import annotations

from typing import Any


def test_a_namespace_has_a_default_service_account_and_the_root_certificate(cluster: Any) -> None:
    cluster.until(lambda: cluster.exists("serviceaccounts", "default"))
    cluster.until(lambda: cluster.exists("configmaps", "kube-root-ca.crt"))
    assert cluster.get("configmaps", "kube-root-ca.crt")["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
    cluster.delete("serviceaccounts", "default")
    cluster.until(lambda: cluster.exists("serviceaccounts", "default"))


def test_a_deleted_namespace_takes_its_content_along_and_waits_for_finalizers(cluster: Any) -> None:
    cluster.create("configmaps", "plain")
    cluster.create("configmaps", "held", finalizers=["conformance.test/hold"])
    selector = {"matchLabels": {"app": "web"}}
    cluster.create("deployments", "web", {"replicas": 1, "selector": selector, "template": cluster.template(app="web")})
    cluster.until(lambda: cluster.all("pods", app="web"))
    path = f"/api/v1/namespaces/{cluster.namespace}"
    cluster.api.delete(path)
    cluster.until(lambda: not cluster.exists("configmaps", "plain") and not cluster.all("pods"), seconds=120)
    assert cluster.api.get(path)["status"]["phase"] == "Terminating"
    late = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}}
    refused = cluster.api.request("POST", cluster.path("configmaps"), late)
    assert (refused.code, refused.body["reason"]) == (403, "Forbidden")
    cluster.patch("configmaps", "held", {"metadata": {"finalizers": None}})
    cluster.until(lambda: cluster.api.request("GET", path).code == 404, seconds=120)
