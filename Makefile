# Needs GNU make 3.81 (macOS) or later, bash, and Go. What takes more than a line is a script in hack/.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:

# What go build stamps into the binary, and the image's VERSION label.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo none)
DATE := $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(DATE)

# The service's image, as the manifests ask for it.
IMAGE ?= pw/crudservice:latest
# Arguments for the program that a target runs: pwdeploy up (deploy, demo), go test (test, e2e), the benchmark (bench).
ARGS ?=
# The cluster for make demo: a kubectl context. Empty: the lab, or kind.
CONTEXT ?=
# The lab's folder: kubeconfig, env, logs, disks.
LAB_DIR ?= /var/tmp/pwdeploy-lab
# How many nodes make lab-up starts, and a folder with the real chart archives instead of the stand-ins.
NODES ?= 1
CHARTS ?=
# The lab's program runs in a folder of its own.
override LAB_DIR := $(abspath $(LAB_DIR))
override CHARTS := $(abspath $(CHARTS))
export VERSION IMAGE CONTEXT LAB_DIR NODES CHARTS

# With the flags that the lab builds Kubernetes with: what both need is compiled once.
LAB := CGO_ENABLED=0 go run -C test/lab -trimpath -buildvcs=false ./cmd/lab

##@ Help
help: ## Show this (default)
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nVariables\n'
	@printf '  %-17s %s\n' \
	  'ARGS=...' 'arguments of pwdeploy up (deploy, demo), go test (test, e2e) or the benchmark' \
	  'CONTEXT=name' 'the cluster for make demo' \
	  'IMAGE=name:tag' 'the image for make build and make demo' \
	  'NODES=2' 'nodes of the lab' \
	  'CHARTS=folder' 'real chart archives for the lab' \
	  'ROUNDS=3' 'rounds of make bench; DELAY=40ms is a cluster far off'

##@ Use
demo: ## From nothing to a served request, on a cluster on this machine or CONTEXT=name
	@hack/demo $(ARGS)

deploy: pwdeploy ## Build pwdeploy and run "pwdeploy up" on the current kubectl context
	bin/pwdeploy up $(ARGS)

run: ## Run the service and Redis on this machine, docs at http://localhost:8000/docs
	@hack/run

##@ Build
pwdeploy: ## Build bin/pwdeploy
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/pwdeploy ./cmd/pwdeploy

build: ## Build the service's image, with a container engine or without
	@hack/image

clean: ## Remove bin and dist
	rm -rf bin dist

##@ Test
test: ## Unit, golden, contract and integration tests
	@hack/test $(ARGS)

e2e: ## The product on a real cluster: the lab, or PWDEPLOY_E2E_CONTEXT=name
	@hack/e2e $(ARGS)

faults: ## What goes wrong in the field, provoked: how soon it is named, as a table (the lab's part if it is up)
	@hack/faults $(ARGS)

chaos: ## Kill pwdeploy at its requests: the matrix of what it survives (ARGS='-full', '-kinds drop,500')
	@hack/chaos $(ARGS)

bench: ## Time, requests and memory of pwdeploy beside the script it replaces, on the lab
	@test/bench/run $(ARGS)

lint: ## Go, shell, workflows, manifests, release configuration
	@hack/lint

tidy: ## Format the code and tidy the modules
	@golangci=$$(hack/tool golangci-lint) && "$$golangci" fmt
	go mod tidy
	cd test/lab && go mod tidy

##@ Lab: a real one-machine Kubernetes, no network and no container engine needed (Linux, root)
lab-up: ## Bring it up; does nothing when it is up
	@$(LAB) up

lab-down: ## Take it down, leaving nothing behind
	@$(LAB) down

lab-status: ## Show what of it runs
	@$(LAB) status

.PHONY: help demo deploy run pwdeploy build clean test e2e faults chaos bench lint tidy lab-up lab-down lab-status
