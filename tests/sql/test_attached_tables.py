from __future__ import annotations

import pytest

from tests.sql.hosts import Host
from tests.sql.ledger import Ledger


@pytest.fixture
def host(ledger: Ledger) -> Host:
    return Host(ledger)


REFUSED = [
    ("create table users (id int, email text)", {}),
    ("create table users (id int, email text, unique (id, email))", {}),
    ("create table users (id int, email text); create unique index on users (id) where id > 5", {}),
    ("create table users (id int, email text); create unique index on users ((id + 1))", {}),
    ("create table users (id int, email text); create index on users (id)", {}),
    ("create table users (email text)", {}),
    ("create table users (id int primary key)", {}),
    ("create table users (id int primary key, email text)", {"p_id": "ctid"}),
    ("create table users (id int primary key, email text)", {"p_id": None}),
    ("create table users (id int primary key, email text)", {"p_id": "ID"}),
    ("create table users (id int primary key, email text); alter table users drop column email",
     {}),
]  # fmt: skip


@pytest.mark.parametrize(("made", "named"), REFUSED, ids=range(len(REFUSED)))
def test_a_table_whose_users_cannot_be_told_apart_is_refused(
    host: Host, made: str, named: dict[str, object]
) -> None:
    host.run(made)
    with host.ledger.raises("22023"):
        host.ledger.call("attach_users", "users", **({"p_email": "email"} | named))


@pytest.mark.parametrize(
    ("schema", "table", "column", "email"),
    [
        ("public", "User Table", "User Id", "E-Mail"),
        ("public", "user", "order", "select"),
        ('My"Schema', 'ta"ble', 'i"d', "e'mail"),
        ("public", "Üsers%s", "%I", "%1$s"),
        ("public", "t" * 63, "c" * 63, "e" * 63),
        ("public", "a.b", "a.b", "c.d"),
    ],
)
def test_odd_names_are_only_names(
    host: Host, schema: str, table: str, column: str, email: str
) -> None:
    q_schema, q_table, q_id, q_email = (
        '"' + name.replace('"', '""') + '"' for name in (schema, table, column, email)
    )
    host.run(f"create schema if not exists {q_schema}")
    name = f"{q_schema}.{q_table}"
    text = f"create table {name} ({q_id} bigint primary key, {q_email} text)"
    host.ledger.conn.execute(text.encode())
    host.ledger.conn.execute(f"insert into {name} values (1, 'one')".encode())
    row = host.attach(name, p_id=column, p_email=email)
    assert row["attached"] == 1
    host.ledger.conn.execute(f"insert into {name} values (2, 'two')".encode())
    host.ledger.conn.execute(f"update {name} set {q_email} = 'eins' where {q_id} = 1".encode())
    assert host.accounts(row["realm"]) == {"1": "eins", "2": "two"}
    assert host.ledger.call("detach_users", name) == {"detach_users": True}


def test_equal_ids_of_two_tables_are_different_accounts(host: Host) -> None:
    for name in ("public.users", "public.teams"):
        host.table("uuid", 3, name)
    assert host.attach("public.users")["attached"] == 3
    assert host.attach("public.teams")["attached"] == 3
    host.add(4, 4, "uuid", "public.teams")
    host.add(4, 4, "uuid", "public.users")
    assert len(host.accounts("public.users")) == len(host.accounts("public.teams")) == 4
    assert host.ledger.scalar("select count(distinct account_id) from pgsaas.accounts") == 8
    assert host.ledger.scalar("select identity_realm from pgsaas.settings") == "public.users"
    assert [e["details"] for e in host.ledger.audit("table.attached")] == [
        {"table": "public.users", "realm": "public.users"},
        {"table": "public.teams", "realm": "public.teams"},
    ]


def test_attaching_leaves_the_realm_of_existing_ids_alone(host: Host) -> None:
    host.ledger.account(p_external_id="ada")
    host.table("bigint", 1)
    host.attach()
    assert host.ledger.scalar("select identity_realm from pgsaas.settings") == ""


def test_detaching_stops_and_attaching_again_catches_up(host: Host) -> None:
    host.table("bigint", 2)
    host.attach()
    assert host.ledger.call("detach_users", "users") == {"detach_users": True}
    assert host.ledger.call("detach_users", "users") == {"detach_users": False}
    assert len(host.ledger.audit("table.detached")) == 1
    host.add(3, 4)
    assert set(host.accounts()) == {"1", "2"}
    assert host.attach()["attached"] == 2
    assert host.missing() == 0


