"""make up, make down: a sandbox with the operator to play with, and a model to apply."""

from __future__ import annotations

import argparse
import base64
import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from creditmodel_sandbox.node.proxy import places
from harness import models
from harness.cluster import ROOT, run
from harness.kubectl import Kubectl, KubectlError
from harness.process import console_script

WORK = ROOT / ".demo"
SYSTEM = "creditmodel-system"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument("--name", default="default", help="name of the sandbox (default: default)")
    arguments = parser.parse_args()
    home = WORK / "playground" / arguments.name
    identity = ["--name", arguments.name, "--state-dir", str(home / "sandbox")]
    try:
        if arguments.command == "up":
            up(home, identity)
        else:
            run([console_script("creditmodel-sandbox"), "down", *identity])
            print("Stopped. `make up` continues where it ended.")
    except (KubectlError, subprocess.CalledProcessError) as e:
        print(e, file=sys.stderr)
        return 1
    return 0


def up(home: Path, identity: list[str]) -> None:
    """Start or continue a sandbox, put the operator on it, and say what to try."""
    bundle = models.train(WORK / "bundles" / "v1", "v1", "uci-credit-default@2005-06", quiet=False)
    home.mkdir(parents=True, exist_ok=True)
    run([console_script("creditmodel-sandbox"), "up", *identity])
    kubeconfig = home / "sandbox" / "kubeconfig"
    kubectl = Kubectl(kubeconfig)
    kubectl("apply", "-f", str(ROOT / "crds"))
    kubectl.apply(*operator(kubeconfig))
    kubectl("rollout", "status", "deployment/creditmodel-operator", "-n", SYSTEM, "--timeout=60s")
    resource = home / "creditmodel.json"
    log = {"serving": {"scoringLog": {"uri": (home / "scores").as_uri()}}}
    resource.write_text(json.dumps(models.credit_model("credit-default", bundle, **log), indent=2))
    applicants = home / "applicants.json"
    models.applicants("uci-credit-default@2005-06", applicants, 3)
    home_of = {"kubeconfig": kubeconfig, "bin": Path(sys.executable).parent, "resource": resource, "body": applicants}
    print(to_try(home_of, port_of_services()))


def to_try(paths: Mapping[str, Path], port: str) -> str:
    """Commands as a person can copy them, wherever the checkout lies."""
    return TO_TRY.format(**{name: shlex.quote(str(path)) for name, path in paths.items()}, port=port)


def port_of_services() -> str:
    """What follows a Service's address in a URL: nothing where port 80 is to be had."""
    address = ("127.0.0.1", 80)
    with socket.socket() as probe:
        try:
            probe.bind(address)
        except PermissionError:
            return f":{places(address)[-1][1]}"
        except OSError:
            pass
    return ""


def operator(kubeconfig: Path) -> list[dict[str, Any]]:
    """The operator as a Deployment. The node has no mount namespace, so it gets its credentials by KUBECONFIG."""
    labels = {"app.kubernetes.io/name": "creditmodel-operator"}
    container = {
        "name": "operator",
        "image": "creditmodel-operator:dev",
        "command": ["creditmodel-operator", "run", "--all-namespaces"],
        "env": [{"name": "KUBECONFIG", "value": "/etc/creditmodel/kubeconfig"}],
        "volumeMounts": [{"name": "kubeconfig", "mountPath": "/etc/creditmodel"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "kubeconfig", "secret": {"secretName": "kubeconfig"}}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    secret = {"kubeconfig": base64.b64encode(kubeconfig.read_bytes()).decode()}
    metadata = {"namespace": SYSTEM, "labels": labels}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kubeconfig", **metadata}, "data": secret},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "creditmodel-operator", **metadata},
            "spec": {"selector": {"matchLabels": labels}, "template": template},
        },
    ]


TO_TRY = """
A sandbox with the operator is running. To play with it:

  export KUBECONFIG={kubeconfig}
  export PATH={bin}:$PATH
  kubectl apply -f {resource}
  kubectl get creditmodels --watch
  kubectl wait creditmodel/credit-default --for=condition=Ready --timeout=3m
  kubectl describe creditmodel credit-default
  ADDRESS=$(kubectl get service credit-default -o jsonpath='{{.spec.clusterIP}}')
  curl http://$ADDRESS{port}/v1/score -H 'Content-Type: application/json' -d @{body}
  kubectl explain creditmodel.spec.gates
  kubectl logs -n creditmodel-system deployment/creditmodel-operator --follow

make down stops it and keeps its state."""


if __name__ == "__main__":
    sys.exit(main())
