"""A host with tenants, and every way in which a request may arrive at it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from pgsaas.embedded import Server
from tests.conftest import TEMPLATE, Conn, Database, temporary_database

#: The host's own roles: what it grants membership in, and whether it may log in.
HOST_ROLES = {
    "host_backend": ("pgsaas_app", "login"),
    "host_service": ("pgsaas_app", "nologin"),
    "host_signed_in": ("pgsaas_user", "nologin"),
    "host_anonymous": ("pgsaas_user", "nologin"),
    "host_staff": ("pgsaas_admin", "login"),
    "host_stranger": (None, "login"),
    "host_attacker": (None, "login"),
    "host_tables": (None, "login"),
    "host_gateway": (None, "login noinherit"),
}

#: Seeded accounts and the member roles of users in them; `own` is the account's own user.
UMA = UUID("0b5d5f0e-1111-4222-8333-944444444444")
#: A job that runs, of every account.
JOB = UUID("00000000-0000-4000-8000-00000000000a")
ERIK = UUID("0b5d5f0e-1111-4222-8333-955555555555")


@dataclass(frozen=True, slots=True)
class World:
    """A seeded database and the ids of its accounts by name."""

    database: Database
    ids: Mapping[str, UUID]

    def accounts(self, *names: str) -> list[UUID]:
        """Ids of accounts by name."""
        return [self.ids[name] for name in names]

    @contextmanager
    def acting(
        self,
        role: str | None = None,
        *,
        claims: object = None,
        act_as: str | None = None,
        login: str = "postgres",
    ) -> Iterator[Conn]:
        """A request: one transaction, its role and claims local to it, undone at its end.

        `claims` is a text as it stands, anything else as JSON.
        """
        with psycopg.connect(self.database.dsn_as(login), prepare_threshold=None) as conn:
            if role is not None:
                conn.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
            if claims is not None:
                text = claims if isinstance(claims, str) else json.dumps(claims)
                conn.execute("select set_config('request.jwt.claims', %s, true)", [text])
            if act_as is not None:
                conn.execute("select pgsaas.act_as(%s)", [act_as])
            yield conn
            conn.rollback()

    def user(self, sub: str, role: str = "pgsaas_app") -> Any:
        """A request of the backend with a user's claims."""
        return self.acting(role, claims={"sub": sub, "role": role})


def one(conn: Conn, statement: str, *values: object) -> Any:
    """The first column of the only row; None without a row."""
    rows = conn.execute(statement.encode(), values).fetchall()
    assert len(rows) <= 1, rows
    return rows[0][0] if rows else None


def account(conn: Conn, name: str | None = None, **arguments: object) -> UUID:
    """A new account; `name` is its external id."""
    values = {"p_external_id": name, **arguments}
    listed = ", ".join(f"{key} => %({key})s" for key in values)
    row = conn.execute(
        f"select account_id from pgsaas.create_account({listed})".encode(), values
    ).fetchone()
    assert row is not None
    return UUID(str(row[0]))


def credit(conn: Conn, to: UUID, amount: int, **arguments: object) -> int:
    """Adds credits and returns the grant's id."""
    values = {"p_account_id": to, "p_amount": amount, **arguments}
    listed = ", ".join(f"{key} => %({key})s" for key in values)
    row = conn.execute(
        f"select grant_id from pgsaas.add_credits({listed})".encode(), values
    ).fetchone()
    assert row is not None
    return int(row[0])


def refusal(conn: Conn, statement: str, *values: object) -> tuple[str, str]:
    """The sqlstate and the message of the error that the statement must raise."""
    with pytest.raises(psycopg.Error) as caught, conn.transaction():
        conn.execute(statement.encode(), values)
    return str(caught.value.sqlstate), str(caught.value.diag.message_primary)


def make_host_roles(conn: Conn) -> None:
    """The roles of the host; they belong to the server."""
    for name, (member_of, attributes) in HOST_ROLES.items():
        if not conn.execute("select from pg_roles where rolname = %s", [name]).fetchall():
            conn.execute(f"create role {name} {attributes}".encode())
        if member_of:
            conn.execute(f"grant {member_of} to {name}".encode())
    conn.execute(
        "grant host_service, host_signed_in, host_anonymous, pgsaas_app, pgsaas_user, pgsaas_admin"
        " to host_gateway"
    )


@pytest.fixture(scope="session")
def hosted(server: Server) -> Iterator[Server]:
    """The worker's server with the host's roles."""
    with psycopg.connect(server.url(), autocommit=True) as conn:
        make_host_roles(conn)
    yield server
    with psycopg.connect(server.url(), autocommit=True) as conn:
        for name in HOST_ROLES:
            conn.execute(f"drop role {name}".encode())


