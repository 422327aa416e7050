# What a person types. `make help` lists the targets; `.ci/run` is `make check` with a kept target folder.
#
# Every build names the whole workspace: a build of fewer packages resolves fewer features, and one
# feature more or less in a dependency of Polars rebuilds all of Polars (minutes, not seconds).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
BIN := $(CARGO_TARGET_DIR)/debug
# The programs, with one test beside them: what tests depend on gives a few dependencies more features, and without it Polars is
# built once for `make demo` and once more for `make test`.
BUILD_BINS := cargo build --workspace --test tidy
RELEASE_BIN := $(CARGO_TARGET_DIR)/release

# Arguments of `make demo`, as in `make demo ARGS="--agents 6 --for 60s"`.
ARGS ?=
# How many seeds `make sim` runs.
SEEDS ?= 10000

NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)
BROWSER_TEST := $(wildcard tests/e2e/browser.sh)

WEB := dashboards
WEB_DEPS := $(WEB)/node_modules/.package-lock.json
WEB_DIST := $(WEB)/dist/index.html
# The generated types are left out: `npm test` writes them again, and that must not force a build.
WEB_SOURCES := $(shell find $(WEB) \( -name node_modules -o -name dist -o -name tests -o -name e2e \) -prune \
	-o -type f -not -path '$(WEB)/src/api/types.ts' -print 2>/dev/null)

# Notices go to stderr, because the stdout of `make demo ARGS=--json` is the demo's alone.
say = @printf '==> %s\n' "$(1)" >&2

.PHONY: help demo test check lint build web agent bench scorecard sim fuzz chaos setup tools browser mosquitto prometheus influx converters clean

help: ## Lists the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

