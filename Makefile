# RAUTA's tasks. `make help` lists them.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# What runs on event loops or feeds them, and is tested once more with the race detector and with the invariants on.
DATAPLANE := ./proxy/... ./fastpath/... ./h2/... ./control/...
# Tests of the whole data plane that are worth the race detector too.
STORMS    := AStorm|ConfigurationChanges|Tunnel|WebSocket|Bodies|HTTPS
# How long each fuzz target runs.
FUZZTIME  ?= 10s
# SHORT=1 makes loadtest run for less than three minutes.
SHORT     ?=
# PEERS=bin/peers makes loadtest measure against the nginx and haproxy there, which loadtest-peers builds.
PEERS     ?=

export PATH := $(PATH):/usr/sbin:/usr/local/sbin

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Without grpc's own pages about calls, which nobody serves here, the linker can leave out what is not used: 13 MB.
TAGS := grpcnotrace

.PHONY: build
build: ## build the static binary bin/rauta
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o bin/rauta ./cmd/rauta

.PHONY: run
run: build ## serve examples in front of four demo back ends; Ctrl-C stops all (ARGS='--access-log FILE': further flags of serve)
	@bin/rauta demo examples $(if $(ARGS),-- $(ARGS))

# How many packages are tested at once: on few cores one more than there are, because they often wait. With the race detector
# they compute.
PACKAGES  ?= $(shell n=$$(nproc 2>/dev/null); echo $$((n > 3 ? n : 3)))

.PHONY: test
test: test-go test-peers race ## run all tests, those of the data plane also with the race detector and the invariants

.PHONY: test-go
test-go: ## run the tests that need nothing but Go
	$(GO) test -p $(PACKAGES) ./...

.PHONY: test-peers
test-peers: ## run h2spec, clients and grpc, as far as their modules can be downloaded
	@if (cd test/h2spec && $(GO) mod download) >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory h2spec; \
	else \
		echo 'h2spec: skipped, its modules could not be downloaded'; \
	fi
	@if (cd test/grpctools && $(GO) mod download) >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory clients; \
	else \
		echo 'grpcurl: skipped, its modules could not be downloaded'; \
	fi
	@if (cd test/grpc && $(GO) mod download) >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory grpc; \
	else \
		echo 'grpc: skipped, its modules could not be downloaded'; \
	fi

# What is tested without programs in the kernel, and with every request watched. The tests of bpf know of neither.
WHOLE := ./cmd/rauta ./test/blackbox

.PHONY: test-ebpf
test-ebpf: test-ebpf-off test-ebpf-all test-ordinary ## run the tests of the whole without programs in the kernel, with every request watched, and as an ordinary user

.PHONY: test-ebpf-off test-ebpf-all
test-ebpf-off test-ebpf-all: test-ebpf-%:
	RAUTA_TEST_EBPF=$* $(GO) test -count=1 $(if $(RUN),-run '$(RUN)') $(WHOLE)

.PHONY: test-ordinary
test-ordinary: ## as root: run the tests of the whole, and those of bpf, as a user without permissions (RUN=regexp: a part)
	@test/ordinary.sh '$(RUN)' $(WHOLE) ./bpf

.PHONY: h2spec
h2spec: ## run the conformance suite of HTTP/2 (pinned in test/h2spec)
	cd test/h2spec && CGO_ENABLED=0 $(GO) build -o ../../bin/h2spec github.com/summerwind/h2spec/cmd/h2spec
	H2SPEC=$(CURDIR)/bin/h2spec $(GO) test -count=1 ./test/blackbox -run H2spec

.PHONY: clients
clients: ## have curl, nghttp, h2load, openssl, testssl, grpcurl and chromium, as far as they are there, use what make run serves
	cd test/grpctools && CGO_ENABLED=0 $(GO) build -o ../../bin/grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl
	GRPCURL=$(CURDIR)/bin/grpcurl $(GO) test -count=1 -v ./test/clients

.PHONY: ghz
ghz: ## build ghz, a load generator for gRPC (pinned in test/grpctools)
	cd test/grpctools && CGO_ENABLED=0 $(GO) build -o ../../bin/ghz github.com/bojand/ghz/cmd/ghz

