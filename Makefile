# The two commands: `make demo` and `make test`. They need Rust, Python 3 with pip, and make.

CARGO ?= cargo
PYTHON ?= python3
RUNTIME := target/onnxruntime/libonnxruntime.so
WEBGPU := target/onnxruntime-webgpu/libonnxruntime.so
BINARY := target/release/weakrest
VENV := target/venv
PICTURES := target/demo/pictures
# Pictures that tests measure on; without them those tests say that they skip.
export WEAKREST_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data))
# Arguments of `make demo DATA=DIR`, such as ARGS="--any-size --size 512".
ARGS ?=
SECONDS ?= 20
MINUTES ?= 1
# Debian's names of the machines that `make deb` is for.
ARCH ?= amd64
BOARD := aarch64-unknown-linux-gnu
FEATURES ?= --no-default-features

.PHONY: help demo test skips runtime build cross cross-test deb deb-test board-test python rust lint public-api features format licenses fuzz readme-picture tables table-labels table-products table-backbones general-head general-adclick general-adclick-scales table-clicks table-seg plot-labels text-encoder bench bench-coreset bench-gate bench-growth bench-search soak cameras gpu-test wrong-pass clean

help:
	@echo "make demo              enroll, inspect and report on photographs with painted defects"
	@echo "make demo DATA=DIR     the same on your folder in MVTec layout (ARGS=... for weakrest enroll)"
	@echo "make test              all checks and tests: Rust, Python, documents"
	@echo "make runtime           get ONNX Runtime"
	@echo "make build             the release binary: $(BINARY)"
	@echo "make cross             the device's program for boards (aarch64; FEATURES= for all of it): target/$(BOARD)/ship/weakrest"
	@echo "make cross-test        the aarch64 tests on an emulated processor (Debian)"
	@echo "make deb ARCH=arm64    the Debian packages (amd64 without ARCH; ARCH=\"amd64 arm64\" for both): target/deb/"
	@echo "make deb-test          install, upgrade, remove and purge them in their own root (Debian, root)"
	@echo "make board-test        install, enroll, inspect and fail on an emulated board (Debian; installs nothing here)"
	@echo "make tables            the measured tables of the documentation (needs WEAKREST_DATA)"
	@echo "make table-labels      what each kind of label is worth on every product (half an hour; ARGS=... for the tool)"
	@echo "make table-products    every product by setting and seed: ARGS=\"--only bottle --settings all\" (needs WEAKREST_DATA)"
	@echo "make table-backbones   backbones by accuracy, time on each provider and size: BACKBONES=\"defaults dinov2-s mine.onnx\" ARGS=\"--only bottle\" (needs WEAKREST_DATA)"
	@echo "make general-head      train the built-in head again (needs WEAKREST_DATA)"
	@echo "make table-clicks      accuracy by number of clicks: ARGS=\"bottle\" (needs WEAKREST_DATA; hours)"
	@echo "make table-seg         heads trained with clicked and with true masks: ARGS=\"bottle\""
	@echo "make plot-labels       plot what labels are worth against labeling time: docs/labels.svg"
	@echo "make general-adclick   train the built-in click network again, or general-adclick-scales (needs WEAKREST_DATA)"
	@echo "make text-encoder      export the text encoder for free prompts: target/text-encoder/"
	@echo "make bench             time that the pipeline adds to its stages"
	@echo "make bench-search      the nearest-neighbor search against other programs (needs WEAKREST_DATA)"
	@echo "make bench-gate        missed and undetected pulses on a busy machine (PULSES=10000; about ten minutes)"
	@echo "make bench-coreset     the coreset against anomalib's (needs WEAKREST_DATA)"
	@echo "make bench-growth      time and memory against the number of enrolled pictures (needs WEAKREST_DATA)"
	@echo "make gpu-test          every network on a GPU: whole, with the CPU's scores, for a minute (after make demo; needs a GPU)"
	@echo "make soak MINUTES=10   run a line at full rate (after make demo)"
	@echo "make cameras CAMERAS=4 several inspectors at once, at 80 % of the machine's rate (after make demo)"
	@echo "make wrong-pass MINUTES=3  count passed bad parts under stops, kills, load and a hostile camera"
	@echo "make licenses          check the dependencies' licenses"
	@echo "make fuzz SECONDS=20   fuzz the readers of foreign bytes"
	@echo "make format            format Rust and Python"
	@echo "make public-api        update docs/public-api.txt after an intended change of the libraries' public items"

runtime: $(RUNTIME)

$(RUNTIME): tools/fetch-onnxruntime.sh tools/from-wheel.sh
	@tools/fetch-onnxruntime.sh $(@D)
	@touch $@

# For the tests of WebGPU, which say that they skip without it.
$(WEBGPU): tools/fetch-onnxruntime-webgpu.sh tools/from-wheel.sh
	@tools/fetch-onnxruntime-webgpu.sh $(@D) && touch $@ || true

build: $(RUNTIME)
	$(CARGO) build --release --locked

