# `make` lists the targets. Everything is installed into .venv from lock files with hashes; state lives in SLUICE_HOME (./var).
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# One more than cores: some tests wait for processes, deadlines and pages.
WORKERS ?= $(shell expr $(CORES) + 1)
SEED ?= 1
ARGS ?=
DEMO ?=
# focus-validator pins what the product must not have (pandas and, at 1.0.0, multimethod<2): an environment of its own.
FOCUS_ENV ?= $(or $(SLUICE_HOME),var)/focus-validator
export PYTHON
# Containers often say that Python shall not keep what it compiled. Then each of the hundred processes of a test run, and each start of
# `make up`, would compile Django anew: two to six seconds of a core every time. It is kept after all, but apart from the sources.
ifneq ($(PYTHONDONTWRITEBYTECODE),)
unexport PYTHONDONTWRITEBYTECODE
PYTHONPYCACHEPREFIX ?= $(CURDIR)/.python_cache
export PYTHONPYCACHEPREFIX
endif

# Settings of a production, with secrets made up on the spot, for the checks that judge them.
PRODUCTION = SLUICE_MODE=production SLUICE_HOME=/nonexistent SLUICE_PUBLIC_URL=https://sluice.example \
	SLUICE_SECRET_KEY="$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(50))')" \
	SLUICE_MASTER_KEY="$$($(PY) -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())')" \
	SLUICE_PEPPER="$$($(PY) -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())')" \
	DATABASE_URL=postgresql://sluice@127.0.0.1:5432/sluice REDIS_URL=redis://127.0.0.1:6379/0
OUR_APPS = config gateway guardrails billing workspaces

.PHONY: help up demo pictures env env-dev test check format lock bench bench-rivals chaos e2e focus clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## start everything on this machine: PostgreSQL, Redis, web and gateway, worker, simulator, inbox (Ctrl-C stops it)
	@bin/env up
	@exec $(PY) -m config.stack up --end-with-parent

demo: ## the same with a demo workspace in it: three months of calls of a made-up product (prints the address and the login)
	@bin/env up
	@exec $(PY) -m config.stack up --end-with-parent --demo

env: ## make .venv with what `make up` needs
	@bin/env up

env-dev: ## make .venv with what the tests and checks need as well
	@bin/env dev

test: env-dev ## run all tests: in parallel, in random order, on real servers of their own (ARGS="-k name")
	@bin/browser
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not long" --durations 10 --durations-min 1 $(ARGS)

check: env-dev ## lint, format, types, import contracts, deployment settings, migrations, templates
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	SLUICE_MODE=development $(PY) -m mypy
	.venv/bin/lint-imports --no-logo
	$(PRODUCTION) $(PY) manage.py check --deploy --fail-level WARNING
	SLUICE_MODE=development $(PY) bin/migrations
	.venv/bin/djlint --lint --quiet templates $(OUR_APPS)
	@$(PY) -m config.env | diff -u .env.example - || { echo "Write it anew: $(PY) -m config.env > .env.example"; exit 1; }

format: env-dev ## rewrite the code as `make check` wants it
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

lock: ## resolve requirements/*.in anew into the lock files (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv"; exit 1; }
	$(call compile,base,)
	$(call compile,up,-c requirements/base.lock)
	$(call compile,dev,-c requirements/up.lock)
	$(call compile,focus,)
compile = UV_PYTHON_DOWNLOADS=never uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-header requirements/$(1).in -o requirements/$(1).lock $(2)

bench: env-dev ## calls a second and added latency of the gateway on one core, beside nginx when it is installed
	@$(PY) -m tests.bench $(ARGS)

# Versions of the day, in environments of their own; their install scripts do not run.
RIVALS = $(or $(SLUICE_HOME),var)/rivals
bench-rivals: ## install LiteLLM's proxy and Portkey's gateway beside the state of `make up`, for `make bench` (Portkey needs node and npm)
	@[ -d $(RIVALS)/litellm ] || $(PYTHON) -m venv $(RIVALS)/litellm || uv venv --quiet --clear --python $(PYTHON) $(RIVALS)/litellm
	@# httptools, prisma and OpenTelemetry's SDK: not of [proxy], but of its makers' image; without the last two it tries to import them with every call
	@set -- --quiet --only-binary :all: 'litellm[proxy]==1.106.2' httptools prisma opentelemetry-sdk opentelemetry-exporter-otlp; \
	if [ -x $(RIVALS)/litellm/bin/pip ]; then $(RIVALS)/litellm/bin/pip install "$$@"; else uv pip install --python $(RIVALS)/litellm/bin/python "$$@"; fi
	@PYTHONPYCACHEPREFIX= $(RIVALS)/litellm/bin/python -m compileall -q -j 2 $(RIVALS)/litellm/lib || true
	@command -v npm >/dev/null || { echo "no npm: Portkey's gateway is left out"; exit 0; }; \
	npm install --silent --no-audit --no-fund --omit=dev --ignore-scripts --prefix $(RIVALS)/portkey @portkey-ai/gateway@1.15.2

chaos: env-dev ## kill, pause, starve and corrupt for SEED=1, then audit the books
	@SLUICE_TEST_ALL=1 $(PY) -m pytest -m "long or tries or hypothesis"
	@$(PY) -m tests.chaos --seed $(SEED) $(ARGS)

e2e: env-dev ## only the browser tests
	@bin/browser
	@$(PY) -m pytest tests/e2e $(ARGS)

focus: env-dev ## validate a real FOCUS export with the FinOps Foundation's focus-validator (416 MB once, into SLUICE_HOME)
	@VENV=$(FOCUS_ENV) bin/env focus
	@SLUICE_TEST_FOCUS_VALIDATOR=$(abspath $(FOCUS_ENV))/bin/focus-validator $(PY) -m pytest tests/billing/ledger/test_focus.py $(ARGS)

pictures: env-dev ## walk the demo in a browser and keep its pictures in docs/pictures (DEMO=./var: of the `make demo` that is up)
	@bin/browser
	@SLUICE_TEST_PICTURES=1 SLUICE_TEST_PICTURES_OF=$(DEMO) $(PY) -m pytest tests/e2e --timeout 1800 $(ARGS)

clean: ## remove caches and .venv; SLUICE_HOME (./var) stays
	rm -rf .venv .python_cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis staticfiles
	find $(OUR_APPS) tests -name __pycache__ -type d -prune -exec rm -rf {} +
