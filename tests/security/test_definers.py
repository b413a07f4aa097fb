"""Rights of the owner are lent to nothing that a caller can put in the way."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from tests.conftest import Conn, Database
from tests.security.conftest import account, credit, one

FUNCTIONS = """
    select p.oid::regprocedure::text, p.prosecdef, p.provolatile, p.proconfig
      from pg_proc p where p.pronamespace = 'pgsaas'::regnamespace order by 1
"""


def test_every_definer_has_an_empty_search_path(tx: Conn) -> None:
    definers = [row for row in tx.execute(FUNCTIONS.encode()).fetchall() if row[1]]
    assert len(definers) > 30
    assert [row[0] for row in definers if 'search_path=""' not in (row[3] or [])] == []


def test_what_a_privileged_person_runs_by_hand_has_an_empty_search_path(tx: Conn) -> None:
    """Invokers that owners and superusers call: attaching, detaching, exposing."""
    tx.execute("set local role pgsaas_owner")
    rows = tx.execute(
        "select p.proname from pg_proc p where p.pronamespace = 'pgsaas'::regnamespace"
        " and p.proname in ('attach_users', 'detach_users', 'expose')"
        " and 'search_path=\"\"' <> all (coalesce(p.proconfig, '{}'))"
    ).fetchall()
    assert rows == []


def test_no_definer_that_end_users_may_execute_writes(tx: Conn) -> None:
    rows = tx.execute(
        "select p.oid::regprocedure from pg_proc p where p.pronamespace = 'pgsaas'::regnamespace"
        " and p.prosecdef and p.provolatile = 'v'"
        " and has_function_privilege('pgsaas_user', p.oid, 'execute')"
    ).fetchall()
    assert rows == []


def test_views_look_with_the_readers_rights(tx: Conn) -> None:
    views = tx.execute(
        "select c.relname, 'security_invoker=true' = any (c.reloptions) from pg_class c"
        " where c.relnamespace = 'pgsaas'::regnamespace and c.relkind in ('v', 'm') order by 1"
    ).fetchall()
    assert views == [
        ("credit_balances", True),
        ("current_jobs", True),
        ("current_subscriptions", True),
        ("open_credit_grants", True),
        ("open_credit_holds", True),
        ("subscription_plans", True),
    ]


def test_row_security_is_on_for_every_table(tx: Conn) -> None:
    off = tx.execute(
        "select c.relname from pg_class c where c.relnamespace = 'pgsaas'::regnamespace"
        " and c.relkind in ('r', 'p') and not c.relrowsecurity"
        " and not (c.relname like '%yoyo%')"
    ).fetchall()
    assert off == []
    open_to_somebody = tx.execute(
        "select c.relname from pg_class c, aclexplode(c.relacl) a"
        " where c.relnamespace = 'pgsaas'::regnamespace and c.relname like '%yoyo%'"
        " and a.grantee <> c.relowner"
    ).fetchall()
    assert open_to_somebody == []


def test_row_security_has_only_readers(tx: Conn) -> None:
    rows = tx.execute(
        "select policyname from pg_policies where schemaname = 'pgsaas'"
        " and (cmd <> 'SELECT' or permissive <> 'PERMISSIVE' or 'public' = any (roles))"
    ).fetchall()
    assert rows == []


# --- objects of an attacker where a careless caller finds them ---

#: Functions and operators that every body uses, with the very types it uses them with: on a
#: search_path they would win over those of pg_catalog. Each leaves a mark when it runs.
DECOYS = """
create schema evil authorization host_attacker;
set role host_attacker;
create table evil.marks (who text);
grant usage on schema evil to public;
grant insert on evil.marks to public;
create function evil.mark() returns void language sql as $$ insert into evil.marks values (current_user) $$;
create function evil.now() returns timestamptz language sql as
    $$ select evil.mark(); select '2000-01-01'::timestamptz $$;
create function evil.format(text, name, name) returns text language sql as
    $$ select evil.mark(); select 'decoy'::text $$;
create function evil.format(text, text, text) returns text language sql as
    $$ select evil.mark(); select 'decoy'::text $$;
create function evil.format(text, text, text, text) returns text language sql as
    $$ select evil.mark(); select 'select 1'::text $$;
create function evil.format(text, text, text, regclass) returns text language sql as
    $$ select evil.mark(); select 'select null::text[], null::text[] where $1 = $1 and $2 = $2'::text $$;
create function evil.trim_scale(numeric) returns numeric language sql as $$ select evil.mark(); select 0::numeric $$;
create function evil.jsonb_array_elements(jsonb) returns setof jsonb language sql as
    $$ select evil.mark(); select '[1, 1000000]'::jsonb $$;
