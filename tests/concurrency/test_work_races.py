"""Limits and jobs that many want at once: as many get them as there are."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.concurrency.clients import (
    ISOLATION_LEVELS,
    Answer,
    Client,
    Race,
    at_once,
    balance,
    call,
    clients,
    is_sound,
    open_account,
)
from tests.conftest import Database

pytestmark = pytest.mark.parametrize("isolation", ISOLATION_LEVELS)

PLAN = {
    "default": True,
    "allowance": 100,
    "limits": {"slots": 3, "videos": {"limit": 5, "per": "period"}},
    "rate_limits": {"api": {"limit": 7, "per": "day"}},
}


def set_up(conn: Client) -> None:
    conn.execute("select pgsaas.set_clock('2026-01-31 09:00Z')")
    call(conn, "set_plan", plan_id="free", terms=Jsonb(PLAN))
    call(conn, "set_agent", agent_id="painter", terms=Jsonb({"credits": 15}))


def codes(race: Race[Answer]) -> Counter[str | None]:
    return Counter(answer["error_code"] for answer in race.results)


@pytest.mark.parametrize(("feature", "count"), [("slots", 3), ("videos", 5)])
def test_twenty_clients_share_a_limit(
    db: Database, isolation: str, feature: str, count: int
) -> None:
    with clients(db, 20, isolation) as conns:
        set_up(conns[0])
        account = open_account(conns[0])
        race = at_once(
            conns, lambda c: call(c, "use_entitlement", account_id=account, feature=feature)
        )
        assert codes(race) == {None: count, "LIMIT_EXCEEDED": 20 - count}
        used = sorted(a["used"] for a in race.results if a["success"])
        assert used == list(range(1, count + 1))


def test_twenty_clients_share_a_bucket(db: Database, isolation: str) -> None:
    with clients(db, 20, isolation) as conns:
        set_up(conns[0])
        account = open_account(conns[0])
        race = at_once(
            conns, lambda c: call(c, "take_rate_limit", account_id=account, bucket="api")
        )
        assert Counter(a["allowed"] for a in race.results) == {True: 7, False: 13}


def test_twenty_jobs_share_the_credits_of_six(db: Database, isolation: str) -> None:
    with clients(db, 20, isolation) as conns:
        set_up(conns[0])
        account = open_account(conns[0])
        race = at_once(
            conns, lambda c: call(c, "start_job", account_id=account, agent_id="painter")
        )
        assert codes(race) == {None: 6, "INSUFFICIENT_CREDITS": 14}
        assert balance(conns[0], account) == 100
        rows = conns[0].execute("select count(*) as n, sum(cost_credits) as c from pgsaas.jobs")
        assert rows.fetchone() == {"n": 6, "c": Decimal(90)}
        assert is_sound(conns[0])


def test_a_spend_cap_holds_when_many_start(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        set_up(conns[0])
        account = open_account(conns[0])
        call(conns[0], "set_spend_cap", account_id=account, subject_kind="agent",
             subject="painter", cap=40)  # fmt: skip
        race = at_once(
            conns, lambda c: call(c, "start_job", account_id=account, agent_id="painter")
        )
        assert codes(race) == {None: 2, "DEDUCTION_FAILED": 6}


def test_one_key_starts_one_job(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        set_up(conns[0])
        account = open_account(conns[0])
        named = {"account_id": account, "agent_id": "painter", "idempotency_key": "k"}
        race = at_once(conns, lambda c: call(c, "start_job", **named))
        assert len({answer["job_id"] for answer in race.results}) == 1
        assert Counter(answer["replayed"] for answer in race.results) == {False: 1, True: 7}


def test_a_job_is_completed_or_fails(db: Database, isolation: str) -> None:
    with clients(db, 2, isolation) as conns:
        set_up(conns[0])
        for _ in range(5):
            account = open_account(conns[0])
            job_id = call(conns[0], "start_job", account_id=account, agent_id="painter")["job_id"]

            def complete(conn: Client, job: object = job_id, of: object = account) -> str | None:
                try:
                    with conn.transaction():
                        call(conn, "complete_job", account_id=of, job_id=job)
                except psycopg.Error as error:
                    if error.sqlstate == "40001":
                        raise
                    return error.sqlstate
                return None

            def fail(conn: Client, job: object = job_id, of: object = account) -> str | None:
                call(conn, "fail_job", account_id=of, job_id=job)
                return None

            race = at_once(conns, complete, fail)
            assert race.results[0] in (None, "PT409")  # whoever came first, it has failed now
            assert balance(conns[0], account) == 100
        assert is_sound(conns[0])


def test_twenty_five_want_a_code_that_ten_may_have(db: Database, isolation: str) -> None:
    with clients(db, 25, isolation) as conns:
        set_up(conns[0])
        terms = Jsonb({"credits": 5, "max_redemptions": 10})
        call(conns[0], "set_reward", reward_id="SPRING", terms=terms)
        accounts = iter([open_account(conns[0]) for _ in range(25)])
        mine = dict(zip(conns, accounts, strict=True))
        race = at_once(conns, lambda c: call(c, "redeem_code", account_id=mine[c], code="spring"))
        assert codes(race) == {None: 10, "CODE_EXHAUSTED": 15}
        one = open_account(conns[0])
        call(conns[0], "set_reward", reward_id="ONCE", terms=Jsonb({"credits": 5}))
        race = at_once(conns, lambda c: call(c, "redeem_code", account_id=one, code="once"))
        assert codes(race) == {None: 1, "CODE_REDEEMED": 24}
        assert balance(conns[0], one) == 105
        assert is_sound(conns[0])
