"""What doctor and status see: somebody changed something by hand, or forgot something."""

from __future__ import annotations

import os

import pytest

from pgsaas.install.checks import examine
from pgsaas.resources import packaged
from tests.cli.conftest import Shell
from tests.conftest import Conn, Database

BY_HAND = {
    "body": (
        "create or replace function pgsaas.available(p_b pgsaas.account_balances)"
        " returns numeric language sql as 'select 1000000.0'",
        "function pgsaas.available(pgsaas.account_balances)",
    ),
    "search path": (
        "alter function pgsaas.raise_not_found(text) set search_path = public",
        "function pgsaas.raise_not_found(text)",
    ),
    "invoker": (
        "alter function pgsaas.deduct_credits(uuid, numeric, uuid, text, text, text, jsonb)"
        " security invoker",
        "function pgsaas.deduct_credits(uuid,numeric,uuid,text,text,text,jsonb)",
    ),
    "clock": (
        "create or replace function pgsaas.now() returns timestamptz language sql stable"
        " as $$ select pg_catalog.now() - interval '1 year' $$",
        "function pgsaas.now()",
    ),
    "dropped": ("drop function pgsaas.reset_clock()", "function pgsaas.reset_clock()"),
    "view": (
        "alter view pgsaas.credit_balances set (security_invoker = false)",
        "view pgsaas.credit_balances",
    ),
    "row security": (
        "alter table pgsaas.credit_transactions disable row level security",
        "row security of pgsaas.credit_transactions",
    ),
    "policy": (
        "alter policy credit_transactions_user on pgsaas.credit_transactions using (true)",
        "policy credit_transactions_user on pgsaas.credit_transactions",
    ),
    "trigger": (
        "alter table pgsaas.credit_transactions disable trigger credit_transactions_guard",
        "trigger credit_transactions_guard on pgsaas.credit_transactions",
    ),
    "privilege on a table": (
        "grant update on pgsaas.credit_transactions to pgsaas_app",
        "privileges on pgsaas.credit_transactions",
    ),
    "privilege on a column": (
        "grant select (salt) on pgsaas.installation to pgsaas_app",
        "privileges on pgsaas.installation.salt",
    ),
    "privilege on a function": (
        "grant execute on function pgsaas.set_clock(timestamptz) to public",
        "privileges on pgsaas.set_clock(timestamp with time zone)",
    ),
    "privilege on the schema": (
        "grant create on schema pgsaas to pgsaas_app",
        "privileges on the schema",
    ),
}


MADE = "select object, sha256 from pgsaas.loaded_objects order by object"


@pytest.fixture(autouse=True)
def adopted(shell: Shell) -> None:
    """Databases of tests are clones; this one shall count as the original."""
    shell.ok("adopt")


@pytest.mark.parametrize("name", BY_HAND)
def test_what_was_changed_by_hand_is_drift_until_it_is_loaded_again(
    shell: Shell, conn: Conn, name: str
) -> None:
    change, what = BY_HAND[name]
    assert shell("status").code == 0
    made = conn.execute(MADE).fetchall()
    conn.execute(change.encode())
    drifted = shell("status")
    assert drifted.code == 3
    assert f"drifted: {what}: changed since it was loaded\n" in drifted.out
    sick = shell("doctor")
    assert sick.code == 5
    assert f"migrations: drifted: {what}: changed" in sick.out
    script = shell.json("migrate", "--sql")["sql"]
    assert "sql/82_privileges.sql" in script
    mended = shell("migrate")
    assert "functions loaded" in mended.out
    assert f"{what}: changed since it was loaded" in mended.err
    assert shell("status").code == 0
    assert conn.execute(MADE).fetchall() == made  # not only recorded as it is
    assert shell("doctor").code == 0
    assert shell.ok("migrate") == "nothing to do\n"


def test_a_function_that_no_file_makes_is_named_and_refused(shell: Shell, conn: Conn) -> None:
    conn.execute("create function pgsaas.mine() returns integer language sql as 'select 1'")
    assert "drifted: function pgsaas.mine(): changed" in shell("status").out
    refused = shell("migrate")
    assert refused.code == 1
    assert "no file of sql/ makes: function pgsaas.mine()" in refused.err


