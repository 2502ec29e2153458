.PHONY: lint types test check reference docs
lint:
	ruff check . && ruff format --check .
types:
	mypy
test:
	python -m pytest
check: lint types test
reference:
	python tools/reference/make.py
docs:
	mkdocs build --strict
