"""The one door to the functions, and the one table of errors."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.rows import tuple_row

from pgsaas import errors
from pgsaas.call import call, call_as, call_async, counts, read
from tests.conftest import Conn, Database

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_call_returns_rows_and_leaves_the_transaction_to_the_caller(tx: Conn) -> None:
    assert call(tx, "set_clock", at=NOON) == [{"set_clock": NOON}]
    assert call_as(tx, tuple_row, "now") == [(NOON,)]
    assert tx.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


def test_an_asynchronous_call_is_the_same(db: Database) -> None:
    async def go() -> list[tuple[object, ...]]:
        async with await psycopg.AsyncConnection.connect(db.dsn) as conn:
            with pytest.raises(errors.InvalidValue):
                await call_async(conn, tuple_row, "advance_clock", by="-1 day")
            await conn.rollback()
            return await call_async(conn, tuple_row, "set_clock", at=NOON)

    assert asyncio.run(go()) == [(NOON,)]


@pytest.mark.parametrize("name", ["now()", "now; drop", "Now", "", "now\n", 'n"w'])
def test_a_name_that_is_none_never_reaches_the_database(tx: Conn, name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        call(tx, name)
    with pytest.raises(ValueError, match="is no name"):
        call(tx, "set_clock", **{name: 1})


def test_what_pgsaas_has_no_name_for_stays_what_it_was(tx: Conn) -> None:
    with pytest.raises(psycopg.errors.UndefinedFunction):
        call(tx, "no_such_function")


def test_an_error_keeps_its_cause(tx: Conn) -> None:
    with pytest.raises(errors.InvalidValue) as caught:
        call(tx, "set_clock", at=None)
    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert str(caught.value) == "p_at must be a time"


def test_every_error_has_a_message_and_a_code_of_its_own() -> None:
    kinds = errors.PgsaasError.__subclasses__()
    assert len(errors.BY_CODE) == sum(kind.code is not None for kind in kinds)
    for kind in kinds:
        assert str(kind()) == " ".join((kind.__doc__ or "").split())
        assert str(kind("x")) == "x"


def test_an_answer_becomes_its_exception_even_if_it_is_new() -> None:
    assert isinstance(errors.from_answer("ACCOUNT_FROZEN"), errors.AccountFrozen)
    unknown = errors.from_answer("SOMETHING_NEW", "it happened")
    assert (unknown.code, str(unknown)) == ("SOMETHING_NEW", "it happened")


def test_rows_are_counted_by_what_they_have_and_have_not(tx: Conn) -> None:
    tx.execute("select pgsaas.create_account(p_name => n) from unnest(array['a', 'a', null]) n")
    tx.execute("select pgsaas.create_account(p_kind => 'organization', p_name => 'b')")
    assert counts(tx, "accounts", ["kind", "name"]) == [
        {"kind": "organization", "name": "b", "found": 1},
        {"kind": "user", "name": "a", "found": 2},
        {"kind": "user", "name": None, "found": 1},
    ]
    assert counts(tx, "accounts", ["kind"], {"name": None}) == [{"kind": "user", "found": 1}]
    assert [row["kind"] for row in read(tx, "accounts", {"name": None})] == ["user"]
    with pytest.raises(ValueError, match="is no name"):
        counts(tx, "accounts", ["kind; drop"])
