# `make help` lists what can be made. Needs Rust, Python 3 with pip, a C compiler and make.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ORT_VERSION := 1.32.0
PYTHON ?= python3
CARGO ?= cargo
VENV := .venv
# pip and python of the tools' own environment; tests find `.venv` themselves.
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
# PyTorch, the trainer and the exporter, for `train`, `export` and `test-model` only.
MODEL_VENV := .venv-model

# Where cargo builds, whoever chose it.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
M2FP := $(TARGET_DIR)/release/m2fp

# The Lambda package: `make lambda MODEL=model/nano ARCH=arm64`. What `sam build` asks for is the template's default.
HOST_ARCH := $(subst aarch64,arm64,$(shell uname -m))
ARCH ?= $(if $(filter build-%,$(MAKECMDGOALS)),x86_64,$(HOST_ARCH))
MODEL ?= model/nano
# Cargo features of the programs, beside the defaults: FEATURES=heic, whoever calls make (`FEATURES=heic sam build`).
FEATURES ?=
FEATURE_FLAGS = $(if $(FEATURES),--features '$(FEATURES)')
PACKAGE := dist/m2fp-lambda-$(ARCH)

# The programs are for Linux; on another system only what runs them in Docker is of use.
ifneq ($(shell uname -s),Linux)
ifneq ($(filter-out help shell clean,$(or $(MAKECMDGOALS),help)),)
$(error This runs on Linux (also in WSL 2): open the folder in its development container (.devcontainer), or run `make shell` and make again in there)
endif
endif

# What mozjpeg-sys decides by itself when it is built.
JPEG := $(if $(filter x86_64,$(HOST_ARCH)),$(if $(shell command -v nasm),JPEG with SIMD,JPEG without SIMD: nasm is not installed),JPEG with SIMD)

say = @printf '\033[1m» %s\033[0m\n'

.PHONY: help
help: ## list the targets
	@printf 'make TARGET, with TARGET one of\n\n'
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

# --- what is fetched --------------------------------------------------------------------------------------------

.PHONY: runtime tools tools-pin
runtime: .runtime/onnxruntime-$(ORT_VERSION) .runtime/photos/astronaut.png .runtime/photos/camera.png ## ONNX Runtime and two photos, out of PyPI's wheels
tools: $(VENV)/tools ## Python tools that tests and checks run, in .venv

.runtime/onnxruntime-$(ORT_VERSION):
	$(say) "fetching ONNX Runtime $(ORT_VERSION)"
	@$(PYTHON) scripts/fetch_wheel_file.py onnxruntime==$(ORT_VERSION) \
		'onnxruntime/capi/libonnxruntime.so.*=.runtime/libonnxruntime.so' \
		'onnxruntime/LICENSE=.runtime/licences/onnxruntime/LICENSE' \
		'onnxruntime/ThirdPartyNotices.txt=.runtime/licences/onnxruntime/ThirdPartyNotices.txt'
	@touch $@

.runtime/photos/%.png:
	$(say) "fetching a photo in the public domain"
	@$(PYTHON) scripts/fetch_wheel_file.py scikit-image==0.26.0 'skimage/data/$*.png=$@'

$(VENV)/bin/python:
	$(say) "making a Python environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is missing: install it (Debian, Ubuntu: python3-venv) and run make again." >&2; exit 1; }

$(VENV)/tools: tools/requirements.txt | $(VENV)/bin/python
	$(say) "installing the tools of $< (a minute)"
	@$(PIP) install --requirement $<
	@touch $@

$(VENV)/page: tools/requirements-page.txt | $(VENV)/tools
	$(say) "installing what drives a browser"
	@$(PIP) install --requirement $<
	@touch $@

$(VENV)/cross: tools/requirements-cross.txt | $(VENV)/bin/python
	$(say) "installing cargo-lambda and zig"
	@$(PIP) install --requirement $<
	@touch $@

tools-pin: ## pin again what tools/requirements.in asks for
	$(say) "resolving tools/requirements.in in a fresh environment"
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; $(PYTHON) -m venv $$folder
	$$folder/bin/python -m pip install --quiet --requirement tools/requirements.in
	{ echo '# Made from requirements.in by `make tools-pin`.'; $$folder/bin/python -m pip freeze; } > tools/requirements.txt

# --- build and try ----------------------------------------------------------------------------------------------