demo: tools $(WEB_DIST) ## Hub and agents on loopback, with an outage and the ledger; ARGS="--agents 4 --for 60s --json"
	$(call say,Demo: starts a hub and some agents on loopback; cuts one off and shows every device's ledger. Ctrl-C ends it.)
	@[ -x "$(BIN)/cloud-hub" ] || echo '==> The first build takes about 14 minutes on two cores, most of it Polars; later ones take seconds.' >&2
	@$(BUILD_BINS) --bins
	@"$(BIN)/cloud-hub" demo $(ARGS)

# Tests note here what of others they lack and are left out for; where CI=true they fail instead.
export LEFT_OUT := $(CARGO_TARGET_DIR)/left-out

test: tools mosquitto prometheus influx converters $(if $(BROWSER_TEST),browser) build ## All tests: Rust, web app, browser
	@rm -f "$(LEFT_OUT)"
ifeq ($(NEXTEST),yes)
	$(call say,Rust tests)
	cargo nextest run --workspace --no-fail-fast
	$(call say,Documentation tests)
	cargo test --workspace --doc --quiet
else
	$(call say,Rust tests; cargo-nextest would run them faster)
	cargo test --workspace --no-fail-fast
endif
	$(call say,Web app tests)
	cd $(WEB) && npm test
ifneq ($(BROWSER_TEST),)
	$(call say,Browser test)
	$(BROWSER_TEST)
endif
	@if [ -s "$(LEFT_OUT)" ]; then \
		echo '==> All tests passed that could be run; left out for what is missing:' >&2; \
		sort -u "$(LEFT_OUT)" | sed 's/^/    /' >&2; \
	else \
		echo '==> All tests passed' >&2; \
	fi

check: lint ## What CI runs: format, lints, all tests
	@$(MAKE) --no-print-directory test

# The second one checks few crates again: all others of the workspace are named so that no dependency has other features. The
# field tests need the simulator.
lint: tools $(WEB_DIST)
	$(call say,Format)
	cargo fmt --all --check
	$(call say,Lints)
	cargo clippy --workspace --all-targets -- -D warnings
	$(call say,Lints of the agent without its OPC UA simulator: as it is installed)
	cargo clippy --workspace --exclude tideline-field --no-default-features --features tideline-fuzz/agent,tideline-fuzz/hub \
		--lib --bins --test tidy -- -D warnings

build: tools $(WEB_DIST)
	$(call say,Build; the first takes about 14 minutes on two cores; most of it is Polars)
	cargo build --workspace --all-targets

web: $(WEB_DIST) ## Builds the web app when its sources are newer than what was built

$(WEB_DIST): $(WEB_DEPS) $(WEB_SOURCES)
	$(call say,Web app)
	@cd $(WEB) && npm run build >&2
	@touch $@

# `npm ci` refuses a lock file without the optional packages of other platforms (rollup has 25), and not
# every registry carries those. `npm install --no-save` takes the same locked versions, checks the same
# hashes and leaves the lock file alone.
$(WEB_DEPS): $(WEB)/package.json $(WEB)/package-lock.json | tools
	$(call say,Web app's dependencies)
	@cd $(WEB) && { npm ci --no-audit --no-fund >/dev/null 2>&1 || npm install --no-save --no-audit --no-fund >&2; }
	@touch $@

# Alone, so that it has just the features that it needs, and without the server with which `profile simulate` serves OPC UA.
# TRIPLE=aarch64-unknown-linux-gnu builds for another machine. The profile links all of it as one, see Cargo.toml.
TRIPLE ?=
BUILD_AGENT = cargo build --profile agent -p edge-agent --no-default-features $(if $(TRIPLE),--target $(TRIPLE))
AGENT_BIN := $(CARGO_TARGET_DIR)/$(if $(TRIPLE),$(TRIPLE)/)agent
agent: tools ## The agent as it is installed on devices, in release; it needs no Polars
	$(call say,Release build of the agent alone, linked as one; it takes about ten minutes on two cores)
	$(BUILD_AGENT)
	@ls -l "$(AGENT_BIN)/edge-agent" >&2

# PART=edge, hub, path, links, fleet, twin or queries runs one part of the benchmarks only. `field` (sources; RUNS=3, SECONDS=30)
# and `pipeline` (three stages on one core) are by themselves: they need no Polars and are not among the others; nor are `web`
# (first view, frames and live panels in Chromium) and `memory` (an hour of live view; TIDELINE_MINUTES=60). Of `queries`
# READINGS=10, COUNT=200 and others (tests/bench/src/queries.rs) say how much is done, and TRIAL=1 does it in small in a debug
# build.
PART ?=
bench: $(if $(filter field pipeline,$(PART)),tools $(if $(filter field,$(PART)),mosquitto),$(WEB_DIST) $(if $(filter web memory,$(PART)),browser,influx)) ## Every figure that the project names, in release; PART=edge
ifeq ($(PART),field)
	$(call say,Release build of the agent alone, linked as one; it needs no Polars)
	cargo build --release -p tideline-field --bins
	$(BUILD_AGENT)
	@cp -f "$(RELEASE_BIN)/tideline-field-bench" "$(AGENT_BIN)/"
	"$(AGENT_BIN)/tideline-field-bench"
else ifeq ($(PART),pipeline)
	$(call say,Release build of the pipelines alone; it needs no Polars)
	cargo run --release -p tideline-pipeline --example throughput
else ifneq ($(filter web memory,$(PART)),)
	$(call say,Release build; the first takes about 20 minutes on two cores; most of it is Polars)
	cargo build --release --workspace --bins
	cd $(WEB) && TIDELINE_BIN="$(RELEASE_BIN)" node e2e/$(if $(filter web,$(PART)),measure,memory).mjs
else ifeq ($(TRIAL),)
	$(call say,Release build; the first takes about 20 minutes on two cores; most of it is Polars)
	cargo build --release --workspace --bins
	"$(RELEASE_BIN)/tideline-bench" $(PART)
else
	$(BUILD_BINS) --bins
	TRIAL=$(TRIAL) "$(BIN)/tideline-bench" $(PART)
endif

# How many kills; TRIAL=1 does all of it in small in a debug build: to see that it works, and for no figure.
KILLS ?=
TRIAL ?=
scorecard: tools mosquitto $(WEB_DIST) ## Six figures beside mosquitto's bridge doing the same work, in release; KILLS=1000
ifeq ($(TRIAL),)
	$(call say,Release build; the first takes about 20 minutes on two cores; most of it is Polars)
	cargo build --release --workspace --bins
	@KILLS=$(KILLS) "$(RELEASE_BIN)/tideline-bench" scorecard
else
	$(BUILD_BINS) --bins
	@KILLS=$(KILLS) TRIAL=$(TRIAL) "$(BIN)/tideline-bench" scorecard
endif

# SEED=7 runs that one seed; FROM=100000 begins there.
SEED ?=
FROM ?=
sim: tools ## Seeded simulation with its canaries, on all cores; SEEDS=100000, SEED=7
	@$(BUILD_BINS) --bin tideline-sim
	@SEEDS=$(SEEDS) SEED=$(SEED) FROM=$(FROM) "$(BIN)/tideline-sim"

# Rounds of kills, seconds of a stop, and which scenarios: ONLY="kills lines". SEED=7 draws the same again.
ROUNDS ?= 200
STOP ?= 30
ONLY ?=
chaos: tools $(WEB_DIST) ## Kills, stops, bad lines, full disks; ROUNDS=200 ONLY=kills SEED=7
	$(BUILD_BINS) --bins
	@ROUNDS=$(ROUNDS) STOP=$(STOP) SEED=$(SEED) "$(BIN)/tideline-chaos" $(ONLY)

# Seconds of each target, and which: TARGET=spool. FEATURES=hub has the hub's configuration fuzzed too;
# it brings Polars, whose build takes long. What breaks something is written to tests/fuzz/crashers.
TIME ?= 60
TARGET ?= wire block session config formats registers messages profile coap sparkplug opcua push rows cbor lines pipeline streams twin_message spool
FEATURES ?=
# Those of the agent's own crate: the others are built without it, in a fraction of the time.
OF_AGENT := config coap sparkplug opcua push rows cbor lines
FUZZ := $(CARGO_TARGET_DIR)/fuzz
fuzz: tools $(WEB_DIST) ## Fuzz targets under libFuzzer, on nightly Rust; TIME=60 TARGET=spool
	@rustup toolchain list | grep -q '^nightly' || { \
		echo '==> Installs nightly Rust: rustup toolchain install nightly --profile minimal' >&2; \
		rustup toolchain install nightly --profile minimal; }
	@cargo fuzz --version >/dev/null 2>&1 || { \
		echo '==> Installs cargo-fuzz: cargo install cargo-fuzz --locked' >&2; cargo install cargo-fuzz --locked; }
	$(BUILD_BINS) --bin tideline-fuzz
	"$(BIN)/tideline-fuzz" seeds "$(FUZZ)/seeds"
	@for target in $(TARGET); do \
		mkdir -p "$(FUZZ)/found/$$target" "tests/fuzz/corpus/$$target" "tests/fuzz/crashers/$$target"; \
		case " $(OF_AGENT) " in *" $$target "*) features="agent $(FEATURES)" ;; *) features="$(FEATURES)" ;; esac; \
		cargo +nightly fuzz run --fuzz-dir tests/fuzz/fuzz --target-dir "$(FUZZ)/build" \
			--no-default-features --features "$$features" \
			"$$target" "$(FUZZ)/found/$$target" "$(FUZZ)/seeds/$$target" "tests/fuzz/corpus/$$target" \
			-- -max_total_time=$(TIME) -rss_limit_mb=2048 -malloc_limit_mb=512 -timeout=20 -print_final_stats=1 \
			-artifact_prefix="tests/fuzz/crashers/$$target/"; \
	done

