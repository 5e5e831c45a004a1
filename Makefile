PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PARITY := .venv-parity/bin

.PHONY: app test drills browser parity bench-signals mutation lm-test

app: $(STAMP)
	$(BIN)/streamlit run app.py

test: $(STAMP) browser
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 -m "not drill"

# pytest exits with 5 when it finds no test to run.
drills: $(STAMP) parity
	@code=0; $(BIN)/pytest -m drill || code=$$?; \
	if [ $$code -eq 5 ]; then echo "no drills found, none run"; code=0; fi; \
	exit $$code
	$(MAKE) lm-test

# The real-model path has its own environment: the optional extra [lm].
lm-test: .venv-lm/.installed
	.venv-lm/bin/pytest tests/lm

.venv-lm/.installed: pyproject.toml constraints.txt constraints-lm.txt
	test -x .venv-lm/bin/python || $(PYTHON) -m venv .venv-lm
	.venv-lm/bin/python -m pip install -c constraints.txt -c constraints-lm.txt -e '.[dev,lm]'
	touch $@

# Our formulas against verl's and TRL's own code, in an environment of its own: their pins differ
# from ours, and verl needs Python < 3.13.
parity: .venv-parity/.installed
	OMP_NUM_THREADS=1 $(PARITY)/python -m pytest -p no:cacheprovider tests/parity

bench-signals: .venv-parity/.installed
	OMP_NUM_THREADS=1 $(PARITY)/python benchmarks/signals.py

# Every mutant of every function of the signal modules; docs/mutation.md says how long it takes.
mutation: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tools/mutation.py --report docs/mutation.md

# verl declares what its trainers need; its formulas need the few packages named here.
.venv-parity/.installed: constraints-parity.txt
	test -x $(PARITY)/python || $(PYTHON) -m venv .venv-parity
	$(PARITY)/python -m pip install -c constraints-parity.txt accelerate codetiming datasets \
		hypothesis numpy omegaconf pytest ray scipy tensordict torch transformers
	$(PARITY)/python -m pip install --no-deps verl==0.9.1 trl==1.16.0 -e .
	touch $@

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

# The browser tests drive Debian's Chromium. Best effort: this step never fails.
browser:
	@if [ "$$(id -u)" = 0 ] && ! command -v chromium >/dev/null && command -v apt-get >/dev/null; then \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium; } </dev/null \
		|| echo "chromium could not be installed"; \
	fi

# Pictures of every page, from the packaged example and a race trained on the spot.
.PHONY: screenshots
screenshots: $(STAMP) browser
	$(BIN)/python benchmarks/screenshots.py