.PHONY: build demo
# Cargo decides what is out of date, so it is always asked.
build: runtime ## the command line and the Lambda bootstrap, optimised (FEATURES=heic)
	$(say) "building (release, $(JPEG); about five minutes the first time)"
	@$(CARGO) build --release --locked --bins $(FEATURE_FLAGS)
	@# Beside the executable it is found without ORT_DYLIB_PATH.
	@ln -sf "$(abspath .runtime/libonnxruntime.so)" $(TARGET_DIR)/release/libonnxruntime.so

.runtime/python/PIL: tools/requirements-demo.txt
	$(say) "installing Pillow beside the runtime"
	@$(PYTHON) -m pip --disable-pip-version-check --quiet install --root-user-action ignore --upgrade --target .runtime/python --requirement $<
	@touch $@

demo/photos/%.png: .runtime/photos/%.png
	@mkdir -p $(@D) && cp $< $@

demo/photos/scene.jpg: .runtime/photos/astronaut.png .runtime/photos/camera.png scripts/compose_scene.py | .runtime/python/PIL
	$(say) "composing a scene of several people"
	@PYTHONPATH=.runtime/python $(PYTHON) scripts/compose_scene.py $(filter %.png,$^) $@

DEMO_PHOTOS := demo/photos/astronaut.png demo/photos/camera.png demo/photos/scene.jpg
demo: build $(DEMO_PHOTOS) ## parse two real photos and a scene through the Lambda dispatcher
	$(say) "parsing demo/photos through the Lambda dispatcher"
	@$(PYTHON) scripts/demo.py --m2fp $(M2FP) --out demo $(DEMO_PHOTOS)

DEV_IMAGE := m2fp-lambda-dev
.PHONY: shell
shell: ## a shell in the development container, on any system with Docker
	@docker build --tag $(DEV_IMAGE) .devcontainer
	@docker run --rm --interactive --tty --volume "$(CURDIR)":/workspace --workdir /workspace $(DEV_IMAGE) bash

# --- Lambda package ---------------------------------------------------------------------------------------------

# Cargo where the machine is of the wanted kind, zig (a C compiler for any target and glibc) where it is not. From glibc
# 2.38 on, programs ask for symbols that Lambda lacks: nothing need be compiled to know that.
OLD_GLIBC := $(shell ldd --version 2>/dev/null | awk 'NR == 1 && $$NF + 0 >= 2 && $$NF + 0 < 2.38 {print "yes"}')
BUILDER ?= $(if $(and $(filter $(HOST_ARCH),$(ARCH)),$(OLD_GLIBC)),cargo,zig)
RUST_TARGET := $(subst arm64,aarch64,$(ARCH))-unknown-linux-gnu
LICENCES := .runtime/licences
RUNTIME_LIBRARY := $(if $(filter $(HOST_ARCH),$(ARCH)),.runtime/libonnxruntime.so,.runtime/$(ARCH)/libonnxruntime.so)

.PHONY: lambda lambda-cargo lambda-zig lambda-zip build-HttpFunction build-S3Function
lambda: $(if $(ZIP),lambda-zip,lambda-$(BUILDER)) ## the Lambda package in dist/ (MODEL=model/nano ARCH=x86_64 or arm64 FEATURES=heic; ZIP=FILE: a release's, without Rust)

lambda-zip:
	$(say) "unpacking $(ZIP)"
	@rm -rf $(PACKAGE) && $(PYTHON) -m zipfile -e '$(ZIP)' $(PACKAGE)
	@chmod +x $(PACKAGE)/bootstrap $(PACKAGE)/libonnxruntime.so
	@$(PYTHON) scripts/al2023.py --arch $(ARCH) $(PACKAGE)/bootstrap

# Where they are for this machine, the command line is built, too: it makes the model's graph ready for Lambda.
PACKAGED_BINS := --bin bootstrap $(if $(filter $(HOST_ARCH),$(ARCH)),--bin m2fp)
# $(1): the bootstrap to package. $(2): the command line, if it is built.
package = $(PYTHON) scripts/package.py --bootstrap $(1) --runtime $(RUNTIME_LIBRARY) --model $(MODEL) \
	--licences $(LICENCES) --arch $(ARCH) --out $(PACKAGE) $(if $(filter $(HOST_ARCH),$(ARCH)),--m2fp $(2)) $(PACKAGE_FLAGS)

