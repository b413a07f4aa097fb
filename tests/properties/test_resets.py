"""The reset of many at once does to each account what settling it alone does."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import Conn
from tests.sql.ledger import START, Ledger

TABLES = ("account_balances", "credit_grants", "credit_transactions", "credit_holds",
          "credit_debts", "outbox_messages")  # fmt: skip
LIMITS = (0, 30, Decimal("45.5"), None)


def accounts_of_all_kinds(ledger: Ledger, chance: random.Random, n: int) -> None:
    """Accounts with periods, packs, holds, debts and alerts, some of them used."""
    for _ in range(n):
        account = ledger.account()
        ledger.call("set_burn_order", account, chance.choice(["purchased_first", "expiring_first"]))
        start = ledger.scalar("select pgsaas.now()") - timedelta(days=chance.randrange(32))
        ledger.conn.execute(
            "select pgsaas.start_period(%s, %s, %s, %s)",
            [account, chance.choice([0, 100, 100]), chance.choice(LIMITS), start],
        )
        if chance.random() < 0.2:
            more = "select pgsaas.change_allowance(%s, 150, 30, p_in_full => 120, p_units => 1)"
            ledger.conn.execute(more, [account])
        if chance.random() < 0.3:
            ledger.call("set_low_balance_at", account, chance.choice([20, 90, 130]))
        if chance.random() < 0.3:
            ledger.call("set_overdraft_limit", account, 50, "trusted")
        for _ in range(chance.randrange(3)):
            ledger.call(
                "add_credits",
                account,
                chance.choice([10, 25, Decimal("0.5")]),
                p_source=chance.choice(["purchase", "bonus", "allowance", "rollover"]),
                p_expires_at=chance.choice([None, None, START + timedelta(days=95)]),
                p_effective_at=START + timedelta(days=90) if chance.random() < 0.1 else None,
                p_priority=chance.choice([None, None, 1, -1]),
            )
        if chance.random() < 0.1:
            ledger.conn.execute("select pgsaas.schedule_terms(%s, %s, 7)", [account, START])
        if chance.random() < 0.1:
            ledger.call("hold_credits", account, 5)
        for _ in range(chance.randrange(4)):
            done = ledger.call("deduct_credits", account, chance.choice([1, 30, 60, 100, 140]))
            if done["success"] and chance.random() < 0.2:
                ledger.call("refund_credits", account, done["seq"], 1)
        if chance.random() < 0.05:
            ledger.call("freeze_account", account, "odd")


def rows(ledger: Ledger) -> dict[str, Any]:
    """Every row; what the row of a cached head says is left in it is stale, and left out."""
    found: dict[str, Any] = {
        table: ledger.query(
            f"select to_jsonb(t) - 'outbox_message_id' as row from pgsaas.{table} t order by 1"
        )
        for table in TABLES
    }
    found["credit_grants"] = ledger.query(
        "select to_jsonb(g) - case when g.grant_id = b.head_grant_id then 'remaining' else '' end"
        " from pgsaas.credit_grants g join pgsaas.account_balances b using (account_id) order by 1"
    )
    return found


def compare(ledger: Ledger, seed: int, n: int) -> int:
    """Months of both, from equal states; returns how many resets came in bulk."""
    chance = random.Random(seed)  # noqa: S311
    accounts_of_all_kinds(ledger, chance, n)
    bulk = 0
    for _ in range(6):
        ledger.after(days=chance.choice([5, 14, 31, 31, 70]))
        ledger.conn.execute("savepoint twin")
        said = ledger.call("reset_monthly_credits")
        many = rows(ledger)
        ledger.conn.execute("rollback to twin")
        plain = ledger.call("reset_plain", None)
        bulk += plain["p_count"]
        ledger.conn.execute("rollback to twin")
        due = ledger.query(
            "select account_id from pgsaas.account_balances where next_reset_at <= pgsaas.now()"
            " order by next_reset_at"
        )
        sums = [ledger.call("reset_one", row["account_id"]) for row in due]
        assert rows(ledger) == many, f"seed {seed}"
        assert said == {
            "accounts_reset": len(due),
            "credits_granted": sum(row["p_granted"] for row in sums),
            "credits_expired": sum(row["p_expired"] for row in sums),
            "credits_rolled_over": sum(row["p_rolled"] for row in sums),
            "remaining": 0,
        }, f"seed {seed}"
        for row in ledger.query("select account_id from pgsaas.accounts"):
            if chance.random() < 0.5:
                ledger.call("deduct_credits", row["account_id"], chance.choice([1, 33, 80]))
        assert ledger.call_all("verify_ledger") == []
    return bulk


def test_what_is_left_of_a_pack_stays_when_an_allowance_burns_first_again(tx: Conn) -> None:
    ledger = Ledger(tx)
    ledger.at(START)
    account = ledger.on_plan(10)
    ledger.done("add_credits", account, 100, p_source="purchase", p_priority=1)
    ledger.done("deduct_credits", account, 10)
    ledger.done("deduct_credits", account, 30)  # the pack is the head now
    ledger.after(days=31)
    assert ledger.call("reset_plain", None)["p_count"] == 1
    assert ledger.call_all("verify_ledger") == []
    ledger.done("deduct_credits", account, 80)
    assert ledger.call_all("verify_ledger") == []
    refused = ledger.call("deduct_credits", account, 1)
    assert (refused["error_code"], refused["available"]) == ("INSUFFICIENT_CREDITS", 0)


@pytest.mark.parametrize("seed", range(3))
def test_many_at_once_is_each_alone(tx: Conn, seed: int) -> None:
    ledger = Ledger(tx)
    ledger.at(START)
    assert compare(ledger, seed, 25) > 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_at_once_is_each_alone_for_long(conn: Conn) -> None:
    ledger = Ledger(conn)
    first = random.randrange(10**6)  # noqa: S311
    bulk = 0
    for seed in range(first, first + 60):
        with conn.transaction(force_rollback=True):
            ledger.at(START)
            bulk += compare(ledger, seed, 60)
    print(f"seeds {first} to {first + 59}: {bulk} resets in bulk")