create function evil.octet_length(text) returns integer language sql as $$ select evil.mark(); select 1 $$;
create function evil.le(numeric, numeric) returns boolean language sql as $$ select evil.mark(); select true $$;
create operator evil.>= (leftarg = numeric, rightarg = numeric, function = evil.le);
create operator evil.< (leftarg = numeric, rightarg = numeric, function = evil.le);
create function evil.same(uuid, uuid) returns boolean language sql as $$ select evil.mark(); select true $$;
create operator evil.= (leftarg = uuid, rightarg = uuid, function = evil.same);
create function evil.same(text, text) returns boolean language sql as $$ select evil.mark(); select true $$;
create operator evil.= (leftarg = text, rightarg = text, function = evil.same);
create operator evil.<> (leftarg = text, rightarg = text, function = evil.same);
create function evil.same(name, text) returns boolean language sql as $$ select evil.mark(); select true $$;
create operator evil.= (leftarg = name, rightarg = text, function = evil.same);
create type evil.account_balances as (account_id uuid);
reset role;
"""  # noqa: E501


@pytest.fixture(params=["evil, pg_catalog, public", "evil, public"])
def trapped(own: Database, request: pytest.FixtureRequest) -> Database:
    """A database whose every session finds an attacker's schema: first of all, or as the first
    after pg_catalog, where a host's own schemas are; functions and operators that fit the types
    of a call better win even there."""
    with own.connect() as conn:
        conn.execute(DECOYS.encode())
        conn.execute(
            sql.SQL("alter database {} set search_path = {}").format(
                sql.Identifier(own.name), sql.SQL(request.param)
            )
        )
    return own


def marks(database: Database) -> list[str]:
    with database.connect() as conn:
        conn.execute("set search_path = ''")
        return [row[0] for row in conn.execute("select distinct who from evil.marks").fetchall()]


def test_writers_are_not_led_astray_by_a_schema_first_in_the_search_path(
    trapped: Database,
) -> None:
    with trapped.connect("pgsaas_app") as conn:
        assert one(conn, "show search_path").startswith("evil")
        payer = one(conn, "select account_id from pgsaas.create_account()")
        conn.execute("select pgsaas.add_credits(%s, 10)", [payer])
        conn.execute("select pgsaas.deduct_credits(%s, 4)", [payer])
        assert one(conn, "select error_code from pgsaas.deduct_credits(%s, 7)", payer)
        conn.execute("select pgsaas.hold_credits(%s, 1)", [payer])
        conn.execute("select pgsaas.capture_hold(%s, 1)", [payer])
        conn.execute("select pgsaas.refund_credits(%s, 2)", [payer])
        conn.execute("select pgsaas.add_member(%s, 'x')", [payer])
        conn.execute("select pgsaas.export_account(%s)", [payer])
        conn.execute("select pgsaas.freeze_account(%s, 'x')", [payer])
        conn.execute("select pgsaas.verify_ledger()")
    assert marks(trapped) == []


def test_owners_and_superusers_are_not_led_astray_when_they_attach_and_expose(
    trapped: Database,
) -> None:
    with trapped.connect() as conn:
        conn.execute("create table public.users (id text primary key)")
        conn.execute("insert into public.users values ('ann')")
        for call in (
            "attach_users('public.users')",
            "detach_users('public.users')",
            "expose('public')",
        ):
            try:
                conn.execute(f"select pgsaas.{call}".encode())
            except psycopg.Error:  # led astray, it may fail as well
                continue
    assert marks(trapped) == []


def test_who_a_user_is_does_not_depend_on_the_search_path(trapped: Database) -> None:
    with trapped.connect() as conn:
        conn.execute("set search_path = ''")
        mine, other = account(conn, "alice"), account(conn, "bob")
        credit(conn, other, 5)
    with trapped.connect("host_signed_in", {"sub": "alice"}) as conn:
        assert one(conn, "select pgsaas.my_account_ids()") == [mine]
        assert conn.execute("select account_id from pgsaas.accounts").fetchall() == [(mine,)]
        assert conn.execute("select from pgsaas.credit_transactions").fetchall() == []
    with trapped.connect("pgsaas_admin", {"sub": "alice"}) as conn:
        assert conn.execute("select account_id from pgsaas.accounts").fetchall() == []


def test_a_backend_with_claims_sees_no_more_through_another_search_path(
    trapped: Database,
) -> None:
    with trapped.connect() as conn:
        conn.execute("set search_path = ''")
        mine = account(conn, "alice")
        account(conn, "bob")
    with trapped.connect("pgsaas_app", {"sub": "alice"}) as conn:
        assert conn.execute("select account_id from pgsaas.accounts").fetchall() == [(mine,)]


def test_temporary_objects_with_our_names_change_nothing(own: Database) -> None:
    with own.connect() as conn:
        mine, other = account(conn, "alice"), account(conn, "bob")
        credit(conn, mine, 5)
    with own.connect("host_backend", {"sub": "alice"}) as conn:
        conn.execute("create temp table platform_admins (user_id text, added_at timestamptz)")
        for table in (
            "account_balances", "account_members", "accounts", "account_external_ids", "settings",
            "credit_grants", "credit_transactions",
        ):  # fmt: skip
            conn.execute(f"create temp table {table} (like pgsaas.{table})".encode())
        conn.execute(
            "insert into pg_temp.account_members values (%s, 'alice', 'owner', now())", [other]
        )
        conn.execute("insert into pg_temp.platform_admins values ('alice', now())")
        conn.execute(
            "create function pg_temp.now() returns timestamptz return '2000-01-01'::timestamptz"
        )
        conn.execute("create function pg_temp.acts_as_system() returns boolean return true")
        conn.execute("set search_path = pg_temp, pgsaas, pg_catalog")
        assert one(conn, "select pgsaas.my_account_ids()") == [mine]
        assert one(conn, "select count(*) from pgsaas.accounts") == 1
        call = "select error_code from pgsaas.deduct_credits(%s, 1)"
        assert one(conn, call, other) == "ACCOUNT_NOT_FOUND"
        assert one(conn, call, mine) is None
        at = "select created_at > '2020-01-01' from pgsaas.list_transactions(%s, p_limit => 1)"
        assert one(conn, at, mine) is True
