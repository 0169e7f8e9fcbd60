# The same targets in the documents and in CI. `make up` and `make test` work on a fresh machine.

GUEST   := x86_64-unknown-linux-gnu
SERVICES := database-server ai-server web-server
CLIENT  := services/web/client
POLYGLOT := examples/polyglot
PSPD    := target/release/pspd

# The properties in the tests draw the same cases in each run, and others in `make soak`.
export PROPTEST_RNG_SEED ?= 2026
SEEDS ?= 50

# Where `make install` puts files; DESTDIR is the root of a package.
PREFIX  ?= /usr/local
ZSH     ?= $(PREFIX)/share/zsh/site-functions
STAGE   := target/package
TRIED   := target/examples
# What is not part of the examples: what is built of them, and the code beside the protocols.
PRODUCTS := node_modules dist generated vendor __pycache__ .build web-server/web-server proto/Cargo.toml proto/build.rs proto/src

.PHONY: install deb up down setup build program services guest client image check lint test test-client test-images unit integration soak e2e bench clean

# The image is built while the services are compiled: neither fills two cores alone.
up: setup program
	@$(MAKE) --no-print-directory -j2 services guest
	$(PSPD) up
	@echo "The web client is on http://127.0.0.1:8080"

install: build
	install -D -m 755 $(PSPD) $(DESTDIR)$(PREFIX)/bin/pspd
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/pspd scripts/prepare-host
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/lib/pspd/services $(SERVICES:%=target/services/%)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/pspd docs/topology.schema.json docs/experiment.schema.json
	install -d $(DESTDIR)$(PREFIX)/share/doc/pspd $(DESTDIR)$(PREFIX)/share/man/man1
	tar -C . -ch $(PRODUCTS:%=--exclude='%') examples | tar -C $(DESTDIR)$(PREFIX)/share/doc/pspd -x --no-same-owner
	install -m 644 README.md CHANGELOG.md $(DESTDIR)$(PREFIX)/share/doc/pspd/
	$(PSPD) man $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(ZSH) $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(PSPD) completions bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/pspd
	$(PSPD) completions zsh >$(DESTDIR)$(ZSH)/_pspd
	$(PSPD) completions fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pspd.fish

# target/pspd.deb, by cargo-deb, of the files that `make install` installs. The services have much in common, further apart
# than xz looks by default.
deb: build
	./scripts/setup --deb
	rm -rf $(STAGE)
	@$(MAKE) --no-print-directory install DESTDIR=$(STAGE) PREFIX=/usr ZSH=/usr/share/zsh/vendor-completions
	PATH="$$PATH:$$HOME/.cargo/bin:target/tools/bin" cargo deb -p pspd --quiet --no-build --no-strip --fast -o target/pspd.deb
	dpkg-deb --raw-extract target/pspd.deb $(STAGE)/deb
	dpkg-deb --root-owner-group -Zxz -z9 --build $(STAGE)/deb target/pspd.deb

down: build
	$(PSPD) down

setup:
	./scripts/setup

build: setup services program

program:
	cargo build --release --locked -p pspd

# Static, so that they run in any guest; an explicit target keeps the flags away from build scripts. For `--cfg tokio_unstable`, see
# `serving::process`. The folder and the flags are those of the programs that pspd carries, which have much in common.
services: client
	RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs --cfg tokio_unstable" \
		cargo build --profile guest --locked --target $(GUEST) --target-dir target/guests $(SERVICES:%=-p %)
	@mkdir -p target/services
	@for service in $(SERVICES); do cp -u target/guests/$(GUEST)/guest/$$service target/services/; done

# What `up` boots.
guest: program
	@TERM=dumb $(PSPD) image build >/dev/null
	@TERM=dumb $(PSPD) image build coreboot >/dev/null

client: $(CLIENT)/dist/client/browser/index.html

# `npm ci` wants the packages of every platform in the lock file, those too that no registry serves.
$(CLIENT)/dist/client/browser/index.html: $(CLIENT)/package-lock.json $(wildcard proto/*.proto) $(shell find $(CLIENT)/src $(CLIENT)/public -type f -not -path '*/stubs/*' 2>/dev/null)
	cd $(CLIENT) && npm install --no-save --no-audit --no-fund --loglevel=error && npm run build
	@touch $@

image: setup program
	$(PSPD) image build

check: lint unit

lint: setup client
	cargo fmt --all --check
	scripts/cargo-test -q --lib --bins --tests --no-run
	@cargo clippy --version >/dev/null 2>&1 || echo "no lints: this distribution's Rust comes without clippy"
	scripts/import-circles --self-test
	scripts/import-circles
	@if cargo deny --version >/dev/null 2>&1; then \
		cargo deny --offline check licenses bans sources; \
	else \
		echo "dependency rules not checked: cargo-deny is not installed"; \
	fi
	cd $(CLIENT) && npm run --silent check && npm test --silent
	$(CLIENT)/node_modules/.bin/prettier --log-level warn --config $(CLIENT)/.prettierrc.json --check $(POLYGLOT)/database-server/src
	@! command -v gofmt >/dev/null || test -z "$$(gofmt -d $(POLYGLOT)/web-server/*.go | tee /dev/stderr)"

# All of `check` and more. What leaves a core idle runs beside something else.
test:
	./scripts/setup --test
	@$(MAKE) --no-print-directory -j3 lint program services
	@$(MAKE) --no-print-directory -j5 deb unit integration test-client test-images
	tests/run

test-client:
	tests/client

# Images that take minutes to build, and the caches of what their services are built with.
test-images: guest
	rm -rf $(TRIED)
	mkdir -p $(TRIED)/polyglot $(TRIED)/postgres $(TRIED)/postgres-ha
	cd $(TRIED)/polyglot && $(CURDIR)/$(PSPD) init --example polyglot >/dev/null && ./build
	cd $(TRIED)/postgres && $(CURDIR)/$(PSPD) init --example postgres >/dev/null
	cd $(TRIED)/postgres-ha && $(CURDIR)/$(PSPD) init --example postgres-ha >/dev/null
	@for example in polyglot postgres postgres-ha; do (cd $(TRIED)/$$example && TERM=dumb $(CURDIR)/$(PSPD) image build >/dev/null) || exit; done

# No example in a comment is a test.
unit: client
	scripts/cargo-test -q --lib --bins

# Budgets are those of the program as users have it.
integration: program client
	PSPD=$(CURDIR)/$(PSPD) scripts/cargo-test -q --test '*'
	PSPD=$(CURDIR)/$(PSPD) scripts/cargo-test -q --test budgets -- --ignored

soak: build
	./scripts/setup --test
	@for seed in $$(seq $(SEEDS)); do \
		echo "seed $$seed"; \
		PROPTEST_RNG_SEED=$$seed scripts/cargo-test -q --lib || exit; \
	done
	WALK_STEPS=100 tests/run walk
	PSPD_TEST_LONG=1 tests/run 'without its leader'

e2e: deb
	tests/run

bench:
	./scripts/setup --bench
	$(MAKE) build
	tests/bench

clean:
	cargo clean