.PHONY: grpc
grpc: build ## call gRPC services through RAUTA with the interoperability suite of grpc-go (pinned in test/grpc)
	cd test/grpc && $(GO) vet . && RAUTA=$(CURDIR)/bin/rauta $(GO) test -count=1 .

.PHONY: test-cluster
test-cluster: build ## run the tests that need an API server, which the first run builds in seven minutes (pinned in test/cluster)
	@if (cd test/cluster && $(GO) mod download && cd plane && $(GO) mod download) >/dev/null 2>&1; then \
		cd test/cluster && $(GO) vet ./... && $(GO) test -v -run '^$$' -timeout 2h . && export RAUTA=$(CURDIR)/bin/rauta && \
		$(GO) test -count=1 -timeout 30m . && cd manifests && $(GO) vet . && $(GO) test -count=1 -timeout 30m .; \
	else \
		echo 'test-cluster: skipped, its modules could not be downloaded'; \
	fi

# The suites of the Gateway API: the toolchain, the versions of modules, and the channels. v1.7.0 does not build with Go 1.26.
SUITES := v1.6.3 v1.7.0
suite_toolchain_v1.6.3 := $(shell $(GO) env GOTOOLCHAIN)
suite_toolchain_v1.7.0 := go1.27.0
suite_modules_v1.6.3   := go.mod
suite_modules_v1.7.0   := v1.7.0.mod
suite_channels_v1.6.3  := standard experimental
suite_channels_v1.7.0  := experimental

.PHONY: conformance
conformance: $(addprefix conformance-,$(or $(SUITE),$(SUITES))) ## run the conformance suites of the Gateway API (SUITE=v1.7.0 CHANNEL=standard RUN=regexp: a part)

conformance-modules-%:
	@(cd test/cluster/plane && $(GO) mod download && cd ../../conformance && $(GO) mod download && $(GO) run ./standin && \
		GOTOOLCHAIN=$(suite_toolchain_$*) $(GO) mod download -modfile=$(suite_modules_$*)) >/dev/null 2>&1 || \
		{ echo 'conformance: the modules of the suite $*, or its Go toolchain $(suite_toolchain_$*), could not be downloaded'; exit 1; }

conformance-v%:
	@if $(MAKE) --no-print-directory conformance-modules-v$*; then $(MAKE) --no-print-directory conformance-run-v$*; \
	else echo 'conformance: the suite v$* is skipped'; fi

conformance-run-v%: build
	@mkdir -p bin docs/conformance
	@cd test/cluster && $(GO) test -v -run '^$$' -timeout 2h .
	@cd test/conformance && export RAUTA=$(CURDIR)/bin/rauta GOTOOLCHAIN=$(suite_toolchain_v$*) && $(GO) vet -modfile=$(suite_modules_v$*) . && \
	for channel in $(or $(CHANNEL),$(suite_channels_v$*)); do \
		log=$(CURDIR)/bin/conformance-v$*-$$channel.log; echo "conformance: suite v$*, channel $$channel, everything goes to $$log"; \
		if $(GO) test -modfile=$(suite_modules_v$*) -count=1 -v -timeout 2h . -args -modules $(suite_modules_v$*) -channel $$channel \
			-only '$(RUN)' -rauta-version '$(VERSION)' -report $(CURDIR)/docs/conformance/v$*-$$channel.yaml >$$log 2>&1; \
		then grep -a '^conformance:\|^cluster:' $$log; \
		else grep -a '^conformance:\|^cluster:' $$log || tail -n 30 $$log; exit 1; fi; \
	done

.PHONY: race
race: ## run the tests of the data plane with -race -tags invariants
	@if [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC)" >/dev/null; then \
		echo '$(GO) test -race -tags invariants $(DATAPLANE)'; \
		$(GO) test -race -tags invariants $(DATAPLANE) && \
		$(GO) test -race -short ./bpf && \
		$(GO) test -race -tags invariants -run '$(STORMS)' ./test/blackbox; \
	else \
		echo 'race: skipped, the race detector needs cgo and a C compiler'; \
	fi

