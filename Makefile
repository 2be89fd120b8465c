# IMCluster: build, test and run. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VERSION ?= v0.1.0
LDFLAGS := -s -w -X github.com/imcluster/imcluster/internal/version.version=$(VERSION)
COMMANDS := operator gateway presence imctl

# One setting for everything but the race detector, so that what was compiled for one target serves the others.
export CGO_ENABLED := 0

# Built tools, Kubernetes and clusters live outside the clone, so that a fresh clone need not build them again.
export IMCLUSTER_CACHE ?= $(HOME)/.cache/imcluster

GOLANGCI_VERSION        := v2.15.0
CONTROLLER_GEN_VERSION  := v0.23.0
PROTOC_GEN_GO_VERSION   := v1.36.12
PROTOC_GEN_GRPC_VERSION := v1.6.2
TOOLS           := $(IMCLUSTER_CACHE)/tools
GOLANGCI        := $(TOOLS)/golangci-lint@$(GOLANGCI_VERSION)/golangci-lint
CONTROLLER_GEN  := $(TOOLS)/controller-gen@$(CONTROLLER_GEN_VERSION)/controller-gen
PROTOC_GEN_GO   := $(TOOLS)/protoc-gen-go@$(PROTOC_GEN_GO_VERSION)/protoc-gen-go
PROTOC_GEN_GRPC := $(TOOLS)/protoc-gen-go-grpc@$(PROTOC_GEN_GRPC_VERSION)/protoc-gen-go-grpc

# What tests and generators need on Debian beside Go, make, git, gcc (for the race detector), Node.js and npm. The local
# cluster installs its own: runc nftables containernetworking-plugins iproute2 redis-tools etcd-server.
DEBIAN_PACKAGES := redis-server protobuf-compiler nginx-light chromium

# The nested modules keep Kubernetes and yardsticks out of the product's go.mod.
MODULES := . test/cluster test/cluster/kube test/cluster/coredns test/e2e test/bench

CLUSTER_CLI := bin/cluster
# Written by npm ci.
JS_MODULES  := client/js/node_modules/.package-lock.json
NAMESPACE   := imcluster-system

##@ Run it

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} \
	  /^[a-zA-Z0-9_-]+:.*?##/ {printf "  \033[36m%-14s\033[0m %s\n", $$1, $$2}' Makefile

.PHONY: dev
dev: ## Two gateways, presence and a Redis in one process, without Kubernetes; Ctrl-C ends it.
	@go run -ldflags '$(LDFLAGS)' ./cmd/imctl dev

.PHONY: up
up: CLUSTER_NAME := imc
up: cluster ## The whole platform on a real Kubernetes, ending with a demonstration. CLUSTER=kind|local|current.
	@eval "$$($(CLUSTER_CLI) --name imc env)"
	step() { printf '\n\033[1m%s\033[0m\n' "$$*"; }
	step "Installing the operator with Helm"
	"$$IMC_HELM" upgrade --install imcluster charts/imcluster --namespace $(NAMESPACE) --create-namespace --wait \
	  $${IMC_LOCAL_REDIS_IMAGE:+--set redis.image=$$IMC_LOCAL_REDIS_IMAGE}
	step "Creating the IMCluster of config/samples/quickstart.yaml"
	"$$IMC_KUBECTL" apply -f config/samples/quickstart.yaml
	"$$IMC_KUBECTL" wait --for=condition=Ready imc/chat --timeout=5m
	$(CLUSTER_CLI) --name imc forward 18080=chat-presence.default:80 18081=chat-gateway.default:80 18082=chat-presence.default:9090
	step "Demonstration: two users on two gateway pods"
	"$$IMC_KUBECTL" delete job imctl-demo --ignore-not-found
	"$$IMC_KUBECTL" apply -f config/demo/job.yaml
	"$$IMC_KUBECTL" wait --for=jsonpath='{.status.active}'=1 job/imctl-demo --timeout=30s >/dev/null || true
	( "$$IMC_KUBECTL" wait --for=jsonpath='{.status.usage.connections}'=2 imc/chat --timeout=90s >/dev/null &&
	  printf '\nkubectl get imc -o wide, while they are online:\n' && "$$IMC_KUBECTL" get imc -o wide && echo ) &
	"$$IMC_KUBECTL" logs --follow --pod-running-timeout=1m job/imctl-demo
	"$$IMC_KUBECTL" wait --for=condition=Complete job/imctl-demo --timeout=20s
	wait $$!
	step "Ready"
	printf '%s\n' "" \
	  "Presence   http://127.0.0.1:18080, gRPC 127.0.0.1:18082        WebSocket  ws://127.0.0.1:18081/ws" "" \
	  "Try next:" \
	  "  eval \"\$$(bin/cluster env)\"; alias kubectl=\$$IMC_KUBECTL   # for this shell" \
	  "  kubectl get imc,pods" \
	  "  export IMC_GATEWAY_URL=ws://127.0.0.1:18081/ws IMC_PRESENCE_URL=http://127.0.0.1:18080" \
	  "  export IMC_API_KEY=\$$(kubectl get secret chat-api-key -o jsonpath='{.data.current}' | base64 -d)" \
	  "  go run ./cmd/imctl chat --token alice  # and bob in another terminal" \
	  "  go run ./cmd/imctl online" \
	  "  kubectl scale imc/chat --replicas=3" \
	  "  make down"

