"""Who may run which command about plans and work: a backend, staff, or neither."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn, Database

JOB = "00000000-0000-0000-0000-000000000001"
BOTH = ("app", "admin")


@pytest.fixture
def shop(shell: Shell, conn: Conn, db: Database) -> Iterator[tuple[Shell, dict[str, str]]]:
    """The account ada on a default plan, and the addresses of a backend and of staff."""
    conn.execute("""select pgsaas.set_plan('free', '{"default": true, "allowance": 100}')""")
    conn.execute("select pgsaas.set_agent('chat', '{}')")
    shell.ok("accounts", "create", "--external-id", "ada")
    shell.ok("adopt")  # a database made from a template is a copy, where nothing runs
    logins = {role: f"{role}_{os.getpid()}" for role in BOTH}
    for role, login in logins.items():
        conn.execute(f"create role {login} login in role pgsaas_{role}")
    yield shell, {role: db.dsn_as(login) for role, login in logins.items()}
    conn.execute(f"drop role {', '.join(logins.values())}")


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("catalog export", BOTH),
        ("catalog plan platform", ("admin",)),
        ("catalog apply platform", ("admin",)),
        ("subscriptions show ada", BOTH),
        ("subscriptions preview ada free", BOTH),
        ("subscriptions start ada free", ("app",)),
        ("subscriptions change ada free", ("app",)),
        ("subscriptions cancel ada", ("app",)),
        ("subscriptions backfill", ("app", "admin")),
        ("entitlements show ada", BOTH),
        ("entitlements check ada sso", BOTH),
        ("entitlements caps ada", BOTH),
        ("entitlements use ada videos", ("app",)),
        ("entitlements set ada sso true --reason deal", BOTH),
        ("entitlements cap ada account 5", ("app",)),
        ("jobs agents", BOTH),
        ("jobs authorize ada chat", BOTH),
        ("jobs list ada", BOTH),
        ("jobs stats", BOTH),
        ("jobs start ada chat", ("app",)),
        (f"jobs complete ada {JOB}", ("app",)),
        (f"jobs fail ada {JOB}", ("app",)),
        ("rewards list", BOTH),
        ("rewards redeem ada WELCOME", ("app",)),
        ("rewards referral-code ada", ("app",)),
        ("rewards refer ada x", ("app",)),
        ("cron status", BOTH),
        ("cron schedule", ()),
        ("worker --once", ("app",)),
    ],
)
def test_only_who_may_is_not_refused_for_the_role(
    shop: tuple[Shell, dict[str, str]], command: str, allowed: tuple[str, ...]
) -> None:
    shell, addresses = shop
    for role in BOTH:
        shell.use(addresses[role])
        answer = shell(*command.split())
        is_refused = ": log in as a member of pgsaas_" in answer.err
        assert is_refused == (role not in allowed), (role, answer)
        if is_refused:
            assert (answer.code, answer.out, answer.err.count("\n")) == (1, "", 1)