setup: tools mosquitto prometheus influx converters $(WEB_DEPS) browser ## Installs what a fresh machine lacks, or says how

tools:
	@lacks() { printf '%s\n' "$$1" >&2; exit 1; }; \
	command -v cargo >/dev/null || lacks 'Rust is missing: see https://rustup.rs'; \
	command -v cc >/dev/null || lacks 'a C compiler is missing: sudo apt-get install gcc'; \
	command -v npm >/dev/null || lacks 'Node.js with npm is missing: version 20.19 or later from https://nodejs.org'; \
	node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' \
		|| lacks "Node.js $$(node --version) is too old; 20.19 or later is needed: https://nodejs.org"

mosquitto:
	@if PATH="$$PATH:/usr/sbin" command -v mosquitto >/dev/null && command -v mosquitto_pub >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo 'The MQTT tests need mosquitto: sudo apt-get install mosquitto mosquitto-clients' >&2; \
		exit 1; \
	fi; \
	echo '==> Installs mosquitto for the MQTT tests' >&2; \
	apt-get update -qq >&2; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto mosquitto-clients >&2

prometheus:
	@if command -v prometheus >/dev/null && command -v promtool >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo 'The Prometheus tests need prometheus: sudo apt-get install prometheus' >&2; \
		exit 1; \
	fi; \
	echo '==> Installs prometheus for the tests with it' >&2; \
	apt-get update -qq >&2; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >&2

