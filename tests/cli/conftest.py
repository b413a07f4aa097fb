"""Commands run in this process, as main() runs them, against a clone of an installed database."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pgsaas.cli import main
from tests.conftest import Conn, Database


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Types `pgsaas …` and looks at what came of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def use(self, address: str | None) -> None:
        for name in ("DATABASE_URL", "PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE"):
            self.monkeypatch.delenv(name, raising=False)
        self.monkeypatch.delenv("PGSAAS_DATABASE_URL", raising=False)
        if address is not None:
            self.monkeypatch.setenv("PGSAAS_DATABASE_URL", address)

    def __call__(self, *arguments: str) -> Result:
        self.monkeypatch.setattr(sys, "argv", ["pgsaas", *arguments])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self.capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, printed.out, printed.err)

    def ok(self, *arguments: str) -> str:
        result = self(*arguments)
        assert result.code == 0, result
        return result.out

    def json(self, *arguments: str) -> Any:
        result = self(*arguments, "--json")
        assert result.code == 0, result
        return result.json


@pytest.fixture
def shell(
    db: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Shell:
    """A shell whose database is `db`."""
    monkeypatch.chdir(tmp_path)
    shell = Shell(monkeypatch, capsys)
    shell.use(db.dsn)
    return shell


@pytest.fixture
def ada(conn: Conn) -> str:
    """The external id of an account with 500 purchased credits in row 1."""
    conn.execute("select pgsaas.create_account(p_external_id => 'ada')")
    conn.execute(
        "select pgsaas.add_credits(pgsaas.account_id_for('ada'), 500, 'pack of 500', 'purchase')"
    )
    return "ada"


@pytest.fixture
def users(conn: Conn) -> Conn:
    """A users table of the application, with three rows."""
    conn.execute("create table public.users (id bigint primary key, email text)")
    conn.execute("insert into public.users select n, n || '@x.org' from generate_series(1, 3) n")
    return conn


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the server's user can reach too."""
    path = Path(tempfile.mkdtemp(prefix="pgsaas-test-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
