"""After hasty or hostile grants a load puts the written matrix back; the host keeps working."""

from __future__ import annotations

import psycopg
import pytest

from pgsaas import install
from tests.conftest import Database
from tests.security.conftest import account, credit, one
from tests.security.test_matrix import listed

#: Each is run by a superuser, statement by statement.
HOSTILE = {
    "functions to everybody": ["grant execute on all functions in schema pgsaas to public"],
    "functions to a role of the host": [
        "grant execute on all functions in schema pgsaas to host_anonymous, host_stranger"
    ],
    "tables to everybody": ["grant all on all tables in schema pgsaas to public"],
    "sequences": ["grant all on all sequences in schema pgsaas to public, pgsaas_app"],
    "the schema": ["grant create, usage on schema pgsaas to public, pgsaas_app, host_stranger"],
    "columns": [
        "grant select (email), update (email) on pgsaas.accounts to host_stranger, pgsaas_user",
        "grant select (salt) on pgsaas.installation to pgsaas_app, public",
        "grant insert (user_id) on pgsaas.platform_admins to pgsaas_admin",
        "grant select (ctid) on pgsaas.accounts to host_stranger",
    ],
    "writing to the backend": [
        "grant insert, update, delete on all tables in schema pgsaas to pgsaas_app"
    ],
    "deducting to end users": [
        "grant execute on function pgsaas.add_credits to pgsaas_user",
        "grant execute on function pgsaas.may to pgsaas_user",
    ],
    "taken away": [
        "revoke execute on function pgsaas.deduct_credits from pgsaas_app",
        "revoke select on pgsaas.credit_transactions from pgsaas_user",
        "revoke usage on schema pgsaas from pgsaas_admin",
        "revoke select (installation_id) on pgsaas.installation from pgsaas_app",
    ],
    "with the right to pass on": [
        "grant all on all tables in schema pgsaas to host_attacker with grant option",
        "grant usage on schema pgsaas to host_attacker with grant option",
        "grant execute on function pgsaas.add_credits to host_attacker with grant option",
        "set role host_attacker",
        "grant usage on schema pgsaas to host_stranger",
        "grant select on pgsaas.accounts to host_stranger",
        "grant execute on function pgsaas.add_credits to host_stranger",
        "reset role",
    ],
    "with the right to pass on, to a role of the matrix": [
        "grant select on pgsaas.accounts to pgsaas_app with grant option",
        "grant execute on function pgsaas.add_credits to pgsaas_app with grant option",
        "grant usage on schema pgsaas to pgsaas_app with grant option",
        "grant select (mode) on pgsaas.installation to pgsaas_app with grant option",
    ],
    "and it was passed on": [
        "grant select on pgsaas.accounts to pgsaas_app with grant option",
        "grant usage on schema pgsaas to pgsaas_app with grant option",
        "grant execute on function pgsaas.add_credits to pgsaas_app with grant option",
        "set role pgsaas_app",
        "grant usage on schema pgsaas to host_stranger",
        "grant select on pgsaas.accounts to host_stranger with grant option",
        "grant execute on function pgsaas.add_credits to host_stranger",
        "set role host_stranger",
        "grant select on pgsaas.accounts to host_anonymous",
        "reset role",
    ],
    "a table's right passed on for a column": [
        "grant usage on schema pgsaas to host_attacker",
        "grant select on pgsaas.accounts to host_attacker with grant option",
        "set role host_attacker",
        "grant select (email) on pgsaas.accounts to host_stranger",
        "reset role",
    ],
    "defaults for what is made later": [
        "alter default privileges for role pgsaas_owner in schema pgsaas"
        " grant execute on functions to public, host_anonymous",
        "alter default privileges for role pgsaas_owner grant all on tables to host_anonymous",
        "drop function pgsaas.expose(text)",
        "drop view pgsaas.open_credit_grants",
    ],
}


@pytest.mark.parametrize("grants", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_load_restores_the_matrix_exactly(own: Database, grants: list[str]) -> None:
    with own.connect() as conn:
        before = listed(conn)
        try:
            for statement in grants:
                conn.execute(statement.encode())
            assert listed(conn) != before
            install.migrate(own.dsn, force=True)
            assert listed(conn) == before
        finally:
            conn.execute("reset role")
            conn.execute("drop owned by host_stranger, host_attacker, host_anonymous")


def test_a_load_puts_row_security_back(own: Database) -> None:
    with own.connect() as conn:
        account(conn, "alice")
        conn.execute("alter table pgsaas.accounts disable row level security")
        conn.execute("alter view pgsaas.credit_balances set (security_invoker = false)")
    assert install.migrate(own.dsn).loaded
    with own.connect("host_signed_in", {"sub": "mallory"}) as conn:
        assert one(conn, "select count(*) from pgsaas.credit_balances") == 0
        assert one(conn, "select count(*) from pgsaas.accounts") == 0


def test_a_policy_of_somebody_else_stops_the_load(own: Database) -> None:
    with own.connect() as conn:
        conn.execute("create policy everybody on pgsaas.accounts using (true)")
    with pytest.raises(Exception, match="everybody on accounts"):
        install.migrate(own.dsn, force=True)


def test_a_policy_that_was_loosened_is_put_back(own: Database) -> None:
    with own.connect() as conn:
        account(conn, "alice")
        conn.execute("alter policy accounts_user on pgsaas.accounts to public using (true)")
    install.migrate(own.dsn, force=True)
    with own.connect("host_signed_in", {"sub": "mallory"}) as conn:
        assert one(conn, "select count(*) from pgsaas.accounts") == 0


def test_a_function_that_was_replaced_is_put_back(own: Database) -> None:
    with own.connect() as conn:
        conn.execute(
            "create or replace function pgsaas.may(p_account_id uuid, p_act text) returns boolean"
            " language sql as 'select true'"
        )
        conn.execute("alter function pgsaas.add_credits reset search_path")
        conn.execute("alter function pgsaas.get_balance security definer")
    install.migrate(own.dsn, force=True)
    with own.connect() as conn:
        mine, other = account(conn, "alice"), account(conn, "bob")
        credit(conn, other, 5)
    with own.connect("pgsaas_app", {"sub": "alice"}) as conn:
        call = "select error_code from pgsaas.deduct_credits(%s, 1)"
        assert one(conn, call, other) == "ACCOUNT_NOT_FOUND"
        assert one(conn, "select balance from pgsaas.get_balance(%s)", other) is None
        assert one(conn, "select balance from pgsaas.get_balance(%s)", mine) == 0


def test_roles_of_the_host_that_are_members_keep_working(own: Database) -> None:
    with own.connect() as conn:
        payer = account(conn)
        credit(conn, payer, 5)
        conn.execute("grant execute on all functions in schema pgsaas to public, host_backend")
    install.migrate(own.dsn, force=True)
    with psycopg.connect(own.dsn_as("host_backend"), autocommit=True) as backend:
        assert one(backend, "select success from pgsaas.deduct_credits(%s, 1)", payer) is True
        assert one(backend, "select count(*) from pgsaas.credit_transactions") == 2
    with psycopg.connect(own.dsn_as("host_staff"), autocommit=True) as staff:
        call = "select success from pgsaas.adjust_credits(%s, 1, 'a slip')"
        assert one(staff, call, payer) is True
    with (
        psycopg.connect(own.dsn_as("host_stranger"), autocommit=True) as stranger,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        stranger.execute("select pgsaas.now()")