lambda-cargo: runtime $(LICENCES)/crates.txt
	$(say) "building the Lambda package for $(ARCH) with $(MODEL) (release; about five minutes the first time)"
	@$(CARGO) build --release --locked $(PACKAGED_BINS) $(FEATURE_FLAGS)
	@if $(PYTHON) scripts/al2023.py $(TARGET_DIR)/release/bootstrap; then \
		$(call package,$(TARGET_DIR)/release/bootstrap,$(M2FP)); \
	else \
		echo 'This machine is newer than Lambda: building again with zig, for an older glibc.'; \
		$(MAKE) lambda-zig; \
	fi

lambda-zig: runtime $(RUNTIME_LIBRARY) $(LICENCES)/crates.txt $(VENV)/cross
	$(say) "building the Lambda package for $(ARCH) with $(MODEL) and zig (release; about five minutes the first time)"
	@[ -d "$$(rustc --print target-libdir --target $(RUST_TARGET))" ] || rustup target add $(RUST_TARGET) || { \
		echo "Rust's standard library for $(RUST_TARGET) is missing and rustup cannot fetch it." >&2; exit 1; }
	@PATH="$(abspath $(VENV)/bin):$$PATH" $(CARGO) lambda build --release --locked $(PACKAGED_BINS) --target $(RUST_TARGET) \
		$(FEATURE_FLAGS)
	@$(call package,$(TARGET_DIR)/lambda/bootstrap/bootstrap,$(TARGET_DIR)/lambda/m2fp/bootstrap)

.runtime/%/libonnxruntime.so: .runtime/onnxruntime-$(ORT_VERSION)
	$(say) "fetching ONNX Runtime $(ORT_VERSION) for $*"
	@$(PYTHON) scripts/fetch_wheel_file.py onnxruntime==$(ORT_VERSION) --arch $* \
		'onnxruntime/capi/libonnxruntime.so.*=$@'

# Asked anew each time, since it depends on FEATURES, too; that takes a moment.
.PHONY: $(LICENCES)/crates.txt
$(LICENCES)/crates.txt:
	$(say) "collecting the licences of the crates"
	@$(PYTHON) scripts/crate_licences.py $(RUST_TARGET) $@ $(FEATURES)

# What `sam build` calls (BuildMethod: makefile). Both functions are the same package, which is made once at a time:
# `sam build --parallel` calls both at once.
build-HttpFunction build-S3Function: architectures-agree
	@mkdir -p dist
	@flock dist/.lock bash -euc '$(MAKE) lambda ARCH=$(ARCH) && cp -R $(PACKAGE)/. "$$ARTIFACTS_DIR"'

# SAM tells no makefile the stack's Architecture, but writes it down before it builds a whole stack.
.PHONY: architectures-agree
architectures-agree:
	@stack=$$([ ! -f .aws-sam/build.toml ] || sed -n 's/^architecture = "\(.*\)"/\1/p' .aws-sam/build.toml | sort -u); \
	if [ -n "$$stack" ] && [ "$$stack" != "$(ARCH)" ]; then \
		echo "The stack's Architecture is $$stack and ARCH is $(ARCH): ARCH=$$stack sam build --parameter-overrides Architecture=$$stack" >&2; \
		exit 1; \
	fi

