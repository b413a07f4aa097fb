"""What the installation tests share: altered copies of the SQL, dumps, the cluster's roles."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgsaas import install
from pgsaas.embedded import Server
from pgsaas.resources import Resources, packaged
from tests.conftest import Database, temporary_database


@pytest.fixture
def empty(bare: Server) -> Iterator[Database]:
    """A database without pgsaas on a server without its roles; both are again so afterwards."""
    with temporary_database(bare) as database:
        yield database
        install.uninstall(database.dsn, force=True)
    assert pgsaas_roles(bare) == []


@pytest.fixture
def files(tmp_path: Path) -> Resources:
    """A copy of sql/ and migrations/ that a test may alter."""
    source = packaged().root
    for folder in ("sql", "migrations"):
        shutil.copytree(source / folder, tmp_path / folder)
    return Resources(tmp_path)


def pgsaas_roles(server: Server) -> list[str]:
    """The roles of pgsaas on a server."""
    with psycopg.connect(server.url()) as conn:
        found = conn.execute("select rolname from pg_roles where rolname like 'pgsaas%'")
        return [row[0] for row in found]


def dump(database: Database, *options: str) -> str:
    """pg_dump of a database, without what differs from run to run."""
    command = [str(database.server.bindir / "pg_dump"), *options, database.dsn]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", text)


def psql(database: Database, script: str, *options: str, user: str = "postgres") -> None:
    """Run a script; psql's own exit code decides."""
    command = ["psql", "-X", "-q", *options, "-f", "-", database.dsn_as(user)]
    local = database.server.bindir / "psql"
    if local.exists():
        command[0] = str(local)
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def write(resources: Resources, path: str, text: str) -> None:
    """Create or replace one file of a copy."""
    (resources.root / path).write_text(text)