def seed(conn: Conn) -> dict[str, UUID]:
    """Tenants with a row in every table: what one of them sees of another's is a leak."""
    ids = {
        name: account(conn, name, p_email=f"{name}@example.com", p_name=name)
        for name in ("alice", "bob", "adam", "mia", "bill")
    }
    ids["alice elsewhere"] = account(conn, "alice", p_realm="elsewhere")
    ids["uma"] = account(conn, None, p_account_id=UMA)
    # somebody chose a name that is the id of another's account
    ids["impostor"] = account(conn, str(ids["bob"]))
    ids["acme"] = account(conn, "acme", p_kind="organization")
    ids["bobco"] = account(conn, "bobco", p_kind="organization")
    ids["erik"] = account(conn, None, p_account_id=ERIK, p_email="erik@example.com")
    for organization, user, role in (
        ("acme", "alice", "owner"),
        ("acme", "adam", "admin"),
        ("acme", "bill", "billing"),
        ("acme", "mia", "member"),
        ("acme", "gus", "member"),
        ("bobco", "bob", "owner"),
    ):
        conn.execute("select pgsaas.add_member(%s, %s, %s)", [ids[organization], user, role])
    for event in ("call", "query"):
        conn.execute("select pgsaas.set_credit_event(%s, '{\"base\": 1}')", [event])
    conn.execute("""select pgsaas.set_plan('basic', '{"limits": {"slots": 9}}')""")
    conn.execute("""select pgsaas.set_reward('HELLO', '{"credits": 1}')""")
    conn.execute("""select pgsaas.set_agent('painter', '{"credits": 1}')""")
    conn.execute("select pgsaas.adopt_installation(), pgsaas.note_run('a worker', 1)")
    for account_id in ids.values():
        conn.execute("select pgsaas.start_subscription(%s, 'basic')", [account_id])
        credit(conn, account_id, 1000, p_description="a gift")
        credit(conn, account_id, 50, p_source="trial", p_expires_at="2099-01-01")
        conn.execute("select pgsaas.deduct_credits(%s, 10)", [account_id])
        conn.execute("select pgsaas.hold_credits(%s, 5)", [account_id])
        conn.execute("select pgsaas.set_low_balance_at(%s, 900)", [account_id])
        conn.execute("select pgsaas.deduct_credits(%s, 200)", [account_id])
        conn.execute(
            "insert into pgsaas.credit_checkpoints (account_id, seq, created_at, balance_after,"
            " not_spent, lifetime_earned, archived_at) values (%s, 0, now(), 0, 0, 0, now())",
            [account_id],
        )
        conn.execute(
            "insert into pgsaas.credit_debts (account_id, debt_id, created_at, amount, unpaid)"
            " values (%s, 1, now(), 1, 0)",
            [account_id],
        )
        conn.execute(
            "insert into pgsaas.usage_records (account_id, usage_id, created_at, occurred_at,"
            " event_name, quantity, cost, balance_after)"
            " values (%s, 1, now(), now(), 'call', 1, 0, 0)",
            [account_id],
        )
        conn.execute(
            "update pgsaas.account_balances set usage_count = 1 where account_id = %s",
            [account_id],
        )
        conn.execute(
            "insert into pgsaas.usage_periods (account_id, period_start, event_name, dimensions,"
            " quantity) values (%s, now(), 'call', '{}', 1)",
            [account_id],
        )
        conn.execute("select pgsaas.roll_up_usage(%s)", [account_id])
        conn.execute(
            "insert into pgsaas.redemptions values (%s, 'SPRING', now(), 1, 1)", [account_id]
        )
        conn.execute(
            "insert into pgsaas.referrals (account_id, referrer_id, referred_at)"
            " values (%s, gen_random_uuid(), now())",
            [account_id],
        )
        conn.execute("select pgsaas.set_entitlement(%s, 'sso', 'true', 'a pilot')", [account_id])
        conn.execute("select pgsaas.use_entitlement(%s, 'slots')", [account_id])
        conn.execute("select pgsaas.set_spend_cap(%s, 'account', '', 100)", [account_id])
        conn.execute(
            "insert into pgsaas.jobs (account_id, job_id, agent_id, plan_id, job_status,"
            " cost_credits, expires_at, balance_after, subjects, created_at)"
            " values (%s, %s, 'painter', 'basic', 'running', 0, '2099-01-01', 0, '{}', now())",
            [account_id, JOB],
        )
    conn.execute("select pgsaas.erase_account(%s, 'asked for')", [ids["erik"]])
    conn.execute("select pgsaas.add_platform_admin('root@staff')")
    return ids


@pytest.fixture(scope="session")
def world(hosted: Server) -> Iterator[World]:
    """The seeded tenants; every test rolls back."""
    with temporary_database(hosted, TEMPLATE) as database:
        with database.connect() as conn:
            ids = seed(conn)
        yield World(database, ids)


@pytest.fixture
def own(hosted: Server) -> Iterator[Database]:
    """A fresh clone for tests that commit, beside the host's roles."""
    with temporary_database(hosted, TEMPLATE) as database:
        yield database
