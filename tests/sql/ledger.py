"""A ledger under test: calls the functions by name, reads rows, moves the clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from tests.conftest import Conn

Row: TypeAlias = dict[str, Any]

START = datetime(2026, 3, 10, 12, tzinfo=UTC)
NOBODY = UUID("00000000-0000-4000-8000-000000000000")

TABLES = (
    "accounts",
    "account_external_ids",
    "account_members",
    "account_balances",
    "credit_grants",
    "credit_holds",
    "credit_debts",
    "credit_transactions",
    "credit_checkpoints",
    "plans",
    "plan_versions",
    "subscriptions",
    "agents",
    "jobs",
    "rewards",
    "redemptions",
    "redeemed_subjects",
    "referrals",
    "spend_caps",
    "entitlement_overrides",
    "entitlement_usage",
    "credit_events",
    "credit_prices",
    "usage_records",
    "usage_periods",
    "daily_usage_stats",
    "usage_rollups",
    "archived_keys",
    "audit_events",
    "outbox_messages",
    "settings",
    "attachments",
    "erased_subjects",
    "platform_admins",
)


GRANTS = "credit_grants"
#: What is left of a grant that is somebody's cached head.
HEAD = """ || coalesce((
    select jsonb_build_object('remaining', b.head_left) from pgsaas.account_balances b
     where b.account_id = t.account_id and b.head_grant_id = t.grant_id), '{}')"""


def day(text: str) -> datetime:
    """A moment in UTC: '2026-03-10' or '2026-03-10 12:00'."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ledger:
    """One connection to an installed database in test mode."""

    conn: Conn

    def at(self, moment: datetime) -> datetime:
        self.conn.execute("select pgsaas.set_clock(%s)", [moment])
        return moment

    def after(self, **length: float) -> datetime:
        at: datetime = self.scalar("select pgsaas.advance_clock(%s)", timedelta(**length))
        return at

    def query(self, text: str, *parameters: object) -> list[Row]:
        with self.conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(text.encode(), parameters or None).fetchall()

    def scalar(self, text: str, *parameters: object) -> Any:
        row = self.conn.execute(text.encode(), parameters or None).fetchone()
        assert row is not None
        return row[0]

    def call_all(self, function: str, *arguments: object, **named: object) -> list[Row]:
        """Every row of a call; dicts go as jsonb."""
        values = [Jsonb(v) if isinstance(v, dict) else v for v in (*arguments, *named.values())]
        places = ["%s"] * len(arguments) + [f"{name} => %s" for name in named]
        return self.query(f"select * from pgsaas.{function}({', '.join(places)})", *values)

    def call(self, function: str, *arguments: object, **named: object) -> Row:
        """The one row of a call."""
        rows = self.call_all(function, *arguments, **named)
        assert len(rows) == 1, rows
        return rows[0]

    def done(self, function: str, *arguments: object, **named: object) -> Row:
        """The answer of a call that must succeed."""
        answer = self.call(function, *arguments, **named)
        assert answer["success"], answer
        return answer

    @contextmanager
    def raises(self, sqlstate: str) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
        """The block raises this and leaves everything as it was."""
        before = self.state()
        with pytest.raises(psycopg.Error) as caught, self.conn.transaction():
            yield caught
        assert caught.value.sqlstate == sqlstate, caught.value
        assert self.state() == before

    def state(self) -> dict[str, Any]:
        """Every row of every table.

        Left out are account time, which a refusal may move on, when something changes next, which
        may be too early, and what the row of a cached head says of it, which is stale until
        somebody writes it back.
        """
        parts = ", ".join(
            f"'{table}', (select jsonb_agg(to_jsonb(t) - 'last_at' - 'next_change_at'"
            f"{HEAD * (table == GRANTS)} order by t::text) from pgsaas.{table} t)"
            for table in TABLES
        )
        found: dict[str, Any] = self.scalar(f"select jsonb_build_object({parts})")
        return found

    def account(self, purchased: Any = 0, **named: object) -> UUID:
        """A new account with that many purchased credits."""
        account: UUID = self.call("create_account", **named)["account_id"]
        if Decimal(purchased) > 0:
            self.done("add_credits", account, purchased, p_source="purchase")
        return account

    def on_plan(self, allowance: int, rollover: int | None = 0, **named: object) -> UUID:
        """A new account with a monthly allowance from now on."""
        account = self.account(0, **named)
        self.conn.execute("select pgsaas.start_period(%s, %s, %s)", [account, allowance, rollover])
        return account

    def rows(self, account: UUID, since: int = 0) -> list[tuple[str, Any, Any]]:
        """What the ledger of the account says after row `since`."""
        found = self.conn.execute(
            "select transaction_type, amount, created_at from pgsaas.credit_transactions"
            " where account_id = %s and seq > %s order by seq",
            [account, since],
        )
        return [(str(kind), Decimal(amount), at) for kind, amount, at in found]

    def moves(self, account: UUID, since: int = 0) -> list[tuple[str, Any]]:
        """rows() without the times."""
        return [(kind, amount) for kind, amount, _ in self.rows(account, since)]

    def balance(self, account: UUID) -> Row:
        return self.call("get_balance", account)

    def available(self, account: UUID) -> Decimal:
        amount: Decimal = self.balance(account)["available"]
        return amount

    def grants(self, account: UUID) -> list[tuple[str, Any]]:
        """Source and what is left of every open grant, in order."""
        found = self.conn.execute(
            "select source, remaining from pgsaas.open_credit_grants where account_id = %s"
            " and not is_pending order by grant_id",
            [account],
        )
        return [(str(source), Decimal(left)) for source, left in found]

    def parts(self, account: UUID, seq: int) -> list[tuple[Any, ...]]:
        """Grant, source, amount and what was refunded of every part of a charge."""
        return self.conn.execute(
            "select grant_id, source, amount, refunded"
            " from pgsaas.explain_deduction(%s, %s) order by part",
            [account, seq],
        ).fetchall()

    def violations(self) -> list[str]:
        """The rules that verify_ledger() says are broken."""
        return sorted({row["rule"] for row in self.call_all("verify_ledger")})

    def audit(self, action: str) -> list[Row]:
        return self.query(
            "select * from pgsaas.audit_events where action = %s order by audit_event_id", action
        )

    def alerts(self, account: UUID) -> int:
        found: int = self.scalar(
            "select count(*) from pgsaas.outbox_messages where account_id = %s"
            " and topic = 'balance.low'",
            account,
        )
        return found

    def become(self, role: str, user: str | None = None) -> None:
        """Act as a database role, with a user's claims or without, until the end."""
        claims = "" if user is None else f'{{"sub": "{user}"}}'
        self.conn.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        self.conn.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))

    def be_superuser(self) -> None:
        self.conn.execute("reset role")
        self.conn.execute("select set_config('request.jwt.claims', '', true)")


def code(answer: Row) -> str | None:
    """The error code of an answer, which is right about success."""
    assert answer["success"] is (answer["error_code"] is None), answer
    assert (answer["error_message"] is None) is (answer["error_code"] is None), answer
    found: str | None = answer["error_code"]
    return found


def decimals(values: Iterable[float | str]) -> list[Decimal]:
    return [Decimal(str(value)) for value in values]
