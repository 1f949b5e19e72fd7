# Everything needed on a fresh Debian machine that has Rust. Missing Debian packages are named, then installed if this runs as root; without
# root the command to run is printed. Apart from them nothing outside this folder is changed (cargo keeps its downloads where it always does).

SHELL := /bin/bash
# Where rustup puts cargo, for shells that don't know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
# How many cases `make soak` gives each property test; without it proptest tries 256.
SOAK_CASES ?= 10000
# How long `make fuzz` tries each target, seconds.
FUZZ_SECONDS ?= 60
LOGFERRY := target/release/logferry

.DEFAULT_GOAL := help
.PHONY: help demo packages test test-boot test-install soak fuzz bench build deny packages-needed setup-build setup-packages setup-test setup-boot setup-install setup-bench kafka

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

demo: build ## builds logferry and shows it at work, with nothing else installed
	$(LOGFERRY) demo

build: setup-build ## target/release/logferry
	cargo build --release --locked

packages: setup-packages ## a .deb and an .rpm in target/packages; needs cargo-deb, cargo-generate-rpm and cargo-auditable
	packaging/packages.sh

# The seed of the property tests: always the same, so that a red build is red again. `make soak` draws its own and names it.
test: export PROPTEST_RNG_SEED ?= 4
test: setup-test kafka ## everything that is checked: format, lints, docs, unit, property and integration tests with a real Kafka broker
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	cargo test --locked

soak: setup-test kafka ## the property tests for much longer, with another seed each time, and long outages: 100 kills, 2 GiB, 2,000 connections, minutes
	@seed=$${PROPTEST_RNG_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; \
	echo "To run the same property tests again: make soak PROPTEST_RNG_SEED=$$seed"; \
	PROPTEST_RNG_SEED=$$seed PROPTEST_CASES=$(SOAK_CASES) cargo test --locked --lib
	LOGFERRY_SOAK=1 cargo test --locked --test it -- --test-threads 1 --nocapture spill:: full_disk:: syslog:: journald::

test-boot: setup-boot kafka ## a reboot: small systems with systemd 252 and 257 are installed below target (240 MB each) and booted in containers
	tests/boot/root.sh bookworm trixie
	cargo test --locked --test it -- --ignored --test-threads 1 journald_boot::

test-install: setup-install kafka ## the packages on Debian 12 and 13, booted in containers: installed, killed, upgraded under load, removed; the rpm in a root
	packaging/packages.sh 0.0.1 target/packages/previous
	packaging/packages.sh
	tests/boot/root.sh bookworm trixie
	cargo test --locked --test it -- --ignored --test-threads 1 install::

# No sanitizer: what is fuzzed is safe Rust, and librdkafka's build does not link with one.
fuzz: setup-build ## any bytes into whatever reads bytes from disk; needs nightly Rust and cargo-fuzz
	@cargo +nightly --version >/dev/null 2>&1 || { echo "nightly Rust is missing; with rustup: rustup toolchain install nightly --profile minimal" >&2; exit 1; }
	@cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing; install it with: cargo install --locked cargo-fuzz" >&2; exit 1; }
	@for target in $$(cargo +nightly fuzz list); do \
		echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
		cargo +nightly fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

bench: setup-bench kafka ## logferry, the bare librdkafka loop and rsyslog, side by side; an outage of Kafka; syslog; the journal; rules; writes docs/performance.md
	cargo bench --locked --bench throughput -- --write
	cargo bench --locked --bench spill -- --write
	cargo bench --locked --bench syslog -- --write
	cargo bench --locked --bench journal -- --write
	cargo bench --locked --bench rules

deny: ## licences, advisories and sources of all dependencies
	@cargo deny --version >/dev/null 2>&1 || { echo "cargo-deny is missing; install it with: cargo install --locked cargo-deny" >&2; exit 1; }
	cargo deny --locked check

packages-needed: ## names the Debian packages that are missing, installs nothing
	@for what in build packages test boot install bench; do packaging/setup.sh $$what --only-name || true; done

setup-build setup-packages setup-test setup-boot setup-install setup-bench: setup-%:
	@packaging/setup.sh $*

kafka:
	@tests/kafka/fetch.sh
