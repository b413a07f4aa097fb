"""Which lock is taken, when, and who waits for it; proven by watching sessions wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest
from psycopg import errors

from tests.concurrency.clients import (
    Answer,
    Client,
    at_once,
    balance,
    call,
    call_all,
    clients,
    in_background,
    is_sound,
    open_account,
    open_members,
    wait_until_locked,
)
from tests.conftest import Database

LOCK = "select from pgsaas.account_balances where account_id = %s for no key update"


@pytest.fixture
def four(db: Database) -> Iterator[list[Client]]:
    """Four sessions. Whoever waits longer than a minute has found a deadlock with the test."""
    with clients(db, 4) as conns:
        for conn in conns:
            conn.execute("set lock_timeout = '60s'")
        yield conns


def is_free(conn: Client, account: UUID) -> bool:
    """Nobody has locked the account."""
    try:
        with conn.transaction():
            conn.execute(f"{LOCK} nowait".encode(), [account])
    except errors.LockNotAvailable:
        return False
    return True


WRITERS: dict[str, dict[str, object]] = {
    "deduct_credits": {"amount": 1},
    "add_credits": {"amount": 1},
    "adjust_credits": {"amount": 1, "reason": "a test"},
    "hold_credits": {"amount": 1},
    "extend_hold": {"hold_id": 1},
    "capture_hold": {"hold_id": 1},
    "release_hold": {"hold_id": 1},
    "refund_credits": {"seq": 2},
    "revoke_grant": {"grant_id": 1, "amount": 1},
    "set_burn_order": {"burn_order": "expiring_first"},
    "set_overdraft_limit": {"limit": 5, "reason": "a test"},
    "freeze_account": {"reason": "a test"},
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_waits_for_the_account_and_then_sees_it_changed(
    db: Database, four: list[Client], name: str
) -> None:
    first, second, *_ = four
    account = open_account(first, 10)
    call(first, "deduct_credits", account_id=account, amount=1)
    call(first, "hold_credits", account_id=account, amount=1)
    with first.transaction():
        call(first, "deduct_credits", account_id=account, amount=2)
        asked = {"account_id": account, **WRITERS[name]}
        finish = in_background(second, lambda conn: call(conn, name, **asked))
        wait_until_locked(db, second)
    finish()
    assert is_sound(first)


@pytest.mark.parametrize("name", [*WRITERS, "deduct_credits_batch", "lock_accounts"])
def test_the_lock_is_the_balance_row_for_no_key_update_and_no_other(
    db: Database, four: list[Client], name: str
) -> None:
    first, second, *_ = four
    account = open_account(first, 10)
    call(first, "deduct_credits", account_id=account, amount=1)
    call(first, "hold_credits", account_id=account, amount=1)
    many = {"account_ids": [account], "amounts": [Decimal(1)]}
    asked = {"account_id": account, **WRITERS.get(name, {})}
    if name == "deduct_credits_batch":
        asked = many
    elif name == "lock_accounts":
        asked = {"account_ids": [account]}
    with first.transaction():
        call_all(first, name, **asked)
        assert not is_free(second, account)
        # a foreign key's check takes this lock, and gets it
        for table in ("accounts", "account_balances"):
            look = f"select from pgsaas.{table} where account_id = %s for key share nowait"
            second.execute(look.encode(), [account])
        taken = second.execute(
            "select distinct locktype, mode from pg_locks"
            " where pid = %s and locktype not in ('virtualxid', 'transactionid')",
            [first.info.backend_pid],
        ).fetchall()
        weak = ("AccessShareLock", "RowShareLock", "RowExclusiveLock")
        assert all(row["locktype"] == "relation" and row["mode"] in weak for row in taken), taken


def test_another_account_is_not_waited_for(four: list[Client]) -> None:
    first, second, *_ = four
    account, other = open_account(first, 10), open_account(first, 10)
    with first.transaction():
        call(first, "deduct_credits", account_id=account, amount=1)
        assert call(second, "deduct_credits", account_id=other, amount=1)["success"]


def test_reading_does_not_wait(four: list[Client]) -> None:
    first, second, *_ = four
    account = open_account(first, 10)
    with first.transaction():
        call(first, "deduct_credits", account_id=account, amount=1)
        assert balance(second, account) == 10
        assert len(call_all(second, "list_transactions", account_id=account)) == 1
        assert call_all(second, "verify_ledger", account_id=account) == []


def test_the_hosts_foreign_keys_neither_wait_nor_deadlock(db: Database, four: list[Client]) -> None:
    first, second, *_ = four
    account = open_account(first, 10)
    first.execute("create table orders (account_id uuid references pgsaas.accounts)")
    order = "insert into orders values (%s)"
    with first.transaction():
        first.execute(order, [account])
        second.execute("begin")
        second.execute(order, [account])
        call(first, "deduct_credits", account_id=account, amount=1)
        with clients(db, 1) as (third,):
            third.execute("set lock_timeout = '1s'")
            third.execute(order, [account])
        finish = in_background(
            second, lambda conn: call(conn, "deduct_credits", account_id=account, amount=1)
        )
        wait_until_locked(db, second)
    assert finish()["new_balance"] == 8
    second.execute("commit")
    assert is_sound(first)


def both_ways(pair: list[UUID]) -> list[tuple[str, Callable[[Client], list[Answer]]]]:
    low, high = pair
    ones = [Decimal(1)] * 2

    def transfer(giver: UUID, taker: UUID) -> Callable[[Client], list[Answer]]:
        asked = {"from": giver, "to": taker, "amount": 1}
        return lambda conn: call_all(conn, "transfer_credits", **asked)

    def batch(order: list[UUID]) -> Callable[[Client], list[Answer]]:
        return lambda conn: call_all(conn, "deduct_credits_batch", account_ids=order, amounts=ones)

    def lock(order: list[UUID]) -> Callable[[Client], list[Answer]]:
        return lambda conn: call_all(conn, "lock_accounts", account_ids=order)

    return [
        ("transfer up", transfer(low, high)),
        ("transfer down", transfer(high, low)),
        ("batch up", batch([low, high])),
        ("batch down", batch([high, low])),
        ("lock up", lock([low, high])),
        ("lock down", lock([high, low])),
    ]


@pytest.mark.parametrize("way", range(6))
def test_several_accounts_are_locked_in_the_order_of_their_ids(
    db: Database, four: list[Client], way: int
) -> None:
    first, second, third, _ = four
    pair = low, high = open_members(first, 2, amount=10)
    name, task = both_ways(pair)[way]
    with first.transaction():
        first.execute(LOCK, [high])
        finish = in_background(second, task)
        wait_until_locked(db, second)
        assert not is_free(third, low), f"{name}: waits for the higher id without the lower one"
    finish()
    with first.transaction():
        first.execute(LOCK, [low])
        finish = in_background(second, task)
        wait_until_locked(db, second)
        assert is_free(third, high), f"{name}: holds the higher id while it waits for the lower"
    finish()
    assert is_sound(first)


def test_lock_accounts_lets_a_host_call_in_any_order(db: Database, four: list[Client]) -> None:
    first, second, *_ = four
    low, high = open_members(first, 2, amount=10)

    def charge_both(conn: Client) -> None:
        with conn.transaction():
            call(conn, "lock_accounts", account_ids=[low, high])
            call(conn, "deduct_credits", account_id=low, amount=1)
            call(conn, "deduct_credits", account_id=high, amount=1)

    with first.transaction():
        call(first, "lock_accounts", account_ids=[high, low])
        call(first, "deduct_credits", account_id=high, amount=1)
        finish = in_background(second, charge_both)
        wait_until_locked(db, second)
        call(first, "deduct_credits", account_id=low, amount=1)
    finish()
    assert [balance(first, account) for account in (low, high)] == [8, 8]
    assert is_sound(first)


@pytest.mark.parametrize("outcome", ["commit", "rollback"])
def test_a_key_in_an_open_transaction_is_waited_for(
    db: Database, four: list[Client], outcome: str
) -> None:
    first, second, *_ = four
    account = open_account(first, 10)
    same = {"account_id": account, "amount": 1, "idempotency_key": "once"}
    first.execute("begin")
    answer = call(first, "deduct_credits", **same)
    finish = in_background(second, lambda conn: call(conn, "deduct_credits", **same))
    wait_until_locked(db, second)
    first.execute(outcome.encode())
    assert finish() == answer | {"replayed": outcome == "commit"}
    assert balance(first, account) == 9
    assert is_sound(first)


def test_a_transaction_that_began_before_an_expiry_does_not_spend_what_has_expired_since(
    four: list[Client],
) -> None:
    early, late, *_ = four
    account = open_account(early, 5)
    with early.transaction():
        early.execute("select pgsaas.now()")
        call(
            late,
            "add_credits",
            account_id=account,
            amount=5,
            expires_at=in_a_moment(late),
        )
        wait_for_clock(late, account)
        call(late, "deduct_credits", account_id=account, amount=1)
        # this transaction's now() is before the expiry, account time is not
        assert call(early, "deduct_credits", account_id=account, amount=5)["success"] is False
        assert call(early, "deduct_credits", account_id=account, amount=4)["success"]
    assert is_sound(early)


def test_a_hold_that_lapsed_for_somebody_else_cannot_be_captured(four: list[Client]) -> None:
    early, late, *_ = four
    account = open_account(early, 5)
    call(early, "hold_credits", account_id=account, amount=5, ttl="100 milliseconds")
    with early.transaction():
        early.execute("select pgsaas.now()")
        wait_for_clock(late, account)
        assert call(late, "deduct_credits", account_id=account, amount=5)["success"]
        answer = call(early, "capture_hold", account_id=account, hold_id=1)
        assert answer["error_code"] == "HOLD_CLOSED"
    assert is_sound(early)


def in_a_moment(conn: Client) -> object:
    row = conn.execute("select clock_timestamp() + interval '100 milliseconds' as at").fetchone()
    assert row
    return row["at"]


def wait_for_clock(conn: Client, account: UUID) -> None:
    """Until whatever is to happen on the account within 100 ms is due."""
    due = (
        "select bool_and(clock_timestamp() > expires_at) as due from (select expires_at from"
        " pgsaas.credit_grants where account_id = %(a)s and expires_at < 'infinity' union all"
        " select expires_at from pgsaas.credit_holds where account_id = %(a)s) as soon"
    )
    while conn.execute(due, {"a": account}).fetchone() != {"due": True}:
        pass


def test_the_lock_ends_with_the_session(db: Database, four: list[Client]) -> None:
    first, second, *_ = four
    account = open_account(second, 10)
    first.execute("begin")
    call(first, "deduct_credits", account_id=account, amount=1)
    finish = in_background(
        second, lambda conn: call(conn, "deduct_credits", account_id=account, amount=1)
    )
    wait_until_locked(db, second)
    with db.connect() as killer:
        killer.execute("select pg_terminate_backend(%s)", [first.info.backend_pid])
    first.close()
    assert finish()["new_balance"] == 9
    assert is_sound(second)


def test_a_revocation_that_waits_for_a_late_reset_finds_what_rolled_over(
    db: Database, four: list[Client]
) -> None:
    first, second, *_ = four
    account = open_account(first)
    first.execute("select pgsaas.start_period(%s, 100, null)", [account])
    first.execute("select pgsaas.advance_clock('32 days')")
    with first.transaction():
        call(first, "deduct_credits", account_id=account, amount=1)  # it posts the reset
        finish = in_background(
            second, lambda conn: call(conn, "revoke_grant", account_id=account, grant_id=1)
        )
        wait_until_locked(db, second)
    assert finish()["success"]
    assert balance(first, account) == 99
    assert is_sound(first)


def erase(conn: Client, account: UUID) -> Answer:
    return call(conn, "erase_account", account_id=account, reason="asked for")


def test_two_who_are_members_of_each_other_are_erased_at_once(
    db: Database, four: list[Client]
) -> None:
    for _ in range(10):
        one, other = open_account(four[0]), open_account(four[0])
        for account, user in ((one, other), (other, one)):
            call(four[0], "add_member", account_id=account, user_id=str(user))
        gone = at_once(four[:2], partial(erase, account=one), partial(erase, account=other))
        assert [answer["erase_account"] for answer in gone.results] == [True, True]
    assert is_sound(four[0])
