"""Plays the story: runs each statement as it is printed and gives back what it answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import rows
from psycopg.types.json import set_json_loads

from pgsaas import install
from pgsaas.demo.story import STORY, Step
from pgsaas.embedded import Server

DATABASE = "demo"


@dataclass(frozen=True, slots=True)
class Played:
    """A statement and what came of it: rows, or what the database said when it refused."""

    sql: str
    rows: list[dict[str, Any]] | None
    refusal: str | None = None


def install_into(server: Server, database: str, *, fresh: bool) -> str:
    """Make a database with pgsaas in test mode; its address. `fresh` replaces the one there."""
    with psycopg.connect(server.url(), autocommit=True) as conn:
        if fresh:
            conn.execute(f"drop database if exists {database} with (force)".encode())
        there = conn.execute("select 1 from pg_catalog.pg_database where datname = %s", [database])
        if not there.fetchone():
            conn.execute(f"create database {database}".encode())
    install.migrate(server.url(database), test_mode=True, adopt_roles=True)
    return server.url(database)


def play(address: str) -> Iterator[tuple[Step, list[Played]]]:
    """Run the story in an installed database without the application's tables."""
    with psycopg.connect(address, autocommit=True, row_factory=rows.dict_row) as conn:
        set_json_loads(_as_written, conn)
        for step in STORY:
            yield step, [_run(conn, statement, step.refused) for statement in step.sql]


def _as_written(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def _run(conn: psycopg.Connection[dict[str, Any]], statement: str, refused: str | None) -> Played:
    try:
        cursor = conn.execute(statement.encode())
    except psycopg.Error as error:
        if refused is None or error.sqlstate != refused:
            raise
        return Played(statement, None, error.diag.message_primary)
    return Played(statement, cursor.fetchall() if cursor.description else None)