def test_the_test_clock_is_no_drift(shell: Shell) -> None:
    shell.ok("clock", "set", "2030-01-01")
    assert shell("status").code == 0


def test_user_ids_that_no_account_has_are_found(shell: Shell, users: Conn) -> None:
    shell.ok("attach", "public.users")
    shell.ok("doctor")
    shell.ok("settings", "set", "identity_realm", "public.members")
    sick = shell("doctor")
    assert sick.code == 5
    assert "users: user ids are those of public.members, which no account has" in sick.out
    assert "pgsaas settings set identity_realm public.users" in sick.out


def test_nobody_in_the_backend_role_is_a_note(shell: Shell, conn: Conn) -> None:
    role = f"backend_{os.getpid()}"
    conn.execute(f"create role {role} login in role pgsaas_app")
    assert shell("doctor").err == ""
    conn.execute(f"drop role {role}")
    with conn.transaction(force_rollback=True):
        conn.execute("""
            do $$ declare v_role text; begin
                for v_role in
                    select r.rolname from pg_roles r
                    where r.rolcanlogin and not r.rolsuper
                        and pg_has_role(r.oid, 'pgsaas_app', 'member')
                loop
                    execute format('alter role %I nologin', v_role);
                end loop;
            end $$""")
        notes = [finding for finding in examine(conn, packaged()) if finding.is_note]
    assert [note.message for note in notes] == [
        "no login role is a member of pgsaas_app: `grant pgsaas_app to` that of your backend"
    ]


def test_a_backend_is_told_who_may_look(shell: Shell, db: Database, conn: Conn) -> None:
    role = f"backend_{os.getpid()}"
    conn.execute(f"create role {role} login in role pgsaas_app")
    shell.use(db.dsn_as(role))
    try:
        for command in ("status", "doctor", "migrate"):
            refused = shell(command)
            assert (refused.code, refused.out) == (1, "")
            assert "pgsaas_owner" in refused.err
            assert refused.err.count("\n") == 1
    finally:
        conn.execute(f"drop role {role}")


def test_staff_come_and_go_and_are_on_record(shell: Shell) -> None:
    assert shell("admins", "list").err == "there are no platform admins\n"
    added = shell.ok("admins", "add", "7", "--reason", "on call")
    assert added == "7 is now a platform admin\n"
    assert shell.ok("admins", "add", "7") == "7 is already a platform admin\n"
    assert [each["user_id"] for each in shell.json("admins", "list")["admins"]] == ["7"]
    assert shell.ok("admins", "remove", "7") == "7 is no longer platform admin\n"
    assert shell.ok("admins", "remove", "7") == "7 was no platform admin\n"
    events = shell.json("audit", "--limit", "1")
    assert [each["action"] for each in events["events"]] == ["platform_admin.removed"]
    earlier = shell.json("audit", "--before", str(events["next"]))["events"]
    assert earlier[0]["action"] == "platform_admin.added"
    assert earlier[0]["details"]["reason"] == "on call"


def test_the_record_of_an_account_is_its_own(shell: Shell, ada: str) -> None:
    shell.ok("accounts", "freeze", ada, "--reason", "fraud")
    shell.ok("admins", "add", "7")
    events = shell.json("audit", ada)["events"]
    assert [each["action"] for each in events] == ["account.frozen"]
    assert "fraud" in shell.ok("audit", ada)
    assert shell("audit", "nobody").code == 1


def test_rows_without_an_account_are_found(shell: Shell, users: Conn) -> None:
    shell.ok("attach", "public.users")
    shell.ok("doctor")
    users.execute("set session_replication_role = replica")
    users.execute("insert into public.users values (9, 'late@x.org')")
    sick = shell("doctor")
    assert (sick.code, sick.out) == (
        5,
        "rows: rows of public.users have no account: `pgsaas attach public.users`\n",
    )
    shell.ok("attach", "public.users")
    shell.ok("doctor")


def test_a_row_whose_person_was_erased_is_well(shell: Shell, users: Conn) -> None:
    shell.ok("attach", "public.users")
    shell.ok("accounts", "erase", "2", "--reason", "they asked", "--yes")
    assert shell.ok("doctor") == "all is well\n"
    users.execute("delete from pgsaas.account_external_ids where external_id = '3'")
    assert "rows of public.users have no account" in shell("doctor").out
