# Two commands do everything: `make demo` and `make test`. Both need Python 3.11+ and nothing else.
ROWS ?= 10000
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin

.PHONY: demo test check docs bench soak mutants clean

demo: .venv/installed
	@$(BIN)/python -m engine demo --rows $(ROWS)

test: .venv/tested
	@sh tests/install_servers.sh
	$(BIN)/python -m pytest -n auto $(ARGS)

check: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(BIN)/python -m engine validate pipelines/*.yaml

docs: .venv/tested
	$(BIN)/python docs/site.py
	@echo "The site is in var/site: open var/site/index.html"

soak: .venv/tested
	$(BIN)/python -m tests.soak.dice $(or $(ARGS),--minutes 10)

mutants: .venv/tested
	$(BIN)/python -m tests.mutants $(ARGS)

bench: .venv/tested
	$(BIN)/python bench/compare.py $(ARGS)
	$(BIN)/python bench/little.py
	$(BIN)/python bench/slow.py
	$(BIN)/python bench/workers.py
	$(BIN)/python bench/start.py
	$(BIN)/python bench/memory.py
	$(BIN)/python bench/model.py
	$(BIN)/python bench/grow.py
	$(BIN)/python bench/ledger.py

.venv/created:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found"; exit 1; }
	@$(PYTHON) -m venv .venv || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && apt-get install -y -qq python3-venv && $(PYTHON) -m venv .venv; }
	@touch $@

.venv/installed: .venv/created pyproject.toml constraints.txt
	@echo "Installing SyncLedger into .venv ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/tested: .venv/created pyproject.toml constraints.txt
	@echo "Installing SyncLedger and its test tools into .venv ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,mssql,cluster]'
	@touch $@ .venv/installed

clean:
	rm -rf .venv var dist build
