# The same targets in the documents and in CI. `make up` and `make test` work on a fresh machine.

TARGET   := x86_64-unknown-linux-gnu
SERVICES := database-server ai-server web-server
CLIENT   := services/web/client
PSPD     := target/release/pspd

# The same packages and flags each time, so that what the programs share is compiled once. An explicit target keeps the flags
# away from build scripts; make's own would have cargo wait for make's jobs. What tokio's is for, says `serving::process`.
CARGO_BUILD := env -u MAKEFLAGS RUSTFLAGS="--cfg tokio_unstable" \
	cargo build --release --locked --target $(TARGET) -p pspd $(SERVICES:%=-p %)
BUILT       := target/$(TARGET)/release

.PHONY: up down setup build program services guest client image check lint test e2e bench clean

up: setup
	@$(MAKE) --no-print-directory -j2 services guest
	$(PSPD) up
	@echo "The web client is on http://127.0.0.1:8080"

down: build
	$(PSPD) down

setup:
	./scripts/setup

build: setup
	@$(MAKE) --no-print-directory -j2 services

program:
	$(CARGO_BUILD) --bin pspd
	@mkdir -p $(dir $(PSPD))
	@cp -u $(BUILT)/pspd $(PSPD)

# Static, so that they run in any guest.
services: program client
	RUSTC_WORKSPACE_WRAPPER=$(CURDIR)/scripts/rustc-static $(CARGO_BUILD) $(SERVICES:%=--bin %)
	@mkdir -p target/services
	@for service in $(SERVICES); do cp -u $(BUILT)/$$service target/services/; done

# What `up` boots, made while the services are compiled: any program stands for them until then.
guest: program
	@sed -e 's|binary: .*|binary: /bin/sh|' -e 's|recipe: |&$(CURDIR)/|' topology.yaml | \
		TERM=dumb $(PSPD) --file /dev/stdin image build >/dev/null
	@TERM=dumb $(PSPD) image build coreboot >/dev/null

client: $(CLIENT)/dist/client/browser/index.html

# `npm ci` wants the packages of every platform in the lock file, those too that no registry serves.
$(CLIENT)/dist/client/browser/index.html: $(CLIENT)/package-lock.json $(wildcard proto/*.proto) $(shell find $(CLIENT)/src $(CLIENT)/public -type f -not -path '*/stubs/*' 2>/dev/null)
	cd $(CLIENT) && npm install --no-save --no-audit --no-fund --loglevel=error && npm run build
	@touch $@

image: setup program
	$(PSPD) image build

check: lint
	cargo test --workspace --locked --lib --bins -q

lint: setup client
	cargo fmt --all --check
	@if cargo clippy --version >/dev/null 2>&1; then \
		cargo clippy --workspace --all-targets --locked -- -D warnings; \
	else \
		echo "no lints: this distribution's Rust comes without clippy"; \
	fi
	scripts/import-circles --self-test
	scripts/import-circles
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny --offline check licenses bans sources; \
	else \
		echo "dependency rules not checked: cargo-deny is not installed"; \
	fi
	cd $(CLIENT) && npm run --silent check && npm test --silent

# All of `check`, whose unit tests are among the workspace's tests.
test:
	./scripts/setup --test
	@$(MAKE) --no-print-directory lint build
	cargo test --workspace --locked -q
	@$(MAKE) --no-print-directory e2e

e2e: build
	tests/run

bench:
	./scripts/setup --bench
	$(MAKE) build
	tests/bench

clean:
	cargo clean
