# make book, make test: all set-up included. PYTHON picks the interpreter (3.11 to 3.13).
PYTHON ?= python3
BIN := .venv/bin
# idle threads sleep instead of spinning against a neighbour on a busy machine
export OMP_WAIT_POLICY := PASSIVE
BUILD := $(BIN)/jupyter-book build . -n -W --keep-going

.PHONY: help book test nightly serve lab reproduce shots times bench evidence lint clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

book: .venv/ready  ## execute and build the book (strict); prints where it is
	$(BUILD)

test: .venv/ready  ## every chapter cell by cell, the library, the built pages in a browser; says how long each took
	$(BIN)/pytest -n logical --maxprocesses 4

nightly: .venv/ready  ## make test, with the tests that are too slow for it
	W2S_SLICE=1 $(BIN)/pytest -n logical --maxprocesses 4 -m ""

serve: book  ## build, then serve the book on http://localhost:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

lab: .venv/ready  ## open the chapters as notebooks in JupyterLab
	$(BIN)/jupyter lab book

reproduce: book  ## re-run the executed notebooks and compare every output with what the reader sees
	ln -sfn ../../../book/_data _build/jupyter_execute/book/_data
	W2S_STATIC=1 $(BIN)/pytest -o addopts= --nbval --nbval-current-env --nbval-cell-timeout=300 _build/jupyter_execute

shots: book  ## pictures of every page in _build/shots (wide, narrow, dark), and of the README
	$(BIN)/python tests/book/screenshots.py

times: .venv/ready  ## measure the pages, and write their reading times (PAGE=...: one page, and what it still owes)
	$(BIN)/python tests/support/measure_pages.py --write $(PAGE)

bench: .venv/ready  ## time the training core beside other ways (15 minutes); writes book/_data/bench.json
	$(BIN)/python tests/benchmarks/bench.py

evidence: .venv/ready  ## compute the tables of real data anew (hours; goes on where it stood); writes book/_data/evidence
	OMP_NUM_THREADS=1 $(BIN)/python -m w2s_lib evidence --jobs 2 --out book/_data/evidence

lint: .venv/ready  ## style of the code, and types of the library (ruff, mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:  ## remove everything that these commands made
	rm -rf _build .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info

.venv/ready: requirements.txt pyproject.toml book/jupyterlab_settings.json
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -r requirements.txt -e .
	install -D -m 644 book/jupyterlab_settings.json .venv/share/jupyter/lab/settings/overrides.json
	touch $@