.PHONY: down
down: $(CLUSTER_CLI) ## Remove what make up made, also when it was interrupted.
	@$(CLUSTER_CLI) --name imc down

##@ Build

.PHONY: build
build: ## The programs, into bin/.
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(COMMANDS:%=./cmd/%)

.PHONY: images
images: $(CLUSTER_CLI) ## The images as archives in dist/, without Docker; with Docker: docker build -f cmd/Dockerfile .
	@$(CLUSTER_CLI) image --version $(VERSION) --out dist

.PHONY: $(CLUSTER_CLI)
$(CLUSTER_CLI):
	@mkdir -p bin
	@go -C test/cluster build -o ../../$@ ./cmd/cluster

# A cluster of the given name with the images of this tree.
.PHONY: cluster
cluster: $(CLUSTER_CLI)
	@$(CLUSTER_CLI) --name $(CLUSTER_NAME) up
	$(CLUSTER_CLI) image --version $(VERSION) --out dist | xargs $(CLUSTER_CLI) --name $(CLUSTER_NAME) load

##@ Test

.PHONY: test
test: export IMC_REQUIRE := cluster,redis,envtest
test: deps test-race test-js test-cluster test-e2e ## Everything, quick parts first. Nothing is skipped.

.PHONY: test-unit
test-unit: deps ## The quick part: what needs neither a cluster, an API server nor Helm.
	@go test $$(go list ./... | grep -v -E '/(api/v1alpha1|controllers|charts)$$')

.PHONY: test-race
test-race: $(CLUSTER_CLI)
	@echo "== unit and integration tests, with the race detector, a real Redis and a real API server"
	export KUBEBUILDER_ASSETS=$$($(CLUSTER_CLI) tools --print kube) IMC_HELM=$$($(CLUSTER_CLI) tools --print helm)
	CGO_ENABLED=1 go test -race -timeout 20m ./...

.PHONY: test-js
test-js: $(JS_MODULES) ## The JavaScript client, in Node.js and in headless Chromium.
	@echo "== the JavaScript client"
	@cd client/js && npm test --silent

# CI runs what the fuzzers found and some seeds as ordinary tests.
FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: ## Let every fuzzer look for new inputs for FUZZTIME (30s).
	@for f in api/wire:FuzzDecodeJSON api/wire:FuzzDecodeProtobuf gateway:FuzzFrames gateway:FuzzConversations; do
	  echo "== $$f"; go test ./$${f%:*} -run '^$$' -fuzz "^$${f#*:}$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x
	done

CHAOS_SCHEDULES ?= 2000
.PHONY: chaos
chaos: deps ## Random faults on real processes, CHAOS_SCHEDULES (2000) schedules; CI runs some.
	@CHAOS_SCHEDULES=$(CHAOS_SCHEDULES) go test -count=1 -p 1 -timeout 12h -v ./internal/chaos ./internal/presencechaos

.PHONY: test-cluster
test-cluster:
	@echo "== the local cluster"
	@go -C test/cluster test -count=1 -timeout 20m ./...

.PHONY: test-e2e
test-e2e: CLUSTER_NAME := imc-test
test-e2e: cluster ## The end-to-end stories, on a cluster of their own that is removed afterwards unless one fails.
	@echo "== end-to-end stories on a real cluster"
	@eval "$$($(CLUSTER_CLI) --name imc-test env)"
	go -C test/e2e test -count=1 -timeout 40m -v ./...
	$(CLUSTER_CLI) --name imc-test down