def test_the_hosts_own_role_inserts_users_without_any_right_on_pgsaas(host: Host) -> None:
    host.table("bigint", 1)
    host.attach()
    host.run("create role shop_app")
    host.run("grant select, insert, update on users to shop_app")
    host.run("set local role shop_app")
    host.add(2, 3)
    host.run("update users set email = 'new@example.com' where id = 1")
    host.run("reset role")
    assert host.accounts()["1"] == "new@example.com"
    assert host.missing() == 0


def test_the_tables_owner_attaches_as_member_of_the_schemas_owner(host: Host) -> None:
    host.table("bigint", 2)
    host.run("create role shop_owner")
    host.run("grant pgsaas_owner to shop_owner")
    host.run("alter table users owner to shop_owner")
    host.run("set local role shop_owner")
    assert host.ledger.call("attach_users", "users")["attached"] == 2
    host.add(3, 3)
    assert host.ledger.call("detach_users", "users") == {"detach_users": True}
    host.run("reset role")
    assert host.missing() == 0


def test_a_table_of_no_rows_is_attached_for_those_to_come(host: Host) -> None:
    host.table("bigint", 0)
    assert host.attach() == {"realm": "public.users", "attached": 0, "remaining": 0}
    host.add(1, 2)
    assert set(host.accounts()) == {"1", "2"}


def test_rows_without_an_id_wait_until_they_have_one(host: Host) -> None:
    host.run("create table users (id int unique, email text)")
    host.run("insert into users values (null, 'a'), (null, 'b'), (1, 'c')")
    assert host.attach()["attached"] == 1
    host.run("insert into users values (null, 'd')")
    host.run("update users set id = 2 where email = 'a'")
    assert host.accounts() == {"1": "c", "2": "a"}


def test_a_sign_up_that_is_rolled_back_leaves_no_account(host: Host) -> None:
    host.table("bigint", 1)
    host.attach()
    with host.ledger.conn.transaction(force_rollback=True):
        host.add(2, 2)
        assert set(host.accounts()) == {"1", "2"}
    assert set(host.accounts()) == {"1"}


def test_what_identity_realm_attaching_chose_is_audited_as_a_setting(host: Host) -> None:
    host.table("bigint", 1)
    host.attach()
    [event] = host.ledger.audit("setting.changed")
    assert event["details"]["new"] == "public.users"


def test_attaching_by_another_id_while_the_first_is_there_conflicts(host: Host) -> None:
    """Everybody would get a second account."""
    host.run("create table users (id int primary key, key uuid unique, email text)")
    host.run("insert into users values (1, gen_random_uuid(), 'a')")
    host.attach()
    with host.ledger.raises("PT409"):
        host.ledger.call("attach_users", "users", "key")


ODD_VALUES = {
    "a zero byte in json": ("json", '{"a": "\\u0000"}'),
    "a huge number in json": ("json", '{"a": 1e200000}'),
    "an infinite number": ("float8", "Infinity"),
    "a long text": ("text", "x" * 1_000_000),
    "bytes": ("bytea", "\\x00ff"),
}


@pytest.mark.parametrize("name", ODD_VALUES)
def test_no_value_in_another_column_stops_a_sign_up(host: Host, name: str) -> None:
    kind, value = ODD_VALUES[name]
    host.table("bigint", 1)
    host.run(f"alter table users add odd {kind}")
    host.attach()
    assert host.run("insert into users (id, odd) values (2, %s)", value) == 1
    assert host.run("update users set odd = %s", value) == 2
    assert set(host.accounts()) == {"1", "2"}


def test_a_table_dropped_while_attached_does_not_stop_others(host: Host) -> None:
    host.table("bigint", 1)
    host.attach()
    host.run("drop table users")
    host.table("bigint", 2)
    assert host.attach()["attached"] == 1
    host.add(3, 3)
    assert set(host.accounts()) == {"1", "2", "3"}


@pytest.mark.parametrize("what", ["view", "nothing"])
def test_what_is_no_table_is_not_attached(host: Host, what: str) -> None:
    host.run("create view users as select 1 as id, 'a'::text as email")
    with host.ledger.raises("22023"):
        host.ledger.call("attach_users", "users" if what == "view" else None)
