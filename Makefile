# On a fresh machine with Python >= 3.11 and make: `make run` serves, `make test` tests.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
HAPI_PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check exports bench lint hapi cql openapi package lock clean

run: $(VENV)/run.stamp
	$(BIN)/maa-assess serve --host $(HOST) --port $(PORT)

test: lint
	$(BIN)/python -m pytest

# The quick one, under a minute: what reads and judges, without servers, browsers or other tools.
QUICK := house asking cases response_cases rulings reading units codes doubts chart fixtures openapi
check: lint
	$(BIN)/python -m pytest -x $(QUICK:%=tests/test_%.py)

exports: $(VENV)/exports.stamp # what `maa-assess screen` and `response --out` need beside

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Ten minutes; docs/performance.md says what it measures. Node.js is used where it is installed.
bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks.run

# A real FHIR server on loopback, to try the service against, with our FHIR package; needs a JDK 17
# or newer, and Maven.
hapi: build/hapi.classpath package
	exec java -Xmx1g -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$$(cat $<)" \
		tests/hapi/HapiServer.java $(HAPI_PORT) build/package.tgz

build/hapi.classpath: tests/hapi/pom.xml
	mvn --quiet --batch-mode --strict-checksums --file $< -Dmaven.repo.local=$(CURDIR)/build/m2 \
		dependency:build-classpath -Dmdep.outputFile=$(CURDIR)/$@

# Writes the papers' CQL and its ELM anew; needs Node.js and npm.
cql: $(VENV)/test.stamp
	$(BIN)/python -m tests.test_cql --rewrite

openapi: $(VENV)/run.stamp
	mkdir -p openapi
	$(BIN)/maa-assess openapi > $(VENV)/openapi.json
	mv $(VENV)/openapi.json openapi/openapi.json # only whole: a failure leaves the old one

# What FHIR servers, validators and registries load.
package: $(VENV)/run.stamp
	mkdir -p build
	$(BIN)/maa-assess package --out build/package.tgz

$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "maa-assess needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/run.stamp: $(VENV)/python.stamp requirements.lock pyproject.toml hatch_build.py
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/exports.stamp: $(VENV)/run.stamp requirements-exports.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-exports.lock
	touch $@

$(VENV)/test.stamp: $(VENV)/run.stamp requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

$(VENV)/bench.stamp: $(VENV)/run.stamp requirements-bench.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	touch $@

# Needs uv; run after a change of the dependencies in pyproject.toml.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header
lock:
	$(LOCK) --upgrade pyproject.toml -o requirements.lock
	$(LOCK) --upgrade --extra exports -c requirements.lock pyproject.toml -o requirements-exports.lock
	$(LOCK) --upgrade --extra dev -c requirements-exports.lock pyproject.toml -o requirements-dev.lock
	$(LOCK) --upgrade --extra bench -c requirements-dev.lock pyproject.toml -o requirements-bench.lock
	$(LOCK) --upgrade --extra otel --extra png --extra redis -c requirements-dev.lock pyproject.toml -o requirements-service.lock
	$(LOCK) --upgrade --group image -c requirements-dev.lock -o requirements-image.lock
	echo smart-fetch | $(LOCK) --upgrade - -o tests/clients/smart-fetch.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
