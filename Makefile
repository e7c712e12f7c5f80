# Two commands matter: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= demo-out
MATRIX ?= matrix-out.md
JOBS ?= 2
# Cells that together need every pass that any cell needs: written by tools/matrix_cover.py
QUICK := docs/tables/matrix-quick.txt

.PHONY: audit demo endurance test soak test-slow matrix matrix-elsewhere matrix-quick pplnn-check fuzz check docs generated format clean

demo: $(STAMP)  ## compile the demo model, segment a generated scene and a real photograph
	$(BIN)/python examples/demo.py --out $(DEMO)

test: $(STAMP)  ## install and pass the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow"

soak: $(STAMP)  ## damaged files: 4200 of each of five kinds, with counts and the seeds of faults (hours)
	PYTHONPATH=. $(BIN)/python tools/soak.py --count 4200

endurance: $(STAMP)  ## threads, processes, 10,000 loads and an hour of changing sizes on three targets (hours)
	PYTHONPATH=. $(BIN)/python tools/endurance.py

test-slow: $(STAMP)  ## the exhaustive run: every model at the config's own crop size, both targets
	$(BIN)/python -m pytest -m slow

matrix-quick: $(STAMP)  ## the cells in QUICK, of all targets, static and dynamic, logits and masks
	$(BIN)/segc matrix --cells $(QUICK) --size 128x128 --jobs $(JOBS) --baseline docs/tables/support-matrix.json

matrix: $(STAMP)  ## the exhaustive run: all 33 families, 660 cells, 20 minutes; before a release
	$(BIN)/segc matrix --size 128x128 --jobs $(JOBS) --baseline docs/tables/support-matrix.json \
		--results docs/tables/pplnn-results.json -o $(MATRIX)

matrix-elsewhere: $(STAMP)  ## 43 models of torchvision, smp, timm and transformers, masks, 430 cells: about an hour; continues where it stopped
	nice -n 19 $(BIN)/segc matrix --elsewhere --outputs mask --jobs $(JOBS) --timeout 3600 --state matrix-elsewhere.state \
		-o docs/tables/elsewhere.md

pplnn-check: $(STAMP)  ## PYPPL=FOLDER: probes, all families and random models in a build of ppl.nn (docs/pplnn.md)
	-PYTHONPATH=.:$(PYPPL) $(BIN)/python tools/pplnn_probes.py   # what differs is listed; the rest runs all the same
	PYTHONPATH=$(PYPPL) $(BIN)/segc matrix --targets pplnn --size 128x128 --jobs $(JOBS) -o docs/tables/pplnn-results.md
	PYTHONPATH=.:$(PYPPL) $(BIN)/python tools/differential_fuzz.py pplnn --jobs $(JOBS)

fuzz: $(STAMP)  ## random models in ONNX Runtime, OpenVINO and ncnn, compared (about two hours)
	PYTHONPATH=. $(BIN)/python tools/differential_fuzz.py onnxruntime --jobs $(JOBS) --count 5000
	PYTHONPATH=. $(BIN)/python tools/differential_fuzz.py openvino --jobs $(JOBS) --count 20000
	PYTHONPATH=. $(BIN)/python tools/differential_fuzz.py ncnn --jobs $(JOBS) --count 20000

check: $(STAMP)  ## all static checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy segc
	$(BIN)/mypy --config-file tests/mypy.ini tests

audit: $(STAMP)  ## known vulnerabilities of the installed packages, where the package index answers
	PYTHONPATH=. $(BIN)/python tools/audit.py

docs: $(STAMP)  ## the site, in site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/mkdocs build --quiet

generated: $(STAMP)  ## files that are written from the code, kept in git
	$(BIN)/python -m segc.passes.registry
	$(BIN)/python -m segc.errors.reference
	PYTHONPATH=. $(BIN)/python tools/layout.py
	PYTHONPATH=. $(BIN)/python tools/schemas.py
	PYTHONPATH=. $(BIN)/python tools/draw_pipeline.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) $(DEMO) $(MATRIX) $(MATRIX:.md=.json) build dist site *.egg-info
