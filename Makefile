# Two commands matter: `make demo` and `make test`. Each makes the environment it needs first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# demo and dev install the exact versions of the lock, checked by hash, then the project itself.
install = $(PYTHON) -m venv $(VENV) && \
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$(1).lock && \
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e . && \
	touch $@

# The tests start Python hundreds of times: its bytecode is kept, also where the environment says otherwise.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo dev check laws test test-mappers test-others test-long crash soak kills keys-kills bench audit lint lock clean
help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/demo.installed ## all four vendors' webhooks to FHIR on Kafka topics and to SQL tables, in one minute
	@$(BIN)/fhirline demo

dev: $(VENV)/demo.installed ## the same stack, left running until Ctrl-C
	@$(BIN)/fhirline dev

check: $(VENV)/dev.installed ## lint, types, golden mappings and the laws over all mappings; under a minute, no broker
	@$(MAKE) --no-print-directory --jobs 2 lint laws

test: $(VENV)/dev.installed ## the tests, on real brokers; some three minutes on two cores
	@$(MAKE) --no-print-directory --jobs 2 test-mappers test-others

# Those of the mappers compute, most others wait for brokers and processes. Apart, each process collects and loads less;
# the former take the time of the processor that the latter leave.
test-mappers: $(VENV)/dev.installed
	@nice $(BIN)/pytest tests/mappers

test-others: $(VENV)/dev.installed
	@$(BIN)/pytest -n 10 --dist loadgroup tests --ignore tests/mappers

test-long: $(VENV)/dev.installed ## what takes minutes: workers and brokers killed in small, second forms, the README's console blocks
	@$(BIN)/pytest -m long -n 4 --dist loadgroup --durations=25 --durations-min=20

bench: $(VENV)/dev.installed ## every benchmark, on Apache Kafka, into benchmarks/RESULTS.md; BENCH="--only worker" for one
	@$(BIN)/python -m benchmarks $(BENCH)

crash: $(VENV)/dev.installed ## never losing, the long form: EVENTS=20000 KILLS=20 SEED=1 ONLY=<pytest -k>
	@CRASH_FORM=long CRASH_EVENTS=$(EVENTS) CRASH_KILLS=$(KILLS) CRASH_SEED=$(SEED) \
		$(BIN)/pytest -m long tests/crash --durations=0 $(if $(ONLY),-k "$(ONLY)")

soak: $(VENV)/dev.installed ## one worker under a long load, on Linux: EVENTS=1000000 SEED=1
	@CRASH_SOAK=$(or $(EVENTS),1000000) CRASH_SEED=$(SEED) $(BIN)/pytest -m long tests/crash/test_soak.py

kills: $(VENV)/dev.installed ## brokers, workers, enrichment and gateway killed and paused on three brokers: MINUTES=25 SEED=1
	@CRASH_MINUTES=$(or $(MINUTES),25) CRASH_SEED=$(SEED) $(BIN)/pytest -m long tests/crash/test_together.py

keys-kills: $(VENV)/dev.installed ## `forget` and the commands of keys killed at random moments, and run again: KILLS=20 SEED=1
	@KEYS_KILLS=$(or $(KILLS),20) KEYS_SEED=$(or $(SEED),1) $(BIN)/pytest -m long tests/streams/operate/test_keys_killed.py \
	  tests/streams/operate/test_secrets_killed.py tests/streams/operate/test_forget_beside_a_worker.py

audit: $(VENV)/dev.installed ## known vulnerabilities of what an installation gets; AUDIT="-s osv --osv-url URL" asks another database
	@$(BIN)/pip-audit $(AUDIT) --requirement requirements/runtime.lock --require-hashes --disable-pip --strict --progress-spinner off

laws: $(VENV)/dev.installed
	@$(BIN)/pytest -n 2 --dist worksteal tests/mappers/test_golden.py tests/mappers/test_laws.py

lint: $(VENV)/dev.installed
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy

lock: $(VENV)/dev.installed ## resolve requirements/*.lock again from pyproject.toml; UPGRADE="--upgrade-package NAME" raises a pin
	@for lock in "runtime --extra tracing --extra tables --extra lakehouse" "demo --extra embedded --extra tables" "dev --extra embedded --extra tracing --extra tables --extra lakehouse --extra dev"; do set -- $$lock; name=$$1; shift; \
		$(BIN)/uv pip compile --quiet pyproject.toml requirements/build.in $$@ --universal --python-version 3.11 \
			--generate-hashes --no-emit-index-url --no-header --no-annotate $(UPGRADE) -o requirements/$$name.lock || exit 1; done

clean: ## forget the environment
	rm -rf $(VENV)

$(VENV)/demo.installed: requirements/demo.lock pyproject.toml
	@echo "Installing fhirline into $(VENV) ..."
	@$(call install,demo)
$(VENV)/dev.installed: requirements/dev.lock pyproject.toml
	@echo "Installing fhirline with its test tools into $(VENV) ..."
	@$(call install,dev)
	@touch $(VENV)/demo.installed