.PHONY: bench
bench: deps ## The figures that the project promises, each beside a yardstick of the same run.
	@go -C test/bench run . all

##@ Check

.PHONY: verify
verify: deps lint generate-check tidy-check ## Lint; generated files and go.mod are up to date.

.PHONY: lint
lint: $(GOLANGCI) $(JS_MODULES)
	@for module in $(MODULES); do echo "== lint $$module"; (cd $$module && $(GOLANGCI) run --config $(CURDIR)/.golangci.yml ./...); done
	echo "== lint client/js"; cd client/js && npm run --silent lint

.PHONY: fmt
fmt: $(GOLANGCI) ## Format the code.
	@for module in $(MODULES); do (cd $$module && $(GOLANGCI) fmt --config $(CURDIR)/.golangci.yml ./...); done

.PHONY: generate
generate: deps $(CONTROLLER_GEN) $(PROTOC_GEN_GO) $(PROTOC_GEN_GRPC) $(CLUSTER_CLI) ## Write all generated files.
	@$(CONTROLLER_GEN) object applyconfiguration crd paths=./api/v1alpha1 output:crd:dir=charts/imcluster/files
	mv charts/imcluster/files/imcluster.dev_imclusters.yaml charts/imcluster/files/crd.yaml
	$(CONTROLLER_GEN) rbac:roleName=imcluster-operator paths=./controllers/... output:rbac:dir=charts/imcluster/files
	helm=$$($(CLUSTER_CLI) tools --print helm)
	$$helm template imcluster charts/imcluster --namespace $(NAMESPACE) | go run ./internal/generate/manifests config
	go run ./internal/generate/reference charts/imcluster/files/crd.yaml > docs/configuration.md
	go run ./internal/generate/wire api/wire api/wire/v1
	PATH=$(dir $(PROTOC_GEN_GO)):$(dir $(PROTOC_GEN_GRPC)):$$PATH protoc -I . --go_out=. --go_opt=paths=source_relative \
	  --go-grpc_out=. --go-grpc_opt=paths=source_relative api/peer/v1/peer.proto api/wire/v1/frame.proto \
	  api/presence/v1/presence.proto api/userstatus/userstatus.proto

.PHONY: generate-check
generate-check:
	@echo "== generated files are up to date"
	@before=$$(git status --porcelain; git diff | sha256sum)
	$(MAKE) generate
	after=$$(git status --porcelain; git diff | sha256sum)
	if [ "$$before" != "$$after" ]; then echo "make generate changed files; commit them:"; git status --short; exit 1; fi

.PHONY: tidy
tidy: ## Tidy every go.mod.
	@for module in $(MODULES); do (cd $$module && go mod tidy); done

.PHONY: tidy-check
tidy-check:
	@for module in $(MODULES); do echo "== go mod tidy $$module"; (cd $$module && go mod tidy -diff); done

##@ Machine

.PHONY: deps
deps: ## Install the Debian packages that tests and generators need.
	@missing=$$(for p in $(DEBIAN_PACKAGES); do dpkg -s "$$p" >/dev/null 2>&1 || echo "$$p"; done)
	if [ -z "$$missing" ] || ! command -v apt-get >/dev/null; then exit 0; fi
	if [ "$$(id -u)" != 0 ]; then echo "Missing packages; run: sudo apt-get install $$missing" | tr '\n' ' '; echo; exit 1; fi
	echo "installing" $$missing
	apt-get update -q >/dev/null
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing >/dev/null

# What the JavaScript client is built and tested with, as its lock file has it.
$(JS_MODULES): client/js/package-lock.json
	@cd client/js && npm ci --silent --no-audit --no-fund && touch node_modules/.package-lock.json

# go-tool installs a pinned tool, once for this Go version.
define go-tool
	@echo "building $(notdir $@), once"
	@GOBIN=$(@D) GOFLAGS= go install $(1)
endef
$(GOLANGCI): ; $(call go-tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION))
$(CONTROLLER_GEN): ; $(call go-tool,sigs.k8s.io/controller-tools/cmd/controller-gen@$(CONTROLLER_GEN_VERSION))
$(PROTOC_GEN_GO): ; $(call go-tool,google.golang.org/protobuf/cmd/protoc-gen-go@$(PROTOC_GEN_GO_VERSION))
$(PROTOC_GEN_GRPC): ; $(call go-tool,google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(PROTOC_GEN_GRPC_VERSION))
