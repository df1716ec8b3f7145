"""One cluster, one set of bundles for the whole suite."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from harness import models
from harness.cluster import Cluster, cluster
from harness.kubectl import Kubectl

JUNE, JULY = "uci-credit-default@2005-06", "uci-credit-default@2005-07"


@dataclass(frozen=True)
class Bundles:
    """v1, a good challenger, and challengers that no gate may let through."""

    v1: Path
    v3: Path
    damaged: Path
    corrupt: Path


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    work = tmp_path_factory.mktemp("bundles")
    v1 = models.train(work / "v1", "v1", JUNE)
    v3 = models.train(work / "v3", "v3", JULY)
    damaged = models.damage(v1, work / "damaged", "v2")
    corrupt = models.corrupt(v1, work / "corrupt")
    return Bundles(*(models.publish(bundle) for bundle in (v1, v3, damaged, corrupt)))


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key, with public.pem beside it."""
    directory = tmp_path_factory.mktemp("signing")
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "private.pem").write_bytes(plain)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (directory / "public.pem").write_bytes(public)
    return directory / "private.pem"


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), os.environ.get("KUBECONFIG")) as found:
        yield found


@pytest.fixture(scope="module")
def kubectl(ours: Cluster) -> Iterator[Kubectl]:
    """kubectl in a namespace of this module's own."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    ours.kubectl().apply(ours.namespace(name))
    yield ours.kubectl(name)
    ours.kubectl()("delete", "namespace", name, "--timeout=180s", timeout=200)


@pytest.fixture(scope="session")
def applicants(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Clients of June whom no model has learned from."""
    return models.applicants(JUNE, tmp_path_factory.mktemp("applicants") / "june.json", 500)
