"""A ledger with a catalog: plans to subscribe to, in few words."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from tests.sql.ledger import Ledger, Row

USD = {"interval": "month", "currency": "usd", "amount": 2900}
YEAR = {"interval": "year", "currency": "usd", "amount": 29000}

#: free < pro < max by rank; seats like pro, but replacing.
PLANS: dict[str, dict[str, Any]] = {
    "free": {"default": True, "allowance": 100},
    "pro": {"rank": 1, "allowance": 1000, "rollover": 500, "prices": [USD, YEAR], "trial_days": 14},
    "max": {
        "rank": 2, "allowance": 5000, "rollover": "unlimited", "past_due_grace": "3 days",
        "prices": [{**USD, "amount": 9900}, {**YEAR, "amount": 99000}],
    },
    "swap": {"rank": 2, "allowance": 5000, "on_upgrade": "replace"},
}  # fmt: skip


def set_plans(ledger: Ledger, *names: str) -> None:
    """Make these plans of PLANS; all of them if none is named."""
    for name in names or PLANS:
        ledger.call("set_plan", name, PLANS[name])


def subscribed(ledger: Ledger, plan: str = "pro", **named: object) -> UUID:
    """A new account with a subscription to a plan, as all plans of PLANS are there."""
    account = ledger.account()
    ledger.call("start_subscription", account, plan, **named)
    return account


def subscription(ledger: Ledger, account: UUID) -> Row:
    return ledger.call("get_subscription", account)


def free(ledger: Ledger, account: UUID) -> int:
    """Free credits now."""
    return int(ledger.call("get_balance", account)["available"])


def state(ledger: Ledger, account: UUID) -> tuple[str, str, bool]:
    """The plan, the status, and whether the account is let in."""
    row = subscription(ledger, account)
    return row["plan_id"], row["status"], row["has_access"]


def period(ledger: Ledger, account: UUID) -> tuple[datetime, datetime]:
    """The interval that is paid for."""
    row = subscription(ledger, account)
    return row["current_period_start"], row["current_period_end"]


def settled(ledger: Ledger, account: UUID) -> None:
    """Store what is due for the account and its subscription, as run_due() would."""
    ledger.conn.execute("select pgsaas.settle_subscription(%s)", [account])
    settle = "select pgsaas.store_balance(pgsaas.settle_account(pgsaas.lock_account(%s)))"
    ledger.conn.execute(settle, [account])
