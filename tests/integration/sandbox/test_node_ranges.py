"""A node that is given nothing but a kubeconfig, where the Services' range is not a loopback one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = r"""
set -eu
cd "$1"; python="$2"; bin=$(dirname "$python")
"$python" -c '
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))'
sandbox() { exec "$python" -m creditmodel_sandbox.cli "$@"; }
sandbox apiserver --state-dir api --port 0 --kubeconfig kubeconfig --service-cidr 10.96.0.0/16 >api.out 2>&1 & api=$!
while ! test -s kubeconfig; do sleep 0.05; done
sandbox node --kubeconfig kubeconfig --state-dir state --kubelet-tls always >node.out 2>&1 & node=$!
trap "kill \$api \$node 2>/dev/null || true" EXIT
kubectl() { "$bin/kubectl" --kubeconfig kubeconfig "$@"; }
kubectl apply --validate=false -f - >/dev/null <<END
{"apiVersion": "v1", "kind": "List", "items": [
 {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
  "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}},
 {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {
  "automountServiceAccountToken": false, "containers": [
  {"name": "web", "image": "creditmodel-jobs:dev",
   "command": ["python", "-m", "http.server", "8080", "--bind", "\$(POD_IP)"],
   "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
   "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1}}]}}]}
END
kubectl wait --for=condition=Ready pod/web --timeout 120s >/dev/null
echo "pod $(kubectl get pod web -o jsonpath='{.status.podIP}')"
echo "service $(kubectl get service web -o jsonpath='{.spec.clusterIP}')"
"$python" -c 'import sys, urllib.request; print("answer", urllib.request.urlopen(sys.argv[1], timeout=60).status)' \
  "http://$(kubectl get service web -o jsonpath='{.spec.clusterIP}')/"
kill $node; wait $node || true
kill $api; wait $api || true
echo "left $(grep -c 10.96.0.0 /proc/net/fib_trie || true)"
"""


def test_pods_and_services_get_private_addresses_which_are_gone_with_the_node(tmp_path: Path) -> None:
    command = ["unshare", "--net", "--map-root-user", "sh", "-c", SCRIPT, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    lines = dict(line.split() for line in done.stdout.splitlines())
    assert done.returncode == 0, done.stderr + (tmp_path / "node.out").read_text()
    assert lines["pod"].startswith("10.244.")
    assert lines["service"].startswith("10.96.")
    assert (lines["answer"], lines["left"]) == ("200", "0")
