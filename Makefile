# Everything that one does with the project: `make` alone lists it. Kept to what the make of macOS (3.81) understands.

# To use another Python than the first that fits: make PYTHON=/path/to/python3 ...
PYTHON =
VENV = .venv
BIN = $(VENV)/bin
DEMO_KEY = demo-key-for-local-use-only

.PHONY: help audit run check test test-all test-docker test-long test-pythons test-quick test-versions faults breakages power bench lint \
    fmt build up down logs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/installed ## Serve an embedded gateway with a demo client on 127.0.0.1:8000; needs no other server
	@mkdir -p var; \
	demo_clients='{"$(DEMO_KEY)": {"name": "demo", "daily_quota": 1000}}'; \
	demo_providers='{"alpha": {"aliases": ["a", "alpha-sms"]}, "beta": {"aliases": ["b"]}}'; \
	export REDIS_URL="$${REDIS_URL-embedded:var/gateway.db}"; \
	export RABBITMQ_URL="$${RABBITMQ_URL-embedded:var/gateway.db}"; \
	export SERVER_A_HOST="$${SERVER_A_HOST-127.0.0.1}"; \
	export SERVER_A_PORT="$${SERVER_A_PORT-8000}"; \
	if [ -z "$$GATEWAY_CONFIG" ]; then \
	    export CLIENT_CONFIG="$${CLIENT_CONFIG-$$demo_clients}"; \
	    export PROVIDERS_CONFIG="$${PROVIDERS_CONFIG-$$demo_providers}"; \
	fi; \
	echo "Serving on http://$$SERVER_A_HOST:$$SERVER_A_PORT until Ctrl-C. In another terminal, try:"; \
	echo; \
	echo "  curl -i http://$$SERVER_A_HOST:$$SERVER_A_PORT/api/v1/sms/send \\"; \
	echo "    -H 'API-Key: $(DEMO_KEY)' -H 'Content-Type: application/json' \\"; \
	echo "    -d '{\"to\": \"+14155552671\", \"text\": \"Hello\"}'"; \
	case "$$RABBITMQ_URL" in embedded:*) \
	    echo "  RABBITMQ_URL=$$RABBITMQ_URL $(BIN)/sms-gateway messages";; \
	esac; \
	echo; \
	if [ -e .env ]; then \
	    echo "There is an .env here: the demo's addresses, clients and providers win over it; the rest of it holds."; \
	    echo "To serve what it says: $(BIN)/sms-gateway serve"; \
	    echo; \
	fi; \
	exec $(BIN)/sms-gateway serve

check: lint test-quick ## Check what needs no server, in a minute or two: lint, types, and the tests of the parts; ARGS="-k quota" for some

test-quick: $(VENV)/installed-test ## Run the tests of `make check` without linting
	HYPOTHESIS_PROFILE=quick $(pytest) -m "not servers and not cluster and not long and not quiet" \
	    --ignore tests/integration --ignore tests/faults --ignore tests/bench --ignore tests/docker --ignore tests/power $(ARGS)

test-pythons: $(VENV)/installed-tox ## Run them on every supported Python that is here, and say which is not; in CI one that is not fails
	$(tox) --skip-missing-interpreters $(if $(CI),false,true) -m supported next

test: $(VENV)/installed-test ## Run the tests, with real servers, which are installed where they are missing; ARGS="-k quota" for some
	sh tests/install-servers.sh
	-sh tests/power/install-fuse.sh
	$(pytest) $(ARGS)

test-long: $(VENV)/installed-test ## Run what takes longer: the clusters, every fault, power cuts, the long models, a short bench
	sh tests/install-servers.sh
	-sh tests/power/install-fuse.sh
	sh tests/bench/install-wrk.sh
	HYPOTHESIS_PROFILE=long $(pytest) -m "cluster or long or model" $(ARGS)

test-docker: $(VENV)/installed-test ## Build the image, run compose.yml and break it under load, on the Docker engine that is here
	$(BIN)/python -m pytest -m docker tests/docker $(ARGS)

test-versions: $(VENV)/installed-test ## Run the adapters' tests on other versions of Redis, Valkey and RabbitMQ; needs Debian; ARGS="sid" for one suite
	PYTHON=$(BIN)/python sh tests/versions/run.sh $(ARGS)

test-all: check test test-long ## Run all of these: check, test, test-long

