PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: app test drills browser lm-test

app: $(STAMP)
	$(BIN)/streamlit run app.py

test: $(STAMP) browser
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 -m "not drill"

# pytest exits with 5 when it finds no test to run.
drills: $(STAMP)
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