# For glibc 2.28 or newer, which is also what ONNX Runtime's library needs.
cross:
	tools/cross.sh $(BOARD) build --locked --profile ship --bin weakrest $(FEATURES)
	@tools/fetch-onnxruntime.sh aarch64 target/$(BOARD)/onnxruntime
	@tools/glibc-floor.sh 2.28 target/$(BOARD)/ship/weakrest target/$(BOARD)/onnxruntime/libonnxruntime.so

cross-test: build
	@tools/cross-test.sh $(CPU)

deb:
	@for arch in $(ARCH); do tools/deb.sh $$arch || exit; done

deb-test:
	@tests/deb/run.sh

# Photographed parts where there are some, the demo's where not. Kinds of defects that no inspection may overlook.
BOTTLES := $(wildcard $(WEAKREST_DATA)/mvtec_ad/bottle)
BOARD_PARTS ?= $(or $(BOTTLES),$(PICTURES)/gravel)
BOARD_BAD ?= $(if $(BOTTLES),broken_large,foreign scratch stain)
board-test: $(if $(BOTTLES),,$(PICTURES)/README.txt)
	@$(PYTHON) tests/board/run.py --only-look
	@$(MAKE) --no-print-directory deb ARCH=arm64
	@$(PYTHON) tests/board/run.py --folder target/board --parts "$(BOARD_PARTS)" --bad $(BOARD_BAD) \
		--package "$$(ls -t target/deb/weakrest_*_arm64.deb | head -n 1)"

$(PICTURES)/README.txt: $(RUNTIME)
	$(CARGO) build --release --locked --package demo-pictures
	@tools/fetch-photographs.sh target/photographs
	@target/release/demo-pictures target/photographs $(PICTURES)

ifdef DATA
demo: build
	@tools/demo.sh "$(DATA)" target/demo-own $(ARGS)
else
# One call builds the program and what paints the pictures side by side.
demo: $(RUNTIME)
	$(CARGO) build --release --locked --package weakrest --bin weakrest --package demo-pictures --bin demo-pictures
	@tools/fetch-photographs.sh target/photographs
	@target/release/demo-pictures target/photographs $(PICTURES)
	@tools/demo.sh $(PICTURES) target/demo $(ARGS)
endif

# The Python half waits for downloads and for one core: the Rust half builds beside it.
test: skips
	@$(MAKE) --no-print-directory --jobs=2 python rust
	$(CARGO) test --workspace --locked --quiet
	$(PYTHON) tools/check_docs target/debug/weakrest $(VENV)/bin/python
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet --package posfar --package swinhead --package weakrest
	@if [ -s target/skipped.txt ]; then echo; echo "Skipped:"; sort -u target/skipped.txt; fi
	@echo "make test: all passed"

# Whatever is skipped says so here.
skips:
	@mkdir -p target && : > target/skipped.txt

# All that is checked and built before Rust tests run.
rust: lint features licenses $(WEBGPU)
	$(CARGO) test --workspace --locked --quiet --no-run

lint: skips $(RUNTIME)
	$(CARGO) fmt --all --check
	@tools/javascript/check.sh
	$(CARGO) clippy --workspace --locked --all-targets --quiet -- -D warnings
	$(PYTHON) tools/check-rooms.py
	$(PYTHON) tools/public-api.py
	@# The fuzz targets lock the library's dependencies once more.
	@$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml > /dev/null

# After an intended change of the public items.
public-api:
	$(PYTHON) tools/public-api.py --write

# The device's program, and one without free words.
features:
	$(CARGO) check --locked --quiet --no-default-features --all-targets
	$(CARGO) check --locked --quiet --no-default-features --features workshop --all-targets

python: $(VENV)/installed
	cd export && ../$(VENV)/bin/ruff check --config pyproject.toml . ../tools ../tests/board ../tests/modbus ../tests/openapi
	cd export && ../$(VENV)/bin/ruff format --config pyproject.toml --check . ../tools ../tests/board ../tests/modbus ../tests/openapi
	cd export && ../$(VENV)/bin/mypy --strict src
	cd export && ../$(VENV)/bin/python -m pytest -q

$(VENV)/installed: export/requirements.lock export/text-encoder.lock export/pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r export/requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r export/text-encoder.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -e export
	@touch $@

format: $(VENV)/installed
	$(CARGO) fmt --all
	cd export && ../$(VENV)/bin/ruff format --config pyproject.toml . ../tools ../tests/board ../tests/modbus ../tests/openapi

# After `make demo`.
readme-picture: build
	$(CARGO) run --quiet --release --locked --example contact_sheet -- docs/demo.jpg target/demo/brick.weakrest \
		$(PICTURES)/brick/test/foreign/000.png $(PICTURES)/brick/test/scratch/000.png \
		$(PICTURES)/brick/test/stain/000.png $(PICTURES)/brick/test/good/001.png

