# Every target sets up what it needs: a virtual environment of its own, no root, nothing twice.
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo study app figures screenshots test test-quick walks check audit atlas calibrate bench clean

demo: study  ## run the bundled study, then serve the workbench on it where a person sits at the terminal
	@if [ -t 0 ] && [ -t 1 ]; then $(MAKE) --no-print-directory app; \
	else echo "To look at it in a browser: make app"; fi

study: $(READY)  ## run the bundled study and print what it found
	$(PY) -m analysis run atlas --latency

PORT ?= 8501
app: $(READY)  ## serve the workbench on finished runs, on this machine only
	@echo "Serving on http://localhost:$(PORT)"
	$(VENV)/bin/streamlit run app.py --server.port $(PORT) --server.address localhost

test: $(READY)  ## every test; those that need Chromium or the SmolLM2 file say so where it is missing
	$(PY) -m pytest -n 2

test-quick: $(READY)  ## the tests that together take minutes
	$(PY) -m pytest -n 2 -m "not slow and not real and not browser and not walk"

walks: $(READY)  ## the demo from its command to its pages, and every box of every page, in Chromium: a quarter of an hour
	$(PY) -m tests.walks

check: $(READY)  ## the gates: lint, format, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

AUDIT := $(VENV)/audit
audit: $(READY)  ## ask the package index for known vulnerabilities of all that .venv holds
	test -x $(AUDIT)/bin/pip || $(PYTHON) -m venv $(AUDIT)  # its own: pip-audit's needs are none of our pins
	$(AUDIT)/bin/pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(PY) .ci/audit.py $(AUDIT)/bin/pip-audit

atlas: $(READY)  ## rebuild what is committed in data/atlas: facts, weights, tokenizer, model card
	$(PY) -m probes.organisms

calibrate: $(READY)  ## the whole pipeline on organisms of known truth: hours; goes on where it stopped
	$(PY) -m analysis calibrate

bench: $(READY)  ## what it costs, as ratios within one run, beside the libraries' own ways
	$(PY) -m benchmarks

RUN ?= atlas
figures: $(READY)  ## every figure of a finished run (RUN=atlas) for a paper, with its data; PDF needs Chromium
	$(PY) -m analysis figures $(RUN)

screenshots: $(READY)  ## picture every page of the demo run, light and dark (needs Chromium)
	$(PY) -m analysis.screenshots --run atlas

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

# The .pth file makes data, probes and analysis importable from any folder, in notebooks and workers alike.
$(READY): requirements.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not on this machine: install Python 3.11"; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PY) -c "import pathlib, sysconfig; \
	  pathlib.Path(sysconfig.get_paths()['purelib'], 'palimpsest.pth').write_text('$(CURDIR)\n')"
	touch $(READY)
