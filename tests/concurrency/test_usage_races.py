"""Use that is recorded at the same moment: once a key, without gaps, as far as credits go."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.concurrency.clients import (
    ISOLATION_LEVELS,
    Client,
    at_once,
    balance,
    call,
    call_all,
    clients,
    is_sound,
    open_account,
)
from tests.conftest import Database

pytestmark = pytest.mark.parametrize("isolation", ISOLATION_LEVELS)


def prices(conn: Client) -> None:
    tiers = [{"up_to": 10, "unit": 3}, {"unit": 1}]
    for event, price in (
        ("call", {"model": "unit", "unit": 2}),
        ("free", {"base": 0}),
        ("render", {"model": "graduated", "tiers": tiers, "per": "period"}),
    ):
        call(conn, "set_credit_event", event=event, prices=Jsonb(price))


def numbers(conn: Client, account: UUID) -> list[int]:
    query = "select usage_id from pgsaas.usage_records where account_id = %s order by 1"
    return [row["usage_id"] for row in conn.execute(query, [account]).fetchall()]


def test_twenty_clients_use_what_seven_can(db: Database, isolation: str) -> None:
    with clients(db, 20, isolation) as conns:
        prices(conns[0])
        account = open_account(conns[0], 15)
        race = at_once(conns, lambda c: call(c, "record_usage", account_id=account, event="call"))
        codes = Counter(answer["error_code"] for answer in race.results)
        assert codes == {None: 7, "INSUFFICIENT_CREDITS": 13}
        assert numbers(conns[0], account) == list(range(1, 8))
        assert balance(conns[0], account) == 1
        assert is_sound(conns[0])


@pytest.mark.parametrize("event", ["call", "free", "render"])
def test_one_key_is_recorded_once(db: Database, isolation: str, event: str) -> None:
    with clients(db, 8, isolation) as conns:
        prices(conns[0])
        account = open_account(conns[0], 100)
        same = {"account_id": account, "event": event, "idempotency_key": "once"}
        race = at_once(conns, lambda c: call(c, "record_usage", **same))
        assert [answer["success"] for answer in race.results] == [True] * 8
        assert Counter(answer["replayed"] for answer in race.results) == {True: 7, False: 1}
        assert {answer["usage_id"] for answer in race.results} == {1}
        assert numbers(conns[0], account) == [1]
        assert is_sound(conns[0])


def test_free_use_and_batches_are_numbered_without_gaps(db: Database, isolation: str) -> None:
    with clients(db, 9, isolation) as conns:
        prices(conns[0])
        account = open_account(conns[0], 1000)

        def use(conn: Client) -> list[dict[str, object]]:
            number = conns.index(conn)
            if number % 3 == 0:
                return [call(conn, "record_usage", account_id=account, event="free")]
            if number % 3 == 1:
                return [call(conn, "record_usage", account_id=account, event="render", quantity=4)]
            events = ["call"] * 40
            return call_all(conn, "record_usage_batch", account_ids=[account] * 40, events=events)

        race = at_once(conns, use)
        assert all(answer["success"] for answers in race.results for answer in answers)
        assert numbers(conns[0], account) == list(range(1, 127))
        # twelve units of the tiers, ten at 3 and two at 1, and 120 calls at 2
        assert balance(conns[0], account) == 1000 - 32 - 240
        assert is_sound(conns[0])


def test_of_two_who_set_prices_the_one_that_began_first_loses(db: Database, isolation: str) -> None:
    with clients(db, 2, isolation) as (older, newer):
        prices(newer)
        older.execute("begin")
        older.execute("select pgsaas.now()")
        call(newer, "set_credit_event", event="call", prices=Jsonb({"base": 6}))
        with pytest.raises(psycopg.errors.SerializationFailure):
            call(older, "set_credit_event", event="call", prices=Jsonb({"base": 7}))
        older.execute("rollback")
        assert call(newer, "price_usage", event="call")["cost"] == 6