# The image that the package's folder makes, one more with Lambda's emulator in it, and the template that deploys it.
IMAGE ?= m2fp-lambda
BASE ?= amazonlinux:2023
RIE = $(firstword $(wildcard $(VENV)/lib/*/site-packages/samcli/local/rapid/aws-lambda-rie-$(ARCH)))
IMAGE_CONTEXT := dist/image-$(ARCH)

.PHONY: image
image: tools ## the container image of the package in dist/, and its template (MODEL=… IMAGE=m2fp-lambda BASE=amazonlinux:2023)
	@$(MAKE) lambda PACKAGE_FLAGS=--folder-only
	$(say) "building the images $(IMAGE):$(ARCH) and $(IMAGE):$(ARCH)-trial on $(BASE)"
	@rm -rf $(IMAGE_CONTEXT) && mkdir -p $(IMAGE_CONTEXT)
	@cp -al $(PACKAGE) $(IMAGE_CONTEXT)/task && cp $(RIE) $(IMAGE_CONTEXT)/aws-lambda-rie
	@for stage in trial function; do \
		docker build --file deploy/container/Dockerfile --platform linux/$(subst x86_64,amd64,$(ARCH)) --build-arg BASE=$(BASE) \
			--target $$stage --tag $(IMAGE):$(ARCH)$$([ $$stage = function ] || echo -trial) $(IMAGE_CONTEXT) || exit; \
	done
	@$(PYTHON) scripts/image_template.py dist/image-template.yaml

.PHONY: instances-template
instances-template: ## dist/instances-template.yaml: template.yaml for Lambda Managed Instances
	@$(PYTHON) scripts/instances_template.py dist/instances-template.yaml

# --- models -----------------------------------------------------------------------------------------------------

# Debian's PyTorch is small and belongs to /usr/bin/python3, whatever python3 comes first; else PyPI's.
DEBIAN_PYTHON := /usr/bin/python3

$(MODEL_VENV)/bin/python:
	$(say) "making a Python environment in $(MODEL_VENV)"
	@if $(DEBIAN_PYTHON) -c 'import torch, venv, ensurepip' 2>/dev/null; then \
		$(DEBIAN_PYTHON) -m venv --system-site-packages $(MODEL_VENV); \
	else \
		$(PYTHON) -m venv $(MODEL_VENV); \
	fi || { rm -rf $(MODEL_VENV); echo "Python's venv module is missing: install it (Debian, Ubuntu: python3-venv) and run make again." >&2; exit 1; }

$(MODEL_VENV)/packages: model/train/pyproject.toml model/export/pyproject.toml model/evaluate/pyproject.toml model/export/tests/requirements-judge.txt | $(MODEL_VENV)/bin/python
	$(say) "installing the trainer, the exporter and the evaluation (a minute; without Debian's python3-torch, PyPI's takes several)"
	@pip='$(MODEL_VENV)/bin/python -m pip --disable-pip-version-check --quiet'; \
	$(MODEL_VENV)/bin/python -c 'import torch' 2>/dev/null || $$pip install torch==2.8.0; \
	$$pip install --editable 'model/export[dev,huggingface]' --editable 'model/train[dev]' --editable 'model/evaluate[dev]'; \
	$$pip install --no-deps --requirement model/export/tests/requirements-judge.txt
	@touch $@

DATA ?= ../shared/data
# `multipose`, which the packaged model is: multipose's people joined with the nano of the graph NANO. `nano` trains that
# one anew.
NETWORK ?= multipose
NANO ?= model/pico/model.onnx
# A graph whose learned part a new run goes on from: LEARNED=model/nano-float/model.onnx; empty for one from the beginning.
LEARNED ?=
MINUTES ?= $(if $(filter nano,$(NETWORK)),216,120)
RUN ?= runs/$(NETWORK)
TAUGHT ?= runs/taught
# It replaces the packaged model when a person has seen that it is better: TRAINED=model/nano. What is packaged computes
# in 8 bits, and is made of a folder beside it, which computes in float32; the network `nano` stays as it is.
TRAINED ?= $(RUN)/model
EXACT = $(TRAINED)$(if $(filter multipose,$(NETWORK)),-float)

$(MODEL_VENV)/teachers: $(MODEL_VENV)/packages
	$(say) "installing TensorFlow Lite for the teachers"
	@$(MODEL_VENV)/bin/python -m pip --disable-pip-version-check --quiet install --editable 'model/train[teach]'
	@touch $@

.PHONY: teach train
teach: $(MODEL_VENV)/teachers ## what the teachers say of photos without labels, in TAUGHT (stopped, it goes on)
	$(say) "asking the teachers (some seconds a photo)"
	@OMP_WAIT_POLICY=passive $(MODEL_VENV)/bin/python -m m2fp_train teach --data '$(DATA)' --taught '$(TAUGHT)'

# Large tensors stay with the process, which else gives them back and fetches them anew at every step; and threads
# that wait for each other busily take the cores from the process that makes the crops.
train: build $(MODEL_VENV)/packages ## a packaged model from the data in DATA, in runs/ (MINUTES=120; or NETWORK=nano; stopped, it goes on)
	$(say) "training for $(MINUTES) minutes in $(RUN)"
	@MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_TOP_PAD_=268435456 OMP_WAIT_POLICY=passive \
		$(MODEL_VENV)/bin/python -m m2fp_train train --network $(NETWORK) --nano '$(NANO)' --data '$(DATA)' --taught '$(TAUGHT)' \
		$(if $(LEARNED),--learned '$(LEARNED)') --out '$(RUN)' --minutes $(MINUTES) $(ARGS)
	@$(if $(filter multipose,$(NETWORK)),$(MODEL_VENV)/bin/python -m m2fp_train garments --data '$(DATA)' --checkpoint '$(RUN)/checkpoint.pt')
	$(say) "exporting to $(EXACT), and measuring what it can and what it takes"
	@$(MODEL_VENV)/bin/python -m m2fp_train export --data '$(DATA)' --m2fp $(M2FP) \
		--checkpoint '$(RUN)/checkpoint.pt' --about model/train/about/$(NETWORK).json --out '$(EXACT)'
	@$(M2FP) calibrate '$(EXACT)'
	@$(if $(filter multipose,$(NETWORK)),$(MAKE) --no-print-directory in-bytes TRAINED='$(TRAINED)')

.PHONY: in-bytes
in-bytes: build $(MODEL_VENV)/packages ## the packaged model of the one in float32 beside it: TRAINED=model/nano of model/nano-float
	$(say) "making $(TRAINED) in 8 bits of $(TRAINED)-float, and measuring what it can and what it takes"
	@$(MODEL_VENV)/bin/python -m m2fp_export quantize --model '$(TRAINED)-float' --calibrate $(CALIBRATE) --out '$(TRAINED)'
	@$(MODEL_VENV)/bin/python -m m2fp_train evaluate --data '$(DATA)' --m2fp $(M2FP) --model '$(TRAINED)' --write
	@$(M2FP) calibrate '$(TRAINED)'

# `make export` never replaces the packaged model unless told to.
EXPORTED := $(if $(filter file,$(origin MODEL)),model/m2fp-r101,$(MODEL))

.PHONY: export checkpoint-named
export: checkpoint-named build $(MODEL_VENV)/packages ## a model folder of M2FP's weights (CHECKPOINT=DIR MODEL=model/m2fp-r101 ARGS='--portable')
	$(say) "exporting $(CHECKPOINT) to $(EXPORTED)"
	@$(MODEL_VENV)/bin/python -m m2fp_export export --checkpoint '$(CHECKPOINT)' --out '$(EXPORTED)' $(ARGS)
	@# A float graph loads fast enough, and stays as `m2fp_export verify` knows it.
	@$(if $(findstring --quantize,$(ARGS)),$(M2FP) optimize '$(EXPORTED)')
	$(say) "measuring what it takes"
	@$(M2FP) calibrate '$(EXPORTED)'

# Model folders of any dense human parser: a Hugging Face folder or an ONNX file.
.PHONY: wrap evaluate
wrap: build $(MODEL_VENV)/packages ## a model folder of a dense parser (SOURCE=DIR or FILE.onnx MODEL=model/NAME ARGS='--licence MIT')
	@[ -n '$(SOURCE)' ] && [ '$(origin MODEL)' != file ] || { echo 'Say what and where to: make wrap SOURCE=DIR MODEL=model/NAME; docs/models.md has examples.' >&2; exit 2; }
	$(say) "wrapping $(SOURCE) to $(MODEL)"
	@$(MODEL_VENV)/bin/python -m m2fp_export wrap --source '$(SOURCE)' --out '$(MODEL)' $(ARGS)
	$(say) "measuring what it takes"
	@$(M2FP) calibrate '$(MODEL)'

# DATA is NAME:DIR here; answers are kept in runs/evaluate, so that it goes on where it was stopped.
evaluate: build $(MODEL_VENV)/packages ## the published figures of a model (DATA=cihp:DIR MODEL=model/nano ARGS='--limit 100 --mode tiled')
	$(say) "measuring $(MODEL) on $(DATA)"
	@$(MODEL_VENV)/bin/python -m m2fp_evaluate --data '$(DATA)' --model '$(MODEL)' --m2fp '$(M2FP)' $(ARGS)

# Of the packaged model on the photos of DATA that it was not trained on, and on scenes of their people; or of any other
# model on a data set that `make evaluate` reads: SETS='cihp:DIR' MODEL=model/m2fp-r101 BESIDE=model/m2fp-r101-int8.
# BESIDE: the same model in another precision.
ACCURACY := runs/accuracy/$(notdir $(MODEL))
SETS ?= ccp:$(DATA)/ccp cihp:$(ACCURACY)/scenes
CALIBRATE ?= $(DATA)/ccp/more/photos $(DATA)/persons/coco-open/photos
BESIDE ?= $(if $(filter model/nano,$(MODEL)),model/nano-float,$(ACCURACY)/int8)
WRITE ?= docs/measured/accuracy$(if $(filter-out nano,$(notdir $(MODEL))),-$(notdir $(MODEL))).md

$(ACCURACY)/scenes:
	$(say) "composing scenes of people who were not trained on"
	@$(MODEL_VENV)/bin/python -m m2fp_train scenes --data '$(DATA)' --out $@

$(ACCURACY)/int8:
	$(say) "making $(MODEL) in 8 bits (some minutes)"
	@$(MODEL_VENV)/bin/python -m m2fp_export quantize --model '$(MODEL)' --calibrate $(CALIBRATE) --out $@
	@$(M2FP) optimize $@
	@$(M2FP) calibrate $@

.PHONY: accuracy
accuracy: build $(MODEL_VENV)/packages $(if $(filter command line environment,$(origin SETS)),,$(ACCURACY)/scenes) $(BESIDE) ## what size, tiles, flip, 8 bits and JPEG cost in accuracy (SETS=cihp:DIR MODEL=model/m2fp-r101; half an hour)
	$(say) "measuring $(MODEL) in every way to run it"
	@$(MODEL_VENV)/bin/python -m m2fp_evaluate.accuracy $(foreach set,$(SETS),--data '$(set)') --model '$(MODEL)' --beside '$(BESIDE)' \
		--m2fp '$(M2FP)' --out '$(ACCURACY)' $(if $(WRITE),--write '$(WRITE)') $(ARGS)

checkpoint-named:
	@[ -n '$(CHECKPOINT)' ] || { echo 'Which weights? make export CHECKPOINT=DIR; model/export/README.md says where they come from.' >&2; exit 2; }

# --- check ------------------------------------------------------------------------------------------------------

.PHONY: test test-rust test-python test-page test-docker test-docker-m2fp test-model test-memory lint lint-rust lint-crates lint-python lint-template lint-workflows audit bench bench-cold bench-m2fp bench-memory bench-parsers without-avx512 fuzz
test: test-rust test-python ## all tests, end-to-end ones included

test-rust: runtime tools ## tests of the crate, those under the Lambda emulator included
	$(say) "running the crate's tests"
	@$(CARGO) test --locked --lib --tests
	$(say) "running the tests of what is no default"
	@$(CARGO) test --locked --features heic --lib --test it -- heic heif image_memory image_hostile hostile::a_thousand

test-python: runtime tools ## tests of the template, the scripts and the packaging
	$(say) "running the Python tests"
	@$(VENV)/bin/python -m pytest -q

# Leaves pictures in target/page. ARGS: pytest's.
test-page: build $(VENV)/page ## the web page in headless Chromium (Debian: chromium; else CHROMIUM=PROGRAM)
	$(say) "running the tests of the page"
	@$(VENV)/bin/python -m pytest -q tests/page $(ARGS)

# Uses what `sam build` leaves. The base image is AWS's where Docker has it, else made of Debian's packages (mmdebstrap).
test-docker: runtime tools ## sam local, Lambda's sandbox and the container image in Docker; prints a table (ARGS: pytest's)
	@if docker info >/dev/null 2>&1; then \
		[ -x .aws-sam/build/S3Function/bootstrap ] || SAM_CLI_TELEMETRY=0 $(VENV)/bin/sam build || exit; \
		$(VENV)/bin/python -m pytest -q tests/in_docker $(ARGS); \
	else \
		printf '\n\033[1;31mNOT RUN: no Docker.\033[0m sam local, the sandbox and the container image were not tried.\n\n'; \
	fi

# Weights at random do: what is asked is whether an image of that size answers.
RANDOM_MODEL := runs/m2fp-random
test-docker-m2fp: runtime tools $(MODEL_VENV)/packages ## M2FP itself in float32, with random weights, answers from the container image (some minutes)
	$(say) "exporting a random M2FP to $(RANDOM_MODEL)"
	@[ -f runs/random-checkpoint/configuration.json ] || \
		$(MODEL_VENV)/bin/python -m m2fp_export random --seed 0 --out runs/random-checkpoint
	@[ -f $(RANDOM_MODEL)/model.json ] || \
		$(MODEL_VENV)/bin/python -m m2fp_export export --checkpoint runs/random-checkpoint --out $(RANDOM_MODEL) --no-verify
	@if docker info >/dev/null 2>&1; then \
		$(VENV)/bin/python -m pytest -q tests/in_docker/m2fp_image.py $(ARGS); \
	else \
		printf '\n\033[1;31mNOT RUN: no Docker.\033[0m M2FP in the container image was not tried.\n\n'; \
	fi

# What the exporter's tests see the network's answers by.
.PHONY: raw-queries
raw-queries: runtime
	$(say) "building the judges' window (release; two minutes)"
	@$(CARGO) build --release --locked --features judges --bin raw_queries

# Spinning threads of OpenMP would take the cores from ONNX Runtime's.
test-model: build raw-queries $(MODEL_VENV)/packages ## tests of the trainer, the exporter and the evaluation, exactness against ModelScope's code included
	$(say) "checking the code of the trainer, the exporter and the evaluation"
	@for package in train export evaluate; do (cd model/$$package && \
		$(abspath $(MODEL_VENV))/bin/ruff check --quiet && $(abspath $(MODEL_VENV))/bin/ruff format --quiet --check); done
	$(say) "running the trainer's tests (a minute)"
	@cd model/train && M2FP=$(abspath $(M2FP)) OMP_WAIT_POLICY=passive $(abspath $(MODEL_VENV))/bin/python -m pytest -q
	$(say) "running the evaluation's tests (half a minute)"
	@cd model/evaluate && M2FP=$(abspath $(M2FP)) $(abspath $(MODEL_VENV))/bin/python -m pytest -q
	$(say) "running the exporter's tests (about six minutes)"
	@cd model/export && M2FP=$(abspath $(M2FP)) RAW_QUERIES=$(abspath $(TARGET_DIR))/release/raw_queries OMP_WAIT_POLICY=passive $(abspath $(MODEL_VENV))/bin/python -m pytest -q

# MODELS: folders beside the packaged model; those of `make export` where none are named.
test-memory: build tools ## the memory promise under real limits (MODELS='model/m2fp-r101' ARGS='--quick', '--write docs/measured/memory.md')
	$(say) "running every function size, photo and model under its limit (half an hour and more; --quick: three minutes)"
	@PYTHONPATH=scripts $(VENV)/bin/python -m tests.memory --m2fp $(M2FP) $(if $(MODELS),--models model/nano $(MODELS)) $(ARGS)

lint: lint-rust lint-crates lint-python lint-template lint-workflows ## formatting, lints, docs, licences, spelling, templates, workflows

lint-rust: runtime
	$(say) "checking formatting, lints and docs of the crate"
	@$(CARGO) fmt --check
	@$(CARGO) clippy --locked --all-targets -- -D warnings
	@$(CARGO) clippy --locked --all-targets --features heic -- -D warnings
	@$(CARGO) clippy --locked --no-default-features -- -D warnings
	@RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' $(CARGO) doc --locked --no-deps --document-private-items

lint-crates:
	$(say) "checking the licences and the sources of the crates"
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked --log-level error check bans licenses sources; \
		else echo 'cargo-deny is not installed (cargo install --locked cargo-deny): dependencies not checked'; fi

lint-python: tools
	$(say) "checking the Python code and spelling"
	@$(VENV)/bin/ruff check --quiet && $(VENV)/bin/ruff format --quiet --check
	@$(VENV)/bin/typos
	@$(PYTHON) scripts/scale.py --check

lint-template: tools
	$(say) "checking the templates"
	@$(VENV)/bin/cfn-lint template.yaml deploy/*.yaml
	@SAM_CLI_TELEMETRY=0 $(VENV)/bin/sam validate --lint --region us-east-1

# They run on GitHub alone: here their form and their known faults are looked at.
lint-workflows: tools
	$(say) "checking the workflows"
	@$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(VENV)/bin/zizmor --quiet --offline --no-progress .github/workflows

$(VENV)/audit: tools/requirements-audit.txt
	$(say) "installing pip-audit beside the tools"
	@$(PYTHON) -m venv $(VENV)/audit-env
	@$(VENV)/audit-env/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	@touch $@

# A package that cannot be looked up fails it (--strict): silence is no answer.
audit: $(VENV)/audit ## known vulnerabilities of crates and Python tools (asks GitHub and PyPI)
	$(say) "asking for known vulnerabilities"
	@$(CARGO) deny --locked check advisories
	@$(VENV)/audit-env/bin/pip-audit --strict --no-deps --disable-pip $(foreach file,$(wildcard tools/requirements*.txt),--requirement $(file))

bench: runtime ## benchmarks: decode, post-processing, end to end, several requests at once
	$(say) "running the benchmarks"
	@$(CARGO) bench --locked

# MODELS: folders; M2FP in 8 bits is measured where `make export` has left it.
COLD_MODELS = $(or $(MODELS),model/nano $(wildcard model/m2fp-r101-int8))
bench-cold: build tools ## from the process's start to its first answer under the Lambda emulator (ARGS='--write docs/measured/cold-start.md')
	$(say) "measuring cold starts (a minute; let nothing else run)"
	@$(PYTHON) scripts/bench_cold.py $(COLD_MODELS) --bootstrap $(abspath $(TARGET_DIR))/release/bootstrap \
		--m2fp $(M2FP) --emulator $(firstword $(wildcard $(abspath $(VENV))/lib/*/site-packages/samcli/local/rapid/aws-lambda-rie-$(HOST_ARCH))) $(ARGS)