# Some tests wait and some count: more processes than cores share them, each with servers of its own.
pytest = $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal
PROCESSES = 4

# pyenv puts a name on the PATH for each of its versions, and runs only those that are switched on.
pyenv_pythons = $(wildcard $(shell pyenv root 2>/dev/null)/versions/3.1[1-9]*/bin/python3.1[1-9])
tox = $(BIN)/tox run $(if $(pyenv_pythons),--discover $(pyenv_pythons))

faults: $(VENV)/installed-test ## Break everything under load and compare; ROUNDS=20, JOBS=2, SEED=1, SETUP=spool, FAULT=redis-killed
	sh tests/install-servers.sh
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	    $(if $(JOBS),--jobs $(JOBS)) $(if $(SETUP),--setup $(SETUP)) $(if $(FAULT),--fault $(FAULT))

breakages: $(VENV)/installed-test ## Break the gateway itself in every listed way, and see that the fault suite notices; half an hour
	sh tests/install-servers.sh
	$(BIN)/python -m tests.faults.breakages

power: $(VENV)/installed-test ## Cut the power under load and count; as root, on Linux; ROUNDS=20, SEED=1, SUBJECT=embedded
	sh tests/install-servers.sh
	sh tests/power/install-fuse.sh
	$(BIN)/python -m tests.power $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SUBJECT),--subject $(SUBJECT))

bench: $(VENV)/installed-bench ## Measure against bare uvicorn, in ten minutes; ARGS="--short", ARGS="--peers", ARGS="--profile", ARGS="--help"
	sh tests/install-servers.sh
	sh tests/bench/install-wrk.sh
	$(if $(findstring --peers,$(ARGS)),-sh tests/bench/install-peers.sh)
	$(BIN)/python -m tests.bench $(ARGS)

lint: $(VENV)/installed-lint ## Check style, types, the Dockerfile and compose.yml
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yml

audit: $(VENV)/installed ## Look the installed packages up in the public lists of vulnerabilities; needs the internet
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(BIN)/pip-audit --skip-editable

fmt: $(VENV)/installed-lint ## Format the code, mend what can be mended, and write the tables of settings
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m gateway.config.reference

build: ## Build the Docker image; DOCKER_BUILD_OPTIONS="--network host" for what your network needs
	docker build $(DOCKER_BUILD_OPTIONS) --tag sms-gateway .

up: build ## Start gateway, Redis and RabbitMQ in Docker, and wait until they are healthy; needs .env
	docker compose up --detach --wait

down: ## Stop them; their data stays
	docker compose down

logs: ## Follow their logs
	docker compose logs --follow

clean: ## Remove what the tools have made; var/, the data of `make run`, stays
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .tox
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

install = $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

$(VENV)/installed: setup.cfg pyproject.toml $(BIN)/python
	$(install) .
	@touch $@

$(VENV)/installed-test: setup.cfg pyproject.toml $(BIN)/python
	$(install) '.[test]'
	@touch $@

$(VENV)/installed-bench: setup.cfg pyproject.toml $(BIN)/python
	$(install) '.[test,bench]'
	@touch $@

$(VENV)/installed-tox: setup.cfg pyproject.toml $(BIN)/python
	$(install) '.[tox]'
	@touch $@

$(VENV)/installed-lint: setup.cfg pyproject.toml $(BIN)/python
	$(install) '.[test,lint]'
	@touch $@

# A Python counts only when it runs: a name on the PATH may be a mere pointer to a version that is not there.
$(BIN)/python:
	@without_venv=; \
	for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    "$$python" -c 'import ensurepip, venv' 2>/dev/null || { without_venv="$$python"; continue; }; \
	    echo "Setting up $(VENV) with $$("$$python" --version) ($$python)"; \
	    "$$python" -m venv --clear $(VENV) && exit 0; \
	    rm -rf $(VENV); exit 1; \
	done; \
	if [ -n "$$without_venv" ]; then \
	    echo "$$without_venv cannot make virtual environments. Install what it lacks:"; \
	    echo "    Debian, Ubuntu:  sudo apt-get install python3-venv"; \
	else \
	    echo "No Python 3.11 or later was found. Install one, or name it by make PYTHON=/path/to/python3:"; \
	    echo "    Debian, Ubuntu:  sudo apt-get install python3 python3-venv"; \
	    echo "    macOS:           brew install python@3.13"; \
	fi >&2; \
	exit 1
