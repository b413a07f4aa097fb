"""Attached tables under attack: ids that users choose, owners of tables, realms that meet."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import psycopg
import pytest

from tests.conftest import Conn, Database
from tests.security.conftest import UMA, account, one, refusal

TEXT_USERS = "create table public.users (id text primary key, email text)"


def owner_of(conn: Conn, sub: str) -> list[UUID]:
    """The accounts of a user, who is asked for and forgotten again."""
    with conn.transaction(force_rollback=True):
        conn.execute("select pgsaas.act_as(%s)", [sub])
        return list(one(conn, "select pgsaas.my_account_ids()"))


def test_a_name_that_is_anothers_account_id_opens_nothing(tx: Conn) -> None:
    tx.execute(TEXT_USERS)
    tx.execute("insert into users values ('bob')")
    tx.execute("select pgsaas.attach_users('users', 'id', 'email')")
    bobs = owner_of(tx, "bob")
    for name in (str(bobs[0]), str(bobs[0]).upper()):
        assert owner_of(tx, name) == []
        tx.execute("insert into users values (%s)", [name])
        assert len(owner_of(tx, name)) == 1
        assert owner_of(tx, name) != bobs
    assert owner_of(tx, "bob") == bobs


def test_an_account_known_by_its_own_id_is_not_taken_by_a_user_of_an_attached_table(
    tx: Conn,
) -> None:
    uma = account(tx, None, p_account_id=UMA)
    tx.execute("create table public.users (id uuid primary key)")
    tx.execute("select pgsaas.attach_users('users')")
    tx.execute("insert into users values (%s)", [UMA])
    assert uma not in owner_of(tx, str(UMA))


def test_users_of_a_second_table_are_nobody_in_the_first_ones_realm(tx: Conn) -> None:
    tx.execute("create table public.users (id uuid primary key)")
    tx.execute("create table public.partners (id uuid primary key)")
    tx.execute("select pgsaas.attach_users('users'), pgsaas.attach_users('partners')")
    tx.execute("insert into partners values (%s)", [UMA])
    assert one(tx, "select pgsaas.account_id_for(%s, 'public.partners')", str(UMA)) == UMA
    assert owner_of(tx, str(UMA)) == []
    tx.execute("insert into users values (%s)", [UMA])
    assert owner_of(tx, str(UMA)) == [one(tx, "select pgsaas.account_id_for(%s)", str(UMA))]
    assert owner_of(tx, str(UMA)) != [UMA]


def test_taking_the_id_of_an_account_that_is_there_is_refused(tx: Conn) -> None:
    tx.execute(TEXT_USERS)
    tx.execute("select pgsaas.attach_users('users', 'id', 'email')")
    tx.execute("insert into users values ('alice'), ('bob')")
    before = owner_of(tx, "alice"), owner_of(tx, "bob")
    assert refusal(tx, "update users set id = 'bob' where id = 'alice'")[0] == "23505"
    # nor the id of one who is no longer in the table
    tx.execute("delete from users where id = 'bob'")
    assert refusal(tx, "update users set id = 'bob' where id = 'alice'")[0] == "PT409"
    assert (owner_of(tx, "alice"), owner_of(tx, "bob")) == before


def test_a_changed_id_takes_its_account_along(tx: Conn) -> None:
    tx.execute(TEXT_USERS)
    tx.execute("select pgsaas.attach_users('users', 'id', 'email')")
    tx.execute("insert into users values ('alice')")
    mine = owner_of(tx, "alice")
    tx.execute("update users set id = 'alicia'")
    assert (owner_of(tx, "alicia"), owner_of(tx, "alice")) == (mine, [])


def test_a_table_of_the_same_name_does_not_share_the_realm_of_a_renamed_one(tx: Conn) -> None:
    tx.execute("create table public.users (id bigint primary key)")
    tx.execute("insert into users values (1)")
    tx.execute("select pgsaas.attach_users('users')")
    old = one(tx, "select pgsaas.account_id_for('1')")
    tx.execute("alter table users rename to former_users")
    tx.execute("create table public.users (id bigint primary key)")
    tx.execute("insert into users values (1)")  # another person
    try:
        with tx.transaction():
            realm = one(tx, "select realm from pgsaas.attach_users('users')")
    except psycopg.Error as error:
        assert error.sqlstate == "PT409"  # noqa: PT017
    else:
        assert one(tx, "select pgsaas.account_id_for('1', %s)", realm) != old


def test_a_table_is_not_attached_again_by_another_column(tx: Conn) -> None:
    """Names of some would be taken for the ids of others."""
    tx.execute("create table public.users (id bigint primary key, name text unique)")
    tx.execute("insert into users values (1, 'alice'), (2, '1')")
    tx.execute("select pgsaas.attach_users('users', 'id')")
    assert refusal(tx, "select pgsaas.attach_users('users', 'name')")[0] == "PT409"


def test_the_owner_of_an_attached_table_gains_none_of_the_rights_of_pgsaas(own: Database) -> None:
    """A cast to json that belongs to a column's type runs when a row becomes json."""
    with own.connect() as conn:
        target = account(conn)
        conn.execute("create schema host authorization host_tables")
        conn.execute("create table host.users (id text primary key)")
        conn.execute("select pgsaas.attach_users('host.users')")
        conn.execute("alter table host.users owner to host_tables")
    with psycopg.connect(own.dsn_as("host_tables"), autocommit=True) as conn:
        conn.execute("create type host.mark as enum ('a')")
        conn.execute(
            "create function host.to_json(host.mark) returns json language plpgsql as $f$ begin"
            f" perform pgsaas.add_credits('{target}', 1000000); return '1'; end $f$"
        )
        conn.execute("create cast (host.mark as json) with function host.to_json(host.mark)")
        conn.execute("alter table host.users add column mark host.mark")
        with suppress(psycopg.errors.InsufficientPrivilege):
            conn.execute("insert into host.users values ('mallory', 'a')")
    with own.connect() as conn:
        assert one(conn, "select balance from pgsaas.get_balance(%s)", target) == 0


