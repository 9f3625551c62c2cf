# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each target does its own set-up in .venv and is quick when run again.
# `make test` tests one of each kind in minutes, `make test-all` everything.
PYTHON ?= python3
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3
export PYTHONWARNINGS ?= ignore::DeprecationWarning:jupyter_client

.PHONY: demo test test-all lab docs bench notebooks export readme clean

demo: .venv/.ready
	$(BIN)/vaenb demo --out demo.html

test: .venv/.ready-dev
	$(BIN)/python tools/check.py

test-all: .venv/.ready-dev
	VAENB_THOROUGH=1 $(BIN)/python tools/check.py

lab: .venv/.ready-dev
	$(BIN)/jupyter lab --notebook-dir=nbs

docs: .venv/.ready-dev
	$(BIN)/python tools/site.py

bench: .venv/.ready-dev build/pythae/.ready
	$(BIN)/python benchmarks/throughput.py --pythae build/pythae/bin/python
	$(BIN)/python benchmarks/export.py --out vaenb/records/export.json
	$(BIN)/python benchmarks/rows.py --out vaenb/records/rows.json
	$(BIN)/python benchmarks/hosts.py --out vaenb/records/hosts.json

# For contributors: write vaenb/ from the notebooks; run notebooks from a fresh kernel and keep their outputs; write README.md.
export: .venv/.ready-dev
	$(BIN)/nbdev_export

notebooks: .venv/.ready-dev
	$(BIN)/python tools/notebooks.py $(NB)

readme: .venv/.ready-dev
	$(BIN)/python tools/readme.py

.venv/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; n = "%d.%d" % v; other = " Name another: make PYTHON=python3.12"; sys.exit("vaenb needs Python 3.11 or newer; this is " + n + "." + other if v < (3, 11) else "TensorFlow has no wheels for Python " + n + " yet." + other if v > (3, 13) else 0)'
	$(PYTHON) -m venv .venv

.venv/.ready: settings.ini setup.py constraints.txt | .venv/bin/python
	@echo "Installing vaenb into .venv (a minute or two the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tensorflow]'
	@touch $@

.venv/.ready-dev: .venv/.ready
	@echo "Installing what developing vaenb needs into .venv (a minute or two the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[tensorflow,dev,jax,lab]'
	@touch $@

# The library that the benchmark compares with, in an environment of its own.
build/pythae/.ready:
	@echo "Installing pythae and PyTorch into build/pythae (some minutes the first time)"
	@$(PYTHON) -m venv build/pythae
	@build/pythae/bin/pip install --quiet --disable-pip-version-check torch==2.13.0
	@build/pythae/bin/pip install --quiet --disable-pip-version-check pythae==0.1.2
	@touch $@

clean:
	rm -rf .venv _docs _proc build *.egg-info demo.html demo
