# make book    execute every chapter and build the book: _build/html/index.html
# make test    the tests
# make plain   tests of the method and the export without the engine
# make train   train on digits, some seconds
# make prove   what proves more but takes hours: malformed inputs, killed sweeps, fresh installs
# make lock    renew requirements.lock: the newest packages with which book and tests pass
# make bench   the speed comparisons
# make pdf     the built book as one PDF: _build/qtlite.pdf
# make triton  Triton, for the tests of the GPU's kernels without a GPU
# make lint    style
# make clean   remove what was built (kept: .venv, runs/, .data/)
#
# Python >= 3.11 and make are all that has to be there: each target first installs what
# requirements.lock names into .venv, once.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if $$name -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null; \
	then echo $$name; break; fi; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# PyTorch's own index has the builds without CUDA. Asked for these two packages alone and only
# once, it costs a second where it cannot be reached; pip then takes what else it knows of.
TORCH := $$(grep -E '^torch(vision)?==' requirements.lock)
NEWEST_TORCH := torch torchvision
TORCH_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu --retries 0 --timeout 10

.DEFAULT_GOAL := help
.PHONY: help book test plain prove newest lock train bench pdf triton repo2docker lint clean

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

book: .venv/installed
	$(BIN)/python book/build.py

# a file to a process: its tests share what they have trained
test: .venv/installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

plain: .venv/installed
	rm -rf .plain && git clone --quiet . .plain && rm -r .plain/qtlite/engine
	cd .plain && PYTHONPATH="$$PWD" ../$(BIN)/python -m pytest -n auto --maxprocesses 4 \
		--dist loadfile -p no:cacheprovider tests/method tests/export
	rm -rf .plain

prove: .prove/installed
	$(BIN)/python tests/hostile/run.py
	$(BIN)/python tests/hostile/fuzz.py --files 10000
	$(BIN)/python -m pytest -m slow
	$(BIN)/python tests/prove/kill_sweeps.py
	$(BIN)/python tests/prove/chapters.py
	.prove/bin/python tests/prove/targets.py
	.prove/bin/python tests/prove/circuits.py
	$(BIN)/python tests/prove/install.py

# other libraries' networks in an environment of their own, which sees all that .venv has
.prove/installed: .venv/installed
	$(BIN)/python -m venv --without-pip .prove
	$(BIN)/python -c "import sysconfig; print('import site; site.addsitedir(%r)' % \
		sysconfig.get_path('purelib'))" > $$(echo .prove/lib/python*/site-packages)/locked.pth
	$(PIP) --python .prove/bin/python install --quiet --no-build-isolation --editable '.[prove]'
	@touch $@

# a clone in .newest with the newest packages, and its lock with their versions
newest:
	rm -rf .newest && git clone --quiet . .newest && $(PYTHON) -m venv .newest/.venv
	.newest/$(PIP) install --quiet $(TORCH_INDEX) $(NEWEST_TORCH)
	cd .newest && $(PIP) install --quiet --editable '.[test]'
	cd .newest && { grep '^#' ../requirements.lock; { grep ' ; ' ../requirements.lock; \
		$(PIP) freeze --all --exclude-editable | grep -vE '^(pip|cuda|nvidia|triton)' | sed 's/+cpu//'; \
		} | LC_ALL=C sort -f; } >requirements.lock
	touch .newest/.venv/installed

lock: newest
	$(MAKE) -C .newest book test
	cp .newest/requirements.lock .requirements.lock && mv .requirements.lock requirements.lock
	rm -rf .newest

pdf: .venv/installed
	$(BIN)/python book/make_pdf.py

# in an environment of its own: its pins are not the book's
repo2docker:
	$(PYTHON) -m venv .repo2docker
	.repo2docker/bin/python -m pip install --quiet jupyter-repo2docker

train: .venv/installed
	$(BIN)/qtlite train

bench: .venv/installed
	$(BIN)/python -m benchmarks.simulators

triton: .venv/installed
	$(PIP) install --quiet --no-deps $$(grep -oE 'triton==[0-9.]+' requirements.lock)

lint: .venv/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

clean:
	rm -rf _build build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find qtlite tests benchmarks book -name __pycache__ -prune -exec rm -rf {} +

# --no-deps: the lock names every package, and a torchvision built for CUDA (the only Linux one
# where PyTorch's index cannot be reached) would pull in CUDA's gigabytes. A torch built for CUDA
# does not import without them, so only then are they fetched. `pip check` shows that none is missing.
.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "PYTHON must be Python 3.11 or newer, got none on PATH"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --no-deps $(TORCH_INDEX) $(TORCH)
	$(PIP) install --quiet --no-deps --requirement requirements.lock
	$(BIN)/python -c "import torch" 2>/dev/null || $(PIP) install --quiet torch
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	$(PIP) check
	@touch $@
