"""Periods that end and plans that change while others charge: exact counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.concurrency.clients import (
    ISOLATION_LEVELS,
    Answer,
    Client,
    at_once,
    balance,
    call,
    call_all,
    clients,
    connect,
    in_background,
    is_sound,
    open_account,
    wait_until_locked,
)
from tests.conftest import Database

PLANS = {
    "free": {"default": True, "allowance": 100},
    "pro": {"rank": 1, "allowance": 1000},
    "max": {"rank": 2, "allowance": 5000},
}


@pytest.fixture(params=ISOLATION_LEVELS)
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def four(db: Database) -> Iterator[list[Client]]:
    with clients(db, 4) as conns:
        set_plans(conns[0])
        yield conns


def set_plans(conn: Client) -> None:
    conn.execute("select pgsaas.set_clock('2026-01-31 09:00Z')")
    for plan_id, terms in PLANS.items():
        call(conn, "set_plan", plan_id=plan_id, terms=Jsonb(terms))


def resets(conn: Client, limit: int) -> int:
    """Reset in steps, a transaction each, until nothing is left."""
    done = 0
    while True:
        said = call(conn, "reset_monthly_credits", limit=limit)
        done += int(said["accounts_reset"])
        if said["remaining"] == 0:
            return done


def granted(conn: Client) -> Counter[tuple[str, Decimal]]:
    rows = conn.execute("select transaction_type as t, amount as a from pgsaas.credit_transactions")
    return Counter((row["t"], row["a"]) for row in rows)


def test_four_at_once_end_each_period_once(db: Database, four: list[Client]) -> None:
    for _ in range(200):
        open_account(four[0])
    four[0].execute("select pgsaas.advance_clock('28 days')")
    barrier = at_once(four, lambda _: None)  # all are connected
    assert barrier.lost == 0
    waits = [in_background(conn, partial(resets, limit=7)) for conn in four]
    assert sum(wait() for wait in waits) == 200
    assert granted(four[0]) == {("grant", 100): 400, ("expiry", -100): 200}
    assert is_sound(four[0])


def test_one_that_is_killed_leaves_its_step_to_the_others(db: Database, four: list[Client]) -> None:
    for _ in range(40):
        open_account(four[0])
    four[0].execute("select pgsaas.advance_clock('28 days')")
    victim = connect(db)
    victim.execute("begin")
    assert call(victim, "reset_monthly_credits", limit=15)["accounts_reset"] == 15
    said = call(four[0], "reset_monthly_credits")
    assert (said["accounts_reset"], said["remaining"]) == (25, 15)
    with db.connect() as killer:
        killer.execute("select pg_terminate_backend(%s)", [victim.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        victim.execute("commit")
    victim.close()
    assert resets(four[0], 4) == 15
    assert granted(four[0]) == {("grant", 100): 80, ("expiry", -100): 40}
    assert is_sound(four[0])


def test_an_account_that_is_never_idle_is_waited_for(db: Database, four: list[Client]) -> None:
    busy, job, *_ = four
    account = open_account(busy)
    idle = open_account(busy)
    busy.execute("select pgsaas.advance_clock('28 days')")
    busy.execute("begin")
    busy.execute("select pgsaas.lock_account(%s)", [account])
    said = call(job, "reset_monthly_credits")
    assert (said["accounts_reset"], said["remaining"]) == (1, 1)
    assert balance(job, idle) == 100
    finish = in_background(job, lambda conn: call(conn, "reset_monthly_credits"))
    wait_until_locked(db, job)
    busy.execute("commit")
    said = finish()
    assert (said["accounts_reset"], said["remaining"]) == (1, 0)
    assert is_sound(job)


def test_a_referrer_whom_somebody_holds_is_paid_by_a_later_step(
    db: Database, four: list[Client]
) -> None:
    busy, job, *_ = four
    terms = {"kind": "referral", "referrer_credits": 40}
    call(busy, "set_reward", reward_id="FRIENDS", terms=Jsonb(terms))
    referrers = [open_account(busy) for _ in range(2)]
    for referrer in referrers:
        code = call(busy, "get_referral_code", account_id=referrer)["get_referral_code"]
        friend = open_account(busy)
        call(busy, "set_referrer", account_id=friend, referral_code=code)
        call(busy, "reward_referral", account_id=friend)
    job.execute("set lock_timeout = '10ms'")
    with busy.transaction():
        busy.execute("select pgsaas.lock_account(%s)", [referrers[0]])
        assert call(job, "pay_referrals") == {"done": 1, "remaining": 1}
        assert call(job, "pay_referrals") == {"done": 0, "remaining": 1}
        assert [balance(job, referrer) for referrer in referrers] == [100, 140]
    assert call(job, "pay_referrals") == {"done": 1, "remaining": 0}
    assert [balance(job, referrer) for referrer in referrers] == [140, 140]
    assert is_sound(job)


def test_one_that_is_held_for_too_long_stops_only_that_step(
    db: Database, four: list[Client]
) -> None:
    busy, job, *_ = four
    account = open_account(busy)
    busy.execute("select pgsaas.advance_clock('28 days')")
    with busy.transaction():
        busy.execute("select pgsaas.lock_account(%s)", [account])
        job.execute("set lock_timeout = '10ms'")  # the function's own is longer, and holds
        finish = in_background(job, lambda conn: call(conn, "reset_monthly_credits"))
        wait_until_locked(db, job)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            finish()
    assert resets(job, 1) == 1


def test_a_subscription_starts_once(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        set_plans(conns[0])
        account = open_account(conns[0])

        def start(conn: Client) -> str | None:
            try:
                with conn.transaction():
                    call(conn, "start_subscription", account_id=account, plan_id="pro")
            except psycopg.Error as error:
                if error.sqlstate == "40001":
                    raise
                return error.sqlstate
            return None

        race = at_once(conns, start)
        assert Counter(race.results) == {None: 1, "PT409": 7}
        assert granted(conns[0]) == {("grant", 100): 1, ("grant", 1000): 1}
        assert is_sound(conns[0])


def at_the_end(conns: list[Client]) -> UUID:
    """An account on pro whose month ends in this very second."""
    set_plans(conns[0])
    account = open_account(conns[0])
    call(conns[0], "start_subscription", account_id=account, plan_id="pro")
    conns[0].execute("select pgsaas.set_clock('2026-02-28 09:00Z')")
    return account


def test_a_plan_changes_in_the_second_of_the_reset(db: Database, isolation: str) -> None:
    with clients(db, 4, isolation) as conns:
        account = at_the_end(conns)
        at_once(
            conns,
            partial(_call, "reset_monthly_credits", {}),
            partial(_call, "reset_monthly_credits", {}),
            partial(_call, "change_plan", {"account_id": account, "plan_id": "max"}),
            partial(_call, "deduct_credits", {"account_id": account, "amount": 10}),
        )
        assert granted(conns[0]) == {
            ("grant", 100): 1, ("grant", 1000): 2, ("expiry", -1100): 1, ("grant", 4000): 1,
            ("deduction", -10): 1,
        }  # fmt: skip
        assert balance(conns[0], account) == 4990
        assert is_sound(conns[0])


def _call(name: str, words: dict[str, object], conn: Client) -> list[Answer]:
    return call_all(conn, name, **words)


def test_a_change_and_a_cancellation_come_one_after_the_other(db: Database, isolation: str) -> None:
    with clients(db, 2, isolation) as conns:
        set_plans(conns[0])
        for _ in range(5):
            account = open_account(conns[0])
            call(conns[0], "start_subscription", account_id=account, plan_id="pro")
            at_once(
                conns,
                partial(_call, "change_plan", {"account_id": account, "plan_id": "max"}),
                partial(_call, "cancel_subscription", {"account_id": account}),
            )
            found = call(conns[0], "get_subscription", account_id=account)
            assert (found["plan_id"], int(balance(conns[0], account))) == ("max", 5100)
        assert is_sound(conns[0])


def test_a_migration_that_waited_takes_nobody_back(db: Database, four: list[Client]) -> None:
    first, second, *_ = four
    account = open_account(first)
    call(first, "set_plan", plan_id="pro", terms=Jsonb({"allowance": 10}))
    call(first, "start_subscription", account_id=account, plan_id="pro")
    call(first, "set_plan", plan_id="pro", terms=Jsonb({"allowance": 20}))
    first.execute("begin")
    call(first, "set_plan", plan_id="pro", terms=Jsonb({"allowance": 30}))
    assert call(first, "migrate_subscribers", plan_id="pro")["migrated"] == 1
    finish = in_background(second, lambda conn: call(conn, "migrate_subscribers", plan_id="pro"))
    wait_until_locked(db, second)
    first.execute("commit")
    assert finish() == {"migrated": 0, "remaining": 0}
    assert call(first, "get_subscription", account_id=account)["plan_version"] == 4
