# Each target calls a script; what a model or a context may be called is settled there (exit 2 before any call).
# Flags: make setup-model MODEL=gpt2 ARGS='--revision main --timeout 7200'   (ARGS are words of your shell)

MODEL_ORIGIN := $(origin MODEL)
MODEL ?= meta-llama/Llama-3.1-8B-Instruct
# CONTEXT= on this command line, else the user's own KUBE_CONTEXT, else the demo cluster.
ifeq ($(origin CONTEXT),undefined)
CONTEXT := $(if $(filter undefined,$(origin KUBE_CONTEXT)),do-nyc2-gtc-demo,$(value KUBE_CONTEXT))
endif
ARGS ?=

# Make would expand what stands in a value, and a shell would run it: values are taken as they are, and reach the
# scripts through the environment only. So does whatever else is given on make's command line.
override MODEL := $(value MODEL)
override CONTEXT := $(value CONTEXT)
override KUBE_CONTEXT := $(value CONTEXT)
override ARGS := $(value ARGS)
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command line,$(origin $(name))),$(name)))
$(foreach name,$(GIVEN),$(eval override export $(name) := $$(value $(name))))
# A misspelt one would be taken for nothing, and the default for what was meant.
SETTINGS := MODEL CONTEXT ARGS KUBE_CONTEXT NAMESPACE MODEL_REVISION MODEL_INCLUDE MODEL_EXCLUDE MODEL_TIMEOUT MODEL_GRACE \
  SPACES_BUCKET SPACES_ENDPOINT SPACES_REGION HF_ENDPOINT MODEL_PV MODEL_PVC MOVER_IMAGE MOVER_MEMORY MOVER_BUFFER \
  MOVER_PIP_INDEX_URL VERIFY_LEVEL
STRANGE := $(filter-out $(SETTINGS) KUBECONFIG E2E_HOST_IP E2E_CLUSTER_TOOL CI NO_COLOR PATH SHELL,$(GIVEN))
ifneq ($(STRANGE),)
MEANT := $(shell scripts/run scripts/meant.mts $(foreach name,$(STRANGE),'$(subst ','\'',$(name))') -- $(SETTINGS) 2>/dev/null)
$(error $(STRANGE): no such setting; $(if $(MEANT),$(MEANT) There,there) are $(SETTINGS))
endif
# A make below this one (the tests call it) starts from its own command line.
MAKEOVERRIDES =

SCRIPTS := setup-model model-to-spaces model-to-nfs fix-pvc verify clean-model slug
OTHERS := help demo picture test e2e bench types lint
# A model without MODEL= would be taken for a target, behind one that has staged the default model.
STRAY := $(if $(filter $(SCRIPTS) plan,$(MAKECMDGOALS)),$(filter-out $(SCRIPTS) plan $(OTHERS),$(MAKECMDGOALS)))
ifneq ($(STRAY),)
$(error $(STRAY): no such target; a model is named by MODEL=)
endif
# What is removed has to be named.
$(filter-out $(if $(filter undefined,$(MODEL_ORIGIN)),clean-model),$(SCRIPTS)) plan: override export MODEL := $(value MODEL)
$(SCRIPTS) plan: override export KUBE_CONTEXT := $(value KUBE_CONTEXT)
# What to type next is said as this was typed; from another folder (make -C) the scripts' own paths are said, which work in each.
$(SCRIPTS) plan: override export MAKE_TARGET = $(if $(filter-out $(realpath $(or $(PWD),.)),$(realpath $(CURDIR))),,$@)

.PHONY: $(SCRIPTS) plan $(OTHERS)
.DEFAULT_GOAL := help

help: ## list the targets
	@echo "make TARGET MODEL=org/name CONTEXT=cluster ARGS='--flag value'   (ARGS=--help lists the flags)"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup-model: node_modules/.package-lock.json ## the whole way: storage, to Spaces, to NFS, verify
	@scripts/setup-model.mts $(ARGS)

plan: node_modules/.package-lock.json ## what setup-model would move, and how long that takes; moves nothing
	@scripts/setup-model.mts --plan $(ARGS)

model-to-spaces: node_modules/.package-lock.json ## hop 1: HuggingFace Hub -> Spaces
	@scripts/model-to-spaces.mts $(ARGS)

model-to-nfs: node_modules/.package-lock.json ## hop 2: Spaces -> NFS volume
	@scripts/model-to-nfs.mts $(ARGS)

fix-pvc: node_modules/.package-lock.json ## bind the claim to the NFS volume
	@scripts/fix-pvc.mts $(ARGS)

verify: node_modules/.package-lock.json ## is the model staged? claim, files, Jobs
	@scripts/verify.mts $(ARGS)

clean-model: node_modules/.package-lock.json ## remove what a model left; its copies with ARGS='--spaces --nfs'
	@scripts/clean.mts $(ARGS)

slug: node_modules/.package-lock.json ## the model's part of Job names (MODEL_SLUG)
	@scripts/slug.mts $(ARGS)

demo: .needed node_modules/.package-lock.json .venv/.installed ## all of it on this machine with a small real model, no cluster needed
	@scripts/run test/local/demo.mts

picture: .needed node_modules/.package-lock.json .venv/.installed ## draw docs/run.svg from a recorded run
	@scripts/run test/local/picture.mts

test: .needed node_modules/.package-lock.json .venv/.installed ## unit and flow tests, no cluster needed
	@npx vitest run --project unit --project flow $(ARGS)

e2e: .needed node_modules/.package-lock.json .venv/.installed ## the same flows on the cluster that KUBECONFIG names
	@E2E=1 npx vitest run --project flow --project e2e --project outage $(ARGS)

bench: node_modules/.package-lock.json .venv/.installed ## measure both hops side by side with the usual tools
	@.venv/bin/python test/bench/bench.py $(ARGS)

types: node_modules/.package-lock.json ## check the types
	@npx tsc

lint: node_modules/.package-lock.json .venv/.installed ## check the style
	@npx biome check . && .venv/bin/ruff check && .venv/bin/ruff format --check

# All that is missing at once, before anything is installed.
.PHONY: .needed
.needed:
	@scripts/need node npm bash kubectl envsubst python3

node_modules/.package-lock.json: package-lock.json
	@scripts/need node npm
	@echo 'installing the packages of package-lock.json into node_modules' >&2
	@npm ci --loglevel=error >&2
	@touch $@

.venv: .venv/.installed

# The pods' own Python where it is there: the mover is tested on what it runs on.
.venv/.installed: k8s/mover/requirements.txt test/requirements.txt
	@scripts/need python3
	@echo 'installing the packages of the mover and of its tests into .venv' >&2
	@$$(command -v python3.11 || command -v python3) -m venv .venv
	@.venv/bin/pip install --quiet --disable-pip-version-check --requirement k8s/mover/requirements.txt --requirement test/requirements.txt
	@touch $@