# Libraries of others that tests and benchmarks are run against: the clients of InfluxDB, Prometheus, DuckDB, Modbus,
# Sparkplug, CoAP, OPC UA and SunSpec, in a folder of their own. Where they cannot be had, the tests with them are left out and say
# so; where CI=true that is a failure.
INFLUX := $(CARGO_TARGET_DIR)/clients
PEERS := aiocoap, asyncua, cbor2, duckdb, influxdb_client, prometheus_api_client, pymodbus, pysparkplug, serial, sunspec2
influx:
	@lacks() { echo "==> The tests with Python's clients ($(PEERS)) are left out: $$1" >&2; [ "$${CI:-}" != true ]; exit; }; \
	if "$(INFLUX)/bin/python" -c 'import $(PEERS)' 2>/dev/null; then exit 0; fi; \
	if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then \
		lacks 'python3 and its venv are missing: sudo apt-get install python3-venv'; \
	fi; \
	echo "==> Installs Python's clients for the tests with them: $(PEERS)" >&2; \
	{ python3 -m venv "$(INFLUX)" && "$(INFLUX)/bin/pip" install -q --disable-pip-version-check \
		influxdb-client==1.50.0 prometheus-api-client==0.7.2 duckdb==2.0.0 aiocoap==0.4.17 asyncua==2.1.0 cbor2==6.3.0 pysparkplug==0.6.1 pysunspec2==1.3.7 \
		pymodbus==3.16.1 pyserial==3.5; } >&2 || { rm -rf "$(INFLUX)"; lacks 'they cannot be had from PyPI'; }

# The converters of Zigbee2MQTT, 42 MB, in a folder of their own, at the versions and hashes of the lock file.
CONVERTERS := $(CARGO_TARGET_DIR)/converters
converters: tools
	@if cmp -s tests/field/converters/package-lock.json "$(CONVERTERS)/installed"; then exit 0; fi; \
	echo '==> Installs zigbee-herdsman-converters for the test with it' >&2; \
	mkdir -p "$(CONVERTERS)" && cp tests/field/converters/{package.json,package-lock.json,.npmrc} "$(CONVERTERS)" && \
	{ cd "$(CONVERTERS)" && npm ci >/dev/null && cp package-lock.json installed; } || { \
		rm -rf "$(CONVERTERS)"; \
		echo '==> zigbee-herdsman-converters cannot be had from npm; the test with it is left out' >&2; \
		[ "$${CI:-}" != true ]; \
	}

# CHROMIUM=/path/to/browser names one that is not on the PATH.
browser:
	@for name in "$${CHROMIUM:-}" chromium chromium-browser google-chrome; do \
		if [ -n "$$name" ] && command -v "$$name" >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo 'The browser test needs Chromium: sudo apt-get install chromium, or CHROMIUM=/path/to/browser' >&2; \
		exit 1; \
	fi; \
	echo '==> Installs Chromium for the browser test' >&2; \
	apt-get update -qq >&2; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >&2

clean: ## Removes all that was built
	cargo clean
	rm -rf $(WEB)/dist $(WEB)/node_modules
