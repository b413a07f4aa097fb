"""An installer that dies after any of its statements leaves what the next one finishes."""

from __future__ import annotations

import contextlib
import gc
import warnings
from typing import Any

import psycopg
import pytest

from pgsaas import install
from pgsaas.embedded import Server
from pgsaas.resources import packaged
from tests.conftest import Database, temporary_database
from tests.schema.conftest import dump, pgsaas_roles


class KilledError(BaseException):
    """What nothing catches: the process is gone."""


class Killer:
    """Lets `after` statements through, then drops every connection and lets nothing through.

    It sits in psycopg's cursor, under our own statements and yoyo's alike; a statement that was
    let through has been answered, so its autocommit is done.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        self.dead = False
        execute, connect = psycopg.Cursor.execute, psycopg.Connection.connect
        connections: list[psycopg.Connection[Any]] = []
        killer = self

        def killing_execute(
            cursor: psycopg.Cursor[Any], *arguments: Any, **options: Any
        ) -> psycopg.Cursor[Any]:
            if killer.dead:
                raise KilledError
            if killer.left == 0:
                killer.dead = True
                for conn in connections:
                    conn.pgconn.finish()
                raise KilledError
            killer.left -= 1
            return execute(cursor, *arguments, **options)

        def noted_connect(*arguments: Any, **options: Any) -> psycopg.Connection[Any]:
            if killer.dead:
                raise KilledError
            connections.append(connect(*arguments, **options))
            return connections[-1]

        monkeypatch.setattr(psycopg.Cursor, "execute", killing_execute)
        monkeypatch.setattr(psycopg, "connect", noted_connect)


def count_statements(database: Database) -> int:
    with pytest.MonkeyPatch.context() as patch:
        killer = Killer(patch, 10_000)
        install.migrate(database.dsn)
    return 10_000 - killer.left


def expected(bare: Server) -> tuple[int, str]:
    with temporary_database(bare) as database:
        statements = count_statements(database)
        text = dump(database, "--schema-only")
        install.uninstall(database.dsn)
    return statements, text


def install_killed_and_again(bare: Server, after: int, text: str) -> None:
    with temporary_database(bare) as database:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # yoyo's clean-up finds its connection gone
            killer = Killer(patch, after)
            # whoever handles KilledError on its way finds the connection gone, and says so
            with pytest.raises(BaseException):  # noqa: B017
                install.migrate(database.dsn)
            assert killer.dead
        gc.collect()
        install.migrate(database.dsn, wait=5)
        assert dump(database, "--schema-only") == text, after
        with install.open_session(database.dsn) as conn:
            assert install.status(conn, packaged()).current, after
        install.uninstall(database.dsn)
        assert pgsaas_roles(bare) == [], after


def test_an_install_killed_between_two_statements_is_finished_by_the_next(bare: Server) -> None:
    statements, text = expected(bare)
    assert statements > 30
    step = max(1, statements // 12)
    for after in {*range(0, statements, step), *range(statements - 4, statements)}:
        install_killed_and_again(bare, after, text)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_install_killed_after_any_statement_is_finished_by_the_next(bare: Server) -> None:
    statements, text = expected(bare)
    for after in range(statements):
        install_killed_and_again(bare, after, text)
    print(f"killed after each of {statements} statements")


def uninstall_killed_and_again(bare: Server, after: int) -> bool:
    """Whether it was killed; False when it has fewer statements."""
    with temporary_database(bare) as database:
        install.migrate(database.dsn)
        with pytest.MonkeyPatch.context() as patch:
            killer = Killer(patch, after)
            with contextlib.suppress(KilledError, psycopg.OperationalError):
                install.uninstall(database.dsn)
        gc.collect()
        install.uninstall(database.dsn)
        assert pgsaas_roles(bare) == [], after
        with database.connect() as conn:
            assert conn.execute("select to_regnamespace('pgsaas')").fetchone() == (None,)
    return killer.dead


def test_an_uninstall_killed_between_two_statements_is_finished_by_the_next(
    bare: Server,
) -> None:
    after = 0
    while uninstall_killed_and_again(bare, after):
        after += 4
    assert after > 20


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_uninstall_killed_after_any_statement_is_finished_by_the_next(bare: Server) -> None:
    after = 0
    while uninstall_killed_and_again(bare, after):
        after += 1
    print(f"killed after each of {after} statements")
