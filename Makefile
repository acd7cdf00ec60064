.DEFAULT_GOAL := help
SHELL := /bin/bash
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 10s
SEED ?= 0
RUNS ?= 10
MOVES ?= 100000
TOOL := go tool -modfile=tools/go.mod

.PHONY: help build run run-fleet run-cluster run-sentinel test story chaos soak k8s-test image fuzz bench bench-path profile lint fmt docs check

help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

build: ## Build bin/godwit
	go build -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/godwit ./cmd/godwit

run: build ## Run one node on the embedded store
	bin/godwit

run-fleet: need-redis build ## Run three nodes and a redis-server, as processes
	bin/godwit dev --nodes 3

run-cluster: need-redis build ## Run three nodes on a Redis Cluster, as processes
	bin/godwit dev --nodes 3 --redis cluster

run-sentinel: need-redis build ## Run three nodes on a primary with replicas and Sentinels
	bin/godwit dev --nodes 3 --redis sentinel

test: need-redis ## Run every test, the short form of the stories included
	go test -race -shuffle=on -timeout 20m ./...

story: need-redis ## Run the long stories: a fleet of processes, and faults
	go test -race -timeout 30m -count=1 -run 'Story' ./e2e -story

chaos: ## Faults by a seed, in virtual time: SEED=n repeats, RUNS=n, MOVES=n of the simulated fleet
	go test -timeout 20m -count=1 -run 'TestChaos' ./rules/redirect -v -seed $(SEED) -moves $(MOVES)
	go test -timeout 30m -count=1 -run 'TestChaos' ./e2e -seed $(SEED) -runs $(RUNS)

soak: need-redis build ## Ten rollouts of a fleet while 2,000 clients talk: what they missed
	bin/godwit soak --nodes 3 --clients 2000 --rollouts 10 --budget 10s

IMAGE ?= registry.local/godwit:dev
NEXT ?= registry.local/godwit:next
HOST ?= 127.0.0.1
CLIENTS ?= 1000
k8s-test: ## Roll, scale and kill the pods of a fleet on the cluster of KUBECONFIG while clients talk (docs/kubernetes.md)
	go test -timeout 60m -count=1 -v ./k8s/e2e -k8s -image $(IMAGE) -next $(NEXT) -host $(HOST) -clients $(CLIENTS)

image: ## Build the container image; without an engine, run what would be in it
	scripts/image

fuzz: ## Fuzz every target for FUZZTIME (10s)
	scripts/fuzz $(FUZZTIME)

bench: need-redis ## Run every benchmark once, to see that it works
	go test -run '^$$' -bench . -benchtime 1x ./...

bench-path: need-redis build ## Measure the path of a message against a floor (docs/bench/path.md)
	bin/godwit bench fanout
	bin/godwit bench fanout --rate 200
	bin/godwit bench fanout --rooms 1 --members 1000
	bin/godwit bench fanout --rooms 200 --members 2
	bin/godwit bench login
	bin/godwit bench presence calls resume drain
	bin/godwit bench idle --duration 60s

WORK ?= fanout
profile: need-redis build ## Profile the nodes at a work: WORK="fanout --rate 200"
	rm -rf bin/profile && mkdir bin/profile
	bin/godwit bench $(WORK) --no-floor --profile bin/profile
	@echo "the CPU of all nodes: go tool pprof -http=: bin/profile/*.cpu.pprof"

lint: ## Check format, vet, staticcheck, dead code, docs/openapi.json
	@out=$$($(TOOL) gofumpt -l .); if [ -n "$$out" ]; then echo "not formatted (make fmt):"; echo "$$out"; exit 1; fi
	go vet ./...
	$(TOOL) staticcheck ./...
	@out=$$($(TOOL) deadcode -test ./...); if [ -n "$$out" ]; then echo "dead code:"; echo "$$out"; exit 1; fi
	go vet -C tools ./...
	go test -C tools -count=1 -timeout 5m ./...

fmt: ## Format the code
	$(TOOL) gofumpt -w .

docs: ## Write what of the docs comes from the code
	go test ./cmd/godwit -run TestReadme -rewrite
	go test ./handlers/admin -run TestAPI_DescribesItself -rewrite
	go test ./handlers/metrics -run TestDocs -rewrite

check: ## What CI runs
	.ci/run

.PHONY: need-redis
need-redis:
	@scripts/need-redis