def test_no_trigger_of_pgsaas_can_be_put_on_a_table_of_somebody_else(own: Database) -> None:
    with own.connect() as conn:
        conn.execute("create schema host authorization host_tables")
    with psycopg.connect(own.dsn_as("host_tables"), autocommit=True) as conn:
        conn.execute("create table host.users (id text primary key)")
        state, _ = refusal(
            conn,
            "create trigger t after insert on host.users for each row"
            " execute function pgsaas.attached_row('')",
        )
        assert state == "42501"


@pytest.mark.parametrize(
    "name",
    ['x"; drop table pgsaas.accounts; --', "x'; select 1; --", "%I %s %L", "Ünïcode 💳", "a.b"],
)
def test_odd_names_of_tables_and_columns_are_only_names(tx: Conn, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    schema = '"' + name.replace('"', '""') + ' schema"'
    tx.execute(f"create schema {schema}".replace("%", "%%").encode(), [])
    table = f"{schema}.{quoted}".replace("%", "%%")
    column = quoted.replace("%", "%%")
    tx.execute(f"create table {table} ({column} text primary key, mail text)".encode(), [])
    tx.execute(f"insert into {table} values (%s, %s)".encode(), ["'; select 1", "a'b\"c"])
    attach = "select attached from pgsaas.attach_users(%s::regclass, %s, 'mail')"
    assert one(tx, attach, table.replace("%%", "%"), name) == 1
    tx.execute(f"insert into {table} values (%s, %s)".encode(), ["')", "%s"])
    count = "select count(*) from pgsaas.accounts where email = any (%s)"
    assert one(tx, count, ["%s", "a'b\"c"]) == 2
    assert one(tx, "select pgsaas.detach_users(%s::regclass)", table.replace("%%", "%")) is True


def test_signing_up_again_after_erasure_brings_no_second_allowance(tx: Conn) -> None:
    tx.execute("select pgsaas.set_plan('free', '{\"default\": true, \"allowance\": 100}')")
    tx.execute(TEXT_USERS)
    tx.execute("select pgsaas.attach_users('users', 'id', 'email')")
    tx.execute("insert into users values ('ann', 'Ann@example.com')")
    first = owner_of(tx, "ann")[0]
    assert one(tx, "select balance from pgsaas.get_balance(%s)", first) == 100
    tx.execute("select pgsaas.erase_account(%s, 'asked for')", [first])
    assert owner_of(tx, "ann") == []
    tx.execute("delete from users")
    # the same id, the same address, and an update that brings an account back
    tx.execute("insert into users values ('ann', 'other@example.com')")
    tx.execute("insert into users values ('anna', ' ann@EXAMPLE.com ')")
    for again in ("ann", "anna"):
        account_id = owner_of(tx, again)[0]
        assert account_id != first
        assert one(tx, "select balance from pgsaas.get_balance(%s)", account_id) == 0


def test_an_erased_user_who_is_still_in_the_table_comes_back_without_credits(tx: Conn) -> None:
    tx.execute("select pgsaas.set_plan('free', '{\"default\": true, \"allowance\": 100}')")
    tx.execute("create table public.users (id uuid primary key, email text)")
    tx.execute("select pgsaas.attach_users('users', 'id', 'email')")
    tx.execute("insert into users values (%s, 'uma@example.com')", [UMA])
    tx.execute("select pgsaas.erase_account(%s, 'asked for')", [UMA])
    assert owner_of(tx, str(UMA)) == []
    tx.execute("update users set email = 'new@example.com'")
    (back,) = owner_of(tx, str(UMA))
    assert back != UMA
    assert one(tx, "select balance from pgsaas.get_balance(%s)", back) == 0


def test_creating_an_account_never_hands_out_an_account_of_another_kind(tx: Conn) -> None:
    account(tx, "acme", p_kind="organization")
    state, _ = refusal(
        tx, "select pgsaas.create_account(p_kind => 'user', p_external_id => 'acme')"
    )
    assert state == "PT409"


def test_creating_an_account_never_joins_ids_of_two_accounts(tx: Conn) -> None:
    alice, uma = account(tx, "alice"), account(tx, None, p_account_id=UMA)
    for account_id, name in ((uma, "alice"), (uma, "mallory"), (alice, "mallory")):
        call = "select pgsaas.create_account(%s, p_external_id => %s)"
        assert refusal(tx, call, account_id, name)[0] == "PT409"
    for arguments in ("", "%s, p_name => 'mine', p_email => 'mallory@example.com'"):
        with tx.transaction():
            tx.execute("select pgsaas.act_as('mallory')")
            call = f"select pgsaas.create_account({arguments})"
            assert refusal(tx, call, *([uma] if arguments else []))[0] == "PT403"
            tx.execute("select set_config('pgsaas.actor', '', true)")
