from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pgsaas.embedded import Server
from tests.conftest import TEMPLATE, temporary_database

DOCS = Path(__file__).parents[2] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_those_that_make_docs_would_write(server: Server) -> None:
    with temporary_database(server, TEMPLATE) as database, database.connect() as conn:
        if conn.info.server_version < 180000:
            pytest.skip("the pages are made with PostgreSQL 18")
        for name, text in generator().generate(server, database.name).items():
            assert (DOCS / name).read_text() == text, f"docs/{name} is stale: run `make docs`"
