.PHONY: lint types test check
lint:
	ruff check . && ruff format --check .
types:
	mypy
test:
	python -m pytest
check: lint types test
