"""Retraining of CreditModels: a watch that starts one run for each episode, and the run that trains and proposes.

Nothing here writes to a CreditModel. The outcome is a proposal: the exact change of spec, for whoever owns the
manifest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.cncf.kubernetes.callbacks import KubernetesPodOperatorCallback
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, PokeReturnValue, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from kubernetes.client import (
    CustomObjectsApi,
    V1EnvFromSource,
    V1PersistentVolumeClaimVolumeSource,
    V1SecretEnvSource,
    V1Volume,
    V1VolumeMount,
)

GROUP, VERSION, PLURAL = "creditmodel.dev", "v1alpha1", "creditmodels"
CONNECTION = os.environ.get("CREDITMODEL_CONNECTION", "kubernetes_default")
CLAIM = os.environ.get("CREDITMODEL_BUNDLES_CLAIM")
"""Name of the claim that holds bundles, mounted at BUNDLES; without one BUNDLES is a path that the node offers."""
BUNDLES = os.environ.get("CREDITMODEL_BUNDLES", "/bundles")
"""Where new bundles go: a URI (s3://, gs://, file://), or a path on the claim or the node."""
SECRET = os.environ.get("CREDITMODEL_STORE_SECRET")
"""Secret whose keys become the pod's environment: credentials of the object store."""
ACCOUNT = os.environ.get("CREDITMODEL_SERVICE_ACCOUNT", "default")
PROPOSALS = os.environ.get("CREDITMODEL_PROPOSALS", "/opt/airflow/proposals")
IMAGE = os.environ.get("CREDITMODEL_JOBS_IMAGE", "creditmodel-jobs:dev")
POLL_SECONDS = int(os.environ.get("CREDITMODEL_POLL_SECONDS", "60"))

# What the operator's own training Job runs. A pod that is started again after it has written its bundle reports that.
TRAIN = (
    'exec creditmodel-train retrain --bundle "$CHAMPION" --digest "$DIGEST" --current "$CURRENT" --labels "$LABELS" '
    '--maturity-days "$MATURITY" --episode "$EPISODE" --out "$OUT" --measurement "$MEASUREMENT" ${OPTIONS:-}'
)


def episode_of(model: Mapping[str, Any]) -> dict[str, str] | None:
    """The open episode of a CreditModel: what a run needs to know. None while nothing asks for retraining."""
    status = model.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    required = conditions.get("RetrainingRequired", {})
    retraining = status.get("retraining")
    if required.get("status") != "True" or not retraining:
        return None
    metadata = model["metadata"]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "episode": retraining["episode"],
        "digest": retraining["digest"],
        "why": f"{required.get('reason', '')}: {required.get('message', '')}",
        "champion": status["active"]["uri"],
    }


def material_of(model: Mapping[str, Any]) -> dict[str, str]:
    """Where recent applicants and their outcomes lie: what a challenger learns from besides the reference."""
    drift = model["spec"].get("drift", {})
    if "labels" not in drift:
        raise AirflowFailException(f"{model['metadata']['name']} has no spec.drift.labels: nothing new can be learned")
    labels = drift["labels"]
    days = str(labels.get("maturityDays", 365))
    return {"current": drift["current"]["uri"], "labels": labels["uri"], "maturity": days}


def proposal(episode: Mapping[str, str], measurement: Mapping[str, Any]) -> dict[str, Any]:
    """The change of spec that makes the new bundle a challenger, and what it rests on. A JSON merge patch."""
    if measurement.get("kind") != "training" or "error" in measurement:
        raise AirflowException(f"the training pod left no new bundle: {measurement}")
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "CreditModel",
        "metadata": {"namespace": episode["namespace"], "name": episode["name"]},
        "episode": episode["episode"],
        "why": episode["why"],
        "replaces": episode["digest"],
        "evaluation": {key: measurement[key] for key in ("holdout", "champion", "challenger")},
        "patch": {"spec": {"model": {"uri": measurement["uri"], "digest": measurement["candidate"]}}},
    }


class KeepMeasurement(KubernetesPodOperatorCallback):
    """Hands on what the pod measured. A termination message needs no sidecar and no exec into the pod."""

    @staticmethod
    def on_pod_completion(*, pod: Any, context: Any, **_: Any) -> None:
        ended = [status.state.terminated for status in pod.status.container_statuses if status.name == "base"]
        if ended and ended[0] is not None and ended[0].message:
            context["ti"].xcom_push(key="measurement", value=json.loads(ended[0].message))


