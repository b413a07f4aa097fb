"""Real PostgreSQL for every test: a server per worker, a template, a clone per test.

`db` is a fresh clone of an installed database, `conn` a superuser's connection to one, `tx` the
cheap variant: a transaction in a shared database that is rolled back. `bare` is a second server
without pgsaas, for tests that install it. Roles belong to a server, so a worker never shares
one. `PGSAAS_PG_BINDIR` picks the PostgreSQL.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
import pytest
from psycopg import sql

from pgsaas import install
from pgsaas.embedded import Server

Conn: TypeAlias = psycopg.Connection[tuple[Any, ...]]

TEMPLATE = "pgsaas_template"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a test server."""

    name: str
    server: Server

    @property
    def dsn(self) -> str:
        """Its address, as superuser."""
        return self.server.url(self.name)

    def dsn_as(self, user: str) -> str:
        """Its address for another login role."""
        return self.server.url(self.name, user)

    def connect(
        self,
        role: str | None = None,
        claims: Mapping[str, Any] | None = None,
        autocommit: bool = True,
    ) -> Conn:
        """A connection of its own, acting as `role` with these claims.

        Claims are set for the session, which a test may; the product sets them per transaction.
        """
        conn = psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None)
        if claims is not None:
            conn.execute("select set_config('request.jwt.claims', %s, false)", [json.dumps(claims)])
        if role is not None:
            conn.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        conn.autocommit = autocommit
        return conn

    def adopt(self) -> None:
        """A clone is a copy, and knows it; make it one that may act."""
        with self.connect() as conn:
            conn.execute("select pgsaas.adopt_installation()")


def create_database(server: Server, template: str = "template0") -> Database:
    """A new database; from a template of the same server by copying its files."""
    name = f"t{next(_numbers)}"
    with psycopg.connect(server.url(), autocommit=True) as conn:
        # measured in memory: 14 ms, and 5 ms to drop; wal_log takes twice as long and more
        conn.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    return Database(name, server)


def drop_database(database: Database) -> None:
    """Drop it, ending what is still connected."""
    with psycopg.connect(database.server.url(), autocommit=True) as conn:
        conn.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(database.name))
        )


@contextmanager
def temporary_database(server: Server, template: str = "template0") -> Iterator[Database]:
    """create_database() for the length of a block."""
    database = create_database(server, template)
    try:
        yield database
    finally:
        drop_database(database)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """This worker's server, with pgsaas installed in the template database, in test mode."""
    with Server() as running:
        with psycopg.connect(running.url(), autocommit=True) as conn:
            conn.execute(f"create database {TEMPLATE}")
        install.migrate(running.url(TEMPLATE), test_mode=True)
        yield running


@pytest.fixture(scope="session")
def bare() -> Iterator[Server]:
    """A second server of this worker without pgsaas and its roles."""
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def durable() -> Iterator[Server]:
    """A server with fsync on, for tests that kill it."""
    with Server(durable=True) as running:
        yield running


@pytest.fixture
def db(server: Server) -> Iterator[Database]:
    """A fresh clone of the installed database."""
    with temporary_database(server, TEMPLATE) as database:
        yield database


@pytest.fixture
def conn(db: Database) -> Iterator[Conn]:
    """A superuser's connection to a fresh clone, in autocommit mode."""
    with db.connect() as connection:
        yield connection


@pytest.fixture(scope="session")
def shared_db(server: Server) -> Iterator[Database]:
    """One clone for all tests that roll back."""
    with temporary_database(server, TEMPLATE) as database:
        yield database


@pytest.fixture
def tx(shared_db: Database) -> Iterator[Conn]:
    """A transaction in the shared clone, rolled back at the end."""
    with shared_db.connect(autocommit=False) as connection:
        yield connection
        connection.rollback()


def require(component: str, present: bool) -> None:
    """Skip where an optional component is missing; fail where CI says all must be there."""
    if present:
        return
    if os.environ.get("PGSAAS_REQUIRE_ALL") == "1":
        pytest.fail(f"{component} is missing, and PGSAAS_REQUIRE_ALL is set")
    pytest.skip(f"{component} is not installed here")
