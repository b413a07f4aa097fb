"""Wrappers in a host's schema, the installation's secrets, and the log of what staff did."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Database
from tests.security.conftest import World, account, credit, one, refusal

WRAPPERS = ("deduct_credits(uuid, numeric, uuid, text, text)", "add_credits(uuid, numeric, text)")


def test_wrappers_are_for_the_backend_even_where_the_host_grants_by_default(own: Database) -> None:
    with own.connect() as conn:
        conn.execute("create schema api")
        conn.execute("alter default privileges in schema api grant execute on functions to"
                     " host_anonymous, host_stranger, public")  # fmt: skip
        try:
            conn.execute("select pgsaas.expose('api')")
            for wrapper in WRAPPERS:
                for role in ("host_anonymous", "host_stranger", "pgsaas_user"):
                    may = "select has_function_privilege(%s, %s, 'execute')"
                    assert one(conn, may, role, f"api.{wrapper}") is False, (role, wrapper)
                assert one(conn, may, "pgsaas_app", f"api.{wrapper}") is True
        finally:
            conn.execute("drop owned by host_anonymous, host_stranger")


def test_wrappers_lend_no_rights(own: Database) -> None:
    with own.connect() as conn:
        payer = account(conn, "alice")
        credit(conn, payer, 5)
        conn.execute("create schema api")
        conn.execute("select pgsaas.expose('api')")
        conn.execute("grant usage on schema api to public")
        conn.execute("grant execute on all functions in schema api to public")
        try:
            for role in ("host_signed_in", "host_stranger", "host_staff"):
                with own.connect(role, {"sub": "alice"}) as caller:
                    for call in ("deduct_credits(%s, 1)", "add_credits(%s, 1)"):
                        assert refusal(caller, f"select api.{call}", payer)[0] == "42501"
            with own.connect("host_backend", {"sub": "mallory"}) as caller:
                assert one(caller, "select success from api.deduct_credits(%s, 1)", payer) is False
            with own.connect("host_backend", {"sub": "alice"}) as caller:
                assert refusal(caller, "select api.add_credits(%s, 1)", payer)[0] == "PT403"
        finally:
            conn.execute("drop schema api cascade")


def test_a_function_planted_beforehand_does_not_become_the_wrapper(own: Database) -> None:
    """Replacing it keeps its owner, who may replace it again."""
    with own.connect() as conn:
        conn.execute("create schema api")
        conn.execute("grant usage, create on schema api to host_attacker")
    with psycopg.connect(own.dsn_as("host_attacker"), autocommit=True) as conn:
        conn.execute(
            "create function api.add_credits(p_user_id uuid, p_amount numeric, p_description text"
            " default null) returns table (success boolean, new_balance numeric) language sql"
            " rows 1 as 'select true, 0::numeric'"
        )
        conn.execute(
            f"comment on function api.{WRAPPERS[1]} is 'pgsaas wrapper of pgsaas.add_credits'"
        )
    with own.connect() as conn:
        try:
            conn.execute("select pgsaas.expose('api')")
        except psycopg.Error as error:
            assert error.sqlstate == "PT409"  # noqa: PT017
        else:
            query = "select proowner::regrole::text from pg_proc where oid = %s::regprocedure"
            assert one(conn, query, f"api.{WRAPPERS[1]}") != "host_attacker"


def test_a_function_of_the_host_is_not_replaced(own: Database) -> None:
    with own.connect() as conn:
        conn.execute("create function public.add_credits(uuid, numeric, text) returns int return 1")
        assert refusal(conn, "select pgsaas.expose('public')")[0] == "PT409"


@pytest.mark.parametrize("name", ['a"; drop table x; --', "a'b", "%I", "Ü b"])
def test_odd_names_of_schemas_are_only_names(own: Database, name: str) -> None:
    with own.connect() as conn:
        quoted = '"' + name.replace('"', '""') + '"'
        conn.execute(f"create schema {quoted}".encode())
        assert one(conn, "select count(*) from pgsaas.expose(%s)", name) == 2


@pytest.mark.parametrize("role", ["pgsaas_app", "pgsaas_admin", "pgsaas_user", "pgsaas_webhook"])
def test_the_salt_of_hashes_is_read_by_nobody(world: World, role: str) -> None:
    for query in (
        "select salt from pgsaas.installation",
        "select * from pgsaas.installation",
        "select i from pgsaas.installation i",
        "select count(*) from pgsaas.installation where salt > ''",
        "select subject_hash from pgsaas.erased_subjects",
        "select pgsaas.subject_hashes('', 'erik', null)",
        "select user_id from pgsaas.platform_admins",
        "select * from pgsaas.archived_keys",
        "select * from pgsaas.attachments",
        "select pgsaas.current_fingerprint()",
    ):
        with world.acting(role) as conn:
            assert refusal(conn, query)[0] == "42501", query


AUDITED = [
    "adjust_credits(%s, 5, 'why')",
    "adjust_credits(%s, -5, 'why')",
    "set_overdraft_limit(%s, 5, 'why')",
    "freeze_account(%s, 'why')",
    "erase_account(%s, 'why')",
    "set_burn_order(%s, 'expiring_first')",
    "set_low_balance_at(%s, 5)",
]


@pytest.mark.parametrize("call", AUDITED)
@pytest.mark.parametrize("claims", [None, {"sub": "root@staff"}])
def test_every_act_of_staff_is_in_the_log(world: World, call: str, claims: object) -> None:
    actor = "user:root@staff" if claims else "role:host_staff"
    query = (
        "select count(*) from pgsaas.audit_events where account_id = %s and starts_with(actor, %s)"
    )
    with world.acting("host_staff", claims=claims) as conn:
        bob = world.ids["bob"]
        if call.startswith("erase"):  # who is the only owner of an organization stays
            bob = world.ids["mia"]
        before = one(conn, query, bob, actor)
        conn.execute(f"select pgsaas.{call}".encode(), [bob])
        assert one(conn, query, bob, actor) == before + 1


def test_staff_who_log_in_cannot_sign_with_another_ones_name(world: World) -> None:
    """Whoever may set claims may name any admin: the log must keep the role they came in."""
    with world.acting(login="host_staff", claims={"sub": "root@staff"}) as conn:
        bob = world.ids["bob"]
        conn.execute("select pgsaas.adjust_credits(%s, 5, 'why')", [bob])
        query = "select e::text from pgsaas.audit_events e order by audit_event_id desc limit 1"
        assert "host_staff" in one(conn, query)


def test_the_log_and_the_ledger_are_changed_by_nobody(world: World) -> None:
    for role in ("pgsaas_app", "pgsaas_admin", "pgsaas_user"):
        for table in ("audit_events", "credit_transactions", "outbox_messages", "platform_admins"):
            for statement in ("delete from pgsaas.{}", "update pgsaas.{} set account_id = null",
                              "truncate pgsaas.{}"):  # fmt: skip
                with world.acting(role) as conn:
                    assert refusal(conn, statement.format(table))[0] in ("42501", "42703")


def test_even_the_owner_changes_no_row_of_the_ledger_by_accident(world: World) -> None:
    with world.acting("pgsaas_owner") as conn:
        for statement in (
            "update pgsaas.credit_transactions set amount = 1",
            "update pgsaas.credit_transactions set description = 'x'",
            "update pgsaas.credit_transactions set metadata = '{}' where description is not null",
            "delete from pgsaas.credit_transactions",
            "truncate pgsaas.credit_transactions",
        ):
            assert refusal(conn, statement)[0] == "PT403", statement
