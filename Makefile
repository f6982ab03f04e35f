# Touchstone. `make` alone tells what there is; every target installs what it needs and is not there yet.

# One selection for every cargo command: another one would build the same crates a second time with other features.
SELECTION := --workspace --features cli/danger-software-key,cli/usb

# The pages are for those who work on the house: private items are shown, so links to them lead somewhere.
DOC_LINTS := --deny warnings --allow rustdoc::private_intra_doc_links

.DEFAULT_GOAL := help
.PHONY: help demo build release profile docker test suites lint arrows fuzz bench loadtest

help: ## Tell the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## Play Jerry and Olga's story on a real PostgreSQL, a real MariaDB and a real sshd; KEEP=1 leaves it running
	@scripts/install.sh cc postgresql mariadb openssh
	@cargo build --quiet $(SELECTION)
	@KEEP=$(KEEP) target/debug/demo

build: ## Build everything, tests included
	@scripts/install.sh cc
	cargo build $(SELECTION) --all-targets

# What people use is what is measured: one selection for both. It is built without loadtest, whose crates would give ours other
# features.
SHIPPED := --release -p authd -p sidecar -p cli --features cli/usb

release: ## Build authd, sidecar, tsh and tctl for use, into target/release; takes a quarter of an hour
	@scripts/install.sh cc
	RUSTFLAGS="$$RUSTFLAGS $$(scripts/profile.sh flags)" cargo build --locked $(SHIPPED) --bins

profile: ## Take anew the profile by which releases are built (after a change of the hot path, or of the compiler); half an hour
	@scripts/install.sh cc postgresql mariadb
	@SHIPPED='$(SHIPPED)' scripts/profile.sh record

# The version of every crate.
VERSION := $(shell awk -F '"' '/^version = / { print $$2; exit }' Cargo.toml)
# Whichever is there; ENGINE=podman takes one of two.
ENGINE ?= $(notdir $(firstword $(shell command -v docker podman)))

docker: ## Build the images touchstone-sidecar and touchstone-authd, with docker or podman
	@test -n "$(ENGINE)" || { echo "make docker: neither docker nor podman is installed" >&2; exit 1; }
	$(ENGINE) build --file deploy/Containerfile --target sidecar --tag touchstone-sidecar:$(VERSION) .
	$(ENGINE) build --file deploy/Containerfile --target authd --tag touchstone-authd:$(VERSION) .

test: build ## Run every test: units, documentation, and whole stories with the built programs
	@scripts/install.sh cc postgresql mariadb openssh ssh-clients sysbench browser clients nextest
	cargo test $(SELECTION) --doc --quiet
	cargo nextest run $(SELECTION)

suites: build ## Run what is too heavy for every day: a real MySQL 9 (450 MB from Debian's unstable suite)
	@scripts/install.sh cc mariadb nextest
	@scripts/mysql9.sh
	cargo nextest run $(SELECTION) --run-ignored only --filterset 'package(protocols) and test(/mysql_9/)'

lint: arrows ## Formatting, clippy, documentation, dependency rules
	@scripts/install.sh cc
	cargo fmt --all --check
	cargo clippy $(SELECTION),protocols/bench --all-targets -- --deny warnings
	RUSTDOCFLAGS='$(DOC_LINTS)' cargo doc $(SELECTION) --no-deps --document-private-items

arrows: ## Check that no crate depends on what it must not know
	@scripts/check-arrows.sh

bench: ## Benches of the hot path, compared with the recorded ratios; RECORD=1 records them anew
	@scripts/install.sh cc
	cargo bench -p auth --features auth/testing --bench authorize
	cargo bench -p protocols --features protocols/bench --bench relay
	cargo run --quiet --release -p loadtest -- benches --baseline docs/benches.json $(if $(RECORD),--record)

# For example: make loadtest ARGS='--one-core --scenarios simple --protocols postgres --html report.html'
loadtest: release ## What the sidecar costs against no sidecar and against peers (haproxy, nginx where installed); ARGS for loadtest run
	@scripts/install.sh cc postgresql mariadb openssh sysbench
	cargo build --release -p loadtest --bins
	target/release/loadtest run $(ARGS)

# Seconds for each target.
FUZZ_SECONDS ?= 60

fuzz: ## Fuzz what clients and upstreams send, FUZZ_SECONDS each (make test replays the seeds and mutates them a little)
	@scripts/install.sh cc cargo-fuzz
	@for target in startup client upstream mysql_login mysql_client mysql_upstream mysql_compressed openssh_certificate ssh_login ssh_session; do \
	  (cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=200000) || exit 1; \
	done
