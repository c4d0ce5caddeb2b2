# Each target sets up what it needs; Python 3.11 or newer and make are enough.
PYTHON ?= python3
ARGS ?=

.PHONY: predict test test-ui test-fuzz test-adapters test-lowest test-highest lint docs bench-small baselines properties clean

.venv: .venv/installed
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

predict: .venv/installed
	@test -n "$(FORMULA)" || { echo 'Name a formula: make predict FORMULA=SrTiO3' >&2; exit 2; }
	.venv/bin/csp predict '$(FORMULA)' $(ARGS)

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

test: lint
	OMP_NUM_THREADS=1 .venv/bin/pytest -n auto $(ARGS)

# Any warning is an error. The pages are build/docs/index.html and those beside it.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

# The fast tests with the lowest and with the highest versions that pyproject.toml admits, each in an environment of its
# own. Several GB are downloaded. Old packages warn of new ones, so that warnings are no errors here.
LOWEST := --resolution lowest-direct
HIGHEST := --upgrade
VERSIONS ?= build/versions
test-lowest test-highest: test-%:
	rm -rf $(VERSIONS)/$*
	$(PYTHON) -m venv $(VERSIONS)/$*
	$(VERSIONS)/$*/bin/pip install --quiet --disable-pip-version-check uv
	$(VERSIONS)/$*/bin/uv pip compile --quiet --no-annotate $($(if $(filter lowest,$*),LOWEST,HIGHEST)) --extra dev \
		--python $(VERSIONS)/$*/bin/python --output-file $(VERSIONS)/$*/versions.txt pyproject.toml
	$(VERSIONS)/$*/bin/uv pip install --quiet --python $(VERSIONS)/$*/bin/python -r $(VERSIONS)/$*/versions.txt
	$(VERSIONS)/$*/bin/uv pip install --quiet --python $(VERSIONS)/$*/bin/python --no-deps -e .
	OMP_NUM_THREADS=1 $(VERSIONS)/$*/bin/python -m pytest -n auto -o filterwarnings=default --disable-warnings \
		-p no:cacheprovider $(ARGS)

# Real servers, a browser, PostgreSQL, nginx and Dask; as root it installs Debian's packages first.
test-ui: .venv/installed
	@{ command -v chromium && ls /usr/sbin/nginx && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 \
		|| test $$(id -u) -ne 0 || { \
		export DEBIAN_FRONTEND=noninteractive; timeout 300 apt-get update -qq && \
		timeout 600 apt-get install -y -qq --no-install-recommends chromium nginx-light postgresql >/dev/null; }
	OMP_NUM_THREADS=1 timeout --kill-after=30 1800 \
		.venv/bin/pytest -n 2 --dist loadfile -m 'service and not slow' tests/flows tests/csp/report $(ARGS)

# The property models, on the surrogate that is here; what is done is kept.
PROPERTIES ?= build/properties
properties: .venv/installed
	OMP_NUM_THREADS=1 .venv/bin/csp train properties --structures $(DATA)/mp_structures.parquet \
		--tables $(DATA)/mp_properties.parquet --tables $(DATA)/mp_stability.parquet --limit 16000 \
		--cache $(PROPERTIES) --out surrogates/weights/properties $(ARGS)

# Random inputs to all that reads what people bring, for ten minutes.
test-fuzz: .venv/installed
	OMP_NUM_THREADS=1 FUZZ_SECONDS=$(or $(SECONDS),600) .venv/bin/pytest -m fuzz tests/fuzz $(ARGS)

# Potentials of other packages, in an environment of their own. This SevenNet is the newest that the torch-sim for
# Python 3.11 can drive; its package carries its weights.
.venv-adapters/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-adapters
	.venv-adapters/bin/pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[torch-sim]' pytest pytest-timeout sevenn
	touch $@

test-adapters: .venv-adapters/installed
	OMP_NUM_THREADS=1 timeout --kill-after=30 900 .venv-adapters/bin/pytest -m '' \
		tests/surrogates/potentials/test_sevennet.py tests/surrogates/potentials/test_torch_sim.py $(ARGS)

# With DATA, a folder of the 35 crystals and a library, nothing is asked; without, the Materials Project is asked for
# the 35, and the library is the one of `csp library use`.
DATA ?= ../shared/data
bench-small: .venv/installed
	.venv/bin/csp benchmark recovery --budget small --only GaAs,ZnO,VO2,CaCO3,SrTiO3 \
		$(if $(wildcard $(DATA)),--targets $(DATA)/benchmark35 --library $(DATA)/mp_structures.parquet,--library auto) \
		--out out/bench-small --resume $(ARGS)

# The engine beside PyXtal, random cells and CrySPY at equal time, in an environment of their own; what is done is
# kept. With DATA, nothing is asked; without, the Materials Project is asked for the 18.
BASELINES ?= out/baselines
.venv-baselines/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-baselines
	.venv-baselines/bin/pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[benchmarks]' csp-cryspy
	touch $@

baselines: .venv-baselines/installed
	.venv-baselines/bin/csp benchmark baselines --out $(BASELINES) \
		$(if $(wildcard $(DATA)),--library $(DATA)/mp_structures.parquet --library $(DATA)/mp_benchmark35.parquet) $(ARGS)

clean:
	rm -rf .venv .venv-adapters .venv-baselines build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
