# Every task has one door; `make help` prints this file's words.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
# Without bytecode every process of ours would compile torch and diffusers anew: 20 s instead of 5.
unexport PYTHONDONTWRITEBYTECODE
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help demo kafka up-production secrets test test-oldest soak check audit bench case-studies base-model migration lock clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/ready ## A deployed model learns from its users, live (ARGS=--check: unattended, exit code tells)
	.venv/bin/stovetop demo $(ARGS)

kafka: .venv/ready build/kafka/ready ## A real Kafka on this machine, to try STOVETOP_KAFKA with
	@$(PY) -m tests.kafka.broker

up-production: .venv/ready-dev build/kafka/ready build/postgres/ready ## compose.yaml's services here, without containers
	@$(PY) -m tests.deploy.up $(ARGS)

# The containers' users are nobody on this machine: who may pass the folder may read its files.
SECRETS := secrets
secrets: ## Passwords for compose.yaml, in ./secrets
	@mkdir -m 700 $(SECRETS)
	@cd $(SECRETS) && umask 022 && random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; } \
	    && random > stovetop_database_password && echo stovetop > s3_user && random > s3_password \
	    && printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
	        "$$(cat s3_user)" "$$(cat s3_password)" > s3_credentials

# The tests of a real part that can't be installed are skipped, and fail in CI. Three at a time on two
# cores: a third of their time they wait for processes to start, and for what these do.
test: .venv/ready-dev check ## Everything that CI checks
	-@$(MAKE) --no-print-directory build/kafka/ready build/postgres/ready build/chromium/ready
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 3 --dist worksteal $(ARGS)

test-oldest: build/oldest/ready ## One's own Trainer on the oldest transformers and accelerate that we allow
	build/oldest/bin/python -m pytest tests/trainer/loop tests/trainer/checkpoints tests/trainer/run \
		tests/trainer/test_interactive.py tests/trainer/test_interactive_gpt2.py $(ARGS)

soak: .venv/ready-dev build/kafka/ready build/postgres/ready ## 1,000 kills at commit points and elsewhere (ARGS="--kills 100 --seed 7"), 100,000 cases of fuzz
	$(PY) -m tests.crashes.soak $(ARGS)
	STOVETOP_FUZZ_CASES=100000 $(PY) -m pytest -n 2 --timeout 3600 tests/ingest/test_fuzz.py

check: .venv/ready-dev ## Format, lint, types, import order, schema: no tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PY) tests/size_caps.py

audit: .venv/ready-dev ## Known weaknesses of what is locked; needs the network
	.venv/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt
	.venv/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-dev.txt

bench: .venv/ready build/kafka/ready build/postgres/ready ## The numbers that the README quotes
	$(PY) benchmarks/desktop.py
	$(PY) benchmarks/stream.py
	$(PY) -m benchmarks.ingest --json benchmarks/results/ingest.json
	$(PY) -m benchmarks.trainer --json benchmarks/results/trainer.json
	$(PY) -m benchmarks.table

case-studies: .venv/ready-dev ## A person, and an agent, against static schedules of a GPT-2's lr (<= 20 min)
	$(PY) -m benchmarks.case_studies --out benchmarks/results

base-model: .venv/ready ## Train the shipped encoder and base model again from their seeds
	$(PY) -m trainer.neuralos.build_base

lock: .venv/ready ## Resolve the dependencies anew into requirements*.txt
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade pyproject.toml -o requirements.txt
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt

clean: ## Remove what the other doors made here
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.venv/bin/uv: requirements-uv.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: install it and make it the first python3 on the PATH"; exit 1; }
	@python3 -m venv .venv >/dev/null 2>&1 || { echo "installing python3-venv"; apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && python3 -m venv .venv; }
	@.venv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@touch $@

.venv/ready: .venv/bin/uv requirements.txt pyproject.toml
	@echo "installing Stovetop into .venv (torch is large: half a minute to a few minutes)"
	@.venv/bin/uv pip install -q --compile-bytecode --python $(PY) --require-hashes -r requirements.txt
	@.venv/bin/uv pip install -q --python $(PY) --no-deps -e .
	@touch $@

.venv/ready-dev: .venv/ready requirements-dev.txt
	@.venv/bin/uv pip install -q --compile-bytecode --python $(PY) --require-hashes -r requirements-dev.txt
	@touch $@

# All but these two, and what depends on their versions, as it is locked.
build/oldest/ready: .venv/bin/uv requirements-dev.txt pyproject.toml
	@mkdir -p build
	@sed -E 's/ *\\$$//; /^[ #]/d; /^(transformers|accelerate|huggingface-hub|tokenizers)==/d' requirements-dev.txt > build/oldest-rest.txt
	@.venv/bin/uv venv -q --clear --python $(PY) build/oldest
	@.venv/bin/uv pip install -q --compile-bytecode --python build/oldest/bin/python --resolution lowest-direct -r pyproject.toml --group dev -c build/oldest-rest.txt
	@.venv/bin/uv pip install -q --python build/oldest/bin/python --no-deps -e .
	@touch $@

# A server for the tests' own clusters; Debian's package would start one for the machine as well.
build/postgres/ready:
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || { echo "installing PostgreSQL"; apt-get update -qq && apt-get install -y -qq --no-install-recommends postgresql-common >/dev/null && echo "create_main_cluster = false" >> /etc/postgresql-common/createcluster.conf && apt-get install -y -qq --no-install-recommends postgresql >/dev/null; }
	@mkdir -p $(@D) && touch $@

build/chromium/ready:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { echo "installing Chromium"; apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }
	@mkdir -p $(@D) && touch $@

# The broker's jars, from Maven and checked against the lock; Maven keeps them in the home folder.
build/kafka/ready: tests/kafka/pom.xml tests/kafka/jars.sha256
	@command -v java >/dev/null && command -v mvn >/dev/null || { echo "installing Java and Maven"; apt-get update -qq && apt-get install -y -qq --no-install-recommends default-jre-headless maven >/dev/null; }
	@rm -rf build/kafka/libs && mkdir -p build/kafka
	@mvn -q -B -Dstyle.color=never -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/build/kafka/libs
	@cd build/kafka/libs && sha256sum --quiet --strict -c ../../../tests/kafka/jars.sha256
	@touch $@
