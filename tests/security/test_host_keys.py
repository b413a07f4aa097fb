"""A host's own rows name accounts and usage records by foreign keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import Conn, Database
from tests.security.conftest import account, credit, one

CONTRACT = Path(__file__).resolve().parents[2] / "docs" / "contract.md"
TABLE = "create table app.answers ("


def printed() -> bytes:
    """The table as docs/contract.md prints it."""
    text = CONTRACT.read_text()
    start = text.index(TABLE)
    return text[start : text.index("```", start)].encode()


@pytest.fixture
def backend(own: Database) -> Iterator[Conn]:
    """The backend, which owns a table whose rows name what they used."""
    with own.connect() as conn:
        conn.execute("create schema app authorization host_backend")
        conn.execute('select pgsaas.set_credit_event(\'call\', \'{"model": "unit", "unit": 2}\')')
    with psycopg.connect(own.dsn_as("host_backend"), autocommit=True) as conn:
        conn.execute(printed())
        yield conn


def test_an_answer_and_its_use_come_and_go_together(backend: Conn) -> None:
    ada = account(backend, "ada")
    credit(backend, ada, 100)
    answer = "insert into app.answers select %s, %s, usage_id from pgsaas.record_usage(%s, 'call')"
    with backend.transaction(force_rollback=True):
        backend.execute(answer.encode(), [1, ada, ada])
    assert one(backend, "select balance from pgsaas.credit_balances") == 100
    backend.execute(answer.encode(), [1, ada, ada])
    joined = one(
        backend,
        "select t.amount from app.answers a"
        " join pgsaas.usage_records u using (account_id, usage_id)"
        " join pgsaas.credit_transactions t using (account_id, seq)",
    )
    assert joined == -2


def test_an_answer_names_no_use_that_there_is_not(backend: Conn) -> None:
    ada = account(backend, "ada")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        backend.execute("insert into app.answers values (1, %s, 1)", [ada])


def test_the_key_is_refused_to_who_is_not_the_backend(own: Database) -> None:
    with own.connect() as conn:
        conn.execute("create schema app authorization host_stranger")
    with (
        psycopg.connect(own.dsn_as("host_stranger"), autocommit=True) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute(printed())


def test_an_account_that_is_erased_keeps_its_rows(backend: Conn) -> None:
    ada = account(backend, "ada")
    credit(backend, ada, 100)
    backend.execute(
        "insert into app.answers select 1, %s, usage_id from pgsaas.record_usage(%s, 'call')",
        [ada, ada],
    )
    backend.execute("select pgsaas.erase_account(%s, 'asked for')", [ada])
    assert one(backend, "select count(*) from pgsaas.usage_records") == 1