BENCH_VENV := .venv-bench

$(BENCH_VENV)/bench: model/export/pyproject.toml model/export/bench/requirements.txt model/export/tests/requirements-judge.txt
	$(say) "making a Python environment with PyTorch, ONNX Runtime and OpenVINO in $(BENCH_VENV) (several GB)"
	@$(PYTHON) -m venv $(BENCH_VENV)
	@pip='$(BENCH_VENV)/bin/python -m pip --disable-pip-version-check --quiet'; \
	$$pip install --requirement model/export/bench/requirements.txt --editable 'model/export[dev,huggingface]'; \
	$$pip install --no-deps --requirement model/export/tests/requirements-judge.txt
	@touch $@

# ARGS: model folders and the like, see `python -m bench --help` and `python -m bench.memory --help`.
BENCH := cd model/export && PYTHONPATH=$(abspath scripts) $(abspath $(BENCH_VENV))/bin/python -m
bench-m2fp: build $(BENCH_VENV)/bench ## M2FP side by side with ModelScope, ONNX Runtime and OpenVINO, into docs/measured/m2fp.md
	$(say) "measuring (ten minutes; let nothing else run)"
	@$(BENCH) bench --m2fp $(abspath $(M2FP)) \
		--bootstrap $(abspath $(TARGET_DIR))/release/bootstrap --write $(abspath docs/measured/m2fp.md) $(ARGS)