.PHONY: check
check: ## gofmt, vet, staticcheck, the import rule, and cross-builds
	@echo gofmt; test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -count=1 ./internal/archtest
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 $(GO) build ./...
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build ./...

.PHONY: bpf
bpf: ## compile the programs for the kernel (needs clang 19 and libbpf-dev; the objects are committed)
	bpf/generate.sh

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (10s)
	@set -e; for file in $$(git grep -l '^func Fuzz' -- '*_test.go'); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "$$target in $$(dirname $$file)"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file); \
		done; \
	done

.PHONY: golden
golden: ## write the golden files anew; look at the difference before you commit it
	@set -e; for package in $$(git grep -l 'flag.Bool("update"' -- '*_test.go' | xargs -n1 dirname | sort -u); do \
		$(GO) test ./$$package -update; \
	done

.PHONY: bench
bench: ## run the micro-benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./bench/... ./proxy/... ./fastpath/...

.PHONY: loadtest
loadtest: build ## measure CPU per request against nginx, haproxy and the bare loop (SHORT=1: under three minutes)
	@for tool in wrk nginx haproxy h2load; do command -v $$tool >/dev/null || echo "loadtest: $$tool is missing, 'make loadtest-deps' installs it"; done
	PATH="$(CURDIR)/bin:$$PATH" $(GO) run ./loadtest $(if $(SHORT),-short) $(if $(PEERS),-nginx $(PEERS)/nginx -haproxy $(PEERS)/haproxy) -rauta bin/rauta -out loadtest/out

.PHONY: loadtest-changes
loadtest-changes: build ## measure how long changes take on a real API server (ROUTES=3000 SERVICES=1000 ENDPOINTS=3 CERTIFICATES=0 CHURN=slices)
	@cd test/cluster && $(GO) test -v -run '^$$' -timeout 2h . && \
		RAUTA=$(CURDIR)/bin/rauta $(GO) test -count=1 -v -timeout 1h ./changes -args $(if $(ROUTES),-routes=$(ROUTES)) \
		$(if $(SERVICES),-services=$(SERVICES)) $(if $(ENDPOINTS),-endpoints=$(ENDPOINTS)) \
		$(if $(CERTIFICATES),-certificates=$(CERTIFICATES)) $(if $(CHURN),-churn=$(CHURN)) $(CHANGESFLAGS)

.PHONY: loadtest-ebpf
loadtest-ebpf: ## measure what it costs that the kernel watches requests, as root, for FOR (4m); results are added to those of before
	@mkdir -p loadtest/out
	$(GO) test -count=1 -v -timeout 1h ./bpf -run WhatWatchingCosts -args -cost=$(or $(FOR),4m) -cost-into=$(CURDIR)/loadtest/out/watching.jsonl

.PHONY: loadtest-perf
loadtest-perf: build ## measure the tables of PERF.md on HTTP/2, gRPC and TLS, against installed peers and those of loadtest-peers: ten minutes
	@mkdir -p loadtest/out
	@set -e; for peers in installed current; do \
		flags=; [ $$peers = installed ] || flags="-nginx bin/peers/nginx -haproxy bin/peers/haproxy"; \
		[ $$peers = installed ] || [ -x bin/peers/haproxy ] || { echo 'no bin/peers, make loadtest-peers builds them'; break; }; \
		$(GO) run ./loadtest $$flags -rauta bin/rauta -restarts 2 -rounds 10 -out loadtest/out/$$peers \
			-scenario h2c-h1,h2c-h2c,h2-h1,grpc,tls,tls-backend,tcp,handshakes,websocket,fixed >loadtest/out/$$peers.log || \
			tail -n 1 loadtest/out/$$peers.log; \
		sed '/^| scenario | contender/,$$d' loadtest/out/$$peers/perf.md; \
	done

.PHONY: loadtest-peers
loadtest-peers: ## build current versions of nginx and haproxy from their public repositories into bin/peers
	nice loadtest/peers.sh bin/peers

.PHONY: loadtest-deps
loadtest-deps: ## install wrk, nginx, haproxy and h2load from apt, and build ghz
	loadtest/deps.sh
	@$(MAKE) --no-print-directory ghz
