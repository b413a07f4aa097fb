"""The README says only what was run: here it is run, block by block."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import rows

from pgsaas.embedded import Server
from tests.cli.conftest import Shell
from tests.conftest import create_database, drop_database

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.compile(r"^```(sh|sql)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def statements(block: str) -> list[str]:
    return [part.strip() for part in re.split(r";\s*$", block, flags=re.MULTILINE) if part.strip()]


def test_every_block_of_the_readme_runs(
    bare: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    shell = Shell(monkeypatch, capsys)
    database = create_database(bare)
    shell.use(database.dsn)
    answers: list[dict[str, Any]] = []
    commands = 0
    try:
        for kind, block in BLOCKS.findall(README.read_text()):
            if kind == "sh":
                for line in block.splitlines():
                    if line.startswith("pgsaas "):
                        shell.ok(*shlex.split(line)[1:])
                        commands += 1
                continue
            user = "shop_backend" if block.startswith("-- as shop_backend") else "postgres"
            with psycopg.connect(
                database.dsn_as(user), autocommit=True, row_factory=rows.dict_row
            ) as conn:
                for statement in statements(block):
                    cursor = conn.execute(statement.encode())
                    answers += cursor.fetchall() if cursor.description else []
    finally:
        drop_database(database)
        with psycopg.connect(bare.url(), autocommit=True) as conn:
            conn.execute("drop role if exists shop_backend")
    assert commands == 33
    refused = [row for row in answers if row.get("success") is False]
    assert refused == []
    assert {"error_code": "ACCOUNT_NOT_FOUND"} in answers
    assert [row["seq"] for row in answers if "transaction_type" in row] == list(range(1, 10))