without-avx512: build ## target/without-avx512/m2fp: the command line, as Lambda's x86_64 processors run it
	@$(PYTHON) scripts/hide_avx512.py $(M2FP) --out $(TARGET_DIR)/without-avx512

bench-memory: build $(BENCH_VENV)/bench ## M2FP's memory, our steps added one by one, into docs/measured/memory-steps.md
	$(say) "measuring (three minutes; let nothing else run)"
	@$(BENCH) bench.memory --m2fp $(abspath $(M2FP)) --write $(abspath docs/measured/memory-steps.md) \
		--plot $(abspath docs/images/memory-steps.svg) $(ARGS)

bench-parsers: build $(BENCH_VENV)/bench ## wrapped parsers and M2FP's portable graph beside PyTorch, into docs/models.md
	$(say) "measuring (ten minutes)"
	@$(BENCH) bench.parsers --m2fp $(abspath $(M2FP)) --write $(abspath docs/models.md) $(ARGS)

FUZZ_SECONDS ?= 30
# Without a sanitizer libFuzzer runs on the stable compiler.
fuzz: runtime ## every fuzz target for a short time (FUZZ_SECONDS=30 each)
	@command -v cargo-fuzz >/dev/null || { echo 'cargo-fuzz is missing: cargo install --locked cargo-fuzz' >&2; exit 1; }
	@for name in decode dispatch; do \
		case $$name in decode) seeds=fuzz/seeds/decode;; dispatch) seeds=events;; esac; \
		printf '\033[1m» fuzzing %s\033[0m\n' $$name; mkdir -p fuzz/corpus/$$name; \
		$(CARGO) fuzz run --sanitizer none $$name fuzz/corpus/$$name $$seeds -- \
			-max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 || exit; \
	done

# --- clean ------------------------------------------------------------------------------------------------------

.PHONY: clean
clean: ## remove what was built and fetched
	rm -rf $(VENV) $(MODEL_VENV) $(BENCH_VENV) .runtime demo dist .aws-sam
	$(CARGO) clean
