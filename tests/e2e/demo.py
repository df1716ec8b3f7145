"""make demo: the whole loop on real data, told step by step.

Nothing is simulated but the cluster: the model is trained, the Jobs measure, uvicorn answers, Evidently reports.
Leaves its bundles and reports in .demo/ and no process. Exits 0 only if everything that it tells was seen to happen.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import models
from harness.cluster import ROOT, Cluster, cluster, endpoint
from harness.kubectl import Kubectl, KubectlError, Timeout, until
from harness.load import Load, load, score
from harness.story import Story

WORK = ROOT / ".demo"
SCORES = (WORK / "run" / "scores").as_uri()
NAMESPACE = "lending"
NAME = "credit-default"
ROLLOUT_SECONDS = 180
SNAPSHOTS = {"v1": "uci-credit-default@2005-06", "v3": "uci-credit-default@2005-07"}
"""v3 is v1 trained again a month later."""
BATCH = 250
CONSECUTIVE_BREACHES = 2
EVENT_COLUMNS = "custom-columns=TYPE:.type,REASON:.reason,MESSAGE:.message"


Rows = list[dict[str, Any]]


class NotShown(Exception):
    """Something that the demo tells did not happen."""


def main() -> int:
    story = Story(chapters=8)
    try:
        with ExitStack() as stack:
            tell(story, stack)
    except (NotShown, KubectlError, Timeout, subprocess.CalledProcessError) as e:
        print(f"\nNot shown: {e}\nLogs are in {WORK.relative_to(ROOT)}/run", file=sys.stderr)
        return 1
    story.close()
    return 0


def tell(story: Story, stack: ExitStack) -> None:
    """The chapters, in order."""
    shutil.rmtree(WORK / "run", ignore_errors=True)
    bundles = train(story)
    ours = start(story, stack)
    kubectl = ours.kubectl(NAMESPACE)
    first_model(story, kubectl, bundles["v1"])
    rows = models.applicants(SNAPSHOTS["v1"], WORK / "run" / "june.json", 500)
    address = stack.enter_context(endpoint(kubectl, NAME, ours.work / "forward.log"))
    score_one(story, address, bundles["v1"], rows[0])
    reject_damaged(story, kubectl, address, bundles, rows)
    take_over(story, kubectl, address, bundles, rows)
    drift(story, kubectl, address)
    delete(story, kubectl)


def train(story: Story) -> dict[str, Path]:
    """Chapter 1."""
    story.chapter("Train on real data, export to ONNX, seal the bundle")
    bundles = {version: WORK / "bundles" / version for version in ("v1", "v3")}
    for version, bundle in bundles.items():
        reused = (bundle / "manifest.json").exists()
        if reused:
            story.say(f"{version}: reusing {bundle.relative_to(ROOT)} (make clean to train again)")
        models.train(bundle, version, SNAPSHOTS[version], quiet=False)
    damaged = WORK / "bundles" / "v2-damaged"
    if not damaged.exists():
        models.damage(bundles["v1"], damaged, "v2")
    evaluation = json.loads((bundles["v1"] / "evaluation.json").read_text())
    logistic = next(b for b in evaluation["baselines"] if "logistic" in b["name"].lower())
    if evaluation["auc"] < logistic["auc"]:
        raise NotShown(f"AUC {evaluation['auc']:.4f} is below the logistic regression's {logistic['auc']:.4f}")
    story.show(
        "Network no worse than logistic regression", f"AUC {evaluation['auc']:.4f} against {logistic['auc']:.4f}"
    )
    return {**bundles, "v2": damaged}


def start(story: Story, stack: ExitStack) -> Cluster:
    """Chapter 2."""
    story.chapter("A sandbox cluster, the CRD and the operator")
    ours = stack.enter_context(cluster(WORK / "run"))
    kubectl = ours.kubectl()
    story.kubectl(kubectl, "get", "nodes")
    kubectl("create", "namespace", NAMESPACE)
    return ours


def first_model(story: Story, kubectl: Kubectl, bundle: Path) -> None:
    """Chapter 3."""
    story.chapter("Apply v1: even the first model is gated")
    apply(story, kubectl, "v1", bundle)
    wait(story, kubectl, "Ready")
    story.kubectl(kubectl, "get", "creditmodels")
    story.kubectl(kubectl, "get", "jobs,deployments,hpa,services,cronjobs")
    status = kubectl.get("creditmodel", NAME)["status"]
    for condition in ("ArtifactVerified", "ParityPassed", "BenchmarkPassed"):
        story.say(f"{condition}: {message(status, condition)}")
    story.show("v1 gated by parity and benchmark, then served", message(status, "Ready"))


def score_one(story: Story, address: str, bundle: Path, row: dict[str, Any]) -> None:
    """Chapter 4."""
    story.chapter("Score an applicant over REST")
    body = json.dumps({"applicants": [row]})
    story.command(["curl", f"{address}/v1/score", "-H", "content-type: application/json", "-d", body])
    answer = score(address, [row])
    story.output(json.dumps(answer, indent=2))
    if answer["model"]["digest"] != models.digest(bundle):
        raise NotShown(f"the answer names {answer['model']['digest']}")
    result = answer["results"][0]
    reasons = ", ".join(reason["code"] for reason in result["reasons"])
    story.show(
        "A score with decision and reasons", f"{result['points']} points, {result['decision']}, reasons {reasons}"
    )


def reject_damaged(story: Story, kubectl: Kubectl, address: str, bundles: dict[str, Path], rows: Rows) -> None:
    """Chapter 5."""
    story.chapter("Apply v2, whose export passed through bfloat16, while applicants keep coming")
    with load(address, rows) as seen:
        apply(story, kubectl, "v2", bundles["v2"])
        wait(story, kubectl, "Stalled")
    story.kubectl(kubectl, "get", "creditmodels")
    status = kubectl.get("creditmodel", NAME)["status"]
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    if (conditions["ParityPassed"], conditions["Available"], conditions["Ready"]) != ("False", "True", "False"):
        raise NotShown(f"conditions after the damaged export: {conditions}")
    only_from(seen.answered, models.digest(bundles["v1"]))
    story.show("v2 rejected by name of gate and number", message(status, "Ready"))
    story.show("v1 served on meanwhile", unfailed(seen))


def take_over(story: Story, kubectl: Kubectl, address: str, bundles: dict[str, Path], rows: Rows) -> None:
    """Chapter 6."""
    story.chapter("Apply v3, a good challenger, under the same load")
    with load(address, rows) as seen:
        apply(story, kubectl, "v3", bundles["v3"])
        wait(story, kubectl, "Ready")
        before = seen.answered[models.digest(bundles["v3"])]
        until(lambda: seen.answered[models.digest(bundles["v3"])] > before + 200, "answers by v3", 60)
    story.kubectl(kubectl, "get", "creditmodels")
    if models.digest(bundles["v2"]) in seen.answered:
        raise NotShown("the damaged model answered a request")
    story.show("v3 took over without a failed request", unfailed(seen))


def drift(story: Story, kubectl: Kubectl, address: str) -> None:
    """Chapter 7."""
    story.chapter("Applicants of September: real drift asks for retraining")
    later = models.applicants("uci-credit-default@2005-09", WORK / "run" / "september.json")
    for start in range(0, len(later), BATCH):
        answer = score(address, later[start : start + BATCH])
    story.say(f"Scored {len(later):,} clients as they stood in September 2005, whom no model has learned from.")
    until(lambda: models.is_logged(SCORES, answer["request_id"]), "the scoring log to hold the last of them", 60)
    for number in range(1, CONSECUTIVE_BREACHES + 1):
        job = f"drift-now-{number}"
        story.kubectl(kubectl, "create", "job", f"--from=cronjob/{NAME}-drift", job)
        kubectl("wait", f"job/{job}", "--for=condition=Complete", "--timeout=120s", timeout=150)
    wait(story, kubectl, "RetrainingRequired")
    story.kubectl(kubectl, "get", "creditmodels")
    about = ("--field-selector=involvedObject.kind=CreditModel", "--sort-by=.metadata.creationTimestamp")
    story.kubectl(kubectl, "get", "events", *about, "-o", EVENT_COLUMNS)
    status = kubectl.get("creditmodel", NAME)["status"]
    reports = sorted((WORK / "run" / "reports").rglob("*.html"))
    if not reports:
        raise NotShown("the drift check left no HTML report")
    story.show("Real drift found in the scoring log", message(status, "DriftDetected"))
    story.show("RetrainingRequired set on the resource", message(status, "RetrainingRequired"))
    story.show("Evidently report", str(reports[-1].relative_to(ROOT)))


def delete(story: Story, kubectl: Kubectl) -> None:
    """Chapter 8."""
    story.chapter("Delete the resource: nothing stays behind")
    story.kubectl(kubectl, "delete", "creditmodel", NAME)
    until(lambda: not models.children(kubectl, NAME), "everything that the CreditModel owned to go", 60)
    story.show("Deleting the resource removed everything", "no Job, CronJob, Deployment, HPA, Service or Pod is left")


def apply(story: Story, kubectl: Kubectl, version: str, bundle: Path) -> None:
    """kubectl apply of the CreditModel naming this bundle."""
    resource = models.credit_model(NAME, bundle, **spec())
    path = WORK / "run" / f"creditmodel-{version}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(resource, indent=2))
    story.command(["kubectl", "apply", "-f", str(path.relative_to(ROOT))])
    story.output(kubectl("apply", "-f", str(path)))


def wait(story: Story, kubectl: Kubectl, condition: str) -> None:
    """kubectl wait for a condition of the CreditModel at its present generation."""
    arguments = ("wait", f"creditmodel/{NAME}", f"--for=condition={condition}", f"--timeout={ROLLOUT_SECONDS}s")
    story.kubectl(kubectl, *arguments, timeout=ROLLOUT_SECONDS + 30)


def spec() -> dict[str, Any]:
    """What every version of the resource has besides its model."""
    return {
        "serving": {"replicas": {"min": 1, "max": 2}, "scoringLog": {"uri": SCORES}},
        "drift": {
            "schedule": "0 6 * * *",
            "current": {"uri": SCORES, "window": "24h"},
            "consecutiveBreaches": CONSECUTIVE_BREACHES,
            "report": {"uri": (WORK / "run" / "reports").as_uri()},
        },
    }


def only_from(answered: Counter[str], digest: str) -> None:
    """Every answer so far came from one model."""
    if set(answered) != {digest}:
        raise NotShown(f"answers by {dict(answered)}, not only by {digest}")


def unfailed(seen: Load) -> str:
    """What a load saw, none of it a failure."""
    if seen.failures:
        raise NotShown(f"{len(seen.failures)} of {seen.requests} requests failed, the first with {seen.failures[0]}")
    return f"{seen.requests:,} requests, 0 failed, p99 {seen.quantile_ms(0.99):.1f} ms"


def message(status: dict[str, Any], condition: str) -> str:
    """A condition's message."""
    return next(str(c["message"]) for c in status["conditions"] if c["type"] == condition)


if __name__ == "__main__":
    sys.exit(main())