tables: build $(VENV)/installed
	ORT_DYLIB_PATH=$(RUNTIME) $(PYTHON) tools/tables.py $(TABLES)

table-labels: build $(VENV)/installed
	ORT_DYLIB_PATH=$(RUNTIME) $(VENV)/bin/python tools/table_labels.py $(ARGS)

table-products: build
	ORT_DYLIB_PATH=$(RUNTIME) $(PYTHON) tools/table_products.py $(ARGS)

# Networks whose weights are downloaded, or files: see tools/table_backbones.toml.
BACKBONES ?= fast defaults wide-resnet50 dinov2-s
table-backbones: build $(VENV)/installed
	ORT_DYLIB_PATH=$(RUNTIME) $(PYTHON) tools/table_backbones.py $(ARGS) $(BACKBONES)

general-head: build $(VENV)/installed
	@tools/fetch-photographs.sh target/photographs
	ORT_DYLIB_PATH=$(RUNTIME) $(VENV)/bin/python tools/general.py head

general-adclick general-adclick-scales: build $(VENV)/installed
	@tools/fetch-photographs.sh target/photographs
	ORT_DYLIB_PATH=$(RUNTIME) $(VENV)/bin/python tools/general.py $(@:general-%=%)

# Another program's masks are compared with: OpenCV's GrabCut.
table-clicks: build $(VENV)/installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target target/rivals-clicks \
		opencv-python-headless==5.0.0.93
	ORT_DYLIB_PATH=$(RUNTIME) PYTHONPATH=target/rivals-clicks $(VENV)/bin/python tools/table_clicks.py $(ARGS)

table-seg: build $(VENV)/installed
	ORT_DYLIB_PATH=$(RUNTIME) $(VENV)/bin/python tools/table_seg.py $(ARGS)

# After `make table-labels`.
plot-labels:
	$(PYTHON) -m venv target/plot
	target/plot/bin/pip install --quiet --disable-pip-version-check matplotlib==3.11.2
	target/plot/bin/python tools/plot_labels.py docs/labels.svg

# For prompts in words that nobody trained with; `weakrest label --text-encoder` names the folder.
text-encoder: $(VENV)/installed
	@mkdir -p target/text-encoder
	$(VENV)/bin/weakrest-export text-encoder --out target/text-encoder

bench: $(RUNTIME)
	$(CARGO) bench --locked --bench pipeline

# Two products at two sizes, each searched among 32 and 64 similar pictures.
SEARCHES := target/search
bench-search: build
	@tools/dump-searches.sh $(BINARY) $(WEAKREST_DATA) $(SEARCHES)
	$(PYTHON) -m venv $(SEARCHES)/venv
	$(SEARCHES)/venv/bin/pip install --quiet --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.4.6 safetensors \
		threadpoolctl usearch torch
	ORT_DYLIB_PATH=$(RUNTIME) $(SEARCHES)/venv/bin/python tools/bench_search.py

# Another program's loop on the same tokens. Its class needs none of the packages that it says it depends on but these.
bench-coreset: build $(VENV)/installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target target/rivals-coreset \
		anomalib==2.7.0 cloudpickle==3.1.2 joblib==1.6.0 narwhals scikit-learn==1.9.1 scipy==1.17.1 threadpoolctl tqdm
	tools/dump-features.sh $(BINARY) $(WEAKREST_DATA)/mvtec_ad/bottle target/features
	@mkdir -p target/coreset
	$(CARGO) bench --locked --package posfar --bench coreset -- \
		$(CURDIR)/target/features/good.safetensors $(CURDIR)/target/coreset
	PYTHONPATH=target/rivals-coreset $(VENV)/bin/python tools/bench_coreset.py

bench-gate:
	$(CARGO) bench --locked --bench gate

bench-growth: build
	tools/dump-features.sh $(BINARY) $(WEAKREST_DATA)/mvtec_ad/bottle target/features
	$(CARGO) bench --locked --package posfar --bench growth -- $(CURDIR)/target/features/good.safetensors \
		$(CURDIR)/target/features/test.safetensors $(CURDIR)/target/growth.json
	$(PYTHON) -m venv target/plot
	target/plot/bin/pip install --quiet --disable-pip-version-check matplotlib==3.11.2
	target/plot/bin/python tools/plot_growth.py docs/growth.svg

# After `make demo`.
soak: $(RUNTIME)
	MINUTES=$(MINUTES) $(CARGO) bench --locked --bench soak

# After `make demo`.
gpu-test: build
	$(PYTHON) tools/gpu_test.py

# After `make demo`.
cameras: build
	$(PYTHON) tools/cameras.py

wrong-pass: MINUTES = 3
wrong-pass: $(RUNTIME)
	MINUTES=$(MINUTES) $(CARGO) bench --locked --bench wrong_pass

licenses:
	$(PYTHON) tools/check-licenses.py

fuzz:
	fuzz/run.sh $(SECONDS)

clean:
	rm -rf target/demo target/demo-own target/photographs
	$(CARGO) clean