@dag(schedule="*/10 * * * *", start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), catchup=False, max_active_runs=1)
def creditmodel_watch() -> None:
    """Start one run of creditmodel_retrain for each open episode. Its run id is the episode's id, so it starts once."""

    @task
    def open_episodes() -> list[dict[str, Any]]:
        api = CustomObjectsApi(KubernetesHook(conn_id=CONNECTION).get_conn())
        models = api.list_cluster_custom_object(GROUP, VERSION, PLURAL)["items"]
        found = [episode for model in models if (episode := episode_of(model)) is not None]
        return [{"trigger_run_id": episode["episode"], "conf": _identity(episode)} for episode in found]

    TriggerDagRunOperator.partial(
        task_id="retrain", trigger_dag_id="creditmodel_retrain", skip_when_already_exists=True
    ).expand_kwargs(open_episodes())


def _identity(episode: Mapping[str, str]) -> dict[str, str]:
    return {key: episode[key] for key in ("namespace", "name", "episode")}


@dag(
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    max_active_tasks=4,
    params={
        "namespace": Param("default", type="string"),
        "name": Param(type="string", minLength=1),
        "episode": Param("", type="string", description="Only this episode; any that is open when empty."),
        "options": Param("", type="string", pattern=r"^(--[a-z]+( [A-Za-z0-9.=,_-]+)? ?)*$"),
    },
)
def creditmodel_retrain() -> None:
    """Wait until the CreditModel asks for retraining, train, and propose the change of spec."""

    @task.sensor(poke_interval=POLL_SECONDS, timeout=86_400, mode="reschedule")
    def retraining_required() -> PokeReturnValue:
        params = get_current_context()["params"]
        hook = KubernetesHook(conn_id=CONNECTION)
        model = hook.get_custom_object(GROUP, VERSION, PLURAL, params["name"], params["namespace"])
        episode = episode_of(model)
        if params["episode"] and (episode is None or episode["episode"] != params["episode"]):
            raise AirflowSkipException(f"episode {params['episode']} of {params['name']} is over")
        if episode is None:
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=episode | material_of(model))

    episode = retraining_required()
    out = f"{BUNDLES}/{{{{ params.name }}}}-{_of('episode')}"
    train = KubernetesPodOperator(
        task_id="train",
        kubernetes_conn_id=CONNECTION,
        namespace="{{ params.namespace }}",
        name="{{ params.name }}-retrain",
        image=IMAGE,
        cmds=["/bin/sh", "-euc", TRAIN],
        env_vars={
            "OUT": out,
            "OPTIONS": "{{ params.options }}",
            "MEASUREMENT": "/dev/termination-log",
            **{key.upper(): _of(key) for key in ("champion", "digest", "current", "labels", "maturity", "episode")},
        },
        env_from=[V1EnvFromSource(secret_ref=V1SecretEnvSource(name=SECRET))] if SECRET else [],
        service_account_name=ACCOUNT,
        volumes=_volumes(),
        volume_mounts=_mounts(),
        labels={"app.kubernetes.io/component": "training", "app.kubernetes.io/instance": "{{ params.name }}"},
        automount_service_account_token=False,
        container_security_context={"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        callbacks=[KeepMeasurement],
        retries=2,
        retry_delay=pendulum.duration(minutes=1),
        startup_timeout_seconds=600,
        execution_timeout=pendulum.duration(hours=6),
    )

    @task
    def propose(episode: dict[str, str], ti: Any = None) -> dict[str, Any]:
        measurement = ti.xcom_pull(task_ids="train", key="measurement") or {}
        found = proposal(episode, measurement)
        place = Path(PROPOSALS) / f"{episode['namespace']}-{episode['name']}-{episode['episode']}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(found, indent=2) + "\n")
        return found

    episode >> train >> propose(episode)


def _of(key: str) -> str:
    """What the sensor found, as a template."""
    return f"{{{{ ti.xcom_pull('retraining_required')['{key}'] }}}}"


def _volumes() -> list[V1Volume]:
    if CLAIM is None:
        return []
    return [V1Volume(name="bundles", persistent_volume_claim=V1PersistentVolumeClaimVolumeSource(claim_name=CLAIM))]


def _mounts() -> list[V1VolumeMount]:
    return [] if CLAIM is None else [V1VolumeMount(name="bundles", mount_path=BUNDLES)]


creditmodel_watch()
creditmodel_retrain()
